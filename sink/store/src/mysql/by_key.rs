//! Changes numbers of many rows, each to values of its own, by their keys.
//!
//! ```text
//!  UPDATE t SET c = CAST(ELT(INTERVAL(id, 3, 5, 9), 70, 71, 72) AS SIGNED)
//!  WHERE id IN (3, 5, 9)
//! ```
//!
//! `INTERVAL` finds the place of a row's key among all of them in logarithmic time, where `CASE`
//! looks at each, and servers think longer about a join with many `SELECT`s.

use std::borrow::Cow;

use mysql_async::Value;

use super::insert::{PACKET_OVERHEAD, size};
use super::session::Session;
use crate::Result;

/// Rows of the largest statement.
const ROWS_MAX: usize = 512;
/// One key among those to look in. Cast, as not every server takes a place for a whole number.
const KEY: &str = "CAST(? AS SIGNED)";

/// What is changed: `N` columns of the rows of one table.
pub(super) struct ByKey<const N: usize> {
    pub(super) table: Cow<'static, str>,
    pub(super) key: Cow<'static, str>,
    pub(super) columns: [Column; N],
}

/// One column, and what its value is made of: `before`, the number, `after`.
pub(super) struct Column {
    pub(super) name: Cow<'static, str>,
    pub(super) before: Cow<'static, str>,
    pub(super) after: &'static str,
}

impl Column {
    /// It holds the numbers as they are.
    pub(super) const fn plain(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            before: Cow::Borrowed(""),
            after: "",
        }
    }
}

/// Which of the rows are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    All,
    /// Those whose first column, a plain one, has another value.
    Differing,
}

impl Rows {
    /// Values for each row besides those of the columns.
    fn values(self) -> usize {
        match self {
            Self::All => 0,
            Self::Differing => 1,
        }
    }
}

impl<const N: usize> ByKey<N> {
    fn text(&self, which: Rows, rows: usize) -> String {
        let (keys, values) = (vec![KEY; rows].join(","), vec!["?"; rows].join(","));
        let Self {
            table,
            key,
            columns,
        } = self;
        let number = format!("CAST(ELT(INTERVAL({key},{keys}),{values}) AS SIGNED)");
        let set = columns.each_ref().map(|column| {
            let Column {
                name,
                before,
                after,
            } = column;
            format!("{name} = {before}{number}{after}")
        });
        let differing = match which {
            Rows::All => String::new(),
            Rows::Differing => format!(" AND NOT ({} <=> {number})", columns[0].name),
        };
        format!(
            "UPDATE {table} SET {} WHERE {key} IN ({values}){differing}",
            set.join(", ")
        )
    }

    /// Rows of one statement that a packet of `max_bytes` has room for, at least one.
    fn rows_max(&self, which: Rows, max_bytes: usize) -> usize {
        let bytes = |rows| {
            let values = rows * (2 * (N + which.values()) + 1);
            let packet = size(&vec![Value::Int(0); values]);
            PACKET_OVERHEAD + self.text(which, rows).len().max(packet)
        };
        let mut rows = ROWS_MAX;
        while rows > 1 && bytes(rows) > max_bytes {
            rows /= 2;
        }
        rows
    }
}

/// The values of one statement: for each column all keys and its values, then all keys.
fn values<const N: usize>(which: Rows, rows: &[(i64, [i64; N])]) -> Vec<Value> {
    let keys = || rows.iter().map(|(key, _)| Value::Int(*key));
    let of = |at: usize| keys().chain(rows.iter().map(move |(_, row)| Value::Int(row[at])));
    let again = 0..which.values();
    (0..N)
        .flat_map(of)
        .chain(keys())
        .chain(again.flat_map(of))
        .collect()
}

impl Session {
    /// Changes `rows`, keys with the values of their columns, in the order of their keys and each
    /// once; those that are not there are left out. Rows that were touched, as the server counts.
    pub(super) async fn change<const N: usize>(
        &mut self,
        what: &ByKey<N>,
        which: Rows,
        rows: impl Iterator<Item = (i64, [i64; N])>,
    ) -> Result<u64> {
        let rows: Vec<(i64, [i64; N])> = rows.collect();
        debug_assert!(rows.is_sorted_by(|one, next| one.0 < next.0));
        if rows.is_empty() {
            return Ok(0);
        }
        let rows_max = what.rows_max(which, self.packet_max());
        let mut touched = 0;
        for part in rows.chunks(rows_max) {
            // Few sizes, which stay prepared: said twice the last row is the same row.
            let count = part.len().next_power_of_two();
            let mut part = part.to_vec();
            part.extend(
                part.last()
                    .copied()
                    .into_iter()
                    .cycle()
                    .take(count - part.len()),
            );
            let sql = what.text(which, count);
            touched += self.execute(&sql, values(which, &part)).await?;
        }
        Ok(touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: ByKey<2> = ByKey {
        table: Cow::Borrowed("t"),
        key: Cow::Borrowed("id"),
        columns: [
            Column::plain("a"),
            Column {
                name: Cow::Borrowed("b"),
                before: Cow::Borrowed("1 + "),
                after: " + 2",
            },
        ],
    };

    #[test]
    fn a_statement_has_a_place_for_each_of_its_values() {
        let number = "CAST(ELT(INTERVAL(id,CAST(? AS SIGNED),CAST(? AS SIGNED)),?,?) AS SIGNED)";
        let all = format!("UPDATE t SET a = {number}, b = 1 + {number} + 2 WHERE id IN (?,?)");
        assert_eq!(T.text(Rows::All, 2), all);
        let differing = format!("{all} AND NOT (a <=> {number})");
        assert_eq!(T.text(Rows::Differing, 2), differing);
        for which in [Rows::All, Rows::Differing] {
            let rows = [(3, [10, 20]), (5, [11, 21])];
            let places = T.text(which, rows.len()).matches('?').count();
            assert_eq!(values(which, &rows).len(), places);
        }
        let found = values(Rows::Differing, &[(3, [10, 20])]);
        assert_eq!(found, [3, 10, 3, 20, 3, 3, 10].map(Value::Int));
    }

    #[test]
    fn what_a_packet_has_no_room_for_goes_in_several() {
        for bytes in [1_024, 20_000, 1 << 24] {
            let rows = T.rows_max(Rows::Differing, bytes);
            assert!(PACKET_OVERHEAD + T.text(Rows::Differing, rows).len() <= bytes);
            assert!(rows.is_power_of_two() && rows <= ROWS_MAX);
        }
        assert_eq!(T.rows_max(Rows::All, 1 << 24), ROWS_MAX);
        assert!(T.rows_max(Rows::Differing, 1_024) >= 4);
    }
}
