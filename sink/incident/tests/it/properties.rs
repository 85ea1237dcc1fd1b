//! What holds for every life.

use std::collections::HashMap;

use incident::Stance;
use incident::quorum::Says;
use model::FailureClass;
use model::Generation;
use model::class::Verdict;
use model::fact::{State, Transition};
use proptest::prelude::*;

use crate::script::{Check, Life};

fn class() -> impl Strategy<Value = Option<FailureClass>> {
    prop_oneof![
        3 => Just(None),
        5 => prop::sample::select(FailureClass::ALL.to_vec()).prop_map(Some),
        2 => Just(Some(FailureClass::HttpStatus)),
        2 => Just(Some(FailureClass::ConnectTimeout)),
        2 => Just(Some(FailureClass::DnsServfail)),
    ]
}

fn checks() -> impl Strategy<Value = Vec<Check>> {
    let pause = prop_oneof![Just(0u64), 1u64..3_000, 50_000u64..300_000];
    prop::collection::vec((class(), pause), 0..60)
}

/// Checks of which none ends an outage.
fn bad_checks() -> impl Strategy<Value = Vec<Check>> {
    let bad = |check: &Check| check.0.is_some_and(|class| class != FailureClass::Latency);
    checks().prop_map(move |checks| checks.into_iter().filter(bad).collect())
}

fn down() -> impl Strategy<Value = FailureClass> {
    let down = |class: &FailureClass| class.verdict() == Verdict::Down;
    let classes: Vec<_> = FailureClass::ALL.iter().copied().filter(down).collect();
    prop::sample::select(classes)
}

fn unknown() -> impl Strategy<Value = FailureClass> {
    let unknown = |class: &FailureClass| class.verdict() == Verdict::Unknown;
    let classes: Vec<_> = FailureClass::ALL.iter().copied().filter(unknown).collect();
    prop::sample::select(classes)
}

