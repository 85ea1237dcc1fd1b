//! Which slot a target of one core has: sorted arrays, 12 bytes per target, and a small ordered
//! overlay that keeps single changes cheap among millions.

use std::collections::BTreeMap;
use std::ops::Bound;

use model::{Slot, TargetId};

/// Marks an entry of the arrays whose target is gone.
const GONE: u32 = u32::MAX;
/// The overlay, and the entries that are gone, may each grow to this or to a sixteenth of the
/// arrays: then everything is merged, which costs a constant number of moves per change.
const SLACK_MIN: usize = 4_096;

/// Sorted (id, slot) pairs.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    ids: Vec<i64>,
    slots: Vec<u32>,
    gone: usize,
    /// Entries that came out of order since the last merge.
    overlay: BTreeMap<i64, u32>,
}

impl Directory {
    /// Entries.
    pub(crate) fn len(&self) -> usize {
        self.ids.len() - self.gone + self.overlay.len()
    }

    /// The slot of `id`.
    pub(crate) fn get(&self, id: TargetId) -> Option<Slot> {
        let raw = id.get();
        if let Some(&slot) = self.overlay.get(&raw) {
            return Some(Slot(slot));
        }
        let index = self.ids.binary_search(&raw).ok()?;
        (self.slots[index] != GONE).then(|| Slot(self.slots[index]))
    }

