//! Where a stream cannot go on: it says so, and the next one begins where nothing is missing.

use std::sync::Arc;
use std::time::Duration;

use store::{Change, LostChanges, OpenOptions, Reader, StoreError};

use super::super::{described, name};
use super::{BLOG_SETTINGS, Fleet, LAST, LOGGING, last_word, logging, start, told};
use crate::proxy::Proxy;

#[tokio::test]
async fn a_position_whose_log_was_purged_or_replaced_is_lost_and_now_is_not() {
    let mut server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    let changes = fleet.stream(&store, None).await;
    let start = changes.start().clone();
    changes.close().await;
    // Logs that somebody reads are not purged, and a server notices late that nobody does.
    server.kill();
    server.run(&LOGGING);
    fleet.come_back(&server).await;
    // Files of one name are told apart by the second in which they were begun.
    fleet.edit("DO SLEEP(1)").await;
    for end in [
        "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY",
        "RESET MASTER",
    ] {
        fleet.edit(end).await;
        // The file that has the name again is long enough.
        for _ in 0..100 {
            fleet
                .set(5, "check_interval = 1 + check_interval % 9")
                .await;
        }
        let reader = Reader::Node(fleet.journal);
        let opened = store.legacy_changes(reader, Some(start.clone())).await;
        let error = opened.expect_err("it is gone");
        let StoreError::ChangesLost { why, .. } = error else {
            panic!("{error}")
        };
        assert!(
            matches!(
                why,
                LostChanges::Purged { .. } | LostChanges::Elsewhere { .. }
            ),
            "{end}: {why}"
        );
        let mut changes = fleet.stream(&store, None).await;
        fleet.set(6, "check_interval = check_interval + 1").await;
        assert_eq!(fleet.told(&mut changes).await.0, [6], "{end}");
        changes.close().await;
    }
}

/// Hours of a log are not read for what one reading of the table tells.
#[tokio::test]
async fn a_position_that_files_came_after_is_lost_and_now_is_not() {
    let server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    let changes = fleet.stream(&store, None).await;
    let start = changes.start().clone();
    changes.close().await;
    let reader = || Reader::Node(fleet.journal);
    server.sql("FLUSH BINARY LOGS");
    let near = store.legacy_changes(reader(), Some(start.clone())).await;
    near.expect("the file before is read").close().await;
    server.sql("FLUSH BINARY LOGS");
    let far = store.legacy_changes(reader(), Some(start)).await;
    let error = far.expect_err("too far");
    let sentence = error.to_string();
    let StoreError::ChangesLost { why, .. } = error else {
        panic!("{sentence}")
    };
    assert!(matches!(why, LostChanges::Behind { .. }), "{why}");
    assert!(sentence.contains("or a file further"), "{sentence}");
    let mut changes = fleet.stream(&store, None).await;
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
}

#[tokio::test]
async fn a_table_that_is_altered_is_lost_and_then_read_as_it_is_now() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet
        .edit("CREATE TABLE jetpack_monitor_sites_old (id INT)")
        .await;
    fleet
        .edit("ALTER TABLE jetpack_monitor_sites_old ADD x INT")
        .await;
    assert_eq!(fleet.told(&mut changes).await.0, Vec::<i64>::new());
    for alter in [
        "ALTER TABLE jetpack_monitor_sites ADD COLUMN note TEXT FIRST",
        "ALTER TABLE jetpack_monitor_site_check_config ADD COLUMN note TEXT FIRST",
        "RENAME TABLE jetpack_monitor_sites TO away, away TO jetpack_monitor_sites",
    ] {
        fleet.edit(alter).await;
        let why = last_word(&mut changes).await;
        assert!(
            matches!(why, LostChanges::Statement { .. }),
            "{alter}: {why}"
        );
        assert_eq!(changes.resume_from(), None);
        assert!(changes.next().await.is_err(), "it was the last word");
        changes = fleet.stream(&store, changes.resume_from()).await;
        fleet.set(5, "check_interval = check_interval + 1").await;
        assert_eq!(fleet.told(&mut changes).await.0, [5], "{alter}");
        fleet.set(5, "site_status = site_status + 1").await;
        assert_eq!(
            fleet.told(&mut changes).await.0,
            Vec::<i64>::new(),
            "{alter}"
        );
    }
}

