//! `report.md`: a climb for people. Pure: text from what was written down.

use super::flat;
use super::plan::{Form, size};
use super::record::{Latency, Measured, REPEATS_FOR_A_CLAIM, Report, Run, Verdict, clean};
use crate::baseline::median;
use crate::table::{Table, grouped};

/// What holds of every number.
const NOTES: &str = "*Runs*: the median of so many, all clean, or *single* where they are \
    fewer than three: no claim. Where no run was clean the figures are those of what was \
    tried, and say why, not how well. Observer gates leave out a site from its fault's start \
    to its end and two intervals more, by the ground truth. CPU is user and system, by \
    `/proc`; that of the node is of all its threads. *Taken*: CPU time that others had while \
    the probe core wanted it, in the whole window: with much of it a run tells of the machine. \
    *https-full*: every handshake is a full one and its chain is verified every time; \
    *https-resumed*: sessions are resumed, of which a core keeps 100,000, and no certificate \
    is shown, so that none of their faults is replayed.";

/// The whole page; `plots` and `logs` are names of files beside it.
pub(super) fn markdown(report: &Report, plots: &[String], logs: &[String]) -> String {
    let mut parts = vec![
        "# The capacity ladder".to_owned(),
        format!("`{}`", report.command),
        report.machine.line(),
        places(report),
        NOTES.to_owned(),
    ];
    if report.form != Form::Full {
        let short = "A short form: it shows that everything works, and no figure is a claim.";
        parts.push(short.to_owned());
    }
    let rungs = by_rung(&report.runs);
    parts.push("## Rungs".to_owned());
    parts.push(rung_table(&rungs));
    let flat =
        "## Cost per check as the fleet grows\n\nCPU of the probe core, over the clean rungs.";
    parts.extend(section(flat, &flat_table(report)));
    let overload = "## Overload\n\nA row is one run: single.";
    parts.extend(section(overload, &pressed_table(&report.runs)));
    parts.extend(section("## What does not hold", &reasons(&report.runs)));
    let left_out = report.left_out.iter().map(|why| format!("- {why}\n"));
    parts.extend(section("## Left out", &left_out.collect::<String>()));
    parts.extend(section("## Phases", &phase_table(&rungs)));
    parts.extend(section(
        "## Faults\n\nA row is one run: single.",
        &fault_table(&report.runs),
    ));
    let images = plots.iter().map(|name| format!("![{name}]({name})\n"));
    let plots = "## Plots\n\nOf the last run of each rung.";
    parts.extend(section(plots, &images.collect::<String>()));
    let logs = logs.iter().map(|name| format!("- `{name}`\n"));
    parts.extend(section("## Interval logs", &logs.collect::<String>()));
    parts
        .join("\n\n")
        .replace("\n\n\n", "\n\n")
        .trim_end()
        .to_owned()
        + "\n"
}

fn section(title: &str, text: &str) -> Option<String> {
    (!text.is_empty()).then(|| format!("{title}\n\n{text}"))
}

/// Who shared a core with whom.
fn places(report: &Report) -> String {
    let cpus = report.cpus;
    let generator = if cpus.generator == cpus.probe {
        "there, too, before the measured window".to_owned()
    } else {
        format!("on CPU {}", cpus.generator)
    };
    format!(
        "CPU {}: the probe core, pinned, and no other thread of the node; burners of overload \
         rungs. CPU {}: the farm and the store's server, pinned, and with them the rest of the \
         node: sink, control plane, SQLite. The load generator of the preflight runs {generator}. \
         The ladder itself is not pinned.",
        cpus.probe, cpus.farm
    )
}

/// Runs of one rung together, in the order of the climb.
fn by_rung(runs: &[Run]) -> Vec<Vec<&Run>> {
    let mut rungs: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        match rungs.iter_mut().find(|of| of[0].rung == run.rung) {
            Some(of) => of.push(run),
            None => rungs.push(vec![run]),
        }
    }
    rungs
}

fn rung_table(rungs: &[Vec<&Run>]) -> String {
    let mut table = Table::new(&[
        "rung",
        "verdict",
        "checks/s",
        "asked",
        "farm's ceiling/s",
        "core µs",
        "node µs",
        "farm µs",
        "store µs",
        "core busy",
        "farm busy",
        "RSS MiB",
        "lag p99 ms",
        "p99.9 ms",
        "age max s",
        "resumed",
        "taken s",
        "runs",
    ]);
    for runs in rungs {
        table.row(rung_row(runs));
    }
    table.markdown()
}

