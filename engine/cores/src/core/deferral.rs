//! Checks that wait for their destination: which address a check will go to, and who goes next when
//! it has room. Each destination has two queues in the wheel: commanded before routine.

use std::net::IpAddr;

use model::{MonoUs, Now, Slot};

use super::{Core, QUEUES};
use crate::attempts::AttemptKey;
use crate::destinations::{DestinationId, Room};
use crate::tick::tick_start;

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
            Some(host) => self.resolver.next_address(host),
            None => self.targets.literal(slot),
        }
    }

    /// The slot that leads a global queue, if its destination has room and nobody waits there
    /// before it; else it waits there from now on, and `None`.
    pub(super) fn ready_or_deferred(&mut self, slot: Slot, due: MonoUs, now: Now) -> Option<Ready> {
        let address = self.next_address(slot);
        let destination = address.and_then(|address| self.destinations.find(address, now.mono));
        let ready = Ready {
            slot,
            due,
            destination,
        };
        let Some(id) = destination else {
            return Some(ready);
        };
        let commanded = self.targets.is_commanded(slot);
        let waits = |queue| self.wheel.front(queue).is_some();
        let behind =
            waits(Self::queue_commanded(id)) || !commanded && waits(Self::queue_routine(id));
        if !behind && self.destinations.room(id, now.mono) == Room::Free {
            return Some(ready);
        }
        self.account.deferred += 1;
        self.account.deferred_total += 1;
        self.defer(slot, id, commanded);
        self.destinations.settle(id, true, now.mono);
        None
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

    /// A check that waits for its destination was commanded meanwhile: it goes before routine ones.
    pub(super) fn promote_deferred(&mut self, slot: Slot) {
        let queue = self.wheel.queue(slot.0);
        if let Some(queue) = queue.filter(|queue| *queue >= QUEUES) {
            let id = DestinationId((queue - QUEUES) / 2);
            self.targets.set_commanded(slot);
            self.defer(slot, id, true);
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

    /// A deferred check keeps its place over the phase points that pass while it waits: those are
    /// the checks that were left out.
    pub(super) fn end_deferral(&mut self, slot: Slot, due: MonoUs, now: Now) {
        self.account.deferred -= 1;
        if self.targets.is_commanded(slot) {
            return;
        }
        let cadence_us = u64::from(self.targets.cadence_ms(slot)) * 1_000;
        let missed = now.mono.since(due) / cadence_us.max(1);
        self.account.due += missed;
        self.account.shed += missed;
        self.account.shed_deferred += missed;
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

    /// The attempt connects: from now on it is counted under the address that is really used.
    pub(super) fn meet(&mut self, key: AttemptKey, address: IpAddr, now: Now) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let before = entry.destination;
        if before.is_some_and(|id| self.destinations.is(id, address)) {
            return;
        }
        let met = self.destinations.find(address, now.mono);
        entry.destination = met;
        self.enter_destination(met, now);
        self.leave_destination(before, now);
    }
}
