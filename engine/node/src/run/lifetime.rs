//! Histograms of one core since the start: buckets for metrics, percentiles for `status`.

use cores::CoreHistograms;
use hdrhistogram::Histogram;

/// Upper bounds of the metric buckets, in µs; one more has none.
pub(crate) const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Counts by bucket, not cumulative, as a Prometheus histogram needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    /// One count per bound of [`BOUNDS_US`], then the rest.
    pub(crate) counts: [u64; BOUNDS_US.len() + 1],
    /// Sum of all values, in µs (each to three digits).
    pub(crate) sum_us: u64,
}

impl Buckets {
    /// Adds a finished interval.
    fn absorb(&mut self, histogram: &Histogram<u64>) {
        for value in histogram.iter_recorded() {
            // Three digits: the lowest value of the cell keeps round bounds in their own bucket.
            let us = histogram.lowest_equivalent(value.value_iterated_to());
            self.counts[BOUNDS_US.partition_point(|&bound| bound < us)] +=
                value.count_since_last_iteration();
            self.sum_us += us * value.count_since_last_iteration();
        }
    }
}

/// One core's histograms.
#[derive(Debug)]
pub(crate) struct Lifetime {
    /// In the order of `Phases::NAMES`.
    pub(crate) phases: [Buckets; 6],
    /// Schedule lag.
    pub(crate) lag: Buckets,
    /// Reap delay.
    pub(crate) reap: Buckets,
    /// Loop lag.
    pub(crate) loop_lag: Buckets,
    lag_all: Histogram<u64>,
    lag_recent: Histogram<u64>,
    loop_recent: Histogram<u64>,
}

impl Lifetime {
    /// Nothing measured.
    pub(crate) fn new() -> Self {
        Self {
            phases: Default::default(),
            lag: Buckets::default(),
            reap: Buckets::default(),
            loop_lag: Buckets::default(),
            lag_all: histogram(),
            lag_recent: histogram(),
            loop_recent: histogram(),
        }
    }

    /// Adds a finished interval.
    pub(crate) fn absorb(&mut self, set: &CoreHistograms) {
        for (buckets, histogram) in self.phases.iter_mut().zip(&set.phases) {
            buckets.absorb(histogram);
        }
        self.lag.absorb(&set.schedule_lag);
        self.reap.absorb(&set.reap);
        self.loop_lag.absorb(&set.loop_lag);
        self.lag_all
            .add(&set.schedule_lag)
            .expect("a histogram that grows takes every value");
        self.lag_recent.clone_from(&set.schedule_lag);
        self.loop_recent.clone_from(&set.loop_lag);
    }

    /// Schedule lag since the start.
    pub(crate) fn lag_all(&self) -> &Histogram<u64> {
        &self.lag_all
    }

    /// Schedule lag of the last interval.
    pub(crate) fn recent_lag(&self) -> &Histogram<u64> {
        &self.lag_recent
    }

    /// Loop lag of the last interval.
    pub(crate) fn recent_loop_lag(&self) -> &Histogram<u64> {
        &self.loop_recent
    }
}

/// An empty histogram that grows as needed.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 digits are valid")
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::*;
    use crate::report::testbed::interval;

    #[test]
    fn buckets_hold_every_value_once() {
        let mut lifetime = Lifetime::new();
        lifetime.absorb(&interval(0, UnixMs(1_000), 200));
        lifetime.absorb(&interval(0, UnixMs(11_000), 200));
        let total = &lifetime.phases[5];
        assert_eq!(total.counts.iter().sum::<u64>(), 400);
        // 1 ms is in the bucket of the bound 1,000 µs; 101..=200 ms in that of 250 ms.
        assert_eq!((total.counts[3], total.counts[10]), (2, 200));
        assert_eq!(lifetime.phases[0].counts.iter().sum::<u64>(), 0);
        assert_eq!(
            (lifetime.lag_all().len(), lifetime.recent_lag().len()),
            (400, 200)
        );
    }
}
