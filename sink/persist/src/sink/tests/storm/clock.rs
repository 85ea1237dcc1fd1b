//! The only place of the storm that reads a clock: that of the processor, which stands still while
//! others run.

use rustix::time::{ClockId, clock_gettime};

/// Runs `work`; what the processor spent on it in this thread, in µs.
pub(super) fn charged(work: impl FnOnce()) -> u64 {
    let before = thread_us();
    work();
    thread_us() - before
}

fn thread_us() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}
