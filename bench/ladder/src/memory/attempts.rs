//! Memory of attempts in flight: a farm that says nothing any more, and nodes whose attempts wait
//! for it.
//!
//! ```text
//! node, capped at  1,000 in flight ─► all of them silent, at rest: memory ┐
//! node, capped at 10,000 in flight ─► all of them silent, at rest: memory ┴ the slope
//! ```
//! Both have the same targets, so that only the cap tells them apart. Twice as many are due as fit:
//! the cap is reached in the first half of a cadence, and nothing ends before the first deadline,
//! nearly a whole cadence after the start. What the kernel keeps for sockets is no memory of the
//! process, and not counted.

mod shown;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use tokio::time::sleep;

use super::{HISTOGRAM_INTERVAL_S, MemoryOptions, plan};
use crate::baseline::median;
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::http;
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::procfs::{self, Memory};
pub(super) use shown::{bars, table};

/// As long as the cadence allows.
const TIMEOUT_MS: u32 = 60_000;
/// Targets for each attempt in flight.
const TARGETS_PER_ATTEMPT: u32 = 2;
/// Targets at least: a few attempts are there soon, too.
const TARGETS_MIN: u32 = 2_000;
/// What a node and a farm open beside their connections, with room to spare.
const FILES_RESERVED: u64 = 1_024;
/// From the last attempt's start until the memory is read, and the readings.
const SETTLE: Duration = Duration::from_secs(1);
const READINGS: usize = 5;
const BETWEEN_READINGS: Duration = Duration::from_millis(300);
/// Tries of one start.
const TRIES_MAX: usize = 3;
/// Connections of a node that has ended are gone after this time.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// How the memory of attempts is measured.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AttemptOptions {
    /// Attempts in flight between which the memory of one is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    in_flight: Vec<u32>,
    /// Starts of a node for each of the two, and for each kind of attempt; 0 leaves them out.
    #[arg(long, default_value_t = 3)]
    attempt_starts: usize,
    /// Interval of the targets, in seconds: in half of it the attempts pile up.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=60))]
    attempt_interval_s: u32,
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

    fn ends(&self) -> [u32; 2] {
        [self.in_flight[0], self.in_flight[1]]
    }
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The first byte, in clear.
    Plain,
    /// The first byte, after a handshake.
    TlsAnswer,
    /// The answer to its hello.
    TlsHandshake,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Plain, Self::TlsAnswer, Self::TlsHandshake];

    fn is_tls(self) -> bool {
        self != Self::Plain
    }

    /// What the farm's sites do.
    fn fault(self) -> &'static str {
        match self {
            Self::Plain | Self::TlsAnswer => "silence",
            Self::TlsHandshake => "tls_silence",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "attempts-plain",
            Self::TlsAnswer => "attempts-tls-answer",
            Self::TlsHandshake => "attempts-tls-handshake",
        }
    }
}

/// What attempts of one kind cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attempts {
    kind: Kind,
    /// Fewer first.
    ends: [End; 2],
    /// Why nothing was measured, when the machine is the reason.
    refused: Option<String>,
}

/// Nodes with so many attempts in flight.
#[derive(Clone, Debug, Serialize)]
struct End {
    wanted: u32,
    starts: Vec<Reading>,
}

/// A node at rest.
#[derive(Clone, Copy, Debug, Serialize)]
struct Reading {
    /// The fewest that were seen.
    in_flight: u64,
    /// Connections that the farm kept silent, the fewest that were seen.
    silent: u64,
    /// Attempts that were over.
    ended: u64,
    /// The median.
    memory: Memory,
}

/// Measures every kind.
pub(super) async fn measure(options: &MemoryOptions, folder: &Path) -> Result<Vec<Attempts>> {
    let mut attempts = Vec::new();
    for kind in Kind::ALL {
        let measured = measure_kind(options, &folder.join(kind.folder()), kind).await?;
        println!("{measured:?}");
        attempts.push(measured);
    }
    Ok(attempts)
}

async fn measure_kind(options: &MemoryOptions, folder: &Path, kind: Kind) -> Result<Attempts> {
    let ends = options.attempts.ends();
    let mut attempts = Attempts {
        kind,
        ends: ends.map(|wanted| End {
            wanted,
            starts: Vec::new(),
        }),
        refused: want_of_files(getrlimit(Resource::Nofile).maximum, ends[1]),
    };
    if options.attempts.attempt_starts == 0 || attempts.refused.is_some() {
        return Ok(attempts);
    }
    let mut farm = silent_farm(options, folder, kind).await?;
    import(options, folder, &farm).await?;
    for _ in 0..options.attempts.attempt_starts {
        for end in &mut attempts.ends {
            let reading = start(options, folder, &mut farm, end.wanted).await?;
            end.starts.push(reading);
        }
    }
    farm.stop().await?;
    Ok(attempts)
}

