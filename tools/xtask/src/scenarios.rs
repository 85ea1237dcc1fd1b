//! `cargo xtask scenarios`: every fault that a site can have, against a real node; by default at a
//! short interval, `--long` for the page.

use anyhow::Result;

use crate::command;
use crate::release::{self, Profile};

/// What the page shows: checks every minute, with the default deadline.
const LONG: [&str; 4] = ["--interval-s", "60", "--timeout-ms", "10000"];

/// Builds and runs `ladder scenarios`.
///
/// # Errors
/// When the build fails, a fault was not found as it must, or a healthy site was called down.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (long, others): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| **arg == "--long");
    // What is right or wrong here does not depend on how fast the programs are.
    let programs = release::build(Profile::Quick)?;
    let mut ladder = programs.ladder("scenarios");
    if !long.is_empty() {
        let folder = command::root().join("docs/benchmarks");
        ladder.args(LONG);
        ladder.arg("--markdown").arg(folder.join("accuracy.md"));
        ladder.arg("--json").arg(folder.join("accuracy.json"));
    }
    command::run(ladder.args(others))
}
