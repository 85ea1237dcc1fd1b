//! Whether the tables of a server are those that the migrations make: columns with their types,
//! and keys. What is expected is read from the migrations themselves, which have one column a line.

use std::collections::{BTreeMap, BTreeSet};

use super::session::{Session, read};
use crate::schema::Migration;
use crate::{Result, StoreError};

/// Differences that a sentence names at most.
const SAID_MAX: usize = 8;

const COLUMNS: &str = "SELECT table_name, column_name, data_type, is_nullable, \
    character_maximum_length FROM information_schema.columns WHERE table_schema = DATABASE()";

const KEYS: &str = "SELECT table_name, index_name, non_unique, column_name \
    FROM information_schema.statistics WHERE table_schema = DATABASE() \
    ORDER BY table_name, index_name, seq_in_index";

/// A table with what matters of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Type and whether it may be NULL, by name: `varchar(64)`, `bigint null`.
    columns: BTreeMap<String, String>,
    /// Columns of each key, and whether it is unique: `unique (a, b)`.
    keys: BTreeSet<String>,
}

type Tables = BTreeMap<String, Table>;

/// A part of a key as the server tells it: its table, its name, 0 where it is unique, and the
/// column; NULL where the part is an expression, as keys of other tables may have them.
type Part = (String, String, i64, Option<String>);

/// What is shown of a part that is no column; no column is called so.
const EXPRESSION: &str = "(expression)";

/// Types of columns, by table and column; of columns in small letters.
pub(super) type Columns = BTreeMap<String, BTreeMap<String, String>>;

/// The columns of every table and view of the database.
pub(super) async fn columns(session: &mut Session) -> Result<Columns> {
    let mut found = Columns::new();
    for row in session.fetch(COLUMNS, Vec::new()).await? {
        let (table, column, kind, nullable, length): (_, String, String, String, Option<u64>) =
            read(session.url(), row)?;
        let kind = described(&kind, length, nullable == "YES");
        let table: &mut BTreeMap<String, String> = found.entry(table).or_default();
        table.insert(column.to_ascii_lowercase(), kind);
    }
    Ok(found)
}

/// Refuses tables that are missing or differ from what `migrations` make.
pub(super) async fn require(session: &mut Session, migrations: &[Migration]) -> Result<()> {
    compare(session, migrations, true).await
}

/// Refuses tables that are there under our names and differ.
pub(super) async fn require_where_there(
    session: &mut Session,
    migrations: &[Migration],
) -> Result<()> {
    compare(session, migrations, false).await
}

async fn compare(session: &mut Session, migrations: &[Migration], all_needed: bool) -> Result<()> {
    let mut expected = Tables::new();
    for migration in migrations {
        declare(&mut expected, &session.url().named(migration.sql));
    }
    let found = look(session).await?;
    let mut differences = differences(&expected, &found, all_needed);
    if differences.is_empty() {
        return Ok(());
    }
    if differences.len() > SAID_MAX {
        let more = differences.len() - SAID_MAX;
        differences.truncate(SAID_MAX);
        differences.push(format!("and {more} more differences"));
    }
    Err(StoreError::SchemaDiffers {
        store: session.url().to_string(),
        known: super::migrate::known(),
        differences,
    })
}

async fn look(session: &mut Session) -> Result<Tables> {
    let mut found = Tables::new();
    for (table, columns) in columns(session).await? {
        found.entry(table).or_default().columns = columns;
    }
    let url = session.url().clone();
    let parts = session.fetch(KEYS, Vec::new()).await?;
    let parts: Result<Vec<Part>> = parts.into_iter().map(|row| read(&url, row)).collect();
    for (table, key) in keys(parts?) {
        found.entry(table).or_default().keys.insert(key);
    }
    Ok(found)
}

/// Keys with their tables, of `parts` in their order within each key.
fn keys(parts: Vec<Part>) -> impl Iterator<Item = (String, String)> {
    let mut keys: BTreeMap<(String, String), (bool, Vec<String>)> = BTreeMap::new();
    for (table, index, non_unique, column) in parts {
        let (is_unique, columns) = keys.entry((table, index)).or_default();
        *is_unique = non_unique == 0;
        columns.push(column.map_or_else(
            || EXPRESSION.to_owned(),
            |column| column.to_ascii_lowercase(),
        ));
    }
    let shown = |(is_unique, columns): (bool, Vec<String>)| shown_key(is_unique, &columns);
    keys.into_iter()
        .map(move |((table, _), key)| (table, shown(key)))
}

/// Lengths of large texts follow from their types and are left out.
fn described(kind: &str, length: Option<u64>, nullable: bool) -> String {
    let kind = kind.to_ascii_lowercase();
    let length = length.filter(|_| kind.starts_with("var"));
    let length = length.map_or_else(String::new, |length| format!("({length})"));
    let null = if nullable { " null" } else { "" };
    format!("{kind}{length}{null}")
}

fn shown_key(is_unique: bool, columns: &[String]) -> String {
    let kind = if is_unique { "unique" } else { "index" };
    format!("{kind} ({})", columns.join(", "))
}

