//! The schedule lag of windows: of every second, and of their calm seconds alone, in which nobody
//! else had the probe CPU. Pure.
//!
//! At 70 % load a core that was stopped for 100 ms needs 230 ms more to catch up: what others take
//! shows in the lag threefold, and tells nothing about the node. No other thread of the node may
//! run on this CPU, so that it cannot excuse itself. What takes a little of every second leaves no
//! calm ones: then every second counts, which can only be worse, and shows something if the bars
//! hold even so.

use std::ops::RangeInclusive;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::bars::{LAG_P99_MAX_MS, LAG_P999_MAX_MS};
use crate::interval_log::{LagInterval, merged};
use crate::taken::TakenLog;

/// How long before a second the CPU must have been left alone too: the time to catch up.
const CATCH_UP_MS: u64 = 1_000;
/// What others may have of a calm second and the one before, together: one tick, which is as fine
/// as the kernel counts a theft.
const TAKEN_MAX_MS: u64 = 10;
/// Calm seconds without which all windows together show nothing.
const CALM_MIN_S: f64 = 30.0;

/// Quantiles of the lag of some seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) checks: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

/// Schedule lag of one window, or of several.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lag {
    #[serde(skip)]
    every_us: Histogram<u64>,
    #[serde(skip)]
    calm_us: Histogram<u64>,
    pub(crate) every: Quantiles,
    pub(crate) calm: Quantiles,
    pub(crate) calm_s: f64,
    pub(crate) watched_s: f64,
    /// How long others had the probe CPU while the core wanted it, in percent of the time.
    pub(crate) taken_percent: f64,
}

impl Lag {
    /// Sorts the intervals of `window` (Unix ms) into calm ones and others.
    ///
    /// # Errors
    /// When the histograms do not fit each other.
    pub(crate) fn of(
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
        let (every_us, calm_us) = (merged(intervals)?, merged(calm.iter().copied())?);
        Ok(Self {
            every: Quantiles::of(&every_us),
            calm: Quantiles::of(&calm_us),
            every_us,
            calm_us,
            // Not `sum`: that of nothing is -0.
            calm_s: calm
                .iter()
                .fold(0.0, |sum, interval| sum + seconds(interval)),
            watched_s: intervals.iter().map(seconds).sum(),
            taken_percent: 100.0 * taken_ms.unwrap_or(0) as f64 / window_ms,
        })
    }

    /// Every check of all windows; `None` of none.
    ///
    /// # Errors
    /// When the histograms do not fit each other.
    pub(crate) fn of_all(windows: &[Self]) -> Result<Option<Self>> {
        let Some((first, others)) = windows.split_first() else {
            return Ok(None);
        };
        let mut all = first.clone();
        for lag in others {
            all.every_us.add(&lag.every_us)?;
            all.calm_us.add(&lag.calm_us)?;
            let taken_s = all.taken_percent * all.watched_s + lag.taken_percent * lag.watched_s;
            all.watched_s += lag.watched_s;
            all.taken_percent = taken_s / all.watched_s;
            all.calm_s += lag.calm_s;
        }
        (all.every, all.calm) = (Quantiles::of(&all.every_us), Quantiles::of(&all.calm_us));
        Ok(Some(all))
    }

    /// Whether too little is calm to be judged by.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.calm_s < CALM_MIN_S
    }

    /// What is judged: the calm seconds, or where they are too few every second.
    pub(crate) fn judged(&self) -> &Quantiles {
        if self.is_disturbed() {
            &self.every
        } else {
            &self.calm
        }
    }

    /// What others left, for people.
    pub(crate) fn disturbance(&self) -> String {
        format!(
            "others had {:.1} % of the probe CPU and left {:.1} calm seconds of {:.0}",
            self.taken_percent, self.calm_s, self.watched_s
        )
    }
}

impl Quantiles {
    /// Whether both bars hold.
    pub(crate) fn holds(&self) -> bool {
        self.p99_ms <= LAG_P99_MAX_MS && self.p999_ms <= LAG_P999_MAX_MS
    }

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
pub(crate) mod testbed {
    use hdrhistogram::Histogram;

    use super::{Lag, Quantiles};

    /// A window of 30 s of which `calm_s` were calm, with a p50 of 2 ms, this p99 and a p99.9 of
    /// 49 ms in every second.
    pub(crate) fn lag(calm_s: f64, p99_ms: u64) -> Lag {
        let mut lag_us = Histogram::new(3).expect("valid");
        for (ms, times) in [(2, 9_800), (p99_ms, 160), (49, 40)] {
            lag_us.record_n(ms * 1_000, times).expect("it grows");
        }
        Lag {
            every: Quantiles::of(&lag_us),
            calm: Quantiles::of(&lag_us),
            every_us: lag_us.clone(),
            calm_us: lag_us,
            calm_s,
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
    fn without_thirty_calm_seconds_in_all_nothing_is_shown() {
        let all = |seconds: &[f64]| {
            let windows: Vec<Lag> = seconds.iter().map(|s| testbed::lag(*s, 3)).collect();
            Lag::of_all(&windows).expect("alike").expect("some")
        };
        assert!(!all(&[2.0, 0.0, 28.0]).is_disturbed());
        let few = all(&[2.0, 27.9]);
        assert!(few.is_disturbed());
        assert_eq!(
            few.disturbance(),
            "others had 0.1 % of the probe CPU and left 29.9 calm seconds of 60"
        );
        assert!(Lag::of_all(&[]).expect("nothing").is_none());
    }

    #[test]
    fn all_windows_together_have_every_check_of_each() {
        let intervals: Vec<_> = (1..=4).map(|s| second(s * 1_000, s * 1_000)).collect();
        let quiet = taken(&[0, 0, 0, 0, 0, 0]);
        let of = |part: &[LagInterval]| {
            let window = part[0].span.0..=part[part.len() - 1].span.1;
            Lag::of(part, &quiet, &window).expect("alike")
        };
        let (first, rest) = intervals.split_at(1);
        let all = Lag::of_all(&[of(first), of(rest)]).expect("alike");
        let (all, whole) = (all.expect("two"), of(&intervals));
        assert_eq!(all.calm.checks, 400);
        let quantiles = |lag: &Lag| {
            [lag.calm.p50_ms, lag.calm.p99_ms, lag.every.p999_ms].map(|ms| (ms * 1e3) as u64)
        };
        assert_eq!(quantiles(&all), quantiles(&whole));
        assert!((all.watched_s - 4.0).abs() < 1e-9 && (all.calm_s - 4.0).abs() < 1e-9);
    }
}
