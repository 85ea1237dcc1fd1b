//! Statements with many rows: their text, and how many rows fit into one of them.
//!
//! A prepared statement has a fixed number of rows, so a list is cut into parts of a few sizes:
//! each connection prepares every size once.

use std::iter::Peekable;

use mysql_async::Value;

use super::session::Session;
use crate::{Result, StoreError};

/// Rows of the largest statement: more make no row cheaper, and MySQL ends at 65,535 parameters.
const ROWS_MAX: usize = 500;
/// Rows of an update that joins them.
const JOINED_MAX: usize = 64;
/// What a packet needs besides the values of its rows: header, bitmap and types of the parameters
/// are counted per value, see [`size`]; this is for the rest.
pub(super) const PACKET_OVERHEAD: usize = 64;

/// A statement around a list of rows, such as `INSERT INTO t (a, b) VALUES` … `ON DUPLICATE …`.
#[derive(Clone, Copy)]
pub(super) struct Many<'a> {
    pub(super) head: &'a str,
    /// One row: `(?, ?)`.
    pub(super) row: &'a str,
    /// Between two rows.
    pub(super) between: &'a str,
    pub(super) tail: &'a str,
    /// For the places in `head`.
    pub(super) before: &'a [Value],
    pub(super) rows_max: usize,
}

impl<'a> Many<'a> {
    /// `head` is `INSERT INTO t (…) VALUES`.
    pub(super) fn insert(head: &'a str, row: &'a str, tail: &'a str) -> Self {
        Self {
            head,
            row,
            between: ", ",
            tail,
            before: &[],
            rows_max: ROWS_MAX,
        }
    }

    /// `UPDATE t JOIN (rows) AS v ON … SET …`: each row is a `SELECT`, which every server has, and
    /// servers think longer about many of those.
    pub(super) fn join(head: &'a str, row: &'a str, tail: &'a str) -> Self {
        Self {
            head,
            row,
            between: " UNION ALL ",
            tail,
            before: &[],
            rows_max: JOINED_MAX,
        }
    }

    /// The same with `before` in the places of its head.
    pub(super) fn after(self, before: &'a [Value]) -> Self {
        Self { before, ..self }
    }

    pub(super) fn text(&self, rows: usize) -> String {
        let Self {
            head,
            row,
            between,
            tail,
            ..
        } = *self;
        let mut text =
            String::with_capacity(head.len() + (row.len() + between.len()) * rows + tail.len() + 2);
        text.push_str(head);
        text.push(' ');
        for at in 0..rows {
            if at > 0 {
                text.push_str(between);
            }
            text.push_str(row);
        }
        text.push(' ');
        text.push_str(tail);
        text
    }
}

impl Session {
    /// Runs `statement` with all of `rows`, in as few statements as the server takes; the rows
    /// that they touched, as the server counts. Rows of the next statement are made while the
    /// server works on one.
    pub(super) async fn execute_many(
        &mut self,
        statement: Many<'_>,
        rows: impl IntoIterator<Item: Row>,
    ) -> Result<u64> {
        let mut parts = Parts::new(statement, self.packet_max(), rows.into_iter());
        let mut next = parts.next();
        let mut touched = 0;
        loop {
            let part = next.map_err(|bytes| StoreError::PacketTooSmall {
                store: self.url().to_string(),
                bytes,
                max_bytes: self.packet_max(),
            })?;
            if part.rows == 0 {
                return Ok(touched);
            }
            let meanwhile = async { parts.next() };
            let (done, later) = tokio::join!(self.execute_part(statement, part), meanwhile);
            touched += done?;
            next = later;
        }
    }

    /// In sizes that are powers of two, but for the largest: few enough to stay prepared.
    async fn execute_part(
        &mut self,
        statement: Many<'_>,
        Part { mut rows, values }: Part,
    ) -> Result<u64> {
        let (mut values, mut touched) = (values, 0);
        while rows > 0 {
            let count = match rows {
                some if some == statement.rows_max => some,
                some => 1 << some.ilog2(),
            };
            let later = values.split_off(values.len() / rows * count);
            values.splice(..0, statement.before.iter().cloned());
            touched += self.execute(&statement.text(count), values).await?;
            (rows, values) = (rows - count, later);
        }
        Ok(touched)
    }

    /// The rows of `head (?, ?, …) tail` for all of `keys`, in parts; `head` has a place for
    /// each of `before`.
    pub(super) async fn fetch_many(
        &mut self,
        (head, tail): (&str, &str),
        before: &[Value],
        keys: Vec<Value>,
    ) -> Result<Vec<mysql_async::Row>> {
        let mut found = Vec::new();
        let mut keys = keys;
        while !keys.is_empty() {
            let later = keys.split_off(keys_that_fit(&keys, self.packet_max()));
            let keys_here = padded(keys);
            let places = vec!["?"; keys_here.len()].join(", ");
            let sql = format!("{head} ({places}) {tail}");
            let parameters = before.iter().cloned().chain(keys_here).collect();
            found.extend(self.fetch(&sql, parameters).await?);
            keys = later;
        }
        Ok(found)
    }
}

