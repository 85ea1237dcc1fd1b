//! What waits to be read: its kinds, and what is kept of rows whose count was not ours.

use std::collections::VecDeque;

use model::TargetId;
use model::limits::LEGACY_IDS_PER_READ;

/// Kinds of readings, in the order in which they go.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Urgent,
    Bucket,
    Tally,
    Edited,
    Page,
}

impl What {
    pub(super) const IN_ORDER: [Self; 5] = [
        Self::Urgent,
        Self::Bucket,
        Self::Tally,
        Self::Edited,
        Self::Page,
    ];
}

/// Rows to be read because their count was not ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Suspect {
    /// Those of a bucket after an id.
    Bucket(u16, Option<TargetId>),
    /// Those after an id and up to `last`, or to the end.
    Span {
        after: Option<TargetId>,
        last: Option<TargetId>,
        limit: usize,
    },
}

/// The first ids of `queue`, each once.
pub(super) fn batch(queue: &mut VecDeque<TargetId>) -> Vec<TargetId> {
    let count = queue.len().min(LEGACY_IDS_PER_READ);
    let mut ids: Vec<TargetId> = queue.drain(..count).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
