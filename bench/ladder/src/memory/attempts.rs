//! Memory of attempts in flight: a farm that reads each request and never answers, and a node
//! whose attempts pile up until the first deadline.
//!
//! ```text
//! start ─► 1,000 in flight: RSS ─► 10,000 in flight: RSS ─► stop, before anything timed out
//! ```
//! Both readings are of one process, so that what every node costs, and what its targets cost, is
//! in neither. Names that were resolved between them are: some tens of bytes each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::bars::Bar;
use super::{HISTOGRAM_INTERVAL_S, MemoryOptions, plan};
use crate::baseline::median;
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};

/// The targets' interval and deadline: nearly a whole cadence (19 s), in which each starts once.
const INTERVAL_S: u32 = 20;
const TIMEOUT_MS: u32 = 18_500;
/// Sites for each attempt that is wanted in flight: with a tenth more than that, the number is
/// reached two seconds before the first deadline.
const SITES_PER_ATTEMPT: f64 = 1.15;
/// A cadence, with patience for a busy machine.
const PILED_UP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const KB: f64 = 1_000.0;

/// How the memory of attempts is measured.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AttemptOptions {
    /// Attempts in flight between which the memory of one is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    in_flight: Vec<u32>,
    /// Starts of a node for that, with HTTP and with HTTPS; 0 leaves it out.
    #[arg(long, default_value_t = 3)]
    attempt_starts: usize,
}

impl AttemptOptions {
    /// # Errors
    /// When there are not two rising numbers.
    pub(super) fn check(&self) -> Result<()> {
        if self.in_flight.len() != 2 || !self.in_flight.is_sorted_by(|a, b| a < b) {
            bail!("--in-flight needs two rising numbers: a slope has two ends");
        }
        Ok(())
    }
}

/// What attempts in flight cost with one scheme.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attempts {
    https: bool,
    /// As wanted: the ends of the slope.
    in_flight: [u32; 2],
    starts: Vec<Start>,
}

/// One start of a node.
#[derive(Clone, Debug, Serialize)]
struct Start {
    few: Reading,
    many: Reading,
}

/// A node at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Reading {
    in_flight: u64,
    /// Attempts that are over.
    ended: u64,
    rss_bytes: u64,
}

impl Attempts {
    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The most that an attempt may cost, in bytes.
    fn max_bytes(&self) -> f64 {
        if self.https { 24.0 * KB } else { 12.0 * KB }
    }

    /// Bytes of an attempt: the median of the starts.
    fn bytes(&self) -> Option<f64> {
        let starts: Vec<f64> = self.starts.iter().map(Start::bytes).collect();
        (!starts.is_empty()).then(|| median(starts))
    }

    /// Why the numbers prove nothing.
    fn flaw(&self) -> Option<String> {
        if self.starts.is_empty() {
            return Some("left out".to_owned());
        }
        let ended: u64 = self.starts.iter().map(|start| start.many.ended).sum();
        (ended > 0).then(|| format!("{ended} attempts were over before there were enough"))
    }

    fn bar(&self) -> Bar {
        let [few, many] = self.in_flight.map(|number| grouped(u64::from(number)));
        let what = format!(
            "memory per attempt, {}, {few} to {many} in flight",
            self.scheme()
        );
        let kb = |bytes: f64| bytes / KB;
        Bar::new(
            what,
            self.bytes().map(kb),
            (kb(self.max_bytes()), "kB"),
            self.flaw(),
        )
    }
}

impl Start {
    /// Bytes that one more attempt in flight costs.
    fn bytes(&self) -> f64 {
        let attempts = self.many.in_flight as f64 - self.few.in_flight as f64;
        (self.many.rss_bytes as f64 - self.few.rss_bytes as f64) / attempts.max(1.0)
    }
}

/// The bars of both schemes.
pub(super) fn bars(attempts: &[Attempts]) -> impl Iterator<Item = Bar> {
    attempts.iter().map(Attempts::bar)
}

/// The starts, for people; empty when there were none.
pub(super) fn table(attempts: &[Attempts]) -> String {
    let head = [
        "attempts that wait for an answer",
        "in flight",
        "RSS MB",
        "kB per attempt",
    ];
    let mut table = Table::new(&head);
    for scheme in attempts {
        for (number, start) in scheme.starts.iter().enumerate() {
            let both = |value: fn(&Reading) -> String| {
                format!("{} → {}", value(&start.few), value(&start.many))
            };
            table.row([
                format!("{}, start {}", scheme.scheme(), number + 1),
                both(|reading| grouped(reading.in_flight)),
                both(|reading| format!("{:.1}", reading.rss_bytes as f64 / 1e6)),
                format!("{:.2}", start.bytes() / KB),
            ]);
        }
    }
    let is_empty = attempts.iter().all(|scheme| scheme.starts.is_empty());
    if is_empty {
        String::new()
    } else {
        format!("\n{}", table.markdown())
    }
}

/// Measures both schemes.
pub(super) async fn measure(options: &MemoryOptions, folder: &Path) -> Result<Vec<Attempts>> {
    let mut attempts = Vec::new();
    for https in [false, true] {
        let name = if https {
            "attempts-https"
        } else {
            "attempts-http"
        };
        let measured = measure_scheme(options, &folder.join(name), https).await?;
        println!("{measured:?}");
        attempts.push(measured);
    }
    Ok(attempts)
}

