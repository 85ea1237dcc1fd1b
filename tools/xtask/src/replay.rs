//! `cargo xtask bench journal`: how fast a long journal is read at a start and taken by
//! either store, written under `docs/benchmarks`.

use anyhow::{Context, Result, bail};

use crate::command;

const FACTS: &str = "300000";
const RUNS: usize = 3;
/// What the test prints before the figures of a run.
const MARK: &str = "replay: ";
/// Shapes of the journal, by stores, that the test replays in each run.
const SHAPES: usize = 2 * 2;

/// Runs the test in release and writes the page.
///
/// # Errors
/// When the journal is not replayed whole, or the page cannot be written.
pub(crate) fn run() -> Result<()> {
    let mut test = command::cargo(&["test", "--release", "-p", "persist", "--lib"]);
    test.args(["replay_test", "--", "--nocapture"]);
    test.env("RINGWATCH_REPLAY_FACTS", FACTS);
    test.env("RINGWATCH_REPLAY_RUNS", RUNS.to_string());
    let text = command::output(&mut test)?;
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(MARK)?.1))
        .collect();
    if lines.len() != RUNS * SHAPES {
        bail!(
            "{} of {} replays were told:\n{text}",
            lines.len(),
            RUNS * SHAPES
        );
    }
    let file = command::root().join("docs/benchmarks/journal.md");
    std::fs::write(&file, page(&lines))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

fn page(lines: &[&str]) -> String {
    let mut page = format!(
        "# Replay of the journal\n\n`cargo xtask bench journal`\n\n{FACTS} transitions, each with \
         its job, every second one with evidence, in records of one or of 1,000. *Start* is what \
         a start does before anything else: every record read, checked and decoded, open \
         incidents resumed. *Store* is what the store takes a while later, in order, into an \
         empty SQLite file or empty tables of MariaDB: small records go in transactions of up to \
         1,000 facts. CPU is that of the whole process, without the server.\n\n| store \
         | facts per record | records | bytes per fact | start: facts/s \
         | CPU µs per fact | store: facts/s | records/s | CPU µs per fact |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for line in lines {
        page += line;
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_table_with_a_row_for_each_run() {
        let page = page(&["| a | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |"]);
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).collect();
        let columns = |row: &str| row.matches('|').count();
        assert_eq!(rows.len(), 3, "{page}");
        assert!(rows.iter().all(|row| columns(row) == 10), "{page}");
    }
}
