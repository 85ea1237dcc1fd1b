//! Maintenance windows and pauses, on a server.

use model::limits::{WINDOW_KEPT_MS, WINDOWS_MAX};
use model::{FieldError, TargetId, UnixMs, Window, WindowId};
use mysql_async::{Row, Value};

use super::queries::bad_row;
use super::session::{Session, read};
use crate::operators::{
    PausedTarget, Switched, WINDOW_COLUMNS, WINDOWS, WindowColumns, WindowList, WindowRow,
};
use crate::{Result, StoreError};

const PAUSED: &str = "jetpack_monitor_paused_targets";

impl Session {
    pub(crate) async fn add_window(
        &mut self,
        window: &Window,
        by: &str,
        now: UnixMs,
    ) -> Result<WindowId> {
        let forget = format!("DELETE FROM {WINDOWS} WHERE ends_at < ?");
        let count = format!("SELECT COUNT(*) FROM {WINDOWS}");
        let insert =
            format!("INSERT INTO {WINDOWS} ({WINDOW_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)");
        let columns = WindowColumns::of(window);
        let mut values: Vec<Value> = columns.numbers.into_iter().map(Value::from).collect();
        values.push(columns.zone.into());
        values.push(columns.reason.into());
        values.push(by.into());
        values.push(Value::Int(now.0 as i64));
        let old = Value::Int(now.0.saturating_sub(WINDOW_KEPT_MS) as i64);
        self.write(async |session: &mut Self| {
            session.execute(&forget, vec![old.clone()]).await?;
            let kept = session.number(&count, Vec::new()).await?.unwrap_or(0);
            if kept as usize >= WINDOWS_MAX {
                let store = session.url().to_string();
                return Err(StoreError::TooManyWindows { store });
            }
            session.execute(&insert, values.clone()).await?;
            let id = session
                .number("SELECT LAST_INSERT_ID()", Vec::new())
                .await?;
            Ok(WindowId(id.unwrap_or(0)))
        })
        .await
    }

    pub(crate) async fn windows(&mut self) -> Result<WindowList> {
        let sql = format!("SELECT id, {WINDOW_COLUMNS} FROM {WINDOWS} ORDER BY id");
        let rows = self.ask(&sql, Vec::new()).await?;
        let mut windows = WindowList::default();
        for row in rows {
            match self.window_of(row)? {
                Ok(row) => windows.rows.push(row),
                Err(why) => windows.refused.push(why),
            }
        }
        Ok(windows)
    }

    /// The window of a row, or its number and why it is none.
    fn window_of(&self, mut row: Row) -> Result<Result<WindowRow, (i64, FieldError)>> {
        let id = self.integer(&row, 0)?;
        let mut texts = [9, 8].map(|at| row.take::<Option<String>, _>(at).flatten());
        let by: Option<String> = row.take(10);
        let added_at = self.integer(&row, 11)?;
        let mut numbers = [None; 7];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = row.take::<Option<i64>, _>(at + 1).flatten();
        }
        let columns = WindowColumns {
            numbers,
            reason: texts[0].take().unwrap_or_default(),
            zone: texts[1].take(),
        };
        let row = |window| WindowRow {
            id: WindowId(id),
            window,
            added_by: by.unwrap_or_default(),
            added_at: UnixMs(added_at as u64),
        };
        Ok(columns.window().map(row).map_err(|why| (id, why)))
    }

    pub(crate) async fn remove_window(&mut self, id: WindowId) -> Result<bool> {
        let sql = format!("DELETE FROM {WINDOWS} WHERE id = ?");
        self.write(async |session: &mut Self| {
            let removed = session.execute(&sql, vec![Value::Int(id.0)]).await?;
            Ok(removed > 0)
        })
        .await
    }

    pub(crate) async fn pause_target(
        &mut self,
        target: TargetId,
        by: &str,
        now: UnixMs,
    ) -> Result<Switched> {
        self.require_own_targets()?;
        let sql = format!(
            "INSERT IGNORE INTO {PAUSED} (target_id, paused_by, paused_at) \
             SELECT id, ?, ? FROM jetpack_monitor_check_targets WHERE id = ?"
        );
        let id = Value::Int(target.get());
        let values = vec![Value::from(by), Value::Int(now.0 as i64), id];
        self.write(async |session: &mut Self| {
            let change = session.new_change().await?;
            let added = session.execute(&sql, values.clone()).await?;
            session.switched(target, added, change).await
        })
        .await
    }

    pub(crate) async fn resume_target(&mut self, target: TargetId) -> Result<Switched> {
        self.require_own_targets()?;
        let sql = format!("DELETE FROM {PAUSED} WHERE target_id = ?");
        self.write(async |session: &mut Self| {
            let change = session.new_change().await?;
            let removed = session
                .execute(&sql, vec![Value::Int(target.get())])
                .await?;
            session.switched(target, removed, change).await
        })
        .await
    }

    /// The next change number. Its row is locked first, as every import does.
    async fn new_change(&mut self) -> Result<i64> {
        let sql = "UPDATE jetpack_monitor_counters SET value = value + 1 WHERE name = 'change'";
        self.execute(sql, Vec::new()).await?;
        Ok(self.latest_change().await? as i64)
    }

    /// Gives a target that was switched a new change number, so that every node hears of it.
    async fn switched(&mut self, target: TargetId, rows: u64, change: i64) -> Result<Switched> {
        let id = Value::Int(target.get());
        if rows == 0 {
            let sql = "SELECT COUNT(*) FROM jetpack_monitor_check_targets WHERE id = ?";
            let known = self.number(sql, vec![id]).await?.unwrap_or(0);
            return Ok(if known == 0 {
                Switched::Absent
            } else {
                Switched::Already
            });
        }
        let sql = "UPDATE jetpack_monitor_check_targets SET change_number = ? WHERE id = ?";
        self.execute(sql, vec![Value::Int(change), id]).await?;
        Ok(Switched::Done)
    }

    pub(crate) async fn paused_targets(
        &mut self,
        only: Option<TargetId>,
    ) -> Result<Vec<PausedTarget>> {
        let (which, parameters) = match only {
            Some(target) => ("target_id = ?", vec![Value::Int(target.get())]),
            None => ("TRUE", Vec::new()),
        };
        let sql = format!(
            "SELECT target_id, paused_by, paused_at FROM {PAUSED} WHERE {which} ORDER BY target_id"
        );
        let mut paused = Vec::new();
        for row in self.ask(&sql, parameters).await? {
            let (id, by, at): (i64, String, i64) = read(self.url(), row)?;
            let bad = || bad_row(PAUSED, id, "target_id", &id.to_string());
            paused.push(PausedTarget {
                target: TargetId::new(id).ok_or_else(bad)?,
                by,
                at: UnixMs(at as u64),
            });
        }
        Ok(paused)
    }

    pub(crate) async fn count_paused(&mut self) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM {PAUSED}");
        let count = self
            .read(async |session: &mut Self| session.number(&sql, Vec::new()).await)
            .await?;
        Ok(count.unwrap_or(0) as u64)
    }
}
