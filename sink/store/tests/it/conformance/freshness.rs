//! Freshness: the newest check wins, whatever comes late.

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

pub(crate) async fn freshness_never_goes_backwards<B: Backend>() {
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
        (checked(2, 1_000, 2_000), 1, (1_000, 2_000)),
        (checked(2, 900, 9_000), 0, (1_000, 2_000)),
        (checked(2, 1_000, 2_500), 1, (1_000, 2_500)),
        (checked(2, 1_001, 1_500), 1, (1_001, 1_500)),
    ];
    for (row, written, expected) in steps {
        assert_eq!(
            store.write_freshness(vec![row]).await.expect("write"),
            written
        );
        assert_eq!(times(), expected);
    }
}

pub(crate) async fn many_rows_are_written_in_chunks<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows: Vec<FreshnessRow> = (1..=2_500).rev().map(|id| checked(id, 10, 20)).collect();
    assert_eq!(store.write_freshness(rows).await.expect("write"), 2_500);
    assert_eq!(store.write_freshness(Vec::new()).await.expect("nothing"), 0);
    assert_eq!(store.counts().await.expect("counts").freshness, 2_500);
}
