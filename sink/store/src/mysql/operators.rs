//! Maintenance windows and pauses, on a server.

use model::limits::{WINDOW_KEPT_MS, WINDOWS_MAX};
use model::{FieldError, TargetId, UnixMs, Window, WindowId};
use mysql_async::{Row, Value};

use super::queries::bad_row;
use super::session::{Session, read};
use super::targets::whole;
use crate::operators::{
    PAUSED, PausedTarget, Switched, WINDOW_COLUMNS, WINDOWS, WindowColumns, WindowList, WindowRow,
};
use crate::{Result, StoreError};

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
        let (table, id) = self.targets_table();
        let sql = format!(
            "INSERT IGNORE INTO {PAUSED} (target_id, paused_by, paused_at) \
             SELECT {id}, ?, ? FROM {table} WHERE {id} = ?"
        );
        let row = Value::Int(target.get());
        let values = vec![Value::from(by), Value::Int(now.0 as i64), row];
        self.switch(target, &sql, values).await
    }

    pub(crate) async fn resume_target(&mut self, target: TargetId) -> Result<Switched> {
        let sql = format!("DELETE FROM {PAUSED} WHERE target_id = ?");
        self.switch(target, &sql, vec![Value::Int(target.get())])
            .await
    }

    /// Where the targets are, and the column of their ids.
    fn targets_table(&self) -> (String, String) {
        match self.source() {
            Some(legacy) => (legacy.table.quoted(), legacy.columns.id.quoted()),
            None => ("jetpack_monitor_check_targets".to_owned(), "id".to_owned()),
        }
    }

    /// Adds or removes a pause. A target of our own gets a new change number, so that every node
    /// hears of it; the rows of somebody else have none: their node reads such a row again.
    async fn switch(
        &mut self,
        target: TargetId,
        sql: &str,
        values: Vec<Value>,
    ) -> Result<Switched> {
        let are_ours = self.source().is_none();
        let (table, column) = self.targets_table();
        let known = format!("SELECT COUNT(*) FROM {table} WHERE {column} = ?");
        let id = Value::Int(target.get());
        self.write(async |session: &mut Self| {
            let change = if are_ours {
                Some(session.new_change().await?)
            } else {
                None
            };
            if session.execute(sql, values.clone()).await? == 0 {
                let known = session.number(&known, vec![id.clone()]).await?;
                return Ok(match known {
                    None | Some(0) => Switched::Absent,
                    Some(_) => Switched::Already,
                });
            }
            if let Some(change) = change {
                let sql = "UPDATE jetpack_monitor_check_targets SET change_number = ? WHERE id = ?";
                let values = vec![Value::Int(change), id.clone()];
                session.execute(sql, values).await?;
            }
            Ok(Switched::Done)
        })
        .await
    }

    /// The next change number. Its row is locked first, as every import does.
    async fn new_change(&mut self) -> Result<i64> {
        let sql = "UPDATE jetpack_monitor_counters SET value = value + 1 WHERE name = 'change'";
        self.execute(sql, Vec::new()).await?;
        Ok(self.latest_change().await? as i64)
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

    pub(crate) async fn paused_after(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<Vec<TargetId>> {
        let sql = format!(
            "SELECT target_id FROM {PAUSED} WHERE target_id > ? ORDER BY target_id LIMIT ?"
        );
        let page = [after.map_or(0, TargetId::get), whole(limit)].map(Value::Int);
        let mut paused = Vec::new();
        for row in self.ask(&sql, page.into()).await? {
            let (id,): (i64,) = read(self.url(), row)?;
            paused.extend(TargetId::new(id));
        }
        Ok(paused)
    }

    pub(crate) async fn count_paused(&mut self) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM {PAUSED}");
        let rows = self.ask(&sql, Vec::new()).await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(0);
        };
        read::<(u64,)>(self.url(), row).map(|(count,)| count)
    }
}
