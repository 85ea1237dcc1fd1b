//! Whether the tables of a server are those that the migrations make: columns with their types and
//! with what the server fills them, keys, and views. What is expected is read from the migrations
//! themselves, which have one column a line.

use std::collections::BTreeMap;

use super::facts::FORCED_INDEX;
use super::session::{Session, read};
use crate::schema::Migration;
use crate::{Result, StoreError};

/// Differences that a sentence names at most.
const SAID_MAX: usize = 8;

const COLUMNS: &str = "SELECT table_name, column_name, data_type, is_nullable, \
    character_maximum_length, extra FROM information_schema.columns \
    WHERE table_schema = DATABASE()";

const TABLES: &str = "SELECT table_name, table_type, engine FROM information_schema.tables \
    WHERE table_schema = DATABASE()";

const KEYS: &str = "SELECT table_name, index_name, non_unique, column_name \
    FROM information_schema.statistics WHERE table_schema = DATABASE() \
    ORDER BY table_name, index_name, seq_in_index";

/// What a column is where the server numbers its rows.
const NUMBERED: &str = " auto_increment";

/// The one engine whose rows are written with a transaction or not at all; `TiDB` calls its own so.
pub(super) const ENGINE: &str = "InnoDB";

/// A table, or a view, with what matters of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Type, whether it may be NULL and what the server fills it with, by name: `varchar(64)`,
    /// `bigint null`, `varchar(64) null generated`.
    columns: BTreeMap<String, String>,
    /// Columns of each key, and whether it is unique, by name: `unique (a, b)`.
    keys: BTreeMap<String, String>,
    is_view: bool,
    /// The engine, where it is another one than [`ENGINE`].
    foreign_engine: Option<String>,
}

type Tables = BTreeMap<String, Table>;

/// A part of a key as the server tells it: its table, its name, 0 where it is unique, and the
/// column; NULL where the part is an expression, as keys of other tables may have them.
type Part = (String, String, i64, Option<String>);

/// What is shown of a part that is no column; no column is called so.
const EXPRESSION: &str = "(expression)";

/// Types of columns, by table and column; of columns in small letters.
pub(super) type Columns = BTreeMap<String, BTreeMap<String, String>>;

/// A column as the server tells it: its table, its name, its type, whether it may be NULL, its
/// length in characters and what else there is to it.
type Described = (String, String, String, String, Option<u64>, Option<String>);

/// The columns of every table and view of the database.
pub(super) async fn columns(session: &mut Session) -> Result<Columns> {
    let mut found = Columns::new();
    for row in session.fetch(COLUMNS, Vec::new()).await? {
        let (table, column, kind, nullable, length, extra): Described = read(session.url(), row)?;
        let filled = filled(&extra.unwrap_or_default());
        let kind = described(&kind, length, nullable == "YES") + filled;
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
    let forced = session.url().named(FORCED_INDEX).to_ascii_lowercase();
    let mut differences = differences(&expected, &found, &forced, all_needed);
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
    for (table, name, key) in keys(parts?) {
        found.entry(table).or_default().keys.insert(name, key);
    }
    for row in session.fetch(TABLES, Vec::new()).await? {
        let (name, kind, engine): (String, String, Option<String>) = read(&url, row)?;
        let table = found.entry(name).or_default();
        table.is_view = kind == "VIEW";
        table.foreign_engine = engine.filter(|engine| !engine.eq_ignore_ascii_case(ENGINE));
    }
    Ok(found)
}

/// Keys with their tables and names, of `parts` in their order within each key.
fn keys(parts: Vec<Part>) -> impl Iterator<Item = (String, String, String)> {
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
        .map(move |((table, name), key)| (table, name.to_ascii_lowercase(), shown(key)))
}

/// Lengths of large texts follow from their types and are left out.
fn described(kind: &str, length: Option<u64>, nullable: bool) -> String {
    let kind = kind.to_ascii_lowercase();
    let length = length.filter(|_| kind.starts_with("var"));
    let length = length.map_or_else(String::new, |length| format!("({length})"));
    let null = if nullable { " null" } else { "" };
    format!("{kind}{length}{null}")
}

/// What the server fills a column with by itself, of the words that say so: those of a migration,
/// and those of `information_schema` (MySQL calls a plain default `DEFAULT_GENERATED` there).
fn filled(words: &str) -> &'static str {
    let is = |word: &str| {
        let mut words = words.split([' ', ',']);
        words.any(|other| other.eq_ignore_ascii_case(word))
    };
    if is("GENERATED") {
        " generated"
    } else if is("AUTO_INCREMENT") {
        NUMBERED
    } else {
        ""
    }
}

