//! `cargo xtask test`: every test of the workspace, after making sure that what they need is here.

use std::ffi::OsString;
use std::thread;

use anyhow::Result;

use crate::{command, packages};

/// Packages whose tests run the programs of other packages, and those; with the whole workspace
/// they are built anyway.
const RUNS_OTHERS: &[(&str, &[&str])] = &[("ladder", &["-p", "farm", "-p", "node"])];

/// Says how many tests run at a time.
const THREADS: &str = "RUST_TEST_THREADS";
/// Most tests wait, for processes and for time limits: on two CPUs those of the node took 277 s
/// with two threads and 126 s with six, and 55 s of CPU.
const THREADS_EACH_CPU: usize = 3;

/// Runs `cargo test ARGS`, of the whole workspace unless ARGS choose packages.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let needs = [
        packages::BUILD,
        packages::TEST,
        packages::DATABASE,
        packages::NETWORK,
    ]
    .concat();
    packages::require(&needs)?;
    if let Some(left_out) = packages::left_out() {
        eprintln!("xtask: {left_out}");
    }
    for programs in programs(args) {
        let profile = own(args).find(|arg| *arg == "--release");
        command::run(command::cargo(&["build"]).args(programs).args(profile))?;
    }
    command::run(
        command::cargo(&["test", "--no-fail-fast"])
            .args(scope(args))
            .args(args)
            .env(THREADS, threads(std::env::var_os(THREADS))),
    )
}

/// As many as are asked for.
fn threads(asked: Option<OsString>) -> OsString {
    asked.unwrap_or_else(|| {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        (cpus * THREADS_EACH_CPU).to_string().into()
    })
}

fn scope(args: &[&str]) -> &'static [&'static str] {
    let chosen =
        |arg: &str| arg.starts_with("-p") || arg.starts_with("--package") || arg == "--workspace";
    if own(args).any(chosen) {
        &[]
    } else {
        &["--workspace"]
    }
}

/// Those that are cargo's, not the tests'.
fn own<'a>(args: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    args.iter().copied().take_while(|arg| *arg != "--")
}

/// What must be built before the tests of the packages that ARGS choose.
fn programs(args: &[&str]) -> Vec<&'static [&'static str]> {
    let words: Vec<&str> = own(args).collect();
    let chooses = |name: &str| {
        let beside = [["-p", name], ["--package", name]];
        let joined = [
            format!("-p{name}"),
            format!("-p={name}"),
            format!("--package={name}"),
        ];
        words
            .windows(2)
            .any(|pair| beside.iter().any(|it| pair == it))
            || words.iter().any(|word| joined.iter().any(|it| word == it))
    };
    let needed = RUNS_OTHERS.iter().filter(|(name, _)| chooses(name));
    needed.map(|(_, programs)| *programs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tests_run_than_there_are_cpus_unless_a_number_is_asked_for() {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(threads(None), OsString::from((3 * cpus).to_string()));
        assert_eq!(threads(Some("1".into())), OsString::from("1"));
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_packages_are_chosen() {
        assert_eq!(scope(&[]), ["--workspace"]);
        assert_eq!(scope(&["wheel", "--", "-p"]), ["--workspace"]);
        assert!(scope(&["-p", "model"]).is_empty());
        assert!(scope(&["--package=model"]).is_empty());
    }

    #[test]
    fn programs_that_tests_run_are_built_before_them() {
        for args in [
            &["-p", "model", "-p", "ladder"][..],
            &["--package", "ladder"],
            &["-pladder", "a_row"],
            &["--package=ladder"],
        ] {
            assert_eq!(programs(args), [["-p", "farm", "-p", "node"]], "{args:?}");
        }
        for args in [&["ladder"][..], &["-p", "model", "--", "-p", "ladder"], &[]] {
            assert!(programs(args).is_empty(), "{args:?}");
        }
    }
}
