//! Reads interval logs back and merges them by phase. A damaged line is reported and skipped; a
//! file of another kind is told from a damaged log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::PHASES;

/// Damaged lines of one log that are named; all are counted.
const NAMED_MAX: u64 = 3;
/// Longest line in bytes: many times a histogram of every value.
const LINE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What the lines begin with that every interval log has before its intervals.
const HEADERS: [&[u8]; 2] = [b"#[Histogram log format version", b"\"StartTimestamp\""];
/// Significant digits of merged histograms.
const DIGITS: u8 = 3;
/// Tag of lines that have none.
const UNTAGGED: &str = "untagged";
/// The phase whose intervals are kept apart for the plot over time.
const LAG: &str = "schedule_lag";

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// An interval log; a sentence for each of the first damaged lines, and one for the rest.
    Log(Vec<String>),
    /// Something else, of which nothing was taken.
    Foreign,
}

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
    /// Adds one log.
    pub(crate) fn read(&mut self, path: &Path) -> anyhow::Result<Reading> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut reader = BufReader::new(file);
        let (mut complaints, mut bytes, mut base) = (Vec::new(), Vec::new(), 0.0);
        let (mut damaged, mut has_header, intervals) = (0, false, self.intervals);
        let mut deserializer = Deserializer::new();
        for line in 1u64.. {
            bytes.clear();
            let read = next_line(&mut reader, &mut bytes)
                .with_context(|| format!("{} broke off", path.display()))?;
            if read == 0 {
                break;
            }
            has_header |= HEADERS.iter().any(|header| bytes.starts_with(header));
            if let Err(what) = self.line(&mut bytes, &mut base, &mut deserializer) {
                damaged += 1;
                if damaged <= NAMED_MAX {
                    complaints.push(format!("{}:{line}: {what}; skipped", path.display()));
                }
            }
        }
        if damaged > 0 && !has_header && self.intervals == intervals {
            return Ok(Reading::Foreign);
        }
        self.damaged += damaged;
        if damaged > NAMED_MAX {
            let more = damaged - NAMED_MAX;
            complaints.push(format!(
                "{}: {more} more damaged lines; skipped",
                path.display()
            ));
        }
        Ok(Reading::Log(complaints))
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
                return Err("the line is not complete".to_owned());
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

/// The next line with its end, cut where it is too long to be one of ours; 0 bytes at the end.
fn next_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let read = reader
        .by_ref()
        .take(LINE_MAX_BYTES)
        .read_until(b'\n', bytes)?;
    if read as u64 == LINE_MAX_BYTES && bytes.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    }
    Ok(read)
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
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
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
            Reading::Log(Vec::new())
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
        let Reading::Log(complaints) = latencies.read(&path).expect("readable") else {
            panic!("it is a log");
        };
        assert_eq!((latencies.intervals, latencies.damaged), (7, 3));
        assert_eq!(complaints.len(), 3);
        let name = path.display();
        for (complaint, line) in complaints.iter().zip([7, 8, 15]) {
            assert!(
                complaint.starts_with(&format!("{name}:{line}: ")),
                "{complaint}"
            );
            assert!(complaint.ends_with("; skipped"), "{complaint}");
        }
    }

    #[test]
    fn the_first_three_damaged_lines_of_a_log_are_named_and_the_rest_is_counted() {
        let (_dir, path) = written();
        let text = std::fs::read_to_string(&path).expect("the log");
        std::fs::write(&path, text + &"gibberish\n".repeat(5_000)).expect("written");
        let mut latencies = Latencies::default();
        let Reading::Log(complaints) = latencies.read(&path).expect("readable") else {
            panic!("it is a log");
        };
        assert_eq!((latencies.intervals, latencies.damaged), (10, 5_000));
        assert_eq!(complaints.len(), 4);
        let rest = format!("{}: 4997 more damaged lines; skipped", path.display());
        assert_eq!(complaints[3], rest);
    }

    #[test]
    fn a_log_without_its_head_or_without_an_interval_is_one_and_other_files_are_not() {
        let (dir, path) = written();
        let text = std::fs::read_to_string(&path).expect("the log");
        let (head, intervals) = text.split_at(text.find("Tag=").expect("an interval"));
        let read = |text: &str| {
            let path = dir.path().join("x.hdr");
            std::fs::write(&path, text).expect("written");
            Latencies::default().read(&path).expect("readable")
        };
        let is_log = |text: &str| matches!(read(text), Reading::Log(_));
        assert!(is_log(&format!("half a line\n{intervals}")));
        assert!(is_log(&format!("{head}half a line")));
        assert!(is_log(""));
        assert_eq!(read("# sites\nhttp://a.example/,60\n"), Reading::Foreign);
        assert_eq!(read(&"x".repeat(100_000)), Reading::Foreign);
    }
}
