//! What one address sees of us: caps of attempts in flight and of starts, and who waits meanwhile.

use cores::reactor::sim::Dial;
use model::ids::splitmix64;
use model::inbox::{Cadence, CoreCommand};
use model::outcome::flags;
use model::{Generation, Slot};

use crate::world::{Bench, Chance, Sizes, bench, target_at};

const CAPPED: &str = "5.5.5.5";
const UNCAPPED: &str = "9.9.9.9";

/// A core with `count` sites of 10 s on one address, which answers with `dial`, or well.
fn sites_on(address: &str, count: u32, dial: Option<Dial>) -> Bench {
    let mut world = Chance::new(1, 0);
    world.watched = Some(address.parse().expect("an address"));
    world.watched_dial = dial;
    let bench = bench(world, &Sizes::default());
    for slot in 0..count {
        let url = format!("http://{address}/{slot}");
        // Ids in a row would have phases spread too well: a fleet's sites do fall together.
        let id = (splitmix64(u64::from(slot)) >> 2) as i64 + 1;
        let target = target_at(id, &url, 10, 1);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench
}

/// Most dials of one second.
fn busiest_second(dialled: &[u64]) -> usize {
    let within = |from: &u64| {
        let until = from + 1_000_000;
        dialled
            .iter()
            .filter(|at| (*from..until).contains(at))
            .count()
    };
    dialled.iter().map(within).max().unwrap_or(0)
}

#[test]
fn starts_to_one_address_keep_their_pace_and_nobody_is_left_out() {
    let mut bench = sites_on(CAPPED, 400, None);
    let mut probed = vec![0; 400];
    for _ in 0..9 {
        bench.run_s(10);
        for outcome in bench.drain() {
            probed[outcome.slot.index()] += 1;
        }
    }
    let account = bench.sim.core().account();
    assert_eq!(account.shed, 0, "{account:?}");
    assert!(
        account.deferred_total > 0,
        "phases fall together: {account:?}"
    );
    assert!(
        probed.iter().all(|count| (8..=10).contains(count)),
        "{probed:?}"
    );
    let busiest = busiest_second(&bench.sim.world_mut().dialled);
    assert!((45..=55).contains(&busiest), "{busiest} starts in a second");
}

/// Runs `count` sites of one address that answer with `reply`, and says how many starts its
/// busiest second had in the second minute, and how many checks of that said `throttled`.
fn busiest_while_answered(count: u32, reply: &'static str) -> (Bench, usize, usize) {
    let mut bench = sites_on(CAPPED, count, None);
    bench.sim.world_mut().good = reply.as_bytes().into();
    bench.run_s(60);
    bench.drain();
    bench.sim.world_mut().dialled.clear();
    bench.run_s(60);
    let outcomes = bench.drain();
    let throttled = outcomes.iter().filter(|one| one.has(flags::THROTTLED));
    let throttled = throttled.count();
    let busiest = busiest_second(&bench.sim.world_mut().dialled);
    (bench, busiest, throttled)
}

#[test]
fn an_address_whose_sites_ask_for_fewer_requests_gets_half_for_five_minutes() {
    const TOO_MANY: &str = "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n";
    const LATER: &str = "HTTP/1.1 503 Busy\r\nretry-After: 9\r\nContent-Length: 0\r\n\r\n";
    const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for reply in [TOO_MANY, LATER] {
        let (mut bench, busiest, throttled) = busiest_while_answered(400, reply);
        assert!((20..=30).contains(&busiest), "{busiest} starts in a second");
        // 44 are due a second.
        assert!((1_270..=1_370).contains(&throttled), "{throttled}");
        assert_eq!(bench.sim.core().account().destinations_slowed, 1);
        bench.sim.world_mut().good = WELL.as_bytes().into();
        for _ in 0..31 {
            bench.run_s(10);
            bench.drain();
        }
        bench.sim.world_mut().dialled.clear();
        bench.run_s(60);
        let outcomes = bench.drain();
        assert!(!outcomes.iter().any(|one| one.has(flags::THROTTLED)));
        let busiest = busiest_second(&bench.sim.world_mut().dialled);
        assert!((40..=55).contains(&busiest), "{busiest} starts in a second");
        assert_eq!(bench.sim.core().account().destinations_slowed, 0);
    }
}

/// Checks of each of `count` sites in the next `minutes`, least and most.
fn checked(bench: &mut Bench, count: usize, minutes: u64) -> (usize, usize) {
    let mut checks = vec![0; count];
    for _ in 0..minutes {
        bench.run_s(60);
        for outcome in bench.drain() {
            checks[outcome.slot.index()] += 1;
        }
    }
    let (least, most) = (checks.iter().min(), checks.iter().max());
    (least.copied().unwrap_or(0), most.copied().unwrap_or(0))
}

/// Far below any cap, which would be halved for nothing.
#[test]
fn each_site_of_an_address_that_is_slowed_down_is_checked_half_as_often() {
    const TOO_MANY: &str = "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n";
    const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for named in [false, true] {
        let mut world = Chance::new(1, 0);
        world.watched = Some(CAPPED.parse().expect("an address"));
        world.all_watched = true;
        world.good = TOO_MANY.as_bytes().into();
        let mut bench = bench(world, &Sizes::default());
        for slot in 0..20 {
            let url = if named {
                format!("http://s-{slot}.example/")
            } else {
                format!("http://{CAPPED}/{slot}")
            };
            let target = target_at(i64::from(slot) + 1, &url, 120, 1);
            bench.tell(CoreCommand::Upsert {
                slot: Slot(slot),
                target,
            });
        }
        bench.run_s(240);
        bench.drain();
        // A cadence is a little shorter than its interval.
        let (least, most) = checked(&mut bench, 20, 40);
        assert!(
            least >= 10 && most <= 12,
            "named {named}: {least} to {most}"
        );
        let account = bench.sim.core().account();
        assert_eq!(account.shed, account.shed_slowed, "{account:?}");
        assert!((200..=280).contains(&account.shed_slowed), "{account:?}");
        assert_eq!(account.destinations, 0, "{account:?}");
        // What a person asks for is not left out.
        bench.tell(CoreCommand::CheckNow { slot: Slot(7) });
        bench.run_s(1);
        assert_eq!(
            bench
                .drain()
                .iter()
                .filter(|one| one.slot == Slot(7))
                .count(),
            1
        );
        bench.sim.world_mut().good = WELL.as_bytes().into();
        checked(&mut bench, 20, 8);
        let (least, most) = checked(&mut bench, 20, 40);
        assert!(
            least >= 20 && most <= 23,
            "named {named}: {least} to {most}"
        );
    }
}

#[test]
fn few_sites_that_ask_and_many_that_only_fail_slow_nothing_down() {
    const TOO_MANY: &str = "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n";
    const BROKEN: &str = "HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n";
    for (count, reply) in [(9, TOO_MANY), (400, BROKEN)] {
        let (_, busiest, throttled) = busiest_while_answered(count, reply);
        assert_eq!(throttled, 0, "{count} sites");
        assert!(count == 9 || busiest >= 40, "{busiest} starts in a second");
    }
}

#[test]
fn a_dark_address_holds_no_more_than_its_cap_and_its_sites_take_turns() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    let mut probed = vec![0; 400];
    for _ in 0..600 {
        bench.run_s(1);
        let account = bench.sim.core().account();
        assert!(account.in_flight <= 32, "{account:?}");
        for outcome in bench.drain() {
            probed[outcome.slot.index()] += 1;
        }
    }
    // 32 at 5 s each: 6.4/s, or 3,840 in all. 400 sites had 66 phase points each; those that pass
    // while a check still waits are counted when it starts.
    let (least, most) = (probed.iter().min(), probed.iter().max());
    assert!(least >= Some(&8) && most <= Some(&10), "{least:?} {most:?}");
    let account = bench.sim.core().account();
    assert!(account.shed == account.shed_deferred, "{account:?}");
    let due = account.due - account.pending;
    assert!((22_000..=26_400).contains(&due), "{account:?}");
    assert!(account.deferred > 300 && account.deferred <= account.pending);
}

