//! What a run shows: puts together what was read while it went on and what was left behind at its
//! end, and has it judged. Reads files of the node; starts nothing.

use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::Value;

use super::judge::{self, Seen};
use super::limits;
use super::plan::{Form, Rung, TIMEOUT_MS};
use super::pressing::Press;
use super::reading::{Counters, Polls, Reading};
use super::record::{Ages, Ceiling, Judged, Latency, Measured, Observer, Pressed, Verdict};
use crate::clock::Stopwatch;
use crate::findings::{self, Findings};
use crate::interval_log;
use crate::node::{self, NodePlan};
use crate::truth;

/// What the lag is called in the interval logs.
const LAG: &str = "schedule_lag";
/// More lines of a log help nobody.
const LINES_MAX: usize = 5;

/// What was read in the measured window.
pub(super) struct Window {
    /// Since its begin.
    pub(super) watch: Stopwatch,
    /// Before it.
    pub(super) status: Value,
    /// The observer's, at its end.
    pub(super) summary: Value,
    pub(super) counted: Counters,
    pub(super) polls: Polls,
    pub(super) taken_ms: Option<u64>,
    pub(super) store_rss_bytes: Option<u64>,
    pub(super) before: Reading,
    pub(super) after: Reading,
}

/// What there is when the node has ended.
pub(super) struct Ended<'a> {
    pub(super) node: &'a NodePlan,
    /// Right before its end.
    pub(super) status: Value,
    pub(super) truth: String,
    pub(super) press: Option<Press>,
}

/// What a run shows.
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) reasons: Vec<String>,
    pub(super) gates: Vec<Judged>,
    pub(super) measured: Measured,
    pub(super) pressed: Option<Pressed>,
}

/// Puts it together.
///
/// # Errors
/// When a file is not there, or does not say what it must.
pub(super) fn find(form: Form, rung: &Rung, window: &Window, ended: &Ended<'_>) -> Result<Found> {
    let faults = truth::parse_faults(&ended.truth)?;
    let incidents = truth::parse_incidents(&ended.node.events()?)?;
    let findings = findings::compare(&faults, &incidents, TIMEOUT_MS.into(), 0);
    let span = window.before.unix_ms..=window.after.unix_ms;
    let logs = ended.node.histogram_dir();
    let lag = interval_log::merged(&interval_log::schedule_lag(&logs, &span)?)?;
    let phases = interval_log::phases(&logs, &span)?;
    let measured = measured(
        form,
        rung,
        (window, &ended.status),
        &findings,
        &lag,
        &phases,
    )?;
    let pressed = match &ended.press {
        None => None,
        Some(press) => {
            let after = press.relief_unix_ms..=press.until_unix_ms;
            let lag = interval_log::schedule_lag(&logs, &after)?;
            Some(press.found(measured.cpu.core_us, &lag))
        }
    };
    let errors = errors_in(&ended.node.log())?;
    let statuses = [window.status.clone(), ended.status.clone()];
    let unbalanced = ended.press.as_ref().map(|press| &press.polls.unbalanced);
    let gates = judge::gates(&Seen {
        rung,
        seconds: measured.seconds,
        observer: &measured.observer,
        statuses: &statuses,
        counted: window.counted,
        polls: &window.polls,
        unbalanced: unbalanced.map_or(&[], Vec::as_slice),
        lag: &measured.lag,
        findings: &findings,
        errors: &errors,
        rss_budget_bytes: measured.rss_budget_bytes,
        pressed: pressed.as_ref(),
    });
    let served = measured.observer.requests as f64 / measured.seconds;
    let (busy, lag_ms) = (measured.cpu.farm_busy, measured.cpu.farm_lag_p99_ms);
    // Before the rung the sink's share counted: a rung that has no room beside it was not begun.
    // What the node took beyond that is its own doing, and excuses nothing.
    let others = window.before.store_busy(&window.after);
    let ceiling = Ceiling::of(rung.rate(), served, busy, others, lag_ms);
    let (verdict, reasons) = judge::verdict(form, rung, &gates, &ceiling, pressed.as_ref());
    Ok(Found {
        verdict,
        reasons,
        gates,
        measured,
        pressed,
    })
}

