//! What operators had done, in SQLite.

use model::UnixMs;

use super::connection::Db;
use crate::Result;
use crate::answer::{AuditRow, Forgotten};
use crate::rules::OLD_ROWS_MAX;

const INSERT: &str = "
    INSERT INTO jetpack_monitor_audit_log (event_type, source, detail, created_at)
    VALUES (?1, ?2, ?3, ?4)";

const OLD: &str = "
    DELETE FROM jetpack_monitor_audit_log WHERE id IN (
        SELECT id FROM jetpack_monitor_audit_log
        WHERE created_at < ?1 ORDER BY created_at, id LIMIT ?2)";

impl Db {
    pub(crate) fn write_audit(&mut self, rows: &[AuditRow]) -> Result<()> {
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for row in rows {
                let at = row.at.0 as i64;
                insert.execute((row.event_type, row.source(), row.detail(), at))?;
            }
            Ok(())
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
