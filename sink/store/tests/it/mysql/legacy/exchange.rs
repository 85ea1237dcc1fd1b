//! Targets that are written into the table of the older system, and read out of it.

use model::{Target, TargetId};
use store::{Legacy, StoreError};

use super::super::Mysql;
use super::{described, name, open_as, with_sites};
use crate::fixture::{Backend, import_id, open, row};

/// Targets of every kind that a legacy row can say, and the one with the id 8, which none can.
fn to_export() -> Vec<store::ImportRow> {
    let mut rows = vec![
        row(5, "http://a.test/"),
        row(1_234, "https://b.test/x?y=\u{fc}"),
    ];
    let rich = model::TargetSpec {
        interval_s: Some(120),
        timeout_ms: Some(3_000),
        method: Some("HEAD".to_owned()),
        profile: Some("legacy".to_owned()),
        group_id: Some(77),
        headers: vec!["X-Env: li\"ve".to_owned()],
        alert_cooldown_min: Some(0),
        maintenance: Some(model::target::Maintenance {
            start_ms: 1_795_222_800_000,
            end_ms: 1_795_226_400_000,
        }),
        ..crate::fixture::spec("http://rich.test/")
    };
    let rules = model::TargetSpec {
        keyword: Some("welcome".to_owned()),
        forbidden: vec!["hacked".to_owned(), "a, b".to_owned()],
        redirect: Some("fail".to_owned()),
        ..crate::fixture::spec("http://rules.test/")
    };
    for (id, spec) in [(6, rich), (7, rules)] {
        rows.push(store::ImportRow {
            id: TargetId::new(id),
            config: spec.parse().expect("valid"),
        });
    }
    let mut odd = row(8, "http://odd.test/");
    odd.config.interval_s = 90;
    rows.push(odd);
    rows
}

#[tokio::test]
async fn what_is_exported_is_read_back_the_same_and_rows_of_others_stay() {
    let backend =
        with_sites("(5, 7, 3, 'http://old.test/', 1, 5), (900, 7, 4, 'http://others.test/', 1, 5)");
    backend.number("UPDATE jetpack_monitor_sites SET site_status = 2");
    let beside = Legacy {
        load: false,
        buckets: 10,
        ..described()
    };
    let store = open_as(&backend.url(), beside.clone())
        .await
        .expect("opens");
    let imported = store
        .import(to_export(), import_id(0))
        .await
        .expect("imported");
    assert_eq!((imported.inserted, imported.refused.len()), (5, 0));
    let own = store
        .targets(None, 100, true)
        .await
        .expect("a page")
        .targets;
    for (inserted, updated) in [(3, 1), (0, 4)] {
        let report = store.put_legacy(own.clone()).await.expect("exported");
        assert_eq!((report.inserted, report.updated), (inserted, updated));
        let refused: Vec<i64> = report.refused.iter().map(|(id, _)| *id).collect();
        assert_eq!(refused, [8]);
    }
    let page = store.legacy_targets(None, 100, true).await.expect("a page");
    assert_eq!(page.refused, []);
    let configs = |targets: &[Target], but: i64| -> Vec<_> {
        let kept = targets.iter().filter(|target| target.id.get() != but);
        kept.map(|target| (target.id, target.config.clone()))
            .collect()
    };
    assert_eq!(configs(&page.targets, 900), configs(&own, 8));
    let of = |what: &str| {
        let sql = format!(
            "SELECT CAST({what} AS SIGNED) FROM jetpack_monitor_sites \
             WHERE jetpack_monitor_site_id = 5"
        );
        backend.number(&sql)
    };
    assert_eq!((of("bucket_no"), of("site_status")), (Some(3), Some(2)));
    let bucket = "SELECT CAST(bucket_no AS SIGNED) FROM jetpack_monitor_sites \
        WHERE jetpack_monitor_site_id = 1234";
    assert_eq!(backend.number(bucket), Some(4));
    let others =
        "SELECT COUNT(*) FROM jetpack_monitor_sites WHERE monitor_url = 'http://others.test/'";
    assert_eq!(backend.number(others), Some(1));
    // Rows of settings only where a default would not do.
    let settings = "SELECT COUNT(*) FROM jetpack_monitor_site_check_config";
    assert_eq!(backend.number(settings), Some(2));
}

/// Lesson: a target without a window took the one of its blog with it.
#[tokio::test]
async fn a_target_without_a_window_has_none_where_its_blog_has_one() {
    let backend = with_sites("(5, 77, 3, 'http://old.test/', 1, 5)");
    backend.number("CREATE TABLE blog_settings LIKE jetpack_monitor_site_check_config");
    backend.number(
        "ALTER TABLE blog_settings DROP PRIMARY KEY, DROP COLUMN source_site_id, \
         ADD PRIMARY KEY (blog_id)",
    );
    backend.number(
        "INSERT INTO blog_settings (blog_id, maintenance_start, maintenance_end) VALUES \
         (77, '2026-11-21 01:00:00', '2036-11-21 02:00:00')",
    );
    let beside = Legacy {
        load: false,
        blog_config_table: Some(name("blog_settings")),
        ..described()
    };
    let store = open_as(&backend.url(), beside).await.expect("opens");
    let mut plain = row(5, "http://a.test/");
    plain.config.group_id = 77;
    let imported = store.import(vec![plain], import_id(0)).await;
    assert_eq!(imported.expect("imported").inserted, 1);
    let own = store.targets(None, 9, true).await.expect("a page").targets;
    store.put_legacy(own.clone()).await.expect("exported");
    let page = store.legacy_targets(None, 9, true).await.expect("a page");
    assert_eq!(page.targets[0].config, own[0].config);
    assert_eq!(page.targets[0].config.maintenance, None);
}

#[tokio::test]
async fn without_a_described_table_there_is_nothing_to_exchange() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let error = store
        .legacy_targets(None, 10, true)
        .await
        .expect_err("none");
    assert!(matches!(error, StoreError::NoLegacy { .. }), "{error}");
    let error = store.put_legacy(Vec::new()).await.expect_err("none");
    assert!(error.to_string().contains("under [legacy]"), "{error}");
}
