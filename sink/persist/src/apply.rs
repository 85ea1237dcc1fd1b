//! Applying the journal to the store: in order, one batch at a time, for as long as it takes, on a
//! task of its own so that draining never waits for it. "The store is away" is a longer lag.
//!
//! The newest batches are handed over in memory; when the lag grows they are read back from the
//! journal instead, so that memory stays bounded. Batches that wait are given to the store as one,
//! so that a store that is slow per transaction does not fall behind for that reason alone.

mod fact_store;
mod look;
mod width;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::fact::Batch;
use model::limits::{APPLY_LOADED_MAX, APPLY_TIMEOUT_MS};
use store::{Applied, Fence, StoreError};
use tokio::sync::Notify;

use crate::facts::size_bytes;
use crate::failpoint;
use crate::handle::Clock;
use crate::journal::Journal;
use crate::quiet::Quiet;
use crate::stats::Durations;
use crate::superseded::SupersededFacts;
pub(crate) use fact_store::FactStore;
use look::{look_plainly, secure};
use width::Width;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Counters of the applier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApplyCounts {
    /// Journal records that the store took.
    pub(crate) applies: u64,
    pub(crate) transition_rows: u64,
    pub(crate) job_rows: u64,
    pub(crate) batches: Durations,
    pub(crate) retries: u64,
    pub(crate) overdue: u64,
    /// Facts that were passed over: others wrote in their place.
    pub(crate) superseded: u64,
    /// Times that the store had less than it had acknowledged.
    pub(crate) set_back: u64,
    /// Journal records that neither the store nor the journal has.
    pub(crate) missing: u64,
}

/// What the store is given at a time: batches of the journal, one after the other, as one. It stays
/// the same until the store has it, so that a commit whose answer was lost meets itself again.
#[derive(Debug)]
struct Offer {
    batch: Arc<Batch>,
    /// Journal records in it.
    records: u64,
    /// Facts that were taken out of it.
    superseded: u64,
}

/// The journal and how far the store is behind it; shared by the loop and the applier, which run
/// on one thread and never hold a borrow over an await.
pub(crate) struct ApplyQueue {
    pub(crate) journal: RefCell<Journal>,
    /// Next batches for the store, contiguous from what is offered on.
    loaded: RefCell<VecDeque<Batch>>,
    offer: RefCell<Option<Rc<Offer>>>,
    /// How much an offer may be.
    width: Cell<Width>,
    /// Number of the last batch that the store has.
    applied: Cell<u64>,
    /// Number of the last batch that the store itself said it has.
    acknowledged: Cell<u64>,
    /// The right to write; without it nothing is applied.
    fence: Cell<Option<Fence>>,
    /// An epoch under which the store refused to write.
    refused: Cell<Option<u64>>,
    superseded: RefCell<SupersededFacts>,
    /// Someone wants every file gone that can go.
    eager: Cell<bool>,
    /// The store is to be asked whether it still has what it acknowledged.
    looks_back: Cell<bool>,
    /// The store could not be synced when files could have gone.
    sync_failed: Cell<bool>,
    /// The journal could not be read back the last time.
    unreadable: Cell<bool>,
    counts: Cell<ApplyCounts>,
    changed: Notify,
    clock: Clock,
    quiet: RefCell<Quiet>,
}

