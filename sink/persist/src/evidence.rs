//! Evidence between its channel and its outcome. Cores send evidence before the outcome, so it is
//! here when its outcome is drained; cut to class and errno when its channel was full at the core.

use std::collections::{HashMap, VecDeque};

use model::limits::EVIDENCE_WAITING_MAX;
use model::{Evidence, Outcome};

/// Core, slot, generation and sequence number of a check.
type Check = (u16, u32, u32, u32);

/// Evidence whose outcome has not been drained yet.
#[derive(Debug)]
pub(crate) struct EvidenceShelf {
    max: usize,
    waiting: HashMap<Check, Box<Evidence>>,
    /// In the order of arrival; names of what was taken meanwhile are skipped.
    order: VecDeque<Check>,
    dropped: u64,
}

impl EvidenceShelf {
    /// Room for what the channels of `cores` cores hold, twice: one turn takes all of them.
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            max: cores * EVIDENCE_WAITING_MAX,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Keeps evidence of core number `core`; the oldest goes when there is too much.
    pub(crate) fn put(&mut self, core: u16, evidence: Box<Evidence>) {
        let check = (core, evidence.slot, evidence.generation, evidence.seq);
        if self.waiting.insert(check, evidence).is_none() {
            self.order.push_back(check);
        }
        while self.waiting.len() > self.max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.dropped += u64::from(self.waiting.remove(&oldest).is_some());
        }
        if self.order.len() > 2 * self.max {
            self.order.retain(|check| self.waiting.contains_key(check));
        }
    }

    /// The evidence of `outcome`.
    pub(crate) fn take(&mut self, core: u16, outcome: &Outcome) -> Option<Box<Evidence>> {
        let check = (core, outcome.slot.0, outcome.generation.0, outcome.seq);
        let found = self.waiting.remove(&check);
        if self.waiting.is_empty() {
            self.order.clear();
        }
        found
    }

    /// A copy of the evidence of `outcome`.
    pub(crate) fn look(&self, core: u16, outcome: &Outcome) -> Option<Box<Evidence>> {
        let check = (core, outcome.slot.0, outcome.generation.0, outcome.seq);
        self.waiting.get(&check).cloned()
    }

    /// Records that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Records dropped because too many waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use model::{Generation, Slot, UnixMs};

    use super::*;
    use crate::testbed::healthy;

    #[test]
    fn evidence_finds_exactly_its_outcome() {
        let mut shelf = EvidenceShelf::new(1);
        let outcome = Outcome {
            seq: 5,
            ..healthy(1, 2, UnixMs(0))
        };
        shelf.put(0, Box::new(Evidence::of(Slot(1), Generation(2), 5)));
        assert!(shelf.take(1, &outcome).is_none());
        assert!(shelf.take(0, &Outcome { seq: 6, ..outcome }).is_none());
        assert!(shelf.take(0, &outcome).is_some());
        assert!(shelf.take(0, &outcome).is_none());
        assert_eq!(shelf.order.len(), 0);
    }

    #[test]
    fn every_core_has_room_for_its_own() {
        let mut shelf = EvidenceShelf::new(3);
        for core in 0..3 {
            for seq in 0..EVIDENCE_WAITING_MAX as u32 {
                shelf.put(core, Box::new(Evidence::of(Slot(1), Generation(0), seq)));
            }
        }
        assert_eq!(
            (shelf.len(), shelf.dropped()),
            (3 * EVIDENCE_WAITING_MAX, 0)
        );
        shelf.put(0, Box::new(Evidence::of(Slot(2), Generation(0), 0)));
        assert_eq!(
            (shelf.len(), shelf.dropped()),
            (3 * EVIDENCE_WAITING_MAX, 1)
        );
    }

    #[test]
    fn what_never_finds_its_outcome_is_dropped_oldest_first() {
        let mut shelf = EvidenceShelf::new(1);
        for seq in 0..EVIDENCE_WAITING_MAX as u32 + 10 {
            shelf.put(0, Box::new(Evidence::of(Slot(1), Generation(0), seq)));
        }
        assert_eq!((shelf.len(), shelf.dropped()), (EVIDENCE_WAITING_MAX, 10));
        assert!(
            shelf
                .take(
                    0,
                    &Outcome {
                        seq: 9,
                        ..healthy(1, 0, UnixMs(0))
                    }
                )
                .is_none()
        );
        assert!(
            shelf
                .take(
                    0,
                    &Outcome {
                        seq: 10,
                        ..healthy(1, 0, UnixMs(0))
                    }
                )
                .is_some()
        );
    }
}