fn rung_row(all: &[&Run]) -> Vec<String> {
    let clean = clean(all);
    let runs: &[&Run] = if clean.is_empty() { all } else { &clean };
    let of = |figure: &dyn Fn(&Measured) -> Option<f64>| -> Option<f64> {
        let measured = runs.iter().filter_map(|run| run.measured.as_ref());
        let values: Vec<f64> = measured.filter_map(figure).collect();
        (!values.is_empty()).then(|| median(values))
    };
    let tenths = |value: Option<f64>| shown(value, |value| format!("{value:.1}"));
    let whole = |value: Option<f64>| shown(value, |value| grouped(value.round() as u64));
    let percent = |value: Option<f64>| shown(value, |value| format!("{:.0} %", 100.0 * value));
    let ceilings = runs.iter().filter_map(|run| Some(run.ceiling?.limit_per_s));
    let ceilings: Vec<f64> = ceilings.collect();
    let ceiling = (!ceilings.is_empty()).then(|| median(ceilings));
    vec![
        all[0].rung.name(),
        verdicts(all),
        whole(of(&|m| Some(m.checks_per_s))),
        grouped(all[0].rung.rate().round() as u64),
        whole(ceiling),
        tenths(of(&|m| Some(m.cpu.core_us))),
        tenths(of(&|m| Some(m.cpu.node_us))),
        tenths(of(&|m| Some(m.cpu.farm_us))),
        tenths(of(&|m| m.cpu.store_us)),
        percent(of(&|m| Some(m.cpu.core_busy))),
        percent(of(&|m| Some(m.cpu.farm_busy))),
        whole(of(&|m| Some(m.rss_max_bytes as f64 / f64::from(1 << 20)))),
        tenths(of(&|m| Some(m.lag.p99_us as f64 / 1e3))),
        tenths(of(&|m| Some(m.lag.p999_us as f64 / 1e3))),
        tenths(of(&|m| m.observer.age.map(|age| age.max as f64 / 1e3))),
        percent(of(&resumed)),
        tenths(of(&|m| m.taken_ms.map(|ms| ms as f64 / 1e3))),
        repeats(&clean),
    ]
}

/// Nothing where no column has two fleets that were clean.
fn flat_table(report: &Report) -> String {
    let mut table = Table::new(&[
        "rungs",
        "fleets",
        "cheapest µs",
        "dearest µs",
        "apart",
        "flat",
    ]);
    for one in &report.flatness {
        let fleets = one.fleets.iter();
        let fleets = fleets.map(|(sites, us)| format!("{}: {us:.1}", size(*sites)));
        table.row([
            one.name(),
            fleets.collect::<Vec<_>>().join(", "),
            format!("{:.1}", one.min_us),
            format!("{:.1}", one.max_us),
            format!("{:.1} %", 100.0 * (one.max_over_min - 1.0)),
            if one.is_flat() { "yes" } else { "**no**" }.to_owned(),
        ]);
    }
    if report.flatness.is_empty() {
        String::new()
    } else {
        table.markdown()
    }
}

/// Part of the TLS handshakes; `None` without any.
fn resumed(measured: &Measured) -> Option<f64> {
    let all = measured.tls_full + measured.tls_resumed;
    (all > 0).then(|| measured.tls_resumed as f64 / all as f64)
}

fn shown(value: Option<f64>, words: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), words)
}

/// One word where all runs agree, else each.
fn verdicts(runs: &[&Run]) -> String {
    let first = runs[0].verdict;
    if runs.iter().all(|run| run.verdict == first) {
        return first.word().to_owned();
    }
    let words: Vec<&str> = runs.iter().map(|run| run.verdict.word()).collect();
    words.join(", ")
}

fn repeats(runs: &[&Run]) -> String {
    match runs.len() {
        0 => "none clean".to_owned(),
        count if count < REPEATS_FOR_A_CLAIM => "single".to_owned(),
        count => count.to_string(),
    }
}

/// Nothing where nothing was pressed.
fn pressed_table(runs: &[Run]) -> String {
    let head = [
        "rung",
        "verdict",
        "pressed by",
        "factor",
        "core needs",
        "core had",
        "could have had",
        "of use",
        "of what the CPU allows",
        "shed",
        "unknown",
        "sites unseen",
        "false downs",
        "farm busy",
        "farm lag p99 ms",
        "back after s",
    ];
    let mut table = Table::new(&head);
    let mut any = false;
    for (run, pressed) in runs
        .iter()
        .filter_map(|run| Some((run, run.pressed.as_ref()?)))
    {
        any = true;
        let false_downs = run
            .measured
            .as_ref()
            .map_or(0, |measured| measured.false_downs);
        table.row([
            run.rung.name(),
            run.verdict.word().to_owned(),
            pressed.by.clone(),
            format!("{:.1}", pressed.factor),
            format!("{:.0} %", 100.0 * pressed.needed),
            format!("{:.0} %", 100.0 * pressed.had),
            format!("{:.0} %", 100.0 * pressed.could),
            grouped(pressed.good),
            format!("{:.0} %", 100.0 * pressed.goodput()),
            grouped(pressed.shed),
            grouped(pressed.unknown),
            grouped(pressed.sites.never_seen),
            grouped(false_downs),
            format!("{:.0} %", 100.0 * pressed.farm_busy),
            format!("{:.1}", pressed.farm_lag_p99_ms),
            format!("{:.1}", pressed.back_s),
        ]);
    }
    if any { table.markdown() } else { String::new() }
}

