//! Lives of one target, told one by one.

use incident::{AuditKind, Input, Stance};
use model::FailureClass::{
    ConnectRefused, DnsNxdomain, DnsServfail, DnsTimeout, HttpStatus, HttpTimeout, Latency,
    LocalPressure, TlsDeprecated, TlsUnsupported,
};
use model::fact::{CheckType, Reason, State};
use model::inbox::Cadence;
use model::limits::{FIRST_FAILURE_HOLD_MS, FLAP_WINDOW_MS};
use model::metadata::{Observation, Probed};
use model::outcome::{Phases, flags};
use model::target::Method;
use model::{Generation, UnixMs};

use crate::script::{Check, Life, START};

/// When what was seen, of each transition of a life.
fn observations(life: &Life) -> Vec<Observation> {
    let known = life.transitions.iter().map(|t| t.metadata.as_deref());
    known
        .map(|known| known.expect("known").observation)
        .collect()
}

#[test]
fn each_transition_says_when_what_was_seen_and_when_the_next_check_is() {
    let mut life = Life::new();
    life.known_good = Some(UnixMs(START - 250_000));
    life.previous = life.known_good;
    for check in [
        (Some(HttpTimeout), 1_000),
        (Some(HttpStatus), 60_000),
        (Some(HttpStatus), 60_000),
        (None, 300_000),
    ] {
        // One that was late by its own number in every way.
        life.check_with(check, |outcome| {
            (outcome.lag_us, outcome.reap_us) = (outcome.seq * 10, outcome.seq);
            outcome.flags |= if outcome.seq == 1 { flags::LATE } else { 0 };
        });
        (life.known_good, life.previous) = (None, Some(UnixMs(life.now_ms)));
    }
    let at = |ms| Some(UnixMs(START + ms));
    let always = Observation {
        first_failed_at: at(1_000),
        normal_check_interval_seconds: Some(300),
        next_check_interval_seconds: Some(300),
        ..Observation::default()
    };
    // A timeout is held for a moment: it opens at a tick, and not at the check.
    let opened = Observation {
        checked_at: at(1_000),
        lag_us: Some(10),
        reap_us: Some(1),
        late: Some(true),
        previous_observed_at: Some(UnixMs(START - 250_000)),
        previous_known_good_at: Some(UnixMs(START - 250_000)),
        next_check_interval_seconds: Some(60),
        ..always
    };
    let confirmed = Observation {
        checked_at: at(121_000),
        lag_us: Some(30),
        reap_us: Some(3),
        late: Some(false),
        previous_observed_at: at(61_000),
        ..always
    };
    let closed = Observation {
        checked_at: at(421_000),
        lag_us: Some(40),
        reap_us: Some(4),
        late: Some(false),
        previous_observed_at: at(121_000),
        first_recovered_at: at(421_000),
        closed_at: at(421_000),
        ..always
    };
    assert_eq!(observations(&life), [opened, confirmed, closed]);
}

#[test]
fn each_transition_says_how_its_check_went() {
    let mut life = Life::new();
    let phases = |seq: u32| Phases {
        ttfb_us: seq * 1_000,
        total_us: seq * 2_000 + 999,
        ..Phases::NONE
    };
    let checks = [HttpTimeout, HttpStatus, HttpStatus].map(|class| (Some(class), 60_000));
    for check in checks.into_iter().chain([(None, 60_000)]) {
        life.check_with(check, |outcome| {
            (outcome.phases, outcome.hops) = (phases(outcome.seq), outcome.seq as u8);
        });
    }
    let known = life.transitions.iter().map(|t| t.metadata.as_deref());
    let told: Vec<Probed> = known
        .map(|known| known.and_then(|known| known.probed).expect("by a check"))
        .collect();
    // Opened with what was held, confirmed and closed with what led to that.
    let expected = [1, 3, 4].map(|seq| Probed {
        method: Some(Method::Head),
        phases: phases(seq),
        redirect_count: seq as u8,
    });
    assert_eq!(told, expected);
    assert_eq!(told[0].rtt_ms(), Some(2));
    // Whoever closes by hand has made no check.
    life.check((Some(HttpStatus), 60_000));
    life.input(Input::Closed {
        check_type: CheckType::Http,
        by: "ann".to_owned(),
    });
    let last = life.transitions.last().and_then(|t| t.metadata.as_deref());
    assert_eq!(last.expect("known").probed, None);
}

