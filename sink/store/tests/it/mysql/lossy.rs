//! A server behind a network that loses packets: the test runs once more in a child, this same
//! program, in a network of its own.

use std::process::Command;

use model::fact::Fact;
use rig::namespace::Own;
use store::{FreshnessRow, Store};

use super::url;
use crate::fixture::{Incident, START, Writer, batch, target};
use rig::mariadb::Server;

async fn migrated(server: &Server) -> Writer {
    server.sql("CREATE DATABASE t_own");
    let address = url(&server.address("ringwatch", "t_own"));
    Store::migrate(&address).await.expect("migrated");
    Writer::of(Store::open(&address).await.expect("opens")).await
}

/// Facts of so many incidents, from the `nth` on.
fn incidents(nth: i64, count: i64) -> Vec<Fact> {
    (nth..nth + count)
        .map(|id| Incident::of(target(id), id as u64).open())
        .collect()
}

/// Packets that the queue of loopback dropped.
fn dropped() -> u64 {
    let shown = Command::new("tc")
        .args(["-s", "qdisc", "show", "dev", "lo"])
        .output()
        .expect("tc runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let (_, rest) = text.split_once("dropped ").expect(&text);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(&text)
}

#[tokio::test]
async fn a_network_that_loses_packets_loses_and_doubles_no_row() {
    let name = "mysql::lossy::a_network_that_loses_packets_loses_and_doubles_no_row";
    // A short queue at a low rate drops what comes too fast, which is every statement of
    // thousands of rows.
    let network = "ip link set lo mtu 1500 up \
        && tc qdisc add dev lo root tbf rate 40mbit burst 6000 limit 12000";
    if !Own::Network.hosts(name, network) {
        return;
    }
    let server = Server::start(&[]);
    let store = migrated(&server).await;
    let row = |id: i64| FreshnessRow {
        target: target(id),
        last_checked: START,
        next_check: START,
    };
    let rows: Vec<FreshnessRow> = (1..=5_000).map(row).collect();
    let (mut left, mut seq) = (rows, 1);
    while !left.is_empty() {
        let written = store.write_freshness(left).await;
        if let Some(error) = &written.error {
            assert!(error.is_transient(), "{error}");
        }
        left = written.left;
    }
    for part in 0..10 {
        let facts = incidents(part * 200 + 1, 200);
        while let Err(error) = store.apply(&batch(seq, &facts)).await {
            assert!(error.is_transient(), "{error}");
        }
        seq += 1;
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.freshness, counts.transitions), (5_000, 2_000));
    assert_eq!((counts.jobs, counts.journal_seq), (2_000, 10));
    assert!(dropped() > 10, "{} packets were dropped", dropped());
}
