//! `targets list`: what the store holds, as text or JSON lines.

use std::collections::HashMap;

use model::check::TcpText;
use model::fact::{Event, State};
use model::mask::header_value;
use model::record::RecordValue;
use model::{Check, Target, TargetId, UnixMs};
use serde_json::{Value, json};
use store::Store;

use super::state::{Facts, Standing, derive};
use crate::json_ids::json_id;
use crate::out::{self, Out};
use crate::windows::occurrences::Occurrences;

/// Targets of one page.
const PAGE: usize = 5_000;

/// Which targets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Which {
    /// Inactive ones too.
    pub(crate) all: bool,
    /// In this state only.
    pub(crate) state: Option<State>,
}

/// What the states of all targets follow from; of those without trouble nothing is kept.
struct Standings {
    paused: HashMap<TargetId, UnixMs>,
    open: HashMap<TargetId, Vec<Event>>,
    windows: Occurrences,
    now: UnixMs,
}

impl Standings {
    async fn read(store: &Store, now: UnixMs) -> anyhow::Result<Self> {
        let paused = store.paused_targets(None).await?;
        let mut open: HashMap<TargetId, Vec<Event>> = HashMap::new();
        for found in store.open_events().await? {
            open.entry(found.event.target)
                .or_default()
                .push(found.event);
        }
        Ok(Self {
            paused: paused.into_iter().map(|one| (one.target, one.at)).collect(),
            open,
            windows: Occurrences::at(&store.windows().await?.rows, now),
            now,
        })
    }

    fn of(&self, target: &Target) -> Standing {
        derive(&Facts {
            paused_at: self.paused.get(&target.id).copied(),
            is_inactive: !target.active,
            window: self.windows.of_target(target, self.now),
            open: self.open.get(&target.id).map_or(&[], Vec::as_slice),
            ..Facts::default()
        })
    }
}

/// Writes the targets to `out`, with their states as the store has them at `now`.
pub(crate) async fn write(
    store: &Store,
    which: Which,
    now: UnixMs,
    as_json: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let standings = Standings::read(store, now).await?;
    let all = which.all || which.state == Some(State::Paused);
    let mut after = None;
    if !as_json {
        out.line(format_args!(
            "{:>20}  {:>8}  {:<6}  {:<11}  url",
            "id", "interval", "method", "state"
        ));
    }
    loop {
        let page = store.targets(after, PAGE, !all).await?;
        for target in &page.targets {
            let (state, _) = standings.of(target);
            if which.state.is_some_and(|wanted| wanted != state) {
                continue;
            }
            if as_json {
                let mut object = object(target);
                object["state"] = state.as_str().into();
                out.line(object);
            } else {
                out.line(line(target, state));
            }
        }
        for (id, error) in &page.refused {
            out::remark(format_args!("target {id} in the store: {error}"));
        }
        if page.last.is_none() || out.is_closed() {
            return Ok(());
        }
        after = page.last;
    }
}

fn line(target: &Target, state: State) -> String {
    let config = &target.config;
    let state = state.as_str();
    let name = if config.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", config.name)
    };
    let interval = format!("{} s", config.interval_s);
    let (id, method, url) = (target.id.get(), config.check.method_word(), &config.check);
    format!("{id:>20}  {interval:>8}  {method:<6}  {state:<11}  {url}{name}")
}

/// All fields of a target; those that its check does not have are absent.
pub(crate) fn object(target: &Target) -> Value {
    let config = &target.config;
    let mut object = json!({
        "id": json_id(target.id.get()),
        "name": config.name,
        "group_id": config.group_id,
        "url": config.check.to_string(),
        "interval_s": config.interval_s,
        "active": target.active,
        "generation": target.generation.0,
        "timeout_ms": config.timeout_ms,
        "effective_timeout_ms": config.effective_timeout_ms(),
        "maintenance": config.maintenance,
        "alert_cooldown_min": config.alert_cooldown_min,
        "max_latency_ms": config.max_latency_ms,
    });
    let own = own_fields(&config.check);
    if let (Value::Object(fields), Value::Object(own)) = (&mut object, own) {
        fields.extend(own);
    }
    object
}

/// The fields that only this kind of check has.
fn own_fields(check: &Check) -> Value {
    match check {
        Check::Http(http) => {
            let headers = http.headers.iter().map(|header| {
                let value = header_value(header.name(), header.value());
                format!("{}: {value}", header.name())
            });
            json!({
                "method": http.method.as_str(),
                "profile": http.profile.as_str(),
                "redirect": http.redirect.as_str(),
                "keyword": http.keyword,
                "forbidden": http.forbidden,
                "headers": headers.collect::<Vec<_>>(),
                "expect_status": http.expect_status.to_string(),
            })
        }
        Check::Tcp(tcp) => {
            let shown = |text: &Option<TcpText>| text.as_ref().map(ToString::to_string);
            let expect: Vec<String> = shown(&tcp.expect).into_iter().collect();
            json!({ "send": shown(&tcp.send), "expect": expect })
        }
        Check::Tls(_) => json!({}),
        Check::Dns(dns) => {
            let expect: Vec<&str> = dns.expect.iter().map(RecordValue::as_str).collect();
            json!({ "expect": expect })
        }
    }
}

#[cfg(test)]
mod tests {
    use model::target::TargetConfig;
    use model::{Generation, TargetId, TargetSpec};

    use super::*;

    fn target(config: TargetConfig) -> Target {
        let id = TargetId::new(9_007_199_254_740_993).expect("positive");
        Target {
            id,
            generation: Generation(2),
            active: true,
            config,
        }
    }

    #[test]
    fn a_listed_target_masks_credentials_and_prints_large_ids_as_text() {
        let spec = TargetSpec {
            url: "http://a.example/".into(),
            headers: vec!["Authorization: Bearer x".into(), "X-Env: test".into()],
            interval_s: Some(10),
            ..TargetSpec::default()
        };
        let object = object(&target(spec.parse().expect("valid")));
        assert_eq!(object["id"], "9007199254740993");
        assert_eq!(
            object["headers"],
            json!(["Authorization: ***", "X-Env: test"])
        );
        assert_eq!(object["effective_timeout_ms"], 8_500);
    }

    #[test]
    fn a_listed_target_has_the_fields_of_its_check_alone() {
        let listed = |url: &str, send: Option<&str>, expect: &[&str]| {
            let spec = TargetSpec {
                url: url.into(),
                send: send.map(Into::into),
                expect: expect.iter().map(|&text| text.into()).collect(),
                ..TargetSpec::default()
            };
            object(&target(spec.parse().expect("valid")))
        };
        let tcp = listed("tcp://a.example:25", Some(r"QUIT\r\n"), &["220"]);
        assert_eq!(
            (&tcp["send"], &tcp["expect"]),
            (&json!(r"QUIT\r\n"), &json!(["220"]))
        );
        let tls = listed("tls://a.example:443", None, &[]);
        assert_eq!(tls["url"], "tls://a.example");
        let dns = listed(
            "dns://a.example?type=ns",
            None,
            &["N2.a.example.", "n1.a.example"],
        );
        assert_eq!(dns["url"], "dns://a.example?type=NS");
        assert_eq!(dns["expect"], json!(["n1.a.example", "n2.a.example"]));
        assert!(dns.get("send").is_none());
        for absent in ["method", "expect", "keyword", "headers"] {
            assert!(tls.get(absent).is_none(), "{absent}");
        }
        assert!(tcp.get("method").is_none());
    }
}
