//! Attempts in flight: a slab with epochs, so that a key of a finished attempt finds nothing.

use model::limits::{ATTEMPT_BUFFERS_MAX, STALL_SHARE_PERCENT};
use model::{Generation, MonoUs, Now, Slot, Target, Ticket};
use prober::attempt::{Attempt, Buffers, Command};
use prober::resolver::HostId;

use crate::destinations::DestinationId;
use crate::networks::Network;

/// Names one attempt; never valid again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    /// Index in the slab: small, dense, used again.
    pub index: u32,
    epoch: u32,
}

impl AttemptKey {
    /// The key as the resolver's opaque waiter.
    pub(crate) fn waiter(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.index)
    }

    /// The key that was made into `waiter`.
    pub(crate) fn from_waiter(waiter: u64) -> Self {
        Self {
            index: waiter as u32,
            epoch: (waiter >> 32) as u32,
        }
    }
}

/// For whom an attempt runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// A scheduled target.
    Slot(Slot),
    /// A one-shot.
    OneShot {
        /// Names the report.
        ticket: Ticket,
    },
}

/// A one-shot that waits for its start.
#[derive(Debug)]
pub(crate) struct OneShot {
    /// What to check.
    pub(crate) target: Box<Target>,
    /// Names the report.
    pub(crate) ticket: Ticket,
    /// It was asked before, over a kept connection that took its time: now it has its own.
    pub(crate) is_again: bool,
}

/// One attempt in flight.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts that change by themselves"
)]
pub(crate) struct InFlight {
    /// For whom.
    pub(crate) owner: Owner,
    /// Generation at the start.
    pub(crate) generation: Generation,
    /// Sequence number on the slot.
    pub(crate) seq: u32,
    /// When it was due.
    pub(crate) due: MonoUs,
    /// When the reactor took it up; `None` until then.
    pub(crate) started: Option<Now>,
    /// Sum of stalls at the start, in µs.
    pub(crate) stalled_us: u64,
    /// From the start to the one deadline, in ms.
    pub(crate) timeout_ms: u32,
    /// The name to resolve, `None` for a literal address.
    pub(crate) host: Option<HostId>,
    /// The address that the attempt is counted under, once known; `None` when it has no caps.
    pub(crate) destination: Option<DestinationId>,
    /// The address of a connection beside the first one; it is counted under that too.
    pub(crate) rival: Option<DestinationId>,
    /// The network of the address that was tried last.
    pub(crate) network: Option<Network>,
    /// Connections that the reactor opens beside the I/O under way; by bit.
    pub(crate) beside: u8,
    /// The I/O under way opens a connection, as far as the core knows.
    pub(crate) connecting: bool,
    /// Since when the connection that was asked for last is there.
    pub(crate) connected: MonoUs,
    /// Whether it has begun to connect.
    pub(crate) connects: bool,
    /// Whether the resolver owes an answer.
    pub(crate) resolving: bool,
    /// Whether the check was commanded.
    pub(crate) commanded: bool,
    /// A command that a timer brought about while I/O was under way: that I/O must be dropped.
    pub(crate) interrupt: Option<Command>,
    /// The machine.
    pub(crate) attempt: Attempt,
}

// What the slab has of every attempt in flight, its epoch apart.
const _: () = assert!(size_of::<InFlight>() <= 640);

impl InFlight {
    /// Whether the core stood still for so much of its time that what became of it may be ours;
    /// `stalled_us` is the sum of stalls by now.
    pub(crate) fn met_stall(&self, stalled_us: u64) -> bool {
        let timeout_us = u64::from(self.timeout_ms) * 1_000;
        stalled_us.saturating_sub(self.stalled_us) * 100 > timeout_us * STALL_SHARE_PERCENT
    }

    /// Its end; `None` before the reactor took it up.
    pub(crate) fn deadline(&self) -> Option<MonoUs> {
        let started = self.started?.mono;
        Some(started.plus_ms(u64::from(self.timeout_ms)))
    }
}

#[derive(Debug)]
struct Cell {
    epoch: u32,
    entry: Option<InFlight>,
}

/// Buffers of finished attempts, for the next ones: bounded in number, and each in its room.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    kept: Vec<Buffers>,
    bytes: usize,
}

