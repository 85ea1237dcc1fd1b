//! Where somebody is who follows: what was shown of each shard, and what may still come late.
//!
//! ```text
//!  ids of a shard   ── settled ── middle ── known ──>
//!                    nothing is    shown ids are kept:
//!                    waited for    others may come late
//! ```
//!
//! A server takes a large offer of facts in two halves at once, so that an id may be there before a
//! lower one of its shard is. So what is not settled yet is read again from time to time.

use std::collections::BTreeSet;

use model::FactId;
use model::limits::{FACT_EPOCH_UNIX_MS, SHARDS};

/// Questions from one look back to the next: what is later than others of its shard by so many is
/// shown, by more than twice as many is not.
const QUESTIONS: u32 = 30;
/// Ids of what was shown and is not settled. Beyond them the lowest is settled at once.
const SHOWN_MAX: usize = 200_000;
/// What comes at once of a part of the fleet that was quiet may be so old: a store was away.
const SPAN_MS: u64 = 24 * 60 * 60 * 1_000;

/// The newest fact of each shard that was shown, or was there before.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    known: Vec<i64>,
    /// As it was at the last look back.
    middle: Vec<i64>,
    /// As it was at the look back before that one.
    settled: Vec<i64>,
    /// What was shown above `settled`.
    shown: BTreeSet<i64>,
    /// Questions since the last look back.
    questions: u32,
    /// It goes on from an id that somebody named: however old that is, nothing is left out.
    is_resumed: bool,
}

impl Cursor {
    /// After everything that there is.
    pub(super) fn at(newest: &[FactId]) -> Self {
        let mut known = vec![0; usize::from(SHARDS)];
        for id in newest {
            known[shard(*id)] = id.get();
        }
        Self::of(known, false)
    }

    /// After the transition `id`.
    pub(super) fn after(id: FactId) -> Self {
        Self::of(vec![id.get(); usize::from(SHARDS)], true)
    }

    fn of(known: Vec<i64>, is_resumed: bool) -> Self {
        Self {
            middle: known.clone(),
            settled: known.clone(),
            known,
            shown: BTreeSet::new(),
            questions: 0,
            is_resumed,
        }
    }

    /// Whether the next question looks back.
    pub(super) fn looks_back(&self) -> bool {
        self.questions >= QUESTIONS
    }

    /// The ids among which everything is that is to be read by `newest`: above the first, up to the
    /// second.
    pub(super) fn range(&self, newest: &[FactId]) -> Option<(i64, FactId)> {
        let from = if self.looks_back() {
            &self.settled
        } else {
            &self.known
        };
        let (mut after, mut upto) = (i64::MAX, None);
        for &id in newest {
            let known = from[shard(id)];
            if id.get() <= known {
                continue;
            }
            let floor = if self.is_resumed { 0 } else { first_id(id) };
            after = after.min(known.max(floor));
            upto = upto.max(Some(id));
        }
        upto.map(|upto| (after, upto))
    }

    /// Whether a transition was not shown yet; it counts as shown from now on.
    pub(super) fn take(&mut self, id: FactId) -> bool {
        if id.get() <= self.settled[shard(id)] || !self.shown.insert(id.get()) {
            return false;
        }
        if self.shown.len() > SHOWN_MAX {
            let lowest = self.shown.pop_first().and_then(FactId::new);
            if let Some(lowest) = lowest {
                self.settled[shard(lowest)] = lowest.get();
            }
        }
        true
    }

    /// Everything up to `newest` that is there was shown.
    pub(super) fn reach(&mut self, newest: &[FactId]) {
        let looked_back = self.looks_back();
        for &id in newest {
            let known = &mut self.known[shard(id)];
            *known = id.get().max(*known);
        }
        self.is_resumed = false;
        self.questions += 1;
        if looked_back {
            self.settle();
        }
    }

    fn settle(&mut self) {
        for (settled, middle) in self.settled.iter_mut().zip(&self.middle) {
            *settled = (*settled).max(*middle);
        }
        self.middle.clone_from(&self.known);
        let settled = &self.settled;
        self.shown
            .retain(|&id| FactId::new(id).is_some_and(|of| id > settled[shard(of)]));
        self.questions = 0;
    }
}

fn shard(id: FactId) -> usize {
    id.shard().get().into()
}

/// No id that was minted [`SPAN_MS`] before `id` is above it.
fn first_id(id: FactId) -> i64 {
    let ms = id
        .minted_at()
        .0
        .saturating_sub(FACT_EPOCH_UNIX_MS + SPAN_MS);
    (ms << 22) as i64
}

#[cfg(test)]
mod tests {
    use model::UnixMs;
    use model::ids::{FactMint, Shard};

    use super::*;

    const NOW: UnixMs = UnixMs(1_795_305_600_000);
    const HOUR_MS: u64 = 3_600_000;

    fn of_shard(raw: u16) -> Shard {
        Shard::new(raw).expect("a shard")
    }

