//! What holds whatever comes: accounts balance, and no fact waits longer than promised.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::FailureClass::{self, ConnectRefused, DnsServfail, HttpStatus, LocalPressure};
use model::fact::CheckType;
use model::limits::JOURNAL_SYNC_MS;
use model::{CoreIndex, Outcome, Slot};
use proptest::prelude::*;
use tempfile::tempdir;

use super::one_target;
use crate::handle::SinkCommand;
use crate::run;
use crate::testbed::{Bed, FakeStore, config, follow_time, healthy, on_virtual_time};

/// One site whose checks go well and badly in turn, `pauses_ms` apart, under the sink's own loop:
/// how long facts were seen waiting at most, and how many batches there were.
async fn longest_wait_ms(directory: &Path, pauses_ms: &[u64]) -> (u64, u64) {
    let bed = one_target(config(directory)).await;
    let (clock, stats, outcomes) = (bed.clock_ms, bed.stats, bed.outcomes);
    follow_time(Arc::clone(&clock));
    tokio::task::spawn_local(run::turn_until_stopped(bed.sink));
    let (mut longest, mut waiting) = (0, 0);
    for (seq, &pause_ms) in (1..).zip(pauses_ms) {
        let class = if seq % 2 == 1 { HttpStatus as u8 } else { 0 };
        let at = model::UnixMs(clock.load(Ordering::Relaxed));
        let healthy = healthy(0, 1, at);
        let outcome = Outcome {
            class,
            seq,
            ..healthy
        };
        outcomes[0].send(outcome).expect("room");
        for _ in 0..pause_ms {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let waits = stats.snapshot().counters.facts_waiting > 0;
            waiting = if waits { waiting + 1 } else { 0 };
            longest = longest.max(waiting);
        }
    }
    (longest, stats.snapshot().counters.journal_records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_fact_waits_no_longer_than_promised_before_it_is_durable(
        pauses_ms in prop::collection::vec(1u64..1_500, 1..8),
    ) {
        let dir = tempdir().expect("a directory");
        let pauses_ms = [pauses_ms, vec![200]].concat();
        let (longest, batches) = on_virtual_time(longest_wait_ms(dir.path(), &pauses_ms));
        prop_assert!(batches > 0);
        prop_assert!(longest <= JOURNAL_SYNC_MS, "{longest} ms");
    }
}

/// One thing that happens to one of four slots on one of two cores.
#[derive(Clone, Debug)]
enum Act {
    Register {
        generation: u32,
        target: i64,
    },
    Retire,
    Release,
    Check {
        generation: u32,
        class: Option<FailureClass>,
    },
    Turn,
}

fn act() -> impl Strategy<Value = (u16, u32, Act)> {
    let class = prop::sample::select(vec![
        None,
        None,
        Some(HttpStatus),
        Some(ConnectRefused),
        Some(DnsServfail),
        Some(LocalPressure),
    ]);
    let act = prop_oneof![
        2 => (0u32..3, 0i64..2)
            .prop_map(|(generation, target)| Act::Register { generation, target }),
        1 => Just(Act::Retire),
        1 => Just(Act::Release),
        12 => (0u32..3, class).prop_map(|(generation, class)| Act::Check { generation, class }),
        4 => Just(Act::Turn),
    ];
    (0u16..2, 0u32..4, act)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn accounts_balance_whatever_comes_and_goes(
        acts in prop::collection::vec(act(), 1..200),
        away in any::<bool>(),
    ) {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let store = Rc::new(FakeStore::default());
            let mut bed = Bed::start(config(dir.path()), 2, &store).await;
            store.away.set(away);
            let mut sent = [0u64; 2];
            let mut releases = 0;
            for (core, slot, act) in acts {
                match act {
                    Act::Register { generation, target } => {
                        let id = 1 + i64::from(core) * 100 + i64::from(slot) * 10 + target;
                        bed.register(core, slot, generation, id, 60);
                    }
                    Act::Retire => {
                        let (core, slot) = (CoreIndex(core), Slot(slot));
                        let by = None;
                        bed.commands.send(SinkCommand::Retire { core, slot, by }).expect("room");
                    }
                    Act::Release => {
                        bed.release(core, slot);
                        releases += 1;
                    }
                    Act::Check { generation, class } => {
                        bed.check(core, slot, generation, class);
                        sent[usize::from(core)] += 1;
                    }
                    Act::Turn => {
                        bed.turn().await;
                        bed.pass(30_000);
                        prop_assert!(bed.snapshot().cores.iter().all(|(_, core)| core.balances()));
                    }
                }
            }
            store.away.set(false);
            bed.flush().await;
            let mut released = 0;
            for _ in 0..releases {
                released += bed.released.try_iter().count();
                bed.turn().await;
            }
            prop_assert_eq!(released + bed.released.try_iter().count(), releases);
            let snapshot = bed.snapshot();
            for ((_, account), sent) in snapshot.cores.iter().zip(sent) {
                prop_assert!(account.balances());
                prop_assert_eq!(account.drained, sent);
            }
            let mut open: Vec<_> = store.events.borrow().values()
                .filter(|event| event.ended_at.is_none())
                .map(|event| (event.target, event.check_type)).collect();
            open.sort_unstable();
            let mut once = open.clone();
            once.dedup();
            prop_assert_eq!(&once, &open, "one open event per target and type");
            let counters = snapshot.counters;
            let of_http = open.iter().filter(|(_, of)| *of == CheckType::Http).count() as u64;
            prop_assert_eq!(counters.open_seems_down + counters.open_down, of_http);
            prop_assert_eq!(counters.transitions, store.transitions.borrow().len() as u64);
            prop_assert_eq!(store.jobs.borrow().len(), store.transitions.borrow().len());
            // Their rows are gathered for a moment longer.
            bed.pass(1_000);
            bed.turns(100).await;
            let counters = bed.snapshot().counters;
            let noted = counters.maintenance_active + counters.alerts_suppressed
                + counters.retries_dispatched;
            prop_assert_eq!(noted, store.trail.borrow().len() as u64, "each is one line");
            prop_assert_eq!((counters.audit_rows, counters.audit_left_out), (noted, 0));
            Ok(())
        })?;
    }
}
