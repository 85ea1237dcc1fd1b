//! The sink turned by hand: what it promises while the store is away, slow or lost, and while
//! slots come and go.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::FailureClass::{self, ConnectRefused, DnsServfail, HttpStatus, LocalPressure};
use model::fact::{Reason, State};
use model::inbox::Cadence;
use model::limits::JOURNAL_SYNC_MS;
use model::{CoreIndex, Generation, Outcome, Slot};
use proptest::prelude::*;
use tempfile::tempdir;
use tokio::sync::oneshot;

use crate::error::PersistError;
use crate::handle::{SinkCommand, SinkConfig};
use crate::run;
use crate::stats::CoreAccount;
use crate::testbed::{
    Bed, FakeStore, Heard, config, flip_bit, follow_time, healthy, on_virtual_time, target,
};

const OUTAGE: [(State, Reason); 3] = [
    (State::SeemsDown, Reason::Opened),
    (State::Down, Reason::VerifierConfirmed),
    (State::Resolved, Reason::VerifierCleared),
];

async fn one_target(config: SinkConfig) -> Bed {
    let mut bed = Bed::start(config, 1, &Rc::new(FakeStore::default())).await;
    bed.register(0, 0, 1, 7, 60);
    bed.turn().await;
    bed
}

#[test]
fn an_outage_reaches_the_store_with_evidence_and_commands_the_core() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        for class in [
            Some(HttpStatus),
            Some(HttpStatus),
            Some(HttpStatus),
            None,
            None,
        ] {
            bed.check(0, 0, 1, class);
            bed.turns(5).await;
        }
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        let recheck = Cadence::Recheck { after_ms: 57_000 };
        assert_eq!(bed.cadences(0), [(0, recheck), (0, Cadence::Grid)]);
        let transitions = bed.store.transitions.borrow().clone();
        let seen = |at: usize| {
            transitions[at]
                .evidence
                .as_ref()
                .map(|evidence| evidence.seq)
        };
        assert_eq!((seen(0), seen(1), seen(2)), (Some(1), Some(3), None));
        assert_eq!(bed.store.jobs.borrow().len(), 3);
        let account = CoreAccount {
            drained: 5,
            stepped: 4,
            coalesced: 1,
            ..Default::default()
        };
        assert_eq!(bed.snapshot().total(), account);
        assert_eq!(bed.snapshot().counters.evidence_waiting, 0);
    });
}

#[test]
fn nothing_is_commanded_or_counted_before_it_is_durable() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turn().await;
        let before = bed.snapshot().counters;
        assert_eq!(
            (
                before.facts_waiting,
                before.journal_records,
                before.open_seems_down
            ),
            (1, 0, 0)
        );
        assert_eq!(bed.cadences(0), []);
        bed.turns(4).await;
        let after = bed.snapshot().counters;
        assert_eq!(
            (
                after.facts_waiting,
                after.journal_records,
                after.open_seems_down
            ),
            (0, 1, 1)
        );
        assert_eq!(bed.cadences(0).len(), 1);
        assert_eq!(after.transitions, 1);
    });
}

#[test]
fn a_first_connect_failure_waits_two_seconds() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let started = bed.now();
        bed.check(0, 0, 1, Some(ConnectRefused));
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.suspected, 1);
        bed.pass(1_900);
        bed.turns(1).await;
        assert_eq!(bed.snapshot().counters.transitions, 0);
        bed.pass(100);
        bed.turns(5).await;
        let events = bed.store.events.borrow();
        let event = events.values().next().expect("opened");
        assert_eq!((event.started_at, event.state), (started, State::SeemsDown));
        assert!(bed.store.transitions.borrow()[0].evidence.is_some());
    });
}