impl BufferPool {
    /// Buffers for an attempt, used ones first.
    fn take(&mut self) -> Buffers {
        let buffers = self.kept.pop().unwrap_or_default();
        self.bytes -= buffers.bytes();
        buffers
    }

    /// Keeps `buffers`, while there are not enough.
    fn give(&mut self, buffers: Buffers) {
        if self.kept.len() < ATTEMPT_BUFFERS_MAX {
            self.bytes += buffers.bytes();
            self.kept.push(buffers);
        }
    }

    /// Sets of buffers kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Memory that they hold, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The slab, with a pool of the buffers of finished attempts.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    cells: Vec<Cell>,
    free: Vec<u32>,
    buffers: BufferPool,
}

impl Attempts {
    /// Attempts in flight.
    pub(crate) fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Buffers for a new attempt, used ones first.
    pub(crate) fn buffers(&mut self) -> Buffers {
        self.buffers.take()
    }

    /// The buffers that wait for the next attempts.
    pub(crate) fn pool(&self) -> &BufferPool {
        &self.buffers
    }

    /// The index that the next insert will use.
    pub(crate) fn next_index(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.cells.len() as u32)
    }

    /// Adds an attempt.
    pub(crate) fn insert(&mut self, entry: InFlight) -> AttemptKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Cell {
                epoch: 0,
                entry: None,
            });
            self.cells.len() as u32 - 1
        });
        let cell = &mut self.cells[index as usize];
        cell.entry = Some(entry);
        AttemptKey {
            index,
            epoch: cell.epoch,
        }
    }

    /// The attempt, `None` once it ended.
    pub(crate) fn get_mut(&mut self, key: AttemptKey) -> Option<&mut InFlight> {
        let cell = self.cells.get_mut(key.index as usize)?;
        if cell.epoch == key.epoch {
            cell.entry.as_mut()
        } else {
            None
        }
    }

    /// Whether the attempt still runs and wants its I/O under way to go on.
    pub(crate) fn is_undisturbed(&self, key: AttemptKey) -> bool {
        let cell = self
            .cells
            .get(key.index as usize)
            .filter(|cell| cell.epoch == key.epoch);
        let entry = cell.and_then(|cell| cell.entry.as_ref());
        entry.is_some_and(|entry| entry.interrupt.is_none())
    }

    /// The key of what runs at `index`.
    pub(crate) fn key_at(&self, index: u32) -> Option<AttemptKey> {
        let cell = self.cells.get(index as usize)?;
        cell.entry.is_some().then_some(AttemptKey {
            index,
            epoch: cell.epoch,
        })
    }

    /// Ends an attempt; its buffers go to the next one.
    pub(crate) fn remove(&mut self, key: AttemptKey) {
        let Some(cell) = self.cells.get_mut(key.index as usize) else {
            return;
        };
        let Some(entry) = cell.entry.as_mut().filter(|_| cell.epoch == key.epoch) else {
            return;
        };
        self.buffers.give(entry.attempt.take_buffers());
        cell.entry = None;
        cell.epoch = cell.epoch.wrapping_add(1);
        self.free.push(key.index);
    }

    /// Every attempt in flight.
    pub(crate) fn keys(&self) -> Vec<AttemptKey> {
        (0..self.cells.len() as u32)
            .filter_map(|index| self.key_at(index))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_no_more_than_its_limit_and_knows_what_it_holds() {
        let mut pool = BufferPool::default();
        let buffers = || Buffers {
            out: Vec::with_capacity(100),
            ..Buffers::default()
        };
        for _ in 0..ATTEMPT_BUFFERS_MAX + 10 {
            pool.give(buffers());
        }
        assert_eq!(pool.len(), ATTEMPT_BUFFERS_MAX);
        assert_eq!(pool.bytes(), ATTEMPT_BUFFERS_MAX * buffers().bytes());
        for _ in 0..ATTEMPT_BUFFERS_MAX {
            assert_eq!(pool.take().bytes(), buffers().bytes());
        }
        assert_eq!((pool.len(), pool.bytes()), (0, 0));
        assert_eq!(pool.take().bytes(), 0, "an empty pool gives new ones");
    }
}
