//! The tables of an older system: its rows as targets, and what is written back to them.

mod drift;
mod exchange;
mod freshness;
mod rows;
mod stream;

use std::sync::Arc;

use model::target::{Method, Profile};
use model::{Target, TargetId, UnixMs};
use store::{
    FreshnessRow, Legacy, LegacyColumns, LegacyFreshness, Name, OpenOptions, Store, StoreError,
    StoreUrl,
};

use super::{Mysql, url};
use crate::fixture::{Backend, Incident, Writer, batch, import_id, row, target};
use rig::mariadb::{self, Server};

/// The table as it is in production.
pub(super) const SITES: &str = "CREATE TABLE jetpack_monitor_sites (
    jetpack_monitor_site_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    blog_id BIGINT UNSIGNED NOT NULL,
    bucket_no SMALLINT UNSIGNED NOT NULL,
    monitor_url VARCHAR(300) NOT NULL,
    monitor_active TINYINT UNSIGNED NOT NULL DEFAULT 1,
    site_status TINYINT UNSIGNED NOT NULL DEFAULT 1,
    last_status_change TIMESTAMP NULL DEFAULT NULL,
    check_interval TINYINT UNSIGNED NOT NULL DEFAULT 5,
    PRIMARY KEY (jetpack_monitor_site_id),
    KEY blog_id_monitor_url (blog_id, monitor_url),
    KEY bucket_no_monitor_active_check_interval (bucket_no, monitor_active, check_interval)
) ENGINE=InnoDB DEFAULT CHARSET=latin1";

fn name(text: &str) -> Name {
    text.parse().expect(text)
}

pub(super) fn described() -> Legacy {
    Legacy {
        load: true,
        table: name("jetpack_monitor_sites"),
        columns: LegacyColumns {
            id: name("jetpack_monitor_site_id"),
            group: name("blog_id"),
            bucket: name("bucket_no"),
            url: name("monitor_url"),
            active: name("monitor_active"),
            interval: name("check_interval"),
            status: name("site_status"),
            status_changed: name("last_status_change"),
            last_checked: name("last_checked_at"),
            next_check: name("next_check_at"),
        },
        config_table: None,
        blog_config_table: None,
        status: true,
        freshness: LegacyFreshness::Sidecar,
        buckets: 1_000,
    }
}

/// With the right to write.
pub(super) async fn open_as(address: &StoreUrl, legacy: Legacy) -> Result<Writer, StoreError> {
    let store = open_without_claim(address, legacy).await?;
    Ok(Writer::of(store).await)
}

async fn open_without_claim(address: &StoreUrl, legacy: Legacy) -> Result<Store, StoreError> {
    let options = OpenOptions {
        legacy: Some(Arc::new(legacy)),
        ..OpenOptions::default()
    };
    Store::open_with(address, options).await
}

/// A database with the legacy table and these rows: id, blog, URL, active, minutes.
fn with_sites(sites: &str) -> Mysql {
    let backend = Mysql::fresh();
    backend.number(SITES);
    insert(&backend, sites);
    backend
}

fn insert(backend: &Mysql, sites: &str) {
    backend.number(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active, check_interval) VALUES {sites}"
    ));
}

async fn all(store: &Store, page_rows: usize) -> (Vec<Target>, Vec<i64>) {
    let (mut targets, mut refused, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = store.targets(after, page_rows, true).await.expect("a page");
        targets.extend(page.targets);
        refused.extend(page.refused.into_iter().map(|(id, _)| id));
        match page.last {
            Some(last) => after = Some(last),
            None => return (targets, refused),
        }
    }
}

/// Status and seconds of its last change of the site `id`.
fn status(backend: &Mysql, id: i64) -> (i64, i64) {
    let read = |column: &str| {
        let sql = format!(
            "SELECT {column} FROM jetpack_monitor_sites WHERE jetpack_monitor_site_id = {id}"
        );
        backend.number(&sql).expect("a row")
    };
    let changed = "CAST(COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01', last_status_change), 0) \
        AS SIGNED)";
    (read("CAST(site_status AS SIGNED)"), read(changed))
}

