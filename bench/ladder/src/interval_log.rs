//! Reads a window out of the HDR interval logs that a node writes (format 1.3, the same files that
//! HdrHistogram's own tools open). Knows that a tag is a phase and a core, and the lag's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, LogEntry,
};

/// What the tags of the lag begin with; the number of the core follows.
const LAG_TAG: &str = "schedule_lag.core";
/// What comes between a phase and the number of its core.
const CORE: &str = ".core";
/// Intervals follow each other without a gap; their ends are rounded to a ms on two clocks.
const GAP_MAX_MS: u64 = 20;

/// The schedule lag of one interval.
#[derive(Clone, Debug)]
pub(crate) struct LagInterval {
    /// Start and end in Unix ms.
    pub(crate) span: (u64, u64),
    /// Lag of every check in µs.
    pub(crate) lag: Histogram<u64>,
}

/// The schedule lag of every interval that touches `window` (Unix ms), over all logs in `folder`.
/// Up to one interval more on either side is in it: none is cut.
///
/// # Errors
/// When a log cannot be read, or the intervals leave a part of the window out.
pub(crate) fn schedule_lag(
    folder: &Path,
    window: &RangeInclusive<u64>,
) -> Result<Vec<LagInterval>> {
    let mut intervals = Vec::new();
    visit(folder, window, |tag, span, decode| {
        if tag.starts_with(LAG_TAG) {
            let lag = decode()?;
            intervals.push(LagInterval { span, lag });
        }
        Ok(())
    })?;
    let spans = intervals.iter().map(|interval| interval.span).collect();
    must_cover(spans, window).with_context(|| format!("interval logs in {}", folder.display()))?;
    Ok(intervals)
}

/// Every phase of the intervals that touch `window`, over all cores and logs in `folder`, in µs.
///
/// # Errors
/// When a log cannot be read, or histograms do not fit each other.
pub(crate) fn phases(
    folder: &Path,
    window: &RangeInclusive<u64>,
) -> Result<BTreeMap<String, Histogram<u64>>> {
    let mut phases = BTreeMap::new();
    visit(folder, window, |tag, _, decode| {
        let phase = tag.split_once(CORE).map_or(tag, |(phase, _)| phase);
        let merged: &mut Histogram<u64> = match phases.entry(phase.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(empty) => empty.insert(Histogram::new(3)?),
        };
        merged.add(&decode()?)?;
        Ok(())
    })?;
    Ok(phases)
}

/// Shows the tag, the start and end in Unix ms, and what decodes it, of every interval that touches
/// `window`.
fn visit(
    folder: &Path,
    window: &RangeInclusive<u64>,
    mut each: impl FnMut(&str, (u64, u64), &dyn Fn() -> Result<Histogram<u64>>) -> Result<()>,
) -> Result<()> {
    for file in logs(folder)? {
        let text = std::fs::read(&file).with_context(|| cannot_read(&file))?;
        for entry in IntervalLogIterator::new(&text) {
            let entry = entry.map_err(|error| anyhow!("{}: {error:?}", cannot_read(&file)))?;
            let Some((interval, span)) = within(&entry, window) else {
                continue;
            };
            let tag = interval.tag().map_or("", |tag| tag.as_str());
            each(tag, span, &|| decode(interval)).with_context(|| cannot_read(&file))?;
        }
    }
    Ok(())
}

/// All of `intervals` as one histogram, in µs.
///
/// # Errors
/// When the histograms do not fit each other.
pub(crate) fn merged<'a>(
    intervals: impl IntoIterator<Item = &'a LagInterval>,
) -> Result<Histogram<u64>> {
    let mut merged = Histogram::new(3).context("3 digits are valid")?;
    for interval in intervals {
        merged.add(&interval.lag)?;
    }
    Ok(merged)
}

fn cannot_read(file: &Path) -> String {
    format!("{} is not understood as an interval log", file.display())
}

fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "hdr") {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// The entry with its start and end in Unix ms, when it touches the window.
fn within<'a, 'b>(
    entry: &'b LogEntry<'a>,
    window: &RangeInclusive<u64>,
) -> Option<(&'b IntervalLogHistogram<'a>, (u64, u64))> {
    let LogEntry::Interval(interval) = entry else {
        return None;
    };
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 1_000.0).round() as u64;
    let start = ms(interval.start_timestamp());
    let end = start + ms(interval.duration());
    (start < *window.end() && end > *window.start()).then_some((interval, (start, end)))
}

fn decode(interval: &IntervalLogHistogram<'_>) -> Result<Histogram<u64>> {
    let bytes = STANDARD.decode(interval.encoded_histogram())?;
    Ok(Deserializer::new().deserialize(&mut bytes.as_slice())?)
}

