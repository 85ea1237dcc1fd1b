//! Commands: what changes one target without touching any other.

use model::inbox::{Cadence, CoreCommand};
use model::limits::{COMMANDS_PER_TURN_MAX, GRID_RETURN_MS, INBOX_MAX};
use model::outcome::Outcome;
use model::{FailureClass, Generation, Now, Slot, Target, Ticket};

use super::{Core, QUEUE_COMMANDED};
use crate::attempts::OneShot;
use crate::tick::{tick_after, tick_at};

impl Core {
    /// Takes the commands that wait; not all in one turn when they are many, so that a writer in a
    /// hurry cannot keep the loop from its checks.
    pub(super) fn drain_inbox(&mut self, now: Now) {
        for _ in 0..COMMANDS_PER_TURN_MAX {
            let Ok(command) = self.channels.inbox.try_recv() else {
                return;
            };
            self.obey(command, now);
        }
    }

    fn obey(&mut self, command: CoreCommand, now: Now) {
        match command {
            CoreCommand::Upsert { slot, target } => self.upsert(slot, &target, now),
            CoreCommand::Remove { slot } => self.remove(slot, now),
            CoreCommand::Cadence {
                slot,
                generation,
                cadence,
            } => {
                self.set_cadence(slot, generation, cadence, now);
            }
            CoreCommand::CheckNow { slot } => self.check_now(slot, now),
            CoreCommand::OneShot { target, ticket } => self.accept_one_shot(target, ticket, now),
            CoreCommand::Pause(paused) => {
                self.paused = paused;
                if paused {
                    self.shed_deferred_routine(now);
                }
            }
            CoreCommand::Drain { within_ms } => self.start_drain(within_ms, now),
        }
    }

    /// A target that is queued or in flight stays so; another one waits for its next grid point.
    fn upsert(&mut self, slot: Slot, target: &Target, now: Now) {
        let changes = self.is_deferred(slot) && self.targets.generation(slot) != target.generation;
        self.targets.upsert(slot, target, &mut self.resolver);
        if changes {
            self.rejoin(slot, now);
        }
        let busy = self.wheel.is_queued(slot.0) || self.targets.attempt(slot).is_some();
        if !busy && self.targets.recheck_ms(slot).is_none() {
            self.schedule_on_grid(slot, self.grid_ms(now));
        } else if !busy && self.wheel.due(slot.0).is_none() {
            self.wheel.insert(slot.0, tick_at(now.mono) + 1);
        }
    }

    fn remove(&mut self, slot: Slot, now: Now) {
        if !self.targets.is_present(slot) {
            return;
        }
        if let Some(key) = self
            .targets
            .attempt(slot)
            .and_then(|at| self.attempts.key_at(at))
        {
            self.cancel(key, now);
        }
        // The end of the attempt may have queued a check that was asked for meanwhile.
        if self.wheel.is_queued(slot.0) {
            self.account.cancelled += 1;
        }
        if self.is_deferred(slot) {
            self.account.deferred -= 1;
        }
        self.wheel.cancel(slot.0);
        let generation = self
            .targets
            .remove(slot, &mut self.resolver)
            .unwrap_or_default();
        self.release_slot(slot, generation, now);
    }

    /// The marker goes the way of outcomes, so that it is the last word on its slot.
    fn release_slot(&mut self, slot: Slot, generation: Generation, now: Now) {
        self.send(Outcome::slot_released(slot, generation, now.unix));
    }

    fn set_cadence(&mut self, slot: Slot, generation: Generation, cadence: Cadence, now: Now) {
        if !self.targets.is_present(slot) || self.targets.generation(slot) != generation {
            return;
        }
        self.targets.set_cadence(slot, cadence);
        if self.wheel.is_queued(slot.0) {
            if matches!(cadence, Cadence::Recheck { .. }) {
                // As a commanded one it is never too late: it would hold up those behind it.
                self.promote(slot);
            }
            return;
        }
        if self.targets.attempt(slot).is_some() {
            return;
        }
        match cadence {
            Cadence::Grid => self.schedule_on_grid(slot, self.grid_ms(now) + GRID_RETURN_MS),
            Cadence::Recheck { after_ms } => {
                self.wheel
                    .insert(slot.0, tick_after(now.mono.plus_ms(u64::from(after_ms))));
            }
        }
    }

    fn check_now(&mut self, slot: Slot, now: Now) {
        if self.drain_by.is_some() || !self.targets.is_present(slot) {
            return;
        }
        if self.wheel.is_queued(slot.0) {
            self.promote(slot);
            return;
        }
        if self.targets.attempt(slot).is_some() {
            self.targets.set_again(slot);
            return;
        }
        self.targets.set_commanded(slot);
        self.account.due += 1;
        self.wheel
            .enqueue(QUEUE_COMMANDED, slot.0, tick_at(now.mono));
    }

    fn accept_one_shot(&mut self, target: Box<Target>, ticket: Ticket, now: Now) {
        self.account.one_shot.due += 1;
        if self.drain_by.is_some() {
            self.refuse_one_shot(ticket, FailureClass::LocalCancelled, now);
        } else if self.one_shots.len() >= INBOX_MAX {
            self.refuse_one_shot(ticket, FailureClass::LocalShed, now);
        } else {
            self.one_shots.push_back(OneShot {
                target,
                ticket,
                is_again: false,
            });
            self.account.one_shot.pending += 1;
        }
    }

    /// Stops dispatch; what waits is cancelled now, what runs at the end of the time given.
    fn start_drain(&mut self, within_ms: u64, now: Now) {
        self.drain_by = Some(now.mono.plus_ms(within_ms));
        self.account.cancelled += self.wheel.queued() as u64;
        self.account.deferred = 0;
        self.kept.clear();
        for queue in 0..self.wheel.queues() {
            while let Some((index, _)) = self.wheel.front(queue) {
                self.wheel.cancel(index);
            }
        }
        while let Some(OneShot { ticket, .. }) = self.one_shots.pop_front() {
            self.account.one_shot.pending -= 1;
            self.refuse_one_shot(ticket, FailureClass::LocalCancelled, now);
        }
    }
}
