//! Counts what really arrives: per site 16 bytes, and requests by method and outcome.
//!
//! One writer (the serving thread), any reader: plain atomics, no lock. A reset is a new table.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::FarmMs;
use crate::pages::Outcome;
use crate::scenario::Method;

/// What is known of one site.
#[derive(Debug, Default)]
pub(crate) struct SiteState {
    hits: AtomicU32,
    last_ms: AtomicU32,
    gap_max_ms: AtomicU32,
    gap_min_ms: AtomicU32,
}

const _: () = assert!(
    size_of::<SiteState>() == 16,
    "10 M sites must fit in 160 MB"
);

/// A reading of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteReading {
    /// Requests since the reset.
    pub(crate) hits: u32,
    /// When the last one came; meaningless without hits.
    pub(crate) last_ms: FarmMs,
    /// Longest and shortest time between two; meaningless below two hits.
    pub(crate) gap_max_ms: u32,
    pub(crate) gap_min_ms: u32,
}

/// Everything observed since `reset_ms`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) reset_ms: FarmMs,
    /// CPU time at the reset, in µs: of the serving thread, of the process.
    pub(crate) cpu_at_reset_us: [u64; 2],
    sites: Vec<SiteState>,
    requests: Vec<AtomicU64>,
}

/// Rows of the request counters: GET, HEAD, and what is no request of a site.
const METHODS: [&str; 3] = ["GET", "HEAD", "other"];

impl Table {
    /// An empty table for `count` sites.
    pub(crate) fn new(count: u32, reset_ms: FarmMs, cpu_at_reset_us: [u64; 2]) -> Self {
        Self {
            reset_ms,
            cpu_at_reset_us,
            sites: (0..count).map(|_| SiteState::default()).collect(),
            requests: (0..METHODS.len() * Outcome::SLOTS)
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Records a request of `site` that came at `now`. To be called by the serving thread only.
    pub(crate) fn hit(&self, site: u32, now: FarmMs) {
        // ORDERING: one writer; a reader may see a site between two stores, which moves its gap
        // or its age by one request.
        let state = &self.sites[site as usize];
        let hits = state.hits.load(Ordering::Relaxed);
        if hits > 0 {
            let gap = now.saturating_sub(state.last_ms.load(Ordering::Relaxed));
            if gap > state.gap_max_ms.load(Ordering::Relaxed) {
                state.gap_max_ms.store(gap, Ordering::Relaxed);
            }
            if hits == 1 || gap < state.gap_min_ms.load(Ordering::Relaxed) {
                state.gap_min_ms.store(gap, Ordering::Relaxed);
            }
        }
        state.last_ms.store(now, Ordering::Relaxed);
        state.hits.store(hits.saturating_add(1), Ordering::Relaxed);
    }

    /// Counts an answered request; `None` for the method: not one of a site.
    pub(crate) fn count(&self, method: Option<Method>, outcome: Outcome) {
        let row = match method {
            Some(Method::Get) => 0,
            Some(Method::Head) => 1,
            None => 2,
        };
        let counter = &self.requests[row * Outcome::SLOTS + outcome.slot()];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A reading of every site, in order.
    pub(crate) fn readings(&self) -> impl Iterator<Item = SiteReading> + '_ {
        self.sites.iter().map(|state| SiteReading {
            hits: state.hits.load(Ordering::Relaxed),
            last_ms: state.last_ms.load(Ordering::Relaxed),
            gap_max_ms: state.gap_max_ms.load(Ordering::Relaxed),
            gap_min_ms: state.gap_min_ms.load(Ordering::Relaxed),
        })
    }

    /// Every request counter that is not 0: method, outcome, count.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, String, u64)> + '_ {
        self.requests
            .iter()
            .enumerate()
            .filter_map(|(index, counter)| {
                let count = counter.load(Ordering::Relaxed);
                let (row, slot) = (index / Outcome::SLOTS, index % Outcome::SLOTS);
                (count > 0).then(|| (METHODS[row], Outcome::slot_name(slot), count))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_remembers_its_longest_and_shortest_gap() {
        let table = Table::new(3, 0, [0, 0]);
        for now in [100, 350, 450, 1_450] {
            table.hit(1, now);
        }
        table.hit(2, 5);
        let readings: Vec<SiteReading> = table.readings().collect();
        assert_eq!(readings[0].hits, 0);
        let expected = SiteReading {
            hits: 4,
            last_ms: 1_450,
            gap_max_ms: 1_000,
            gap_min_ms: 100,
        };
        assert_eq!(readings[1], expected);
        assert_eq!((readings[2].hits, readings[2].last_ms), (1, 5));
    }

    #[test]
    fn requests_are_counted_by_method_and_outcome() {
        let table = Table::new(1, 0, [0, 0]);
        table.count(Some(Method::Get), Outcome::Status(200));
        table.count(Some(Method::Get), Outcome::Status(200));
        table.count(Some(Method::Head), Outcome::Reset);
        table.count(None, Outcome::Status(400));
        let counted: Vec<_> = table.requests().collect();
        let expected = [("GET", "200", 2), ("HEAD", "reset", 1), ("other", "400", 1)];
        assert_eq!(
            counted,
            expected.map(|(method, name, n)| (method, name.to_owned(), n))
        );
    }
}
