//! What goes into the store and comes out of it besides the types of `model`. No SQL here.

use crate::lease::Superseded;
use model::fact::Event;
use model::metadata::Votes;
use model::outcome::Phases;
use model::target::TargetConfig;
use model::{FactId, FailureClass, FieldError, Target, TargetId, UnixMs};

use crate::{Result, StoreError};

/// Groups the calls of one import: the instant at which it began, in ms since the Unix epoch.
/// Two imports into one store must not share it. What an import left behind without
/// [`prune`](crate::Store::prune) is forgotten by imports that begin a day later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportId(pub UnixMs);

/// One target to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRow {
    /// Its id when the source has one; else the row is found, or minted, by its unique key
    /// (canonical URL, method, name).
    pub id: Option<TargetId>,
    /// What its owner configures.
    pub config: TargetConfig,
}

/// A part of a list that is kept as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportPart {
    /// The next rows.
    Rows(Vec<ImportRow>),
    /// There are no more rows. A sender that goes away before it says so keeps nothing.
    End {
        /// Whether the list may be kept; else it was only looked at.
        keep: bool,
    },
}

/// What became of the rows of one import call; the four add up to the rows given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// New targets.
    pub inserted: u64,
    /// Targets whose row changed, those that became active again included.
    pub updated: u64,
    /// Targets that were stored like this already: nothing was written for them.
    pub unchanged: u64,
    /// Index of the row in the call, and why it was refused.
    pub refused: Vec<(usize, FieldError)>,
}

/// Targets in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPage {
    /// The valid ones.
    pub targets: Vec<Target>,
    /// Ids of stored rows that are no valid target, and why.
    pub refused: Vec<(i64, FieldError)>,
    /// Last id seen, the refused ones included: the next page is after it. `None`: there was
    /// nothing left.
    pub last: Option<TargetId>,
    /// Highest change number when the page was read: who pages everything and then follows
    /// [`changes`](crate::Store::changes) starts from that of the first page.
    pub latest_change: u64,
}

/// Targets that were asked for by their ids, active or not, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTargets {
    /// The valid ones.
    pub targets: Vec<Target>,
    /// Ids of stored rows that are no valid target, and why.
    pub refused: Vec<(i64, FieldError)>,
}

/// Targets in the order of their changes, active or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangePage {
    /// The valid ones, each as it is now.
    pub targets: Vec<Target>,
    /// Ids of rows that are to be checked and are no valid target, and why.
    pub refused: Vec<(i64, FieldError)>,
    /// Rows that are no valid target either, and are switched off or paused.
    pub off: Vec<TargetId>,
    /// Change number of the last row seen: the next page is after it. Equal to what was asked
    /// for when there was nothing left.
    pub latest_change: u64,
}

/// Where a restart resumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Highest fact id ever applied, per shard that has one; ids are minted above it.
    pub newest: Vec<FactId>,
    /// Position of its own journal that was applied last, 0 = none. A new journal goes on after it:
    /// a batch at or below it is taken for one that was applied already.
    pub journal_seq: u64,
    /// What its journal has and must not apply any more.
    pub superseded: Vec<Superseded>,
}

/// An open event, as a restart resumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEvent {
    /// The event.
    pub event: Event,
    /// Transitions that it has so far.
    pub transitions: u32,
}

/// What one batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Transition rows written.
    pub transitions: u64,
    /// Job rows written.
    pub jobs: u64,
    /// Fail counts raised.
    pub counted: u64,
    /// Facts that changed nothing: applied before, about a closed event, or a fail count that is
    /// not above the stored one.
    pub skipped: u64,
    /// Events (by id) that were not opened because their identity has another open event.
    pub conflicts: Vec<FactId>,
    /// The batch was at or below the recorded journal position: nothing was looked at.
    pub already_applied: bool,
}

impl Applied {
    /// Of so many facts that the store has.
    pub(crate) fn already(facts: usize) -> Self {
        Self {
            skipped: facts as u64,
            already_applied: true,
            ..Self::default()
        }
    }

    /// What two parts of one batch did.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.transitions += other.transitions;
        self.jobs += other.jobs;
        self.counted += other.counted;
        self.skipped += other.skipped;
        self.conflicts.extend(other.conflicts);
        self
    }
}

/// What became of targets that were exported to a legacy table; the three add up to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyReport {
    /// New rows.
    pub inserted: u64,
    /// Rows that were there, and say now what the target says.
    pub updated: u64,
    /// Ids of targets that no legacy row can say, and why.
    pub refused: Vec<(i64, FieldError)>,
}

/// Rows of settings that were looked at for what no node follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadSlice {
    /// Rows that have such a setting.
    pub(crate) rows: u64,
    /// The key of the last row; `None` behind the last one.
    pub(crate) last: Option<u64>,
}

/// What a slice of the legacy table says of the status of its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriftSlice {
    /// Active rows in it.
    pub looked: u64,
    /// Those whose status is not what our open events say.
    pub drifted: u64,
    /// The first few of these.
    pub named: Vec<Drift>,
    /// Where the next slice begins; `None`: at the first row.
    pub last: Option<TargetId>,
}

/// A row of the legacy table whose status is not what our open events say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub target: TargetId,
    /// In the row; `None`: it has none.
    pub found: Option<i64>,
    /// By our events: 0 seems down, 2 down, 1 neither.
    pub expected: i64,
}

