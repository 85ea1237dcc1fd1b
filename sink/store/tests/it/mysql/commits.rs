//! What is left of a transaction when its connection breaks around the commit, and of work that
//! other work was in the way of.

use std::sync::Arc;
use std::time::Duration;

use model::UnixMs;
use mysql_async::prelude::Queryable;
use store::{FreshnessRow, ImportPart, Store, StoreError, StoreUrl};
use tokio::sync::mpsc;

use super::{Mysql, root, until_somebody_waits_for_a_lock, url};
use crate::fixture::{Backend, Incident, Writer, batch, claim, import_id, open, row, target};
use crate::proxy::{Cut, Proxy};
use rig::mariadb::{self, Server};

/// A store whose connections go through the proxy.
async fn behind(proxy: &Proxy, backend: &Mysql) -> Writer {
    let address = proxy.address(&mariadb::shared().address("ringwatch", &backend.name));
    Writer::of(Store::open(&url(&address)).await.expect("opens")).await
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_leaves_nothing_and_the_next_try_does_all() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    proxy.next(Cut::Before);
    let error = store.apply(&facts).await.expect_err("cut off");
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{error}"
    );
    assert!(error.is_transient() && error.to_string().contains("doing it again is safe"));
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.events, counts.journal_seq), (0, 0));
    let again = store.apply(&facts).await.expect("applied");
    assert_eq!((again.transitions, again.jobs), (1, 1));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_done_once() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let mut incident = Incident::of(target(5), 1);
    let first = batch(1, &[incident.open(), incident.confirm()]);
    proxy.next(Cut::After);
    let error = store.apply(&first).await.expect_err("cut off");
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{error}"
    );
    let done = store.counts().await.expect("counts");
    assert_eq!((done.transitions, done.jobs, done.journal_seq), (2, 2, 1));
    let again = store.apply(&first).await.expect("asked again");
    assert!(again.already_applied);
    assert_eq!(store.counts().await.expect("counts"), done);
    // An import of unknown outcome is done again, too.
    let rows = vec![row(1, "http://a.test/"), row(2, "http://b.test/")];
    proxy.next(Cut::After);
    let error = store.import(rows.clone(), import_id(0)).await;
    assert!(
        matches!(error, Err(StoreError::OutcomeUnknown { .. })),
        "{error:?}"
    );
    let report = store.import(rows, import_id(0)).await.expect("imported");
    assert_eq!((report.inserted, report.unchanged), (0, 2));
}

#[tokio::test]
async fn a_server_that_falls_silent_costs_the_connection_and_not_the_facts() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    proxy.next(Cut::Silence);
    let error = store.apply(&facts).await.expect_err("silence");
    let sentence = error.to_string();
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{sentence}"
    );
    assert!(sentence.contains("no answer in time"), "{sentence}");
    // The connection was closed, not kept for its late answer.
    proxy.wait_until_closed();
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

/// A limit for all of them together would be met by no try, and everything behind would wait.
#[tokio::test]
async fn statements_that_are_slow_one_by_one_end_with_the_facts_applied() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    for table in ["events", "event_transitions", "jobs", "shards"] {
        backend.number(&format!(
            "CREATE TRIGGER slow_{table} BEFORE INSERT ON jetpack_monitor_{table} FOR EACH ROW \
             SET @slept = SLEEP(0.7)"
        ));
    }
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

/// Without the question what became of it the node would wait for a lease of its own.
#[tokio::test]
async fn a_right_whose_answer_is_lost_is_found_to_be_ones_own() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let after = |fence: store::Fence| store::Claim {
        lost: Some(fence.epoch()),
        ..claim("test", 1)
    };
    proxy.next(Cut::After);
    let fence = store.acquire(&after(store.fence)).await;
    let fence = fence.expect("given after all");
    assert_eq!(fence.epoch(), store.fence.epoch() + 1);
    // One that never arrived is not taken for given.
    proxy.next(Cut::Before);
    let error = store.acquire(&after(fence)).await.expect_err("cut off");
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{error}"
    );
    let facts = Arc::new(batch(1, &[Incident::of(target(5), 1).open()]));
    let plain: Store = Store::clone(&store);
    let applied = plain.apply(fence, &facts, 0).await.expect("its own");
    assert_eq!(applied.transitions, 1);
}

