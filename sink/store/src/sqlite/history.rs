//! Single checks in SQLite, and what is forgotten when it is old: little at a time.

use model::UnixMs;
use rusqlite::{CachedStatement, named_params};

use super::connection::Db;
use super::failure::Failure;
use super::lease;
use crate::Result;
use crate::answer::{Forgotten, HistoryRow};
use crate::lease::Fence;
use crate::rules::{OLD_EVENTS_MAX, OLD_ROWS_MAX, first_id_at};

const INSERT: &str = "
    INSERT INTO jetpack_monitor_check_history
        (id, blog_id, source_site_id, request_method, http_code, error_code, failure_class,
         rtt_ms, dns_ms, tcp_ms, tls_ms, ttfb_ms, checked_at)
    VALUES (:id, :blog, :site, :method, :http_code, :error_code, :class, :rtt, :dns, :tcp, :tls,
            :ttfb, :checked_at)
    ON CONFLICT (id) DO NOTHING";

const OLD_EVENTS: &str = "
    SELECT id FROM jetpack_monitor_events INDEXED BY jetpack_monitor_events_ended
    WHERE ended_at IS NOT NULL AND ended_at < ?1 ORDER BY ended_at LIMIT ?2";

impl Db {
    pub(crate) fn write_history(&mut self, fence: Fence, rows: &[HistoryRow]) -> Result<u64> {
        self.write(|transaction| {
            lease::require(transaction, fence)?;
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut written = 0;
            for row in rows {
                written += insert_row(&mut insert, row)? as u64;
            }
            Ok(written)
        })
    }

    pub(crate) fn forget_history(&mut self, before: UnixMs) -> Result<Forgotten> {
        self.write(|transaction| {
            let sql = "DELETE FROM jetpack_monitor_check_history WHERE id IN (
                           SELECT id FROM jetpack_monitor_check_history
                           WHERE id < ?1 ORDER BY id LIMIT ?2)";
            let old = (first_id_at(before), OLD_ROWS_MAX as i64);
            let history = transaction.prepare_cached(sql)?.execute(old)?;
            Ok(Forgotten {
                history: history as u64,
                more: history == OLD_ROWS_MAX,
                ..Forgotten::default()
            })
        })
    }

    pub(crate) fn forget_events(&mut self, before: UnixMs) -> Result<Forgotten> {
        self.write(|transaction| {
            let mut old = transaction.prepare_cached(OLD_EVENTS)?;
            let found =
                old.query_map((before.0 as i64, OLD_EVENTS_MAX as i64), |row| row.get(0))?;
            let events = found.collect::<Result<Vec<i64>, _>>()?;
            let (mut forgotten, mut room) = (Forgotten::default(), OLD_ROWS_MAX);
            let sql = "DELETE FROM jetpack_monitor_event_transitions WHERE id IN (
                           SELECT id FROM jetpack_monitor_event_transitions
                           WHERE event_id = ?1 LIMIT ?2)";
            let mut transitions = transaction.prepare_cached(sql)?;
            let sql = "DELETE FROM jetpack_monitor_false_positives WHERE id IN (
                           SELECT id FROM jetpack_monitor_event_transitions WHERE event_id = ?1)";
            let mut false_positive = transaction.prepare_cached(sql)?;
            let mut event =
                transaction.prepare_cached("DELETE FROM jetpack_monitor_events WHERE id = ?1")?;
            for id in &events {
                false_positive.execute([id])?;
                let gone = transitions.execute((id, room as i64))?;
                forgotten.transitions += gone as u64;
                room -= gone;
                if room == 0 {
                    break;
                }
                forgotten.events += event.execute([id])? as u64;
            }
            forgotten.more = room == 0 || events.len() == OLD_EVENTS_MAX;
            Ok(forgotten)
        })
    }
}

fn insert_row(insert: &mut CachedStatement<'_>, row: &HistoryRow) -> Result<usize, Failure> {
    let [dns, tcp, tls, ttfb] = row.phases_ms();
    Ok(insert.execute(named_params! {
        ":id": row.id.get(),
        ":blog": row.group_id as i64,
        ":site": row.target.get(),
        ":method": row.method,
        ":http_code": row.http_code(),
        ":error_code": row.error_code(),
        ":class": row.class.map(|class| class as u8),
        ":rtt": row.rtt_ms(),
        ":dns": dns,
        ":tcp": tcp,
        ":tls": tls,
        ":ttfb": ttfb,
        ":checked_at": row.checked_at.0 as i64,
    })?)
}
