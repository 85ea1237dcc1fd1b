//! What operators do while the sink runs: windows, closing by hand, checks on demand, looking.

use std::collections::HashSet;
use std::rc::Rc;

use model::FailureClass::{HttpStatus, LocalPressure};
use model::fact::{Reason, State};
use model::target::Maintenance;
use model::window::{Occurrence, Scope};
use model::{CoreIndex, FactId, Slot, UnixMs};
use tempfile::tempdir;
use tokio::sync::oneshot;

use super::one_target;
use crate::handle::{Look, SinkCommand, Watched};
use crate::testbed::{Bed, FakeStore, START, config, on_virtual_time, target};

const HOUR_MS: u64 = 3_600_000;
const SWALLOWED: (State, Reason) = (State::Resolved, Reason::MaintenanceSwallowed);
const OPENED: (State, Reason) = (State::SeemsDown, Reason::Opened);

fn window(scope: Scope, from_h: u64, to_h: u64) -> Occurrence {
    let day_before = START.0 - 24 * HOUR_MS;
    let span = Maintenance {
        start_ms: day_before + from_h * HOUR_MS,
        end_ms: day_before + to_h * HOUR_MS,
    };
    Occurrence { scope, span }
}

fn say_windows(bed: &Bed, windows: &[Occurrence]) {
    let windows = SinkCommand::Windows(windows.to_vec());
    bed.commands.send(windows).expect("room");
}

async fn fails(bed: &mut Bed, slot: u32) {
    bed.check(0, slot, 1, Some(HttpStatus));
    bed.turns(5).await;
}

async fn close(bed: &mut Bed, event: FactId) -> bool {
    let (reply, mut answer) = oneshot::channel();
    let by = "ann".to_owned();
    let close = SinkCommand::Close { event, by, reply };
    bed.commands.send(close).expect("room");
    bed.turns(5).await;
    answer.try_recv().expect("answered")
}

async fn look(bed: &mut Bed, slot: u32) -> Option<Look> {
    let (core, slot) = (CoreIndex(0), Slot(slot));
    let (reply, mut answer) = oneshot::channel();
    let look = SinkCommand::Look { core, slot, reply };
    bed.commands.send(look).expect("room");
    bed.turn().await;
    answer.try_recv().expect("answered")
}

fn watch(bed: &Bed, slot: u32) -> oneshot::Receiver<Box<Watched>> {
    let (core, slot) = (CoreIndex(0), Slot(slot));
    let (reply, answer) = oneshot::channel();
    let since = bed.mono();
    let watch = SinkCommand::Watch {
        core,
        slot,
        since,
        reply: Some(reply),
    };
    bed.commands.send(watch).expect("room");
    answer
}

fn last_source(store: &FakeStore) -> String {
    let transitions = store.transitions.borrow();
    transitions.last().expect("a transition").source.clone()
}

fn only_event(store: &FakeStore) -> FactId {
    *store.events.borrow().keys().next().expect("an event")
}

#[test]
fn a_window_for_a_group_or_all_swallows_without_a_word_to_any_target() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register_with(0, 1, 1, 8, 60, |it| it.group_id = 3);
        fails(&mut bed, 0).await;
        say_windows(&bed, &[window(Scope::Group(3), 23, 25)]);
        fails(&mut bed, 0).await;
        fails(&mut bed, 1).await;
        assert_eq!(bed.store.story(target(7)), [OPENED]);
        assert_eq!(bed.store.story(target(8)), []);
        say_windows(&bed, &[window(Scope::All, 23, 25)]);
        fails(&mut bed, 0).await;
        assert_eq!(bed.store.story(target(7)), [OPENED, SWALLOWED]);
        // A healthy check of a target at rest still ends on the short way.
        let before = bed.snapshot().total();
        bed.register(0, 2, 1, 9, 60);
        bed.check(0, 2, 1, None);
        bed.turns(2).await;
        let after = bed.snapshot().total();
        assert_eq!(after.coalesced, before.coalesced + 1);
        assert_eq!(after.stepped, before.stepped);
        say_windows(&bed, &[]);
        fails(&mut bed, 1).await;
        assert_eq!(bed.store.story(target(8)), [OPENED]);
    });
}

