//! Freshness: the later write stays, whatever the wall clock did in between.

use model::{TargetId, UnixMs};
use store::FreshnessRow;

use crate::fixture::{Backend, import_id, open, row, target};

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

pub(crate) async fn old_check_times_of_targets_that_are_gone_are_forgotten_step_by_step<
    B: Backend,
>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows = (1..=30).map(|id| row(id, &format!("http://s-{id}.test/")));
    let imported = store.import(rows.collect(), import_id(1)).await;
    imported.expect("imported");
    // Every third row is not old; one of an old target that is there is switched off.
    let old = |id: i64| if id % 3 == 0 { 500 } else { 499 };
    let rows = (1..=2_600).map(|id| checked(id, old(id), 900)).collect();
    let written = store.write_freshness(rows).await.all();
    assert_eq!(written.expect("written"), 2_600);
    backend.number("UPDATE jetpack_monitor_check_targets SET monitor_active = 0 WHERE id = 7");
    let known = "SELECT COUNT(*) FROM jetpack_monitor_check_targets \
                 WHERE id BETWEEN 1 AND 2600 AND id % 3 <> 0";
    let known = backend.number(known).expect("counted") as u64;
    assert_eq!(known, 20);
    let (mut after, mut steps, mut gone) = (None, Vec::new(), 0);
    loop {
        let (step, next) = store
            .forget_freshness(UnixMs(500), after)
            .await
            .expect("forgotten");
        assert_eq!(step.more, next.is_some());
        steps.push(next.map(TargetId::get));
        gone += step.freshness;
        assert!(step.freshness <= 1_000);
        after = next;
        if next.is_none() {
            break;
        }
    }
    // As long as each deletes few rows, a step may look at many.
    assert!(steps.len() > 1 && steps.is_sorted_by_key(|step| step.unwrap_or(i64::MAX)));
    assert_eq!(gone, 2_600 - 866 - known);
    let left = |which: &str| {
        let sql = format!("SELECT COUNT(*) FROM jetpack_monitor_site_runtime WHERE {which}");
        backend.number(&sql).expect("counted")
    };
    assert_eq!(left("target_id % 3 = 0"), 866);
    assert_eq!(left("target_id % 3 <> 0 AND target_id <= 30"), 20);
    assert_eq!(left("target_id = 7"), 1);
    let (again, _) = store
        .forget_freshness(UnixMs(500), None)
        .await
        .expect("looked");
    assert_eq!(again.freshness, 0);
}
