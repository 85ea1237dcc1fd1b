//! A node whose targets are the rows of an older system, on a real MariaDB; and targets on their
//! way between that table, ours and a list.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{
    Node, ask, assert_says, code, listed, run, run_command, status_until, stderr, stdout, text,
};
use crate::server::{OK, UNAVAILABLE, serve};
use rig::mariadb::{self, Server};

mod operators;

const USAGE: i32 = 2;

const SITES: &str = "CREATE TABLE jetpack_monitor_sites (
    jetpack_monitor_site_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    blog_id BIGINT UNSIGNED NOT NULL,
    bucket_no SMALLINT UNSIGNED NOT NULL,
    monitor_url VARCHAR(300) NOT NULL,
    monitor_active TINYINT UNSIGNED NOT NULL DEFAULT 1,
    site_status TINYINT UNSIGNED NOT NULL DEFAULT 1,
    last_status_change TIMESTAMP NULL DEFAULT NULL,
    check_interval TINYINT UNSIGNED NOT NULL DEFAULT 5,
    last_checked_at DATETIME NULL,
    next_check_at DATETIME NULL,
    KEY bucket_no_monitor_active_check_interval (bucket_no, monitor_active, check_interval)
) ENGINE=InnoDB DEFAULT CHARSET=latin1";

/// A migrated database with the legacy table, and a folder with the configuration of a node.
struct Bed<'a> {
    folder: TempDir,
    server: &'a Server,
    database: String,
}

impl Bed<'static> {
    fn new(section: &str) -> Self {
        Self::on(mariadb::shared(), section)
    }
}

impl<'a> Bed<'a> {
    fn on(server: &'a Server, section: &str) -> Self {
        let bed = Self {
            folder: tempfile::tempdir().expect("a folder"),
            server,
            database: mariadb::fresh_name(),
        };
        let name = &bed.database;
        server.sql(&format!("CREATE DATABASE {name}; USE {name}; {SITES};"));
        let address = server.address("ringwatch", name);
        let data_dir = bed.data_dir();
        let file = format!(
            "store = '{address}'\ndata_dir = '{}'\n{section}",
            text(&data_dir)
        );
        fs::write(bed.config(), file).expect("written");
        let migrated = bed.run(&["migrate"]);
        assert_eq!(code(&migrated), 0, "{}", stderr(&migrated));
        bed
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("d")
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("ringwatch.toml")
    }

    fn run(&self, words: &[&str]) -> std::process::Output {
        run(&[words, &["--config", text(&self.config())]].concat())
    }

    /// Statements in the database.
    fn sql(&self, statements: &str) -> String {
        self.server
            .sql(&format!("USE {}; {statements};", self.database))
    }

    /// Active rows with the ids `1..=count` in 1,000 buckets, on the server `up`.
    fn insert_many(&self, count: u32, up: std::net::SocketAddr) {
        self.sql(&format!(
            "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
             monitor_url) SELECT seq, 7, seq % 1000, CONCAT('http://{up}/', seq) \
             FROM seq_1_to_{count}; ANALYZE TABLE jetpack_monitor_sites"
        ));
    }

    /// Changes rows of the legacy table.
    fn update(&self, change: &str, ids: &str) {
        self.sql(&format!(
            "UPDATE jetpack_monitor_sites SET {change} WHERE jetpack_monitor_site_id IN ({ids})"
        ));
    }

    /// Waits until the rows of the node changed so often: changed, activated, deactivated, refused.
    fn changes(&self, expected: [u64; 4]) -> Value {
        status_until(&self.data_dir(), |status| changes_of(status) == expected)
    }

    fn node(&self) -> Node {
        let mut command = run_command(&self.data_dir());
        command.arg("--config").arg(self.config());
        command.args(["--confirm-after", "1", "--projection-interval-s", "300"]);
        let mut node = Node::start(command);
        node.wait_for("loaded");
        node
    }
}

fn changes_of(status: &Value) -> [u64; 4] {
    let names = ["changed", "activated", "deactivated", "refused"];
    names.map(|name| {
        let count = &status["legacy"]["changes"][name];
        count.as_u64().expect("a count")
    })
}

const LOAD: &str = "[legacy]\nload = true\nfreshness = 'columns'\n";

