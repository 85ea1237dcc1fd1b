//! Latency reports from HDR interval logs: `ringwatch run` writes the logs, `ringwatch report`
//! reads them. Must not know probe cores beyond the histograms that they hand over.

pub(crate) mod log;
mod markdown;
mod plot;
pub(crate) mod read;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::exit::bad_input;
use crate::out::{self, Out};
use read::{Latencies, Reading};

pub(crate) use table::human;

/// Order of the phases in tables and plots; unknown tags come after them.
pub(crate) const PHASES: [&str; 8] = [
    "dns",
    "connect",
    "tls",
    "ttfb",
    "body",
    "total",
    "schedule_lag",
    "loop_lag",
];

/// What `report` takes.
const SOURCES: &str = "name the data directory of a node, its hdr directory, or one log";

/// Reads `source`, writes plots and Markdown to `out`, and prints the table.
pub(crate) fn run(source: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let (latencies, logs) = read_all(find_logs(source)?)?;
    if latencies.is_empty() {
        return bad_input(format!("{} holds no interval yet", source.display()));
    }
    let out = match out {
        Some(out) => out.to_owned(),
        None if source.is_dir() => source.to_owned(),
        None => source.parent().map_or_else(PathBuf::new, Path::to_owned),
    };
    // Neither hangs on the other: the files on who reads the table, the table on a full disk.
    let written = write(&latencies, &logs, &out);
    let mut out = Out::start();
    out.text(table::render(&latencies));
    for file in written.iter().flatten() {
        out.line(format_args!("wrote {}", file.display()));
    }
    out.end()?;
    written.map(drop)
}

/// What `files` say, and those of them that are logs.
fn read_all(files: Vec<PathBuf>) -> anyhow::Result<(Latencies, Vec<PathBuf>)> {
    let (mut latencies, mut logs, mut foreign) = (Latencies::default(), Vec::new(), Vec::new());
    for file in files {
        match latencies.read(&file)? {
            Reading::Log(complaints) => {
                complaints.iter().for_each(out::remark);
                logs.push(file);
            }
            Reading::Foreign => foreign.push(file),
        }
    }
    if let ([], [first, ..]) = (&logs[..], &foreign[..]) {
        return bad_input(format!(
            "{} is not an interval log: {SOURCES}",
            first.display()
        ));
    }
    for file in foreign {
        let file = file.display();
        out::remark(format_args!("{file} is not an interval log; skipped"));
    }
    Ok((latencies, logs))
}

/// Writes plots and Markdown into `out` and returns the files.
fn write(latencies: &Latencies, logs: &[PathBuf], out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("{} cannot be created", out.display()))?;
    let files = [
        ("percentiles.svg", plot::percentiles(latencies)?),
        ("lag.svg", plot::lag(latencies)?),
        ("report.md", markdown::render(latencies, logs)),
    ];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

/// The logs of a file, of a directory, or of the `hdr` directory of a data directory; by name.
fn find_logs(source: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if source.is_file() {
        return Ok(vec![source.to_owned()]);
    }
    for dir in [source.to_owned(), source.join(log::DIRECTORY)] {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        let is_log = |path: &PathBuf| path.extension().is_some_and(|end| end == "hdr");
        let mut logs: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(is_log)
            .collect();
        if !logs.is_empty() {
            logs.sort();
            return Ok(logs);
        }
    }
    bad_input(format!(
        "{} is no .hdr file and holds none: {SOURCES}",
        source.display()
    ))
}

#[cfg(test)]
pub(crate) mod testbed {
    //! Histograms with known content.

    use cores::CoreHistograms;
    use model::outcome::Phases;
    use model::{CoreIndex, UnixMs};

    /// Checks of 1, 2, … `count` ms in the interval that starts at `start`.
    pub(crate) fn interval(core: u16, start: UnixMs, count: u32) -> CoreHistograms {
        let mut set = CoreHistograms::new(CoreIndex(core), start);
        for ms in 1..=count {
            let phases = Phases {
                connect_us: ms * 100,
                ttfb_us: ms * 800,
                body_us: ms * 10,
                total_us: ms * 1_000,
                ..Phases::NONE
            };
            set.record(&phases, ms * 5, ms * 3);
        }
        set.end = start.plus_ms(10_000);
        set
    }
}
