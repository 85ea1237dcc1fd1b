//! What operators had done, and what was done with targets beside their events, on a server.

use model::UnixMs;
use mysql_async::Value;

use super::insert::Many;
use super::session::Session;
use crate::answer::{AuditRow, Forgotten};
use crate::lease::Fence;
use crate::metadata;
use crate::rules::OLD_ROWS_MAX;
use crate::{Result, StoreError};

const INSERT: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_audit_log (blog_id, event_id, event_type, source, detail, \
     metadata, created_at) VALUES",
    "(?,?,?,?,?,?,?)",
    "",
);

const OLD: &str =
    "DELETE FROM jetpack_monitor_audit_log WHERE created_at < ? ORDER BY created_at, id LIMIT ?";

impl Session {
    pub(crate) async fn write_audit(&mut self, rows: &[AuditRow]) -> Result<()> {
        self.write(async |session: &mut Self| session.insert_audit(rows).await)
            .await
    }

    pub(crate) async fn write_trail(&mut self, fence: Fence, rows: &[AuditRow]) -> Result<()> {
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            session.insert_audit(rows).await
        })
        .await
    }

    async fn insert_audit(&mut self, rows: &[AuditRow]) -> Result<()> {
        let (head, row, tail) = INSERT;
        let rows = rows.iter().map(values).collect::<Result<Vec<_>>>()?;
        let insert = Many::insert(head, row, tail);
        self.execute_many(insert, rows).await.map(drop)
    }

    pub(crate) async fn forget_audit(&mut self, before: UnixMs) -> Result<Forgotten> {
        let old = [before.0 as i64, OLD_ROWS_MAX as i64].map(Value::Int);
        let audit = self.write_alone(OLD, &old).await?;
        Ok(Forgotten {
            audit,
            more: audit == OLD_ROWS_MAX as u64,
            ..Forgotten::default()
        })
    }
}

fn values(row: &AuditRow) -> Result<Vec<Value>> {
    let metadata = metadata::of_audit(row).map_err(|error| StoreError::BadRow {
        table: "jetpack_monitor_audit_log",
        id: row.event().unwrap_or(0),
        column: "metadata",
        found: error.to_string(),
    })?;
    Ok(vec![
        Value::from(row.group_id()),
        Value::from(row.event()),
        Value::from(row.event_type),
        Value::from(row.source()),
        Value::from(row.detail()),
        Value::from(metadata),
        Value::Int(row.at.0 as i64),
    ])
}
