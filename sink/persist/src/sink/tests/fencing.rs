//! Another node takes over: the sink stops, loads the store again when it may write again, and
//! what it had decided before is in the store once, or not at all where others wrote.

use std::rc::Rc;

use model::FailureClass::HttpStatus;
use model::UnixMs;
use model::fact::{Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::limits::FLAP_WINDOW_MS;
use store::Superseded;
use tempfile::tempdir;
use tokio::sync::oneshot;

use super::{OUTAGE, one_target};
use crate::handle::{SinkCommand, SinkConfig};
use crate::run;
use crate::testbed::{Bed, FakeStore, Heard, START, config, follow_time, on_virtual_time, target};

const LOST: u64 = 2;

/// A sink whose target 7 is open in the store, and confirmed in the journal alone; then another
/// node took over and has the lease for 20 s.
async fn taken_over(bed: &mut Bed) {
    bed.check(0, 0, 1, Some(HttpStatus));
    bed.turns(5).await;
    bed.store.away.set(true);
    for _ in 0..2 {
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
    }
    assert!(bed.snapshot().counters.apply_lag > 0);
    bed.store.bump();
    bed.store.held_ms.set(20_000);
    bed.store.away.set(false);
    turn_until(bed, |bed| bed.snapshot().counters.lease == LOST).await;
}

async fn turn_until(bed: &mut Bed, done: impl Fn(&Bed) -> bool) {
    for _ in 0..10_000 {
        if done(bed) {
            return;
        }
        bed.turn().await;
    }
    panic!("it never came: {:?}", bed.snapshot());
}

/// Until the sink writes again; its targets have to be registered again.
async fn is_back(bed: &mut Bed) {
    bed.store.held_ms.set(0);
    turn_until(bed, |bed| bed.snapshot().counters.lease == 0).await;
}

#[test]
fn a_fenced_sink_stops_loads_again_and_neither_loses_nor_doubles_a_fact() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        taken_over(&mut bed).await;
        let first_epoch = bed.snapshot().counters.epoch;
        let calls = bed.store.calls.get();
        bed.turns(2).await;
        assert_eq!(
            bed.cadences(0).last(),
            Some(&(0, Cadence::Grid)),
            "forgotten there, too"
        );
        // It neither steps nor applies, whatever it is told.
        bed.register(0, 0, 1, 7, 60);
        for class in [None, Some(HttpStatus), None] {
            bed.check(0, 0, 1, class);
            bed.turns(60).await;
        }
        let seen = bed.snapshot();
        assert_eq!((seen.counters.slots, seen.counters.fenced), (0, 1));
        assert_eq!(seen.total().discarded_old_generation, 3);
        assert!(seen.total().balances());
        assert_eq!(bed.store.calls.get(), calls);
        assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
        is_back(&mut bed).await;
        bed.turns(5).await;
        let seen = bed.snapshot().counters;
        assert!(seen.epoch > first_epoch);
        assert_eq!((seen.apply_lag, seen.unclaimed_events), (0, 1));
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        // Registered again it goes on with the open event.
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, None);
        bed.turns(6).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        assert_eq!(bed.store.jobs.borrow().len(), 3);
        let counters = bed.snapshot().counters;
        assert_eq!(
            (counters.facts_superseded, counters.unclaimed_events),
            (0, 0)
        );
    });
}

#[test]
fn a_fail_count_goes_on_after_a_takeover() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        for _ in 0..2 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
        bed.store.bump();
        bed.store.held_ms.set(20_000);
        turn_until(&mut bed, |bed| bed.snapshot().counters.lease == LOST).await;
        is_back(&mut bed).await;
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(6).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        let counts = bed.store.events.borrow();
        let counts: Vec<_> = counts.values().map(|event| event.fail_count).collect();
        assert_eq!(counts, [3]);
    });
}

#[test]
fn a_fenced_sink_whose_store_is_away_asks_until_it_is_back() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        taken_over(&mut bed).await;
        bed.store.held_ms.set(0);
        bed.store.away.set(true);
        let asked = bed.store.lost_epochs.borrow().len();
        bed.turns(3_000).await;
        assert_eq!(bed.snapshot().counters.lease, LOST);
        assert_eq!(bed.store.lost_epochs.borrow().len(), asked, "it is away");
        bed.store.away.set(false);
        is_back(&mut bed).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        assert_eq!(bed.snapshot().counters.apply_lag, 0);
    });
}

