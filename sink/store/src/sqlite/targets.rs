//! Targets on their way out: pages by id and pages by change.

use std::sync::LazyLock;

use model::TargetId;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

use super::connection::Db;
use super::failure::Failure;
use super::field::field;
use crate::Result;
use crate::answer::{ChangePage, FoundTargets, TargetPage};
use crate::columns::{Head, ReadTarget, ReadTargets, config_list, plain, read_target};
use crate::rules::{IS_CHECKED, Which};

static PAGE: LazyLock<String> = LazyLock::new(|| select("id > ?1", "id"));
static LISTED_PAGE: LazyLock<String> =
    LazyLock::new(|| select("id > ?1 AND monitor_active = 1", "id"));
static ACTIVE_PAGE: LazyLock<String> =
    LazyLock::new(|| select(&format!("id > ?1 AND {IS_CHECKED}"), "id"));
static BY_ID: LazyLock<String> = LazyLock::new(|| select("id = ?1", "id"));
static CHANGES: LazyLock<String> = LazyLock::new(|| select("change_number > ?1", "change_number"));

/// Rows for [`read_row`], with the change number after them.
fn select(which: &str, order: &str) -> String {
    format!(
        "SELECT id, generation, {IS_CHECKED}, {} AS plain, {}, change_number
         FROM jetpack_monitor_check_targets WHERE {which} ORDER BY {order} LIMIT ?2",
        plain(),
        config_list()
    )
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<ReadTarget> {
    let head = Head {
        id: row.get(0)?,
        generation: row.get(1)?,
        active: row.get::<_, i64>(2)? != 0,
        plain: row.get::<_, Option<bool>>(3)? == Some(true),
    };
    let value = |at: usize| field(row.get_ref(4 + at).unwrap_or(ValueRef::Null));
    Ok(read_target(&head, value))
}

impl Db {
    pub(crate) fn targets(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
        which: Which,
    ) -> Result<TargetPage> {
        let sql = match which {
            Which::All => &PAGE,
            Which::Listed => &LISTED_PAGE,
            Which::Checked => &ACTIVE_PAGE,
        };
        self.run(|connection| {
            let after = after.map_or(0, TargetId::get);
            // One snapshot for the rows and the change number that goes with them.
            let snapshot = connection.transaction()?;
            let read = read(&snapshot, sql, (after, limit as i64), |_| {})?;
            let latest_change = latest_change(&snapshot)?;
            let last = read.last();
            let FoundTargets { targets, refused } = read.found();
            Ok(TargetPage {
                targets,
                refused,
                last,
                latest_change,
            })
        })
    }

    pub(crate) fn targets_by_ids(&mut self, ids: &[TargetId]) -> Result<FoundTargets> {
        self.run(|connection| {
            let snapshot = connection.transaction()?;
            let mut found = FoundTargets::default();
            for id in ids {
                let one = read(&snapshot, &BY_ID, (id.get(), 1), |_| {})?.found();
                found.targets.extend(one.targets);
                found.refused.extend(one.refused);
            }
            Ok(found)
        })
    }

    pub(crate) fn changes(&mut self, after_change: u64, limit: usize) -> Result<ChangePage> {
        self.run(|connection| {
            let after = i64::try_from(after_change).unwrap_or(i64::MAX);
            let mut latest_change = after_change;
            let see = |change: i64| latest_change = change as u64;
            let read = read(connection, &CHANGES, (after, limit as i64), see)?;
            Ok(read.changed(latest_change))
        })
    }
}

/// The highest change number handed out.
pub(super) fn latest_change(connection: &Connection) -> Result<u64, Failure> {
    let sql = "SELECT value FROM jetpack_monitor_counters WHERE name = 'change'";
    let value: i64 = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    Ok(value as u64)
}

fn read(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    mut see_change: impl FnMut(i64),
) -> Result<ReadTargets, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let change_at = statement.column_count() - 1;
    let mut rows = statement.query(parameters)?;
    let mut read = ReadTargets::default();
    while let Some(row) = rows.next()? {
        see_change(row.get(change_at)?);
        read.push(read_row(row)?);
    }
    Ok(read)
}
