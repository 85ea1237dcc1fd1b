//! A node that is busy with a long list still answers, and still ends when it is told to.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{
    Node, ask, assert_says, code, import, listed, run, run_command, stderr, text,
};

/// Lines that take a debug build many seconds to import.
const MANY: usize = 400_000;

fn long_list(dir: &Path) -> PathBuf {
    let mut lines = String::new();
    for n in 0..MANY {
        writeln!(lines, "http://127.0.0.1:9/{n},86400").expect("memory");
    }
    let path = dir.join("long.csv");
    fs::write(&path, lines).expect("written");
    path
}

/// Asks everything that a busy node has to answer; leaves it running.
fn ask_everything(data: &Path) {
    assert_eq!(ask(data, r#"{"cmd":"status"}"#)["ok"], true);
    assert_eq!(ask(data, r#"{"cmd":"pause","on":true}"#)["paused"], true);
    assert_eq!(ask(data, r#"{"cmd":"status"}"#)["state"], "paused");
    assert_eq!(ask(data, r#"{"cmd":"pause","on":false}"#)["paused"], false);
    let trigger = ask(data, r#"{"cmd":"trigger","target":"123456789012"}"#);
    assert_eq!(trigger["error"], "no active target has the id 123456789012");
    let reload = run(&["reload", "--data-dir", text(data)]);
    assert_eq!(code(&reload), 1);
    let busy = "the node refused: a list is being imported or loaded: ask again when that is done";
    assert_says(&reload, busy);
}

/// `ringwatch drain` ends the node well before its list is in.
fn drain(node: Node, data: &Path) {
    let drained = run(&["drain", "--data-dir", text(data)]);
    assert_eq!(code(&drained), 0, "{}", stderr(&drained));
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    assert!(
        log.contains("drain: draining") && log.contains("stopped"),
        "{log}"
    );
    let imported = format!("{MANY} rows: ");
    assert!(!log.contains(&imported), "the import came first: {log}");
}

#[test]
fn a_node_that_imports_its_first_list_answers_and_drains() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, list) = (dir.path().join("d"), long_list(dir.path()));
    let mut command = run_command(&data);
    command.args(["--targets", text(&list)]);
    let mut node = Node::start(command);
    node.wait_for("ready");
    assert_eq!(ask(&data, r#"{"cmd":"status"}"#)["state"], "loading");
    ask_everything(&data);
    drain(node, &data);
    // What was imported stays, and importing the list again completes it.
    assert!(listed(&data).lines().count() < MANY);
}

#[test]
fn a_strict_first_import_that_is_cut_short_keeps_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, list) = (dir.path().join("d"), long_list(dir.path()));
    let mut command = run_command(&data);
    command.args(["--targets", text(&list), "--strict"]);
    let mut node = Node::start(command);
    node.wait_for("ready");
    ask_everything(&data);
    drain(node, &data);
    assert_eq!(listed(&data).lines().count(), 0);
}

#[test]
fn a_running_node_that_imports_a_list_answers_and_drains() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, list) = (dir.path().join("d"), long_list(dir.path()));
    let mut node = Node::loaded(&data, &[]);
    let into = data.clone();
    let importing = std::thread::spawn(move || import(&list, &into, &[]));
    node.wait_for("importing");
    ask_everything(&data);
    drain(node, &data);
    let output = importing.join().expect("no panic");
    assert_eq!(code(&output), 1);
    assert_says(&output, "stopping");
}
