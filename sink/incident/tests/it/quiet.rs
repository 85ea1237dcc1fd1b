//! What opens nothing: echoes, maintenance, and our own trouble.

use incident::AuditKind::{AlertSuppressed, MaintenanceActive, RetryDispatched};
use incident::{Input, Stance};
use model::FailureClass::{
    ConnectRefused, ConnectTimeout, DnsServfail, HttpStatus, HttpTimeout, Latency,
};
use model::UnixMs;
use model::fact::{CheckType, State};
use model::inbox::Cadence;
use model::limits::FIRST_FAILURE_HOLD_MS;
use model::target::Maintenance;

use crate::script::{Life, START};

const MINUTE: u64 = 60_000;
const RECHECK: Cadence = Cadence::Recheck { after_ms: 60_000 };

/// A target that just recovered.
fn recovered() -> Life {
    Life::of(&[(Some(HttpStatus), 0), (None, MINUTE)])
}

fn in_window(from_ms: u64, to_ms: u64) -> Life {
    let mut life = Life::new();
    life.subject.maintenance = Some(Maintenance {
        start_ms: START + from_ms,
        end_ms: START + to_ms,
    });
    life
}

#[test]
fn a_connect_failure_soon_after_a_recovery_opens_nothing_and_is_told_once() {
    let mut life = recovered();
    let (audits, cadences) = (life.audits().len(), life.cadences().len());
    for class in [ConnectTimeout, ConnectRefused, DnsServfail] {
        life.check((Some(class), MINUTE));
        life.pass(FIRST_FAILURE_HOLD_MS);
    }
    assert_eq!(life.story().len(), 2);
    assert_eq!(life.audits()[audits..], [AlertSuppressed]);
    assert_eq!(life.cadences().len(), cadences, "no sooner checks either");
    life.check((None, MINUTE));
    life.check((Some(ConnectTimeout), 1_000));
    assert_eq!(life.audits()[audits..], [AlertSuppressed, AlertSuppressed]);
}

#[test]
fn a_status_soon_after_a_recovery_opens_at_once() {
    let mut life = recovered();
    life.check((Some(HttpStatus), MINUTE));
    assert_eq!(life.story()[2..], [("Seems Down", "opened")]);
    let mut life = recovered();
    life.check_with((Some(HttpTimeout), MINUTE), |outcome| outcome.status = 200);
    life.pass(FIRST_FAILURE_HOLD_MS);
    assert_eq!(life.story()[2..], [("Seems Down", "opened")]);
}

#[test]
fn a_row_that_outlasts_the_suppression_opens_with_the_start_of_its_first_failure() {
    let mut life = recovered();
    let first = life.now_ms + 20_000;
    life.check((Some(ConnectTimeout), 20_000));
    life.check((Some(ConnectTimeout), 285_000));
    life.pass(FIRST_FAILURE_HOLD_MS);
    let event = life.incident.open_event().expect("an event");
    assert_eq!(event.started_at, UnixMs(first));
    assert_eq!(event.fail_count, 1);
}

#[test]
fn a_status_ends_a_row_of_suppressed_failures_with_an_honest_start() {
    let mut life = recovered();
    let first = life.now_ms + 20_000;
    life.check((Some(ConnectTimeout), 20_000));
    life.check((Some(HttpStatus), 20_000));
    let event = life.incident.open_event().expect("an event");
    assert_eq!(event.started_at, UnixMs(first));
}

#[test]
fn failures_inside_a_window_open_nothing_and_are_told_once() {
    let mut life = in_window(1_000, 10 * MINUTE);
    (0..5).for_each(|_| life.check((Some(HttpStatus), MINUTE)));
    assert_eq!(life.story(), []);
    assert_eq!(life.audits(), [MaintenanceActive]);
    assert_eq!(life.cadences(), []);
    assert!(!life.incident.is_clear(), "it remembers that it told");
    life.check((None, 10 * MINUTE));
    assert!(life.incident.is_clear());
}

#[test]
fn both_ends_of_a_window_are_outside() {
    for (after_ms, is_swallowed) in [(1_000, false), (1_001, true), (1_999, true), (2_000, false)] {
        let mut life = in_window(1_000, 2_000);
        life.check((Some(HttpStatus), after_ms));
        assert_eq!(life.story().is_empty(), is_swallowed, "{after_ms}");
    }
}

#[test]
fn a_window_closes_what_is_open_at_its_first_failure_and_failing_goes_on_after_it() {
    let mut life = in_window(5 * MINUTE, 10 * MINUTE);
    (0..4).for_each(|_| life.check((Some(HttpStatus), MINUTE)));
    assert_eq!(life.incident.state(), State::Down);
    life.check((Some(HttpStatus), 2 * MINUTE));
    assert_eq!(life.story()[2], ("Resolved", "maintenance_swallowed"));
    assert_eq!(life.audits()[1..], [MaintenanceActive]);
    life.check((Some(HttpStatus), 5 * MINUTE));
    assert_eq!(life.story()[3..], [("Seems Down", "opened")]);
    let event = life.incident.open_event().expect("an event");
    assert_eq!(
        (event.fail_count, event.started_at),
        (1, UnixMs(life.now_ms))
    );
}

#[test]
fn a_recovery_inside_a_window_is_swallowed_too() {
    let mut life = in_window(5 * MINUTE, 10 * MINUTE);
    (0..4).for_each(|_| life.check((Some(HttpStatus), MINUTE)));
    life.check((None, 2 * MINUTE));
    assert_eq!(life.story()[2..], [("Resolved", "maintenance_swallowed")]);
    assert_eq!(life.audits()[1..], [MaintenanceActive]);
}

