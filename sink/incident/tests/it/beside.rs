//! Incidents beside `http`: certificates, old TLS, slowness, flapping.

use incident::{Expiry, Input};
use model::FailureClass::{
    ConnectRefused, DnsServfail, HttpStatus, Latency, LocalPressure, TlsDeprecated, TlsExpired,
    TlsUnsupported,
};
use model::fact::{CheckType, State};
use model::inbox::Cadence;
use model::limits::{FLAP_QUIET_MS, TLS_EXPIRY_DEGRADED_DAYS, TLS_EXPIRY_WARNING_DAYS};
use model::{FailureClass, UnixMs};

use crate::script::{Life, START};

const DAY_MS: u64 = 86_400_000;
const MINUTE: u64 = 60_000;

fn check_certificate(life: &mut Life, class: Option<FailureClass>, days_left: u16) {
    life.check_with((class, MINUTE), |outcome| {
        outcome.not_after_days = Expiry::today(outcome.started.get()) + days_left;
    });
}

#[test]
fn a_certificate_warns_gets_worse_and_better_and_closes_when_it_is_renewed() {
    let mut life = Life::new();
    for days in [90, 31, 30, 30, 8, 7, 3, 20, 60] {
        check_certificate(&mut life, None, days);
    }
    let story = [
        ("Warning", "opened"),
        ("Degraded", "severity_escalation"),
        ("Warning", "severity_deescalation"),
        ("Resolved", "probe_cleared"),
    ];
    assert_eq!(life.story_of(CheckType::TlsExpiry), story);
    assert_eq!(
        (life.rows.len(), life.job_seqs.clone()),
        (1, vec![1, 2, 3, 4])
    );
    assert_eq!(life.rows[0].started_at, UnixMs(START + 3 * MINUTE));
    assert_eq!(life.story(), []);
    assert_eq!(life.cadences(), []);
    assert!(life.incident.is_clear());
}

#[test]
fn a_healthy_check_of_a_certificate_as_it_was_need_not_be_stepped() {
    let mut life = Life::new();
    for (days, rest) in [
        (TLS_EXPIRY_WARNING_DAYS + 1, Expiry::Far),
        (TLS_EXPIRY_WARNING_DAYS, Expiry::Soon),
        (TLS_EXPIRY_DEGRADED_DAYS, Expiry::VerySoon),
    ] {
        check_certificate(&mut life, None, days);
        assert_eq!(life.incident.rest(), Some(rest));
        let effects = life.effects.len();
        check_certificate(&mut life, None, days);
        assert_eq!(life.effects.len(), effects);
    }
    life.check((Some(HttpStatus), MINUTE));
    assert_eq!(life.incident.rest(), None);
}

#[test]
fn a_day_that_passes_makes_a_certificate_worse_without_a_new_one() {
    let mut life = Life::new();
    let not_after = Expiry::today(UnixMs(START)) + 31;
    for _ in 0..2 {
        life.check_with((None, DAY_MS), |outcome| outcome.not_after_days = not_after);
    }
    assert_eq!(life.story_of(CheckType::TlsExpiry), [("Warning", "opened")]);
}

#[test]
fn each_transition_of_a_certificate_says_when_it_expires() {
    let mut life = Life::new();
    for days_left in [20, 5, 90] {
        check_certificate(&mut life, None, days_left);
    }
    let day = |left: u64| Some(UnixMs((START / DAY_MS + left) * DAY_MS));
    let told = |life: &Life| -> Vec<Option<UnixMs>> {
        let known = life.transitions.iter().map(|t| t.metadata.as_deref());
        known.map(|known| known.expect("known").not_after).collect()
    };
    assert_eq!(told(&life), [day(20), day(5), day(90)]);
    // A site that has no TLS any more has no such day, and no other incident tells it.
    let mut life = Life::new();
    check_certificate(&mut life, None, 20);
    life.check((None, MINUTE));
    check_certificate(&mut life, Some(HttpStatus), 90);
    assert_eq!(told(&life), [day(20), None, None]);
}

