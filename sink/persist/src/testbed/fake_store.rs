//! A store in memory for tests, scripted: away, slow, silent, refusing, or in other hands.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::fact::{Batch, Event, Fact, Job, Reason, State, Transition};
use model::{FactId, TargetId};
use store::{
    Applied, AuditRow, Claim, Fence, Floors, FreshnessRow, FreshnessWritten, HistoryRow, OpenEvent,
    StoreError, Superseded,
};
use tokio::sync::Notify;

use crate::apply::FactStore;

/// A store in memory that can be away, slow, silent, or refuse freshness.
#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    pub(crate) away: Cell<bool>,
    pub(crate) stalled: Cell<bool>,
    /// How long an apply takes.
    pub(crate) slow_ms: Cell<u64>,
    /// And how much longer for each of its facts.
    pub(crate) slow_fact_us: Cell<u64>,
    /// So many applies from now on are never answered, and do nothing.
    pub(crate) hangs: Cell<u32>,
    /// So many are done and answered by an error.
    pub(crate) loses_answers: Cell<u32>,
    /// So many are done and never answered.
    pub(crate) hangs_after: Cell<u32>,
    /// What `drops_overdue` says.
    pub(crate) drops: Cell<bool>,
    /// It cannot be made safe.
    pub(crate) refuses_sync: Cell<bool>,
    /// Batches that it had already.
    pub(crate) met_again: Cell<u64>,
    /// Transitions that it had already, in batches that it did not have.
    pub(crate) known_again: Cell<u64>,
    /// Facts of the largest batch.
    pub(crate) largest: Cell<usize>,
    pub(crate) go_on: Notify,
    pub(crate) calls: Cell<u32>,
    /// Plain looks whether it still has what it had.
    pub(crate) looks: Cell<u32>,
    /// They are answered by a replica that is far behind.
    pub(crate) is_replica: Cell<bool>,
    pub(crate) syncs: Cell<u32>,
    pub(crate) refuses_freshness: Cell<bool>,
    /// Targets whose freshness rows somebody else holds.
    pub(crate) held: RefCell<HashSet<TargetId>>,
    /// Freshness rows of a call that it leaves out.
    pub(crate) leaves_out: Cell<usize>,
    /// Freshness rows that it wrote, and that it left out.
    pub(crate) rows_written: Cell<u64>,
    pub(crate) left_out: Cell<u64>,
    pub(crate) applied: Cell<u64>,
    /// The epoch under which it writes.
    pub(crate) epoch: Cell<u64>,
    /// Another node has a lease for so long.
    pub(crate) held_ms: Cell<u64>,
    /// So many times from now on it does not say where to resume.
    pub(crate) loses_floors: Cell<u32>,
    /// What each claim said of the epoch that was lost.
    pub(crate) lost_epochs: RefCell<Vec<Option<u64>>>,
    /// What a journal that comes back must not apply.
    pub(crate) superseded: RefCell<Vec<Superseded>>,
    /// Journal numbers up to which that was settled.
    pub(crate) passed_over: RefCell<Vec<u64>>,
    pub(crate) refuses_history: Cell<bool>,
    pub(crate) history: RefCell<Vec<HistoryRow>>,
    pub(crate) refuses_trail: Cell<bool>,
    pub(crate) trail: RefCell<Vec<AuditRow>>,
    pub(crate) renewals: Cell<u32>,
    /// The clock of another node, which takes over as soon as the lease is over.
    standby: RefCell<Option<Arc<AtomicU64>>>,
    /// The lease, by that clock.
    lease_until_ms: Cell<u64>,
    pub(crate) releases: Cell<u32>,
    /// Writes that it refused because their epoch was over.
    pub(crate) refusals: Cell<u32>,
    pub(crate) events: RefCell<BTreeMap<FactId, Event>>,
    /// In the order in which they were applied.
    pub(crate) transitions: RefCell<Vec<Transition>>,
    known: RefCell<HashSet<FactId>>,
    pub(crate) jobs: RefCell<Vec<Job>>,
    pub(crate) freshness: RefCell<HashMap<TargetId, FreshnessRow>>,
}

/// The facts of a store at a moment.
pub(crate) struct Picture {
    applied: u64,
    events: BTreeMap<FactId, Event>,
    transitions: Vec<Transition>,
    known: HashSet<FactId>,
    jobs: Vec<Job>,
}

impl FakeStore {
    fn answer(&self) -> Result<(), StoreError> {
        if self.away.get() {
            return Err(refusal("away"));
        }
        Ok(())
    }

