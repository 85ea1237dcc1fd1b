//! A core whose fleet grows: on time, without a check lost or doubled, and with as many bytes for
//! one more target as are written here. `cargo xtask scale` does the same with ten million.
//!
//! One test in a process of its own, since the allocator counts the whole process.

#[path = "../it/world.rs"]
#[allow(dead_code)]
mod world;

mod fleet;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use fleet::Fleet;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Targets between which the slope is taken. At powers of two the tables that double when they
/// grow are full: the slope has none of what they keep in store.
const FEW: u32 = 1 << 16;
const MANY: u32 = 1 << 18;
/// 4,600 checks and, in the first cadence, questions a second: below what a core may ask.
const INTERVAL_S: u32 = 60;
/// Bytes of heap that one more target takes in a core, its name and its addresses included.
const BYTES_PER_TARGET: i64 = 137;
/// How far off it may be before it must be written anew, in percent.
const TOLERANCE_PERCENT: i64 = 3;

#[test]
fn a_quarter_million_targets_are_checked_on_their_phases_and_take_as_much_as_is_written_here() {
    let mut fleet = Fleet::new(MANY, INTERVAL_S);
    let few = bytes_at(&mut fleet, FEW);
    let many = bytes_at(&mut fleet, MANY);
    let before = fleet.account();
    fleet.run_cadences(1);
    fleet.assert_nobody_is_forgotten();
    let after = fleet.account();
    assert_eq!(after.due - before.due, u64::from(MANY), "{after:?}");
    assert_eq!(after.targets, u64::from(MANY));
    let given_up = after.shed + after.stale + after.cancelled;
    assert_eq!(given_up, 0, "{after:?}");
    assert!(fleet.late_max_ms() <= 5, "a turn too late");
    assert_eq!(after.dns.queries, before.dns.queries, "names are cached");
    let bytes = (many - few) / i64::from(MANY - FEW);
    let off = (bytes - BYTES_PER_TARGET).abs() * 100;
    assert!(
        off <= BYTES_PER_TARGET * TOLERANCE_PERCENT,
        "one more target takes {bytes} B, not {BYTES_PER_TARGET}"
    );
}

/// Bytes of heap when `count` targets have been checked.
fn bytes_at(fleet: &mut Fleet, count: u32) -> i64 {
    fleet.grow(count);
    fleet.run_cadences(1);
    fleet.run_ms(1_000);
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}
