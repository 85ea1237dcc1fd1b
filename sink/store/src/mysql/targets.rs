//! Targets on their way out: pages by id and pages by change.

use model::TargetId;
use mysql_async::{Row, Value};

use super::session::Session;
use crate::answer::{ChangePage, FoundTargets, TargetPage};
use crate::columns::{CONFIG_LEN, Field, Head, ReadTargets, config_list, read_target};
use crate::rules::{IS_CHECKED, Which};
use crate::{Result, StoreError};

/// Columns before the configuration.
const HEAD_LEN: usize = 3;

/// Rows for [`read_target`], with the change number after them. A condition follows it.
fn head() -> String {
    format!(
        "SELECT id, generation, {IS_CHECKED}, {}, change_number
         FROM jetpack_monitor_check_targets WHERE",
        config_list()
    )
}

fn select(which: &str, order: &str) -> String {
    format!("{} {which} ORDER BY {order} LIMIT ?", head())
}

impl Session {
    pub(crate) async fn targets(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
        which: Which,
    ) -> Result<TargetPage> {
        if self.source().is_some() {
            return self.legacy_targets(after, limit, which).await;
        }
        let which = match which {
            Which::All => "id > ?",
            Which::Listed => "id > ? AND monitor_active = 1",
            Which::Checked => &format!("id > ? AND {IS_CHECKED}"),
        };
        let page = [after.map_or(0, TargetId::get), whole(limit)].map(Value::Int);
        // One snapshot for the rows and the change number that goes with them.
        self.read(async |session: &mut Self| {
            let rows = session.fetch(&select(which, "id"), page.to_vec()).await?;
            let latest_change = session.latest_change().await?;
            let (read, _) = session.targets_of(&rows)?;
            let last = read.last();
            let FoundTargets { targets, refused } = read.found();
            Ok(TargetPage {
                targets,
                refused,
                last,
                latest_change,
            })
        })
        .await
    }

    pub(crate) async fn targets_by_ids(&mut self, ids: &[TargetId]) -> Result<FoundTargets> {
        if self.source().is_some() {
            return self.legacy_targets_by_ids(ids).await;
        }
        let rows = self.by_ids(&format!("{} id IN", head()), ids).await?;
        Ok(self.targets_of(&rows)?.0.found())
    }

    /// The rows of `head`, which ends with `IN`, with these ids.
    pub(super) async fn by_ids(&mut self, head: &str, ids: &[TargetId]) -> Result<Vec<Row>> {
        let ids: Vec<Value> = ids.iter().map(|id| Value::Int(id.get())).collect();
        self.read(async |session: &mut Self| session.fetch_many((head, ""), &[], ids.clone()).await)
            .await
    }

    pub(crate) async fn changes(&mut self, after_change: u64, limit: usize) -> Result<ChangePage> {
        if self.source().is_some() {
            // The rows of somebody else have no change numbers.
            return Ok(ChangePage {
                latest_change: after_change,
                ..ChangePage::default()
            });
        }
        let after = i64::try_from(after_change).unwrap_or(i64::MAX);
        let page = [after, whole(limit)].map(Value::Int);
        let sql = select("change_number > ?", "change_number");
        let rows = self.ask(&sql, page.into()).await?;
        let (read, last) = self.targets_of(&rows)?;
        Ok(read.changed(last.map_or(after_change, |change| change as u64)))
    }

    /// The highest change number handed out.
    pub(super) async fn latest_change(&mut self) -> Result<u64> {
        let sql = "SELECT value FROM jetpack_monitor_counters WHERE name = 'change'";
        let found = self.number(sql, Vec::new()).await?;
        let found = found.ok_or_else(|| self.missing("counters", "change"))?;
        Ok(found as u64)
    }

    /// A row that every store has is gone.
    pub(super) fn missing(&self, table: &str, row: &str) -> StoreError {
        StoreError::SchemaDiffers {
            store: self.url().to_string(),
            known: super::migrate::known(),
            differences: vec![format!("{} has no row {row:?}", self.url().table(table))],
        }
    }

    /// The targets, and the change number of the last row.
    fn targets_of(&self, rows: &[Row]) -> Result<(ReadTargets, Option<i64>)> {
        let (mut read, mut last) = (ReadTargets::default(), None);
        for row in rows {
            let head = Head {
                id: self.integer(row, 0)?,
                generation: self.integer(row, 1)?,
                active: self.integer(row, 2)? != 0,
                plain: false,
            };
            last = Some(self.integer(row, HEAD_LEN + CONFIG_LEN)?);
            read.push(read_target(&head, |at| field(row.as_ref(HEAD_LEN + at))));
        }
        Ok((read, last))
    }

    /// Column `at` of `row`, which is a number and never NULL.
    pub(super) fn integer(&self, row: &Row, at: usize) -> Result<i64> {
        match field(row.as_ref(at)) {
            Field::Whole(number) => Ok(number),
            other => Err(StoreError::Server {
                store: self.url().to_string(),
                code: 0,
                detail: format!("column {at} of an answer is {other:?}, not a number"),
            }),
        }
    }
}

pub(super) fn whole(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A value of the driver as the columns of a target have it.
pub(super) fn field(value: Option<&Value>) -> Field<'_> {
    match value {
        None | Some(Value::NULL) => Field::Null,
        Some(Value::Int(number)) => Field::Whole(*number),
        Some(Value::UInt(number)) => {
            i64::try_from(*number).map_or(Field::Other("a number above 2^63"), Field::Whole)
        }
        Some(Value::Bytes(bytes)) => Field::Text(bytes),
        Some(Value::Float(_) | Value::Double(_)) => Field::Other("a fraction"),
        Some(Value::Date(..) | Value::Time(..)) => Field::Other("a time"),
    }
}

/// What none of our columns holds is never written: it becomes NULL.
pub(super) fn value(field: Field<'_>) -> Value {
    match field {
        Field::Null | Field::Other(_) => Value::NULL,
        Field::Whole(number) => Value::Int(number),
        Field::Text(bytes) => Value::Bytes(bytes.to_vec()),
    }
}
