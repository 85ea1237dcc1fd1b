//! Maintenance windows and pauses, in SQLite.

use model::limits::{WINDOW_KEPT_MS, WINDOWS_MAX};
use model::{FieldError, TargetId, UnixMs, Window, WindowId};
use rusqlite::{Row, Transaction};

use super::connection::Db;
use super::failure::Failure;
use crate::Result;
use crate::operators::{
    PausedTarget, Switched, WINDOW_COLUMNS, WINDOWS, WindowColumns, WindowList, WindowRow,
};

const PAUSED: &str = "SELECT target_id, paused_by, paused_at FROM jetpack_monitor_paused_targets";

impl Db {
    pub(crate) fn add_window(
        &mut self,
        window: &Window,
        by: &str,
        now: UnixMs,
    ) -> Result<WindowId> {
        let forget = format!("DELETE FROM {WINDOWS} WHERE ends_at < ?1");
        let count = format!("SELECT count(*) FROM {WINDOWS}");
        let insert = format!(
            "INSERT INTO {WINDOWS} ({WINDOW_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        );
        let columns = WindowColumns::of(window);
        let [target, group, starts, ends, days, at, length] = columns.numbers;
        self.write(|transaction| {
            transaction.execute(&forget, [now.0.saturating_sub(WINDOW_KEPT_MS) as i64])?;
            let kept: i64 = transaction.query_row(&count, [], |row| row.get(0))?;
            if kept as usize >= WINDOWS_MAX {
                return Err(Failure::TooManyWindows);
            }
            let timing = (starts, ends, days, at, length);
            transaction.execute(
                &insert,
                (
                    target,
                    group,
                    timing.0,
                    timing.1,
                    timing.2,
                    timing.3,
                    timing.4,
                    columns.zone,
                    columns.reason,
                    by,
                    now.0 as i64,
                ),
            )?;
            Ok(WindowId(transaction.last_insert_rowid()))
        })
    }

    pub(crate) fn windows(&mut self) -> Result<WindowList> {
        let sql = format!("SELECT id, {WINDOW_COLUMNS} FROM {WINDOWS} ORDER BY id");
        self.run(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            let mut windows = WindowList::default();
            while let Some(row) = rows.next()? {
                match read_window(row)? {
                    Ok(row) => windows.rows.push(row),
                    Err(why) => windows.refused.push(why),
                }
            }
            Ok(windows)
        })
    }

    pub(crate) fn remove_window(&mut self, id: WindowId) -> Result<bool> {
        let sql = format!("DELETE FROM {WINDOWS} WHERE id = ?1");
        self.write(|transaction| Ok(transaction.execute(&sql, [id.0])? > 0))
    }

    pub(crate) fn pause_target(
        &mut self,
        target: TargetId,
        by: &str,
        now: UnixMs,
    ) -> Result<Switched> {
        let sql = "INSERT INTO jetpack_monitor_paused_targets (target_id, paused_by, paused_at)
             SELECT id, ?2, ?3 FROM jetpack_monitor_check_targets WHERE id = ?1
             ON CONFLICT DO NOTHING";
        self.write(|transaction| {
            let added = transaction.execute(sql, (target.get(), by, now.0 as i64))?;
            switched(transaction, target, added)
        })
    }

    pub(crate) fn resume_target(&mut self, target: TargetId) -> Result<Switched> {
        let sql = "DELETE FROM jetpack_monitor_paused_targets WHERE target_id = ?1";
        self.write(|transaction| {
            let removed = transaction.execute(sql, [target.get()])?;
            switched(transaction, target, removed)
        })
    }

    pub(crate) fn paused_targets(&mut self, only: Option<TargetId>) -> Result<Vec<PausedTarget>> {
        let (which, target) = match only {
            Some(target) => ("target_id = ?1", target.get()),
            None => ("?1 = 0", 0),
        };
        let sql = format!("{PAUSED} WHERE {which} ORDER BY target_id");
        self.run(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([target])?;
            let mut paused = Vec::new();
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let table = "jetpack_monitor_paused_targets";
                let bad = || Failure::row(table, id, "target_id", &id.to_string());
                paused.push(PausedTarget {
                    target: TargetId::new(id).ok_or_else(bad)?,
                    by: row.get(1)?,
                    at: UnixMs(row.get::<_, i64>(2)? as u64),
                });
            }
            Ok(paused)
        })
    }

    pub(crate) fn paused_after(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<Vec<TargetId>> {
        let sql = "SELECT target_id FROM jetpack_monitor_paused_targets WHERE target_id > ?1 \
                   ORDER BY target_id LIMIT ?2";
        let page = [after.map_or(0, TargetId::get), limit as i64];
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(page)?;
            let mut paused = Vec::new();
            while let Some(row) = rows.next()? {
                paused.extend(TargetId::new(row.get(0)?));
            }
            Ok(paused)
        })
    }

    pub(crate) fn count_paused(&mut self) -> Result<u64> {
        let sql = "SELECT count(*) FROM jetpack_monitor_paused_targets";
        self.run(|connection| {
            let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(count as u64)
        })
    }
}

/// Gives a target that was switched a new change number, so that every node hears of it.
fn switched(
    transaction: &Transaction<'_>,
    target: TargetId,
    rows: usize,
) -> Result<Switched, Failure> {
    let id = target.get();
    if rows == 0 {
        let sql = "SELECT count(*) FROM jetpack_monitor_check_targets WHERE id = ?1";
        let known: i64 = transaction.query_row(sql, [id], |row| row.get(0))?;
        return Ok(if known == 0 {
            Switched::Absent
        } else {
            Switched::Already
        });
    }
    let count = "UPDATE jetpack_monitor_counters SET value = value + 1 WHERE name = 'change'";
    transaction.execute(count, [])?;
    let change = super::targets::latest_change(transaction)? as i64;
    let sql = "UPDATE jetpack_monitor_check_targets SET change_number = ?2 WHERE id = ?1";
    transaction.execute(sql, (id, change))?;
    Ok(Switched::Done)
}

/// The window of a row, or its number and why it is none.
fn read_window(row: &Row<'_>) -> Result<Result<WindowRow, (i64, FieldError)>, Failure> {
    let id: i64 = row.get(0)?;
    let mut columns = WindowColumns {
        zone: row.get(8)?,
        reason: row.get(9)?,
        ..WindowColumns::default()
    };
    for (at, number) in columns.numbers.iter_mut().enumerate() {
        *number = row.get(at + 1)?;
    }
    let (added_by, added_at) = (row.get(10)?, row.get::<_, i64>(11)?);
    let row = |window| WindowRow {
        id: WindowId(id),
        window,
        added_by,
        added_at: UnixMs(added_at as u64),
    };
    Ok(columns.window().map(row).map_err(|why| (id, why)))
}
