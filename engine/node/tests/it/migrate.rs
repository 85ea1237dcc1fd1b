//! `migrate`, `validate` and a node on a real MariaDB, as a person meets them.

use std::process::Output;

use tempfile::TempDir;

use crate::process::{Node, assert_says, code, import, run, run_command, stderr, stdout, text};
use rig::mariadb::{self, Server};

/// Exit code of a store that cannot be used.
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// A new database, and its address.
fn database() -> String {
    let server: &Server = mariadb::shared();
    let name = mariadb::fresh_name();
    server.sql(&format!("CREATE DATABASE {name}"));
    server.address("ringwatch", &name)
}

fn on_store(words: &[&str], store: &str, folder: &TempDir) -> Output {
    let place = ["--data-dir", text(folder.path()), "--store", store];
    run(&[words, &place].concat())
}

#[track_caller]
fn assert_keeps_the_password(output: &Output) {
    let said = format!("{}{}", stdout(output), stderr(output));
    assert!(
        !said.contains("ss@word") && !said.contains("ss%40word"),
        "{said}"
    );
}

#[test]
fn a_server_is_planned_migrated_and_found_good() {
    let (store, folder) = (database(), tempfile::tempdir().expect("a folder"));
    let validated = on_store(&["validate"], &store, &folder);
    assert_eq!(code(&validated), FAILED);
    assert_says(&validated, "run `ringwatch migrate --store URL`");
    let plan = on_store(&["migrate", "--plan"], &store, &folder);
    assert_eq!(code(&plan), 0, "{}", stderr(&plan));
    for part in [
        "has schema version 0",
        "-- file 0006_events.sql",
        "CREATE TABLE IF NOT EXISTS",
    ] {
        assert!(stdout(&plan).contains(part), "{}", stdout(&plan));
    }
    let again = on_store(&["migrate", "--plan"], &store, &folder);
    assert_eq!(stdout(&again), stdout(&plan), "a plan changes nothing");
    let migrated = on_store(&["migrate"], &store, &folder);
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    assert!(stdout(&migrated).contains("is now at schema version"));
    let again = on_store(&["migrate"], &store, &folder);
    assert!(
        stdout(&again).contains("nothing to do"),
        "{}",
        stdout(&again)
    );
    let validated = on_store(&["validate"], &store, &folder);
    assert_eq!(code(&validated), 0, "{}", stderr(&validated));
    for output in [&validated, &plan, &migrated] {
        assert_keeps_the_password(output);
    }
}

#[test]
fn time_indexes_come_when_they_are_asked_for_and_are_no_difference() {
    let (store, folder) = (database(), tempfile::tempdir().expect("a folder"));
    let name = store.rsplit('/').next().expect("a database");
    let indexes = || {
        mariadb::shared().sql(&format!(
            "SELECT column_name FROM information_schema.statistics WHERE table_schema = '{name}' \
             AND table_name = 'jetpack_monitor_site_runtime' ORDER BY column_name"
        ))
    };
    let migrated = on_store(&["migrate"], &store, &folder);
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    assert_eq!(indexes().trim(), "target_id", "never by itself");
    let words = ["migrate", "--with-time-indexes"];
    let plan = on_store(&[&words[..], &["--plan"]].concat(), &store, &folder);
    assert!(stdout(&plan).contains("is up to date"), "{}", stdout(&plan));
    let statement = "ON jetpack_monitor_site_runtime (next_check_at);";
    assert!(stdout(&plan).contains(statement), "{}", stdout(&plan));
    assert_eq!(indexes().trim(), "target_id", "a plan changes nothing");
    for said in [
        "added the optional time indexes: last_checked_at, next_check_at",
        "the optional time indexes are there: nothing to do",
    ] {
        let done = on_store(&words, &store, &folder);
        assert!(stdout(&done).contains(said), "{}", stdout(&done));
    }
    assert_eq!(
        indexes().trim(),
        "last_checked_at\nnext_check_at\ntarget_id"
    );
    let validated = on_store(&["validate"], &store, &folder);
    assert_eq!(code(&validated), 0, "{}", stderr(&validated));
    let migrated = on_store(&["migrate"], &store, &folder);
    assert!(stdout(&migrated).contains("nothing to do"));
    let embedded = format!("sqlite:{}/s.db", folder.path().display());
    let refused = on_store(&words, &embedded, &folder);
    assert_eq!(code(&refused), USAGE);
    assert_says(&refused, "--with-time-indexes is for servers");
}

