//! `events`: incidents with their transitions, from the store: a list, newest first, or one.

pub(crate) mod follow;

mod cursor;
mod known;

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use model::fact::{CheckType, Event, Transition};
use model::{Evidence, FactId, FailureClass, TargetId, UnixMs};
use serde_json::{Value, json};
use store::{EventFilter, Store};

use crate::check;
use crate::exit::bad_input;
use crate::json_ids::json_id;
use crate::out::{self, Out, printable};

/// Writes the events of `filter` to `out`; what a reader could take for a fault (no event at all,
/// a list that was cut) goes to standard error.
pub(crate) async fn write(
    store: &Store,
    filter: &EventFilter,
    as_json: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let mut urls = Urls::default();
    // One more than is shown tells whether there are more.
    let one_more = EventFilter {
        limit: filter.limit.saturating_add(1),
        ..*filter
    };
    let mut events = store.events(&one_more).await?;
    let found = events.len();
    events.truncate(filter.limit);
    for event in events {
        if out.is_closed() {
            return Ok(());
        }
        let url = urls.of(store, event.target).await?;
        if as_json {
            let transitions = store.transitions(event.id).await?;
            out.line(object(&event, url.as_deref(), &transitions));
        } else {
            out.line(line(&event, url.as_deref()));
        }
    }
    out.flush();
    if let Some(note) = note(found, filter) {
        out::remark(note);
    }
    Ok(())
}

/// Writes one event to `out`, with its transitions and what was seen.
pub(crate) async fn show(
    store: &Store,
    id: FactId,
    as_json: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let Some(event) = store.event(id).await? else {
        return bad_input(format!(
            "no incident has the id {id}: look with `ringwatch events list --json`"
        ));
    };
    let url = Urls::default().of(store, event.target).await?;
    let transitions = store.transitions(id).await?;
    let object = object(&event, url.as_deref(), &transitions);
    if as_json {
        out.line(object);
        return Ok(());
    }
    out.line(line(&event, url.as_deref()));
    out.line(format_args!(
        "id {id}, target {}, {} failed checks",
        event.target, event.fail_count
    ));
    for told in object["transitions"].as_array().into_iter().flatten() {
        fields(told, 0, out);
    }
    Ok(())
}

/// Writes what an object has, a line for each field that says something, whatever it is.
fn fields<W: Write>(value: &Value, depth: usize, out: &mut Out<W>) {
    let indent = "  ".repeat(depth);
    let Some(object) = value.as_object() else {
        let shown = printable(&value.to_string(), "");
        out.line(format_args!("{indent}{shown}"));
        return;
    };
    if depth == 0 {
        out.line("");
    }
    for (name, value) in object {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(_) => {
                out.line(format_args!("{indent}{name}:"));
                fields(value, depth + 1, out);
            }
            Value::Array(items) => {
                out.line(format_args!("{indent}{name}:"));
                for item in items {
                    fields(item, depth + 1, out);
                }
            }
            Value::Number(ms) if name.ends_with("_at_ms") => {
                let instant = at(UnixMs(ms.as_u64().unwrap_or(0)));
                out.line(format_args!("{indent}{name}: {instant}"));
            }
            Value::String(text) => {
                let lines = printable(text.trim_end(), &format!("{indent}  "));
                out.line(format_args!("{indent}{name}: {lines}"));
            }
            other => out.line(format_args!("{indent}{name}: {other}")),
        }
    }
}

/// What to say of a listing for which `found` events came, one more than wanted at most.
fn note(found: usize, filter: &EventFilter) -> Option<String> {
    if found > filter.limit {
        let limit = filter.limit;
        return Some(format!(
            "there are more than the newest {limit} listed here: ask with a higher --limit"
        ));
    }
    let which = if filter.open_only {
        "open incident"
    } else {
        "incident"
    };
    let of = filter
        .target
        .map_or_else(String::new, |id| format!(" of target {id}"));
    (found == 0).then(|| format!("no {which}{of}"))
}

/// URLs by target, each read once.
#[derive(Default)]
struct Urls(BTreeMap<TargetId, Option<String>>);

impl Urls {
    async fn of(&mut self, store: &Store, id: TargetId) -> anyhow::Result<Option<String>> {
        if id == TargetId::NODE {
            return Ok(None);
        }
        if let Some(known) = self.0.get(&id) {
            return Ok(known.clone());
        }
        let found = store.targets_by_ids(vec![id]).await?.targets.pop();
        let url = found.map(|target| target.config.check.to_string());
        self.0.insert(id, url.clone());
        Ok(url)
    }

    /// Forgets all where more than `max` are known.
    fn forget_beyond(&mut self, max: usize) {
        if self.0.len() > max {
            self.0.clear();
        }
    }
}

