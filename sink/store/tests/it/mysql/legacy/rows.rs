//! Rows as a sweep reads them: in pages, by bucket, by id; and counts by bucket.

use model::UnixMs;
use store::{LegacyRange, LegacyRow, LegacyState, RowTally, Switched};

use super::*;

async fn opened(address: &StoreUrl) -> Store {
    let opened = open_without_claim(address, described()).await;
    opened.expect("opens")
}

async fn rows(store: &Store, range: LegacyRange) -> Vec<LegacyRow> {
    store.legacy_rows(range, true).await.expect("rows")
}

/// Id, bucket and `a`ctive, `r`efused, `p`aused or `i`nactive.
fn brief(rows: &[LegacyRow]) -> Vec<(i64, Option<u16>, char)> {
    let word = |state: &LegacyState| match state {
        LegacyState::Active(..) => 'a',
        LegacyState::Refused(_) => 'r',
        LegacyState::Inactive => 'i',
        LegacyState::Paused => 'p',
    };
    rows.iter()
        .map(|row| (row.id.get(), row.bucket, word(&row.state)))
        .collect()
}

fn tally(ids: &[i64]) -> RowTally {
    let mut tally = RowTally::default();
    for &id in ids {
        tally.toggle(target(id), true);
    }
    tally
}

const FOUR: &str = "(3, 900, 1, 'http://a.test/', 1, 5), (5, 900, 2, 'nonsense', 1, 5),
    (6, 901, 1, 'nonsense', 0, 5), (4000000000, 904, 1, 'http://c.test/', 1, 0)";

#[tokio::test]
async fn rows_are_read_by_page_by_bucket_and_by_id_whatever_they_are() {
    let backend = with_sites(FOUR);
    let store = opened(&backend.url()).await;
    let [good, bad, off, far] = [
        (3, Some(1), 'a'),
        (5, Some(2), 'r'),
        (6, Some(1), 'i'),
        (4_000_000_000, Some(1), 'a'),
    ];
    let after = |id: Option<i64>, limit| LegacyRange::After {
        id: id.map(target),
        limit,
    };
    assert_eq!(brief(&rows(&store, after(None, 2)).await), [good, bad]);
    assert_eq!(brief(&rows(&store, after(Some(5), 2)).await), [far]);
    let of_bucket = |id: Option<i64>, limit| LegacyRange::Bucket {
        bucket: 1,
        id: id.map(target),
        limit,
    };
    assert_eq!(brief(&rows(&store, of_bucket(None, 1)).await), [good]);
    assert_eq!(brief(&rows(&store, of_bucket(Some(3), 1)).await), [far]);
    // More than one statement takes; most of them are not there.
    let ids = (1..=700).chain([4_000_000_000]).map(target).collect();
    let found = rows(&store, LegacyRange::Ids(ids)).await;
    assert_eq!(brief(&found), [good, bad, off, far]);
    let without = store.legacy_rows(after(None, 1), false).await;
    assert_eq!(brief(&without.expect("rows")), [(3, None, 'a')]);
}

#[tokio::test]
async fn settings_of_a_target_count_in_its_fingerprint_and_its_status_does_not() {
    let backend = with_sites("(3, 900, 1, 'http://a.test/', 1, 5)");
    let store = opened(&backend.url()).await;
    let read = async || {
        let mut found = rows(&store, LegacyRange::Ids(vec![target(3)])).await;
        match found.pop().map(|row| row.state) {
            Some(LegacyState::Active(_, fingerprint)) => fingerprint,
            other => panic!("{other:?}"),
        }
    };
    let before = read().await;
    backend.number(
        "UPDATE jetpack_monitor_sites SET site_status = 2, last_status_change = NOW(), \
         bucket_no = 9",
    );
    assert_eq!(read().await, before);
    backend.number(
        "INSERT INTO jetpack_monitor_site_check_config (source_site_id, blog_id, \
         request_method) VALUES (3, 900, 'HEAD')",
    );
    let after = read().await;
    assert_ne!(after.probed, before.probed);
    assert_eq!(after.kept, before.kept);
    backend.number("UPDATE jetpack_monitor_sites SET blog_id = 901");
    assert_ne!(read().await.kept, before.kept);
}