#[test]
fn each_transition_says_how_far_the_node_believed_itself() {
    let mut life = Life::new();
    life.stance = Stance::Deferring;
    life.check((Some(HttpStatus), 0));
    let known = life.transitions[0].metadata.as_deref();
    let stance = known.map(|known| known.belief.stance);
    assert_eq!(stance, Some(Stance::Deferring));
}

const RECHECK: Cadence = Cadence::Recheck { after_ms: 60_000 };

#[test]
fn an_outage_opens_is_confirmed_and_closes_as_one_event() {
    let life = Life::of(&[
        (None, 0),
        (Some(HttpStatus), 1_000),
        (Some(HttpStatus), 60_000),
        (Some(HttpTimeout), 60_000),
        (Some(HttpStatus), 285_000),
        (None, 285_000),
    ]);
    assert_eq!(
        life.story(),
        [
            ("Seems Down", "opened"),
            ("Down", "verifier_confirmed"),
            ("Resolved", "verifier_cleared")
        ]
    );
    let event = &life.rows[0];
    assert_eq!(life.rows.len(), 1);
    assert_eq!(
        (event.started_at, event.fail_count),
        (UnixMs(START + 1_000), 4)
    );
    assert_eq!(event.resolution, Some(Reason::VerifierCleared));
    assert_eq!(
        (event.group_id, event.ended_at),
        (42, Some(UnixMs(START + 691_000)))
    );
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
    assert_eq!(life.job_seqs, [1, 2, 3]);
    let seen: Vec<bool> = life
        .transitions
        .iter()
        .map(|t| t.evidence.is_some())
        .collect();
    assert_eq!(seen, [true, true, false]);
}

#[test]
fn a_blip_is_cleared_by_the_probe_and_returns_to_the_grid() {
    let life = Life::of(&[(Some(HttpStatus), 0), (None, 60_000), (None, 285_000)]);
    assert_eq!(
        life.story(),
        [("Seems Down", "opened"), ("Resolved", "probe_cleared")]
    );
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
}

#[test]
fn half_an_hour_after_the_last_recovery_nothing_is_remembered() {
    let mut life = Life::of(&[(Some(HttpStatus), 0), (None, 60_000)]);
    life.check((None, FLAP_WINDOW_MS));
    assert!(!life.incident.is_clear());
    life.check((None, 1));
    assert!(life.incident.is_clear());
}

#[test]
fn a_first_connect_failure_is_held_and_its_start_stays_honest() {
    let mut life = Life::of(&[(Some(ConnectRefused), 500)]);
    assert_eq!(life.story(), []);
    assert!(life.incident.is_suspected());
    life.pass(FIRST_FAILURE_HOLD_MS - 1);
    life.input(Input::Tick);
    assert_eq!(life.story(), []);
    life.pass(1);
    assert_eq!(life.story(), [("Seems Down", "opened")]);
    assert_eq!(life.rows[0].started_at, UnixMs(START + 500));
    assert_eq!(
        life.transitions[0].changed_at,
        UnixMs(START + 500 + FIRST_FAILURE_HOLD_MS)
    );
    assert!(life.transitions[0].evidence.is_some());
    assert_eq!(life.cadences(), [RECHECK]);
}

#[test]
fn a_success_inside_the_hold_leaves_no_trace() {
    let mut life = Life::of(&[(Some(ConnectRefused), 0), (None, 1_000)]);
    life.pass(10_000);
    life.input(Input::Tick);
    assert_eq!(life.story(), []);
    assert!(life.incident.is_clear());
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
}

#[test]
fn a_second_failure_inside_the_hold_opens_at_once_and_counts() {
    let life = Life::of(&[(Some(ConnectRefused), 0), (Some(HttpStatus), 1_000)]);
    assert_eq!(life.story(), [("Seems Down", "opened")]);
    assert_eq!(life.rows[0].fail_count, 2);
    // With the check that was held, as its evidence is.
    assert_eq!(observations(&life)[0].checked_at, Some(UnixMs(START)));
}