/// How another node closes `event`.
fn closed_elsewhere(event: &Event) -> Fact {
    let mut mint = FactMint::default();
    let now = UnixMs(START.0 + 5_000);
    let mut id = || mint.mint(event.target.shard(), now);
    let transition = Transition {
        id: id(),
        event: event.id,
        target: event.target,
        before: Some(event.state),
        after: State::Resolved,
        reason: Reason::ProbeCleared,
        source: "local".to_owned(),
        changed_at: now,
        evidence: None,
        metadata: None,
    };
    let job = Job {
        id: id(),
        kind: JobKind::Fanout,
        transition: transition.id,
        seq: 2,
        run_at: now,
    };
    Fact::Transitioned {
        event: Event {
            ended_at: Some(now),
            resolution: Some(Reason::ProbeCleared),
            ..event.clone()
        },
        transition,
        job,
    }
}

#[test]
fn what_the_other_node_wrote_stays_and_unapplied_facts_of_its_shards_are_passed_over() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.register(0, 1, 1, 8, 60);
        bed.store.away.set(true);
        bed.check(0, 1, 1, Some(HttpStatus));
        taken_over_with_shard_7(&mut bed).await;
        is_back(&mut bed).await;
        bed.turns(5).await;
        let closed = [
            (State::SeemsDown, Reason::Opened),
            (State::Resolved, Reason::ProbeCleared),
        ];
        assert_eq!(bed.store.story(target(7)), closed);
        assert_eq!(bed.store.story(target(8)), OUTAGE[..1], "another shard");
        let seen = bed.snapshot().counters;
        assert!(seen.facts_superseded >= 1, "{seen:?}");
        assert_eq!((seen.apply_lag, seen.unclaimed_events), (0, 1));
        let settled = bed.store.passed_over.borrow().last().copied();
        assert!(settled.is_some_and(|seq| seq >= 2), "{settled:?}");
        // What is decided from now on is good, in that shard too.
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(6).await;
        let again = [closed[0], closed[1], closed[0]];
        assert_eq!(bed.store.story(target(7)), again);
    });
}

/// As [`taken_over`], and the other node closed the event of target 7.
async fn taken_over_with_shard_7(bed: &mut Bed) {
    bed.store.away.set(false);
    taken_over(bed).await;
    let event = bed
        .store
        .events
        .borrow()
        .values()
        .find(|it| it.target == target(7))
        .cloned();
    bed.store.take(&closed_elsewhere(&event.expect("open")));
    // Target 8 was applied before: its open event is claimed by nobody yet.
    let shard = target(7).shard();
    assert_ne!(shard, target(8).shard());
    *bed.store.superseded.borrow_mut() = vec![Superseded { shard, upto: None }];
}

#[test]
fn a_restart_passes_over_what_was_not_settled_before() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.turn().await;
        taken_over(&mut bed).await;
    });
    store.held_ms.set(0);
    let shard = target(7).shard();
    let upto = Some(store.applied.get() + 1);
    *store.superseded.borrow_mut() = vec![Superseded { shard, upto }];
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.turns(5).await;
        let seen = bed.snapshot().counters;
        assert_eq!(seen.apply_lag, 0);
        assert!(seen.facts_superseded >= 1);
    });
}

#[test]
fn loading_that_began_before_the_loss_ends_nobodys_incident() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let before = bed.store.epoch.get();
        taken_over(&mut bed).await;
        is_back(&mut bed).await;
        let loaded = |epoch| SinkCommand::Loaded {
            keep: [].into(),
            epoch,
        };
        bed.commands.send(loaded(before)).expect("room");
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        bed.commands
            .send(loaded(bed.store.epoch.get()))
            .expect("room");
        bed.turns(5).await;
        let ended = bed.store.story(target(7));
        assert_eq!(
            ended[2].0,
            State::Resolved,
            "its target was switched off meanwhile"
        );
    });
}

#[test]
fn a_lease_is_renewed_lapses_while_the_store_is_away_and_is_given_back_at_the_end() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.turns(3_100).await;
        assert_eq!(
            (bed.store.renewals.get(), bed.snapshot().counters.lease),
            (3, 0)
        );
        bed.store.away.set(true);
        turn_until(&mut bed, |bed| bed.snapshot().counters.lease == 1).await;
        // A lapsed right is still one: nobody took it.
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        bed.store.away.set(false);
        turn_until(&mut bed, |bed| bed.snapshot().counters.lease == 0).await;
        bed.flush().await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
        let (done, _answered) = oneshot::channel();
        bed.commands.send(SinkCommand::Stop { done }).expect("room");
        follow_time(std::sync::Arc::clone(&bed.clock_ms));
        run::turn_until_stopped(bed.sink)
            .await
            .expect("a clean end");
        assert_eq!(bed.store.releases.get(), 1);
    });
}

