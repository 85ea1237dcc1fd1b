//! Readers of older systems: times as dates under the names that they know.

use model::metadata::Votes;
use store::{AuditRow, AuditSubject};

use super::Mysql;
use crate::conformance::history::checks;
use crate::fixture::{Backend, Incident, START, batch, open, target};

/// Tables that have a view with dates, and their times.
const VIEWS: [(&str, &[&str]); 5] = [
    ("events", &["started_at", "ended_at", "updated_at"]),
    ("event_transitions", &["changed_at"]),
    ("check_history", &["checked_at"]),
    ("audit_log", &["created_at"]),
    ("false_positives", &["created_at"]),
];

async fn filled() -> Mysql {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let (mut down, mut alarm) = (Incident::of(target(5), 1), Incident::of(target(6), 2));
    (down.event.group_id, alarm.event.group_id) = (41, 42);
    let facts = [down.open(), alarm.open(), alarm.false_alarm()];
    store.apply(&batch(1, &facts)).await.expect("applied");
    store
        .write_history(store.fence, checks(3, START))
        .await
        .expect("written");
    let line = AuditRow {
        event_type: "retry_dispatched",
        source: "ringwatch:n".to_owned(),
        detail: "verifier decision deferred".to_owned(),
        at: START,
        subject: Some(AuditSubject {
            target: target(5),
            group_id: 41,
            event: Some(down.id()),
            votes: Some(Box::new(Votes::default())),
        }),
    };
    let lines = vec![line];
    store
        .write_trail(store.fence, lines)
        .await
        .expect("written");
    backend
}

#[tokio::test]
async fn every_time_is_a_date_in_utc_and_no_row_is_missing() {
    let backend = filled().await;
    for (name, times) in VIEWS {
        let table = format!("jetpack_monitor_{name}");
        for time in times {
            let number = |sql: String| backend.number(&sql);
            let ours = number(format!("SELECT COUNT(*) FROM {table} WHERE {time} > 0"));
            assert!(ours > Some(0), "{table}.{time}");
            let same = number(format!(
                "SELECT COUNT(*) FROM {table}_utc AS v JOIN {table} AS t ON t.id = v.id WHERE \
                 TIMESTAMPDIFF(MICROSECOND, '1970-01-01', v.{time}) = t.{time} * 1000"
            ));
            assert_eq!(same, ours, "{table}.{time}");
            let typed = number(format!(
                "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() \
                 AND table_name = '{table}_utc' AND column_name = '{time}' \
                 AND data_type = 'datetime'"
            ));
            assert_eq!(typed, Some(1), "{table}.{time}");
        }
    }
}

#[tokio::test]
async fn an_open_event_has_its_older_identity_and_what_was_seen_when_it_opened() {
    let backend = filled().await;
    let events = "jetpack_monitor_events_utc";
    for (is, rows) in [
        ("dedup_key = '41:5:http:' AND ended_at IS NULL", 1),
        ("dedup_key IS NULL AND ended_at IS NOT NULL", 1),
        ("metadata LIKE '%503%'", 2),
        // A time is no key; an id begins with one.
        (
            "id >= (UNIX_TIMESTAMP('2025-01-01 00:16:00') * 1000 - 1735689600000) << 22",
            2,
        ),
        (
            "id >= (UNIX_TIMESTAMP('2025-01-02 00:00:00') * 1000 - 1735689600000) << 22",
            0,
        ),
        (
            "started_at BETWEEN '2025-01-01 00:16:40' AND '2025-01-01 01:00:00'",
            2,
        ),
    ] {
        let found = backend.number(&format!("SELECT COUNT(*) FROM {events} WHERE {is}"));
        assert_eq!(found, Some(rows), "{is}");
    }
}
