//! Applying the journal to the store: in order, one batch at a time, for as long as it takes, on a
//! task of its own so that draining never waits for it. "The store is away" is a longer lag.
//!
//! The newest batches are handed over in memory; when the lag grows they are read back from the
//! journal instead, so that memory stays bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use model::fact::Batch;
use model::limits::{APPLY_LOADED_MAX, APPLY_TIMEOUT_MS};
use store::{Applied, Floors, FreshnessRow, OpenEvent, StoreError};
use tokio::sync::Notify;

use crate::failpoint;
use crate::handle::Clock;
use crate::journal::Journal;
use crate::quiet::Quiet;
use crate::stats::Durations;

/// What the sink asks of a store; the seam where tests put a store that fails.
pub(crate) trait FactStore: 'static {
    /// Whether dropping an overdue apply ends it: true where each request can give up its own
    /// connection, false where a thread works on it to the end whatever we do.
    const DROPS_OVERDUE: bool;

    fn apply(&self, batch: &Batch) -> impl Future<Output = Result<Applied, StoreError>>;
    fn sync(&self) -> impl Future<Output = Result<(), StoreError>>;
    /// Answers how many rows were written.
    fn write_freshness(
        &self,
        rows: Vec<FreshnessRow>,
    ) -> impl Future<Output = Result<u64, StoreError>>;
    fn floors(&self) -> impl Future<Output = Result<Floors, StoreError>>;
    fn open_events(&self) -> impl Future<Output = Result<Vec<OpenEvent>, StoreError>>;
}

impl FactStore for store::Store {
    const DROPS_OVERDUE: bool = false;

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        Self::apply(self, batch).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Self::sync(self).await
    }

    async fn write_freshness(&self, rows: Vec<FreshnessRow>) -> Result<u64, StoreError> {
        Self::write_freshness(self, rows).await
    }

    async fn floors(&self) -> Result<Floors, StoreError> {
        Self::floors(self).await
    }

    async fn open_events(&self) -> Result<Vec<OpenEvent>, StoreError> {
        Self::open_events(self).await
    }
}

/// Batches read back from the journal at a time.
const READ_BACK: usize = 8;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Counters of the applier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApplyCounts {
    pub(crate) applies: u64,
    pub(crate) transition_rows: u64,
    pub(crate) job_rows: u64,
    pub(crate) batches: Durations,
    pub(crate) retries: u64,
    pub(crate) overdue: u64,
}

/// The journal and how far the store is behind it; shared by the loop and the applier, which run
/// on one thread and never hold a borrow over an await.
pub(crate) struct ApplyQueue {
    pub(crate) journal: RefCell<Journal>,
    /// Next batches for the store, contiguous from `applied + 1`.
    loaded: RefCell<VecDeque<Rc<Batch>>>,
    /// Number of the last batch that the store has.
    applied: Cell<u64>,
    /// Someone wants every file gone that can go.
    eager: Cell<bool>,
    counts: Cell<ApplyCounts>,
    changed: Notify,
    clock: Clock,
    quiet: RefCell<Quiet>,
}

