//! One way through the table, page by page.

use model::{MonoUs, TargetId};

/// One way through the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) number: u64,
    pub(super) begun: MonoUs,
    /// When its first page is due: what it has read by when is planned from here on.
    pub(super) from: MonoUs,
    pub(super) after: Option<TargetId>,
    pub(super) rows: u64,
    /// Rows that it may find: those that there were, and all that came since. Those that went may
    /// be behind it, and then as many as before are ahead.
    pub(super) expected: u64,
    pub(super) is_hurried: bool,
}