/// Gates that do not hold, also those that a short form does not judge.
fn reasons(runs: &[Run]) -> String {
    let mut lines = Vec::new();
    for run in runs {
        let name = run.rung.name();
        let unjudged = |why: &String| !run.reasons.contains(why);
        let word = run.verdict.word();
        lines.extend(
            run.reasons
                .iter()
                .map(|why| format!("- {name} ({word}): {why}\n")),
        );
        let failed = run.gates.iter().filter(|gate| !gate.failures.is_empty());
        let failed = failed.map(|gate| format!("{}: {}", gate.name, gate.failures.join("; ")));
        lines.extend(
            failed
                .filter(unjudged)
                .map(|why| format!("- {name}, not judged: {why}\n")),
        );
    }
    lines.concat()
}

/// Of each rung the run that was last.
fn phase_table(rungs: &[Vec<&Run>]) -> String {
    let head = [
        "rung", "phase", "p50", "p90", "p99", "p99.9", "p99.99", "max", "count",
    ];
    let mut table = Table::new(&head);
    let last = rungs.iter().filter_map(|runs| runs.last());
    let mut any = false;
    for (run, measured) in last.filter_map(|run| Some((run, run.measured.as_ref()?))) {
        for phase in &measured.phases {
            any = true;
            let cells = [vec![run.rung.name()], phase_cells(phase)].concat();
            table.row(cells);
        }
    }
    let note = "Of the last run of each rung, in ms: single.\n\n";
    if any {
        note.to_owned() + &table.markdown()
    } else {
        String::new()
    }
}

fn phase_cells(phase: &Latency) -> Vec<String> {
    let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
    vec![
        phase.phase.clone(),
        ms(phase.p50_us),
        ms(phase.p90_us),
        ms(phase.p99_us),
        ms(phase.p999_us),
        ms(phase.p9999_us),
        ms(phase.max_us),
        grouped(phase.count),
    ]
}

/// How many sites of every fault were found, over all runs.
fn fault_table(runs: &[Run]) -> String {
    let mut table = Table::new(&[
        "rung",
        "sites broken",
        "down",
        "recovered",
        "slowest down s",
    ]);
    let mut any = false;
    for (run, measured) in runs
        .iter()
        .filter_map(|run| Some((run, run.measured.as_ref()?)))
    {
        if measured.faults.is_empty() {
            continue;
        }
        any = true;
        let sum = |of: fn(&crate::findings::KindRow) -> usize| -> String {
            measured.faults.iter().map(of).sum::<usize>().to_string()
        };
        table.row([
            run.rung.name(),
            sum(|kind| kind.sites),
            sum(|kind| kind.confirmed),
            sum(|kind| kind.recovered),
            shown(measured.slowest_down_s(), |s| format!("{s:.1}")),
        ]);
    }
    if any { table.markdown() } else { String::new() }
}

/// One line for whoever waits.
pub(super) fn line(run: &Run) -> String {
    let name = run.rung.name();
    let figures = run.measured.as_ref().map_or_else(String::new, |measured| {
        format!(
            " · {:.0} checks/s · core {:.1} µs, node {:.1} µs a check · lag p99.9 {:.1} ms",
            measured.checks_per_s,
            measured.cpu.core_us,
            measured.cpu.node_us,
            measured.lag.p999_us as f64 / 1e3
        )
    });
    let mut line = format!(
        "{name}: {}{figures} · {:.0} s",
        run.verdict.word(),
        run.took_s
    );
    for why in &run.reasons {
        line.push_str("\n    ");
        line.push_str(why);
    }
    line
}

