//! `ladder compare A.json B.json`: what got better or worse from one climb to another, beyond what
//! two runs of the same differ by. Pure, but for the two files.
//!
//! **The noise rule.** Figures are those of clean runs. One moved when the medians differ by more
//! than its margin and, where both climbs have three runs or more of the rung, no run of one lies
//! between the runs of the other. Figures of fewer runs are *single*: their margin is three times
//! as wide, since what one run shows also shows the minute in which it was made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::plan::Form;
use super::record::{self, Measured, REPEATS_FOR_A_CLAIM, Report, Run, Verdict};
use crate::baseline::median;
use crate::table::Table;

/// How much wider the margin of single figures is.
const SINGLE_FACTOR: f64 = 3.0;
const RULE: &str = "Figures are those of clean runs. One moved when its medians differ by more \
    than its margin and, with three runs or more on both sides, the runs of A and \
    B do not overlap. *Single*: fewer runs, and a margin three times as wide.";

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// The report before.
    before: PathBuf,
    /// The report after.
    after: PathBuf,
    /// Exit with 1 when something got worse.
    #[arg(long)]
    gate: bool,
}

/// A figure with its margins: a part of it, and so much at least.
struct Figure {
    name: &'static str,
    unit: &'static str,
    better: Better,
    margin: f64,
    least: f64,
    of: fn(&Run, &Measured) -> Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

const FIGURES: [Figure; 12] = [
    Figure {
        name: "checks per second",
        unit: "/s",
        better: Better::More,
        margin: 0.02,
        least: 1.0,
        of: |_, m| Some(m.checks_per_s),
    },
    Figure {
        name: "probe core per check",
        unit: "µs",
        better: Better::Less,
        margin: 0.05,
        least: 0.5,
        of: |_, m| Some(m.cpu.core_us),
    },
    Figure {
        name: "node per check",
        unit: "µs",
        better: Better::Less,
        margin: 0.05,
        least: 0.5,
        of: |_, m| Some(m.cpu.node_us),
    },
    Figure {
        name: "store per check",
        unit: "µs",
        better: Better::Less,
        margin: 0.10,
        least: 0.5,
        of: |_, m| m.cpu.store_us,
    },
    Figure {
        name: "schedule lag p99",
        unit: "ms",
        better: Better::Less,
        margin: 0.25,
        least: 1.0,
        of: |_, m| Some(m.lag.p99_us as f64 / 1e3),
    },
    Figure {
        name: "schedule lag p99.9",
        unit: "ms",
        better: Better::Less,
        margin: 0.50,
        least: 5.0,
        of: |_, m| Some(m.lag.p999_us as f64 / 1e3),
    },
    Figure {
        name: "total p99",
        unit: "ms",
        better: Better::Less,
        margin: 0.25,
        least: 0.5,
        of: |_, m| {
            m.phases
                .iter()
                .find(|p| p.phase == "total")
                .map(|p| p.p99_us as f64 / 1e3)
        },
    },
    Figure {
        name: "memory",
        unit: "MiB",
        better: Better::Less,
        margin: 0.05,
        least: 8.0,
        of: |_, m| Some(m.rss_max_bytes as f64 / f64::from(1 << 20)),
    },
    Figure {
        name: "observer age max",
        unit: "s",
        better: Better::Less,
        margin: 0.02,
        least: 0.5,
        of: |_, m| m.observer.age.map(|age| age.max as f64 / 1e3),
    },
    Figure {
        name: "slowest fault down",
        unit: "s",
        better: Better::Less,
        margin: 0.10,
        least: 5.0,
        of: |_, m| m.slowest_down_s(),
    },
    Figure {
        name: "goodput under pressure",
        unit: "%",
        better: Better::More,
        margin: 0.05,
        least: 2.0,
        of: |run, _| run.pressed.as_ref().map(|it| 100.0 * it.goodput()),
    },
    Figure {
        name: "back to normal",
        unit: "s",
        better: Better::Less,
        margin: 0.25,
        least: 3.0,
        of: |run, _| run.pressed.as_ref().map(|it| it.back_s),
    },
];

/// One figure of one rung that moved.
#[derive(Clone, Debug, PartialEq)]
struct Move {
    rung: String,
    what: String,
    before: String,
    after: String,
    is_worse: bool,
    is_single: bool,
}

/// Prints what moved.
///
/// # Errors
/// When a report is not whole, or, with `--gate`, something got worse.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    let before = record::read_report(&options.before)?;
    let after = record::read_report(&options.after)?;
    let moves = moves(&before, &after);
    println!("{}", page(&before, &after, &moves));
    let worse = moves.iter().filter(|it| it.is_worse).count();
    anyhow::ensure!(!options.gate || worse == 0, "{worse} figure(s) got worse");
    Ok(())
}

/// Runs by the name of their rung.
fn by_rung(report: &Report) -> BTreeMap<String, Vec<&Run>> {
    let mut rungs: BTreeMap<String, Vec<&Run>> = BTreeMap::new();
    for run in &report.runs {
        rungs.entry(run.rung.name()).or_default().push(run);
    }
    rungs
}