#[test]
fn what_was_told_of_a_certificate_is_taken_back_with_more_than_a_day_more() {
    for (days, state) in [(30, "Warning"), (7, "Degraded")] {
        let mut life = Life::new();
        for left in [days, days + 1, days, days + 1] {
            check_certificate(&mut life, None, left);
        }
        assert_eq!(life.story_of(CheckType::TlsExpiry), [(state, "opened")]);
        check_certificate(&mut life, None, days + 2);
        assert_eq!(life.story_of(CheckType::TlsExpiry).len(), 2);
    }
}

#[test]
fn a_certificate_that_is_not_accepted_is_an_outage_and_no_advice() {
    let mut life = Life::new();
    check_certificate(&mut life, Some(TlsExpired), 0);
    assert_eq!(life.story(), [("Seems Down", "opened")]);
    assert_eq!(life.story_of(CheckType::TlsExpiry), []);
    // But one that was seen by a failing check is as good as any.
    check_certificate(&mut life, Some(HttpStatus), 5);
    assert_eq!(
        life.story_of(CheckType::TlsExpiry),
        [("Degraded", "opened")]
    );
    // Without a handshake nothing is known of it, and without TLS there is none.
    life.check((Some(ConnectRefused), MINUTE));
    assert_eq!(life.story_of(CheckType::TlsExpiry).len(), 1);
    life.check((None, MINUTE));
    assert_eq!(
        life.story_of(CheckType::TlsExpiry)[1],
        ("Resolved", "probe_cleared")
    );
}

#[test]
fn old_tls_holds_one_warning_that_http_ends() {
    for class in [TlsDeprecated, TlsUnsupported] {
        let mut life = Life::of(&[(Some(class), 0), (Some(class), MINUTE)]);
        life.check((Some(HttpStatus), MINUTE));
        life.check((Some(class), MINUTE));
        assert_eq!(
            life.story_of(CheckType::TlsDeprecated),
            [("Warning", "opened")]
        );
        assert_eq!(life.counted(), Some(1), "it neither closes nor counts");
        assert_eq!(life.incident.state(), State::SeemsDown);
        life.check((None, MINUTE));
        let story = [("Warning", "opened"), ("Resolved", "probe_cleared")];
        assert_eq!(life.story_of(CheckType::TlsDeprecated), story);
        assert_eq!(life.incident.state(), State::Up);
        assert_eq!(life.rows[0].class, class as u8);
    }
}

#[test]
fn two_of_three_slow_checks_open_and_three_good_ones_close() {
    let slow = (Some(Latency), MINUTE);
    let good = (None, MINUTE);
    let story = |checks: &[_]| Life::of(checks).story_of(CheckType::Latency);
    assert_eq!(story(&[slow, good, good, slow, good, good]), []);
    assert_eq!(story(&[slow, slow]), [("Degraded", "opened")]);
    let open = [slow, good, slow, good, good, slow, good, good];
    assert_eq!(story(&open), [("Degraded", "opened")]);
    let mut life = Life::of(&open);
    assert_eq!(life.rows[0].started_at, UnixMs(START + MINUTE));
    life.check(good);
    let closed = [("Degraded", "opened"), ("Resolved", "probe_cleared")];
    assert_eq!(life.story_of(CheckType::Latency), closed);
    assert!(life.incident.is_clear());
    assert_eq!(life.story(), []);
}

#[test]
fn failures_and_unknown_checks_are_neither_slow_nor_good() {
    let mut life = Life::of(&[(Some(Latency), 0), (Some(Latency), MINUTE)]);
    for class in [LocalPressure, DnsServfail, LocalPressure, DnsServfail] {
        life.check((Some(class), MINUTE));
    }
    assert_eq!(life.story_of(CheckType::Latency), [("Degraded", "opened")]);
}

#[test]
fn a_resumed_latency_incident_wants_three_good_checks() {
    let mut life = Life::of(&[(Some(Latency), 0), (Some(Latency), MINUTE)]);
    life.restart();
    life.check((None, MINUTE));
    life.check((None, MINUTE));
    assert_eq!(life.incident.state(), State::Degraded);
    life.check((None, MINUTE));
    assert_eq!(life.incident.state(), State::Up);
    assert_eq!(life.job_seqs, [1, 2]);
}

