//! The only place of this example that reads a clock.

use std::time::Instant;

/// Now.
#[allow(clippy::disallowed_methods)] // This module is the clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}
