//! Facts on their way to the journal: gathered into batches, numbered, kept until they are
//! durable. It must not know the disk.

use std::collections::VecDeque;

use model::fact::{Batch, Fact};
use model::limits::BATCH_MAX;
use model::{MonoUs, limits::JOURNAL_SYNC_MS};

/// Facts wait this long for company before they are written: half the promise, so that one more
/// turn of the loop and the sync itself fit into it.
const GATHER_MS: u64 = JOURNAL_SYNC_MS / 2;

/// Facts that are not durable yet, in order.
#[derive(Debug)]
pub(crate) struct FactQueue {
    open: Vec<Fact>,
    sealed: VecDeque<Batch>,
    sealed_facts: usize,
    bytes: usize,
    next_seq: u64,
    oldest: Option<MonoUs>,
}

impl FactQueue {
    /// An empty queue whose first batch will be number `next_seq`.
    pub(crate) fn new(next_seq: u64) -> Self {
        Self {
            open: Vec::new(),
            sealed: VecDeque::new(),
            sealed_facts: 0,
            bytes: 0,
            next_seq,
            oldest: None,
        }
    }

    /// Adds a fact that was decided at `now`.
    pub(crate) fn push(&mut self, fact: Fact, now: MonoUs) {
        self.oldest.get_or_insert(now);
        self.bytes += size_bytes(&fact);
        self.open.push(fact);
    }

    /// Facts that wait.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.sealed_facts
    }

    /// Memory that they take, about: evidence is most of it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is time to write.
    pub(crate) fn is_due(&self, now: MonoUs) -> bool {
        self.open.len() >= BATCH_MAX
            || self
                .oldest
                .is_some_and(|oldest| now.since(oldest) >= GATHER_MS * 1_000)
    }

    /// Numbers everything that waits; a number once given stays with its facts, so that a batch
    /// that is written twice is the same batch.
    pub(crate) fn seal(&mut self) -> impl Iterator<Item = &Batch> {
        while !self.open.is_empty() {
            let rest = self.open.split_off(self.open.len().min(BATCH_MAX));
            let facts = std::mem::replace(&mut self.open, rest);
            self.sealed_facts += facts.len();
            self.sealed.push_back(Batch {
                journal_seq: self.next_seq,
                facts,
            });
            self.next_seq += 1;
        }
        self.sealed.iter()
    }

    /// Number of the last batch that was sealed.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Takes the first sealed batch, which is durable now.
    pub(crate) fn pop(&mut self) -> Option<Batch> {
        let batch = self.sealed.pop_front()?;
        self.sealed_facts -= batch.facts.len();
        self.bytes -= batch.facts.iter().map(size_bytes).sum::<usize>();
        if self.len() == 0 {
            self.oldest = None;
        }
        Some(batch)
    }
}

/// Memory that `fact` takes, about.
pub(crate) fn size_bytes(fact: &Fact) -> usize {
    let beside = match fact {
        Fact::Transitioned { transition, .. } => transition.size_bytes(),
        Fact::Counted { .. } => 0,
    };
    size_of::<Fact>() + beside
}
