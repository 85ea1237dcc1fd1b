//! `ladder climb`: the capacity ladder. Rung after rung of growing fleets, each with a farm, a
//! store and a node of its own, each judged by gates; what was found is `report.json`, `report.md`,
//! plots and the node's interval logs.
//!
//! ```text
//! plan ─► rung (limits ─► ceiling ─► measure ─► press ─► faults ─► finding ─► judge) ─► state
//!                                                record ─► flat, page, plots, compare
//! ```

mod ceiling;
pub(crate) mod compare;
mod faults;
mod finding;
mod flat;
mod judge;
mod limits;
mod page;
mod plan;
mod plots;
mod pressing;
mod quota;
mod reading;
mod record;
mod rung;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::clock::{self, Stopwatch};
use crate::machine::Machine;
use plan::{Choice, Form, Rung};
use record::{Cpus, FORMAT, Report, Run, Verdict};
use rung::Place;
use state::State;

/// What the folder of a run begins with.
const RUN: &str = "run-";
/// Where a report has its interval logs.
const LOGS: &str = "hdr";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClimbOptions {
    /// The built `farm`.
    #[arg(long)]
    farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    ringwatch: PathBuf,
    /// Folder for logs, stores, and the state of a climb that goes on.
    #[arg(long, default_value = "target/ladder")]
    out: PathBuf,
    /// Folder for the report, its plots and interval logs; by default in that folder.
    #[arg(long)]
    report: Option<PathBuf>,
    #[command(flatten)]
    short: Short,
    #[command(flatten)]
    choice: Choice,
    /// Runs of each rung; three or more make its figures a claim.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    repeats: u8,
    /// Begin anew, whatever an earlier climb has left.
    #[arg(long)]
    fresh: bool,
    /// Also try rungs above one that was not clean.
    #[arg(long)]
    keep_going: bool,
    /// CPU of the probe core.
    #[arg(long, default_value_t = 1)]
    probe_cpu: usize,
    /// CPU of the farm and of the store's server.
    #[arg(long, default_value_t = 0)]
    farm_cpu: usize,
    /// The command that the report names.
    #[arg(long, hide = true, default_value = "ladder climb")]
    command: String,
}

/// The forms that are not whole.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Short {
    /// Rates of the full ladder with short intervals: five minutes.
    #[arg(long, conflicts_with = "mini")]
    quick: bool,
    /// One small rung, judged by what a busy machine does not change.
    #[arg(long)]
    mini: bool,
}

impl ClimbOptions {
    fn form(&self) -> Form {
        match (self.short.quick, self.short.mini) {
            (true, _) => Form::Quick,
            (_, true) => Form::Mini,
            _ => Form::Full,
        }
    }

    /// Who runs where; the generator has a CPU of its own where there is one.
    fn cpus(&self, cores: usize) -> Result<Cpus> {
        let (probe, farm) = (self.probe_cpu, self.farm_cpu);
        ensure!(
            probe != farm && probe < cores && farm < cores,
            "the farm and the probe core need a CPU each: {farm} and {probe} of {cores}"
        );
        let other = (0..cores).find(|cpu| ![probe, farm].contains(cpu));
        Ok(Cpus {
            probe,
            farm,
            generator: other.unwrap_or(probe),
        })
    }
}

/// Climbs, writes the report and judges.
///
/// # Errors
/// When nothing is chosen, a folder cannot be written, or a rung failed.
pub(crate) async fn run(options: &ClimbOptions) -> Result<()> {
    let machine = Machine::read();
    let form = options.form();
    let rungs = plan::rungs(form, &options.choice);
    ensure!(!rungs.is_empty(), "no rung is left of what is chosen");
    let mut state = State {
        planned: std::iter::repeat_n(&rungs, options.repeats.into())
            .flatten()
            .copied()
            .collect(),
        report: Report {
            format: FORMAT,
            cpus: options.cpus(machine.cores)?,
            machine,
            command: options.command.clone(),
            form,
            repeats: options.repeats.into(),
            runs: Vec::new(),
            left_out: Vec::new(),
            flatness: Vec::new(),
        },
    };
    let folder = made(&options.out.join(state.folder_name()?))?;
    let machine = state.report.machine.line();
    println!("{machine}\nwriting to {}", folder.display());
    if options.fresh {
        state::forget(&folder)?;
    } else if let Some(said) = state.resume(&folder)? {
        println!("ladder: {said}");
    }
    if state.report.runs.is_empty() {
        forget_runs(&folder)?;
    }
    climb(options, &folder, &mut state).await?;
    state.report.flatness = flat::flatness(&state.report.runs);
    let report = match &options.report {
        Some(report) => made(report)?,
        None => made(&folder.join("report"))?,
    };
    conclude(&state.report, &folder, &report)?;
    state::forget(&folder)?;
    let failures = page::failures(&state.report);
    if !failures.is_empty() {
        bail!("the climb is no success: {}", failures.join("; "));
    }
    Ok(())
}

