//! `ladder memory`, three parts of their own, measured from outside: memory per target, CPU and
//! start of an idle node; memory per attempt in flight; schedule lag under load.

mod attempts;
mod bars;
pub(crate) mod lag;
mod load;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use crate::bar::{self, Bar};
use crate::baseline::{BenchOptions, median};
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::machine::Machine;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};
use attempts::{AttemptOptions, Attempts};
use lag::Quantiles;
use load::Load;

/// Interval of the idle fleet: a day.
const IDLE_INTERVAL_S: u32 = 86_400;
const TIMEOUT_MS: u32 = 5_000;
/// Starts of a node of each size: pages that are not given back differ from start to start.
const STARTS: usize = 5;
/// Time after a start in which the node comes to rest, and seconds of memory that follow.
const SETTLE: Duration = Duration::from_secs(5);
const RSS_S: u64 = 10;
/// Windows in which an idle node is watched: one alone is at the mercy of the machine's neighbours.
const IDLE_WINDOWS: usize = 3;
/// Seconds of a histogram interval where nobody looks at the lag.
const HISTOGRAM_INTERVAL_S: u64 = 10;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MemoryOptions {
    #[command(flatten)]
    bench: BenchOptions,
    /// Fleet sizes of the slope.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    sites: Vec<u32>,
    /// Seconds of each of the three windows in which an idle node is watched; below 60 its CPU
    /// is not shown.
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// Seconds of each window in which a loaded node is watched.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    load_s: u64,
    #[command(flatten)]
    attempts: AttemptOptions,
    /// What is measured; each part has a report of its own.
    #[arg(long, value_enum)]
    part: Part,
    /// Exit with 1 when a bar is missed or not shown.
    #[arg(long)]
    gate: bool,
}

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// Memory per target, CPU of an idle node, start from the store.
    Idle,
    /// Memory per attempt in flight.
    Attempts,
    /// Schedule lag under load.
    Lag,
}

impl Part {
    /// Title and command of its report, and what must be said of its numbers.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Idle => ("Memory and CPU of an idle node", "idle", IDLE_NOTE),
            Self::Attempts => ("Memory per attempt in flight", "attempts", ATTEMPTS_NOTE),
            Self::Lag => ("Schedule lag under load", "lag", LAG_NOTE),
        }
    }
}

/// One fleet size.
#[derive(Clone, Debug, Serialize)]
struct Idle {
    sites: u32,
    import_s: f64,
    /// Every start out of the store, in order.
    starts: Vec<Start>,
    /// CPU of the whole process, all threads, in percent of one core: the median of the windows.
    core_percent: f64,
    /// The same of every window, in order.
    windows_percent: Vec<f64>,
    /// The same by thread, of the median window.
    threads_percent: Vec<(String, f64)>,
    /// Length of the shortest window.
    watched_s: f64,
}

/// One start of a node.
#[derive(Clone, Copy, Debug, Serialize)]
struct Start {
    /// From the start of the process to the first finished check.
    first_probe_s: f64,
    rss_bytes: u64,
}

impl Idle {
    /// Resident memory: the median of the starts.
    fn rss_bytes(&self) -> f64 {
        median(
            self.starts
                .iter()
                .map(|start| start.rss_bytes as f64)
                .collect(),
        )
    }

    /// The median of the starts.
    fn first_probe_s(&self) -> f64 {
        median(
            self.starts
                .iter()
                .map(|start| start.first_probe_s)
                .collect(),
        )
    }
}

#[derive(Clone, Debug, Serialize)]
struct Report {
    machine: Machine,
    #[serde(flatten)]
    measured: Measured,
    bars: Vec<Bar>,
}

/// What was seen of one part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Measured {
    Idle(Vec<Idle>),
    Attempts(Vec<Attempts>),
    Lag(Box<Load>),
}