#[test]
fn several_identities_are_open_at_a_time_and_the_worst_is_the_state() {
    let mut life = Life::of(&[(Some(Latency), 0), (Some(Latency), MINUTE)]);
    check_certificate(&mut life, Some(Latency), 20);
    assert_eq!(life.incident.state(), State::Degraded);
    life.check((Some(HttpStatus), MINUTE));
    assert_eq!(life.incident.state(), State::SeemsDown);
    life.restart();
    assert_eq!(life.incident.open_events().count(), 3);
    assert_eq!(life.rebuilt(), life.open());
    life.input(Input::Retired { by: None });
    assert_eq!(life.rebuilt(), []);
    assert!(life.incident.is_clear());
}

/// Goes down and up, with 60 s in between.
fn blip(life: &mut Life) {
    life.check((Some(HttpStatus), MINUTE));
    life.check((None, MINUTE));
}

#[test]
fn two_blips_make_a_target_flap_and_one_incident_stands_for_the_next_ones() {
    let mut life = Life::new();
    (0..6).for_each(|_| blip(&mut life));
    assert_eq!(life.story().len(), 4, "the first two blips");
    assert_eq!(life.story_of(CheckType::Flapping), [("Degraded", "opened")]);
    let flapping = life.rows.last().expect("a row");
    assert_eq!(
        flapping.started_at,
        UnixMs(START + MINUTE),
        "from the first change on"
    );
    assert_eq!(life.incident.state(), State::Degraded);
    let suspect = Cadence::Recheck { after_ms: 60_000 };
    assert_eq!(
        life.cadences()
            .iter()
            .filter(|&&cadence| cadence == suspect)
            .count(),
        6
    );
}

#[test]
fn fifteen_quiet_minutes_end_flapping_and_a_blip_starts_them_again() {
    let mut life = Life::new();
    (0..2).for_each(|_| blip(&mut life));
    life.check((None, FLAP_QUIET_MS - 1));
    blip(&mut life);
    life.check((None, FLAP_QUIET_MS - 1));
    assert_eq!(life.story_of(CheckType::Flapping).len(), 1);
    life.check((None, 1));
    let closed = ("Resolved", "probe_cleared");
    assert_eq!(life.story_of(CheckType::Flapping)[1], closed);
    assert!(life.incident.is_clear());
    blip(&mut life);
    assert_eq!(life.story().len(), 6, "blips are events again");
}

#[test]
fn a_real_outage_of_a_flapping_target_is_an_event_that_is_born_confirmed() {
    let mut life = Life::new();
    (0..2).for_each(|_| blip(&mut life));
    let from = life.now_ms + MINUTE;
    (0..3).for_each(|_| life.check((Some(HttpStatus), MINUTE)));
    assert_eq!(life.story()[4..], [("Down", "opened")]);
    let down = life.rows.last().expect("a row");
    assert_eq!((down.started_at, down.fail_count), (UnixMs(from), 3));
    // Down for fifteen minutes is no flapping either.
    (0..15).for_each(|_| life.check((Some(HttpStatus), MINUTE)));
    assert_eq!(life.story_of(CheckType::Flapping).len(), 2);
    assert_eq!(life.incident.state(), State::Down);
}

#[test]
fn what_opened_no_event_is_no_change() {
    let mut life = Life::new();
    for _ in 0..5 {
        life.check((Some(ConnectRefused), MINUTE));
        life.check((None, 1_000));
        life.check((Some(DnsServfail), MINUTE));
        life.check((None, 1_000));
    }
    assert_eq!(life.rows, []);
}

#[test]
fn flapping_survives_a_restart_and_is_quiet_from_there_on() {
    let mut life = Life::new();
    (0..2).for_each(|_| blip(&mut life));
    life.pass(FLAP_QUIET_MS / 2);
    life.restart();
    life.check((None, FLAP_QUIET_MS - 1));
    assert_eq!(life.incident.state(), State::Degraded);
    life.check((None, 1));
    assert_eq!(life.incident.state(), State::Up);
}
