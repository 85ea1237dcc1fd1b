//! A healthy check allocates nothing after warm-up: counted by the allocator, on the simulator.
//! One test in a process of its own, since the count is of the whole process.

#[path = "../it/world.rs"]
#[allow(dead_code)]
mod world;

use std::alloc::System;
use std::borrow::Cow;

use cores::KeptLimits;
use prober::SharedConfig;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use world::{Chance, GRID_ZERO, Sizes, bench_in, shared_config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Answers that close their connection, and such that leave it to the next check.
const ANSWERS: [(bool, &[u8]); 2] = [
    (
        false,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
    (true, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
];
/// For longer than the time between two checks of a target, each of which has its own address.
const AMPLE: KeptLimits = KeptLimits {
    per_core: 4_096,
    per_address: 8,
    per_capped: 8,
    idle_ms: 30_000,
    age_ms: 300_000,
};

#[test]
fn a_healthy_check_allocates_nothing_after_warm_up() {
    for (reuse, answer) in ANSWERS {
        let mut world = Chance::new(1, 0);
        world.good = Cow::Borrowed(answer);
        let sizes = Sizes {
            kept: AMPLE,
            ..Sizes::default()
        };
        let shared = SharedConfig {
            reuse,
            ..shared_config()
        };
        let mut bench = bench_in(world, &sizes, GRID_ZERO, shared);
        bench.add(1_000, 10);
        bench.run_s(60);
        let mut outcomes = bench.drain();
        outcomes.clear();
        let before = bench.sim.core().account();
        // Shorter than a histogram interval that starts now: the set of histograms is made anew at
        // its end, once per interval and not per check.
        bench.run_s(1);
        let region = Region::new(ALLOCATOR);
        bench.run_s(8);
        let change = region.change();
        let after = bench.sim.core().account();
        let checks = after.probed - before.probed;
        assert!(checks > 500, "{checks}");
        let reused = after.reused - before.reused;
        assert_eq!(reused, if reuse { checks } else { 0 });
        assert_eq!(
            change.allocations + change.reallocations,
            0,
            "{change:?} for {checks} checks with reuse {reuse}"
        );
    }
}
