//! The farm's own health: connections, DNS answers, loop lag, CPU time. One writer, plain
//! atomics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A counter or gauge with one writer.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        // ORDERING: a gauge publishes nothing but itself.
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, more: u64) {
        self.set(self.get() + more);
    }
}

/// Steps per power of two: a quantile is at most 1/8 too high.
const STEPS: u64 = 8;
/// Buckets that cover every `u64`.
const BUCKETS: usize = 64 * STEPS as usize;

/// A histogram of microseconds.
#[derive(Debug)]
pub(crate) struct Histogram(Vec<Gauge>);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self((0..BUCKETS).map(|_| Gauge::default()).collect())
    }

    pub(crate) fn record(&self, value: u64) {
        self.0[bucket(value)].add(1);
    }

    /// How often each bucket was hit, for a later [`Histogram::since`].
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.0.iter().map(Gauge::get).collect()
    }

    /// The upper edges of the buckets at these quantiles (0 to 1), over what was recorded after
    /// `before`; 0 when that is nothing.
    pub(crate) fn since<const N: usize>(&self, before: &[u64], quantiles: [f64; N]) -> [u64; N] {
        let counts: Vec<u64> = self
            .counts()
            .iter()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect();
        let total: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            let rank = ((total as f64 * quantile).ceil() as u64).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(0, upper_edge)
        })
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let exponent = u64::from(value.ilog2());
    let mantissa = (value >> (exponent - 3)) & (STEPS - 1);
    ((exponent - 2) * STEPS + mantissa) as usize
}

/// The largest value of a bucket.
fn upper_edge(bucket: usize) -> u64 {
    let (row, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if row == 0 {
        return step;
    }
    let low = (STEPS + step) << (row - 1);
    low + ((1 << (row - 1)) - 1)
}

/// Every gauge of the serving thread.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// Asks the serving thread to end.
    pub(crate) stop: AtomicBool,
    pub(crate) accepted: Gauge,
    pub(crate) accept_errors: Gauge,
    pub(crate) open_connections: Gauge,
    pub(crate) silent_connections: Gauge,
    /// Connections closed before their time because there were too many.
    pub(crate) evicted: Gauge,
    pub(crate) tls_handshakes: Gauge,
    pub(crate) tls_errors: Gauge,
    /// DNS answers by response code, 0 to 15; and queries left unanswered.
    pub(crate) dns_answers: [Gauge; 16],
    pub(crate) dns_dropped: Gauge,
    pub(crate) thread_cpu_us: Gauge,
    /// How much later than planned each tick ran, in µs.
    pub(crate) loop_lag_us: Histogram,
}

impl Gauges {
    pub(crate) fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            accepted: Gauge::default(),
            accept_errors: Gauge::default(),
            open_connections: Gauge::default(),
            silent_connections: Gauge::default(),
            evicted: Gauge::default(),
            tls_handshakes: Gauge::default(),
            tls_errors: Gauge::default(),
            dns_answers: std::array::from_fn(|_| Gauge::default()),
            dns_dropped: Gauge::default(),
            thread_cpu_us: Gauge::default(),
            loop_lag_us: Histogram::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for value in (0..5_000).chain([1 << 40, u64::MAX]) {
            let edge = upper_edge(bucket(value));
            assert!(edge >= value && edge - value <= value / 8, "{value} {edge}");
        }
        for index in 0..400 {
            assert_eq!(bucket(upper_edge(index)), index);
            assert_eq!(bucket(upper_edge(index) + 1), index + 1);
        }
    }

    #[test]
    fn quantiles_look_only_at_what_came_after() {
        let lag = Histogram::new();
        lag.record(1_000_000);
        let before = lag.counts();
        assert_eq!(lag.since(&before, [0.5, 1.0]), [0, 0]);
        for value in 1..=100 {
            lag.record(value);
        }
        let [p50, p99, max] = lag.since(&before, [0.5, 0.99, 1.0]);
        assert!(
            (50..=57).contains(&p50) && (99..=112).contains(&p99),
            "{p50} {p99}"
        );
        assert!((100..=112).contains(&max), "{max}");
    }
}
