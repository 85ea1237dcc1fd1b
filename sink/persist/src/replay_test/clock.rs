//! The only place of this measurement that reads clocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{MonoUs, Now};
use rustix::time::{ClockId, clock_gettime};

use crate::handle::Clock;
use crate::testbed::START;

/// Time that passed, and that the processors spent in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) passed: Duration,
    pub(super) cpu: Duration,
}

/// Time as it passes, by which the store is given more or less at a time; the date stands still.
#[allow(clippy::disallowed_methods)] // This module is the clock.
pub(super) fn real() -> Clock {
    let started = Instant::now();
    Arc::new(move || Now {
        mono: MonoUs(started.elapsed().as_micros() as u64),
        unix: START,
    })
}

/// Runs `work` and says what it took.
#[allow(clippy::disallowed_methods)] // This module is the clock.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (T, Spent) {
    let (started, cpu_before) = (Instant::now(), cpu());
    let done = work.await;
    let spent = Spent {
        passed: started.elapsed(),
        cpu: cpu().saturating_sub(cpu_before),
    };
    (done, spent)
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
