//! A large batch goes over two connections at once: it is there once and whole, whichever of the
//! two breaks, and when; and neither waits for the other.

use model::fact::{Batch, Fact};
use rig::mariadb;
use store::{Store, StoreError};

use super::{Mysql, url};
use crate::fixture::{Backend, Incident, Writer, batch, import_id, row, target};
use crate::proxy::{Cut, Proxy};

/// In both halves.
const TARGETS: i64 = 1_600;

fn incidents(nth: u64) -> Vec<Incident> {
    let incident = |id: i64| Incident::of(target(id), nth * 10_000 + id as u64);
    (1..=TARGETS).map(incident).collect()
}

/// Incidents of all targets, opened and confirmed, as one batch of the journal.
fn many(journal_seq: u64, nth: u64) -> Batch {
    let facts = |mut incident: Incident| [incident.open(), incident.confirm()];
    let facts: Vec<Fact> = incidents(nth).into_iter().flat_map(facts).collect();
    batch(journal_seq, &facts)
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

/// The first commit is of the question where the store is, then both halves commit, in either
/// order, and the position last. Cut: after so many commits, how, and how much is there then.
#[tokio::test]
async fn whichever_half_breaks_the_batch_is_there_once_in_the_end() {
    for (passes, cut, halves, is_whole) in [
        (0, Cut::Before, 0..=0, false),
        (0, Cut::After, 0..=0, false),
        // The other half goes on, and is over before or after the cut.
        (1, Cut::Before, 0..=1, false),
        (1, Cut::After, 1..=2, false),
        (2, Cut::Before, 1..=1, false),
        (2, Cut::After, 2..=2, false),
        (3, Cut::Before, 2..=2, false),
        (3, Cut::After, 2..=2, true),
    ] {
        let backend = Mysql::fresh();
        let proxy = Proxy::start(mariadb::shared().port());
        let address = proxy.address(&mariadb::shared().address("ringwatch", &backend.name));
        let store = with_targets(&url(&address)).await;
        let facts = many(1, 1);
        let all = facts.facts.len() as u64;
        proxy.after(passes, cut);
        let error = store.apply(&facts).await.expect_err("cut off");
        let is_told = matches!(error, StoreError::OutcomeUnknown { .. });
        assert!(is_told && error.is_transient(), "{passes} {cut:?}: {error}");
        let counts = store.counts().await.expect("counts");
        let there = counts.transitions;
        let of_halves = [0, all / 2, all];
        assert!(of_halves.contains(&there), "{passes} {cut:?}: {there}");
        let parts = u64::from(there > 0) + u64::from(there == all);
        assert!(halves.contains(&parts), "{passes} {cut:?}: {there}");
        assert_eq!(
            (counts.jobs, counts.journal_seq),
            (there, u64::from(is_whole))
        );
        let again = store.apply(&facts).await.expect("again");
        assert_eq!(again.already_applied, is_whole, "{passes} {cut:?}");
        assert_eq!(again.transitions, all - there, "{passes} {cut:?}");
        require_whole(&store, &backend, &facts).await;
    }
}

/// Lesson: of an event that opens soon after the last one of its target ended, the server locks the
/// next open one of any target. Each half had that for as long as it waited for the other.
#[tokio::test]
async fn incidents_that_open_again_and_again_make_no_half_wait_for_the_other() {
    let backend = Mysql::fresh();
    let store = with_targets(&backend.url()).await;
    // Purging would hide it: what is deleted is there for as long as somebody may look at it.
    let _looking = mariadb::shared().hold(&format!(
        "SELECT COUNT(*) FROM {}.jetpack_monitor_events",
        backend.name
    ));
    for nth in 1..=6 {
        let mut incidents = incidents(nth);
        let opened = incidents
            .iter_mut()
            .flat_map(|one| [one.open(), one.confirm()]);
        let opened = batch(2 * nth - 1, &opened.collect::<Vec<Fact>>());
        let closed = incidents.iter_mut().map(Incident::close);
        let closed = batch(2 * nth, &closed.collect::<Vec<Fact>>());
        for facts in [opened, closed] {
            let applied = store.apply(&facts).await.expect("taken");
            assert_eq!(applied.transitions, facts.facts.len() as u64);
        }
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
    assert_eq!(proxy.connections(), before + 1, "one is enough");
    let later = Batch {
        journal_seq: 2,
        ..facts
    };
    store.apply(&later).await.expect("applied");
    assert_eq!(proxy.connections(), before + 2);
}
