//! Turns the observer's table into the numbers of `GET /observe/summary`. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::FarmMs;
use crate::observer::Table;
use crate::sites::Sites;

/// What the farm saw since the last reset. Sites in or just after a fault are not judged.
#[derive(Debug, Serialize)]
pub(crate) struct Observation {
    pub(crate) interval_s: u32,
    pub(crate) elapsed_ms: u32,
    /// Sites of the farm.
    pub(crate) sites: u32,
    /// Sites left out by the ground truth: from a fault's start to its end + 2 intervals.
    pub(crate) excluded: u32,
    /// Sites that must have been seen: all but the excluded.
    pub(crate) expected: u32,
    /// Expected sites that were seen.
    pub(crate) observed: u32,
    /// Expected sites that were not.
    pub(crate) never_seen: u32,
    /// Expected sites whose last request is older than 2 intervals.
    pub(crate) stale: u32,
    /// observed / expected; null without expected sites.
    pub(crate) coverage: Option<f64>,
    /// Requests by method and status (or the name of the fault that ended them), of all sites.
    pub(crate) requests: BTreeMap<&'static str, BTreeMap<String, u64>>,
    pub(crate) requests_total: u64,
    /// Requests of the expected sites.
    pub(crate) hits: u64,
    /// The longest gap of each expected site with two requests, over those sites.
    pub(crate) gap_ms: Option<Quantiles>,
    /// The shortest gap of any expected site.
    pub(crate) gap_min_ms: Option<u32>,
    /// Time since the last request of each observed site, over those sites.
    pub(crate) age_ms: Option<Quantiles>,
    /// floor(elapsed / interval) × expected.
    pub(crate) expected_min: u64,
    /// hits / `expected_min`; null before the first interval is over.
    pub(crate) ratio: Option<f64>,
}

/// A distribution over sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) min: u32,
    pub(crate) p50: u32,
    pub(crate) p95: u32,
    pub(crate) p99: u32,
    pub(crate) p999: u32,
    pub(crate) max: u32,
}

impl Quantiles {
    /// Nearest-rank quantiles; `None` of nothing.
    fn of(mut values: Vec<u32>) -> Option<Self> {
        values.sort_unstable();
        let at = |per_mille: usize| {
            let rank = (values.len() * per_mille).div_ceil(1_000).max(1);
            values.get(rank - 1).copied()
        };
        Some(Self {
            min: at(0)?,
            p50: at(500)?,
            p95: at(950)?,
            p99: at(990)?,
            p999: at(999)?,
            max: at(1_000)?,
        })
    }
}

/// The observation at `now`; `unjudged` says which sites are left out.
pub(crate) fn observe(table: &Table, sites: &Sites, unjudged: &[bool], now: FarmMs) -> Observation {
    let elapsed_ms = now.saturating_sub(table.reset_ms);
    let stale_ms = sites.interval_s.saturating_mul(2_000);
    let (mut ages, mut gaps) = (Vec::new(), Vec::new());
    let (mut expected, mut stale, mut hits, mut gap_min_ms) = (0, 0, 0, None::<u32>);
    for (site, _) in table
        .readings()
        .zip(unjudged)
        .filter(|(_, unjudged)| !**unjudged)
    {
        expected += 1;
        hits += u64::from(site.hits);
        if site.hits == 0 {
            continue;
        }
        let age = now.saturating_sub(site.last_ms);
        stale += u32::from(age > stale_ms);
        ages.push(age);
        if site.hits > 1 {
            gaps.push(site.gap_max_ms);
            gap_min_ms = Some(gap_min_ms.map_or(site.gap_min_ms, |min| min.min(site.gap_min_ms)));
        }
    }
    let observed = ages.len() as u32;
    let intervals = u64::from(elapsed_ms) / (u64::from(sites.interval_s) * 1_000);
    let expected_min = intervals * u64::from(expected);
    let mut requests = BTreeMap::<_, BTreeMap<_, _>>::new();
    let mut requests_total = 0;
    for (method, outcome, count) in table.requests() {
        requests_total += count;
        requests.entry(method).or_default().insert(outcome, count);
    }
    Observation {
        interval_s: sites.interval_s,
        elapsed_ms,
        sites: sites.count,
        excluded: sites.count - expected,
        expected,
        observed,
        never_seen: expected - observed,
        stale,
        coverage: (expected > 0).then(|| f64::from(observed) / f64::from(expected)),
        requests,
        requests_total,
        hits,
        gap_ms: Quantiles::of(gaps),
        gap_min_ms,
        age_ms: Quantiles::of(ages),
        expected_min,
        ratio: (expected_min > 0).then(|| hits as f64 / expected_min as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Outcome;
    use crate::scenario::Method;

    const SITES: Sites = Sites {
        count: 5,
        interval_s: 10,
        https_every: 0,
        addresses: 256,
    };

    #[test]
    fn the_numbers_are_those_of_the_requests() {
        let table = Table::new(5, 1_000, [0, 0]);
        for (site, now) in [
            (0, 2_000),
            (0, 12_000),
            (0, 21_000),
            (1, 5_000),
            (2, 20_000),
        ] {
            table.hit(site, now);
            table.count(Some(Method::Get), Outcome::Status(200));
        }
        let mut unjudged = vec![false; 5];
        unjudged[4] = true;
        let seen = observe(&table, &SITES, &unjudged, 26_000);
        assert_eq!((seen.elapsed_ms, seen.sites, seen.excluded), (25_000, 5, 1));
        assert_eq!((seen.expected, seen.observed, seen.never_seen), (4, 3, 1));
        assert_eq!(seen.stale, 1, "site 1 was seen 21 s ago");
        assert_eq!(seen.coverage, Some(0.75));
        assert_eq!(
            (seen.hits, seen.expected_min, seen.ratio),
            (5, 8, Some(0.625))
        );
        assert_eq!(seen.requests["GET"]["200"], 5);
        let gap = seen.gap_ms.expect("one site has gaps");
        assert_eq!(
            (gap.min, gap.max, seen.gap_min_ms),
            (10_000, 10_000, Some(9_000))
        );
        let age = seen.age_ms.expect("ages");
        assert_eq!((age.min, age.p50, age.max), (5_000, 6_000, 21_000));
    }

    #[test]
    fn an_empty_table_has_no_quantiles_and_no_ratio() {
        let seen = observe(&Table::new(5, 0, [0, 0]), &SITES, &[false; 5], 9_999);
        assert_eq!(
            (seen.never_seen, seen.expected_min, seen.ratio),
            (5, 0, None)
        );
        assert_eq!((seen.age_ms, seen.gap_ms), (None, None));
    }

    #[test]
    fn quantiles_are_nearest_rank() {
        let all = Quantiles::of((1..=1_000).rev().collect()).expect("values");
        let expected = Quantiles {
            min: 1,
            p50: 500,
            p95: 950,
            p99: 990,
            p999: 999,
            max: 1_000,
        };
        assert_eq!(all, expected);
    }
}
