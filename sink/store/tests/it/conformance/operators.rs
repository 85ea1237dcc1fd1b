//! What operators decide: windows, pauses; and what they look at while they do.

use model::limits::{WINDOW_KEPT_MS, WINDOWS_MAX};
use model::target::Maintenance;
use model::window::{Scope, Timing, Weekly};
use model::{FactId, Window, WindowId};
use store::{FreshnessRow, Store, StoreError, Switched};

use crate::fixture::{Backend, Incident, START, batch, import_id, open, row, target};

fn once(scope: Scope, from: u64, length_ms: u64) -> Window {
    let span = Maintenance {
        start_ms: START.0 + from,
        end_ms: START.0 + from + length_ms,
    };
    Window::new(scope, Timing::Once(span), "new disks").expect("a window")
}

fn weekly(scope: Scope) -> Window {
    let days = "mon,sun".parse().expect("days");
    let weekly = Weekly::new(days, 150, 90, "Europe/Berlin").expect("valid");
    Window::new(scope, Timing::Weekly(weekly), "\u{dc}berpr\u{fc}fung").expect("a window")
}

pub(crate) async fn a_window_comes_back_as_it_was_added<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let windows = [
        once(Scope::Target(target(7)), 0, 60_000),
        weekly(Scope::Group(3)),
        weekly(Scope::All),
    ];
    let mut ids = Vec::new();
    for window in &windows {
        let by = "ann".to_owned();
        let added = store.add_window(window.clone(), by, START).await;
        ids.push(added.expect("added"));
    }
    let found = store.windows().await.expect("read");
    assert_eq!((found.rows.len(), found.refused), (3, Vec::new()));
    for ((row, window), id) in found.rows.iter().zip(&windows).zip(&ids) {
        assert_eq!((&row.window, row.id), (window, *id));
        assert_eq!((row.added_by.as_str(), row.added_at), ("ann", START));
    }
    assert!(store.remove_window(ids[1]).await.expect("removed"));
    assert!(!store.remove_window(ids[1]).await.expect("nothing there"));
    let left: Vec<WindowId> = store
        .windows()
        .await
        .expect("read")
        .rows
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(left, [ids[0], ids[2]]);
    // A number is never given twice: an operator may have noted it.
    let next = store
        .add_window(weekly(Scope::All), "ann".to_owned(), START)
        .await;
    assert!(next.expect("added") > ids[2]);
}

/// Lesson: one such row made the whole list unreadable, and a node that started then had no window.
pub(crate) async fn a_window_that_was_written_wrong_by_hand_does_not_keep_the_others_away<
    B: Backend,
>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let windows = [
        weekly(Scope::All),
        once(Scope::Target(target(7)), 0, 60_000),
        once(Scope::Group(3), 0, 60_000),
        weekly(Scope::Group(4)),
    ];
    let mut ids = Vec::new();
    for window in windows {
        let added = store.add_window(window, "ann".to_owned(), START).await;
        ids.push(added.expect("added"));
    }
    for (column, wrong, id) in [("weekdays", 200, ids[0]), ("endpoint_id", 0, ids[1])] {
        backend.number(&format!(
            "UPDATE jetpack_monitor_maintenance_windows SET {column} = {wrong} WHERE id = {}",
            id.0
        ));
    }
    let found = store.windows().await.expect("read");
    let left: Vec<WindowId> = found.rows.iter().map(|row| row.id).collect();
    assert_eq!(left, ids[2..]);
    let refused: Vec<_> = found
        .refused
        .iter()
        .map(|(id, why)| (*id, why.field))
        .collect();
    assert_eq!(refused, [(ids[0].0, "weekdays"), (ids[1].0, "endpoint_id")]);
    // And it can be removed by its number.
    assert!(store.remove_window(ids[0]).await.expect("removed"));
    let found = store.windows().await.expect("read");
    assert_eq!((found.rows.len(), found.refused.len()), (2, 1));
}

pub(crate) async fn old_windows_go_and_there_is_a_limit<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let add = async |window: Window, at| store.add_window(window, "ann".to_owned(), at).await;
    add(once(Scope::All, 0, 1), START).await.expect("added");
    let weekly = add(weekly(Scope::All), START).await.expect("added");
    let later = START.plus_ms(WINDOW_KEPT_MS + 2);
    add(once(Scope::All, 0, 2), later).await.expect("added");
    let ids: Vec<WindowId> = store
        .windows()
        .await
        .expect("read")
        .rows
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(ids.len(), 2, "the first one is over for long");
    assert_eq!(ids[0], weekly);
    for at in ids.len()..WINDOWS_MAX {
        add(once(Scope::All, 0, 3 + at as u64), START)
            .await
            .expect("room");
    }
    let refused = add(once(Scope::All, 0, 1), START).await.expect_err("full");
    assert!(
        matches!(refused, StoreError::TooManyWindows { .. }),
        "{refused}"
    );
    assert_eq!(store.windows().await.expect("read").rows.len(), WINDOWS_MAX);
}

