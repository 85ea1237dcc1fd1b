//! Single checks on a server, and what is forgotten when it is old: little at a time.

use model::UnixMs;
use mysql_async::Value;

use super::insert::Many;
use super::session::{Session, read};
use crate::Result;
use crate::answer::{Forgotten, HistoryRow};
use crate::lease::Fence;
use crate::rules::{OLD_EVENTS_MAX, OLD_ROWS_MAX, first_id_at};

const INSERT: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_check_history (id, blog_id, source_site_id, request_method, \
     http_code, error_code, failure_class, rtt_ms, dns_ms, tcp_ms, tls_ms, ttfb_ms, checked_at) \
     VALUES",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE id = id",
);

const OLD_HISTORY: &str =
    "DELETE FROM jetpack_monitor_check_history WHERE id < ? ORDER BY id LIMIT ?";

const OLD_EVENTS: &str = "SELECT id FROM jetpack_monitor_events WHERE ended_at < ? \
    ORDER BY ended_at, endpoint_id LIMIT ?";

const TRANSITIONS_OF: &str =
    "SELECT id, event_id FROM jetpack_monitor_event_transitions WHERE event_id IN";

impl Session {
    pub(crate) async fn write_history(&mut self, fence: Fence, rows: &[HistoryRow]) -> Result<u64> {
        let (head, row, tail) = INSERT;
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            let rows = rows.iter().map(values);
            let insert = Many::insert(head, row, tail);
            session.execute_many(insert, rows).await
        })
        .await
    }

    pub(crate) async fn forget_history(&mut self, before: UnixMs) -> Result<Forgotten> {
        let old = [first_id_at(before), OLD_ROWS_MAX as i64].map(Value::Int);
        let history = self.write_alone(OLD_HISTORY, &old).await?;
        Ok(Forgotten {
            history,
            more: history == OLD_ROWS_MAX as u64,
            ..Forgotten::default()
        })
    }

    pub(crate) async fn forget_events(&mut self, before: UnixMs) -> Result<Forgotten> {
        let old = [before.0 as i64, OLD_EVENTS_MAX as i64].map(Value::Int);
        let mut events = Vec::new();
        for row in self.ask(OLD_EVENTS, old.into()).await? {
            let (id,): (i64,) = read(self.url(), row)?;
            events.push(Value::Int(id));
        }
        if events.is_empty() {
            return Ok(Forgotten::default());
        }
        // Closed ones stay as they are: they are the same in a transaction that comes later.
        self.write(async |session: &mut Self| session.forget_closed(events.clone()).await)
            .await
    }

    async fn forget_closed(&mut self, events: Vec<Value>) -> Result<Forgotten> {
        let more = events.len() == OLD_EVENTS_MAX;
        let limit = format!("LIMIT {OLD_ROWS_MAX}");
        let found = self
            .fetch_many((TRANSITIONS_OF, &limit), &[], events.clone())
            .await?;
        let mut transitions = Vec::new();
        for row in found {
            let (id, _): (i64, i64) = read(self.url(), row)?;
            transitions.push(Value::Int(id));
        }
        // Events go when none of their transitions is left, perhaps the next time.
        let all = transitions.len() < OLD_ROWS_MAX;
        self.delete("false_positives", transitions.clone()).await?;
        let transitions = self.delete("event_transitions", transitions).await?;
        let events = if all {
            self.delete("events", events).await?
        } else {
            0
        };
        Ok(Forgotten {
            events,
            transitions,
            more: more || !all,
            ..Forgotten::default()
        })
    }

    /// Deletes rows by their primary key, so that only those are locked.
    async fn delete(&mut self, table: &str, ids: Vec<Value>) -> Result<u64> {
        let head = format!("DELETE FROM jetpack_monitor_{table} WHERE id IN (");
        let delete = Many::insert(&head, "?", ")");
        let rows = ids.into_iter().map(|id| vec![id]);
        self.execute_many(delete, rows).await
    }
}

fn values(row: &HistoryRow) -> Vec<Value> {
    let [dns, tcp, tls, ttfb] = row.phases_ms();
    vec![
        Value::Int(row.id.get()),
        Value::Int(row.group_id as i64),
        Value::Int(row.target.get()),
        Value::from(row.method),
        Value::from(row.http_code()),
        Value::from(row.error_code()),
        Value::from(row.class.map(|class| class as u8)),
        Value::from(row.rtt_ms()),
        Value::from(dns),
        Value::from(tcp),
        Value::from(tls),
        Value::from(ttfb),
        Value::Int(row.checked_at.0 as i64),
    ]
}
