//! The start: where the store stands, plus what the journal has and the store does not.

use std::collections::HashMap;
use std::path::Path;

use model::TargetId;
use model::fact::{Batch, Event, Fact};
use model::ids::FactMint;
use store::OpenEvent;

use crate::apply::FactStore;
use crate::error::PersistError;
use crate::journal::Journal;

/// An open event from before the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) event: Box<Event>,
    /// Transitions that it has.
    pub(crate) transitions: u32,
}

/// What a start found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) journal: Journal,
    /// Number of the last batch that the store has, or that lies before the journal's first.
    pub(crate) applied: u64,
    /// Above every id of the store and the journal.
    pub(crate) mint: FactMint,
    pub(crate) open: HashMap<TargetId, Resumed>,
}

/// Reads the store and the journal under `directory`.
pub(crate) async fn find<S: FactStore>(
    store: &S,
    directory: &Path,
    journal_max_bytes: u64,
) -> Result<Found, PersistError> {
    let failed = |doing| move |cause| PersistError::Store { doing, cause };
    let floors = store.floors().await.map_err(failed("its newest ids"))?;
    let mut mint = FactMint::default();
    floors.newest.iter().for_each(|&id| mint.observe(id));
    let mut open = HashMap::new();
    let stored = store.open_events().await;
    for OpenEvent { event, transitions } in stored.map_err(failed("its open events"))? {
        mint.observe(event.id);
        open.insert(
            event.target,
            Resumed {
                event: Box::new(event),
                transitions,
            },
        );
    }
    let mut first_unapplied = None;
    let journal = Journal::open(directory, journal_max_bytes, floors.journal_seq, |batch| {
        first_unapplied.get_or_insert(batch.journal_seq);
        replay(batch, &mut mint, &mut open);
    })?;
    let applied = first_unapplied.map_or(journal.last_seq(), |first| first - 1);
    Ok(Found {
        journal,
        applied,
        mint,
        open,
    })
}

fn replay(batch: Batch, mint: &mut FactMint, open: &mut HashMap<TargetId, Resumed>) {
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
        match fact {
            Fact::Transitioned { event, job, .. } if event.ended_at.is_none() => {
                let transitions = job.seq;
                open.insert(
                    event.target,
                    Resumed {
                        event: Box::new(event),
                        transitions,
                    },
                );
            }
            Fact::Transitioned { event, .. } => {
                if open
                    .get(&event.target)
                    .is_some_and(|resumed| resumed.event.id == event.id)
                {
                    open.remove(&event.target);
                }
            }
            Fact::Counted {
                event,
                target,
                fail_count,
            } => {
                let found = open
                    .get_mut(&target)
                    .filter(|resumed| resumed.event.id == event);
                if let Some(resumed) = found {
                    resumed.event.fail_count = resumed.event.fail_count.max(fail_count);
                }
            }
        }
    }
}
