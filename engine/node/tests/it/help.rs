//! Help texts, versions, and what happens to words that are none.

use crate::process::{code, run, stderr, stdout};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["check"],
    &["verifier"],
    &["targets"],
    &["targets", "import"],
    &["targets", "list"],
    &["targets", "show"],
    &["targets", "check"],
    &["targets", "pause"],
    &["targets", "resume"],
    &["events"],
    &["events", "list"],
    &["events", "show"],
    &["events", "follow"],
    &["events", "close"],
    &["maintenance"],
    &["maintenance", "add"],
    &["maintenance", "list"],
    &["maintenance", "remove"],
    &["status"],
    &["drain"],
    &["reload"],
    &["report"],
    &["doctor"],
    &["migrate"],
    &["validate"],
    &["version"],
];

#[test]
fn every_help_has_an_example() {
    for command in COMMANDS {
        let output = run(&[command, &["--help"][..]].concat());
        assert_eq!(code(&output), 0, "{command:?}");
        assert!(
            stdout(&output).contains("Example: ringwatch"),
            "{command:?}"
        );
    }
}

#[test]
fn the_help_of_ringwatch_is_pinned() {
    insta::assert_snapshot!(stdout(&run(&["--help"])));
}

#[test]
fn the_version_is_printed() {
    let version = format!("ringwatch {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&run(&["version"])), version);
    assert_eq!(stdout(&run(&["--version"])), version);
}

#[test]
fn an_unknown_flag_or_command_suggests_the_nearest() {
    let output = run(&["run", "--drain-ss", "3"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--drain-s"), "{}", stderr(&output));
    let output = run(&["chek", "http://a.example/"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("'check'"), "{}", stderr(&output));
}
