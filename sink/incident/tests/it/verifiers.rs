//! Asking verifiers, and what their answers do.

use incident::quorum::Says::{Down, Failed, Overloaded, Unknown, Up};
use incident::quorum::{Answer, Tally};
use incident::{AuditKind, Effect, Input};
use model::FailureClass::{ConnectTimeout, DnsServfail, HttpStatus};
use model::fact::State;
use model::limits::{SUPPRESSION_MAX_MS, VERIFIERS_WAIT_MS};
use model::{FailureClass, UnixMs};

use crate::script::Life;

const MINUTE: u64 = 60_000;

/// A target that failed three times, and whose verifiers are asked.
fn asked(class: FailureClass) -> Life {
    let mut life = Life::new();
    life.policy.vantages = 3;
    (0..3).for_each(|_| life.check((Some(class), MINUTE)));
    assert!(life.asked.is_some());
    life
}

#[test]
fn a_quorum_confirms_with_what_our_own_check_saw() {
    let mut life = asked(HttpStatus);
    assert_eq!(life.incident.state(), State::SeemsDown);
    life.answer(&[Down, Down, Unknown]);
    assert_eq!(life.story()[1..], [("Down", "verifier_confirmed")]);
    let confirmed = &life.transitions[1];
    assert_eq!(confirmed.source, "quorum");
    let seen = confirmed.evidence.as_ref().map(|evidence| evidence.seq);
    assert_eq!(seen, Some(3));
    let tally = Tally {
        confirming: 2,
        unknown: 1,
        ..Tally::default()
    };
    assert_eq!(life.tallies(), [tally]);
}

#[test]
fn every_vote_is_kept_with_the_transition_that_it_led_to() {
    let mut life = asked(HttpStatus);
    let asked_at = UnixMs(life.now_ms);
    let request = life.asked.expect("a request");
    life.pass(1_000);
    let seen = Answer {
        http_code: Some(503),
        rtt_ms: Some(40),
        ..Answer::of(request, "oslo", Down)
    };
    let lost = Answer {
        error: Some("no answer within 15 s".to_owned()),
        ..Answer::of(request, "rome", Failed)
    };
    let answers = vec![seen, lost, Answer::of(request, "bonn", Down)];
    life.input(Input::Answered { request, answers });
    let metadata = |life: &Life, nth: usize| {
        let transition = &life.transitions[nth];
        transition.metadata.as_deref().cloned().expect("known")
    };
    assert_eq!(
        metadata(&life, 0).votes,
        None,
        "nobody was asked to open it"
    );
    let confirmed = metadata(&life, 1);
    assert_eq!(confirmed.observation.checked_at, Some(asked_at));
    let votes = confirmed.votes.expect("votes");
    let counts = (
        votes.quorum,
        votes.min_healthy,
        votes.healthy,
        votes.confirmed,
    );
    assert_eq!(counts, (2, 2, 2, 2));
    let results: Vec<_> = votes
        .results
        .iter()
        .map(|vote| (vote.says, vote.rtt_ms))
        .collect();
    // Votes first.
    assert_eq!(results, [(Down, Some(40)), (Down, None), (Failed, None)]);
    let error = votes.results[2].error.as_deref();
    assert_eq!(error, Some("no answer within 15 s"));
    life.check((None, MINUTE));
    assert_eq!(metadata(&life, 2).votes, None, "our own check closed it");
}

#[test]
fn a_false_alarm_says_what_only_we_saw() {
    let mut life = asked(HttpStatus);
    life.answer(&[Up, Down, Up]);
    let closed = &life.transitions[1];
    assert_eq!(
        closed.evidence.as_ref().map(|evidence| evidence.seq),
        Some(3)
    );
    let votes = closed
        .metadata
        .as_ref()
        .and_then(|known| known.votes.as_ref());
    let counts = votes.map(|votes| (votes.confirmed, votes.disagreed));
    assert_eq!(counts, Some((1, 2)));
}

/// Lesson: of a DNS failure that verifiers did not see there was nothing to be found afterwards.
#[test]
fn a_false_alarm_that_never_had_an_event_is_told_with_its_votes() {
    let mut life = asked(DnsServfail);
    life.answer(&[Up, Down, Up]);
    assert_eq!((life.story(), life.incident.state()), (vec![], State::Up));
    let told = life.effects.iter().filter_map(|effect| match effect {
        Effect::Audit(audit) if audit.kind == AuditKind::VerifierSent => audit.votes.as_deref(),
        _ => None,
    });
    let counts = told.map(|votes| (votes.confirmed, votes.disagreed, votes.results.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 2, 3)]);
}

#[test]
fn verifiers_are_asked_once_and_further_failures_are_counted() {
    let mut life = asked(HttpStatus);
    let asked = life.asked;
    life.check((Some(HttpStatus), MINUTE));
    assert_eq!(life.asked, asked);
    assert_eq!((life.counted(), life.rows[0].fail_count), (Some(4), 4));
}

#[test]
fn a_disagreement_is_a_false_alarm_and_the_next_failures_are_echoes_of_it() {
    let mut life = asked(HttpStatus);
    life.answer(&[Up, Down, Up]);
    assert_eq!(life.story()[1..], [("Resolved", "false_alarm")]);
    let sources: Vec<_> = life.transitions.iter().map(|t| t.source.as_str()).collect();
    assert_eq!(sources, ["local", "quorum"]);
    life.check((Some(ConnectTimeout), 9 * MINUTE));
    life.check((None, MINUTE));
    life.check((Some(ConnectTimeout), 8 * MINUTE));
    assert_eq!(life.story().len(), 2);
    assert_eq!(life.incident.state(), State::Up);
}

