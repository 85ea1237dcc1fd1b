//! HDR interval logs as HdrHistogram's own tools read them (format 1.3, V2, zlib, base64): one
//! file per core and start, one tag per phase. Disk use is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cores::CoreHistograms;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use jiff::Timestamp;
use model::outcome::Phases;
use model::{CoreIndex, UnixMs};

/// Directory of the logs in `data_dir`.
pub(crate) const DIRECTORY: &str = "hdr";
/// A log that grew to this is followed by a new one.
const FILE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// All logs together, at least; the oldest go first.
const TOTAL_MIN_BYTES: u64 = 512 * 1024 * 1024;
/// All logs together, per core: the one that is written and a full one.
const TOTAL_PER_CORE_BYTES: u64 = 2 * FILE_MAX_BYTES;
/// Column names, as the format has them.
const LEGEND: &str =
    r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;
/// The maximum column is read by people: ms instead of µs.
const MAX_VALUE_DIVISOR: f64 = 1_000.0;

/// The interval logs of one run.
pub(crate) struct IntervalLogs {
    directory: PathBuf,
    serializer: V2DeflateSerializer,
    limits: Limits,
    open: Vec<OpenLog>,
}

/// A log that is being written.
struct OpenLog {
    core: CoreIndex,
    path: PathBuf,
    file: File,
    size: u64,
}

/// What the logs may take, in bytes.
#[derive(Clone, Copy)]
struct Limits {
    file: u64,
    total: u64,
}

impl Limits {
    /// Room for `cores` and for what they wrote before.
    fn of(cores: usize) -> Self {
        Self {
            file: FILE_MAX_BYTES,
            total: TOTAL_MIN_BYTES.max(cores as u64 * TOTAL_PER_CORE_BYTES),
        }
    }
}

impl IntervalLogs {
    /// Logs of `cores` in `data_dir`; older ones are removed while they are too large together.
    pub(crate) fn open(data_dir: &Path, cores: usize) -> io::Result<Self> {
        Self::within(Limits::of(cores), data_dir)
    }

    fn within(limits: Limits, data_dir: &Path) -> io::Result<Self> {
        let directory = data_dir.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        let logs = Self {
            directory,
            serializer: V2DeflateSerializer::new(),
            limits,
            open: Vec::new(),
        };
        logs.remove_oldest()?;
        Ok(logs)
    }

    /// Appends everything that a core measured in one interval.
    pub(crate) fn write(&mut self, set: &CoreHistograms) -> io::Result<()> {
        let mut lines = Vec::new();
        let named = Phases::NAMES.into_iter().zip(&set.phases);
        let lags = [
            ("schedule_lag", &set.schedule_lag),
            ("loop_lag", &set.loop_lag),
        ];
        for (phase, histogram) in named
            .chain(lags)
            .filter(|(_, histogram)| !histogram.is_empty())
        {
            let tag = format!("{phase}.core{}", set.core.0);
            self.line(&mut lines, &tag, histogram, (set.start, set.end))?;
        }
        let log = self.log_of(set.core, set.start)?;
        log.file.write_all(&lines)?;
        log.size += lines.len() as u64;
        Ok(())
    }

    fn line(
        &mut self,
        out: &mut Vec<u8>,
        tag: &str,
        histogram: &Histogram<u64>,
        (start, end): (UnixMs, UnixMs),
    ) -> io::Result<()> {
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(MAX_VALUE_DIVISOR);
        // The builder's own header is thrown away: the file has one already.
        let mut header_and_line = Vec::new();
        let mut writer = builder.begin_log_with(&mut header_and_line, &mut self.serializer)?;
        writer
            .write_histogram(
                histogram,
                Duration::from_millis(start.0),
                Duration::from_millis(end.since(start)),
                Tag::new(tag),
            )
            .map_err(|error| io::Error::other(error.to_string()))?;
        let line = header_and_line
            .split_inclusive(|&byte| byte == b'\n')
            .next_back();
        out.extend_from_slice(line.unwrap_or_default());
        Ok(())
    }

