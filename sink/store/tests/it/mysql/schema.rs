//! Migrations: asked for, planned, done once, and what is refused.

use store::{MysqlUrl, Store, StoreError, StoreUrl};

use super::{Mysql, url};
use crate::fixture::{Backend, Incident, Writer, batch, claim, open, target};
use rig::mariadb;

/// The sentence with which the store is refused.
async fn refusal(backend: &Mysql) -> (StoreError, String) {
    let error = Store::open(&backend.url()).await.expect_err("refused");
    let sentence = error.to_string();
    (error, sentence)
}

#[tokio::test]
async fn an_empty_database_is_not_migrated_by_being_opened() {
    let backend = Mysql::empty();
    let (error, sentence) = refusal(&backend).await;
    assert!(
        matches!(error, StoreError::NotMigrated { found: 0, .. }),
        "{sentence}"
    );
    assert!(
        sentence.contains("`ringwatch migrate --store URL`"),
        "{sentence}"
    );
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()";
    assert_eq!(backend.number(tables), Some(0));
    let plan = Store::migration_plan(&backend.url()).await.expect("a plan");
    assert_eq!((plan.found, plan.steps.len()), (0, plan.known as usize));
    assert_eq!(plan.steps[0].file, "0001_counters.sql");
    assert_eq!(backend.number(tables), Some(0), "a plan changes nothing");
    let done = Store::migrate(&backend.url()).await.expect("migrated");
    assert_eq!(done, plan.steps);
    let again = Store::migrate(&backend.url()).await.expect("nothing to do");
    assert_eq!(again, []);
    open(&backend).await.close().await.expect("closed");
}

#[tokio::test]
async fn a_migration_that_was_cut_off_goes_on() {
    let backend = Mysql::fresh();
    // The last table was made and not recorded; the one before was not made.
    for sql in [
        "DELETE FROM jetpack_monitor_schema_version WHERE version > 8",
        "DROP TABLE jetpack_monitor_nodes",
    ] {
        backend.number(sql);
    }
    let (error, sentence) = refusal(&backend).await;
    assert!(
        matches!(error, StoreError::NotMigrated { found: 8, .. }),
        "{sentence}"
    );
    let done = Store::migrate(&backend.url()).await.expect("migrated");
    assert_eq!(done.first().map(|step| step.version), Some(9));
    let store = open(&backend).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

#[tokio::test]
async fn two_migrations_at_once_do_it_once() {
    let backend = Mysql::empty();
    let address = backend.url();
    let (first, second) = tokio::join!(Store::migrate(&address), Store::migrate(&address));
    let (first, second) = (first.expect("migrated"), second.expect("waited"));
    assert!(
        first.is_empty() != second.is_empty(),
        "{} {}",
        first.len(),
        second.len()
    );
    open(&backend).await;
}

#[tokio::test]
async fn an_edited_migration_is_refused_by_its_file_and_a_newer_schema_too() {
    let backend = Mysql::fresh();
    let edit =
        "UPDATE jetpack_monitor_schema_version SET checksum = checksum + 1 WHERE version = 6";
    backend.number(edit);
    let (error, sentence) = refusal(&backend).await;
    assert!(
        matches!(error, StoreError::MigrationChanged { version: 6, .. }),
        "{sentence}"
    );
    assert!(sentence.contains("0006_events.sql"), "{sentence}");
    let error = Store::migrate(&backend.url()).await.expect_err("refused");
    assert!(
        matches!(error, StoreError::MigrationChanged { version: 6, .. }),
        "{error}"
    );
    backend.number("INSERT INTO jetpack_monitor_schema_version VALUES (99, 'later', 1)");
    let (error, sentence) = refusal(&backend).await;
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{sentence}"
    );
}

#[tokio::test]
async fn tables_that_somebody_changed_are_refused_with_what_differs() {
    let backend = Mysql::fresh();
    for sql in [
        "ALTER TABLE jetpack_monitor_events DROP COLUMN failure_class",
        "ALTER TABLE jetpack_monitor_event_transitions MODIFY source VARCHAR(20) NOT NULL",
        "ALTER TABLE jetpack_monitor_jobs DROP KEY jetpack_monitor_jobs_active",
        "DROP TABLE jetpack_monitor_site_runtime",
    ] {
        backend.number(sql);
    }
    let (error, sentence) = refusal(&backend).await;
    assert!(
        matches!(error, StoreError::SchemaDiffers { .. }),
        "{sentence}"
    );
    for difference in [
        "jetpack_monitor_events has no column failure_class",
        "jetpack_monitor_event_transitions.source is varchar(20), not varchar(255)",
        "jetpack_monitor_jobs has no key unique (uactive)",
        "table jetpack_monitor_site_runtime is missing",
    ] {
        assert!(sentence.contains(difference), "{sentence}");
    }
}

