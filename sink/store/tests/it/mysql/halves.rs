//! A large batch goes over two connections at once: it is there once and whole, whichever of the
//! two breaks, and when.

use model::fact::{Batch, Fact};
use rig::mariadb;
use store::{Store, StoreError};

use super::{Mysql, url};
use crate::fixture::{Backend, Incident, Writer, batch, import_id, row, target};
use crate::proxy::{Cut, Proxy};

const TARGETS: i64 = 600;

/// Incidents of all targets, opened and confirmed, as one batch of the journal.
fn many(journal_seq: u64, nth: u64) -> Batch {
    let facts = |id: i64| {
        let mut incident = Incident::of(target(id), nth * 1_000 + id as u64);
        [incident.open(), incident.confirm()]
    };
    let facts: Vec<Fact> = (1..=TARGETS).flat_map(facts).collect();
    batch(journal_seq, &facts)
}

/// How many of the facts of `batch` go over the second connection.
fn beside(batch: &Batch) -> u64 {
    let of_odd = |fact: &&Fact| fact.target().shard().get() % 2 == 1;
    batch.facts.iter().filter(of_odd).count() as u64
}

async fn with_targets(url: &store::StoreUrl) -> Writer {
    let store = Writer::of(Store::open(url).await.expect("opens")).await;
    let rows = (1..=TARGETS).map(|id| row(id, &format!("http://s-{id}.test/")));
    let imported = store.import(rows.collect(), import_id(0)).await;
    assert_eq!(imported.expect("imported").inserted, TARGETS as u64);
    store
}

async fn require_whole(store: &Store, backend: &Mysql, facts: &Batch) {
    let (all, events) = (facts.facts.len() as u64, TARGETS as u64);
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.transitions, counts.jobs), (all, all));
    assert_eq!((counts.events, counts.open_events), (events, events));
    assert_eq!(counts.journal_seq, facts.journal_seq);
    let down = "SELECT COUNT(*) FROM jetpack_monitor_check_targets WHERE site_status = 2";
    assert_eq!(backend.number(down), Some(TARGETS));
}

#[tokio::test]
async fn a_large_batch_is_there_once_and_whole() {
    let backend = Mysql::fresh();
    let store = with_targets(&backend.url()).await;
    let facts = many(1, 1);
    let applied = store.apply(&facts).await.expect("applied");
    let all = facts.facts.len() as u64;
    assert_eq!((applied.transitions, applied.jobs), (all, all));
    require_whole(&store, &backend, &facts).await;
    let again = store.apply(&facts).await.expect("asked again");
    assert!(again.already_applied, "{again:?}");
    assert_eq!((again.skipped, again.transitions), (all, 0));
    let other = Batch {
        journal_seq: 2,
        ..facts
    };
    let again = store.apply(&other).await.expect("applied");
    assert_eq!((again.skipped, again.transitions), (all, 0));
    require_whole(&store, &backend, &other).await;
}

/// The half without the position commits first. Cut: after so many commits, how, and whether that
/// half and the position are there then.
#[tokio::test]
async fn whichever_half_breaks_the_batch_is_there_once_in_the_end() {
    for (passes, cut, half_is_there, is_whole) in [
        (0, Cut::Before, false, false),
        (0, Cut::After, true, false),
        (1, Cut::Before, true, false),
        (1, Cut::After, true, true),
    ] {
        let backend = Mysql::fresh();
        let proxy = Proxy::start(mariadb::shared().port());
        let address = proxy.address(&mariadb::shared().address("ringwatch", &backend.name));
        let store = with_targets(&url(&address)).await;
        let facts = many(1, 1);
        let (all, half) = (facts.facts.len() as u64, beside(&facts));
        assert!(half > 0 && half < all, "{half}");
        proxy.after(passes, cut);
        let error = store.apply(&facts).await.expect_err("cut off");
        let is_told = matches!(error, StoreError::OutcomeUnknown { .. });
        assert!(is_told && error.is_transient(), "{passes} {cut:?}: {error}");
        let counts = store.counts().await.expect("counts");
        let there = if is_whole {
            all
        } else {
            half * u64::from(half_is_there)
        };
        let found = (counts.transitions, counts.jobs, counts.journal_seq);
        assert_eq!(
            found,
            (there, there, u64::from(is_whole)),
            "{passes} {cut:?}"
        );
        let again = store.apply(&facts).await.expect("again");
        assert_eq!(again.already_applied, is_whole, "{passes} {cut:?}");
        assert_eq!(again.transitions, all - there, "{passes} {cut:?}");
        require_whole(&store, &backend, &facts).await;
    }
}

#[tokio::test]
async fn what_failed_in_halves_goes_whole_and_later_ones_in_halves_again() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let address = proxy.address(&mariadb::shared().address("ringwatch", &backend.name));
    let store = with_targets(&url(&address)).await;
    proxy.next(Cut::Before);
    let facts = many(1, 1);
    store.apply(&facts).await.expect_err("cut off");
    let before = proxy.connections();
    store.apply(&facts).await.expect("applied");
    assert_eq!(
        proxy.connections(),
        before,
        "one connection was left, and is enough"
    );
    let later = Batch {
        journal_seq: 2,
        ..facts
    };
    store.apply(&later).await.expect("applied");
    assert_eq!(proxy.connections(), before + 1);
}
