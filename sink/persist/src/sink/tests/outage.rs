//! The store is away, slow, silent, or forgets to answer, while 5,000 checks a second go on: no
//! transition is lost or doubled, the order is kept per target, and memory stays what it was.

use model::limits::{APPLY_FACTS_MAX, BATCH_MAX};

use super::fleet::{Fleet, STEP_MS, journal_bytes};
use crate::handle::SinkConfig;
use crate::stats::SinkCounters;
use crate::testbed::{Bed, config, folder, on_virtual_time};

/// Checks of each step: 5,000 a second.
const PER_STEP: u64 = 5_000 * STEP_MS / 1_000;
/// Facts that wait for company: of two steps at most, and a check may make two.
const FACTS_MAX: u64 = 2 * 2 * PER_STEP;

fn steps(seconds: u64) -> u64 {
    seconds * 1_000 / STEP_MS
}

/// What is kept in memory whatever the store does: results of a step, its facts, and the batches
/// that are loaded for the store. All else is in the journal.
fn assert_memory_is_bounded(fleet: &Fleet, now: &SinkCounters) {
    assert_eq!(fleet.untaken(), 0, "draining never waits for the store");
    assert!(now.facts_waiting <= FACTS_MAX, "{now:?}");
    assert!(
        now.facts_loaded <= (2 * (APPLY_FACTS_MAX + BATCH_MAX)) as u64,
        "{now:?}"
    );
    assert_eq!((now.evidence_waiting, now.evidence_dropped), (0, 0));
    assert!(now.freshness_pending <= u64::from(fleet.targets), "{now:?}");
    assert!(now.held_commands <= u64::from(fleet.targets), "{now:?}");
    assert_eq!((now.journal_alarm, now.journal_errors), (0, 0), "{now:?}");
}

#[test]
fn five_minutes_without_the_store_at_5000_checks_a_second_lose_and_double_nothing() {
    let dir = folder();
    let config = SinkConfig {
        projection_interval_ms: 200_000,
        journal_max_bytes: 256 << 20,
        ..config(dir.path())
    };
    on_virtual_time(async {
        let mut fleet = Fleet::start(config, 50_000, 5).await;
        for _ in 0..steps(20) {
            fleet.step().await;
        }
        let before = fleet.bed.snapshot().counters;
        let rows_before = fleet.bed.store.rows_written.get();
        fleet.bed.store.away.set(true);
        for _ in 0..steps(300) {
            let now = fleet.step().await;
            assert_memory_is_bounded(&fleet, &now);
        }
        let away = fleet.bed.snapshot().counters;
        assert_eq!(away.journal_bytes, journal_bytes(dir.path()));
        assert!(away.apply_lag >= steps(299) / 2, "{away:?}");
        assert!(away.applies <= before.applies + 2, "{away:?}");
        let decided = away.transitions - before.transitions;
        assert!(decided > 90_000, "{decided}");
        assert_eq!(
            away.freshness_pending,
            u64::from(fleet.targets),
            "one row each"
        );

        fleet.bed.store.away.set(false);
        fleet.catch_up().await;
        let largest = fleet.bed.store.largest.get();
        assert!(
            (APPLY_FACTS_MAX / 2..=APPLY_FACTS_MAX).contains(&largest),
            "small ones go together"
        );
        let total = fleet.assert_stories().await;
        assert!(total > decided);
        let rows = fleet.bed.store.rows_written.get() - rows_before;
        let checks = fleet.checks();
        assert!(
            rows <= 2 * u64::from(fleet.targets),
            "{rows} rows of {checks} checks"
        );
        assert_eq!(
            fleet.bed.store.freshness.borrow().len(),
            fleet.targets as usize
        );
        let account = fleet.bed.snapshot().total();
        assert_eq!(
            (account.drained, account.discarded_old_generation),
            (checks, 0)
        );
    });
}

