//! Numbers of the reloading of legacy rows: written by the control plane, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use model::MonoUs;
use serde_json::{Value, json};
use store::ChangeCounts;

use super::events::{Figures, Read};

/// Kinds of readings, as labels.
pub(crate) const READS: [&str; 5] = ["page", "counts", "bucket", "span", "ids"];
/// What can become of a row, as labels.
pub(crate) const CHANGES: [&str; 4] = ["changed", "activated", "deactivated", "refused"];

/// The index of a kind of reading in [`READS`].
pub(super) fn kind(read: &Read) -> usize {
    match read {
        Read::Page { .. } => 0,
        Read::Tally { .. } | Read::Count { .. } => 1,
        Read::Bucket { .. } => 2,
        Read::Span { .. } => 3,
        Read::Ids(_) => 4,
    }
}

/// Counters since the start, and how the machine stands.
#[derive(Debug, Default)]
pub(crate) struct LegacyStats {
    reads: [AtomicU64; READS.len()],
    changes: [AtomicU64; CHANGES.len()],
    rows_read: AtomicU64,
    read_us: AtomicU64,
    read_errors: AtomicU64,
    told: Mutex<Told>,
    /// `None` where no legacy rows are loaded.
    standing: Mutex<Option<Standing>>,
}

/// What the server told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) counts: ChangeCounts,
    /// How old a change may be that was not told yet, in s; `None` while nothing is told.
    pub(crate) lag_s: Option<u64>,
}

/// How the machine stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) figures: Figures,
    /// Active rows, the bad ones included.
    pub(crate) rows: u64,
    /// Whether activations are found by counts of buckets, or else of ids.
    pub(crate) counts_buckets: bool,
}

/// Everything, as it is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LegacySeen {
    pub(crate) reads: [u64; READS.len()],
    pub(crate) changes: [u64; CHANGES.len()],
    pub(crate) rows_read: u64,
    pub(crate) read_ms: u64,
    pub(crate) read_errors: u64,
    pub(crate) told: Told,
    pub(crate) standing: Option<Standing>,
}

impl LegacyStats {
    /// A reading of the kind `kind` that took `took_us` and brought `rows`.
    pub(super) fn read(&self, kind: usize, rows: usize, took_us: u64) {
        self.reads[kind].fetch_add(1, Ordering::Relaxed);
        self.rows_read.fetch_add(rows as u64, Ordering::Relaxed);
        self.read_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// A reading that failed.
    pub(super) fn failed(&self) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of rows, in the order of [`CHANGES`].
    pub(super) fn add(&self, changes: [u64; CHANGES.len()]) {
        for (counter, more) in self.changes.iter().zip(changes) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What the server told since the start, and how late it is now.
    pub(super) fn told(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    pub(super) fn stands(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    pub(crate) fn look(&self) -> LegacySeen {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LegacySeen {
            reads: self.reads.each_ref().map(load),
            changes: self.changes.each_ref().map(load),
            rows_read: load(&self.rows_read),
            read_ms: load(&self.read_us) / 1_000,
            read_errors: load(&self.read_errors),
            told: *self.told.lock().unwrap_or_else(PoisonError::into_inner),
            standing: *self.standing.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl LegacySeen {
    /// How much of the pass is done, of 1; 1 while none is under way.
    pub(crate) fn progress(&self) -> f64 {
        let Some(standing) = self.standing.filter(|at| at.figures.rows_per_s > 0) else {
            return 1.0;
        };
        (standing.figures.pass_rows as f64 / standing.rows.max(1) as f64).min(1.0)
    }

    /// Time since everything that was there was read, in s: what is older is in effect.
    pub(crate) fn age_s(&self, now: MonoUs) -> f64 {
        let as_of = self.standing.map(|standing| standing.figures.as_of);
        as_of.map_or(0.0, |as_of| now.since(as_of) as f64 / 1e6)
    }

    /// For `status`; `null` where no legacy rows are loaded.
    pub(crate) fn json(&self, now: MonoUs) -> Value {
        let Some(Standing {
            figures,
            rows,
            counts_buckets,
        }) = self.standing
        else {
            return Value::Null;
        };
        let told = self.told.counts;
        let pairs = |names: &[&str], counts: &[u64]| -> Value {
            let pairs = names.iter().zip(counts);
            let pairs = pairs.map(|(&name, &count)| (name.to_owned(), Value::from(count)));
            Value::Object(pairs.collect())
        };
        json!({
            "rows": rows,
            "reads": pairs(&READS, &self.reads),
            "rows_read": self.rows_read,
            "read_ms": self.read_ms,
            "read_errors": self.read_errors,
            "changes": pairs(&CHANGES, &self.changes),
            "deferred": figures.deferred,
            "ids_waiting": figures.ids_waiting,
            "buckets_waiting": figures.buckets_waiting,
            "counts_buckets": counts_buckets,
            "stream": {
                "up": figures.is_stream_up,
                "late": figures.is_stream_late,
                "lag_s": self.told.lag_s,
                "events": told.events,
                "rows": told.rows,
                "rows_filtered": told.rows_filtered,
                "ids": told.ids,
                "position_kept": told.kept,
                "position_errors": told.keep_failures,
            },
            "sweep": {
                "rows_per_s": figures.rows_per_s,
                "progress": self.progress(),
                "passes": figures.passes,
                "age_s": self.age_s(now),
                "hurried": figures.is_hurried,
            },
        })
    }
}
