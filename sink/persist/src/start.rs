//! The start, and the start over after the right to write was lost: where the store stands, plus
//! what the journal has and the store does not.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use model::fact::{Batch, Event, Fact};
use model::ids::FactMint;
use model::limits::BATCH_MAX;
use model::{MonoUs, TargetId};
use store::{Claim, Fence, Floors, OpenEvent, StoreError};

use crate::apply::FactStore;
use crate::error::PersistError;
use crate::handle::Clock;
use crate::journal::{Journal, Opening};
use crate::keeper::Keeper;
use crate::superseded::SupersededFacts;

/// An open event from before the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) event: Box<Event>,
    /// Transitions that it has.
    pub(crate) transitions: u32,
}

/// Open events from before the start, by target: at most one per identity.
pub(crate) type Open = HashMap<TargetId, Vec<Resumed>>;

/// The right to write, and what the store knew when it was given.
#[derive(Debug)]
pub(crate) struct Right {
    pub(crate) fence: Fence,
    pub(crate) floors: Floors,
    pub(crate) open: Vec<OpenEvent>,
}

/// What a start found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) journal: Journal,
    /// Number of the last batch that the store has.
    pub(crate) floor: u64,
    /// The same, or that of the last one before the journal's first.
    pub(crate) applied: u64,
    /// Above every id of the store and the journal.
    pub(crate) mint: FactMint,
    pub(crate) open: Open,
    pub(crate) fence: Fence,
    /// When the lease began that runs.
    pub(crate) since: MonoUs,
    pub(crate) superseded: SupersededFacts,
}

/// Takes the right to write and reads the store and the journal under `directory`, a segment at a
/// time: the lease is renewed in between.
pub(crate) async fn find<S: FactStore>(
    store: &S,
    directory: &Path,
    journal_max_bytes: u64,
    claim: &Claim,
    clock: &Clock,
) -> Result<Found, PersistError> {
    let failed = |cause| PersistError::Store {
        doing: "the right to write, its newest ids and its open events",
        cause,
    };
    // The lease runs from the question on.
    let asked = clock().mono;
    let fence = store.acquire(claim).await.map_err(failed)?;
    let mut keeper = Keeper::of((store, clock), (fence, claim.lease_ms), asked);
    let right = look(store, fence).await.map_err(failed)?;
    let mut mint = FactMint::default();
    let mut memory = Memory::of(&right, &mut mint);
    let mut first_unapplied = None;
    let mut opening = Opening::of(directory, journal_max_bytes, right.floors.journal_seq)?;
    while opening.read_next(&mut |batch| {
        first_unapplied.get_or_insert(batch.journal_seq);
        memory.replay(batch, &mut mint);
    })? {
        keeper.keep().await.map_err(failed)?;
    }
    let journal = opening.finish();
    let passed_over = store.pass_over(right.fence, journal.last_seq()).await;
    passed_over.map_err(failed)?;
    let applied = first_unapplied.map_or(journal.last_seq(), |first| first - 1);
    Ok(Found {
        floor: right.floors.journal_seq,
        applied,
        mint,
        open: memory.open,
        fence: right.fence,
        since: keeper.since(),
        superseded: memory.superseded.up_to(journal.last_seq()),
        journal,
    })
}

/// What is known under the right to write.
async fn look<S: FactStore>(store: &S, fence: Fence) -> Result<Right, StoreError> {
    Ok(Right {
        fence,
        floors: store.floors(fence).await?,
        open: store.open_events().await?,
    })
}

/// The right to write once more, and what the store and the journal say under it.
pub(crate) struct Regained {
    pub(crate) fence: Fence,
    /// When the lease began that runs.
    pub(crate) since: MonoUs,
    /// Number of the last batch that the store has.
    pub(crate) floor: u64,
    pub(crate) memory: Memory,
    /// Above every id that was met.
    pub(crate) mint: FactMint,
    /// The journal was read up to this number; it may have more by now.
    pub(crate) read: u64,
}

