//! What the control plane asks of the sink, and its answers.

use crossbeam_channel::{TryRecvError, TrySendError};
use incident::{Input, Subject};
use model::fact::Event;
use model::{CoreIndex, Generation, Now, Slot, TargetId};

use super::{Sink, Stop, Waiter};
use crate::ages::FreshnessAges;
use crate::apply::FactStore;
use crate::handle::{Registration, SinkCommand};
use crate::incidents::Key;
use crate::start::Resumed;
use crate::windows::Windows;

impl<S: FactStore> Sink<S> {
    pub(super) fn take_commands(&mut self, now: Now) {
        self.ledger.counters.commands_waiting = self.commands.len() as u64;
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command, now),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    if !self.is_stopping() {
                        self.stop = Stop::Unattended;
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn obey(&mut self, command: SinkCommand, now: Now) {
        match command {
            // Once this node writes again it is told of every target.
            SinkCommand::Register(_) | SinkCommand::Abandon { .. } if self.tenure.is_lost() => {}
            SinkCommand::Register(registrations) => {
                for registration in &registrations {
                    self.register(registration, now);
                }
            }
            SinkCommand::Placed(slots) => {
                for (core, slot) in slots {
                    self.placed(core, slot, now);
                }
            }
            SinkCommand::Retire { core, slot, by } => {
                if let Some(key) = self.key_of(core, slot) {
                    self.retire(key, by, now);
                }
            }
            SinkCommand::Abandon { targets, by } => self.abandon(&targets, by.as_ref(), now),
            // Whoever asked may have gone: then the answers are for nobody.
            SinkCommand::Close { event, by, reply } => {
                let _ = reply.send(!self.tenure.is_lost() && self.close_event(event, by, now));
            }
            SinkCommand::Windows(occurrences) => self.windows = Windows::of(occurrences),
            SinkCommand::Look { core, slot, reply } => {
                let key = self.key_of(core, slot);
                let _ = reply.send(key.and_then(|key| self.look_at(key, now)));
            }
            SinkCommand::Watch {
                core,
                slot,
                since,
                reply,
            } => {
                if let Some(key) = self.key_of(core, slot) {
                    self.watches.add(key, since, reply);
                }
            }
            SinkCommand::Loaded { keep, epoch } => {
                if epoch == self.tenure.lease.epoch() && !self.tenure.is_lost() {
                    self.incidents.abandon_all_but(keep);
                }
            }
            SinkCommand::Health(health) => self.pressure.heard(health),
            SinkCommand::Answered { question, answers } => self.answered(&question, answers, now),
            SinkCommand::Flush { done } => self.asked.push(done),
            SinkCommand::Ages { reply } => {
                // Nobody may be waiting any more: then the answer is for nobody.
                let _ = reply.send(FreshnessAges {
                    in_maintenance: self.in_maintenance(now),
                    ..FreshnessAges::of(self.slots.iter(), now.mono)
                });
            }
            SinkCommand::Stop { done } => self.stop = Stop::Asked(done),
        }
    }

    pub(super) fn number_of(&self, index: CoreIndex) -> Option<u16> {
        let number = self.cores.iter().position(|core| core.index == index);
        if number.is_none() {
            tracing::error!(
                core = index.0,
                "a command names a core that the sink does not know"
            );
        }
        number.map(|number| number as u16)
    }

    fn key_of(&self, core: CoreIndex, slot: Slot) -> Option<Key> {
        let core = self.number_of(core)?;
        Some(Key { core, slot: slot.0 })
    }

    pub(super) fn register(&mut self, registration: &Registration, now: Now) {
        let Some(core) = self.number_of(registration.core) else {
            return;
        };
        let key = Key {
            core,
            slot: registration.slot.0,
        };
        let before = self.slots[usize::from(core)].tenant(key.slot);
        if before.is_some_and(|tenant| tenant.target != registration.target) {
            tracing::error!(
                slot = key.slot,
                "a slot was given away before it was released"
            );
            self.retire(key, None, now);
        }
        if !self.slots[usize::from(core)].register(registration, now.mono) {
            tracing::error!(slot = key.slot, "a slot number is beyond every limit");
            return;
        }
        for Resumed { event, transitions } in self.incidents.claim(registration.target) {
            self.step(key, Input::Resume { event, transitions }, now);
        }
    }

    fn placed(&mut self, core: CoreIndex, slot: Slot, now: Now) {
        let Some(core) = self.number_of(core) else {
            return;
        };
        let key = Key { core, slot: slot.0 };
        if self.incidents.has(key) {
            self.step(key, Input::Placed, now);
        }
    }

    pub(super) fn retire(&mut self, key: Key, by: Option<String>, now: Now) {
        if self.incidents.has(key) {
            self.step(key, Input::Retired { by }, now);
        }
        self.watches.forget(key);
        self.slots[usize::from(key.core)].clear(key.slot);
        self.incidents.forget_commands(key);
        self.cores[usize::from(key.core)]
            .outbox
            .forget(Slot(key.slot));
    }

    fn abandon(&mut self, targets: &[TargetId], by: Option<&String>, now: Now) {
        for &target in targets {
            for resumed in self.incidents.claim(target) {
                let by = by.cloned();
                self.end_unseated(resumed, Input::Retired { by }, now);
            }
        }
    }

    /// Closes open events whose target is not watched any more, as [`Sink::retire`] would have
    /// done; no more at a time than may wait for the journal.
    pub(super) fn close_abandoned(&mut self, now: Now) {
        let room = self.waiting_max.saturating_sub(self.facts.len());
        let abandoned = self.incidents.take_abandoned(room);
        if !abandoned.is_empty() {
            tracing::info!(
                events = abandoned.len(),
                "open events are closed: their targets were switched off while no node ran"
            );
        }
        for resumed in abandoned {
            self.end_unseated(resumed, Input::Retired { by: None }, now);
        }
    }

    pub(super) fn note_flushes(&mut self) {
        for done in std::mem::take(&mut self.asking) {
            self.flush_wanted = true;
            // A flight that is under way left before what waits now.
            let flights = if self.flushes.is_idle() { 1 } else { 2 };
            self.waiters.push(Waiter {
                journal_seq: self.facts.last_seq(),
                flushes: self.flushes.succeeded + flights,
                done,
            });
        }
    }

    pub(super) fn answer_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let applied = self.queue.applied();
        let (succeeded, pending) = (self.flushes.succeeded, self.freshness_pending());
        let idle = self.flushes.is_idle() && pending == 0 && !self.flush_wanted;
        let is_done = |waiter: &mut Waiter| {
            applied >= waiter.journal_seq && (idle || succeeded >= waiter.flushes)
        };
        for waiter in self.waiters.extract_if(.., is_done) {
            // Whoever asked may have gone: then nobody waits for the answer.
            let _ = waiter.done.send(());
        }
        // A flush that failed, or that left before the question, is followed by another.
        self.flush_wanted |= !self.waiters.is_empty() && !idle;
    }

    pub(super) fn send_released(&mut self) {
        while let Some(&released) = self.to_release.front() {
            match self.released.try_send(released) {
                Err(TrySendError::Full(_)) => return,
                Ok(()) | Err(TrySendError::Disconnected(_)) => self.to_release.pop_front(),
            };
        }
    }
}

/// Whose `event` is, when no slot says it: nothing is probed, so there is no cadence.
pub(super) fn subject_of(event: &Event) -> Subject {
    Subject {
        target: event.target,
        group_id: event.group_id,
        generation: Generation(0),
        interval_s: 0,
        method: None,
        maintenance: None,
    }
}
