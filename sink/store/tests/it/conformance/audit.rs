//! What operators had done: noted without the right to write facts, and forgotten when it is old;
//! and what was done with targets, which needs that right.

use model::UnixMs;
use model::metadata::Votes;
use store::{AuditRow, AuditSubject, Forgotten, Store, StoreError};

use crate::fixture::{Backend, Incident, START, open, target};

pub(crate) async fn a_line_about_a_target_says_which_and_needs_the_right_to_write<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let incident = Incident::of(target(7), 1);
    let votes = Votes {
        quorum: 2,
        healthy: 1,
        ..Votes::default()
    };
    let line = |group_id, votes| AuditRow {
        event_type: "retry_dispatched",
        source: "ringwatch:n".to_owned(),
        detail: "verifier decision deferred".to_owned(),
        at: START,
        subject: Some(AuditSubject {
            target: target(7),
            group_id,
            event: Some(incident.id()),
            votes,
        }),
    };
    let lines = vec![line(42, Some(Box::new(votes))), line(0, None)];
    store
        .write_trail(store.fence, lines.clone())
        .await
        .expect("noted");
    let number = |sql: &str| backend.number(&format!("{sql} FROM jetpack_monitor_audit_log"));
    assert_eq!(number("SELECT MAX(blog_id)"), Some(42));
    assert_eq!(number("SELECT SUM(blog_id IS NULL)"), Some(1));
    assert_eq!(number("SELECT MIN(event_id)"), Some(incident.id().get()));
    let said = |what: &str| number(&format!("SELECT SUM(metadata LIKE '%{what}%')"));
    assert_eq!(said("\"endpoint_id\":7"), Some(2));
    assert_eq!(said("\"verifier_healthy\":1"), Some(1));

    let again = open(&backend).await;
    assert!(again.fence.epoch() > store.fence.epoch());
    let refused = store.write_trail(store.fence, lines).await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { .. })),
        "{refused:?}"
    );
    assert_eq!(number("SELECT COUNT(*)"), Some(2));
}

pub(crate) async fn actions_are_noted_as_they_were_and_old_ones_forgotten<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let row = |event_type, detail: &str, at: UnixMs| AuditRow {
        event_type,
        source: "ringwatch:n".to_owned(),
        detail: detail.to_owned(),
        at,
        subject: None,
    };
    let long = "\u{fc}".repeat(2_000);
    let rows = vec![
        row("import", "a.csv", START),
        row("refused", &long, START.plus_ms(1)),
    ];
    store.write_audit(rows).await.expect("noted");
    store
        .write_audit(Vec::new())
        .await
        .expect("nothing to note");
    let number = |what: &str| {
        let sql = format!("SELECT {what} FROM jetpack_monitor_audit_log WHERE id = 2");
        backend.number(&sql).expect("a row")
    };
    assert_eq!(number("created_at"), START.0 as i64 + 1);
    assert_eq!(number("LENGTH(source)"), 11);
    let is_cut = format!("detail = '{}'", "\u{fc}".repeat(1_024));
    assert_eq!(number(&is_cut), 1);
    // Steps of a thousand, the oldest first.
    let many = |from: u64| (from..from + 1_000).map(|at| row("trigger", "", START.plus_ms(at)));
    store.write_audit(many(10).collect()).await.expect("noted");
    store
        .write_audit(many(2_000).collect())
        .await
        .expect("noted");
    let before = START.plus_ms(2_000);
    let step = |audit, more| Forgotten {
        audit,
        more,
        ..Forgotten::default()
    };
    for expected in [step(1_000, true), step(2, false), step(0, false)] {
        assert_eq!(store.forget_audit(before).await.expect("a step"), expected);
    }
    let left = "SELECT COUNT(*) FROM jetpack_monitor_audit_log";
    assert_eq!(backend.number(left), Some(1_000));
}
