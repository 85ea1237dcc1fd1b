//! A list that does not come: a pipe whose other end is silent.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Node, ask, code, run, run_command, status_until, stderr, text};

/// A named pipe in `dir`.
fn pipe(dir: &Path) -> PathBuf {
    let path = dir.join("pipe.csv");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo starts").success());
    path
}

/// The other end of `pipe`, as soon as somebody reads it.
fn other_end(pipe: &Path) -> File {
    File::options().write(true).open(pipe).expect("a pipe")
}

#[test]
fn a_node_whose_first_list_does_not_come_answers_and_ends_at_ctrl_c() {
    for more in [&[][..], &["--strict"]] {
        for opened in [false, true] {
            let dir = tempfile::tempdir().expect("temp dir");
            let (data, list) = (dir.path().join("d"), pipe(dir.path()));
            let mut command = run_command(&data);
            command.args(["--targets", text(&list)]).args(more);
            let mut node = Node::start(command);
            node.wait_for("ready");
            let silent = opened.then(|| other_end(&list));
            let status = ask(&data, r#"{"cmd":"status"}"#);
            assert_eq!(status["state"], "loading");
            node.signal("INT");
            let (exit, log) = node.end();
            assert_eq!(exit, 0, "{log}");
            assert!(log.contains("SIGINT: draining"), "{log}");
            drop(silent);
        }
    }
}

#[test]
fn a_node_that_waits_for_a_list_at_a_reload_goes_on_and_takes_it_when_it_comes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, list) = (dir.path().join("d"), pipe(dir.path()));
    let config = dir.path().join("c.toml");
    fs::write(&config, "").expect("written");
    let node = Node::loaded(&data, &["--config", text(&config)]);
    fs::write(&config, format!("targets = '{}'\n", list.display())).expect("written");
    node.signal("HUP");
    let mut end = other_end(&list);
    writeln!(end, "http://127.0.0.1:9/,86400").expect("it is read");
    assert_eq!(ask(&data, r#"{"cmd":"status"}"#)["state"], "running");
    assert_eq!(ask(&data, r#"{"cmd":"reload"}"#)["busy"], true);
    drop(end);
    status_until(&data, |status| status["targets"]["active"] == 1);
    node.signal("HUP");
    let end = other_end(&list);
    let drained = run(&["drain", "--data-dir", text(&data)]);
    assert_eq!(code(&drained), 0, "{}", stderr(&drained));
    assert_eq!(node.end().0, 0);
    drop(end);
}

#[test]
fn a_ca_file_may_be_a_pipe_since_it_is_read_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, ca_file) = (dir.path().join("d"), pipe(dir.path()));
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("a certificate");
    let mut command = run_command(&data);
    command.args(["--ca-file", text(&ca_file)]);
    let mut node = Node::start(command);
    let mut end = other_end(&ca_file);
    end.write_all(ca.cert.pem().as_bytes()).expect("it is read");
    drop(end);
    node.wait_for("loaded");
}