/// How many of `keys` fill half a packet of `packet_max` bytes: the other half is for [`padded`].
/// At least one.
fn keys_that_fit(keys: &[Value], packet_max: usize) -> usize {
    let max_bytes = packet_max.saturating_sub(PACKET_OVERHEAD) / 2;
    let (mut bytes, mut count) = (0, 0);
    for key in keys.iter().take(ROWS_MAX) {
        bytes += value_size(key).max(4);
        if bytes > max_bytes && count > 0 {
            break;
        }
        count += 1;
    }
    count
}

/// Sizes as in `execute_part`: a key that is asked twice finds its row once. It is the shortest one
/// that is asked again, so that there are at most twice as many bytes.
fn padded(mut keys: Vec<Value>) -> Vec<Value> {
    let shape = keys.len().next_power_of_two().min(ROWS_MAX);
    if let Some(shortest) = keys.iter().min_by_key(|key| value_size(key)).cloned() {
        keys.resize(shape, shortest);
    }
    keys
}

/// The values of a row. All rows of a statement have as many.
pub(super) trait Row: AsRef<[Value]> + IntoIterator<Item = Value> {}

impl<R: AsRef<[Value]> + IntoIterator<Item = Value>> Row for R {}

/// What goes into one statement, or into a few: rows, one after the other.
#[derive(Default)]
struct Part {
    rows: usize,
    values: Vec<Value>,
}

/// Rows cut into statements.
struct Parts<I: Iterator> {
    rows: Peekable<I>,
    rows_max: usize,
    /// Bytes of the text of a row.
    text: usize,
    /// Bytes that all rows of a statement may have.
    max_bytes: usize,
}

impl<I: Iterator<Item: Row>> Parts<I> {
    fn new(statement: Many<'_>, packet_max: usize, rows: I) -> Self {
        let Many {
            head,
            row,
            between,
            tail,
            before,
            rows_max,
        } = statement;
        let fixed = head.len() + tail.len() + size(before);
        Self {
            rows: rows.peekable(),
            rows_max,
            text: row.len() + between.len(),
            max_bytes: packet_max.saturating_sub(PACKET_OVERHEAD + fixed),
        }
    }

    /// The rows of the next statement, none after the last. The error is the size of a row that no
    /// statement has room for.
    fn next(&mut self) -> Result<Part, usize> {
        let (mut part, mut bytes) = (Part::default(), 0);
        while part.rows < self.rows_max
            && let Some(row) = self.rows.peek()
        {
            let of_row = size(row.as_ref()).max(self.text);
            if of_row > self.max_bytes {
                return Err(of_row);
            }
            if bytes + of_row > self.max_bytes {
                break;
            }
            bytes += of_row;
            part.rows += 1;
            part.values.extend(self.rows.next().into_iter().flatten());
        }
        Ok(part)
    }
}

/// Bytes of a row in the packet that executes a prepared statement.
pub(super) fn size(row: &[Value]) -> usize {
    row.iter().map(value_size).sum()
}

fn value_size(value: &Value) -> usize {
    // Two bytes of type each, a bit of the NULL map, and up to nine bytes of length.
    3 + match value {
        Value::Bytes(bytes) => bytes.len() + 9,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: the last key was asked again up to the next power of two; where that was a URL of
    /// 2,083 bytes, 129 keys of a few bytes became 266 kB, which nobody had counted.
    #[test]
    fn keys_that_are_asked_again_fit_into_a_packet_whichever_is_the_longest() {
        const PACKET_MAX: usize = 16_384;
        let key = |bytes: usize| Value::Bytes(vec![b'x'; bytes]);
        for long_at in [0, 64, 128] {
            let mut keys = vec![key(20); 129];
            keys[long_at] = key(2_083);
            assert_eq!(keys_that_fit(&keys, PACKET_MAX), 129);
            let padded = padded(keys.clone());
            assert_eq!(padded.len(), 256);
            assert_eq!(padded[..129], keys);
            let bytes = size(&padded);
            assert!(bytes <= PACKET_MAX - PACKET_OVERHEAD, "{long_at}: {bytes}");
        }
        assert_eq!(padded(Vec::new()), []);
        assert_eq!(padded(vec![key(1); 300]).len(), ROWS_MAX);
    }

    #[test]
    fn a_statement_lists_its_rows() {
        let insert = Many::insert("INSERT INTO t (a, b) VALUES", "(?, ?)", "ON DUPLICATE x");
        assert_eq!(
            insert.text(2),
            "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON DUPLICATE x"
        );
        assert_eq!(size(&[Value::Int(1), Value::Bytes(vec![0; 5])]), 29);
    }
}
