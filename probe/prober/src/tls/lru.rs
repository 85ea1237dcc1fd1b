//! A map with a fixed number of places, which forgets what was used longest ago. It must not know
//! what it keeps.
//!
//! ```text
//! newest ⇄ … ⇄ … ⇄ oldest        a full map hands the place of the oldest to the next entry
//! ```

use std::collections::HashMap;
use std::hash::Hash;

/// No place.
const NONE: u32 = u32::MAX;

/// See the module. Takes memory as it fills, up to `max` places.
pub(super) struct Lru<K, V> {
    index: HashMap<K, u32>,
    places: Vec<Place<K, V>>,
    newest: u32,
    oldest: u32,
    max: usize,
}

struct Place<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// Room for `max` entries; with 0 nothing is ever kept.
    pub(super) fn new(max: usize) -> Self {
        Self {
            index: HashMap::new(),
            places: Vec::new(),
            newest: NONE,
            oldest: NONE,
            max: max.min(NONE as usize),
        }
    }

    /// Entries that are kept.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The value of `key`, which is now the newest.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        self.touch(at);
        Some(&mut self.places[at as usize].value)
    }

    /// Keeps `value`; when there is no room, in place of the entry that was used longest ago. What
    /// is forgotten for it is given back, be it an earlier value of the key.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.max == 0 {
            return Some(value);
        }
        if let Some(known) = self.get(&key) {
            return Some(std::mem::replace(known, value));
        }
        let mut forgotten = None;
        let at = if self.places.len() < self.max {
            self.places.push(Place {
                key,
                value,
                newer: NONE,
                older: NONE,
            });
            (self.places.len() - 1) as u32
        } else {
            let at = self.oldest;
            self.unlink(at);
            let place = &mut self.places[at as usize];
            self.index.remove(&place.key);
            place.key = key;
            forgotten = Some(std::mem::replace(&mut place.value, value));
            at
        };
        self.index.insert(key, at);
        self.link(at);
        forgotten
    }

    /// Forgets what was used longest ago.
    pub(super) fn pop_oldest(&mut self) -> Option<V> {
        if self.places.is_empty() {
            return None;
        }
        let at = self.oldest;
        self.unlink(at);
        let gone = self.places.swap_remove(at as usize);
        self.index.remove(&gone.key);
        self.moved(at);
        Some(gone.value)
    }

    /// What was in the last place is at `at` now, if that is not the last place itself.
    fn moved(&mut self, at: u32) {
        let Some(&Place {
            key, newer, older, ..
        }) = self.places.get(at as usize)
        else {
            return;
        };
        self.index.insert(key, at);
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = at,
            None => self.newest = at,
        }
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = at,
            None => self.oldest = at,
        }
    }

    fn touch(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
    }

    /// Makes the place at `at`, which is in no list, the newest.
    fn link(&mut self, at: u32) {
        let before = self.newest;
        let place = &mut self.places[at as usize];
        (place.newer, place.older) = (NONE, before);
        match self.places.get_mut(before as usize) {
            Some(place) => place.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Place { newer, older, .. } = self.places[at as usize];
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
    }
}

/// Says how full it is; what it keeps may be secret.
impl<K, V> std::fmt::Debug for Lru<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lru")
            .field("len", &self.places.len())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut lru = Lru::new(2);
        lru.insert(1, 'a');
        lru.insert(2, 'b');
        assert_eq!(lru.get(&1), Some(&mut 'a'));
        lru.insert(3, 'c');
        assert_eq!((lru.get(&1).copied(), lru.get(&2)), (Some('a'), None));
        lru.insert(1, 'd');
        assert_eq!((lru.get(&1).copied(), lru.len()), (Some('d'), 2));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut lru = Lru::new(0);
        lru.insert(1, 'a');
        assert_eq!((lru.get(&1).copied(), lru.len()), (None, 0));
        assert_eq!(lru.pop_oldest(), None);
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_in_order_of_use_does(
            max in 1_usize..6,
            steps in prop::collection::vec((0_u8..10, 0_u8..5), 0..200),
        ) {
            let mut lru = Lru::new(max);
            let mut list: Vec<(u8, usize)> = Vec::new();
            for (value, (key, step)) in steps.into_iter().enumerate() {
                if step == 0 {
                    let gone = (!list.is_empty()).then(|| list.remove(0).1);
                    prop_assert_eq!(lru.pop_oldest(), gone);
                    continue;
                }
                let known = list.iter().position(|(other, _)| *other == key);
                let known = known.map(|at| list.remove(at));
                if step < 3 {
                    let over = known.is_none() && list.len() == max;
                    let gone = over.then(|| list.remove(0)).or(known);
                    list.push((key, value));
                    prop_assert_eq!(lru.insert(key, value), gone.map(|(_, value)| value));
                } else {
                    prop_assert_eq!(lru.get(&key).copied(), known.map(|(_, value)| value));
                    list.extend(known);
                }
                prop_assert_eq!(lru.len(), list.len());
            }
        }
    }
}