fn shown_key(is_unique: bool, columns: &[String]) -> String {
    let kind = if is_unique { "unique" } else { "index" };
    format!("{kind} ({})", columns.join(", "))
}

/// What differs, a phrase each. The index called `forced` is asked for by its name.
fn differences(expected: &Tables, found: &Tables, forced: &str, all_needed: bool) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, table) in expected {
        let kind = if table.is_view { "view" } else { "table" };
        match found.get(name) {
            None if all_needed => differences.push(format!("{kind} {name} is missing")),
            None => {}
            Some(there) if there.is_view != table.is_view => {
                differences.push(format!("{name} is no {kind}"));
            }
            Some(there) => {
                differences.extend(of_engine(name, there));
                differences.extend(of_columns(name, table, there));
                differences.extend(of_keys(name, table, there, forced));
            }
        }
    }
    differences
}

fn of_engine(name: &str, there: &Table) -> Option<String> {
    let engine = there.foreign_engine.as_ref()?;
    Some(format!(
        "{name} is kept by the engine {engine}, which does not undo what a transaction wrote \
         (ALTER TABLE {name} ENGINE={ENGINE})"
    ))
}

fn of_columns(name: &str, table: &Table, there: &Table) -> Vec<String> {
    let mut differences = Vec::new();
    for (column, kind) in &table.columns {
        match there.columns.get(column) {
            None => differences.push(format!("{name} has no column {column}")),
            // Rows that bring their ids are none the worse for a number that nobody asks for.
            Some(other) if other == kind || other.strip_suffix(NUMBERED) == Some(kind) => {}
            Some(other) => differences.push(format!("{name}.{column} is {other}, not {kind}")),
        }
    }
    differences
}

fn of_keys(name: &str, table: &Table, there: &Table, forced: &str) -> Vec<String> {
    let mut differences = Vec::new();
    for (key, shown) in &table.keys {
        let same = there.keys.iter().find(|(_, other)| *other == shown);
        match same {
            None => differences.push(format!("{name} has no key {shown}")),
            Some((other, _)) if key == forced && there.keys.get(key) != Some(shown) => {
                differences.push(format!(
                    "{name} has its {shown} under the name {other}, and it is asked for as {key} \
                     (ALTER TABLE {name} RENAME INDEX {other} TO {key})"
                ));
            }
            Some(_) => {}
        }
    }
    differences
}

/// Adds the table, or the view, that `sql` creates, when it creates one.
fn declare(tables: &mut Tables, sql: &str) {
    if let Some((_, view)) = sql.split_once("CREATE OR REPLACE VIEW ") {
        let name = view.split_whitespace().next().unwrap_or_default();
        tables.entry(name.to_owned()).or_default().is_view = true;
        return;
    }
    let Some((_, body)) = sql.split_once("CREATE TABLE IF NOT EXISTS ") else {
        return;
    };
    let mut lines = body.lines();
    let name = lines.next().unwrap_or_default().trim_end_matches(" (");
    let table = tables.entry(name.to_owned()).or_default();
    for line in lines.take_while(|line| !line.starts_with(')')) {
        if let Some((name, key)) = key_of(line) {
            table.keys.insert(name, key);
        } else if let Some((column, kind)) = column_of(line) {
            table.columns.insert(column, kind);
        }
    }
}

