//! `ladder memory`: memory per target, CPU of an idle node, start from the store, and schedule lag
//! under load, all measured from outside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use crate::baseline::engine::{self, CORE_THREAD};
use crate::baseline::{BenchOptions, median, sites_for};
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan};
use crate::machine::Machine;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};

/// Interval of the idle fleet: a day.
const IDLE_INTERVAL_S: u32 = 86_400;
const LOAD_INTERVAL_S: u32 = 10;
const TIMEOUT_MS: u32 = 5_000;
/// What the bars of `bench.md` §5 say.
const BYTES_PER_TARGET_MAX: f64 = 200.0;
const IDLE_CORE_PERCENT_MAX: f64 = 1.0;
const FIRST_PROBE_MAX_S: f64 = 5.0;
const LAG_P99_MAX_MS: f64 = 15.0;
const LAG_P999_MAX_MS: f64 = 50.0;
/// Checks per second from which the load of 70 % is extrapolated.
const CALIBRATION_RATE: u32 = 5_000;
const LOAD_SHARE: f64 = 0.7;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MemoryOptions {
    #[command(flatten)]
    bench: BenchOptions,
    /// Fleet sizes of the slope.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    sites: Vec<u32>,
    /// Seconds over which an idle node is watched.
    #[arg(long, default_value_t = 30)]
    idle_s: u64,
    /// Seconds over which a loaded node is watched; 0 leaves the load out.
    #[arg(long, default_value_t = 30)]
    load_s: u64,
}

/// One fleet size.
#[derive(Clone, Debug, Serialize)]
struct Idle {
    sites: u32,
    import_s: f64,
    /// From the start of the process to the first finished check, out of the store.
    first_probe_s: f64,
    rss_bytes: u64,
    /// CPU of the whole process, in percent of one core.
    core_percent: f64,
}

/// The loaded node.
#[derive(Clone, Debug, Serialize)]
struct Load {
    checks_per_s: f64,
    core_busy_percent: f64,
    farm_busy_percent: f64,
    failed: u64,
    /// Schedule lag of the last histogram interval in the window.
    lag_p50_ms: f64,
    lag_p99_ms: f64,
    lag_p999_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Report {
    machine: Machine,
    idle: Vec<Idle>,
    bytes_per_target: f64,
    load: Option<Load>,
}

/// Measures everything and writes the report.
///
/// # Errors
/// When a child fails or fewer than two fleet sizes are given.
pub(crate) async fn run(options: &MemoryOptions) -> Result<()> {
    options.bench.check_cpus()?;
    if options.sites.len() < 2 || !options.sites.is_sorted_by(|a, b| a < b) {
        bail!("--sites needs two or more rising sizes: a slope has two ends");
    }
    let machine = Machine::read();
    println!("{}", machine.line());
    let folder = options.bench.folder("memory")?;
    let mut idle = Vec::new();
    for &sites in &options.sites {
        let measured = measure_idle(options, &folder.join(format!("idle-{sites}")), sites).await?;
        println!("{measured:?}");
        idle.push(measured);
    }
    let load = if options.load_s > 0 {
        Some(measure_load(options, &folder).await?)
    } else {
        None
    };
    let report = Report {
        machine,
        bytes_per_target: slope(&idle),
        idle,
        load,
    };
    let markdown = markdown(&report);
    println!("\n{markdown}");
    options.bench.write(&report, &markdown)
}

async fn measure_idle(options: &MemoryOptions, folder: &Path, sites: u32) -> Result<Idle> {
    let mut farm = start_farm(options, folder, sites, IDLE_INTERVAL_S).await?;
    let targets = folder.join("targets.csv");
    farm.write_targets(IDLE_INTERVAL_S, TIMEOUT_MS, &targets)
        .await?;
    let import = Stopwatch::start();
    let mut node = Node::start(plan(options, folder, Some(targets)), &farm.ready).await?;
    let import_s = import.seconds();
    node.stop().await?;
    // A second start has the store alone, and no memory that an import left behind.
    let start = Stopwatch::start();
    let mut node = Node::launch(plan(options, folder, None), &farm.ready).await?;
    node.wait_probed(1, Duration::from_mins(1)).await?;
    let first_probe_s = start.seconds();
    node.wait_loaded().await?;
    sleep(Duration::from_secs(5)).await;
    let (rss_bytes, core_percent) = watch_idle(&node, options.idle_s).await?;
    node.stop().await?;
    farm.stop().await?;
    Ok(Idle {
        sites,
        import_s,
        first_probe_s,
        rss_bytes,
        core_percent,
    })
}

/// Median memory and CPU share of the node over `seconds`.
async fn watch_idle(node: &Node, seconds: u64) -> Result<(u64, f64)> {
    let (before, watch) = (procfs::process_cpu(node.pid())?, Stopwatch::start());
    let mut rss = Vec::new();
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        rss.push(procfs::rss_bytes(node.pid())? as f64);
    }
    let used = procfs::process_cpu(node.pid())?
        .saturating_sub(before)
        .as_secs_f64();
    Ok((median(rss) as u64, 100.0 * used / watch.seconds()))
}

