//! A running node that loses packets on the way to its server, all of them and then some: one clear
//! sentence, checks go on, and every transition is in the store once, in its order. Real packets,
//! of a real MariaDB, in a network of the test's own.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rig::loss::{self, lose, lost};
use rig::mariadb::Server;
use rig::namespace::Own;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Node, ask, code, comes, import, run, status_until, stderr, text};
use crate::server::serve_by;

const SITES: u64 = 12;
/// Rounds of checks after which every outage, and every recovery, is known.
const ROUNDS_MAX: u32 = 20;
/// Tries to write in vain, of which each takes two seconds or ten.
const TRIES: u64 = 3;
/// Packets that are lost of a link that loses some of them: the node goes on asking there.
const LOST_MIN: u64 = 20;
/// What each outage leaves behind.
const STORY: &str = "Seems Down>Down>Resolved";

/// A node on a server of its own, with sites that all do what one switch says.
struct Bed {
    server: Server,
    folder: TempDir,
    node: Node,
    well: Arc<AtomicBool>,
}

impl Bed {
    fn new() -> Self {
        let server = Server::start(&[]);
        server.sql("CREATE DATABASE t_lossy");
        let store = server.address("ringwatch", "t_lossy");
        let folder = tempfile::tempdir().expect("a folder");
        let place = ["--data-dir", text(folder.path()), "--store", &store];
        let migrated = run(&[&["migrate"], &place[..]].concat());
        assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
        let well = Arc::new(AtomicBool::new(true));
        let (site, mut rows) = (serve_by(&well), String::new());
        for nth in 0..SITES {
            writeln!(rows, "http://{site}/{nth},86400").expect("a String takes all");
        }
        let list = folder.path().join("sites.csv");
        std::fs::write(&list, rows).expect("written");
        let imported = import(&list, folder.path(), &["--store", &store]);
        assert_eq!(code(&imported), 0, "{}", stderr(&imported));
        let node = Node::loaded(folder.path(), &["--store", &store]);
        Self {
            server,
            folder,
            node,
            well,
        }
    }

    fn status(&self, done: impl FnMut(&Value) -> bool) -> Value {
        status_until(self.folder.path(), done)
    }

    fn sink(&self, counter: &str) -> u64 {
        let status = self.status(|_| true);
        status["sink"][counter].as_u64().expect(counter)
    }

    /// Checks every site, again and again, until so many of them are known to be down.
    fn check_until_down(&self, down: u64) {
        let drained = |status: &Value| status["fleet"]["drained"].as_u64().unwrap_or(0);
        for _ in 0..ROUNDS_MAX {
            let before = drained(&self.status(|_| true));
            for target in 1..=SITES {
                let order = format!(r#"{{"cmd":"trigger","target":{target}}}"#);
                let asked = ask(self.folder.path(), &order);
                assert_eq!(asked["ok"], true, "{asked}");
            }
            let status = self.status(|status| drained(status) >= before + SITES);
            let targets = &status["targets"];
            if targets["down"] == down && targets["seems_down"] == 0 {
                return;
            }
        }
        let status = self.status(|_| true);
        panic!("not {down} of {SITES} are down: {status}");
    }

    fn outage(&self) {
        self.well.store(false, Ordering::SeqCst);
        self.check_until_down(SITES);
    }

    fn recovery(&self) {
        self.well.store(true, Ordering::SeqCst);
        self.check_until_down(0);
    }
}

/// How many outages of how many sites had which states one after the other, whether one is open.
fn stories(server: &Server) -> String {
    server.sql(
        "USE t_lossy; SELECT COUNT(*), COUNT(DISTINCT endpoint_id), MAX(ended_at IS NULL), \
         story FROM (SELECT e.id, e.endpoint_id, e.ended_at, \
         GROUP_CONCAT(t.state_after ORDER BY t.id SEPARATOR '>') AS story \
         FROM jetpack_monitor_events AS e JOIN jetpack_monitor_event_transitions AS t \
         ON t.event_id = e.id WHERE e.check_type = 'http' GROUP BY e.id) AS stories GROUP BY story",
    )
}

#[test]
fn lost_packets_are_one_sentence_and_cost_no_check_and_no_transition() {
    let name = "lost_packets::lost_packets_are_one_sentence_and_cost_no_check_and_no_transition";
    if !Own::Network.hosts(name, loss::UP) {
        return;
    }
    let mut bed = Bed::new();
    bed.recovery();
    lose(100, bed.server.port());
    // Checks go on, and what they find is decided and kept, while nothing gets through.
    bed.outage();
    let line = bed.node.wait_for("a batch of facts");
    for words in [
        "did not answer within 2000 ms",
        "check that its server is well, and the network to it for lost packets",
        "it is kept and tried again",
        "suppressed=0",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    bed.recovery();
    bed.status(|status| status["sink"]["apply_retries"].as_u64() >= Some(TRIES));
    assert!(bed.sink("apply_lag") > 0);
    assert_eq!(stories(&bed.server), "", "nothing got through");
    // What gets through now may be cut anywhere, and is asked again.
    lose(30, bed.server.port());
    let lost_of_all = lost();
    bed.outage();
    bed.recovery();
    assert!(comes(|| lost() > lost_of_all + LOST_MIN), "{}", lost());
    lose(0, bed.server.port());
    bed.status(|status| status["sink"]["apply_lag"] == 0);
    // Some may be called flapping besides.
    let decided = bed.sink("transitions");
    assert!(decided >= SITES * 2 * 3, "{decided}");
    let retries = bed.sink("apply_retries") as usize;
    bed.node.signal("TERM");
    let (exit, log) = bed.node.end();
    assert_eq!(exit, 0, "{log}");
    let said = log.matches("a batch of facts").count();
    assert!(
        said < retries,
        "{said} sentences for {retries} tries: {log}"
    );
    let told = format!("{}\t{SITES}\t0\t{STORY}", SITES * 2);
    assert_eq!(stories(&bed.server), told, "{log}");
    let stored = "USE t_lossy; SELECT COUNT(*) FROM jetpack_monitor_event_transitions";
    assert_eq!(bed.server.sql(stored), decided.to_string(), "{log}");
}
