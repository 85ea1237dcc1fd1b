//! The page of the scenarios. Pure: text from a report.

use super::Report;
use super::judge::{Counts, Row};
use crate::demo::gate_list;
use crate::findings::Spread;
use crate::table::{Table, grouped};

/// The whole report, as Markdown that reads well in a terminal.
pub(super) fn markdown(report: &Report) -> String {
    let seconds = |ms: u32| f64::from(ms) / 1_000.0;
    let verdict = &report.verdict;
    [
        "# Accuracy".to_owned(),
        format!(
            "`cargo xtask scenarios{}`",
            if report.interval_s >= 60 {
                " --long"
            } else {
                ""
            }
        ),
        report.machine.line(),
        format!(
            "Every fault that the farm knows, on sites of their own, beside {} sites that nothing \
             is done to; each checked every {} s with a deadline of {:.0} s, and confirmed after \
             three failing checks. A site is *found* when it has the one incident that its fault \
             must have: type, class, and states in this order. Any other incident is a false \
             positive. What is expected to be up or unknown has no incident to be read from: there \
             it is shown that none was opened, and of `unknown` that its class was counted.",
            grouped(verdict.healthy),
            report.interval_s,
            seconds(report.timeout_ms)
        ),
        counts(verdict.total, &verdict.rows),
        format!(
            "By the node's own constants a failure is in doubt within {:.1} s and confirmed \
             within {:.1} s. Delays in seconds, min / mean / max: the first two from the fault (or \
             the node's start where the fault is older), the last from its end.",
            seconds(report.suspected_within_ms),
            seconds(report.confirmed_within_ms)
        ),
        rows(&verdict.rows),
        "## Gates".to_owned(),
        gate_list(&report.gates) + "\n",
    ]
    .join("\n\n")
    .replace("\n\n\n", "\n\n")
}

fn counts(total: Counts, rows: &[Row]) -> String {
    let mut table = Table::new(&["sites", "said to be failing", "not said so"]);
    let mut row = |what: &str, yes: u64, no: u64| {
        table.row([what.to_owned(), grouped(yes), grouped(no)]);
    };
    row("that fail", total.true_positives, total.false_negatives);
    row("that do not", total.false_positives, total.true_negatives);
    format!("{} kinds of faults.\n\n{}", rows.len(), table.markdown())
}

fn rows(rows: &[Row]) -> String {
    let head = [
        "fault",
        "sites",
        "expected verdict",
        "expected class",
        "expected events",
        "TP",
        "FN",
        "FP",
        "TN",
        "in doubt after",
        "Down after",
        "over after",
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let counts = row.counts;
        table.row([
            row.fault.to_owned(),
            row.sites.to_string(),
            row.verdict.to_owned(),
            row.class.to_owned(),
            row.events.clone(),
            counts.true_positives.to_string(),
            counts.false_negatives.to_string(),
            counts.false_positives.to_string(),
            counts.true_negatives.to_string(),
            spread(row.suspected),
            spread(row.confirmed),
            spread(row.recovered),
        ]);
    }
    table.markdown()
}

/// Delays for people, in seconds: min / mean / max.
pub(crate) fn spread(delays: Option<Spread>) -> String {
    let Some(delays) = delays else {
        return "–".to_owned();
    };
    let [min, mean, max] = [delays.min, delays.mean, delays.max].map(|ms| ms as f64 / 1_000.0);
    format!("{min:.1} / {mean:.1} / {max:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_in_seconds_and_none_is_a_dash() {
        let delays = Spread::of(vec![1_000, 2_000, 6_000]);
        assert_eq!(spread(delays), "1.0 / 3.0 / 6.0");
        assert_eq!(spread(None), "–");
    }
}
