//! What the control plane remembers of legacy rows, to tell a changed one from one that is as it
//! was: 12 bytes a row, by core and slot, and its id where its bucket is. It compares; it reads
//! nothing and feeds nobody.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use model::limits::LEGACY_BUCKET_ROWS_MAX;
use model::{CoreIndex, FieldError, Generation, Slot, Target, TargetId};
use store::{Fingerprint, LEGACY_BUCKET_MAX, LegacyRow, LegacyState, RowTally};

use super::sweep::SLICES;
use crate::run::fleet::Fleet;

/// Stands for a row in no bucket that is counted.
const NO_BUCKET: u16 = LEGACY_BUCKET_MAX + 1;

/// A row that is in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    fingerprint: Fingerprint,
    bucket: u16,
    /// Its lowest 16 bits: nobody compares generations but for being the same, and no check takes
    /// as long as 65,535 changes.
    generation: u16,
}

const _: () = assert!(size_of::<Entry>() == 12);

/// An active row that is not fed. Where its bucket is counted, it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aside {
    bucket: u16,
    why: Why,
}

/// Why a row is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is no target; a hash of what is wrong with it: it is said once.
    Bad(u64),
    /// An operator paused it.
    Paused,
}

impl Aside {
    fn is_bad(&self) -> bool {
        matches!(self.why, Why::Bad(_))
    }
}

/// Which rows an answer has to have, if they are there and active.
#[derive(Clone, Copy, Debug)]
pub(super) enum Covered<'a> {
    /// Those after the first id and up to the second one; `None`: without an end.
    Between(Option<TargetId>, Option<TargetId>),
    These(&'a [TargetId]),
    /// Any row may be missing.
    Nothing,
}

/// Whether rows that are as they were are fed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feeding {
    /// To a fleet that knows them.
    Changes,
    /// To a sink that forgot them.
    All,
}

/// What an answer changes.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// To be placed or replaced.
    pub(super) targets: Vec<Target>,
    /// Not active any more; bad rows that were not in the fleet among them.
    pub(super) gone: Vec<TargetId>,
    /// Bad rows that were good, not there, or bad in another way.
    pub(super) refused: Vec<(i64, FieldError)>,
    /// Rows that were bad and are not any more.
    pub(super) right_again: Vec<i64>,
    pub(super) activated: u64,
    pub(super) changed: u64,
    /// Entries of `targets`, in their order.
    entries: Vec<Entry>,
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct Held {
    /// By slot.
    cores: Vec<Vec<Entry>>,
    aside: BTreeMap<TargetId, Aside>,
    /// The active rows of each bucket, those that are aside included.
    buckets: Vec<Bucket>,
    /// How many of them have rows.
    in_use: usize,
    /// Rows in none that is counted.
    in_no_bucket: u64,
    /// One of them had too many rows: none has its ids any more.
    is_large: bool,
}

/// The active rows of a bucket.
#[derive(Debug, Default)]
struct Bucket {
    tally: RowTally,
    /// In order.
    ids: Vec<TargetId>,
}

impl Bucket {
    fn list(&mut self, id: TargetId, is_there: bool) {
        match (self.ids.binary_search(&id), is_there) {
            (Err(place), true) => {
                if self.ids.len() == self.ids.capacity() {
                    self.ids.reserve_exact(1 + self.ids.len() / 8);
                }
                self.ids.insert(place, id);
            }
            (Ok(place), false) => drop(self.ids.remove(place)),
            _ => {}
        }
    }
}

