//! Targets between our own table and that of an older system, row by row under the same ids.

use store::{ImportId, ImportRow, Store};

use super::export::and_paused;
use super::import::{ImportSummary, end};
use crate::out;

/// Rows of one page, and of one transaction of an export.
const PAGE: usize = 1_000;

/// What came of an export; but for the paused, its numbers add up to the targets of the store that
/// are in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// New rows.
    pub(crate) inserted: u64,
    /// Rows that were there.
    pub(crate) updated: u64,
    /// Targets among all of these that are paused.
    pub(crate) paused: u64,
    /// Targets that no legacy row can say; each was named.
    pub(crate) refused: u64,
}

impl Exported {
    /// One line for a person.
    pub(crate) fn sentence(self) -> String {
        let Self {
            inserted,
            updated,
            paused,
            refused,
        } = self;
        let rows = inserted + updated + refused;
        let paused = and_paused(paused);
        format!("{rows} targets{paused}: {inserted} inserted, {updated} updated, {refused} refused")
    }
}

/// Takes the active rows of the legacy table called `table` into our own; `progress` hears the
/// number of rows so far.
///
/// # Errors
/// The store's.
pub(crate) async fn import(
    store: &Store,
    table: &str,
    (id, prune): (ImportId, bool),
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<ImportSummary> {
    let (mut summary, mut after) = (ImportSummary::default(), None);
    loop {
        let page = store.legacy_targets(after, PAGE, true).await?;
        summary.rows += (page.targets.len() + page.refused.len()) as u64;
        for (row, error) in &page.refused {
            summary.refuse(&format_args!("{table} {row}: {error}"));
        }
        let rows = page.targets.into_iter().map(|target| ImportRow {
            id: Some(target.id),
            config: target.config,
        });
        let rows: Vec<ImportRow> = rows.collect();
        let ids: Vec<_> = rows.iter().filter_map(|row| row.id).collect();
        let report = store.import(rows, id).await?;
        summary.add(&report);
        for (at, error) in report.refused {
            summary.refuse(&format_args!("{table} {}: {error}", ids[at]));
        }
        progress(summary.rows);
        if page.last.is_none() {
            end(store, id, prune, &mut summary).await?;
            return Ok(summary);
        }
        after = page.last;
    }
}

/// Writes our targets, paused or not, into the legacy table.
///
/// # Errors
/// The store's; pages before the failed one are written, and doing it again is harmless.
pub(crate) async fn export(store: &Store) -> anyhow::Result<Exported> {
    let (mut done, mut after) = (Exported::default(), None);
    loop {
        let mut page = store.listed_targets(after, PAGE).await?;
        for target in page.targets.iter_mut().filter(|target| !target.active) {
            done.paused += 1;
            // A pause is ours alone, and stays: it is no reason to switch a row off for others.
            target.active = true;
        }
        let report = store.put_legacy(page.targets).await?;
        done.inserted += report.inserted;
        done.updated += report.updated;
        for (id, error) in page.refused.iter().chain(&report.refused) {
            done.refused += 1;
            out::remark(format_args!("target {id}: {error}"));
        }
        if page.last.is_none() {
            return Ok(done);
        }
        after = page.last;
    }
}
