//! A fleet at one address whose core keeps connections, while everything fails now and then.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use cores::{CoreSnapshot, KeptLimits};
use model::Outcome;
use model::outcome::flags;
use prober::SharedConfig;

use crate::world::{Bench, Chance, GRID_ZERO, Sizes, bench_in, shared_config};

/// It stays open where nothing fails.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!";
const LIMITS: KeptLimits = KeptLimits {
    per_core: 64,
    per_address: 8,
    idle_ms: 2_000,
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
