//! `cargo xtask bench …`: measurements that are written under `docs/benchmarks`.

use anyhow::{Context, Result};

use crate::command;
use crate::release::{self, Profile};

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
}

impl Bench {
    /// What the ladder is asked for.
    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Probe => &["baseline"],
            Self::Idle => &["memory", "--part", "idle"],
            Self::Attempts => &["memory", "--part", "attempts"],
            Self::Lag => &["memory", "--part", "lag"],
        }
    }

    /// The name of its report.
    fn file(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Idle => "idle",
            Self::Attempts => "attempts",
            Self::Lag => "lag",
        }
    }
}

/// Package and name of the program that counts allocations on the real reactor.
const ALLOCATIONS: (&str, &str) = ("cores", "allocations");

/// Builds and becomes the ladder's command; returns only when that failed.
pub(crate) fn run(bench: Bench, args: &[&str]) -> Result<()> {
    let programs = release::build(Profile::Release)?;
    let file = bench.file();
    let folder = command::root().join("docs/benchmarks");
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
        let program = release::build_example(package, name)?;
        ladder.arg("--allocations").arg(program);
    }
    Err(command::become_command(ladder.args(args)))
}