#[test]
fn while_the_store_is_away_nothing_is_lost_and_the_order_is_kept() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(config(dir.path()), 2, &store).await;
        for slot in 0..10 {
            bed.register(0, slot, 1, 1 + i64::from(slot), 60);
            bed.register(1, slot, 1, 101 + i64::from(slot), 60);
        }
        bed.turn().await;
        store.away.set(true);
        for round in 0..40 {
            let class = (round % 4 != 3).then_some(HttpStatus);
            for slot in 0..5 {
                bed.check(0, slot, 1, class);
                bed.check(1, slot, 1, class);
                bed.check(0, slot + 5, 1, None);
            }
            bed.turns(4).await;
            bed.pass(60_000);
        }
        let away = bed.snapshot();
        assert!(away.counters.apply_lag >= 40, "{away:?}");
        assert!(away.counters.apply_retries > 0);
        assert_eq!((away.counters.applies, away.counters.journal_alarm), (0, 0));
        assert_eq!(away.total().coalesced, 200);
        assert_eq!(store.transitions.borrow().len(), 0);
        store.away.set(false);
        bed.flush().await;
        let ten_outages: Vec<_> = OUTAGE.iter().copied().cycle().take(30).collect();
        for id in (1..=5).chain(101..=105) {
            assert_eq!(store.story(target(id)), ten_outages, "target {id}");
        }
        assert_eq!(store.transitions.borrow().len(), 300);
        assert_eq!(store.freshness.borrow().len(), 15);
        assert_eq!(bed.snapshot().counters.apply_lag, 0);
    });
}

#[test]
fn a_journal_that_is_full_alarms_holds_and_recovers() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let small = SinkConfig {
            journal_max_bytes: 4_000,
            ..config(dir.path())
        };
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(small, 1, &store).await;
        bed.sink.waiting_max = 100;
        (0..300).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
        bed.turn().await;
        store.away.set(true);
        for slot in 0..300 {
            bed.check(0, slot, 1, Some(HttpStatus));
            bed.turn().await;
        }
        bed.turns(5).await;
        let full = bed.snapshot();
        assert_eq!(full.counters.journal_alarm, 1);
        assert!(full.counters.journal_bytes <= 4_000, "{full:?}");
        assert_eq!(full.counters.facts_waiting, 100);
        assert!(!bed.outcomes[0].is_empty(), "the cores are made to hold");
        assert_eq!(full.total().drained + bed.outcomes[0].len() as u64, 300);

        store.away.set(false);
        for _ in 0..2_000 {
            bed.turn().await;
        }
        bed.flush().await;
        let after = bed.snapshot();
        assert_eq!(store.transitions.borrow().len(), 300);
        assert_eq!(
            (after.counters.journal_alarm, after.counters.facts_waiting),
            (0, 0)
        );
        assert_eq!(after.counters.open_seems_down, 300);
        assert!(
            store.syncs.get() > 0,
            "segments go only after the store is on the disk"
        );
    });
}

#[test]
fn a_disk_that_refuses_alarms_and_loses_nothing() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let journal = dir.path().join("journal");
        std::fs::remove_dir_all(&journal).expect("removed");
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(6).await;
        let broken = bed.snapshot().counters;
        assert_eq!((broken.journal_alarm, broken.facts_waiting), (1, 1));
        assert!(broken.journal_errors > 0);
        assert_eq!(bed.cadences(0), []);
        std::fs::create_dir(&journal).expect("made");
        bed.turns(6).await;
        assert_eq!(bed.snapshot().counters.journal_alarm, 0);
        assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
    });
}

#[test]
fn an_overdue_apply_is_counted_and_waited_for_and_draining_goes_on() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.store.stalled.set(true);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(400).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let slow = bed.snapshot();
        assert_eq!(
            (slow.counters.apply_overdue, slow.counters.apply_lag),
            (1, 2)
        );
        assert_eq!(slow.total().drained, 2);
        assert_eq!(
            bed.store.calls.get(),
            1,
            "nothing is asked twice of a thread that works"
        );
        bed.store.stalled.set(false);
        bed.store.go_on.notify_one();
        bed.turns(5).await;
        assert_eq!(
            (bed.store.calls.get(), bed.snapshot().counters.apply_lag),
            (2, 0)
        );
    });
}