    /// From now on another node waits for the end of the lease, which has `left_ms` by `clock`.
    pub(crate) fn stand_by(&self, clock: &Arc<AtomicU64>, left_ms: u64) {
        *self.standby.borrow_mut() = Some(Arc::clone(clock));
        self.lease(left_ms);
    }

    /// What it has now; [`FakeStore::set_back`] makes it have no more.
    pub(crate) fn picture(&self) -> Picture {
        Picture {
            applied: self.applied.get(),
            events: self.events.borrow().clone(),
            transitions: self.transitions.borrow().clone(),
            known: self.known.borrow().clone(),
            jobs: self.jobs.borrow().clone(),
        }
    }

    /// A replica that is behind takes over: what was committed since `picture` is lost.
    pub(crate) fn set_back(&self, picture: Picture) {
        self.applied.set(picture.applied);
        *self.events.borrow_mut() = picture.events;
        *self.transitions.borrow_mut() = picture.transitions;
        *self.known.borrow_mut() = picture.known;
        *self.jobs.borrow_mut() = picture.jobs;
    }

    /// Another node takes over.
    pub(crate) fn bump(&self) {
        self.epoch.set(self.epoch.get() + 1);
    }

    /// The lease runs from now on.
    fn lease(&self, length_ms: u64) {
        if let Some(now_ms) = self.now_ms() {
            self.lease_until_ms.set(now_ms + length_ms);
        }
    }

    fn now_ms(&self) -> Option<u64> {
        let standby = self.standby.borrow();
        standby.as_ref().map(|clock| clock.load(Ordering::Relaxed))
    }

    fn require(&self, fence: Fence) -> Result<(), StoreError> {
        if self
            .now_ms()
            .is_some_and(|now| now >= self.lease_until_ms.get())
        {
            self.bump();
        }
        if fence.epoch() == self.epoch.get() {
            return Ok(());
        }
        self.refusals.set(self.refusals.get() + 1);
        Err(StoreError::Fenced {
            store: "fake".to_owned(),
            epoch: fence.epoch(),
        })
    }

    pub(crate) fn take(&self, fact: &Fact) {
        match fact {
            Fact::Transitioned {
                event,
                transition,
                job,
            } => {
                let is_new = self.known.borrow_mut().insert(transition.id);
                self.known_again
                    .set(self.known_again.get() + u64::from(!is_new));
                if is_new {
                    self.transitions.borrow_mut().push(transition.clone());
                    self.jobs.borrow_mut().push(job.clone());
                    self.events.borrow_mut().insert(event.id, event.clone());
                }
            }
            Fact::Counted {
                event, fail_count, ..
            } => {
                let mut events = self.events.borrow_mut();
                let row = events.get_mut(event).expect("counted after it was opened");
                row.fail_count = row.fail_count.max(*fail_count);
            }
        }
    }

    /// States of a target's transitions, in the order in which they were applied.
    pub(crate) fn story(&self, target: TargetId) -> Vec<(State, Reason)> {
        let transitions = self.transitions.borrow();
        let own = transitions
            .iter()
            .filter(|transition| transition.target == target);
        own.map(|transition| (transition.after, transition.reason))
            .collect()
    }
}

/// Any error of a store.
fn refusal(why: &str) -> StoreError {
    StoreError::Closed {
        store: why.to_owned(),
    }
}

/// Takes one off what is left of a script.
fn once(left: &Cell<u32>) -> bool {
    let before = left.get();
    left.set(before.saturating_sub(1));
    before > 0
}

impl FactStore for Rc<FakeStore> {
    fn drops_overdue(&self) -> bool {
        self.drops.get()
    }

    async fn acquire(&self, claim: &Claim) -> Result<Fence, StoreError> {
        self.answer()?;
        if self.held_ms.get() > 0 {
            return Err(StoreError::Held {
                store: "fake".to_owned(),
                node: "other".to_owned(),
                holder: "there".to_owned(),
                left_s: self.held_ms.get() / 1_000,
            });
        }
        self.lost_epochs.borrow_mut().push(claim.lost);
        self.bump();
        self.lease(claim.lease_ms);
        Ok(Fence::of(1, self.epoch.get(), claim.journal))
    }

    async fn renew(&self, fence: Fence, lease_ms: u64) -> Result<(), StoreError> {
        self.answer()?;
        self.require(fence)?;
        self.lease(lease_ms);
        self.renewals.set(self.renewals.get() + 1);
        Ok(())
    }

    async fn release(&self, fence: Fence) -> Result<(), StoreError> {
        self.answer()?;
        self.require(fence)?;
        self.releases.set(self.releases.get() + 1);
        Ok(())
    }

    async fn pass_over(&self, fence: Fence, last_seq: u64) -> Result<(), StoreError> {
        self.answer()?;
        self.require(fence)?;
        self.passed_over.borrow_mut().push(last_seq);
        Ok(())
    }

