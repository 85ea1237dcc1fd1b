//! A long journal read at a start and taken by either store: the figures of a test of
//! `persist`, which holds that all of it arrives in order.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Found, Place, needed};
use crate::bar::{Bar, Bound};
use crate::baseline::median;
use crate::children::Running;
use crate::mariadb::MariaDb;

const LIMIT: Duration = Duration::from_mins(10);
const RUNS: u32 = 3;
/// What the test prints before the figures of a run.
const MARK: &str = "replay: ";
const RECORDS_PER_S: f64 = 50_000.0;
const NOTE: &str = "Incidents of 100,000 targets of our own tables, each told in three \
    transitions: opened (with evidence), confirmed, closed. Each has its job and writes the \
    status of its target, and the three are 20,000 transitions apart, so that two of three \
    change an event that is stored. They come in records of one or of 1,000. *Start* is every \
    record read, checked and decoded, and open incidents resumed; *store* is what an SQLite \
    file, or tables of MariaDB, that have nothing but the targets take afterwards, in order. No \
    farm runs and nothing is probed, so the server has every CPU, as the process of the node has. \
    CPU is that of this process, without the server.";
const HEAD: &str = "| store | facts per record | records | bytes per fact | start: facts/s \
    | CPU µs per fact | store: facts/s | records/s | CPU µs per fact |\n\
    |---|---:|---:|---:|---:|---:|---:|---:|---:|\n";

const SQLITE: &str = "SQLite";
const MARIADB: &str = "MariaDB";

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let mut server = MariaDb::start(&place.server_folder(), None).await?;
    server.create("replay")?;
    let log = place.folder.join("replay.log");
    let mut command = Command::new(needed(
        place.options.replay_program.as_deref(),
        "--replay-program",
    )?);
    command.args(["replay_test", "--nocapture"]);
    command.env(
        "RINGWATCH_REPLAY_FACTS",
        place.sizes.replay_facts.to_string(),
    );
    command.env("RINGWATCH_REPLAY_RUNS", RUNS.to_string());
    let url = MariaDb::url("replay", server.port());
    command.env("RINGWATCH_REPLAY_SERVER", url);
    let mut running = Running::start("replay", &mut command, &log, Stdio::piped())?;
    let text = running.finish(&log, LIMIT).await?;
    server.stop().await?;
    let lines: Vec<&str> = text.lines().filter_map(figures).collect();
    if lines.len() != 4 * RUNS as usize {
        bail!("{} of {} replays were told:\n{text}", lines.len(), 4 * RUNS);
    }
    let bar = |what: &str, (store, column)| {
        let measured = of_single_facts(&lines, store, column);
        let bound = (Bound::Min(RECORDS_PER_S), "records/s");
        Bar::of(what.to_owned(), measured, bound, place.flaw())
    };
    Ok(Found {
        title: "Replay of the journal",
        note: NOTE,
        bars: vec![
            bar("records of one fact, read at a start", (SQLITE, 4)),
            bar("records of one fact, taken by SQLite", (SQLITE, 7)),
            bar(
                "records of one fact, read at a start, MariaDB",
                (MARIADB, 4),
            ),
            bar("records of one fact, taken by MariaDB", (MARIADB, 7)),
        ],
        numbers: serde_json::to_value(&lines)?,
        table: format!("{HEAD}{}\n", lines.join("\n")),
    })
}

fn figures(line: &str) -> Option<&str> {
    Some(line.split_once(MARK)?.1)
}

/// The median of a column, counted from 0, over the runs of `store` whose records have one fact.
fn of_single_facts(lines: &[&str], store: &str, column: usize) -> Option<f64> {
    let cell = |line: &str, at: usize| {
        let cell = line.trim_matches('|').split('|').nth(at);
        cell.map(|text| text.trim().to_owned())
    };
    let is_meant = |line: &&&str| {
        (cell(line, 0).as_deref(), cell(line, 1).as_deref()) == (Some(store), Some("1"))
    };
    let values = lines.iter().filter(is_meant);
    let values = values.filter_map(|line| cell(line, column)?.parse().ok());
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_single_facts_are_found() {
        let lines = [
            "| SQLite | 1 | 10 | 300 | 90000 | 1.1 | 60000 | 60000 | 9 |",
            "| SQLite | 1000 | 1 | 290 | 99000 | 1.0 | 70000 | 70 | 8 |",
            "| SQLite | 1 | 10 | 300 | 70000 | 1.1 | 40000 | 40000 | 9 |",
            "| SQLite | 1 | 10 | 300 | 80000 | 1.1 | 50000 | 50000 | 9 |",
            "| MariaDB | 1 | 10 | 300 | 1 | 1.1 | 2 | 2 | 9 |",
        ];
        assert_eq!(of_single_facts(&lines, SQLITE, 4), Some(80_000.0));
        assert_eq!(of_single_facts(&lines, SQLITE, 7), Some(50_000.0));
        assert_eq!(of_single_facts(&lines, MARIADB, 7), Some(2.0));
        assert_eq!(of_single_facts(&lines, "none", 7), None);
        assert_eq!(figures("test x ... replay: | 1 |"), Some("| 1 |"));
        assert_eq!(figures("running 1 test"), None);
    }
}
