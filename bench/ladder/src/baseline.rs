//! `ladder baseline`: CPU per check of the engine, of hyper, of the engine's prober on tokio's
//! epoll, and of the floor below every engine.
//!
//! All variants run at once against one farm, each a process of its own at the same rate on the
//! same CPU, and the farm is on another: whatever slows the machine down for a while slows all of
//! them alike (`docs/decisions/0007`). Only ratios within one round are claims.

mod allocations;
pub(crate) mod ceiling;
pub(crate) mod child;
pub(crate) mod engine;
mod epoll_probe;
mod floor;
pub(crate) mod hyper_probe;
mod open_loop;
pub(crate) mod pace;
pub(crate) mod peers;
mod scheme;
mod tally;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::schedule::cadence_ms;
use tokio::time::sleep;

use crate::children::Running;
use crate::clock;
use crate::farm::{Farm, FarmPlan};
pub(crate) use crate::figures::median;
use crate::machine::Machine;
use crate::node::{Node, NodePlan};
use child::ChildOptions;
use scheme::{SCHEMES, Scheme};
pub(crate) use tally::Sample;
pub(crate) use verdict::FARM_BUSY_MAX_PERCENT;
use verdict::{Parameters, Prober, Report, Row, Variant};

const INTERVAL_S: u32 = 10;
const TIMEOUT_MS: u32 = 5_000;
/// Seconds that a baseline child runs before its window.
const CHILD_WARM_UP_S: u64 = 2;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BaselineOptions {
    #[command(flatten)]
    pub(crate) bench: BenchOptions,
    /// Rounds; each measures every variant at the same time.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of one round.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// HTTP checks per second of each variant.
    #[arg(long, default_value_t = 3_000)]
    http_rate: u32,
    /// HTTPS checks per second of each variant where the farm signs every one with RSA, and more
    /// where it signs less; 0 leaves HTTPS out.
    #[arg(long, default_value_t = 200)]
    https_rate: u32,
    /// Only the courses whose name contains this, as "resumed".
    #[arg(long)]
    only: Option<String>,
    /// The built example `allocations` of `cores`; without it allocations are not measured.
    #[arg(long)]
    allocations: Option<PathBuf>,
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    gate: bool,
}

/// What every benchmark needs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchOptions {
    /// The built `farm`.
    #[arg(long)]
    pub(crate) farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    pub(crate) ringwatch: PathBuf,
    /// Where the numbers are written as JSON.
    #[arg(long)]
    pub(crate) json: PathBuf,
    /// Where the numbers are written as Markdown.
    #[arg(long)]
    pub(crate) markdown: PathBuf,
    /// Folder for logs and stores; each run makes a new one in it.
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// CPU of what is measured.
    #[arg(long, default_value_t = 1)]
    pub(crate) probe_cpu: usize,
    /// CPU of the farm.
    #[arg(long, default_value_t = 0)]
    pub(crate) farm_cpu: usize,
}

impl BenchOptions {
    /// A new folder for one run.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self
            .out
            .join(format!("{name}-{}", clock::unix_ms() / 1_000));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder.canonicalize()?)
    }

    /// Fails on a machine where the two CPUs are not there.
    pub(crate) fn check_cpus(&self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (probe, farm) = (self.probe_cpu, self.farm_cpu);
        if probe == farm || probe >= cores || farm >= cores {
            bail!(
                "CPUs {probe} and {farm} of {cores}: give two different ones, --probe-cpu and \
                 --farm-cpu"
            );
        }
        Ok(())
    }

    /// Writes both forms of a report.
    pub(crate) fn write(&self, report: &impl serde::Serialize, markdown: &str) -> Result<()> {
        let json = serde_json::to_string_pretty(report)? + "\n";
        for (file, text) in [(&self.json, json.as_str()), (&self.markdown, markdown)] {
            std::fs::write(file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
            println!("written: {}", file.display());
        }
        Ok(())
    }
}

