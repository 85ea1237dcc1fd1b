//! Freshness: the later write stays, whatever the wall clock did in between.

use model::UnixMs;
use store::FreshnessRow;

use crate::fixture::{Backend, open, target};

fn checked(id: i64, last: u64, next: u64) -> FreshnessRow {
    FreshnessRow {
        target: target(id),
        last_checked: UnixMs(last),
        next_check: UnixMs(next),
    }
}

pub(crate) async fn freshness_follows_the_writer_also_when_its_clock_steps_back<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let times = || {
        let column = |name: &str| {
            let sql =
                format!("SELECT {name} FROM jetpack_monitor_site_runtime WHERE target_id = 2");
            backend.number(&sql).expect("a row")
        };
        (column("last_checked_at"), column("next_check_at"))
    };
    let steps = [
        (1_000, 2_000),
        // A second check at the same time, and a later one.
        (1_000, 2_500),
        (9_000, 9_500),
        // The clock was set back: the rows of before the step must not outlive it.
        (900, 1_400),
        (901, 1_500),
    ];
    for (last, next) in steps {
        let row = checked(2, last, next);
        assert_eq!(
            store.write_freshness(vec![row]).await.all().expect("write"),
            1
        );
        assert_eq!(times(), (last as i64, next as i64));
    }
}

pub(crate) async fn many_rows_are_written_in_chunks<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows: Vec<FreshnessRow> = (1..=4_500).rev().map(|id| checked(id, 10, 20)).collect();
    assert_eq!(
        store.write_freshness(rows).await.all().expect("write"),
        4_500
    );
    assert_eq!(
        store
            .write_freshness(Vec::new())
            .await
            .all()
            .expect("nothing"),
        0
    );
    assert_eq!(store.counts().await.expect("counts").freshness, 4_500);
}
