//! Targets: import, prune, pages by id and pages by change.

use model::ids::Generation;
use model::target::{Maintenance, Method, TargetConfig};
use model::{Check, Target, TargetId, TargetSpec, UnixMs};
use store::{FoundTargets, ImportPart, ImportReport, ImportRow, Store, StoreError, Switched};

use crate::fixture::{Backend, config, import_id, open, row, sites, spec, target};

async fn all(store: &Store, page_rows: usize, only_active: bool) -> Vec<Target> {
    let (mut targets, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .targets(after, page_rows, only_active)
            .await
            .expect("a page");
        assert_eq!(page.refused, []);
        targets.extend(page.targets);
        match page.last {
            Some(last) => after = Some(last),
            None => return targets,
        }
    }
}

async fn changes(store: &Store, mut after: u64, page_rows: usize) -> (Vec<Target>, u64) {
    let mut targets = Vec::new();
    loop {
        let page = store.changes(after, page_rows).await.expect("a page");
        targets.extend(page.targets);
        if page.latest_change == after {
            return (targets, after);
        }
        assert!(page.latest_change > after);
        after = page.latest_change;
    }
}

fn tally(report: &ImportReport) -> (u64, u64, u64, usize) {
    (
        report.inserted,
        report.updated,
        report.unchanged,
        report.refused.len(),
    )
}

fn full_spec() -> TargetSpec {
    TargetSpec {
        name: Some("b\u{00fc}cher".into()),
        group_id: Some(i64::MAX as u64),
        interval_s: Some(60),
        method: Some("get".into()),
        timeout_ms: Some(2_500),
        redirect: Some("fail".into()),
        keyword: Some("O'Neill \"x\"\n%".into()),
        forbidden: vec!["a,b".into(), "[\"c\"]".into()],
        headers: vec!["X-A: b: c".into(), "X-E:".into()],
        expect_status: Some("300-399,204".into()),
        maintenance: Some(Maintenance {
            start_ms: 5,
            end_ms: 10,
        }),
        alert_cooldown_min: Some(-1),
        max_latency_ms: Some(1_500),
        ..spec("https://b\u{00fc}cher.test:8443/a?b=c")
    }
}

pub(crate) async fn a_target_comes_back_with_every_field<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let full = full_spec().parse().expect("valid");
    let rows = vec![
        ImportRow {
            id: TargetId::new(i64::MAX),
            config: full,
        },
        row(3, "http://[::1]:8080/"),
    ];
    store
        .import(rows.clone(), import_id(0))
        .await
        .expect("import");
    let expected: Vec<Target> = rows
        .into_iter()
        .rev()
        .map(|row| Target {
            id: row.id.expect("given"),
            generation: Generation(1),
            active: true,
            config: row.config,
        })
        .collect();
    assert_eq!(all(&store, 1, true).await, expected);
    let again = store
        .import(
            vec![ImportRow {
                id: None,
                config: expected[1].config.clone(),
            }],
            import_id(1),
        )
        .await
        .expect("import");
    assert_eq!(
        tally(&again),
        (0, 0, 1, 0),
        "what comes out is what went in"
    );
}

fn with_expectations(url: &str, send: Option<&str>, expect: &[&str]) -> TargetConfig {
    let target = TargetSpec {
        send: send.map(str::to_owned),
        expect: expect.iter().map(|&text| text.to_owned()).collect(),
        ..spec(url)
    };
    target.parse().expect("valid")
}

