//! Where streams of changes go on after a restart of their node: one row per journal.

use mysql_async::Value;

use super::super::super::session::{Session, read};
use crate::Result;
use crate::changes::Position;
use crate::lease::JournalId;

impl Session {
    /// What [`keep_change_position`](Self::keep_change_position) kept last.
    pub(crate) async fn change_position(&mut self, journal: JournalId) -> Result<Option<Position>> {
        let sql = "SELECT server_id, log_file, log_begun, log_offset \
            FROM jetpack_monitor_change_positions WHERE journal_id = ?";
        let key = vec![Value::Int(journal.get())];
        let rows = self
            .read(async |session: &mut Self| session.fetch(sql, key).await)
            .await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let (server, file, begun, offset) = read(self.url(), row)?;
        Ok(Some(Position {
            server,
            file,
            begun,
            offset,
        }))
    }

    pub(super) async fn keep_change_position(
        &mut self,
        journal: JournalId,
        position: &Position,
    ) -> Result<()> {
        let sql = "INSERT INTO jetpack_monitor_change_positions \
            (journal_id, server_id, log_file, log_begun, log_offset) VALUES (?, ?, ?, ?, ?) \
            ON DUPLICATE KEY UPDATE server_id = VALUES(server_id), log_file = VALUES(log_file), \
            log_begun = VALUES(log_begun), log_offset = VALUES(log_offset)";
        let row = [
            Value::from(journal.get()),
            Value::from(position.server),
            Value::from(&position.file),
            Value::from(position.begun),
            Value::from(position.offset),
        ];
        // Alone: one that comes late has changes told once more.
        self.write_alone(sql, &row).await.map(drop)
    }
}