async fn measure_scheme(options: &MemoryOptions, folder: &Path, https: bool) -> Result<Attempts> {
    let wanted = &options.attempts.in_flight;
    let (few, many) = (wanted[0], wanted[1]);
    let mut starts = Vec::new();
    if options.attempts.attempt_starts > 0 {
        let sites = (f64::from(many) * SITES_PER_ATTEMPT).ceil() as u32;
        let mut farm = silent_farm(options, folder, sites, https).await?;
        import(options, folder, &farm).await?;
        for _ in 0..options.attempts.attempt_starts {
            starts.push(start(options, folder, &farm, [few, many]).await?);
            farm.must_run()?;
        }
        farm.stop().await?;
    }
    Ok(Attempts {
        https,
        in_flight: [few, many],
        starts,
    })
}

/// A farm all of whose sites read the request and say nothing.
async fn silent_farm(
    options: &MemoryOptions,
    folder: &Path,
    sites: u32,
    https: bool,
) -> Result<Farm> {
    std::fs::create_dir_all(folder)?;
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, silence(sites))?;
    let plan = FarmPlan {
        program: options.bench.farm.clone(),
        sites,
        interval_s: INTERVAL_S,
        https_every: u32::from(https),
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        cpu: Some(options.bench.farm_cpu),
    };
    let farm = Farm::start(&plan, &folder.join("farm")).await?;
    farm.start_scenario().await?;
    Ok(farm)
}

fn silence(sites: u32) -> String {
    format!(
        "[[fault]]\nkind = 'silence'\nfirst_site = 0\ncount = {sites}\n\
         duration_s = 'until-ended'\n"
    )
}

/// Fills the store: the nodes that are measured have no memory that an import left behind.
async fn import(options: &MemoryOptions, folder: &Path, farm: &Farm) -> Result<()> {
    let targets = folder.join("targets.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
    let plan = NodePlan {
        targets: Some(targets),
        ..node_plan(options, folder)
    };
    Node::start(plan, &farm.ready).await?.stop().await
}

fn node_plan(options: &MemoryOptions, folder: &Path) -> NodePlan {
    NodePlan {
        histogram_interval_s: HISTOGRAM_INTERVAL_S,
        // What waits for silence need not be waited for at the end.
        flags: &["--drain-s", "1"],
        ..plan(options, folder, None)
    }
}

/// One node, from its start until there are enough attempts in flight.
async fn start(
    options: &MemoryOptions,
    folder: &Path,
    farm: &Farm,
    wanted: [u32; 2],
) -> Result<Start> {
    let mut node = Node::start(node_plan(options, folder), &farm.ready).await?;
    let [few, many] = wanted;
    let start = Start {
        few: piled_up(&mut node, few).await?,
        many: piled_up(&mut node, many).await?,
    };
    node.stop().await?;
    Ok(start)
}

/// Waits until so many attempts are in flight.
async fn piled_up(node: &mut Node, wanted: u32) -> Result<Reading> {
    let watch = Stopwatch::start();
    loop {
        node.must_run()?;
        let scrape = node.scrape().await?;
        let count = |name: &str| scrape.sum(name, &[]).unwrap_or(0.0) as u64;
        let reading = Reading {
            in_flight: count("ringwatch_in_flight"),
            ended: count("ringwatch_probed_total"),
            rss_bytes: procfs::rss_bytes(node.pid())?,
        };
        if reading.in_flight >= u64::from(wanted) {
            return Ok(reading);
        }
        if watch.elapsed() > PILED_UP_LIMIT {
            bail!("{reading:?}: {wanted} in flight were not reached within {PILED_UP_LIMIT:?}");
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(https: bool, kb: &[u64], ended: u64) -> Attempts {
        let reading = |in_flight, ended, rss_bytes| Reading {
            in_flight,
            ended,
            rss_bytes,
        };
        let start = |kb: &u64| Start {
            few: reading(1_010, 0, 50_000_000),
            many: reading(10_010, ended, 50_000_000 + 9_000 * kb * 1_000),
        };
        Attempts {
            https,
            in_flight: [1_000, 10_000],
            starts: kb.iter().map(start).collect(),
        }
    }

    #[test]
    fn the_middle_start_speaks_for_all_and_each_scheme_has_its_bar() {
        for (https, kb, holds) in [
            (false, [12, 99, 1], true),
            (false, [13, 99, 1], false),
            (true, [24, 99, 1], true),
            (true, [25, 99, 1], false),
        ] {
            let attempts = attempts(https, &kb, 0);
            let complaint = attempts.bar().complaint();
            assert_eq!(complaint.is_none(), holds, "{complaint:?}");
            assert_eq!(attempts.bytes(), Some(kb[0] as f64 * KB));
        }
    }

    #[test]
    fn what_was_left_out_or_ended_too_early_is_not_shown() {
        for (attempts, reason) in [
            (attempts(false, &[], 0), "not shown, left out"),
            (
                attempts(true, &[1, 2, 3], 4),
                "not shown, 12 attempts were over before there were enough",
            ),
        ] {
            let complaint = attempts.bar().complaint().expect("no bar holds");
            assert!(complaint.ends_with(reason), "{complaint}");
            assert!(
                complaint.contains("1,000 to 10,000 in flight"),
                "{complaint}"
            );
        }
    }

    #[test]
    fn every_start_is_shown() {
        let shown = table(&[attempts(false, &[6], 0), attempts(true, &[18, 19], 0)]);
        assert_eq!(
            shown
                .lines()
                .filter(|line| line.contains("1,010 → 10,010"))
                .count(),
            3
        );
        assert!(
            shown.contains("https, start 2") && shown.contains("19.00"),
            "{shown}"
        );
        assert_eq!(table(&[attempts(false, &[], 0)]), "");
    }

    #[test]
    fn every_site_is_silent_until_the_end() {
        let text = silence(11_500);
        assert!(
            text.contains("count = 11500") && text.contains("'until-ended'"),
            "{text}"
        );
    }
}
