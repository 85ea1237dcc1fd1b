//! Whether a server tells the changes of the legacy tables, how those tables are, and where its log
//! ends now. Asks, and changes nothing.

use std::collections::HashMap;

use mysql_async::Value;

use super::super::super::session::{Session, read};
use super::super::row::SETTINGS;
use super::gather::{Watched, What};
use crate::changes::{NoChanges, Position};
use crate::legacy::{Legacy, Name};
use crate::{Result, StoreError};

const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', \
    'binlog_format', 'binlog_row_image', 'log_bin_compress', 'binlog_transaction_compression', \
    'binlog_row_value_options')";

/// Settings that must be as here where a server has them.
const PLAIN: [(&str, &str); 3] = [
    ("log_bin_compress", "OFF"),
    ("binlog_transaction_compression", "OFF"),
    ("binlog_row_value_options", ""),
];

/// Newer servers of one kind have the one name, all others the other.
const STATUS: [&str; 2] = ["SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"];

const COLUMNS: &str = "SELECT column_name, column_type FROM information_schema.columns \
    WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";

const CASCADES: &str = "SELECT constraint_name FROM information_schema.referential_constraints \
    WHERE constraint_schema = DATABASE() AND table_name = ? \
    AND (delete_rule NOT IN ('RESTRICT', 'NO ACTION') \
         OR update_rule NOT IN ('RESTRICT', 'NO ACTION'))";

/// Whether an index of a kind begins with a column: `PRIMARY`, or any.
const INDEXES: &str = "SELECT COUNT(*) FROM information_schema.statistics \
    WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ? \
    AND seq_in_index = 1 AND (index_name = ? OR ? = '')";

/// What is to be granted for a stream; both kinds of servers know these words.
const GRANT: &str = "REPLICATION SLAVE, REPLICATION CLIENT ON *.*";
/// No such command.
const SYNTAX_ERROR: u16 = 1064;

/// What a stream needs to know before it begins.
pub(super) struct Look {
    pub(super) database: String,
    pub(super) tables: Vec<Watched>,
    /// The server's clock before that, in s since the Unix epoch.
    pub(super) asked_s: u64,
    /// The end of the log before the tables were looked at.
    pub(super) end: Position,
    /// Whether targets of a blog are found without reading the whole table.
    pub(super) groups_have_an_index: bool,
}

/// Looks at the server of `session`.
///
/// # Errors
/// [`StoreError::NoChanges`] with what is missing, and the store's.
pub(super) async fn look(session: &mut Session, legacy: &Legacy, own: &str) -> Result<Look> {
    session.connect().await?;
    let variables = variables(session).await?;
    let log_is_on = variables.get("log_bin").is_some_and(|value| is_on(value));
    if !log_is_on {
        return Err(refused(session, NoChanges::LogOff));
    }
    require_rows(session, &variables)?;
    let asked_s = session
        .number("SELECT UNIX_TIMESTAMP()", Vec::new())
        .await?;
    let end = end(session).await?;
    let image = variables.get("binlog_row_image");
    let image = image.map_or("FULL", String::as_str).to_ascii_uppercase();
    let mut tables = Vec::new();
    for (what, name, key, columns) in described(legacy, own) {
        if let Some(foreign) = first(session, CASCADES, vec![Value::from(&name)]).await? {
            let (table, key) = (name, foreign);
            return Err(refused(session, NoChanges::Cascade { table, key }));
        }
        let names_rows =
            image.starts_with("FULL") || has_index(session, &name, &key, "PRIMARY").await?;
        if !names_rows {
            let (table, column, found) = (name, key, image);
            let why = NoChanges::Image {
                found,
                table,
                column,
            };
            return Err(refused(session, why));
        }
        let switch = (what == What::Sites).then_some(legacy.columns.active.as_str());
        tables.push(watched(session, what, name, (&key, switch), &columns).await?);
    }
    let LegacyGroup { table, column } = group(legacy);
    Ok(Look {
        database: session.url().database.clone(),
        tables,
        asked_s: asked_s.map_or(0, i64::cast_unsigned),
        end,
        groups_have_an_index: has_index(session, &table, &column, "").await?,
    })
}

pub(super) fn refused(session: &Session, why: NoChanges) -> StoreError {
    StoreError::NoChanges {
        store: session.url().to_string(),
        why,
    }
}

