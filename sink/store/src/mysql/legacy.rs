//! The tables of an older system: whether they are as they were described, and their rows as
//! targets. Nothing here alters a table.
//!
//! ```text
//!  legacy table ──┬── settings by source_site_id (e) ──┐
//!                 └── settings by blog_id (b)  ────────┴── per column e, else b, else our default
//! ```

use std::sync::Arc;

use model::{Target, TargetId};
use mysql_async::{Row, Value};

pub(super) use self::look::of_no_row;
use self::row::{SETTINGS, is_paused, read_row, read_seen};
use super::by_key::{ByKey, Column};
use super::session::Session;
use super::targets::whole;
use crate::answer::{FoundTargets, TargetPage};
use crate::legacy::{
    Legacy, LegacyColumns, LegacyFreshness, LegacyRange, LegacyRow, MARK_FACTORS, MARK_MASK,
    MARK_SHIFT, Name, RowTally,
};
use crate::operators::PAUSED;
use crate::rules::Which;
use crate::{Result, StoreError};

mod drift;
mod look;
mod put;
mod row;
mod stream;
mod unread;

pub(super) use self::stream::CONNECTIONS as STREAM_CONNECTIONS;

/// Our own settings of single targets.
const OWN_SETTINGS: &str = "jetpack_monitor_site_check_config";
/// What a time of the legacy tables is counted from. The session is in UTC.
const EPOCH: &str = "CAST('1970-01-01' AS DATETIME)";

/// The head of every statement that reads rows: id, whether active, group, URL, minutes, bucket (or
/// NULL), whether paused, and the settings of the target, then those of its blog. A condition
/// follows it.
fn select(legacy: &Legacy, buckets: bool) -> String {
    let LegacyColumns {
        id,
        active,
        group,
        url,
        interval,
        bucket,
        ..
    } = &legacy.columns;
    let head = [id, active, group, url, interval].map(|column| format!("s.{}", column.quoted()));
    let mut columns = head.to_vec();
    columns.push(if buckets {
        format!("s.{}", bucket.quoted())
    } else {
        "NULL".to_owned()
    });
    columns.push("p.target_id IS NOT NULL".to_owned());
    let settings = |of: &str| SETTINGS.map(|setting| setting.read_from(of));
    columns.extend(settings("e"));
    let mut joins = format!(
        "LEFT JOIN {PAUSED} AS p ON p.target_id = s.{id} \
         LEFT JOIN {} AS e ON e.source_site_id = s.{id}",
        settings_table(legacy),
        id = id.quoted()
    );
    if let Some(table) = &legacy.blog_config_table {
        columns.extend(settings("b"));
        let (table, group) = (table.quoted(), group.quoted());
        joins = format!("{joins} LEFT JOIN {table} AS b ON b.blog_id = s.{group}");
    }
    format!(
        "SELECT {} FROM {} AS s {joins} WHERE",
        columns.join(", "),
        legacy.table.quoted()
    )
}

/// A page in the order of ids. Parameters: the id before it, and how many rows.
fn page(legacy: &Legacy, buckets: bool, which: Which) -> String {
    let (id, active) = (legacy.columns.id.quoted(), legacy.columns.active.quoted());
    let which = match which {
        Which::All => String::new(),
        Which::Listed => format!(" AND s.{active} = 1"),
        Which::Checked => format!(" AND s.{active} = 1 AND p.target_id IS NULL"),
    };
    let head = select(legacy, buckets);
    format!("{head} s.{id} > ?{which} ORDER BY s.{id} LIMIT ?")
}

/// The head of a statement that reads some rows; their ids follow it.
fn some(legacy: &Legacy, buckets: bool) -> String {
    let head = select(legacy, buckets);
    format!("{head} s.{} IN", legacy.columns.id.quoted())
}

/// A page of one bucket. Parameters: the bucket, the id before the page, and how many rows.
fn page_of_bucket(legacy: &Legacy) -> String {
    let LegacyColumns {
        id, active, bucket, ..
    } = &legacy.columns;
    let (id, active, bucket) = (id.quoted(), active.quoted(), bucket.quoted());
    let head = select(legacy, true);
    format!("{head} s.{bucket} = ? AND s.{active} = 1 AND s.{id} > ? ORDER BY s.{id} LIMIT ?")
}

/// What a row adds to a tally.
fn mark(id: &str) -> String {
    let [first, second] = MARK_FACTORS;
    let product = format!("(({id} & {MARK_MASK}) * {first})");
    format!("(({product} >> {MARK_SHIFT}) & {MARK_MASK}) * {second}")
}

