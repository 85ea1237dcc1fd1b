//! What is wrong is said in one clear sentence, with what to do.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::process::{
    Node, assert_says, code, import, import_command, listed, ringwatch, run, run_command, stderr,
    stdout, text,
};

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
    let strict = import(&list, &data, &["--strict"]);
    assert_eq!(code(&strict), 2);
    assert_says(
        &strict,
        "t.csv:3: interval_s: found \"5\", accepted is 10 to 86400",
    );
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_says(
        &output,
        "t.csv:3: interval_s: found \"5\", accepted is 10 to 86400",
    );
    assert_eq!(
        stdout(&output),
        "2 rows: 1 inserted, 0 updated, 0 unchanged, 1 refused\n"
    );
    let target = listed(&data);
    assert_eq!(target.lines().count(), 1);
    assert!(target.contains("\"url\":\"http://a.example/\""));
}

#[test]
fn a_list_of_all_kinds_is_imported_and_foreign_fields_are_refused_by_line() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    let lines = "url,method,send,expect\nhttp://a.example/,HEAD,,\n\
        tcp://a.example:25,,EHLO x\\r\\n,250\ntls://a.example,,,\n\
        tls://b.example,GET,,\nhttp://b.example/,,,250\ntcp://b.example,,,\n\
        dns://a.example?type=MX,,,10 M.example.\ndns://a.example?type=MX,,,m.example\n\
        dns://192.0.2.1,,,\n";
    fs::write(&list, lines).expect("written");
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("9 rows: 4 inserted, 0 updated, 0 unchanged, 5 refused"));
    for sentence in [
        "t.csv:5: method: found \"GET\", accepted is nothing with a URL of tls://",
        "t.csv:6: expect: found \"250\", accepted is nothing with a URL of http://",
        "t.csv:7: url: found \"tcp://b.example\", accepted is tcp://host:port",
        "t.csv:9: expect: found \"m.example\", accepted is values of type MX such as 10 mail.",
        "t.csv:10: url: found \"dns://192.0.2.1\", accepted is dns://name?type=A, with a name",
    ] {
        assert_says(&output, sentence);
    }
    let targets = listed(&data);
    assert_eq!(targets.lines().count(), 4);
    assert!(
        targets.contains(r#""expect":["10 m.example"]"#),
        "{targets}"
    );
    assert!(targets.contains(r#""send":"EHLO x\\r\\n""#), "{targets}");
    let again = import(&list, &data, &[]);
    assert!(stdout(&again).starts_with("9 rows: 0 inserted, 0 updated, 4 unchanged, 5 refused"));
}

#[test]
fn strict_refuses_what_only_the_store_can_see_and_imports_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    fs::write(&list, "http://a.example/,60\nhttp://a.example/,30\n").expect("written");
    let strict = || import(&list, &data, &["--strict"]);
    let validate = ["validate", "--targets", text(&list), "--strict"];
    let mut start = run_command(&data);
    start.args(["--targets", text(&list), "--strict"]);
    let started = start.output().expect("ringwatch starts");
    for output in [&started, &strict()] {
        assert_eq!(code(output), 2, "{}", stderr(output));
        let line = "t.csv:2: name: found \"\", accepted is one row per URL, method and name";
        assert_says(output, line);
    }
    let looked = run(&validate);
    assert_eq!(code(&looked), 2);
    assert!(
        stdout(&looked).contains("t.csv:2: name: found"),
        "{}",
        stdout(&looked)
    );
    let listed = || listed(&data).lines().count();
    assert_eq!(listed(), 0);
    let node = Node::loaded(&data, &[]);
    assert_eq!(code(&strict()), 2);
    assert_eq!(listed(), 0);
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("2 rows: 1 inserted, 0 updated, 0 unchanged, 1 refused"));
    assert_eq!(listed(), 1);
    drop(node);
}

#[test]
fn two_rows_with_one_id_are_told_to_take_another_id() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    fs::write(&list, "id,url\n1,http://a.example/\n1,http://b.example/\n").expect("written");
    let said = "t.csv:3: id: found \"1\", accepted is an id used once";
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0);
    assert_says(&output, said);
    let looked = run(&["validate", "--targets", text(&list)]);
    assert!(stdout(&looked).contains(said), "{}", stdout(&looked));
}