impl ApplyQueue {
    /// `applied` is the number of the last batch that the store has.
    pub(crate) fn new(journal: Journal, applied: u64, fence: Fence, clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            journal: RefCell::new(journal),
            loaded: RefCell::new(VecDeque::new()),
            offer: RefCell::new(None),
            width: Cell::default(),
            applied: Cell::new(applied),
            acknowledged: Cell::new(0),
            fence: Cell::new(Some(fence)),
            refused: Cell::new(None),
            superseded: RefCell::default(),
            eager: Cell::new(false),
            looks_back: Cell::new(false),
            sync_failed: Cell::new(false),
            unreadable: Cell::new(false),
            counts: Cell::new(ApplyCounts::default()),
            changed: Notify::new(),
            clock,
            quiet: RefCell::default(),
        })
    }

    /// The right to write, if it is there.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.fence.get()
    }

    /// The right to write is gone: what the store does not have stays in the journal alone.
    pub(crate) fn stop(&self) {
        self.fence.set(None);
        self.loaded.borrow_mut().clear();
        *self.offer.borrow_mut() = None;
    }

    /// The store refused to write under `fence`; whether that was the right of this moment.
    fn refuse(&self, fence: Fence) -> bool {
        self.refused.set(Some(fence.epoch()));
        let is_current = self.fence.get() == Some(fence);
        if is_current {
            self.stop();
        }
        is_current
    }

    /// The store has no more than `found`, and had acknowledged more: what it lost stays in the
    /// journal from now on.
    fn set_back(&self, found: u64) {
        self.acknowledged.set(found);
        self.applied.set(found);
        self.count(|counts| counts.set_back += 1);
    }

    /// The right to write is there: the store has everything up to `floor`, neither it nor the
    /// journal has what follows up to `applied`, and it is given the rest that is not `superseded`.
    pub(crate) fn go_on(
        &self,
        fence: Fence,
        (floor, applied): (u64, u64),
        superseded: SupersededFacts,
    ) {
        self.stop();
        let acknowledged = self.acknowledged.get();
        if floor < acknowledged {
            tracing::error!(
                found = floor,
                acknowledged,
                "the store lost facts that it had: it is given what the journal still has"
            );
            self.set_back(floor);
        }
        self.count(|counts| counts.missing += applied - floor);
        self.acknowledged.set(floor);
        self.applied.set(applied);
        *self.superseded.borrow_mut() = superseded;
        self.fence.set(Some(fence));
        self.changed.notify_one();
    }

    /// An epoch under which the store refused to write since the last time.
    pub(crate) fn take_refused(&self) -> Option<u64> {
        self.refused.take()
    }

    /// Hands over a batch that is durable in the journal.
    pub(crate) fn push(&self, batch: Batch) {
        let mut loaded = self.loaded.borrow_mut();
        let end = loaded
            .back()
            .map_or_else(|| self.offered(), |last| last.journal_seq);
        if loaded.len() < APPLY_LOADED_MAX && batch.journal_seq == end + 1 {
            loaded.push_back(batch);
        }
        self.changed.notify_one();
    }

    /// Number of the last batch that the store has.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.get()
    }

    /// Number of the last batch that the store has or is being given.
    fn offered(&self) -> u64 {
        let offer = self.offer.borrow();
        offer
            .as_ref()
            .map_or(self.applied.get(), |offer| offer.batch.journal_seq)
    }

    /// Batches that the store does not have.
    pub(crate) fn lag(&self) -> u64 {
        self.journal
            .borrow()
            .last_seq()
            .saturating_sub(self.applied.get())
    }

    /// Facts kept in memory for the store.
    pub(crate) fn facts_loaded(&self) -> usize {
        let offer = self.offer.borrow();
        let offered = offer.as_ref().map_or(0, |offer| offer.batch.facts.len());
        let loaded = self.loaded.borrow();
        offered + loaded.iter().map(|batch| batch.facts.len()).sum::<usize>()
    }

    /// Whether the journal could not be read back the last time: the store waits for its facts.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.get()
    }

    pub(crate) fn counts(&self) -> ApplyCounts {
        self.counts.get()
    }

    /// Asks for the removal of every file that the store does not need any more.
    pub(crate) fn tidy_up(&self) {
        self.eager.set(true);
        self.changed.notify_one();
    }

    /// Asks for a look whether the store still has what it acknowledged, when there is nothing to
    /// give it: facts that come ask by themselves.
    pub(crate) fn look_back(&self) {
        self.looks_back.set(true);
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
        let Some(fence) = self.fence.get() else {
            // Without the right to write nothing is known of the store, and nothing can go.
            self.eager.set(false);
            return Next::Idle;
        };
        if self.may_secure() {
            return Next::Secure(fence);
        }
        if let Some(offer) = &*self.offer.borrow() {
            return Next::Apply(fence, Rc::clone(offer));
        }
        if self.loaded.borrow().is_empty()
            && let Some(instead) = self.read_back(self.width.get().facts_max())
        {
            return instead;
        }
        if let Some(offer) = self.make_offer() {
            return Next::Apply(fence, offer);
        }
        self.eager.set(false);
        if self.looks_back.take() {
            return Next::LookBack(fence);
        }
        Next::Idle
    }

    /// Whether files can go once the store is safe. They go before more is applied, so that a
    /// backlog frees its disk as it shrinks; but a store that cannot be synced still takes facts.
    fn may_secure(&self) -> bool {
        let waits = self.sync_failed.get() && self.lag() > 0;
        let journal = self.journal.borrow();
        !waits && journal.can_reclaim(self.applied.get(), self.eager.get())
    }

    /// Loads what comes next while the store works on an offer, so that it need not wait for it.
    fn read_ahead(&self) {
        if self.loaded.borrow().is_empty() {
            // Whatever is the matter is met again, and told, once the store waits for it.
            self.read_back(self.width.get().next_facts_max());
        }
    }

    /// Loads what the journal has next for the store; says what to do where that is not possible.
    fn read_back(&self, facts_max: usize) -> Option<Next> {
        let wanted = self.offered() + 1;
        if wanted > self.journal.borrow().last_seq() {
            return None;
        }
        let read = self.journal.borrow_mut().read(wanted, facts_max);
        self.unreadable.set(read.is_err());
        match read {
            Ok(batches) if batches.is_empty() => Some(self.missing_from(wanted)),
            Ok(batches) => {
                self.loaded.borrow_mut().extend(batches);
                None
            }
            Err(error) => {
                if let Some(suppressed) = self.may_say("unreadable") {
                    tracing::error!(%error, suppressed, "the journal cannot be read back");
                }
                Some(Next::Unreadable)
            }
        }
    }

    /// Takes the next batch for the store, and what else is loaded and fits into one with it.
    fn make_offer(&self) -> Option<Rc<Offer>> {
        let mut loaded = self.loaded.borrow_mut();
        let strip = |batch: &mut Batch| self.superseded.borrow().strip(batch);
        let mut batch = loaded.pop_front()?;
        let mut superseded = strip(&mut batch);
        let mut records = 1;
        let width = self.width.get();
        let mut bytes = bytes_of(&batch);
        while let Some(next) = loaded.front()
            && width.holds(batch.facts.len() + next.facts.len(), bytes + bytes_of(next))
            && let Some(mut next) = loaded.pop_front()
        {
            superseded += strip(&mut next);
            bytes += bytes_of(&next);
            batch.facts.extend(next.facts);
            batch.journal_seq = next.journal_seq;
            records += 1;
        }
        let offer = Rc::new(Offer {
            batch: Arc::new(batch),
            records,
            superseded,
        });
        *self.offer.borrow_mut() = Some(Rc::clone(&offer));
        Some(offer)
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

    fn acknowledge(&self, offer: &Rc<Offer>, applied: &Applied) {
        failpoint::pass("acknowledge.before");
        let is_it = |current: &Rc<Offer>| Rc::ptr_eq(current, offer);
        if !self.offer.borrow().as_ref().is_some_and(is_it) {
            // An answer from before the right to write was lost: the store was asked since.
            return;
        }
        *self.offer.borrow_mut() = None;
        self.applied.set(offer.batch.journal_seq);
        self.acknowledged.set(offer.batch.journal_seq);
        self.sync_failed.set(false);
        self.count(|counts| {
            counts.applies += offer.records;
            counts.transition_rows += applied.transitions;
            counts.job_rows += applied.jobs;
            counts.superseded += offer.superseded;
        });
        failpoint::pass("acknowledge.after");
    }

    /// The store has everything up to `applied` for good: files may go. Says whether they went.
    fn secure(&self, applied: u64) -> bool {
        let reclaimed = self.journal.borrow_mut().reclaim(applied, self.eager.get());
        if self.lag() == 0 {
            self.eager.set(false);
        }
        self.sync_failed.set(reclaimed.is_err());
        if let Err(error) = &reclaimed
            && let Some(suppressed) = self.may_say("stays")
        {
            tracing::warn!(%error, suppressed,
                "a journal segment that is not needed any more stays");
        }
        reclaimed.is_ok()
    }
}