/// Lesson: two failures of DNS, three hours that were not known, and the next failure was the
/// third in a row: *Down*, for three hours.
#[test]
fn failures_before_and_after_a_time_that_is_not_known_are_not_one_after_another() {
    for stance in [Stance::Doubting, Stance::Isolated] {
        let mut life = Life::of(&[(Some(DnsServfail), 0), (Some(DnsServfail), 60_000)]);
        life.stance = stance;
        life.check((Some(DnsServfail), 60_000));
        life.stance = Stance::Clear;
        life.check((Some(DnsServfail), 3 * 3_600_000));
        assert_eq!((life.story(), life.not_known()), (vec![], 1));
        let counted_from = life.now_ms;
        life.check((Some(DnsServfail), 60_000));
        life.check((Some(DnsServfail), 60_000));
        assert_eq!(life.story(), [("Down", "opened")]);
        assert_eq!(life.rows[0].started_at, UnixMs(counted_from));
    }
}

#[test]
fn dns_failures_open_a_confirmed_event_only_after_they_repeat() {
    let mut life = Life::of(&[(Some(DnsServfail), 0), (Some(DnsTimeout), 60_000)]);
    assert_eq!(life.story(), []);
    life.check((Some(DnsServfail), 60_000));
    assert_eq!(life.story(), [("Down", "opened")]);
    assert_eq!(
        (life.rows[0].started_at, life.rows[0].fail_count),
        (UnixMs(START), 3)
    );
    assert_eq!(life.cadences(), [RECHECK, Cadence::Grid]);
    life.check((None, 285_000));
    assert_eq!(life.job_seqs, [1, 2]);
    assert_eq!(life.rows[0].resolution, Some(Reason::VerifierCleared));
}

#[test]
fn a_name_that_two_resolvers_do_not_know_is_in_doubt_at_once_and_one_that_one_does_not_is_proven() {
    let lives = [0, flags::DNS_AGREED].map(|agreed| {
        let mut life = Life::new();
        for after_ms in [0, 60_000, 60_000] {
            life.check_with((Some(DnsNxdomain), after_ms), |outcome| {
                outcome.flags |= agreed;
            });
            life.pass(FIRST_FAILURE_HOLD_MS);
        }
        life
    });
    assert_eq!(lives[0].story(), [("Down", "opened")]);
    assert_eq!(
        lives[1].story(),
        [("Seems Down", "opened"), ("Down", "verifier_confirmed")]
    );
    let at = |life: &Life| (life.rows[0].started_at, life.rows[0].fail_count);
    assert_eq!(at(&lives[0]), at(&lives[1]));
}

#[test]
fn resolvers_that_know_no_name_any_more_are_our_trouble_while_the_node_doubts_itself() {
    let agreed = |life: &mut Life, after_ms| {
        life.check_with((Some(DnsNxdomain), after_ms), |outcome| {
            outcome.flags |= flags::DNS_AGREED;
        });
    };
    let mut life = Life::new();
    agreed(&mut life, 0);
    life.stance = Stance::Doubting;
    life.pass(FIRST_FAILURE_HOLD_MS);
    agreed(&mut life, 60_000);
    assert_eq!((life.story(), life.not_known()), (vec![], 2));
    assert!(life.incident.is_clear());
}

#[test]
fn a_better_proven_failure_after_dns_failures_opens_with_all_of_them_counted() {
    let two = Life::of(&[(Some(DnsServfail), 0), (Some(ConnectRefused), 60_000)]);
    assert_eq!(two.story(), [("Seems Down", "opened")]);
    assert_eq!(
        (two.rows[0].started_at, two.rows[0].fail_count),
        (UnixMs(START), 2)
    );
    let checks = [
        (Some(DnsServfail), 0),
        (Some(DnsServfail), 1),
        (Some(HttpStatus), 1),
    ];
    let three = Life::of(&checks);
    assert_eq!(
        three.story(),
        [("Seems Down", "opened"), ("Down", "verifier_confirmed")]
    );
    assert_eq!(three.rows[0].state, State::Down);
}

#[test]
fn what_says_nothing_of_http_neither_opens_counts_nor_closes() {
    for class in [TlsDeprecated, TlsUnsupported, LocalPressure] {
        let mut life = Life::of(&[(Some(class), 0), (Some(HttpStatus), 1_000)]);
        (0..5).for_each(|_| life.check((Some(class), 60_000)));
        assert_eq!(
            (life.incident.state(), life.rows[0].fail_count),
            (State::SeemsDown, 1)
        );
    }
}

#[test]
fn degraded_with_http_verified_is_a_success() {
    let life = Life::of(&[(Some(HttpStatus), 0), (Some(Latency), 60_000)]);
    assert_eq!(life.incident.state(), State::Up);
}