    /// The open log of `core`; a new one at first, and when the last one is full.
    fn log_of(&mut self, core: CoreIndex, start: UnixMs) -> io::Result<&mut OpenLog> {
        let known = self.open.iter().position(|log| log.core == core);
        let index = match known {
            Some(index) if self.open[index].size < self.limits.file => index,
            _ => {
                if let Some(full) = known {
                    self.open.swap_remove(full);
                    self.remove_oldest()?;
                }
                self.open.push(create(&self.directory, core, start)?);
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[index])
    }

    /// Removes logs, oldest name first, until all together are within their limit. One that is
    /// being written stays: what is written into a file without a name is lost.
    fn remove_oldest(&self) -> io::Result<()> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|end| end == "hdr") {
                logs.push((entry.path(), entry.metadata()?.len()));
            }
        }
        logs.sort();
        let mut total: u64 = logs.iter().map(|(_, size)| size).sum();
        let is_open = |path: &Path| self.open.iter().any(|log| log.path == path);
        for (path, size) in logs.into_iter().filter(|(path, _)| !is_open(path)) {
            if total <= self.limits.total {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

/// A new log with its header: comment, version, start time, divisor, legend.
fn create(directory: &Path, core: CoreIndex, start: UnixMs) -> io::Result<OpenLog> {
    let at = Timestamp::from_millisecond(start.0 as i64).unwrap_or_default();
    let name = format!("{}-core-{}.hdr", at.strftime("%Y%m%dT%H%M%S%3fZ"), core.0);
    let path = directory.join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let seconds = start.0 as f64 / 1_000.0;
    let date = at.strftime("%a %b %d %H:%M:%S UTC %Y");
    write!(
        file,
        "#[Logged by ringwatch {}, values in microseconds, probe core {}]\n\
         #[Histogram log format version 1.3]\n\
         #[StartTime: {seconds:.3} (seconds since epoch), {date}]\n\
         #[MaxValueDivisor: {MAX_VALUE_DIVISOR:.3}]\n\
         {LEGEND}\n",
        env!("CARGO_PKG_VERSION"),
        core.0,
    )?;
    Ok(OpenLog {
        core,
        path,
        file,
        size: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testbed::interval;
    use super::*;

    const START: UnixMs = UnixMs(1_795_000_000_123);

    #[test]
    fn a_log_has_the_header_of_the_format_and_one_line_per_phase() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
        logs.write(&interval(3, START, 50)).expect("written");
        logs.write(&interval(3, START.plus_ms(10_000), 50))
            .expect("written");
        let name = "20261118T110640123Z-core-3.hdr";
        let text = fs::read_to_string(dir.path().join("hdr").join(name)).expect("the log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "#[Histogram log format version 1.3]");
        assert_eq!(
            lines[2],
            "#[StartTime: 1795000000.123 (seconds since epoch), Wed Nov 18 11:06:40 UTC 2026]"
        );
        assert!(lines[4].starts_with("\"StartTimestamp\""));
        // connect, ttfb, body, total, schedule lag; twice.
        assert_eq!(lines.len(), 5 + 10);
        assert!(
            lines[5].starts_with("Tag=connect.core3,1795000000.123,10.000,5."),
            "{}",
            lines[5]
        );
        assert!(lines[5].contains(",HISTFAAA"), "{}", lines[5]);
    }

    /// The golden log was read by foreign readers, see the guide: as long as we write the same,
    /// they read what we write.
    #[test]
    fn what_is_written_is_what_foreign_readers_were_shown() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
        for start in [START, START.plus_ms(10_000)] {
            logs.write(&interval(3, start, 50)).expect("written");
        }
        let path = dir.path().join("hdr/20261118T110640123Z-core-3.hdr");
        let written = fs::read_to_string(path).expect("the log");
        let golden = include_str!("golden.hdr");
        assert_eq!(written.lines().count(), golden.lines().count());
        // The first line names the version that wrote it.
        for (ours, theirs) in written.lines().zip(golden.lines()).skip(1) {
            let (Some((ours, payload)), Some((theirs, golden))) = (
                ours.rsplit_once(",HISTFAAA"),
                theirs.rsplit_once(",HISTFAAA"),
            ) else {
                assert_eq!(ours, theirs);
                continue;
            };
            assert_eq!(ours, theirs);
            // The compressor may change its mind between releases, what it packs may not.
            assert_eq!(decoded(payload), decoded(golden), "{ours}");
        }
    }

    fn decoded(payload: &str) -> Histogram<u64> {
        use base64::Engine;
        let base64 = format!("HISTFAAA{payload}");
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
        let mut deserializer = hdrhistogram::serialization::Deserializer::new();
        let bytes = bytes.expect("base64");
        deserializer
            .deserialize(&mut bytes.as_slice())
            .expect("a compressed V2 histogram")
    }

    #[test]
    fn the_oldest_logs_go_when_all_are_too_large() {
        let dir = tempfile::tempdir().expect("temp dir");
        let logs = dir.path().join(DIRECTORY);
        fs::create_dir(&logs).expect("made");
        for name in ["1.hdr", "2.hdr", "3.hdr", "notes.txt"] {
            fs::write(logs.join(name), [0; 100]).expect("written");
        }
        let limits = Limits {
            file: 100,
            total: 250,
        };
        IntervalLogs::within(limits, dir.path()).expect("opened");
        let left = |name: &str| logs.join(name).exists();
        assert_eq!(
            ["1.hdr", "2.hdr", "3.hdr", "notes.txt"].map(left),
            [false, true, true, true]
        );
    }

    #[test]
    fn a_log_that_is_being_written_is_never_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        // Room for less than what the cores write at once; a log is full after two intervals.
        let probe = interval(0, START, 50);
        let mut logs = IntervalLogs::open(dir.path(), 1).expect("opened");
        logs.write(&probe).expect("written");
        let one = logs.open[0].size;
        drop(logs);
        let limits = Limits {
            file: one + 1,
            total: 2 * one,
        };
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::within(limits, dir.path()).expect("opened");
        for round in 0..9 {
            for core in 0..4 {
                let set = interval(core, START.plus_ms(round * 10_000), 50);
                logs.write(&set).expect("written");
            }
        }
        assert_eq!(logs.open.len(), 4);
        for log in &logs.open {
            let text = fs::read_to_string(&log.path).expect("it has its name");
            assert!(text.len() as u64 > log.size && log.size > 0);
        }
        let all = fs::read_dir(dir.path().join(DIRECTORY)).expect("dir");
        assert_eq!(all.count(), 4, "the full ones are gone");
    }

    #[test]
    fn there_is_room_for_a_full_log_of_every_core_beside_the_one_that_is_written() {
        for cores in [1, 16, 33, 512] {
            let limits = Limits::of(cores);
            assert!(limits.total >= 2 * limits.file * cores as u64, "{cores}");
        }
        assert_eq!(Limits::of(1).total, Limits::of(16).total);
    }
}
