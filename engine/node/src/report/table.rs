//! The percentile table, in units for people.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::read::Latencies;

/// Heading and quantile of the columns before `max` and `count`.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// The table as text.
pub(crate) fn render(latencies: &Latencies) -> String {
    let mut out = format!("{:<13}", "phase");
    for column in headings() {
        write!(out, "{column:>10}").expect("a String takes every write");
    }
    out.push('\n');
    for (phase, histogram) in latencies.phases() {
        write!(out, "{phase:<13}").expect("a String takes every write");
        for cell in cells(histogram) {
            write!(out, "{cell:>10}").expect("a String takes every write");
        }
        out.push('\n');
    }
    out
}

/// Headings of the columns after the phase.
pub(super) fn headings() -> impl Iterator<Item = &'static str> {
    QUANTILES
        .into_iter()
        .map(|(name, _)| name)
        .chain(["max", "count"])
}

/// Cells of one phase, in the order of [`headings`].
pub(super) fn cells(histogram: &Histogram<u64>) -> Vec<String> {
    let mut cells: Vec<String> = QUANTILES
        .into_iter()
        .map(|(_, quantile)| human(histogram.value_at_quantile(quantile)))
        .collect();
    cells.push(human(histogram.max()));
    cells.push(histogram.len().to_string());
    cells
}

/// Microseconds in three digits: `870 µs`, `12.3 ms`, `1.50 s`.
pub(crate) fn human(us: u64) -> String {
    let (value, unit) = match us {
        0..1_000 => return format!("{us} µs"),
        1_000..1_000_000 => (us as f64 / 1e3, "ms"),
        _ => (us as f64 / 1e6, "s"),
    };
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::super::log::IntervalLogs;
    use super::super::testbed::interval;
    use super::*;

    #[test]
    fn times_are_printed_in_three_digits() {
        let cases = [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (9_999, "10.0 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_500_000, "1.50 s"),
            (61_000_000, "61.0 s"),
        ];
        for (us, text) in cases {
            assert_eq!(human(us), text);
        }
    }

    #[test]
    fn the_table_has_a_row_per_phase() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
        logs.write(&interval(0, UnixMs(1_795_000_000_000), 1_000))
            .expect("written");
        let log = std::fs::read_dir(dir.path().join("hdr"))
            .expect("dir")
            .next();
        let mut latencies = Latencies::default();
        latencies
            .read(&log.expect("one").expect("readable").path())
            .expect("read");
        insta::assert_snapshot!(render(&latencies));
    }
}