proptest! {
    #[test]
    fn at_most_one_event_is_open_and_each_mutation_is_one_transition(checks in checks()) {
        let mut life = Life::new();
        for check in checks {
            let (rows, transitions) = (life.rows.clone(), life.transitions.len());
            life.check(check);
            let open: Vec<_> = life.rows.iter().filter(|row| row.ended_at.is_none()).collect();
            for row in &open {
                let same = open.iter().filter(|other| other.check_type == row.check_type);
                prop_assert_eq!(same.count(), 1);
            }
            prop_assert_eq!(open.len(), life.incident.open_events().count());
            // Rows move only with transitions, except for the fail count of an open one.
            if life.transitions.len() == transitions {
                let states = |rows: &[model::fact::Event]| -> Vec<_> {
                    rows.iter().map(|row| (row.id, row.state, row.ended_at)).collect()
                };
                prop_assert_eq!(states(&rows), states(&life.rows));
            }
            for (before, after) in rows.iter().zip(&life.rows) {
                prop_assert_eq!(before.started_at, after.started_at);
                prop_assert!(before.fail_count <= after.fail_count);
                prop_assert!(before.ended_at.is_none() || before == after, "closed rows stay");
            }
        }
        let ids: Vec<_> = life.transitions.iter().map(|transition| transition.id).collect();
        prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn transitions_in_order_rebuild_the_states(checks in checks()) {
        let mut life = Life::new();
        let mut seqs = HashMap::new();
        for check in checks {
            let before = life.transitions.len();
            life.check(check);
            prop_assert_eq!(life.rebuilt(), life.open());
            for (transition, job_seq) in
                life.transitions[before..].iter().zip(&life.job_seqs[before..])
            {
                let seq: &mut u32 = seqs.entry(transition.event).or_default();
                *seq += 1;
                prop_assert_eq!(*job_seq, *seq);
                prop_assert_eq!(transition.before.is_none(), *seq == 1);
            }
        }
    }

    #[test]
    fn the_same_results_again_change_nothing(checks in checks()) {
        let mut life = Life::of(&checks);
        life.pass(10_000);
        let (state, effects) = (life.incident.clone(), life.effects.clone());
        for (seq, (class, _)) in (1..).zip(&checks) {
            life.feed(life.outcome(*class, seq));
        }
        prop_assert_eq!(&life.effects, &effects);
        prop_assert_eq!(&life.incident, &state);
    }

    #[test]
    fn unknown_outcomes_change_nothing_wherever_they_come(
        checks in checks(),
        noise in prop::collection::vec(prop::option::of(unknown()), 60),
    ) {
        let quiet = Life::of(&checks);
        let mut noisy = Life::new();
        for ((class, pause), noise) in checks.into_iter().zip(noise) {
            noisy.pass(pause);
            noisy.seq += 1;
            if let Some(noise) = noise {
                noisy.feed(noisy.outcome(Some(noise), noisy.seq));
            }
            noisy.feed(noisy.outcome(class, noisy.seq));
        }
        prop_assert_eq!(&noisy.effects, &quiet.effects);
        prop_assert_eq!(&noisy.incident, &quiet.incident);
    }

    #[test]
    fn other_generations_change_nothing_wherever_they_come(
        checks in checks(),
        noise in prop::collection::vec((class(), 0u32..6), 60),
    ) {
        let quiet = Life::of(&checks);
        let mut noisy = Life::new();
        for ((class, pause), (noise, generation)) in checks.into_iter().zip(noise) {
            noisy.pass(pause);
            noisy.seq += 1;
            if Generation(generation) != noisy.subject.generation {
                let mut outcome = noisy.outcome(noise, noisy.seq + 5);
                outcome.generation = Generation(generation);
                noisy.feed(outcome);
            }
            noisy.feed(noisy.outcome(class, noisy.seq));
        }
        prop_assert_eq!(&noisy.effects, &quiet.effects);
        prop_assert_eq!(&noisy.incident, &quiet.incident);
    }

    #[test]
    fn a_restart_while_an_event_is_open_changes_no_transition(
        checks in bad_checks(),
        outage in 0usize..60,
        restarts in prop::collection::vec(prop::bool::weighted(0.1), 120),
    ) {
        let outage = vec![(Some(FailureClass::HttpStatus), 60_000); outage];
        let mut plain = Life::new();
        let mut restarted = Life::new();
        // Each costs less than half of what was counted.
        let mut kills = 0;
        for (check, restart) in checks.into_iter().chain(outage).zip(restarts) {
            if restart && restarted.incident.open_event().is_some() {
                restarted.restart();
                kills += 1;
            }
            plain.check(check);
            restarted.check(check);
            if let (Some(real), Some(resumed)) = (plain.counted(), restarted.counted()) {
                let least = u64::from(resumed) << kills.min(20);
                prop_assert!(resumed <= real && u64::from(real) <= least, "{real} {resumed}");
            }
        }
        plain.check((None, 60_000));
        restarted.check((None, 60_000));
        // All but the check numbers in the evidence, which start again.
        let told = |life: &Life| -> Vec<_> {
            let bare = life.transitions.iter().cloned();
            bare.map(|transition| Transition { evidence: None, ..transition }).collect()
        };
        prop_assert_eq!(told(&restarted), told(&plain));
        prop_assert_eq!(&restarted.job_seqs, &plain.job_seqs);
        let keys = |life: &Life| -> Vec<_> {
            life.rows.iter().map(|row| (row.id, row.state, row.started_at, row.ended_at)).collect()
        };
        prop_assert_eq!(keys(&restarted), keys(&plain));
    }

    #[test]
    fn a_row_has_more_than_half_of_the_fail_count_at_any_time_in_few_writes(
        checks in checks(),
        outage in 0usize..300,
    ) {
        let mut life = Life::new();
        let outage = vec![(Some(FailureClass::HttpStatus), 60_000); outage];
        for check in checks.into_iter().chain(outage) {
            life.check(check);
            let Some(real) = life.counted() else { continue };
            let id = life.incident.open_event().map(|event| event.id);
            let row = life.rows.iter().find(|row| Some(row.id) == id);
            let row = row.expect("an open event has a row").fail_count;
            prop_assert!(row <= real && real < 2 * row, "{row} of {real}");
            let writes = life.writes_of_open_event();
            prop_assert!(writes <= 4 + real.ilog2() as usize, "{writes} for {real}");
        }
    }

    #[test]
    fn a_target_that_goes_on_failing_is_not_hidden_for_long(
        checks in checks(),
        vantages in prop::sample::select(vec![0usize, 3]),
        alarm in any::<bool>(),
        stance in prop::sample::select(vec![Stance::Clear, Stance::Deferring]),
        class in down(),
    ) {
        let mut life = Life::new();
        life.policy.vantages = vantages;
        for check in checks {
            life.check(check);
            if alarm && life.asked.is_some() {
                life.answer(&[Says::Up, Says::Up]);
                life.asked = None;
            }
        }
        // A rule for echoes, one for many failures, and verifiers that never answer, one after the
        // other: each has its end.
        life.stance = stance;
        for _ in 0..15 {
            life.check((Some(class), 60_000));
        }
        prop_assert_ne!(life.incident.http_state(), State::Up);
    }
}
