//! How old the last checks are: the freshness truth, from memory, computed only when asked for.

use crate::slots::CoreSlots;
use model::MonoUs;

/// Age of the last check over all registered targets, in ms (within 2 %, at best 100 ms), from its
/// start, by the monotonic clock: what the wall clock does changes no age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshnessAges {
    /// Registered targets.
    pub targets: u64,
    /// Of these, never checked since the start: in none of the ages.
    pub never_checked: u64,
    /// Of the targets, inside of a maintenance window.
    pub in_maintenance: u64,
    /// Median.
    pub p50_ms: u64,
    /// 90 % are younger.
    pub p90_ms: u64,
    /// 99 % are younger.
    pub p99_ms: u64,
    /// The oldest (exact).
    pub max_ms: u64,
}

/// Buckets per power of two.
const FINE: u32 = 64;
const BUCKETS: usize = (FINE * 27) as usize;

impl FreshnessAges {
    pub(crate) fn of<'s>(cores: impl Iterator<Item = &'s CoreSlots>, now: MonoUs) -> Self {
        let mut counts = vec![0u64; BUCKETS];
        let (mut ages, mut oldest) = (Self::default(), 0);
        for core in cores {
            core.ages(now, |age| {
                ages.targets += 1;
                match age {
                    None => ages.never_checked += 1,
                    Some(age) => {
                        counts[bucket(age)] += 1;
                        oldest = oldest.max(age);
                    }
                }
            });
        }
        let checked = ages.targets - ages.never_checked;
        let of = |per_cent: u64| {
            let rank = (checked * per_cent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            u64::from(found.map_or(0, upper_bound).min(oldest)) * 100
        };
        ages.max_ms = u64::from(oldest) * 100;
        Self {
            p50_ms: of(50),
            p90_ms: of(90),
            p99_ms: of(99),
            ..ages
        }
    }
}

/// Exact below [`FINE`], then `FINE` buckets per power of two.
fn bucket(age: u32) -> usize {
    if age < FINE {
        return age as usize;
    }
    let shift = age.ilog2() - FINE.ilog2();
    (FINE * (shift + 1) + (age >> shift) - FINE) as usize
}

/// Highest age in a bucket.
fn upper_bound(bucket: usize) -> u32 {
    let bucket = bucket as u32;
    if bucket < FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    let first = u64::from(FINE + bucket % FINE) << shift;
    u32::try_from(first + (1 << shift) - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use model::schedule::cadence_ms;
    use model::{CoreIndex, Generation, Now, Slot, TargetId, UnixMs};

    use super::*;
    use crate::handle::Registration;
    use crate::slots::{Drained, Timeline};
    use crate::testbed::healthy;

    #[test]
    fn every_age_is_in_a_bucket_that_reaches_at_most_two_per_cent_above_it() {
        let ages =
            (0..200).chain((0..32).flat_map(|bit| [(1u32 << bit) - 1, 1 << bit, 3 << bit.min(30)]));
        for age in ages.chain([u32::MAX]) {
            let bound = upper_bound(bucket(age));
            assert!(
                bound >= age && u64::from(bound) <= u64::from(age) * 102 / 100,
                "{age} {bound}"
            );
        }
    }

    #[test]
    fn quantiles_are_over_registered_targets_that_were_checked() {
        let start = MonoUs(0);
        let mut slots = CoreSlots::new(Timeline::new(900_000));
        for slot in 0..110 {
            let registration = Registration {
                core: CoreIndex(0),
                slot: Slot(slot),
                target: TargetId::new(i64::from(slot) + 1).expect("positive"),
                group_id: 0,
                method: None,
                generation: Generation(0),
                interval_s: 60,
                cadence_ms: cadence_ms(60),
                maintenance: None,
            };
            assert!(slots.register(&registration, start));
        }
        let now = start.plus_ms(100_000);
        (1..=100).for_each(|s| {
            let drained = start.plus_ms(100_000 - u64::from(s) * 1_000);
            let drained = Now {
                mono: drained,
                unix: UnixMs(0),
            };
            slots.admit(
                &healthy(s, 0, UnixMs(0)),
                Drained::at(drained, drained.unix),
            );
        });
        slots.clear(0);
        let ages = FreshnessAges::of([&slots].into_iter(), now);
        assert_eq!(
            (ages.targets, ages.never_checked, ages.max_ms),
            (109, 9, 100_000)
        );
        for (found, exact) in [
            (ages.p50_ms, 50_000),
            (ages.p90_ms, 90_000),
            (ages.p99_ms, 99_000),
        ] {
            assert!(
                found >= exact && found <= exact * 102 / 100,
                "{found} for {exact}"
            );
        }
    }
}
