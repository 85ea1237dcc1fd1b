//! How many targets are refused: lines of the last list and rows of the store now, and all of them
//! since the start. Must not know why, nor who is told.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of refused targets; written by the control plane, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    total: AtomicU64,
    /// Of the list that was imported last.
    lines: AtomicU64,
    /// Ids of the rows of the store that are no valid target: as many as the store has at most.
    rows: Mutex<HashSet<i64>>,
}

impl Refusals {
    /// A list was imported but for `lines` of it; what earlier lists said is the past.
    pub(crate) fn list(&self, lines: u64) {
        self.total.fetch_add(lines, Ordering::Relaxed);
        self.lines.store(lines, Ordering::Relaxed);
    }

    /// Rows of the store were read: the ids of the `bad` ones and of the `good` ones.
    pub(crate) fn rows(
        &self,
        bad: impl ExactSizeIterator<Item = i64>,
        good: impl Iterator<Item = i64>,
    ) {
        self.total.fetch_add(bad.len() as u64, Ordering::Relaxed);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if !rows.is_empty() {
            for id in good {
                rows.remove(&id);
            }
        }
        rows.extend(bad);
    }

    /// Refused as things are now.
    pub(crate) fn now(&self) -> u64 {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        self.lines.load(Ordering::Relaxed) + rows.len() as u64
    }

    /// Refused since the start, each time that they were.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_right_is_refused_no_longer_but_stays_counted() {
        let refusals = Refusals::default();
        let counts = || (refusals.now(), refusals.total());
        refusals.list(5);
        refusals.rows([7, 8].into_iter(), [1, 2].into_iter());
        assert_eq!(counts(), (7, 7));
        // The same row again, in another wrong way; then right.
        refusals.rows([8].into_iter(), [].into_iter());
        assert_eq!(counts(), (7, 8));
        refusals.rows([].into_iter(), [8, 9].into_iter());
        assert_eq!(counts(), (6, 8));
        refusals.list(0);
        assert_eq!(counts(), (1, 8));
    }
}
