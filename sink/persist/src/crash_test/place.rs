//! Where the killed sink's store is: a file in its directory, or a database of a real server, named
//! by a file there. A store is copied with its directory, so that a wreck can be looked at.

use std::path::Path;

use rig::mariadb;
use store::{Store, StoreUrl};

use super::life::now;

/// The file that names a database; without it the store is in the directory.
const PLACE: &str = "store.url";
const USER: &str = "ringwatch";

/// Kills after which a new directory is begun: each row is looked at after each of them.
pub(super) const KILLS_OF_A_DIRECTORY: u64 = 20;

/// What a sink writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    MariaDb,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::MariaDb => "MariaDB",
        }
    }

    /// Kills of a test; after each a database is copied table by table, which takes seconds.
    pub(super) fn kills(self) -> u64 {
        match self {
            Self::Sqlite => 16,
            Self::MariaDb => 4,
        }
    }

    /// Makes the store of a directory, for as long as what is returned lives.
    pub(super) fn place(self, directory: &Path) -> Option<Database> {
        (self == Self::MariaDb).then(|| Database::fresh(directory))
    }
}

/// The address of the store of a directory.
pub(super) fn url(directory: &Path) -> StoreUrl {
    let noted = std::fs::read_to_string(directory.join(PLACE));
    let url = noted.unwrap_or_else(|_| format!("sqlite:{}/facts.db", directory.display()));
    url.parse().expect("a URL")
}

/// The database of a directory, where its store is one.
pub(super) fn database(directory: &Path) -> Option<String> {
    let address = std::fs::read_to_string(directory.join(PLACE)).ok()?;
    let (_, name) = address.rsplit_once('/').expect("a database");
    Some(name.to_owned())
}

/// A migrated database, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Database(String);

impl Database {
    fn fresh(directory: &Path) -> Self {
        let name = mariadb::fresh_name();
        let server = mariadb::shared();
        server.sql(&format!("CREATE DATABASE {name}"));
        let address = server.address(USER, &name);
        std::fs::write(directory.join(PLACE), address).expect("written");
        now(Store::migrate(&url(directory))).expect("migrated");
        Self(name)
    }

    /// If the store of `copy`, a copied directory, is a database: one with the same rows instead.
    pub(super) fn copied(copy: &Path) -> Option<Self> {
        let from = &database(copy)?;
        wait_until_left_alone(from);
        let new = Self::fresh(copy);
        let mut sql = String::from("SET FOREIGN_KEY_CHECKS = 0;\n");
        for line in mariadb::shared().sql(&columns(from)).lines() {
            let (table, columns) = line.split_once('\t').expect("two columns");
            sql += &copy_rows(from, &new.0, table, columns);
        }
        mariadb::shared().sql(&sql);
        Some(new)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        mariadb::shared().sql(&format!("DROP DATABASE {}", self.0));
    }
}

/// Asks for the tables of a database and the columns of each; what is computed from other columns
/// computes itself.
fn columns(database: &str) -> String {
    format!(
        "SELECT c.table_name, GROUP_CONCAT('`', c.column_name, '`') \
         FROM information_schema.columns AS c JOIN information_schema.tables AS t \
         USING (table_schema, table_name) WHERE c.table_schema = '{database}' \
         AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER' GROUP BY c.table_name"
    )
}

/// The statements that make the rows of `table` in `to` those that `from` has.
fn copy_rows(from: &str, to: &str, table: &str, columns: &str) -> String {
    format!(
        "DELETE FROM {to}.{table};\n\
         INSERT INTO {to}.{table} ({columns}) SELECT {columns} FROM {from}.{table};\n"
    )
}

/// The server ends what a killed process had begun once it sees that nobody is there.
fn wait_until_left_alone(database: &str) {
    let sql =
        format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{database}'");
    while mariadb::shared().sql(&sql) != "0" {}
}