fn fresh(id: i64, last_ms: u64) -> FreshnessRow {
    FreshnessRow {
        target: target(id),
        last_checked: UnixMs(last_ms),
        next_check: UnixMs(last_ms + 285_000),
    }
}

#[tokio::test]
async fn active_rows_are_targets_page_by_page_and_a_bad_one_does_not_keep_the_rest_away() {
    let backend = with_sites(
        "(3, 900, 1, 'http://a.test/', 1, 5), (5, 900, 1, 'http://a.test/x', 1, 1),
         (6, 901, 1, 'nonsense', 1, 5), (7, 902, 1, 'http://off.test/', 0, 5),
         (8, 903, 1, 'https://u:s3cret@b.test/', 1, 5),
         (4000000000, 904, 1, 'http://c.test/', 1, 0)",
    );
    let store = open_as(&backend.url(), described()).await.expect("opens");
    for page_rows in [1, 2, 100] {
        let (targets, refused) = all(&store, page_rows).await;
        let seen: Vec<(i64, u64, u32)> = targets
            .iter()
            .map(|target| {
                let config = &target.config;
                (target.id.get(), config.group_id, config.interval_s)
            })
            .collect();
        let expected = [(3, 900, 300), (5, 900, 60), (4_000_000_000, 904, 300)];
        assert_eq!(seen, expected, "{page_rows}");
        assert_eq!(refused, [6, 8]);
    }
    let page = store.targets(None, 100, false).await.expect("a page");
    assert_eq!(
        page.targets.iter().filter(|target| !target.active).count(),
        1
    );
    for (_, why) in &page.refused {
        assert!(!why.to_string().contains("s3cret"), "{why}");
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.targets, counts.active), (6, 5));
    assert_eq!(store.active_targets().await.expect("counted"), 5);
}

#[tokio::test]
async fn settings_of_a_target_go_before_those_of_its_blog_and_null_inherits() {
    let backend = with_sites(
        "(1, 7, 0, 'http://a.test/', 1, 5), (2, 7, 0, 'http://b.test/', 1, 5),
         (3, 8, 0, 'http://c.test/', 1, 5)",
    );
    backend.number(
        "CREATE TABLE blog_settings (blog_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
         request_method ENUM('HEAD','GET') NULL,
         detection_profile ENUM('legacy','simple_http','full') NULL,
         check_keyword VARCHAR(500) NULL, forbidden_keyword VARCHAR(500) NULL,
         forbidden_keywords JSON NULL, maintenance_start DATETIME NULL,
         maintenance_end DATETIME NULL, custom_headers JSON NULL,
         timeout_seconds TINYINT UNSIGNED NULL, redirect_policy ENUM('follow','alert','fail') NULL,
         alert_cooldown_minutes SMALLINT UNSIGNED NULL) CHARSET=latin1",
    );
    backend.number(
        "INSERT INTO blog_settings (blog_id, request_method, timeout_seconds, custom_headers,
         detection_profile) VALUES (7, 'HEAD', 20, '{\"X-Env\": \"live\"}', 'simple_http')",
    );
    backend.number(
        "INSERT INTO jetpack_monitor_site_check_config (source_site_id, blog_id, timeout_seconds,
         maintenance_start, maintenance_end) VALUES
         (1, 7, 3, '2026-11-21 01:00:00', '2026-11-21 02:00:00')",
    );
    let legacy = Legacy {
        blog_config_table: Some(name("blog_settings")),
        ..described()
    };
    let store = open_as(&backend.url(), legacy).await.expect("opens");
    let (targets, _) = all(&store, 100).await;
    let timeouts: Vec<u32> = targets
        .iter()
        .map(|target| target.config.timeout_ms)
        .collect();
    assert_eq!(timeouts, [3_000, 20_000, 10_000]);
    let methods: Vec<(Method, Profile)> = targets
        .iter()
        .filter_map(|target| target.config.check.http())
        .map(|http| (http.method, http.profile))
        .collect();
    let (head, get) = (Method::Head, Method::Get);
    let expected = [
        (head, Profile::Simple),
        (head, Profile::Simple),
        (get, Profile::Full),
    ];
    assert_eq!(methods, expected);
    let headers: Vec<usize> = targets
        .iter()
        .filter_map(|target| target.config.check.http())
        .map(|http| http.headers.len())
        .collect();
    assert_eq!(headers, [1, 1, 0]);
    let window = targets[0].config.maintenance.expect("a window");
    assert_eq!(window.start_ms, 1_795_222_800_000);
    assert_eq!(window.end_ms - window.start_ms, 3_600_000);
}