#[test]
fn a_step_of_the_clock_by_an_hour_neither_leaves_a_window_nor_enters_one() {
    for step_ms in [-3_600_000, 3_600_000] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = one_target(config(dir.path())).await;
            bed.register(0, 1, 1, 8, 60);
            fails(&mut bed, 1).await;
            // One that is active, and two that only the clock that was stepped is in.
            let of = |id, from_ms, to_ms| Occurrence {
                scope: Scope::Target(target(id)),
                span: Maintenance {
                    start_ms: START.0 + from_ms - HOUR_MS,
                    end_ms: START.0 + to_ms - HOUR_MS,
                },
            };
            let inside = of(7, HOUR_MS - 60_000, HOUR_MS + 600_000);
            let others = [of(8, 0, HOUR_MS / 2), of(8, HOUR_MS * 3 / 2, HOUR_MS * 3)];
            say_windows(&bed, &[inside, others[0], others[1]]);
            for at in [0, step_ms, 0] {
                bed.set_wall_clock(at);
                fails(&mut bed, 0).await;
                let seen = look(&mut bed, 0).await.expect("seated");
                assert_eq!(seen.maintenance, Some(inside.span));
                assert_eq!(look(&mut bed, 1).await.expect("seated").maintenance, None);
            }
            assert_eq!(bed.store.story(target(7)), []);
            assert_eq!(bed.store.story(target(8)), [OPENED]);
            let counters = bed.snapshot().counters;
            assert_eq!((counters.lease, counters.fenced), (0, 0));
        });
    }
}

#[test]
fn a_weekly_window_that_comes_and_goes_needs_no_word_at_its_ends() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let days = [24, 48].map(|day| window(Scope::All, day + 1, day + 2));
        say_windows(&bed, &days);
        for (hours, swallowed) in [(0, false), (1, true), (1, false), (23, true), (1, false)] {
            bed.pass(hours * HOUR_MS + 1_000);
            bed.check(0, 0, 1, None);
            bed.flush().await;
            let before = bed.store.story(target(7)).len();
            fails(&mut bed, 0).await;
            assert_eq!(
                bed.store.story(target(7)).len() == before,
                swallowed,
                "{hours}"
            );
        }
    });
}

#[test]
fn an_event_is_closed_by_hand_once_and_the_next_failure_opens_another() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        for _ in 0..3 {
            fails(&mut bed, 0).await;
        }
        let event = only_event(&bed.store);
        assert!(!close(&mut bed, FactId::new(1).expect("positive")).await);
        assert!(close(&mut bed, event).await);
        assert!(!close(&mut bed, event).await);
        bed.flush().await;
        let by_hand = (State::Resolved, Reason::ManualOverride);
        assert_eq!(bed.store.story(target(7)).last(), Some(&by_hand));
        assert_eq!(last_source(&bed.store), "ann");
        assert_eq!(
            look(&mut bed, 0).await.map(|seen| seen.state),
            Some(State::Up)
        );
        fails(&mut bed, 0).await;
        assert_eq!(bed.store.story(target(7)).last(), Some(&OPENED));
        assert_ne!(bed.store.events.borrow().len(), 1);
    });
}

#[test]
fn an_event_whose_target_is_not_loaded_is_closed_by_hand_too() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        fails(&mut bed, 0).await;
        bed.flush().await;
    });
    on_virtual_time(async {
        // As a command that closes while no node runs: there is no core.
        let mut bed = Bed::start(config(dir.path()), 0, &store).await;
        let event = only_event(&store);
        assert!(close(&mut bed, event).await);
        assert!(!close(&mut bed, event).await);
        bed.flush().await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
        let by_hand = (State::Resolved, Reason::ManualOverride);
        assert_eq!(store.story(target(7)), [OPENED, by_hand]);
        assert_eq!(last_source(&store), "ann");
    });
}

/// Lesson: the row of a target that was down became a bad one, and its incident stayed open for the
/// next start to take up. Then the row was switched off, and nobody ever closed it.
#[test]
fn an_event_of_a_bad_row_ends_once_the_row_is_switched_off() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        fails(&mut bed, 0).await;
        bed.flush().await;
    });
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        let epoch = bed.snapshot().counters.epoch;
        let keep = HashSet::from([target(7)]);
        let loaded = SinkCommand::Loaded { keep, epoch };
        bed.commands.send(loaded).expect("room");
        bed.flush().await;
        assert_eq!(store.story(target(7)), [OPENED]);
        for targets in [vec![target(8)], vec![target(7), target(8)]] {
            let by = Some("ann".to_owned());
            let abandon = SinkCommand::Abandon { targets, by };
            bed.commands.send(abandon).expect("room");
            bed.flush().await;
        }
        let by_hand = (State::Resolved, Reason::ManualOverride);
        assert_eq!(store.story(target(7)), [OPENED, by_hand]);
        assert_eq!(last_source(&store), "ann");
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
    });
}

