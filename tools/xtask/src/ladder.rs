//! `cargo xtask ladder`: the capacity ladder, whole for the report that is checked in, or in a
//! short form that only shows that everything works.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::packages;
use crate::release::{self, Profile};

/// Forms that show no figures: built in half the time, and not written where figures are.
const SHORT: [&str; 2] = ["--quick", MINI];
/// Of these the one without a server.
const MINI: &str = "--mini";
const REPORT: &str = "docs/benchmarks/ladder";

/// Builds and becomes `ladder climb`; returns only when that failed.
///
/// # Errors
/// When a program is missing or the build fails.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    if !args.contains(&MINI) {
        packages::require(packages::DATABASE)?;
    }
    let plan = Plan::of(args);
    let programs = release::build(plan.profile)?;
    let mut ladder = programs.ladder("climb");
    ladder.arg("--command").arg(plan.command);
    if let Some(report) = plan.report {
        ladder.arg("--report").arg(report);
    }
    Err(command::become_command(ladder.args(args)))
}

/// Builds and becomes `ladder compare`; returns only when that failed.
///
/// # Errors
/// When the build fails.
pub(crate) fn compare(args: &[&str]) -> Result<()> {
    let programs = release::build(Profile::Quick)?;
    // In the caller's folder: the reports are named as they are seen from there.
    let mut ladder = Command::new(&programs.ladder);
    Err(command::become_command(ladder.arg("compare").args(args)))
}

/// The smallest climb, as a step among others.
///
/// # Errors
/// When the build fails, or its rung is not clean.
pub(crate) fn check() -> Result<()> {
    let programs = release::build(Profile::Quick)?;
    let mut ladder = programs.ladder("climb");
    command::run(ladder.args([MINI, "--fresh", "--command", "cargo xtask ladder --mini"]))
}

/// How a climb is made.
#[derive(Debug, PartialEq)]
struct Plan {
    profile: Profile,
    /// As its report names it.
    command: String,
    /// Where that is, if not in the folder of the climb.
    report: Option<PathBuf>,
}

impl Plan {
    fn of(args: &[&str]) -> Self {
        let is_short = args.iter().any(|arg| SHORT.contains(arg));
        let is_named = args.iter().any(|arg| arg.starts_with("--report"));
        let words = ["cargo", "xtask", "ladder"].iter().chain(args);
        Self {
            profile: if is_short {
                Profile::Quick
            } else {
                Profile::Release
            },
            command: words.copied().collect::<Vec<_>>().join(" "),
            report: (!is_short && !is_named).then(|| command::root().join(REPORT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_climb_takes_the_place_of_figures() {
        let whole = Plan::of(&["--repeats", "3"]);
        assert_eq!(whole.profile, Profile::Release);
        assert_eq!(whole.command, "cargo xtask ladder --repeats 3");
        assert!(whole.report.is_some_and(|report| report.ends_with(REPORT)));
        for short in SHORT {
            let plan = Plan::of(&[short]);
            assert_eq!((plan.profile, plan.report), (Profile::Quick, None));
        }
        assert_eq!(Plan::of(&["--report", "/tmp/x"]).report, None);
    }
}
