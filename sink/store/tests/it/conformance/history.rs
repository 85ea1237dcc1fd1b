//! Single checks, and what is forgotten when it is old: bounded steps that take what is over and
//! nothing that is open or new.

use model::ids::FactMint;
use model::outcome::Phases;
use model::{FailureClass, UnixMs};
use store::{EventFilter, Forgotten, HistoryRow, StoreError};

use crate::fixture::{Backend, Incident, START, batch, open, target};

pub(crate) fn checks(count: u64, from: UnixMs) -> Vec<HistoryRow> {
    let mut mint = FactMint::default();
    let row = |nth: u64| HistoryRow {
        id: mint.mint(target(5).shard(), from.plus_ms(nth)),
        target: target(5),
        group_id: 7,
        method: "GET",
        status: 503,
        class: Some(FailureClass::HttpStatus),
        phases: Phases {
            dns_us: 1_499,
            connect_us: 1_500,
            total_us: 250_000,
            ..Phases::NONE
        },
        checked_at: from.plus_ms(nth),
    };
    (0..count).map(row).collect()
}

fn count(backend: &impl Backend, rest: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM jetpack_monitor_{rest}");
    backend.number(&sql).expect("counted")
}

pub(crate) async fn a_check_is_written_once_with_every_column<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut rows = checks(2_500, START);
    rows[0] = HistoryRow {
        status: 0,
        class: None,
        method: "",
        ..rows[0]
    };
    let write = |rows: Vec<HistoryRow>| store.write_history(store.fence, rows);
    assert_eq!(write(rows.clone()).await.expect("written"), 2_500);
    write(rows.clone()).await.expect("again");
    assert_eq!(count(&backend, "check_history"), 2_500);
    let code = FailureClass::HttpStatus.legacy_code().expect("has one");
    let of = format!(
        "check_history WHERE id = {} AND blog_id = 7 AND source_site_id = 5 \
         AND request_method = 'GET' AND http_code = 503 AND error_code = {code} \
         AND failure_class = {} AND rtt_ms = 250 AND dns_ms = 1 AND tcp_ms = 2 \
         AND tls_ms IS NULL AND ttfb_ms IS NULL AND checked_at = {}",
        rows[1].id,
        FailureClass::HttpStatus as u8,
        rows[1].checked_at.0
    );
    assert_eq!(count(&backend, &of), 1);
    let healthy = "check_history WHERE request_method = '' AND http_code IS NULL \
                   AND error_code IS NULL AND failure_class IS NULL";
    assert_eq!(count(&backend, healthy), 1);
    // Another node's time: nothing is written.
    backend.number("UPDATE jetpack_monitor_nodes SET epoch = epoch + 1");
    let error = write(checks(1, START.plus_ms(9_000))).await;
    let error = error.expect_err("fenced");
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
    assert_eq!(count(&backend, "check_history"), 2_500);
}

pub(crate) async fn old_checks_are_forgotten_in_bounded_steps<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows = checks(2_600, START);
    store
        .write_history(store.fence, rows.clone())
        .await
        .expect("written");
    let before = rows[2_400].checked_at;
    let mut steps = Vec::new();
    loop {
        let step = store.forget_history(before).await.expect("forgotten");
        steps.push(step.history);
        if !step.more {
            break;
        }
    }
    assert_eq!(steps, [1_000, 1_000, 400]);
    assert_eq!(count(&backend, "check_history"), 200);
    let oldest = "SELECT MIN(checked_at) FROM jetpack_monitor_check_history";
    assert_eq!(backend.number(oldest), Some(before.0 as i64));
}

pub(crate) async fn closed_events_are_forgotten_with_their_transitions_and_open_ones_stay<
    B: Backend,
>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    // 600 stories of three transitions that are over, one that is not, one that ended later; each
    // at its own time, as targets of one shard have no id in common.
    let mut facts = Vec::new();
    for id in 1..=600_u32 {
        let mut incident = Incident::of(target(i64::from(id)), u64::from(id));
        facts.extend([incident.open(), incident.confirm(), incident.close()]);
    }
    let mut open_one = Incident::of(target(601), 601);
    let mut later = Incident::of(target(602), 700);
    facts.extend([open_one.open(), later.open(), later.close()]);
    for (seq, part) in (1..).zip(facts.chunks(1_000)) {
        store.apply(&batch(seq, part)).await.expect("applied");
    }
    let before = START.plus_ms(650 * 60_000);
    let (mut all, mut steps) = (Forgotten::default(), 0);
    loop {
        let step = store.forget_events(before).await.expect("forgotten");
        assert!(step.events <= 250 && step.transitions <= 1_000, "{step:?}");
        all.events += step.events;
        all.transitions += step.transitions;
        steps += 1;
        let orphans = "event_transitions WHERE event_id NOT IN \
                       (SELECT id FROM jetpack_monitor_events)";
        assert_eq!(
            count(&backend, orphans),
            0,
            "no transition without its event"
        );
        if !step.more {
            break;
        }
    }
    assert_eq!((all.events, all.transitions), (600, 1_800));
    assert!(steps >= 3, "{steps}");
    let left = store.events(&EventFilter::default()).await.expect("events");
    let ids: Vec<_> = left.iter().map(|event| event.id).collect();
    assert_eq!(ids, [later.id(), open_one.id()]);
    assert_eq!(count(&backend, "event_transitions"), 3);
    let nothing = store.forget_events(before).await.expect("nothing left");
    assert_eq!(nothing, Forgotten::default());
    // What was applied is not applied again, although its rows are gone.
    let again = store
        .apply(&batch(1, &facts[..3]))
        .await
        .expect("looked at");
    assert!(again.already_applied);
}

pub(crate) async fn an_event_with_many_transitions_goes_in_several_steps<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let mut facts = vec![incident.open()];
    facts.extend((0..1_500).map(|_| incident.confirm()));
    facts.push(incident.close());
    store.apply(&batch(1, &facts)).await.expect("applied");
    let before = START.plus_ms(86_400_000);
    let first = store.forget_events(before).await.expect("a step");
    assert_eq!(
        (first.events, first.transitions, first.more),
        (0, 1_000, true)
    );
    let second = store.forget_events(before).await.expect("a step");
    assert_eq!(
        (second.events, second.transitions, second.more),
        (1, 502, false)
    );
}