#[test]
fn a_node_whose_journal_is_full_gets_its_right_back_and_what_waited_is_written() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let small = SinkConfig {
            journal_max_bytes: 64 * 1024,
            ..config(dir.path())
        };
        let mut bed = one_target(small).await;
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
        // One more is open and confirmed in memory alone.
        for _ in 0..3 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
        assert!(bed.snapshot().counters.facts_waiting > 0);
        bed.store.bump();
        bed.store.away.set(false);
        turn_until(&mut bed, |bed| bed.snapshot().counters.fenced == 1).await;
        is_back(&mut bed).await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 1);
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, None);
        bed.flush().await;
        let whole: Vec<_> = OUTAGE
            .iter()
            .copied()
            .cycle()
            .take(3 * outages + 3)
            .collect();
        assert_eq!(bed.store.story(target(7)), whole);
        turn_until(&mut bed, |bed| bed.snapshot().counters.journal_full == 0).await;
        let seen = bed.snapshot().counters;
        assert_eq!((seen.facts_waiting, seen.journal_alarm), (0, 0));
    });
}

#[test]
fn a_right_that_was_given_and_could_not_be_used_is_asked_for_as_ones_own() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let first = bed.store.epoch.get();
        bed.store.bump();
        bed.store.loses_floors.set(1);
        bed.check(0, 0, 1, Some(HttpStatus));
        turn_until(&mut bed, |bed| bed.snapshot().counters.fenced == 1).await;
        is_back(&mut bed).await;
        let lost = bed.store.lost_epochs.borrow().clone();
        // Somebody else's first + 1, then its own first + 2.
        assert_eq!(lost, [None, Some(first), Some(first + 2)]);
        assert_eq!(bed.snapshot().counters.epoch, first + 3);
    });
}

#[test]
fn a_takeover_is_said_once_with_the_node_that_has_the_lease() {
    let dir = tempdir().expect("a directory");
    let heard = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = one_target(config(dir.path())).await;
                taken_over(&mut bed).await;
                bed.turns(3_000).await;
                is_back(&mut bed).await;
            });
        },
        "node",
    );
    let with = |text: &str| heard.iter().filter(|line| line.contains(text)).count();
    assert_eq!(with("another node took over"), 1, "{heard:#?}");
    assert!(with("node=\"other\" holder=\"there\"") >= 1, "{heard:#?}");
    assert_eq!(with("this node writes again"), 1, "{heard:#?}");
}

/// A sink whose target 7 has a confirmed incident in the store, which then lost all but its start.
/// Numbers of the first and the last batch that it lost.
async fn set_back(bed: &mut Bed, journal_goes: bool) -> (u64, u64) {
    bed.check(0, 0, 1, Some(HttpStatus));
    bed.turns(5).await;
    let replica = bed.store.picture();
    let first = bed.store.applied.get() + 1;
    for _ in 0..2 {
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
    }
    assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
    let last = bed.store.applied.get();
    if journal_goes {
        bed.sink.queue.tidy_up();
        bed.turns(2).await;
    }
    let segments = bed.snapshot().counters.journal_segments;
    assert_eq!(segments, u64::from(!journal_goes));
    bed.store.set_back(replica);
    assert_eq!(bed.store.story(target(7)), OUTAGE[..1]);
    (first, last)
}

#[test]
fn a_store_that_lost_acknowledged_facts_is_given_them_again_once() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        set_back(&mut bed, false).await;
        bed.check(0, 0, 1, None);
        turn_until(&mut bed, |bed| bed.snapshot().counters.store_set_back == 1).await;
        is_back(&mut bed).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        assert_eq!(bed.store.jobs.borrow().len(), 3);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.store_set_back), (1, 1));
        assert_eq!((seen.apply_lag, seen.batches_missing), (0, 0));
        // Nothing is left of it: the next outage goes its way.
        bed.register(0, 0, 1, 7, 60);
        bed.pass(FLAP_WINDOW_MS);
        for class in [Some(HttpStatus), Some(HttpStatus), Some(HttpStatus), None] {
            bed.check(0, 0, 1, class);
            bed.turns(5).await;
        }
        assert_eq!(bed.store.story(target(7)), [OUTAGE, OUTAGE].concat());
        assert_eq!(bed.snapshot().counters.store_set_back, 1);
    });
}

