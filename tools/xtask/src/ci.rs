//! `cargo xtask ci`: everything that must hold before a change lands, cheapest first.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{clock, command, demo, instructions, ladder, outage, packages, scenarios, test, tidy};

type Step = (&'static str, fn() -> Result<Done>);

/// How a step ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Passed,
    /// This machine cannot make it: it says nothing of the change.
    LeftOut,
}

impl From<()> for Done {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

const STEPS: &[Step] = &[
    ("fmt", || fmt().map(Done::from)),
    ("tidy", || tidy::run().map(Done::from)),
    ("clippy", || clippy().map(Done::from)),
    ("doc", || doc().map(Done::from)),
    ("deny", deny),
    ("test", || test::run(&[]).map(Done::from)),
    ("demo", || demo::check(&[]).map(Done::from)),
    ("instructions", instructions::check),
    ("demo epoll", || {
        demo::check(&["--without-io-uring"]).map(Done::from)
    }),
    ("outage", || outage::run(&[]).map(Done::from)),
    ("scenarios", || scenarios::run(&[]).map(Done::from)),
    ("ladder", || ladder::check().map(Done::from)),
];

/// Runs every step, also after one failed, and prints what took how long.
///
/// # Errors
/// When a step failed; the message names all that did.
pub(crate) fn run() -> Result<()> {
    packages::require(packages::BUILD)?;
    let mut report = Vec::new();
    for &(name, step) in STEPS {
        let (result, took) = clock::timed(step);
        if let Err(error) = &result {
            eprintln!("xtask: {name}: {error:#}");
        }
        report.push((name, result.ok(), took));
    }
    eprint!("{}", table(&report));
    // Once more at the end: a run that left tests out must not look like one that did not.
    if let Some(left_out) = packages::left_out() {
        eprintln!("xtask: {left_out}");
    }
    let failed: Vec<&str> = report
        .iter()
        .filter(|(_, done, _)| done.is_none())
        .map(|(name, ..)| *name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn fmt() -> Result<()> {
    command::run(&mut command::cargo(&["fmt", "--all", "--check"]))?;
    let manifest = "--manifest-path=tools/fuzz/Cargo.toml";
    command::run(&mut command::cargo(&["fmt", manifest, "--check"]))
}

fn clippy() -> Result<()> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    command::run(&mut command::cargo(&args))
}

fn doc() -> Result<()> {
    let mut command = command::cargo(&["doc", "--workspace", "--no-deps"]);
    command::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// `tidy` holds licences and duplicates by itself; cargo-deny adds bans and sources where it is.
fn deny() -> Result<Done> {
    let installed = Command::new("cargo-deny").arg("--version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("xtask: cargo-deny is not installed: skipped (tidy holds licences and versions)");
        return Ok(Done::LeftOut);
    }
    command::run(&mut command::cargo(&[
        "deny", "check", "bans", "licenses", "sources",
    ]))
    .map(Done::from)
}

fn table(report: &[(&str, Option<Done>, Duration)]) -> String {
    let mut lines = vec![String::new(), "step          result   seconds".to_owned()];
    for (name, done, took) in report {
        let word = match done {
            Some(Done::Passed) => "ok",
            Some(Done::LeftOut) => "left out",
            None => "FAILED",
        };
        lines.push(format!("{name:<14}{word:<8}{:>8.1}", took.as_secs_f64()));
    }
    let total: Duration = report.iter().map(|(.., took)| *took).sum();
    lines.push(format!("{:<22}{:>8.1}\n", "all", total.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_failed_and_sums_the_time() {
        let second = Duration::from_secs(1);
        let text = table(&[
            ("fmt", Some(Done::Passed), second),
            ("clippy", None, second * 2),
            ("instructions", Some(Done::LeftOut), Duration::ZERO),
        ]);
        assert!(text.contains("instructions  left out     0.0"), "{text}");
        assert!(text.contains("fmt           ok           1.0"), "{text}");
        assert!(text.contains("clippy        FAILED       2.0"), "{text}");
        assert!(text.ends_with("all                        3.0\n"), "{text}");
    }
}
