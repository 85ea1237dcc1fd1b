//! What the history keeps of a life: edges, a sample, everything; and that it is in nobody's way.

use std::num::NonZeroU32;

use model::FailureClass::{ConnectRefused, HttpStatus, LocalPressure};
use model::limits::FIRST_FAILURE_HOLD_MS;
use tempfile::tempdir;

use super::{OUTAGE, one_target};
use crate::handle::{SinkCommand, SinkConfig};
use crate::history::HistoryMode;
use crate::testbed::{Bed, config, on_virtual_time, target};
use crate::{Health, Signals};

/// A day of target 7: well, an outage of four checks, well again.
const LIFE: [Option<model::FailureClass>; 12] = [
    None,
    None,
    Some(HttpStatus),
    Some(HttpStatus),
    Some(HttpStatus),
    Some(HttpStatus),
    None,
    None,
    None,
    None,
    None,
    None,
];

async fn live(bed: &mut Bed, life: &[Option<model::FailureClass>]) {
    for &class in life {
        bed.check(0, 0, 1, class);
        bed.turns(30).await;
    }
}

/// Classes of the checks that a mode keeps of a life.
fn kept(mode: HistoryMode, life: &[Option<model::FailureClass>]) -> Vec<bool> {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let config = SinkConfig {
            history: mode,
            ..config(dir.path())
        };
        let mut bed = one_target(config).await;
        live(&mut bed, life).await;
        bed.turns(30).await;
        let rows = bed.store.history.borrow();
        assert!(
            rows.iter()
                .all(|row| row.target == target(7) && row.method == "GET")
        );
        assert!(rows.windows(2).all(|pair| pair[0].id < pair[1].id));
        let counters = bed.snapshot().counters;
        assert_eq!(
            (counters.history_rows, counters.history_waiting),
            (rows.len() as u64, 0)
        );
        rows.iter().map(|row| row.class.is_some()).collect()
    })
}

#[test]
fn edges_are_the_checks_after_which_something_else_is_known() {
    let edges = kept(HistoryMode::Edges, &LIFE);
    assert_eq!(edges, [true, true, false], "opened, confirmed, closed");
    // A first failure that only was a suspicion, and its end.
    let life = [None, Some(ConnectRefused), None, None];
    assert_eq!(kept(HistoryMode::Edges, &life), [true, false]);
    assert!(kept(HistoryMode::Edges, &[None; 5]).is_empty());
}

#[test]
fn a_sample_keeps_all_failures_and_all_keeps_everything() {
    let every = NonZeroU32::new(4).expect("positive");
    let sample = kept(HistoryMode::Sample(every), &LIFE);
    // Seven healthy checks are no edges; the turn of target 7 is at those numbered 1, 5 and 9.
    assert_eq!(sample.iter().filter(|&&failed| failed).count(), 4);
    assert_eq!(sample.len(), 4 + 1 + 2);
    let all = kept(HistoryMode::All, &LIFE);
    assert_eq!(all, LIFE.map(|class| class.is_some()));
}

/// Lesson: a timeout that the node took for its own trouble stood in the history as the site's.
#[test]
fn what_was_not_believed_is_ours_in_the_history_also_when_that_shows_later() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let config = SinkConfig {
            history: HistoryMode::All,
            ..config(dir.path())
        };
        let mut bed = one_target(config).await;
        let told = |bed: &Bed, signals| {
            let health = Health {
                signals,
                ..Health::default()
            };
            let command = SinkCommand::Health(health);
            bed.commands.send(command).expect("room");
        };
        live(&mut bed, &[None, Some(ConnectRefused)]).await;
        assert_eq!(
            bed.snapshot().counters.history_waiting,
            1,
            "nobody knows yet"
        );
        told(&bed, Signals::LOOP_LAG);
        bed.pass(FIRST_FAILURE_HOLD_MS);
        live(&mut bed, &[Some(ConnectRefused), Some(HttpStatus)]).await;
        told(&bed, Signals::NONE);
        live(&mut bed, &[None, Some(ConnectRefused)]).await;
        bed.pass(FIRST_FAILURE_HOLD_MS);
        bed.turns(30).await;
        let rows = bed.store.history.borrow();
        let classes: Vec<_> = rows.iter().map(|row| row.class).collect();
        let ours = Some(LocalPressure);
        let (status, refused) = (Some(HttpStatus), Some(ConnectRefused));
        assert_eq!(classes, [None, ours, ours, status, None, refused]);
    });
}

#[test]
fn a_store_that_takes_no_history_delays_no_fact_and_gets_it_later_once() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let config = SinkConfig {
            history: HistoryMode::All,
            ..config(dir.path())
        };
        let mut bed = one_target(config).await;
        bed.store.refuses_history.set(true);
        live(&mut bed, &LIFE).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.history_rows, seen.history_waiting), (0, 12));
        assert!(seen.history_retries >= 2 && seen.apply_lag == 0);
        // Another node's time comes and goes: checks that were made stay checks that were made.
        bed.store.refuses_history.set(false);
        bed.store.bump();
        bed.turns(300).await;
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.lease), (1, 0));
        assert_eq!((seen.history_rows, seen.history_waiting), (12, 0));
        let mut ids: Vec<_> = bed
            .store
            .history
            .borrow()
            .iter()
            .map(|row| row.id)
            .collect();
        ids.dedup();
        assert_eq!(ids.len(), 12);
    });
}