#[test]
fn a_node_that_has_nothing_to_write_notices_it_with_its_next_renewal() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        set_back(&mut bed, false).await;
        turn_until(&mut bed, |bed| bed.snapshot().counters.store_set_back == 1).await;
        is_back(&mut bed).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        // And looks again without finding anything, by one question each time.
        let asked = |bed: &Bed| (bed.store.calls.get(), bed.store.looks.get());
        let (calls, looks) = asked(&bed);
        renew_often(&mut bed).await;
        assert_eq!(bed.store.calls.get(), calls);
        assert!(bed.store.looks.get() >= looks + 10, "{:?}", asked(&bed));
        // A replica that is behind is not believed, but the server that is written.
        bed.store.is_replica.set(true);
        renew_often(&mut bed).await;
        assert!(bed.store.calls.get() >= calls + 10, "{:?}", asked(&bed));
        let seen = bed.snapshot().counters;
        assert_eq!((seen.store_set_back, seen.fenced), (1, 1));
        assert_eq!((seen.apply_lag, seen.batches_missing), (0, 0));
        assert_eq!((seen.lease, seen.apply_retries), (0, 0));
    });
}

async fn renew_often(bed: &mut Bed) {
    for _ in 0..20 {
        bed.pass(10_000);
        bed.turns(5).await;
    }
}

/// Lesson: files of the journal went on the word of a server that had just taken over without the
/// last facts, and synced well.
#[test]
fn before_files_of_the_journal_go_the_store_is_asked_whether_it_has_their_facts() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        set_back(&mut bed, false).await;
        // As at an orderly end, before the next look.
        bed.sink.queue.tidy_up();
        turn_until(&mut bed, |bed| bed.snapshot().counters.store_set_back == 1).await;
        is_back(&mut bed).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        assert_eq!(bed.snapshot().counters.batches_missing, 0);
    });
}

#[test]
fn a_store_that_lost_facts_and_the_epoch_with_them_is_counted_once() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        set_back(&mut bed, false).await;
        bed.store.bump();
        turn_until(&mut bed, |bed| bed.snapshot().counters.fenced == 1).await;
        assert_eq!(bed.snapshot().counters.store_set_back, 0, "not known yet");
        is_back(&mut bed).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.store_set_back, seen.fenced), (1, 1));
        assert_eq!((seen.apply_lag, seen.batches_missing), (0, 0));
    });
}

#[test]
fn a_store_that_was_set_back_while_no_node_ran_is_given_what_a_killed_one_left() {
    let dir = tempdir().expect("a directory");
    let (store, replica) = on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let replica = bed.store.picture();
        for _ in 0..2 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
        assert_eq!(bed.snapshot().counters.apply_lag, 0);
        (Rc::clone(&bed.store), replica)
    });
    store.set_back(replica);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.turns(5).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE[..2]);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.apply_lag, seen.batches_missing), (0, 0));
    });
}

#[test]
fn what_neither_the_store_nor_the_journal_has_any_more_is_said_with_its_numbers() {
    let dir = tempdir().expect("a directory");
    let mut lost = (0, 0);
    let heard = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = one_target(config(dir.path())).await;
                lost = set_back(&mut bed, true).await;
                bed.check(0, 0, 1, None);
                turn_until(&mut bed, |bed| bed.snapshot().counters.store_set_back == 1).await;
                is_back(&mut bed).await;
                bed.turns(5).await;
                let seen = bed.snapshot().counters;
                assert_eq!(seen.batches_missing, lost.1 + 1 - lost.0);
                assert_eq!((seen.apply_lag, seen.store_set_back), (0, 1));
                assert_eq!(bed.store.story(target(7)), [OUTAGE[0], OUTAGE[2]]);
            });
        },
        "ERROR",
    );
    let with = |text: &str| heard.iter().filter(|line| line.contains(text)).count();
    let numbers = format!("first={} last={}", lost.0, lost.1);
    assert_eq!(with(&numbers), 1, "{heard:#?}");
    let found = format!("up to {} and had acknowledged {}", lost.0 - 1, lost.1);
    assert_eq!(with(&found), 1, "{heard:#?}");
}
