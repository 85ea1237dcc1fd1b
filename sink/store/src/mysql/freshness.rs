//! Writes when targets were checked: the most frequent write of all, so it touches one table with
//! one key and nothing else.

use model::limits::FRESHNESS_CHUNK_ROWS;
use model::{TargetId, UnixMs};
use mysql_async::Value;

use super::address::MysqlUrl;
use super::insert::Many;
use super::legacy;
use super::session::{Session, read};
use crate::Result;
use crate::answer::{Forgotten, FreshnessRow};
use crate::lease::Fence;
use crate::legacy::{Legacy, LegacyFreshness};
use crate::rules::OLD_ROWS_MAX;

/// Whatever is written later stays, also where its time is earlier: the wall clock may step back,
/// and there is one writer, whose calls come one after the other.
const HEAD: &str = "INSERT INTO jetpack_monitor_site_runtime \
    (target_id, last_checked_at, next_check_at) VALUES";
const ROW: &str = "(?,?,?)";
const TAIL: &str = "ON DUPLICATE KEY UPDATE \
    last_checked_at = VALUES(last_checked_at), next_check_at = VALUES(next_check_at)";

/// Sizes of statements between two powers of two: an eighth of a chunk, so that a connection
/// prepares few, and the last chunk of a flush is one statement all the same.
const SIZE_STEP: usize = FRESHNESS_CHUNK_ROWS / 8;

/// Rows of one statement for columns of the legacy table, where each row is a `SELECT`, for which
/// the server keeps 4 kB in each size.
const JOINED_ROWS: usize = FRESHNESS_CHUNK_ROWS / 2;

const ONE: &str = "SELECT last_checked_at, next_check_at FROM jetpack_monitor_site_runtime \
    WHERE target_id = ?";

/// Rows that one step of forgetting looks at: some 20 ms of the server. Most of them are of
/// targets that are there, and reading them is one statement.
const WALK_ROWS: i64 = 50_000;

/// Of check times `r`, whether their target is gone from our own table.
const GONE: &str = "NOT EXISTS (\
    SELECT 1 FROM jetpack_monitor_check_targets AS t WHERE t.id = r.target_id)";

/// Whose target came back since it was found has a newer time, and stays.
const FORGET: &str = "DELETE FROM jetpack_monitor_site_runtime \
    WHERE last_checked_at < ? AND target_id IN (";

impl Session {
    pub(crate) async fn freshness(&mut self, target: TargetId) -> Result<Option<FreshnessRow>> {
        let rows = self.ask(ONE, vec![Value::Int(target.get())]).await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let (last, next): (i64, i64) = read(self.url(), row)?;
        Ok(Some(FreshnessRow {
            target,
            last_checked: UnixMs(last as u64),
            next_check: UnixMs(next as u64),
        }))
    }

    /// Writes one chunk, sorted by target, in one transaction.
    ///
    /// The commit is a request of its own: a statement that arrives late, when its connection was
    /// given up and newer times are written, is never committed.
    pub(crate) async fn write_freshness(
        &mut self,
        fence: Fence,
        chunk: &[FreshnessRow],
    ) -> Result<u64> {
        debug_assert!(chunk.len() <= FRESHNESS_CHUNK_ROWS);
        match self.freshness_place() {
            LegacyFreshness::Sidecar => self.write_own_freshness(fence, chunk).await?,
            LegacyFreshness::Columns => self.write_legacy_freshness(fence, chunk).await?,
            LegacyFreshness::Off => return Ok(0),
        }
        // The server counts a changed row twice and an equal one not at all.
        Ok(chunk.len() as u64)
    }

    pub(crate) async fn forget_freshness(
        &mut self,
        before: UnixMs,
        after: Option<TargetId>,
    ) -> Result<(Forgotten, Option<TargetId>)> {
        let (after, before) = (after.map_or(0, TargetId::get), before.0 as i64);
        let gone = self.is_gone();
        // Who is not old is not looked for in any other table.
        let walk = format!(
            "SELECT COUNT(*), MAX(r.target_id), \
             CAST(SUM(CASE WHEN r.last_checked_at < ? THEN {gone} ELSE 0 END) AS SIGNED) FROM (\
             SELECT target_id, last_checked_at FROM jetpack_monitor_site_runtime \
             WHERE target_id > ? ORDER BY target_id LIMIT ?) AS r"
        );
        let page = [before, after, WALK_ROWS].map(Value::Int);
        let rows = self.ask(&walk, page.into()).await?;
        let (count, last, old) = match rows.into_iter().next() {
            Some(row) => read::<(i64, Option<i64>, Option<i64>)>(self.url(), row)?,
            None => (0, None, None),
        };
        let last = last.unwrap_or(after);
        let behind = (count == WALK_ROWS).then_some(last);
        if old.unwrap_or(0) == 0 {
            return Ok(Forgotten::check_times(0, behind));
        }
        let sql = format!(
            "SELECT r.target_id FROM jetpack_monitor_site_runtime AS r WHERE r.target_id > ? \
             AND r.target_id <= ? AND r.last_checked_at < ? AND {gone} \
             ORDER BY r.target_id LIMIT ?"
        );
        let among = [after, last, before, OLD_ROWS_MAX as i64].map(Value::Int);
        let (freshness, stopped) = self
            .write(async |session: &mut Self| session.forget_gone(&sql, among.clone()).await)
            .await?;
        Ok(Forgotten::check_times(freshness, stopped.or(behind)))
    }