#[test]
fn a_node_checks_legacy_rows_and_writes_what_their_readers_expect() {
    let bed = Bed::new(LOAD);
    let (up, down) = (serve(OK), serve(UNAVAILABLE));
    bed.sql(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active, check_interval) VALUES (5, 7, 0, 'http://{up}/', 1, 5), \
         (6, 7, 0, 'http://{down}/', 1, 5), (7, 7, 0, 'no url', 1, 5), \
         (8, 7, 0, 'http://{up}/off', 0, 5)"
    ));
    let node = bed.node();
    for id in [5, 6] {
        let trigger = format!(r#"{{"cmd":"trigger","target":{id}}}"#);
        assert_eq!(ask(&bed.data_dir(), &trigger)["ok"], true, "{id}");
    }
    let status = status_until(&bed.data_dir(), |status| {
        status["fleet"]["probed"].as_u64() >= Some(2) && {
            bed.sql(
                "SELECT site_status FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = 6",
            ) == "2"
        }
    });
    assert_eq!(status["targets"]["active"], 2, "{status}");
    assert_eq!(status["targets"]["refused"], 1, "{status}");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    assert!(
        log.contains("target 7 in the store is refused: url: "),
        "{log}"
    );
    let rows = bed.sql(
        "SELECT jetpack_monitor_site_id, site_status, last_status_change IS NOT NULL, \
         last_checked_at IS NOT NULL AND next_check_at > last_checked_at, \
         ABS(TIMESTAMPDIFF(SECOND, COALESCE(last_status_change, UTC_TIMESTAMP()), \
         UTC_TIMESTAMP())) < 3600 FROM jetpack_monitor_sites ORDER BY 1",
    );
    let expected = "5\t1\t0\t1\t1\n6\t2\t1\t1\t1\n7\t1\t0\t0\t1\n8\t1\t0\t0\t1";
    assert_eq!(rows, expected);
    // The event is under the endpoint and its blog.
    let events = bed.sql("SELECT endpoint_id, blog_id FROM jetpack_monitor_events");
    assert_eq!(events, "6\t7");
    let own = bed.sql("SELECT COUNT(*) FROM jetpack_monitor_check_targets");
    assert_eq!(own, "0");
}