/// Measures the part that is asked for and writes its report.
///
/// # Errors
/// When a child fails, fewer than two fleet sizes are given, or, with `--gate`, a bar is missed or
/// not shown.
pub(crate) async fn run(options: &MemoryOptions) -> Result<()> {
    options.bench.check_cpus()?;
    if options.sites.len() < 2 || !options.sites.is_sorted_by(|a, b| a < b) {
        bail!("--sites needs two or more rising sizes: a slope has two ends");
    }
    options.attempts.check()?;
    let machine = Machine::read();
    println!("{}", machine.line());
    let folder = options.bench.folder("memory")?;
    let measured = match options.part {
        Part::Idle => Measured::Idle(measure_sizes(options, &folder).await?),
        Part::Attempts => Measured::Attempts(attempts::measure(options, &folder).await?),
        Part::Lag => Measured::Lag(Box::new(load::measure(options, &folder).await?)),
    };
    conclude(options, &Report::new(machine, measured))
}

impl Report {
    fn new(machine: Machine, measured: Measured) -> Self {
        let bars = match &measured {
            Measured::Idle(idle) => bars::idle_bars(idle, slope(idle)),
            Measured::Attempts(attempts) => attempts::bars(attempts).collect(),
            Measured::Lag(load) => bars::lag_bars(load).to_vec(),
        };
        Self {
            machine,
            measured,
            bars,
        }
    }
}

impl Measured {
    fn part(&self) -> Part {
        match self {
            Self::Idle(_) => Part::Idle,
            Self::Attempts(_) => Part::Attempts,
            Self::Lag(_) => Part::Lag,
        }
    }

    /// The rows behind the bars.
    fn table(&self) -> String {
        match self {
            Self::Idle(idle) => idle_table(idle),
            Self::Attempts(attempts) => attempts::table(attempts),
            Self::Lag(load) => lag_windows(load),
        }
    }
}

async fn measure_sizes(options: &MemoryOptions, folder: &Path) -> Result<Vec<Idle>> {
    let mut idle = Vec::new();
    for &sites in &options.sites {
        let measured = measure_idle(options, &folder.join(format!("idle-{sites}")), sites).await?;
        println!("{measured:?}");
        idle.push(measured);
    }
    Ok(idle)
}

fn conclude(options: &MemoryOptions, report: &Report) -> Result<()> {
    let markdown = markdown(report);
    println!("\n{markdown}");
    options.bench.write(report, &markdown)?;
    if options.gate {
        bar::require(&report.bars)?;
    }
    Ok(())
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
    // Later starts have the store alone, and no memory that an import left behind.
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 1..STARTS {
        let (mut node, start) = start_idle(options, folder, &farm).await?;
        node.stop().await?;
        starts.push(start);
    }
    let (mut node, start) = start_idle(options, folder, &farm).await?;
    starts.push(start);
    let mut windows = Vec::with_capacity(IDLE_WINDOWS);
    for _ in 0..IDLE_WINDOWS {
        windows.push(watch_cpu(&node, options.idle_s).await?);
    }
    node.stop().await?;
    farm.stop().await?;
    let windows_percent = windows.iter().map(|w| w.core_percent).collect();
    let watched_s = windows.iter().map(|w| w.seconds).fold(f64::MAX, f64::min);
    windows.sort_by(|a, b| a.core_percent.total_cmp(&b.core_percent));
    let middle = windows.swap_remove(IDLE_WINDOWS / 2);
    Ok(Idle {
        sites,
        import_s,
        starts,
        core_percent: middle.core_percent,
        windows_percent,
        threads_percent: middle.threads_percent,
        watched_s,
    })
}

/// Starts the node of `folder` out of its store, and has its memory once it is at rest: the median
/// of some seconds.
async fn start_idle(options: &MemoryOptions, folder: &Path, farm: &Farm) -> Result<(Node, Start)> {
    let start = Stopwatch::start();
    let mut node = Node::launch(plan(options, folder, None), &farm.ready).await?;
    node.wait_probed(1, Duration::from_mins(1)).await?;
    let first_probe_s = start.seconds();
    node.wait_loaded().await?;
    sleep(SETTLE).await;
    let mut rss = Vec::new();
    for _ in 0..RSS_S {
        sleep(Duration::from_secs(1)).await;
        rss.push(procfs::rss_bytes(node.pid())? as f64);
    }
    let rss_bytes = median(rss) as u64;
    let start = Start {
        first_probe_s,
        rss_bytes,
    };
    Ok((node, start))
}

