//! Reads interval logs back and merges them by phase. A damaged line is reported and skipped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::PHASES;

/// Significant digits of merged histograms.
const DIGITS: u8 = 3;
/// Tag of lines that have none.
const UNTAGGED: &str = "untagged";
/// The phase whose intervals are kept apart for the plot over time.
const LAG: &str = "schedule_lag";

/// Everything that the logs say, in µs.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    phases: BTreeMap<(usize, String), Histogram<u64>>,
    /// Schedule lag of all cores by interval start, in seconds since the Unix epoch.
    lag: BTreeMap<u64, Histogram<u64>>,
    /// Intervals read.
    pub(crate) intervals: u64,
    /// Lines skipped.
    pub(crate) damaged: u64,
}

impl Latencies {
    /// Adds one log; returns a sentence for each damaged line.
    pub(crate) fn read(&mut self, path: &Path) -> anyhow::Result<Vec<String>> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut reader = BufReader::new(file);
        let (mut complaints, mut bytes, mut base) = (Vec::new(), Vec::new(), 0.0);
        let mut deserializer = Deserializer::new();
        for line in 1u64.. {
            bytes.clear();
            let read = reader
                .read_until(b'\n', &mut bytes)
                .with_context(|| format!("{} broke off", path.display()))?;
            if read == 0 {
                break;
            }
            if let Err(what) = self.line(&mut bytes, &mut base, &mut deserializer) {
                self.damaged += 1;
                complaints.push(format!("{}:{line}: {what}; skipped", path.display()));
            }
        }
        Ok(complaints)
    }

    /// Whether nothing was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// The phases with their merged histograms, in the order of [`PHASES`].
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&str, &Histogram<u64>)> {
        self.phases
            .iter()
            .map(|((_, name), histogram)| (name.as_str(), histogram))
    }

    /// Schedule lag by time: seconds since the first interval.
    pub(crate) fn lag(&self) -> impl Iterator<Item = (u64, &Histogram<u64>)> {
        let first = self.lag.keys().next().copied().unwrap_or_default();
        self.lag
            .iter()
            .map(move |(at, histogram)| (at - first, histogram))
    }

    fn line(
        &mut self,
        bytes: &mut Vec<u8>,
        base: &mut f64,
        deserializer: &mut Deserializer,
    ) -> Result<(), String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if bytes.last() != Some(&b'\n') {
            if bytes.first() != Some(&b'#') {
                return Err("the last line is not complete".to_owned());
            }
            bytes.push(b'\n');
        }
        match IntervalLogIterator::new(bytes).next() {
            None | Some(Ok(LogEntry::StartTime(_))) => Ok(()),
            Some(Ok(LogEntry::BaseTime(at))) => {
                *base = at.as_secs_f64();
                Ok(())
            }
            Some(Ok(LogEntry::Interval(interval))) => {
                let encoded = STANDARD
                    .decode(interval.encoded_histogram())
                    .map_err(|error| format!("the histogram is not base64 ({error})"))?;
                let histogram: Histogram<u64> =
                    deserializer
                        .deserialize(&mut encoded.as_slice())
                        .map_err(|error| format!("the histogram cannot be read ({error})"))?;
                let tag = interval.tag().map_or(UNTAGGED, |tag| tag.as_str());
                let at = (*base + interval.start_timestamp().as_secs_f64()) as u64;
                self.add(tag, at, &histogram)
            }
            Some(Err(_)) => Err("not a line of an interval log".to_owned()),
        }
    }

    fn add(&mut self, tag: &str, at: u64, histogram: &Histogram<u64>) -> Result<(), String> {
        let phase = tag.split_once(".core").map_or(tag, |(phase, _)| phase);
        let rank = PHASES
            .iter()
            .position(|&known| known == phase)
            .unwrap_or(PHASES.len());
        let merged = self
            .phases
            .entry((rank, phase.to_owned()))
            .or_insert_with(empty);
        merged
            .add(histogram)
            .map_err(|error| format!("the histogram is too wide ({error})"))?;
        if phase == LAG {
            let merged = self.lag.entry(at).or_insert_with(empty);
            merged
                .add(histogram)
                .map_err(|error| format!("the histogram is too wide ({error})"))?;
        }
        self.intervals += 1;
        Ok(())
    }
}

/// A histogram that grows as needed.
fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("3 digits are valid")
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::super::log::IntervalLogs;
    use super::super::testbed::interval;
    use super::*;

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path()).expect("opened");
        for at in [1_795_000_000_000, 1_795_000_010_000] {
            logs.write(&interval(0, UnixMs(at), 100)).expect("written");
        }
        let entry = std::fs::read_dir(dir.path().join("hdr"))
            .expect("dir")
            .next();
        let path = entry.expect("one log").expect("readable").path();
        (dir, path)
    }

    #[test]
    fn what_was_written_is_read_back_and_merged() {
        let (_dir, path) = written();
        let mut latencies = Latencies::default();
        assert_eq!(
            latencies.read(&path).expect("readable"),
            Vec::<String>::new()
        );
        let names: Vec<&str> = latencies.phases().map(|(name, _)| name).collect();
        assert_eq!(names, ["connect", "ttfb", "body", "total", "schedule_lag"]);
        let (_, total) = latencies.phases().nth(3).expect("total");
        assert_eq!((total.len(), latencies.intervals), (200, 10));
        assert_eq!(total.value_at_quantile(0.5) / 1_000, 50);
        assert_eq!(
            latencies.lag().map(|(at, _)| at).collect::<Vec<_>>(),
            [0, 10]
        );
    }

    #[test]
    fn a_damaged_line_is_named_and_the_rest_is_read() {
        let (_dir, path) = written();
        let text = std::fs::read_to_string(&path).expect("the log");
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines[6] = "Tag=ttfb.core0,1.0,gibberish".to_owned();
        lines[7] = lines[7].replace("HISTF", "HISTX");
        let cut = lines[14].len() / 2;
        lines[14].truncate(cut);
        std::fs::write(&path, lines.join("\n")).expect("written");
        let mut latencies = Latencies::default();
        let complaints = latencies.read(&path).expect("readable");
        assert_eq!((latencies.intervals, latencies.damaged), (7, 3));
        let name = path.display();
        for (complaint, line) in complaints.iter().zip([7, 8, 15]) {
            assert!(
                complaint.starts_with(&format!("{name}:{line}: ")),
                "{complaint}"
            );
            assert!(complaint.ends_with("; skipped"), "{complaint}");
        }
    }
}
