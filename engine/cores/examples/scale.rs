//! Ten million targets on one simulated core, for cadences of virtual time: each is checked on its
//! phase, once per cadence, the account balances, and the allocator counts what they take.
//! `cargo xtask scale` runs it; `tests/scale` does the same with a quarter of a million.
//!
//! `scale TARGETS INTERVAL_S CADENCES` prints one JSON object.

#[path = "../tests/scale/fleet.rs"]
mod fleet;
#[path = "../tests/it/world.rs"]
#[allow(dead_code)]
mod world;

use std::alloc::System;
use std::error::Error;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use fleet::Fleet;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: scale TARGETS INTERVAL_S CADENCES";
    let numbers: Result<Vec<u32>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let [targets, interval_s, cadences] = numbers?[..] else {
        return Err(usage.into());
    };
    let mut fleet = Fleet::new(targets, interval_s);
    let empty = live_bytes();
    fleet.grow(targets);
    // Every name is asked for once.
    fleet.run_cadences(1);
    fleet.run_ms(1_000);
    let before = fleet.account();
    for _ in 0..cadences {
        fleet.run_cadences(1);
        fleet.assert_nobody_is_forgotten();
    }
    let after = fleet.account();
    println!(
        "{{\"targets\":{},\"interval_s\":{interval_s},\"cadences\":{cadences},\"due\":{},\
         \"probed\":{},\"shed\":{},\"stale\":{},\"cancelled\":{},\"pending\":{},\"in_flight\":{},\
         \"late_max_ms\":{},\"queries\":{},\"heap_bytes\":{},\"rss_bytes\":{}}}",
        after.targets,
        after.due - before.due,
        after.probed - before.probed,
        after.shed,
        after.stale,
        after.cancelled,
        after.pending,
        after.in_flight,
        fleet.late_max_ms(),
        after.dns.queries,
        live_bytes() - empty,
        resident_bytes()?,
    );
    Ok(())
}

/// What was allocated and not freed yet.
fn live_bytes() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// What of this process is in memory.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("the kernel names no VmRSS")?.parse::<u64>()? * 1_024)
}
