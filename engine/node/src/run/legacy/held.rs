//! What the control plane remembers of legacy rows, to tell a changed one from one that is as it
//! was: 12 bytes a row, by core and slot. It compares; it reads nothing and feeds nobody.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use model::limits::LEGACY_BUCKET_ROWS_MAX;
use model::{CoreIndex, FieldError, Generation, Slot, Target, TargetId};
use store::{BucketTally, Fingerprint, LEGACY_BUCKET_MAX, LegacyRow, LegacyState};

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
    /// Not active any more.
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
    buckets: Vec<BucketTally>,
}

impl Held {
    /// Nothing, of `cores` cores.
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores: vec![Vec::new(); cores],
            aside: BTreeMap::new(),
            buckets: Vec::new(),
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

    /// Which of `first..=last` are not as `counted` says, and whether one of them is large.
    pub(super) fn differing(
        &self,
        (first, last): (u16, u16),
        counted: &[(u16, BucketTally)],
    ) -> (Vec<u16>, bool) {
        let (mut differing, mut large) = (Vec::new(), false);
        let counted: BTreeMap<u16, BucketTally> = counted.iter().copied().collect();
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
        let goes_on = |id: &TargetId| {
            let is_bad = self.aside.get(id).is_some_and(Aside::is_bad);
            is_bad || fleet.find(*id).is_some()
        };
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

    /// Rows that are remembered in `buckets`: one look at the whole fleet.
    pub(super) fn of_buckets(
        &self,
        fleet: &Fleet,
        buckets: &[u16],
    ) -> BTreeMap<u16, HashSet<TargetId>> {
        let mut found: BTreeMap<u16, HashSet<TargetId>> = buckets
            .iter()
            .map(|&bucket| (bucket, HashSet::new()))
            .collect();
        if buckets.is_empty() {
            return found;
        }
        for (id, core, slot) in fleet.between(None, None) {
            let Some(entry) = self.entry(core, slot) else {
                continue;
            };
            if let Some(ids) = found.get_mut(&entry.bucket) {
                ids.insert(id);
            }
        }
        for (&id, aside) in &self.aside {
            if let Some(ids) = found.get_mut(&aside.bucket) {
                ids.insert(id);
            }
        }
        found
    }

    fn tally(&self, bucket: u16) -> BucketTally {
        let tally = self.buckets.get(usize::from(bucket));
        tally.copied().unwrap_or_default()
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
            return;
        }
        let index = usize::from(bucket);
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, BucketTally::default());
        }
        self.buckets[index].toggle(id, is_there);
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
        let before = self.no_longer_aside(id, found);
        let why = Why::Paused;
        self.aside.insert(id, Aside { bucket, why });
        let in_fleet = self.entry_of(fleet, id).map(|(_, _, entry)| entry.bucket);
        if in_fleet.is_some() {
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
        let aside = self.no_longer_aside(id, found);
        if let Some((_, _, entry)) = self.entry_of(fleet, id) {
            self.count(id, entry.bucket, false);
            found.gone.push(id);
        } else if let Some(bucket) = aside {
            self.count(id, bucket, false);
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
mod tests {
    use crossbeam_channel::{bounded, unbounded};
    use model::TargetSpec;

    use super::*;

    /// A fleet of two cores whose channels nobody reads, with what is remembered of it.
    struct Bed {
        fleet: Fleet,
        held: Held,
        /// The other ends: they only have to be there.
        _ends: Box<dyn std::any::Any>,
    }

    fn id(raw: i64) -> TargetId {
        TargetId::new(raw).expect("positive")
    }

    fn row(raw: i64, bucket: u16, state: LegacyState) -> LegacyRow {
        LegacyRow {
            id: id(raw),
            bucket: Some(bucket),
            state,
        }
    }

    fn good(raw: i64, bucket: u16, change: impl FnOnce(&mut TargetSpec)) -> LegacyRow {
        let mut spec = TargetSpec {
            url: format!("http://t{raw}.example/"),
            ..TargetSpec::default()
        };
        change(&mut spec);
        let config = spec.parse().expect("valid");
        let fingerprint = Fingerprint::of(&config).expect("it fits");
        let target = Target {
            id: id(raw),
            generation: Generation(1),
            active: true,
            config,
        };
        row(
            raw,
            bucket,
            LegacyState::Active(Box::new(target), fingerprint),
        )
    }

    fn plain(raw: i64, bucket: u16) -> LegacyRow {
        good(raw, bucket, |_| {})
    }

    fn bad(raw: i64, bucket: u16, found: &str) -> LegacyRow {
        let why = FieldError::new("url", found, "a URL");
        row(raw, bucket, LegacyState::Refused(why))
    }

    const ALL: Covered<'_> = Covered::Between(None, None);

    impl Bed {
        fn new() -> Self {
            let (inboxes, cores): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded()).unzip();
            let (sink, heard) = unbounded();
            let (release, released) = bounded(8);
            Self {
                fleet: Fleet::new(inboxes, sink, released),
                held: Held::new(2),
                _ends: Box::new((cores, heard, release)),
            }
        }

        /// Feeds `rows`; what was fed (id and generation), what is gone, and the bad ones.
        async fn feed(
            &mut self,
            rows: Vec<LegacyRow>,
            covered: Covered<'_>,
            feeding: Feeding,
        ) -> (Vec<(i64, u32)>, Vec<i64>, Vec<i64>) {
            let mut found = self.held.compare(&self.fleet, rows, covered, feeding);
            let targets = std::mem::take(&mut found.targets);
            let fed = targets.iter().map(|t| (t.id.get(), t.generation.0));
            let fed: Vec<(i64, u32)> = fed.collect();
            let ids: Vec<TargetId> = targets.iter().map(|target| target.id).collect();
            self.fleet
                .take_away(&found.gone, None)
                .await
                .expect("alive");
            self.fleet.feed(targets).await.expect("alive");
            self.held.fed(&self.fleet, &ids, &found);
            let gone = found.gone.iter().map(|id| id.get()).collect();
            let refused = found.refused.iter().map(|(id, _)| *id).collect();
            (fed, gone, refused)
        }

        async fn changes(
            &mut self,
            rows: Vec<LegacyRow>,
            covered: Covered<'_>,
        ) -> (Vec<(i64, u32)>, Vec<i64>, Vec<i64>) {
            self.feed(rows, covered, Feeding::Changes).await
        }

        /// Fails unless the active rows of the table are these: bucket and ids.
        #[track_caller]
        fn assert_counts(&self, rows: &[(u16, &[i64])]) {
            let counted = rows.iter().map(|&(bucket, ids)| {
                let mut tally = BucketTally::default();
                for &raw in ids {
                    tally.toggle(id(raw), true);
                }
                (bucket, tally)
            });
            let counted: Vec<(u16, BucketTally)> = counted.collect();
            let differing = self.held.differing((0, LEGACY_BUCKET_MAX), &counted);
            assert_eq!(differing, (Vec::new(), false));
        }
    }

    fn nothing() -> (Vec<(i64, u32)>, Vec<i64>, Vec<i64>) {
        (Vec::new(), Vec::new(), Vec::new())
    }

    #[tokio::test]
    async fn only_what_differs_is_fed_and_generations_are_those_of_the_probes() {
        let mut bed = Bed::new();
        let all = || (1..=100).map(|raw| plain(raw, 3)).collect::<Vec<_>>();
        let (fed, ..) = bed.feed(all(), ALL, Feeding::All).await;
        assert_eq!((fed.len(), fed[99]), (100, (100, 1)));
        assert_eq!(bed.changes(all(), ALL).await, nothing());
        let slot = bed.fleet.find(id(7));
        let mut changed = all();
        changed[6] = good(7, 3, |spec| spec.interval_s = Some(60));
        changed[8] = good(9, 3, |spec| spec.group_id = Some(5));
        changed.push(plain(101, 4));
        let (fed, gone, _) = bed.changes(changed, ALL).await;
        assert_eq!((fed, gone), (vec![(7, 2), (9, 1), (101, 1)], vec![]));
        assert_eq!(bed.fleet.find(id(7)), slot);
        // Back to what it was is a change as well.
        let (fed, ..) = bed.changes(vec![plain(7, 3)], Covered::Nothing).await;
        assert_eq!(fed, [(7, 3)]);
        // A sink that forgot all is told all, as it is.
        let rows = vec![plain(7, 3), plain(8, 3)];
        let (fed, ..) = bed.feed(rows, Covered::Nothing, Feeding::All).await;
        assert_eq!(fed, [(7, 3), (8, 1)]);
    }

    #[tokio::test]
    async fn rows_that_are_not_there_are_taken_away_where_they_would_have_to_be() {
        let mut bed = Bed::new();
        let rows = (1..=9).map(|raw| plain(raw, raw as u16)).collect();
        bed.feed(rows, ALL, Feeding::All).await;
        let page = Covered::Between(Some(id(3)), Some(id(6)));
        let (_, gone, _) = bed.changes(vec![plain(4, 4), plain(6, 6)], page).await;
        assert_eq!(gone, [5]);
        let off = row(1, 1, LegacyState::Inactive);
        let these = [id(1), id(2), id(3), id(77)];
        let (_, gone, _) = bed
            .changes(vec![off, plain(3, 3)], Covered::These(&these))
            .await;
        assert_eq!(gone, [1, 2]);
        let (_, gone, _) = bed.changes(Vec::new(), Covered::Nothing).await;
        assert!(gone.is_empty());
        bed.assert_counts(&[
            (3, &[3]),
            (4, &[4]),
            (6, &[6]),
            (7, &[7]),
            (8, &[8]),
            (9, &[9]),
        ]);
        let (fed, ..) = bed.changes(vec![plain(5, 1)], Covered::Nothing).await;
        assert_eq!(fed, [(5, 1)]);
        assert_eq!(bed.fleet.len(), 7);
    }

    #[tokio::test]
    async fn a_row_that_goes_bad_leaves_the_good_one_and_is_said_once() {
        let mut bed = Bed::new();
        let rows = vec![plain(1, 1), bad(2, 1, "x"), plain(3, 2)];
        let (fed, _, refused) = bed.feed(rows, ALL, Feeding::All).await;
        assert_eq!((fed.len(), refused), (2, vec![2]));
        bed.assert_counts(&[(1, &[1, 2]), (2, &[3])]);
        let rows = || vec![plain(1, 1), bad(2, 1, "x"), bad(3, 2, "y")];
        let (fed, gone, refused) = bed.changes(rows(), ALL).await;
        assert_eq!((fed, gone, refused), (vec![], vec![], vec![3]));
        assert!(bed.fleet.find(id(3)).is_some());
        assert_eq!(bed.changes(rows(), ALL).await, nothing());
        assert_eq!(bed.held.bad_ids().collect::<Vec<_>>(), [id(2), id(3)]);
        // Bad in another way, and in another bucket.
        let rows = vec![plain(1, 1), bad(2, 5, "z"), bad(3, 6, "y")];
        let (_, _, refused) = bed.changes(rows, ALL).await;
        assert_eq!(refused, [2]);
        bed.assert_counts(&[(1, &[1]), (5, &[2]), (6, &[3])]);
        // Good again: the one is new, the other as it was.
        let rows = vec![plain(1, 1), plain(2, 1), plain(3, 2)];
        let (fed, ..) = bed.changes(rows, ALL).await;
        assert_eq!((fed, bed.held.aside()), (vec![(2, 1)], 0));
        bed.assert_counts(&[(1, &[1, 2]), (2, &[3])]);
        // The sink forgot all, and nobody knows what the bad row was.
        let rows = || vec![plain(1, 1), plain(2, 1), bad(3, 2, "y")];
        let (fed, gone, _) = bed.feed(rows(), ALL, Feeding::All).await;
        assert_eq!((fed, gone), (vec![(1, 1), (2, 1)], vec![3]));
        bed.assert_counts(&[(1, &[1, 2]), (2, &[3])]);
        assert_eq!(bed.changes(rows(), ALL).await, nothing());
        let (fed, ..) = bed.changes(vec![plain(3, 2)], Covered::Nothing).await;
        assert_eq!(fed, [(3, 1)]);
        bed.assert_counts(&[(1, &[1, 2]), (2, &[3])]);
        // Bad, and then switched off.
        bed.changes(vec![bad(3, 2, "y"), bad(4, 2, "y")], Covered::Nothing)
            .await;
        let (_, gone, _) = bed.changes(Vec::new(), ALL).await;
        assert_eq!((gone, bed.held.aside()), (vec![1, 2, 3], 0));
        bed.assert_counts(&[]);
    }

    #[tokio::test]
    async fn counts_name_the_buckets_that_differ_and_their_rows() {
        let mut bed = Bed::new();
        let rows = (1..=40).map(|raw| plain(raw, raw as u16 % 4));
        let rows = rows.chain([bad(41, 1, "x")]).collect();
        bed.feed(rows, ALL, Feeding::All).await;
        let of = |bucket: u16| {
            let mut tally = BucketTally::default();
            for raw in (1..=40).filter(|raw| *raw % 4 == i64::from(bucket)) {
                tally.toggle(id(raw), true);
            }
            (bucket, tally)
        };
        // The bad row was switched off, a bucket is empty now, and there is a new one.
        let mut counted = vec![of(0), of(1), of(2), (9, of(1).1)];
        let (differing, large) = bed.held.differing((0, 99), &counted);
        assert_eq!((differing, large), (vec![1, 3, 9], false));
        let unseen = bed.held.of_buckets(&bed.fleet, &[1, 3, 9]);
        let counts: Vec<usize> = unseen.values().map(HashSet::len).collect();
        assert_eq!(counts, [11, 10, 0]);
        assert!(unseen[&1].contains(&id(41)));
        let (differing, _) = bed.held.differing((0, 2), &counted[..3]);
        assert_eq!(differing, [1]);
        counted[0].1.rows = LEGACY_BUCKET_ROWS_MAX + 1;
        assert_eq!(bed.held.differing((0, 0), &counted[..1]), (vec![], true));
        // A row that has no bucket is in no count.
        let mut without = plain(50, 0);
        without.bucket = None;
        bed.changes(vec![without], Covered::Nothing).await;
        assert_eq!(bed.held.differing((0, 0), &[of(0)]), (vec![], false));
    }

    #[tokio::test]
    async fn a_paused_row_is_in_its_bucket_and_not_in_the_fleet() {
        let mut bed = Bed::new();
        let rows = vec![plain(1, 1), plain(2, 1), bad(3, 2, "x")];
        bed.feed(rows, ALL, Feeding::All).await;
        let paused = |raw, bucket| row(raw, bucket, LegacyState::Paused);
        // One that was checked, and one that is no target; the other one moved meanwhile.
        let rows = || vec![paused(1, 1), plain(2, 4), paused(3, 2)];
        let (fed, gone, refused) = bed.changes(rows(), ALL).await;
        assert_eq!((fed, gone, refused), (vec![], vec![1], vec![]));
        bed.assert_counts(&[(1, &[1]), (2, &[3]), (4, &[2])]);
        assert_eq!((bed.held.aside(), bed.held.bad_ids().count()), (2, 0));
        assert_eq!(bed.changes(rows(), ALL).await, nothing());
        assert_eq!(bed.feed(rows(), ALL, Feeding::All).await.0, [(2, 1)]);
        // A paused row that moves is counted where it is; nothing of it is asked for again.
        let (_, gone, _) = bed.changes(vec![paused(1, 5)], Covered::Nothing).await;
        assert!(gone.is_empty());
        bed.assert_counts(&[(2, &[3]), (4, &[2]), (5, &[1])]);
        // Resumed: the one is checked again, the other one is as bad as it was, and said again.
        let rows = vec![plain(1, 5), plain(2, 4), bad(3, 2, "x")];
        let (fed, gone, refused) = bed.changes(rows, ALL).await;
        assert_eq!((fed, gone, refused), (vec![(1, 1)], vec![], vec![3]));
        bed.assert_counts(&[(2, &[3]), (4, &[2]), (5, &[1])]);
        // Switched off, or deleted, while it is paused.
        bed.changes(vec![paused(1, 5), paused(2, 4)], Covered::Nothing)
            .await;
        let off = row(1, 5, LegacyState::Inactive);
        bed.changes(vec![off], Covered::These(&[id(1), id(2)]))
            .await;
        bed.assert_counts(&[(2, &[3])]);
        assert_eq!((bed.fleet.len(), bed.held.aside()), (0, 1));
    }
    /// Lesson: two looks at the store were compared with each other. Who was paused here and resumed
    /// elsewhere between them, or the reverse, stayed as the one or the other had it.
    #[tokio::test]
    async fn what_is_paused_elsewhere_is_compared_with_what_is_in_effect_here() {
        let mut bed = Bed::new();
        let paused = |raw, bucket| row(raw, bucket, LegacyState::Paused);
        let rows = vec![plain(1, 1), paused(2, 1), bad(3, 1, "x"), plain(4, 1)];
        bed.feed(rows, ALL, Feeding::All).await;
        bed.feed(
            vec![paused(5, 1), plain(6, 1)],
            Covered::Nothing,
            Feeding::All,
        )
        .await;
        let wrongly = |bed: &Bed, (after, last): (Option<i64>, Option<i64>), there: &[i64]| {
            let there: Vec<TargetId> = there.iter().copied().map(id).collect();
            let page = (after.map(id), last.map(id));
            let found = bed.held.wrongly_paused(&bed.fleet, page, &there);
            found.into_iter().map(TargetId::get).collect::<Vec<_>>()
        };
        let whole = (None, None);
        // Nobody knows of 9: it is not active.
        assert!(wrongly(&bed, whole, &[2, 5, 9]).is_empty());
        assert_eq!(wrongly(&bed, whole, &[1, 3]), [1, 3, 2, 5]);
        // By page: nothing is said of what is on others.
        assert_eq!(wrongly(&bed, (None, Some(4)), &[2, 4]), [4]);
        assert_eq!(wrongly(&bed, (Some(4), None), &[6]), [6, 5]);
        // Once they are read there is nothing to read again.
        let rows = vec![paused(1, 1), plain(2, 1), paused(3, 1), plain(5, 1)];
        bed.changes(rows, Covered::Nothing).await;
        assert!(wrongly(&bed, whole, &[1, 3]).is_empty());
    }
}