/// Why a climb is no success: rungs that failed, and checks that cost more with more of them. What
/// the machine or the farm is too small for is none of the monitor's, but in the mini form nothing
/// else is accepted than clean.
pub(super) fn failures(report: &Report) -> Vec<String> {
    let is_bad = |run: &&Run| match run.verdict {
        Verdict::Clean => false,
        Verdict::Failed | Verdict::Void => true,
        Verdict::FarmBound | Verdict::NotBegun => report.form == Form::Mini,
    };
    let bad = report.runs.iter().filter(is_bad);
    bad.map(|run| format!("{} ({})", run.rung.name(), run.verdict.word()))
        .chain(flat::failures(report.form, &report.flatness))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Judged, testbed};
    use super::*;

    fn repeated(core_us: &[f64]) -> Report {
        let runs = core_us.iter().map(|&us| testbed::run(testbed::rung(), us));
        Report {
            runs: runs.collect(),
            ..testbed::report()
        }
    }

    fn row_of(report: &Report) -> String {
        let page = markdown(report, &[], &[]);
        let row = page
            .lines()
            .find(|line| line.starts_with("| http-sqlite-100k@60 "));
        row.expect("a row").to_owned()
    }

    #[test]
    fn a_figure_is_the_median_and_single_below_three_runs() {
        let row = |us: &[f64]| row_of(&repeated(us));
        assert!(
            row(&[30.0, 50.0]).ends_with("single |"),
            "{}",
            row(&[30.0, 50.0])
        );
        let three = row(&[30.0, 60.0, 45.0]);
        assert!(
            three.contains("  45.0 |") && three.trim_end().ends_with("3 |"),
            "{three}"
        );
    }

    #[test]
    fn a_run_that_is_not_clean_moves_no_median() {
        let mut report = repeated(&[40.0, 42.0, 44.0, 90.0, 95.0]);
        for run in &mut report.runs[3..] {
            run.verdict = Verdict::Failed;
        }
        let row = row_of(&report);
        assert!(row.contains(" 42.0 |") && row.ends_with("3 |"), "{row}");
        for run in &mut report.runs {
            run.verdict = Verdict::FarmBound;
        }
        let row = row_of(&report);
        assert!(
            row.contains(" 44.0 |") && row.ends_with("none clean |"),
            "{row}"
        );
    }

    #[test]
    fn the_page_has_machine_places_overload_plots_and_what_was_left_out() {
        let mut report = testbed::report();
        report.runs[0].verdict = Verdict::Failed;
        report.runs[0].reasons = vec!["nothing shed: 3".to_owned()];
        report.runs[0].gates[0].failures = vec!["slow".to_owned()];
        let page = markdown(&report, &["cpu.svg".to_owned()], &["hdr/a.hdr".to_owned()]);
        for part in [
            "2 × A CPU",
            "CPU 1: the probe core, pinned",
            "generator of the preflight runs there",
            "## Overload",
            "2 burners",
            "(FAILED): nothing shed: 3",
            "not judged: never_seen: slow",
            "## Left out\n\n- http-sqlite-1M@60",
            "![cpu.svg](cpu.svg)",
            "- `hdr/a.hdr`",
            "connect",
            "100k: 37.0, 250k: 38.0",
        ] {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
        assert!(!page.contains("\n\n\n") && !page.contains("A short form"));
        let mini = Report {
            form: Form::Mini,
            ..report
        };
        assert!(markdown(&mini, &[], &[]).contains("A short form"));
    }

    #[test]
    fn how_many_handshakes_were_resumed_is_told_where_there_are_any() {
        let plain = testbed::measured(40.0);
        assert_eq!(resumed(&plain), None);
        let tls = Measured {
            tls_full: 1,
            tls_resumed: 3,
            ..plain
        };
        assert_eq!(resumed(&tls), Some(0.75));
    }

    #[test]
    fn a_rung_that_was_not_measured_has_dashes_and_its_reason() {
        let mut report = repeated(&[40.0]);
        report.runs[0] = Run {
            verdict: Verdict::NotBegun,
            reasons: vec!["available memory: 9 MiB needed, 1 MiB here".to_owned()],
            gates: Vec::<Judged>::new(),
            measured: None,
            ceiling: None,
            ..report.runs[0].clone()
        };
        assert!(
            row_of(&report).contains("| not begun |"),
            "{}",
            row_of(&report)
        );
        assert!(markdown(&report, &[], &[]).contains("9 MiB needed"));
        assert!(line(&report.runs[0]).contains("not begun · "));
    }

    #[test]
    fn only_what_is_the_monitors_is_a_failure_but_for_the_mini_form() {
        let failures = |form, verdict| {
            let mut report = repeated(&[40.0]);
            report.form = form;
            report.runs[0].verdict = verdict;
            failures(&report).len()
        };
        for form in [Form::Full, Form::Quick, Form::Mini] {
            assert_eq!(failures(form, Verdict::Clean), 0);
            assert_eq!(failures(form, Verdict::Failed), 1);
            assert_eq!(failures(form, Verdict::Void), 1);
        }
        assert_eq!(failures(Form::Full, Verdict::FarmBound), 0);
        let mut uneven = repeated(&[40.0]);
        uneven.flatness = testbed::report().flatness;
        assert_eq!(super::failures(&uneven), Vec::<String>::new());
        uneven.flatness[0].max_over_min = 1.11;
        assert_eq!(super::failures(&uneven).len(), 1);
        assert_eq!(failures(Form::Mini, Verdict::NotBegun), 1);
    }
}
