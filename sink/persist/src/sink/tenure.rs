//! The sink's tenure: it renews its lease, and when it hears that another node took over it drops
//! what it knows, waits for the right to write, loads the store again and goes on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use incident::NodeEvents;
use model::inbox::Cadence;
use model::{MonoUs, Now, Slot};
use store::{Claim, JournalId, StoreError};

use super::Sink;
use crate::apply::FactStore;
use crate::error::PersistError;
use crate::handle::Clock;
use crate::incidents::Incidents;
use crate::lease::{Answer, Ask, Lease};
use crate::slots::CoreSlots;
use crate::start::{Refusal, Regained, take_right_again};

/// What a question to the store came to.
enum Reply {
    Renewed(Result<(), StoreError>),
    Acquired(Box<Result<Regained, Refusal>>),
}

/// The lease, and who is asked for it.
pub(crate) struct Tenure {
    pub(super) lease: Lease,
    claim: Claim,
    /// The newest epoch that was given to this node, also where loading failed after it.
    given: Rc<Cell<u64>>,
    reply: Rc<RefCell<Option<Reply>>>,
    /// Times that the right was lost.
    pub(super) fenced: u64,
}

impl Tenure {
    /// Of a right whose lease runs since `since`.
    pub(crate) fn new(claim: Claim, epoch: u64, since: MonoUs) -> Self {
        Self {
            lease: Lease::granted(claim.lease_ms, epoch, since),
            claim,
            given: Rc::new(Cell::new(epoch)),
            reply: Rc::default(),
            fenced: 0,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }
}

impl<S: FactStore> Sink<S> {
    /// Names the journal in every store.
    pub(crate) fn journal(&self) -> JournalId {
        self.tenure.claim.journal
    }

    /// Takes what came of the last question and of writes, and asks the next one.
    pub(super) fn keep_tenure(&mut self, now: Now) {
        let reply = self.tenure.reply.take();
        let mut lost = reply.is_some_and(|reply| self.take_reply(reply, now));
        let refused = [
            self.queue.take_refused(),
            self.flushes.take_refused(),
            self.history.flights.take_refused(),
            self.audit.flights.take_refused(),
        ];
        for epoch in refused.into_iter().flatten() {
            lost |= self.tenure.lease.refused(epoch, now.mono);
        }
        if lost {
            self.drop_everything();
        }
        match self.tenure.lease.poll(now.mono, !self.is_stopping()) {
            None => {}
            Some(Ask::Renew) => self.renew(),
            Some(Ask::Acquire) => self.acquire_again(),
        }
    }

    /// Whether the right was lost by it.
    fn take_reply(&mut self, reply: Reply, now: Now) -> bool {
        let answer = match reply {
            Reply::Renewed(Ok(())) => Ok(Answer::Renewed),
            Reply::Renewed(Err(error)) => Err(Refusal::Store(error)),
            Reply::Acquired(acquired) => match *acquired {
                Ok(regained) => self.load_again(regained, now).map_err(Refusal::Journal),
                Err(refusal) => Err(refusal),
            },
        };
        let answer = answer.unwrap_or_else(|refusal| self.refused(refusal, now));
        self.tenure.lease.answered(answer, now.mono)
    }

    /// Says why there is no right.
    fn refused(&mut self, refusal: Refusal, now: Now) -> Answer {
        match refusal {
            Refusal::Journal(error) => {
                if let Some(suppressed) = self.quiet.allows("unreadable", now.mono) {
                    tracing::error!(%error, suppressed,
                        "the journal cannot be read back: this node checks nothing until it can"
                    );
                }
                Answer::Failed
            }
            Refusal::Store(StoreError::Fenced { .. }) => Answer::Fenced,
            Refusal::Store(StoreError::Held {
                node,
                holder,
                left_s,
                ..
            }) => {
                if let Some(suppressed) = self.quiet.allows("held", now.mono) {
                    tracing::warn!(
                        node,
                        holder,
                        left_s,
                        suppressed,
                        "another node has the lease: this one checks nothing until it is over"
                    );
                }
                let left_ms = left_s * 1_000;
                Answer::Refused { left_ms }
            }
            Refusal::Store(error) => {
                if let Some(suppressed) = self.quiet.allows("lease", now.mono) {
                    tracing::warn!(%error, suppressed, "the lease could not be renewed");
                }
                Answer::Failed
            }
        }
    }

