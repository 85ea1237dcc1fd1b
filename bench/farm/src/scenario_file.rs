//! Reads a scenario TOML. Knows the keys, what each accepts, and how to say what is wrong.

use model::suggest::hint;
use thiserror::Error;
use toml::{Table, Value};

use crate::faults::{FaultKind, Layer, NAMES};
use crate::scenario::{Fault, Method, Scenario};
use crate::sites::Sites;

/// Most faults of a scenario.
pub(crate) const FAULTS_MAX: usize = 1_024;
/// Most sites that all faults name together, each as often as it fails: each time has a line in the
/// ground truth.
pub(crate) const FAULTED_SITES_MAX: usize = 1_000_000;
/// Most faults that strike at the accept: each has a port of its own.
pub(crate) const GATES_MAX: usize = 16;
/// The `duration_s` of a fault that holds until `POST /scenario/end`.
const UNTIL_ENDED: &str = "until-ended";
/// Latest end of a fault, in seconds after the scenario's zero.
const END_MAX_S: f64 = 30.0 * 86_400.0;
/// Shortest `period_s`: a port opens and closes at ticks of 10 ms.
const PERIOD_MIN_S: f64 = 0.2;

const KEYS: [&str; 11] = [
    "kind",
    "first_site",
    "count",
    "offset_s",
    "duration_s",
    "period_s",
    "rate",
    "seed",
    "method",
    "status",
    "delay_ms",
];
/// Kinds that have a `delay_ms`.
const DELAYED: [&str; 2] = ["slow_first_byte", "dns_slow"];

/// Why a scenario was refused; the message names the fault, the key and what is accepted.
#[derive(Debug, Error, PartialEq)]
#[error("{0}")]
pub(crate) struct ScenarioError(String);

/// The scenario in `text`, checked against the sites that exist.
pub(crate) fn parse(text: &str, sites: &Sites) -> Result<Scenario, ScenarioError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| ScenarioError(error.to_string().trim_end().to_owned()))?;
    if let Some(key) = table.keys().find(|key| *key != "fault") {
        return fail(format!(
            "{}; {}",
            unknown("key", key, &["fault"]),
            "write [[fault]] tables"
        ));
    }
    let entries = match table.get("fault") {
        None => return Ok(Scenario::default()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return fail("fault: must be an array of tables, written [[fault]]".to_owned()),
    };
    if entries.len() > FAULTS_MAX {
        return fail(format!(
            "{} faults; at most {FAULTS_MAX} are accepted",
            entries.len()
        ));
    }
    let mut faults = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let Value::Table(table) = entry else {
            return fail(format!(
                "fault {}: must be a table, written [[fault]]",
                index + 1
            ));
        };
        faults.push(Entry { index, table }.fault(sites)?);
    }
    check_together(&faults, sites)?;
    Ok(Scenario::new(faults))
}

/// What can only be judged over all faults.
fn check_together(faults: &[Fault], sites: &Sites) -> Result<(), ScenarioError> {
    let at_accept = |fault: &&Fault| fault.kind.layer() == Layer::Connect;
    let gates = faults.iter().filter(at_accept).count();
    if gates > GATES_MAX {
        return fail(format!(
            "{gates} faults at the accept, of which each has a port of its own; at most \
             {GATES_MAX} are accepted"
        ));
    }
    let mut faulted = 0;
    for (index, fault) in faults.iter().enumerate() {
        let chosen = fault.sites(sites).count();
        faulted += chosen * fault.spells() as usize;
        if chosen == 0 && fault.rate > 0.0 {
            let hint = match fault.kind.layer() {
                Layer::Tls => "; it needs https sites (--https-every)",
                _ => "; raise rate or count",
            };
            return fail(format!("fault {}: chooses no site{hint}", index + 1));
        }
        for (other_index, other) in faults[..index].iter().enumerate() {
            if let Some(what) = collision(fault, other) {
                return fail(format!(
                    "faults {} and {}: {what}; move or shrink one of them",
                    other_index + 1,
                    index + 1
                ));
            }
        }
    }
    if faulted > FAULTED_SITES_MAX {
        return fail(format!(
            "{faulted} faulted sites, each as often as it fails; at most {FAULTED_SITES_MAX} are \
             accepted over all faults"
        ));
    }
    Ok(())
}

