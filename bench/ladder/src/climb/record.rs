//! What is written down of a climb: `report.json`, whose schema is
//! `bench/ladder/schema/climb.json`, and the state of a climb that goes on. Shapes only: nothing is
//! judged here.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plan::{FaultMix, Form, Rung, Scheme, StoreKind};
use crate::findings::KindRow;
use crate::machine::Machine;

/// Of the shapes below: another number is another file.
pub(super) const FORMAT: u32 = 2;
/// Runs of one rung below which a figure is no claim.
pub(super) const REPEATS_FOR_A_CLAIM: usize = 3;

/// A whole climb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) format: u32,
    pub(super) machine: Machine,
    /// What makes it again.
    pub(super) command: String,
    pub(super) form: Form,
    pub(super) cpus: Cpus,
    /// Runs of each rung that were asked for.
    pub(super) repeats: usize,
    /// Every run, in order; those of one rung are its repeats.
    pub(super) runs: Vec<Run>,
    /// Rungs that were not run, and why.
    pub(super) left_out: Vec<String>,
    /// What a check costs as the fleet grows.
    pub(super) flatness: Vec<Flatness>,
}

/// What a check costs with each fleet of one scheme, store and interval, over the clean runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flatness {
    pub(super) scheme: Scheme,
    pub(super) store: StoreKind,
    pub(super) interval_s: u32,
    pub(super) dns_ttl_s: u32,
    pub(super) faults: FaultMix,
    /// Sites, and µs of the probe core per check: of several runs the median; the smallest fleet
    /// first, and two at least.
    pub(super) fleets: Vec<(u32, f64)>,
    pub(super) min_us: f64,
    pub(super) max_us: f64,
    pub(super) max_over_min: f64,
}

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpus {
    /// The probe core's alone.
    pub(super) probe: usize,
    /// The farm's and the store's; the rest of the node uses it as well.
    pub(super) farm: usize,
    /// That of the load generator of the preflight.
    pub(super) generator: usize,
}

/// One run of one rung.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) rung: Rung,
    pub(super) began_unix_ms: u64,
    pub(super) took_s: f64,
    pub(super) verdict: Verdict,
    /// Why it is what it is: what lacks, what does not hold, what the farm cannot serve.
    pub(super) reasons: Vec<String>,
    pub(super) gates: Vec<Judged>,
    pub(super) ceiling: Option<Ceiling>,
    pub(super) measured: Option<Measured>,
    pub(super) pressed: Option<Pressed>,
}

/// What a run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Every gate holds.
    Clean,
    /// One does not.
    Failed,
    /// The farm cannot serve what is asked for: nothing of the monitor.
    FarmBound,
    /// The machine has too little of something: the rung was not begun.
    NotBegun,
    /// It was not made as it should have been, or broke off: nothing of the monitor.
    Void,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Failed => "FAILED",
            Self::FarmBound => "farm-bound",
            Self::NotBegun => "not begun",
            Self::Void => "void",
        }
    }
}

/// Those of `runs` whose figures count.
pub(super) fn clean<'a>(runs: &[&'a Run]) -> Vec<&'a Run> {
    let is_clean = |run: &&Run| run.verdict == Verdict::Clean;
    runs.iter().copied().filter(is_clean).collect()
}

impl Pressed {
    /// What was of use, of what the CPU allowed.
    pub(super) fn goodput(&self) -> f64 {
        self.good as f64 / self.allowed.max(1.0)
    }
}

/// One gate of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Judged {
    pub(super) name: String,
    /// A busy machine alone may break it: not judged in the mini form.
    pub(super) wall_time: bool,
    /// Why it does not hold; empty when it does.
    pub(super) failures: Vec<String>,
}