fn made(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let found = folder.canonicalize();
    found.with_context(|| format!("cannot find {}", folder.display()))
}

/// Every planned run that is not there yet.
async fn climb(options: &ClimbOptions, folder: &Path, state: &mut State) -> Result<()> {
    let all = state.planned.len();
    for index in state.next()..all {
        let rung = state.planned[index];
        if let Some(why) = state.blocked(&rung).filter(|_| !options.keep_going) {
            println!("ladder: {}/{all} left out: {why}", index + 1);
            state.report.left_out.push(why);
            continue;
        }
        println!("ladder: {}/{all} {}", index + 1, rung.name());
        let place = Place {
            farm: &options.farm,
            ringwatch: &options.ringwatch,
            cpus: state.report.cpus,
            form: state.report.form,
            folder: fresh(&folder.join(format!("{RUN}{}-{}", index + 1, rung.name())))?,
        };
        let run = attempt(&place, &rung).await;
        println!("ladder: {}/{all} {}", index + 1, page::line(&run));
        state.report.runs.push(run);
        state.keep(folder)?;
        thin_out(&place.folder);
    }
    Ok(())
}

/// Removes the folders of an earlier climb's runs: their logs are none of this one's.
fn forget_runs(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(RUN) {
            let path = entry.path();
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// An empty folder: what an interrupted run left in it would be read as this one's.
fn fresh(folder: &Path) -> Result<PathBuf> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
        }
        _ => {}
    }
    made(folder)
}

/// One run. What breaks off is no measurement, and no reason to end the climb.
async fn attempt(place: &Place<'_>, rung: &Rung) -> Run {
    let (began_unix_ms, watch) = (clock::unix_ms(), Stopwatch::start());
    match rung::run(place, rung).await {
        Ok(run) => run,
        Err(error) => Run {
            rung: *rung,
            began_unix_ms,
            took_s: watch.seconds(),
            verdict: Verdict::Void,
            reasons: vec![format!("broke off: {error:#}")],
            gates: Vec::new(),
            ceiling: None,
            measured: None,
            pressed: None,
        },
    }
}

/// Removes what is large and of no use after a run: stores and lists. Logs stay.
fn thin_out(folder: &Path) {
    // What cannot be removed takes disk, which the next rung asks for before it begins.
    for name in [
        "targets.csv",
        "peers",
        "node/ringwatch.db",
        "node/ringwatch.db-wal",
    ] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    for name in ["mariadb", "node/data/journal"] {
        let _ = std::fs::remove_dir_all(folder.join(name));
    }
}

/// Writes plots, logs, `report.md` and, last, `report.json`: where it is, the others are too, and
/// nothing of an earlier report.
fn conclude(report: &Report, folder: &Path, to: &Path) -> Result<()> {
    clear(to)?;
    let mut plots = Vec::new();
    for (name, svg) in plots::all(&report.runs)? {
        record::write_text(&to.join(&name), &svg)?;
        plots.push(name);
    }
    let logs = copy_logs(folder, to)?;
    let text = page::markdown(report, &plots, &logs);
    record::write_text(&to.join("report.md"), &text)?;
    record::write_whole(&to.join("report.json"), report)?;
    println!("\n{text}\nThis report: {}", to.join("report.md").display());
    Ok(())
}

/// Removes an earlier report, its JSON first: without that the rest is no report. Of plots and
/// logs only what has a name of ours goes; the folder may have more in it.
fn clear(to: &Path) -> Result<()> {
    state::remove(&to.join("report.json"))?;
    state::remove(&to.join("report.md"))?;
    clear_of(to, plots::is_plot)?;
    clear_of(&made(&to.join(LOGS))?, |name| name.starts_with(RUN))
}