#[test]
fn a_held_failure_is_swallowed_by_a_window_that_begins_meanwhile() {
    let mut life = in_window(1_000, MINUTE);
    life.check((Some(ConnectTimeout), 500));
    life.pass(FIRST_FAILURE_HOLD_MS);
    assert_eq!(life.story(), []);
    assert_eq!(life.audits(), [RetryDispatched, MaintenanceActive]);
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
}

#[test]
fn slowness_inside_a_window_is_not_looked_at() {
    let mut life = in_window(1_000, 10 * MINUTE);
    (0..4).for_each(|_| life.check((Some(Latency), MINUTE)));
    assert_eq!(life.story_of(CheckType::Latency), []);
    assert!(life.incident.is_clear());
}

#[test]
fn while_we_doubt_ourselves_a_connect_failure_says_nothing_and_a_status_does() {
    for class in [ConnectTimeout, ConnectRefused, HttpTimeout, DnsServfail] {
        let mut life = Life::new();
        life.stance = Stance::Doubting;
        (0..5).for_each(|_| life.check((Some(class), MINUTE)));
        assert_eq!((life.story(), life.not_known()), (vec![], 5));
        assert!(life.incident.is_clear() && life.cadences().is_empty());
        life.check((Some(HttpStatus), MINUTE));
        assert_eq!(life.story(), [("Seems Down", "opened")]);
    }
}

#[test]
fn what_fails_already_is_counted_whatever_we_think_of_ourselves() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    life.stance = Stance::Doubting;
    (0..2).for_each(|_| life.check((Some(ConnectTimeout), MINUTE)));
    assert_eq!(life.incident.state(), State::Down);
    life.check((None, MINUTE));
    assert_eq!(life.incident.state(), State::Up);
}

#[test]
fn a_held_failure_is_not_known_when_pressure_rises_meanwhile() {
    let mut life = Life::of(&[(Some(ConnectTimeout), 0)]);
    life.stance = Stance::Doubting;
    life.pass(FIRST_FAILURE_HOLD_MS);
    assert_eq!((life.story(), life.not_known()), (vec![], 1));
    assert!(life.incident.is_clear());
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
}

#[test]
fn where_many_fail_the_second_failure_in_a_row_counts() {
    for class in [ConnectTimeout, HttpTimeout] {
        let mut life = Life::new();
        life.stance = Stance::Deferring;
        life.check((Some(class), MINUTE));
        life.pass(FIRST_FAILURE_HOLD_MS);
        assert_eq!(life.story(), []);
        life.check((Some(class), MINUTE));
        assert_eq!(life.story(), [("Seems Down", "opened")]);
        assert_eq!(life.counted(), Some(2));
        life.check((Some(class), MINUTE));
        assert_eq!(life.incident.state(), State::Down);
    }
    let mut life = Life::confirming_after(1);
    life.stance = Stance::Deferring;
    life.check((Some(DnsServfail), MINUTE));
    assert_eq!(life.story(), []);
    life.check((Some(DnsServfail), MINUTE));
    assert_eq!(life.story(), [("Down", "opened")]);
    let mut blip = Life::new();
    blip.stance = Stance::Deferring;
    blip.check((Some(ConnectTimeout), MINUTE));
    blip.check((None, MINUTE));
    assert_eq!(blip.story(), []);
    assert!(blip.incident.is_clear());
}

#[test]
fn an_isolated_node_says_nothing_of_anybody_but_believes_a_success() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    life.stance = Stance::Isolated;
    for class in [HttpStatus, ConnectTimeout, HttpStatus] {
        life.check((Some(class), MINUTE));
    }
    assert_eq!((life.counted(), life.not_known()), (Some(1), 3));
    life.check((None, MINUTE));
    assert_eq!(life.incident.state(), State::Up);
}

#[test]
fn somebody_closes_an_event_and_the_next_failure_opens_another() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    life.input(Input::Closed {
        check_type: CheckType::Http,
        by: "ann".to_owned(),
    });
    assert_eq!(life.story()[1], ("Resolved", "manual_override"));
    assert_eq!(life.transitions[1].source, "ann");
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
    life.check((Some(HttpStatus), MINUTE));
    assert_eq!(life.story()[2..], [("Seems Down", "opened")]);
    let transitions = life.transitions.len();
    life.input(Input::Closed {
        check_type: CheckType::Latency,
        by: "ann".to_owned(),
    });
    assert_eq!(
        life.transitions.len(),
        transitions,
        "nothing of that type is open"
    );
}

#[test]
fn a_success_that_somebody_asked_for_is_told_as_cleared_by_the_probe() {
    let mut life = Life::of(&[(Some(HttpStatus), 0); 3]);
    assert_eq!(life.incident.state(), State::Down);
    life.input(Input::Asked {
        outcome: life.outcome(None, 4),
        evidence: None,
    });
    assert_eq!(life.story()[2..], [("Resolved", "probe_cleared")]);
}

#[test]
fn whoever_pauses_a_target_closes_all_that_is_open() {
    let mut life = Life::of(&[
        (Some(Latency), 0),
        (Some(Latency), 1),
        (Some(HttpStatus), 1),
    ]);
    life.input(Input::Retired {
        by: Some("ann".to_owned()),
    });
    assert_eq!(life.rebuilt(), []);
    let by: Vec<_> = life.transitions[2..]
        .iter()
        .map(|t| t.source.as_str())
        .collect();
    assert_eq!(by, ["ann", "ann"]);
}