#[test]
fn a_restart_goes_on_from_the_journal_above_every_id() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(6).await;
        assert_eq!(store.applied.get(), 1);
        store.away.set(true);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(6).await;
    });
    store.away.set(false);
    on_virtual_time(async {
        // The clock stepped back meanwhile: ids rise all the same.
        let earlier = model::UnixMs(crate::testbed::START.0 + 1);
        let mut bed = Bed::start_at(config(dir.path()), 1, &store, earlier).await;
        bed.turns(5).await;
        assert_eq!(
            store
                .events
                .borrow()
                .values()
                .next()
                .map(|event| event.fail_count),
            Some(2)
        );
        assert_eq!(bed.snapshot().counters.unclaimed_events, 1);
        bed.register(0, 3, 9, 7, 60);
        bed.check(0, 3, 9, Some(HttpStatus));
        bed.turns(6).await;
        bed.check(0, 3, 9, None);
        bed.flush().await;
        assert_eq!(store.story(target(7)), OUTAGE);
        let ids: Vec<_> = store
            .jobs
            .borrow()
            .iter()
            .map(|job| (job.transition, job.seq))
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0].0 < pair[1].0), "{ids:?}");
        assert_eq!(ids.iter().map(|id| id.1).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
    });
}

#[test]
fn events_of_targets_that_are_gone_are_closed_once_all_is_loaded() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        for slot in 0..4 {
            bed.register(0, slot, 1, 7 + i64::from(slot), 60);
            bed.check(0, slot, 1, Some(HttpStatus));
        }
        bed.flush().await;
    });
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.turns(500).await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 3);
        assert_eq!(store.transitions.borrow().len(), 4, "nothing is closed yet");
        let keep = [target(8)].into();
        bed.commands
            .send(SinkCommand::Loaded { keep })
            .expect("room");
        bed.flush().await;
        let closed = (State::Resolved, Reason::ManualOverride);
        for (id, story) in [(7, 1), (8, 1), (9, 2), (10, 2)] {
            let expected = &[OUTAGE[0], closed][..story];
            assert_eq!(store.story(target(id)), expected, "target {id}");
        }
        let counters = bed.snapshot().counters;
        assert_eq!((counters.unclaimed_events, counters.transitions), (1, 2));
        assert!(
            store
                .jobs
                .borrow()
                .iter()
                .filter(|job| job.seq == 2)
                .count()
                == 2
        );
        // What was kept goes on when its row is mended.
        bed.register(0, 1, 1, 8, 60);
        bed.check(0, 1, 1, None);
        bed.flush().await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
        assert_eq!(store.story(target(8)).len(), 2);
    });
}

#[test]
fn many_events_of_gone_targets_are_closed_as_fast_as_the_journal_takes_them() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        for slot in 0..50 {
            bed.register(0, slot, 1, 1 + i64::from(slot), 60);
            bed.check(0, slot, 1, Some(HttpStatus));
        }
        bed.flush().await;
    });
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.sink.waiting_max = 20;
        let keep = std::collections::HashSet::new();
        bed.commands
            .send(SinkCommand::Loaded { keep })
            .expect("room");
        bed.turn().await;
        let first = bed.snapshot().counters;
        assert_eq!((first.facts_waiting, first.unclaimed_events), (20, 30));
        bed.turns(20).await;
        bed.flush().await;
        let open = |event: &model::fact::Event| event.ended_at.is_none();
        assert_eq!(
            store.events.borrow().values().filter(|e| open(e)).count(),
            0
        );
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
    });
}

#[test]
fn a_damaged_segment_that_was_moved_away_costs_its_facts_and_nothing_else() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    store.away.set(true);
    for id in 1..=3 {
        on_virtual_time(async {
            let mut bed = Bed::start(config(dir.path()), 1, &store).await;
            bed.register(0, 0, 1, id, 60);
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(6).await;
        });
    }
    let segment = dir.path().join("journal/000000000002.journal");
    let mut bytes = std::fs::read(&segment).expect("read");
    let middle = bytes.len() * 4;
    flip_bit(&mut bytes, middle);
    std::fs::write(&segment, bytes).expect("written");
    store.away.set(false);
    let refused = on_virtual_time(Bed::try_start(config(dir.path()), &store)).err();
    let said = refused.expect("damaged").to_string();
    assert!(
        said.contains("000000000002.journal:20 (facts from number 2 on"),
        "{said}"
    );
    assert!(
        said.contains("move it away to start without those facts"),
        "{said}"
    );

    std::fs::rename(&segment, dir.path().join("aside")).expect("moved away");
    let errors = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = Bed::start(config(dir.path()), 1, &store).await;
                bed.flush().await;
                (0..3).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
                (0..3).for_each(|slot| bed.check(0, slot, 1, None));
                bed.flush().await;
                assert_eq!(bed.snapshot().counters.apply_lag, 0);
            });
        },
        "ERROR",
    );
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(
        errors.iter().all(|line| line.contains("first=2 last=2")),
        "{errors:#?}"
    );
    let closed = (State::Resolved, Reason::ProbeCleared);
    assert_eq!(store.story(target(1)), [OUTAGE[0], closed]);
    assert_eq!(
        store.story(target(2)),
        [],
        "its facts were in the damaged segment"
    );
    assert_eq!(store.story(target(3)), [OUTAGE[0], closed]);
}

