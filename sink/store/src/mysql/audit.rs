//! What operators had done, on a server.

use model::UnixMs;
use mysql_async::Value;

use super::insert::Many;
use super::session::Session;
use crate::Result;
use crate::answer::{AuditRow, Forgotten};
use crate::rules::OLD_ROWS_MAX;

const INSERT: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_audit_log (event_type, source, detail, created_at) VALUES",
    "(?,?,?,?)",
    "",
);

const OLD: &str =
    "DELETE FROM jetpack_monitor_audit_log WHERE created_at < ? ORDER BY created_at, id LIMIT ?";

impl Session {
    pub(crate) async fn write_audit(&mut self, rows: &[AuditRow]) -> Result<()> {
        let values = |row: &AuditRow| {
            vec![
                Value::from(row.event_type),
                Value::from(row.source()),
                Value::from(row.detail()),
                Value::Int(row.at.0 as i64),
            ]
        };
        let (head, row, tail) = INSERT;
        self.write(async |session: &mut Self| {
            let rows = rows.iter().map(values).collect();
            let insert = Many::insert(head, row, tail);
            session.execute_many(insert, rows).await
        })
        .await
        .map(drop)
    }

    pub(crate) async fn forget_audit(&mut self, before: UnixMs) -> Result<Forgotten> {
        let old = [before.0 as i64, OLD_ROWS_MAX as i64].map(Value::Int);
        let audit = self
            .write(async |session: &mut Self| session.execute(OLD, old.clone().into()).await)
            .await?;
        Ok(Forgotten {
            audit,
            more: audit == OLD_ROWS_MAX as u64,
            ..Forgotten::default()
        })
    }
}
