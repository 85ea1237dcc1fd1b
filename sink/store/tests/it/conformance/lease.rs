//! The right to write: one epoch at a time, by the database's clock, and what becomes of facts
//! whose time is over.

use std::sync::Arc;

use model::UnixMs;
use model::limits::SHARDS;
use store::{ALL_SHARDS, Claim, EventFilter, FreshnessRow, Store, StoreError, Superseded};

use crate::fixture::{Backend, Incident, Writer, batch, claim, import_id, open, row, target};

/// What is left of the lease of a node in the tables, in ms of the database's clock.
fn left_ms<B: Backend>(backend: &B, node: i64) -> i64 {
    let sql = format!(
        "SELECT lease_until - {} FROM jetpack_monitor_nodes WHERE node_id = {node}",
        B::NOW_MS
    );
    backend.number(&sql).expect("a row")
}

fn run_out(backend: &impl Backend) {
    backend.number("UPDATE jetpack_monitor_nodes SET lease_until = lease_until - 3600000");
}

fn is_fenced<T: std::fmt::Debug>(done: Result<T, StoreError>, epoch: u64) {
    let error = done.expect_err("another epoch");
    assert!(
        matches!(error, StoreError::Fenced { epoch: over, .. } if over == epoch),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("nothing was written to the store")
    );
}

pub(crate) async fn a_bumped_epoch_makes_every_write_affect_nothing<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows = vec![row(5, "http://a.test/")];
    store.import(rows, import_id(0)).await.expect("import");
    let mut incident = Incident::of(target(5), 1);
    let opened = batch(1, &[incident.open()]);
    store.apply(&opened).await.expect("its own epoch");
    let before = store.counts().await.expect("counts");
    backend.number("UPDATE jetpack_monitor_nodes SET epoch = epoch + 1 WHERE node_id = 1");
    let epoch = store.fence.epoch();
    is_fenced(store.apply(&batch(2, &[incident.confirm()])).await, epoch);
    // Also what was applied already, and what there is nothing of.
    is_fenced(store.apply(&opened).await, epoch);
    is_fenced(store.apply(&batch(3, &[])).await, epoch);
    let checked = FreshnessRow {
        target: target(5),
        last_checked: UnixMs(1),
        next_check: UnixMs(2),
    };
    is_fenced(store.write_freshness(vec![checked]).await.all(), epoch);
    is_fenced(store.renew(store.fence, 60_000).await, epoch);
    is_fenced(store.pass_over(store.fence, 9).await, epoch);
    assert_eq!(store.counts().await.expect("counts"), before);
    let status = "SELECT site_status FROM jetpack_monitor_check_targets WHERE id = 5";
    assert_eq!(backend.number(status), Some(0));
    // Its own new epoch goes on where it was.
    let again = open(&backend).await;
    assert_eq!(again.fence.epoch(), epoch + 2);
    let confirmed = again.apply(&batch(2, &[incident.confirm()])).await;
    assert_eq!(confirmed.expect("applied").transitions, 1);
    is_fenced(store.apply(&opened).await, epoch);
}

pub(crate) async fn a_lease_runs_by_the_clock_of_the_database<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let at_first = left_ms(&backend, 1);
    assert!((1..=60_000).contains(&at_first), "{at_first}");
    store.renew(store.fence, 3_600_000).await.expect("renewed");
    let renewed = left_ms(&backend, 1);
    assert!((3_540_000..=3_600_000).contains(&renewed), "{renewed}");
    let plain: &Store = &store;
    let error = plain.acquire(&claim("b", 2)).await.expect_err("held");
    let StoreError::Held { node, left_s, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(node, "test");
    assert!((3_500..=3_600).contains(left_s), "{left_s}");
    // Not by ours: nothing passed here, there an hour did.
    run_out(&backend);
    let other = plain.acquire(&claim("b", 2)).await.expect("over");
    is_fenced(store.renew(store.fence, 60_000).await, store.fence.epoch());
    assert!(left_ms(&backend, 2) > 0 && left_ms(&backend, 1) <= 0);
    plain.release(other).await.expect("released");
    assert!(left_ms(&backend, 2) <= 0);
    // A release that comes late ends nobody else's lease.
    let back = open(&backend).await;
    back.release(store.fence).await.expect("nothing to do");
    assert!(left_ms(&backend, 1) > 0);
}

