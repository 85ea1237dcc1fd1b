//! The only place of the engine that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::{MonoUs, Now, UnixMs};

/// Reads both clocks. Made once per process and copied to every thread, so that all cores share
/// one monotonic zero and one grid.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    /// Wall time at `zero`: the schedule's grid runs on from here, whatever the wall clock does.
    grid_zero: UnixMs,
}

#[allow(clippy::disallowed_methods)] // This module is the clock.
impl Clock {
    /// A clock whose monotonic zero is now.
    pub fn start() -> Self {
        Self {
            zero: Instant::now(),
            grid_zero: wall(),
        }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            unix: wall(),
        }
    }

    /// The monotonic clock alone.
    pub fn mono(&self) -> MonoUs {
        MonoUs(u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Wall time at the monotonic zero: where the grid of phases starts.
    pub fn grid_zero(&self) -> UnixMs {
        self.grid_zero
    }
}

#[allow(clippy::disallowed_methods)] // This module is the clock.
fn wall() -> UnixMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
