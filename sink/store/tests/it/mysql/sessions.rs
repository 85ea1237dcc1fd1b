//! How our sessions are, whatever the server and others on the way think of it.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use store::{Store, StoreError};

use super::legacy::{SITES, described, open_as};
use super::{Mysql, root, url};
use crate::fixture::{Backend, Incident, batch, target, transition};
use crate::proxy::Proxy;
use rig::mariadb::{self, Server};

/// A server that is everything that our sessions must not be.
const OTHER_IDEAS: &[&str] = &[
    "--default-time-zone=+05:00",
    "--transaction-isolation=REPEATABLE-READ",
    "--sql-mode=",
];

/// What one does to all sessions of users who are no administrators.
const HOSTILE: &str = "SET SESSION time_zone = \"-03:00\", sql_mode = \"ANSI\", \
    tx_isolation = \"SERIALIZABLE\", autocommit = 0";

/// The isolation of a transaction that waits for a lock; one does.
async fn isolation_of_who_waits(root: &mut Conn) -> String {
    // One row in any case, so that it sleeps: the server renews what it says of transactions only
    // for who has not asked for 0.1 s.
    let sql = "SELECT MAX(trx_isolation_level), SLEEP(0.15) FROM information_schema.innodb_trx \
        WHERE trx_state = 'LOCK WAIT'";
    loop {
        let row: Option<(Option<String>, i64)> = root.query_first(sql).await.expect("seen");
        if let Some((Some(level), _)) = row {
            return level;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn times_modes_and_isolation_are_ours_on_a_server_with_other_ideas() {
    let server = Server::start(OTHER_IDEAS);
    for (database, init_connect) in [("t_defaults", ""), ("t_hostile", HOSTILE)] {
        server.sql(&format!(
            "SET GLOBAL init_connect = '{init_connect}'; CREATE DATABASE {database}; \
             USE {database}; {SITES}; INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, \
             blog_id, bucket_no, monitor_url) VALUES (5, 7, 0, 'http://a.test/')"
        ));
        let address = url(&server.address("ringwatch", database));
        Store::migrate(&address).await.expect("migrated");
        // Who opens it has asked how its sessions are.
        let store = open_as(&address, described()).await.expect("opens");
        let mut incident = Incident::of(target(5), 1);
        let facts = [incident.open(), incident.confirm()];
        let changed_s = transition(&facts[1]).changed_at.0 / 1_000;

        let mut root = root(&server).await;
        let lock = format!("SELECT 1 FROM {database}.jetpack_monitor_nodes FOR UPDATE");
        root.query_drop("BEGIN").await.expect("begun");
        root.query_drop(lock).await.expect("locked");
        let release = async {
            let level = isolation_of_who_waits(&mut root).await;
            root.query_drop("ROLLBACK").await.expect("released");
            level
        };
        let facts = batch(1, &facts);
        let (applied, level) = tokio::join!(store.apply(&facts), release);
        assert_eq!(level, "READ COMMITTED", "{database}");
        assert_eq!(applied.expect("applied").transitions, 2);
        // A TIMESTAMP, as the server keeps it.
        let stored = server.sql(&format!(
            "SELECT site_status, UNIX_TIMESTAMP(last_status_change) \
             FROM {database}.jetpack_monitor_sites"
        ));
        assert_eq!(stored, format!("2\t{changed_s}"), "{database}");
    }
}

#[tokio::test]
async fn a_session_that_is_not_as_it_was_asked_to_be_is_refused_with_what_it_is() {
    let backend = Mysql::fresh();
    let proxy = Proxy::start(mariadb::shared().port());
    let direct = mariadb::shared().address("ringwatch", &backend.name);
    let address = url(&proxy.address(&direct));
    for (query, said, sentence) in [
        (
            "SET SESSION time_zone = '+00:00'",
            "SET SESSION time_zone = '+05:00'",
            "keeps time_zone = \"+05:00\" for our sessions, \"+00:00\" is needed",
        ),
        (
            "SET SESSION autocommit = 1",
            "SET SESSION autocommit = 0",
            "keeps autocommit = \"OFF\" for our sessions, \"ON\" is needed",
        ),
        (
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            "SET SESSION sql_mode = ''",
            "keeps sql_mode = \"\" for our sessions, \"STRICT_ALL_TABLES\" is needed",
        ),
        (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "keeps transaction_isolation = \"SERIALIZABLE\" for our sessions, \
             \"READ-COMMITTED\" is needed",
        ),
    ] {
        proxy.instead(query, said);
        let error = Store::open(&address).await.expect_err(said);
        let told = error.to_string();
        assert!(matches!(error, StoreError::Setting { .. }), "{told}");
        assert!(
            told.contains(sentence) && told.contains("a proxy or an init_connect"),
            "{told}"
        );
    }
    proxy.instead("", "");
    Store::open(&address).await.expect("nobody meddles");
}