/// A missing privilege, as what to grant. For what is asked after a login of the same user:
/// MariaDB refuses replicas as it refuses logins.
pub(super) fn with_grant(error: StoreError) -> StoreError {
    let (store, detail) = match error {
        StoreError::NoPrivilege { store, detail } => (store, detail),
        StoreError::LoginRefused { store } => (store, "it may not read the binary log".to_owned()),
        other => return other,
    };
    let grant = GRANT.to_owned();
    StoreError::NoChanges {
        store,
        why: NoChanges::Privilege { detail, grant },
    }
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

async fn variables(session: &mut Session) -> Result<HashMap<String, String>> {
    let mut variables = HashMap::new();
    for row in session.fetch(VARIABLES, Vec::new()).await? {
        let (name, value): (String, String) = read(session.url(), row)?;
        variables.insert(name.to_ascii_lowercase(), value);
    }
    Ok(variables)
}

/// Refuses a log whose changes are not rows that can be read.
fn require_rows(session: &Session, variables: &HashMap<String, String>) -> Result<()> {
    // A server without the setting knows rows alone.
    let format = variables.get("binlog_format");
    if let Some(found) = format.filter(|format| !format.eq_ignore_ascii_case("ROW")) {
        let found = found.clone();
        return Err(refused(session, NoChanges::Format { found }));
    }
    for (setting, wanted) in PLAIN {
        let found = variables.get(setting);
        if let Some(found) = found.filter(|found| !found.eq_ignore_ascii_case(wanted)) {
            let why = NoChanges::Packed {
                setting,
                found: found.clone(),
                wanted: if wanted.is_empty() { "''" } else { wanted },
            };
            return Err(refused(session, why));
        }
    }
    Ok(())
}

/// Where the log ends now.
async fn end(session: &mut Session) -> Result<Position> {
    let mut rows = None;
    for statement in STATUS {
        match session.fetch_text(statement).await {
            Err(StoreError::Server { code, .. }) if code == SYNTAX_ERROR => {}
            done => {
                rows = Some(done.map_err(with_grant)?);
                break;
            }
        }
    }
    let Some(rows) = rows else {
        let asked = STATUS[0];
        return Err(refused(session, NoChanges::Unknown { asked }));
    };
    let Some(row) = rows.into_iter().next() else {
        return Err(refused(session, NoChanges::LogOff));
    };
    let text = |at| {
        row.get::<Option<String>, _>(at)
            .flatten()
            .unwrap_or_default()
    };
    let database = &session.url().database;
    if let Some(which) = left_out(database, &text(2), &text(3)) {
        let database = database.clone();
        return Err(refused(session, NoChanges::LeftOut { database, which }));
    }
    Ok(Position {
        server: 0,
        file: text(0),
        begun: 0,
        offset: row.get::<Option<u64>, _>(1).flatten().unwrap_or_default(),
    })
}

/// Which list of databases leaves out `database`.
fn left_out(database: &str, only: &str, without: &str) -> Option<&'static str> {
    let names = |list: &str| list.split(',').any(|name| name.trim() == database);
    if !only.trim().is_empty() && !names(only) {
        Some("do")
    } else if names(without) {
        Some("ignore")
    } else {
        None
    }
}

/// What a target is found by where its blog is known.
struct LegacyGroup {
    table: String,
    column: String,
}

fn group(legacy: &Legacy) -> LegacyGroup {
    LegacyGroup {
        table: legacy.table.to_string(),
        column: legacy.columns.group.to_string(),
    }
}

/// The tables with the column that names their rows, and the columns that are read.
fn described(legacy: &Legacy, own: &str) -> Vec<(What, String, String, Vec<String>)> {
    let columns = &legacy.columns;
    let of_sites = [
        &columns.id,
        &columns.active,
        &columns.group,
        &columns.url,
        &columns.interval,
    ];
    let of_sites = of_sites.map(Name::to_string).to_vec();
    let settings = |key: &str| {
        let names = SETTINGS.map(|setting| setting.name().to_owned());
        let mut columns = names.to_vec();
        columns.push(key.to_owned());
        columns
    };
    let config = legacy.config_table.as_ref();
    let config = config.map_or_else(|| own.to_owned(), Name::to_string);
    let (site, blog) = ("source_site_id", "blog_id");
    let mut tables = vec![
        (
            What::Sites,
            legacy.table.to_string(),
            columns.id.to_string(),
            of_sites,
        ),
        (What::Settings, config, site.to_owned(), settings(site)),
    ];
    if let Some(table) = &legacy.blog_config_table {
        let table = table.to_string();
        tables.push((What::Blogs, table, blog.to_owned(), settings(blog)));
    }
    tables
}

/// How the table `name` is, of which `columns` are read.
async fn watched(
    session: &mut Session,
    what: What,
    name: String,
    (key, switch): (&str, Option<&str>),
    columns: &[String],
) -> Result<Watched> {
    let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let mut table = Watched {
        what,
        name: name.clone(),
        columns: 0,
        read: Vec::new(),
        key: 0,
        key_name: key.to_owned(),
        key_is_unsigned: false,
        switch: None,
    };
    for row in session.fetch(COLUMNS, vec![Value::from(&name)]).await? {
        let (column, kind): (String, String) = read(session.url(), row)?;
        let kind = kind.to_ascii_lowercase();
        if kind.contains("compressed") {
            let why = NoChanges::CompressedColumn {
                table: name,
                column,
            };
            return Err(refused(session, why));
        }
        if is(&column, key) {
            table.key = table.columns;
            table.key_is_unsigned = kind.contains("unsigned");
        }
        if switch.is_some_and(|switch| is(&column, switch)) {
            table.switch = Some(table.columns);
        }
        if columns.iter().any(|wanted| is(wanted, &column)) {
            table.read.push(table.columns);
        }
        table.columns += 1;
    }
    if table.read.len() == columns.len() {
        return Ok(table);
    }
    // It was right when the store was opened.
    Err(StoreError::LegacyDiffers {
        store: session.url().to_string(),
        differences: vec![format!("{name} lost a column")],
    })
}

async fn has_index(session: &mut Session, table: &str, column: &str, index: &str) -> Result<bool> {
    let parameters = [table, column, index, index].map(Value::from).to_vec();
    let found = session.number(INDEXES, parameters).await?;
    Ok(found.is_some_and(|count| count > 0))
}

async fn first(session: &mut Session, sql: &str, keys: Vec<Value>) -> Result<Option<String>> {
    let rows = session.fetch(sql, keys).await?;
    let row = rows.into_iter().next();
    let first = row.map(|row| read::<(String,)>(session.url(), row));
    Ok(first.transpose()?.map(|(text,)| text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_left_out_by_a_list_without_it_or_by_one_with_it() {
        for (only, without, which) in [
            ("", "", None),
            ("other,watch", "", None),
            ("other", "", Some("do")),
            ("", "other", None),
            ("", "other, watch", Some("ignore")),
        ] {
            assert_eq!(left_out("watch", only, without), which, "{only} {without}");
        }
    }
}
