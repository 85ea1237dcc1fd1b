//! The only place of this measurement that reads clocks.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time that passed, and that the processors spent in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) passed: Duration,
    pub(super) cpu: Duration,
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