#[test]
fn one_failure_confirms_when_the_operator_says_so() {
    for class in [HttpStatus, ConnectRefused, DnsServfail] {
        let mut life = Life::confirming_after(1);
        life.check((Some(class), 0));
        life.pass(FIRST_FAILURE_HOLD_MS);
        assert_eq!(life.incident.state(), State::Down, "{class}");
        assert_eq!(life.rows[0].fail_count, 1);
    }
}

#[test]
fn a_fast_target_is_rechecked_at_its_own_cadence() {
    let mut life = Life::new();
    life.subject.interval_s = 10;
    life.check((Some(HttpStatus), 0));
    assert_eq!(life.cadences(), [Cadence::Recheck { after_ms: 9_000 }]);
}

#[test]
fn a_retired_target_leaves_no_open_event() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    life.input(Input::Retired { by: None });
    assert_eq!(life.story()[1], ("Resolved", "manual_override"));
    assert!(life.incident.is_clear());
    let mut clean = Life::of(&[(Some(DnsServfail), 0)]);
    clean.input(Input::Retired { by: None });
    assert_eq!(clean.story(), []);
}

#[test]
fn a_new_generation_keeps_the_incident_and_commands_the_cadence_again() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    life.subject.generation = Generation(4);
    life.seq = 0;
    life.check((Some(HttpStatus), 60_000));
    assert_eq!(life.rows[0].fail_count, 2);
    assert_eq!(life.cadences(), [RECHECK, RECHECK]);
}

#[test]
fn a_resumed_incident_is_confirmed_by_the_failures_that_were_missing() {
    let mut life = Life::of(&[(Some(HttpStatus), 0), (Some(HttpStatus), 60_000)]);
    life.restart();
    life.check((Some(HttpStatus), 60_000));
    assert_eq!(life.story()[1], ("Down", "verifier_confirmed"));
    assert_eq!(life.job_seqs, [1, 2]);
    life.restart();
    life.check((None, 60_000));
    assert_eq!(life.job_seqs, [1, 2, 3]);
    assert_eq!(life.rows.len(), 1);
}

#[test]
fn a_row_of_another_target_is_not_resumed() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    let event = Box::new(life.rows[0].clone());
    let mut other = Life::new();
    other.subject.target = model::TargetId::new(8).expect("positive");
    other.input(Input::Resume {
        event,
        transitions: 1,
    });
    assert_eq!(other.incident.state(), State::Up);
    life.check((None, 1));
    let closed = Box::new(life.rows[0].clone());
    let mut same = Life::new();
    same.input(Input::Resume {
        event: closed,
        transitions: 2,
    });
    assert_eq!(same.incident.state(), State::Up);
}

#[test]
fn what_is_not_confirmed_is_checked_again_soon_wherever_its_core_got_it_anew() {
    let recheck_again = |checks: &[Check]| {
        let mut life = Life::of(checks);
        let before = life.cadences().len();
        life.input(Input::Placed);
        life.cadences()[before..].to_vec()
    };
    let failed = (Some(HttpStatus), 0);
    assert_eq!(recheck_again(&[]), []);
    assert_eq!(recheck_again(&[failed]), [RECHECK]);
    assert_eq!(recheck_again(&[(Some(HttpTimeout), 0)]), [RECHECK]);
    assert_eq!(recheck_again(&[failed, failed, failed]), []);
    assert_eq!(recheck_again(&[failed, (None, 0)]), []);
    let mut resumed = Life::of(&[failed]);
    resumed.restart();
    let before = resumed.cadences().len();
    resumed.input(Input::Placed);
    assert_eq!(resumed.cadences()[before..], [RECHECK]);
}

/// Lesson: the audit log said it again with the first check after an edit.
#[test]
fn an_edit_of_a_failing_target_begins_no_second_retry() {
    let mut life = Life::of(&[(Some(HttpStatus), 0)]);
    assert_eq!(life.audits(), [AuditKind::RetryDispatched]);
    life.subject.generation = Generation(life.subject.generation.0 + 1);
    life.seq = 0;
    life.input(Input::Placed);
    life.check((Some(HttpStatus), 60_000));
    assert_eq!(life.audits(), [AuditKind::RetryDispatched]);
    assert_eq!(life.cadences(), [RECHECK; 3], "its core may have forgotten");
    assert_eq!(life.counted(), Some(2));
}
