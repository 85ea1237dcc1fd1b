//! The change stream on servers that keep a binary log. A row that is changed last is the sign that
//! everything before it was told; nothing waits for time.

mod lost;
mod refused;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::TargetId;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use store::{
    Change, Changes, JournalId, Legacy, LegacyFreshness, LostChanges, OpenOptions, Position,
    Reached, Reader, Store, StoreError, StoreUrl,
};
use tokio::time::timeout;

use super::super::root;
use super::{SITES, described, fresh, name};
use crate::fixture::{Incident, Writer, batch, claim, target};
use rig::mariadb::{self, Server};

/// What a server needs for a stream; and one that is killed must not forget what it committed.
const LOGGING: [&str; 4] = [
    "--log-bin=log",
    "--binlog-format=ROW",
    "--server-id=1",
    "--innodb-flush-log-at-trx-commit=2",
];
const GRANT: &str = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ringwatch@'%';";
/// The row that is changed last.
const LAST: i64 = 999_999;

fn start(options: &[&str]) -> Server {
    let server = Server::start(options);
    server.sql(GRANT);
    server
}

/// The server that most tests here share. None of them may change what the others see.
fn logging() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| start(&LOGGING))
}

/// A database with a legacy table, and a connection of somebody who changes it.
struct Fleet {
    name: String,
    journal: JournalId,
    address: StoreUrl,
    editor: Conn,
}

impl Fleet {
    async fn on(server: &Server) -> Self {
        let name = mariadb::fresh_name();
        server.sql(&format!("CREATE DATABASE {name}"));
        let address: StoreUrl = server.address("ringwatch", &name).parse().expect("valid");
        Store::migrate(&address).await.expect("migrated");
        let number = name.trim_start_matches("t_").parse().expect("a number");
        let mut fleet = Self {
            journal: JournalId::new(number).expect("positive"),
            address,
            editor: root(server).await,
            name,
        };
        fleet.come_back(server).await;
        fleet.edit(SITES).await;
        for id in [5, 6, LAST] {
            fleet.add(id, 7).await;
        }
        fleet
    }

    /// After the server was started again.
    async fn come_back(&mut self, server: &Server) {
        self.editor = root(server).await;
        self.edit(&format!("USE {}", self.name)).await;
    }

    async fn edit(&mut self, sql: &str) {
        self.editor.query_drop(sql).await.expect(sql);
    }

    async fn add(&mut self, id: i64, blog: i64) {
        self.edit(&format!(
            "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
             monitor_url) VALUES ({id}, {blog}, 1, 'http://s-{id}.test/')"
        ))
        .await;
    }

    async fn set(&mut self, id: i64, what: &str) {
        self.edit(&format!(
            "UPDATE jetpack_monitor_sites SET {what} WHERE jetpack_monitor_site_id = {id}"
        ))
        .await;
    }

    async fn open(&self, legacy: Legacy) -> Store {
        let options = OpenOptions {
            legacy: Some(Arc::new(legacy)),
            ..OpenOptions::default()
        };
        self.open_with(&self.address, options).await
    }

    async fn open_with(&self, address: &StoreUrl, options: OpenOptions) -> Store {
        let opened = Store::open_with(address, options).await;
        opened.expect("the store opens")
    }

    async fn stream(&self, store: &Store, from: Option<Position>) -> Changes {
        let opened = store.legacy_changes(Reader::Node(self.journal), from).await;
        opened.expect("the server tells changes")
    }

    /// What is told up to the last row, which is changed now, and by which position.
    async fn told(&mut self, changes: &mut Changes) -> (Vec<i64>, Position) {
        self.set(LAST, "check_interval = check_interval + 1").await;
        told(changes).await
    }
}

/// The ids of a message with rows.
fn rows(change: Change) -> Option<(Vec<i64>, Position)> {
    match change {
        Change::Rows {
            switched,
            edited,
            position,
        } => {
            let ids = switched.into_iter().chain(edited).map(TargetId::get);
            Some((ids.collect(), position))
        }
        Change::Position(_) => None,
        Change::Lost(why) => panic!("{why}"),
    }
}