/// Why two faults cannot both be true.
fn collision(a: &Fault, b: &Fault) -> Option<&'static str> {
    let overlap = |a0: u32, a1: u32, b0: u32, b1: u32| a0 < b1 && b0 < a1;
    let sites = overlap(
        a.first_site,
        a.first_site + a.count,
        b.first_site,
        b.first_site + b.count,
    );
    if !sites {
        return None;
    }
    if a.kind.layer() == Layer::Connect && b.kind.layer() == Layer::Connect {
        return Some("a site can live on one port only, and their sites overlap");
    }
    let rules = a.kind.body_rule().zip(b.kind.body_rule());
    if rules.is_some_and(|(a, b)| a != b) {
        return Some("a target can look for one text only, and their sites overlap");
    }
    let apart = matches!((a.method, b.method), (Some(a), Some(b)) if a != b);
    let end_ms = |fault: &Fault| fault.end_ms.unwrap_or(u32::MAX);
    let times = overlap(a.start_ms, end_ms(a), b.start_ms, end_ms(b));
    (times && !apart).then_some("their sites and times overlap")
}

/// One `[[fault]]` table; `index` counts from 0.
struct Entry<'a> {
    index: usize,
    table: &'a Table,
}

impl Entry<'_> {
    fn fault(&self, sites: &Sites) -> Result<Fault, ScenarioError> {
        if let Some(key) = self.table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return self.fail(&unknown("key", key, &KEYS));
        }
        let kind = self.kind()?;
        let last = f64::from(sites.count - 1);
        let first_site = self.whole("first_site", 0.0..=last)?.map_or_else(
            || self.fail("first_site: missing; the number of the first site is needed"),
            |site| Ok(site as u32),
        )?;
        let room = f64::from(sites.count - first_site);
        let count = self.whole("count", 1.0..=room)?.unwrap_or(1.0) as u32;
        let offset_s = self.number("offset_s", 0.0..=END_MAX_S)?.unwrap_or(0.0);
        let duration_s = self.duration_s()?;
        Ok(Fault {
            kind,
            first_site,
            count,
            start_ms: (offset_s * 1_000.0) as u32,
            end_ms: duration_s.map(|duration_s| ((offset_s + duration_s) * 1_000.0) as u32),
            period_ms: self.period_ms(duration_s)?,
            rate: self.number("rate", 0.0..=1.0)?.unwrap_or(1.0),
            seed: self
                .whole("seed", 0.0..=9_007_199_254_740_991.0)?
                .unwrap_or(0.0) as u64,
            method: self.method(kind)?,
        })
    }

    /// How long the fault lasts; `None`: until it is ended.
    fn duration_s(&self) -> Result<Option<f64>, ScenarioError> {
        let range = 0.1..=END_MAX_S;
        let accepted = format!("a number from 0.1 to {END_MAX_S}, or \"{UNTIL_ENDED}\"");
        match self.table.get("duration_s") {
            None => self.fail(&format!("duration_s: missing; accepted: {accepted}")),
            Some(Value::String(word)) if word == UNTIL_ENDED => Ok(None),
            Some(word @ Value::String(_)) => self.fail(&wrong("duration_s", word, &accepted)),
            Some(_) => self.number("duration_s", range),
        }
    }

    /// Of a fault that flaps; of one that holds until it is ended, nobody could tell how often.
    fn period_ms(&self, duration_s: Option<f64>) -> Result<Option<u32>, ScenarioError> {
        let period_s = self.number("period_s", PERIOD_MIN_S..=END_MAX_S)?;
        if period_s.is_some() && duration_s.is_none() {
            return self.fail("period_s: a fault that flaps needs a duration_s that is a number");
        }
        Ok(period_s.map(|period_s| (period_s * 1_000.0) as u32))
    }

    fn kind(&self) -> Result<FaultKind, ScenarioError> {
        let name = match self.table.get("kind") {
            Some(Value::String(name)) => name.as_str(),
            Some(other) => return self.fail(&wrong("kind", other, &NAMES.join(", "))),
            None => return self.fail(&format!("kind: missing; accepted: {}", NAMES.join(", "))),
        };
        let status = self
            .whole("status", 200.0..=599.0)?
            .map(|status| status as u16);
        let delay_ms = self
            .whole("delay_ms", 1.0..=600_000.0)?
            .map(|delay| delay as u32);
        self.belongs("status", status.is_some(), name, &["status"])?;
        self.belongs("delay_ms", delay_ms.is_some(), name, &DELAYED)?;
        let kind = match (name, status, delay_ms) {
            ("status", Some(status), _) => Some(FaultKind::Status(status)),
            ("slow_first_byte", _, Some(delay_ms)) => Some(FaultKind::SlowFirstByte(delay_ms)),
            ("dns_slow", _, Some(delay_ms)) => Some(FaultKind::DnsSlow(delay_ms)),
            _ => FaultKind::plain(name),
        };
        kind.map_or_else(|| self.fail(&unknown("kind", name, NAMES)), Ok)
    }

    /// Whether `key` was given where one of its `owners` is the kind, and nowhere else.
    fn belongs(
        &self,
        key: &str,
        given: bool,
        kind: &str,
        owners: &[&str],
    ) -> Result<(), ScenarioError> {
        if given == owners.contains(&kind) || !NAMES.contains(&kind) {
            return Ok(());
        }
        let (verb, owners) = if given {
            ("belongs only to", owners.join("\" and \""))
        } else {
            ("is needed by", kind.to_owned())
        };
        self.fail(&format!("{key}: {verb} kind = \"{owners}\""))
    }

    fn method(&self, kind: FaultKind) -> Result<Option<Method>, ScenarioError> {
        let method = match self.table.get("method") {
            None => return Ok(None),
            Some(Value::String(name)) if name == "GET" => Method::Get,
            Some(Value::String(name)) if name == "HEAD" => Method::Head,
            Some(other) => return self.fail(&wrong("method", other, "\"GET\", \"HEAD\"")),
        };
        if kind.layer() != Layer::Http {
            let name = kind.name();
            return self.fail(&format!("method: {name} fails before there is a request"));
        }
        Ok(Some(method))
    }

    fn whole(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>, ScenarioError> {
        match self.table.get(key) {
            Some(value @ Value::Float(_)) => {
                let accepted = format!("a whole number from {} to {}", range.start(), range.end());
                self.fail(&wrong(key, value, &accepted))
            }
            _ => self.number(key, range),
        }
    }

    fn number(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>, ScenarioError> {
        let Some(value) = self.table.get(key) else {
            return Ok(None);
        };
        let number = match value {
            Value::Integer(whole) => *whole as f64,
            Value::Float(number) => *number,
            _ => f64::NAN,
        };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let accepted = format!("a number from {} to {}", range.start(), range.end());
        self.fail(&wrong(key, value, &accepted))
    }

    fn fail<T>(&self, what: &str) -> Result<T, ScenarioError> {
        fail(format!("fault {}: {what}", self.index + 1))
    }
}

fn fail<T>(message: String) -> Result<T, ScenarioError> {
    Err(ScenarioError(message))
}

fn wrong(key: &str, found: &Value, accepted: &str) -> String {
    format!("{key}: found {found}; accepted: {accepted}")
}

fn unknown(what: &str, found: &str, accepted: &[&str]) -> String {
    let near = hint(found, accepted.iter().copied());
    format!(
        "{found}: unknown {what}; accepted: {}{near}",
        accepted.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: Sites = Sites {
        count: 100,
        interval_s: 10,
        https_every: 10,
        addresses: 256,
    };

    fn error(text: &str) -> String {
        parse(text, &SITES)
            .map(|_| ())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_whole_fault_is_read() {
        let text = "[[fault]]\nkind='status'\nstatus=503\nfirst_site=5\ncount=3\noffset_s=1.5\n\
                    duration_s=20\nperiod_s=4\nrate=0.5\nseed=9\nmethod='GET'\n";
        let scenario = parse(text, &SITES).expect("a valid scenario");
        let expected = Fault {
            kind: FaultKind::Status(503),
            first_site: 5,
            count: 3,
            start_ms: 1_500,
            end_ms: Some(21_500),
            period_ms: Some(4_000),
            rate: 0.5,
            seed: 9,
            method: Some(Method::Get),
        };
        assert_eq!(scenario.faults(), [expected]);
    }

    #[test]
    fn a_fault_may_hold_until_it_is_ended() {
        let text = "[[fault]]\nkind='reset'\nfirst_site=1\nduration_s='until-ended'\n";
        let scenario = parse(text, &SITES).expect("a valid scenario");
        assert_eq!(scenario.faults()[0].end_ms, None);
        let later = "[[fault]]\nkind='refuse'\nfirst_site=1\noffset_s=99999\nduration_s=1\n";
        assert!(error(&format!("{text}{later}")).contains("their sites and times overlap"));
    }

    #[test]
    fn an_empty_scenario_has_no_fault() {
        assert!(parse("", &SITES).expect("valid").faults().is_empty());
    }

    #[test]
    fn every_kind_is_accepted_by_its_name() {
        for (index, kind) in NAMES.iter().enumerate() {
            let extra = match *kind {
                "status" => "status=500",
                "slow_first_byte" | "dns_slow" => "delay_ms=5",
                _ => "",
            };
            let text = format!(
                "[[fault]]\nkind='{kind}'\nfirst_site={}\ncount=10\nduration_s=1\n{extra}",
                index % 9
            );
            let scenario = parse(&text, &SITES).expect("a valid scenario");
            assert_eq!(scenario.faults()[0].kind.name(), *kind);
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let message = error("[[fault]]\nkind='reset'\nfirst_site=1\nduration=5");
        assert!(
            message.starts_with("fault 1: duration: unknown key; accepted: kind,"),
            "{message}"
        );
        assert!(message.ends_with("did you mean `duration_s`?"), "{message}");
        let message = error("[[faults]]\nkind='reset'");
        assert!(message.contains("did you mean `fault`?"), "{message}");
    }

    #[test]
    fn an_unknown_kind_names_the_nearest() {
        for (found, nearest) in [
            ("dns_nxdomian", "dns_nxdomain"),
            ("redirect_chains", "redirect_chain"),
            ("tls_depreciated", "tls_deprecated"),
            ("header_floods", "header_flood"),
            ("reset_at_acept", "reset_at_accept"),
        ] {
            let message = error(&format!(
                "[[fault]]\nkind='{found}'\nfirst_site=1\nduration_s=5"
            ));
            let hint = format!("did you mean `{nearest}`?");
            assert!(message.ends_with(&hint), "{message}");
        }
    }

    #[test]
    fn a_value_out_of_range_says_what_is_accepted() {
        let cases = [
            (
                "first_site=100\nduration_s=1",
                "first_site: found 100; accepted: a number from 0",
            ),
            (
                "first_site=1.5\nduration_s=1",
                "first_site: found 1.5; accepted: a whole number",
            ),
            ("first_site=90\ncount=11\nduration_s=1", "count: found 11"),
            ("first_site=1", "duration_s: missing; accepted: a number"),
            (
                "first_site=1\nduration_s='ever'",
                "duration_s: found \"ever\"; accepted: a number from 0.1 to 2592000, or \"until",
            ),
            ("duration_s=1", "first_site: missing"),
            (
                "first_site=1\nduration_s=9\nperiod_s=0.1",
                "period_s: found 0.1; accepted: a number from 0.2",
            ),
            (
                "first_site=1\nduration_s='until-ended'\nperiod_s=9",
                "period_s: a fault that flaps needs a duration_s that is a number",
            ),
            ("first_site=1\nduration_s=1\nrate=1.1", "rate: found 1.1"),
            (
                "first_site=1\nduration_s=1\nmethod='PUT'",
                "method: found \"PUT\"",
            ),
            (
                "first_site=1\nduration_s=1\nstatus=500",
                "status: belongs only to",
            ),
        ];
        for (body, expected) in cases {
            let message = error(&format!("[[fault]]\nkind='reset'\n{body}"));
            assert!(message.contains(expected), "{message}");
        }
        let message = error("[[fault]]\nkind='status'\nfirst_site=1\nduration_s=1");
        assert!(
            message.contains("status: is needed by kind = \"status\""),
            "{message}"
        );
        let message = error("[[fault]]\nkind='refuse'\nfirst_site=1\nduration_s=1\nmethod='GET'");
        assert!(message.contains("before there is a request"), "{message}");
        let message = error("[[fault]]\nkind='dns_slow'\nfirst_site=1\nduration_s=1");
        let needed = "delay_ms: is needed by kind = \"dns_slow\"";
        assert!(message.contains(needed), "{message}");
        let message = error("[[fault]]\nkind='drip'\nfirst_site=1\nduration_s=1\ndelay_ms=9");
        let owners = "belongs only to kind = \"slow_first_byte\" and \"dns_slow\"";
        assert!(message.contains(owners), "{message}");
    }

    #[test]
    fn faults_that_contradict_each_other_are_refused() {
        let one = "[[fault]]\nkind='reset'\nfirst_site=1\ncount=5\nduration_s=10\n";
        let two = "[[fault]]\nkind='silence'\nfirst_site=5\noffset_s=9\nduration_s=10\n";
        let message = error(&format!("{one}{two}"));
        assert!(
            message.starts_with("faults 1 and 2: their sites and times overlap"),
            "{message}"
        );
        let later = two.replace("offset_s=9", "offset_s=10");
        assert!(parse(&format!("{one}{later}"), &SITES).is_ok());
    }

    #[test]
    fn a_site_has_one_port_and_one_rule_whenever_its_faults_are() {
        let two = |first: &str, second: &str| {
            let fault = |kind: &str, offset_s| {
                format!(
                    "[[fault]]\nkind='{kind}'\nfirst_site=1\noffset_s={offset_s}\nduration_s=1\n"
                )
            };
            parse(&(fault(first, 0) + &fault(second, 9)), &SITES).map(|_| ())
        };
        for (first, second, reason) in [
            ("refuse", "reset_at_accept", "one port only"),
            ("keyword_missing", "forbidden_text", "one text only"),
        ] {
            let message = two(first, second).expect_err("must be refused").to_string();
            assert!(message.contains(reason), "{message}");
        }
        assert!(two("keyword_missing", "bad_gzip").is_ok());
        assert!(two("keyword_missing", "reset").is_ok());
    }

    #[test]
    fn a_tls_fault_without_an_https_site_is_refused() {
        let message = error("[[fault]]\nkind='tls_expired'\nfirst_site=1\ncount=5\nduration_s=1");
        assert!(
            message.contains("fault 1: chooses no site; it needs https sites"),
            "{message}"
        );
    }

    #[test]
    fn bad_toml_says_the_line() {
        assert!(
            error("[[fault]]\nkind=").contains("line 2"),
            "{}",
            error("[[fault]]\nkind=")
        );
    }
}