impl ApplyQueue {
    /// `applied` is the number of the last batch that the store has.
    pub(crate) fn new(journal: Journal, applied: u64, clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            journal: RefCell::new(journal),
            loaded: RefCell::new(VecDeque::new()),
            applied: Cell::new(applied),
            eager: Cell::new(false),
            counts: Cell::new(ApplyCounts::default()),
            changed: Notify::new(),
            clock,
            quiet: RefCell::default(),
        })
    }

    /// Hands over a batch that is durable in the journal.
    pub(crate) fn push(&self, batch: Batch) {
        let mut loaded = self.loaded.borrow_mut();
        let end = loaded
            .back()
            .map_or(self.applied.get(), |last| last.journal_seq);
        if loaded.len() < APPLY_LOADED_MAX && batch.journal_seq == end + 1 {
            loaded.push_back(Rc::new(batch));
        }
        self.changed.notify_one();
    }

    /// Number of the last batch that the store has.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.get()
    }

    /// Batches that the store does not have.
    pub(crate) fn lag(&self) -> u64 {
        self.journal
            .borrow()
            .last_seq()
            .saturating_sub(self.applied.get())
    }

    pub(crate) fn counts(&self) -> ApplyCounts {
        self.counts.get()
    }

    /// Asks for the removal of every file that the store does not need any more.
    pub(crate) fn tidy_up(&self) {
        self.eager.set(true);
        self.changed.notify_one();
    }

    /// Whether the store has everything, and nothing is left to remove.
    pub(crate) fn is_settled(&self) -> bool {
        self.lag() == 0 && !self.eager.get()
    }

    /// Whether to say a warning of `kind` now, and how many were swallowed.
    fn may_say(&self, kind: &'static str) -> Option<u64> {
        self.quiet.borrow_mut().allows(kind, (self.clock)().mono)
    }

    fn count(&self, change: impl FnOnce(&mut ApplyCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn next(&self) -> Next {
        let mut loaded = self.loaded.borrow_mut();
        let wanted = self.applied.get() + 1;
        if loaded.is_empty() && wanted <= self.journal.borrow().last_seq() {
            let read = self.journal.borrow_mut().read(wanted, READ_BACK);
            match read {
                Ok(batches) if batches.is_empty() => return self.missing_from(wanted),
                Ok(batches) => loaded.extend(batches.into_iter().map(Rc::new)),
                Err(error) => {
                    if let Some(suppressed) = self.may_say("unreadable") {
                        tracing::error!(%error, suppressed, "the journal cannot be read back");
                    }
                    return Next::Unreadable;
                }
            }
        }
        if let Some(batch) = loaded.front() {
            return Next::Apply(Rc::clone(batch));
        }
        let applied = self.applied.get();
        if self.journal.borrow().can_reclaim(applied, self.eager.get()) {
            return Next::Secure(applied);
        }
        self.eager.set(false);
        Next::Idle
    }

    /// The journal does not have number `wanted`, nor any before the next that it has.
    fn missing_from(&self, wanted: u64) -> Next {
        let journal = self.journal.borrow();
        let next = journal.next_held(wanted).unwrap_or(journal.next_seq());
        Next::Missing {
            first: wanted,
            last: next - 1,
        }
    }

    fn acknowledge(&self, journal_seq: u64, applied: &Applied) {
        self.loaded.borrow_mut().pop_front();
        self.applied.set(journal_seq);
        self.count(|counts| {
            counts.applies += 1;
            counts.transition_rows += applied.transitions;
            counts.job_rows += applied.jobs;
        });
        failpoint::pass("acknowledge.after");
    }

    /// The store has everything up to `applied` for good: files may go. Says whether they went.
    fn secure(&self, applied: u64) -> bool {
        let eager = self.eager.replace(false);
        let reclaimed = self.journal.borrow_mut().reclaim(applied, eager);
        if let Err(error) = &reclaimed
            && let Some(suppressed) = self.may_say("stays")
        {
            tracing::warn!(%error, suppressed,
                "a journal segment that is not needed any more stays");
        }
        reclaimed.is_ok()
    }
}

enum Next {
    Apply(Rc<Batch>),
    /// Everything up to here is applied and files can go once the store made it safe.
    Secure(u64),
    /// These batches are not there: the store's journal number is from another journal, or a
    /// segment was moved away.
    Missing {
        first: u64,
        last: u64,
    },
    Unreadable,
    Idle,
}

/// Applies for ever. Must run on a tokio `LocalSet`.
pub(crate) async fn run<S: FactStore>(store: Rc<S>, queue: Rc<ApplyQueue>) {
    let mut pause = BACKOFF_MIN;
    loop {
        let done = match queue.next() {
            Next::Apply(batch) => {
                let started = (queue.clock)().mono;
                let done = apply_one(&*store, &queue, &batch).await;
                let took_ms = (queue.clock)().mono.since(started) / 1_000;
                queue.count(|counts| counts.batches.record(took_ms));
                done
            }
            Next::Secure(applied) => secure(&*store, &queue, applied).await,
            Next::Missing { first, last } => {
                tracing::error!(
                    first,
                    last,
                    "batches of facts are not in the journal: the store was last written with \
                     another journal, or a segment was moved away; going on behind them"
                );
                queue.applied.set(last);
                true
            }
            Next::Unreadable => false,
            Next::Idle => {
                queue.changed.notified().await;
                true
            }
        };
        if done {
            pause = BACKOFF_MIN;
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

async fn apply_one<S: FactStore>(store: &S, queue: &ApplyQueue, batch: &Batch) -> bool {
    failpoint::pass("apply.before");
    let mut applying = pin!(store.apply(batch));
    let limit = Duration::from_millis(APPLY_TIMEOUT_MS);
    let result = if let Ok(result) = tokio::time::timeout(limit, &mut applying).await {
        result
    } else {
        queue.count(|counts| counts.overdue += 1);
        if let Some(suppressed) = queue.may_say("overdue") {
            tracing::warn!(
                journal_seq = batch.journal_seq,
                suppressed,
                "the store takes more than 2 s"
            );
        }
        if S::DROPS_OVERDUE {
            queue.count(|counts| counts.retries += 1);
            return false;
        }
        applying.await
    };
    match result {
        Ok(applied) => {
            failpoint::pass("apply.after");
            warn_of_conflicts(queue, batch, &applied);
            queue.acknowledge(batch.journal_seq, &applied);
            true
        }
        Err(error) => {
            queue.count(|counts| counts.retries += 1);
            if let Some(suppressed) = queue.may_say("apply") {
                tracing::warn!(%error, journal_seq = batch.journal_seq, lag = queue.lag(),
                    suppressed,
                    "the store did not take a batch of facts; it is kept and tried again");
            }
            false
        }
    }
}

fn warn_of_conflicts(queue: &ApplyQueue, batch: &Batch, applied: &Applied) {
    if !applied.conflicts.is_empty()
        && let Some(suppressed) = queue.may_say("conflicts")
    {
        tracing::warn!(
            journal_seq = batch.journal_seq,
            events = applied.conflicts.len(),
            suppressed,
            "events were not opened: their targets have another open event in the store"
        );
    }
}

async fn secure<S: FactStore>(store: &S, queue: &ApplyQueue, applied: u64) -> bool {
    match store.sync().await {
        Ok(()) => queue.secure(applied),
        Err(error) => {
            queue.count(|counts| counts.retries += 1);
            if let Some(suppressed) = queue.may_say("sync") {
                tracing::warn!(%error, suppressed,
                    "the store could not be synced; the journal keeps its segments");
            }
            false
        }
    }
}
