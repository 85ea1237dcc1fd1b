//! The schedule lag of one window: of every second, and of its calm seconds alone, in which nobody
//! else had the probe CPU. Pure.
//!
//! At 70 % load a core that was stopped for 100 ms needs 230 ms more to catch up: what others take
//! shows in the lag threefold, and tells nothing about the node. No other thread of the node may
//! run on this CPU, so that it cannot excuse itself; what takes a little of every second leaves no
//! calm ones, and shows nothing.

use std::ops::RangeInclusive;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::interval_log::{LagInterval, merged};
use crate::taken::TakenLog;

/// How long before a second the CPU must have been left alone too: the time to catch up.
const CATCH_UP_MS: u64 = 1_000;
/// What others may have of a calm second and the one before, together: one tick, which is as fine
/// as the kernel counts a theft.
const TAKEN_MAX_MS: u64 = 10;
/// Calm seconds without which a window shows nothing.
const CALM_MIN_S: f64 = 10.0;

/// Quantiles of the lag of some seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(super) checks: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
}

/// Schedule lag of one window.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Lag {
    pub(super) every: Quantiles,
    pub(super) calm: Quantiles,
    pub(super) calm_s: f64,
    pub(super) watched_s: f64,
    /// How long others had the probe CPU while the core wanted it, in percent of the time.
    pub(super) taken_percent: f64,
}

impl Lag {
    /// Sorts the intervals of `window` (Unix ms) into calm ones and others.
    ///
    /// # Errors
    /// When the histograms do not fit each other.
    pub(super) fn of(
        intervals: &[LagInterval],
        taken: &TakenLog,
        window: &RangeInclusive<u64>,
    ) -> Result<Self> {
        let is_calm = |interval: &&LagInterval| {
            let (from_ms, to_ms) = interval.span;
            let taken_ms = taken.taken_ms(from_ms.saturating_sub(CATCH_UP_MS), to_ms);
            taken_ms.is_some_and(|ms| ms <= TAKEN_MAX_MS)
        };
        let calm: Vec<&LagInterval> = intervals.iter().filter(is_calm).collect();
        let seconds = |interval: &LagInterval| (interval.span.1 - interval.span.0) as f64 / 1_000.0;
        let taken_ms = taken.taken_ms(*window.start(), *window.end());
        let window_ms = window.end().saturating_sub(*window.start()).max(1) as f64;
        Ok(Self {
            every: Quantiles::of(&merged(intervals)?),
            // Not `sum`: that of nothing is -0.
            calm_s: calm
                .iter()
                .fold(0.0, |sum, interval| sum + seconds(interval)),
            calm: Quantiles::of(&merged(calm)?),
            watched_s: intervals.iter().map(seconds).sum(),
            taken_percent: 100.0 * taken_ms.unwrap_or(0) as f64 / window_ms,
        })
    }

    /// Whether too little of the window is calm to show anything.
    pub(super) fn is_disturbed(&self) -> bool {
        self.calm_s < CALM_MIN_S
    }

    /// What others left of the window, for people.
    pub(super) fn disturbance(&self) -> String {
        format!(
            "others had {:.1} % of the probe CPU and left {:.1} calm seconds of {:.0}",
            self.taken_percent, self.calm_s, self.watched_s
        )
    }
}

impl Quantiles {
    fn of(lag_us: &Histogram<u64>) -> Self {
        let ms = |quantile| lag_us.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            checks: lag_us.len(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
        }
    }
}

#[cfg(test)]
pub(super) mod testbed {
    use super::{Lag, Quantiles};

    /// A calm window of 30 s with this p99.
    pub(crate) fn lag(p99_ms: f64) -> Lag {
        let quantiles = Quantiles {
            checks: 500_000,
            p50_ms: 2.0,
            p99_ms,
            p999_ms: 50.0,
        };
        Lag {
            every: quantiles,
            calm: quantiles,
            calm_s: 30.0,
            watched_s: 30.0,
            taken_percent: 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taken::testbed::log;

    fn second(start_ms: u64, lag_us: u64) -> LagInterval {
        let mut lag = Histogram::new(3).expect("valid");
        lag.record_n(lag_us, 100).expect("it grows");
        LagInterval {
            span: (start_ms, start_ms + 1_000),
            lag,
        }
    }

    /// Readings every second; `taken` ms in the one that ends at each index.
    fn taken(taken: &[u64]) -> TakenLog {
        let mut total = 0;
        let reading = |(at, ms): (usize, &u64)| {
            total += ms;
            (at as u64 * 1_000, total)
        };
        log(&taken.iter().enumerate().map(reading).collect::<Vec<_>>())
    }

    #[test]
    fn a_second_with_others_in_it_or_before_it_is_not_calm() {
        let intervals: Vec<_> = (1..=6).map(|s| second(s * 1_000, s * 1_000)).collect();
        // 80 ms were taken between second 3 and 4.
        let taken = taken(&[0, 0, 0, 0, 80, 0, 0, 0]);
        let lag = Lag::of(&intervals, &taken, &(1_000..=7_000)).expect("alike");
        assert_eq!(lag.every.checks, 600);
        // It is in the second from 3 to 4, and the one after catches up.
        assert_eq!(lag.calm.checks, 400);
        assert!((lag.calm_s - 4.0).abs() < 1e-9);
        assert!((lag.calm.p50_ms - 2.0).abs() < 0.01, "1, 2, 5 and 6 ms");
        assert!((lag.taken_percent - 8.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_tick_is_calm_and_two_are_not() {
        let intervals = [second(1_000, 5)];
        let calm_s = |ms: &[u64]| {
            let lag = Lag::of(&intervals, &taken(ms), &(1_000..=2_000)).expect("alike");
            lag.calm_s
        };
        assert!((calm_s(&[0, 10, 0]) - 1.0).abs() < 1e-9);
        assert!(calm_s(&[0, 10, 10]).abs() < 1e-9 && calm_s(&[0, 10, 10]).is_sign_positive());
        assert!(calm_s(&[0, 0]).abs() < 1e-9, "not watched to its end");
    }

    #[test]
    fn a_window_without_ten_calm_seconds_shows_nothing() {
        let few = Lag {
            calm_s: 9.9,
            taken_percent: 12.34,
            ..testbed::lag(3.0)
        };
        assert!(few.is_disturbed() && !testbed::lag(3.0).is_disturbed());
        assert_eq!(
            few.disturbance(),
            "others had 12.3 % of the probe CPU and left 9.9 calm seconds of 30"
        );
    }
}
