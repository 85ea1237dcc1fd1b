//! A node whose right to write is taken away on a real server, and given back.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{
    Node, ask, code, comes, import, run, run_command, status_until, stderr, stdout, text,
};
use crate::server::{OK, UNAVAILABLE, serve};
use rig::mariadb;

/// A migrated database on the shared server, with one failing target.
struct Shared {
    name: String,
    store: String,
}

impl Shared {
    fn new() -> Self {
        let (server, name) = (mariadb::shared(), mariadb::fresh_name());
        server.sql(&format!("CREATE DATABASE {name}"));
        let store = server.address("ringwatch", &name);
        let folder = tempfile::tempdir().expect("a folder");
        let place = ["--data-dir", text(folder.path()), "--store", &store];
        let migrated = run(&[&["migrate"], &place[..]].concat());
        assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
        let list = folder.path().join("sites.csv");
        let line = format!("http://{}/,86400\n", serve(UNAVAILABLE));
        std::fs::write(&list, line).expect("written");
        let imported = import(&list, folder.path(), &["--store", &store]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
        Self { name, store }
    }

    /// Adds a site that is well, by the list of somebody else.
    fn import_one(&self, folder: &Path) {
        let list = folder.join("more.csv");
        let line = format!("http://{}/,86400\n", serve(OK));
        std::fs::write(&list, line).expect("written");
        let imported = import(&list, folder, &["--store", &self.store]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    }

    fn flags<'a>(&'a self, node: &'a str) -> [&'a str; 6] {
        ["--store", &self.store, "--lease-s", "5", "--node-id", node]
    }

    fn command(&self, node: &str, data_dir: &Path) -> Command {
        let mut command = run_command(data_dir);
        command.args(self.flags(node));
        command
    }

    /// The answer of a query of our tables, which are called `{…}` in it.
    fn sql(&self, query: &str) -> String {
        let query = query.replace('{', "jetpack_monitor_").replace('}', "");
        mariadb::shared().sql(&format!("USE {}; {query}", self.name))
    }

    /// Everything that a node may write, but for its lease.
    fn written(&self) -> String {
        self.sql(
            "SELECT (SELECT COUNT(*) FROM {events}), (SELECT SUM(fail_count) FROM {events}), \
             (SELECT COUNT(*) FROM {event_transitions}), (SELECT COUNT(*) FROM {jobs}), \
             (SELECT GROUP_CONCAT(journal_id, journal_seq ORDER BY journal_id) FROM {journals})",
        )
    }
}

#[test]
fn of_two_nodes_that_start_at_once_one_works_and_the_other_is_refused() {
    let shared = Shared::new();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let start = |at: usize| {
        let name = ["one", "two"][at];
        Node::start(shared.command(name, folders[at].path()))
    };
    let mut nodes = [start(0), start(1)];
    assert!(
        comes(|| nodes.iter_mut().any(Node::has_ended)),
        "one is refused"
    );
    let [first, second] = nodes;
    let (mut winner, loser, name) = {
        let mut first = first;
        if first.has_ended() {
            (second, first, "two")
        } else {
            (first, second, "one")
        }
    };
    winner.wait_for("loaded");
    let (exit, log) = loser.end();
    assert_ne!(exit, 0, "{log}");
    let refused = format!("belongs to the node \"{name}\"");
    assert!(
        log.contains(&refused) && log.contains("stop that one first"),
        "{log}"
    );
    assert_eq!(
        shared.sql("SELECT COUNT(DISTINCT node_id) FROM {shards}"),
        "1"
    );
    winner.signal("TERM");
    let (exit, log) = winner.end();
    assert_eq!(exit, 0, "{log}");
}

#[test]
fn a_node_that_stood_still_and_was_taken_over_writes_nothing_until_the_other_one_goes() {
    let shared = Shared::new();
    let [mine, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let mut first = Node::start(shared.command("one", mine.path()));
    first.wait_for("loaded");
    let down = |status: &Value| status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0;
    let trigger = |at: &Path| ask(at, r#"{"cmd":"trigger","target":1}"#);
    let before = status_until(mine.path(), |status| {
        trigger(mine.path());
        down(status)
    });
    let held = shared
        .command("two", other.path())
        .output()
        .expect("starts");
    assert_ne!(code(&held), 0);
    assert!(
        stderr(&held).contains("belongs to the node \"one\""),
        "{}",
        stderr(&held)
    );
    // It stands still until its lease is over, and then another one has its shards.
    first.signal("STOP");
    let lease = "SELECT MAX(lease_until) > UNIX_TIMESTAMP(NOW(3)) * 1000 FROM {nodes}";
    assert!(comes(|| shared.sql(lease) == "0"), "the lease runs out");
    // It may stand in the middle of a transaction: the server ends that later, and whoever starts
    // does not wait so long for its row.
    let transactions = "SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN \
        information_schema.PROCESSLIST ON ID = trx_mysql_thread_id WHERE DB = DATABASE()";
    assert!(
        comes(|| shared.sql(transactions) == "0"),
        "nobody holds its row"
    );
    let mut second = Node::start(shared.command("two", other.path()));
    second.wait_for("loaded");
    let stepped = |status: &Value| status["fleet"]["stepped"].as_u64();
    trigger(other.path());
    let taken = status_until(other.path(), |status| {
        stepped(status) > Some(0) && down(status)
    });
    assert_eq!(taken["sink"]["lease"], "held");
    let written = shared.written();
    first.signal("CONT");
    first.wait_for("another node took over");
    let fenced = status_until(mine.path(), |status| status["state"] == "fenced");
    assert_eq!(fenced["sink"]["lease"], "fenced");
    // It is asked to check, and does not; the other one is alone.
    trigger(mine.path());
    assert_eq!(shared.written(), written);
    second.signal("TERM");
    let (exit, log) = second.end();
    assert_eq!(exit, 0, "{log}");
    first.wait_for("this node writes again");
    first.wait_for("loaded again");
    let after = status_until(mine.path(), down);
    let epoch = |status: &Value| status["sink"]["epoch"].as_u64();
    assert!(epoch(&after) > epoch(&before), "{after}");
    status_until(mine.path(), |status| {
        trigger(mine.path());
        stepped(status) > stepped(&after)
    });
    let events = shared.sql("SELECT COUNT(*), SUM(ended_at IS NULL) FROM {events}");
    assert_eq!(events, "1\t1", "its incident is still the one");
    first.signal("TERM");
    let (exit, log) = first.end();
    assert_eq!(exit, 0, "{log}");
}

/// Lesson: a row that somebody broke by hand kept its place at a takeover. It was checked on, and
/// every result was thrown away.
#[test]
fn a_row_that_went_bad_is_checked_no_more_after_a_takeover_until_it_is_good_again() {
    let shared = Shared::new();
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(shared.command("one", folder.path()));
    node.wait_for("loaded");
    let trigger = || ask(folder.path(), r#"{"cmd":"trigger","target":1}"#);
    let down = |status: &Value| status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0;
    status_until(folder.path(), |status| {
        trigger();
        down(status)
    });
    // By hand: no change number, so that only a load sees it.
    let url = shared.sql("SELECT monitor_url FROM {check_targets}");
    shared.sql("UPDATE {check_targets} SET monitor_url = 'gopher://x/'");
    shared.sql("UPDATE {nodes} SET epoch = epoch + 1, lease_until = 0");
    node.wait_for("another node took over");
    let line = node.wait_for("loaded again");
    assert!(line.contains("targets=0"), "{line}");
    assert_eq!(trigger()["ok"], false, "nobody checks it");
    let open = "SELECT COUNT(*), SUM(ended_at IS NULL) FROM {events}";
    assert_eq!(shared.sql(open), "1\t1", "nobody knows that it ended");
    shared.sql(&format!(
        "UPDATE {{counters}} SET value = value + 1 WHERE name = 'change'; UPDATE {{check_targets}} \
         SET monitor_url = '{url}', change_number = \
         (SELECT value FROM {{counters}} WHERE name = 'change')"
    ));
    let before = status_until(folder.path(), |status| status["targets"]["active"] == 1);
    let stepped = |status: &Value| status["fleet"]["stepped"].as_u64();
    status_until(folder.path(), |status| {
        trigger();
        stepped(status) > stepped(&before) && down(status)
    });
    assert_eq!(shared.sql(open), "1\t1", "its incident is still the one");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}

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

#[test]
fn a_node_whose_store_lost_acknowledged_facts_gives_it_the_same_ones_again() {
    let shared = Shared::new();
    let folder = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(shared.command("one", folder.path()));
    node.wait_for("loaded");
    let down = |status: &Value| status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0;
    status_until(folder.path(), |status| {
        ask(folder.path(), r#"{"cmd":"trigger","target":1}"#);
        down(status)
    });
    let facts = || {
        shared.sql(
            "SELECT (SELECT GROUP_CONCAT(id ORDER BY id) FROM {events}), \
             (SELECT GROUP_CONCAT(id ORDER BY id) FROM {event_transitions}), \
             (SELECT GROUP_CONCAT(id ORDER BY id) FROM {jobs})",
        )
    };
    let before = facts();
    assert!(!before.contains("NULL"), "{before}");
    // As a replica that took over before any of it had come.
    shared.sql(
        "START TRANSACTION; DELETE FROM {jobs}; DELETE FROM {event_transitions}; \
         DELETE FROM {events}; UPDATE {journals} SET journal_seq = 0; COMMIT",
    );
    // Nobody asks for a check: it finds out by itself.
    node.wait_for("the store lost facts that it had");
    node.wait_for("this node writes again");
    node.wait_for("loaded again");
    let after = status_until(folder.path(), |status| {
        down(status) && status["sink"]["lease"] == "held"
    });
    let sink = &after["sink"];
    assert_eq!(
        (&sink["store_set_back"], &sink["batches_missing"]),
        (&1.into(), &0.into()),
        "{after}"
    );
    assert_eq!(facts(), before);
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}

/// Lesson: a node that had followed more changes than its store has left asked for later ones
/// only, and went on to check what the store did not have any more.
#[test]
fn a_node_whose_store_lost_targets_checks_them_no_more_and_follows_what_comes() {
    let shared = Shared::new();
    let [folder, elsewhere] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let mut node = Node::start(shared.command("one", folder.path()));
    node.wait_for("loaded");
    let active = |count: u64| move |status: &Value| status["targets"]["active"] == count;
    status_until(folder.path(), |status| {
        ask(folder.path(), r#"{"cmd":"trigger","target":1}"#);
        status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0
    });
    shared.sql("UPDATE {counters} SET value = value + 1000 WHERE name = 'change'");
    shared.import_one(elsewhere.path());
    status_until(folder.path(), active(2));
    // As a replica that took over before any of it had come.
    shared.sql(
        "START TRANSACTION; DELETE FROM {jobs}; DELETE FROM {event_transitions}; \
         DELETE FROM {events}; UPDATE {journals} SET journal_seq = 0; \
         DELETE FROM {check_targets} WHERE id <> 1; \
         UPDATE {counters} SET value = value - 1001 WHERE name = 'change'; COMMIT",
    );
    node.wait_for("the store lost facts that it had");
    let line = node.wait_for("loaded again");
    assert!(line.contains("targets=1"), "{line}");
    // Its number is one that the node has seen.
    shared.import_one(elsewhere.path());
    status_until(folder.path(), active(2));
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}