#[test]
fn a_store_that_takes_200_ms_for_each_batch_does_not_fall_behind() {
    let dir = folder();
    on_virtual_time(async {
        let mut fleet = Fleet::start(config(dir.path()), 50_000, 5).await;
        fleet.bed.store.slow_ms.set(200);
        for _ in 0..steps(60) {
            let now = fleet.step().await;
            assert_memory_is_bounded(&fleet, &now);
            // One apply under way and one that waits, of what 200 ms bring each.
            assert!(now.apply_lag <= 2 * (200 / STEP_MS), "{now:?}");
        }
        fleet.catch_up().await;
        assert!(fleet.assert_stories().await > 10_000);
    });
}

#[test]
fn applies_that_hang_or_whose_commit_is_not_known_are_tried_again_and_change_nothing_twice() {
    let dir = folder();
    on_virtual_time(async {
        let mut fleet = Fleet::start(config(dir.path()), 5_000, 20).await;
        fleet.bed.store.drops.set(true);
        let (mut hung, mut unknown) = (0, 0);
        for step in 0..steps(120) {
            let store = &fleet.bed.store;
            match step % 150 {
                20 => store.hangs.set(1),
                70 => store.hangs_after.set(1),
                120 => store.loses_answers.set(2),
                _ => {}
            }
            let settled = step % 150 == 149;
            if settled {
                (hung, unknown) = (hung + 2, unknown + 3);
            }
            let now = fleet.step().await;
            assert_memory_is_bounded(&fleet, &now);
            assert!(!settled || now.apply_lag <= 2, "{now:?}");
        }
        fleet.catch_up().await;
        assert!(fleet.assert_stories().await > 10_000);
        let counters = fleet.bed.snapshot().counters;
        assert_eq!(counters.apply_overdue, hung, "each was dropped after 2 s");
        assert_eq!(
            fleet.bed.store.met_again.get(),
            unknown,
            "each met itself again"
        );
        assert_eq!(counters.applies, counters.journal_records);
    });
}

#[test]
fn a_backlog_frees_its_disk_as_it_shrinks_and_a_store_that_cannot_be_synced_still_takes_facts() {
    let dir = folder();
    let config = SinkConfig {
        journal_max_bytes: 4 << 20,
        ..config(dir.path())
    };
    on_virtual_time(async {
        let mut fleet = Fleet::start(config, 5_000, 20).await;
        fleet.bed.store.away.set(true);
        while fleet.step().await.journal_segments < 6 {}
        let store = std::rc::Rc::clone(&fleet.bed.store);
        store.refuses_sync.set(true);
        store.away.set(false);
        store.slow_ms.set(150);
        let full = fleet.bed.snapshot().counters;
        while store.applied.get() < full.journal_records / 2 {
            assert!(
                fleet.step().await.journal_segments >= 6,
                "nothing goes unsynced"
            );
        }
        assert!(
            fleet.bed.snapshot().counters.apply_lag > 10,
            "and facts are taken"
        );
        store.refuses_sync.set(false);
        while fleet.bed.snapshot().counters.journal_segments > 4 {
            let now = fleet.step().await;
            assert!(now.apply_lag > 0, "segments go before the end: {now:?}");
        }
        store.slow_ms.set(0);
        fleet.catch_up().await;
        fleet.assert_stories().await;
    });
}

#[test]
fn a_start_on_a_long_journal_goes_on_where_the_last_one_ended() {
    let dir = folder();
    let store = on_virtual_time(async {
        let mut fleet = Fleet::start(config(dir.path()), 5_000, 20).await;
        for step in 0..steps(100) {
            fleet.bed.store.away.set(step > steps(40));
            fleet.step().await;
        }
        assert!(fleet.bed.snapshot().counters.apply_lag > 500);
        fleet.bed.store.clone()
    });
    store.away.set(false);
    let taken = store.transitions.borrow().len();
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.turn().await;
        let open = bed.snapshot().counters.unclaimed_events as usize;
        bed.flush().await;
        let events = store.events.borrow();
        let still_open = events
            .values()
            .filter(|event| event.ended_at.is_none())
            .count();
        assert_eq!(open, still_open, "memory had it before the store did");
        assert!(store.transitions.borrow().len() > taken + 1_000);
        assert_eq!(bed.snapshot().counters.apply_lag, 0);
        assert_eq!((store.known_again.get(), store.met_again.get()), (0, 0));
    });
}
