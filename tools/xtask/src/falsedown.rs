//! `cargo xtask falsedown`: our own trouble beside sites that are well, and the reverse; by default
//! shortly, `--long` for the page. The run gets a network of its own where that is allowed, so that
//! it may take away a route; elsewhere that trouble has to be left out with `--troubles`.

use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::packages;
use crate::release::{self, Profile};

/// What the page shows: more sites, longer troubles, a quarter of an hour of each failing fleet.
const LONG: [&str; 6] = ["--sites", "18000", "--factor", "3", "--true-down-s", "900"];

/// Builds and runs `ladder falsedown`.
///
/// # Errors
/// When the build fails, a site that is well was called down, one that fails was not found in time,
/// or the farm was not well.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    packages::require(packages::DATABASE)?;
    let (long, others): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| **arg == "--long");
    let programs = release::build(Profile::Quick)?;
    let mut ladder = programs.ladder("falsedown");
    if !long.is_empty() {
        let folder = command::root().join("docs/benchmarks");
        ladder.args(LONG);
        ladder.arg("--markdown").arg(folder.join("falsedown.md"));
        ladder.arg("--json").arg(folder.join("falsedown.json"));
    }
    ladder.args(others);
    command::run(&mut in_own_network(ladder))
}

/// The same command in a new network, where the kernel gives one.
fn in_own_network(mut command: Command) -> Command {
    let Some(flags) = FLAGS.into_iter().find(|flags| is_given(flags)) else {
        // The ladder says what cannot be run without one.
        return command;
    };
    command.arg("--own-network");
    let mut unshare = Command::new("unshare");
    unshare.args(flags).arg(command.get_program());
    unshare.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        unshare.current_dir(folder);
    }
    unshare
}

/// For root, and for others where they may have a user namespace.
const FLAGS: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];

fn is_given(flags: &[&str]) -> bool {
    let mut trial = Command::new("unshare");
    trial.args(flags).args(["ip", "link", "set", "lo", "up"]);
    trial.output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_kept_and_says_when_it_has_its_own_network() {
        let mut ladder = Command::new("ladder");
        ladder.arg("falsedown");
        let run = in_own_network(ladder);
        let args: Vec<_> = run.get_args().map(|arg| arg.to_string_lossy()).collect();
        let is_own = run.get_program() == "unshare";
        assert_eq!(args.iter().any(|arg| arg == "--own-network"), is_own);
        assert!(args.iter().any(|arg| arg == "falsedown"), "{args:?}");
    }
}
