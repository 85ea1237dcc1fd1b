//! What operators had done, and what was done with targets beside their events, in SQLite.

use model::UnixMs;
use rusqlite::Transaction;

use super::connection::Db;
use super::failure::Failure;
use super::lease;
use crate::Result;
use crate::answer::{AuditRow, Forgotten};
use crate::lease::Fence;
use crate::metadata;
use crate::rules::OLD_ROWS_MAX;

const INSERT: &str = "
    INSERT INTO jetpack_monitor_audit_log
        (blog_id, event_id, event_type, source, detail, metadata, created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const OLD: &str = "
    DELETE FROM jetpack_monitor_audit_log WHERE id IN (
        SELECT id FROM jetpack_monitor_audit_log
        WHERE created_at < ?1 ORDER BY created_at, id LIMIT ?2)";

impl Db {
    pub(crate) fn write_audit(&mut self, rows: &[AuditRow]) -> Result<()> {
        self.write(|transaction| insert(transaction, rows))
    }

    pub(crate) fn write_trail(&mut self, fence: Fence, rows: &[AuditRow]) -> Result<()> {
        self.write(|transaction| {
            lease::require(transaction, fence)?;
            insert(transaction, rows)
        })
    }

    pub(crate) fn forget_audit(&mut self, before: UnixMs) -> Result<Forgotten> {
        self.write(|transaction| {
            let old = (before.0 as i64, OLD_ROWS_MAX as i64);
            let audit = transaction.prepare_cached(OLD)?.execute(old)?;
            Ok(Forgotten {
                audit: audit as u64,
                more: audit == OLD_ROWS_MAX,
                ..Forgotten::default()
            })
        })
    }
}

fn insert(transaction: &Transaction<'_>, rows: &[AuditRow]) -> Result<(), Failure> {
    let mut insert = transaction.prepare_cached(INSERT)?;
    for row in rows {
        let metadata = metadata::of_audit(row)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        insert.execute((
            row.group_id(),
            row.event(),
            row.event_type,
            row.source(),
            row.detail(),
            metadata,
            row.at.0 as i64,
        ))?;
    }
    Ok(())
}
