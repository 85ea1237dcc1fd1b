//! What the sweep is told and what it asks for: the words between it, its shell, and whoever knows
//! of changes.

use model::{MonoUs, TargetId};

/// A table that was read from its first to its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Rows that it has, about.
    pub(crate) rows: u64,
    /// Whether its rows are counted by bucket, or else by id.
    pub(crate) by_bucket: bool,
    /// When the first of them was read.
    pub(crate) begun: MonoUs,
}

/// Something to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The next active rows after an id.
    Page {
        after: Option<TargetId>,
        limit: usize,
    },
    /// How many rows a tenth of the table has in each bucket from `first` on, and which. Where it
    /// ends depends on what is held.
    Tally { first: u16 },
    /// How many of the next active rows after an id there are, and which.
    Count {
        after: Option<TargetId>,
        limit: usize,
    },
    /// The next active rows after an id, on the way to the id `last`; `None`: to the end.
    Span {
        after: Option<TargetId>,
        last: Option<TargetId>,
        limit: usize,
    },
    /// The next active rows of a bucket after an id.
    Bucket {
        bucket: u16,
        after: Option<TargetId>,
        limit: usize,
    },
    /// These rows.
    Ids(Vec<TargetId>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Rows, and the id after which the next ones are; `None` at the end.
    Page {
        rows: usize,
        next: Option<TargetId>,
    },
    /// Buckets that are not as we have them, whether one has too many rows to read them, and the
    /// bucket to go on with; `None` at the end.
    Tally {
        differing: Vec<u16>,
        large: bool,
        next: Option<u16>,
    },
    /// Rows that were counted, whether they are not those that we have, and the id after which the
    /// next ones are; `None` at the end of the table.
    Count {
        rows: usize,
        differs: bool,
        next: Option<TargetId>,
    },
    /// The id after which those are that are still to be read; `None` at the end.
    Span {
        next: Option<TargetId>,
    },
    /// As `Page`; at the end the ids that we have there and that were not read.
    Bucket {
        next: Option<TargetId>,
        missing: Vec<TargetId>,
    },
    Ids,
}

/// What the machine is told. Of changes a stream of them tells; without one there are counts and
/// the pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Everything is in effect as it was read: there is something to compare with.
    Loaded(Loaded),
    /// These rows are not as they were. `switched`: one of them may have been switched on or off,
    /// be new, or gone.
    Changed { ids: Vec<TargetId>, switched: bool },
    /// From now on all changes are told, those `late` that were made meanwhile; what was missed
    /// before is closed as `gap` says.
    StreamUp { gap: Gap, late: bool },
    /// Changes are not told any more.
    StreamLost,
    /// Somebody wants the whole table read now.
    Asked,
    /// Whether the node is short of something.
    Pressed(bool),
    /// What was read is in effect.
    Done(Done),
    /// Nothing could be read.
    Failed,
}

/// Whether there may have been changes that were not told, and how they are made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// There were none.
    None,
    /// By a pass at once, as fast as may be.
    Hurried,
    /// By a pass at its usual pace: gaps follow each other.
    Paced,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Read(Read),
    /// Nothing before this instant, unless there is an event.
    At(MonoUs),
    /// Nothing before the end of the reading.
    Reading,
}

/// Numbers to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Rows a second that the pass reads now; 0 while it rests.
    pub(crate) rows_per_s: u64,
    /// Rows of the pass so far.
    pub(crate) pass_rows: u64,
    /// When the newest whole pass began: what changed before it is in effect.
    pub(crate) as_of: MonoUs,
    /// Whole passes.
    pub(crate) passes: u64,
    /// Readings that were due and had to wait.
    pub(crate) deferred: u64,
    /// Ids that wait to be read.
    pub(crate) ids_waiting: u64,
    /// Buckets and spans of ids that wait to be read.
    pub(crate) buckets_waiting: u64,
    pub(crate) is_stream_up: bool,
    /// Whether what it tells is too old to rely on.
    pub(crate) is_stream_late: bool,
    pub(crate) is_hurried: bool,
}

/// What a stream tells of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    Nothing,
    /// Those that were made a while ago: the net stays where it is.
    Late,
    AtOnce,
}