/// Memory that the facts of `batch` take, about.
fn bytes_of(batch: &Batch) -> usize {
    batch.facts.iter().map(size_bytes).sum()
}

enum Next {
    Apply(Fence, Rc<Offer>),
    /// Files can go once the store made safe what it has, and still has it.
    Secure(Fence),
    /// These batches are not there: the store's journal number is from another journal, or a
    /// segment was moved away.
    Missing {
        first: u64,
        last: u64,
    },
    Unreadable,
    /// Nothing is to be given to the store; does it have what it had?
    LookBack(Fence),
    Idle,
}

/// Applies for ever. Must run on a tokio `LocalSet`.
pub(crate) async fn run<S: FactStore>(store: Rc<S>, queue: Rc<ApplyQueue>) {
    let mut pause = BACKOFF_MIN;
    loop {
        let done = match queue.next() {
            Next::Apply(fence, offer) => {
                let started = (queue.clock)().mono;
                let applying = apply_one(&*store, &queue, fence, &offer);
                let (done, ()) = tokio::join!(applying, async { queue.read_ahead() });
                let took_ms = (queue.clock)().mono.since(started) / 1_000;
                queue.count(|counts| counts.batches.record(took_ms));
                let facts = offer.batch.facts.len();
                queue
                    .width
                    .update(|width| width.after(facts, took_ms, done));
                done
            }
            Next::Secure(fence) => secure(&*store, &queue, fence).await,
            Next::Missing { first, last } => {
                tracing::error!(
                    first,
                    last,
                    "batches of facts are not in the journal: the store was last written with \
                     another journal, or lost them when they were gone here, or a segment was \
                     moved away; going on behind them"
                );
                queue.count(|counts| counts.missing += last + 1 - first);
                queue.applied.set(last);
                true
            }
            Next::Unreadable => false,
            Next::LookBack(fence) => {
                look_plainly(&*store, &queue, fence).await;
                true
            }
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

async fn apply_one<S: FactStore>(
    store: &S,
    queue: &ApplyQueue,
    fence: Fence,
    offer: &Rc<Offer>,
) -> bool {
    let batch = &offer.batch;
    failpoint::pass("apply.before");
    let mut applying = pin!(store.apply(fence, batch, queue.acknowledged.get()));
    let limit = Duration::from_millis(APPLY_TIMEOUT_MS);
    let result = if let Ok(result) = tokio::time::timeout(limit, &mut applying).await {
        result
    } else {
        queue.count(|counts| counts.overdue += 1);
        if store.drops_overdue() {
            queue.count(|counts| counts.retries += 1);
            return false;
        }
        wait_on(queue, batch, applying).await
    };
    match result {
        Ok(applied) => {
            failpoint::pass("apply.after");
            warn_of_conflicts(queue, batch, &applied);
            queue.acknowledge(offer, &applied);
            true
        }
        Err(error @ (StoreError::Fenced { .. } | StoreError::SetBack { .. })) => {
            refused(queue, fence, &error);
            true
        }
        Err(error) => {
            queue.count(|counts| counts.retries += 1);
            // A cause that somebody must mend is not kept back behind one that passes.
            let kind = if error.is_transient() {
                "apply"
            } else {
                "apply refused"
            };
            if let Some(suppressed) = queue.may_say(kind) {
                tracing::warn!(%error, journal_seq = batch.journal_seq, lag = queue.lag(),
                    suppressed,
                    "the store did not take a batch of facts; it is kept and tried again");
            }
            false
        }
    }
}

/// Waits for an apply that is overdue, and says so where that goes on. A server that is silent, as
/// behind a network that loses packets, makes a statement fail just after the same limit: that
/// sentence says more, and this one is not said beside it.
async fn wait_on<T>(
    queue: &ApplyQueue,
    batch: &Batch,
    mut applying: impl Future<Output = T> + Unpin,
) -> T {
    let limit = Duration::from_millis(APPLY_TIMEOUT_MS);
    if let Ok(result) = tokio::time::timeout(limit, &mut applying).await {
        return result;
    }
    if let Some(suppressed) = queue.may_say("apply") {
        tracing::warn!(
            journal_seq = batch.journal_seq,
            lag = queue.lag(),
            suppressed,
            "the store takes long for a batch of facts, which is kept: check its disk or its \
             server, and the network to it"
        );
    }
    applying.await
}

/// Stops where the store does not take facts under `fence` any more.
fn refused(queue: &ApplyQueue, fence: Fence, error: &StoreError) {
    match error {
        StoreError::Fenced { .. } => {
            queue.refuse(fence);
        }
        StoreError::SetBack { found, .. } if queue.refuse(fence) => {
            tracing::error!(%error, "the store lost facts that it had: this node asks it again \
                where it is, and gives it what the journal still has");
            queue.set_back(*found);
        }
        _ => {}
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
