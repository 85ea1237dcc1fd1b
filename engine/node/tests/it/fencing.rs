//! A node whose right to write is taken away on a real server, and given back.

use serde_json::Value;

use crate::mariadb;
use crate::process::{Node, ask, code, import, run, status_until, stderr, stdout, text};
use crate::server::{UNAVAILABLE, serve};

#[test]
fn a_node_that_was_taken_over_stops_loads_again_and_goes_on_with_its_incidents() {
    let server = mariadb::shared();
    let (name, folder) = (
        mariadb::fresh_name(),
        tempfile::tempdir().expect("a folder"),
    );
    server.sql(&format!("CREATE DATABASE {name}"));
    let store = server.address("ringwatch", &name);
    let place = ["--data-dir", text(folder.path()), "--store", &store];
    let migrated = run(&[&["migrate"], &place[..]].concat());
    assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
    let list = folder.path().join("sites.csv");
    std::fs::write(&list, format!("http://{}/\n", serve(UNAVAILABLE))).expect("written");
    let imported = import(&list, folder.path(), &["--store", &store]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    let more = ["--store", &store, "--lease-s", "5", "--node-id", "one"];
    let mut node = Node::loaded(folder.path(), &more);
    let trigger = || ask(folder.path(), r#"{"cmd":"trigger","target":1}"#);
    let down = |status: &Value| status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0;
    let before = status_until(folder.path(), |status| {
        trigger();
        down(status)
    });
    assert_eq!(
        (&before["node_id"], &before["sink"]["lease"]),
        (&"one".into(), &"held".into())
    );
    server.sql(&format!(
        "UPDATE {name}.jetpack_monitor_nodes SET epoch = epoch + 1, lease_until = 0"
    ));
    node.wait_for("another node took over");
    node.wait_for("this node writes again");
    node.wait_for("loaded again");
    let after = status_until(folder.path(), down);
    assert_eq!(
        (&after["state"], &after["sink"]["lease"]),
        (&"running".into(), &"held".into())
    );
    let epoch = |status: &Value| status["sink"]["epoch"].as_u64().expect("a number");
    assert_eq!(epoch(&after), epoch(&before) + 2);
    assert_eq!(after["sink"]["fenced"], 1);
    assert_eq!(after["sink"]["facts_superseded"], 0);
    // It checks again, and its incident is still the one.
    let stepped = |status: &Value| status["fleet"]["stepped"].as_u64().expect("a number");
    status_until(folder.path(), |status| {
        trigger();
        stepped(status) > stepped(&after)
    });
    let listed = server.sql(&format!(
        "SELECT COUNT(*), SUM(ended_at IS NULL) FROM {name}.jetpack_monitor_events"
    ));
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["1", "1"]);
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    // The lease was given back: another node of the same server waits for nothing.
    let other = tempfile::tempdir().expect("a folder");
    let second = Node::loaded(other.path(), &["--store", &store, "--node-id", "two"]);
    drop(second);
    let events = run(&[&["events", "list"], &place[..]].concat());
    assert!(stdout(&events).contains("http"), "{}", stdout(&events));
}