#[tokio::test]
async fn the_table_is_never_altered_and_its_other_columns_never_written() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let structure = "SELECT CRC32(GROUP_CONCAT(column_name, column_type, extra ORDER BY \
        ordinal_position)) FROM information_schema.columns WHERE table_schema = DATABASE() \
        AND table_name = 'jetpack_monitor_sites'";
    let row_of = "SELECT CRC32(CONCAT_WS('|', blog_id, bucket_no, monitor_url, monitor_active, \
        check_interval)) FROM jetpack_monitor_sites";
    let before = (backend.number(structure), backend.number(row_of));
    assert!(before.0.is_some() && before.1.is_some());
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let mut incident = Incident::of(target(5), 1);
    let facts = batch(1, &[incident.open(), incident.confirm(), incident.close()]);
    store.apply(&facts).await.expect("applied");
    store
        .write_freshness(vec![fresh(5, 1_000)])
        .await
        .all()
        .expect("written");
    store.close().await.expect("closed");
    Store::migrate(&backend.url()).await.expect("nothing to do");
    assert_eq!((backend.number(structure), backend.number(row_of)), before);
}

/// D.5.1: 0 with an open Seems Down, 2 with an open Down, 1 with none, in the event's transaction.
#[tokio::test]
async fn the_status_of_a_row_follows_its_events_with_the_time_of_the_change() {
    let backend =
        with_sites("(5, 7, 0, 'http://a.test/', 1, 5), (6, 7, 0, 'http://b.test/', 1, 5)");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let mut incident = Incident::of(target(5), 1);
    for (seq, (expected, fact)) in [
        (0, incident.open()),
        (2, incident.confirm()),
        (1, incident.close()),
    ]
    .into_iter()
    .enumerate()
    {
        let changed_at = crate::fixture::transition(&fact).changed_at;
        let facts = batch(seq as u64 + 1, &[fact]);
        store.apply(&facts).await.expect("applied");
        let changed = (changed_at.0 / 1_000) as i64;
        assert_eq!(status(&backend, 5), (expected, changed));
        assert_eq!(
            status(&backend, 6),
            (1, 0),
            "another endpoint of the same blog"
        );
    }
}

/// D.5.1: what is the case already is not written again.
#[tokio::test]
async fn nothing_is_written_for_what_was_known() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let mut incident = Incident::of(target(5), 1);
    let opened = incident.open();
    store
        .apply(&batch(1, std::slice::from_ref(&opened)))
        .await
        .expect("applied");
    // Somebody repaired it by hand: counts and facts that come again are no changes.
    backend.number("UPDATE jetpack_monitor_sites SET site_status = 1, last_status_change = NULL");
    let again = batch(2, &[opened, incident.count(2)]);
    let applied = store.apply(&again).await.expect("applied");
    assert_eq!((applied.transitions, applied.counted), (0, 1));
    assert_eq!(status(&backend, 5), (1, 0));
    // Nor is the time moved where the status is right already.
    backend.number("UPDATE jetpack_monitor_sites SET site_status = 2");
    store
        .apply(&batch(3, &[incident.confirm()]))
        .await
        .expect("applied");
    assert_eq!(status(&backend, 5), (2, 0));
}