pub(crate) fn line(event: &Event, url: Option<&str>) -> String {
    let started = at(event.started_at);
    let ended = event.ended_at.map_or_else(|| "open".to_owned(), at);
    let class = FailureClass::from_u8(event.class).map_or("-", FailureClass::as_str);
    // Of the other types there is one class at most.
    let about = match event.check_type {
        CheckType::Http => class,
        other => other.as_str(),
    };
    let resolution = event
        .resolution
        .map_or(String::new(), |reason| format!("  {reason}"));
    let whose = whose(event, url);
    format!(
        "{started}  {ended:<24}  {:<10}  {about:<18}  {whose}{resolution}",
        event.state.as_str()
    )
}

/// What an event is shown under: the URL of its target, or the node's name.
fn whose(event: &Event, url: Option<&str>) -> String {
    let gone = || "(the target is gone)".to_owned();
    match (&event.discriminator, url) {
        (Some(node), _) if event.target == TargetId::NODE => format!("node {node}"),
        (_, Some(url)) => url.to_owned(),
        (_, None) => gone(),
    }
}

fn at(instant: UnixMs) -> String {
    let stamp = Timestamp::from_millisecond(instant.0 as i64).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// One event with its transitions.
pub(crate) fn object(event: &Event, url: Option<&str>, transitions: &[Transition]) -> Value {
    json!({
        "id": json_id(event.id.get()),
        "target": json_id(event.target.get()),
        "url": url,
        "group_id": event.group_id,
        "check_type": event.check_type.as_str(),
        "discriminator": event.discriminator,
        "state": event.state.as_str(),
        "severity": event.state.severity(),
        "class": FailureClass::from_u8(event.class).map(FailureClass::as_str),
        "fail_count": event.fail_count,
        "started_at_ms": event.started_at.0,
        "ended_at_ms": event.ended_at.map(|ended| ended.0),
        "resolution": event.resolution.map(model::fact::Reason::as_str),
        "transitions": transitions.iter().map(transition_object).collect::<Vec<_>>(),
    })
}

fn transition_object(transition: &Transition) -> Value {
    let evidence = transition.evidence.as_deref();
    let class = evidence.and_then(Evidence::failure);
    json!({
        "id": json_id(transition.id.get()),
        "before": transition.before.map(model::fact::State::as_str),
        "after": transition.after.as_str(),
        "reason": transition.reason.as_str(),
        "source": transition.source,
        "changed_at_ms": transition.changed_at.0,
        "class": class.map(FailureClass::as_str),
        "legacy_code": class.and_then(FailureClass::legacy_code),
        "status": evidence.map(|seen| seen.status).filter(|&status| status > 0),
        "tls": evidence.map(|seen| check::tls_object(seen, seen.flags)),
        "redirects": evidence.map(check::redirects_object),
        "evidence": evidence.map(check::evidence_object),
        "known": transition.metadata.as_deref().map(known::object),
    })
}

#[cfg(test)]
mod tests {
    use model::belief::{Belief, Canaries, Signals, Stance};
    use model::evidence::{HopSeen, TlsSeen};
    use model::fact::{Reason, State};
    use model::metadata::{Observation, Probed, Says, Vote, Votes};
    use model::outcome::{Phases, flags};
    use model::target::Method;
    use model::{FactId, Metadata};

    use super::*;

    fn event() -> (Event, Transition) {
        let id = FactId::new(247_000_000_000_000_001).expect("positive");
        let target = TargetId::new(7).expect("positive");
        let event = Event {
            id,
            target,
            group_id: 3,
            check_type: CheckType::Http,
            discriminator: None,
            state: State::Down,
            started_at: UnixMs(1_795_000_000_123),
            ended_at: Some(UnixMs(1_795_000_060_000)),
            resolution: Some(Reason::VerifierCleared),
            fail_count: 4,
            class: FailureClass::ConnectRefused as u8,
        };
        let evidence = Evidence {
            class: event.class,
            errno: Some(111),
            text: "connection refused".into(),
            flags: flags::REDIRECT_DOWNGRADE | flags::TLS_RESUMED,
            tls: Some(TlsSeen {
                version: "TLSv1.3".into(),
                cipher: "TLS_AES_128_GCM_SHA256".into(),
                subjects: vec!["CN=a.example".into()],
                not_after_unix_s: Some(1_800_000_000),
                not_before_unix_s: None,
            }),
            redirects: vec![HopSeen {
                url: "https://a.example/".into(),
                status: 301,
                phases_us: [None, Some(900), Some(2_000), Some(5_000), None, Some(9_000)],
            }],
            ..Evidence::default()
        };
        let transition = Transition {
            id: FactId::new(247_000_000_000_000_002).expect("positive"),
            event: id,
            target,
            before: None,
            after: State::SeemsDown,
            reason: Reason::Opened,
            source: "local".into(),
            changed_at: event.started_at,
            evidence: Some(Box::new(evidence)),
            metadata: Some(Box::new(metadata())),
        };
        (event, transition)
    }

    fn metadata() -> Metadata {
        let observation = Observation {
            checked_at: Some(UnixMs(1_795_000_000_123)),
            lag_us: Some(1_200),
            reap_us: Some(800),
            late: Some(false),
            previous_observed_at: Some(UnixMs(1_794_999_940_000)),
            previous_known_good_at: Some(UnixMs(1_794_999_940_000)),
            normal_check_interval_seconds: Some(300),
            next_check_interval_seconds: Some(60),
            ..Observation::default()
        };
        let belief = Belief {
            stance: Stance::Deferring,
            signals: Signals::LOOP_LAG.and(Signals::FAILURES),
            canaries: Canaries {
                configured: 3,
                answering: 2,
            },
        };
        let vote = Vote {
            vantage: "oslo".to_owned(),
            says: Says::Down,
            http_code: Some(503),
            rtt_ms: Some(12),
            error: None,
        };
        let votes = Votes {
            results: vec![vote],
            quorum: 1,
            min_healthy: 1,
            healthy: 1,
            confirmed: 1,
            ..Votes::default()
        };
        Metadata {
            observation,
            belief,
            votes: Some(Box::new(votes)),
            suppression: None,
            not_after: Some(UnixMs(1_797_000_000_000)),
            probed: Some(Probed {
                method: Some(Method::Get),
                phases: Phases {
                    connect_us: 900,
                    total_us: 14_900,
                    ..Phases::NONE
                },
                redirect_count: 1,
            }),
        }
    }

    #[test]
    fn an_empty_and_a_cut_listing_say_so() {
        let filter = |open_only, target, limit| EventFilter {
            open_only,
            target: TargetId::new(target),
            limit,
        };
        let of = |found, filter: EventFilter| note(found, &filter).unwrap_or_default();
        assert_eq!(of(0, filter(false, 0, 5)), "no incident");
        assert_eq!(of(0, filter(true, 7, 5)), "no open incident of target 7");
        assert_eq!(of(5, filter(false, 0, 5)), "");
        assert!(of(6, filter(false, 0, 5)).starts_with("there are more than the newest 5 "));
    }

    #[test]
    fn an_event_is_one_line() {
        let (event, _) = event();
        insta::assert_snapshot!(line(&event, Some("http://a.example/")));
    }

    #[test]
    fn an_event_beside_up_and_down_says_what_it_is_about() {
        let (mut event, _) = event();
        (event.check_type, event.class) = (CheckType::TlsExpiry, 0);
        let line = line(&event, None);
        assert!(line.contains("  tls_expiry  "), "{line}");
    }

    #[test]
    fn an_incident_of_the_node_is_shown_as_its_own() {
        let (mut event, _) = event();
        (event.check_type, event.class) = (CheckType::NodeIsolated, 0);
        (event.target, event.discriminator) = (TargetId::NODE, Some("a".to_owned()));
        let line = line(&event, None);
        assert!(line.contains("  node_isolated       node a"), "{line}");
        assert_eq!(object(&event, None, &[])["target"], json!(0));
    }

    #[test]
    fn what_strangers_said_commands_no_terminal() {
        let (_, mut transition) = event();
        let evidence = transition.evidence.as_mut().expect("there");
        evidence.head = "HTTP/1.1 503 \u{1b}[2J\r\nx: \u{9b}31m".into();
        evidence.tls.as_mut().expect("there").subjects = vec!["CN=\u{1b}[2J\u{9b}".into()];
        let known = transition.metadata.as_mut().expect("there");
        let votes = known.votes.as_mut().expect("there");
        votes.results[0].error = Some("\u{1b}c\nid 7".into());
        let mut told = Vec::new();
        let mut out = Out::to(&mut told);
        fields(&transition_object(&transition), 0, &mut out);
        out.end().expect("a vector takes all");
        let told = String::from_utf8(told).expect("text");
        let is_foreign = |letter: char| letter.is_control() && letter != '\n';
        assert!(!told.contains(is_foreign), "{told:?}");
        for shown in [
            "  head: HTTP/1.1 503 \\x1b[2J\n    x: \\x9b31m\n",
            "      error: \\x1bc\n        id 7\n",
        ] {
            assert!(told.contains(shown), "{shown}: {told}");
        }
    }

    #[test]
    fn an_event_is_one_object_with_its_transitions() {
        let (event, transition) = event();
        insta::assert_json_snapshot!(object(&event, Some("http://a.example/"), &[transition]));
    }
}
