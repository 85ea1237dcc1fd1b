//! Where the times of checks go, and that they are true there.

use model::UnixMs;
use mysql_async::prelude::Queryable;
use store::{Legacy, LegacyFreshness, StoreError};

use super::super::{Mysql, root, until_somebody_waits_for_a_lock};
use super::{described, fresh, insert, open_as, with_sites};
use crate::fixture::{Backend, import_id, open, row};
use rig::mariadb;

fn with_freshness_columns() -> (Mysql, Legacy) {
    let backend =
        with_sites("(5, 7, 0, 'http://a.test/', 1, 5), (6, 7, 0, 'http://b.test/', 1, 5)");
    backend.number(
        "ALTER TABLE jetpack_monitor_sites ADD last_checked_at DATETIME NULL, \
         ADD next_check_at DATETIME NULL",
    );
    let legacy = Legacy {
        freshness: LegacyFreshness::Columns,
        ..described()
    };
    (backend, legacy)
}

/// Lesson: a time of the check that was rounded down, or written later than it said, made rows
/// that were checked look stale.
#[tokio::test]
async fn a_row_was_never_checked_before_its_check() {
    let (backend, legacy) = with_freshness_columns();
    let store = open_as(&backend.url(), legacy).await.expect("opens");
    let rows = vec![
        fresh(6, 1_800_000_000_001),
        fresh(5, 1_800_000_000_000),
        fresh(77, 1),
    ];
    let written = store.write_freshness(rows).await;
    assert_eq!(written.all().expect("written"), 3);
    for (id, seconds) in [(5, 1_800_000_000), (6, 1_800_000_001)] {
        let column = |name: &str| {
            let sql = format!(
                "SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', {name}) FROM jetpack_monitor_sites \
                 WHERE jetpack_monitor_site_id = {id}"
            );
            backend.number(&sql).expect("a time")
        };
        assert_eq!(column("last_checked_at"), seconds);
        assert_eq!(column("next_check_at"), seconds + 285);
    }
    let own = "SELECT COUNT(*) FROM jetpack_monitor_site_runtime";
    assert_eq!(backend.number(own), Some(0));
    let sites = "SELECT COUNT(*) FROM jetpack_monitor_sites";
    assert_eq!(backend.number(sites), Some(2), "none was made");
}

#[tokio::test]
async fn freshness_goes_where_it_was_told_to() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let own = "SELECT COUNT(*) FROM jetpack_monitor_site_runtime";
    for (freshness, rows) in [(LegacyFreshness::Off, 0), (LegacyFreshness::Sidecar, 1)] {
        let legacy = Legacy {
            freshness,
            ..described()
        };
        let store = open_as(&backend.url(), legacy).await.expect("opens");
        let written = store.write_freshness(vec![fresh(5, 1_000)]).await;
        assert_eq!(written.all().expect("no error"), rows);
        assert_eq!(backend.number(own), Some(rows as i64));
    }
}

#[tokio::test]
async fn check_times_of_deleted_rows_are_forgotten_and_those_of_inactive_ones_are_not() {
    let backend =
        with_sites("(5, 7, 0, 'http://a.test/', 1, 5), (6, 7, 0, 'http://b.test/', 0, 5)");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let rows = vec![fresh(5, 1_000), fresh(6, 1_000), fresh(77, 1_000)];
    let written = store.write_freshness(rows).await;
    assert_eq!(written.all().expect("written"), 3);
    let (step, next) = store
        .forget_freshness(UnixMs(2_000), None)
        .await
        .expect("forgotten");
    assert_eq!((step.freshness, next), (1, None));
    backend.number("DELETE FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = 5");
    let (step, _) = store
        .forget_freshness(UnixMs(2_000), None)
        .await
        .expect("forgotten");
    assert_eq!(step.freshness, 1);
    let left = "SELECT target_id FROM jetpack_monitor_site_runtime";
    assert_eq!(backend.number(left), Some(6));
}

#[tokio::test]
async fn who_lost_the_right_to_write_does_not_write_there_either() {
    let (backend, legacy) = with_freshness_columns();
    let store = open_as(&backend.url(), legacy).await.expect("opens");
    backend.number("UPDATE jetpack_monitor_nodes SET epoch = epoch + 1");
    let written = store.write_freshness(vec![fresh(5, 1_000)]).await;
    let error = written.all().expect_err("fenced");
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    let own = "SELECT COUNT(last_checked_at) FROM jetpack_monitor_sites";
    assert_eq!(backend.number(own), Some(0));
}

/// Lesson: one row that somebody held made the whole flush fail, and kept all rows after it from
/// being written.
#[tokio::test]
async fn a_chunk_that_somebody_holds_is_left_and_the_others_are_written() {
    let (backend, legacy) = with_freshness_columns();
    let more = (1_001..=5_000).map(|id| format!("({id}, 1, 0, 'http://s.test/', 1, 5)"));
    insert(&backend, &more.collect::<Vec<_>>().join(","));
    let store = open_as(&backend.url(), legacy).await.expect("opens");
    let mut other = root(mariadb::shared()).await;
    let hold = format!(
        "SELECT * FROM {}.jetpack_monitor_sites WHERE jetpack_monitor_site_id = 4500 FOR UPDATE",
        backend.name
    );
    other.query_drop("START TRANSACTION").await.expect("begun");
    other.query_drop(hold).await.expect("held");
    // In no order: chunks are made in the order of the primary key.
    let rows = |from: i64| (from..=5_000).rev().map(|id| fresh(id, 1_800_000_000_000));
    let written = store.write_freshness(rows(1_001).collect()).await;
    assert!(
        matches!(written.error, Some(StoreError::Contended { .. })),
        "{:?}",
        written.error
    );
    assert_eq!((written.rows, written.left.len()), (2_000, 2_000));
    let left: Vec<i64> = written.left.iter().map(|row| row.target.get()).collect();
    assert_eq!(left, (3_001..=5_000).collect::<Vec<_>>());
    // The other one goes while the chunk is tried again.
    let writing = tokio::spawn({
        let (store, left) = (store.clone(), written.left);
        async move { store.write_freshness(left).await }
    });
    until_somebody_waits_for_a_lock().await;
    other.query_drop("ROLLBACK").await.expect("let go");
    let written = writing.await.expect("no panic");
    assert_eq!(written.all().expect("written"), 2_000);
}

#[tokio::test]
async fn older_readers_find_freshness_under_their_names() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    store
        .import(vec![row(5, "http://a.test/")], import_id(0))
        .await
        .expect("imported");
    let checked = vec![fresh(5, 1_800_000_000_123), fresh(6, 4_000_000_000_000)];
    store.write_freshness(checked).await.all().expect("written");
    for sql in [
        "SELECT last_checked_at = '2027-01-15 08:00:00.123' FROM jetpack_monitor_endpoint_runtime \
         WHERE source_site_id = 5",
        "SELECT next_check_at = '2027-01-15 08:04:45.123' AND blog_id = 0 \
         FROM jetpack_monitor_endpoint_runtime WHERE source_site_id = 5",
        // Beyond 2038, and of no target of ours.
        "SELECT YEAR(last_checked_at) = 2096 AND blog_id IS NULL \
         FROM jetpack_monitor_endpoint_runtime WHERE source_site_id = 6",
        "SELECT COUNT(*) = 2 FROM information_schema.columns WHERE table_schema = DATABASE() \
         AND table_name = 'jetpack_monitor_endpoint_runtime' AND data_type = 'datetime' \
         AND column_name IN ('last_checked_at', 'next_check_at')",
    ] {
        assert_eq!(backend.number(sql), Some(1), "{sql}");
    }
}