/// Why so many attempts cannot be in flight under this limit of open files, for the node or for
/// the farm. No limit is `None`.
fn want_of_files(limit: Option<u64>, in_flight: u32) -> Option<String> {
    let needed = u64::from(silent_max(in_flight)) + FILES_RESERVED;
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "the limit of open files is {limit}, {needed} are needed"
    ))
}

/// Room for what a node leaves behind when it ends, too.
fn silent_max(in_flight: u32) -> u32 {
    in_flight + in_flight / 10
}

/// A farm whose sites are all silent.
async fn silent_farm(options: &MemoryOptions, folder: &Path, kind: Kind) -> Result<Farm> {
    std::fs::create_dir_all(folder)?;
    let many = options.attempts.ends()[1];
    let sites = (many * TARGETS_PER_ATTEMPT).max(TARGETS_MIN);
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, silence(kind, sites))?;
    let plan = FarmPlan {
        program: options.bench.farm.clone(),
        sites,
        interval_s: options.attempts.attempt_interval_s,
        https_every: u32::from(kind.is_tls()),
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        silent_max: Some(silent_max(many)),
        dns_ttl_s: None,
        cpu: Some(options.bench.farm_cpu),
    };
    let farm = Farm::start(&plan, &folder.join("farm")).await?;
    farm.start_scenario().await?;
    Ok(farm)
}

fn silence(kind: Kind, sites: u32) -> String {
    let fault = kind.fault();
    format!(
        "[[fault]]\nkind = '{fault}'\nfirst_site = 0\ncount = {sites}\n\
         duration_s = 'until-ended'\n"
    )
}

/// Fills the store: the nodes that are measured have no memory that an import left behind.
async fn import(options: &MemoryOptions, folder: &Path, farm: &Farm) -> Result<()> {
    let targets = folder.join("targets.csv");
    let interval_s = options.attempts.attempt_interval_s;
    farm.write_targets(interval_s, TIMEOUT_MS, &targets).await?;
    let plan = NodePlan {
        targets: Some(targets),
        ..capped(options, folder, options.attempts.ends()[0])
    };
    Node::start(plan, &farm.ready).await?.stop().await
}

/// A node with so many attempts in flight at most. IPv4 alone: an attempt needs one file then, not
/// two. What waits for silence need not be waited for at the end.
fn capped(options: &MemoryOptions, folder: &Path, in_flight: u32) -> NodePlan {
    let in_flight = in_flight.to_string();
    let flags = ["--ip", "v4_only", "--drain-s", "1", "--max-in-flight"];
    let flags = flags.into_iter().chain([in_flight.as_str()]);
    NodePlan {
        histogram_interval_s: HISTOGRAM_INTERVAL_S,
        flags: flags.map(str::to_owned).collect(),
        ..plan(options, folder, None)
    }
}

/// Waits until the farm has nothing of the last node any more.
async fn wait_quiet(farm: &mut Farm) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        farm.must_run()?;
        let silent = silent(farm).await?;
        if silent == 0 {
            return Ok(());
        }
        if watch.elapsed() > QUIET_LIMIT {
            bail!("the farm keeps {silent} connections of a node that has ended");
        }
        sleep(POLL).await;
    }
}

/// Connections that the farm keeps silent.
async fn silent(farm: &Farm) -> Result<u64> {
    let scrape = Scrape::parse(&http::get(farm.ready.control, "/metrics").await?);
    Ok(scrape.sum("farm_silent_connections", &[]).unwrap_or(0.0) as u64)
}

/// One start; again where it did not come to the wanted attempts. A node that is kept from its CPU
/// has fewer in flight for a while.
async fn start(
    options: &MemoryOptions,
    folder: &Path,
    farm: &mut Farm,
    wanted: u32,
) -> Result<Reading> {
    let mut tries = 1;
    loop {
        wait_quiet(farm).await?;
        let reading = one_start(options, folder, farm, wanted).await?;
        match reading.flaw(wanted) {
            Some(flaw) if tries < TRIES_MAX => println!("{flaw}; once more"),
            _ => return Ok(reading),
        }
        tries += 1;
    }
}

