//! What operators have this node do, on its way into the store: noted at once, written when the
//! store takes it, in order. Changes of state are facts and never come here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::UnixMs;
use model::fact::Event;
use model::limits::AUDIT_WAITING_MAX;
use store::{AuditRow, AuditSubject, Store};
use tokio::sync::Notify;
use tracing::warn;

use super::view::View;

/// Rows of one write.
const WRITE_MAX: usize = 100;
/// Time until a store that took nothing is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// What the last write of a node that ends may take.
const LAST: Duration = Duration::from_secs(2);

/// Rows that wait for the store, [`AUDIT_WAITING_MAX`] at most.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    waiting: Mutex<VecDeque<AuditRow>>,
    added: Notify,
    left_out: AtomicU64,
}

impl Audit {
    /// Rows that wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.rows(|rows| rows.len() as u64)
    }

    /// Rows for which there was no room.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn add(&self, row: AuditRow) {
        let is_kept = self.rows(|rows| {
            let is_kept = rows.len() < AUDIT_WAITING_MAX;
            if is_kept {
                rows.push_back(row);
            }
            is_kept
        });
        if is_kept {
            self.added.notify_one();
        } else if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(
                "{AUDIT_WAITING_MAX} actions of operators wait for the store: further ones are in \
                 no audit log"
            );
        }
    }

    /// The oldest rows, which stay until they are [taken](Self::taken).
    fn oldest(&self) -> Vec<AuditRow> {
        self.rows(|rows| rows.iter().take(WRITE_MAX).cloned().collect())
    }

    fn taken(&self, count: usize) {
        self.rows(|rows| drop(rows.drain(..count.min(rows.len()))));
    }

    fn rows<T>(&self, look: impl FnOnce(&mut VecDeque<AuditRow>) -> T) -> T {
        look(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn write(&self, store: &Store) -> store::Result<()> {
        loop {
            let rows = self.oldest();
            if rows.is_empty() {
                return Ok(());
            }
            let count = rows.len();
            store.write_audit(rows).await?;
            self.taken(count);
        }
    }
}

impl View {
    /// Notes that an operator had `event_type` done, and what came of it.
    pub(crate) fn note(&self, event_type: &'static str, detail: impl Into<String>) {
        self.audit.add(self.row(event_type, detail.into()));
    }

    /// The same of an incident.
    pub(crate) fn note_of(&self, event: &Event, event_type: &'static str, detail: String) {
        self.audit.add(about(event, self.row(event_type, detail)));
    }

    fn row(&self, event_type: &'static str, detail: String) -> AuditRow {
        let now = self.clock.now().unix;
        row(event_type, &self.facts.node_id, detail, now)
    }
}

/// A row of the node, or of the command, called `source`.
pub(crate) fn row(event_type: &'static str, source: &str, detail: String, at: UnixMs) -> AuditRow {
    AuditRow {
        event_type,
        source: format!("ringwatch:{source}"),
        detail,
        at,
        subject: None,
    }
}

/// `row` is about an incident.
pub(crate) fn about(event: &Event, row: AuditRow) -> AuditRow {
    let subject = AuditSubject {
        target: event.target,
        group_id: event.group_id,
        event: Some(event.id),
        votes: None,
    };
    AuditRow {
        subject: Some(subject),
        ..row
    }
}

/// Writes for ever.
pub(super) async fn run(store: Store, view: Arc<View>) {
    let mut is_away = false;
    loop {
        view.audit.added.notified().await;
        while let Err(error) = view.audit.write(&store).await {
            if !is_away {
                warn!("actions of operators wait for the store: {error}");
            }
            is_away = true;
            tokio::time::sleep(AGAIN).await;
        }
        is_away = false;
    }
}

/// Writes what still waits, on the way out.
pub(super) async fn finish(store: &Store, view: &View) {
    let written = tokio::time::timeout(LAST, view.audit.write(store)).await;
    if !matches!(written, Ok(Ok(()))) {
        let rows = view.audit.waiting();
        warn!(
            rows,
            "actions of operators are in no audit log: the store did not take them"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::testbed::view;
    use super::*;

    #[test]
    fn the_queue_has_a_limit_and_counts_what_is_beyond_it() {
        let view = view();
        for _ in 0..AUDIT_WAITING_MAX + 3 {
            view.note("trigger", "target 7");
        }
        let audit = &view.audit;
        assert_eq!(
            (audit.waiting(), audit.left_out()),
            (AUDIT_WAITING_MAX as u64, 3)
        );
    }

    #[tokio::test]
    async fn rows_are_kept_until_the_store_has_them() {
        let dir = tempfile::tempdir().expect("temp dir");
        let url = format!("sqlite:{}/s.db", dir.path().display())
            .parse()
            .expect("a URL");
        let store = Store::open(&url).await.expect("opens");
        let view = view();
        (0..=WRITE_MAX).for_each(|_| view.note("reload", "nothing changed"));
        let closed = store.clone();
        finish(&store, &view).await;
        assert_eq!(view.audit.waiting(), 0);
        view.note("drain", "SIGTERM");
        store.close().await.expect("closed");
        finish(&closed, &view).await;
        assert_eq!(view.audit.waiting(), 1, "it is told, and not forgotten");
    }
}