#[tokio::test]
async fn rows_older_than_the_table_is_now_are_lost() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    let changes = fleet.stream(&store, None).await;
    let start = changes.start().clone();
    changes.close().await;
    fleet.set(5, "monitor_active = 0").await;
    fleet
        .edit("ALTER TABLE jetpack_monitor_sites ADD COLUMN note TEXT")
        .await;
    let mut changes = fleet.stream(&store, Some(start)).await;
    let why = last_word(&mut changes).await;
    assert!(matches!(why, LostChanges::Shape { .. }), "{why}");
}

#[tokio::test]
async fn changes_that_are_no_rows_are_lost() {
    let mut fleet = Fleet::on(logging()).await;
    let store = fleet.open(described()).await;
    for (before, statement) in [
        (
            "SET SESSION binlog_format = 'STATEMENT'",
            "UPDATE jetpack_monitor_sites SET monitor_active = 0",
        ),
        (
            "SET SESSION binlog_format = 'ROW'",
            "TRUNCATE TABLE jetpack_monitor_site_check_config",
        ),
    ] {
        let mut changes = fleet.stream(&store, None).await;
        fleet.edit(before).await;
        fleet.edit(statement).await;
        let why = last_word(&mut changes).await;
        assert!(
            matches!(why, LostChanges::Statement { .. }),
            "{statement}: {why}"
        );
        let sentence = why.to_string();
        assert!(!sentence.contains("monitor_active"), "{sentence}");
    }
}

#[tokio::test]
async fn compressed_events_are_lost() {
    let server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet.edit("SET GLOBAL log_bin_compress = ON").await;
    let long = "x".repeat(280);
    fleet
        .set(5, &format!("monitor_url = 'http://{long}.test/'"))
        .await;
    let why = last_word(&mut changes).await;
    assert!(matches!(why, LostChanges::Unreadable { .. }), "{why}");
    assert!(why.to_string().contains("compressed"), "{why}");
}

#[tokio::test]
async fn a_huge_transaction_is_lost_without_being_taken_in() {
    let mut fleet = Fleet::on(logging()).await;
    fleet
        .edit(
            "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
             monitor_url) SELECT 1000000 + seq, 7, 1, 'http://a.test/' FROM seq_1_to_100000",
        )
        .await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet
        .edit("UPDATE jetpack_monitor_sites SET check_interval = 9")
        .await;
    assert_eq!(last_word(&mut changes).await, LostChanges::TooMany);
    let rows = changes.counts().rows;
    assert!((10_001..20_000).contains(&rows), "{rows}");
    assert_eq!(changes.counts().ids, 0);
    changes = fleet.stream(&store, changes.resume_from()).await;
    // Many in small transactions are told.
    fleet
        .edit("UPDATE jetpack_monitor_sites SET site_status = 2")
        .await;
    fleet
        .edit(
            "UPDATE jetpack_monitor_sites SET check_interval = 8 \
             WHERE jetpack_monitor_site_id BETWEEN 1000001 AND 1009999",
        )
        .await;
    assert_eq!(fleet.told(&mut changes).await.0.len(), 9_999);
    assert_eq!(changes.counts().rows_filtered, 100_003);
}

