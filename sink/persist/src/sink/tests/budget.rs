//! The disk budget of the journal is used up: what is decided meanwhile waits in a bounded place,
//! everyone is told, and nothing is lost when there is room again.

use std::rc::Rc;

use super::fleet::{Fleet, journal_bytes};
use crate::handle::SinkConfig;
use crate::testbed::{Heard, config, folder, on_virtual_time};

/// Budget of the disk, and of the memory of what waits for it.
const DISK_BYTES: u64 = 512 * 1024;
const MEMORY_BYTES: usize = 256 * 1024;
/// Facts of the results that one turn may still take: a channel of 10,000, a fifth of them failing.
const TURN_BYTES: u64 = 2 * 2_000 * 700;

#[test]
fn a_used_up_budget_alarms_holds_results_at_the_cores_and_is_over_when_the_store_is_back() {
    let dir = folder();
    let small = SinkConfig {
        journal_max_bytes: DISK_BYTES,
        ..config(dir.path())
    };
    let said = Heard::during(
        || {
            on_virtual_time(async {
                let mut fleet = Fleet::start(small, 5_000, 20).await;
                fleet.bed.sink.waiting_max_bytes = MEMORY_BYTES;
                let store = Rc::clone(&fleet.bed.store);
                store.away.set(true);
                let mut untaken = Vec::new();
                for _ in 0..1_800 {
                    let now = fleet.step().await;
                    assert!(now.journal_bytes <= DISK_BYTES, "{now:?}");
                    assert_eq!(now.journal_bytes, journal_bytes(dir.path()));
                    assert!(
                        now.facts_waiting_bytes < MEMORY_BYTES as u64 + TURN_BYTES,
                        "{now:?}"
                    );
                    assert_eq!(now.journal_alarm, now.journal_full);
                    untaken.push(fleet.untaken());
                }
                let full = fleet.bed.snapshot().counters;
                assert_eq!((full.journal_full, full.journal_max_bytes), (1, DISK_BYTES));
                assert_eq!(full.journal_errors, 0, "the disk did nothing wrong");
                assert!(
                    untaken[100] == 0 && untaken[1_799] > 10_000,
                    "the cores hold results"
                );

                store.away.set(false);
                fleet.catch_up().await;
                while fleet.bed.snapshot().counters.journal_full > 0 {
                    fleet.step().await;
                }
                fleet.catch_up().await;
                let after = fleet.bed.snapshot().counters;
                assert_eq!((after.journal_alarm, after.journal_full), (0, 0));
                assert_eq!((after.facts_waiting, after.facts_waiting_bytes), (0, 0));
                assert!(
                    store.syncs.get() > 0,
                    "segments go once the store is on its disk"
                );
                assert!(fleet.assert_stories().await > 5_000);
            });
        },
        "journal",
    );
    let of = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        of("ERROR message=the journal has used up journal_max_mib"),
        1,
        "{said:#?}"
    );
    assert_eq!(
        of("INFO message=the journal takes facts again"),
        1,
        "{said:#?}"
    );
}
