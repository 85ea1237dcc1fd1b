//! A healthy check allocates nothing after warm-up: counted by the allocator, on the simulator.
//! One test in a process of its own, since the count is of the whole process.

#[path = "../it/world.rs"]
#[allow(dead_code)]
mod world;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

use world::{Chance, Sizes, bench};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_healthy_check_allocates_nothing_after_warm_up() {
    let mut bench = bench(Chance::new(1, 0), &Sizes::default());
    bench.add(1_000, 10);
    bench.run_s(60);
    let mut outcomes = bench.drain();
    outcomes.clear();
    let before = bench.sim.core().account().probed;
    // Shorter than a histogram interval that starts now: the set of histograms is made anew at
    // its end, once per interval and not per check.
    bench.run_s(1);
    let region = Region::new(ALLOCATOR);
    bench.run_s(8);
    let change = region.change();
    let checks = bench.sim.core().account().probed - before;
    assert!(checks > 500, "{checks}");
    assert_eq!(
        change.allocations + change.reallocations,
        0,
        "{change:?} for {checks} checks"
    );
}