    /// Asks while nothing new comes; what is read when it looks back, of those that are `there`.
    fn look_back(cursor: &mut Cursor, newest: &[FactId], there: &[FactId]) -> Vec<FactId> {
        while !cursor.looks_back() {
            assert_eq!(cursor.range(newest), None);
            cursor.reach(newest);
        }
        let (after, upto) = cursor.range(newest).unwrap_or((0, newest[0]));
        let read = there
            .iter()
            .filter(|id| (after + 1..=upto.get()).contains(&id.get()));
        let new = read.copied().filter(|id| cursor.take(*id)).collect();
        cursor.reach(newest);
        new
    }

    #[test]
    fn what_is_new_of_any_shard_is_found_once() {
        let mut mint = FactMint::default();
        let mut id = |of: u16, ms: u64| mint.mint(of_shard(of), NOW.plus_ms(ms));
        let (a, b) = (id(1, 0), id(2, 5));
        let mut cursor = Cursor::at(&[a, b]);
        assert_eq!(cursor.range(&[a, b]), None);
        // A shard whose clock is behind is not passed over.
        let (late, newer) = (id(1, 1), id(2, 9));
        let (after, upto) = cursor.range(&[late, newer]).expect("something");
        assert!(after < late.get() && after >= a.get());
        assert_eq!(upto, newer);
        assert!(cursor.take(late) && cursor.take(newer));
        assert!(!cursor.take(late) && !cursor.take(b));
        cursor.reach(&[late, newer]);
        assert_eq!(cursor.range(&[late, newer]), None);
    }

    /// Lesson: a large offer is stored in two halves, and ids of one shard are in both: those that
    /// came after a higher one were never shown.
    #[test]
    fn a_half_that_comes_later_is_shown_once_whichever_it_is() {
        let mut mint = FactMint::default();
        let mut id = |of: u16| mint.mint(of_shard(of), NOW);
        let before = [id(1), id(2)];
        let (one, other) = ([id(1), id(2)], [id(1), id(2)]);
        for (first, second) in [(one, other), (other, one)] {
            let mut cursor = Cursor::at(&before);
            let newest = if first == one { one } else { other };
            assert!(cursor.range(&newest).is_some());
            assert!(first.iter().all(|id| cursor.take(*id)));
            cursor.reach(&newest);
            // The higher half is met by the next question, the lower one by a look back.
            let there = [before, one, other].concat();
            if second == other {
                assert!(cursor.range(&other).is_some());
                assert!(second.iter().all(|id| cursor.take(*id)));
                cursor.reach(&other);
            } else {
                assert_eq!(look_back(&mut cursor, &other, &there), second);
            }
            for _ in 0..3 {
                assert_eq!(look_back(&mut cursor, &other, &there), []);
            }
            assert!(cursor.shown.is_empty(), "settled: nothing is kept for ever");
        }
    }

    #[test]
    fn what_comes_within_a_look_back_is_shown_and_what_comes_much_later_is_not() {
        let mut mint = FactMint::default();
        let ids: Vec<FactId> = (0..4).map(|_| mint.mint(of_shard(1), NOW)).collect();
        let newest = [ids[3]];
        let mut cursor = Cursor::at(&[ids[0]]);
        assert!(cursor.take(ids[3]));
        cursor.reach(&newest);
        assert_eq!(look_back(&mut cursor, &newest, &ids[3..]), []);
        assert_eq!(look_back(&mut cursor, &newest, &ids[2..]), [ids[2]]);
        assert_eq!(look_back(&mut cursor, &newest, &ids), []);
    }

    #[test]
    fn of_more_than_can_be_kept_the_lowest_are_settled() {
        let mut mint = FactMint::default();
        let first = mint.mint(of_shard(1), NOW);
        let mut cursor = Cursor::after(first);
        let late = mint.mint(of_shard(1), NOW);
        for _ in 0..=SHOWN_MAX {
            assert!(cursor.take(mint.mint(of_shard(1), NOW)));
        }
        assert_eq!(cursor.shown.len(), SHOWN_MAX);
        assert!(!cursor.take(late));
    }

    #[test]
    fn a_clock_that_stepped_back_hides_no_transition_of_a_quiet_part() {
        let mut mint = FactMint::default();
        let first = mint.mint(of_shard(1), NOW);
        let mut cursor = Cursor::at(&[first]);
        let earlier = mint.mint(of_shard(2), UnixMs(NOW.0 - HOUR_MS));
        assert!(earlier < first);
        let (after, upto) = cursor.range(&[first, earlier]).expect("something");
        assert!(after < earlier.get() && upto == earlier);
        assert!(cursor.take(earlier));
    }

    #[test]
    fn a_shard_that_was_quiet_for_years_makes_nobody_read_years() {
        let mut mint = FactMint::default();
        let old = mint.mint(of_shard(1), UnixMs(NOW.0 - 10_000 * HOUR_MS));
        let cursor = Cursor::at(&[old]);
        let new = mint.mint(of_shard(1), NOW);
        let (after, _) = cursor.range(&[new]).expect("something");
        let from = FactId::new(after).expect("positive").minted_at();
        assert_eq!(NOW.0 - from.0, SPAN_MS);
        // But who names an id gets everything after it.
        let cursor = Cursor::after(old);
        assert_eq!(cursor.range(&[new]), Some((old.get(), new)));
    }
}
