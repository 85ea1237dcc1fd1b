//! What operators had done: noted without the right to write facts, and forgotten when it is old.

use model::UnixMs;
use store::{AuditRow, Forgotten, Store};

use crate::fixture::{Backend, START};

pub(crate) async fn actions_are_noted_as_they_were_and_old_ones_forgotten<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let row = |event_type, detail: &str, at: UnixMs| AuditRow {
        event_type,
        source: "ringwatch:n".to_owned(),
        detail: detail.to_owned(),
        at,
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
