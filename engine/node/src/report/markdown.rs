//! `report.md`: the table, the plots and where the numbers came from.

use std::fmt::Write;
use std::path::PathBuf;

use super::read::Latencies;
use super::table::{cells, headings};

/// The report as Markdown.
pub(super) fn render(latencies: &Latencies, logs: &[PathBuf]) -> String {
    let mut out = String::from("# Latency report\n\n| phase |");
    for heading in headings() {
        write!(out, " {heading} |").expect("a String takes every write");
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(headings().count()));
    out.push('\n');
    for (phase, histogram) in latencies.phases() {
        writeln!(out, "| {phase} | {} |", cells(histogram).join(" | "))
            .expect("a String takes every write");
    }
    out.push_str(
        "\n`schedule_lag` is how late checks started; `loop_lag` is how much longer than a tick a \
         turn of a probe core took.\n\n\
         ![Latency by percentile](percentiles.svg)\n\n![Schedule lag over time](lag.svg)\n\n",
    );
    writeln!(
        out,
        "From {} interval histograms ({} damaged lines skipped) of:\n",
        latencies.intervals, latencies.damaged
    )
    .expect("a String takes every write");
    for log in logs {
        let name = log.file_name().unwrap_or(log.as_os_str()).to_string_lossy();
        writeln!(out, "- `{name}`").expect("a String takes every write");
    }
    out
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::super::log::IntervalLogs;
    use super::super::testbed::interval;
    use super::*;

    #[test]
    fn the_report_has_table_plots_and_sources() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
        logs.write(&interval(0, UnixMs(1_795_000_000_000), 1_000))
            .expect("written");
        let entry = std::fs::read_dir(dir.path().join("hdr"))
            .expect("dir")
            .next();
        let path = entry.expect("one").expect("readable").path();
        let mut latencies = Latencies::default();
        latencies.read(&path).expect("read");
        insta::assert_snapshot!(render(&latencies, &[path]));
    }
}