#[test]
fn a_dark_address_delays_no_other() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    for slot in 400..1_400 {
        let id = i64::from(slot) + 1;
        let target = target_at(id, &format!("http://s-{id}.example/"), 10, 1);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench.run_s(60);
    let others = bench.drain().into_iter().filter(|one| one.slot.0 >= 400);
    let lags: Vec<u32> = others.map(|outcome| outcome.lag_us).collect();
    assert!(lags.len() >= 6_000, "{}", lags.len());
    assert!(
        lags.iter().all(|lag| *lag <= 5_000),
        "{:?}",
        lags.iter().max()
    );
}

#[test]
fn names_that_turn_out_to_be_at_one_address_wait_for_it_too() {
    let mut world = Chance::new(1, 0);
    world.watched = Some(CAPPED.parse().expect("an address"));
    world.all_watched = true;
    let mut bench = bench(world, &Sizes::default());
    // 88/s, and no name is known at first: nobody can tell before it is resolved.
    bench.add(5_000, 60);
    for _ in 0..120 {
        bench.run_s(1);
        bench.drain();
        let account = bench.sim.core().account();
        assert!(account.in_flight <= 32 + 1, "{account:?}");
    }
    let dialled = &bench.sim.world_mut().dialled;
    let busiest = busiest_second(dialled);
    assert!((45..=55).contains(&busiest), "{busiest} starts in a second");
    let longest = dialled.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest < Some(200_000), "{longest:?} µs without a start");
}