/// Ids up to the last row, without it.
async fn told(changes: &mut Changes) -> (Vec<i64>, Position) {
    let mut told = BTreeSet::new();
    loop {
        if let Some((ids, position)) = rows(changes.next().await.expect("a change")) {
            told.extend(ids);
            if told.remove(&LAST) {
                return (told.into_iter().collect(), position);
            }
        }
    }
}

/// Up to the last word of the stream.
async fn last_word(changes: &mut Changes) -> LostChanges {
    loop {
        if let Change::Lost(why) = changes.next().await.expect("a change") {
            return why;
        }
    }
}

const BLOG_SETTINGS: &str = "CREATE TABLE blog_settings (
    note BLOB NULL, at TIMESTAMP(3) NULL, blog_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    request_method ENUM('HEAD','GET') NULL, amount DECIMAL(12,3) NULL, flags BIT(3) NULL,
    detection_profile ENUM('legacy','simple_http','full') NULL, code CHAR(3) NULL,
    check_keyword VARCHAR(500) NULL, forbidden_keyword VARCHAR(500) NULL,
    forbidden_keywords JSON NULL, maintenance_start DATETIME NULL,
    maintenance_end DATETIME NULL, custom_headers JSON NULL, kinds SET('a','b') NULL,
    timeout_seconds TINYINT UNSIGNED NULL, redirect_policy VARCHAR(16) NULL,
    alert_cooldown_minutes SMALLINT UNSIGNED NULL) CHARSET=utf8mb4";

#[tokio::test]
async fn rows_and_settings_that_change_are_told_by_their_targets() {
    let mut fleet = Fleet::on(logging()).await;
    fleet.edit(BLOG_SETTINGS).await;
    let legacy = Legacy {
        blog_config_table: Some(name("blog_settings")),
        ..described()
    };
    let store = fleet.open(legacy).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet.add(8, 900).await;
    fleet.set(5, "monitor_url = 'http://other.test/'").await;
    fleet
        .edit("DELETE FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = 6")
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, [5, 6, 8]);
    for what in ["monitor_active = 0", "blog_id = 901", "check_interval = 9"] {
        fleet.set(5, what).await;
        assert_eq!(fleet.told(&mut changes).await.0, [5], "{what}");
    }
    fleet.set(5, "jetpack_monitor_site_id = 15").await;
    assert_eq!(fleet.told(&mut changes).await.0, [5, 15]);
    let settings = "INSERT INTO jetpack_monitor_site_check_config (source_site_id, \
        custom_headers) VALUES (15, '{}'), (4000000000, NULL)";
    fleet.edit(settings).await;
    assert_eq!(fleet.told(&mut changes).await.0, [15, 4_000_000_000]);
    fleet
        .edit("DELETE FROM jetpack_monitor_site_check_config WHERE source_site_id = 15")
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, [15]);
    fleet
        .edit(
            "INSERT INTO blog_settings (blog_id, note, at, amount, flags, code, kinds, \
             custom_headers, forbidden_keywords) VALUES (900, 'x', NOW(3), -1234.5, b'101', \
             '\u{fc}', 'a,b', '{}', '[]'), (901, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, [8, 15]);
    fleet
        .edit("UPDATE blog_settings SET timeout_seconds = 3 WHERE blog_id = 900")
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, [8]);
    fleet
        .edit("UPDATE blog_settings SET note = 'y', code = 'z', flags = b'1'")
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
    assert_eq!(changes.counts().rows_filtered, 2);
}

#[tokio::test]
async fn rows_that_come_go_or_are_switched_are_told_apart() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet.edit("START TRANSACTION").await;
    fleet.add(8, 7).await;
    fleet.set(8, "check_interval = 9").await;
    fleet.set(5, "monitor_active = 0").await;
    fleet.set(6, "monitor_url = 'http://other.test/'").await;
    let settings = "INSERT INTO jetpack_monitor_site_check_config (source_site_id) VALUES (5), (9)";
    fleet.edit(settings).await;
    fleet.edit("COMMIT").await;
    let told = changes.next().await.expect("a change");
    let Change::Rows {
        switched, edited, ..
    } = told
    else {
        panic!("{told:?}")
    };
    assert_eq!(switched, [target(5), target(8)]);
    assert_eq!(edited, [target(6), target(9)]);
}