fn moves(before: &Report, after: &Report) -> Vec<Move> {
    let (before, after) = (by_rung(before), by_rung(after));
    let both = before
        .iter()
        .filter_map(|(name, runs)| Some((name, runs, after.get(name)?)));
    let mut moves = Vec::new();
    for (rung, before, after) in both {
        moves.extend(verdict_moved(rung, before, after));
        moves.extend(
            FIGURES
                .iter()
                .filter_map(|figure| figure.moved(rung, before, after)),
        );
    }
    moves
}

/// A rung is clean where most of its runs are.
fn verdict_moved(rung: &str, before: &[&Run], after: &[&Run]) -> Option<Move> {
    let clean = |runs: &[&Run]| {
        runs.iter()
            .filter(|run| run.verdict == Verdict::Clean)
            .count()
            * 2
            > runs.len()
    };
    let words = |runs: &[&Run]| {
        let words: Vec<&str> = runs.iter().map(|run| run.verdict.word()).collect();
        words.join(", ")
    };
    (clean(before) != clean(after)).then(|| Move {
        rung: rung.to_owned(),
        what: "verdict".to_owned(),
        before: words(before),
        after: words(after),
        is_worse: clean(before),
        is_single: before.len().min(after.len()) < REPEATS_FOR_A_CLAIM,
    })
}

impl Figure {
    fn moved(&self, rung: &str, before: &[&Run], after: &[&Run]) -> Option<Move> {
        // Those of a run that is not clean tell of its trouble.
        let values = |runs: &[&Run]| -> Vec<f64> {
            let value = |run: &Run| (self.of)(run, run.measured.as_ref()?);
            record::clean(runs).into_iter().filter_map(value).collect()
        };
        let (before, after) = (values(before), values(after));
        if before.is_empty() || after.is_empty() {
            return None;
        }
        let is_single = before.len().min(after.len()) < REPEATS_FOR_A_CLAIM;
        let (was, is) = (median(before.clone()), median(after.clone()));
        let wide = if is_single { SINGLE_FACTOR } else { 1.0 };
        let margin = wide * (self.margin * was).max(self.least);
        let is_apart = is_single || are_apart(&before, &after);
        ((is - was).abs() > margin && is_apart).then(|| Move {
            rung: rung.to_owned(),
            what: self.name.to_owned(),
            before: format!("{was:.1} {}", self.unit),
            after: format!("{is:.1} {}", self.unit),
            is_worse: (is > was) == (self.better == Better::Less),
            is_single,
        })
    }
}

/// Whether all of one are above all of the other.
fn are_apart(a: &[f64], b: &[f64]) -> bool {
    let low = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    low(a) > high(b) || low(b) > high(a)
}

fn page(before: &Report, after: &Report, moves: &[Move]) -> String {
    let mut parts = vec![format!(
        "A: {}\nB: {}\n\n{RULE}",
        before.machine.line(),
        after.machine.line()
    )];
    if !before.machine.is_like(&after.machine) {
        parts.push("**Two machines:** figures show their difference too.".to_owned());
    }
    let (a, b) = (by_rung(before), by_rung(after));
    let both = a.keys().filter(|name| b.contains_key(*name)).count();
    for (is_worse, title) in [(true, "Worse"), (false, "Better")] {
        parts.push(format!("## {title}"));
        let mut table = Table::new(&["rung", "what", "A", "B", "runs"]);
        let mut rows = moves.iter().filter(|it| it.is_worse == is_worse).peekable();
        if rows.peek().is_none() {
            parts.push(format!("Nothing, in {both} rung(s) of both."));
            continue;
        }
        for row in rows {
            let runs = if row.is_single { "single" } else { "repeated" };
            let (before, after) = (row.before.clone(), row.after.clone());
            table.row([
                row.rung.clone(),
                row.what.clone(),
                before,
                after,
                runs.to_owned(),
            ]);
        }
        parts.push(table.markdown());
    }
    for (name, only) in [("A", only_in(&a, &b)), ("B", only_in(&b, &a))] {
        if !only.is_empty() {
            parts.push(format!("Only in {name}: {}", only.join(", ")));
        }
    }
    if before.form != after.form || before.form == Form::Mini {
        parts.push("Short forms show whether it works; their figures are no claims.".to_owned());
    }
    parts.join("\n\n")
}