/// Lesson: keys were compared by their columns alone and columns without what the server fills
/// them with, so that `validate` and a start passed tables on which no fact could be applied, or on
/// which an event or a job was open twice.
#[tokio::test]
async fn tables_that_a_tool_made_again_are_refused_where_facts_or_their_rules_would_fail() {
    let backend = Mysql::fresh();
    for sql in [
        "ALTER TABLE jetpack_monitor_events RENAME INDEX jetpack_monitor_events_open TO ended",
        "ALTER TABLE jetpack_monitor_events RENAME INDEX jetpack_monitor_events_endpoint TO any",
        "ALTER TABLE jetpack_monitor_jobs DROP KEY jetpack_monitor_jobs_active, \
         DROP COLUMN uactive, ADD COLUMN uactive VARCHAR(64) NULL, ADD UNIQUE KEY (uactive)",
        "ALTER TABLE jetpack_monitor_audit_log MODIFY id BIGINT NOT NULL",
        "DROP VIEW jetpack_monitor_endpoint_runtime",
    ] {
        backend.number(sql);
    }
    let (error, sentence) = refusal(&backend).await;
    let StoreError::SchemaDiffers { differences, .. } = error else {
        panic!("{sentence}");
    };
    let expected = [
        "jetpack_monitor_audit_log.id is bigint, not bigint auto_increment",
        "view jetpack_monitor_endpoint_runtime is missing",
        "jetpack_monitor_events has its index (ended_at, endpoint_id) under the name ended, and \
         it is asked for as jetpack_monitor_events_open (ALTER TABLE jetpack_monitor_events \
         RENAME INDEX ended TO jetpack_monitor_events_open)",
        "jetpack_monitor_jobs.uactive is varchar(64) null, not varchar(64) null generated",
    ];
    assert_eq!(differences, expected);
}

/// Lesson: a table of ours that was moved to an engine without transactions passed.
#[tokio::test]
async fn a_table_of_ours_without_transactions_differs() {
    let backend = Mysql::fresh();
    backend.number("ALTER TABLE jetpack_monitor_events ENGINE=MyISAM");
    let StoreError::SchemaDiffers { differences, .. } =
        Store::open(&backend.url()).await.expect_err("refused")
    else {
        panic!("another error");
    };
    assert_eq!(
        differences,
        [
            "jetpack_monitor_events is kept by the engine MyISAM, which does not undo what a \
             transaction wrote (ALTER TABLE jetpack_monitor_events ENGINE=InnoDB)"
        ]
    );
}

#[tokio::test]
async fn tables_of_another_program_under_our_names_are_left_alone() {
    let backend = Mysql::empty();
    backend.number("CREATE TABLE jetpack_monitor_events (id BIGINT UNSIGNED PRIMARY KEY)");
    let error = Store::migrate(&backend.url()).await.expect_err("refused");
    assert!(matches!(error, StoreError::SchemaDiffers { .. }), "{error}");
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()";
    assert_eq!(backend.number(tables), Some(1), "nothing was begun");
    // Another prefix goes beside it.
    let beside = with_prefix(&backend, "rw_");
    Store::migrate(&beside).await.expect("migrated");
    let store = Writer::of(Store::open(&beside).await.expect("opens")).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
    assert_eq!(
        backend.number("SELECT COUNT(*) FROM rw_event_transitions"),
        Some(1)
    );
    let other = with_prefix(&backend, "rx_");
    Store::migrate(&other).await.expect("migrated");
    let second = Writer::of(Store::open(&other).await.expect("opens")).await;
    assert_eq!(
        second.floors().await.expect("its own writer").journal_seq,
        0
    );
}

fn with_prefix(backend: &Mysql, prefix: &str) -> StoreUrl {
    let address = mariadb::shared().address("ringwatch", &backend.name);
    url(&format!("{address}?prefix={prefix}"))
}

#[test]
fn the_public_address_parses_by_itself() {
    let address: MysqlUrl = "mysql://u@h/d".parse().expect("valid");
    assert_eq!(address.to_string(), "mysql://u@h:3306/d");
}

#[tokio::test]
async fn hosts_say_who_has_which_shards_and_was_heard_of_when() {
    let backend = Mysql::fresh();
    let host = |name: &str, column: &str| {
        backend.number(&format!(
            "SELECT {column} FROM jetpack_monitor_hosts WHERE host_id = '{name}'"
        ))
    };
    let age_s = "CAST(TIMESTAMPDIFF(SECOND, last_heartbeat, UTC_TIMESTAMP()) AS SIGNED)";
    let first = open(&backend).await;
    assert_eq!(
        (host("test", "bucket_min"), host("test", "bucket_max")),
        (Some(0), Some(1_023))
    );
    backend.number("UPDATE jetpack_monitor_hosts SET last_heartbeat = '2020-01-01'");
    first.renew(first.fence, 60_000).await.expect("renewed");
    let age = host("test", age_s).expect("a row");
    assert!((-60..3_600).contains(&age), "{age}");
    // Another one takes over; what the loser says then changes nothing.
    backend.number("UPDATE jetpack_monitor_nodes SET lease_until = 0");
    let second = Store::open(&backend.url()).await.expect("opens");
    let second = Writer::claiming(second, &claim("other", 2)).await;
    assert_eq!(
        (host("test", "bucket_min"), host("test", "bucket_max")),
        (Some(0), Some(-1))
    );
    assert_eq!(host("other", "bucket_max"), Some(1_023));
    backend.number("UPDATE jetpack_monitor_hosts SET last_heartbeat = '2020-01-01'");
    first.renew(first.fence, 60_000).await.expect_err("fenced");
    first
        .release(first.fence)
        .await
        .expect("nothing to give back");
    assert!(host("test", age_s).expect("still there") > 86_400);
    second.release(second.fence).await.expect("given back");
    assert_eq!(
        host("other", "bucket_max"),
        None,
        "it left in an orderly way"
    );
}
