//! A backlog that takes three leases to read, or to apply: nobody takes over from a node that
//! works. The other node of these tests takes over as soon as it may.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::FailureClass::HttpStatus;
use model::limits::FLAP_WINDOW_MS;
use tempfile::tempdir;

use super::{OUTAGE, one_target};
use crate::handle::SinkConfig;
use crate::testbed::{Bed, FakeStore, START, config, on_virtual_time, target};

const LEASES_MS: u64 = 3 * 30_000;
/// For a piece of the backlog: more than a third of a lease, and less than a whole one.
const PIECE_MS: u64 = 14_000;

/// A journal that is full with eight pieces.
fn small(data_dir: &Path) -> SinkConfig {
    SinkConfig {
        journal_max_bytes: 64 * 1024,
        ..config(data_dir)
    }
}

/// Fills the journal while the store is away; how many outages that took. The next one is open.
async fn fill(bed: &mut Bed) -> usize {
    bed.store.away.set(true);
    let mut outages = 0;
    while bed.snapshot().counters.journal_full == 0 {
        assert!(outages < 1_000, "{:?}", bed.snapshot());
        outages += 1;
        for class in [Some(HttpStatus), Some(HttpStatus), Some(HttpStatus), None] {
            bed.check(0, 0, 1, class);
            bed.turns(5).await;
        }
        bed.pass(FLAP_WINDOW_MS);
    }
    outages
}

/// Whole outages in the story of the target.
fn outages(store: &FakeStore) -> usize {
    let story = store.story(target(7));
    let whole = story.len() / OUTAGE.len();
    let expected: Vec<_> = OUTAGE.iter().copied().cycle().take(story.len()).collect();
    assert_eq!(story, expected);
    whole
}

#[test]
fn a_start_renews_its_lease_between_the_segments_of_a_long_journal() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    let filled = on_virtual_time(async {
        let mut bed = Bed::start(small(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.turn().await;
        fill(&mut bed).await
    });
    store.away.set(false);
    store.renewals.set(0);
    on_virtual_time(async {
        let clock_ms = Arc::new(AtomicU64::new(START.0));
        store.stand_by(&clock_ms, 0);
        let clock = (Arc::clone(&clock_ms), PIECE_MS);
        let mut bed = Bed::start_slowly(small(dir.path()), &store, clock).await;
        bed.pace_ms.store(0, Ordering::Relaxed);
        let took_ms = clock_ms.load(Ordering::Relaxed) - START.0;
        assert!(took_ms >= LEASES_MS, "{took_ms}");
        let epoch = bed.sink.tenure.lease.epoch();
        assert_eq!(epoch, store.epoch.get(), "nobody took over");
        assert!(u64::from(store.renewals.get()) >= LEASES_MS / 30_000);
        bed.flush().await;
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.apply_lag), (0, 0));
    });
    // The last one may not have had room.
    assert!(outages(&store) + 1 >= filled);
}

#[test]
fn a_node_that_gets_its_right_back_renews_it_while_it_reads_its_journal() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(small(dir.path())).await;
        fill(&mut bed).await;
        bed.store.bump();
        bed.store.held_ms.set(20_000);
        bed.store.away.set(false);
        while bed.snapshot().counters.fenced == 0 {
            bed.turn().await;
        }
        let clock_ms = Arc::clone(&bed.clock_ms);
        bed.store.stand_by(&clock_ms, 0);
        bed.store.held_ms.set(0);
        bed.store.renewals.set(0);
        // Until its next question, whose answer is read in pieces.
        while bed.store.lost_epochs.borrow().len() < 2 {
            bed.pace_ms.store(PIECE_MS, Ordering::Relaxed);
            bed.turn().await;
        }
        bed.pace_ms.store(0, Ordering::Relaxed);
        assert!(u64::from(bed.store.renewals.get()) >= LEASES_MS / 30_000);
        while bed.snapshot().counters.lease != 0 {
            bed.turn().await;
        }
        bed.flush().await;
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.apply_lag), (1, 0), "nobody took over");
        assert_eq!(seen.epoch, bed.store.epoch.get());
    });
}

#[test]
fn a_backlog_that_is_applied_for_three_leases_is_applied_under_one_epoch() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(small(dir.path())).await;
        fill(&mut bed).await;
        let epoch = bed.store.epoch.get();
        bed.store.away.set(false);
        bed.store.renewals.set(0);
        bed.store.slow_ms.set(LEASES_MS + 10_000);
        // Its lease lapsed while the store was away.
        while bed.store.renewals.get() == 0 {
            bed.turn().await;
        }
        bed.store.stand_by(&bed.clock_ms, 29_000);
        bed.store.renewals.set(0);
        while bed.snapshot().counters.apply_lag > 0 {
            assert_eq!(bed.snapshot().counters.fenced, 0, "nobody took over");
            bed.turn().await;
        }
        assert!(u64::from(bed.store.renewals.get()) >= LEASES_MS / 10_000 - 1);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.epoch), (0, epoch));
        assert_eq!(bed.store.epoch.get(), epoch, "nobody took over");
    });
}