/// Counts active rows by bucket, from an index alone. Parameters: the first and the last bucket.
fn tally(legacy: &Legacy) -> String {
    let LegacyColumns {
        id, active, bucket, ..
    } = &legacy.columns;
    let (id, active, bucket) = (id.quoted(), active.quoted(), bucket.quoted());
    let mark = mark(&id);
    format!(
        "SELECT {bucket}, COUNT(*), BIT_XOR({mark}) FROM {} \
         WHERE {bucket} BETWEEN ? AND ? AND {active} = 1 GROUP BY {bucket}",
        legacy.table.quoted()
    )
}

/// Counts the next active rows in the order of their ids, and finds the last of them. Parameters:
/// the id before them, and how many at most.
fn tally_after(legacy: &Legacy) -> String {
    let LegacyColumns { id, active, .. } = &legacy.columns;
    let (id, active, table) = (id.quoted(), active.quoted(), legacy.table.quoted());
    format!(
        "SELECT COUNT(*), COALESCE(BIT_XOR({}), 0), COALESCE(MAX(id), 0) FROM (SELECT {id} AS id \
         FROM {table} WHERE {id} > ? AND {active} = 1 ORDER BY {id} LIMIT ?) AS counted",
        mark("id")
    )
}

/// Indices of a table that begin with the bucket, a whole number, and whether the row is active.
const BUCKET_INDICES: &str = "SELECT COUNT(*) FROM information_schema.statistics AS a \
    JOIN information_schema.statistics AS b ON b.table_schema = a.table_schema \
    AND b.table_name = a.table_name AND b.index_name = a.index_name AND b.seq_in_index = 2 \
    JOIN information_schema.columns AS c ON c.table_schema = a.table_schema \
    AND c.table_name = a.table_name AND c.column_name = a.column_name \
    WHERE a.table_schema = DATABASE() AND a.table_name = ? AND a.seq_in_index = 1 \
    AND a.column_name = ? AND b.column_name = ? AND c.data_type LIKE '%int'";

/// Counts the rows that are checked: active, and not paused.
pub(super) fn count_checked(legacy: &Legacy) -> String {
    let LegacyColumns { id, active, .. } = &legacy.columns;
    let (id, active, table) = (id.quoted(), active.quoted(), legacy.table.quoted());
    format!(
        "SELECT COUNT(*) FROM {table} AS s WHERE s.{active} = 1 \
         AND NOT EXISTS (SELECT 1 FROM {PAUSED} AS p WHERE p.target_id = s.{id})"
    )
}

/// Finds the row of the target with the id `id`.
pub(super) fn row_of(legacy: &Legacy, id: &str) -> String {
    let (table, column) = (legacy.table.quoted(), legacy.columns.id.quoted());
    format!("SELECT 1 FROM {table} AS s WHERE s.{column} = {id}")
}

fn settings_table(legacy: &Legacy) -> String {
    let named = legacy.config_table.as_ref();
    named.map_or_else(|| OWN_SETTINGS.to_owned(), Name::quoted)
}

