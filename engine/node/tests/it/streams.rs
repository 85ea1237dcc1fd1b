//! Output that nobody takes: a full disk, a reader that went away. It costs what was to be said and
//! nothing else.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, pipe};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::process::{
    Node, assert_says, code, import_command, listed, ringwatch, run, run_command, status_until,
    stderr, text, wait_for_socket,
};
use crate::server::{OK, serve};
use rig::places::Closed;

/// A disk without room.
fn full() -> Stdio {
    let full = File::options().write(true).open("/dev/full");
    full.expect("Linux has it").into()
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// Writes a list of so many targets that are checked once.
fn list(path: &Path, count: usize) {
    let rows = (0..count).map(|n| format!("http://127.0.0.1:9/{n},86400\n"));
    fs::write(path, rows.collect::<String>()).expect("written");
}

/// `node` follows its list at every SIGHUP and drains, whatever becomes of its log.
fn assert_works(node: Node, data: &Path, targets: &Path) {
    for count in 2..5 {
        list(targets, count);
        node.signal("HUP");
        status_until(data, |status| status["targets"]["active"] == count);
    }
    let drained = run(&["drain", "--data-dir", text(data)]);
    assert_eq!(code(&drained), 0, "{}", stderr(&drained));
    assert_eq!(node.end().0, 0);
}

#[test]
fn a_node_whose_log_cannot_be_written_works_and_drains() {
    for log in [full(), unread()] {
        let dir = tempfile::tempdir().expect("temp dir");
        let (data, targets) = (dir.path().join("d"), dir.path().join("t.csv"));
        list(&targets, 1);
        let mut command = run_command(&data);
        command.args(["--targets", text(&targets)]);
        let node = Node::start_with_log(command, log);
        wait_for_socket(&data);
        status_until(&data, |status| status["state"] == "running");
        assert_works(node, &data, &targets);
    }
}

#[test]
fn a_node_whose_log_is_no_longer_read_works_and_drains() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, targets) = (dir.path().join("d"), dir.path().join("t.csv"));
    list(&targets, 1);
    let mut command = run_command(&data);
    command.args(["--targets", text(&targets)]);
    let (reader, writer) = pipe().expect("a pipe");
    let node = Node::start_with_log(command, writer);
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("loaded")));
    drop(lines);
    assert_works(node, &data, &targets);
}

#[test]
fn a_refusal_that_cannot_be_written_keeps_its_exit_code() {
    for log in [full(), unread()] {
        let mut command = ringwatch();
        let ended = command
            .args(["run", "--config", "/none/c.toml"])
            .stderr(log);
        let ended = ended.status().expect("ringwatch starts");
        assert_eq!(ended.code(), Some(2));
    }
}

/// Runs `command` with its result going `to`.
fn into(to: Stdio, command: &mut Command) -> Output {
    command.stdout(to).output().expect("ringwatch starts")
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code() {
    let dir = tempfile::tempdir().expect("temp dir");
    let bad = dir.path().join("bad.csv");
    fs::write(&bad, "http://a.example/\nnope\n").expect("written");
    let up = format!("http://{}/", serve(OK));
    let closed = Closed::new();
    let down = format!("http://{}/", closed.address());
    let allow = ["--allow", "127.0.0.0/8"];
    for (command, expected) in [
        (&["version"][..], 0),
        (&["check", &up, "--json", allow[0], allow[1]], 0),
        (&["check", &up, &down, allow[0], allow[1]], 1),
        (&["validate", "--targets", text(&bad)], 0),
        (&["validate", "--targets", text(&bad), "--strict"], 2),
    ] {
        let output = into(unread(), ringwatch().args(command));
        let said = stderr(&output);
        assert_eq!(code(&output), expected, "{command:?}: {said}");
        assert_eq!(said.is_empty(), expected < 2, "{command:?}: {said}");
    }
}

#[test]
fn work_is_done_and_told_apart_from_a_result_that_could_not_be_written() {
    let dir = tempfile::tempdir().expect("temp dir");
    let targets = dir.path().join("t.csv");
    list(&targets, 1);
    for (name, to, expected) in [("full", full as fn() -> Stdio, 1), ("unread", unread, 0)] {
        let data = dir.path().join(name);
        let assert_ended = |output: Output| {
            assert_eq!(code(&output), expected, "{}", stderr(&output));
            if expected == 1 {
                let said = "ringwatch: the result cannot be written to where standard output \
                            leads: No space left on device";
                assert_says(&output, said);
            }
        };
        assert_ended(into(to(), &mut import_command(&targets, &data)));
        assert_eq!(listed(&data).lines().count(), 1);
        let mut look = ringwatch();
        assert_ended(into(
            to(),
            look.args(["targets", "list", "--data-dir", text(&data)]),
        ));

        let log = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/golden.hdr");
        let mut report = ringwatch();
        assert_ended(into(
            to(),
            report.args(["report", log, "--out", text(&data)]),
        ));
        for file in ["percentiles.svg", "lag.svg", "report.md"] {
            assert!(data.join(file).exists(), "{file}");
        }

        let node = Node::loaded(&data, &[]);
        for word in ["status", "reload", "drain"] {
            let mut command = ringwatch();
            assert_ended(into(to(), command.args([word, "--data-dir", text(&data)])));
        }
        assert_eq!(node.end().0, 0);
    }
}
