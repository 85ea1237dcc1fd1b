//! Servers that do not let us in, or do not let us work: one sentence each, without the password.

use model::Evidence;
use model::fact::{Batch, Fact};
use mysql_async::prelude::Queryable;
use store::{Applied, AuditRow, FreshnessRow, Store, StoreError, StoreUrl};

use super::{Mysql, root, url};
use crate::fixture::{
    Backend, Incident, START, Writer, batch, claim, import_id, open, sites, target,
};
use rig::mariadb::{self, Server};
use rig::places::Closed;

/// The sentence with which `address` is refused.
async fn refusal(address: &StoreUrl) -> (StoreError, String) {
    let error = Store::open(address).await.expect_err("refused");
    let sentence = error.to_string();
    for secret in ["ss@word", "wr0ng"] {
        assert!(
            !format!("{sentence} {error:?}").contains(secret),
            "{sentence}"
        );
    }
    assert!(
        sentence.contains("***@127.0.0.1"),
        "names the store: {sentence}"
    );
    (error, sentence)
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_as_that() {
    let backend = Mysql::fresh();
    let right = mariadb::shared().address("ringwatch", &backend.name);
    let wrong = right.replace("pa%3Ass%40word", "wr0ng");
    let (error, sentence) = refusal(&url(&wrong)).await;
    assert!(
        matches!(error, StoreError::LoginRefused { .. }),
        "{sentence}"
    );
    assert!(
        !error.is_transient() && sentence.contains("check both"),
        "{sentence}"
    );
    let (error, _) = refusal(&backend.url_of("nobody")).await;
    assert!(matches!(error, StoreError::LoginRefused { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let address = mariadb::shared().address("ringwatch", "t_nowhere");
    let (error, sentence) = refusal(&url(&address)).await;
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{sentence}");
    assert!(
        sentence.contains("\"t_nowhere\"") && sentence.contains("create it"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_missing_privilege_is_named_with_what_it_was_for() {
    // To the database, before there are tables.
    let address = mariadb::shared().address("ringwatch", "mysql");
    let (error, sentence) = refusal(&url(&address)).await;
    assert!(
        matches!(error, StoreError::NoPrivilege { .. }),
        "{sentence}"
    );
    // To write.
    let backend = Mysql::fresh();
    let store = Store::open(&backend.url_of("reader"))
        .await
        .expect("may look");
    let error = store.require_rights().await.expect_err("may not write");
    assert!(matches!(error, StoreError::NoPrivilege { .. }), "{error}");
    let error = store.acquire(&claim("reader", 2)).await;
    let error = error.expect_err("may not write");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::NoPrivilege { .. }),
        "{sentence}"
    );
    let what = ["command denied", "jetpack_monitor_", "grant it"];
    assert!(
        what.iter().all(|word| sentence.contains(word)),
        "{sentence}"
    );
    // To make tables.
    let empty = Mysql::empty();
    let error = Store::migrate(&empty.url_of("reader"))
        .await
        .expect_err("no right");
    assert!(matches!(error, StoreError::NoPrivilege { .. }), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_as_that() {
    let nobody = Closed::new();
    let address = format!("mysql://u:wr0ng@{}/d", nobody.address());
    let (error, sentence) = refusal(&url(&address)).await;
    assert!(
        matches!(error, StoreError::Unreachable { .. }),
        "{sentence}"
    );
    assert!(
        error.is_transient() && sentence.contains("refused"),
        "{sentence}"
    );
}

#[tokio::test]
async fn looking_at_a_server_changes_nothing() {
    let backend = Mysql::fresh();
    let store = Store::open_existing(&backend.url()).await.expect("opens");
    assert_eq!(store.counts().await.expect("counted").targets, 0);
    let refused = store.import(sites(1), import_id(0)).await;
    assert!(
        matches!(refused, Err(StoreError::ServerReadOnly { .. })),
        "{refused:?}"
    );
}

/// Lesson: a server that was full was "lost: nothing of the work was kept", and what to do was not
/// said.
#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_told_as_that_with_how_many_are_needed() {
    // A server knows users' connections only where it began with a limit.
    let server = Server::start(&["--max-user-connections=50"]);
    server.sql("CREATE DATABASE t_own");
    let address = url(&server.address("ringwatch", "t_own"));
    Store::migrate(&address).await.expect("migrated");
    let first = Store::open(&address).await.expect("opens");
    // Root may have more than others; ten of it leave no room for them.
    let mut roots = Vec::new();
    for _ in 0..10 {
        roots.push(root(&server).await);
    }
    for (full, free) in [
        (
            "SET GLOBAL max_user_connections = 1",
            "SET GLOBAL max_user_connections = 50",
        ),
        (
            "SET GLOBAL max_connections = 10",
            "SET GLOBAL max_connections = 400",
        ),
    ] {
        roots[0].query_drop(full).await.expect(full);
        let (error, sentence) = refusal(&address).await;
        assert!(
            matches!(error, StoreError::TooManyConnections { .. }),
            "{full}: {sentence}"
        );
        assert!(error.is_transient(), "{sentence}");
        for words in ["raise its max_connections", "needs 6, and 8 with a stream"] {
            assert!(sentence.contains(words), "{sentence}");
        }
        roots[0].query_drop(free).await.expect(free);
        Store::open(&address).await.expect("there is room");
    }
    first.counts().await.expect("whoever is there stays");
}

/// What was committed survives the end of the process.
const DURABLE: &[&str] = &["--innodb-flush-log-at-trx-commit=2"];

/// A server that the test alone disturbs, with a migrated database.
async fn own_server() -> (Server, StoreUrl) {
    let server = Server::start(DURABLE);
    server.sql("CREATE DATABASE t_own");
    let address = url(&server.address("ringwatch", "t_own"));
    Store::migrate(&address).await.expect("migrated");
    (server, address)
}

#[tokio::test]
async fn a_server_that_became_read_only_takes_what_was_kept_when_it_writes_again() {
    let (server, address) = own_server().await;
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    store.require_rights().await.expect("may write");
    server.sql("SET GLOBAL read_only = 1");
    let error = store.require_rights().await.expect_err("read-only");
    assert!(
        matches!(error, StoreError::ServerReadOnly { .. }),
        "{error}"
    );
    let error = store.apply(&facts).await.expect_err("read-only");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::ServerReadOnly { .. }),
        "{sentence}"
    );
    assert!(sentence.contains("primary"), "{sentence}");
    store.counts().await.expect("it can be read");
    server.sql("SET GLOBAL read_only = 0");
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

/// Lesson: a table that somebody dropped was "failed with error 1146", and what to do was not said.
#[tokio::test]
async fn what_is_dropped_while_it_is_used_is_told_as_that() {
    let (server, address) = own_server().await;
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    for broken in [
        "ALTER TABLE t_own.jetpack_monitor_events \
         RENAME INDEX jetpack_monitor_events_open TO other",
        "ALTER TABLE t_own.jetpack_monitor_events DROP COLUMN fail_count",
        "DROP TABLE t_own.jetpack_monitor_events",
    ] {
        server.sql(broken);
        let error = store.apply(&facts).await.expect_err("it is gone");
        let sentence = error.to_string();
        assert!(matches!(error, StoreError::TableGone { .. }), "{sentence}");
        assert!(
            sentence.contains("from a backup") && !error.is_transient(),
            "{sentence}"
        );
    }
    server.sql("DROP DATABASE t_own");
    let error = store.apply(&facts).await.expect_err("all is gone");
    assert!(
        matches!(
            error,
            StoreError::TableGone { .. } | StoreError::NoDatabase { .. }
        ),
        "{error}"
    );
}

/// Lesson: lines of the trail were committed a thousand at a time, and all came again when a later
/// thousand failed.
#[tokio::test]
async fn a_trail_is_noted_as_a_whole_or_not_at_all() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let line = |event_type| AuditRow {
        event_type,
        source: "ringwatch:n".to_owned(),
        detail: String::new(),
        at: START,
        subject: None,
    };
    let too_long = "a_kind_of_line_that_is_longer_than_the_column_for_kinds_of_lines_is";
    let mut lines = vec![line("suppressed"); 1_500];
    lines.push(line(too_long));
    let refused = store.write_trail(store.fence, lines.clone()).await;
    refused.expect_err("the last line does not fit");
    let count = "SELECT COUNT(*) FROM jetpack_monitor_audit_log";
    assert_eq!(backend.number(count), Some(0));
    lines.pop();
    let noted = store.write_trail(store.fence, lines).await;
    noted.expect("noted");
    assert_eq!(backend.number(count), Some(1_500));
}

#[tokio::test]
async fn statements_shrink_to_what_the_server_takes_in_a_packet() {
    let (server, address) = own_server().await;
    server.sql("SET GLOBAL max_allowed_packet = 4096");
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    let row = |id: i64| FreshnessRow {
        target: target(id),
        last_checked: START,
        next_check: START,
    };
    let written = store.write_freshness((1..=2_500).map(row).collect()).await;
    assert_eq!(written.all().expect("written"), 2_500);
    assert_eq!(
        store
            .import(sites(300), import_id(0))
            .await
            .expect("import")
            .inserted,
        300
    );
    assert_eq!(store.prune(import_id(0)).await.expect("prune"), 0);
    let facts: Vec<Fact> = (1..=200)
        .map(|id| Incident::of(target(id), id as u64).open())
        .collect();
    assert_eq!(
        store.apply(&batch(1, &facts)).await.expect("applied").jobs,
        200
    );
    // One row alone that is larger than that.
    let mut large = Incident::of(target(1), 2).open();
    if let Fact::Transitioned {
        transition, event, ..
    } = &mut large
    {
        event.discriminator = Some("large".to_owned());
        let text = "x".repeat(8_000);
        let evidence = Evidence {
            text,
            ..Evidence::default()
        };
        transition.evidence = Some(Box::new(evidence));
    }
    let error = store
        .apply(&batch(2, &[large.clone()]))
        .await
        .expect_err("too large");
    let sentence = error.to_string();
    assert!(
        matches!(
            error,
            StoreError::PacketTooSmall {
                max_bytes: 4_096,
                ..
            }
        ),
        "{sentence}"
    );
    assert!(sentence.contains("max_allowed_packet"), "{sentence}");
    server.sql("SET GLOBAL max_allowed_packet = 1048576");
    drop(store);
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    assert_eq!(
        store
            .apply(&batch(2, &[large]))
            .await
            .expect("applied")
            .transitions,
        1
    );
}

#[tokio::test]
async fn a_server_without_room_says_so_and_takes_what_was_kept_once_there_is_some() {
    // All tables in one file that may not grow further: what a full disk is without the crash that
    // the server itself makes of it.
    let server = Server::start(&[
        "--innodb-file-per-table=0",
        "--innodb-data-file-path=ibdata1:12M:autoextend:max:72M",
    ]);
    server.sql(
        "CREATE DATABASE t_own; USE t_own; CREATE TABLE ballast (x LONGBLOB); \
         INSERT INTO ballast SELECT REPEAT('x', 1000000) FROM seq_1_to_30",
    );
    let address = url(&server.address("ringwatch", "t_own"));
    Store::migrate(&address).await.expect("migrated");
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    let (mut seq, mut taken) = (1, 0);
    let refused = loop {
        match take(&store, seq, taken).await {
            Ok(more) => (seq, taken) = (seq + 1, more),
            Err(error) => break error,
        }
        assert!(seq < 1_000, "it is not full");
    };
    let sentence = refused.to_string();
    assert!(
        matches!(refused, StoreError::ServerDiskFull { .. }),
        "{sentence}"
    );
    assert!(sentence.contains("free some space"), "{sentence}");
    let counts = store.counts().await.expect("it can be read");
    assert_eq!(counts.transitions, taken, "nothing of the batch");
    server.sql("USE t_own; DROP TABLE ballast");
    // The server gives the room of a table back in a while, by itself.
    let mut again = take(&store, seq, taken).await;
    for _ in 0..10_000 {
        if again.is_ok() {
            break;
        }
        again = take(&store, seq, taken).await;
    }
    let taken = again.expect("there is room");
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.transitions, counts.jobs), (taken, taken));
}

/// Applies the next 500 incidents after `taken`; how many there are then.
async fn take(store: &Writer, seq: u64, taken: u64) -> Result<u64, StoreError> {
    let ids = taken as i64 + 1..=taken as i64 + 500;
    let facts: Vec<Fact> = ids
        .map(|id| Incident::of(target(id), id as u64).open())
        .collect();
    loop {
        match store.apply(&batch(seq, &facts)).await {
            Ok(_) => return Ok(taken + 500),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
    }
}

#[tokio::test]
async fn a_server_that_went_away_and_came_back_is_used_again() {
    let (mut server, address) = own_server().await;
    let store = Writer::of(Store::open(&address).await.expect("opens")).await;
    let mut incident = Incident::of(target(5), 1);
    store
        .apply(&batch(1, &[incident.open()]))
        .await
        .expect("applied");
    server.kill();
    let second = batch(2, &[incident.confirm()]);
    for _ in 0..3 {
        let error = store.apply(&second).await.expect_err("gone");
        assert!(error.is_transient(), "{error}");
    }
    let error = store.counts().await.expect_err("gone");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    server.run(DURABLE);
    assert_eq!(applied(&store, &second).await.transitions, 1);
    assert_eq!(store.counts().await.expect("counts").transitions, 2);
    drop(store);
}

/// A server that just started may be slow: the batch comes again, as the sink does it.
async fn applied(store: &Writer, batch: &Batch) -> Applied {
    loop {
        match store.apply(batch).await {
            Ok(applied) => return applied,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_row_that_no_target_is_is_refused_by_its_id_and_the_rest_is_served() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    store.import(sites(4), import_id(0)).await.expect("import");
    for sql in [
        "UPDATE jetpack_monitor_check_targets SET monitor_url = 'ftp://x/' WHERE id = 2",
        "UPDATE jetpack_monitor_check_targets SET custom_headers = 'no json' WHERE id = 4",
    ] {
        backend.number(sql);
    }
    let page = store.targets(None, 10, true).await.expect("a page");
    let good: Vec<i64> = page.targets.iter().map(|target| target.id.get()).collect();
    let bad: Vec<(i64, &str)> = page
        .refused
        .iter()
        .map(|(id, why)| (*id, why.field))
        .collect();
    assert_eq!((good, bad), (vec![1, 3], vec![(2, "url"), (4, "headers")]));
    assert_eq!(page.last, Some(target(4)));
}