pub(crate) async fn two_nodes_with_shards_of_their_own_work_side_by_side<B: Backend>() {
    let backend = B::fresh();
    let half = |name: &str, journal, shards| Claim {
        shards,
        ..claim(name, journal)
    };
    let plain = Store::open(&backend.url()).await.expect("opens");
    let low = Writer::claiming(plain.clone(), &half("low", 1, 0..512)).await;
    let high = Writer::claiming(plain.clone(), &half("high", 2, 512..SHARDS)).await;
    let owned = |node: i64| {
        let sql = format!("SELECT COUNT(*) FROM jetpack_monitor_shards WHERE node_id = {node}");
        backend.number(&sql)
    };
    assert_eq!((owned(1), owned(2)), (Some(512), Some(512)));
    let of = |upper: bool| {
        let is_there = |id: &i64| (target(*id).shard().get() >= 512) == upper;
        target((1..10_000).find(is_there).expect("there are both"))
    };
    let (mut lower, mut upper) = (Incident::of(of(false), 1), Incident::of(of(true), 1));
    // Their journals are numbered alike, and each has its own position.
    for (writer, incident) in [(&low, &mut lower), (&high, &mut upper)] {
        for seq in [1, 2] {
            let fact = if seq == 1 {
                incident.open()
            } else {
                incident.confirm()
            };
            let applied = writer.apply(&batch(seq, &[fact])).await.expect("applied");
            assert_eq!((applied.transitions, applied.already_applied), (1, false));
        }
        let floors = writer.floors().await.expect("floors");
        assert_eq!((floors.journal_seq, floors.superseded.len()), (2, 0));
    }
    // What happens to one is nothing to the other.
    backend.number("UPDATE jetpack_monitor_nodes SET epoch = epoch + 1 WHERE node_id = 1");
    is_fenced(
        low.apply(&batch(3, &[lower.close()])).await,
        low.fence.epoch(),
    );
    let closed = high.apply(&batch(3, &[upper.close()])).await;
    assert_eq!(closed.expect("applied").transitions, 1);
}

pub(crate) async fn facts_of_a_shard_that_others_wrote_are_superseded<B: Backend>() {
    let backend = B::fresh();
    let old = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let shard = target(5).shard();
    old.apply(&batch(7, &[incident.open()])).await.expect("own");
    run_out(&backend);
    let plain: Store = Store::clone(&old);
    let new = Writer::claiming(plain.clone(), &claim("new", 2)).await;
    new.apply(&batch(1, &[incident.confirm()]))
        .await
        .expect("its own");
    is_fenced(
        old.apply(&batch(8, &[incident.close()])).await,
        old.fence.epoch(),
    );
    new.release(new.fence).await.expect("released");
    let back = open(&backend).await;
    let floors = back.floors().await.expect("floors");
    assert_eq!(floors.journal_seq, 7, "the position of its own journal");
    let undecided = Superseded { shard, upto: None };
    assert_eq!(floors.superseded, [undecided], "the one that was written");
    // The second time the journal ends before: not all of it was written before a crash.
    for last_seq in [10, 9] {
        let settled = back.pass_over(back.fence, last_seq).await;
        settled.expect("settled");
    }
    let settled = Superseded {
        upto: Some(9),
        ..undecided
    };
    for restart in 0..2 {
        // A crash before they are passed over changes nothing, also after own facts.
        let again = open(&backend).await;
        let floors = again.floors().await.expect("floors");
        assert_eq!(floors.superseded, [settled], "{restart}");
        let own = batch(8, &[Incident::of(target(6), 2).open()]);
        again.apply(&own).await.expect("applied");
        again.pass_over(again.fence, 11).await.expect("nothing new");
    }
    let last = open(&backend).await;
    last.apply(&batch(9, &[])).await.expect("passed over");
    assert_eq!(last.floors().await.expect("floors").superseded, []);
    let events = last.events(&EventFilter::default()).await.expect("events");
    assert!(
        events
            .iter()
            .any(|event| event.id == incident.id() && event.ended_at.is_none())
    );
}