#[test]
fn a_site_that_moves_does_not_wait_for_its_old_address() {
    let mut bench = sites_on(CAPPED, 2_000, Some(Dial::Silence));
    bench.run_s(60);
    bench.drain();
    for slot in 0..20 {
        let url = format!("http://8.8.8.8/{slot}");
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target: target_at(i64::from(slot) + 1, &url, 10, 2),
        });
    }
    // A routine check of the new address, at most one cadence away.
    bench.run_s(10);
    let mut moved: Vec<u32> = bench
        .drain()
        .iter()
        .filter(|one| one.generation == Generation(2) && one.lag_us <= 5_000_000)
        .map(|one| one.slot.0)
        .collect();
    moved.sort_unstable();
    moved.dedup();
    assert!(moved.len() >= 19, "of 20 only {moved:?}");
}

#[test]
fn a_pause_counts_no_phase_point_as_missed() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    bench.run_s(20);
    let before = bench.sim.core().account();
    bench.tell(CoreCommand::Pause(true));
    bench.run_s(1_000);
    bench.tell(CoreCommand::Pause(false));
    bench.run_s(20);
    let after = bench.sim.core().account();
    let shed = after.shed - before.shed;
    assert!((300..=400 + 100).contains(&shed), "{shed}: {after:?}");
    let lags = bench.drain().into_iter().map(|outcome| outcome.lag_us);
    assert!(lags.max() < Some(3_000_000));
}

#[test]
fn a_name_that_resolves_in_a_pause_counts_no_phase_point_as_missed() {
    let mut world = Chance::new(1, 0);
    world.watched = Some(CAPPED.parse().expect("an address"));
    (world.all_watched, world.watched_dial) = (true, Some(Dial::Silence));
    world.dark = true;
    let mut bench = bench(world, &Sizes::default());
    bench.add(400, 10);
    // Nobody answers questions; their next tries, in the pause, are answered.
    bench.run_s(2);
    bench.tell(CoreCommand::Pause(true));
    bench.sim.world_mut().dark = false;
    bench.run_s(1_000);
    let paused = bench.sim.core().account();
    assert!(paused.shed_deferred > 0, "found no room: {paused:?}");
    bench.tell(CoreCommand::Pause(false));
    bench.run_s(20);
    let after = bench.sim.core().account();
    let shed = after.shed - paused.shed;
    assert!(shed <= 400 + 100, "{shed}: {after:?}");
}

#[test]
fn waiting_for_an_address_is_no_lag_of_ours() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    bench.run_s(120);
    let outcomes = bench.drain();
    assert!(outcomes.len() > 500, "{}", outcomes.len());
    let lags = outcomes.iter().map(|outcome| outcome.lag_us);
    assert!(lags.max() <= Some(5_000));
}

