//! Rows of freshness a second into either store, in turns, and what a row costs.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Found, Place, needed};
use crate::bar::{Bar, Bound};
use crate::baseline::median;
use crate::children::Running;
use crate::mariadb::MariaDb;
use crate::table::{Table, grouped};

const LIMIT: Duration = Duration::from_mins(10);
const SQLITE_ROWS_PER_S: f64 = 200_000.0;
const MARIADB_ROWS_PER_S: f64 = 100_000.0;
const SERVER_US_PER_ROW: f64 = 10.0;
const INDEXED_US_PER_ROW: f64 = 25.0;
const SQLITE: &str = "SQLite";
const MARIADB: &str = "MariaDB";
/// With the two optional indices on the times.
const INDEXED: &str = "MariaDB, time indexes";
const NOTE: &str = "Every target's row, 2,000 rows to a transaction. *New* rows are inserted, the \
    others exist and are moved on: every thirtieth row of the table at a time, as the flushes \
    of a fleet do that is checked every 300 s, or *in order*, all neighbours at once; on the \
    server also with the two optional indexes on the times (`ringwatch migrate \
    --with-time-indexes`). Bars are held against the median of what a fleet does; the stores \
    took turns.";
/// What a run is called that writes what a fleet does.
const AS_A_FLEET: &str = "freshness";

/// A line of the example.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Line {
    what: String,
    rows: f64,
    seconds: f64,
    /// Of the process that writes.
    cpu_s: f64,
    server_cpu_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    store: &'static str,
    #[serde(flatten)]
    line: Line,
}

impl Row {
    fn per_second(&self) -> f64 {
        self.line.rows / self.line.seconds
    }

    fn own_us(&self) -> f64 {
        self.line.cpu_s * 1e6 / self.line.rows
    }

    fn server_us(&self) -> Option<f64> {
        self.line.server_cpu_s.map(|s| s * 1e6 / self.line.rows)
    }
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let mut server = MariaDb::start(&place.server_folder(), Some(place.server_cpu())).await?;
    let mut rows = Vec::new();
    for round in 0..place.sizes.row_rounds {
        let folder = place.folder.display().to_string();
        rows.extend(child(place, &format!("sqlite-{round}"), SQLITE, &[&folder]).await?);
        let url = MariaDb::url("freshness", server.port());
        let pid = server.pid().to_string();
        for (name, store, flags) in [
            ("mariadb", MARIADB, &[][..]),
            ("mariadb-indexed", INDEXED, &["--time-indexes"]),
        ] {
            server.create("freshness")?;
            let of_server = [&[url.as_str(), &pid], flags].concat();
            rows.extend(child(place, &format!("{name}-{round}"), store, &of_server).await?);
        }
    }
    server.stop().await?;
    Ok(Found {
        title: "Freshness",
        note: NOTE,
        table: table(&rows),
        bars: bars(&rows, place.flaw().as_deref()),
        numbers: serde_json::to_value(&rows)?,
    })
}

async fn child(
    place: &Place<'_>,
    name: &str,
    store: &'static str,
    target: &[&str],
) -> Result<Vec<Row>> {
    let log = place.folder.join(format!("{name}.log"));
    let mut command = Command::new(needed(
        place.options.rows_program.as_deref(),
        "--rows-program",
    )?);
    command.args(["--freshness", &place.sizes.rows.to_string()]);
    command.args(target);
    let mut running = Running::start("freshness_rate", &mut command, &log, Stdio::piped())?;
    let text = running.finish(&log, LIMIT).await?;
    let read = |line: &str| {
        let line = serde_json::from_str(line).with_context(|| format!("not understood: {line}"))?;
        Ok(Row { store, line })
    };
    text.lines().map(read).collect()
}

/// The median of the rows of `store` that were moved on as a fleet does.
fn moved(rows: &[Row], store: &str, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
    let moved = rows
        .iter()
        .filter(|row| row.store == store && row.line.what == AS_A_FLEET);
    let values: Vec<f64> = moved.filter_map(of).collect();
    (!values.is_empty()).then(|| median(values))
}

fn bars(rows: &[Row], flaw: Option<&str>) -> Vec<Bar> {
    let rate = |store| moved(rows, store, |row| Some(row.per_second()));
    let bar = |what: &str, measured, bound| {
        Bar::of(what.to_owned(), measured, bound, flaw.map(str::to_owned))
    };
    vec![
        bar(
            "freshness, SQLite",
            rate(SQLITE),
            (Bound::Min(SQLITE_ROWS_PER_S), "rows/s"),
        ),
        bar(
            "freshness, MariaDB",
            rate(MARIADB),
            (Bound::Min(MARIADB_ROWS_PER_S), "rows/s"),
        ),
        bar(
            "server CPU per row",
            moved(rows, MARIADB, Row::server_us),
            (Bound::Max(SERVER_US_PER_ROW), "µs"),
        ),
        bar(
            "server CPU per row, with two time indexes",
            moved(rows, INDEXED, Row::server_us),
            (Bound::Max(INDEXED_US_PER_ROW), "µs"),
        ),
    ]
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "store",
        "rows",
        "rows/s",
        "node CPU µs/row",
        "server CPU µs/row",
    ]);
    for row in rows {
        let how = match row.line.what.as_str() {
            AS_A_FLEET => "",
            "freshness in order" => ", in order",
            _ => ", new",
        };
        table.row([
            format!("{}{how}", row.store),
            grouped(row.line.rows as u64),
            grouped(row.per_second() as u64),
            format!("{:.2}", row.own_us()),
            row.server_us()
                .map_or_else(|| "–".to_owned(), |us| format!("{us:.2}")),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_held_against_rows_that_were_there() {
        let row = |store, what: &str, seconds| Row {
            store,
            line: Line {
                what: what.to_owned(),
                rows: 1e6,
                seconds,
                cpu_s: 1.0,
                server_cpu_s: Some(11.0),
            },
        };
        let rows = [
            row("SQLite", "freshness", 4.0),
            row("MariaDB", "new freshness", 1.0),
            row("MariaDB", "freshness in order", 1.0),
            row("MariaDB", "freshness", 11.0),
            row("MariaDB", "freshness", 9.0),
            row("MariaDB", "freshness", 10.0),
            row(INDEXED, "freshness", 20.0),
        ];
        let complaints: Vec<_> = bars(&rows, None).iter().map(Bar::complaint).collect();
        let missed = Some("server CPU per row: missed".to_owned());
        assert_eq!(complaints, [None, None, missed, None]);
        let text = table(&rows);
        assert!(
            text.contains("MariaDB, new") && text.contains("MariaDB, in order"),
            "{text}"
        );
    }
}