#[test]
fn a_store_that_stays_away_is_not_complained_about_at_every_try() {
    let dir = tempdir().expect("a directory");
    let warnings = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = one_target(config(dir.path())).await;
                bed.register(0, 1, 1, 8, 1_800);
                bed.store.away.set(true);
                bed.check(0, 0, 1, Some(HttpStatus));
                for _ in 0..12 {
                    bed.check(0, 1, 1, None);
                    bed.turns(1_000).await;
                }
                let counters = bed.snapshot().counters;
                assert!(counters.apply_retries > 20, "{counters:?}");
                assert!(counters.freshness_retries >= 10, "{counters:?}");
            });
        },
        "WARN",
    );
    let of = |text: &str| -> Vec<&String> {
        warnings.iter().filter(|line| line.contains(text)).collect()
    };
    let (apply, freshness) = (of("did not take a batch"), of("freshness was not written"));
    // Two minutes: at once, and then once in 30 s at most.
    for said in [&apply, &freshness] {
        assert!((3..=5).contains(&said.len()), "{warnings:#?}");
        assert!(said[0].contains("suppressed=0"), "{warnings:#?}");
        assert!(!said[1].contains("suppressed=0"), "{warnings:#?}");
    }
    assert_eq!(
        warnings.len(),
        apply.len() + freshness.len(),
        "{warnings:#?}"
    );
}

#[test]
fn a_full_inbox_holds_its_command_until_there_is_room() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        (0..20).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
        (0..20).for_each(|slot| bed.check(0, slot, 1, Some(HttpStatus)));
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.held_commands, 12);
        let mut slots = Vec::new();
        for _ in 0..4 {
            slots.extend(bed.cadences(0).into_iter().map(|(slot, _)| slot));
            bed.turn().await;
        }
        assert_eq!(slots, (0..20).collect::<Vec<_>>());
        assert_eq!(bed.snapshot().counters.held_commands, 0);
    });
}

#[test]
fn freshness_that_was_refused_is_written_by_the_next_flush() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        (0..5).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 1_800));
        bed.turn().await;
        store.refuses_freshness.set(true);
        (0..5).for_each(|slot| bed.check(0, slot, 1, None));
        bed.pass(10_000);
        bed.turns(3).await;
        let refused = bed.snapshot().counters;
        assert_eq!(
            (refused.freshness_retries, refused.freshness_pending),
            (1, 5)
        );
        bed.turns(100).await;
        assert_eq!(
            bed.snapshot().counters.freshness_retries,
            1,
            "not before 10 s"
        );
        store.refuses_freshness.set(false);
        bed.pass(10_000);
        bed.turns(3).await;
        let written = bed.snapshot().counters;
        assert_eq!((written.freshness_rows, written.freshness_pending), (5, 0));
        let rows = store.freshness.borrow();
        assert!(rows.values().all(|row| row.next_check > row.last_checked));
    });
}

#[test]
fn a_flush_that_someone_waits_for_does_not_hammer_a_store_that_is_away() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 1, 1, 8, 1_800);
        bed.store.away.set(true);
        bed.check(0, 1, 1, None);
        let (done, mut answered) = oneshot::channel();
        bed.commands
            .send(SinkCommand::Flush { done })
            .expect("room");
        bed.turns(500).await;
        assert!(answered.try_recv().is_err());
        let retries = bed.snapshot().counters.freshness_retries;
        assert!((3..=6).contains(&retries), "{retries} in 5 s");
        bed.store.away.set(false);
        bed.turns(150).await;
        assert!(answered.try_recv().is_ok());
        assert_eq!(bed.snapshot().counters.freshness_rows, 1);
    });
}

