//! Gates: what must hold for a run to count, and why it does not. Pure.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::findings::Findings;
use crate::rings::Rings;

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    /// Why it failed; empty when it holds.
    pub(crate) failures: Vec<String>,
}

impl Gate {
    /// Whether the gate holds.
    pub(crate) fn holds(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Every fault found with its class, confirmed, and its recovery seen; and none left out: `planned`
/// are the scenario's kinds, each with its number of sites. A kind that the ground truth does not
/// expect a monitor to find, or not on every site, proves less than the scenario promises.
pub(crate) fn faults(findings: &Findings, planned: &[(&str, usize)]) -> Gate {
    let left_out = planned
        .iter()
        .filter_map(|&(kind, sites)| left_out(findings, kind, sites));
    Gate {
        name: "every fault detected with its class, and recovered",
        failures: left_out.chain(findings.shortfalls()).collect(),
    }
}

fn left_out(findings: &Findings, kind: &str, planned: usize) -> Option<String> {
    let row = findings.kinds.iter().find(|row| row.kind == kind);
    let sites = row.map_or(0, |row| row.sites);
    (sites != planned).then(|| {
        format!("{kind}: the ground truth expects a failure of {sites} of {planned} planned sites")
    })
}

/// Node and farm run on `io_uring` where the kernel gives it, and have fallen back to epoll where
/// not. `refused_here`: the demo itself put a filter before the kernel; one that did nothing proves
/// nothing.
pub(crate) fn drivers(refused_here: bool, rings: Rings, probe: &str, farm: &str) -> Gate {
    let (node_wanted, farm_wanted) = match rings {
        Rings::Given => ("io_uring", Some("glommio")),
        Rings::GivenButToGlommio => ("io_uring", None),
        Rings::Refused => ("epoll", Some("tokio")),
    };
    let wrong = |what: &str, found: &str, wanted: &str| {
        (found != wanted).then(|| format!("{what} runs on {found}, not on {wanted}"))
    };
    let no_filter = (refused_here && rings != Rings::Refused)
        .then(|| "the demo's filter does not keep io_uring from its children".to_owned());
    let found = [
        no_filter,
        wrong("the node", probe, node_wanted),
        farm_wanted.and_then(|wanted| wrong("the farm", farm, wanted)),
    ];
    Gate {
        name: "drivers as expected",
        failures: found.into_iter().flatten().collect(),
    }
}

/// No event that the ground truth does not explain.
pub(crate) fn false_downs(findings: &Findings) -> Gate {
    Gate {
        name: "zero false downs",
        failures: findings.false_downs.clone(),
    }
}

/// `field` of the observer's summary is within `range`; a dot leads into an inner object.
pub(crate) fn observer(summary: &Value, field: &'static str, range: RangeInclusive<f64>) -> Gate {
    let found = summary.pointer(&format!("/{}", field.replace('.', "/")));
    let failure = match found.and_then(Value::as_f64) {
        Some(value) if range.contains(&value) => None,
        Some(value) => Some(format!("{field} = {value} by the observer's summary")),
        None => Some(format!("the observer's summary has no {field}")),
    };
    Gate {
        name: field,
        failures: failure.into_iter().collect(),
    }
}

/// No check that was due was left out, on any core.
pub(crate) fn nothing_shed(status: &Value) -> Gate {
    let cores = status["cores"].as_array();
    let failures = match cores {
        None => vec!["the status names no cores".to_owned()],
        Some(cores) => (0..)
            .zip(cores)
            .filter_map(
                |(index, core): (usize, _)| match core["account"]["shed"].as_u64() {
                    Some(0) => None,
                    Some(shed) => Some(format!("core {index} left out {shed} checks")),
                    None => Some(format!("core {index}: the status has no shed")),
                },
            )
            .collect(),
    };
    Gate {
        name: "nothing shed",
        failures,
    }
}

/// The identities of `design.md` §2 invariant 4 on every core, in the output of
/// `ringwatch status --json`; the node's own verdict on them must agree.
pub(crate) fn accounts(status: &Value) -> Gate {
    let mut failures = Vec::new();
    let cores = status["cores"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if cores.is_empty() {
        failures.push("the status names no cores".to_owned());
    }
    for (index, core) in cores.iter().enumerate() {
        let (account, owner) = (&core["account"], format!("core {index}"));
        for (total, parts) in IDENTITIES {
            failures.extend(unbalanced(account, &owner, total, parts));
        }
        failures.extend(lost(account, &owner));
    }
    if status["balanced"] != true {
        failures.push("the node itself says that its accounts do not balance".to_owned());
    }
    Gate {
        name: "accounts balance",
        failures,
    }
}

const IDENTITIES: [(&str, &[&str]); 3] = [
    (
        "due",
        &[
            "pending",
            "in_flight",
            "probed",
            "shed",
            "stale",
            "cancelled",
        ],
    ),
    ("probed", &["held", "sent"]),
    ("drained", &["stepped", "coalesced", "discarded"]),
];

fn number(account: &Value, owner: &str, name: &str) -> Result<u64, String> {
    account[name]
        .as_u64()
        .ok_or_else(|| format!("{owner}: the status has no {name}"))
}

/// Results that were sent are drained or queued; the sink is read after the cores, so that it may
/// be ahead.
fn lost(account: &Value, owner: &str) -> Option<String> {
    let of = |name| number(account, owner, name);
    match (of("sent"), of("queued"), of("drained")) {
        (Ok(sent), Ok(queued), Ok(drained)) => (sent > queued + drained)
            .then(|| format!("{owner}: sent {sent} > queued {queued} + drained {drained}")),
        (Err(missing), _, _) | (_, Err(missing), _) | (_, _, Err(missing)) => Some(missing),
    }
}

fn unbalanced(account: &Value, owner: &str, total: &str, parts: &[&str]) -> Option<String> {
    let number = |name: &str| number(account, owner, name);
    let numbers: Result<Vec<u64>, String> = parts.iter().map(|part| number(part)).collect();
    match (number(total), numbers) {
        (Ok(whole), Ok(numbers)) => {
            let sum: u64 = numbers.iter().sum();
            let shown: Vec<String> = parts
                .iter()
                .zip(&numbers)
                .map(|(part, n)| format!("{part} {n}"))
                .collect();
            (whole != sum).then(|| format!("{owner}: {total} {whole} ≠ {}", shown.join(" + ")))
        }
        (Err(missing), _) | (_, Err(missing)) => Some(missing),
    }
}

/// A file of each suffix was written.
pub(crate) fn files(found: &[String], needed: &[&str]) -> Gate {
    let lacks = |suffix: &&&str| !found.iter().any(|file| file.ends_with(**suffix));
    let failures = needed
        .iter()
        .filter(lacks)
        .map(|suffix| format!("no {suffix} file"))
        .collect();
    Gate {
        name: "report files written",
        failures,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::findings::KindRow;

    fn status() -> Value {
        let account = json!({
            "due": 21, "pending": 1, "in_flight": 2, "probed": 10, "shed": 3, "stale": 2,
            "cancelled": 3, "held": 4, "sent": 6, "queued": 1, "drained": 5, "stepped": 1,
            "coalesced": 3, "discarded": 1,
        });
        json!({ "balanced": true, "cores": [{ "account": account }] })
    }

    #[test]
    fn a_ring_is_used_where_the_kernel_gives_it_and_only_there() {
        use Rings::{Given, GivenButToGlommio, Refused};
        let failures = |refused, rings, probe, farm| drivers(refused, rings, probe, farm).failures;
        for refused_here in [true, false] {
            assert!(drivers(refused_here, Refused, "epoll", "tokio").holds());
            let both = failures(refused_here, Refused, "io_uring", "glommio");
            assert_eq!(both.len(), 2, "{both:?}");
        }
        assert!(drivers(false, Given, "io_uring", "glommio").holds());
        assert!(drivers(false, GivenButToGlommio, "io_uring", "tokio").holds());
        assert_eq!(
            failures(false, Given, "epoll", "tokio"),
            [
                "the node runs on epoll, not on io_uring",
                "the farm runs on tokio, not on glommio"
            ]
        );
        assert_eq!(
            failures(false, GivenButToGlommio, "epoll", "tokio").len(),
            1
        );
        assert_eq!(
            failures(true, Given, "io_uring", "glommio"),
            ["the demo's filter does not keep io_uring from its children"]
        );
    }

    #[test]
    fn balanced_accounts_hold() {
        assert_eq!(accounts(&status()).failures, Vec::<String>::new());
    }

    #[test]
    fn an_account_that_does_not_balance_is_written_out() {
        let with = |name: &str, value: u64| {
            let mut lost = status();
            lost["cores"][0]["account"][name] = json!(value);
            accounts(&lost).failures
        };
        assert_eq!(with("queued", 0), ["core 0: sent 6 > queued 0 + drained 5"]);
        assert_eq!(with("queued", 9), Vec::<String>::new(), "sent meanwhile");
        assert_eq!(with("held", 3), ["core 0: probed 10 ≠ held 3 + sent 6"]);
        assert!(with("due", 22)[0].starts_with("core 0: due 22 ≠ pending 1 + "));
        assert!(with("coalesced", 4)[0].starts_with("core 0: drained 5 ≠ "));
    }

    #[test]
    fn the_nodes_own_verdict_must_agree() {
        let mut lost = status();
        lost["balanced"] = json!(false);
        assert_eq!(accounts(&lost).failures.len(), 1);
    }

    #[test]
    fn a_status_without_accounts_fails() {
        assert_eq!(
            accounts(&json!({ "balanced": true })).failures,
            ["the status names no cores"]
        );
        let empty = accounts(&json!({ "balanced": true, "cores": [{}] })).failures;
        assert_eq!(empty[0], "core 0: the status has no due");
    }

    #[test]
    fn what_the_observer_says_must_be_in_range() {
        let holds = |summary, range| observer(&summary, "ratio", range).holds();
        assert!(holds(json!({ "ratio": 0 }), 0.0..=0.0));
        assert!(!holds(json!({ "ratio": 1 }), 0.0..=0.0));
        assert!(holds(json!({ "ratio": 1.36 }), 1.0..=f64::INFINITY));
        assert!(!holds(json!({ "ratio": 0.999 }), 1.0..=f64::INFINITY));
        assert!(!holds(json!({}), 0.0..=f64::INFINITY));
        assert!(!holds(json!({ "ratio": null }), 0.0..=f64::INFINITY));
        let farm = json!({ "farm": { "evicted": 2 } });
        assert_eq!(
            observer(&farm, "farm.evicted", 0.0..=0.0).failures,
            ["farm.evicted = 2 by the observer's summary"]
        );
    }

    #[test]
    fn a_check_that_was_left_out_is_told() {
        assert_eq!(
            nothing_shed(&status()).failures,
            ["core 0 left out 3 checks"]
        );
        let mut calm = status();
        calm["cores"][0]["account"]["shed"] = json!(0);
        assert!(nothing_shed(&calm).holds());
        assert!(!nothing_shed(&json!({ "cores": [{}] })).holds());
        assert!(!nothing_shed(&json!({})).holds());
    }

    #[test]
    fn each_kind_of_report_file_is_needed() {
        let found = ["a/core-0.hdr".to_owned(), "a/report.md".to_owned()];
        assert!(files(&found, &[".hdr", ".md"]).holds());
        assert_eq!(files(&found, &[".svg", ".md"]).failures, ["no .svg file"]);
    }

    #[test]
    fn a_run_without_faults_proves_nothing() {
        let gate = faults(&Findings::default(), &[("status", 2)]);
        assert_eq!(
            gate.failures,
            ["status: the ground truth expects a failure of 0 of 2 planned sites"]
        );
        assert!(false_downs(&Findings::default()).holds());
    }

    /// Findings in which every site of each kind was found and recovered.
    fn found(kinds: &[(&str, usize)]) -> Findings {
        let row = |&(kind, sites): &(&str, usize)| KindRow {
            kind: kind.to_owned(),
            expected: "http.status".to_owned(),
            found: BTreeSet::from(["http.status".to_owned()]),
            sites,
            detected: sites,
            confirmed: sites,
            recovered: sites,
            ..KindRow::default()
        };
        Findings {
            kinds: kinds.iter().map(row).collect(),
            false_downs: Vec::new(),
        }
    }

    #[test]
    fn every_planned_kind_must_be_there_on_all_its_sites() {
        let planned = [("dns_timeout", 9), ("status", 9)];
        assert!(faults(&found(&planned), &planned).holds());
        let failures = |kinds: &[(&str, usize)]| faults(&found(kinds), &planned).failures;
        assert_eq!(
            failures(&[("status", 9)]),
            ["dns_timeout: the ground truth expects a failure of 0 of 9 planned sites"]
        );
        assert_eq!(
            failures(&[("dns_timeout", 8), ("status", 9)]),
            ["dns_timeout: the ground truth expects a failure of 8 of 9 planned sites"]
        );
    }

    #[test]
    fn a_planned_kind_must_be_found_and_recovered_everywhere() {
        let planned = [("status", 9)];
        let mut findings = found(&planned);
        findings.kinds[0].recovered = 8;
        assert_eq!(
            faults(&findings, &planned).failures,
            ["status: 8 of 9 sites recovered"]
        );
    }
}
