//! Facts of the journal whose time is over: while this node had lost its shards, somebody else
//! wrote there. They are passed over, a shard as a whole, so that no story is half told.

use std::collections::HashMap;

use model::fact::Batch;
use model::{Shard, TargetId};
use store::Superseded;

/// Up to which journal number the facts of a shard are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SupersededFacts(HashMap<Shard, u64>);

impl SupersededFacts {
    /// As the store says; without an end it is everything, and of two ends the later one counts.
    pub(crate) fn of(all: &[Superseded]) -> Self {
        let mut known = HashMap::new();
        for one in all {
            let upto = known.entry(one.shard).or_default();
            *upto = one.upto.unwrap_or(u64::MAX).max(*upto);
        }
        Self(known)
    }

    /// Everything is up to `last_seq`: what the journal takes from now on is good.
    pub(crate) fn up_to(mut self, last_seq: u64) -> Self {
        self.0
            .values_mut()
            .for_each(|upto| *upto = (*upto).min(last_seq));
        self
    }

    /// Whether a fact about `target` with this journal number is passed over.
    pub(crate) fn has(&self, journal_seq: u64, target: TargetId) -> bool {
        !self.0.is_empty()
            && self
                .0
                .get(&target.shard())
                .is_some_and(|&upto| journal_seq <= upto)
    }

    /// Takes such facts out of `batch`; how many.
    pub(crate) fn strip(&self, batch: &mut Batch) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        let before = batch.facts.len();
        let journal_seq = batch.journal_seq;
        batch
            .facts
            .retain(|fact| !self.has(journal_seq, fact.target()));
        (before - batch.facts.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::target;

    #[test]
    fn a_shard_is_passed_over_up_to_its_number_and_others_are_not() {
        let of = |upto| Superseded {
            shard: target(7).shard(),
            upto,
        };
        let known = SupersededFacts::of(&[of(Some(9))]);
        assert!(known.has(9, target(7)) && !known.has(10, target(7)));
        assert!(!known.has(9, target(8)));
        let twice = SupersededFacts::of(&[of(Some(9)), of(Some(3))]);
        assert_eq!(twice, known);
        let all = SupersededFacts::of(&[of(None)]);
        assert!(all.has(u64::MAX, target(7)));
        let all = all.up_to(12);
        assert!(all.has(12, target(7)) && !all.has(13, target(7)));
    }
}
