//! A fleet at one address whose core keeps connections, while everything fails now and then; and
//! what a kept connection must not say of a site.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use cores::{CoreSnapshot, KeptLimits};
use model::inbox::CoreCommand;
use model::outcome::flags;
use model::{FailureClass, MonoUs, Outcome, Ticket};
use prober::SharedConfig;

use crate::world::{Bench, Chance, GRID_ZERO, Sizes, bench_in, shared_config, write_answer};

/// It stays open where nothing fails.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!";
const LIMITS: KeptLimits = KeptLimits {
    per_core: 64,
    per_address: 8,
    per_capped: 8,
    idle_ms: 2_000,
    age_ms: 300_000,
};

/// Of so many answers, connections and questions per mille something goes wrong.
fn fleet(seed: u64, faults: u64) -> Bench {
    let mut world = Chance::new(seed, faults);
    world.good = Cow::Borrowed(OK);
    world.watched = Some(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)));
    world.all_watched = true;
    let sizes = Sizes {
        kept: LIMITS,
        ..Sizes::default()
    };
    let shared = SharedConfig {
        reuse: true,
        ..shared_config()
    };
    let bench = bench_in(world, &sizes, GRID_ZERO, shared);
    bench.add(1_000, 10);
    bench
}

/// Runs for a while; what came of it.
fn run(seed: u64, faults: u64) -> (CoreSnapshot, usize, Vec<Outcome>) {
    let mut bench = fleet(seed, faults);
    let mut outcomes = Vec::new();
    let mut most = 0;
    for _ in 0..90 {
        bench.run_s(1);
        let account = bench.sim.core().account();
        assert!(account.balances(), "seed {seed}: {account:?}");
        most = most.max(account.connections_kept);
        assert!(most <= u64::from(LIMITS.per_address), "seed {seed}: {most}");
        outcomes.extend(bench.drain());
    }
    let dials = bench.sim.world().dialled.len();
    (bench.sim.core().account(), dials, outcomes)
}

#[test]
fn most_checks_of_a_fleet_at_one_address_open_no_connection() {
    let (account, dials, outcomes) = run(1, 0);
    assert!(account.probed > 8_000, "{account:?}");
    assert!(dials * 4 < account.probed as usize, "{dials}");
    let reused = outcomes
        .iter()
        .filter(|outcome| outcome.has(flags::CONNECTION_REUSED));
    assert_eq!(reused.count() as u64, account.reused);
    assert_eq!(account.reused_dead, 0);
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
}

#[test]
fn accounts_balance_and_limits_hold_whatever_becomes_of_kept_connections() {
    for seed in 1..=4 {
        let (account, _, outcomes) = run(seed, 150);
        assert!(
            account.reused > 1_000 && account.reused_dead > 20,
            "{account:?}"
        );
        let (again, _, same) = run(seed, 150);
        assert_eq!((again, same), (account, outcomes), "seed {seed}");
    }
}

/// With caps.
const CAPPED: [u8; 4] = [8, 8, 8, 8];
/// Without.
const UNCAPPED: [u8; 4] = [9, 9, 9, 9];
/// For longer than the time between two checks of a target.
const LASTING: KeptLimits = KeptLimits {
    per_core: 1_000,
    per_address: 256,
    idle_ms: 30_000,
    ..LIMITS
};

/// A front end with many sites, and a firewall before it.
struct Front {
    address: [u8; 4],
    /// From a request to its answer.
    after_us: u64,
    /// Connections that brought an answer, by serial: when for the first and for the last time.
    answered: HashMap<u64, (MonoUs, MonoUs)>,
    /// Of those, the ones that the firewall drops.
    forgotten: HashSet<u64>,
    /// It lets no new one in.
    shut: bool,
    /// Who answers with 503.
    sick: &'static str,
    /// Who does not answer.
    hung: &'static str,
}

impl Front {
    fn new() -> Self {
        Self {
            address: UNCAPPED,
            after_us: 10_000,
            answered: HashMap::new(),
            forgotten: HashSet::new(),
            shut: false,
            sick: "nobody",
            hung: "nobody",
        }
    }

    /// With so many targets, and time for some rounds of checks.
    fn watched(self, count: u32, kept: KeptLimits) -> Bench<Self> {
        let sizes = Sizes {
            kept,
            ..Sizes::default()
        };
        let shared = SharedConfig {
            reuse: true,
            ..shared_config()
        };
        let mut bench = bench_in(self, &sizes, GRID_ZERO, shared);
        bench.add(count, 10);
        bench.run_s(30);
        bench
    }

    /// The firewall knows none of its connections any more.
    fn forget(&mut self) {
        self.forgotten.extend(self.answered.keys());
    }
}

impl World for Front {
    fn dial(&mut self, _: SocketAddr, _: MonoUs) -> Dial {
        if self.shut {
            Dial::Fail(1_000, 111)
        } else {
            Dial::Accept(1_000)
        }
    }