pub(crate) async fn every_kind_of_check_comes_back_and_has_a_key_of_its_own<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let configs = [
        config("http://a.test/"),
        config("tcp://a.test:443"),
        config("tcp://a.test:80"),
        config("tls://a.test"),
        with_expectations("tcp://b.test:25", None, &["220 "]),
        with_expectations("tcp://c.test:25", Some(r"\\a\x00\xff\r\n"), &[r"\x80"]),
        with_expectations("tcp://d.test:25", Some("x"), &[]),
        config("dns://a.test"),
        with_expectations("dns://a.test?type=MX", None, &["10 m.test", "20 n.test"]),
        with_expectations("dns://a.test?type=TXT", None, &["v=x \"y\""]),
    ];
    let rows = |configs: &[TargetConfig]| -> Vec<ImportRow> {
        let row = |config: &TargetConfig| ImportRow {
            id: None,
            config: config.clone(),
        };
        configs.iter().map(row).collect()
    };
    let count = configs.len() as u64;
    for (day, expected) in [(0, (count, 0, 0, 0)), (1, (0, 0, count, 0))] {
        let report = store.import(rows(&configs), import_id(day)).await;
        assert_eq!(tally(&report.expect("import")), expected);
    }
    let stored = all(&store, 3, true).await;
    let came_back: Vec<TargetConfig> = stored.into_iter().map(|target| target.config).collect();
    assert_eq!(came_back, configs);
    // What is expected is no part of the key, and another expectation is another probe.
    let changed = [with_expectations("tcp://b.test:25", None, &["421 "])];
    let report = store.import(rows(&changed), import_id(2)).await;
    assert_eq!(tally(&report.expect("import")), (0, 1, 0, 0));
    let stored = all(&store, 9, true).await;
    let target = &stored[4];
    assert_eq!(
        (&target.config, target.generation),
        (&changed[0], Generation(2))
    );
}

pub(crate) async fn each_field_alone_comes_back<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let full = full_spec();
    let set: [fn(&mut TargetSpec, TargetSpec); 15] = [
        |spec, full| spec.name = full.name,
        |spec, full| spec.group_id = full.group_id,
        |spec, full| spec.interval_s = full.interval_s,
        |spec, _| spec.method = Some("head".into()),
        |spec, _| spec.profile = Some("simple".into()),
        |spec, _| spec.profile = Some("legacy".into()),
        |spec, full| spec.timeout_ms = full.timeout_ms,
        |spec, full| spec.redirect = full.redirect,
        |spec, full| spec.keyword = full.keyword,
        |spec, full| spec.forbidden = full.forbidden,
        |spec, full| spec.headers = full.headers,
        |spec, full| spec.expect_status = full.expect_status,
        |spec, full| spec.maintenance = full.maintenance,
        |spec, full| spec.alert_cooldown_min = full.alert_cooldown_min,
        |spec, full| spec.max_latency_ms = full.max_latency_ms,
    ];
    let rows: Vec<ImportRow> = (1..)
        .zip(set)
        .map(|(id, set)| {
            let mut spec = spec(&format!("http://s-{id}.test/"));
            set(&mut spec, full.clone());
            ImportRow {
                id: TargetId::new(id),
                config: spec.parse().expect("valid"),
            }
        })
        .collect();
    store
        .import(rows.clone(), import_id(0))
        .await
        .expect("import");
    let stored = all(&store, 4, true).await;
    for (row, target) in rows.iter().zip(&stored) {
        assert_eq!(row.config, target.config);
    }
    assert_eq!(stored.len(), rows.len());
    let again = store.import(rows, import_id(1)).await.expect("import");
    assert_eq!(tally(&again), (0, 0, 15, 0));
}

pub(crate) async fn ids_are_minted_once_and_kept_under_the_key<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(3), import_id(0)).await.expect("import");
    let first = all(&store, 10, true).await;
    let mut rows = sites(4);
    rows.rotate_left(2);
    rows[0].config.interval_s = 77;
    let mut head = rows[0].clone();
    let Check::Http(http) = &mut head.config.check else {
        panic!("sites are pages")
    };
    http.method = Method::Head;
    let mut named = rows[0].clone();
    named.config.name = String::from("second");
    rows.extend([head, named]);
    let report = store.import(rows, import_id(1)).await.expect("import");
    assert_eq!(
        tally(&report),
        (3, 1, 2, 0),
        "method and name are part of the key"
    );
    drop(store);
    let store = open(&backend).await;
    let second = all(&store, 10, true).await;
    let ids = |targets: &[Target]| -> Vec<TargetId> { targets.iter().map(|t| t.id).collect() };
    assert_eq!(ids(&second[..3]), ids(&first));
    assert_eq!(second.len(), 6);
}

pub(crate) async fn an_unchanged_row_is_not_rewritten<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(10), import_id(0)).await.expect("import");
    let before = store.counts().await.expect("counts").latest_change;
    let report = store.import(sites(10), import_id(1)).await.expect("import");
    assert_eq!(tally(&report), (0, 0, 10, 0));
    assert_eq!(store.counts().await.expect("counts").latest_change, before);
    assert_eq!(
        store.changes(before, 10).await.expect("changes").targets,
        []
    );
}

