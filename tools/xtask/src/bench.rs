//! `cargo xtask bench …`: measurements that are written under `docs/benchmarks`.

use anyhow::{Context, Result};

use crate::release::{self, Profile};
use crate::{command, packages};

/// Which measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bench {
    /// CPU per check against the baselines, and allocations per check.
    Probe,
    /// Memory per target, CPU and start of an idle node.
    Idle,
    /// Memory per attempt in flight.
    Attempts,
    /// Schedule lag under load.
    Lag,
    /// What the stores take, and whether probes notice them in trouble.
    Store,
    /// What a healthy fleet asks of a server.
    Statements,
    /// How soon one change among many targets is in effect.
    Changes,
    /// Checks a minute of one verifier.
    Verifier,
    /// Connections a second that the farm serves.
    Farm,
}

impl Bench {
    /// What the ladder is asked for.
    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Probe => &["baseline"],
            Self::Idle => &["memory", "--part", "idle"],
            Self::Attempts => &["memory", "--part", "attempts"],
            Self::Lag => &["memory", "--part", "lag"],
            Self::Store => &["store"],
            Self::Statements => &["statements"],
            Self::Changes => &["changes"],
            Self::Verifier => &["verifier"],
            Self::Farm => &["ceiling"],
        }
    }

    /// Those that run a server have a trial, too.
    fn needs_database(self) -> bool {
        matches!(self, Self::Store | Self::Statements | Self::Changes)
    }

    /// The name of its report.
    fn file(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Idle => "idle",
            Self::Attempts => "attempts",
            Self::Lag => "lag",
            Self::Store => "store",
            Self::Statements => "statements",
            Self::Changes => "changes",
            Self::Verifier => "verifier",
            Self::Farm => "farm",
        }
    }
}

/// Package and name of the program that counts allocations on the real reactor.
const ALLOCATIONS: (&str, &str) = ("cores", "allocations");

/// Package and name of the program that measures rows of either store.
const ROWS: (&str, &str) = ("store", "freshness_rate");
/// A small run that shows that everything works, and no figures: built in half the time.
const QUICK: &str = "--quick";

/// Builds and becomes the ladder's command; returns only when that failed.
pub(crate) fn run(bench: Bench, args: &[&str]) -> Result<()> {
    let quick = bench.needs_database() && args.contains(&QUICK);
    let profile = if quick {
        Profile::Quick
    } else {
        Profile::Release
    };
    let programs = release::build(profile)?;
    let file = bench.file();
    // What is no figure does not take the place of one.
    let folder = if quick {
        release::target_folder()?.join("bench")
    } else {
        command::root().join("docs/benchmarks")
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let (subcommand, more) = bench.command().split_first().expect("none is empty");
    let mut ladder = programs.ladder(subcommand);
    ladder
        .args(more)
        .arg("--json")
        .arg(folder.join(format!("{file}.json")));
    ladder
        .arg("--markdown")
        .arg(folder.join(format!("{file}.md")));
    if matches!(bench, Bench::Probe) {
        let (package, name) = ALLOCATIONS;
        let program = release::build_example(package, name, profile)?;
        ladder.arg("--allocations").arg(program);
    }
    if bench.needs_database() {
        packages::require(packages::DATABASE)?;
    }
    if matches!(bench, Bench::Store) {
        let (package, name) = ROWS;
        let rows = release::build_example(package, name, profile)?;
        ladder.arg("--rows-program").arg(rows);
        let replay = release::build_unit_tests("persist", profile)?;
        ladder.arg("--replay-program").arg(replay);
    }
    Err(command::become_command(ladder.args(args)))
}
