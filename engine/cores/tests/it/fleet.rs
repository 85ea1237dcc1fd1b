//! A fleet on its grid: rates, phases, restarts, cadence commands.

use std::collections::BTreeMap;

use model::inbox::{Cadence, CoreCommand};
use model::outcome::flags;
use model::schedule::phase_ms;
use model::{FailureClass, Generation, MonoUs, Slot, TargetId, TargetSpec, Verdict};

use crate::world::{Chance, Sizes, bench, target, target_at};

#[test]
fn every_target_of_a_healthy_fleet_is_probed_once_per_cadence() {
    let mut bench = bench(Chance::new(1, 0), &Sizes::default());
    bench.add(1_000, 10);
    bench.run_s(90);
    let mut per_slot = BTreeMap::<u32, u32>::new();
    for outcome in bench.drain() {
        assert_eq!(outcome.verdict(), Verdict::Up, "{outcome:?}");
        assert!(outcome.lag_us <= 5_000, "{outcome:?}");
        *per_slot.entry(outcome.slot.0).or_default() += 1;
    }
    assert_eq!(per_slot.len(), 1_000);
    assert!(
        per_slot.values().all(|count| (9..=10).contains(count)),
        "{per_slot:?}"
    );
    let account = bench.stats.snapshot();
    assert_eq!((account.shed, account.stale, account.cancelled), (0, 0, 0));
    assert_eq!(account.targets, 1_000);
}

#[test]
fn targets_of_a_day_are_checked_on_their_phase_day_after_day() {
    let mut bench = bench(Chance::new(2, 0), &Sizes::default());
    bench.add(20, 86_400);
    let cadence_ms = 86_385_000;
    bench.run_s(2 * cadence_ms / 1_000 + 1);
    let mut per_slot = BTreeMap::<u32, u32>::new();
    for outcome in bench.drain() {
        let id = TargetId::new(i64::from(outcome.slot.0) + 1).expect("positive");
        let phase = u64::from(phase_ms(id, cadence_ms as u32));
        let off_ms = (outcome.started.get().0 + cadence_ms - phase) % cadence_ms;
        assert!(off_ms <= 5, "{outcome:?} is {off_ms} ms off its phase");
        *per_slot.entry(outcome.slot.0).or_default() += 1;
    }
    assert_eq!(per_slot.len(), 20);
    assert!(per_slot.values().all(|count| *count == 2), "{per_slot:?}");
}

#[test]
fn a_suspect_is_rechecked_off_the_grid_until_it_returns_to_it() {
    let mut bench = bench(Chance::new(3, 0), &Sizes::default());
    bench.add(1, 300);
    let recheck = Cadence::Recheck { after_ms: 20_000 };
    let command = |generation, cadence| CoreCommand::Cadence {
        slot: Slot(0),
        generation: Generation(generation),
        cadence,
    };
    bench.tell(command(9, recheck));
    bench.run_s(60);
    assert!(
        bench.drain().len() <= 1,
        "another generation's command is not for this target"
    );
    bench.tell(command(1, recheck));
    bench.run_s(130);
    let outcomes = bench.drain();
    assert!((5..=7).contains(&outcomes.len()), "{}", outcomes.len());
    assert!(
        outcomes
            .iter()
            .filter(|outcome| outcome.has(flags::COMMANDED))
            .count()
            >= 5
    );
    bench.tell(command(1, Cadence::Grid));
    bench.run_s(285 * 2);
    assert!((1..=3).contains(&bench.drain().len()));
}

#[test]
fn changing_one_target_touches_no_other_and_outdates_its_attempt() {
    let mut world = Chance::new(4, 0);
    world.rtt_us = 1_000_000;
    let mut bench = bench(world, &Sizes::default());
    bench.add(100, 10);
    bench.run_s(30);
    bench.drain();
    let before = bench.sim.core().account();
    assert!(before.in_flight > 5, "{before:?}");
    for slot in 0..100 {
        let id = i64::from(slot) + 1;
        let target = target_at(id, &format!("http://s-{id}.example/new"), 10, 2);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench.run_s(30);
    let after = bench.sim.core().account();
    // One or two may have ended before the command was read at the next tick.
    assert!(after.stale >= before.in_flight - 2 && after.stale <= before.in_flight);
    let outcomes = bench.drain();
    let old = outcomes
        .iter()
        .filter(|outcome| outcome.generation != Generation(2))
        .count() as u64;
    assert_eq!(
        old,
        before.in_flight - after.stale,
        "an old result got through"
    );
    assert!(outcomes.len() > 200);
}

#[test]
fn a_target_of_a_simple_profile_is_judged_by_the_head() {
    let mut world = Chance::new(6, 0);
    world.good = (&b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly this"[..]).into();
    let mut bench = bench(world, &Sizes::default());
    for (slot, profile) in ["full", "simple", "legacy"].into_iter().enumerate() {
        let mut target = target(slot as i64 + 1, 10);
        let spec = TargetSpec {
            url: target.config.check.to_string(),
            profile: Some(profile.to_owned()),
            timeout_ms: Some(1_000),
            interval_s: Some(10),
            ..TargetSpec::default()
        };
        target.config = spec.parse().expect("the test's target is valid");
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot as u32),
            target,
        });
    }
    bench.run_s(30);
    let outcomes = bench.drain();
    assert!(outcomes.len() >= 6);
    for outcome in outcomes {
        let expected = [Some(FailureClass::HttpTimeout), None, None];
        assert_eq!(outcome.failure(), expected[outcome.slot.index()]);
    }
}