#[test]
fn dns_failures_wait_for_a_quorum_and_are_born_down() {
    let mut life = asked(DnsServfail);
    assert_eq!(life.story(), []);
    life.answer(&[Down, Down, Down]);
    assert_eq!(life.story(), [("Down", "opened")]);
    assert_eq!(life.transitions[0].source, "quorum");
    let mut life = asked(DnsServfail);
    life.answer(&[Up, Up, Down]);
    assert_eq!(life.story(), []);
    assert!(!life.incident.is_suspected());
}

#[test]
fn too_few_answers_defer_longer_and_longer() {
    let mut life = asked(HttpStatus);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let before = life.asked;
        life.answer(&[Down, Overloaded, Failed]);
        let since = life.now_ms;
        while life.asked == before {
            life.pass(1_000);
        }
        pauses.push((life.now_ms - since) / 1_000);
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
    assert_eq!(life.incident.state(), State::SeemsDown);
    let deferred = |&&kind: &&AuditKind| kind == AuditKind::RetryDispatched;
    assert_eq!(life.audits().iter().filter(deferred).count(), 1 + 7);
    life.answer(&[Down, Down]);
    assert_eq!(life.incident.state(), State::Down);
}

#[test]
fn verifiers_that_never_answer_defer_as_well() {
    let mut life = asked(HttpStatus);
    let before = life.asked;
    life.pass(VERIFIERS_WAIT_MS);
    assert_eq!(life.asked, before);
    life.pass(15_000);
    assert_ne!(life.asked, before);
}

#[test]
fn a_failure_that_nobody_can_confirm_is_shown_after_five_minutes() {
    let mut life = asked(DnsServfail);
    let from = life.now_ms;
    while life.incident.state() == State::Up {
        life.pass(1_000);
        assert!(life.now_ms < from + SUPPRESSION_MAX_MS + VERIFIERS_WAIT_MS + 300_000);
    }
    assert_eq!(life.story(), [("Seems Down", "opened")]);
    assert_eq!(life.transitions[0].source, "local");
    // It opens at a tick, with the check that led to the question.
    let known = life.transitions[0].metadata.as_deref().expect("known");
    assert_eq!(known.observation.checked_at, Some(UnixMs(from)));
    assert!(known.probed.is_some());
}

#[test]
fn a_late_answer_and_one_to_another_request_are_no_votes() {
    let mut life = asked(HttpStatus);
    let first = life.asked.expect("a request");
    life.pass(VERIFIERS_WAIT_MS + 15_000);
    let second = life.asked.expect("another");
    let answers =
        |request| ["oslo", "rome", "bonn"].map(|vantage| Answer::of(request, vantage, Down));
    let late = Input::Answered {
        request: first,
        answers: answers(first).to_vec(),
    };
    life.input(late);
    let liars = Input::Answered {
        request: second,
        answers: answers(first).to_vec(),
    };
    life.input(liars);
    let counts = |tally: &Tally| (tally.late, tally.wrong_request, tally.healthy());
    let counts: Vec<_> = life.tallies().iter().map(counts).collect();
    assert_eq!(counts, [(3, 0, 0), (0, 3, 0)]);
    assert_eq!(life.incident.state(), State::SeemsDown);
}

#[test]
fn an_answer_after_a_recovery_changes_nothing() {
    let mut life = asked(HttpStatus);
    life.check((None, MINUTE));
    let transitions = life.transitions.len();
    life.answer(&[Down, Down, Down]);
    assert_eq!(life.transitions.len(), transitions);
    assert_eq!(life.tallies()[0].late, 3);
}

/// Lesson: the node stood still while its verifiers answered. Their votes were minutes old when it
/// came to them, before it looked at what was over meanwhile, and they made the target *Down*.
#[test]
fn an_answer_that_waited_for_us_beyond_its_time_is_no_vote_and_is_asked_for_again() {
    for (waited_ms, is_in_time) in [(VERIFIERS_WAIT_MS - 1, true), (VERIFIERS_WAIT_MS, false)] {
        let mut life = asked(HttpStatus);
        let before = life.asked;
        life.now_ms += waited_ms;
        life.answer(&[Down, Unknown, Down]);
        let tally = life.tallies()[0];
        assert_eq!(tally.healthy() == 2, is_in_time);
        assert_eq!(tally.late == 2, !is_in_time);
        let state = if is_in_time {
            State::Down
        } else {
            State::SeemsDown
        };
        assert_eq!(life.incident.state(), state);
        life.pass(15_000);
        assert_eq!(life.asked == before, is_in_time);
    }
}

#[test]
fn a_restart_while_verifiers_are_asked_asks_again_with_the_next_failure() {
    let mut life = asked(HttpStatus);
    let before = life.asked;
    life.restart();
    life.check((Some(HttpStatus), MINUTE));
    assert_ne!(life.asked, before);
    life.answer(&[Down, Down]);
    assert_eq!(life.incident.state(), State::Down);
    assert_eq!(life.job_seqs, [1, 2]);
}