/// Fails unless `spans` cover the window without a gap.
fn must_cover(mut spans: Vec<(u64, u64)>, window: &RangeInclusive<u64>) -> Result<()> {
    spans.sort_unstable();
    let mut covered_to = *window.start();
    for (start, end) in spans {
        if start > covered_to + GAP_MAX_MS {
            break;
        }
        covered_to = covered_to.max(end);
    }
    if covered_to + GAP_MAX_MS < *window.end() {
        bail!(
            "the schedule lag is known up to {covered_to} of the measured window {} to {} (Unix \
             ms): measure again",
            window.start(),
            window.end()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

    use super::*;

    const ZERO_MS: u64 = 1_795_000_000_123;

    /// A log with one interval of one value for each (tag, start in s, µs), 1 s long.
    fn folder(intervals: &[(&str, u64, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = b"#[Histogram log format version 1.3]\n\"StartTimestamp\",\"Max\"\n".to_vec();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        let mut writer = builder
            .with_max_value_divisor(1_000.0)
            .begin_log_with(&mut log, &mut serializer)
            .expect("begun");
        for &(tag, start_s, us) in intervals {
            let mut histogram = Histogram::<u64>::new(3).expect("valid");
            histogram.record(us).expect("it grows");
            let start = Duration::from_millis(ZERO_MS + start_s * 1_000);
            let length = Duration::from_secs(1);
            writer
                .write_histogram(&histogram, start, length, Tag::new(tag))
                .expect("written");
        }
        let mut file = std::fs::File::create(folder.path().join("a.hdr")).expect("made");
        file.write_all(&log).expect("written");
        std::fs::write(folder.path().join("notes.txt"), "no log").expect("written");
        folder
    }

    fn window(from_s: u64, to_s: u64) -> RangeInclusive<u64> {
        ZERO_MS + from_s * 1_000 + 400..=ZERO_MS + to_s * 1_000 + 400
    }

    #[test]
    fn every_interval_of_the_window_counts_and_no_other() {
        let lag = |start_s, us| ("schedule_lag.core0", start_s, us);
        let logs = folder(&[
            lag(0, 90_000),
            lag(1, 100),
            ("loop_lag.core0", 1, 70_000),
            lag(2, 20_000),
            lag(3, 300),
            lag(4, 80_000),
        ]);
        let intervals = schedule_lag(logs.path(), &window(1, 3)).expect("covered");
        let merged = merged(&intervals).expect("alike");
        assert_eq!(merged.len(), 3);
        let p99_us = merged.value_at_quantile(0.99);
        assert!((20_000..20_100).contains(&p99_us), "{p99_us}");
    }

    #[test]
    fn phases_are_merged_over_cores_and_not_over_the_window() {
        let logs = folder(&[
            ("connect.core0", 0, 9_000),
            ("connect.core0", 2, 100),
            ("connect.core1", 2, 300),
            ("total.core0", 2, 500),
        ]);
        let phases = phases(logs.path(), &window(1, 3)).expect("read");
        let counts: Vec<(&str, u64, u64)> = phases
            .iter()
            .map(|(name, phase)| (name.as_str(), phase.len(), phase.max()))
            .collect();
        assert_eq!(counts, [("connect", 2, 300), ("total", 1, 500)]);
    }

    #[test]
    fn a_window_that_is_not_covered_is_no_measurement() {
        let lag = |start_s| ("schedule_lag.core0", start_s, 100);
        let cases = [
            (vec![], "nothing"),
            (vec![lag(2), lag(3)], "the start is missing"),
            (vec![lag(1), lag(3)], "a gap"),
            (vec![lag(1), lag(2)], "the end is missing"),
        ];
        for (intervals, what) in cases {
            let logs = folder(&intervals);
            let error = schedule_lag(logs.path(), &window(1, 3)).expect_err(what);
            assert!(
                format!("{error:#}").contains("measured window"),
                "{error:#}"
            );
        }
    }

    #[test]
    fn a_damaged_log_is_named() {
        let logs = folder(&[]);
        let damaged = format!(
            "Tag=schedule_lag.core0,{}.000,1.000,5.0,gibberish\n",
            ZERO_MS / 1_000
        );
        std::fs::write(logs.path().join("b.hdr"), damaged).expect("written");
        let error = schedule_lag(logs.path(), &window(0, 1)).expect_err("damaged");
        assert!(
            error.to_string().contains("b.hdr is not understood"),
            "{error:#}"
        );
    }
}