pub(crate) async fn a_takeover_that_wrote_nothing_supersedes_nothing<B: Backend>() {
    let backend = B::fresh();
    let old = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    old.apply(&batch(1, &[incident.open()])).await.expect("own");
    run_out(&backend);
    let plain: Store = Store::clone(&old);
    let new = Writer::claiming(plain, &claim("new", 2)).await;
    new.release(new.fence).await.expect("released");
    let back = open(&backend).await;
    assert_eq!(back.floors().await.expect("floors").superseded, []);
    back.pass_over(back.fence, 2).await.expect("settled");
    let applied = back.apply(&batch(2, &[incident.confirm()])).await;
    assert_eq!(applied.expect("applied").transitions, 1);
    assert_eq!(
        open(&backend)
            .await
            .floors()
            .await
            .expect("floors")
            .superseded,
        []
    );
    let sinces = "SELECT COUNT(DISTINCT since_epoch) FROM jetpack_monitor_shards";
    assert_eq!(backend.number(sinces), Some(1));
    let rows = "SELECT COUNT(*) FROM jetpack_monitor_shards";
    assert_eq!(backend.number(rows), Some(ALL_SHARDS.len() as i64));
}

pub(crate) async fn a_store_from_before_nodes_had_names_goes_on_at_its_position<B: Backend>() {
    let backend = B::fresh();
    // As an older build left it.
    drop(Store::open(&backend.url()).await.expect("opens"));
    backend.number("UPDATE jetpack_monitor_nodes SET journal_seq = 41 WHERE node_id = 1");
    let store = open(&backend).await;
    assert_eq!(store.floors().await.expect("floors").journal_seq, 41);
    let applied = store
        .apply(&batch(41, &[Incident::of(target(5), 1).open()]))
        .await;
    assert!(applied.expect("looked at").already_applied);
    store.release(store.fence).await.expect("released");
    let plain: Store = Store::clone(&store);
    let other = Writer::claiming(plain, &claim("other", 2)).await;
    assert_eq!(other.floors().await.expect("floors").journal_seq, 0);
}

pub(crate) async fn shards_of_a_journal_that_does_not_come_back_are_one_row_in_the_end<
    B: Backend,
>() {
    let backend = B::fresh();
    let gone = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let opened = batch(1, &[incident.open()]);
    gone.apply(&opened).await.expect("its own");
    run_out(&backend);
    let plain: Store = Store::clone(&gone);
    let rows = |which: &str| {
        let sql = format!("SELECT COUNT(*) FROM jetpack_monitor_shards_taken WHERE {which}");
        backend.number(&sql).expect("counted")
    };
    Writer::claiming(plain.clone(), &claim("new", 2)).await;
    let shards = i64::from(SHARDS);
    assert_eq!((rows("shard < 1024"), rows("shard = 1024")), (shards, 1));
    // An hour ago it was there.
    let now = backend.number(&format!("SELECT {}", B::NOW_MS));
    let now = UnixMs(now.expect("a time") as u64);
    let hour_ago = UnixMs(now.0 - 3_600_000);
    let nothing = plain.forget_taken(hour_ago).await.expect("looked");
    assert_eq!((nothing.taken, nothing.more), (0, false));
    // From a build that noted no moment: it was lost when it is looked at first.
    backend.number("DELETE FROM jetpack_monitor_shards_taken WHERE shard = 1024");
    let nothing = plain.forget_taken(hour_ago).await.expect("looked");
    assert_eq!((nothing.more, rows("shard = 1024")), (false, 1));
    let mut steps = Vec::new();
    loop {
        let step = plain.forget_taken(now.plus_ms(3_600_000)).await;
        let step = step.expect("forgotten");
        if !step.more {
            break;
        }
        steps.push(step.taken);
    }
    assert_eq!(steps, [1_024], "as many as there are shards, at once");
    assert_eq!((rows("1 = 1"), rows("newest_fact = -1")), (1, 1));
    // It comes back after all: nobody wrote, and nobody knows that any more.
    run_out(&backend);
    let back = open(&backend).await;
    let floors = back.floors().await.expect("floors");
    assert_eq!(floors.journal_seq, 1);
    assert_eq!(floors.superseded.len(), usize::from(SHARDS));
    assert!(floors.superseded.iter().all(|one| one.upto.is_none()));
    back.pass_over(back.fence, 3).await.expect("settled");
    let again = open(&backend).await;
    let floors = again.floors().await.expect("floors");
    assert!(floors.superseded.iter().all(|one| one.upto == Some(3)));
    again.apply(&batch(3, &[])).await.expect("passed over");
    let last = open(&backend).await;
    assert_eq!(last.floors().await.expect("floors").superseded, []);
    // What the other one lost is all that is left.
    assert_eq!(rows("journal_id = 1"), 0);
}