pub(crate) async fn a_paused_target_is_not_active_whatever_lists_say<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let rows = || vec![row(7, "http://a.test/"), row(8, "http://b.test/")];
    store.import(rows(), import_id(0)).await.expect("imported");
    let change = store.counts().await.expect("counted").latest_change;
    let pause = async |id| {
        store
            .pause_target(target(id), "ann".to_owned(), START)
            .await
    };
    assert_eq!(pause(7).await.expect("asked"), Switched::Done);
    assert_eq!(pause(7).await.expect("asked"), Switched::Already);
    assert_eq!(pause(9).await.expect("asked"), Switched::Absent);
    let seen = async |after| {
        let page = store.changes(after, 10).await.expect("changes");
        let of = |target: &model::Target| (target.id.get(), target.active, target.generation.0);
        (
            page.targets.iter().map(of).collect::<Vec<_>>(),
            page.latest_change,
        )
    };
    let (changed, latest) = seen(change).await;
    assert_eq!(changed, [(7, false, 1)]);
    let active = async || {
        let page = store.targets(None, 10, true).await.expect("a page");
        page.targets
            .iter()
            .map(|target| target.id.get())
            .collect::<Vec<_>>()
    };
    assert_eq!(active().await, [8]);
    // The list has it still, and brings it back no more than a restart does.
    store.import(rows(), import_id(1)).await.expect("imported");
    assert_eq!(active().await, [8]);
    let all = store
        .targets(None, 10, false)
        .await
        .expect("a page")
        .targets;
    let states: Vec<_> = all.iter().map(|target| target.active).collect();
    assert_eq!(states, [false, true]);
    let listed = store.listed_targets(None, 10).await.expect("a page");
    assert_eq!((listed.targets, listed.refused), (all, Vec::new()));
    assert_eq!(store.counts().await.expect("counted").active, 1);
    assert_eq!(store.active_targets().await.expect("counted"), 1);
    store.resume_target(target(7)).await.expect("asked");
    assert_eq!(seen(latest).await.0, [(7, true, 1)]);
    assert_eq!(active().await, [7, 8]);
}

pub(crate) async fn a_pause_is_kept_with_who_did_it_and_ends_once<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let rows = vec![row(7, "http://a.test/"), row(8, "http://b.test/")];
    store.import(rows, import_id(0)).await.expect("imported");
    let by = "ann".to_owned();
    store
        .pause_target(target(7), by, START)
        .await
        .expect("asked");
    let paused = store.paused_targets(None).await.expect("read");
    let count = store.count_paused().await.expect("counted");
    assert_eq!((paused.len(), count), (1, 1));
    let one = &paused[0];
    assert_eq!(
        (one.target, one.by.as_str(), one.at),
        (target(7), "ann", START)
    );
    let of = async |id| store.paused_targets(Some(target(id))).await.expect("read");
    assert_eq!(of(8).await, []);
    assert_eq!(of(7).await, paused);
    store
        .pause_target(target(8), "bob".to_owned(), START)
        .await
        .expect("asked");
    let page = async |after, limit| {
        let page = store.paused_after(after, limit).await;
        page.expect("read")
    };
    assert_eq!(page(None, 9).await, [7, 8].map(target));
    assert_eq!(page(None, 1).await, [target(7)]);
    assert_eq!(page(Some(target(7)), 9).await, [target(8)]);
    assert_eq!(page(Some(target(8)), 9).await, []);
    let resume = async |id| store.resume_target(target(id)).await.expect("asked");
    assert_eq!(resume(8).await, Switched::Done);
    assert_eq!(resume(7).await, Switched::Done);
    assert_eq!(resume(7).await, Switched::Already);
    assert_eq!(resume(9).await, Switched::Absent);
    assert_eq!(store.count_paused().await.expect("counted"), 0);
}

pub(crate) async fn what_is_new_of_each_shard_can_be_followed<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    assert_eq!(store.newest_facts().await.expect("read"), []);
    let (mut first, mut second) = (Incident::of(target(7), 1), Incident::of(target(8), 2));
    let facts = [first.open(), second.open(), first.confirm(), first.close()];
    store.apply(&batch(1, &facts)).await.expect("applied");
    let newest = store.newest_facts().await.expect("read");
    let mut shards: Vec<_> = newest.iter().map(|id| id.shard()).collect();
    shards.dedup();
    assert_eq!(shards.len(), 2, "{newest:?}");
    let top = *newest.iter().max().expect("some");
    let between = async |after: i64, limit| {
        let found = store.transitions_between(after, top, limit).await;
        found
            .expect("read")
            .iter()
            .map(|one| one.id)
            .collect::<Vec<FactId>>()
    };
    let all = between(0, 10).await;
    assert_eq!(all.len(), 4);
    assert!(all.is_sorted());
    assert_eq!(between(0, 3).await, all[..3]);
    assert_eq!(between(all[2].get(), 10).await, all[3..]);
    assert_eq!(between(top.get(), 10).await, []);
    let found = store.event(first.id()).await.expect("read").expect("there");
    assert_eq!((found.id, found.target), (first.id(), target(7)));
    let unknown = FactId::new(1).expect("positive");
    assert_eq!(store.event(unknown).await.expect("read"), None);
}

pub(crate) async fn the_last_check_of_a_target_is_told<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    assert_eq!(store.freshness(target(7)).await.expect("read"), None);
    let row = FreshnessRow {
        target: target(7),
        last_checked: START,
        next_check: START.plus_ms(60_000),
    };
    store
        .write_freshness(vec![row])
        .await
        .all()
        .expect("written");
    assert_eq!(store.freshness(target(7)).await.expect("read"), Some(row));
}