/// Removes the files whose names are `ours`.
fn clear_of(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if ours(&entry.file_name().to_string_lossy()) {
            state::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Copies the interval logs of every run to `hdr` and names them.
fn copy_logs(folder: &Path, to: &Path) -> Result<Vec<String>> {
    let to = made(&to.join(LOGS))?;
    let mut names = Vec::new();
    for run in std::fs::read_dir(folder)? {
        let run = run?;
        let Ok(logs) = std::fs::read_dir(run.path().join("node/data/hdr")) else {
            continue;
        };
        for log in logs {
            let log = log?;
            let (of, log_name) = (run.file_name(), log.file_name());
            let name = format!("{}-{}", of.to_string_lossy(), log_name.to_string_lossy());
            std::fs::copy(log.path(), to.join(&name))
                .with_context(|| format!("cannot copy {}", log.path().display()))?;
            names.push(format!("{LOGS}/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::record::testbed;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ClimbOptions,
    }

    fn options(words: &[&str]) -> ClimbOptions {
        let programs = ["climb", "--farm", "/f", "--ringwatch", "/r"];
        let line = Line::try_parse_from(programs.iter().chain(words));
        line.expect("valid flags").options
    }

    #[test]
    fn flags_choose_the_form_and_the_generator_has_a_cpu_of_its_own_where_there_is_one() {
        assert_eq!(options(&[]).form(), Form::Full);
        assert_eq!(options(&["--quick"]).form(), Form::Quick);
        assert_eq!(options(&["--mini"]).form(), Form::Mini);
        let generator = |cores| options(&[]).cpus(cores).map(|cpus| cpus.generator);
        assert_eq!(generator(2).expect("two"), 1);
        assert_eq!(generator(4).expect("four"), 2);
        assert!(generator(1).is_err());
        assert!(options(&["--farm-cpu", "1"]).cpus(2).is_err());
        let chosen = options(&[
            "--fleets",
            "5000@10",
            "--schemes",
            "http",
            "--stores",
            "mysql",
        ]);
        let rungs = plan::rungs(chosen.form(), &chosen.choice);
        assert_eq!(
            rungs.iter().map(Rung::name).collect::<Vec<_>>(),
            ["http-mysql-5k@10"]
        );
    }

    #[test]
    fn a_report_is_there_with_all_that_it_names() {
        let (folder, to) = (
            tempfile::tempdir().expect("one"),
            tempfile::tempdir().expect("two"),
        );
        let hdr = folder.path().join("run-1-x/node/data/hdr");
        std::fs::create_dir_all(&hdr).expect("made");
        std::fs::write(hdr.join("a.hdr"), "log").expect("written");
        let old = ["cpu.svg", "lag-mixed-mysql.svg", "hdr/run-9-x.hdr"];
        std::fs::create_dir(to.path().join("hdr")).expect("made");
        let others = ["logo.svg", "cpu.txt", "hdr/mine.hdr"];
        for name in old.iter().chain(&others) {
            std::fs::write(to.path().join(name), "old").expect("written");
        }
        let report = testbed::report();
        conclude(&report, folder.path(), to.path()).expect("written");
        let found = record::read_report(&to.path().join("report.json")).expect("whole");
        assert_eq!(found, report);
        let page = std::fs::read_to_string(to.path().join("report.md")).expect("a page");
        for name in ["hdr/run-1-x-a.hdr", "cpu.svg", "rate-http-sqlite.svg"] {
            assert!(
                page.contains(name) && to.path().join(name).is_file(),
                "{name}"
            );
        }
        assert!(old[1..].iter().all(|name| !to.path().join(name).exists()));
        assert!(others.iter().all(|name| to.path().join(name).exists()));
    }

    #[test]
    fn what_an_interrupted_run_left_is_gone_and_what_is_large_goes_after_a_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run-1");
        let made = fresh(&run).expect("made");
        std::fs::create_dir_all(made.join("node/data/hdr")).expect("made");
        for name in ["targets.csv", "node/ringwatch.db", "node/ringwatch.log"] {
            std::fs::write(made.join(name), "x").expect("written");
        }
        thin_out(&made);
        assert!(!made.join("targets.csv").exists() && !made.join("node/ringwatch.db").exists());
        assert!(made.join("node/ringwatch.log").exists());
        fresh(&run).expect("emptied");
        assert_eq!(std::fs::read_dir(&run).expect("listed").count(), 0);
        std::fs::write(folder.path().join("state.json"), "x").expect("written");
        forget_runs(folder.path()).expect("removed");
        assert!(!run.exists() && folder.path().join("state.json").exists());
    }
}
