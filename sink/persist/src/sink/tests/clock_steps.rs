//! The wall clock is set while the sink runs: freshness is written, and ages are told, as if nobody
//! had touched it; only the times in the rows follow.

use std::path::Path;
use std::rc::Rc;

use tempfile::tempdir;
use tokio::sync::oneshot;

use crate::ages::FreshnessAges;
use crate::handle::SinkCommand;
use crate::testbed::{Bed, FakeStore, START, config, on_virtual_time};

const HOUR_MS: i64 = 3_600_000;
/// Targets with an interval of a minute, so that all are projected in 15 minutes.
const TARGETS: u32 = 60;

async fn fleet(directory: &Path, wall_clock_ms: i64) -> Bed {
    let store = Rc::new(FakeStore::default());
    let mut bed = Bed::start(config(directory), 1, &store).await;
    bed.set_wall_clock(wall_clock_ms);
    (0..TARGETS).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
    bed.turn().await;
    bed
}

/// Checks every target once a minute; freshness rows written in each minute.
async fn minutes(bed: &mut Bed, count: u32) -> Vec<u64> {
    let mut rows = Vec::new();
    for _ in 0..count {
        let before = bed.snapshot().counters.freshness_rows;
        (0..TARGETS).for_each(|slot| bed.check(0, slot, 1, None));
        bed.turns(2).await;
        bed.pass(59_960);
        bed.turns(2).await;
        rows.push(bed.snapshot().counters.freshness_rows - before);
    }
    rows
}

async fn ages(bed: &mut Bed) -> FreshnessAges {
    let (reply, mut answer) = oneshot::channel();
    bed.commands
        .send(SinkCommand::Ages { reply })
        .expect("room");
    bed.turn().await;
    answer.try_recv().expect("answered")
}

/// Every target's row is of the last 17 minutes of the wall clock as it is now.
fn assert_rows_are_fresh(bed: &Bed) {
    let rows = bed.store.freshness.borrow();
    assert_eq!(rows.len(), TARGETS as usize);
    for row in rows.values() {
        let age_ms = bed.now().0.checked_sub(row.last_checked.0);
        assert!(age_ms.is_some_and(|ms| ms <= 17 * 60_000), "{row:?}");
        assert!(row.next_check > row.last_checked);
    }
}

#[test]
fn a_step_of_the_wall_clock_changes_neither_the_pace_of_freshness_nor_any_age() {
    for step_ms in [-5 * HOUR_MS, 5 * HOUR_MS] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = fleet(dir.path(), 0).await;
            minutes(&mut bed, 20).await;
            assert_rows_are_fresh(&bed);
            bed.set_wall_clock(step_ms);
            assert!(ages(&mut bed).await.max_ms <= 61_000);
            let rows = minutes(&mut bed, 16).await;
            assert!(rows.iter().sum::<u64>() >= u64::from(TARGETS), "{rows:?}");
            assert!(rows.iter().all(|&rows| rows <= 15), "no burst: {rows:?}");
            assert_rows_are_fresh(&bed);
            let told = ages(&mut bed).await;
            assert!((59_000..=61_000).contains(&told.p50_ms), "{told:?}");
        });
    }
}

#[test]
fn a_start_in_1970_goes_on_when_the_clock_is_set_right() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let in_1970 = 5_000 - START.0 as i64;
        let mut bed = fleet(dir.path(), in_1970).await;
        minutes(&mut bed, 2).await;
        bed.set_wall_clock(0);
        for _ in 0..2 {
            let rows = minutes(&mut bed, 16).await;
            assert!(rows.iter().sum::<u64>() >= u64::from(TARGETS), "{rows:?}");
            assert_rows_are_fresh(&bed);
        }
        assert!(ages(&mut bed).await.max_ms <= 61_000);
    });
}

#[test]
fn freshness_rows_are_those_that_the_store_wrote() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = fleet(dir.path(), 0).await;
        bed.store.leaves_out.set(1);
        let rows: u64 = minutes(&mut bed, 20).await.iter().sum();
        assert!(bed.store.left_out.get() > 0);
        assert_eq!(rows, bed.store.rows_written.get());
    });
}