pub(crate) async fn the_generation_rises_only_with_what_is_probed<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let base = || ImportRow {
        id: TargetId::new(9),
        config: config("http://a.test/"),
    };
    store
        .import(vec![base()], import_id(0))
        .await
        .expect("import");
    let mut kept = base();
    kept.config.group_id = 4;
    kept.config.alert_cooldown_min = 0;
    kept.config.maintenance = Some(Maintenance {
        start_ms: 1,
        end_ms: 2,
    });
    kept.config.name = String::from("other");
    let mut probed = kept.clone();
    probed.config.timeout_ms = 500;
    let mut moved = probed.clone();
    moved.config.check = config("http://b.test/").check;
    for (step, (row, generation)) in (1..).zip([(kept, 1), (probed, 2), (moved, 3)]) {
        let report = store
            .import(vec![row.clone()], import_id(step))
            .await
            .expect("import");
        assert_eq!(tally(&report), (0, 1, 0, 0));
        let [stored] = all(&store, 5, true).await.try_into().expect("one target");
        assert_eq!(
            (stored.generation, stored.config),
            (Generation(generation), row.config)
        );
    }
    assert_eq!(store.counts().await.expect("counts").latest_change, 4);
}

pub(crate) async fn an_id_that_takes_the_key_of_another_is_refused<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows = vec![row(1, "http://a.test/"), row(2, "http://b.test/")];
    store.import(rows, import_id(0)).await.expect("import");
    let rows = vec![
        row(3, "http://c.test/"),
        row(2, "http://a.test/"),
        row(4, "http://b.test/"),
    ];
    let report = store.import(rows, import_id(1)).await.expect("import");
    assert_eq!(tally(&report), (1, 0, 0, 2));
    let places: Vec<usize> = report.refused.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, [1, 2]);
    for (_, why) in &report.refused {
        assert_eq!(why.field, "id");
        assert!(why.accepted.contains("another name"), "{why}");
    }
    // Rows that were meant by a refused row survive the prune: nothing is lost by a bad list.
    assert_eq!(store.prune(import_id(1)).await.expect("prune"), 0);
}

pub(crate) async fn two_different_rows_for_one_target_are_refused<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut second = row(0, "http://a.test/");
    second.config.interval_s = 10;
    let rows = vec![
        row(0, "http://a.test"),
        row(0, "HTTP://A.test:80/"),
        second.clone(),
    ];
    let report = store.import(rows, import_id(0)).await.expect("import");
    assert_eq!(tally(&report), (1, 0, 1, 1));
    assert_eq!(
        (report.refused[0].0, report.refused[0].1.field),
        (2, "name")
    );
    let rows = vec![row(5, "http://b.test/"), row(5, "http://c.test/")];
    let report = store.import(rows, import_id(0)).await.expect("import");
    assert_eq!((report.refused[0].0, report.refused[0].1.field), (1, "id"));
    let report = store
        .import(vec![second], import_id(1))
        .await
        .expect("a later import");
    assert_eq!(tally(&report), (0, 1, 0, 0));
}

pub(crate) async fn a_whole_list_is_kept_or_nothing_of_it<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let kept = store.import(vec![row(3, "http://three.test/")], import_id(0));
    kept.await.expect("imported");
    let before = store.counts().await.expect("counted");
    let named = |name: &str, url: &str| ImportRow {
        id: None,
        config: TargetSpec {
            name: Some(name.to_owned()),
            interval_s: Some(60),
            ..spec(url)
        }
        .parse()
        .expect("valid"),
    };
    let whole = async |parts: Vec<ImportPart>| {
        let (sender, receiver) = tokio::sync::mpsc::channel(parts.len().max(1));
        for part in parts {
            sender.try_send(part).expect("room");
        }
        drop(sender);
        store
            .import_whole(receiver, import_id(1))
            .await
            .expect("imported")
    };
    let end = |keep| ImportPart::End { keep };
    // Refused across parts: another row for one key, and an id for the key of another.
    let first = ImportPart::Rows(sites(3));
    let second = ImportPart::Rows(vec![
        named("", "http://s-1.test/"),
        row(9, "http://three.test/"),
    ]);
    let report = whole(vec![first.clone(), second, end(true)]).await;
    let report = report.expect("the parts ended");
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|(at, e)| (*at, e.field))
        .collect();
    assert_eq!(refused, [(3, "name"), (4, "id")]);
    // Only looked at, and cut off.
    let looked = whole(vec![first.clone(), end(false)]).await;
    assert_eq!(looked.map(|report| report.inserted), Some(3));
    assert_eq!(whole(vec![first.clone()]).await, None);
    assert_eq!(store.counts().await.expect("counted"), before);
    let kept = whole(vec![first, end(true)]).await.expect("kept");
    assert_eq!(tally(&kept), (3, 0, 0, 0));
    assert_eq!(store.counts().await.expect("counted").targets, 4);
    assert_eq!(store.prune(import_id(1)).await.expect("pruned"), 1);
}