#[test]
fn retired_targets_leave_no_open_event_and_their_slot_is_released_once() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let retire = SinkCommand::Retire {
            core: CoreIndex(0),
            slot: Slot(0),
        };
        bed.commands.send(retire).expect("room");
        bed.check(0, 0, 1, None);
        bed.release(0, 0);
        bed.turns(5).await;
        let closed = (State::Resolved, Reason::ManualOverride);
        assert_eq!(bed.store.story(target(7)), [OUTAGE[0], closed]);
        assert_eq!(
            bed.released.try_iter().collect::<Vec<_>>(),
            [(CoreIndex(0), Slot(0))]
        );
        let snapshot = bed.snapshot();
        assert_eq!(snapshot.total().discarded_old_generation, 1);
        assert_eq!(
            (snapshot.counters.slots, snapshot.counters.open_seems_down),
            (0, 0)
        );
        bed.register(0, 0, 1, 8, 60);
        bed.check(0, 0, 1, None);
        bed.turn().await;
        assert_eq!(bed.snapshot().total().coalesced, 1);
    });
}

#[test]
fn a_stop_that_takes_long_opens_nothing_from_held_failures() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 1, 1, 8, 60);
        bed.store.away.set(true);
        bed.check(0, 0, 1, Some(ConnectRefused));
        bed.check(0, 1, 1, Some(HttpStatus));
        bed.turn().await;
        let (done, answered) = oneshot::channel();
        bed.commands.send(SinkCommand::Stop { done }).expect("room");
        follow_time(bed.clock_ms);
        let ended = run::turn_until_stopped(bed.sink).await;
        assert!(ended.is_ok(), "the journal has everything: {ended:?}");
        answered.await.expect("answered");
        let counters = bed.stats.snapshot().counters;
        assert_eq!((counters.transitions, counters.suspected), (1, 1));
        assert_eq!((counters.apply_lag, counters.facts_waiting), (1, 0));
    });
}

#[test]
fn an_end_without_a_journal_is_an_error_that_counts_the_lost_facts() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        std::fs::remove_dir_all(dir.path().join("journal")).expect("removed");
        bed.check(0, 0, 1, Some(HttpStatus));
        let (done, answered) = oneshot::channel();
        bed.commands.send(SinkCommand::Stop { done }).expect("room");
        follow_time(bed.clock_ms);
        let ended = run::turn_until_stopped(bed.sink).await;
        let error = ended.expect_err("a fact is lost");
        assert!(matches!(error, PersistError::Unwritten { facts: 1 }));
        assert!(error.to_string().contains("1 facts are lost"), "{error}");
        answered.await.expect("answered all the same");
    });
}

/// One site whose checks go well and badly in turn, `pauses_ms` apart, under the sink's own loop:
/// how long facts were seen waiting at most, and how many batches there were.
async fn longest_wait_ms(directory: &std::path::Path, pauses_ms: &[u64]) -> (u64, u64) {
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

#[test]
fn ages_are_answered_from_memory() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.check(0, 0, 1, None);
        bed.turn().await;
        bed.pass(30_000);
        let (reply, mut answer) = oneshot::channel();
        bed.commands
            .send(SinkCommand::Ages { reply })
            .expect("room");
        bed.turn().await;
        let ages = answer.try_recv().expect("answered");
        assert_eq!((ages.targets, ages.max_ms), (1, 30_000));
    });
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
                        bed.commands.send(SinkCommand::Retire { core, slot }).expect("room");
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
            let open: Vec<_> = store.events.borrow().values()
                .filter(|event| event.ended_at.is_none()).map(|event| event.target).collect();
            let mut once = open.clone();
            once.dedup();
            prop_assert_eq!(&once, &open, "one open event per target");
            let counters = snapshot.counters;
            prop_assert_eq!(counters.open_seems_down + counters.open_down, open.len() as u64);
            prop_assert_eq!(counters.transitions, store.transitions.borrow().len() as u64);
            prop_assert_eq!(store.jobs.borrow().len(), store.transitions.borrow().len());
            Ok(())
        })?;
    }
}

#[test]
fn results_of_a_target_whose_generation_moved_on_touch_nothing() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 0, Generation(2).0, 7, 60);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        assert_eq!(bed.snapshot().total().discarded_old_generation, 1);
        assert_eq!(bed.snapshot().counters.evidence_waiting, 0);
        assert_eq!(bed.store.transitions.borrow().len(), 0);
    });
}