    fn reply(&mut self, peer: Peer, request: &[u8], now: MonoUs) -> Reply {
        let request = String::from_utf8_lossy(request);
        let is_of = |name| request.contains(&format!("Host: {name}.example\r\n"));
        let is_silent = self.forgotten.contains(&peer.serial) || is_of(self.hung);
        let bytes: &[u8] = match is_of(self.sick) {
            _ if is_silent => b"",
            true => b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n",
            false => OK,
        };
        if !is_silent {
            let (_, last) = self.answered.entry(peer.serial).or_insert((now, now));
            *last = now;
        }
        Reply {
            after_us: self.after_us,
            bytes: bytes.into(),
            piece: 1_000,
            end: End::Silence,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _: MonoUs) -> Option<u64> {
        write_answer(query, answer, 0);
        let (end, has_one) = (answer.len(), answer[7] == 1);
        if has_one {
            answer[end - 4..].copy_from_slice(&self.address);
        }
        Some(1_000)
    }
}

impl Bench<Front> {
    /// What the checks of the target at `slot` found in some seconds.
    fn found_of(&mut self, slot: usize, seconds: u64) -> Vec<Outcome> {
        self.run_s(seconds);
        let outcomes = self.drain().into_iter();
        outcomes
            .filter(|outcome| outcome.slot.index() == slot)
            .collect()
    }
}

fn is_reused(outcome: &Outcome) -> bool {
    outcome.has(flags::CONNECTION_REUSED)
}

#[test]
fn a_firewall_that_forgets_its_connections_takes_no_site_down() {
    let mut front = Front::new();
    // So that many of them are in use.
    front.after_us = 500_000;
    let mut bench = front.watched(200, LASTING);
    bench.drain();
    assert!(bench.sim.core().account().connections_kept > 5);
    bench.sim.world_mut().forget();
    let before = bench.sim.core().account();
    bench.run_s(60);
    let after = bench.sim.core().account();
    let outcomes = bench.drain();
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
    let again = outcomes
        .iter()
        .filter(|outcome| outcome.has(flags::COMMANDED));
    let dead = after.reused_dead - before.reused_dead;
    assert_eq!(again.clone().count() as u64, dead);
    assert!(dead > 5 && after.reused - before.reused > 500, "{after:?}");
    assert!(again.clone().all(|outcome| !is_reused(outcome)));
    // Each of them is one check: none is missing and none is there twice.
    assert_eq!(outcomes.len() as u64, after.probed - before.probed);
    assert!(
        (1_200..=1_400).contains(&outcomes.len()),
        "{}",
        outcomes.len()
    );
    assert_eq!(after.shed, before.shed);
}

#[test]
fn what_waited_for_a_silent_connection_at_a_drain_is_cancelled() {
    let mut bench = Front::new().watched(20, LASTING);
    bench.drain();
    bench.sim.world_mut().forget();
    bench.run_s(6);
    let running = bench.sim.core().account();
    assert!(running.in_flight > 0, "{running:?}");
    bench.tell(CoreCommand::Drain { within_ms: 30_000 });
    bench.run_s(20);
    assert!(bench.sim.core().is_drained());
    let ended = bench.sim.core().account();
    assert!(ended.cancelled > running.cancelled && ended.reused_dead > running.reused_dead);
    let outcomes = bench.drain();
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
}

#[test]
fn a_site_that_says_nothing_is_told_by_a_connection_of_its_own() {
    let mut bench = Front::new().watched(2, LASTING);
    bench.drain();
    bench.sim.world_mut().hung = "s-1";
    let found = bench.found_of(0, 60);
    let down: Vec<_> = found
        .iter()
        .skip_while(|outcome| outcome.failure().is_none())
        .collect();
    assert!(down.len() > 3, "{found:?}");
    let silent = |outcome: &&Outcome| {
        outcome.failure() == Some(FailureClass::HttpTimeout) && !is_reused(outcome)
    };
    assert!(down.iter().all(silent), "{down:?}");
    let again: Vec<_> = down.iter().map(|down| down.has(flags::COMMANDED)).collect();
    assert!(again[0] && !again[1..].contains(&true), "{again:?}");
}

#[test]
fn a_site_that_was_not_up_is_up_when_it_is_on_a_connection_of_its_own() {
    let mut bench = Front::new().watched(2, LASTING);
    let seen = bench.drain();
    for slot in 0..2 {
        let of_slot = seen.iter().filter(|outcome| outcome.slot.index() == slot);
        let reused: Vec<_> = of_slot.map(is_reused).collect();
        assert!(!reused[0], "nothing is known of a new target");
        assert!(reused[1..].iter().all(|reused| *reused), "{reused:?}");
    }
    bench.sim.world_mut().sick = "s-1";
    assert!(bench.found_of(0, 20).iter().any(|down| down.status == 503));
    // It is well again, and nobody new can reach it; its neighbour has a connection.
    bench.sim.world_mut().sick = "nobody";
    bench.sim.world_mut().shut = true;
    bench.run_s(30);
    let (of_neighbour, found): (Vec<_>, Vec<_>) = bench
        .drain()
        .into_iter()
        .partition(|outcome| outcome.slot.index() == 1);
    assert!(of_neighbour.len() > 2 && found.len() > 2);
    assert!(
        of_neighbour
            .iter()
            .all(|up| up.failure().is_none() && is_reused(up))
    );
    let refused = Some(FailureClass::ConnectRefused);
    assert!(
        found.iter().all(|down| down.failure() == refused),
        "{found:?}"
    );
    bench.sim.world_mut().shut = false;
    let found = bench.found_of(0, 40);
    assert!(found.len() > 2 && found.iter().all(|up| up.failure().is_none()));
    let reused: Vec<_> = found.iter().map(is_reused).collect();
    assert!(!reused[0] && !reused[1..].contains(&false), "{reused:?}");
}

/// A one-shot of this target, with a deadline of 5 s.
fn one_shot(bench: &Bench<Front>, target: i64, ticket: u64) {
    bench.tell(CoreCommand::OneShot {
        target: crate::world::target(target, 10),
        ticket: Ticket(ticket),
    });
}

#[test]
fn a_one_shot_over_a_connection_that_fell_silent_is_asked_again_on_its_own() {
    let mut bench = Front::new().watched(2, LASTING);
    assert!(bench.sim.core().account().connections_kept > 0);
    bench.sim.world_mut().forget();
    bench.tell(CoreCommand::Pause(true));
    one_shot(&bench, 1, 7);
    bench.run_s(4);
    let waiting = bench.sim.core().account();
    assert_eq!((waiting.one_shot.in_flight, waiting.one_shot.done), (1, 0));
    bench.run_s(3);
    let report = bench.one_shots.try_recv().expect("answered");
    assert_eq!((report.ticket, report.outcome.failure()), (Ticket(7), None));
    assert!(!is_reused(&report.outcome));
    let account = bench.sim.core().account();
    assert_eq!(account.reused_dead, 1);
    assert_eq!((account.one_shot.due, account.one_shot.done), (1, 1));
    assert!(account.balances(), "{account:?}");
    assert!(bench.one_shots.try_recv().is_err(), "it is told once");
}

#[test]
fn a_one_shot_of_a_silent_site_is_told_by_a_connection_of_its_own_after_two_deadlines() {
    let mut bench = Front::new().watched(2, LASTING);
    bench.sim.world_mut().hung = "s-1";
    bench.tell(CoreCommand::Pause(true));
    one_shot(&bench, 1, 7);
    bench.run_s(9);
    assert!(bench.one_shots.try_recv().is_err(), "asked twice");
    bench.run_s(3);
    let report = bench.one_shots.try_recv().expect("answered");
    let class = report.outcome.failure();
    assert_eq!(class, Some(FailureClass::HttpTimeout));
    assert!(!is_reused(&report.outcome));
    let took_us = report.outcome.phases.total_us;
    assert!((5_000_000..5_100_000).contains(&took_us), "{took_us}");
}

#[test]
fn a_one_shot_over_a_silent_connection_that_a_drain_meets_says_over_which_it_was_asked() {
    let mut bench = Front::new().watched(2, LASTING);
    bench.sim.world_mut().forget();
    one_shot(&bench, 1, 7);
    bench.run_s(1);
    bench.tell(CoreCommand::Drain { within_ms: 30_000 });
    bench.run_s(10);
    let report = bench.one_shots.try_recv().expect("answered");
    let class = report.outcome.failure();
    assert_eq!(class, Some(FailureClass::HttpTimeout));
    let text = &report.evidence.text;
    assert!(text.contains("an earlier check had left"), "{text}");
    let account = bench.sim.core().account();
    assert_eq!((account.one_shot.done, account.one_shot.in_flight), (1, 0));
}

#[test]
fn a_connection_ends_by_its_age_however_busy_it_is() {
    let limits = KeptLimits {
        age_ms: 40_000,
        ..LASTING
    };
    let mut bench = Front::new().watched(20, limits);
    bench.run_s(90);
    let lives = bench.sim.world().answered.values();
    let lives: Vec<u64> = lives.map(|(first, last)| last.since(*first)).collect();
    let longest = lives.iter().max().copied();
    // From its last use at that age to the one after it there is less than a cadence.
    assert!(
        longest.is_some_and(|us| (30_000_000..49_000_000).contains(&us)),
        "{lives:?}"
    );
}

#[test]
fn towards_an_address_with_caps_no_more_is_kept_than_its_own_limit() {
    let limits = KeptLimits {
        per_capped: 3,
        ..LASTING
    };
    for (address, kept) in [(CAPPED, 3), (UNCAPPED, 20)] {
        let mut front = Front::new();
        (front.address, front.after_us) = (address, 2_000_000);
        let bench = front.watched(100, limits);
        let account = bench.sim.core().account();
        let holds = match address {
            CAPPED => account.connections_kept <= kept,
            _ => account.connections_kept + account.in_flight >= kept,
        };
        assert!(holds && account.reused > 50, "{account:?}");
    }
}