pub(crate) async fn minted_ids_go_around_given_ones<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut rows = vec![
        row(1, "http://a.test/"),
        row(2, "http://b.test/"),
        row(1 << 53, "http://c.test/"),
        row(i64::MAX, "http://d.test/"),
    ];
    rows.extend(sites(3));
    let report = store.import(rows, import_id(0)).await.expect("import");
    assert_eq!(tally(&report), (7, 0, 0, 0));
    let ids: Vec<i64> = all(&store, 10, true)
        .await
        .iter()
        .map(|t| t.id.get())
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 1 << 53, i64::MAX]);
    let report = store
        .import(vec![row((1 << 53) - 1, "http://e.test/")], import_id(1))
        .await;
    assert_eq!(tally(&report.expect("import")), (1, 0, 0, 0));
}

pub(crate) async fn numbers_that_no_database_holds_are_refused<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    let mut group = row(1, "http://a.test/");
    group.config.group_id = u64::MAX;
    let mut window = row(2, "http://b.test/");
    window.config.maintenance = Some(Maintenance {
        start_ms: 1,
        end_ms: u64::MAX,
    });
    let report = store
        .import(vec![group, window], import_id(0))
        .await
        .expect("import");
    let fields: Vec<&str> = report.refused.iter().map(|(_, why)| why.field).collect();
    assert_eq!(fields, ["group_id", "maintenance"]);
    assert_eq!(store.counts().await.expect("counts").targets, 0);
}

pub(crate) async fn prune_switches_off_what_the_import_did_not_name<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(6), import_id(0)).await.expect("import");
    let before = store.counts().await.expect("counts").latest_change;
    let mut kept = sites(6);
    let absent = kept.split_off(4);
    let (first, second) = (kept[..1].to_vec(), kept[1..].to_vec());
    store.import(first, import_id(1)).await.expect("a chunk");
    store.import(second, import_id(1)).await.expect("another");
    assert_eq!(store.prune(import_id(1)).await.expect("prune"), 2);
    assert_eq!(all(&store, 3, true).await.len(), 4);
    let (changed, _) = changes(&store, before, 1).await;
    assert!(changed.len() == 2 && changed.iter().all(|target| !target.active));
    // What comes back is the same target, of the same generation.
    let report = store.import(absent, import_id(2)).await.expect("import");
    assert_eq!(tally(&report), (0, 2, 0, 0));
    let back = all(&store, 3, true).await;
    assert!(back.len() == 6 && back.iter().all(|t| t.generation == Generation(1)));
}

pub(crate) async fn pruning_an_empty_import_is_refused<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(2), import_id(0)).await.expect("import");
    store.prune(import_id(0)).await.expect("prune");
    // More than one chunk's worth that ended without a prune.
    store
        .import(sites(4_500), import_id(2))
        .await
        .expect("import");
    store.end_import(import_id(2)).await.expect("ended");
    for import in [import_id(0), import_id(1), import_id(2)] {
        let refused = store.prune(import).await.expect_err("nothing was imported");
        assert!(matches!(refused, StoreError::NothingImported), "{refused}");
    }
    assert_eq!(store.counts().await.expect("counts").active, 4_500);
}

/// Lesson: all members of an import that was given up went in the first transaction of the next
/// one, which with millions of them took longer than a statement may.
pub(crate) async fn an_import_that_was_given_up_is_forgotten_in_bounded_steps<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    for rows in sites(12_000).chunks(4_000) {
        store
            .import(rows.to_vec(), import_id(0))
            .await
            .expect("import");
    }
    let members = || backend.number("SELECT COUNT(*) FROM jetpack_monitor_import_members");
    assert_eq!(members(), Some(12_000));
    for left in [2_000 + 1, 1] {
        store.import(sites(1), import_id(2)).await.expect("import");
        assert_eq!(members(), Some(left));
    }
}

