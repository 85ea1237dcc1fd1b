//! A running node whose server does not let it work any more: one clear sentence, checks go on, and
//! what was decided meanwhile is in the store once the cause is gone. A real MariaDB of its own.

use tempfile::TempDir;

use crate::process::{
    Node, ask, assert_says, code, import, run, run_command, status_until, stderr, text,
};
use crate::server::{Answer, serve};
use rig::mariadb::Server;

/// A page that fails, with a head that no small packet takes.
const FAILING: Answer = Answer::Say(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nX-Long: \
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123\
     \r\n\r\n",
);

/// What an administrator did, what the node says of it, and how it is undone.
struct Case {
    name: &'static str,
    breaks: &'static str,
    says: &'static str,
    mends: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "t_password",
        breaks: "ALTER USER op@'127.0.0.1' IDENTIFIED BY 'another'; KILL HARD USER op",
        says: "refused the user or the password: check both",
        mends: "ALTER USER op@'127.0.0.1' IDENTIFIED BY 'op'",
    },
    Case {
        name: "t_privilege",
        breaks: "REVOKE INSERT ON t_privilege.* FROM op@'127.0.0.1'; KILL HARD USER op",
        says: "lacks a privilege (INSERT command denied",
        mends: "GRANT INSERT ON t_privilege.* TO op@'127.0.0.1'; KILL HARD USER op",
    },
    Case {
        name: "t_readonly",
        breaks: "SET GLOBAL read_only = 1",
        says: "is read-only (",
        mends: "SET GLOBAL read_only = 0",
    },
    Case {
        name: "t_packet",
        breaks: "SET GLOBAL max_allowed_packet = 1024; KILL HARD USER op",
        says: "raise max_allowed_packet of the server, which is 1024 bytes",
        mends: "SET GLOBAL max_allowed_packet = 16777216; KILL HARD USER op",
    },
    // The server's own words on a full disk; of a true one it may make a crash.
    Case {
        name: "t_full",
        breaks: "CREATE TRIGGER t_full.full BEFORE INSERT ON t_full.jetpack_monitor_events \
                 FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, \
                 MESSAGE_TEXT = \"The table 'jetpack_monitor_events' is full\"",
        says: "has no room left (The table 'jetpack_monitor_events' is full): free some space",
        mends: "DROP TRIGGER t_full.full",
    },
];

fn own_server() -> Server {
    // What was committed survives the end of its process.
    let server = Server::start(&["--innodb-flush-log-at-trx-commit=2"]);
    server.sql("CREATE USER op@'127.0.0.1' IDENTIFIED BY 'op'");
    server
}

fn address(server: &Server, database: &str) -> String {
    format!("mysql://op:op@127.0.0.1:{}/{database}", server.port())
}

/// A node with one failing target in a database of its own.
struct Bed {
    folder: TempDir,
    node: Node,
}

impl Bed {
    fn new(server: &Server, database: &str) -> Self {
        server.sql(&format!(
            "CREATE DATABASE {database}; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, \
             CREATE VIEW, INDEX, ALTER, DROP ON {database}.* TO op@'127.0.0.1'"
        ));
        let folder = tempfile::tempdir().expect("a folder");
        let store = address(server, database);
        let place = ["--data-dir", text(folder.path()), "--store", &store];
        let migrated = run(&[&["migrate"], &place[..]].concat());
        assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
        let list = folder.path().join("sites.csv");
        std::fs::write(&list, format!("http://{}/,86400\n", serve(FAILING))).expect("written");
        let imported = import(&list, folder.path(), &["--store", &store]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
        let node = Node::loaded(folder.path(), &["--store", &store]);
        Self { folder, node }
    }

    /// One more check, from its start to its end.
    fn check(&self) {
        let stepped = |status: &serde_json::Value| status["fleet"]["stepped"].as_u64();
        let before = status_until(self.folder.path(), |_| true);
        let asked = ask(self.folder.path(), r#"{"cmd":"trigger","target":1}"#);
        assert_eq!(asked["ok"], true, "{asked}");
        status_until(self.folder.path(), |status| {
            stepped(status) > stepped(&before)
        });
    }

    fn apply_lag(&self, wanted: impl Fn(u64) -> bool) {
        status_until(self.folder.path(), |status| {
            status["sink"]["apply_lag"].as_u64().is_some_and(&wanted)
        });
    }
}

#[test]
fn a_server_that_lets_nobody_work_is_one_sentence_and_costs_no_check_and_no_fact() {
    let server = own_server();
    for case in &CASES {
        let mut bed = Bed::new(&server, case.name);
        server.sql(case.breaks);
        bed.check();
        let line = loop {
            let line = bed.node.wait_for(case.says);
            if line.contains("a batch of facts") {
                break line;
            }
        };
        assert!(
            line.contains("kept and tried again"),
            "{}: {line}",
            case.name
        );
        assert!(!line.contains(":op@"), "the password: {line}");
        bed.apply_lag(|lag| lag > 0);
        // Checks go on, and what they find is kept.
        bed.check();
        bed.check();
        server.sql(case.mends);
        bed.apply_lag(|lag| lag == 0);
        let stored = server.sql(&format!(
            "USE {}; SELECT e.fail_count, e.state, COUNT(t.id) FROM jetpack_monitor_events AS e \
             JOIN jetpack_monitor_event_transitions AS t ON t.event_id = e.id GROUP BY e.id",
            case.name
        ));
        assert_eq!(stored, "3\tDown\t2", "{}", case.name);
        bed.node.signal("TERM");
        let (exit, log) = bed.node.end();
        assert_eq!(exit, 0, "{}: {log}", case.name);
    }
}

#[test]
fn a_store_that_is_not_there_or_not_migrated_is_one_sentence_at_the_start() {
    let server = own_server();
    server.sql("CREATE DATABASE t_empty; GRANT ALL ON `t\\_%`.* TO op@'127.0.0.1'");
    let folder = tempfile::tempdir().expect("a folder");
    let run_on = |store: &str| {
        let data_dir = ["--data-dir", text(folder.path()), "--admin", "127.0.0.1:0"];
        run(&[&["run", "--store", store], &data_dir[..]].concat())
    };
    for (store, sentence) in [
        (
            address(&server, "t_nowhere"),
            "has no database \"t_nowhere\": create it",
        ),
        (
            address(&server, "t_empty"),
            "has schema version 0, this ringwatch needs",
        ),
        (
            address(&server, "t_empty").replace("op:op", "op:wr0ng"),
            "refused the user or the password: check both",
        ),
    ] {
        let refused = run_on(&store);
        assert_ne!(code(&refused), 0);
        assert_says(&refused, sentence);
        assert!(!stderr(&refused).contains("wr0ng"), "{}", stderr(&refused));
    }
}

#[test]
fn a_node_that_starts_before_its_store_waits_for_it_and_can_be_told_to_stop_meanwhile() {
    let mut server = own_server();
    let bed = Bed::new(&server, "t_later");
    bed.node.signal("TERM");
    assert_eq!(bed.node.end().0, 0);
    server.kill();
    let waiting = || {
        let mut command = run_command(bed.folder.path());
        command.args(["--store", &address(&server, "t_later")]);
        let mut node = Node::start(command);
        let line = node.wait_for("no check is made before the store is open");
        assert!(line.contains("refused") && !line.contains(":op@"), "{line}");
        node
    };
    let stopped = waiting();
    stopped.signal("TERM");
    let (exit, log) = stopped.end();
    assert_eq!(exit, 0, "{log}");
    let mut node = waiting();
    server.run(&[]);
    node.wait_for("the store answers");
    node.wait_for("loaded");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}