/// Whether the server counts without reading the rows: it may look at the rows of the slice in
/// the index, and at nothing else.
#[tokio::test]
async fn a_slice_of_buckets_is_counted_from_the_index_alone() {
    let server = Server::start(&[]);
    server.sql(&format!("CREATE DATABASE t_count; USE t_count; {SITES};"));
    let address = url(&server.address("ringwatch", "t_count"));
    Store::migrate(&address).await.expect("migrated");
    server.sql(
        "INSERT INTO t_count.jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active) SELECT seq, seq, seq % 1000, 'http://a.test/', seq % 50 > 0 \
         FROM t_count.seq_1_to_20000; ANALYZE TABLE t_count.jetpack_monitor_sites;",
    );
    let store = opened(&address).await;
    assert!(store.legacy_has_buckets().await.expect("looked"));
    let looked_at = || -> i64 {
        let said = server.sql("SHOW GLOBAL STATUS LIKE 'Handler_read%'");
        let numbers = said.lines().filter_map(|line| line.split('\t').nth(1));
        numbers.filter_map(|n| n.parse::<i64>().ok()).sum()
    };
    let before = looked_at();
    let counted = store.legacy_tally(100, 199).await.expect("counted");
    let cost = looked_at() - before;
    assert_eq!(counted.len(), 98, "two buckets have no active row");
    let ids: Vec<i64> = (0..20).map(|nth| nth * 1_000 + 101).collect();
    assert_eq!(counted[0], (101, tally(&ids)));
    let rows: u64 = counted.iter().map(|(_, tally)| tally.rows).sum();
    assert_eq!(rows, 98 * 20);
    // A look at what the server counted is itself some rows.
    assert!(cost < 3_500, "{cost} rows for 1,960");
}

/// By the primary key, whatever index there is: so many rows as were asked for, and no more.
#[tokio::test]
async fn rows_are_counted_by_id_in_pieces_and_without_reading_the_table() {
    let server = Server::start(&[]);
    server.sql(&format!("CREATE DATABASE t_count; USE t_count; {SITES};"));
    let address = url(&server.address("ringwatch", "t_count"));
    Store::migrate(&address).await.expect("migrated");
    server.sql(
        "INSERT INTO t_count.jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active) SELECT seq, seq, 1, 'http://a.test/', seq % 50 > 0 \
         FROM t_count.seq_1_to_20000; ANALYZE TABLE t_count.jetpack_monitor_sites;",
    );
    let store = opened(&address).await;
    let looked_at = || -> i64 {
        let said = server.sql("SHOW GLOBAL STATUS LIKE 'Handler_read%'");
        let numbers = said.lines().filter_map(|line| line.split('\t').nth(1));
        numbers.filter_map(|n| n.parse::<i64>().ok()).sum()
    };
    let before = looked_at();
    let counted = store.legacy_tally_after(Some(target(9_990)), 980).await;
    let cost = looked_at() - before;
    let ids: Vec<i64> = (9_991..=10_990).filter(|id| id % 50 != 0).collect();
    assert_eq!(ids.len(), 980);
    let expected = (tally(&ids), Some(target(10_990)));
    assert_eq!(counted.expect("counted"), expected);
    // Those of the table, those of the piece, and a look at what the server counted.
    assert!(cost < 3_500, "{cost} rows for 980");
    let counted = store.legacy_tally_after(Some(target(19_998)), 980).await;
    let expected = (tally(&[19_999]), Some(target(19_999)));
    assert_eq!(counted.expect("counted"), expected);
    let counted = store.legacy_tally_after(Some(target(20_000)), 980).await;
    assert_eq!(counted.expect("counted"), (tally(&[]), None));
}

