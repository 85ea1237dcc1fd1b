//! How much the store is given in one transaction: a batch where all is well, more where facts wait
//! and the store is quick: of an incident that opens and ends within one offer it writes one row,
//! and not one for each transition. A transaction keeps the row of the node locked, for which a
//! renewal of the lease waits, so it must be a short one.

use model::limits::{APPLY_FACTS_MAX, APPLY_HOLD_MS, APPLY_MAX_BYTES, BATCH_MAX};

/// A quick store is given so many times as much the next time, at most.
const GROWTH_MAX: usize = 4;

/// Facts of the next offer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width(usize);

impl Default for Width {
    fn default() -> Self {
        Self(BATCH_MAX)
    }
}

impl Width {
    /// Between [`BATCH_MAX`] and [`APPLY_FACTS_MAX`].
    pub(super) fn facts_max(self) -> usize {
        self.0
    }

    /// The same of the offer after it, at most.
    pub(super) fn next_facts_max(self) -> usize {
        (self.0 * GROWTH_MAX).min(APPLY_FACTS_MAX)
    }

    /// Whether so much may be given at a time. One batch may always be as large as it is.
    pub(super) fn holds(self, facts: usize, bytes: usize) -> bool {
        facts <= BATCH_MAX || (facts <= self.0 && bytes <= APPLY_MAX_BYTES)
    }

    /// How many times as much as took so long is short all the same.
    fn growth(ms: u64) -> usize {
        [GROWTH_MAX, 2]
            .into_iter()
            .find(|times| ms * *times as u64 <= APPLY_HOLD_MS)
            .unwrap_or(1)
    }

    /// What may be given after an offer of `facts` that took `ms`, or was not taken.
    pub(super) fn after(self, facts: usize, ms: u64, taken: bool) -> Self {
        let facts_max = match taken {
            false => BATCH_MAX,
            true if ms > APPLY_HOLD_MS => self.0 / 2,
            // Of small ones nothing is learnt.
            true if facts <= self.0 / 2 => self.0,
            true => self.0 * Self::growth(ms),
        };
        Self(facts_max.clamp(BATCH_MAX, APPLY_FACTS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_given_while_the_store_is_quick_and_less_once_it_is_not() {
        let mut width = Width::default();
        width = width.after(BATCH_MAX / 2, 1, true);
        assert_eq!(width, Width::default(), "of a small one nothing is learnt");
        for (ms, batches) in [
            (APPLY_HOLD_MS / 4, 4),
            (APPLY_HOLD_MS / 4 + 1, 8),
            (APPLY_HOLD_MS / 2, 16),
            (APPLY_HOLD_MS / 2 + 1, 16),
            (1, 32),
            (1, 32),
        ] {
            let next_max = width.next_facts_max();
            width = width.after(width.facts_max(), ms, true);
            assert_eq!(width.facts_max(), batches * BATCH_MAX);
            assert!(width.facts_max() <= next_max, "as much as is read ahead");
        }
        width = width.after(APPLY_FACTS_MAX, APPLY_HOLD_MS, true);
        assert_eq!(width.facts_max(), APPLY_FACTS_MAX, "twice would be long");
        for expected in [16, 8, 4, 2, 1, 1].map(|batches| batches * BATCH_MAX) {
            assert_eq!(width.after(1, 1, false), Width::default());
            width = width.after(1, APPLY_HOLD_MS + 1, true);
            assert_eq!(width.facts_max(), expected, "never less than one batch");
        }
    }

    #[test]
    fn large_facts_are_given_a_batch_at_a_time() {
        let wide = Width(APPLY_FACTS_MAX);
        assert!(wide.holds(APPLY_FACTS_MAX, APPLY_MAX_BYTES));
        assert!(!wide.holds(APPLY_FACTS_MAX + 1, 0) && !wide.holds(BATCH_MAX + 1, usize::MAX));
        assert!(wide.holds(BATCH_MAX, usize::MAX));
    }
}
