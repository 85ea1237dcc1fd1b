//! Ticks of the loop, as the wheels count them: monotonic time in steps of 5 ms, wrapped at 2³².

use model::MonoUs;
use model::limits::TICK_MS;

/// The tick that contains `at`.
pub(crate) fn tick_at(at: MonoUs) -> u32 {
    (at.0 / (TICK_MS * 1_000)) as u32
}

/// The first tick at or after `at`.
pub(crate) fn tick_after(at: MonoUs) -> u32 {
    at.0.div_ceil(TICK_MS * 1_000) as u32
}

/// Start of `tick` in monotonic µs, near `now`: ticks wrap, time does not.
pub(crate) fn tick_start(tick: u32, now: MonoUs) -> MonoUs {
    let behind = tick_at(now).wrapping_sub(tick);
    let current = now.0 / (TICK_MS * 1_000);
    MonoUs(current.saturating_sub(u64::from(behind)) * TICK_MS * 1_000)
}
