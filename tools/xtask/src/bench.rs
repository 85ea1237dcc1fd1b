//! `cargo xtask bench …`: measurements that are written under `docs/benchmarks`.

use anyhow::{Context, Result};

use crate::command;
use crate::release::{self, Profile};

/// Which measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bench {
    /// CPU per check against the baselines, and allocations per check.
    Probe,
    /// Memory per target and per attempt, idle CPU, lag under load.
    Memory,
    /// Memory per attempt alone.
    Attempts,
}

impl Bench {
    fn subcommand_and_file(self) -> (&'static str, &'static str) {
        match self {
            Self::Probe => ("baseline", "probe"),
            Self::Memory => ("memory", "memory"),
            Self::Attempts => ("memory", "attempts"),
        }
    }
}

/// Package and name of the program that counts allocations on the real reactor.
const ALLOCATIONS: (&str, &str) = ("cores", "allocations");

/// Builds and becomes the ladder's command; returns only when that failed.
pub(crate) fn run(bench: Bench, args: &[&str]) -> Result<()> {
    let programs = release::build(Profile::Release)?;
    let (subcommand, file) = bench.subcommand_and_file();
    let folder = command::root().join("docs/benchmarks");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut ladder = programs.ladder(subcommand);
    ladder
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
    if matches!(bench, Bench::Attempts) {
        ladder.args(["--only", "attempts"]);
    }
    Err(command::become_command(ladder.args(args)))
}
