//! `cargo xtask scale`: ten million targets on one simulated core, in virtual time, written under
//! `docs/benchmarks`. The test suite does the same with a quarter of a million each time.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::fuzz::page::grouped;
use crate::release::{self, Profile};
use crate::{command, packages};

/// Package and name of the program.
const PROGRAM: (&str, &str) = ("cores", "scale");
const TARGETS: &str = "10000000";
/// As seldom as one core can check so many: 17,100 checks a second, and as many questions to the
/// DNS in the first cadence.
const INTERVAL_S: &str = "600";
const CADENCES: &str = "3";
/// Heap of a core per target, its name and addresses and the spare room of its tables included.
const BYTES_PER_TARGET_MAX: u64 = 250;
/// Where the figures are, below the workspace's root, without their ends.
const REPORT: &str = "docs/benchmarks/scale";

/// Runs the program with `targets` and, when they are as many as in the page, writes it.
///
/// # Errors
/// When a target is late, forgotten or checked twice, when the account does not balance, when
/// targets take more memory than they may, or when the page cannot be written.
pub(crate) fn run(targets: Option<&str>) -> Result<()> {
    let targets = targets.unwrap_or(TARGETS);
    if !targets.parse::<u32>().is_ok_and(|count| count > 0) {
        bail!("{targets}: accepted is a number of targets, {TARGETS} if there is none");
    }
    packages::require(packages::BUILD)?;
    let (package, name) = PROGRAM;
    let program = release::build_example(package, name, Profile::Quick)?;
    let text = command::output(Command::new(program).args([targets, INTERVAL_S, CADENCES]))?;
    let found: Value = serde_json::from_str(&text).context("the program wrote no JSON")?;
    print!("{text}");
    judge(&found)?;
    if targets != TARGETS {
        println!("not written: the page is about {TARGETS} targets");
        return Ok(());
    }
    for (end, text) in [("json", text), ("md", page(&found)?)] {
        let file = command::root().join(format!("{REPORT}.{end}"));
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("written: {}", file.display());
    }
    Ok(())
}

/// A whole number of the report.
fn number(found: &Value, name: &str) -> Result<u64> {
    let number = found[name].as_u64();
    number.with_context(|| format!("the report has no {name}"))
}

/// What the program does not judge by itself.
fn judge(found: &Value) -> Result<()> {
    let of = |name| number(found, name);
    let (targets, due) = (of("targets")?, of("due")?);
    ensure!(
        due == targets * of("cadences")?,
        "{due} checks were due: {found}"
    );
    for lost in ["shed", "stale", "cancelled"] {
        ensure!(of(lost)? == 0, "{lost} is not 0: {found}");
    }
    let bytes = of("heap_bytes")? / targets;
    ensure!(
        bytes <= BYTES_PER_TARGET_MAX,
        "{bytes} B of heap per target, {BYTES_PER_TARGET_MAX} may be: {found}"
    );
    Ok(())
}

fn page(found: &Value) -> Result<String> {
    let of = |name| number(found, name);
    let grouped = |name| of(name).map(grouped);
    Ok(format!(
        "# Ten million targets on one core, simulated\n\n`cargo xtask scale`\n\n\
         {} targets every {} s on one core in virtual time, in a world where every name \
         resolves and every site answers at once. After a first cadence, in which every name is \
         asked for, {} more:\n\n\
         - {} checks came due, each target's once per cadence, on its phase, at most {} ms late by \
         the simulator's clock: a wrong slot of the wheel would show as a check that is late, \
         double or missing, and any of them ends the run.\n\
         - The account balances at every look: {} probed, {} pending and {} in flight at the end; \
         none shed, stale or cancelled.\n\
         - {} questions to the DNS, all of them in the first cadence.\n\
         - {} B of heap per target, by a counting allocator: its slot and its place in the wheel, \
         its name in the resolver with what is cached, its address among the caps, and the spare \
         room of tables that double when they grow ({:.2} GB in all, {:.2} GB resident). The sink \
         and the list of who has which slot come on top: [idle](idle.md) has the whole node.\n\n\
         It says nothing about time: how many checks a core does in a second is measured against \
         the farm.\n",
        grouped("targets")?,
        of("interval_s")?,
        of("cadences")?,
        grouped("due")?,
        of("late_max_ms")?,
        grouped("probed")?,
        of("pending")?,
        of("in_flight")?,
        grouped("queries")?,
        of("heap_bytes")? / of("targets")?,
        of("heap_bytes")? as f64 / 1e9,
        of("rss_bytes")? as f64 / 1e9,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(due: u64, shed: u64, heap_bytes: u64) -> Value {
        serde_json::json!({
            "targets": 100, "interval_s": 600, "cadences": 3, "due": due, "probed": due,
            "shed": shed, "stale": 0, "cancelled": 0, "pending": 0, "in_flight": 0,
            "late_max_ms": 5, "queries": 100, "heap_bytes": heap_bytes, "rss_bytes": heap_bytes,
        })
    }

    #[test]
    fn a_report_that_lost_a_check_or_takes_too_much_is_refused() {
        judge(&report(300, 0, 20_000)).expect("well");
        for bad in [
            report(299, 0, 20_000),
            report(300, 1, 20_000),
            report(300, 0, 30_000),
        ] {
            assert!(judge(&bad).is_err(), "{bad}");
        }
        let mut lacks = report(300, 0, 20_000);
        lacks.as_object_mut().expect("an object").remove("stale");
        let error = judge(&lacks).expect_err("stale is missing").to_string();
        assert!(error.contains("stale"), "{error}");
    }

    #[test]
    fn the_page_is_that_of_the_figures_and_they_are_good() {
        let [json, markdown] = ["json", "md"].map(|end| {
            let file = command::root().join(format!("{REPORT}.{end}"));
            std::fs::read_to_string(file).expect("checked in")
        });
        let found = serde_json::from_str(&json).expect("JSON");
        judge(&found).expect("good");
        assert_eq!(markdown, page(&found).expect("whole"));
    }
}
