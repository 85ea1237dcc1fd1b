//! Checks that wait for their destination: which address a check will go to, and who goes next when
//! it has room. Each destination has two queues in the wheel: commanded before routine. Of a target
//! whose address is slowed down every second routine check is left out.

use std::net::IpAddr;

use model::{MonoUs, Now, Slot};

use super::{Core, QUEUE_COMMANDED, QUEUE_ROUTINE, QUEUES};
use crate::attempts::{AttemptKey, Owner};
use crate::destinations::{DestinationId, Room};
use crate::tick::{tick_at, tick_start};

/// A check that may start, and the destination that it is counted under, if that is known and
/// capped.
pub(super) struct Ready {
    pub(super) slot: Slot,
    pub(super) due: MonoUs,
    pub(super) destination: Option<DestinationId>,
}

impl Core {
    /// The queues of what waits for `id`.
    fn queue_commanded(id: DestinationId) -> u32 {
        QUEUES + 2 * id.0
    }

    fn queue_routine(id: DestinationId) -> u32 {
        QUEUES + 2 * id.0 + 1
    }

    /// Whether the slot waits for its destination.
    pub(super) fn is_deferred(&self, slot: Slot) -> bool {
        self.wheel
            .queue(slot.0)
            .is_some_and(|queue| queue >= QUEUES)
    }

    /// The address that the next check of the slot will go to, as far as is known before it is
    /// resolved: the literal one, or the one that the cache gives out next.
    fn next_address(&self, slot: Slot) -> Option<IpAddr> {
        match self.targets.host(slot) {
            _ if !self.targets.connects(slot) => None,
            Some(host) => self.resolver.next_address(host),
            None => self.targets.literal(slot),
        }
    }

    /// The slot that leads a global queue, if its destination has room and nobody waits there
    /// before it; else it waits there from now on, or is left out, and `None`.
    pub(super) fn ready_or_deferred(&mut self, slot: Slot, due: MonoUs, now: Now) -> Option<Ready> {
        let address = self.next_address(slot);
        if self.destinations.may_slow() && self.is_one_too_many(slot, address, now) {
            self.account.shed_slowed += 1;
            self.shed(slot, now);
            return None;
        }
        let destination = address.and_then(|address| self.destinations.find(address, now.mono));
        let ready = Ready {
            slot,
            due,
            destination,
        };
        let Some(id) = destination else {
            return Some(ready);
        };
        if self.must_wait(id, self.targets.is_commanded(slot), now) {
            self.wait_for(slot, id, now);
            return None;
        }
        Some(ready)
    }

    /// Whether the address is slowed down, and the check before this routine one was not left out.
    fn is_one_too_many(&self, slot: Slot, address: Option<IpAddr>, now: Now) -> bool {
        let is_slow = |address| self.destinations.is_slow(address, now.mono);
        self.targets.hunger(slot) == 0
            && !self.targets.is_commanded(slot)
            && address.is_some_and(is_slow)
    }

    /// Whether a check finds no room, or others that were there before it.
    fn must_wait(&self, id: DestinationId, commanded: bool, now: Now) -> bool {
        let waits = |queue| self.wheel.front(queue).is_some();
        let behind =
            waits(Self::queue_commanded(id)) || !commanded && waits(Self::queue_routine(id));
        behind || self.destinations.room(id, now.mono) != Room::Free
    }

    /// From now on the slot, which is queued, waits for `id`.
    fn wait_for(&mut self, slot: Slot, id: DestinationId, now: Now) {
        self.account.deferred += 1;
        self.account.deferred_total += 1;
        self.defer(slot, id, self.targets.is_commanded(slot));
        self.destinations.settle(id, true, now.mono);
    }

    fn defer(&mut self, slot: Slot, id: DestinationId, commanded: bool) {
        let queue = if commanded {
            Self::queue_commanded(id)
        } else {
            Self::queue_routine(id)
        };
        let due = self.wheel.last_due(slot.0);
        self.wheel.enqueue(queue, slot.0, due);
    }

    /// A check that waits was commanded meanwhile: it goes before routine ones.
    pub(super) fn promote(&mut self, slot: Slot) {
        let Some(queue) = self.wheel.queue(slot.0) else {
            return;
        };
        self.targets.set_commanded(slot);
        let waits_for = queue.checked_sub(QUEUES).map(|at| DestinationId(at / 2));
        match waits_for {
            None if queue == QUEUE_COMMANDED => {}
            None => {
                let due = self.wheel.last_due(slot.0);
                self.wheel.enqueue(QUEUE_COMMANDED, slot.0, due);
            }
            Some(id) if queue == Self::queue_commanded(id) => {}
            Some(id) => self.defer(slot, id, true),
        }
    }

    /// The next check whose destination has room again.
    pub(super) fn next_deferred(&mut self, now: Now) -> Option<Ready> {
        while let Some(id) = self.destinations.first_open() {
            let front = self.first_waiting(id);
            let free = self.destinations.room(id, now.mono) == Room::Free;
            if let Some((index, due_tick)) = front.filter(|_| free) {
                return Some(Ready {
                    slot: Slot(index),
                    due: tick_start(due_tick, now.mono),
                    destination: Some(id),
                });
            }
            self.destinations.close_first();
            self.destinations.settle(id, front.is_some(), now.mono);
        }
        None
    }