#[test]
fn an_edited_file_and_a_changed_table_are_refused_with_their_names() {
    let (store, folder) = (database(), tempfile::tempdir().expect("a folder"));
    let migrated = on_store(&["migrate"], &store, &folder);
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    let name = store.rsplit('/').next().expect("a database");
    let server = mariadb::shared();
    server.sql(&format!(
        "ALTER TABLE {name}.jetpack_monitor_jobs DROP COLUMN ukey, DROP COLUMN uactive"
    ));
    let validated = on_store(&["validate"], &store, &folder);
    assert_eq!(code(&validated), FAILED);
    assert_says(&validated, "jetpack_monitor_jobs has no column ukey");
    server.sql(&format!(
        "UPDATE {name}.jetpack_monitor_schema_version SET checksum = 1 WHERE version = 8"
    ));
    for words in [&["migrate"][..], &["migrate", "--plan"], &["validate"]] {
        let refused = on_store(words, &store, &folder);
        assert_eq!(code(&refused), FAILED, "{words:?}");
        assert_says(&refused, "another text of migration 0008_jobs.sql");
    }
}

#[test]
fn an_embedded_store_is_planned_and_migrated_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("s.db");
    let store = format!("sqlite:{}", file.display());
    let plan = on_store(&["migrate", "--plan"], &store, &folder);
    assert_eq!(code(&plan), 0, "{}", stderr(&plan));
    assert!(stdout(&plan).contains("-- file 0001_initial.sql"));
    assert!(!file.exists(), "a plan makes nothing");
    let validated = on_store(&["validate"], &store, &folder);
    assert_eq!(code(&validated), 0, "a store that is not there yet is good");
    let migrated = on_store(&["migrate"], &store, &folder);
    let files = [
        "0001_initial",
        "0002_check_types",
        "0003_fencing",
        "0004_history",
    ];
    let files = files.map(|file| format!("{file}.sql")).join(", ");
    assert!(stdout(&migrated).contains(&files), "{}", stdout(&migrated));
    let again = on_store(&["migrate", "--plan"], &store, &folder);
    assert!(
        stdout(&again).contains("is up to date"),
        "{}",
        stdout(&again)
    );
}

#[test]
fn bad_addresses_are_usage_and_a_node_says_what_its_server_lacks() {
    let (store, folder) = (database(), tempfile::tempdir().expect("a folder"));
    let refused = on_store(&["migrate"], "mysql://u:s3cret@h", &folder);
    assert_eq!(code(&refused), USAGE);
    assert_says(&refused, "names no database");
    assert!(!stderr(&refused).contains("s3cret"));
    let mut command = run_command(folder.path());
    let started = command
        .args(["--store", &store])
        .output()
        .expect("it starts");
    assert_eq!(code(&started), FAILED);
    assert_says(&started, "run `ringwatch migrate --store URL`");
    let wrong = store.replace("pa%3Ass%40word", "wr0ng");
    let started = on_store(&["events", "list"], &wrong, &folder);
    assert_eq!(code(&started), FAILED);
    assert_says(&started, "refused the user or the password");
    assert!(!stderr(&started).contains("wr0ng"));
    let doctor = on_store(&["doctor"], &store, &folder);
    assert!(
        stdout(&doctor).contains("run `ringwatch migrate` once"),
        "{}",
        stdout(&doctor)
    );
}

#[test]
fn a_node_runs_on_a_server_and_a_second_one_hears_that_it_does() {
    let (store, folder) = (database(), tempfile::tempdir().expect("a folder"));
    let migrated = on_store(&["migrate"], &store, &folder);
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    let list = folder.path().join("sites.csv");
    std::fs::write(&list, "http://127.0.0.1:9/\n").expect("written");
    let imported = import(&list, folder.path(), &["--store", &store]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    let node = Node::loaded(
        folder.path(),
        &["--store", &store, "--allow", "127.0.0.0/8"],
    );
    let other = tempfile::tempdir().expect("a folder");
    let mut command = run_command(other.path());
    let second = command
        .args(["--store", &store])
        .output()
        .expect("it starts");
    assert_eq!(code(&second), FAILED);
    assert_says(&second, "belongs to the node");
    assert_says(&second, text(folder.path()));
    assert_keeps_the_password(&second);
    // Where the node keeps its targets is known; the password is not.
    let listed = run(&["targets", "list", "--data-dir", text(folder.path())]);
    assert_eq!(code(&listed), USAGE);
    assert_says(&listed, "its password is masked");
    drop(node);
    let listed = on_store(&["targets", "list"], &store, &folder);
    assert!(
        stdout(&listed).contains("http://127.0.0.1:9/"),
        "{}",
        stdout(&listed)
    );
}