/// Measures at a low rate what a check costs, then loads the core to about 70 %.
async fn measure_load(options: &MemoryOptions, folder: &Path) -> Result<Load> {
    let calibration = folder.join("calibration");
    let measured = load_at(options, &calibration, CALIBRATION_RATE, options.load_s).await?;
    let rate = f64::from(CALIBRATION_RATE) * LOAD_SHARE * 100.0 / measured.core_busy_percent;
    println!("calibration: {measured:?}; now {rate:.0} checks/s");
    load_at(options, &folder.join("load"), rate as u32, options.load_s).await
}

async fn load_at(options: &MemoryOptions, folder: &Path, rate: u32, seconds: u64) -> Result<Load> {
    let sites = sites_for(rate);
    let mut farm = start_farm(options, folder, sites, LOAD_INTERVAL_S).await?;
    let targets = folder.join("targets.csv");
    farm.write_targets(LOAD_INTERVAL_S, TIMEOUT_MS, &targets)
        .await?;
    let mut node = Node::start(plan(options, folder, Some(targets)), &farm.ready).await?;
    let window = engine::measure(&farm, &mut node, sites, seconds).await?;
    let sample = window.sample;
    let status = node.plan().status()?;
    let lag = |quantile: &str| {
        let us = status["cores"][0]["lag_us"][quantile].as_f64();
        us.map(|us| us / 1_000.0)
            .with_context(|| format!("the status has no lag {quantile}"))
    };
    let load = Load {
        checks_per_s: sample.rate(),
        core_busy_percent: 100.0 * sample.cpu_s / sample.seconds,
        farm_busy_percent: window.farm_busy_percent,
        failed: sample.failed,
        lag_p50_ms: lag("p50")?,
        lag_p99_ms: lag("p99")?,
        lag_p999_ms: lag("p99_9")?,
    };
    node.stop().await?;
    farm.stop().await?;
    Ok(load)
}

async fn start_farm(
    options: &MemoryOptions,
    folder: &Path,
    sites: u32,
    interval_s: u32,
) -> Result<Farm> {
    let plan = FarmPlan {
        program: options.bench.farm.clone(),
        sites,
        interval_s,
        https_every: 0,
        scenario: None,
        cpu: Some(options.bench.farm_cpu),
    };
    Farm::start(&plan, &folder.join("farm")).await
}

fn plan(options: &MemoryOptions, folder: &Path, targets: Option<PathBuf>) -> NodePlan {
    NodePlan {
        program: options.bench.ringwatch.clone(),
        folder: folder.join("node"),
        targets,
        probe_cpu: Some(options.bench.probe_cpu),
        histogram_interval_s: 10,
    }
}

/// Bytes of resident memory that one more target costs.
fn slope(idle: &[Idle]) -> f64 {
    match (idle.first(), idle.last()) {
        (Some(first), Some(last)) if last.sites > first.sites => {
            let bytes = last.rss_bytes as f64 - first.rss_bytes as f64;
            bytes / f64::from(last.sites - first.sites)
        }
        _ => 0.0,
    }
}

