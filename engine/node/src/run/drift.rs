//! Whether the legacy rows say what our open events say: a slice of the table a minute, gauge,
//! counter and a sentence, and nothing is ever repaired. Must not know how rows are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::TargetId;
use store::{Drift, DriftSlice, Store};
use tracing::warn;

use super::lease::Right;
use super::view::View;
use crate::config::Config;

/// Time between two samples.
const EVERY: Duration = Duration::from_mins(1);
/// Rows of one sample: a million rows are seen in twenty minutes, for about a tenth of a second of
/// the server's CPU in each.
const SAMPLE_ROWS: u64 = 50_000;
/// Rows of one question.
const SLICE_ROWS: usize = 25_000;

/// What was seen since the start.
#[derive(Debug, Default)]
pub(crate) struct DriftStats {
    /// Differing rows that this pass over the table found so far.
    passing: AtomicU64,
    /// Of the last whole pass.
    passed: AtomicU64,
    seen: AtomicU64,
    looked: AtomicU64,
    failed: AtomicU64,
}

impl DriftStats {
    /// Rows that differ, as far as is known: of the last whole pass, or of this one where it found
    /// more already.
    pub(crate) fn rows(&self) -> u64 {
        let [passing, passed] =
            [&self.passing, &self.passed].map(|count| count.load(Ordering::Relaxed));
        passing.max(passed)
    }

    /// Rows looked at, those of them that differed, and samples that failed.
    pub(crate) fn totals(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("looked", of(&self.looked)),
            ("differed", of(&self.seen)),
            ("failed", of(&self.failed)),
        ]
    }

    fn add(&self, slice: &DriftSlice) {
        self.looked.fetch_add(slice.looked, Ordering::Relaxed);
        self.seen.fetch_add(slice.drifted, Ordering::Relaxed);
        self.passing.fetch_add(slice.drifted, Ordering::Relaxed);
        if slice.last.is_none() {
            let found = self.passing.swap(0, Ordering::Relaxed);
            self.passed.store(found, Ordering::Relaxed);
        }
    }
}

/// Looks for ever, where the status of legacy rows is ours to write.
pub(super) async fn run(store: Store, config: Config, view: Arc<View>) {
    if !(config.legacy.load && config.legacy.status) {
        return;
    }
    let mut after = None;
    loop {
        tokio::time::sleep(EVERY).await;
        // Whoever took over writes now, and may be ahead of our events.
        if Right::of(&view.sink_counters()) == Right::Fenced {
            continue;
        }
        match sample(&store, &view.drift, &mut after).await {
            Ok(found) if found.drifted > 0 => warn!("{}", sentence(&found)),
            Ok(_) => {}
            Err(error) => {
                view.drift.failed.fetch_add(1, Ordering::Relaxed);
                warn!("the legacy rows could not be compared, they are in a minute: {error}");
            }
        }
    }
}

/// What one sample found.
#[derive(Debug, Default)]
struct Sample {
    looked: u64,
    drifted: u64,
    named: Vec<Drift>,
}

/// Slices until there are enough, or until the table ends: the next sample then begins anew.
async fn sample(
    store: &Store,
    stats: &DriftStats,
    after: &mut Option<TargetId>,
) -> store::Result<Sample> {
    let (mut sample, mut asked) = (Sample::default(), 0);
    while asked < SAMPLE_ROWS {
        let slice = store.legacy_drift(*after, SLICE_ROWS).await?;
        stats.add(&slice);
        sample.looked += slice.looked;
        sample.drifted += slice.drifted;
        *after = slice.last;
        if sample.named.is_empty() {
            sample.named = slice.named;
        }
        if after.is_none() {
            break;
        }
        asked += SLICE_ROWS as u64;
    }
    Ok(sample)
}

fn sentence(sample: &Sample) -> String {
    let named: Vec<String> = sample
        .named
        .iter()
        .map(|row| {
            let found = row
                .found
                .map_or_else(|| "none".to_owned(), |found| found.to_string());
            format!("{} ({found}, not {})", row.target, row.expected)
        })
        .collect();
    format!(
        "{} of {} legacy rows have a status that is not what the open events say, such as {}: \
         another program writes them too; they are left as they are",
        sample.drifted,
        sample.looked,
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(looked: u64, drifted: u64, last: i64) -> DriftSlice {
        DriftSlice {
            looked,
            drifted,
            named: Vec::new(),
            last: TargetId::new(last),
        }
    }

    #[test]
    fn the_gauge_is_of_the_last_whole_pass_or_of_more_that_was_found_since() {
        let stats = DriftStats::default();
        stats.add(&slice(5, 2, 5));
        assert_eq!(stats.rows(), 2, "at once");
        stats.add(&slice(0, 0, 0));
        assert_eq!(stats.rows(), 2);
        stats.add(&slice(5, 1, 5));
        assert_eq!(stats.rows(), 2, "the pass goes on");
        stats.add(&slice(0, 0, 0));
        assert_eq!(stats.rows(), 1, "it is over");
        assert_eq!(
            stats.totals(),
            [("looked", 10), ("differed", 3), ("failed", 0)]
        );
    }

    #[test]
    fn the_sentence_names_rows_with_both_statuses() {
        let named = [(7, Some(1), 2), (9, None, 1)].map(|(id, found, expected)| Drift {
            target: TargetId::new(id).expect("positive"),
            found,
            expected,
        });
        let sample = Sample {
            looked: 100,
            drifted: 2,
            named: named.to_vec(),
        };
        let said = sentence(&sample);
        assert!(said.starts_with("2 of 100 legacy rows"), "{said}");
        assert!(said.contains("7 (1, not 2), 9 (none, not 1)"), "{said}");
    }
}