fn only_in(a: &BTreeMap<String, Vec<&Run>>, b: &BTreeMap<String, Vec<&Run>>) -> Vec<String> {
    a.keys()
        .filter(|name| !b.contains_key(*name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::testbed;
    use super::*;

    /// A climb of one rung whose runs cost so much.
    fn climb(core_us: &[f64]) -> Report {
        let runs = core_us.iter().map(|&us| testbed::run(testbed::rung(), us));
        Report {
            runs: runs.collect(),
            ..testbed::report()
        }
    }

    fn moved(before: &[f64], after: &[f64]) -> Vec<(String, bool, bool)> {
        let moves = moves(&climb(before), &climb(after)).into_iter();
        moves
            .map(|it| (it.what, it.is_worse, it.is_single))
            .collect()
    }

    fn core(is_worse: bool, is_single: bool) -> (String, bool, bool) {
        ("probe core per check".to_owned(), is_worse, is_single)
    }

    #[test]
    fn within_the_margin_nothing_moved_and_beyond_it_something_did() {
        let repeated = |us: f64| [us - 0.1, us, us + 0.1];
        assert!(moved(&repeated(40.0), &repeated(42.0)).is_empty());
        let worse = moved(&repeated(40.0), &repeated(42.1));
        assert_eq!(worse, [core(true, false)]);
        assert!(moved(&repeated(40.0), &repeated(38.0)).is_empty());
        assert_eq!(
            moved(&repeated(40.0), &repeated(37.4))[0],
            core(false, false)
        );
    }

    #[test]
    fn runs_that_overlap_are_noise() {
        assert!(moved(&[38.0, 40.0, 46.0], &[45.0, 45.5, 47.0]).is_empty());
        assert!(!moved(&[38.0, 40.0, 44.9], &[45.0, 45.5, 47.0]).is_empty());
    }

    #[test]
    fn a_single_figure_has_three_times_the_margin() {
        assert!(moved(&[40.0], &[46.0]).is_empty());
        assert_eq!(moved(&[40.0], &[46.1])[0], core(true, true));
        assert!(
            moved(&[40.0, 40.0], &[45.0, 45.0, 45.0]).is_empty(),
            "two are single too"
        );
    }

    #[test]
    fn runs_that_are_not_clean_move_no_figure() {
        let mut after = climb(&[40.0, 40.1, 40.2, 90.0]);
        after.runs[3].verdict = Verdict::Failed;
        assert!(moves(&climb(&[40.0; 3]), &after).is_empty());
        for run in &mut after.runs {
            run.verdict = Verdict::Void;
        }
        let moves = moves(&climb(&[90.0; 3]), &after);
        assert_eq!((moves.len(), moves[0].what.as_str()), (1, "verdict"));
    }

    #[test]
    fn more_checks_and_more_goodput_are_better_and_the_rest_is_worse() {
        let (before, mut after) = (testbed::report(), testbed::report());
        let run = &mut after.runs[1];
        let pressed = run.pressed.as_mut().expect("pressed");
        (pressed.good, pressed.back_s) = (700, 30.0);
        let measured = run.measured.as_mut().expect("measured");
        measured.checks_per_s *= 1.1;
        let moves = moves(&before, &after);
        let found: Vec<_> = moves
            .iter()
            .map(|m| (m.what.as_str(), m.is_worse))
            .collect();
        let wanted = [
            ("checks per second", false),
            ("goodput under pressure", true),
            ("back to normal", true),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_verdict_moves_with_most_of_its_runs() {
        let before = climb(&[40.0; 3]);
        let mut after = climb(&[40.0; 3]);
        after.runs[0].verdict = Verdict::Failed;
        assert!(moves(&before, &after).is_empty());
        after.runs[2].verdict = Verdict::FarmBound;
        let moves = moves(&before, &after);
        assert_eq!((moves.len(), moves[0].is_worse), (1, true));
        assert_eq!(moves[0].after, "FAILED, clean, farm-bound");
    }

    #[test]
    fn the_page_says_the_rule_what_moved_and_what_is_in_one_only() {
        let (before, mut after) = (climb(&[40.0]), climb(&[60.0]));
        after.runs.push(testbed::run(
            super::super::plan::Rung {
                sites: 7_000,
                ..testbed::rung()
            },
            1.0,
        ));
        after.machine.cores = 64;
        let page = page(&before, &after, &moves(&before, &after));
        for part in [
            RULE,
            "## Worse",
            "60.0 µs",
            "single",
            "## Better\n\nNothing, in 1 rung(s)",
            "Only in B: http-sqlite-7k@60",
            "Two machines",
        ] {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
    }

    #[test]
    fn reports_are_read_whole_and_the_gate_fails_on_what_is_worse() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, report: &Report| {
            let file = folder.path().join(name);
            record::write_whole(&file, report).expect("written");
            file
        };
        let (a, b) = (
            file("a.json", &climb(&[40.0])),
            file("b.json", &climb(&[60.0])),
        );
        let compare = |before: &PathBuf, after: &PathBuf, gate| {
            run(&CompareOptions {
                before: before.clone(),
                after: after.clone(),
                gate,
            })
        };
        assert!(compare(&a, &b, false).is_ok() && compare(&b, &a, true).is_ok());
        assert!(compare(&a, &b, true).is_err());
        std::fs::write(&a, "{").expect("cut");
        assert!(compare(&a, &b, false).is_err());
    }
}
