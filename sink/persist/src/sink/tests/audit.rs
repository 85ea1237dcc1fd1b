//! Lines of the audit log: one for each thing that the incident machine did beside its events, and
//! in nobody's way.

use model::FailureClass::{ConnectRefused, HttpStatus};
use model::limits::AUDIT_TRAIL_MAX;
use tempfile::tempdir;

use super::{OUTAGE, one_target};
use crate::stats::SinkCounters;
use crate::testbed::{Bed, Heard, config, on_virtual_time, target};

async fn live(bed: &mut Bed, life: &[Option<model::FailureClass>]) {
    for &class in life {
        // A status would be news of its own.
        bed.check_with(0, 0, 1, class, |outcome| outcome.status = 0);
        bed.turns(30).await;
    }
}

/// Opened, confirmed, closed; and an echo of it that is suppressed.
const LIFE: [Option<model::FailureClass>; 6] = [
    None,
    Some(HttpStatus),
    Some(HttpStatus),
    Some(HttpStatus),
    None,
    Some(ConnectRefused),
];

fn noted(counters: &SinkCounters) -> u64 {
    counters.maintenance_active + counters.alerts_suppressed + counters.retries_dispatched
}

#[test]
fn everything_done_beside_the_events_is_one_line() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        live(&mut bed, &LIFE).await;
        bed.turns(300).await;
        let counters = bed.snapshot().counters;
        let rows = bed.store.trail.borrow();
        let words: Vec<_> = rows.iter().map(|row| row.event_type).collect();
        assert_eq!(words, ["retry_dispatched", "alert_suppressed"]);
        assert_eq!(noted(&counters), 2);
        assert_eq!((counters.audit_rows, counters.audit_waiting), (2, 0));
        let subject = rows[0].subject.as_ref().expect("a target");
        assert_eq!(subject.target, target(7));
        let event = bed.store.transitions.borrow()[0].event;
        assert_eq!(subject.event, Some(event), "the one that was opened");
        assert_eq!(rows[0].source, "ringwatch:test");
    });
}

#[test]
fn a_store_that_takes_no_line_delays_no_fact_and_gets_it_later_once() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.store.refuses_trail.set(true);
        live(&mut bed, &LIFE).await;
        bed.turns(3_000).await;
        assert_eq!(bed.store.story(target(7)), OUTAGE);
        let seen = bed.snapshot().counters;
        assert_eq!((seen.audit_rows, seen.audit_waiting), (0, 2));
        assert!(seen.audit_retries >= 2 && seen.apply_lag == 0);
        bed.store.refuses_trail.set(false);
        // Another node's time comes and goes.
        bed.store.bump();
        bed.turns(3_000).await;
        let seen = bed.snapshot().counters;
        assert_eq!((seen.fenced, seen.lease), (1, 0));
        assert_eq!((seen.audit_rows, seen.audit_waiting), (2, 0));
        assert_eq!(bed.store.trail.borrow().len(), 2);
    });
}

#[test]
fn what_finds_no_room_is_counted_and_said_once() {
    let dir = tempdir().expect("a directory");
    let said = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = one_target(config(dir.path())).await;
                bed.store.refuses_trail.set(true);
                bed.check(0, 0, 1, Some(HttpStatus));
                bed.turns(1).await;
                let seen = bed.snapshot().counters;
                assert_eq!((seen.audit_waiting, seen.audit_left_out), (1, 0));
                for number in 0..=AUDIT_TRAIL_MAX as u32 {
                    bed.register(0, 1 + number, 1, 100 + i64::from(number), 1_800);
                    bed.check(0, 1 + number, 1, Some(HttpStatus));
                    if number % 1_000 == 0 {
                        bed.turns(1).await;
                    }
                }
                bed.turns(1).await;
                let seen = bed.snapshot().counters;
                let (waiting, left_out) = (seen.audit_waiting, seen.audit_left_out);
                assert_eq!((waiting, left_out), (AUDIT_TRAIL_MAX as u64, 2));
                assert_eq!(noted(&seen), waiting + left_out);
            });
        },
        "left out of the audit log",
    );
    assert_eq!(said.len(), 1, "{said:#?}");
}