/// Runs a hidden baseline child.
pub(crate) fn run_child(name: Child, options: &ChildOptions) -> Result<()> {
    let sample = match name {
        Child::Hyper => hyper_probe::run(options)?,
        Child::Epoll => epoll_probe::run(options)?,
        Child::Floor => floor::run(options)?,
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Which baseline a child is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Child {
    /// tokio and hyper.
    Hyper,
    /// tokio's epoll and the engine's prober.
    Epoll,
    /// Raw monoio.
    Floor,
}

/// Runs every round and writes the report.
///
/// # Errors
/// When a child fails, a number is flawed, or, with `--gate`, a bar is missed.
pub(crate) async fn run(options: &BaselineOptions) -> Result<()> {
    options.bench.check_cpus()?;
    let machine = Machine::read();
    println!("{}", machine.line());
    let folder = options.bench.folder("baseline")?;
    // First: it takes a minute, and what fails should fail early.
    let allocations = allocations::measure(options.allocations.as_deref(), &folder).await?;
    let mut rows = Vec::new();
    let (mut driver, mut farm_shell) = (String::new(), String::new());
    let asked = |scheme: &Scheme| {
        let only = options.only.as_deref().unwrap_or_default();
        (options.https_rate > 0 || !scheme.is_https()) && scheme.name().contains(only)
    };
    for scheme in SCHEMES.into_iter().filter(asked) {
        let course = Course::start(options, &folder, scheme).await?;
        let measured = course.measure(options).await?;
        rows.extend(measured.rows);
        (driver, farm_shell) = (measured.driver, measured.farm_shell);
    }
    let parameters = Parameters {
        rounds: options.rounds,
        seconds: options.seconds,
        http_rate: options.http_rate,
        https_rate: options.https_rate,
        probe_cpu: options.bench.probe_cpu,
        farm_cpu: options.bench.farm_cpu,
        driver,
        farm_shell,
    };
    let ratios = verdict::ratios(&rows);
    let report = Report {
        machine,
        parameters,
        rows,
        ratios,
        allocations,
    };
    conclude(options, &report)
}

fn conclude(options: &BaselineOptions, report: &Report) -> Result<()> {
    let flaws = verdict::flaws(&report.rows, options.http_rate, options.https_rate);
    let markdown = verdict::markdown(report, &flaws, "cargo xtask bench probe");
    println!("\n{markdown}");
    options.bench.write(report, &markdown)?;
    if !flaws.is_empty() {
        bail!("the numbers must not be used: {}", flaws.join("; "));
    }
    let missed: Vec<&str> = report
        .ratios
        .iter()
        .filter(|ratio| !ratio.holds)
        .map(|ratio| ratio.what.as_str())
        .collect();
    if options.gate && !missed.is_empty() {
        bail!("missed bars: {}", missed.join("; "));
    }
    Ok(())
}

/// What one course showed.
struct Measured {
    rows: Vec<Row>,
    /// What the node's cores ran on.
    driver: String,
    farm_shell: String,
}

/// One farm and everything that is measured against it.
struct Course {
    scheme: Scheme,
    rate: u32,
    sites: u32,
    folder: PathBuf,
    farm: Farm,
    peers: PathBuf,
    targets: PathBuf,
}

impl Course {
    async fn start(options: &BaselineOptions, folder: &Path, scheme: Scheme) -> Result<Self> {
        let rate = scheme.rate(options.http_rate, options.https_rate);
        let folder = folder.join(scheme.folder());
        let sites = sites_for(rate);
        let plan = FarmPlan {
            program: options.bench.farm.clone(),
            sites,
            interval_s: INTERVAL_S,
            https_every: u32::from(scheme.is_https()),
            tls_chain: scheme.chain(),
            tls_tickets: scheme.has_tickets(),
            scenario: None,
            silent_max: None,
            dns_ttl_s: None,
            cpu: Some(options.bench.farm_cpu),
        };
        let farm = Farm::start(&plan, &folder.join("farm")).await?;
        let (peers, targets) = (folder.join("peers"), folder.join("targets.csv"));
        farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
        let csv = std::fs::read_to_string(&targets)?;
        peers::write(&peers::resolve_all(&csv, farm.ready.dns)?, &peers)?;
        Ok(Self {
            scheme,
            rate,
            sites,
            folder,
            farm,
            peers,
            targets,
        })
    }

    /// Every round, and then the end of the farm.
    async fn measure(mut self, options: &BaselineOptions) -> Result<Measured> {
        let mut rows: BTreeMap<Prober, Row> = BTreeMap::new();
        let mut node = self.start_node(options).await?;
        for round in 1..=options.rounds {
            let (samples, window) = self.round(&mut node, options).await?;
            for (prober, sample) in samples {
                let variant = Variant {
                    scheme: self.scheme,
                    prober,
                };
                println!(
                    "round {round}/{}: {}: {:.1} µs of CPU per check, {:.0} checks/s, {} failed",
                    options.rounds,
                    variant.name(),
                    sample.cpu_us(),
                    sample.rate(),
                    sample.failed
                );
                let row = rows.entry(prober).or_insert_with(|| Row::new(variant));
                row.samples.push(sample);
                if prober == Prober::Engine {
                    row.watch(&window);
                }
            }
            self.farm.must_run()?;
        }
        let status = node.plan().status()?;
        println!("failures since the node's start: {}", status["failures"]);
        node.stop().await?;
        self.farm.stop().await?;
        Ok(Measured {
            rows: rows.into_values().collect(),
            driver: crate::node::driver(&status),
            farm_shell: self.farm.ready.shell,
        })
    }

    /// One window of every variant at the same time, and what only the engine's shows.
    async fn round(
        &self,
        node: &mut Node,
        options: &BaselineOptions,
    ) -> Result<(Vec<(Prober, Sample)>, engine::EngineWindow)> {
        let hyper = self.child("probe-hyper", options);
        let epoll = self.child("probe-epoll", options);
        let floor = async {
            if self.scheme.has_floor() {
                self.child("probe-floor", options).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let window = async {
            sleep(Duration::from_secs(CHILD_WARM_UP_S)).await;
            engine::measure(&self.farm, node, options.seconds).await
        };
        let (hyper, epoll, floor, window) = tokio::try_join!(hyper, epoll, floor, window)?;
        let mut samples = vec![
            (Prober::Hyper, hyper),
            (Prober::Epoll, epoll),
            (Prober::Engine, window.sample),
        ];
        samples.extend(floor.map(|sample| (Prober::Floor, sample)));
        Ok((samples, window))
    }

    async fn child(&self, subcommand: &'static str, options: &BaselineOptions) -> Result<Sample> {
        let log = self.folder.join(format!("{subcommand}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).arg("--peers").arg(&self.peers);
        command.args(["--rate", &self.rate.to_string()]);
        command.args(["--warm-up-s", &CHILD_WARM_UP_S.to_string()]);
        command.args(["--seconds", &options.seconds.to_string()]);
        command.args(["--cpu", &options.bench.probe_cpu.to_string()]);
        if self.scheme.is_https() {
            command.arg("--ca-file").arg(&self.farm.ready.ca_file);
            command.args(self.scheme.node_flags());
        }
        let mut running = Running::start(subcommand, &mut command, &log, Stdio::piped())?;
        let limit = Duration::from_secs(CHILD_WARM_UP_S + options.seconds + 30);
        let text = running.finish(&log, limit).await?;
        serde_json::from_str(text.trim())
            .with_context(|| format!("{subcommand} wrote no sample: {text}"))
    }

    /// A node that has checked every site once.
    async fn start_node(&self, options: &BaselineOptions) -> Result<Node> {
        let plan = NodePlan {
            program: options.bench.ringwatch.clone(),
            folder: self.folder.join("node"),
            targets: Some(self.targets.clone()),
            probe_cpu: Some(options.bench.probe_cpu),
            histogram_interval_s: 10,
            store: None,
            flags: self.scheme.node_flags(),
        };
        let mut node = Node::start(plan, &self.farm.ready).await?;
        engine::warm_up(&mut node, self.sites).await?;
        Ok(node)
    }
}

/// How many sites at the interval make this rate.
pub(crate) fn sites_for(rate: u32) -> u32 {
    let sites = u64::from(rate) * u64::from(cadence_ms(INTERVAL_S)) / 1_000;
    u32::try_from(sites).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_make_the_rate_at_the_cadence_and_not_at_the_interval() {
        assert_eq!(sites_for(8_000), 72_000);
        assert_eq!(sites_for(0), 1);
    }
}
