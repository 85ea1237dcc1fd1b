//! What is held, compared with what is read.

use crossbeam_channel::{bounded, unbounded};
use model::TargetSpec;
use model::ids::splitmix64;

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
            let mut tally = RowTally::default();
            for &raw in ids {
                tally.toggle(id(raw), true);
            }
            (bucket, tally)
        });
        let counted: Vec<(u16, RowTally)> = counted.collect();
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
    // The last one was never in the fleet, and may have an incident from before the start.
    assert_eq!((gone, bed.held.aside()), (vec![1, 2, 3, 4], 0));
    bed.assert_counts(&[]);
    bed.changes(vec![bad(5, 2, "y")], Covered::Nothing).await;
    let paused = row(5, 2, LegacyState::Paused);
    let (_, gone, _) = bed.changes(vec![paused], Covered::Nothing).await;
    assert_eq!(gone, [5]);
}

#[tokio::test]
async fn counts_name_the_buckets_that_differ_and_their_rows() {
    let mut bed = Bed::new();
    let rows = (1..=40).map(|raw| plain(raw, raw as u16 % 4));
    let rows = rows.chain([bad(41, 1, "x")]).collect();
    bed.feed(rows, ALL, Feeding::All).await;
    let of = |bucket: u16| {
        let mut tally = RowTally::default();
        for raw in (1..=40).filter(|raw| *raw % 4 == i64::from(bucket)) {
            tally.toggle(id(raw), true);
        }
        (bucket, tally)
    };
    // The bad row was switched off, a bucket is empty now, and there is a new one.
    let mut counted = vec![of(0), of(1), of(2), (9, of(1).1)];
    let (differing, large) = bed.held.differing((0, 99), &counted);
    assert_eq!((differing, large), (vec![1, 3, 9], false));
    let unseen = bed.held.of_buckets(&[1, 3, 9]);
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
    assert_eq!((fed, gone, refused), (vec![], vec![1, 3], vec![]));
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

/// Lesson: slices were cut by the number of buckets in the configuration, 1,000 where nobody says
/// otherwise. A table with 64 of them was counted whole, in one statement.
#[tokio::test]
async fn slices_are_cut_by_the_rows_that_there_are_whatever_buckets_they_are_in() {
    for seed in 0..40u64 {
        let random = |step: u64| splitmix64(seed << 32 | step);
        let buckets: Vec<u16> = (0..10 + random(0) % 60)
            .map(|nth| match seed % 4 {
                0 => nth as u16,
                // One far away from all others.
                1 if nth == 0 => LEGACY_BUCKET_MAX,
                1 => 7 + nth as u16,
                _ => (random(nth + 1) % u64::from(LEGACY_BUCKET_MAX)) as u16,
            })
            .collect();
        let rows: Vec<LegacyRow> = (1..=600)
            .map(|raw| {
                let at = random(1_000 + raw as u64) as usize % buckets.len();
                plain(
                    raw,
                    buckets[if seed % 3 == 0 {
                        at * at / buckets.len()
                    } else {
                        at
                    }],
                )
            })
            .collect();
        let mut in_bucket = BTreeMap::<u16, usize>::new();
        for bucket in rows.iter().filter_map(|row| row.bucket) {
            *in_bucket.entry(bucket).or_default() += 1;
        }
        let mut bed = Bed::new();
        bed.feed(rows, ALL, Feeding::All).await;
        let largest = in_bucket.values().max().copied().expect("some");
        let (mut first, mut slices) = (0, 0);
        loop {
            let last = bed.held.slice_end(first);
            let counted: usize = in_bucket.range(first..=last).map(|(_, rows)| rows).sum();
            assert!(
                counted < 60 + largest,
                "seed {seed}: {counted} at once of 600"
            );
            slices += 1;
            assert!(slices <= SLICES, "seed {seed}: {slices}");
            if last == LEGACY_BUCKET_MAX {
                break;
            }
            first = last + 1;
        }
        assert_eq!(bed.held.in_use, in_bucket.len(), "seed {seed}");
        assert_eq!(
            bed.held.suits_buckets(),
            in_bucket.len() >= 10,
            "seed {seed}"
        );
    }
    // Nothing is known: whatever may be there is in one slice.
    assert_eq!(Bed::new().held.slice_end(0), LEGACY_BUCKET_MAX);
}

/// What is counted by id is what was fed, whatever became of it: aside, paused, gone or moved.
#[tokio::test]
async fn the_tally_of_a_span_of_ids_is_that_of_its_active_rows() {
    for seed in 0..20u64 {
        let mut random = (0u64..).map(|step| splitmix64(seed << 32 | step));
        let mut random = move |below: u64| random.next().expect("endless") % below;
        let (mut bed, mut table) = (Bed::new(), BTreeMap::<i64, u16>::new());
        for _ in 0..30 {
            let mut ids = Vec::new();
            let mut rows = Vec::new();
            for _ in 0..20 {
                let (raw, bucket) = (random(80) as i64 + 1, random(12) as u16);
                if ids.contains(&id(raw)) {
                    continue;
                }
                let state = match random(5) {
                    0 => Some(row(raw, bucket, LegacyState::Inactive)),
                    1 => Some(bad(raw, bucket, "x")),
                    2 => Some(row(raw, bucket, LegacyState::Paused)),
                    3 => Some(plain(raw, bucket)),
                    _ => None,
                };
                let is_active = state
                    .as_ref()
                    .is_some_and(|row| row.state != LegacyState::Inactive);
                if is_active {
                    table.insert(raw, bucket);
                } else {
                    table.remove(&raw);
                }
                ids.push(id(raw));
                rows.extend(state);
            }
            bed.changes(rows, Covered::These(&ids)).await;
            let first = random(40) as i64 + 1;
            let last = first + 1 + random(60) as i64;
            for (after, last) in [(Some(first), Some(last)), (None, Some(last)), (None, None)] {
                let mut expected = RowTally::default();
                for &raw in table.keys() {
                    if after.is_none_or(|after| raw > after) && last.is_none_or(|last| raw <= last)
                    {
                        expected.toggle(id(raw), true);
                    }
                }
                let span = (after.map(id), last.map(id));
                let found = bed.held.tally_between(&bed.fleet, span);
                assert_eq!(found, expected, "seed {seed}: {span:?}");
            }
            let mut in_bucket = BTreeMap::<u16, HashSet<TargetId>>::new();
            for (&raw, &bucket) in &table {
                in_bucket.entry(bucket).or_default().insert(id(raw));
            }
            assert_eq!(bed.held.in_use, in_bucket.len(), "seed {seed}");
            // Lesson: these were found by a walk over all that is held, at every count.
            let buckets: Vec<u16> = in_bucket.keys().copied().collect();
            assert_eq!(bed.held.of_buckets(&buckets), in_bucket, "seed {seed}");
        }
    }
}

#[test]
fn once_a_bucket_was_too_large_no_ids_are_kept_by_bucket() {
    let mut held = Held::new(1);
    for raw in 1..=LEGACY_BUCKET_ROWS_MAX as i64 + 10 {
        held.count(id(raw), (raw % 10) as u16, true);
    }
    assert!(held.suits_buckets());
    let kept = |held: &Held| held.of_buckets(&[3])[&3].len() as u64;
    assert_eq!(kept(&held), LEGACY_BUCKET_ROWS_MAX / 10 + 1);
    let more = LEGACY_BUCKET_ROWS_MAX as i64;
    for raw in 1..=more {
        held.count(id(1_000_000 + raw), 7, true);
    }
    assert_eq!((held.suits_buckets(), kept(&held)), (false, 0));
    for raw in 1..=more {
        held.count(id(1_000_000 + raw), 7, false);
    }
    assert_eq!((held.suits_buckets(), kept(&held)), (false, 0));
    // What is counted is right all the same.
    assert_eq!(held.tally(3).rows, LEGACY_BUCKET_ROWS_MAX / 10 + 1);
    assert_eq!(held.in_use, 10);
}

/// Lesson: rows without a bucket were in no count where others had ten of them, and waited for the
/// sweep: 300 s.
#[test]
fn while_a_row_is_in_no_bucket_rows_are_not_counted_by_bucket() {
    let mut held = Held::new(1);
    for raw in 1..=10 {
        held.count(id(raw), raw as u16, true);
    }
    assert!(held.suits_buckets());
    for (raw, is_there, suits) in [
        (11, true, false),
        (12, true, false),
        (11, false, false),
        (12, false, true),
    ] {
        held.count(id(raw), NO_BUCKET, is_there);
        assert_eq!(held.suits_buckets(), suits, "{raw}");
    }
}
