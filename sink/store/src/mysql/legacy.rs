//! The tables of an older system: whether they are as they were described, and their rows as
//! targets. Nothing here alters a table.
//!
//! ```text
//!  legacy table ──┬── settings by source_site_id (e) ──┐
//!                 └── settings by blog_id (b)  ────────┴── per column e, else b, else our default
//! ```

use std::sync::Arc;

use model::TargetId;
use mysql_async::{Row, Value};

use self::row::{SETTINGS, read_row};
use super::session::Session;
use super::targets::whole;
use crate::answer::TargetPage;
use crate::legacy::{Legacy, LegacyColumns, LegacyFreshness, Name};
use crate::{Result, StoreError};

mod look;
mod put;
mod row;

/// Our own settings of single targets.
const OWN_SETTINGS: &str = "jetpack_monitor_site_check_config";
/// What a time of the legacy tables is counted from. The session is in UTC.
const EPOCH: &str = "CAST('1970-01-01' AS DATETIME)";

/// The statement that reads a page: id, whether active, group, URL, minutes, and the settings of
/// the target, then those of its blog. Parameters: the id before it, and how many rows.
fn page(legacy: &Legacy, only_active: bool) -> String {
    let LegacyColumns {
        id,
        active,
        group,
        url,
        interval,
        ..
    } = &legacy.columns;
    let head = [id, active, group, url, interval].map(|column| format!("s.{}", column.quoted()));
    let mut columns = head.to_vec();
    let settings = |of: &str| SETTINGS.map(|setting| setting.read_from(of));
    columns.extend(settings("e"));
    let mut joins = format!(
        "LEFT JOIN {} AS e ON e.source_site_id = s.{}",
        settings_table(legacy),
        id.quoted()
    );
    if let Some(table) = &legacy.blog_config_table {
        columns.extend(settings("b"));
        let (table, group) = (table.quoted(), group.quoted());
        joins = format!("{joins} LEFT JOIN {table} AS b ON b.blog_id = s.{group}");
    }
    let which = if only_active {
        format!(" AND s.{} = 1", active.quoted())
    } else {
        String::new()
    };
    format!(
        "SELECT {} FROM {} AS s {joins} WHERE s.{id} > ?{which} ORDER BY s.{id} LIMIT ?",
        columns.join(", "),
        legacy.table.quoted(),
        id = id.quoted()
    )
}

fn settings_table(legacy: &Legacy) -> String {
    let named = legacy.config_table.as_ref();
    named.map_or_else(|| OWN_SETTINGS.to_owned(), Name::quoted)
}

/// Sets the status of rows to `v.status` since `v.changed`, in s.
pub(super) fn project_status(legacy: &Legacy) -> [String; 3] {
    let LegacyColumns {
        id,
        status,
        status_changed,
        ..
    } = &legacy.columns;
    [
        format!("UPDATE {} AS t JOIN (", legacy.table.quoted()),
        "SELECT CAST(? AS SIGNED) AS id, CAST(? AS SIGNED) AS status, CAST(? AS SIGNED) AS changed"
            .to_owned(),
        format!(
            ") AS v ON v.id = t.{} SET t.{} = v.status, t.{} = {EPOCH} + INTERVAL v.changed SECOND",
            id.quoted(),
            status.quoted(),
            status_changed.quoted()
        ),
    ]
}

/// The ids and statuses of rows.
pub(super) fn statuses(legacy: &Legacy) -> String {
    let LegacyColumns { id, status, .. } = &legacy.columns;
    let (id, status, table) = (id.quoted(), status.quoted(), legacy.table.quoted());
    format!("SELECT {id}, {status} FROM {table} WHERE {id} IN")
}

/// Writes when rows were checked and are due, both in s.
pub(super) fn project_freshness(legacy: &Legacy) -> [String; 3] {
    let LegacyColumns {
        id,
        last_checked,
        next_check,
        ..
    } = &legacy.columns;
    [
        format!("UPDATE {} AS t JOIN (", legacy.table.quoted()),
        "SELECT CAST(? AS SIGNED) AS id, CAST(? AS SIGNED) AS checked, CAST(? AS SIGNED) AS due"
            .to_owned(),
        format!(
            ") AS v ON v.id = t.{} SET t.{} = {EPOCH} + INTERVAL v.checked SECOND, \
             t.{} = {EPOCH} + INTERVAL v.due SECOND",
            id.quoted(),
            last_checked.quoted(),
            next_check.quoted()
        ),
    ]
}

impl Session {
    /// Rows of the legacy table, as targets.
    pub(crate) async fn legacy_targets(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
        only_active: bool,
    ) -> Result<TargetPage> {
        let legacy = self.named_legacy()?;
        let sql = page(&legacy, only_active);
        let place = [after.map_or(0, TargetId::get), whole(limit)].map(Value::Int);
        let rows = self
            .read(async |session: &mut Self| session.fetch(&sql, place.to_vec()).await)
            .await?;
        let mut page = TargetPage::default();
        for row in &rows {
            page.last = Some(self.key(row)?);
            match read_row(row) {
                Ok(target) => page.targets.push(target),
                Err(refused) => page.refused.push(refused),
            }
        }
        Ok(page)
    }

    /// Rows of the legacy table, and active ones.
    pub(super) async fn legacy_counts(&mut self, legacy: &Legacy) -> Result<(u64, u64)> {
        let (table, active) = (legacy.table.quoted(), legacy.columns.active.quoted());
        let all = format!("SELECT COUNT(*) FROM {table}");
        let active = format!("{all} WHERE {active} = 1");
        let all = self.number(&all, Vec::new()).await?;
        let active = self.number(&active, Vec::new()).await?;
        Ok((all.unwrap_or(0) as u64, active.unwrap_or(0) as u64))
    }

    /// Refuses a change of our own targets where they are read from elsewhere.
    pub(super) fn require_own_targets(&self) -> Result<()> {
        match self.source() {
            None => Ok(()),
            Some(legacy) => Err(StoreError::LegacyTargets {
                store: self.url().to_string(),
                table: legacy.table.to_string(),
            }),
        }
    }

    pub(super) fn named_legacy(&self) -> Result<Arc<Legacy>> {
        let store = || self.url().to_string();
        let legacy = self.legacy().map(Arc::clone);
        legacy.ok_or_else(|| StoreError::NoLegacy { store: store() })
    }

    /// Where freshness of targets goes.
    pub(super) fn freshness_place(&self) -> LegacyFreshness {
        self.source()
            .map_or(LegacyFreshness::Sidecar, |legacy| legacy.freshness)
    }

    /// The id of `row`: what pages go on after. One that no target can have ends them.
    fn key(&self, row: &Row) -> Result<TargetId> {
        let id = self.integer(row, 0)?;
        TargetId::new(id).ok_or_else(|| StoreError::Server {
            store: self.url().to_string(),
            code: 0,
            detail: format!("a legacy row has the id {id}, which is none"),
        })
    }
}
