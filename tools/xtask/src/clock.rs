//! The only place of this crate that reads a clock: how long a step took.

use std::time::{Duration, Instant};

/// Runs `step` and says how long it took.
#[allow(clippy::disallowed_methods)] // This module is the clock.
pub(crate) fn timed<T>(step: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = step();
    (value, start.elapsed())
}