/// The status and the event are one transaction: with the one the other is undone.
#[tokio::test]
async fn a_status_that_cannot_be_written_undoes_its_event() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    backend.number("RENAME TABLE jetpack_monitor_sites TO elsewhere");
    store.apply(&facts).await.expect_err("no table");
    let looking = Store::open(&backend.url()).await.expect("opens");
    let counts = looking.counts().await.expect("counts");
    assert_eq!((counts.events, counts.transitions, counts.jobs), (0, 0, 0));
    backend.number("RENAME TABLE elsewhere TO jetpack_monitor_sites");
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
    assert_eq!(status(&backend, 5).0, 0);
}

#[tokio::test]
async fn without_its_switch_or_its_row_no_status_is_written() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let legacy = Legacy {
        status: false,
        ..described()
    };
    let store = open_as(&backend.url(), legacy).await.expect("opens");
    let mut incident = Incident::of(target(5), 1);
    store
        .apply(&batch(1, &[incident.open()]))
        .await
        .expect("applied");
    assert_eq!(status(&backend, 5), (1, 0));
    store.close().await.expect("closed");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    // A target that somebody deleted: its incident is kept all the same.
    let gone = batch(2, &[Incident::of(target(99), 1).open()]);
    assert_eq!(store.apply(&gone).await.expect("applied").transitions, 1);
    store
        .apply(&batch(3, &[incident.confirm()]))
        .await
        .expect("applied");
    assert_eq!(status(&backend, 5).0, 2);
}

/// A row whose status is NULL stopped every fact behind it.
#[tokio::test]
async fn a_row_without_a_status_is_given_one() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    backend.number("ALTER TABLE jetpack_monitor_sites MODIFY site_status TINYINT NULL");
    backend.number("UPDATE jetpack_monitor_sites SET site_status = NULL");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
    assert_eq!(status(&backend, 5).0, 0);
}

/// Lesson: failures were written row by row, and a fleet that failed at once took minutes.
#[tokio::test]
async fn five_hundred_changes_of_status_are_a_few_statements() {
    let server = Server::start(&[]);
    server.sql(&format!("CREATE DATABASE t_many; USE t_many; {SITES};"));
    let address = url(&server.address("ringwatch", "t_many"));
    Store::migrate(&address).await.expect("migrated");
    server.sql(
        "INSERT INTO t_many.jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url) SELECT seq, seq, 0, 'http://a.test/' FROM t_many.seq_1_to_500",
    );
    let store = open_as(&address, described()).await.expect("opens");
    let statements = || -> i64 {
        let said = server.sql("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'");
        let number = said.split_whitespace().last().expect("a value");
        number.parse().expect("a number")
    };
    let facts: Vec<_> = (1..=500)
        .map(|id| Incident::of(target(id), id as u64).open())
        .collect();
    let before = statements();
    store.apply(&batch(1, &facts)).await.expect("applied");
    let cost = statements() - before;
    let down =
        server.sql("SELECT COUNT(*) FROM t_many.jetpack_monitor_sites WHERE site_status = 0");
    assert_eq!(down, "500");
    assert!(cost < 60, "{cost} statements for 500 changes");
}