#[tokio::test]
async fn settings_of_a_blog_are_lost_where_its_targets_are_not_found_by_an_index() {
    let mut fleet = Fleet::on(logging()).await;
    fleet.edit(BLOG_SETTINGS).await;
    fleet
        .edit("ALTER TABLE jetpack_monitor_sites DROP INDEX blog_id_monitor_url")
        .await;
    let mut legacy = described();
    legacy.blog_config_table = Some(name("blog_settings"));
    let store = fleet.open(legacy).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet.set(5, "monitor_active = 0").await;
    assert_eq!(fleet.told(&mut changes).await.0, [5]);
    fleet
        .edit("INSERT INTO blog_settings (blog_id) VALUES (7)")
        .await;
    let why = last_word(&mut changes).await;
    assert!(matches!(why, LostChanges::NoIndex { .. }), "{why}");
}

#[tokio::test]
async fn a_server_that_was_killed_goes_on_where_it_was() {
    let mut server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    let (_, done) = fleet.told(&mut changes).await;
    changes.acknowledge(&done);
    fleet.set(5, "monitor_active = 0").await;
    server.kill();
    let error = loop {
        match changes.next().await {
            Ok(change) => assert!(matches!(change, Change::Rows { .. }), "{change:?}"),
            Err(error) => break error,
        }
    };
    // Its connection ended; or, where the change was being settled, no other one was to be had.
    let is_away = matches!(
        error,
        StoreError::ConnectionLost { .. } | StoreError::Unreachable { .. }
    );
    assert!(is_away, "{error}");
    let from = changes.resume_from();
    assert_eq!(from, Some(done));
    server.run(&LOGGING);
    fleet.come_back(&server).await;
    fleet.set(6, "monitor_active = 0").await;
    let mut changes = fleet.stream(&store, from).await;
    let (ids, position) = fleet.told(&mut changes).await;
    assert_eq!(ids, [5, 6]);
    changes.acknowledge(&position);
    assert!(changes.counts().ids >= 3);
    fleet.set(LAST, "monitor_active = 0").await;
    assert_eq!(told(&mut changes).await.0, Vec::<i64>::new());
}

/// The connection lives, and nothing arrives on it: no event, no heartbeat. Positions are kept and
/// rows are read meanwhile, which is no word of the server.
#[tokio::test]
async fn a_server_that_falls_silent_ends_its_stream_and_the_next_one_misses_nothing() {
    let server = logging();
    let proxy = Proxy::start(server.port());
    let mut fleet = Fleet::on(server).await;
    let options = OpenOptions {
        legacy: Some(Arc::new(described())),
        ..OpenOptions::default()
    };
    let behind = proxy.address(&server.address("ringwatch", &fleet.name));
    let behind = behind.parse().expect("valid");
    let store = fleet.open_with(&behind, options.clone()).await;
    let mut changes = fleet.stream(&store, None).await;
    fleet.set(5, "monitor_active = 0").await;
    let (ids, start) = fleet.told(&mut changes).await;
    assert_eq!(ids, [5]);
    changes.close().await;
    // Only who waits for the silence is impatient: a busy machine may be silent for a while, too.
    // It begins behind what was told: a row that it had to look at would be a statement's silence.
    let impatient = OpenOptions {
        change_silence: Duration::from_secs(3),
        ..options
    };
    let waiting = fleet.open_with(&behind, impatient).await;
    let mut changes = fleet.stream(&waiting, Some(start.clone())).await;
    proxy.hush();
    fleet.set(6, "monitor_active = 0").await;
    let error = loop {
        match changes.next().await {
            Ok(change) => assert!(!matches!(change, Change::Lost(_)), "{change:?}"),
            Err(error) => break error,
        }
    };
    let sentence = error.to_string();
    assert!(
        matches!(
            error,
            StoreError::TimedOut {
                limit_ms: 3_000,
                ..
            }
        ),
        "{sentence}"
    );
    assert!(sentence.contains("its binary log"), "{sentence}");
    let from = changes.resume_from();
    assert_eq!(from, Some(start), "nothing was acknowledged");
    let mut changes = fleet.stream(&store, from).await;
    assert_eq!(fleet.told(&mut changes).await.0, [6]);
}
