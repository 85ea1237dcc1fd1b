//! The times of many windows, for looking up which one counts at a moment. It must not know for
//! whom they are.

use std::cmp::Reverse;

use crate::target::Maintenance;
use crate::time::UnixMs;

/// Times that may lie over each other, in any number: a look costs the logarithm of it.
///
/// Of those that have begun only the one that ends last can count. So what is kept, in the order of
/// their starts, are those that end later than all before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Maintenance>);

impl FromIterator<Maintenance> for Spans {
    fn from_iter<I: IntoIterator<Item = Maintenance>>(spans: I) -> Self {
        let mut spans: Vec<Maintenance> = spans.into_iter().collect();
        spans.sort_unstable_by_key(|span| (span.start_ms, Reverse(span.end_ms)));
        let mut latest_ms = 0;
        spans.retain(|span| {
            let is_later = span.end_ms > latest_ms;
            latest_ms = latest_ms.max(span.end_ms);
            is_later
        });
        Self(spans)
    }
}

impl Spans {
    /// Of those that are active at `now` the one that ends last.
    pub fn at(&self, now: UnixMs) -> Option<Maintenance> {
        let begun = self.0.partition_point(|span| span.start_ms < now.0);
        let latest = self.0[..begun].last().copied();
        latest.filter(|span| span.is_active(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::splitmix64;

    /// Random times within a small day, so that they meet and lie over each other.
    fn random(seed: u64, count: usize) -> Vec<Maintenance> {
        let mut state = seed;
        let mut below = |limit: u64| {
            state = splitmix64(state);
            state % limit
        };
        let span = |_| {
            let start_ms = below(40);
            Maintenance {
                start_ms,
                end_ms: start_ms + 1 + below(12),
            }
        };
        (0..count).map(span).collect()
    }

    #[test]
    fn at_every_moment_the_one_counts_that_counts_among_all() {
        for seed in 0..2_000 {
            let all = random(seed, seed as usize % 9);
            let spans: Spans = all.iter().copied().collect();
            for ms in 0..60 {
                let now = UnixMs(ms);
                let expected = Maintenance::of_several(all.iter().copied(), now);
                let found = spans.at(now);
                let ends = |span: Option<Maintenance>| span.map(|span| span.end_ms);
                assert_eq!(ends(found), ends(expected), "seed {seed} at {ms}");
                assert!(found.is_none_or(|span| span.is_active(now)), "seed {seed}");
            }
        }
    }

    /// A look halves what is left to look at: 23,000 times in order cost 15 comparisons.
    #[test]
    fn what_is_kept_is_in_order_of_both_ends_so_that_a_look_needs_no_other() {
        for seed in 0..200 {
            let Spans(kept) = random(seed, 100).into_iter().collect();
            let is_after = |pair: &[Maintenance]| {
                pair[0].start_ms < pair[1].start_ms && pair[0].end_ms < pair[1].end_ms
            };
            assert!(kept.windows(2).all(is_after), "seed {seed}: {kept:?}");
        }
    }
}
