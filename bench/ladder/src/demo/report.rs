//! What the demo prints and writes at its end. Pure: text from measurements.

use serde_json::Value;

use crate::findings::{Findings, Spread};
use crate::gates::Gate;
use crate::machine::Machine;
use crate::table::{Table, grouped};

/// CPU of the node over the measured window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) checks: u64,
    pub(crate) seconds: f64,
    pub(crate) process_s: f64,
    /// CPU of the farm: nobody should blame the node for it.
    pub(crate) farm_s: f64,
    /// Name and CPU seconds of each thread, busiest first.
    pub(crate) threads: Vec<(String, f64)>,
}

/// Everything that a run found.
pub(crate) struct Outcome {
    pub(crate) machine: Machine,
    pub(crate) driver: String,
    pub(crate) farm_shell: String,
    pub(crate) summary: Value,
    pub(crate) findings: Findings,
    pub(crate) cpu: Cpu,
    /// The node's own percentile table.
    pub(crate) percentiles: String,
    pub(crate) files: Vec<String>,
    pub(crate) gates: Vec<Gate>,
}

/// The whole report, as Markdown that reads well in a terminal.
pub(crate) fn markdown(outcome: &Outcome) -> String {
    let mut parts = vec![
        "# ringwatch demo".to_owned(),
        format!(
            "{}\n\nprobe driver: {} · farm shell: {}",
            outcome.machine.line(),
            outcome.driver,
            outcome.farm_shell
        ),
        "## What the targets saw".to_owned(),
        observer(&outcome.summary),
        "## Faults, against the ground truth".to_owned(),
        "Delays in seconds, min / median / max. Detection counts from the fault, or from the \
         node's start where the fault is older; recovery from the fault's end. DNS failures open \
         an event only once they are confirmed."
            .to_owned(),
        fault_table(&outcome.findings),
        "## Latency".to_owned(),
        format!("```\n{}\n```", outcome.percentiles.trim_end()),
        "## CPU per check".to_owned(),
        "`cargo demo` builds the programs with the profile `quick`, which takes half the time to \
         build; the figures of `docs/benchmarks` are of `release`."
            .to_owned(),
        cpu_table(&outcome.cpu),
        "## Gates".to_owned(),
        gate_list(&outcome.gates),
    ];
    if !outcome.files.is_empty() {
        parts.push("## Files".to_owned());
        let list: Vec<String> = outcome
            .files
            .iter()
            .map(|file| format!("- {file}"))
            .collect();
        parts.push(list.join("\n"));
    }
    parts.join("\n\n").replace("\n\n\n", "\n\n")
}

fn observer(summary: &Value) -> String {
    let mut table = Table::new(&["observer", "value"]);
    for field in [
        "sites",
        "excluded",
        "expected",
        "observed",
        "never_seen",
        "stale",
        "coverage",
        "requests_total",
        "expected_min",
        "ratio",
    ] {
        table.row([field.to_owned(), value(&summary[field])]);
    }
    for field in ["gap_ms", "age_ms"] {
        for quantile in ["p50", "p99", "max"] {
            let cell = value(&summary[field][quantile]);
            table.row([format!("{field} {quantile}"), cell]);
        }
    }
    table.markdown()
}

fn value(value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => grouped(whole),
        (None, Some(number)) => format!("{number:.4}"),
        _ => "–".to_owned(),
    }
}

fn fault_table(findings: &Findings) -> String {
    let head = [
        "fault",
        "sites",
        "expected",
        "found",
        "Seems Down",
        "Down",
        "recovered",
        "recovery",
    ];
    let mut table = Table::new(&head);
    for row in &findings.kinds {
        let found: Vec<&str> = row.found.iter().map(String::as_str).collect();
        table.row([
            row.kind.clone(),
            row.sites.to_string(),
            row.expected.clone(),
            if found.is_empty() {
                "–".to_owned()
            } else {
                found.join(", ")
            },
            spread(row.seems_down),
            spread(row.down),
            format!("{}/{}", row.recovered, row.sites),
            spread(row.recovery),
        ]);
    }
    table.markdown()
}

fn spread(delays: Option<Spread>) -> String {
    let Some(delays) = delays else {
        return "–".to_owned();
    };
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let (min, median, max) = (
        seconds(delays.min),
        seconds(delays.median),
        seconds(delays.max),
    );
    format!("{min:.1} / {median:.1} / {max:.1}")
}

fn cpu_table(cpu: &Cpu) -> String {
    let checks = cpu.checks.max(1) as f64;
    let mut table = Table::new(&["part", "µs of CPU per check", "% of one core"]);
    let mut row = |name: &str, seconds: f64| {
        let per_check = format!("{:.1}", seconds * 1e6 / checks);
        table.row([
            name.to_owned(),
            per_check,
            format!("{:.1}", 100.0 * seconds / cpu.seconds),
        ]);
    };
    row("ringwatch, all threads", cpu.process_s);
    for (name, seconds) in &cpu.threads {
        row(&format!("thread {name}"), *seconds);
    }
    row("(the farm, for comparison)", cpu.farm_s);
    let checks = grouped(cpu.checks);
    format!(
        "{checks} checks in {:.0} s.\n\n{}",
        cpu.seconds,
        table.markdown()
    )
}

/// One line per gate, and the reasons of those that failed.
pub(crate) fn gate_list(gates: &[Gate]) -> String {
    /// More reasons of one gate than this help nobody.
    const REASONS_MAX: usize = 8;
    let mut lines = Vec::new();
    for gate in gates {
        let word = if gate.holds() { "ok    " } else { "FAILED" };
        lines.push(format!("- {word} {}", gate.name));
        for reason in gate.failures.iter().take(REASONS_MAX) {
            lines.push(format!("  - {reason}"));
        }
        if let Some(more) = gate
            .failures
            .len()
            .checked_sub(REASONS_MAX)
            .filter(|more| *more > 0)
        {
            lines.push(format!("  - and {more} more"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_gate_shows_its_first_reasons_and_counts_the_rest() {
        let held = Gate {
            name: "stale",
            failures: Vec::new(),
        };
        let failures = (0..10).map(|n| format!("site {n}")).collect();
        let list = gate_list(&[
            held,
            Gate {
                name: "zero false downs",
                failures,
            },
        ]);
        assert!(
            list.starts_with("- ok     stale\n- FAILED zero false downs\n  - site 0"),
            "{list}"
        );
        assert!(list.ends_with("  - site 7\n  - and 2 more"), "{list}");
    }

    #[test]
    fn cpu_is_per_check_and_per_core() {
        let cpu = Cpu {
            checks: 1_000,
            seconds: 10.0,
            process_s: 0.1,
            farm_s: 0.2,
            threads: vec![("core-0".to_owned(), 0.05)],
        };
        let text = cpu_table(&cpu);
        assert!(
            text.contains("| ringwatch, all threads     |               100.0 |           1.0 |")
        );
        assert!(
            text.contains("| thread core-0              |                50.0 |           0.5 |")
        );
    }

    #[test]
    fn what_the_observer_did_not_say_is_a_dash() {
        let text = observer(&serde_json::json!({ "stale": 0, "ratio": 1.25 }));
        assert!(text.contains("| stale          |      0 |"), "{text}");
        assert!(text.contains("| ratio          | 1.2500 |"), "{text}");
        assert!(text.contains("| gap_ms max     |      – |"), "{text}");
    }
}