#[tokio::test]
async fn open_events_are_read_in_pages_and_none_is_left_out_or_twice() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    // Several of one target on the edge of a page, and closed ones between.
    backend.number(
        "INSERT INTO jetpack_monitor_events (id, blog_id, endpoint_id, check_type, discriminator, \
         severity, state, started_at, ended_at, fail_count, failure_class, updated_at) \
         SELECT 10000 - seq, 0, 1 + seq DIV 3, 'http', seq, 3, 'Seems Down', 1, \
         IF(seq % 10 = 0, 2, NULL), 1, 1, 1 FROM seq_1_to_5000",
    );
    let open = store.open_events().await.expect("read");
    let ids: Vec<i64> = open.iter().map(|open| open.event.id.get()).collect();
    let expected: Vec<i64> = (1..=5_000).rev().filter(|seq| seq % 10 != 0).collect();
    let expected: Vec<i64> = expected.into_iter().map(|seq| 10_000 - seq).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_transaction_along() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    proxy.next(Cut::Silence);
    {
        let mut applying = std::pin::pin!(store.apply(&facts));
        let short = Duration::from_millis(20);
        while !proxy.is_cut() {
            let overdue = tokio::time::timeout(short, applying.as_mut()).await;
            assert!(overdue.is_err(), "nothing arrives");
        }
    }
    proxy.wait_until_closed();
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

/// Lesson: a machine that vanished in the middle of a transaction, or a node that stood still
/// there, kept its locks for ten minutes, and its successor waited for them.
#[tokio::test]
async fn who_vanishes_in_a_transaction_is_not_waited_for() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    proxy.next(Cut::Vanish);
    let error = store.apply(&facts).await.expect_err("silence");
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{error}"
    );
    let mut successor = root(mariadb::shared()).await;
    let name = &backend.name;
    for sql in [
        "SET SESSION innodb_lock_wait_timeout = 45",
        &format!("UPDATE {name}.jetpack_monitor_nodes SET lease_until = 0"),
    ] {
        successor.query_drop(sql).await.expect(sql);
    }
}

/// Lesson: a connection that the server ended with a word was kept, and the one more try was made
/// on it.
#[tokio::test]
async fn a_connection_that_the_server_ends_with_a_word_is_made_again_at_once() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let store = behind(&proxy, &backend).await;
    let mut incident = Incident::of(target(5), 1);
    let opened = batch(1, &[incident.open()]);
    store.apply(&opened).await.expect("applied");
    backend.number("CREATE TABLE ended (connection BIGINT)");
    proxy.instead(
        "START TRANSACTION",
        "BEGIN NOT ATOMIC IF (SELECT COUNT(*) FROM ended) = 0 THEN \
         INSERT INTO ended VALUES (CONNECTION_ID()); KILL CONNECTION_ID(); \
         ELSE START TRANSACTION; END IF; END",
    );
    let confirmed = batch(2, &[incident.confirm()]);
    let applied = store.apply(&confirmed).await.expect("on another one");
    assert_eq!(applied.transitions, 1);
    assert_eq!(backend.number("SELECT COUNT(*) FROM ended"), Some(1));
}

/// Lesson: a list that came slowly, as from a pipe, was refused each time: the server ended the
/// transaction that waited for it.
#[tokio::test]
async fn an_import_that_waits_for_its_list_keeps_its_transaction() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE t_slow");
    let address = url(&server.address("ringwatch", "t_slow"));
    Store::migrate(&address).await.expect("migrated");
    let store = Store::open(&address).await.expect("opens");
    let (parts, list) = mpsc::channel(1);
    let importing = tokio::spawn(async move { store.import_whole(list, import_id(0)).await });
    let rows = ImportPart::Rows(vec![row(1, "http://a.test/")]);
    parts.send(rows).await.expect("taken");
    // The server hears something, or the transaction is gone.
    let mut root = root(&server).await;
    let seen = "SELECT (SELECT COUNT(*) FROM information_schema.innodb_trx \
        WHERE trx_rows_modified > 0), (SELECT variable_value \
        FROM information_schema.global_status WHERE variable_name = 'Com_do'), \
        SLEEP(0.15)";
    let (mut begun, mut said) = (false, false);
    while !said {
        let now: Option<(i64, i64, i64)> = root.query_first(seen).await.expect("seen");
        let (transactions, words, _) = now.expect("a row");
        assert!(transactions > 0 || !begun, "it was ended");
        begun |= transactions > 0;
        said = words > 0;
    }
    let end = ImportPart::End { keep: true };
    parts.send(end).await.expect("taken");
    let report = importing.await.expect("no panic").expect("imported");
    assert_eq!(report.expect("kept").inserted, 1);
}

#[tokio::test]
async fn the_server_hears_of_one_writer_at_a_time() {
    let backend = Mysql::fresh();
    let first = open(&backend).await;
    let second = Store::open(&backend.url()).await.expect("opens");
    // Also under the same name: the lease is the journal's.
    for name in ["test", "other"] {
        let error = second.acquire(&claim(name, 2)).await.expect_err("held");
        let sentence = error.to_string();
        assert!(
            matches!(&error, StoreError::Held { node, .. } if node == "test"),
            "{sentence}"
        );
        assert!(sentence.contains("(host:/test)"), "{sentence}");
    }
    // Whoever only asks or imports is not in the way.
    second.counts().await.expect("counts");
    first.release(first.fence).await.expect("released");
    let second = Writer::claiming(second, &claim("other", 2)).await;
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    assert_eq!(second.apply(&facts).await.expect("applied").transitions, 1);
    let error = first.apply(&facts).await.expect_err("taken over");
    assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
}

