//! What a server is asked: how often by a fleet in which nothing happens, by its own count.

use model::limits::FRESHNESS_FLUSH_MS;
use rig::mariadb::Server;
use store::{FreshnessRow, Store};

use super::url;
use crate::fixture::{START, Writer, target};

/// Targets of the fleet, the time between two checks of each, and between two writes of its row.
const FLEET: u64 = 500_000;
const INTERVAL_MS: u64 = 300_000;
const PROJECTION_MS: u64 = 900_000;
/// Time between two looks for changed targets.
const LOOK_MS: u64 = 800;
/// A third of the default lease.
const RENEWAL_MS: u64 = 10_000;

/// What a node asks between two flushes of freshness.
async fn a_while(store: &Writer) {
    let rows = FLEET * FRESHNESS_FLUSH_MS / PROJECTION_MS;
    let row = |id: u64| FreshnessRow {
        target: target(id as i64),
        last_checked: START,
        next_check: START,
    };
    let written = store.write_freshness((1..=rows).map(row).collect()).await;
    assert_eq!(written.all().expect("written"), rows);
    for _ in 0..FRESHNESS_FLUSH_MS.div_ceil(LOOK_MS) {
        store.changes(0, 100).await.expect("looked");
    }
    for _ in 0..FRESHNESS_FLUSH_MS.div_ceil(RENEWAL_MS) {
        store.renew(store.fence, 30_000).await.expect("renewed");
    }
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
    a_while(&store).await;
    let asked = questions() - before - of_reading;
    let checks = FLEET * FRESHNESS_FLUSH_MS / INTERVAL_MS;
    assert!(
        asked > 0 && checks / asked >= 500,
        "{asked} questions for {checks} checks"
    );
}
