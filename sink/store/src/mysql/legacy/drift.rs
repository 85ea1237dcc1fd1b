//! Rows of the legacy table whose status is not what our open events say. Looked for a slice at a
//! time, by primary key, and never repaired: a difference is somebody's doing, and theirs to
//! explain.

use model::TargetId;
use model::fact::{CheckType, State};
use mysql_async::Value;

use super::super::session::{Session, read};
use super::super::targets::whole;
use crate::Result;
use crate::answer::{Drift, DriftSlice};
use crate::legacy::{Legacy, LegacyColumns};

/// Stands for a column that has none: whatever is to be there differs from it.
const NO_STATUS: i64 = -1;

/// Differing rows of one slice that are named; all are counted.
const NAMED_MAX: i64 = 5;

impl Session {
    /// Looks at the next `limit` rows after `after`.
    pub(crate) async fn legacy_drift(
        &mut self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<DriftSlice> {
        let legacy = self.named_legacy()?;
        let after = after.map_or(0, TargetId::get);
        let slice = [after, whole(limit)].map(Value::Int);
        let found = self.ask(&extent(&legacy), slice.into()).await?;
        let mut slice = DriftSlice::default();
        let Some(row) = found.into_iter().next() else {
            return Ok(slice);
        };
        let (last, looked): (Option<i64>, Option<u64>) = read(self.url(), row)?;
        slice.last = last.and_then(TargetId::new);
        slice.looked = looked.unwrap_or(0);
        if let Some(last) = slice.last {
            // One statement is one picture: an event and the status that goes with it were written
            // in one transaction.
            let range = [after, last.get(), NAMED_MAX].map(Value::Int);
            for row in self.ask(&differing(&legacy), range.into()).await? {
                let (id, found, expected, all): (_, _, _, u64) = read(self.url(), row)?;
                slice.drifted = all;
                slice.named.extend(TargetId::new(id).map(|target| Drift {
                    target,
                    found,
                    expected,
                }));
            }
        }
        Ok(slice)
    }
}

/// Where the slice ends, and how many active rows are in it.
fn extent(legacy: &Legacy) -> String {
    let LegacyColumns { id, active, .. } = &legacy.columns;
    let (id, active, table) = (id.quoted(), active.quoted(), legacy.table.quoted());
    format!(
        "SELECT MAX(p.id), CAST(SUM(p.active = 1) AS UNSIGNED) FROM (SELECT {id} AS id, \
         {active} AS active FROM {table} WHERE {id} > ? ORDER BY {id} LIMIT ?) AS p"
    )
}

/// Active rows from the one id up to the other that differ, the first few of them, each with the
/// number of all.
fn differing(legacy: &Legacy) -> String {
    let LegacyColumns {
        id, active, status, ..
    } = &legacy.columns;
    let [id, active, status] = [id, active, status].map(|column| format!("s.{}", column.quoted()));
    let [down, seems_down, up] = [State::Down, State::SeemsDown, State::Up];
    let says = |state: State| format!("WHEN SUM(e.state = '{state}') > 0 THEN {}", code(state));
    let [down, seems_down] = [down, seems_down].map(says);
    format!(
        "SELECT d.id, d.found, d.expected, COUNT(*) OVER () FROM (\
         SELECT {id} AS id, CAST({status} AS SIGNED) AS found, \
         CASE {down} {seems_down} ELSE {up} END AS expected \
         FROM {table} AS s LEFT JOIN jetpack_monitor_events AS e \
         ON e.ended_at IS NULL AND e.endpoint_id = {id} AND e.check_type = '{http}' \
         WHERE {id} > ? AND {id} <= ? AND {active} = 1 GROUP BY {id}, {status}) AS d \
         WHERE COALESCE(d.found, {NO_STATUS}) <> d.expected ORDER BY d.id LIMIT ?",
        up = code(up),
        table = legacy.table.quoted(),
        http = CheckType::Http.as_str(),
    )
}

fn code(state: State) -> u8 {
    state.legacy_status()
}
