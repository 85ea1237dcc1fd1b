//! Counts of one baseline child over its measured window, and the line in which it reports them.

use std::cell::Cell;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Stopwatch};

/// What a child measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Checks that ended in the window.
    pub(crate) checks: u64,
    /// Of these, checks that failed.
    pub(crate) failed: u64,
    /// Length of the window, in seconds.
    pub(crate) seconds: f64,
    /// CPU of the thing measured, in seconds.
    pub(crate) cpu_s: f64,
    /// CPU of its whole process, in seconds.
    pub(crate) process_s: f64,
}

impl Sample {
    /// CPU per check, in µs.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_s * 1e6 / self.checks.max(1) as f64
    }

    /// CPU of the whole process per check, in µs.
    pub(crate) fn process_us(&self) -> f64 {
        self.process_s * 1e6 / self.checks.max(1) as f64
    }

    /// Checks per second.
    pub(crate) fn rate(&self) -> f64 {
        self.checks as f64 / self.seconds.max(1e-9)
    }
}

/// Counters of one thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ended: Cell<u64>,
    failed: Cell<u64>,
}

impl Tally {
    /// One check ended.
    pub(super) fn count(&self, succeeded: bool) {
        self.ended.set(self.ended.get() + 1);
        self.failed.set(self.failed.get() + u64::from(!succeeded));
    }

    /// Opens a window.
    pub(super) fn mark(&self) -> Mark {
        let (ended, failed) = (self.ended.get(), self.failed.get());
        Mark {
            ended,
            failed,
            cpu: clock::own_cpu(),
            at: Stopwatch::start(),
        }
    }
}

/// The start of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    ended: u64,
    failed: u64,
    cpu: Duration,
    at: Stopwatch,
}

impl Mark {
    /// Closes the window now.
    pub(super) fn close(&self, tally: &Tally) -> Sample {
        let seconds = self.at.seconds();
        let cpu_s = clock::own_cpu().saturating_sub(self.cpu).as_secs_f64();
        let checks = tally.ended.get() - self.ended;
        let failed = tally.failed.get() - self.failed;
        Sample {
            checks,
            failed,
            seconds,
            cpu_s,
            process_s: cpu_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_only_what_ended_in_it() {
        let tally = Tally::default();
        tally.count(false);
        let mark = tally.mark();
        tally.count(true);
        tally.count(false);
        let sample = mark.close(&tally);
        assert_eq!((sample.checks, sample.failed), (2, 1));
    }

    #[test]
    fn cpu_is_per_check() {
        let sample = Sample {
            checks: 100,
            failed: 0,
            seconds: 2.0,
            cpu_s: 0.005,
            process_s: 0.01,
        };
        assert!((sample.cpu_us() - 50.0).abs() < 1e-9);
        assert!((sample.process_us() - 100.0).abs() < 1e-9);
        assert!((sample.rate() - 50.0).abs() < 1e-9);
    }
}