    /// Entries after an id and up to another one, in no order; `None`: without an end.
    pub(crate) fn between(
        &self,
        after: Option<TargetId>,
        last: Option<TargetId>,
    ) -> impl Iterator<Item = (TargetId, Slot)> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.get()));
        let to = last.map_or(Bound::Unbounded, |id| Bound::Included(id.get()));
        let start = after.map_or(0, |after| self.ids.partition_point(|&id| id <= after.get()));
        let end = self.ids.len();
        let end = last.map_or(end, |last| self.ids.partition_point(|&id| id <= last.get()));
        let range = start..end.max(start);
        let sorted = self.ids[range.clone()].iter().zip(&self.slots[range]);
        let sorted = sorted.filter(|&(_, &slot)| slot != GONE);
        let is_empty = after.zip(last).is_some_and(|(after, last)| after >= last);
        let late = (!is_empty).then(|| self.overlay.range((from, to)));
        sorted
            .chain(late.into_iter().flatten())
            .filter_map(|(&id, &slot)| Some((TargetId::new(id)?, Slot(slot))))
    }

    /// Adds `id`, which has no entry.
    pub(crate) fn insert(&mut self, id: TargetId, slot: Slot) {
        let raw = id.get();
        if self.ids.last().is_none_or(|&last| last < raw) {
            self.ids.push(raw);
            self.slots.push(slot.0);
            return;
        }
        if let Ok(index) = self.ids.binary_search(&raw) {
            self.slots[index] = slot.0;
            self.gone -= 1;
            return;
        }
        self.overlay.insert(raw, slot.0);
        self.merge_when_large();
    }

    /// Forgets `id` and returns its slot.
    pub(crate) fn remove(&mut self, id: TargetId) -> Option<Slot> {
        let raw = id.get();
        if let Some(slot) = self.overlay.remove(&raw) {
            return Some(Slot(slot));
        }
        let index = self
            .ids
            .binary_search(&raw)
            .ok()
            .filter(|&index| self.slots[index] != GONE)?;
        self.gone += 1;
        let slot = Slot(std::mem::replace(&mut self.slots[index], GONE));
        self.merge_when_large();
        Some(slot)
    }

    fn merge_when_large(&mut self) {
        let slack = SLACK_MIN.max(self.ids.len() / 16);
        if self.overlay.len() <= slack && self.gone <= slack {
            return;
        }
        let count = self.len();
        let (mut ids, mut slots) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut overlay = std::mem::take(&mut self.overlay).into_iter().peekable();
        for (&id, &slot) in self
            .ids
            .iter()
            .zip(&self.slots)
            .filter(|&(_, &slot)| slot != GONE)
        {
            while let Some((early, slot)) = overlay.next_if(|&(early, _)| early < id) {
                ids.push(early);
                slots.push(slot);
            }
            ids.push(id);
            slots.push(slot);
        }
        for (id, slot) in overlay {
            ids.push(id);
            slots.push(slot);
        }
        (self.ids, self.slots, self.gone) = (ids, slots, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::btree_map::Entry;

    use model::ids::splitmix64;

    use super::*;

    fn id(raw: i64) -> TargetId {
        TargetId::new(raw).expect("positive")
    }

    #[test]
    fn it_answers_like_a_map_through_inserts_removals_and_merges() {
        let (mut directory, mut map) = (Directory::default(), BTreeMap::new());
        for step in 0..60_000u64 {
            let random = splitmix64(step);
            let raw = (random % 20_000 + 1) as i64;
            if random >> 62 == 0 {
                assert_eq!(directory.remove(id(raw)), map.remove(&raw).map(Slot));
            } else if let Entry::Vacant(vacant) = map.entry(raw) {
                vacant.insert(step as u32);
                directory.insert(id(raw), Slot(step as u32));
            }
            assert_eq!(directory.len(), map.len());
        }
        for raw in 1..=20_000 {
            assert_eq!(directory.get(id(raw)), map.get(&raw).copied().map(Slot));
        }
        for (after, last) in [
            (None, None),
            (Some(500), None),
            (Some(500), Some(700)),
            (None, Some(1)),
            (Some(700), Some(500)),
        ] {
            let is_inside = |raw: i64| {
                after.is_none_or(|after| raw > after) && last.is_none_or(|last| raw <= last)
            };
            let found = directory.between(after.map(id), last.map(id));
            let found: BTreeMap<i64, u32> = found.map(|(id, slot)| (id.get(), slot.0)).collect();
            let mut expected = map.clone();
            expected.retain(|&raw, _| is_inside(raw));
            assert_eq!(found, expected, "{after:?} {last:?}");
        }
    }

    #[test]
    fn its_size_follows_its_entries_whatever_comes_and_goes() {
        // Rising ids in and the oldest out, as minted ids do; then random ones; then all out.
        for seed in 0..4 {
            let (mut directory, mut known) = (Directory::default(), Vec::new());
            let held = 1 + (splitmix64(seed) % 20_000) as usize;
            for step in 0..100_000u64 {
                let rising = seed % 2 == 0;
                let raw = if rising { step } else { splitmix64(step) >> 30 } as i64 + 1;
                if directory.get(id(raw)).is_none() {
                    directory.insert(id(raw), Slot(step as u32));
                    known.push(raw);
                }
                if known.len() > held {
                    let at = if rising {
                        0
                    } else {
                        step as usize % known.len()
                    };
                    let gone = if rising {
                        known.remove(at)
                    } else {
                        known.swap_remove(at)
                    };
                    assert!(directory.remove(id(gone)).is_some());
                }
                assert!(within_bounds(&directory), "seed {seed}, step {step}");
            }
            for raw in known {
                assert!(directory.remove(id(raw)).is_some());
            }
            assert_eq!(directory.len(), 0);
            assert!(within_bounds(&directory), "seed {seed}, empty");
        }
    }

    /// Arrays hold the entries and at most the slack; what was allocated follows.
    fn within_bounds(directory: &Directory) -> bool {
        let slack = SLACK_MIN.max(directory.ids.len() / 16) + 1;
        let most = directory.len() + slack;
        // A vector that grows doubles.
        directory.ids.len() <= most && directory.ids.capacity() <= 2 * (most + slack)
    }

    #[test]
    fn ids_in_order_need_twelve_bytes_each() {
        let mut directory = Directory::default();
        (1..=100_000).for_each(|raw| directory.insert(id(raw), Slot(raw as u32)));
        assert!(directory.overlay.is_empty());
        assert_eq!(
            (directory.ids.len(), directory.slots.len()),
            (100_000, 100_000)
        );
    }
}