/// What the farm can serve, with all that shares its core at work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ceiling {
    pub(super) required_per_s: f64,
    /// What it must be able to serve.
    pub(super) needed_per_s: f64,
    /// What it served while the generator ran beside the node.
    pub(super) served_per_s: f64,
    /// Part of its core that the farm had meanwhile, and that the others on it had.
    pub(super) farm_busy: f64,
    pub(super) others_busy: f64,
    pub(super) farm_lag_p99_ms: f64,
    /// Checks of the generator, those that failed, and how many a second it was asked for and made.
    pub(super) generator_checks: u64,
    pub(super) generator_failed: u64,
    pub(super) generator_asked_per_s: f64,
    pub(super) generator_per_s: f64,
    /// What was served, or what the rest of the core lets expect, whichever is more.
    pub(super) limit_per_s: f64,
}

/// The measured window of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    pub(super) driver: String,
    pub(super) farm_shell: String,
    pub(super) intervals: u32,
    pub(super) seconds: f64,
    pub(super) checks: u64,
    pub(super) checks_per_s: f64,
    pub(super) required_per_s: f64,
    /// CPU, user and system.
    pub(super) cpu: Cpu,
    /// Of the node: the most that was seen, and what it may be.
    pub(super) rss_max_bytes: u64,
    pub(super) rss_budget_bytes: u64,
    pub(super) store_rss_bytes: Option<u64>,
    pub(super) in_flight_max: u64,
    pub(super) lag: Latency,
    pub(super) phases: Vec<Latency>,
    pub(super) observer: Observer,
    /// Checks that finished in each second.
    pub(super) checks_by_second: Vec<u64>,
    pub(super) tls_full: u64,
    pub(super) tls_resumed: u64,
    pub(super) dns_queries: u64,
    pub(super) freshness_rows: u64,
    /// CPU time that others had while the probe core wanted it; absent where the kernel keeps no
    /// account.
    pub(super) taken_ms: Option<u64>,
    pub(super) faults: Vec<KindRow>,
    pub(super) false_downs: u64,
}

impl Measured {
    /// From a fault to Down, at most, in s; absent where none was found.
    pub(super) fn slowest_down_s(&self) -> Option<f64> {
        let kinds = self.faults.iter();
        let slowest = kinds.filter_map(|kind| Some(kind.down?.max)).max();
        slowest.map(|ms| ms as f64 / 1e3)
    }
}

/// CPU of the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cpu {
    /// Part of a CPU that the probe core had.
    pub(super) core_busy: f64,
    /// The farm's serving thread, by its own account.
    pub(super) farm_busy: f64,
    pub(super) farm_lag_p99_ms: f64,
    /// Of the probe core, of the whole node, of the farm and of the store, in µs per check.
    pub(super) core_us: f64,
    pub(super) node_us: f64,
    pub(super) farm_us: f64,
    pub(super) store_us: Option<f64>,
    /// The node's threads, in µs per check; the busiest first.
    pub(super) threads_us: Vec<(String, f64)>,
}

/// One distribution over the measured window, in µs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latency {
    /// Of the interval logs: `connect`, `schedule_lag`, …
    pub(super) phase: String,
    pub(super) count: u64,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) p9999_us: u64,
    pub(super) max_us: u64,
}

/// What the targets saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Observer {
    pub(super) expected: u64,
    pub(super) excluded: u64,
    pub(super) never_seen: u64,
    pub(super) stale: u64,
    pub(super) ratio: f64,
    pub(super) requests: u64,
    /// Time since the last request of each site, in ms.
    pub(super) age: Option<Ages>,
    /// Longest time between two requests of each site, in ms.
    pub(super) gap: Option<Ages>,
}

/// A distribution over sites, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ages {
    pub(super) min: u64,
    pub(super) p50: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

/// What a node did that was left too little CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pressed {
    /// What took the CPU.
    pub(super) by: String,
    pub(super) seconds: f64,
    /// Part of a CPU that the probe core needs, and that it had.
    pub(super) needed: f64,
    pub(super) had: f64,
    /// Part of it that it could have had: what it had, and its share of the time in which it slept
    /// although checks waited.
    pub(super) could: f64,
    /// How many times more there was to do than CPU for it.
    pub(super) factor: f64,
    /// Checks that said of a site, all of which were well, that it is; and so many could be made in
    /// the CPU time that it could have had, at what one costs in the calm.
    pub(super) good: u64,
    pub(super) allowed: f64,
    pub(super) shed: u64,
    pub(super) unknown: u64,
    /// What the targets saw while it lasted, and from the relief on.
    pub(super) sites: Sites,
    pub(super) relieved: Sites,
    pub(super) farm_busy: f64,
    pub(super) farm_lag_p99_ms: f64,
    /// From the relief to the last second that was not as in the calm.
    pub(super) back_s: f64,
}

