//! What a server is asked: how often by a fleet in which nothing happens, by its own count.

use model::TargetId;
use model::limits::{CHANGE_KEEP_MS, FRESHNESS_FLUSH_MS, LEGACY_PAGE_MAX};
use rig::mariadb::Server;
use store::{FreshnessRow, Legacy, LegacyFreshness, LegacyRange, OpenOptions, Store};

use super::{legacy, url};
use crate::fixture::{START, Writer, target};

/// Targets of the fleet, the time between two checks of each, and between two writes of its row.
const FLEET: u64 = 500_000;
const INTERVAL_MS: u64 = 300_000;
const PROJECTION_MS: u64 = 900_000;
const CHECKS_PER_STATEMENT: u64 = 500;

/// How long a node is followed: most of what it asks is asked in it.
const WINDOW_MS: u64 = 60_000;
/// Time between two looks for changed targets, of which a legacy table has none.
const LOOK_MS: u64 = 800;
/// The default lease, and a third of it.
const LEASE_MS: u64 = 30_000;
const RENEWAL_MS: u64 = LEASE_MS / 3;
const WINDOWS_MS: u64 = 10_000;
const PAUSED_MS: u64 = 30_000;
/// The sweep of a legacy table: a slice of the buckets is counted so often, with a stream and
/// without; and without one every row is read in as long as between two checks.
const TALLY_STREAM_MS: u64 = 30_000;
const TALLY_MS: u64 = 3_000;
/// So many rows a minute are compared with our events, in slices.
const DRIFT_ROWS: u64 = 50_000;
const DRIFT_SLICE_ROWS: u64 = 10_000;
/// Silent connections that are kept.
const KEPT_ALIVE: u64 = 4;

fn times(every_ms: u64) -> u64 {
    WINDOW_MS.div_ceil(every_ms)
}

/// Writes the freshness of the window, in flushes as they are due.
async fn flush(store: &Writer) {
    let rows = FLEET * FRESHNESS_FLUSH_MS / PROJECTION_MS;
    let row = |id: u64| FreshnessRow {
        target: target(id as i64),
        last_checked: START,
        next_check: START,
    };
    for _ in 0..times(FRESHNESS_FLUSH_MS) {
        let written = store.write_freshness((1..=rows).map(row).collect()).await;
        assert_eq!(written.all().expect("written"), rows);
    }
}

/// What a node asks in a window, wherever its targets are.
async fn a_while(store: &Writer) {
    flush(store).await;
    for later_ms in 0..times(RENEWAL_MS) {
        // In one millisecond the same lease would be the same row, about which a node asks again.
        let lease_ms = LEASE_MS + later_ms;
        store.renew(store.fence, lease_ms).await.expect("renewed");
    }
    for _ in 0..times(WINDOWS_MS) {
        store.windows().await.expect("looked");
    }
    for _ in 0..times(PAUSED_MS) {
        store.count_paused().await.expect("counted");
    }
}

/// What it asks beside that of a legacy table. The stream itself is no statement.
async fn beside(store: &Writer, streams: bool) {
    let tallies = if streams { TALLY_STREAM_MS } else { TALLY_MS };
    for _ in 0..times(tallies) {
        store.legacy_tally(0, 99).await.expect("counted");
    }
    for _ in 0..DRIFT_ROWS / DRIFT_SLICE_ROWS {
        let after = Some(target(1));
        store.legacy_drift(after, 1).await.expect("compared");
    }
    let rows = FLEET * WINDOW_MS / INTERVAL_MS;
    let pages = rows.div_ceil(LEGACY_PAGE_MAX as u64);
    for _ in 0..if streams { 0 } else { pages } {
        let range = LegacyRange::After {
            id: None::<TargetId>,
            limit: 1,
        };
        store.legacy_rows(range, true).await.expect("read");
    }
}

/// Counts what `server` is asked by `work`.
async fn asked(server: &Server, work: impl Future<Output = ()>) -> u64 {
    let questions = || -> u64 {
        let said = server.sql("SHOW GLOBAL STATUS LIKE 'Questions'");
        let number = said.split_whitespace().last().expect("a value");
        number.parse().expect("a number")
    };
    let of_reading = {
        let first = questions();
        questions() - first
    };
    let before = questions();
    work.await;
    questions() - before - of_reading
}

fn require_few(asked: u64, of: &str) {
    let checks = FLEET * WINDOW_MS / INTERVAL_MS;
    assert!(
        asked > 0 && checks / asked >= CHECKS_PER_STATEMENT,
        "{of}: {asked} questions for {checks} checks"
    );
}

#[tokio::test]
async fn a_healthy_fleet_asks_its_server_at_most_once_in_five_hundred_checks() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE t_healthy");
    let address = url(&server.address("ringwatch", "t_healthy"));
    Store::migrate(&address).await.expect("migrated");
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    // Every connection is made.
    a_while(&store).await;
    let own = async {
        a_while(&store).await;
        for _ in 0..times(LOOK_MS) {
            store.changes(0, 100).await.expect("looked");
        }
    };
    require_few(asked(&server, own).await + KEPT_ALIVE, "own tables");
}

/// The default is the sidecar, with a stream where the server has one.
#[tokio::test]
async fn so_does_the_fleet_of_a_legacy_table_wherever_its_freshness_goes() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE t_healthy");
    let address = url(&server.address("ringwatch", "t_healthy"));
    Store::migrate(&address).await.expect("migrated");
    server.sql(&format!(
        "USE t_healthy; {}; ALTER TABLE jetpack_monitor_sites \
         ADD last_checked_at DATETIME NULL, ADD next_check_at DATETIME NULL; \
         INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url) VALUES (2, 2, 0, 'http://b.test/')",
        legacy::SITES
    ));
    for freshness in [LegacyFreshness::Sidecar, LegacyFreshness::Columns] {
        let described = Legacy {
            freshness,
            ..legacy::described()
        };
        let options = OpenOptions {
            legacy: Some(described.into()),
            ..OpenOptions::default()
        };
        let opened = Store::open_with(&address, options).await;
        let store = Writer::of(opened.expect("opens")).await;
        a_while(&store).await;
        for streams in [true, false] {
            let work = async {
                a_while(&store).await;
                beside(&store, streams).await;
            };
            // The stream keeps its position on a connection of its own, a statement each time.
            let kept = if streams { times(CHANGE_KEEP_MS) } else { 0 };
            let all = asked(&server, work).await + KEPT_ALIVE + kept;
            require_few(all, &format!("{freshness:?}, a stream: {streams}"));
        }
        store.close().await.expect("closed");
    }
}
