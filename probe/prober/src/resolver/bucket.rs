//! The cap on queries: a token bucket on the caller's clock.
//!
//! A name begins to be asked for when there is a token. Later queries of the same name do not
//! wait: they take tokens that are not there yet, and the names that have yet to begin pay.

use model::MonoUs;

/// Millionths of a token.
const TOKEN: i64 = 1_000_000;
/// Fewest tokens of a full bucket.
const BURST_MIN: u64 = 16;

/// Tokens for queries; a full bucket holds those of a tenth of a second.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u32,
    burst: i64,
    level: i64,
    at: MonoUs,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_s: u32) -> Self {
        let per_s = per_s.max(1);
        let burst = u64::from(per_s / 10).max(BURST_MIN) as i64 * TOKEN;
        Self {
            per_s,
            burst,
            level: burst,
            at: MonoUs(0),
        }
    }

    /// Adds what has come since the last time.
    pub(super) fn refill(&mut self, now: MonoUs) {
        // A whole second fills any bucket; a token has as many millionths as a second has µs.
        let passed_us = now.since(self.at).min(1_000_000) as i64;
        let filled = self.level + passed_us * i64::from(self.per_s);
        self.level = filled.min(self.burst);
        self.at = self.at.max(now);
    }

    /// Whether a name may begin to be asked for.
    pub(super) fn has_token(&self) -> bool {
        self.level >= TOKEN
    }

    /// A query is sent. The debt is bounded: it never outlasts a tenth of a second.
    pub(super) fn take(&mut self) {
        self.level = (self.level - TOKEN).max(-self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_begin_than_the_rate_and_one_burst_allow() {
        let mut bucket = Bucket::new(1_000);
        let mut begun = 0;
        for ms in 0..10_000 {
            bucket.refill(MonoUs(ms * 1_000));
            while bucket.has_token() {
                bucket.take();
                begun += 1;
            }
        }
        assert_eq!(begun, 100 + 9_999);
    }

    #[test]
    fn a_debt_is_paid_before_the_next_begins_and_has_an_end() {
        let mut bucket = Bucket::new(100);
        for _ in 0..10_000 {
            bucket.take();
        }
        bucket.refill(MonoUs(160_000));
        assert!(!bucket.has_token(), "16 tokens of debt");
        bucket.refill(MonoUs(170_000));
        assert!(bucket.has_token());
        bucket.refill(MonoUs(0));
        assert!(
            bucket.has_token(),
            "a clock that stands still takes nothing"
        );
    }
}
