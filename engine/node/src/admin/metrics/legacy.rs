//! What is read again of legacy rows, and what it came to. All 0 where there are none.

use std::fmt;

use model::MonoUs;

use super::{Page, Scrape, by, plain};
use crate::run::legacy::stats::{CHANGES, READS};

impl Scrape {
    pub(super) fn legacy_rows(&self, page: &mut Page<'_>) -> fmt::Result {
        let seen = &self.legacy;
        let figures = seen.standing.unwrap_or_default().figures;
        let labelled = |names: &[&'static str], counts: &[u64]| -> Vec<(&str, u64)> {
            names.iter().copied().zip(counts.iter().copied()).collect()
        };
        let reads = labelled(&READS, &seen.reads);
        let help = "Statements that read the legacy table again";
        page.counter("legacy_reads", help, by("kind", &reads))?;
        let help = "Time that those took, in ms";
        page.counter("legacy_read_ms", help, plain(seen.read_ms))?;
        let help = "Statements that failed";
        page.counter("legacy_read_errors", help, plain(seen.read_errors))?;
        let help = "Legacy rows that were read again";
        page.counter("legacy_rows_read", help, plain(seen.rows_read))?;
        let changes = labelled(&CHANGES, &seen.changes);
        let help = "Legacy rows that were not as they had been";
        page.counter("legacy_changes", help, by("kind", &changes))?;
        let help = "Statements that had to wait for better times";
        page.counter("legacy_deferred", help, plain(figures.deferred))?;
        let help = "Changed legacy rows that wait to be read";
        page.gauge("legacy_ids_waiting", help, plain(figures.ids_waiting))?;
        let waiting = plain(figures.buckets_waiting);
        let help = "Buckets and spans of ids whose rows are not those that we have";
        page.gauge("legacy_buckets_waiting", help, waiting)?;
        let up = plain(u64::from(figures.is_stream_up));
        let help = "1 while the server tells changes of legacy rows";
        page.gauge("legacy_stream_up", help, up)?;
        let lag = plain(seen.told.lag_s.unwrap_or(0));
        let help = "How old a change may be that it has not told yet, in s";
        page.gauge("legacy_stream_lag_seconds", help, lag)?;
        let told = &seen.told.counts;
        let rows = [
            ("given", told.rows.saturating_sub(told.rows_filtered)),
            ("filtered", told.rows_filtered),
        ];
        let help = "Rows that it told: with a change for us, and without";
        page.counter("legacy_stream_rows", help, by("kind", &rows))?;
        let help = "Times that its position could not be stored";
        page.counter(
            "legacy_stream_position_errors",
            help,
            plain(told.keep_failures),
        )?;
        let help = "Rows a second that the sweep reads now";
        page.gauge("legacy_sweep_rate", help, plain(figures.rows_per_s))?;
        let progress = vec![(Vec::new(), seen.progress())];
        let help = "How much of the table the sweep has read, of 1";
        page.gauge("legacy_sweep_progress", help, progress)?;
        let age = vec![(Vec::new(), seen.age_s(MonoUs(self.now_us)))];
        let help = "Time since the last whole sweep began: what is older is in effect";
        page.gauge("legacy_sweep_age_seconds", help, age)
    }
}
