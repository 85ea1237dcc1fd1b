//! The only place of the farm that reads a clock. Everything else is handed milliseconds.

#![expect(clippy::disallowed_methods, reason = "this is the clock module")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the start of the farm; 32 bits are 49 days.
pub(crate) type FarmMs = u32;

/// A monotonic clock whose zero is the start of the farm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(self) -> FarmMs {
        self.start.elapsed().as_millis() as FarmMs
    }

    /// Microseconds since the start.
    pub(crate) fn now_us(self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

/// CPU time of the calling thread, user and system, in microseconds.
pub(crate) fn thread_cpu_us() -> u64 {
    cpu_us(ClockId::ThreadCPUTime)
}

/// CPU time of the whole process, user and system, in microseconds.
pub(crate) fn process_cpu_us() -> u64 {
    cpu_us(ClockId::ProcessCPUTime)
}

fn cpu_us(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}