#[test]
fn a_check_that_is_asked_for_while_it_waits_goes_first_and_is_not_shed() {
    let mut world = Chance::new(4, 0);
    world.rtt_us = 2_000_000;
    let sizes = Sizes {
        max_in_flight: 64,
        ..Sizes::default()
    };
    let mut bench = bench(world, &sizes);
    // 16/s of the 44/s that are due: most wait, and are shed in the end.
    bench.add(400, 10);
    bench.run_s(60);
    bench.drain();
    for slot in (0..400).step_by(20) {
        bench.tell(CoreCommand::CheckNow { slot: Slot(slot) });
    }
    bench.run_s(12);
    let outcomes = bench.drain();
    for slot in (0..400).step_by(20) {
        let commanded = outcomes
            .iter()
            .any(|one| one.slot == Slot(slot) && one.has(flags::COMMANDED));
        assert!(commanded, "slot {slot} was asked for in vain");
    }
}

#[test]
fn a_suspect_goes_before_the_routine_checks_of_its_address() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    bench.run_s(60);
    bench.drain();
    let suspects = [7, 77, 377];
    for slot in suspects {
        bench.tell(CoreCommand::Cadence {
            slot: Slot(slot),
            generation: Generation(1),
            cadence: Cadence::Recheck { after_ms: 1_000 },
        });
        bench.tell(CoreCommand::CheckNow { slot: Slot(slot) });
    }
    // Room comes every 160 ms, an attempt takes 5 s.
    bench.run_s(8);
    let outcomes = bench.drain();
    for slot in suspects {
        let commanded = outcomes
            .iter()
            .find(|one| one.slot == Slot(slot) && one.has(flags::COMMANDED));
        assert!(commanded.is_some(), "slot {slot} still waits");
    }
}

#[test]
fn an_uncapped_address_is_not_held_back() {
    let mut bench = sites_on(UNCAPPED, 400, Some(Dial::Silence));
    bench.run_s(30);
    let account = bench.sim.core().account();
    assert!(account.in_flight > 150, "{account:?}");
    assert_eq!((account.deferred_total, account.shed), (0, 0));
}

#[test]
fn what_is_removed_while_it_waits_leaves_nothing_behind() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    bench.run_s(20);
    let before = bench.sim.core().account();
    assert!(before.deferred > 100, "{before:?}");
    for slot in 0..400 {
        bench.tell(CoreCommand::Remove { slot: Slot(slot) });
    }
    bench.run_s(5);
    bench.drain();
    let account = bench.sim.core().account();
    assert_eq!(
        (account.deferred, account.pending, account.in_flight),
        (0, 0, 0)
    );
    assert_eq!(account.destinations, 0, "{account:?}");
    assert_eq!(account.cancelled, before.pending + before.in_flight);
}

#[test]
fn a_drain_cancels_what_waits_for_its_address() {
    let mut bench = sites_on(CAPPED, 400, Some(Dial::Silence));
    bench.run_s(20);
    bench.tell(CoreCommand::Drain { within_ms: 1_000 });
    bench.run_s(3);
    bench.drain();
    let account = bench.sim.core().account();
    assert!(bench.sim.core().is_drained());
    assert_eq!((account.deferred, account.pending), (0, 0), "{account:?}");
}

#[test]
fn a_core_that_runs_out_of_files_has_fewer_in_flight() {
    const EMFILE: i32 = 24;
    let mut bench = sites_on(UNCAPPED, 400, Some(Dial::Local(EMFILE)));
    let whole = bench.sim.core().account().in_flight_limit;
    bench.run_s(20);
    let short = bench.sim.core().account().in_flight_limit;
    assert!(short < whole / 10, "{short} of {whole}");
    bench.sim.world_mut().watched_dial = None;
    bench.run_s(60);
    assert_eq!(bench.sim.core().account().in_flight_limit, whole);
}

#[test]
fn a_destination_without_a_free_port_of_ours_takes_nothing_from_the_others() {
    const EADDRNOTAVAIL: i32 = 99;
    let mut bench = sites_on(UNCAPPED, 400, Some(Dial::Local(EADDRNOTAVAIL)));
    let whole = bench.sim.core().account().in_flight_limit;
    bench.run_s(20);
    let account = bench.sim.core().account();
    assert_eq!(account.in_flight_limit, whole);
    assert!(account.sources_wanted > 100, "{account:?}");
    let unknown = account.failed(model::FailureClass::ConnectLocal);
    assert_eq!(unknown, account.sources_wanted);
}