#[test]
fn a_reload_puts_three_rows_of_twenty_thousand_right_and_touches_no_other() {
    let bed = Bed::new("[legacy]\nload = true\nsweep_s = 86400\n");
    let up = serve(OK);
    bed.insert_many(20_000, up);
    let node = bed.node();
    bed.update("check_interval = 1", "12345");
    bed.update("monitor_active = 0", "7");
    bed.sql(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url) VALUES (20001, 7, 3, 'http://{up}/new')"
    ));
    // What nothing depends on that is checked here is no change.
    bed.update("site_status = 2, last_status_change = NOW()", "1, 2, 3");
    let answer = ask(&bed.data_dir(), r#"{"cmd":"reload"}"#);
    assert_eq!(answer["ok"], true, "{answer}");
    let status = bed.changes([1, 1, 1, 0]);
    let legacy = &status["legacy"];
    assert_eq!(legacy["rows"], 20_000, "{legacy}");
    let read = legacy["rows_read"].as_u64().expect("a count");
    assert!((20_000..30_000).contains(&read), "{legacy}");
    // Full pages for the pass; of buckets that were counted meanwhile only those that differed.
    let reads = &legacy["reads"];
    assert!(reads["page"].as_u64() <= Some(7), "{legacy}");
    assert!(reads["bucket"].as_u64() <= Some(3), "{legacy}");
    for (id, known) in [(7, false), (12_345, true), (20_001, true)] {
        let trigger = format!(r#"{{"cmd":"trigger","target":{id}}}"#);
        assert_eq!(ask(&bed.data_dir(), &trigger)["ok"], known, "{id}");
    }
    let again = ask(&bed.data_dir(), r#"{"cmd":"reload"}"#);
    assert_eq!(again["applied"]["upserted"], 0, "{again}");
    assert_eq!(again["applied"]["removed"], 0, "{again}");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}

/// The sweep takes a day here: only counts can find it.
#[test]
fn rows_that_are_switched_or_deleted_are_found_by_counting_their_buckets() {
    let bed = Bed::new("[legacy]\nload = true\nsweep_s = 86400\n");
    let up = serve(OK);
    bed.insert_many(20_000, up);
    bed.update("monitor_active = 0", "15123");
    let node = bed.node();
    // In one bucket, so that it has as many rows as before.
    bed.sql(
        "START TRANSACTION; UPDATE jetpack_monitor_sites \
         SET monitor_active = 1 - monitor_active WHERE jetpack_monitor_site_id IN (15123, 16123); \
         DELETE FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = 19999; COMMIT",
    );
    bed.update("bucket_no = 998", "19500");
    let status = bed.changes([0, 1, 2, 0]);
    let legacy = &status["legacy"];
    assert_eq!(legacy["counts_buckets"], true);
    assert_eq!(legacy["sweep"]["passes"], 0, "{legacy}");
    // A first page of the sweep, and four buckets of twenty rows.
    let read = legacy["rows_read"].as_u64().expect("a count");
    assert!(read <= 700, "{legacy}");
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}

/// Lesson: the configuration says 1,000 buckets unless somebody changes it. A table with 64 of them
/// was counted whole, in the one statement that counts the first hundred.
#[test]
fn a_table_of_few_buckets_is_counted_in_slices_whatever_the_configuration_says() {
    let server = Server::start(&["--general-log=1", "--log-output=TABLE"]);
    let bed = Bed::on(&server, "[legacy]\nload = true\nsweep_s = 86400\n");
    bed.sql(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url) SELECT seq, 7, seq % 64, CONCAT('http://{}/', seq) FROM seq_1_to_6400",
        serve(OK)
    ));
    let node = bed.node();
    status_until(&bed.data_dir(), |status| {
        status["legacy"]["reads"]["counts"].as_u64() >= Some(2)
    });
    let counts = server.sql(
        "SELECT REGEXP_SUBSTR(CONVERT(argument USING utf8mb4), 'BETWEEN [0-9]+ AND [0-9]+') \
         FROM mysql.general_log WHERE command_type = 'Execute' AND argument LIKE '%BIT_XOR%' \
         ORDER BY event_time LIMIT 2",
    );
    // 640 rows are a tenth, and a bucket has 100.
    assert_eq!(counts, "BETWEEN 0 AND 6\nBETWEEN 7 AND 13");
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}

/// Lesson: rows in fewer than ten buckets were counted by nobody. The sweep takes a day here.
#[test]
fn rows_of_one_bucket_or_of_none_that_is_indexed_are_counted_by_id() {
    for change in [
        "UPDATE jetpack_monitor_sites SET bucket_no = 3",
        "ALTER TABLE jetpack_monitor_sites DROP KEY bucket_no_monitor_active_check_interval",
    ] {
        let bed = Bed::new("[legacy]\nload = true\nsweep_s = 86400\n");
        bed.insert_many(2_000, serve(OK));
        bed.sql(change);
        let node = bed.node();
        bed.update("monitor_active = 0", "150, 500");
        let status = bed.changes([0, 0, 2, 0]);
        let legacy = &status["legacy"];
        assert_eq!(legacy["counts_buckets"], false);
        assert_eq!(legacy["sweep"]["passes"], 0, "{legacy}");
        // A first page of the sweep, and two spans of 201 rows.
        assert_eq!(legacy["reads"]["span"], 2, "{legacy}");
        let read = legacy["rows_read"].as_u64().expect("a count");
        assert!(read <= 910, "{legacy}");
        node.signal("TERM");
        assert_eq!(node.end().0, 0);
    }
}