/// When a target was last checked, and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshnessRow {
    /// Whose.
    pub target: TargetId,
    /// Commit time of its last check.
    pub last_checked: UnixMs,
    /// Its next due time.
    pub next_check: UnixMs,
}

/// What became of the rows of one call that wrote freshness.
#[derive(Debug, Default)]
pub struct FreshnessWritten {
    /// Rows written.
    pub rows: u64,
    /// Rows that were not, in the order of their targets. Writing them again is harmless.
    pub left: Vec<FreshnessRow>,
    /// Why the first of them was not.
    pub error: Option<StoreError>,
}

impl FreshnessWritten {
    /// The rows written, where all of them were.
    ///
    /// # Errors
    /// Why some were not.
    pub fn all(self) -> Result<u64> {
        match self.error {
            None => Ok(self.rows),
            Some(error) => Err(error),
        }
    }
}

/// One check of a target, for the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Our own id: writing it twice changes nothing.
    pub id: FactId,
    /// Whose.
    pub target: TargetId,
    /// The legacy `blog_id`.
    pub group_id: u64,
    /// The word of the request's method; empty where no request is made.
    pub method: &'static str,
    /// HTTP status, 0 = none.
    pub status: u16,
    /// Why it did not end `up`.
    pub class: Option<FailureClass>,
    /// Time spent, by phase.
    pub phases: Phases,
    /// When it began.
    pub checked_at: UnixMs,
}

impl HistoryRow {
    pub(crate) fn http_code(&self) -> Option<u16> {
        (self.status > 0).then_some(self.status)
    }

    pub(crate) fn error_code(&self) -> Option<u8> {
        self.class.and_then(FailureClass::legacy_code)
    }

    /// The whole check.
    pub(crate) fn rtt_ms(&self) -> Option<u32> {
        self.phases.values()[5].map(ms)
    }

    /// Name, connection, TLS handshake and first byte, where they were reached.
    pub(crate) fn phases_ms(&self) -> [Option<u32>; 4] {
        let [dns, connect, tls, ttfb, ..] = self.phases.values();
        [dns, connect, tls, ttfb].map(|us| us.map(ms))
    }
}

/// To the nearest ms.
fn ms(us: u32) -> u32 {
    (us / 1_000) + u32::from(us % 1_000 >= 500)
}

/// Something that an operator had done, or that was done with a target beside its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// What it was, such as `reload`; at most 64 characters.
    pub event_type: &'static str,
    /// Where it was done: the name of a node, or of a command; what is beyond 255 characters is
    /// cut.
    pub source: String,
    /// What came of it, for people. What is beyond 1,024 characters is cut.
    pub detail: String,
    /// When.
    pub at: UnixMs,
    /// With whom, if with a single target.
    pub subject: Option<AuditSubject>,
}

/// The target that a line of the audit log is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSubject {
    /// Which; a member `endpoint_id` of the row's metadata.
    pub target: TargetId,
    /// Its legacy `blog_id`, or 0.
    pub group_id: u64,
    /// Its open event, if it is about that.
    pub event: Option<FactId>,
    /// What verifiers said; members of the row's metadata, as those of a transition.
    pub votes: Option<Box<Votes>>,
}

impl AuditRow {
    pub(crate) fn group_id(&self) -> Option<i64> {
        let group_id = self.subject.as_ref().map_or(0, |subject| subject.group_id);
        (group_id > 0).then_some(group_id as i64)
    }

    pub(crate) fn event(&self) -> Option<i64> {
        let event = self.subject.as_ref()?.event;
        event.map(FactId::get)
    }

    pub(crate) fn source(&self) -> &str {
        cut(&self.source, 255)
    }

    pub(crate) fn detail(&self) -> &str {
        cut(&self.detail, 1_024)
    }
}

/// The first `max` characters.
fn cut(text: &str, max: usize) -> &str {
    let end = text.char_indices().nth(max).map(|(at, _)| at);
    &text[..end.unwrap_or(text.len())]
}

/// What was deleted because it was old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Closed events.
    pub events: u64,
    /// Transitions of those.
    pub transitions: u64,
    /// Rows of the history.
    pub history: u64,
    /// What operators had done.
    pub audit: u64,
    /// Shards that were taken from journals which did not come back.
    pub taken: u64,
    /// Check times of targets that are gone.
    pub freshness: u64,
    /// There may be more.
    pub more: bool,
}

impl Forgotten {
    /// So many check times, in a step after which the next one goes on behind the target `next`.
    pub(crate) fn check_times(freshness: u64, next: Option<i64>) -> (Self, Option<TargetId>) {
        let next = next.and_then(TargetId::new);
        let forgotten = Self {
            freshness,
            more: next.is_some(),
            ..Self::default()
        };
        (forgotten, next)
    }
}

/// Which events to list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// Leave out the closed ones.
    pub open_only: bool,
    /// Of this target only.
    pub target: Option<TargetId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            open_only: false,
            target: None,
            limit: 1_000,
        }
    }
}

/// Rows per table, for people and tests: counting reads the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Targets, active or not.
    pub targets: u64,
    /// Active targets.
    pub active: u64,
    /// Events, open or closed.
    pub events: u64,
    /// Open events.
    pub open_events: u64,
    /// Transitions.
    pub transitions: u64,
    /// Jobs in any state.
    pub jobs: u64,
    /// Targets with a freshness row.
    pub freshness: u64,
    /// Highest change number of a target.
    pub latest_change: u64,
    /// Journal position that was applied last, of the journal that came furthest.
    pub journal_seq: u64,
}
