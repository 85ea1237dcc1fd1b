//! `ladder demo`: ten thousand local sites for a minute, faults and all, judged by gates.
//!
//! Starts the farm and the node as a user would, watches them from outside, and believes only the
//! farm's observer and ground truth.

mod progress;
mod report;
mod scenario;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::sleep;

use crate::clock::{self, Stopwatch};
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::findings::{self, Findings};
use crate::gates::{self, Gate};
use crate::machine::Machine;
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::rings::Rings;
use crate::{node, procfs, truth};
pub(crate) use progress::{Progress, in_state};
pub(crate) use report::gate_list;
use report::{Cpu, Outcome};
use stage::{Open, Stage};

/// Between two checks of a site that nothing is wrong with: one may be missing, not two.
const GAP_MAX_MS: f64 = 2_000.0 * scenario::INTERVAL_S as f64;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// The built `farm`.
    #[arg(long)]
    farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    ringwatch: PathBuf,
    /// Folder for everything that is written; each run makes a new one in it.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Refuse `io_uring` to farm and node, as container runtimes do: both must fall back to epoll.
    #[arg(long)]
    pub(crate) without_io_uring: bool,
}

/// Runs the demo; both children have ended when this returns.
///
/// # Errors
/// When a gate fails, or the run could not be made.
pub(crate) async fn run(options: &DemoOptions) -> Result<()> {
    let machine = Machine::read();
    let folder = options
        .out
        .join(format!("run-{}", clock::unix_ms() / 1_000));
    let folder = prepare(&folder)?;
    println!("{}\nwriting to {}", machine.line(), folder.display());
    let mut farm = start_farm(options, &folder).await?;
    let observed = watch(options, &folder, &mut farm).await;
    farm.stop().await?;
    let outcome = conclude(machine, observed?, &folder)?;
    let text = report::markdown(&outcome);
    let file = folder.join("demo.md");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("\n{text}");
    println!("This report: {}", file.display());
    let failed: Vec<&str> = outcome
        .gates
        .iter()
        .filter(|gate| !gate.holds())
        .map(|gate| gate.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed gates: {}", failed.join("; "));
    }
    println!("All gates hold.");
    Ok(())
}

fn prepare(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))
}

async fn start_farm(options: &DemoOptions, folder: &Path) -> Result<Farm> {
    let file = folder.join("scenario.toml");
    std::fs::write(&file, scenario::toml())?;
    let plan = FarmPlan {
        program: options.farm.clone(),
        sites: scenario::SITES,
        interval_s: scenario::INTERVAL_S,
        https_every: scenario::HTTPS_EVERY,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(file),
        silent_max: None,
        dns_ttl_s: None,
        cpu: None,
    };
    let farm = Farm::start(&plan, &folder.join("farm")).await?;
    println!(
        "farm: {} sites every {} s on its {} shell, names by {}",
        scenario::SITES,
        scenario::INTERVAL_S,
        farm.ready.shell,
        farm.ready.dns
    );
    Ok(farm)
}

/// What was seen while both ran, and right after the node ended.
struct Observed {
    /// `io_uring` was refused to both by the demo itself.
    io_uring_refused: bool,
    rings: Rings,
    farm_shell: String,
    driver: String,
    watching_since_ms: u64,
    status: Value,
    summary: Value,
    truth: String,
    events: String,
    cpu: Cpu,
    percentiles: String,
}

/// Open events by the node's metrics.
pub(crate) fn open_events(scrape: &Scrape) -> u64 {
    in_state(scrape, "seems_down") + in_state(scrape, "down")
}

async fn watch(options: &DemoOptions, folder: &Path, farm: &mut Farm) -> Result<Observed> {
    let targets = folder.join("targets.csv");
    farm.write_targets(scenario::INTERVAL_S, scenario::TIMEOUT_MS, &targets)
        .await?;
    farm.start_scenario().await?;
    let zero = Stopwatch::start();
    let plan = NodePlan {
        program: options.ringwatch.clone(),
        folder: folder.join("node"),
        targets: Some(targets),
        probe_cpu: None,
        histogram_interval_s: 5,
        store: None,
        flags: Vec::new(),
    };
    let mut node = Node::start(plan, &farm.ready).await?;
    let watching_since_ms = clock::unix_ms();
    println!(
        "ringwatch: pid {}, metrics at http://{}/metrics",
        node.pid(),
        node.admin()
    );
    let cpu = follow(zero, farm, &mut node).await?;
    let summary = farm.summary().await?;
    let truth = farm.truth().await?;
    let status = node.plan().status()?;
    node.stop().await?;
    let plan = node.plan();
    Ok(Observed {
        io_uring_refused: options.without_io_uring,
        rings: Rings::ask(),
        farm_shell: farm.ready.shell.clone(),
        driver: node::driver(&status),
        watching_since_ms,
        status,
        summary,
        truth,
        events: plan.events()?,
        cpu,
        percentiles: plan.report(&folder.join("report"))?,
    })
}