#[test]
fn the_sweep_finds_edits_and_a_row_that_goes_bad_leaves_the_good_one() {
    let bed = Bed::new("[legacy]\nload = true\nsweep_s = 10\n");
    let up = serve(OK);
    bed.insert_many(400, up);
    bed.sql("ALTER TABLE jetpack_monitor_sites DROP KEY bucket_no_monitor_active_check_interval");
    let node = bed.node();
    bed.update("check_interval = 1", "5");
    bed.update("monitor_url = 'no url'", "6");
    bed.update("monitor_active = 0", "7");
    let status = bed.changes([1, 0, 1, 1]);
    assert_eq!(status["targets"]["refused"], 1, "{status}");
    assert_eq!(status["legacy"]["counts_buckets"], false);
    let triggered = ask(&bed.data_dir(), r#"{"cmd":"trigger","target":6}"#);
    assert_eq!(triggered["ok"], true, "as it was before it went bad");
    // As it was: nothing to change, and nothing bad any more.
    bed.update(&format!("monitor_url = 'http://{up}/6'"), "6");
    let right = |status: &Value| status["targets"]["refused"] == 0;
    let status = status_until(&bed.data_dir(), right);
    assert_eq!(changes_of(&status), [1, 0, 1, 1]);
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    assert!(
        log.contains("and not by bucket: there is no index of jetpack_monitor_sites that"),
        "{log}"
    );
    let refused = log.matches("target 6 in the store is refused").count();
    assert_eq!(refused, 1, "{log}");
}

#[test]
fn a_reload_while_the_table_cannot_be_read_is_refused_and_everything_goes_on() {
    let bed = Bed::new("[legacy]\nload = true\nstatus = false\nfreshness = 'off'\n");
    let up = serve(OK);
    bed.insert_many(3, up);
    let node = bed.node();
    bed.sql("RENAME TABLE jetpack_monitor_sites TO elsewhere");
    let answer = ask(&bed.data_dir(), r#"{"cmd":"reload"}"#);
    assert_eq!(answer["ok"], false, "{answer}");
    let said = answer["error"].as_str().expect("a sentence");
    assert!(said.contains("the legacy rows cannot be read"), "{said}");
    bed.sql("RENAME TABLE elsewhere TO jetpack_monitor_sites");
    bed.update("check_interval = 1", "2");
    let status = bed.changes([1, 0, 0, 0]);
    assert_eq!(status["targets"]["active"], 3, "{status}");
    assert!(status["legacy"]["read_errors"].as_u64() >= Some(1));
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}

fn is_told(status: &Value) -> bool {
    status["legacy"]["stream"]["up"] == true
}

/// A node that was away while files of the log came reads the table instead of them.
fn begins_far_behind(bed: &Bed<'_>) {
    bed.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    let node = bed.node();
    let status = status_until(&bed.data_dir(), |status| {
        is_told(status) && status["legacy"]["sweep"]["passes"].as_u64() >= Some(1)
    });
    assert_eq!(status["legacy"]["stream"]["late"], false, "{status}");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    let said = "legacy rows are read once instead of their changes: the binary log is to be read";
    assert!(log.contains(said), "{log}");
}

/// Neither counts nor the sweep could be it: one goes each half minute here, the other once a day.
#[test]
fn what_the_server_tells_is_in_effect_with_work_for_those_rows_alone() {
    let server = Server::start(&["--log-bin=log", "--binlog-format=ROW"]);
    server.sql("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ringwatch@'%'");
    let bed = Bed::on(&server, "[legacy]\nload = true\nsweep_s = 86400\n");
    let up = serve(OK);
    bed.insert_many(20_000, up);
    let node = bed.node();
    // The first stream ever begins with a pass: what changed while it was opened.
    let before = status_until(&bed.data_dir(), |status| {
        is_told(status) && status["legacy"]["sweep"]["passes"].as_u64() >= Some(1)
    });
    bed.update("check_interval = 1", "12345");
    bed.update("monitor_active = 0", "7");
    bed.update("site_status = 2, last_status_change = NOW()", "1, 2, 3");
    bed.sql(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url) VALUES (20001, 7, 3, 'http://{up}/new')"
    ));
    let after = bed.changes([1, 1, 1, 0]);
    let grown = |of: &[&str]| {
        let at = |status: &Value| {
            let value = of
                .iter()
                .fold(&status["legacy"], |value, name| &value[name]);
            value.as_u64().expect("a count")
        };
        at(&after) - at(&before)
    };
    assert_eq!(grown(&["reads", "page"]), 0, "{after}");
    assert!(grown(&["rows_read"]) <= 10, "{after}");
    assert!(grown(&["stream", "ids"]) >= 3, "{after}");
    let stream = &after["legacy"]["stream"];
    assert!(
        stream["late"] == false && stream["lag_s"].is_u64(),
        "{stream}"
    );
    let said = stdout(&bed.run(&["doctor"]));
    assert!(said.contains("; the node here is "), "{said}");
    let has = |count: u64| move |status: &Value| status["targets"]["active"] == count;
    status_until(&bed.data_dir(), has(20_000));
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
    // What happens while no node runs is in the table that the next one loads, and in its stream:
    // it goes on where this one was, without another pass.
    bed.update("monitor_active = 0", "8");
    let node = bed.node();
    status_until(&bed.data_dir(), has(19_999));
    let status = status_until(&bed.data_dir(), is_told);
    assert_eq!(status["legacy"]["sweep"]["hurried"], false, "{status}");
    bed.update("monitor_active = 1", "7, 8");
    let status = bed.changes([0, 2, 0, 0]);
    // A page may be read each time before the stream is there, or is late; the pass rests then.
    let sweep = &status["legacy"]["sweep"];
    assert_eq!(
        (&sweep["passes"], &sweep["hurried"]),
        (&0.into(), &false.into()),
        "{status}"
    );
    // A statement that rows do not tell: lost, and made up for by a pass.
    bed.sql("ALTER TABLE jetpack_monitor_sites ADD COLUMN note INT NULL");
    status_until(&bed.data_dir(), |status| !is_told(status));
    bed.update("check_interval = 2", "9");
    bed.changes([1, 2, 0, 0]);
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
    begins_far_behind(&bed);
}