fn differences(expected: &Tables, found: &Tables, all_needed: bool) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, table) in expected {
        let Some(there) = found.get(name) else {
            if all_needed {
                differences.push(format!("table {name} is missing"));
            }
            continue;
        };
        for (column, kind) in &table.columns {
            match there.columns.get(column) {
                None => differences.push(format!("{name} has no column {column}")),
                Some(other) if other != kind => {
                    differences.push(format!("{name}.{column} is {other}, not {kind}"));
                }
                Some(_) => {}
            }
        }
        for key in table.keys.difference(&there.keys) {
            differences.push(format!("{name} has no key {key}"));
        }
    }
    differences
}

/// Adds the table that `sql` creates, when it creates one.
fn declare(tables: &mut Tables, sql: &str) {
    let Some((_, body)) = sql.split_once("CREATE TABLE IF NOT EXISTS ") else {
        return;
    };
    let mut lines = body.lines();
    let name = lines.next().unwrap_or_default().trim_end_matches(" (");
    let table = tables.entry(name.to_owned()).or_default();
    for line in lines.take_while(|line| !line.starts_with(')')) {
        if let Some(key) = key_of(line) {
            table.keys.insert(key);
        } else if let Some((column, kind)) = column_of(line) {
            table.columns.insert(column, kind);
        }
    }
}

/// `    PRIMARY KEY (a, b),` or `    UNIQUE KEY name (a, b),` or `    KEY name (a, b)`.
fn key_of(line: &str) -> Option<String> {
    let line = line.trim().trim_end_matches(',');
    let is_unique = line.starts_with("PRIMARY KEY") || line.starts_with("UNIQUE KEY");
    if !is_unique && !line.starts_with("KEY ") {
        return None;
    }
    let columns = line.split_once('(')?.1.trim_end_matches(')');
    let columns: Vec<String> = columns.split(", ").map(str::to_owned).collect();
    Some(shown_key(is_unique, &columns))
}

/// `    name VARCHAR(64) NOT NULL,` with four blanks; lines further in go on with the one before.
fn column_of(line: &str) -> Option<(String, String)> {
    let line = line
        .strip_prefix("    ")
        .filter(|line| !line.starts_with([' ', ')']))?;
    let (name, rest) = line.split_once(' ')?;
    let kind = rest.split([' ', ',']).next()?;
    let (kind, length) = match kind.split_once('(') {
        Some((kind, length)) => (kind, length.trim_end_matches(')').parse().ok()),
        None => (kind, None),
    };
    let nullable = !rest.contains("NOT NULL");
    Some((name.to_owned(), described(kind, length, nullable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "-- words
CREATE TABLE IF NOT EXISTS t (
    id BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL DEFAULT '',
    note MEDIUMTEXT NULL,
    open_name VARCHAR(64) GENERATED ALWAYS AS (
        CASE WHEN note IS NULL THEN name END
    ) VIRTUAL,
    PRIMARY KEY (id),
    UNIQUE KEY t_name (name, id),
    KEY t_note (id, name)
) ENGINE=InnoDB";

    #[test]
    fn a_table_is_read_from_its_migration() {
        let mut tables = Tables::new();
        declare(&mut tables, SQL);
        declare(&mut tables, "INSERT IGNORE INTO t (id) VALUES (1)");
        let columns: Vec<String> = tables["t"]
            .columns
            .iter()
            .map(|(name, kind)| format!("{name} {kind}"))
            .collect();
        assert_eq!(
            columns,
            [
                "id bigint",
                "name varchar(64)",
                "note mediumtext null",
                "open_name varchar(64) null"
            ]
        );
        let keys: Vec<&str> = tables["t"].keys.iter().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["index (id, name)", "unique (id)", "unique (name, id)"]
        );
    }

    /// MySQL 8 and `TiDB` have keys of expressions, which have no column, on whatever table.
    #[test]
    fn a_key_of_an_expression_is_read_and_taken_for_no_other() {
        let part = |table: &str, key: &str, column: Option<&str>| -> Part {
            let column = column.map(str::to_owned);
            (table.to_owned(), key.to_owned(), 0, column)
        };
        let parts = vec![
            part("orders", "by_month", None),
            part("t", "PRIMARY", Some("ID")),
            part("t", "t_name", Some("name")),
            part("t", "t_name", None),
        ];
        let found: Vec<(String, String)> = keys(parts).collect();
        let expected = [
            ("orders", "unique ((expression))"),
            ("t", "unique (id)"),
            ("t", "unique (name, (expression))"),
        ];
        let expected = expected.map(|(table, key)| (table.to_owned(), key.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_differs_is_named() {
        let (mut expected, mut found) = (Tables::new(), Tables::new());
        declare(&mut expected, SQL);
        assert_eq!(differences(&expected, &found, true), ["table t is missing"]);
        assert_eq!(differences(&expected, &found, false), Vec::<String>::new());
        let other = SQL
            .replace("    note MEDIUMTEXT NULL,\n", "")
            .replace(
                "VARCHAR(64) NOT NULL DEFAULT",
                "VARCHAR(10) NOT NULL DEFAULT",
            )
            .replace("UNIQUE KEY t_name", "KEY t_name");
        declare(&mut found, &other);
        assert_eq!(
            differences(&expected, &found, true),
            [
                "t.name is varchar(10), not varchar(64)",
                "t has no column note",
                "t has no key unique (name, id)"
            ]
        );
    }
}