fn markdown(report: &Report) -> String {
    format!(
        "# Memory, idle cost and lag\n\n`cargo xtask bench memory`\n\n{}\n\nEach size is a fresh \
         start from the store; memory is the median of VmRSS. Lag is that of the last 10 s of the \
         window. Every number is single.\n\n{}\n{}",
        report.machine.line(),
        idle_table(&report.idle),
        bar_table(report)
    )
}

fn idle_table(idle: &[Idle]) -> String {
    let head = [
        "targets at 24 h",
        "RSS MB",
        "idle CPU, % of a core",
        "first probe s",
        "import s",
    ];
    let mut table = Table::new(&head);
    for row in idle {
        table.row([
            grouped(u64::from(row.sites)),
            format!("{:.1}", row.rss_bytes as f64 / 1e6),
            format!("{:.2}", row.core_percent),
            format!("{:.1}", row.first_probe_s),
            format!("{:.1}", row.import_s),
        ]);
    }
    table.markdown()
}

fn bar_table(report: &Report) -> String {
    let mut table = Table::new(&["what", "measured", "bar", "holds"]);
    for (what, measured, bar, unit) in bars(report) {
        let holds = if measured <= bar { "yes" } else { "NO" };
        let cells = [
            what,
            format!("{measured:.2} {unit}"),
            format!("≤ {bar} {unit}"),
        ];
        table.row(cells.into_iter().chain([holds.to_owned()]));
    }
    table.markdown()
}

/// (what, measured, bar, unit) of everything that has a bar.
fn bars(report: &Report) -> Vec<(String, f64, f64, &'static str)> {
    let per_target = report.bytes_per_target;
    let mut bars = vec![(
        "memory per target".to_owned(),
        per_target,
        BYTES_PER_TARGET_MAX,
        "B",
    )];
    if let Some(largest) = report.idle.last() {
        let of = |what: &str| format!("{what}, {} targets", grouped(u64::from(largest.sites)));
        let (idle, first) = (largest.core_percent, largest.first_probe_s);
        bars.push((of("idle CPU"), idle, IDLE_CORE_PERCENT_MAX, "% of a core"));
        bars.push((of("first probe"), first, FIRST_PROBE_MAX_S, "s"));
    }
    if let Some(load) = &report.load {
        let at = |what: &str| {
            let (rate, core) = (load.checks_per_s, load.core_busy_percent);
            let farm = load.farm_busy_percent;
            format!(
                "{what} at {rate:.0} checks/s, {CORE_THREAD} {core:.0} % busy, farm {farm:.0} %"
            )
        };
        bars.push((
            at("schedule lag p99"),
            load.lag_p99_ms,
            LAG_P99_MAX_MS,
            "ms",
        ));
        bars.push((
            at("schedule lag p99.9"),
            load.lag_p999_ms,
            LAG_P999_MAX_MS,
            "ms",
        ));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(sites: u32, rss_bytes: u64) -> Idle {
        Idle {
            sites,
            import_s: 1.0,
            first_probe_s: 2.0,
            rss_bytes,
            core_percent: 0.5,
        }
    }

    #[test]
    fn the_slope_ignores_what_every_node_costs() {
        let rows = [idle(100_000, 50_000_000), idle(1_000_000, 230_000_000)];
        assert!((slope(&rows) - 200.0).abs() < 1e-9);
        assert!(slope(&rows[..1]).abs() < 1e-9);
    }

    #[test]
    fn the_report_says_which_bars_hold() {
        let load = Load {
            checks_per_s: 18_000.0,
            core_busy_percent: 70.0,
            farm_busy_percent: 80.0,
            failed: 0,
            lag_p50_ms: 5.0,
            lag_p99_ms: 20.0,
            lag_p999_ms: 50.0,
        };
        let report = Report {
            machine: Machine::read(),
            bytes_per_target: 180.0,
            idle: vec![idle(100_000, 1), idle(1_000_000, 2)],
            load: Some(load),
        };
        let text = markdown(&report);
        let holds = |what: &str| {
            let line = text.lines().find(|line| line.contains(what)).expect(what);
            line.contains(" yes ")
        };
        assert!(holds("memory per target") && holds("idle CPU, 1,000,000"));
        assert!(!holds("lag p99 at 18000 checks/s, core-0 70 % busy"));
        assert!(holds("lag p99.9"));
    }
}