#[tokio::test]
async fn names_are_what_the_configuration_says_also_beside_another_prefix() {
    let backend = Mysql::empty();
    backend.number(
        "CREATE TABLE `jetpack_monitor_Pages` (no BIGINT PRIMARY KEY, customer BIGINT NOT NULL, \
         address TEXT NOT NULL, live INT NOT NULL, minutes INT NULL, state INT NOT NULL, \
         since DATETIME NULL)",
    );
    backend.number(
        "INSERT INTO `jetpack_monitor_Pages` VALUES (5, 7, 'http://a.test/', 1, NULL, 1, NULL)",
    );
    let address = url(&format!(
        "{}?prefix=rw_",
        mariadb::shared().address("ringwatch", &backend.name)
    ));
    Store::migrate(&address).await.expect("migrated");
    let mut legacy = described();
    legacy.table = name("jetpack_monitor_Pages");
    let columns = &mut legacy.columns;
    for (column, text) in [
        (&mut columns.id, "no"),
        (&mut columns.group, "customer"),
        (&mut columns.url, "address"),
        (&mut columns.active, "live"),
        (&mut columns.interval, "minutes"),
        (&mut columns.status, "state"),
        (&mut columns.status_changed, "since"),
    ] {
        *column = name(text);
    }
    let store = open_as(&address, legacy).await.expect("opens");
    let (targets, _) = all(&store, 10).await;
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].config.interval_s, 300);
    store
        .apply(&batch(1, &[Incident::of(target(5), 1).open()]))
        .await
        .expect("applied");
    let state = "SELECT state FROM `jetpack_monitor_Pages` WHERE since IS NOT NULL";
    assert_eq!(backend.number(state), Some(0));
}

#[tokio::test]
async fn tables_that_are_not_as_described_are_refused_with_what_differs() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let mut wrong = described();
    wrong.columns.url = name("monitor_urls");
    wrong.columns.status_changed = name("blog_id");
    wrong.config_table = Some(name("nowhere"));
    wrong.freshness = LegacyFreshness::Columns;
    let error = open_as(&backend.url(), wrong).await.expect_err("refused");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::LegacyDiffers { .. }),
        "{sentence}"
    );
    for part in [
        "jetpack_monitor_sites has no column monitor_urls",
        "jetpack_monitor_sites.blog_id is bigint, not a DATETIME or TIMESTAMP",
        "jetpack_monitor_sites has no column last_checked_at",
        "there is no table nowhere",
        "under [legacy]",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    let mut missing = described();
    missing.table = name("no_such_table");
    let error = open_as(&backend.url(), missing).await.expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("there is no table no_such_table"),
        "{error}"
    );
}

/// Lesson: nobody asked for the engine, and the status of an event that was rolled back stayed.
#[tokio::test]
async fn a_legacy_table_without_transactions_is_refused_where_it_is_written_to() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    for engine in ["MyISAM", "Aria"] {
        backend.number(&format!(
            "ALTER TABLE jetpack_monitor_sites ENGINE={engine}"
        ));
        let error = open_as(&backend.url(), described()).await;
        let sentence = error.expect_err("refused").to_string();
        let begin = "the legacy table jetpack_monitor_sites of the store mysql://";
        assert!(sentence.starts_with(begin), "{sentence}");
        let todo = "move it with ALTER TABLE jetpack_monitor_sites ENGINE=InnoDB";
        assert!(sentence.contains(engine), "{sentence}");
        assert!(sentence.ends_with(todo), "{sentence}");
    }
    // Who only copies its rows may have it as it is, and may not write there either.
    let beside = Legacy {
        load: false,
        ..described()
    };
    let store = open_as(&backend.url(), beside).await.expect("opens");
    let page = store.legacy_targets(None, 10, true).await.expect("a page");
    assert_eq!(page.targets.len(), 1);
    let error = store.put_legacy(page.targets).await.expect_err("refused");
    assert!(matches!(error, StoreError::LegacyEngine { .. }), "{error}");
    backend.number("ALTER TABLE jetpack_monitor_sites ENGINE=InnoDB");
    open_as(&backend.url(), described()).await.expect("opens");
}

