//! Facts: idempotence, immutability, one open event per identity, the status projection.

use model::fact::{CheckType, Fact, State};
use model::{FactId, FailureClass, TargetId, UnixMs};
use store::EventFilter;

use crate::fixture::{Backend, Incident, START, batch, import_id, open, row, target, transition};

fn status_sql(id: i64) -> String {
    format!("SELECT site_status FROM jetpack_monitor_check_targets WHERE id = {id}")
}

pub(crate) async fn a_transition_writes_event_job_and_status_together<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store
        .import(vec![row(5, "http://a.test/")], import_id(0))
        .await
        .expect("import");
    let mut incident = Incident::of(target(5), 1);
    let mut statuses = Vec::new();
    for (at, step) in [Incident::open, Incident::confirm, Incident::close]
        .iter()
        .enumerate()
    {
        let fact = step(&mut incident);
        let applied = store
            .apply(&batch(at as u64 + 1, &[fact]))
            .await
            .expect("apply");
        assert_eq!(
            (applied.transitions, applied.jobs, applied.skipped),
            (1, 1, 0)
        );
        statuses.push(backend.number(&status_sql(5)).expect("a row"));
    }
    assert_eq!(statuses, [0, 2, 1]);
    let counts = store.counts().await.expect("counts");
    assert_eq!(
        (
            counts.events,
            counts.open_events,
            counts.transitions,
            counts.jobs
        ),
        (1, 0, 3, 3)
    );
    assert_eq!(counts.journal_seq, 3);
    let events = store.events(&EventFilter::default()).await.expect("events");
    assert_eq!(events, [incident.event]);
}

pub(crate) async fn applying_a_batch_twice_changes_nothing<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let first = batch(1, &[incident.open(), incident.confirm()]);
    store.apply(&first).await.expect("once");
    let before = store.counts().await.expect("counts");
    let again = store.apply(&first).await.expect("twice");
    assert!(again.already_applied);
    assert_eq!((again.transitions, again.jobs, again.skipped), (0, 0, 2));
    assert_eq!(store.counts().await.expect("counts"), before);
}

pub(crate) async fn a_fact_that_was_applied_in_another_batch_is_skipped<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let (mut old, mut new) = (Incident::of(target(5), 1), Incident::of(target(5), 2));
    let life = [old.open(), old.close(), new.open()];
    store.apply(&batch(1, &life)).await.expect("once");
    let before = store.counts().await.expect("counts");
    let again = store
        .apply(&batch(2, &life))
        .await
        .expect("under another position");
    assert!(!again.already_applied && again.conflicts.is_empty());
    assert_eq!((again.transitions, again.jobs, again.skipped), (0, 0, 3));
    let after = store.counts().await.expect("counts");
    assert_eq!(
        after,
        store::StoreCounts {
            journal_seq: 2,
            ..before
        }
    );
}

pub(crate) async fn an_older_fact_that_comes_again_does_not_move_its_event_back<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store
        .import(vec![row(5, "http://a.test/")], import_id(0))
        .await
        .expect("import");
    let mut incident = Incident::of(target(5), 1);
    let (opened, confirmed) = (incident.open(), incident.confirm());
    store
        .apply(&batch(1, &[opened.clone(), confirmed.clone()]))
        .await
        .expect("in order");
    store
        .apply(&batch(2, &[confirmed, opened]))
        .await
        .expect("again, out of order");
    let open = store.open_events().await.expect("events");
    assert_eq!((&open[0].event, open[0].transitions), (&incident.event, 2));
    assert_eq!(backend.number(&status_sql(5)), Some(2));
}

pub(crate) async fn a_closed_event_never_changes<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    store
        .apply(&batch(1, &[incident.open(), incident.close()]))
        .await
        .expect("a life");
    let closed = store.events(&EventFilter::default()).await.expect("events");
    // A machine that forgot the end: reopens it, closes it again, counts on.
    let mut forgetful = incident.clone();
    forgetful.event.ended_at = None;
    let (reopened, closed_again) = (forgetful.confirm(), forgetful.close());
    let facts = [reopened, closed_again, incident.count(99)];
    let applied = store.apply(&batch(2, &facts)).await.expect("late facts");
    assert_eq!(
        (applied.transitions, applied.jobs, applied.skipped),
        (0, 0, 3)
    );
    assert_eq!(
        store.events(&EventFilter::default()).await.expect("events"),
        closed
    );
    assert_eq!(
        store
            .transitions(incident.id())
            .await
            .expect("transitions")
            .len(),
        2
    );
}

pub(crate) async fn started_at_and_identity_never_move<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    store
        .apply(&batch(1, &[incident.open()]))
        .await
        .expect("opened");
    let first = incident.event.clone();
    incident.event.started_at = UnixMs(1);
    incident.event.target = target(6);
    incident.event.check_type = CheckType::Latency;
    store
        .apply(&batch(2, &[incident.confirm()]))
        .await
        .expect("moved");
    let open = store.open_events().await.expect("events");
    assert_eq!((open.len(), open[0].transitions), (1, 2));
    let stored = &open[0].event;
    assert_eq!(stored.started_at, first.started_at);
    assert_eq!(
        (stored.target, stored.check_type),
        (first.target, first.check_type)
    );
    assert_eq!(stored.state, State::Down);
}