    fn renew(&self) {
        let Some(fence) = self.queue.fence() else {
            return;
        };
        let (store, reply) = (Rc::clone(&self.store), Rc::clone(&self.tenure.reply));
        let lease_ms = self.tenure.claim.lease_ms;
        let queue = Rc::clone(&self.queue);
        tokio::task::spawn_local(async move {
            let renewed = store.renew(fence, lease_ms).await;
            if renewed.is_ok() {
                queue.look_back();
            }
            *reply.borrow_mut() = Some(Reply::Renewed(renewed));
        });
    }

    /// Nothing is decided until the answer is there, so that what waits for the journal now is the
    /// end of what the old epoch decided. It need not be written before: a journal that is full has
    /// room again only when the store is given its facts. What is written meanwhile is read when
    /// the answer is taken.
    fn acquire_again(&mut self) {
        let (store, reply) = (Rc::clone(&self.store), Rc::clone(&self.tenure.reply));
        let given = Rc::clone(&self.tenure.given);
        let claim = Claim {
            lost: Some(given.get()),
            ..self.tenure.claim.clone()
        };
        let _ = self.facts.seal();
        let last_seq = self.facts.last_seq();
        let (queue, clock) = (Rc::clone(&self.queue), Clock::clone(&self.clock));
        tokio::task::spawn_local(async move {
            let journal = (&queue.journal, last_seq);
            let acquired = take_right_again((&*store, &clock), &claim, journal, &given).await;
            *reply.borrow_mut() = Some(Reply::Acquired(Box::new(acquired)));
        });
    }

    /// Facts that are decided are kept: they go to the journal, and to the store when this node
    /// writes again and nobody else wrote in their place.
    fn drop_everything(&mut self) {
        self.tenure.fenced += 1;
        tracing::error!(
            epoch = self.tenure.lease.epoch(),
            "another node took over, or the store was set back: nothing more is written or \
             checked; this node asks for its shards, loads the store again and goes on when it \
             gets them"
        );
        self.queue.stop();
        self.cores.iter_mut().for_each(|core| core.outbox.clear());
        // A core keeps a cadence for as long as the configuration of the target is the same.
        for key in self.incidents.keys() {
            let core = usize::from(key.core);
            if let Some(tenant) = self.slots[core].tenant(key.slot) {
                let (slot, generation) = (Slot(key.slot), tenant.generation);
                self.cores[core].outbox.put(slot, generation, Cadence::Grid);
            }
        }
        for slots in &mut self.slots {
            *slots = CoreSlots::new(self.timeline);
        }
        self.incidents = Incidents::new(HashMap::new());
        self.own = NodeEvents::default();
    }

    /// Memory as a start has it, and with what came to the journal since it was read, or waits for
    /// it.
    fn load_again(&mut self, regained: Regained, now: Now) -> Result<Answer, PersistError> {
        let Regained {
            fence,
            since,
            floor,
            mut memory,
            mint,
            mut read,
        } = regained;
        self.mint.observe_all(&mint);
        let mut journal = self.queue.journal.borrow_mut();
        while memory.read(&mut journal, &mut read, &mut self.mint)? {}
        drop(journal);
        for batch in self.facts.seal() {
            memory.replay(batch.clone(), &mut self.mint);
        }
        let superseded = memory.superseded.up_to(self.facts.last_seq());
        let epoch = fence.epoch();
        tracing::info!(
            epoch,
            open_events = memory.open.len(),
            lag = self.queue.lag(),
            "this node writes again; its targets are loaded next"
        );
        self.queue.go_on(fence, (floor, floor), superseded);
        self.resume_own(&mut memory.open, now);
        self.incidents = Incidents::new(memory.open);
        Ok(Answer::Granted { epoch, since })
    }
}
