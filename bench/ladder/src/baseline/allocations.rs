//! Allocations per healthy check on the real reactor, counted by `cores`' example `allocations`,
//! which is a program of its own: the count is of a whole process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::children::Running;
use crate::table::Table;

/// Four times a warm-up of one cadence and half a cadence, with room for a slow machine.
const LIMIT: Duration = Duration::from_mins(4);
/// Every (driver, host) that must have a row, measured or not.
const CASES: [(&str, &str); 4] = [
    ("io_uring", "literal"),
    ("io_uring", "name"),
    ("epoll", "literal"),
    ("epoll", "name"),
];

/// What the program prints.
#[derive(Clone, Debug, Deserialize)]
struct Counts {
    rows: Vec<Count>,
}

/// One row of it.
#[derive(Clone, Debug, Deserialize)]
struct Count {
    driver: String,
    host: String,
    #[serde(flatten)]
    measured: Measured,
}

/// The numbers of a case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    checks: u64,
    allocations_per_check: f64,
    bytes_per_check: f64,
}

/// One case of plain HTTP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct AllocationRow {
    driver: &'static str,
    /// `literal`: an address in the URL; `name`: a name that is in the DNS cache.
    host: &'static str,
    /// Absent when the program was not given, or the kernel refused it the driver.
    measured: Option<Measured>,
}

/// Runs `program`, if there is one, with its log in `folder`.
///
/// # Errors
/// When it fails, or what it prints is not understood.
pub(super) async fn measure(program: Option<&Path>, folder: &Path) -> Result<Vec<AllocationRow>> {
    let Some(program) = program else {
        return Ok(rows(&[]));
    };
    println!("counting allocations per check; this takes a minute");
    let log = folder.join("allocations.log");
    let name = "allocations";
    let mut running = Running::start(name, &mut Command::new(program), &log, Stdio::piped())?;
    let text = running.finish(&log, LIMIT).await?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<AllocationRow>> {
    let counts: Counts = serde_json::from_str(text.trim())
        .with_context(|| format!("allocations wrote no counts: {text}"))?;
    Ok(rows(&counts.rows))
}

/// A row for every case.
fn rows(counts: &[Count]) -> Vec<AllocationRow> {
    let row = |&(driver, host): &(&'static str, &'static str)| AllocationRow {
        driver,
        host,
        measured: counts
            .iter()
            .find(|count| count.driver == driver && count.host == host)
            .map(|count| count.measured),
    };
    CASES.iter().map(row).collect()
}

/// The rows for people.
pub(super) fn table(rows: &[AllocationRow]) -> String {
    let head = [
        "healthy plain HTTP check, whole thread",
        "allocations/check",
        "bytes/check",
        "checks",
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let host = match row.host {
            "name" => "a name, from the DNS cache",
            _ => "a literal address",
        };
        let cell =
            |of: fn(Measured) -> String| row.measured.map_or_else(|| "not measured".to_owned(), of);
        table.row([
            format!("{}, {host}", row.driver),
            cell(|measured| format!("{:.2}", measured.allocations_per_check)),
            cell(|measured| format!("{:.0}", measured.bytes_per_check)),
            cell(|measured| measured.checks.to_string()),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "{\"counted\":\"whole thread\",\"rows\":[\
        {\"driver\":\"epoll\",\"host\":\"name\",\"checks\":5000,\
        \"allocations_per_check\":1.004,\"bytes_per_check\":56.0}]}\n";

    #[test]
    fn what_the_program_prints_is_read_and_the_rest_is_not_measured() {
        let rows = parse(PRINTED).expect("understood");
        let measured: Vec<bool> = rows.iter().map(|row| row.measured.is_some()).collect();
        assert_eq!(measured, [false, false, false, true]);
        let text = table(&rows);
        let line = |what: &str| text.lines().find(|line| line.contains(what)).expect(what);
        let name = line("epoll, a name, from the DNS cache");
        assert!(name.contains(" 1.00 ") && name.contains(" 56 "), "{text}");
        assert!(line("io_uring, a literal address").contains(" not measured "));
        assert!(parse("Killed").is_err());
    }

    #[test]
    fn without_the_program_no_case_is_measured() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let rows = runtime.block_on(measure(None, Path::new("unused")));
        let rows = rows.expect("nothing was run");
        assert_eq!(rows.len(), CASES.len());
        assert!(rows.iter().all(|row| row.measured.is_none()));
    }
}
