//! Writing ahead: facts go into the journal when it is time, and memory moves on once they are
//! durable. While the journal cannot be written facts wait here, and it is tried now and then.

use model::fact::Fact;
use model::{MonoUs, Now};

use super::Sink;
use crate::apply::FactStore;
use crate::failpoint;
use crate::incidents::Command;
use crate::journal::Trouble;

/// Pause after a write that the disk refused, in ms; doubled each time, up to the longest. A try
/// makes and removes a file, and encodes what waits.
const RETRY_MIN_MS: u64 = 50;
const RETRY_MAX_MS: u64 = 2_000;
/// Pause while the disk budget is used up, in ms: looking costs the encoding of one batch.
const FULL_PAUSE_MS: u64 = 100;
/// How long no write was refused, and half of the budget is free, until it counts as over, in ms:
/// what waited meanwhile may use it up again and again.
const FULL_OVER_MS: u64 = 10_000;

/// What keeps facts out of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// The disk budget is used up.
    Budget,
    /// The disk.
    Disk,
}

/// Whether the journal takes facts, and when it is tried again.
#[derive(Debug, Default)]
pub(super) struct Standing {
    obstacle: Option<Obstacle>,
    pause_ms: u64,
    retry_at: Option<MonoUs>,
    /// The last write that was refused.
    refused_at: MonoUs,
}

impl Standing {
    /// Whether the last write did not take everything.
    pub(super) fn is_troubled(&self) -> bool {
        self.obstacle.is_some()
    }

    /// Whether that was for want of disk budget, of which there is not enough for good yet.
    pub(super) fn is_full(&self) -> bool {
        self.obstacle == Some(Obstacle::Budget)
    }

    fn may_try(&self, now: MonoUs) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// Notes how a write went; says what was in the way before.
    fn note(&mut self, obstacle: Option<Obstacle>, now: MonoUs) -> Option<Obstacle> {
        self.pause_ms = match obstacle {
            None => 0,
            Some(Obstacle::Budget) => FULL_PAUSE_MS,
            Some(Obstacle::Disk) => (self.pause_ms * 2).clamp(RETRY_MIN_MS, RETRY_MAX_MS),
        };
        self.retry_at = obstacle.map(|_| now.plus_ms(self.pause_ms));
        self.refused_at = now;
        std::mem::replace(&mut self.obstacle, obstacle)
    }

    /// A write took everything, and it may be tried as ever.
    fn lift(&mut self) {
        (self.pause_ms, self.retry_at) = (0, None);
    }

    /// Whether the disk budget was used up, and has not been for a while.
    fn is_lifted(&self, now: MonoUs) -> bool {
        let is_over = self.refused_at.plus_ms(FULL_OVER_MS) <= now;
        self.is_full() && self.retry_at.is_none() && is_over
    }
}

impl<S: FactStore> Sink<S> {
    /// Writes the waiting facts when it is time (or `at_once`), and advances memory when nothing
    /// waits any more.
    pub(super) fn write_ahead(&mut self, now: Now, at_once: bool) {
        let is_time = at_once || self.facts.is_due(now.mono);
        if self.facts.len() > 0 && is_time && self.standing.may_try(now.mono) {
            let (durable, trouble) = self.queue.journal.borrow_mut().commit(self.facts.seal());
            self.note_trouble(trouble, now.mono);
            for _ in 0..durable {
                if let Some(batch) = self.facts.pop() {
                    self.ledger.counters.journal_records += 1;
                    self.ledger.counters.transitions += transitions_in(&batch.facts);
                    self.queue.push(batch);
                }
            }
        }
        if self.standing.is_lifted(now.mono) && self.has_room() {
            self.standing.note(None, now.mono);
            tracing::info!("the journal takes facts again");
        }
        if self.facts.len() == 0 && self.incidents.is_ahead() {
            self.advance_memory();
        }
    }

    /// Whether so much waits for the journal that results are left where they are.
    pub(super) fn is_congested(&self) -> bool {
        self.facts.len() >= self.waiting_max || self.facts.bytes() >= self.waiting_max_bytes
    }

    /// Whether half of the disk budget is free, or nothing in it is still to be applied.
    fn has_room(&self) -> bool {
        let journal = self.queue.journal.borrow();
        journal.bytes() <= journal.max_bytes() / 2 || self.queue.lag() == 0
    }

    fn note_trouble(&mut self, trouble: Option<Trouble>, now: MonoUs) {
        let obstacle = trouble.as_ref().map(|trouble| match trouble {
            Trouble::Full => Obstacle::Budget,
            Trouble::Disk(_) => Obstacle::Disk,
        });
        if obstacle.is_none() && self.standing.is_full() {
            return self.standing.lift();
        }
        let before = self.standing.note(obstacle, now);
        match trouble {
            None if before.is_some() => tracing::info!("the journal takes facts again"),
            None => {}
            Some(Trouble::Full) => {
                self.queue.tidy_up();
                if before != obstacle {
                    tracing::error!(
                        "the journal has used up journal_max_mib because the store does not take \
                         its facts; incidents wait in memory until the store is back, and when \
                         that is full results wait at the probe cores, which check less: bring \
                         the store back, or start with a higher journal_max_mib"
                    );
                }
            }
            Some(Trouble::Disk(error)) => {
                self.ledger.counters.journal_errors += 1;
                if before != obstacle {
                    tracing::error!(%error, "facts cannot be written ahead; they wait in memory");
                }
            }
        }
    }

    fn advance_memory(&mut self) {
        let slots = &mut self.slots;
        let commands = self.incidents.advance(|key, rest| {
            slots[usize::from(key.core)].set_rest(key.slot, rest);
        });
        for Command {
            core,
            slot,
            generation,
            cadence,
        } in commands
        {
            self.cores[usize::from(core)]
                .outbox
                .put(slot, generation, cadence);
        }
        failpoint::pass("memory.after");
    }
}

fn transitions_in(facts: &[Fact]) -> u64 {
    facts
        .iter()
        .filter(|fact| matches!(fact, Fact::Transitioned { .. }))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_is_tried_less_and_less_often_and_a_used_up_budget_steadily() {
        let mut standing = Standing::default();
        let (mut now, mut tries) = (MonoUs(0), Vec::new());
        while now.0 < 10_000_000 {
            if standing.may_try(now) {
                standing.note(Some(Obstacle::Disk), now);
                tries.push(now.0 / 1_000);
            }
            now = now.plus_ms(10);
        }
        assert_eq!(tries[..5], [0, 50, 150, 350, 750]);
        let last = tries.windows(2).last().map(|pair| pair[1] - pair[0]);
        assert_eq!(last, Some(RETRY_MAX_MS));

        standing.note(Some(Obstacle::Budget), now);
        assert!(standing.is_full() && !standing.may_try(now.plus_ms(FULL_PAUSE_MS - 10)));
        assert!(standing.may_try(now.plus_ms(FULL_PAUSE_MS)));
        assert!(
            !standing.is_lifted(now.plus_ms(FULL_OVER_MS)),
            "it was not tried"
        );
        standing.lift();
        assert!(standing.may_try(now) && standing.is_full() && standing.is_troubled());
        assert!(!standing.is_lifted(now.plus_ms(FULL_OVER_MS - 10)));
        assert!(standing.is_lifted(now.plus_ms(FULL_OVER_MS)));
        assert_eq!(standing.note(None, now), Some(Obstacle::Budget));
        assert!(standing.may_try(now) && !standing.is_troubled());
    }
}
