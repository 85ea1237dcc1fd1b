//! `cargo xtask outage`: the store of a real node away for a while, by default shortly.

use anyhow::Result;

use crate::command;
use crate::packages;
use crate::release::{self, Profile};

/// What is measured for the page: five minutes at 5,000 checks a second.
const LONG: [&str; 6] = [
    "--away-s",
    "300",
    "--rate",
    "5000",
    "--journal-files-min",
    "2",
];

/// Builds and runs `ladder outage`; `--long` is the run of the page.
///
/// # Errors
/// When the build fails, or something was lost, doubled or out of order.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    packages::require(packages::DATABASE)?;
    let (long, others): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| **arg == "--long");
    if long.is_empty() {
        let programs = release::build(Profile::Quick)?;
        return command::run(programs.ladder("outage").args(others));
    }
    let programs = release::build(Profile::Release)?;
    let page = command::root().join("docs/benchmarks/outage.md");
    let mut ladder = programs.ladder("outage");
    ladder.args(LONG).arg("--markdown").arg(page);
    command::run(ladder.args(others))
}