#[test]
fn lists_and_imports_are_refused_where_the_targets_are_legacy_rows() {
    let bed = Bed::new(LOAD);
    let csv = bed.folder.path().join("a.csv");
    fs::write(&csv, "http://a.example/\n").expect("written");
    let imported = bed.run(&["targets", "import", text(&csv)]);
    assert_ne!(code(&imported), 0);
    assert_says(
        &imported,
        "are the rows of the legacy table jetpack_monitor_sites",
    );
    let exchanged = bed.run(&["targets", "import", "--from-legacy"]);
    assert_eq!(code(&exchanged), USAGE);
    assert_says(&exchanged, "legacy.load is true");
    let validated = bed.run(&["validate", "--targets", text(&csv)]);
    assert_eq!(code(&validated), USAGE);
    assert_says(&validated, "targets: found");
    bed.sql("ALTER TABLE jetpack_monitor_sites DROP COLUMN next_check_at");
    let validated = bed.run(&["validate"]);
    assert_eq!(code(&validated), 1);
    assert_says(
        &validated,
        "jetpack_monitor_sites has no column next_check_at",
    );
}

fn export(bed: &Bed, words: &[&str]) -> String {
    let output = bed.run(&[&["targets", "export"], words].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn targets_go_from_the_legacy_table_to_ours_to_a_list_and_back() {
    let bed = Bed::new("[legacy]\nbuckets = 10\n");
    bed.sql(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active, check_interval) VALUES (5, 7, 0, 'http://a.example/', 1, 1), \
         (6, 8, 0, 'bad', 1, 5), (7, 8, 0, 'http://b.example/', 1, 5), \
         (8, 8, 0, 'http://off.example/', 0, 5)",
    );
    let imported = bed.run(&["targets", "import", "--from-legacy"]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    let said = stdout(&imported);
    assert!(
        said.contains("3 rows: 2 inserted, 0 updated, 0 unchanged, 1 refused"),
        "{said}"
    );
    assert_says(&imported, "jetpack_monitor_sites 6: url: found \"bad\"");
    let again = bed.run(&["targets", "import", "--from-legacy", "--json"]);
    assert!(
        stdout(&again).contains("\"unchanged\":2"),
        "{}",
        stdout(&again)
    );
    let list = export(&bed, &[]);
    let expected =
        "id,group_id,url,interval_s\n5,7,http://a.example/,60\n7,8,http://b.example/,300\n";
    assert_eq!(list, expected);
    // Into another store, and from there into an empty legacy table.
    let csv = bed.folder.path().join("out.csv");
    export(&bed, &[text(&csv)]);
    assert_eq!(fs::read_to_string(&csv).expect("written"), list);
    let back = Bed::new("[legacy]\nbuckets = 2\n");
    let imported = back.run(&["targets", "import", text(&csv)]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    // A pause is ours: for the others the target is what it was.
    let paused = back.run(&["targets", "pause", "7"]);
    assert_eq!(code(&paused), 0, "{}", stderr(&paused));
    let said = export(&back, &["--to-legacy"]);
    let expected = "2 targets (1 of them paused here, which only this store knows): 2 inserted, \
                    0 updated, 0 refused\n";
    assert_eq!(said, expected);
    let rows = "SELECT jetpack_monitor_site_id, blog_id, bucket_no, monitor_url, check_interval, \
                site_status, monitor_active FROM jetpack_monitor_sites ORDER BY 1";
    let expected = "5\t7\t1\thttp://a.example/\t1\t1\t1\n7\t8\t1\thttp://b.example/\t5\t1\t1";
    assert_eq!(back.sql(rows), expected);
}

#[test]
fn a_file_can_be_exported_and_has_no_legacy_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("a.csv");
    fs::write(&csv, "http://a.example/,60\n").expect("written");
    let place = |words: &[&str]| run(&[words, &["--data-dir", text(folder.path())]].concat());
    assert_eq!(code(&place(&["targets", "import", text(&csv)])), 0);
    let exported = place(&["targets", "export"]);
    assert_eq!(
        stdout(&exported),
        "id,url,interval_s\n1,http://a.example/,60\n"
    );
    assert!(listed(folder.path()).contains("a.example"));
    // A list that is there is not written over.
    let refused = place(&["targets", "export", text(&csv)]);
    assert_eq!(code(&refused), 1);
    assert_eq!(
        fs::read_to_string(&csv).expect("there"),
        "http://a.example/,60\n"
    );
    for words in [
        ["targets", "import", "--from-legacy"],
        ["targets", "export", "--to-legacy"],
    ] {
        let refused = place(&words);
        assert_eq!(code(&refused), USAGE);
        assert_says(&refused, "has no legacy tables");
    }
    let config = folder.path().join("c.toml");
    fs::write(&config, "[legacy]\nload = true\n").expect("written");
    let refused = place(&["validate", "--config", text(Path::new(&config))]);
    assert_eq!(code(&refused), USAGE);
    assert_says(&refused, "legacy.load: found true");
}

/// Lesson: a row that asked for a history of its own was passed over without a word.
#[test]
fn settings_that_have_no_effect_are_told_by_the_doctor_and_by_a_node_once() {
    let bed = Bed::new(LOAD);
    let insert = |rows: &str| {
        bed.sql(&format!(
            "INSERT INTO jetpack_monitor_site_check_config (source_site_id, check_history_mode) \
             VALUES {rows}"
        ))
    };
    let told = "of 2 rows of settings has no effect";
    insert("(5, NULL), (6, '')");
    let said = stdout(&bed.run(&["doctor"]));
    assert!(!said.contains("has no effect"), "{said}");
    insert("(7, 'all'), (8, 'sample')");
    let said = stdout(&bed.run(&["doctor"]));
    assert!(said.contains(told), "{said}");
    let mut command = run_command(&bed.data_dir());
    command.arg("--config").arg(bed.config());
    let mut node = Node::start(command);
    node.wait_for(told);
    node.signal("TERM");
    let (code, log) = node.end();
    assert_eq!((code, log.matches(told).count()), (0, 1), "{log}");
}

#[test]
fn the_doctor_says_in_a_line_whether_changes_are_told_and_why_not() {
    let found = |bed: &Bed<'_>| {
        let said = stdout(&bed.run(&["doctor"]));
        let lines = said.lines().filter(|line| line.contains("changes  "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let bed = Bed::new(LOAD);
    let sweep = "warn  changes  sweep: ";
    let off = format!("{sweep}the server keeps no binary log: start it with log_bin");
    assert_eq!(found(&bed), [off]);
    assert_eq!(found(&Bed::new("")), Vec::<String>::new());
    let server = Server::start(&["--log-bin=log", "--binlog-format=ROW"]);
    let bed = Bed::on(&server, LOAD);
    let grant = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*";
    let lines = found(&bed);
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(line.starts_with(sweep) && line.ends_with(grant), "{line}");
    server.sql(&format!("{grant} TO ringwatch@'%'"));
    let lines = found(&bed);
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(line.starts_with("ok    changes  stream: "), "{line}");
}