/// Sets the status of rows, and since when, in s.
pub(super) fn project_status(legacy: &Legacy) -> ByKey<2> {
    let LegacyColumns {
        id,
        status,
        status_changed,
        ..
    } = &legacy.columns;
    let plain = |name: &Name| Column {
        name: name.quoted().into(),
        before: "".into(),
        after: "",
    };
    let since = Column {
        before: format!("{EPOCH} + INTERVAL ").into(),
        after: " SECOND",
        ..plain(status_changed)
    };
    ByKey {
        table: legacy.table.quoted().into(),
        key: id.quoted().into(),
        columns: [plain(status), since],
    }
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

/// What somebody paused is not active.
fn with_pause(mut target: Target, is_paused: bool) -> Target {
    target.active &= !is_paused;
    target
}

impl Session {
    /// Rows of the legacy table, as targets. Where they are the targets of the node, a paused one
    /// is not active; where they are only copied, pauses are those of our own targets.
    pub(crate) async fn legacy_targets(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
        which: Which,
    ) -> Result<TargetPage> {
        let legacy = self.named_legacy()?;
        let are_ours = self.source().is_some();
        let which = match which {
            Which::Checked if !are_ours => Which::Listed,
            which => which,
        };
        let sql = page(&legacy, false, which);
        let place = [after.map_or(0, TargetId::get), whole(limit)].map(Value::Int);
        let rows = self.ask(&sql, place.into()).await?;
        let mut page = TargetPage::default();
        for row in &rows {
            page.last = Some(self.key(row)?);
            match read_row(row) {
                Ok(target) => page
                    .targets
                    .push(with_pause(target, are_ours && is_paused(row))),
                Err(refused) => page.refused.push(refused),
            }
        }
        Ok(page)
    }

    /// Rows of the legacy table, which are the targets of the node.
    pub(super) async fn legacy_targets_by_ids(&mut self, ids: &[TargetId]) -> Result<FoundTargets> {
        let legacy = self.named_legacy()?;
        let mut found = FoundTargets::default();
        for row in self.by_ids(&some(&legacy, false), ids).await? {
            match read_row(&row) {
                Ok(target) => found.targets.push(with_pause(target, is_paused(&row))),
                Err(refused) => found.refused.push(refused),
            }
        }
        Ok(found)
    }

    /// Rows of the legacy table, as they are now; with their buckets where those can be counted.
    pub(crate) async fn legacy_rows(
        &mut self,
        range: &LegacyRange,
        buckets: bool,
    ) -> Result<Vec<LegacyRow>> {
        let legacy = self.named_legacy()?;
        let raw = |id: Option<TargetId>| Value::Int(id.map_or(0, TargetId::get));
        // A page is one statement, and a picture of its own.
        let rows = match range {
            LegacyRange::After { id, limit } => {
                let place = vec![raw(*id), Value::Int(whole(*limit))];
                let sql = page(&legacy, buckets, Which::Listed);
                self.ask(&sql, place).await?
            }
            LegacyRange::Bucket { bucket, id, limit } => {
                let bucket = Value::Int(i64::from(*bucket));
                let place = vec![bucket, raw(*id), Value::Int(whole(*limit))];
                self.ask(&page_of_bucket(&legacy), place).await?
            }
            LegacyRange::Ids(ids) => self.by_ids(&some(&legacy, buckets), ids).await?,
        };
        let seen = |row: &Row| Ok(read_seen(self.key(row)?, row));
        rows.iter().map(seen).collect()
    }

    /// Active rows by bucket, from the bucket `first` to `last`; empty buckets are left out.
    pub(crate) async fn legacy_tally(
        &mut self,
        first: u16,
        last: u16,
    ) -> Result<Vec<(u16, RowTally)>> {
        let legacy = self.named_legacy()?;
        let sql = tally(&legacy);
        let range = [first, last].map(|bucket| Value::Int(i64::from(bucket)));
        let rows = self.ask(&sql, range.into()).await?;
        let counted = |row| {
            let (bucket, rows, marks): (u16, u64, u64) = super::session::read(self.url(), row)?;
            Ok((bucket, RowTally { rows, marks }))
        };
        rows.into_iter().map(counted).collect()
    }

    /// The next active rows after an id, at most `limit` of them, and the id of the last one.
    pub(crate) async fn legacy_tally_after(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<(RowTally, Option<TargetId>)> {
        let sql = tally_after(&*self.named_legacy()?);
        let place = [after.map_or(0, TargetId::get), whole(limit)].map(Value::Int);
        let Some(row) = self.ask(&sql, place.into()).await?.pop() else {
            return Ok((RowTally::default(), None));
        };
        let (rows, marks, last): (u64, u64, i64) = super::session::read(self.url(), row)?;
        Ok((RowTally { rows, marks }, TargetId::new(last)))
    }

    /// Whether rows can be counted by bucket without reading the table.
    pub(crate) async fn legacy_has_buckets(&mut self) -> Result<bool> {
        let legacy = self.named_legacy()?;
        let LegacyColumns { bucket, active, .. } = &legacy.columns;
        let names = [&legacy.table, bucket, active].map(|name| Value::from(name.as_str()));
        let found = self
            .read(async |session: &mut Self| session.number(BUCKET_INDICES, names.to_vec()).await)
            .await?;
        Ok(found > Some(0))
    }

    /// Rows of the legacy table, and those that are checked.
    pub(super) async fn legacy_counts(&mut self, legacy: &Legacy) -> Result<(u64, u64)> {
        let all = format!("SELECT COUNT(*) FROM {}", legacy.table.quoted());
        let all = self.number(&all, Vec::new()).await?;
        let active = self.number(&count_checked(legacy), Vec::new()).await?;
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