#[test]
fn a_list_with_another_separator_or_encoding_leaves_the_store_as_it_is() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    fs::write(&list, "http://z.example/\n").expect("written");
    assert_eq!(code(&import(&list, &data, &[])), 0);
    let lines = "url;interval_s\nhttp://a.example/;60\n";
    let utf_16: Vec<u8> = "\u{feff}url\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (bytes, said) in [
        (
            lines.as_bytes(),
            "t.csv:1: separator: found ';', accepted is ','",
        ),
        (&utf_16[..], "t.csv:1: found UTF-16 text, accepted is UTF-8"),
    ] {
        fs::write(&list, bytes).expect("written");
        let output = import(&list, &data, &[]);
        assert_eq!(code(&output), 2, "{}", stdout(&output));
        assert_says(&output, said);
    }
    assert_eq!(listed(&data).lines().count(), 1);
}

#[test]
fn a_file_that_is_no_interval_log_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("sites.csv");
    fs::write(&file, "http://a.example/\n".repeat(5_000)).expect("written");
    let output = run(&["report", text(&file)]);
    assert_eq!(code(&output), 2);
    let expected = format!(
        "ringwatch: {} is not an interval log: name the data directory of a node, its hdr \
         directory, or one log\n",
        file.display()
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_list_that_does_not_exist_is_bad_input() {
    let dir = tempfile::tempdir().expect("temp dir");
    let missing = dir.path().join("none.csv");
    let output = import(&missing, dir.path(), &[]);
    assert_eq!(code(&output), 2);
    assert_says(&output, "none.csv cannot be read");
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
fn a_store_in_use_by_a_node_of_another_data_directory_is_one_sentence_with_the_pid() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let (store, list) = (dir.path().join("s.db"), dir.path().join("t.csv"));
    fs::write(&list, "http://a.example/\n").expect("written");
    let url = format!("sqlite:{}", store.display());
    let node = Node::loaded(&one, &["--store", &url]);
    let refused = format!(
        "ringwatch: the store {} is in use by another ringwatch (pid {}, data directory {}): ",
        store.display(),
        node.pid(),
        one.display()
    );
    let mut second = run_command(&two);
    let second = second.args(["--store", &url]);
    let mut import = import_command(&list, &two);
    for command in [second, import.args(["--store", &url])] {
        let output = command.output().expect("ringwatch starts");
        assert_eq!(code(&output), 1);
        let said = stderr(&output);
        assert!(said.starts_with(&refused), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    node.kill();
    // The lock dies with its holder; the facts of the store are there for the next one.
    Node::loaded(&two, &["--store", &url]);
}

#[test]
fn a_store_in_a_directory_that_does_not_exist_is_refused_and_makes_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, list) = (dir.path().join("d"), dir.path().join("t.csv"));
    fs::write(&list, "http://a.example/\n").expect("written");
    let nope = dir.path().join("nope");
    let url = format!("sqlite:{}", nope.join("dir/x.db").display());
    let mut start = run_command(&data);
    let mut import = import_command(&list, &data);
    for command in [&mut start, &mut import] {
        let output = command.args(["--store", &url]).output();
        let output = output.expect("ringwatch starts");
        assert_eq!(code(&output), 2);
        let expected = format!(
            "ringwatch: there is no directory {} for the store: create it, or name another path \
             with --store sqlite:PATH\n",
            nope.join("dir").display()
        );
        assert_eq!(stderr(&output), expected);
        assert!(!nope.exists());
    }
    // Below the data directory everything is ours.
    let url = format!("sqlite:{}", data.join("deep/x.db").display());
    let imported = import_command(&list, &data)
        .args(["--store", &url])
        .output();
    let imported = imported.expect("ringwatch starts");
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    assert!(data.join("deep/x.db").exists());
}

#[test]
fn an_import_without_a_node_goes_into_the_store_of_the_last_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (data, elsewhere) = (dir.path().join("d"), dir.path().join("x.db"));
    let url = format!("sqlite:{}", elsewhere.display());
    let node = Node::loaded(&data, &["--store", &url]);
    node.signal("INT");
    assert_eq!(node.end().0, 0);
    let list = dir.path().join("t.csv");
    fs::write(&list, "https://a.example/\n").expect("written");
    assert_eq!(code(&import(&list, &data, &[])), 0);
    assert!(listed(&data).contains("https://a.example/"));
    assert!(!data.join("ringwatch.db").exists(), "one store, not two");
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temp dir");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = dir.path().join("d");
    let output = run(&["run", "--data-dir", text(&data), "--admin", &address]);
    assert_eq!(code(&output), 1);
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
    assert_causes(&stderr(&output), "os error", 1);
}