    /// Whether the target of a check time `r` is in none of the tables that targets are read from.
    fn is_gone(&self) -> String {
        match self.source() {
            None => GONE.to_owned(),
            Some(legacy) => {
                let row = legacy::row_of(&legacy, "r.target_id");
                format!("({GONE} AND NOT EXISTS ({row}))")
            }
        }
    }

    /// Deletes the rows that `sql` finds, at most one step's; how many went, and the last one where
    /// there may be more. They are found without a lock and deleted by their key: nobody waits who
    /// writes others.
    async fn forget_gone(&mut self, sql: &str, among: [Value; 4]) -> Result<(u64, Option<i64>)> {
        let before = [among[2].clone()];
        let mut gone = Vec::new();
        for row in self.fetch(sql, among.into()).await? {
            let (id,): (i64,) = read(self.url(), row)?;
            gone.push(id);
        }
        let stopped = gone.last().copied().filter(|_| gone.len() == OLD_ROWS_MAX);
        let delete = Many::insert(FORGET, "?", ")").after(&before);
        let rows = gone.into_iter().map(|id| vec![Value::Int(id)]);
        let deleted = self.execute_many(delete, rows).await?;
        Ok((deleted, stopped))
    }

    async fn write_own_freshness(&mut self, fence: Fence, chunk: &[FreshnessRow]) -> Result<()> {
        let row = |row: &FreshnessRow| {
            vec![
                Value::Int(row.target.get()),
                Value::Int(row.last_checked.0 as i64),
                Value::Int(row.next_check.0 as i64),
            ]
        };
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            let rows = chunk.iter().map(row).collect();
            let upsert = Many::insert(HEAD, ROW, TAIL);
            session.execute_sized(upsert, rows).await
        })
        .await
    }

    /// Rows that are gone from the legacy table are left out by the server.
    async fn write_legacy_freshness(&mut self, fence: Fence, chunk: &[FreshnessRow]) -> Result<()> {
        let [head, row, tail] = legacy::project_freshness(&*self.named_legacy()?);
        let values = |row: &FreshnessRow| {
            vec![
                Value::Int(row.target.get()),
                whole_seconds(row.last_checked),
                whole_seconds(row.next_check),
            ]
        };
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            for part in chunk.chunks(JOINED_ROWS) {
                let rows = part.iter().map(values).collect();
                let update = Many::join(&head, &row, &tail);
                session.execute_sized(update, rows).await?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `statement` once for all of `rows`, where a packet holds them.
    async fn execute_sized(
        &mut self,
        statement: Many<'_>,
        mut rows: Vec<Vec<Value>>,
    ) -> Result<()> {
        let rows_max = statement_rows(rows.len());
        if let Some(last) = rows.last().cloned() {
            // Said twice it is the same row.
            rows.resize(rows_max, last);
        }
        let statement = Many {
            rows_max,
            ..statement
        };
        self.execute_many(statement, rows).await.map(drop)
    }
}

/// Rows of the one statement that writes so many.
fn statement_rows(rows: usize) -> usize {
    if rows <= SIZE_STEP / 2 {
        rows.next_power_of_two()
    } else {
        rows.next_multiple_of(SIZE_STEP)
    }
}

/// The text that writes so many rows of our own table, as it is sent.
pub(crate) fn text(url: &MysqlUrl, rows: usize) -> String {
    url.named(&Many::insert(HEAD, ROW, TAIL).text(statement_rows(rows)))
}

/// The same for columns of the legacy table.
pub(crate) fn legacy_text(legacy: &Legacy, rows: usize) -> String {
    let [head, row, tail] = legacy::project_freshness(legacy);
    Many::join(&head, &row, &tail).text(statement_rows(rows.min(JOINED_ROWS)))
}

/// The columns have whole seconds. Upwards: a target was never checked before its check.
fn whole_seconds(at: UnixMs) -> Value {
    Value::Int(at.0.div_ceil(1_000) as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_chunk_is_one_statement_of_few_sizes() {
        let sizes: BTreeSet<usize> = (1..=FRESHNESS_CHUNK_ROWS).map(statement_rows).collect();
        assert!(sizes.len() <= 16, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&FRESHNESS_CHUNK_ROWS));
        for rows in 1..=FRESHNESS_CHUNK_ROWS {
            let more = statement_rows(rows) - rows;
            assert!(more < SIZE_STEP.min(rows.max(2)), "{rows}: {more} more");
        }
    }
}