/// What the targets saw of a node that is short of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sites {
    pub(super) requests: u64,
    pub(super) never_seen: u64,
    /// Last seen more than two intervals ago.
    pub(super) stale: u64,
}

/// Writes `value` so that a reader finds the old file or the whole new one.
pub(super) fn write_whole<T: Serialize>(file: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    write_text(file, &text)
}

/// The same for text.
pub(super) fn write_text(file: &Path, text: &str) -> Result<()> {
    let shown = file.display();
    let part = file.with_extension("part");
    let write = || {
        let mut out = std::fs::File::create(&part)?;
        std::io::Write::write_all(&mut out, text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&part, file)
    };
    write().with_context(|| format!("cannot write {shown}"))
}

/// Reads a report; one that is cut short, or of another format, is none.
pub(super) fn read_report(file: &Path) -> Result<Report> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{shown} is no whole report of `ladder climb`"))?;
    let found = report.format;
    ensure!(
        found == FORMAT,
        "{shown} has format {found}, and this ladder reads format {FORMAT}: climb again"
    );
    Ok(report)
}

#[cfg(test)]
pub(super) mod testbed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_never_by_halves() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("report.json");
        let report = testbed::report();
        write_whole(&file, &report).expect("written");
        assert_eq!(read_report(&file).expect("whole"), report);
        assert_eq!(
            std::fs::read_dir(&folder).expect("listed").count(),
            1,
            "no part is left"
        );
        let text = std::fs::read_to_string(&file).expect("text");
        for end in [0, 1, text.len() / 2, text.len() - 3] {
            std::fs::write(&file, &text[..end]).expect("cut");
            let error = read_report(&file).expect_err("half").to_string();
            assert!(
                error.ends_with("is no whole report of `ladder climb`"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_report_of_another_shape_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("report.json");
        let mut json = serde_json::to_value(testbed::report()).expect("JSON");
        json["format"] = 3.into();
        write_whole(&file, &json).expect("written");
        let error = read_report(&file).expect_err("newer").to_string();
        assert!(
            error.contains("format 3") && error.contains("climb again"),
            "{error}"
        );
        json["runs"][0]["surprise"] = 1.into();
        write_whole(&file, &json).expect("written");
        assert!(read_report(&file).is_err());
    }

    #[test]
    fn the_schema_takes_a_report_and_refuses_what_is_none() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../schema/climb.json")).expect("JSON");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler
            .add_resource("climb.json", schema)
            .expect("a schema");
        let index = compiler
            .compile("climb.json", &mut schemas)
            .expect("compiles");
        let report = serde_json::to_value(testbed::report()).expect("JSON");
        let verdict = schemas
            .validate(&report, index)
            .map_err(|error| error.to_string());
        assert_eq!(verdict, Ok(()));
        let wrong = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut report = report.clone();
            change(&mut report);
            schemas.validate(&report, index).is_err()
        };
        assert!(wrong(&|r| r["format"] = 3.into()));
        assert!(wrong(&|r| r["runs"][0]["verdict"] = "fine".into()));
        assert!(wrong(&|r| r["runs"][0]["measured"]["more"] = 1.into()));
        assert!(wrong(&|r| drop(
            r.as_object_mut().expect("an object").remove("machine")
        )));
        assert!(wrong(&|r| r["runs"][0]["rung"]["sites"] = "many".into()));
        // Every field of the shapes is named in it: what is not is refused.
        assert!(wrong(&|r| r["runs"][1]["pressed"]["more"] = 1.into()));
        assert!(wrong(&|r| r["runs"][0]["ceiling"]["more"] = 1.into()));
    }
}
