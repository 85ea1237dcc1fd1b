//! The account identities under random commands, faults, stalls and full channels.

use std::collections::HashMap;

use cores::DestinationCaps;
use model::inbox::{Cadence, CoreCommand};
use model::outcome::flags;
use model::{Generation, Slot, Ticket};
use proptest::prelude::*;

use crate::world::{Chance, Sizes, bench, target, target_at};

const SLOTS: u32 = 40;

#[derive(Clone, Debug)]
enum Step {
    Upsert(u32, u32),
    Remove(u32),
    Recheck(u32),
    Grid(u32),
    CheckNow(u32),
    OneShot,
    Pause(bool),
    Run(u64),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly the same few slots, and short steps among long ones: commands must meet attempts.
    let slot = || prop_oneof![3 => 0..4u32, 1 => 0..SLOTS];
    let run = prop_oneof![2 => 1u64..100, 1 => 1u64..9_000];
    prop_oneof![
        4 => (slot(), 1u32..4).prop_map(|(slot, generation)| Step::Upsert(slot, generation)),
        2 => slot().prop_map(Step::Remove),
        2 => slot().prop_map(Step::Recheck),
        1 => slot().prop_map(Step::Grid),
        4 => slot().prop_map(Step::CheckNow),
        1 => Just(Step::OneShot),
        1 => any::<bool>().prop_map(Step::Pause),
        6 => run.prop_map(Step::Run),
        3 => Just(Step::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn accounts_balance_after_every_step_and_no_result_is_lost(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
        channel in prop_oneof![Just(4usize), Just(1_000)],
        rtt_us in prop_oneof![Just(20_000u64), Just(2_000_000)],
    ) {
        let mut world = Chance::new(seed, 200);
        (world.stalls, world.rtt_us) = (300, rtt_us);
        let usual = Sizes { destination_caps: tight(), ..Sizes::default() };
        let sizes = Sizes { outcomes: channel, evidence: channel, max_in_flight: 64, ..usual };
        let mut bench = bench(world, &sizes);
        bench.add(SLOTS / 2, 10);
        let mut taken = 0u64;
        let mut markers = HashMap::<u32, u32>::new();
        let mut present: Vec<bool> = (0..SLOTS).map(|slot| slot < SLOTS / 2).collect();
        let mut removals = HashMap::<u32, u32>::new();
        let mut one_shots = 0;
        let generation = Generation(1);
        for step in steps {
            match step {
                Step::Upsert(slot, generation) => {
                    present[slot as usize] = true;
                    let host = if generation == 1 { "5.5.5.5" } else { "s.example" };
                    let url = format!("http://{host}/{slot}/{generation}");
                    let target = target_at(i64::from(slot) + 1, &url, 10, generation);
                    bench.tell(CoreCommand::Upsert { slot: Slot(slot), target });
                }
                Step::Remove(slot) => {
                    if std::mem::take(&mut present[slot as usize]) {
                        *removals.entry(slot).or_default() += 1;
                    }
                    bench.tell(CoreCommand::Remove { slot: Slot(slot) });
                }
                Step::Recheck(slot) => {
                    let cadence = Cadence::Recheck { after_ms: 3_000 };
                    bench.tell(CoreCommand::Cadence { slot: Slot(slot), generation, cadence });
                }
                Step::Grid(slot) => {
                    let cadence = Cadence::Grid;
                    bench.tell(CoreCommand::Cadence { slot: Slot(slot), generation, cadence });
                }
                Step::CheckNow(slot) => bench.tell(CoreCommand::CheckNow { slot: Slot(slot) }),
                Step::OneShot => {
                    one_shots += 1;
                    bench.tell(CoreCommand::OneShot { target: target(1, 10), ticket: Ticket(1) });
                }
                Step::Pause(paused) => bench.tell(CoreCommand::Pause(paused)),
                Step::Run(ms) => {
                    let until = model::MonoUs(bench.sim.now().mono.0 + ms * 1_000);
                    bench.sim.run_until(until);
                }
                Step::Take => take(&mut bench, &mut taken, &mut markers),
            }
            let account = bench.sim.core().account();
            prop_assert!(account.balances(), "{:?}", account);
            prop_assert!(account.deferred <= account.pending, "{:?}", account);
            prop_assert!(account.evidence_held <= account.held.min(64), "{:?}", account);
        }
        bench.tell(CoreCommand::Drain { within_ms: 2_000 });
        for _ in 0..4_000 {
            bench.sim.run_until(model::MonoUs(bench.sim.now().mono.0 + 20_000));
            take(&mut bench, &mut taken, &mut markers);
            if bench.sim.core().is_drained() {
                break;
            }
        }
        prop_assert!(bench.sim.core().is_drained());
        let account = bench.sim.core().account();
        prop_assert_eq!((account.pending, account.in_flight, account.held), (0, 0, 0));
        prop_assert_eq!(account.deferred, 0);
        prop_assert_eq!((account.evidence_held, account.evidence_dropped), (0, 0));
        prop_assert_eq!(account.sent, taken);
        prop_assert_eq!(account.one_shot.due, one_shots);
        prop_assert_eq!(bench.one_shots.try_iter().count() as u64, one_shots);
        prop_assert_eq!(markers, removals);
    }
}

/// Caps that a handful of sites on two addresses meet all the time.
fn tight() -> DestinationCaps {
    DestinationCaps {
        in_flight_max: 2,
        start_every_us: 400_000,
        slowed_by_min: 10,
        uncapped: Vec::new(),
    }
}

fn take(bench: &mut crate::world::Bench, taken: &mut u64, markers: &mut HashMap<u32, u32>) {
    for outcome in bench.drain() {
        if outcome.has(flags::SLOT_RELEASED) {
            *markers.entry(outcome.slot.0).or_default() += 1;
        } else {
            *taken += 1;
        }
    }
}

#[test]
fn a_check_asked_for_during_an_attempt_is_accounted_when_its_target_goes() {
    let mut world = Chance::new(1, 0);
    world.rtt_us = 2_000_000;
    let mut bench = bench(world, &Sizes::default());
    bench.add(1, 300);
    let slot = Slot(0);
    for command in [
        CoreCommand::CheckNow { slot },
        CoreCommand::CheckNow { slot },
        CoreCommand::Remove { slot },
    ] {
        bench.tell(command);
        bench
            .sim
            .run_until(model::MonoUs(bench.sim.now().mono.0 + 50_000));
    }
    let account = bench.sim.core().account();
    assert!(account.balances(), "{account:?}");
    assert_eq!((account.due, account.cancelled), (2, 2), "{account:?}");
}

#[test]
fn the_same_seed_gives_the_same_outcomes() {
    let run = |seed| {
        let mut world = Chance::new(seed, 100);
        world.stalls = 100;
        let mut bench = bench(world, &Sizes::default());
        bench.add(300, 10);
        bench.run_s(120);
        format!("{:?}", bench.drain())
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
