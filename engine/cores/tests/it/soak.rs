//! A long simulated run. `RINGWATCH_SOAK_SEEDS=a,b,c` and `RINGWATCH_SOAK_HOURS` ask for more;
//! `cargo xtask soak` does.

use model::Verdict;

use crate::world::{Chance, Sizes, bench};

const TARGETS: u32 = 10_000;

fn from_env<T: std::str::FromStr>(name: &str, default: &str) -> Vec<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    text.split(',')
        .filter_map(|part| part.trim().parse().ok())
        .collect()
}

#[test]
fn a_day_with_ten_thousand_targets_and_random_faults_balances() {
    let hours = from_env::<u64>("RINGWATCH_SOAK_HOURS", "24")[0];
    for seed in from_env::<u64>("RINGWATCH_SOAK_SEEDS", "2026") {
        let mut world = Chance::new(seed, 20);
        world.stalls = 1;
        let mut bench = bench(world, &Sizes::default());
        bench.add(TARGETS, 300);
        let mut taken = 0;
        for _ in 0..hours * 60 {
            bench.run_s(60);
            taken += bench.drain().len() as u64;
        }
        let account = bench.sim.core().account();
        let [up, degraded, down, unknown] = account.verdicts;
        println!(
            "soak: seed {seed}, {hours} h: due {}, probed {}, shed {}, cancelled {}; up {up}, \
             down {down}, degraded {degraded}, unknown {unknown}; {} DNS queries",
            account.due, account.probed, account.shed, account.cancelled, account.dns.queries
        );
        assert_eq!(taken, account.sent, "seed {seed}");
        let cycles = hours * 3_600 / 285;
        let due = account.due - account.pending - account.in_flight;
        assert!(
            due >= (cycles - 1) * u64::from(TARGETS),
            "seed {seed}: {due} checks"
        );
        assert!(
            account.verdicts[Verdict::Up as usize] > due / 10 * 9,
            "seed {seed}"
        );
        assert!(
            account.verdicts[Verdict::Down as usize] > due / 1_000,
            "seed {seed}"
        );
        assert!(account.dns.queries < due, "seed {seed}: the cache is used");
    }
}