pub(crate) async fn pages_hold_each_target_once<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(25), import_id(0)).await.expect("import");
    store.import(sites(20), import_id(1)).await.expect("import");
    store.prune(import_id(1)).await.expect("prune");
    for page_rows in [1, 7, 25, 100] {
        for (only_active, count) in [(true, 20), (false, 25)] {
            let targets = all(&store, page_rows, only_active).await;
            assert_eq!(targets.len(), count);
            assert!(targets.windows(2).all(|pair| pair[0].id < pair[1].id));
        }
    }
    let beyond = store
        .targets(Some(target(i64::MAX)), 5, false)
        .await
        .expect("a page");
    assert_eq!((beyond.targets.len(), beyond.last), (0, None));
    assert_eq!(beyond.latest_change, 30);
}

pub(crate) async fn change_pages_cover_every_change<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    store.import(sites(9), import_id(0)).await.expect("import");
    let (first, seen) = changes(&store, 0, 4).await;
    assert_eq!(first.len(), 9);
    let mut rows = sites(9);
    for site in [8, 2, 5] {
        rows[site].config.interval_s = 60;
        store
            .import(vec![rows[site].clone()], import_id(1))
            .await
            .expect("import");
    }
    let (changed, last) = changes(&store, seen, 2).await;
    let urls: Vec<String> = changed.iter().map(|t| t.config.check.to_string()).collect();
    assert_eq!(
        urls,
        ["http://s-8.test/", "http://s-2.test/", "http://s-5.test/"]
    );
    assert_eq!(last, store.counts().await.expect("counts").latest_change);
    let beyond = store.changes(u64::MAX, 5).await.expect("a page");
    assert_eq!((beyond.targets.len(), beyond.latest_change), (0, u64::MAX));
}

pub(crate) async fn targets_are_found_by_their_ids_whatever_they_are<B: Backend>() {
    let backend = B::fresh();
    let store = open(&backend).await;
    // More than one request reads.
    let count = 1_203;
    let import = import_id(0);
    let imported = store.import(sites(count), import).await.expect("imported");
    assert_eq!(imported.inserted, count as u64);
    let all = all(&store, 5_000, false).await;
    let paused = all[7].id;
    let by = "ann".to_owned();
    let switched = store.pause_target(paused, by, UnixMs(1)).await;
    assert_eq!(switched.expect("paused"), Switched::Done);
    let absent = target(i64::MAX);
    let mut wanted: Vec<TargetId> = all.iter().rev().map(|target| target.id).collect();
    wanted.insert(600, absent);
    let mut found = store.targets_by_ids(wanted).await.expect("read");
    assert_eq!(found.refused, []);
    found.targets.sort_unstable_by_key(|target| target.id);
    let mut expected = all;
    expected[7].active = false;
    assert_eq!(found.targets, expected);
    let nobody = store.targets_by_ids(vec![absent]).await.expect("read");
    assert_eq!(nobody, FoundTargets::default());
    let none = store.targets_by_ids(Vec::new()).await.expect("read");
    assert_eq!(none, FoundTargets::default());
}

/// Lesson: a row that was made a bad one and switched off was refused, and the target that it had
/// been was checked for ever.
pub(crate) async fn a_bad_row_that_is_switched_off_is_no_bad_one_any_more<B: Backend>() {
    let backend = B::fresh();
    let store = Store::open(&backend.url()).await.expect("opens");
    let rows = vec![row(7, "http://a.test/"), row(8, "http://b.test/")];
    store.import(rows, import_id(1)).await.expect("imported");
    let latest = store.changes(0, 10).await.expect("a page").latest_change;
    for (id, active) in [(7, 1), (8, 0)] {
        backend.number(&format!(
            "UPDATE jetpack_monitor_check_targets SET monitor_url = 'nonsense-{id}', \
             monitor_active = {active}, change_number = {} WHERE id = {id}",
            latest + id
        ));
    }
    let page = store.changes(latest, 10).await.expect("a page");
    let refused: Vec<i64> = page.refused.iter().map(|(id, _)| *id).collect();
    assert_eq!((page.targets, refused), (vec![], vec![7]));
    assert_eq!(
        (page.off, page.latest_change),
        (vec![target(8)], latest + 8)
    );
}
