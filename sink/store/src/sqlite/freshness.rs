//! Writes when targets were checked: the most frequent write of all, so it touches one table with
//! one key and nothing else.

use model::limits::FRESHNESS_CHUNK_ROWS;
use model::{TargetId, UnixMs};
use rusqlite::{OptionalExtension, Row};

use super::connection::Db;
use super::lease;
use crate::Result;
use crate::answer::{Forgotten, FreshnessRow};
use crate::lease::Fence;
use crate::rules::OLD_ROWS_MAX;

/// Whatever is written later stays, also where its time is earlier: the wall clock may step back,
/// and there is one writer, whose calls come one after the other.
const UPSERT: &str = "
    INSERT INTO jetpack_monitor_site_runtime (target_id, last_checked_at, next_check_at)
    VALUES (?1, ?2, ?3)
    ON CONFLICT (target_id) DO UPDATE
    SET last_checked_at = excluded.last_checked_at, next_check_at = excluded.next_check_at";

const ONE: &str = "
    SELECT last_checked_at, next_check_at FROM jetpack_monitor_site_runtime WHERE target_id = ?1";

const NEXT: &str = "
    SELECT count(*), max(target_id) FROM (
        SELECT target_id FROM jetpack_monitor_site_runtime
        WHERE target_id > ?1 ORDER BY target_id LIMIT ?2)";

const FORGET: &str = "
    DELETE FROM jetpack_monitor_site_runtime
    WHERE target_id > ?1 AND target_id <= ?2 AND last_checked_at < ?3 AND NOT EXISTS (
        SELECT 1 FROM jetpack_monitor_check_targets
        WHERE id = jetpack_monitor_site_runtime.target_id)";

impl Db {
    pub(crate) fn freshness(&mut self, target: TargetId) -> Result<Option<FreshnessRow>> {
        self.run(|connection| {
            let read = |row: &Row<'_>| {
                Ok(FreshnessRow {
                    target,
                    last_checked: UnixMs(row.get::<_, i64>(0)? as u64),
                    next_check: UnixMs(row.get::<_, i64>(1)? as u64),
                })
            };
            let mut statement = connection.prepare_cached(ONE)?;
            Ok(statement.query_row([target.get()], read).optional()?)
        })
    }

    /// Writes one chunk, sorted by target, in one transaction.
    pub(crate) fn write_freshness(&mut self, fence: Fence, chunk: &[FreshnessRow]) -> Result<u64> {
        debug_assert!(chunk.len() <= FRESHNESS_CHUNK_ROWS);
        self.write(|transaction| {
            lease::require(transaction, fence)?;
            let mut statement = transaction.prepare_cached(UPSERT)?;
            let mut written = 0;
            for row in chunk {
                let times = (row.last_checked.0 as i64, row.next_check.0 as i64);
                written += statement.execute((row.target.get(), times.0, times.1))? as u64;
            }
            Ok(written)
        })
    }

    pub(crate) fn forget_freshness(
        &mut self,
        before: UnixMs,
        after: Option<TargetId>,
    ) -> Result<(Forgotten, Option<TargetId>)> {
        let after = after.map_or(0, TargetId::get);
        self.write(|transaction| {
            let (count, last): (i64, Option<i64>) = transaction
                .prepare_cached(NEXT)?
                .query_row((after, OLD_ROWS_MAX as i64), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            let Some(last) = last else {
                return Ok((Forgotten::default(), None));
            };
            let freshness =
                transaction
                    .prepare_cached(FORGET)?
                    .execute((after, last, before.0 as i64))?;
            let next = (count == OLD_ROWS_MAX as i64).then_some(last);
            Ok(Forgotten::check_times(freshness as u64, next))
        })
    }
}
