//! Whether the legacy tables are as they were described, and whether what must be written there
//! may be. Changes nothing.

use mysql_async::Value;

use super::super::session::{Session, read};
use super::super::structure::{Columns, ENGINE, columns};
use super::row::SETTINGS;
use crate::legacy::{Legacy, LegacyFreshness, Name};
use crate::{Result, StoreError};

/// How many unique indexes of a table have this column alone. Parts that are expressions have no
/// name, and are nobody's.
const UNIQUE: &str = "SELECT COUNT(*) FROM (SELECT index_name \
    FROM information_schema.statistics \
    WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0 \
    GROUP BY index_name HAVING COUNT(*) = 1 AND MAX(column_name = ?) = 1) AS found";

/// The engine of a table, where it is not the one that is needed; a view has none.
const OTHER_ENGINE: &str = "SELECT engine FROM information_schema.tables \
    WHERE table_schema = DATABASE() AND table_name = ? AND engine <> ?";

/// What a column must be.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Time,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Number => "a whole number",
            Self::Text => "a text",
            Self::Time => "a DATETIME or TIMESTAMP",
        }
    }

    /// `described` as the structure of a table is: `varchar(300)`, `timestamp null`.
    fn is(self, described: &str) -> bool {
        let kind = described.split([' ', '(']).next().unwrap_or_default();
        match self {
            Self::Number => kind.ends_with("int"),
            Self::Text => kind.ends_with("char") || kind.ends_with("text"),
            Self::Time => ["datetime", "timestamp"].contains(&kind),
        }
    }
}

impl Session {
    /// Refuses legacy tables that lack what the configuration says, or that this user may not
    /// write what a node has to write.
    pub(in crate::mysql) async fn require_legacy(&mut self) -> Result<()> {
        let Some(legacy) = self.legacy().cloned() else {
            return Ok(());
        };
        self.connect().await?;
        let found = columns(self).await?;
        let store = self.url().to_string();
        let differences = differences(&legacy, &found);
        if !differences.is_empty() {
            return Err(StoreError::LegacyDiffers { store, differences });
        }
        let differences = self.ambiguous(&legacy).await?;
        if !differences.is_empty() {
            return Err(StoreError::LegacyAmbiguous { store, differences });
        }
        if legacy.load && !of_no_row(&legacy).is_empty() {
            self.require_transactions(&legacy.table).await?;
        }
        if legacy.load && !self.is_look_only() {
            for statement in of_no_row(&legacy) {
                // A server that takes no writes now may take them later; a right is for somebody
                // to give.
                if let Err(error @ StoreError::NoPrivilege { .. }) = self.say(&statement).await {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Refuses a legacy table that keeps what is rolled back: a status would stay written whose
    /// event was not.
    pub(super) async fn require_transactions(&mut self, table: &Name) -> Result<()> {
        let names = vec![Value::from(table.as_str()), Value::from(ENGINE)];
        let Some(row) = self.fetch(OTHER_ENGINE, names).await?.pop() else {
            return Ok(());
        };
        let (engine,): (String,) = read(self.url(), row)?;
        Err(StoreError::LegacyEngine {
            store: self.url().to_string(),
            table: table.to_string(),
            engine,
        })
    }

    /// Tables of which several rows may be of one target or of one blog: each target would be
    /// read as often as there are rows for it, with the settings of the last one. Views are among
    /// them, whose changes no binary log tells under their names.
    async fn ambiguous(&mut self, legacy: &Legacy) -> Result<Vec<String>> {
        let mut ambiguous = Vec::new();
        let of_targets = (&legacy.table, legacy.columns.id.as_str());
        for (table, key) in settings(legacy).into_iter().chain([of_targets]) {
            let names = vec![Value::from(table.as_str()), Value::from(key)];
            if self.number(UNIQUE, names).await? == Some(0) {
                ambiguous.push(format!(
                    "{table} has no unique index of {key} alone, so that it may have several rows \
                     for one {key} (ALTER TABLE {table} ADD UNIQUE INDEX ({key}), once those are \
                     gone; a view has none)"
                ));
            }
        }
        Ok(ambiguous)
    }
}

/// Tables of settings that are read instead of our own, each with the column that says whose.
fn settings(legacy: &Legacy) -> Vec<(&Name, &'static str)> {
    let of_sites = legacy.config_table.as_ref();
    let of_blogs = legacy.blog_config_table.as_ref();
    let of_sites = of_sites.map(|table| (table, "source_site_id"));
    let of_blogs = of_blogs.map(|table| (table, "blog_id"));
    of_sites.into_iter().chain(of_blogs).collect()
}

fn differences(legacy: &Legacy, found: &Columns) -> Vec<String> {
    let names = &legacy.columns;
    let mut wanted = vec![
        (&names.id, Kind::Number),
        (&names.group, Kind::Number),
        (&names.url, Kind::Text),
        (&names.active, Kind::Number),
        (&names.interval, Kind::Number),
    ];
    if legacy.status {
        wanted.push((&names.status, Kind::Number));
        wanted.push((&names.status_changed, Kind::Time));
    }
    if legacy.freshness == LegacyFreshness::Columns {
        wanted.push((&names.last_checked, Kind::Time));
        wanted.push((&names.next_check, Kind::Time));
    }
    let mut differences = Vec::new();
    match found.get(legacy.table.as_str()) {
        None => differences.push(format!("there is no table {}", legacy.table)),
        Some(there) => {
            let table = &legacy.table;
            for (column, kind) in wanted {
                match there.get(&column.as_str().to_ascii_lowercase()) {
                    None => differences.push(format!("{table} has no column {column}")),
                    Some(other) if !kind.is(other) => {
                        let kind = kind.words();
                        differences.push(format!("{table}.{column} is {other}, not {kind}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    for (table, key) in settings(legacy) {
        differences.extend(of_settings(table, key, found));
    }
    differences
}

fn of_settings(table: &Name, key: &str, found: &Columns) -> Vec<String> {
    let Some(there) = found.get(table.as_str()) else {
        return vec![format!("there is no table {table}")];
    };
    let needed = SETTINGS.iter().map(|setting| setting.name());
    needed
        .chain([key])
        .filter(|column| !there.contains_key(*column))
        .map(|column| format!("{table} has no column {column}"))
        .collect()
}

/// Writes nothing, and fails where the user may not write.
pub(in crate::mysql) fn of_no_row(legacy: &Legacy) -> Vec<String> {
    let names = &legacy.columns;
    let write = |columns: [&Name; 2]| {
        let [first, second] = columns.map(Name::quoted);
        let table = legacy.table.quoted();
        format!("UPDATE {table} SET {first} = {first}, {second} = {second} WHERE 1 = 0")
    };
    let mut statements = Vec::new();
    if legacy.status {
        statements.push(write([&names.status, &names.status_changed]));
    }
    if legacy.freshness == LegacyFreshness::Columns {
        statements.push(write([&names.last_checked, &names.next_check]));
    }
    statements
}