#[tokio::test]
async fn without_an_index_of_buckets_there_is_nothing_to_count_by() {
    let backend = with_sites(FOUR);
    let index = "bucket_no_monitor_active_check_interval";
    backend.number(&format!(
        "ALTER TABLE jetpack_monitor_sites DROP KEY {index}, ADD KEY other (monitor_active, \
         bucket_no)"
    ));
    let store = opened(&backend.url()).await;
    assert!(!store.legacy_has_buckets().await.expect("looked"));
    backend.number(
        "ALTER TABLE jetpack_monitor_sites DROP KEY other, DROP COLUMN bucket_no, \
         ADD COLUMN bucket_no VARCHAR(5) NOT NULL DEFAULT '1', \
         ADD KEY other (bucket_no, monitor_active)",
    );
    assert!(!store.legacy_has_buckets().await.expect("looked"));
}

#[tokio::test]
async fn a_pause_is_ours_alone_and_such_a_row_is_found_paused() {
    let backend = with_sites(FOUR);
    let store = opened(&backend.url()).await;
    let pause = |id: i64| store.pause_target(target(id), "ann".to_owned(), UnixMs(5));
    for (id, expected) in [
        (3, Switched::Done),
        (3, Switched::Already),
        (5, Switched::Done),
        (6, Switched::Done),
        (77, Switched::Absent),
    ] {
        assert_eq!(pause(id).await.expect("asked"), expected, "{id}");
    }
    let everything = LegacyRange::After { id: None, limit: 9 };
    let ids = LegacyRange::Ids([3, 5, 6].map(target).into());
    // One that is switched off is so, and counts are those of the table.
    let (good, bad, off) = ((3, Some(1), 'p'), (5, Some(2), 'p'), (6, Some(1), 'i'));
    let far = (4_000_000_000, Some(1), 'a');
    assert_eq!(
        brief(&rows(&store, everything.clone()).await),
        [good, bad, far]
    );
    assert_eq!(brief(&rows(&store, ids).await), [good, bad, off]);
    let counted = store.legacy_tally(0, 9).await.expect("counts");
    assert_eq!(counted, [(1, tally(&[3, 4_000_000_000])), (2, tally(&[5]))]);
    let active = "SELECT SUM(monitor_active) FROM jetpack_monitor_sites";
    assert_eq!(
        backend.number(active),
        Some(3),
        "nothing of it is in the table"
    );
    // As targets: one by one, and in pages.
    let found = store.targets_by_ids([3, 5, 77].map(target).into()).await;
    let found = found.expect("read");
    let seen: Vec<_> = found
        .targets
        .iter()
        .map(|it| (it.id.get(), it.active))
        .collect();
    assert_eq!((seen, found.refused.len()), (vec![(3, false)], 1));
    let page = store.targets(None, 9, true).await.expect("a page");
    assert_eq!(page.targets.len(), 1);
    assert_eq!(store.counts().await.expect("counts").active, 1);
    assert_eq!(store.active_targets().await.expect("counted"), 1);
    let resumed = store.resume_target(target(3)).await.expect("asked");
    let again = store.resume_target(target(3)).await.expect("asked");
    assert_eq!((resumed, again), (Switched::Done, Switched::Already));
    let first = brief(&rows(&store, everything).await)[0];
    assert_eq!(first, (3, Some(1), 'a'));
}

/// Lesson: who copies rows into our own table copies those that are paused there as well.
#[tokio::test]
async fn a_pause_of_our_own_targets_is_none_of_rows_that_are_only_copied() {
    let backend = with_sites(FOUR);
    let opened = opened(&backend.url()).await;
    let paused = opened.pause_target(target(3), "ann".to_owned(), UnixMs(5));
    assert_eq!(paused.await.expect("asked"), Switched::Done);
    let copied = Legacy {
        load: false,
        ..described()
    };
    let beside = open_without_claim(&backend.url(), copied).await;
    let beside = beside.expect("opens");
    let page = beside.legacy_targets(None, 9, true).await.expect("a page");
    let ids: Vec<i64> = page.targets.iter().map(|it| it.id.get()).collect();
    assert_eq!(ids, [3, 4_000_000_000]);
}