#[test]
fn check_now_runs_at_once_and_again_after_a_running_attempt() {
    let mut bench = bench(Chance::new(5, 0), &Sizes::default());
    bench.add(1, 86_400);
    bench.run_s(1);
    bench.drain();
    bench.tell(CoreCommand::CheckNow { slot: Slot(0) });
    bench.sim.run_until(MonoUs(bench.sim.now().mono.0 + 10_000));
    bench.tell(CoreCommand::CheckNow { slot: Slot(0) });
    bench.tell(CoreCommand::CheckNow { slot: Slot(0) });
    bench.run_s(1);
    assert_eq!(bench.drain().len(), 2);
}

#[test]
fn a_pause_dispatches_nothing_and_a_resume_goes_on() {
    let mut bench = bench(Chance::new(6, 0), &Sizes::default());
    bench.add(100, 10);
    bench.tell(CoreCommand::Pause(true));
    bench.run_s(30);
    assert_eq!(bench.drain().len(), 0);
    bench.tell(CoreCommand::Pause(false));
    bench.run_s(30);
    assert!(bench.drain().len() >= 300);
}

#[test]
fn a_removed_slot_ends_with_its_marker() {
    let mut world = Chance::new(7, 0);
    world.rtt_us = 2_000_000;
    let mut bench = bench(world, &Sizes::default());
    bench.add(50, 10);
    bench.run_s(13);
    for slot in 0..50 {
        bench.tell(CoreCommand::Remove { slot: Slot(slot) });
    }
    bench.run_s(20);
    let outcomes = bench.drain();
    for slot in 0..50 {
        let of_slot: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.slot.0 == slot)
            .collect();
        let markers = of_slot
            .iter()
            .filter(|outcome| outcome.has(flags::SLOT_RELEASED))
            .count();
        assert_eq!(markers, 1);
        assert!(
            of_slot
                .last()
                .is_some_and(|outcome| outcome.has(flags::SLOT_RELEASED))
        );
    }
    let account = bench.sim.core().account();
    assert!(account.cancelled > 0 && account.in_flight == 0 && account.targets == 0);
    assert_eq!(account.dns.hosts, 0, "the resolver gave every name back");
}

#[test]
fn a_one_shot_answers_with_evidence_and_has_its_own_account() {
    let mut bench = bench(Chance::new(8, 0), &Sizes::default());
    let ticket = model::Ticket(77);
    bench.tell(CoreCommand::OneShot {
        target: target(5, 300),
        ticket,
    });
    bench.run_s(1);
    let report = bench.one_shots.try_recv().expect("answered");
    assert_eq!(
        (report.ticket, report.outcome.verdict()),
        (ticket, Verdict::Up)
    );
    assert_eq!(report.evidence.status, 200);
    assert!(!report.evidence.addresses.is_empty());
    let account = bench.sim.core().account();
    assert_eq!((account.due, account.one_shot.done), (0, 1));
    assert_eq!(bench.drain().len(), 0);
}

#[test]
fn a_target_that_is_changed_keeps_what_is_known_of_its_name() {
    let mut bench = bench(Chance::new(3, 0), &Sizes::default());
    bench.add(1, 10);
    bench.run_s(15);
    let asked = bench.sim.core().account().dns.queries;
    assert!(asked > 0);
    let url = "http://s-1.example/elsewhere";
    bench.tell(CoreCommand::Upsert {
        slot: Slot(0),
        target: target_at(1, url, 10, 2),
    });
    bench.run_s(15);
    let account = bench.sim.core().account();
    assert!(account.probed >= 2, "{account:?}");
    assert_eq!(account.dns.queries, asked, "{account:?}");
}

#[test]
fn histogram_intervals_go_on_when_the_wall_clock_is_set_back() {
    let mut bench = bench(Chance::new(4, 0), &Sizes::default());
    bench.add(10, 10);
    bench.run_s(15);
    bench.sim.step_wall_clock(-3_600_000);
    bench.run_s(30);
    let intervals: Vec<_> = bench.histograms.try_iter().collect();
    assert_eq!(intervals.len(), 4);
    for interval in intervals {
        let length_ms = interval.end.since(interval.start);
        assert!((10_000..10_100).contains(&length_ms), "{length_ms}");
    }
}
