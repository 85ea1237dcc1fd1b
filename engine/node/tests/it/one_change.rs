//! What one changed target among many costs a server, by its own counters.

use std::fmt::Write;
use std::fs;

use crate::process::{Node, code, import, run, stderr, text};
use rig::mariadb::{self, Server};

const TARGETS: u64 = 3_000;
/// Rows that the server looked at, whole tables included.
const ROWS_READ: &str = "SELECT CAST(SUM(VARIABLE_VALUE) AS UNSIGNED) \
    FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME LIKE 'Handler_read%'";

fn rows_read(server: &Server) -> u64 {
    server.sql(ROWS_READ).trim().parse().expect("a number")
}

/// Lesson: with addresses that have no caps, each import of one row read every target, to see
/// whether the local ports suffice.
#[test]
fn one_imported_row_has_a_server_read_few_rows_among_thousands() {
    let server = Server::start(&[]);
    let (name, folder) = (
        mariadb::fresh_name(),
        tempfile::tempdir().expect("a folder"),
    );
    server.sql(&format!("CREATE DATABASE {name}"));
    let store = server.address("ringwatch", &name);
    let place = ["--data-dir", text(folder.path()), "--store", &store];
    let migrated = run(&[&["migrate"][..], &place].concat());
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    let list = folder.path().join("sites.csv");
    let imported = |ids: std::ops::Range<u64>| {
        let mut rows = "url,interval_s\n".to_owned();
        for id in ids {
            writeln!(rows, "http://127.0.0.1:9/{id},86400").expect("a String takes all");
        }
        fs::write(&list, rows).expect("written");
        let imported = import(&list, folder.path(), &["--store", &store]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    };
    imported(0..TARGETS);
    let networks = ["--allow", "127.0.0.0/8", "--uncapped", "127.0.0.0/8"];
    let _node = Node::loaded(folder.path(), &[&place[2..], &networks].concat());
    // Whatever the node asks in between is counted, too: the least is the count's own.
    let counted = || {
        let first = rows_read(&server);
        rows_read(&server).saturating_sub(first)
    };
    let of_counting = [(); 3].map(|()| counted()).into_iter().min();
    let read_for = |id: u64| {
        let before = rows_read(&server);
        imported(id..id + 1);
        let read = rows_read(&server).saturating_sub(before);
        read.saturating_sub(of_counting.unwrap_or(0))
    };
    // What the node asks meanwhile may fall into one of them.
    let read = [0, 1, 2].map(|more| read_for(TARGETS + more));
    let least = read.into_iter().min().unwrap_or(u64::MAX);
    assert!(least < 500, "{read:?} rows were read for one of {TARGETS}");
    assert!(read[0] < TARGETS, "the first: {read:?}");
}
