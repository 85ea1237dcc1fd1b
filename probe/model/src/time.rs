//! Time as data: nothing here reads a clock; `Now` is passed in by a shell.

use serde::{Deserialize, Serialize};

/// Microseconds on a monotonic clock whose zero is the start of the process (or of a simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoUs(pub u64);

impl MonoUs {
    /// Microseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0 + ms * 1_000)
    }

    /// This instant plus `us` microseconds.
    #[must_use]
    pub fn plus_us(self, us: u64) -> Self {
        Self(self.0 + us)
    }
}

/// Milliseconds since the Unix epoch, UTC, on the live wall clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0 + ms)
    }
}

/// One reading of both clocks, taken together by a shell and handed to a pure core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Orders and measures.
    pub mono: MonoUs,
    /// Is stored and shown; may jump.
    pub unix: UnixMs,
}
