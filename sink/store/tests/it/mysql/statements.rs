//! What a server is asked: how often by a fleet in which nothing happens, by its own log.

use std::fmt::Write;

use model::limits::{CHANGE_KEEP_MS, FRESHNESS_FLUSH_MS, LEGACY_PAGE_MAX};
use model::{TargetId, UnixMs};
use rig::mariadb::Server;
use store::{FreshnessRow, Legacy, LegacyFreshness, LegacyRange, OpenOptions, Store};

use super::{legacy, url};
use crate::fixture::{Incident, START, Writer, batch, target};

/// Targets of the fleet, the time between two checks of each, and between two writes of its row.
const FLEET: u64 = 500_000;
const INTERVAL_MS: u64 = 300_000;
const PROJECTION_MS: u64 = 900_000;
const CHECKS_PER_STATEMENT: u64 = 500;

/// How long a node is followed: most of what it asks is asked in it. It is the minute of its hour
/// in which the old is forgotten.
const WINDOW_MS: u64 = 60_000;
/// Time between two looks for changed targets, of which a legacy table has none.
const LOOK_MS: u64 = 800;
/// The default lease, and a third of it.
const LEASE_MS: u64 = 30_000;
const RENEWAL_MS: u64 = LEASE_MS / 3;
const WINDOWS_MS: u64 = 10_000;
const PAUSED_MS: u64 = 20_000;
/// The sweep of a legacy table: a slice of the buckets is counted so often, with a stream and
/// without; and without one every row is read in as long as between two checks.
const TALLY_STREAM_MS: u64 = 30_000;
const TALLY_MS: u64 = 3_000;
/// So many rows a minute are compared with our events, in slices.
const DRIFT_ROWS: u64 = 50_000;
const DRIFT_SLICE_ROWS: u64 = 25_000;

/// What begins a session, and what is said on one that was silent for a minute: how often depends
/// on how fast this machine is, and on nothing that we chose.
const OF_SESSIONS: [&str; 4] = ["SET SESSION ", "SHOW SESSION ", "SELECT @@", "DO 0"];

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
        let still_has = store.still_has(store.fence, 1).await;
        assert!(still_has.expect("looked"), "the facts of its last incident");
    }
    for _ in 0..times(WINDOWS_MS) {
        store.windows().await.expect("looked");
    }
    forget(store).await;
}

/// Forgets what is old, as it is done once an hour: nothing is, and all check times are looked at.
async fn forget(store: &Writer) {
    let before = UnixMs(START.0 - 1);
    store.server_time().await.expect("told");
    for forgotten in [
        store.forget_history(before).await,
        store.forget_events(before).await,
        store.forget_audit(before).await,
        store.forget_taken(before).await,
    ] {
        assert!(!forgotten.expect("forgotten").more);
    }
    let mut after = None;
    loop {
        let (step, next) = store.forget_freshness(before, after).await.expect("walked");
        assert_eq!((step.freshness, step.more), (0, next.is_some()));
        if next.is_none() {
            return;
        }
        after = next;
    }
}

/// What it asks beside that where its targets are in our own table.
async fn of_own(store: &Writer) {
    for _ in 0..times(LOOK_MS) {
        store.changes(0, 100).await.expect("looked");
    }
    for _ in 0..times(PAUSED_MS) {
        store.count_paused().await.expect("counted");
    }
}

/// What it asks where they are in a legacy one. The stream itself is no statement.
async fn of_legacy(store: &Writer, streams: bool) {
    for _ in 0..times(PAUSED_MS) {
        let page = store.paused_after(None, LEGACY_PAGE_MAX).await;
        assert!(page.expect("looked").is_empty());
    }
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

/// What `server` was asked by `work`, each statement by its beginning, with how often it was.
async fn asked(server: &Server, work: impl Future<Output = ()>) -> Vec<(String, u64)> {
    server.sql(
        "SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1",
    );
    work.await;
    let said = server.sql(
        "SET GLOBAL general_log = 0; \
         SELECT COUNT(*), REPLACE(LEFT(argument, 70), '\\n', ' ') AS beginning \
         FROM mysql.general_log WHERE user_host LIKE 'ringwatch[%' \
         AND command_type IN ('Query', 'Execute') GROUP BY beginning ORDER BY 1 DESC, 2",
    );
    let lines = said.lines().map(|line| {
        let (times, statement) = line.split_once('\t').expect("two columns");
        (statement.to_owned(), times.parse().expect("a number"))
    });
    let is_ours = |(statement, _): &(String, u64)| {
        let is = |beginning| statement.starts_with(beginning);
        !OF_SESSIONS.into_iter().any(is)
    };
    lines.filter(is_ours).collect()
}

/// `beside`: statements that were not said here.
fn require_few(asked: &[(String, u64)], beside: u64, of: &str) {
    let checks = FLEET * WINDOW_MS / INTERVAL_MS;
    let all = asked.iter().map(|(_, times)| times).sum::<u64>() + beside;
    let list = asked.iter().fold(String::new(), |mut list, (what, times)| {
        writeln!(list, "{times:>6} {what}").expect("a text");
        list
    });
    println!("{of}: {all}, {} checks each\n{list}", checks / all);
    assert!(
        all >= times(RENEWAL_MS) && checks / all >= CHECKS_PER_STATEMENT,
        "{of}: {all} statements for {checks} checks, {beside} of them not here:\n{list}"
    );
}

/// A store in use: it held facts, and has check times of every target.
async fn in_use(server: &Server, address: &store::StoreUrl, options: OpenOptions) -> Writer {
    let opened = Store::open_with(address, options).await;
    let store = Writer::of(opened.expect("opens")).await;
    let mut incident = Incident::of(target(2), 1);
    let story = [incident.open(), incident.close()];
    store.apply(&batch(1, &story)).await.expect("applied");
    server.sql(&format!(
        "USE t_healthy; INSERT IGNORE INTO jetpack_monitor_site_runtime \
         (target_id, last_checked_at, next_check_at) \
         SELECT seq, {START}, {START} FROM seq_1_to_{FLEET}",
        START = START.0
    ));
    store
}

#[tokio::test]
async fn a_healthy_fleet_asks_its_server_at_most_once_in_five_hundred_checks() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE t_healthy");
    let address = url(&server.address("ringwatch", "t_healthy"));
    Store::migrate(&address).await.expect("migrated");
    let store = in_use(&server, &address, OpenOptions::default()).await;
    let own = async {
        a_while(&store).await;
        of_own(&store).await;
    };
    require_few(&asked(&server, own).await, 0, "own tables");
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
        let store = in_use(&server, &address, options).await;
        for streams in [true, false] {
            let work = async {
                a_while(&store).await;
                of_legacy(&store, streams).await;
            };
            // The stream keeps its position on a connection of its own, a statement each time.
            let kept = if streams { times(CHANGE_KEEP_MS) } else { 0 };
            let all = asked(&server, work).await;
            require_few(&all, kept, &format!("{freshness:?}, a stream: {streams}"));
        }
        store.close().await.expect("closed");
    }
}