fn measured(
    form: Form,
    rung: &Rung,
    (window, status): (&Window, &Value),
    findings: &Findings,
    lag: &Histogram<u64>,
    phases: &std::collections::BTreeMap<String, Histogram<u64>>,
) -> Result<Measured> {
    let (summary, counted, polls) = (&window.summary, window.counted, &window.polls);
    let seconds = window.before.seconds(&window.after);
    let farm_busy = number(summary, "/farm/busy")?;
    let farm_lag_ms = number(summary, "/farm/loop_lag_us/p99")? / 1_000.0;
    let phases = phases.iter().filter(|(_, phase)| !phase.is_empty());
    Ok(Measured {
        driver: node::driver(status),
        farm_shell: summary["farm"]["shell"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned(),
        intervals: rung.intervals(form),
        seconds,
        checks: counted.probed,
        checks_per_s: counted.probed as f64 / seconds,
        required_per_s: rung.rate(),
        cpu: window
            .before
            .cpu(&window.after, counted.probed, (farm_busy, farm_lag_ms)),
        rss_max_bytes: polls.rss_max_bytes,
        rss_budget_bytes: limits::node_rss_budget(rung, polls.in_flight_max),
        store_rss_bytes: window.store_rss_bytes,
        in_flight_max: polls.in_flight_max,
        lag: latency(LAG, lag),
        phases: phases.map(|(name, phase)| latency(name, phase)).collect(),
        observer: observer(summary)?,
        checks_by_second: polls.by_second.clone(),
        tls_full: counted.tls_full,
        tls_resumed: counted.tls_resumed,
        dns_queries: counted.dns_queries,
        freshness_rows: counted.freshness_rows,
        taken_ms: window.taken_ms,
        faults: findings.kinds.clone(),
        false_downs: findings.false_downs.len() as u64,
    })
}

/// Of the observer's summary.
pub(super) fn number(summary: &Value, path: &str) -> Result<f64> {
    let found = summary.pointer(path).and_then(Value::as_f64);
    found.with_context(|| format!("the observer's summary has no {path}"))
}

/// The observer's word on the sites.
fn observer(summary: &Value) -> Result<Observer> {
    let whole = |path| number(summary, path).map(|found| found as u64);
    let ages = |name: &str| -> Result<Option<Ages>> {
        let found = summary[name].clone();
        serde_json::from_value(found).with_context(|| format!("odd {name} of the observer"))
    };
    Ok(Observer {
        expected: whole("/expected")?,
        excluded: whole("/excluded")?,
        never_seen: whole("/never_seen")?,
        stale: whole("/stale")?,
        ratio: number(summary, "/ratio")?,
        requests: whole("/requests_total")?,
        age: ages("age_ms")?,
        gap: ages("gap_ms")?,
    })
}

fn latency(phase: &str, histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Latency {
        phase: phase.to_owned(),
        count: histogram.len(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        max_us: histogram.max(),
    }
}

/// The first lines of a node's log that say ERROR, and how many more there are.
fn errors_in(log: &Path) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut lines = text.lines().filter(|line| line.contains(" ERROR "));
    let mut errors: Vec<String> = lines.by_ref().take(LINES_MAX).map(str::to_owned).collect();
    let more = lines.count();
    if more > 0 {
        errors.push(format!("and {more} more"));
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_a_log_are_found_and_no_more_than_a_few_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let calm = "2026-11-22T17:00:00Z  INFO an ERROR_FREE start\n";
        std::fs::write(&log, calm).expect("written");
        assert!(errors_in(&log).expect("read").is_empty());
        let bad = "2026-11-22T17:00:00Z ERROR the store is gone\n".repeat(7);
        std::fs::write(&log, format!("{calm}{bad}")).expect("written");
        let errors = errors_in(&log).expect("read");
        assert_eq!((errors.len(), errors[5].as_str()), (6, "and 2 more"));
        assert!(errors_in(&folder.path().join("none")).is_err());
    }

    #[test]
    fn the_observers_words_are_taken_as_they_are_and_a_missing_one_is_no_zero() {
        let ages = json!({ "min": 1, "p50": 2, "p95": 3, "p99": 4, "p999": 5, "max": 6 });
        let summary = json!({
            "expected": 90, "excluded": 10, "never_seen": 1, "stale": 2, "ratio": 1.05,
            "requests_total": 200, "age_ms": ages, "gap_ms": null,
        });
        let found = observer(&summary).expect("whole");
        assert_eq!((found.expected, found.never_seen, found.stale), (90, 1, 2));
        assert_eq!(found.age.map(|age| age.max), Some(6));
        assert_eq!(found.gap, None);
        let mut cut = summary.clone();
        cut["ratio"] = Value::Null;
        assert!(observer(&cut).is_err());
    }
}