#[test]
fn a_pause_closes_what_is_open_in_the_name_of_who_paused() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        fails(&mut bed, 0).await;
        let mut answer = watch(&bed, 0);
        let retire = SinkCommand::Retire {
            core: CoreIndex(0),
            slot: Slot(0),
            by: Some("ann".to_owned()),
        };
        bed.commands.send(retire).expect("room");
        bed.flush().await;
        let by_hand = (State::Resolved, Reason::ManualOverride);
        assert_eq!(bed.store.story(target(7)), [OPENED, by_hand]);
        assert_eq!(last_source(&bed.store), "ann");
        assert_eq!(look(&mut bed, 0).await, None);
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
    });
}

#[test]
fn a_check_that_was_asked_for_is_told_and_its_success_closes_as_cleared_by_the_probe() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 1, 1, 8, 60);
        for _ in 0..2 {
            fails(&mut bed, 0).await;
        }
        let mut answer = watch(&bed, 0);
        bed.turn().await;
        bed.check(0, 1, 1, None);
        bed.turns(2).await;
        answer.try_recv().expect_err("the check of another target");
        fails(&mut bed, 0).await;
        let watched = answer.try_recv().expect("answered");
        assert_eq!(watched.outcome.class, HttpStatus as u8);
        assert_eq!((watched.state, watched.is_suspected), (State::Down, false));
        assert!(watched.evidence.is_some());
        let mut answer = watch(&bed, 0);
        bed.turn().await;
        bed.check(0, 0, 1, None);
        bed.turns(5).await;
        let watched = answer.try_recv().expect("answered");
        assert_eq!((watched.outcome.class, watched.state), (0, State::Up));
        let cleared = (State::Resolved, Reason::ProbeCleared);
        assert_eq!(bed.store.story(target(7)).last(), Some(&cleared));
    });
}

#[test]
fn a_check_that_began_before_the_question_is_no_answer() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let mut answer = watch(&bed, 0);
        bed.turn().await;
        bed.check_with(0, 0, 1, None, |outcome| outcome.phases.total_us = 5_000_000);
        bed.turns(2).await;
        answer.try_recv().expect_err("it began 5 s before");
        bed.check_with(0, 0, 1, None, |outcome| outcome.phases.total_us = 5_000);
        bed.turns(2).await;
        assert_eq!(answer.try_recv().expect("answered").state, State::Up);
    });
}

#[test]
fn a_look_says_what_memory_knows() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let seen = look(&mut bed, 0).await.expect("seated");
        assert_eq!(
            (seen.state, seen.checked_ms, seen.is_known),
            (State::Up, None, true)
        );
        assert!(seen.next_check > bed.now() && seen.next_check <= bed.now().plus_ms(60_000));
        fails(&mut bed, 0).await;
        bed.pass(2_000);
        let seen = look(&mut bed, 0).await.expect("seated");
        assert_eq!(seen.state, State::SeemsDown);
        assert!(
            seen.checked_ms
                .is_some_and(|ms| (2_000..2_400).contains(&ms)),
            "{seen:?}"
        );
        bed.check(0, 0, 1, Some(LocalPressure));
        bed.turns(2).await;
        assert!(!look(&mut bed, 0).await.expect("seated").is_known);
        assert_eq!(look(&mut bed, 5).await, None);
    });
}

#[test]
fn targets_in_maintenance_are_counted() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let own = window(Scope::All, 23, 25).span;
        bed.register_with(0, 1, 1, 8, 60, |it| it.group_id = 3);
        bed.register_with(0, 2, 1, 9, 60, |it| it.maintenance = Some(own));
        for (windows, count) in [
            (vec![], 1),
            (vec![window(Scope::Group(3), 23, 25)], 2),
            (vec![window(Scope::Target(target(9)), 23, 25)], 1),
            (vec![window(Scope::All, 23, 25)], 3),
            (vec![window(Scope::All, 25, 26)], 1),
        ] {
            say_windows(&bed, &windows);
            let (reply, mut answer) = oneshot::channel();
            bed.commands
                .send(SinkCommand::Ages { reply })
                .expect("room");
            bed.turn().await;
            assert_eq!(answer.try_recv().expect("answered").in_maintenance, count);
        }
        assert!(bed.now() < UnixMs(own.end_ms));
    });
}