/// The live part: warm up, measure, and let every fault come and go.
async fn follow(zero: Stopwatch, farm: &mut Farm, node: &mut Node) -> Result<Cpu> {
    let total_s = u64::from(scenario::expected_end_ms()).div_ceil(1_000);
    let mut progress = Progress::new(total_s);
    let mut stage = Stage::WarmUp;
    let mut before: Option<Snapshot> = None;
    loop {
        farm.must_run()?;
        node.must_run()?;
        let scrape = node.scrape().await?;
        let elapsed_ms = u32::try_from(zero.elapsed().as_millis()).unwrap_or(u32::MAX);
        progress.show(u64::from(elapsed_ms / 1_000), stage.name(), &scrape);
        let next = stage.next(elapsed_ms, Open::of(&scrape));
        match next {
            _ if next == stage => {}
            Stage::WarmUp => {}
            Stage::Faults => {
                farm.reset_observer().await?;
                before = Some(Snapshot::take(farm, node).await?);
            }
            Stage::Recovery { .. } => farm.end_scenario().await?,
            Stage::Over => break,
        }
        stage = next;
        sleep(Duration::from_millis(500)).await;
    }
    let before = before.context("the run ended before its warm-up")?;
    Ok(before.until(&Snapshot::take(farm, node).await?))
}

/// CPU and checks of the node at one moment.
struct Snapshot {
    at: Stopwatch,
    probed: u64,
    process: Duration,
    farm: Duration,
    threads: Vec<procfs::ThreadCpu>,
}

impl Snapshot {
    async fn take(farm: &Farm, node: &Node) -> Result<Self> {
        Ok(Self {
            probed: node.probed().await?,
            process: procfs::process_cpu(node.pid())?,
            farm: procfs::process_cpu(farm.pid())?,
            threads: procfs::threads(node.pid())?,
            at: Stopwatch::start(),
        })
    }

    fn until(&self, later: &Self) -> Cpu {
        Cpu {
            checks: later.probed.saturating_sub(self.probed),
            seconds: self.at.seconds() - later.at.seconds(),
            process_s: later.process.saturating_sub(self.process).as_secs_f64(),
            farm_s: later.farm.saturating_sub(self.farm).as_secs_f64(),
            threads: procfs::used_since(&self.threads, &later.threads),
        }
    }
}

fn conclude(machine: Machine, observed: Observed, folder: &Path) -> Result<Outcome> {
    let findings = judge(&observed)?;
    let mut files = Vec::new();
    for part in ["node/data/hdr", "report"] {
        list_files(&folder.join(part), &mut files)?;
    }
    files.sort();
    let gates = gates_of(&observed, &findings, &files);
    Ok(Outcome {
        machine,
        driver: observed.driver,
        farm_shell: observed.farm_shell,
        summary: observed.summary,
        findings,
        cpu: observed.cpu,
        percentiles: observed.percentiles,
        files,
        gates,
    })
}

fn judge(observed: &Observed) -> Result<Findings> {
    let faults = truth::parse_faults(&observed.truth)?;
    let incidents = truth::parse_incidents(&observed.events)?;
    Ok(findings::compare(
        &faults,
        &incidents,
        u64::from(scenario::TIMEOUT_MS),
        observed.watching_since_ms,
    ))
}

fn gates_of(observed: &Observed, findings: &Findings, files: &[String]) -> Vec<Gate> {
    let seen = |field, range| gates::observer(&observed.summary, field, range);
    vec![
        gates::drivers(
            observed.io_uring_refused,
            observed.rings,
            &observed.driver,
            &observed.farm_shell,
        ),
        gates::faults(findings, &scenario::planned()),
        gates::false_downs(findings),
        seen("never_seen", 0.0..=0.0),
        seen("stale", 0.0..=0.0),
        seen("ratio", 1.0..=f64::INFINITY),
        seen("gap_ms.max", 0.0..=GAP_MAX_MS),
        seen("farm.evicted", 0.0..=0.0),
        gates::accounts(&observed.status),
        gates::nothing_shed(&observed.status),
        gates::files(files, &[".hdr", ".svg", ".md"]),
    ]
}

/// Every non-empty file below `folder`; a folder that is not there has none.
fn list_files(folder: &Path, files: &mut Vec<String>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            list_files(&path, files)?;
        } else if entry.metadata()?.len() > 0 {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}