pub(crate) async fn a_journal_that_is_back_is_not_forgotten<B: Backend>() {
    let backend = B::fresh();
    let gone = open(&backend).await;
    run_out(&backend);
    let plain: Store = Store::clone(&gone);
    let new = Writer::claiming(plain.clone(), &claim("new", 2)).await;
    new.apply(&batch(1, &[Incident::of(target(5), 1).open()]))
        .await
        .expect("its own");
    // Long ago, by the rows; it comes back, and has not settled yet what it lost.
    backend.number("UPDATE jetpack_monitor_shards_taken SET newest_fact = 7 WHERE shard = 1024");
    run_out(&backend);
    let back = open(&backend).await;
    let now = backend.number(&format!("SELECT {}", B::NOW_MS));
    let hour_ago = UnixMs(now.expect("a time") as u64 - 3_600_000);
    assert!(!plain.forget_taken(hour_ago).await.expect("looked").more);
    let shard = target(5).shard();
    let floors = back.floors().await.expect("floors");
    assert_eq!(floors.superseded, [Superseded { shard, upto: None }]);
    // Settled, it is here for good.
    back.pass_over(back.fence, 1).await.expect("settled");
    let later = UnixMs(hour_ago.0 + 7_200_000);
    backend.number("DELETE FROM jetpack_monitor_shards_taken WHERE journal_id = 2");
    assert!(!plain.forget_taken(later).await.expect("looked").more);
}

pub(crate) async fn a_store_that_was_set_back_takes_nothing_until_it_is_asked_where_it_is<
    B: Backend,
>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut incident = Incident::of(target(5), 1);
    let opened = batch(7, &[incident.open()]);
    store.apply(&opened).await.expect("applied");
    let plain: &Store = &store;
    let next = batch(8, &[incident.confirm()]);
    let before = store.counts().await.expect("counts");
    let still_has = |fence, seq| async move { plain.still_has(fence, seq).await.expect("said") };
    assert!(still_has(store.fence, 7).await && !still_has(store.fence, 8).await);
    let position = "UPDATE jetpack_monitor_journals SET journal_seq = 6";
    for (sql, at) in [(position, 6), ("DELETE FROM jetpack_monitor_journals", 0)] {
        backend.number(sql);
        let before = store.counts().await.expect("counts");
        assert!(!still_has(store.fence, 7).await);
        // Neither the next batch, nor the one that it is known to have.
        for batch in [&next, &opened] {
            let error = plain
                .apply(store.fence, &Arc::new(batch.clone()), 7)
                .await
                .expect_err("set back");
            assert!(
                matches!(error, StoreError::SetBack { found, acknowledged: 7, .. } if found == at),
                "{error}"
            );
            assert!(!error.is_transient());
        }
        assert_eq!(store.counts().await.expect("counts"), before);
    }
    // Under a right that was taken again it goes on from where the store is.
    let again = open(&backend).await;
    let floor = again.floors().await.expect("floors").journal_seq;
    assert_eq!(floor, 0);
    for (batch, transitions) in [(&opened, 0), (&next, 1)] {
        let applied = plain
            .apply(again.fence, &Arc::new(batch.clone()), floor)
            .await;
        assert_eq!(applied.expect("applied").transitions, transitions);
    }
    let same = plain
        .apply(again.fence, &Arc::new(next.clone()), 8)
        .await
        .expect("has it");
    assert!(same.already_applied);
    assert!(still_has(again.fence, 8).await && !still_has(store.fence, 8).await);
    let after = again.counts().await.expect("counts");
    assert_eq!(
        (after.journal_seq, after.transitions),
        (8, before.transitions + 1)
    );
}
