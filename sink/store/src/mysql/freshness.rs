//! Writes when targets were checked: the most frequent write of all, so it touches one table with
//! one key and nothing else.

use model::limits::FRESHNESS_CHUNK_ROWS;
use mysql_async::Value;

use super::insert::Many;
use super::session::Session;
use crate::Result;
use crate::answer::FreshnessRow;

/// Whatever is written later stays, also where its time is earlier: the wall clock may step back,
/// and there is one writer, whose calls come one after the other.
const HEAD: &str = "INSERT INTO jetpack_monitor_site_runtime \
    (target_id, last_checked_at, next_check_at) VALUES";
const TAIL: &str = "ON DUPLICATE KEY UPDATE \
    last_checked_at = VALUES(last_checked_at), next_check_at = VALUES(next_check_at)";

impl Session {
    /// Writes one chunk, sorted by target, in one transaction.
    ///
    /// The commit is a request of its own: a statement that arrives late, when its connection was
    /// given up and newer times are written, is never committed.
    pub(crate) async fn write_freshness(&mut self, chunk: &[FreshnessRow]) -> Result<u64> {
        debug_assert!(chunk.len() <= FRESHNESS_CHUNK_ROWS);
        let row = |row: &FreshnessRow| {
            vec![
                Value::Int(row.target.get()),
                Value::Int(row.last_checked.0 as i64),
                Value::Int(row.next_check.0 as i64),
            ]
        };
        self.write(async |session: &mut Self| {
            let rows = chunk.iter().map(row).collect();
            let upsert = Many::insert(HEAD, "(?,?,?)", TAIL);
            session.execute_many(upsert, rows).await
        })
        .await?;
        // The server counts a changed row twice and an equal one not at all.
        Ok(chunk.len() as u64)
    }
}
