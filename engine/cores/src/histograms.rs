//! HDR histograms of one core: one per phase, schedule lag, reap delay and loop lag, exact per
//! interval.

use hdrhistogram::Histogram;
use model::outcome::Phases;
use model::{CoreIndex, UnixMs};

/// Largest value kept apart, in µs: a value above it is counted as this.
const HIGHEST_US: u64 = 120_000_000;
/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Everything a core measured in one interval. Values are µs.
#[derive(Clone, Debug)]
pub struct CoreHistograms {
    /// Whose.
    pub core: CoreIndex,
    /// Start of the interval.
    pub start: UnixMs,
    /// End of the interval; equals `start` while it is being filled.
    pub end: UnixMs,
    /// In the order of [`Phases::NAMES`]; a phase that was not reached is not recorded.
    pub phases: [Histogram<u64>; 6],
    /// Start of a check minus its due time.
    pub schedule_lag: Histogram<u64>,
    /// How long the end of a check may have waited for the core to look.
    pub reap: Histogram<u64>,
    /// How much longer than a tick a loop turn took.
    pub loop_lag: Histogram<u64>,
}

impl CoreHistograms {
    /// Empty histograms of an interval that starts at `start`.
    pub fn new(core: CoreIndex, start: UnixMs) -> Self {
        Self {
            core,
            start,
            end: start,
            phases: std::array::from_fn(|_| histogram()),
            schedule_lag: histogram(),
            reap: histogram(),
            loop_lag: histogram(),
        }
    }

    /// Records one finished check.
    pub fn record(&mut self, phases: &Phases, lag_us: u32, reap_us: u32) {
        for (histogram, value) in self.phases.iter_mut().zip(phases.values()) {
            if let Some(us) = value {
                histogram.saturating_record(u64::from(us));
            }
        }
        self.schedule_lag.saturating_record(u64::from(lag_us));
        self.reap.saturating_record(u64::from(reap_us));
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_US, DIGITS)
        .expect("1..2 min at 3 digits is a valid range")
}

#[cfg(test)]
mod tests {
    use model::outcome::PHASE_ABSENT;

    use super::*;

    #[test]
    fn an_absent_phase_is_not_a_zero() {
        let mut set = CoreHistograms::new(CoreIndex(0), UnixMs(5));
        let phases = Phases {
            connect_us: 300,
            tls_us: PHASE_ABSENT,
            ..Phases::NONE
        };
        set.record(&phases, 7, 9);
        let counts: Vec<u64> = set.phases.iter().map(Histogram::len).collect();
        assert_eq!(counts, [0, 1, 0, 0, 0, 0]);
        assert_eq!((set.schedule_lag.max(), set.reap.max()), (7, 9));
    }
}