/// CPU that an idle node needs.
struct Watched {
    core_percent: f64,
    threads_percent: Vec<(String, f64)>,
    seconds: f64,
}

/// CPU share of all threads of the node over `seconds`.
async fn watch_cpu(node: &Node, seconds: u64) -> Result<Watched> {
    let threads = procfs::threads(node.pid())?;
    let (before, watch) = (procfs::process_cpu(node.pid())?, Stopwatch::start());
    sleep(Duration::from_secs(seconds)).await;
    let used = procfs::process_cpu(node.pid())?
        .saturating_sub(before)
        .as_secs_f64();
    let seconds = watch.seconds();
    let percent = |used: f64| 100.0 * used / seconds;
    let threads = procfs::used_since(&threads, &procfs::threads(node.pid())?);
    Ok(Watched {
        core_percent: percent(used),
        threads_percent: threads.into_iter().map(|(n, s)| (n, percent(s))).collect(),
        seconds,
    })
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
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: None,
        silent_max: None,
        dns_ttl_s: None,
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
        histogram_interval_s: HISTOGRAM_INTERVAL_S,
        store: None,
        flags: Vec::new(),
    }
}

/// Bytes of resident memory that one more target costs.
fn slope(idle: &[Idle]) -> f64 {
    match (idle.first(), idle.last()) {
        (Some(first), Some(last)) if last.sites > first.sites => {
            (last.rss_bytes() - first.rss_bytes()) / f64::from(last.sites - first.sites)
        }
        _ => 0.0,
    }
}

/// What the report says of each part.
const _: () = assert!(STARTS == 5 && IDLE_WINDOWS == 3, "as the note says");
const IDLE_NOTE: &str = "Memory per target (VmRSS) and the first probe are medians of five starts \
    from the store; CPU is that of all threads of the node, the median of three windows; all \
    starts and windows are shown, in order.";
const ATTEMPTS_NOTE: &str = "Memory per attempt is the slope of VmRSS between nodes with the same \
    targets, capped at few and at many attempts in flight, at rest: all of them wait, and the farm \
    is silent to all of them. Medians of the starts, which are shown in order. What the kernel \
    keeps for sockets is not in it.";
const LAG_NOTE: &str = "Lag is that of every check of the calm seconds of a window, in which (and \
    in the second before) others, the hypervisor or other processes, had the probe CPU for at most \
    10 ms while its thread wanted it (10 µs of each wake-up are the kernel's own): that shows in \
    the lag threefold and tells nothing about the node. The calm seconds of all windows in which \
    the core was 65 to 80 % busy count together, thirty at least; where they are fewer every \
    second counts, which can only be worse. Each window is shown, also with every second in, and \
    \"aside\" where it had another load.";

fn markdown(report: &Report) -> String {
    let (title, command, note) = report.measured.part().words();
    format!(
        "# {title}\n\n`cargo xtask bench {command}`\n\n{}\n\n{note} Every other number is \
         single.\n\n{}\n{}",
        report.machine.line(),
        bar::table(&report.bars),
        report.measured.table(),
    )
}

/// The lag of every window under load.
fn lag_windows(load: &Load) -> String {
    let head = [
        "window under load",
        "checks/s",
        "core busy %",
        "calm s",
        "others had %",
        "lag p50 / p99 / p99.9 ms, calm",
        "every second",
    ];
    let quantiles = |lag: &Quantiles| {
        if lag.checks == 0 {
            return "none".to_owned();
        }
        format!("{:.2} / {:.2} / {:.2}", lag.p50_ms, lag.p99_ms, lag.p999_ms)
    };
    let mut table = Table::new(&head);
    for (number, window) in load.windows.iter().enumerate() {
        let (lag, aside) = (&window.lag, if window.counts { "" } else { ", aside" });
        table.row([
            format!("{}{aside}", number + 1),
            format!("{:.0}", window.checks_per_s),
            format!("{:.0}", window.core_busy_percent),
            format!("{:.0} of {:.0}", lag.calm_s, lag.watched_s),
            format!("{:.1}", lag.taken_percent),
            quantiles(&lag.calm),
            quantiles(&lag.every),
        ]);
    }
    table.markdown()
}

