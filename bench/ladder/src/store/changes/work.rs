//! What a change made a server and a node do: the server's own counters, and the kernel's of both.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::mariadb::MariaDb;
use crate::procfs::Ran;

/// Rows that the server looked at, for whomever, and what clients said to it.
const COUNTERS: &str = "SELECT \
    CAST(SUM(IF(VARIABLE_NAME = 'Questions', 0, VARIABLE_VALUE)) AS UNSIGNED), \
    CAST(SUM(IF(VARIABLE_NAME = 'Questions', VARIABLE_VALUE, 0)) AS UNSIGNED) \
    FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN ('Questions', \
    'Handler_read_first', 'Handler_read_key', 'Handler_read_next', 'Handler_read_prev', \
    'Handler_read_rnd', 'Handler_read_rnd_next')";

/// Of one change, or of a window without any.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Work {
    pub(super) rows_read: u64,
    pub(super) statements: u64,
    /// Absent where it cannot be known: a thread ended meanwhile.
    pub(super) cpu_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    rows_read: u64,
    statements: u64,
}

impl Counted {
    fn of(server: &MariaDb) -> Result<Self> {
        let text = server.sql(COUNTERS)?;
        Self::parse(&text).with_context(|| format!("no counters: {text}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (rows, statements) = text.split_once('\t')?;
        Some(Self {
            rows_read: rows.parse().ok()?,
            statements: statements.parse().ok()?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            rows_read: self.rows_read.saturating_sub(before.rows_read),
            statements: self.statements.saturating_sub(before.statements),
        }
    }
}

/// A server whose work is measured, less what the measuring itself makes it do.
pub(super) struct Meter<'a> {
    server: &'a MariaDb,
    of_reading: Counted,
}

/// When a measurement began.
pub(super) struct Begun {
    counted: Counted,
    ran: Ran,
}

impl<'a> Meter<'a> {
    /// Before anybody else is connected.
    pub(super) fn new(server: &'a MariaDb) -> Result<Self> {
        let (first, second) = (Counted::of(server)?, Counted::of(server)?);
        Ok(Self {
            server,
            of_reading: second.since(first),
        })
    }

    pub(super) fn begin(&self) -> Result<Begun> {
        let counted = Counted::of(self.server)?;
        let ran = Ran::read(self.server.pid())?;
        Ok(Begun { counted, ran })
    }

    /// Of one change: its CPU is exact, or not known.
    pub(super) fn end(&self, begun: &Begun) -> Result<Work> {
        let ran = Ran::read(self.server.pid())?;
        let work = self.counted_since(begun)?;
        let cpu_ms = ran.since(&begun.ran).map(|ran| ran.as_secs_f64() * 1e3);
        Ok(Work { cpu_ms, ..work })
    }

    /// Of a window of many seconds: its CPU is in ticks of 10 ms, and always known.
    pub(super) fn end_window(&self, begun: &Begun) -> Result<Work> {
        let ran = Ran::read(self.server.pid())?.ticks_since(&begun.ran);
        let work = self.counted_since(begun)?;
        let cpu_ms = Some(ran.as_secs_f64() * 1e3);
        Ok(Work { cpu_ms, ..work })
    }

    fn counted_since(&self, begun: &Begun) -> Result<Work> {
        let counted = Counted::of(self.server)?.since(begun.counted);
        let of_change = counted.since(self.of_reading);
        Ok(Work {
            rows_read: of_change.rows_read,
            statements: of_change.statements,
            cpu_ms: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reading_itself_costs_is_taken_off_and_never_below_nothing() {
        let at = |text: &str| Counted::parse(text).expect(text);
        let (before, after, of_reading) = (at("100\t10"), at("640\t14"), at("600\t1"));
        assert_eq!(after.since(before).since(of_reading), at("0\t3"));
        assert_eq!(Counted::parse("NULL\t1"), None);
    }
}
