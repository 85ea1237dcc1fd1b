//! What is wrong is said in one clear sentence, with what to do.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::process::{Node, code, ringwatch, run, run_command, stderr, stdout};

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

#[test]
fn a_bad_config_key_suggests_the_nearest_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("ringwatch.toml");
    fs::write(&file, "admin = '127.0.0.1:0'\ndrains = 3\n").expect("written");
    for command in ["run", "validate", "doctor"] {
        let output = run(&[command, "--config", text(&file)]);
        assert_eq!(code(&output), 2, "{command}");
        let expected = "ringwatch.toml:2: unknown key `drains`; did you mean `drain_s`?\n";
        assert!(stderr(&output).ends_with(expected), "{}", stderr(&output));
    }
}

#[test]
fn validate_prints_the_effective_configuration_with_its_sources() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (file, list) = (dir.path().join("c.toml"), dir.path().join("t.csv"));
    fs::write(&file, "drain_s = 7\n").expect("written");
    fs::write(&list, "http://a.example/,10\nhttp://b.example/\nnope\n").expect("written");
    let output = ringwatch()
        .args([
            "validate",
            "--config",
            text(&file),
            "--targets",
            text(&list),
            "--confirm-after",
            "2",
        ])
        .env("RINGWATCH_ALLOW", "10.0.0.0/8")
        .output()
        .expect("ringwatch starts");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = stdout(&output).replace(text(dir.path()), "DIR");
    // The width of a line hangs on the length of the temporary path.
    let narrow = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = shown.lines().map(|line| narrow(line) + "\n").collect();
    insta::assert_snapshot!(shown);
    let strict = run(&["validate", "--targets", text(&list), "--strict"]);
    assert_eq!(code(&strict), 2);
}

#[test]
fn bad_lines_are_told_the_rest_is_imported_and_strict_refuses() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    fs::write(
        &list,
        "url,interval_s\nhttp://a.example/,60\nhttp://b.example/,5\n",
    )
    .expect("written");
    let import = |more: &[&str]| {
        let args = ["targets", "import", text(&list), "--data-dir", text(&data)];
        run(&[&args[..], more].concat())
    };
    let strict = import(&["--strict"]);
    assert_eq!(code(&strict), 2);
    assert!(stderr(&strict).contains("t.csv:3: interval_s: found \"5\", accepted is 10 to 86400"));
    let output = import(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("t.csv:3: interval_s: found \"5\", accepted is 10 to 86400"));
    assert_eq!(
        stdout(&output),
        "2 rows: 1 inserted, 0 updated, 0 unchanged, 1 refused\n"
    );
    let listed = run(&["targets", "list", "--json", "--data-dir", text(&data)]);
    assert_eq!(stdout(&listed).lines().count(), 1);
    assert!(stdout(&listed).contains("\"url\":\"http://a.example/\""));
}

#[test]
fn a_list_that_does_not_exist_is_bad_input() {
    let dir = tempfile::tempdir().expect("temp dir");
    let missing = dir.path().join("none.csv");
    let output = run(&[
        "targets",
        "import",
        text(&missing),
        "--data-dir",
        text(dir.path()),
    ]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("none.csv cannot be read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_second_start_is_one_sentence_with_the_pid() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = Node::loaded(dir.path(), &[]);
    let output = run_command(dir.path()).output().expect("ringwatch starts");
    assert_eq!(code(&output), 1);
    let pid = node.pid();
    let expected = format!(
        "ringwatch: the data directory {} is in use by another ringwatch (pid {pid}): stop that \
         one first, or give this one its own --data-dir\n",
        dir.path().display()
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = dir.path().join("d");
    let output = run(&["run", "--data-dir", text(&data), "--admin", &address]);
    assert_eq!(code(&output), 2);
    let expected = format!("ringwatch: the admin address {address} is in use by another program: ");
    assert!(
        stderr(&output).starts_with(&expected),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_data_directory_that_cannot_be_written_is_one_sentence() {
    // Also root cannot make files in sysfs.
    let output = run(&["run", "--data-dir", "/sys/kernel", "--admin", "127.0.0.1:0"]);
    assert_eq!(code(&output), 1);
    let expected = "ringwatch: the data directory /sys/kernel is not writable: make it writable";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
}

#[test]
fn a_corrupt_store_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = dir.path().join("broken.db");
    fs::write(&store, b"SQLite format 3\0 and then nonsense".repeat(100)).expect("written");
    let mut command = run_command(&dir.path().join("d"));
    command.args(["--store", &format!("sqlite:{}", store.display())]);
    let output = command.output().expect("ringwatch starts");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with(&format!("ringwatch: the store {} is ", store.display())),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn too_few_open_files_say_the_number_needed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let binary = env!("CARGO_BIN_EXE_ringwatch");
    let script = format!(
        "ulimit -n 150 && exec {binary} run --data-dir {} --admin 127.0.0.1:0 --dns 127.0.0.1:9",
        dir.path().display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("sh starts");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("ringwatch: nofile is 150, too low for the plan: "),
        "{said}"
    );
    assert!(said.contains("`ulimit -n "), "{said}");
}

#[test]
fn a_mysql_store_is_refused_without_its_password() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = text(dir.path());
    let output = run(&["run", "--data-dir", data, "--store", "mysql://u:s3cret@h/d"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("u:***@h") && !stderr(&output).contains("s3cret"));
}

#[test]
fn a_question_to_no_node_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().expect("temp dir");
    for command in ["status", "drain", "reload"] {
        let output = run(&[command, "--data-dir", text(dir.path())]);
        assert_eq!(code(&output), 1, "{command}");
        assert!(
            stderr(&output).contains("no node answers at "),
            "{}",
            stderr(&output)
        );
    }
    let output = run(&["events", "list", "--data-dir", text(dir.path())]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("there is no store at "),
        "{}",
        stderr(&output)
    );
}
