//! The live line of the demo: a bar on a terminal, a plain line every few seconds elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::Scrape;
use crate::table::grouped;

/// Seconds between two plain lines.
const PLAIN_EVERY_S: u64 = 5;

/// Shows how far the run is and what the node says of itself.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total_s: u64,
    next_plain_s: u64,
}

impl Progress {
    /// A line for a run of about `total_s` seconds.
    pub(crate) fn new(total_s: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos:>2}/{len} s · {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total_s).with_style(style)
        });
        Self {
            bar,
            total_s,
            next_plain_s: 0,
        }
    }

    /// Shows the state at `elapsed_s`.
    pub(crate) fn show(&mut self, elapsed_s: u64, stage: &str, scrape: &Scrape) {
        let line = format!("{stage} · {}", numbers(scrape));
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.total_s.max(elapsed_s));
                bar.set_position(elapsed_s);
                bar.set_message(line);
            }
            None if elapsed_s >= self.next_plain_s => {
                self.next_plain_s = elapsed_s + PLAIN_EVERY_S;
                let total_s = self.total_s.max(elapsed_s);
                println!("{elapsed_s:>3}/{total_s} s · {line}");
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Targets in `state`, by the metrics.
pub(crate) fn in_state(scrape: &Scrape, state: &str) -> u64 {
    let count = scrape.sum("ringwatch_targets", &[("state", state)]);
    count.unwrap_or(0.0) as u64
}

/// due, probed, schedule lag, targets by state and results that are unknown, by the metrics.
fn numbers(scrape: &Scrape) -> String {
    let count = |name: &str, labels: &[(&str, &str)]| {
        grouped(scrape.sum(name, labels).unwrap_or(0.0) as u64)
    };
    let lag = match scrape.quantile("ringwatch_schedule_lag_seconds", 0.99) {
        Some(seconds) if seconds.is_finite() => format!("≤ {:.1} ms", seconds * 1_000.0),
        Some(_) => "past the last bucket".to_owned(),
        None => "–".to_owned(),
    };
    let (suspect, down) = (in_state(scrape, "seems_down"), in_state(scrape, "down"));
    let up = in_state(scrape, "active").saturating_sub(suspect + down);
    format!(
        "due {} · probed {} · lag p99 {lag} · up {} seems down {suspect} down {down} · unknown {}",
        count("ringwatch_due_total", &[]),
        count("ringwatch_probed_total", &[]),
        grouped(up),
        count("ringwatch_probed_total", &[("verdict", "unknown")]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_holds_what_the_metrics_say() {
        let text = "ringwatch_due_total{core=\"0\"} 1234\n\
            ringwatch_probed_total{core=\"0\",verdict=\"up\"} 1200\n\
            ringwatch_probed_total{core=\"0\",verdict=\"down\"} 30\n\
            ringwatch_schedule_lag_seconds_bucket{core=\"0\",le=\"0.005\"} 99\n\
            ringwatch_schedule_lag_seconds_bucket{core=\"0\",le=\"+Inf\"} 100\n\
            ringwatch_targets{state=\"active\"} 10000\nringwatch_targets{state=\"down\"} 10\n";
        assert_eq!(
            numbers(&Scrape::parse(text)),
            "due 1,234 · probed 1,230 · lag p99 ≤ 5.0 ms · up 9,990 seems down 0 down 10 \
             · unknown 0"
        );
        assert!(numbers(&Scrape::default()).contains("lag p99 –"));
    }
}