    fn first_waiting(&self, id: DestinationId) -> Option<(u32, u32)> {
        let commanded = self.wheel.front(Self::queue_commanded(id));
        commanded.or_else(|| self.wheel.front(Self::queue_routine(id)))
    }

    /// The check has waited long enough, if it did: its lag counts from now, since the node was not
    /// what it waited for. It kept its place over the phase points that passed meanwhile: those are
    /// the checks that were left out.
    pub(super) fn end_deferral(&mut self, ready: Ready, now: Now) -> Ready {
        if !self.is_deferred(ready.slot) {
            return ready;
        }
        self.account.deferred -= 1;
        if !self.targets.is_commanded(ready.slot) {
            let cadence_us = u64::from(self.targets.cadence_ms(ready.slot)) * 1_000;
            self.shed_while_deferred(now.mono.since(ready.due) / cadence_us.max(1));
        }
        Ready {
            due: now.mono,
            ..ready
        }
    }

    /// Checks that came due and were left out while another one of their target waited.
    fn shed_while_deferred(&mut self, checks: u64) {
        self.account.due += checks;
        self.account.shed += checks;
        self.account.shed_deferred += checks;
    }

    /// The target may have another address now: it does not wait for the old one.
    pub(super) fn rejoin(&mut self, slot: Slot, now: Now) {
        self.account.deferred -= 1;
        self.line_up(slot, tick_at(now.mono));
    }

    /// Nothing is due in a pause: routine checks that wait for their destination are left out, or
    /// they would count its phase points as missed.
    pub(super) fn shed_deferred_routine(&mut self, now: Now) {
        let routine = (QUEUES + 1..self.wheel.queues()).step_by(2);
        for queue in routine {
            while let Some(slot) = self.wheel.front(queue).map(|(index, _)| Slot(index)) {
                if self.targets.is_commanded(slot) {
                    self.promote(slot);
                    continue;
                }
                self.account.deferred -= 1;
                self.account.shed_deferred += 1;
                self.shed(slot, now);
            }
        }
    }

    /// Destinations that time gave room, or that nothing is left of.
    pub(super) fn revisit_destinations(&mut self, now: Now) {
        while let Some(id) = self.destinations.pop_due(now.mono) {
            self.settle_destination(id, now);
        }
    }

    fn settle_destination(&mut self, id: DestinationId, now: Now) {
        let waiting = self.first_waiting(id).is_some();
        self.destinations.settle(id, waiting, now.mono);
    }

    /// Counts an attempt that starts against `id`.
    pub(super) fn enter_destination(&mut self, id: Option<DestinationId>, now: Now) {
        if let Some(id) = id {
            self.destinations.start(id, now.mono);
        }
    }

    /// Counts the end of an attempt against `id`.
    pub(super) fn leave_destination(&mut self, id: Option<DestinationId>, now: Now) {
        if let Some(id) = id {
            self.destinations.end(id);
            self.settle_destination(id, now);
        }
    }

    /// The attempt connects: from now on it is counted under the address that is really used. One
    /// whose address was not known at its start may find no room there: then it never was, and
    /// its check waits with the others.
    pub(super) fn meet(&mut self, key: AttemptKey, address: IpAddr, now: Now) -> Meeting {
        let draining = self.drain_by.is_some();
        let Some(entry) = self.attempts.get_mut(key) else {
            return Meeting::Counted;
        };
        let before = entry.destination;
        let first = !std::mem::replace(&mut entry.connects, true);
        if before.is_some_and(|id| self.destinations.is(id, address)) {
            return Meeting::Counted;
        }
        let (owner, generation, commanded) = (entry.owner, entry.generation, entry.commanded);
        let met = self.destinations.find(address, now.mono);
        if let (Some(id), None, Owner::Slot(slot)) = (met, before, owner) {
            let same = self.targets.generation(slot) == generation;
            if first && same && !draining && self.must_wait(id, commanded, now) {
                self.postpone(key, slot, id, now);
                return Meeting::Postponed;
            }
        }
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.destination = met;
        }
        self.enter_destination(met, now);
        self.leave_destination(before, now);
        Meeting::Counted
    }

    /// Takes an attempt back that has not connected yet.
    fn postpone(&mut self, key: AttemptKey, slot: Slot, id: DestinationId, now: Now) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let (due, commanded, host) = (entry.due, entry.commanded, entry.host);
        self.release_attempt(key, host);
        self.account.in_flight -= 1;
        let again = self.targets.ended(slot);
        if commanded || again {
            self.targets.set_commanded(slot);
        } else if self.paused {
            // As with those that waited already when the pause began.
            self.account.shed_deferred += 1;
            return self.shed(slot, now);
        }
        self.wheel.enqueue(QUEUE_ROUTINE, slot.0, tick_at(due));
        self.wait_for(slot, id, now);
    }
}

/// What came of an attempt that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// It goes on.
    Counted,
    /// It is no more.
    Postponed,
}
