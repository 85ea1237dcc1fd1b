//! One way through a table by counts of ids: how many rows at once, and how often.

use model::TargetId;
use model::limits::LEGACY_PAGE_MAX;

use super::SLICES;

/// One way through the table by counts of ids.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Rows that there were when it began.
    pub(super) rows: u64,
    pub(super) counted: u64,
    pub(super) after: Option<TargetId>,
}

impl Round {
    /// Rows of one count: a tenth of the table, or what can be read at once.
    pub(super) fn limit(&self) -> u64 {
        let tenth = (self.rows + 1).div_ceil(u64::from(SLICES));
        tenth.min(LEGACY_PAGE_MAX as u64)
    }

    /// From one count to the next, where it is `us` for a tenth of the table.
    pub(super) fn every_us(&self, us: u64) -> u64 {
        (us * self.limit() * u64::from(SLICES) / (self.rows + 1)).min(us)
    }

    /// More rows than it was planned for are there: it would take too long.
    pub(super) fn is_too_long(&self) -> bool {
        self.counted > self.rows + 2 * self.limit()
    }
}
