//! How many checks may start: a token bucket by wall clock and a cap of attempts in flight that
//! follows our own health only, never the latency of others.

use model::MonoUs;
use model::limits::CATCH_UP_FACTOR;

/// Tokens are kept in millionths.
const TOKEN: u64 = 1_000_000;
/// A quiet fleet may start this many checks at once: phases of few targets do collide.
const BURST_MIN: u64 = 64;
/// The bucket holds this share of a second at the catch-up rate.
const BURST_DIVISOR: u64 = 10;
/// The cap never falls below this, unless it is configured below.
const LIMIT_MIN: u32 = 64;
/// The cap is adapted this often, in µs.
const ADAPT_US: u64 = 1_000_000;

/// The admission of one core.
#[derive(Debug)]
pub(crate) struct Admission {
    tokens: u64,
    refilled: MonoUs,
    limit: u32,
    limit_max: u32,
    adapted: MonoUs,
    unwell: bool,
}

impl Admission {
    /// A full bucket, and a cap of `limit_max` attempts in flight.
    pub(crate) fn new(limit_max: u32, now: MonoUs) -> Self {
        let limit_max = limit_max.max(1);
        Self {
            tokens: BURST_MIN * TOKEN,
            refilled: now,
            limit: limit_max,
            limit_max,
            adapted: now,
            unwell: false,
        }
    }

    /// Attempts that may be in flight now.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Adds the tokens of the time since the last call: twice the required rate (in checks per
    /// 10⁹ s), so that a backlog melts and never becomes a burst.
    pub(crate) fn refill(&mut self, required_per_gs: u64, now: MonoUs) {
        let per_s = required_per_gs.saturating_mul(CATCH_UP_FACTOR) / (1_000_000_000 / TOKEN);
        let burst = (per_s / BURST_DIVISOR).max(BURST_MIN * TOKEN);
        let elapsed_us = now.since(self.refilled).min(1_000_000);
        let idle = BURST_MIN * elapsed_us; // A fleet of few targets still gets 64 starts a second.
        let gained = (u128::from(per_s) * u128::from(elapsed_us) / 1_000_000) as u64;
        self.tokens = (self.tokens + gained.max(idle)).min(burst);
        self.refilled = now;
    }

    /// Whether one check more may start.
    pub(crate) fn has_token(&self) -> bool {
        self.tokens >= TOKEN
    }

    /// Takes a token.
    pub(crate) fn take(&mut self) {
        self.tokens = self.tokens.saturating_sub(TOKEN);
    }

    /// Says that the core is unwell: it stalled, holds results, or lacks files or memory.
    pub(crate) fn report_unwell(&mut self) {
        self.unwell = true;
    }

    /// Once a second: fewer in flight after an unwell second (× 0.7), slowly more after a good one.
    pub(crate) fn adapt(&mut self, now: MonoUs) {
        if now.since(self.adapted) < ADAPT_US {
            return;
        }
        self.adapted = now;
        self.limit = if std::mem::take(&mut self.unwell) {
            (self.limit / 10 * 7).max(LIMIT_MIN.min(self.limit_max))
        } else {
            (self.limit + self.limit_max / 50 + 1).min(self.limit_max)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_caught_up_at_twice_the_rate_and_never_at_once() {
        let required_per_gs = 1_000 * 1_000_000_000; // 1,000 checks a second
        let mut admission = Admission::new(10_000, MonoUs(0));
        let mut started = 0;
        for tick in 1..=200u64 {
            admission.refill(required_per_gs, MonoUs(60_000_000 + tick * 5_000));
            while admission.has_token() {
                admission.take();
                started += 1;
            }
        }
        // One second at 2,000/s, plus the bucket that the pause had filled.
        assert!((2_000..=2_250).contains(&started), "{started}");
    }

    #[test]
    fn an_unwell_core_has_fewer_in_flight_and_recovers() {
        let mut admission = Admission::new(1_000, MonoUs(0));
        for second in 1..=3 {
            admission.report_unwell();
            admission.adapt(MonoUs(second * 1_000_000));
        }
        assert_eq!(admission.limit(), 343);
        for second in 4..=200 {
            admission.adapt(MonoUs(second * 1_000_000));
        }
        assert_eq!(admission.limit(), 1_000);
    }
}
