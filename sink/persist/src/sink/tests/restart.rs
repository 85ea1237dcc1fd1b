//! The sink started again: on its own journal, without targets that it knew, and without a segment
//! that was damaged.

use std::ops::RangeInclusive;
use std::path::Path;
use std::rc::Rc;

use model::FailureClass::HttpStatus;
use model::fact::{Reason, State};
use model::inbox::Cadence;
use model::{CoreIndex, Slot, TargetId};
use tempfile::tempdir;

use super::OUTAGE;
use crate::handle::SinkCommand;
use crate::testbed::{Bed, FakeStore, Heard, config, flip_bit, on_virtual_time, target};

/// A sink of one core under which every target of `ids` failed once, in slots from 0 on, and that
/// ended: the store has their open events.
fn after_failures(directory: &Path, ids: RangeInclusive<i64>) -> Rc<FakeStore> {
    let store = Rc::new(FakeStore::default());
    on_virtual_time(async {
        let mut bed = Bed::start(config(directory), 1, &store).await;
        for (slot, id) in (0..).zip(ids) {
            bed.register(0, slot, 1, id, 60);
            bed.check(0, slot, 1, Some(HttpStatus));
        }
        bed.flush().await;
    });
    store
}

/// All targets of the store are loaded; events of those in `keep` stay, although unclaimed.
fn say_loaded(bed: &Bed, keep: &[TargetId]) {
    let keep = keep.iter().copied().collect();
    bed.commands
        .send(SinkCommand::Loaded {
            keep,
            epoch: bed.store.epoch.get(),
        })
        .expect("room");
}

#[test]
fn a_suspect_of_before_the_start_is_checked_again_soon() {
    let dir = tempdir().expect("a directory");
    let store = after_failures(dir.path(), 7..=8);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 4, 2, 7, 86_400);
        bed.register(0, 5, 1, 99, 60);
        let slots = [4, 5].map(|slot| (CoreIndex(0), Slot(slot)));
        bed.commands
            .send(SinkCommand::Placed(slots.to_vec()))
            .expect("room");
        bed.turns(5).await;
        let recheck = Cadence::Recheck { after_ms: 60_000 };
        assert_eq!(bed.cadences(0), [(4, recheck)]);
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
fn a_kill_in_a_long_outage_costs_less_than_half_of_its_fail_count() {
    let dir = tempdir().expect("a directory");
    let store = Rc::new(FakeStore::default());
    let failures = |bed: &Bed| {
        let events = bed.store.events.borrow();
        events.values().next().map(|event| event.fail_count)
    };
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        for _ in 0..20 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
        assert_eq!(failures(&bed), Some(16));
        // The next doubling is in the journal alone when the process is killed.
        store.away.set(true);
        for _ in 0..20 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
    });
    store.away.set(false);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.turns(5).await;
        assert_eq!(failures(&bed), Some(32));
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.check(0, 0, 1, None);
        bed.flush().await;
        assert_eq!(failures(&bed), Some(33), "it went on from there");
        assert_eq!(store.story(target(7)), OUTAGE);
    });
}

#[test]
fn events_of_targets_that_are_gone_are_closed_once_all_is_loaded() {
    let dir = tempdir().expect("a directory");
    let store = after_failures(dir.path(), 7..=10);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.register(0, 0, 1, 7, 60);
        bed.turns(500).await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 3);
        assert_eq!(store.transitions.borrow().len(), 4, "nothing is closed yet");
        say_loaded(&bed, &[target(8)]);
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
    let store = after_failures(dir.path(), 1..=50);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        bed.sink.waiting_max = 20;
        say_loaded(&bed, &[]);
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
    for id in 1..=3 {
        store.away.set(false);
        on_virtual_time(async {
            let mut bed = Bed::start(config(dir.path()), 1, &store).await;
            store.away.set(true);
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
        said.contains("000000000002.journal:20: restore the file from a copy"),
        "{said}"
    );
    assert!(
        said.contains("move it away to start without its facts number 2, which are not in"),
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
