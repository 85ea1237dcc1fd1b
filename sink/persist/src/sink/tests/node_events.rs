//! The node's own incidents: in the store like any other, of no target, over restarts and
//! takeovers.

use std::path::Path;
use std::rc::Rc;

use model::belief::Signals;
use model::fact::{CheckType, Event, Reason, State};
use model::limits::{PRESSURE_STICKY_MS, SUPPRESSION_MAX_MS};
use model::{FailureClass, TargetId};
use tempfile::tempdir;

use super::beside::say_lag;
use super::one_target;
use crate::handle::SinkConfig;
use crate::testbed::{Bed, FakeStore, START, config, on_virtual_time, target};

const OPENED: (State, Reason) = (State::Degraded, Reason::Opened);
const CLOSED: (State, Reason) = (State::Resolved, Reason::ProbeCleared);

fn own(store: &FakeStore) -> Vec<Event> {
    let events = store.events.borrow();
    let own = events.values().filter(|it| it.target == TargetId::NODE);
    own.cloned().collect()
}

/// The loop lags for longer than may be suppressed in silence.
async fn suppress(bed: &mut Bed) {
    say_lag(bed, true);
    bed.check(0, 0, 1, Some(FailureClass::ConnectTimeout));
    for _ in 0..3 {
        bed.turns(2).await;
        bed.pass(SUPPRESSION_MAX_MS / 2);
    }
    bed.turns(100).await;
}

async fn pass_stickily(bed: &mut Bed) {
    bed.turns(2).await;
    bed.pass(PRESSURE_STICKY_MS);
    bed.turns(100).await;
}

/// A store with an open event of the node `test`, which ended.
fn after_suppressing(directory: &Path) -> Rc<FakeStore> {
    on_virtual_time(async {
        let mut bed = one_target(config(directory)).await;
        suppress(&mut bed).await;
        assert_eq!(bed.store.story(TargetId::NODE), [OPENED]);
        Rc::clone(&bed.store)
    })
}

#[test]
fn suppressing_for_long_is_an_event_of_the_node_and_of_no_target() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        suppress(&mut bed).await;
        let [event] = &own(&bed.store)[..] else {
            panic!("one event of the node");
        };
        assert_eq!(event.check_type, CheckType::NodeSuppressing);
        assert_eq!(event.discriminator.as_deref(), Some("test"));
        let known = bed.store.transitions.borrow()[0].metadata.clone();
        let known = known.expect("known");
        assert_eq!(known.belief.signals, Signals::LOOP_LAG);
        let suppression = known.suppression.expect("a suppression");
        assert_eq!(
            (suppression.since, suppression.targets),
            (event.started_at, 1)
        );
        let counters = bed.snapshot().counters;
        assert_eq!((counters.node_suppressing, counters.transitions), (1, 1));
        say_lag(&bed, false);
        pass_stickily(&mut bed).await;
        assert_eq!(bed.store.story(TargetId::NODE), [OPENED, CLOSED]);
        assert_eq!(bed.store.jobs.borrow().len(), 2, "each owes one");
        assert_eq!(bed.store.story(target(7)), []);
        assert_eq!(bed.snapshot().counters.node_suppressing, 0);
    });
}

#[test]
fn an_open_event_of_the_node_goes_on_after_a_restart_or_is_closed() {
    let dir = tempdir().expect("a directory");
    let store = after_suppressing(dir.path());
    let later = START.plus_ms(3_600_000);
    on_virtual_time(async {
        let mut bed = Bed::start_at(config(dir.path()), 1, &store, later).await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 0);
        bed.register(0, 0, 1, 7, 60);
        suppress(&mut bed).await;
        assert_eq!(store.story(TargetId::NODE), [OPENED], "it goes on");
    });
    on_virtual_time(async {
        let mut bed = Bed::start_at(config(dir.path()), 1, &store, later).await;
        bed.turns(10).await;
        assert_eq!(bed.snapshot().counters.node_suppressing, 1);
        pass_stickily(&mut bed).await;
        assert_eq!(store.story(TargetId::NODE), [OPENED, CLOSED]);
    });
}

/// Lesson: `events close` beside a node that did not run, and was given its name by a flag, closed
/// that node's own incident as one that nobody would close.
#[test]
fn a_sink_without_cores_leaves_the_events_of_nodes_alone() {
    let dir = tempdir().expect("a directory");
    let store = after_suppressing(dir.path());
    let later = START.plus_ms(3_600_000);
    for node in ["test", "other"] {
        on_virtual_time(async {
            let config = SinkConfig {
                node: node.to_owned(),
                ..config(dir.path())
            };
            let mut bed = Bed::start_at(config, 0, &store, later).await;
            pass_stickily(&mut bed).await;
            assert_eq!(store.story(TargetId::NODE), [OPENED], "{node}");
            bed.sink.release().await;
        });
    }
}

#[test]
fn a_takeover_neither_doubles_nor_loses_an_event_of_the_node() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        suppress(&mut bed).await;
        bed.store.bump();
        for _ in 0..20 {
            bed.pass(1_000);
            bed.turns(100).await;
        }
        let counters = bed.snapshot().counters;
        assert_eq!((counters.fenced, counters.lease), (1, 0), "it writes again");
        assert_eq!(bed.store.story(TargetId::NODE), [OPENED]);
        say_lag(&bed, false);
        pass_stickily(&mut bed).await;
        assert_eq!(bed.store.story(TargetId::NODE), [OPENED, CLOSED]);
        let [event] = &own(&bed.store)[..] else {
            panic!("one event of the node");
        };
        assert_eq!(event.resolution, Some(Reason::ProbeCleared));
    });
}