/// Lesson: a lock was waited for as long as an answer, so that a row which somebody held was told
/// as a server that does not answer, and nothing was tried again.
#[tokio::test]
async fn facts_that_wait_too_long_for_a_lock_are_kept_by_the_caller() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let mut other = root(mariadb::shared()).await;
    let node = format!(
        "SELECT * FROM {}.jetpack_monitor_nodes FOR UPDATE",
        backend.name
    );
    other.query_drop("START TRANSACTION").await.expect("begun");
    other.query_drop(node).await.expect("locked");
    let facts = batch(1, &[Incident::of(target(5), 1).open()]);
    // On a machine that is busy enough the answer of the server is late, too.
    let mut error = store.apply(&facts).await.expect_err("locked");
    for _ in 0..4 {
        if matches!(error, StoreError::TimedOut { .. }) {
            error = store.apply(&facts).await.expect_err("locked");
        }
    }
    let sentence = error.to_string();
    assert!(matches!(error, StoreError::Contended { .. }), "{sentence}");
    assert!(
        error.is_transient() && sentence.contains("Lock wait timeout"),
        "{sentence}"
    );
    other.query_drop("ROLLBACK").await.expect("free");
    assert_eq!(store.apply(&facts).await.expect("applied").transitions, 1);
}

/// The import waits for a row of `other`, who then asks for what the import holds.
#[tokio::test]
async fn the_loser_of_a_deadlock_does_its_work_again() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let rows = |interval_s: u32| {
        let mut row = row(1, "http://a.test/");
        row.config.interval_s = interval_s;
        vec![row]
    };
    store.import(rows(300), import_id(0)).await.expect("import");
    let mut other = root(mariadb::shared()).await;
    let name = &backend.name;
    // Who wrote more wins.
    let heavy = format!(
        "INSERT INTO {name}.jetpack_monitor_site_runtime SELECT seq, 1, 1 FROM seq_1_to_2000"
    );
    let touch = format!("UPDATE {name}.jetpack_monitor_check_targets SET site_status = 2");
    for sql in [&format!("USE {name}"), "START TRANSACTION", &heavy, &touch] {
        other.query_drop(sql).await.expect(sql);
    }
    let importing = tokio::spawn({
        let store = store.clone();
        async move { store.import(rows(60), import_id(1)).await }
    });
    until_somebody_waits_for_a_lock().await;
    let counters = format!("SELECT * FROM {name}.jetpack_monitor_counters FOR UPDATE");
    other
        .query_drop(counters)
        .await
        .expect("the winner goes on");
    other.query_drop("COMMIT").await.expect("committed");
    let report = importing.await.expect("no panic").expect("imported");
    assert_eq!(report.updated, 1);
    let page = store.targets(None, 5, true).await.expect("a page");
    assert_eq!(page.targets[0].config.interval_s, 60);
}

/// Rows are found without a lock: what was written since must be looked at again.
#[tokio::test]
async fn a_check_time_that_is_written_while_old_ones_are_forgotten_stays() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let old = |id| FreshnessRow {
        target: target(id),
        last_checked: UnixMs(499),
        next_check: UnixMs(900),
    };
    let written = store.write_freshness(vec![old(1), old(2)]).await;
    assert_eq!(written.all().expect("written"), 2);
    let mut other = root(mariadb::shared()).await;
    let fresh = format!(
        "UPDATE {}.jetpack_monitor_site_runtime SET last_checked_at = 500 WHERE target_id = 1",
        backend.name
    );
    for sql in ["START TRANSACTION", &fresh] {
        other.query_drop(sql).await.expect(sql);
    }
    let forgetting = tokio::spawn({
        let store = store.clone();
        async move { store.forget_freshness(UnixMs(500), None).await }
    });
    until_somebody_waits_for_a_lock().await;
    other.query_drop("COMMIT").await.expect("committed");
    let (gone, _) = forgetting.await.expect("no panic").expect("forgotten");
    assert_eq!(gone.freshness, 1);
    let left = store.freshness(target(1)).await.expect("asked");
    assert_eq!(left.map(|row| row.last_checked), Some(UnixMs(500)));
}

#[tokio::test]
async fn what_is_known_of_an_address_never_holds_its_password() {
    let backend = Mysql::fresh();
    let store = open(&backend).await;
    let address: StoreUrl = backend.url();
    let told = format!("{store:?} {address} {address:?}");
    assert!(told.contains("ringwatch:***@127.0.0.1"), "{told}");
    assert!(
        !told.contains("ss@word") && !told.contains("ss%40word"),
        "{told}"
    );
}
