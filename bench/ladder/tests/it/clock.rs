//! The only place of these tests that reads a clock.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How much longer than `nap` it took to wait for `nap`; `None` once the other end is gone.
#[allow(clippy::disallowed_methods)] // This module is the clock.
pub(crate) fn overslept(ended: &Receiver<()>, nap: Duration) -> Option<Duration> {
    let asleep = Instant::now();
    let woken = ended.recv_timeout(nap);
    (woken == Err(RecvTimeoutError::Timeout)).then(|| asleep.elapsed().saturating_sub(nap))
}