pub(crate) async fn one_identity_has_one_open_event<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let (mut first, mut second) = (Incident::of(target(5), 1), Incident::of(target(5), 2));
    let mut other = Incident::of(target(6), 1);
    let mut latency = Incident::of(target(5), 3);
    latency.event.check_type = CheckType::Latency;
    let facts = [first.open(), second.open(), other.open(), latency.open()];
    let applied = store.apply(&batch(1, &facts)).await.expect("apply");
    assert_eq!((applied.transitions, applied.jobs), (3, 3));
    assert_eq!(applied.conflicts, [second.id()]);
    let open_ids = |open: Vec<store::OpenEvent>| -> Vec<FactId> {
        open.iter().map(|open| open.event.id).collect()
    };
    let mut expected = [first.id(), other.id(), latency.id()];
    expected.sort();
    assert_eq!(
        open_ids(store.open_events().await.expect("events")),
        expected
    );
    // Once the first is closed the identity is free, in the same batch already.
    let facts = [first.close(), second.confirm()];
    let applied = store.apply(&batch(2, &facts)).await.expect("apply");
    assert_eq!((applied.transitions, applied.conflicts.len()), (2, 0));
    assert!(open_ids(store.open_events().await.expect("events")).contains(&second.id()));
}

pub(crate) async fn counts_only_rise_and_only_while_the_event_is_open<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let facts = [
        incident.open(),
        incident.count(4),
        incident.count(2),
        incident.count(4),
    ];
    let applied = store.apply(&batch(1, &facts)).await.expect("apply");
    assert_eq!((applied.counted, applied.skipped), (1, 2));
    // A transition that carries a lower count does not lower it either.
    let Fact::Transitioned { event, .. } = incident.confirm() else {
        unreachable!("a transition")
    };
    assert_eq!(event.fail_count, 3);
    store
        .apply(&batch(2, &[incident.confirm()]))
        .await
        .expect("apply");
    let open = store.open_events().await.expect("events");
    assert_eq!((open[0].event.fail_count, open[0].transitions), (4, 2));
    let facts = [incident.close(), incident.count(9)];
    let applied = store.apply(&batch(3, &facts)).await.expect("apply");
    assert_eq!((applied.counted, applied.skipped), (0, 1));
    let events = store.events(&EventFilter::default()).await.expect("events");
    assert_eq!(events[0].fail_count, 4);
}

pub(crate) async fn an_incident_of_a_node_is_of_no_target<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store
        .import(vec![row(5, "http://a.test/")], import_id(0))
        .await
        .expect("import");
    let of_node = |nth, node: &str| {
        let mut incident = Incident::of(TargetId::NODE, nth);
        incident.event.check_type = CheckType::NodeIsolated;
        incident.event.state = State::Down;
        incident.event.discriminator = Some(node.to_owned());
        incident
    };
    let (mut ours, mut theirs) = (of_node(1, "a"), of_node(2, "b"));
    let mut again = of_node(3, "a");
    let facts = [ours.open(), theirs.open(), again.open()];
    let applied = store.apply(&batch(1, &facts)).await.expect("applied");
    assert_eq!((applied.transitions, applied.jobs), (2, 2));
    assert_eq!(applied.conflicts, [again.id()]);
    let filter = EventFilter {
        target: Some(TargetId::NODE),
        ..EventFilter::default()
    };
    let listed = store.events(&filter).await.expect("events");
    assert_eq!(listed, [theirs.event.clone(), ours.event.clone()]);
    let open = store.open_events().await.expect("open events");
    assert!(open.iter().all(|it| it.event.target == TargetId::NODE) && open.len() == 2);
    let stored = store.transitions(ours.id()).await.expect("transitions");
    assert_eq!(stored, [transition(&facts[0])]);
    let at_zero = "SELECT COUNT(*) FROM jetpack_monitor_events WHERE endpoint_id = 0";
    assert_eq!(backend.number(at_zero), Some(2));
    let status = status_sql(5);
    let before = backend.number(&status);
    let closed = batch(2, &[ours.close()]);
    store.apply(&closed).await.expect("applied");
    assert_eq!(backend.number(&status), before, "no site's status moves");
}