/// One line, in which `cause` stands so many times.
#[track_caller]
fn assert_causes(said: &str, cause: &str, times: usize) {
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(said.matches(cause).count(), times, "{said}");
}

#[test]
fn a_cause_is_said_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let refused = |command: &mut Command| {
        let output = command.output().expect("ringwatch starts");
        assert_ne!(code(&output), 0);
        stderr(&output)
    };
    let data = dir.path().join("d");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("journal"), "a file where a directory should be").expect("written");
    let said = refused(&mut run_command(&data));
    assert!(said.starts_with("ringwatch: journal "), "{said}");
    assert_causes(&said, "os error", 1);
    let pem = dir.path().join("ca.pem");
    fs::write(&pem, "-----BEGIN CERTIFICATE-----\nAAAA\n").expect("written");
    let check = ["check", "https://127.0.0.1:9/", "--ca-file", text(&pem)];
    let said = refused(ringwatch().args(check));
    assert!(
        said.contains("the CA bundle does not parse as PEM; give a file"),
        "{said}"
    );
    assert_causes(&said, "section", 1);
    let missing = text(dir.path()).to_owned() + "/none";
    for arguments in [
        ["run", "--config", &missing],
        ["report", &missing, "--out=."],
        ["validate", "--targets", &missing],
    ] {
        let said = refused(ringwatch().args(arguments));
        assert!(said.matches("os error").count() <= 1, "{said}");
    }
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
    let output = run(&["run", "--data-dir", data, "--store", "mysql://u:s3cret@h"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("u:***@h") && !stderr(&output).contains("s3cret"));
}

#[test]
fn a_node_is_found_by_the_configuration_that_names_its_directory() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (file, data) = (dir.path().join("c.toml"), dir.path().join("d"));
    fs::write(&file, format!("data_dir = '{}'\n", data.display())).expect("written");
    let node = Node::loaded(&data, &[]);
    for command in ["status", "reload", "drain"] {
        let output = run(&[command, "--config", text(&file)]);
        assert_eq!(code(&output), 0, "{command}: {}", stderr(&output));
    }
    assert_eq!(node.end().0, 0);
}

#[test]
fn looking_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let names = |dir: &std::path::Path| -> Vec<_> {
        let entries = fs::read_dir(dir).expect("a directory");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect()
    };
    let look = |commands: &[&[&str]]| {
        for command in commands {
            run(&[command, &["--data-dir", text(&data)][..]].concat());
        }
    };
    let all: [&[&str]; 3] = [&["doctor"], &["events", "list"], &["targets", "list"]];
    look(&all);
    assert!(!data.exists());
    fs::create_dir(&data).expect("made");
    look(&all);
    assert_eq!(names(&data).len(), 0, "{:?}", names(&data));
    let list = dir.path().join("t.csv");
    fs::write(&list, "http://a.example/\n").expect("written");
    import(&list, &data, &[]);
    let bytes = || {
        ["ringwatch.lock", "ringwatch.db"].map(|name| fs::read(data.join(name)).expect("a file"))
    };
    let (before, files) = (bytes(), names(&data).len());
    look(&all);
    assert!(
        before == bytes() && names(&data).len() == files,
        "{:?}",
        names(&data)
    );
}

#[test]
fn a_question_to_no_node_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().expect("temp dir");
    for command in ["status", "drain", "reload"] {
        let output = run(&[command, "--data-dir", text(dir.path())]);
        assert_eq!(code(&output), 1, "{command}");
        assert_says(&output, "no node answers at ");
    }
    let output = run(&["events", "list", "--data-dir", text(dir.path())]);
    assert_eq!(code(&output), 1);
    assert_says(&output, "there is no store at ");
}
