//! Rows whose status is not what our events say: found slice by slice, and left as they are.

use store::{Drift, DriftSlice};

use super::*;

/// Every slice of so many rows, until the table's end.
async fn slices(store: &Store, rows: usize) -> Vec<DriftSlice> {
    let (mut slices, mut after) = (Vec::new(), None);
    loop {
        let slice = store.legacy_drift(after, rows).await.expect("a slice");
        after = slice.last;
        if after.is_none() {
            return slices;
        }
        slices.push(slice);
    }
}

#[tokio::test]
async fn active_rows_that_say_something_else_than_our_events_are_found_and_left_alone() {
    let sites: Vec<String> = (1..=7)
        .map(|id| format!("({id}, 7, 0, 'http://a-{id}.test/', 1, 5)"))
        .collect();
    let backend = with_sites(&sites.join(", "));
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let (mut down, mut seems_down) = (Incident::of(target(2), 1), Incident::of(target(4), 2));
    let mut over = Incident::of(target(5), 3);
    let facts = [
        down.open(),
        down.confirm(),
        seems_down.open(),
        over.open(),
        over.close(),
    ];
    store.apply(&batch(1, &facts)).await.expect("applied");
    let looked =
        |slices: &[DriftSlice]| slices.iter().map(|slice| slice.looked).collect::<Vec<_>>();
    let clean = slices(&store, 3).await;
    assert_eq!(looked(&clean), [3, 3, 1]);
    assert!(clean.iter().all(|slice| slice.drifted == 0), "{clean:?}");
    // Somebody else writes: up while it is down, down while it is up, and a row that is off.
    for (id, set) in [
        (2, "site_status = 1"),
        (5, "site_status = 2"),
        (6, "site_status = 0"),
    ] {
        backend.number(&format!(
            "UPDATE jetpack_monitor_sites SET {set} WHERE jetpack_monitor_site_id = {id}"
        ));
    }
    backend.number(
        "UPDATE jetpack_monitor_sites SET monitor_active = 0 WHERE jetpack_monitor_site_id = 6",
    );
    let slices = slices(&store, 3).await;
    assert_eq!(looked(&slices), [3, 2, 1]);
    let named: Vec<Drift> = slices
        .iter()
        .flat_map(|slice| slice.named.clone())
        .collect();
    let drift = |id, found, expected| Drift {
        target: target(id),
        found: Some(found),
        expected,
    };
    assert_eq!(named, [drift(2, 1, 2), drift(5, 2, 1)]);
    assert_eq!(status(&backend, 2).0, 1, "as it was left");
    assert_eq!(status(&backend, 5).0, 2);
}

/// Lesson: no status is neither the same as another one nor different from it, and was never found.
#[tokio::test]
async fn a_row_without_a_status_says_something_else_than_our_events() {
    let backend =
        with_sites("(1, 7, 0, 'http://a-1.test/', 1, 5), (2, 7, 0, 'http://a-2.test/', 1, 5)");
    backend.number("ALTER TABLE jetpack_monitor_sites MODIFY site_status TINYINT NULL");
    backend.number(
        "UPDATE jetpack_monitor_sites SET site_status = NULL WHERE jetpack_monitor_site_id = 2",
    );
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let slice = store.legacy_drift(None, 100).await.expect("a slice");
    let without = Drift {
        target: target(2),
        found: None,
        expected: 1,
    };
    assert_eq!((slice.drifted, slice.named), (1, vec![without]));
}

#[tokio::test]
async fn many_that_differ_are_counted_and_few_of_them_named() {
    let sites: Vec<String> = (1..=20)
        .map(|id| format!("({id}, 7, 0, 'http://a-{id}.test/', 1, 5)"))
        .collect();
    let backend = with_sites(&sites.join(", "));
    let store = open_as(&backend.url(), described()).await.expect("opens");
    backend.number("UPDATE jetpack_monitor_sites SET site_status = 2");
    let slice = store.legacy_drift(None, 100).await.expect("a slice");
    assert_eq!(
        (slice.looked, slice.drifted, slice.named.len()),
        (20, 20, 5)
    );
    assert_eq!(slice.last, Some(target(20)));
    let end = store.legacy_drift(slice.last, 100).await.expect("the end");
    assert_eq!(end, DriftSlice::default());
}