pub(crate) async fn a_false_alarm_is_a_false_positive_once<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let (mut real, mut false_one) = (Incident::of(target(5), 1), Incident::of(target(6), 2));
    (real.event.group_id, false_one.event.group_id) = (41, 42);
    let mut facts = vec![real.open(), real.close(), false_one.open()];
    facts.push(false_one.false_alarm());
    let closing = transition(&facts[3]);
    store.apply(&batch(1, &facts)).await.expect("applied");
    // A commit whose answer was lost is done again, in another batch.
    store.apply(&batch(2, &facts)).await.expect("looked at");
    let number = |what: &str| {
        let sql = format!("SELECT {what} FROM jetpack_monitor_false_positives");
        backend.number(&sql)
    };
    assert_eq!(number("COUNT(*)"), Some(1));
    let row = ["id", "blog_id", "http_code", "created_at"].map(number);
    let at = closing.changed_at.0 as i64;
    assert_eq!(row, [closing.id.get(), 42, 503, at].map(Some));
    let code = FailureClass::from_u8(false_one.event.class).and_then(FailureClass::legacy_code);
    assert_eq!(number("error_code"), code.map(i64::from));
    let before = closing.changed_at.plus_ms(86_400_000);
    store.forget_events(before).await.expect("a step");
    assert_eq!(number("COUNT(*)"), Some(0), "it goes with its transition");
}

pub(crate) async fn evidence_comes_back_as_it_was_seen<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let opened = incident.open();
    let mut bare = incident.confirm();
    if let Fact::Transitioned { transition, .. } = &mut bare {
        transition.evidence = None;
    }
    store
        .apply(&batch(1, &[opened.clone(), bare.clone()]))
        .await
        .expect("apply");
    let stored = store.transitions(incident.id()).await.expect("transitions");
    assert_eq!(stored, [transition(&opened), transition(&bare)]);
}

pub(crate) async fn the_status_follows_the_worst_open_http_event<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store
        .import(vec![row(5, "http://a.test/")], import_id(0))
        .await
        .expect("import");
    let mut main = Incident::of(target(5), 1);
    let mut side = Incident::of(target(5), 2);
    side.event.discriminator = Some("v6".to_owned());
    let mut latency = Incident::of(target(5), 3);
    latency.event.check_type = CheckType::Latency;
    latency.event.state = State::Degraded;
    let steps = [
        (latency.open(), 1),
        (main.open(), 0),
        (main.confirm(), 2),
        (side.open(), 2),
        (latency.close(), 2),
        (main.close(), 0),
        (side.close(), 1),
    ];
    for (seq, (fact, status)) in (1..).zip(steps) {
        store.apply(&batch(seq, &[fact])).await.expect("apply");
        assert_eq!(
            backend.number(&status_sql(5)),
            Some(status),
            "after step {seq}"
        );
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.latest_change, 1, "a status is no change of a target");
}

pub(crate) async fn floors_hold_the_highest_id_of_each_shard<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    assert_eq!(
        store.floors().await.expect("floors"),
        store::Floors::default()
    );
    let mut expected: Vec<FactId> = Vec::new();
    let mut facts = Vec::new();
    for id in 1..=3 {
        let mut incident = Incident::of(target(id), 1);
        facts.extend([incident.open(), incident.close()]);
        expected.push(facts.last().expect("just pushed").newest_id());
    }
    store.apply(&batch(4, &facts)).await.expect("apply");
    let mut old = Incident::of(target(1), 0);
    store
        .apply(&batch(9, &[old.open()]))
        .await
        .expect("an older id");
    expected.sort_by_key(|id| id.shard());
    let floors = store.floors().await.expect("floors");
    assert_eq!(
        floors,
        store::Floors {
            newest: expected,
            journal_seq: 9,
            superseded: Vec::new(),
        }
    );
}

pub(crate) async fn events_are_listed_newest_first<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut facts = Vec::new();
    for nth in 0..4 {
        let mut incident = Incident::of(target(5), nth);
        facts.extend([incident.open(), incident.close()]);
    }
    facts.push(Incident::of(target(5), 4).open());
    facts.push(Incident::of(target(6), 9).open());
    store.apply(&batch(1, &facts)).await.expect("apply");
    let list = async |filter: EventFilter| -> Vec<UnixMs> {
        let events = store.events(&filter).await.expect("events");
        events.iter().map(|event| event.started_at).collect()
    };
    let at = |nth: u64| START.plus_ms(nth * 60_000);
    let all = EventFilter::default();
    assert_eq!(list(all).await, [9, 4, 3, 2, 1, 0].map(at));
    assert_eq!(
        list(EventFilter {
            open_only: true,
            ..all
        })
        .await,
        [9, 4].map(at)
    );
    let five = EventFilter {
        target: Some(target(5)),
        ..all
    };
    assert_eq!(list(EventFilter { limit: 2, ..five }).await, [4, 3].map(at));
    assert_eq!(
        list(EventFilter {
            open_only: true,
            ..five
        })
        .await,
        [4].map(at)
    );
}

pub(crate) async fn a_store_that_was_closed_opens_as_it_was<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let clone = store.clone();
    let mut incident = Incident::of(target(5), 1);
    store
        .apply(&batch(1, &[incident.open()]))
        .await
        .expect("apply");
    store.sync().await.expect("sync");
    let before = store.counts().await.expect("counts");
    store.close().await.expect("close");
    let late = clone.counts().await.expect_err("closed for every clone");
    assert!(matches!(late, store::StoreError::Closed { .. }), "{late}");
    let again = open(&backend).await;
    assert_eq!(again.counts().await.expect("counts"), before);
    let open = again.open_events().await.expect("events");
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].event, incident.event);
}
