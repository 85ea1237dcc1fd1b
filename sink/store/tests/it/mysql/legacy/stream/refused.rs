//! Servers that tell no changes, and why.

use std::sync::Arc;

use store::{LostChanges, NoChanges, OpenOptions, Reader, Store, StoreError, StoreUrl};

use super::super::{SITES, described};
use super::{Fleet, LOGGING, logging, start};
use crate::proxy::Proxy;
use rig::mariadb;

async fn refusal(fleet: &Fleet) -> (NoChanges, String) {
    let store = fleet.open(described()).await;
    let opened = store.legacy_changes(Reader::Passing, None).await;
    let error = opened.expect_err("refused");
    let sentence = error.to_string();
    match error {
        StoreError::NoChanges { why, .. } => (why, sentence),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_without_a_log_is_refused() {
    let fleet = Fleet::on(mariadb::shared()).await;
    let (why, sentence) = refusal(&fleet).await;
    assert_eq!(why, NoChanges::LogOff);
    assert!(sentence.contains("start it with log_bin"), "{sentence}");
    assert!(!sentence.contains("ss@word"), "{sentence}");
}

/// Lesson: a place behind 4 GiB was cut to its 32 lower bits, and changes were told from anywhere.
#[tokio::test]
async fn a_log_whose_end_cannot_be_asked_for_is_refused_and_a_place_there_is_lost() {
    let server = logging();
    let proxy = Proxy::start(server.port());
    let mut fleet = Fleet::on(server).await;
    let direct = server.address("ringwatch", &fleet.name);
    fleet.address = proxy.address(&direct).parse().expect("valid");
    proxy.instead(
        "SHOW MASTER STATUS",
        "SELECT 'log.000001', 4294967296, '', ''",
    );
    let (why, sentence) = refusal(&fleet).await;
    assert!(matches!(why, NoChanges::LongLog { .. }), "{why}");
    for words in ["log.000001:4294967296", "FLUSH BINARY LOGS"] {
        assert!(sentence.contains(words), "{sentence}");
    }
    proxy.instead("", "");
    let store = fleet.open(described()).await;
    let mut changes = fleet.stream(&store, None).await;
    let (_, position) = fleet.told(&mut changes).await;
    changes.acknowledge(&position);
    changes.close().await;
    // As a node of before kept it.
    fleet
        .edit("UPDATE jetpack_monitor_change_positions SET log_offset = log_offset + 4294967296")
        .await;
    let kept = store.change_position(fleet.journal).await.expect("asked");
    let reader = Reader::Node(fleet.journal);
    let error = store.legacy_changes(reader, kept).await.expect_err("lost");
    let StoreError::ChangesLost { why, .. } = error else {
        panic!("{error}")
    };
    assert!(matches!(why, LostChanges::OutOfReach { .. }), "{why}");
}

#[tokio::test]
async fn a_user_without_the_privilege_is_told_what_to_grant() {
    let mut fleet = Fleet::on(logging()).await;
    for rights in ["", "REPLICATION SLAVE", "REPLICATION CLIENT"] {
        let user = format!("u_{}", fleet.name);
        for statement in [
            &format!("DROP USER IF EXISTS {user}"),
            &format!("CREATE USER {user} IDENTIFIED BY 'pa:ss@word'"),
            &format!("GRANT ALL ON {}.* TO {user}", fleet.name),
        ] {
            fleet.edit(statement).await;
        }
        if !rights.is_empty() {
            fleet
                .edit(&format!("GRANT {rights} ON *.* TO {user}"))
                .await;
        }
        let address = logging().address(&user, &fleet.name);
        fleet.address = address.parse().expect("valid");
        let (why, sentence) = refusal(&fleet).await;
        assert!(
            matches!(why, NoChanges::Privilege { .. }),
            "{rights}: {why}"
        );
        let grant = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*";
        assert!(sentence.contains(grant), "{sentence}");
        assert!(!sentence.contains("ss@word"), "{sentence}");
    }
}

#[tokio::test]
async fn a_log_that_does_not_have_all_changes_as_rows_is_refused() {
    let server = start(&LOGGING);
    let mut fleet = Fleet::on(&server).await;
    for (setting, wanted, part) in [
        (
            "binlog_format = MIXED",
            "binlog_format = ROW",
            "set it to ROW",
        ),
        (
            "binlog_format = STATEMENT",
            "binlog_format = ROW",
            "set it to ROW",
        ),
        (
            "log_bin_compress = ON",
            "log_bin_compress = OFF",
            "set it to OFF",
        ),
    ] {
        fleet.edit(&format!("SET GLOBAL {setting}")).await;
        let (why, sentence) = refusal(&fleet).await;
        assert!(
            matches!(why, NoChanges::Format { .. } | NoChanges::Packed { .. }),
            "{why}"
        );
        assert!(sentence.contains(part), "{sentence}");
        fleet.edit(&format!("SET GLOBAL {wanted}")).await;
    }
    let store = fleet.open(described()).await;
    fleet.stream(&store, None).await;
}

#[tokio::test]
async fn a_database_that_is_left_out_of_the_log_is_refused() {
    let mut options = LOGGING.to_vec();
    options.push("--binlog-do-db=elsewhere");
    let server = start(&options);
    let fleet = Fleet::on(&server).await;
    let (why, _) = refusal(&fleet).await;
    let database = fleet.name.clone();
    assert_eq!(
        why,
        NoChanges::LeftOut {
            database,
            which: "do"
        }
    );
}

#[tokio::test]
async fn tables_whose_changes_the_log_does_not_tell_are_refused() {
    let mut fleet = Fleet::on(logging()).await;
    let table = "jetpack_monitor_sites";
    fleet
        .edit("CREATE TABLE blogs (id BIGINT UNSIGNED NOT NULL PRIMARY KEY)")
        .await;
    fleet.edit("INSERT INTO blogs VALUES (7)").await;
    fleet
        .edit(&format!(
            "ALTER TABLE {table} ADD CONSTRAINT of_blog FOREIGN KEY (blog_id) \
             REFERENCES blogs (id) ON DELETE CASCADE"
        ))
        .await;
    let (why, sentence) = refusal(&fleet).await;
    assert!(matches!(why, NoChanges::Cascade { .. }), "{why}");
    assert!(sentence.contains("of_blog"), "{sentence}");
    fleet
        .edit(&format!("ALTER TABLE {table} DROP FOREIGN KEY of_blog"))
        .await;
    fleet
        .edit(&format!("ALTER TABLE {table} ADD note BLOB COMPRESSED"))
        .await;
    let (why, _) = refusal(&fleet).await;
    assert!(matches!(why, NoChanges::CompressedColumn { .. }), "{why}");
    fleet
        .edit(&format!("ALTER TABLE {table} DROP COLUMN note"))
        .await;
    let store = fleet.open(described()).await;
    fleet.stream(&store, None).await;
}

#[tokio::test]
async fn rows_that_do_not_say_which_they_are_are_refused() {
    let mut options = LOGGING.to_vec();
    options.push("--binlog-row-image=MINIMAL");
    let server = start(&options);
    let mut fleet = Fleet::on(&server).await;
    let store = fleet.open(described()).await;
    fleet.stream(&store, None).await;
    fleet.edit("DROP TABLE jetpack_monitor_sites").await;
    let other_key = SITES.replace(
        "PRIMARY KEY (jetpack_monitor_site_id)",
        "UNIQUE KEY of_id (jetpack_monitor_site_id)",
    );
    fleet.edit(&other_key).await;
    let (why, sentence) = refusal(&fleet).await;
    assert!(matches!(why, NoChanges::Image { .. }), "{why}");
    assert!(sentence.contains("set it to FULL"), "{sentence}");
}

#[tokio::test]
async fn a_store_whose_targets_are_its_own_has_no_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = StoreUrl::Sqlite(folder.path().join("s.db"));
    let embedded = Store::open(&file).await.expect("opens");
    let fleet = Fleet::on(logging()).await;
    let mut legacy = described();
    legacy.load = false;
    let options = OpenOptions {
        legacy: Some(Arc::new(legacy)),
        ..OpenOptions::default()
    };
    let own = Store::open_with(&fleet.address, options)
        .await
        .expect("opens");
    for store in [embedded, own] {
        let opened = store.legacy_changes(Reader::Passing, None).await;
        let error = opened.expect_err("refused");
        let why = NoChanges::OwnTargets;
        assert!(
            matches!(&error, StoreError::NoChanges { why: found, .. } if *found == why),
            "{error}"
        );
    }
}