impl Held {
    /// Nothing, of `cores` cores.
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores: vec![Vec::new(); cores],
            aside: BTreeMap::new(),
            buckets: Vec::new(),
            in_use: 0,
            in_no_bucket: 0,
            is_large: false,
        }
    }

    /// Active rows that are not in the fleet, about.
    pub(super) fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Every bad row: those that are in the fleet as they were before, too.
    pub(super) fn bad_ids(&self) -> impl Iterator<Item = TargetId> {
        let bad = self.aside.iter().filter(|(_, aside)| aside.is_bad());
        bad.map(|(&id, _)| id)
    }

    /// Compares `rows`, and those of the fleet that are missing among them, with what is
    /// remembered. Whoever feeds the difference to the fleet says so with [`Held::fed`].
    pub(super) fn compare(
        &mut self,
        fleet: &Fleet,
        rows: Vec<LegacyRow>,
        covered: Covered<'_>,
        feeding: Feeding,
    ) -> Difference {
        let mut found = Difference::default();
        let mut there = HashSet::with_capacity(rows.len());
        for row in rows {
            let (id, bucket) = (row.id, row.bucket.unwrap_or(NO_BUCKET));
            match row.state {
                LegacyState::Active(target, fingerprint) => {
                    there.insert(id);
                    let entry = Entry {
                        fingerprint,
                        bucket,
                        generation: 1,
                    };
                    self.active(fleet, (*target, entry), feeding, &mut found);
                }
                LegacyState::Refused(why) => {
                    there.insert(id);
                    self.refused(fleet, (id, bucket, why), feeding, &mut found);
                }
                LegacyState::Paused => {
                    there.insert(id);
                    self.paused(fleet, (id, bucket), &mut found);
                }
                LegacyState::Inactive => {}
            }
        }
        for id in self.missing(fleet, covered, &there) {
            self.gone(fleet, id, &mut found);
        }
        found
    }

    /// The difference is in effect: the new slots are known now.
    pub(super) fn fed(&mut self, fleet: &Fleet, ids: &[TargetId], found: &Difference) {
        for (&id, &entry) in ids.iter().zip(&found.entries) {
            let Some((core, slot)) = fleet.find(id) else {
                continue;
            };
            let of_core = &mut self.cores[usize::from(core.0)];
            if of_core.len() <= slot.index() {
                grow(of_core, slot.index() + 1);
            }
            of_core[slot.index()] = entry;
        }
    }

    /// The last bucket of the slice that begins with `first`: so many that they have a tenth of
    /// the rows. The last slice has no end, since rows may be in buckets that we never saw.
    pub(super) fn slice_end(&self, first: u16) -> u16 {
        let all: u64 = self.buckets.iter().map(|bucket| bucket.tally.rows).sum();
        let enough = all.div_ceil(u64::from(SLICES)).max(1);
        let mut rows = 0;
        for (number, bucket) in self.buckets.iter().enumerate().skip(usize::from(first)) {
            rows += bucket.tally.rows;
            if rows >= enough && number + 1 < self.buckets.len() {
                return u16::try_from(number).unwrap_or(LEGACY_BUCKET_MAX);
            }
        }
        LEGACY_BUCKET_MAX
    }

    /// Whether buckets cut the table, all of it, into parts small enough to count and to read. Once
    /// one was too large, they never do again.
    pub(super) fn suits_buckets(&self) -> bool {
        !self.is_large && self.in_no_bucket == 0 && self.in_use >= usize::from(SLICES)
    }

    /// The rows that the table should have after the first id and up to the second one.
    pub(super) fn tally_between(
        &self,
        fleet: &Fleet,
        (after, last): (Option<TargetId>, Option<TargetId>),
    ) -> RowTally {
        let mut tally = RowTally::default();
        for (id, ..) in fleet.between(after, last) {
            tally.toggle(id, true);
        }
        for (id, _) in self.aside_between(after, last) {
            // What went bad is in the fleet as it was.
            if fleet.find(id).is_none() {
                tally.toggle(id, true);
            }
        }
        tally
    }

    /// Which of `first..=last` are not as `counted` says, and whether one of them is large.
    pub(super) fn differing(
        &self,
        (first, last): (u16, u16),
        counted: &[(u16, RowTally)],
    ) -> (Vec<u16>, bool) {
        let (mut differing, mut large) = (Vec::new(), false);
        let counted: BTreeMap<u16, RowTally> = counted.iter().copied().collect();
        let known = self.buckets.len().saturating_sub(1);
        let known = u16::try_from(known).unwrap_or(LEGACY_BUCKET_MAX);
        let newest = counted.keys().next_back().copied().unwrap_or(0);
        for bucket in first..=last.min(known.max(newest)) {
            let there = counted.get(&bucket).copied().unwrap_or_default();
            let held = self.tally(bucket);
            if there == held {
                continue;
            }
            if there.rows.max(held.rows) > LEGACY_BUCKET_ROWS_MAX {
                large = true;
            } else {
                differing.push(bucket);
            }
        }
        (differing, large)
    }

    /// Of the ids after the first one and up to the second one, which is not paused here and is one
    /// of `paused`, in order, or the reverse. Who is neither checked nor aside is not active:
    /// whoever reads it when it is sees its pause.
    pub(super) fn wrongly_paused(
        &self,
        fleet: &Fleet,
        (after, last): (Option<TargetId>, Option<TargetId>),
        paused: &[TargetId],
    ) -> Vec<TargetId> {
        let goes_on = |id: &TargetId| self.is_bad(*id) || fleet.find(*id).is_some();
        let is_resumed = |id: &TargetId| paused.binary_search(id).is_err();
        let held = self.aside_between(after, last);
        let held = held.filter(|(_, aside)| aside.why == Why::Paused);
        let resumed = held.map(|(id, _)| id).filter(is_resumed);
        paused
            .iter()
            .copied()
            .filter(goes_on)
            .chain(resumed)
            .collect()
    }

    /// Rows that are remembered in `buckets`; of a table with a large bucket, none.
    pub(super) fn of_buckets(&self, buckets: &[u16]) -> BTreeMap<u16, HashSet<TargetId>> {
        let ids = |bucket: u16| {
            let bucket = self.buckets.get(usize::from(bucket));
            bucket
                .into_iter()
                .flat_map(|bucket| bucket.ids.iter().copied())
        };
        let listed = |&bucket: &u16| (bucket, ids(bucket).collect());
        buckets.iter().map(listed).collect()
    }

    fn tally(&self, bucket: u16) -> RowTally {
        let bucket = self.buckets.get(usize::from(bucket));
        bucket.map(|bucket| bucket.tally).unwrap_or_default()
    }

    /// Counts a row in its bucket, and no more where it was counted.
    fn recount(&mut self, id: TargetId, counted: Option<u16>, bucket: u16) {
        if counted == Some(bucket) {
            return;
        }
        if let Some(counted) = counted {
            self.count(id, counted, false);
        }
        self.count(id, bucket, true);
    }

    fn is_bad(&self, id: TargetId) -> bool {
        self.aside.get(&id).is_some_and(Aside::is_bad)
    }

    /// Forgets that a row was not fed; where it was counted.
    fn no_longer_aside(&mut self, id: TargetId, found: &mut Difference) -> Option<u16> {
        let aside = self.aside.remove(&id)?;
        if aside.is_bad() {
            found.right_again.push(id.get());
        }
        Some(aside.bucket)
    }

    fn count(&mut self, id: TargetId, bucket: u16, is_there: bool) {
        if bucket == NO_BUCKET {
            let before = self.in_no_bucket;
            self.in_no_bucket = if is_there {
                before + 1
            } else {
                before.saturating_sub(1)
            };
            return;
        }
        let index = usize::from(bucket);
        if index >= self.buckets.len() {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        let bucket = &mut self.buckets[index];
        let had_rows = bucket.tally.rows > 0;
        bucket.tally.toggle(id, is_there);
        let rows = bucket.tally.rows;
        self.in_use = self.in_use + usize::from(rows > 0) - usize::from(had_rows);
        if self.is_large {
            return;
        }
        bucket.list(id, is_there);
        if rows > LEGACY_BUCKET_ROWS_MAX {
            self.is_large = true;
            for bucket in &mut self.buckets {
                bucket.ids = Vec::new();
            }
        }
    }

    fn entry(&self, core: CoreIndex, slot: Slot) -> Option<Entry> {
        let of_core = self.cores.get(usize::from(core.0))?;
        of_core.get(slot.index()).copied()
    }

    fn entry_of(&self, fleet: &Fleet, id: TargetId) -> Option<(CoreIndex, Slot, Entry)> {
        let (core, slot) = fleet.find(id)?;
        Some((core, slot, self.entry(core, slot)?))
    }

    fn active(
        &mut self,
        fleet: &Fleet,
        (mut target, mut entry): (Target, Entry),
        feeding: Feeding,
        found: &mut Difference,
    ) {
        let id = target.id;
        let counted = self.no_longer_aside(id, found);
        let Some((core, slot, before)) = self.entry_of(fleet, id) else {
            self.recount(id, counted, entry.bucket);
            found.activated += 1;
            found.targets.push(target);
            found.entries.push(entry);
            return;
        };
        self.recount(id, Some(before.bucket), entry.bucket);
        self.cores[usize::from(core.0)][slot.index()].bucket = entry.bucket;
        entry.generation = before.generation;
        if entry.fingerprint == before.fingerprint {
            if feeding == Feeding::Changes {
                return;
            }
        } else {
            found.changed += 1;
            if entry.fingerprint.probed != before.fingerprint.probed {
                entry.generation = before.generation.checked_add(1).unwrap_or(1);
            }
        }
        target.generation = Generation(u32::from(entry.generation));
        found.targets.push(target);
        found.entries.push(entry);
    }

    /// A bad row: the good one that is in effect stays, and is known to be where the bad one is. To
    /// a sink that forgot all nobody can tell it again: then it goes.
    fn refused(
        &mut self,
        fleet: &Fleet,
        (id, bucket, why): (TargetId, u16, FieldError),
        feeding: Feeding,
        found: &mut Difference,
    ) {
        let mut hasher = DefaultHasher::new();
        why.to_string().hash(&mut hasher);
        let bad = Aside {
            bucket,
            why: Why::Bad(hasher.finish()),
        };
        let before = self.aside.insert(id, bad);
        if before.is_none_or(|before| before.why != bad.why) {
            found.refused.push((id.get(), why));
        }
        let counted = if let Some((core, slot, entry)) = self.entry_of(fleet, id) {
            self.cores[usize::from(core.0)][slot.index()].bucket = bucket;
            if feeding == Feeding::All {
                found.gone.push(id);
            }
            Some(entry.bucket)
        } else {
            before.map(|before| before.bucket)
        };
        self.recount(id, counted, bucket);
    }

    /// A paused row leaves the fleet, and is where it was counted.
    fn paused(&mut self, fleet: &Fleet, (id, bucket): (TargetId, u16), found: &mut Difference) {
        let was_bad = self.is_bad(id);
        let before = self.no_longer_aside(id, found);
        let why = Why::Paused;
        self.aside.insert(id, Aside { bucket, why });
        let in_fleet = self.entry_of(fleet, id).map(|(_, _, entry)| entry.bucket);
        if in_fleet.is_some() || was_bad {
            found.gone.push(id);
        }
        self.recount(id, in_fleet.or(before), bucket);
    }

    fn missing(
        &self,
        fleet: &Fleet,
        covered: Covered<'_>,
        there: &HashSet<TargetId>,
    ) -> Vec<TargetId> {
        let is_missing = |id: &TargetId| !there.contains(id);
        match covered {
            Covered::Nothing => Vec::new(),
            Covered::These(ids) => ids.iter().copied().filter(is_missing).collect(),
            Covered::Between(after, last) => {
                let held = fleet.between(after, last).map(|(id, ..)| id);
                let aside = self.aside_between(after, last).map(|(id, _)| id);
                let mut missing: Vec<TargetId> = held.chain(aside).filter(is_missing).collect();
                missing.sort_unstable();
                missing.dedup();
                missing
            }
        }
    }

    fn aside_between(
        &self,
        after: Option<TargetId>,
        last: Option<TargetId>,
    ) -> impl Iterator<Item = (TargetId, Aside)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let aside = self.aside.range((from, to));
        aside.map(|(&id, &aside)| (id, aside))
    }

    fn gone(&mut self, fleet: &Fleet, id: TargetId, found: &mut Difference) {
        let was_bad = self.is_bad(id);
        let aside = self.no_longer_aside(id, found);
        if let Some((_, _, entry)) = self.entry_of(fleet, id) {
            self.count(id, entry.bucket, false);
            found.gone.push(id);
        } else if let Some(bucket) = aside {
            self.count(id, bucket, false);
            found.gone.extend(was_bad.then_some(id));
        }
    }
}

/// A vector that doubles would hold up to twice what it needs.
fn grow(entries: &mut Vec<Entry>, len: usize) {
    if len > entries.capacity() {
        let more = len - entries.len() + entries.len() / 8;
        entries.reserve_exact(more);
    }
    let empty = Entry {
        fingerprint: Fingerprint::default(),
        bucket: NO_BUCKET,
        generation: 1,
    };
    entries.resize(len, empty);
}

#[cfg(test)]
mod tests;