/// `    PRIMARY KEY (a, b),` or `    UNIQUE KEY name (a, b),` or `    KEY name (a, b)`: its name,
/// in small letters, and what is shown of it.
fn key_of(line: &str) -> Option<(String, String)> {
    let line = line.trim().trim_end_matches(',');
    let is_unique = line.starts_with("PRIMARY KEY") || line.starts_with("UNIQUE KEY");
    if !is_unique && !line.starts_with("KEY ") {
        return None;
    }
    let (words, columns) = line.split_once('(')?;
    // A primary key has no other name.
    let name = words
        .split_whitespace()
        .last()
        .filter(|word| *word != "KEY");
    let columns: Vec<String> = columns
        .trim_end_matches(')')
        .split(", ")
        .map(str::to_owned)
        .collect();
    let name = name.unwrap_or("primary").to_ascii_lowercase();
    Some((name, shown_key(is_unique, &columns)))
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
    let kind = described(kind, length, nullable) + filled(rest);
    Some((name.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "-- words
CREATE TABLE IF NOT EXISTS t (
    id BIGINT NOT NULL AUTO_INCREMENT,
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
                "id bigint auto_increment",
                "name varchar(64)",
                "note mediumtext null",
                "open_name varchar(64) null generated"
            ]
        );
        let keys: Vec<(&str, &str)> = tables["t"]
            .keys
            .iter()
            .map(|(name, key)| (name.as_str(), key.as_str()))
            .collect();
        let expected = [
            ("primary", "unique (id)"),
            ("t_name", "unique (name, id)"),
            ("t_note", "index (id, name)"),
        ];
        assert_eq!(keys, expected);
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
        let found: Vec<(String, String, String)> = keys(parts).collect();
        let expected = [
            ("orders", "by_month", "unique ((expression))"),
            ("t", "primary", "unique (id)"),
            ("t", "t_name", "unique (name, (expression))"),
        ];
        let expected = expected.map(|(table, name, key)| {
            let [table, name, key] = [table, name, key].map(str::to_owned);
            (table, name, key)
        });
        assert_eq!(found, expected);
    }

    /// What differs where the tables are those of `sql`.
    fn differing(sql: &str, all_needed: bool) -> Vec<String> {
        let (mut expected, mut found) = (Tables::new(), Tables::new());
        declare(&mut expected, SQL);
        declare(&mut found, sql);
        differences(&expected, &found, "t_note", all_needed)
    }

    #[test]
    fn what_differs_is_named() {
        assert_eq!(differing("", true), ["table t is missing"]);
        assert_eq!(differing("", false), Vec::<String>::new());
        let other = SQL
            .replace("    note MEDIUMTEXT NULL,\n", "")
            .replace(
                "VARCHAR(64) NOT NULL DEFAULT",
                "VARCHAR(10) NOT NULL DEFAULT",
            )
            .replace("UNIQUE KEY t_name", "KEY t_name");
        let expected = [
            "t.name is varchar(10), not varchar(64)",
            "t has no column note",
            "t has no key unique (name, id)",
        ];
        assert_eq!(differing(&other, true), expected);
        let view = "CREATE OR REPLACE VIEW t AS SELECT 1";
        assert_eq!(differing(view, true), ["t is no table"]);
    }

    /// Lesson: tables without what a server fills, or with another name of the index that facts
    /// are asked for by, passed, and then no fact was ever applied, or no event was alone.
    #[test]
    fn what_the_server_fills_and_the_forced_index_must_be_as_they_were_made() {
        let plain = SQL
            .replace(" AUTO_INCREMENT", "")
            .replace("GENERATED ALWAYS AS (", "NULL,")
            .replace("    ) VIRTUAL,\n", "");
        let expected = [
            "t.id is bigint, not bigint auto_increment",
            "t.open_name is varchar(64) null, not varchar(64) null generated",
        ];
        assert_eq!(differing(&plain, true), expected);
        let renamed = SQL.replace("t_name", "any").replace("t_note", "other");
        let expected = [
            "t has its index (id, name) under the name other, and it is asked for as t_note \
             (ALTER TABLE t RENAME INDEX other TO t_note)",
        ];
        assert_eq!(differing(&renamed, true), expected);
        // A server numbers rows that bring their numbers: nobody minds.
        let numbered = SQL.replace(
            "name VARCHAR(64) NOT",
            "name VARCHAR(64) AUTO_INCREMENT NOT",
        );
        assert_eq!(differing(&numbered, true), Vec::<String>::new());
        for (words, expected) in [
            ("VIRTUAL GENERATED", " generated"),
            ("STORED GENERATED", " generated"),
            ("auto_increment", NUMBERED),
            ("DEFAULT_GENERATED on update CURRENT_TIMESTAMP", ""),
            ("", ""),
        ] {
            assert_eq!(filled(words), expected, "{words}");
        }
    }
}
