//! Whether the legacy tables are as they were described, and whether what must be written there
//! may be. Changes nothing.

use super::super::session::Session;
use super::super::structure::{Columns, columns};
use super::row::SETTINGS;
use crate::legacy::{Legacy, LegacyFreshness, Name};
use crate::{Result, StoreError};

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
        let differences = differences(&legacy, &found);
        if !differences.is_empty() {
            return Err(StoreError::LegacyDiffers {
                store: self.url().to_string(),
                differences,
            });
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
    let settings = [
        (&legacy.config_table, "source_site_id"),
        (&legacy.blog_config_table, "blog_id"),
    ];
    for (table, key) in settings {
        let Some(table) = table else { continue };
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
fn of_no_row(legacy: &Legacy) -> Vec<String> {
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