/// One node, from its start until its attempts are in flight and it is at rest.
async fn one_start(
    options: &MemoryOptions,
    folder: &Path,
    farm: &Farm,
    wanted: u32,
) -> Result<Reading> {
    let mut node = Node::start(capped(options, folder, wanted), &farm.ready).await?;
    pile_up(&mut node, wanted, options.attempts.attempt_interval_s).await?;
    sleep(SETTLE).await;
    let mut readings = Vec::new();
    for _ in 0..READINGS {
        sleep(BETWEEN_READINGS).await;
        readings.push(read(&node, farm).await?);
    }
    node.stop().await?;
    Ok(Reading::of_all(&readings))
}

/// Waits until so many attempts are in flight, or there is no hope of it any more.
async fn pile_up(node: &mut Node, wanted: u32, interval_s: u32) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        node.must_run()?;
        let (in_flight, ended) = attempts_of(node).await?;
        let is_late = watch.elapsed() > Duration::from_secs(u64::from(interval_s));
        if in_flight >= u64::from(wanted) || ended > 0 || is_late {
            return Ok(());
        }
        sleep(POLL).await;
    }
}

/// Attempts in flight, and those that are over.
async fn attempts_of(node: &Node) -> Result<(u64, u64)> {
    let scrape = node.scrape().await?;
    let count = |name: &str| scrape.sum(name, &[]).unwrap_or(0.0) as u64;
    Ok((
        count("ringwatch_in_flight"),
        count("ringwatch_probed_total"),
    ))
}

async fn read(node: &Node, farm: &Farm) -> Result<Reading> {
    let memory = procfs::memory(node.pid())?;
    let silent = silent(farm).await?;
    let (in_flight, ended) = attempts_of(node).await?;
    Ok(Reading {
        in_flight,
        silent,
        ended,
        memory,
    })
}

impl Reading {
    fn of_all(readings: &[Self]) -> Self {
        let fewest = |of: fn(&Self) -> u64| readings.iter().map(of).min().unwrap_or(0);
        let middle = |of: fn(&Memory) -> u64| {
            median(readings.iter().map(|r| of(&r.memory) as f64).collect()) as u64
        };
        Self {
            in_flight: fewest(|reading| reading.in_flight),
            silent: fewest(|reading| reading.silent),
            ended: readings
                .iter()
                .map(|reading| reading.ended)
                .max()
                .unwrap_or(0),
            memory: Memory {
                rss_bytes: middle(|memory| memory.rss_bytes),
                pss_bytes: middle(|memory| memory.pss_bytes),
                private_dirty_bytes: middle(|memory| memory.private_dirty_bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_wanted_for_each_attempt_and_some_more() {
        assert_eq!(want_of_files(Some(20_000), 10_000), None);
        assert_eq!(want_of_files(None, 1_000_000), None);
        assert_eq!(
            want_of_files(Some(12_000), 10_000).as_deref(),
            Some("the limit of open files is 12000, 12024 are needed")
        );
    }

    #[test]
    fn every_site_is_silent_until_the_end_in_the_way_of_the_kind() {
        for (kind, fault) in [
            (Kind::Plain, "'silence'"),
            (Kind::TlsAnswer, "'silence'"),
            (Kind::TlsHandshake, "'tls_silence'"),
        ] {
            let text = silence(kind, 11_500);
            assert!(text.contains(fault), "{text}");
            assert!(text.contains("count = 11500") && text.contains("'until-ended'"));
        }
    }

    #[test]
    fn of_several_readings_the_worst_counts_and_the_median_of_memory() {
        let reading = |in_flight, silent, ended, rss_bytes| Reading {
            in_flight,
            silent,
            ended,
            memory: Memory {
                rss_bytes,
                pss_bytes: rss_bytes - 1,
                private_dirty_bytes: rss_bytes - 2,
            },
        };
        let all = [
            reading(10, 9, 0, 500),
            reading(9, 10, 0, 900),
            reading(10, 10, 3, 600),
        ];
        let one = Reading::of_all(&all);
        assert_eq!((one.in_flight, one.silent, one.ended), (9, 9, 3));
        let memory = one.memory;
        assert_eq!(
            (
                memory.rss_bytes,
                memory.pss_bytes,
                memory.private_dirty_bytes
            ),
            (600, 599, 598)
        );
    }

    #[test]
    fn a_slope_has_two_rising_ends() {
        let options = |in_flight: &[u32]| AttemptOptions {
            in_flight: in_flight.to_vec(),
            attempt_starts: 1,
            attempt_interval_s: 10,
        };
        assert!(options(&[20, 60]).check().is_ok());
        for bad in [&[20][..], &[60, 20], &[20, 20], &[1, 2, 3]] {
            assert!(options(bad).check().is_err(), "{bad:?}");
        }
    }
}