/// Why it was not regained.
pub(crate) enum Refusal {
    Store(StoreError),
    Journal(PersistError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PersistError> for Refusal {
    fn from(error: PersistError) -> Self {
        Self::Journal(error)
    }
}

/// Takes the right to write for `journal`, which is open and shared, whose last batch will be
/// `last_seq`, and reads the store and the journal, in pieces: between two of them the lease is
/// renewed, and others on this thread go on. `given` is set to the new epoch as soon as there is
/// one: whatever fails after that, the lease is this node's own.
pub(crate) async fn take_right_again<S: FactStore>(
    (store, clock): (&S, &Clock),
    claim: &Claim,
    (journal, last_seq): (&RefCell<Journal>, u64),
    given: &Cell<u64>,
) -> Result<Regained, Refusal> {
    let asked = clock().mono;
    let fence = store.acquire(claim).await?;
    given.set(fence.epoch());
    let mut keeper = Keeper::of((store, clock), (fence, claim.lease_ms), asked);
    let right = look(store, fence).await?;
    store.pass_over(fence, last_seq).await?;
    let mut mint = FactMint::default();
    let mut memory = Memory::of(&right, &mut mint);
    let floor = right.floors.journal_seq;
    let mut read = floor;
    while memory.read(&mut journal.borrow_mut(), &mut read, &mut mint)? {
        keeper.keep().await?;
        tokio::task::yield_now().await;
    }
    Ok(Regained {
        fence,
        since: keeper.since(),
        floor,
        memory,
        mint,
        read,
    })
}

/// What is open once the journal is applied.
pub(crate) struct Memory {
    pub(crate) open: Open,
    pub(crate) superseded: SupersededFacts,
}

impl Memory {
    /// As the store has it.
    pub(crate) fn of(right: &Right, mint: &mut FactMint) -> Self {
        right.floors.newest.iter().for_each(|&id| mint.observe(id));
        let mut open = Open::new();
        for OpenEvent { event, transitions } in &right.open {
            mint.observe(event.id);
            let resumed = Resumed {
                event: Box::new(event.clone()),
                transitions: *transitions,
            };
            open.entry(event.target).or_default().push(resumed);
        }
        Self {
            open,
            superseded: SupersededFacts::of(&right.floors.superseded),
        }
    }

    /// Adds what an open journal has next behind the number `read`, which moves on; `false` when
    /// there is nothing.
    pub(crate) fn read(
        &mut self,
        journal: &mut Journal,
        read: &mut u64,
        mint: &mut FactMint,
    ) -> Result<bool, PersistError> {
        let Some(from) = journal.next_held(*read + 1) else {
            return Ok(false);
        };
        let batches = journal.read(from, BATCH_MAX)?;
        let Some(last) = batches.last().map(|batch| batch.journal_seq) else {
            return Ok(false);
        };
        for batch in batches {
            self.replay(batch, mint);
        }
        *read = last;
        Ok(true)
    }

    /// Ids of facts that are not applied any more are not given again either.
    pub(crate) fn replay(&mut self, batch: Batch, mint: &mut FactMint) {
        for fact in batch.facts {
            if let Fact::Transitioned {
                event,
                transition,
                job,
            } = &fact
            {
                for id in [event.id, transition.id, job.id] {
                    mint.observe(id);
                }
            }
            if !self.superseded.has(batch.journal_seq, fact.target()) {
                self.take(fact);
            }
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Transitioned { event, job, .. } if event.ended_at.is_none() => {
                let resumed = Resumed {
                    event: Box::new(event),
                    transitions: job.seq,
                };
                self.put(resumed);
            }
            Fact::Transitioned { event, .. } => {
                if let Some(open) = self.open.get_mut(&event.target) {
                    open.retain(|resumed| resumed.event.id != event.id);
                    if open.is_empty() {
                        self.open.remove(&event.target);
                    }
                }
            }
            Fact::Counted {
                event,
                target,
                fail_count,
            } => {
                let open = self.open.get_mut(&target).into_iter().flatten();
                for resumed in open.filter(|resumed| resumed.event.id == event) {
                    resumed.event.fail_count = resumed.event.fail_count.max(fail_count);
                }
            }
        }
    }

    /// Whatever was open for the same identity was closed before, or never became a row.
    fn put(&mut self, resumed: Resumed) {
        let identity = |resumed: &Resumed| {
            let event = &resumed.event;
            (event.check_type, event.discriminator.clone())
        };
        let open = self.open.entry(resumed.event.target).or_default();
        open.retain(|other| identity(other) != identity(&resumed));
        open.push(resumed);
    }
}