#[tokio::test]
async fn a_row_that_is_told_is_found_as_the_change_left_it() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    for minutes in 1..30 {
        fleet.set(5, &format!("check_interval = {minutes}")).await;
        let told = changes.next().await.expect("a change");
        let (ids, _) = rows(told).expect("rows");
        assert_eq!(ids, [5]);
        let page = store.legacy_targets(None, 1, false).await.expect("a page");
        assert_eq!(page.targets[0].config.interval_s, minutes * 60);
    }
}

#[tokio::test]
async fn what_we_write_ourselves_is_counted_and_not_told() {
    let mut fleet = Fleet::on(logging()).await;
    fleet
        .edit(
            "ALTER TABLE jetpack_monitor_sites ADD last_checked_at DATETIME NULL, \
             ADD next_check_at DATETIME NULL",
        )
        .await;
    let legacy = Legacy {
        freshness: LegacyFreshness::Columns,
        ..described()
    };
    let store = fleet.open(legacy).await;
    let mut changes = fleet.stream(&store, None).await;
    let writer = Writer::claiming(store.clone(), &claim("test", fleet.journal.get())).await;
    let mut incident = Incident::of(target(5), 1);
    let facts = [incident.open(), incident.confirm()];
    for (seq, fact) in facts.into_iter().enumerate() {
        let applied = writer.apply(&batch(seq as u64 + 1, &[fact])).await;
        applied.expect("applied");
    }
    let rows = vec![fresh(5, 1_800_000_000_000), fresh(6, 1_800_000_000_000)];
    let written = writer.write_freshness(rows).await;
    written.all().expect("written");
    fleet.set(6, "site_status = 2").await;
    fleet.set(6, "bucket_no = 9").await;
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
    let counts = changes.counts();
    assert_eq!((counts.rows, counts.rows_filtered, counts.ids), (7, 6, 1));
    assert!(counts.events > 7, "{counts:?}");
}

#[tokio::test]
async fn smaller_row_images_tell_the_same() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    let settings = "INSERT INTO jetpack_monitor_site_check_config (source_site_id, \
        custom_headers) VALUES (6, '{}')";
    fleet.edit(settings).await;
    assert_eq!(fleet.told(&mut changes).await.0, [6]);
    for image in ["MINIMAL", "NOBLOB", "FULL"] {
        fleet
            .edit(&format!("SET SESSION binlog_row_image = '{image}'"))
            .await;
        fleet.set(5, "site_status = site_status + 1").await;
        fleet.set(5, "last_status_change = NOW()").await;
        assert_eq!(
            fleet.told(&mut changes).await.0,
            Vec::<i64>::new(),
            "{image}"
        );
        fleet.set(5, "monitor_active = 1 - monitor_active").await;
        assert_eq!(fleet.told(&mut changes).await.0, [5], "{image}");
        let change = "UPDATE jetpack_monitor_site_check_config SET";
        fleet
            .edit(&format!(
                "{change} created_at = created_at - INTERVAL 1 DAY"
            ))
            .await;
        assert_eq!(
            fleet.told(&mut changes).await.0,
            Vec::<i64>::new(),
            "{image}"
        );
        fleet
            .edit(&format!(
                "{change} custom_headers = '{{\"x\": \"{image}\"}}'"
            ))
            .await;
        assert_eq!(fleet.told(&mut changes).await.0, [6], "{image}");
        fleet.add(8, 7).await;
        fleet
            .edit("DELETE FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = 8")
            .await;
        assert_eq!(fleet.told(&mut changes).await.0, [8], "{image}");
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_it_acknowledged_and_nothing_was_kept_ahead() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let position = store.change_position(fleet.journal).await.expect("read");
    assert_eq!(position, None);
    let mut changes = fleet.stream(&store, None).await;
    fleet.set(5, "monitor_active = 0").await;
    let (_, done) = fleet.told(&mut changes).await;
    changes.acknowledge(&done);
    fleet.set(6, "monitor_active = 0").await;
    fleet.told(&mut changes).await;
    assert_eq!(changes.resume_from(), Some(done.clone()));
    changes.close().await;
    fleet.add(8, 7).await;
    fleet.set(LAST, "monitor_active = 0").await;
    let kept = store.change_position(fleet.journal).await.expect("read");
    assert_eq!(kept, Some(done));
    let mut changes = fleet.stream(&store, kept.clone()).await;
    assert_eq!(Some(changes.start()), kept.as_ref());
    // The last row changed twice meanwhile, maybe in two messages.
    let mut ids = BTreeSet::new();
    while !ids.contains(&8) {
        ids.extend(told(&mut changes).await.0);
    }
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [6, 8]);
    assert_eq!(changes.counts().kept, 0);
}