/// A row of settings too many would be a target too many, and one that changes with each reading.
#[tokio::test]
async fn settings_and_targets_that_may_be_there_twice_are_refused_with_what_to_do() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    for (table, key) in [("of_sites", "source_site_id"), ("of_blogs", "blog_id")] {
        backend.number(&format!(
            "CREATE TABLE {table} LIKE jetpack_monitor_site_check_config"
        ));
        backend.number(&format!(
            "ALTER TABLE {table} DROP PRIMARY KEY, ADD KEY just_a_key ({key}), \
             ADD UNIQUE KEY of_both (blog_id, source_site_id)"
        ));
    }
    let mut legacy = described();
    legacy.config_table = Some(name("of_sites"));
    legacy.blog_config_table = Some(name("of_blogs"));
    let error = open_as(&backend.url(), legacy.clone()).await;
    let error = error.expect_err("refused");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::LegacyAmbiguous { .. }),
        "{sentence}"
    );
    for part in [
        "of_sites has no unique index of source_site_id alone",
        "of_blogs has no unique index of blog_id alone",
        "ALTER TABLE of_blogs ADD UNIQUE INDEX (blog_id)",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    // Names are right as they are, and giving others helps nothing.
    for part in ["jetpack_monitor_sites has", "under [legacy]"] {
        assert!(!sentence.contains(part), "{sentence}");
    }
    backend.number("ALTER TABLE of_sites ADD UNIQUE INDEX (source_site_id)");
    backend.number("ALTER TABLE of_blogs ADD PRIMARY KEY (BLOG_ID)");
    open_as(&backend.url(), legacy.clone())
        .await
        .expect("opens");
    backend.number(
        "ALTER TABLE jetpack_monitor_sites DROP PRIMARY KEY, \
         MODIFY jetpack_monitor_site_id BIGINT UNSIGNED NOT NULL, \
         ADD KEY (jetpack_monitor_site_id)",
    );
    let error = open_as(&backend.url(), legacy).await.expect_err("refused");
    let said = "jetpack_monitor_sites has no unique index of jetpack_monitor_site_id alone";
    assert!(error.to_string().contains(said), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_write_the_status_hears_it_at_the_start() {
    let server = Server::start(&[]);
    server.sql(&format!("CREATE DATABASE t_rights; USE t_rights; {SITES};"));
    let full = url(&server.address("ringwatch", "t_rights"));
    Store::migrate(&full).await.expect("migrated");
    server.sql(
        "CREATE USER careful@'%' IDENTIFIED BY 'pa:ss@word'; \
         GRANT SELECT ON t_rights.* TO careful@'%';",
    );
    let address = url(&server.address("careful", "t_rights"));
    let error = open_as(&address, described()).await.expect_err("refused");
    assert!(matches!(error, StoreError::NoPrivilege { .. }), "{error}");
    let mut reading = described();
    reading.status = false;
    open_without_claim(&address, reading)
        .await
        .expect("nothing is written there");
}

#[tokio::test]
async fn our_own_table_is_not_changed_where_nothing_is_read_from_it() {
    let backend = with_sites("(5, 7, 0, 'http://a.test/', 1, 5)");
    let store = open_as(&backend.url(), described()).await.expect("opens");
    let error = store
        .import(vec![row(9, "http://z.test/")], import_id(0))
        .await
        .expect_err("refused");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::LegacyTargets { .. }),
        "{sentence}"
    );
    assert!(sentence.contains("jetpack_monitor_sites"), "{sentence}");
    let page = store.changes(3, 10).await.expect("a page");
    assert_eq!((page.latest_change, page.targets.len()), (3, 0));
    // Only described, not loaded: everything is as without.
    let beside = Legacy {
        load: false,
        ..described()
    };
    let own = open_as(&backend.url(), beside).await.expect("opens");
    own.import(vec![row(9, "http://z.test/")], import_id(0))
        .await
        .expect("imported");
    let (targets, _) = all(&own, 10).await;
    assert_eq!(targets.first().map(|target| target.id), TargetId::new(9));
}

#[tokio::test]
async fn a_file_has_no_legacy_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = StoreUrl::Sqlite(folder.path().join("s.db"));
    let error = open_as(&address, described()).await.expect_err("refused");
    assert!(
        matches!(error, StoreError::LegacyElsewhere { .. }),
        "{error}"
    );
}
