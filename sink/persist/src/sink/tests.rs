//! The sink turned by hand: what it promises while the store is away, slow or lost, and while
//! slots come and go.

mod asking;
mod audit;
mod backlog;
mod beside;
mod budget;
mod clock_steps;
mod fencing;
mod fleet;
mod history;
mod node_events;
mod operators;
mod outage;
mod properties;
mod rest;
mod restart;
mod storm;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::FailureClass::{ConnectRefused, HttpStatus};
use model::fact::{Reason, State};
use model::inbox::Cadence;
use model::limits::FLAP_WINDOW_MS;
use model::{CoreIndex, Generation, Slot};
use tempfile::tempdir;
use tokio::sync::oneshot;

use crate::error::PersistError;
use crate::handle::{SinkCommand, SinkConfig};
use crate::run;
use crate::stats::CoreAccount;
use crate::testbed::{Bed, FakeStore, Heard, config, follow_time, on_virtual_time, target};

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
        for class in [Some(HttpStatus), Some(HttpStatus), Some(HttpStatus), None] {
            bed.check(0, 0, 1, class);
            bed.turns(5).await;
        }
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        // Once nothing is remembered of it, its healthy checks are stepped no more.
        bed.pass(FLAP_WINDOW_MS);
        for _ in 0..2 {
            bed.check(0, 0, 1, None);
            bed.turns(5).await;
        }
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
            drained: 6,
            stepped: 5,
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
            let pause_ms = if class.is_some() {
                60_000
            } else {
                FLAP_WINDOW_MS
            };
            bed.pass(pause_ms);
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
        bed.turns(15).await;
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
    let (lease, history) = (of("could not be renewed"), of("history was not written"));
    let audit = of("to the audit log");
    // Two minutes: at once, and then once in 30 s at most.
    for said in [&apply, &freshness, &lease, &history, &audit] {
        assert!((3..=5).contains(&said.len()), "{warnings:#?}");
        assert!(said[0].contains("suppressed=0"), "{warnings:#?}");
        assert!(!said[1].contains("suppressed=0"), "{warnings:#?}");
    }
    assert_eq!(
        warnings.len(),
        apply.len() + freshness.len() + lease.len() + history.len() + audit.len(),
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

/// Lesson: one row that somebody held kept the freshness of all others from being written.
#[test]
fn only_the_rows_that_somebody_holds_wait_for_the_next_flush() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        (0..5).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 1_800));
        bed.turn().await;
        store.held.borrow_mut().insert(target(3));
        (0..5).for_each(|slot| bed.check(0, slot, 1, None));
        bed.pass(10_000);
        bed.turns(3).await;
        let first = bed.snapshot().counters;
        assert_eq!((first.freshness_rows, first.freshness_pending), (4, 1));
        store.held.borrow_mut().clear();
        bed.pass(10_000);
        bed.turns(3).await;
        let second = bed.snapshot().counters;
        assert_eq!((second.freshness_rows, second.freshness_pending), (5, 0));
        assert_eq!(store.rows_written.get(), 5, "none was written twice");
    });
}

#[test]
fn a_flush_means_results_that_came_while_the_turn_that_met_it_was_under_way() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let (done, mut answered) = oneshot::channel();
        bed.commands
            .send(SinkCommand::Flush { done })
            .expect("room");
        // This turn drains before it hears of the flush.
        bed.turn().await;
        bed.check(0, 0, 1, Some(HttpStatus));
        for _ in 0..1_000 {
            if answered.try_recv().is_ok() {
                assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
                return;
            }
            bed.turn().await;
        }
        panic!("the flush was never answered: {:?}", bed.snapshot());
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
            by: None,
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
fn the_depths_of_the_channels_of_the_control_plane_are_told() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        (1..7).for_each(|slot| bed.register(0, slot, 1, 7 + i64::from(slot), 60));
        (1..7).for_each(|slot| bed.release(0, slot));
        bed.turn().await;
        let told = bed.snapshot().counters;
        // The channel of a bed has room for 4 released slots; 2 wait inside the sink.
        assert_eq!((told.commands_waiting, told.released_waiting), (6, 6));
        assert_eq!(bed.released.try_iter().count(), 4);
        bed.turns(2).await;
        let told = bed.snapshot().counters;
        assert_eq!((told.commands_waiting, told.released_waiting), (0, 2));
    });
}

#[test]
fn a_stop_takes_what_was_sent_while_the_journal_was_full() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.sink.waiting_max = 1;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turn().await;
        bed.check(0, 0, 1, Some(HttpStatus));
        let (done, answered) = oneshot::channel();
        bed.commands.send(SinkCommand::Stop { done }).expect("room");
        let journal = dir.path().join("journal");
        let aside = dir.path().join("aside");
        std::fs::rename(&journal, &aside).expect("moved away");
        follow_time(Arc::clone(&bed.clock_ms));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            std::fs::rename(aside, journal).expect("moved back");
        });
        let ended = run::turn_until_stopped(bed.sink).await;
        assert!(ended.is_ok(), "{ended:?}");
        answered.await.expect("answered");
        let total = bed.stats.snapshot().total();
        assert_eq!((total.drained, total.queued), (2, 0));
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

/// Lesson: targets were shown as stale because their rows were written late, or not at all.
#[test]
fn ages_are_true_while_no_row_is_written() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.store.refuses_freshness.set(true);
        for _ in 0..20 {
            bed.check(0, 0, 1, None);
            bed.turns(3).await;
            bed.pass(57_000);
        }
        let (reply, mut answer) = oneshot::channel();
        let ages = SinkCommand::Ages { reply };
        bed.commands.send(ages).expect("room");
        bed.turn().await;
        let ages = answer.try_recv().expect("answered");
        assert!((57_000..58_000).contains(&ages.max_ms), "{ages:?}");
        assert_eq!(bed.store.rows_written.get(), 0);
    });
}

/// Lesson: a row had the time of the probe and was written later, so that it was just too old for
/// whoever looked. A row says when it is written, and a failed one is written with a new time.
#[test]
fn a_row_says_when_it_is_written_which_is_never_before_its_check() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 1, 1, 8, 1_800);
        bed.turn().await;
        bed.store.refuses_freshness.set(true);
        let checked = bed.now();
        bed.check(0, 1, 1, None);
        bed.pass(10_000);
        bed.turns(3).await;
        bed.store.refuses_freshness.set(false);
        bed.pass(20_000);
        let written = bed.now();
        bed.turns(3).await;
        let rows = bed.store.freshness.borrow();
        let row = rows.get(&target(8)).expect("written");
        assert!(row.last_checked >= written, "{row:?}");
        assert!(written.0 >= checked.0 + 30_000);
        assert!(row.next_check > row.last_checked);
    });
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