#[tokio::test]
async fn the_next_file_of_the_log_goes_on() {
    // Where others may be behind by one file, two more are too much.
    let server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    let mut before = changes.start().clone();
    for id in [5, 6] {
        fleet.edit("FLUSH BINARY LOGS").await;
        fleet.set(id, "monitor_active = 0").await;
        let (ids, position) = fleet.told(&mut changes).await;
        assert_eq!(ids, [id]);
        assert_ne!(
            position.to_string().split(':').next(),
            before.to_string().split(':').next()
        );
        before = position;
    }
    // The new file is a place to begin at, too.
    changes.close().await;
    let mut changes = fleet.stream(&store, Some(before)).await;
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
}

/// By the server's clock, of which each session can make what it likes.
#[tokio::test]
async fn a_stream_says_how_far_it_has_read() {
    let server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let options = OpenOptions {
        legacy: Some(Arc::new(described())),
        change_silence: Duration::from_secs(15),
        ..OpenOptions::default()
    };
    let store = fleet.open_with(&fleet.address, options).await;
    let mut changes = fleet.stream(&store, None).await;
    let Reached {
        opened_s,
        newest_s,
        is_end,
    } = changes.reached();
    assert!(opened_s > 1_700_000_000, "{opened_s}");
    assert_eq!((newest_s, is_end), (None, true));
    let start = changes.start().clone();
    fleet.edit("SET timestamp = 2100000000").await;
    fleet.set(5, "monitor_active = 0").await;
    while rows(changes.next().await.expect("a change")).is_none() {}
    assert_eq!(changes.reached().newest_s, Some(2_100_000_000));
    // The server says that there is no more.
    while !changes.reached().is_end {
        let next = timeout(Duration::from_millis(10), changes.next()).await;
        assert!(!matches!(next, Ok(Err(_))), "{next:?}");
    }
    changes.close().await;
    // What was logged before the next one was opened is no older than that.
    fleet.edit("SET timestamp = 1700000000").await;
    let mut changes = fleet.stream(&store, Some(start)).await;
    fleet.told(&mut changes).await;
    let Reached {
        opened_s, newest_s, ..
    } = changes.reached();
    assert_eq!(newest_s, Some(opened_s));
}

/// A prepared transaction is in the log, and its rows are locked until it is committed.
#[tokio::test]
async fn a_row_that_is_still_locked_is_told_again_once_it_is_free() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    let xid = format!("'{}'", fleet.name);
    fleet.edit(&format!("XA START {xid}")).await;
    fleet.set(5, "monitor_active = 0").await;
    fleet.edit(&format!("XA END {xid}")).await;
    fleet.edit(&format!("XA PREPARE {xid}")).await;
    for _ in 0..2 {
        let told = changes.next().await.expect("a change");
        let (ids, position) = rows(told).expect("rows");
        assert_eq!(ids, [5]);
        assert_eq!(&position, changes.start(), "it is not done");
    }
    fleet.edit(&format!("XA COMMIT {xid}")).await;
    loop {
        let told = changes.next().await.expect("a change");
        let (ids, position) = rows(told).expect("rows");
        assert_eq!(ids, [5]);
        if &position != changes.start() {
            break;
        }
    }
    assert!(changes.counts().ids_again >= 2);
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
}

#[tokio::test]
async fn a_second_stream_of_a_node_ends_the_first_and_one_who_looks_does_not() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut first = fleet.stream(&store, None).await;
    let passing = store.legacy_changes(Reader::Passing, None).await;
    let mut passing = passing.expect("opens");
    assert_eq!(fleet.told(&mut first).await.0, Vec::<i64>::new());
    told(&mut passing).await;
    let mut second = fleet.stream(&store, None).await;
    let error = loop {
        match first.next().await {
            Ok(change) => assert!(!matches!(change, Change::Lost(_)), "{change:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, StoreError::ConnectionLost { .. }),
        "{error}"
    );
    fleet.told(&mut second).await;
    passing.close().await;
    assert_eq!(second.counts().keep_failures, 0);
}