fn idle_table(idle: &[Idle]) -> String {
    let head = [
        "targets at 24 h",
        "RSS MB",
        "the starts",
        "idle CPU, % of a core",
        "the windows",
        "by thread",
        "first probe s",
        "the starts",
        "import s",
    ];
    let mut table = Table::new(&head);
    for row in idle {
        table.row([
            grouped(u64::from(row.sites)),
            format!("{:.1}", row.rss_bytes() / 1e6),
            joined(
                row.starts
                    .iter()
                    .map(|s| format!("{:.1}", s.rss_bytes as f64 / 1e6)),
            ),
            format!("{:.2}", row.core_percent),
            joined(row.windows_percent.iter().map(|p| format!("{p:.2}"))),
            by_thread(&row.threads_percent),
            format!("{:.1}", row.first_probe_s()),
            joined(row.starts.iter().map(|s| format!("{:.1}", s.first_probe_s))),
            format!("{:.1}", row.import_s),
        ]);
    }
    table.markdown()
}

/// Threads with a hundredth of a percent or more.
fn by_thread(threads: &[(String, f64)]) -> String {
    let shown = threads.iter().filter(|(_, percent)| *percent >= 0.01);
    joined(shown.map(|(name, percent)| format!("{name} {percent:.2}")))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod testbed {
    use super::{Idle, Start};

    /// A node that holds every bar of its own.
    pub(crate) fn idle(sites: u32, rss_bytes: u64) -> Idle {
        let start = |rss_bytes| Start {
            first_probe_s: 2.0,
            rss_bytes,
        };
        Idle {
            sites,
            import_s: 1.0,
            starts: [0, rss_bytes, 2 * rss_bytes].map(start).to_vec(),
            core_percent: 0.5,
            windows_percent: vec![0.4, 0.5, 0.7],
            threads_percent: vec![("core-0".to_owned(), 0.4)],
            watched_s: 60.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::load::testbed::load;
    use super::testbed::idle;
    use super::*;

    #[test]
    fn the_slope_is_of_the_median_start_and_ignores_what_every_node_costs() {
        let rows = [idle(100_000, 50_000_000), idle(1_000_000, 230_000_000)];
        assert!((slope(&rows) - 200.0).abs() < 1e-9);
        assert!(slope(&rows[..1]).abs() < 1e-9);
    }

    #[test]
    fn the_report_of_a_part_shows_every_bar_with_its_verdict_and_nothing_of_the_others() {
        let rows = vec![idle(100_000, 1), idle(1_000_000, 2)];
        let of = |measured| {
            let report = Report::new(Machine::read(), measured);
            let json = serde_json::to_value(&report).expect("JSON");
            (markdown(&report), json)
        };
        let line = |shown: &str, what: &str| {
            let line = shown.lines().find(|line| line.contains(what));
            line.expect(what).to_owned()
        };
        let (shown, json) = of(Measured::Idle(rows));
        for what in ["memory per target", "idle CPU, all threads, 1,000,000"] {
            assert!(line(&shown, what).ends_with(" yes |"), "{shown}");
        }
        assert!(shown.contains("`cargo xtask bench idle`") && json["idle"].is_array());
        assert!(!shown.contains(LAG_NOTE) && !shown.contains("window under load"));
        let (shown, json) = of(Measured::Lag(Box::new(load(70.0, 80.0, 0))));
        let missed = "lag p99 at 17500 checks/s, core-0 70 % busy, farm 80 %";
        assert!(line(&shown, missed).ends_with(" NO |"), "{shown}");
        assert!(line(&shown, "lag p99.9 at").ends_with(" yes |"), "{shown}");
        assert!(shown.contains("`cargo xtask bench lag`") && json["lag"].is_object());
        assert!(!shown.contains(IDLE_NOTE) && !shown.contains("first probe"));
        let (shown, _) = of(Measured::Attempts(Vec::new()));
        assert!(shown.contains("`cargo xtask bench attempts`") && shown.contains(ATTEMPTS_NOTE));
    }
}