    async fn apply(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied, StoreError> {
        self.calls.set(self.calls.get() + 1);
        while self.stalled.get() {
            self.go_on.notified().await;
        }
        let facts_us = self.slow_fact_us.get() * batch.facts.len() as u64;
        let took = Duration::from_millis(self.slow_ms.get()) + Duration::from_micros(facts_us);
        if !took.is_zero() {
            tokio::time::sleep(took).await;
        }
        self.answer()?;
        if once(&self.hangs) {
            std::future::pending::<()>().await;
        }
        self.require(fence)?;
        let found = self.applied.get();
        if found < acknowledged {
            return Err(StoreError::SetBack {
                store: "fake".to_owned(),
                found,
                acknowledged,
            });
        }
        if batch.journal_seq <= found {
            let is_facts = !batch.facts.is_empty();
            self.met_again
                .set(self.met_again.get() + u64::from(is_facts));
            return Ok(Applied::default());
        }
        self.largest.set(self.largest.get().max(batch.facts.len()));
        batch.facts.iter().for_each(|fact| self.take(fact));
        self.applied.set(batch.journal_seq);
        if once(&self.hangs_after) {
            std::future::pending::<()>().await;
        }
        if once(&self.loses_answers) {
            return Err(refusal("its answer was lost"));
        }
        Ok(Applied::default())
    }

    async fn still_has(&self, fence: Fence, acknowledged: u64) -> Result<bool, StoreError> {
        self.looks.set(self.looks.get() + 1);
        while self.stalled.get() {
            self.go_on.notified().await;
        }
        self.answer()?;
        let is_held = fence.epoch() == self.epoch.get();
        Ok(is_held && self.applied.get() >= acknowledged && !self.is_replica.get())
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.syncs.set(self.syncs.get() + 1);
        if self.refuses_sync.get() {
            return Err(refusal("not synced"));
        }
        self.answer()
    }

    async fn write_freshness(&self, fence: Fence, mut rows: Vec<FreshnessRow>) -> FreshnessWritten {
        let refused = if self.refuses_freshness.get() {
            Err(refusal("refused"))
        } else {
            self.answer().and_then(|()| self.require(fence))
        };
        if let Err(error) = refused {
            let (rows, error, left) = (0, Some(error), rows);
            return FreshnessWritten { rows, left, error };
        }
        rows.sort_by_key(|row| row.target);
        let is_held = |row: &FreshnessRow| self.held.borrow().contains(&row.target);
        let (held, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_held);
        let (given, left_out) = (rows.len(), rows.len().min(self.leaves_out.get()));
        let taken = rows.into_iter().take(given - left_out);
        let taken = taken.map(|row| (row.target, row));
        let written = taken.len() as u64;
        self.rows_written.set(self.rows_written.get() + written);
        self.left_out.set(self.left_out.get() + left_out as u64);
        self.freshness.borrow_mut().extend(taken);
        FreshnessWritten {
            rows: written,
            error: (!held.is_empty()).then(|| refusal("held")),
            left: held,
        }
    }

    async fn write_history(&self, fence: Fence, rows: Vec<HistoryRow>) -> Result<u64, StoreError> {
        if self.refuses_history.get() {
            return Err(refusal("refused"));
        }
        self.answer()?;
        self.require(fence)?;
        let count = rows.len() as u64;
        self.history.borrow_mut().extend(rows);
        Ok(count)
    }

    async fn write_trail(&self, fence: Fence, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        if self.refuses_trail.get() {
            return Err(refusal("refused"));
        }
        self.answer()?;
        self.require(fence)?;
        self.trail.borrow_mut().extend(rows);
        Ok(())
    }

    async fn floors(&self, fence: Fence) -> Result<Floors, StoreError> {
        self.answer()?;
        self.require(fence)?;
        if once(&self.loses_floors) {
            return Err(refusal("no floors"));
        }
        let newest = self.jobs.borrow().iter().map(|job| job.id).collect();
        Ok(Floors {
            newest,
            journal_seq: self.applied.get(),
            superseded: self.superseded.borrow().clone(),
        })
    }

    async fn open_events(&self) -> Result<Vec<OpenEvent>, StoreError> {
        self.answer()?;
        let events = self.events.borrow();
        let open = events.values().filter(|event| event.ended_at.is_none());
        let transitions = self.transitions.borrow();
        let of = |event: &Event| transitions.iter().filter(|by| by.event == event.id).count();
        Ok(open
            .map(|event| OpenEvent {
                event: event.clone(),
                transitions: of(event) as u32,
            })
            .collect())
    }
}
