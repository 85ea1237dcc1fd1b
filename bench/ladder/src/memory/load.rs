//! The loaded node of `ladder memory`: finds the rate that keeps the probe core about 70 % busy on
//! this machine, and measures the schedule lag there.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{MemoryOptions, TIMEOUT_MS, plan, start_farm};
use crate::baseline::engine::{self, CORE_THREAD};
use crate::baseline::{FARM_BUSY_MAX_PERCENT, sites_for};
use crate::interval_log;
use crate::node::{Node, NodePlan};

const INTERVAL_S: u32 = 10;
/// Seconds of a histogram interval: how far the lag reaches beyond its window on either side.
const HISTOGRAM_INTERVAL_S: u64 = 1;
/// Checks per second, and seconds, of the look that tells what a check costs at all.
const FIRST_RATE: u32 = 5_000;
const FIRST_LOOK_S: u64 = 10;
/// How busy the probe core should be, and how busy it may be, in percent.
const CORE_BUSY_WANTED: f64 = 70.0;
const CORE_BUSY: RangeInclusive<f64> = 65.0..=80.0;
/// A check costs less at a higher rate, so that each rate is corrected by what was measured at the
/// one before; this many windows settle it.
const WINDOWS_MAX: u32 = 5;
/// Windows at the rate that was settled on: one alone is at the mercy of the machine's neighbours.
const REPEATS: u32 = 3;

/// One window of the loaded node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Load {
    pub(super) checks_per_s: f64,
    pub(super) core_us_per_check: f64,
    pub(super) core_busy_percent: f64,
    pub(super) farm_busy_percent: f64,
    pub(super) failed: u64,
    /// Schedule lag of every check in the window.
    lag_count: u64,
    lag_p50_ms: f64,
    pub(super) lag_p99_ms: f64,
    pub(super) lag_p999_ms: f64,
    /// Lag p99 and p99.9 of every window at this rate, in order; this is the middle one by its p99.
    pub(super) windows_ms: Vec<[f64; 2]>,
}

impl Load {
    /// The window of the middle p99, with the lags of all; a flawed one comes first, whatever its
    /// lag: it cannot be told what it hides.
    fn middle_of(mut windows: Vec<Self>) -> Option<Self> {
        let all = windows
            .iter()
            .map(|load| [load.lag_p99_ms, load.lag_p999_ms]);
        let windows_ms = all.collect();
        windows.sort_by(|a, b| a.lag_p99_ms.total_cmp(&b.lag_p99_ms));
        let flawed = windows.iter().position(|load| load.flaw().is_some());
        let at = flawed.unwrap_or(windows.len() / 2);
        let middle = windows.into_iter().nth(at)?;
        Some(Self {
            windows_ms,
            ..middle
        })
    }

    /// Why the lag of this window proves nothing about 70 % load.
    pub(super) fn flaw(&self) -> Option<String> {
        let (core, farm) = (self.core_busy_percent, self.farm_busy_percent);
        let (low, high) = (CORE_BUSY.start(), CORE_BUSY.end());
        if !CORE_BUSY.contains(&core) {
            return Some(format!(
                "{CORE_THREAD} was {core:.0} % busy, not {low} to {high} %"
            ));
        }
        if farm >= FARM_BUSY_MAX_PERCENT {
            let max = FARM_BUSY_MAX_PERCENT;
            return Some(format!(
                "the farm was {farm:.0} % busy, not below {max} % of its core"
            ));
        }
        (self.failed > 0).then(|| format!("{} checks failed", self.failed))
    }

    /// The rate at which the core would be as busy as wanted, by the cost of a check here.
    fn wanted_rate(&self) -> u32 {
        (CORE_BUSY_WANTED / 100.0 * 1e6 / self.core_us_per_check.max(1.0)) as u32
    }

    /// The rate to offer next; `None` when the core is busy enough, or the farm cannot serve more.
    fn next_rate(&self) -> Option<u32> {
        let core = self.core_busy_percent;
        let is_bound = core < *CORE_BUSY.start() && self.farm_busy_percent >= FARM_BUSY_MAX_PERCENT;
        let is_settled = CORE_BUSY.contains(&core);
        (!is_settled && !is_bound).then(|| self.wanted_rate())
    }
}

/// Measures at a low rate what a check costs, then loads the core until it is about 70 % busy, and
/// repeats that.
pub(super) async fn measure(options: &MemoryOptions, folder: &Path) -> Result<Load> {
    let first = window(options, &folder.join("load-0"), FIRST_RATE, FIRST_LOOK_S).await?;
    let (mut rate, mut number) = (first.wanted_rate(), 1);
    println!("{first:?}; now {rate} checks/s");
    loop {
        let folder = folder.join(format!("load-{number}"));
        let load = window(options, &folder, rate, options.load_s).await?;
        match load.next_rate() {
            Some(next) if number < WINDOWS_MAX => {
                println!("{load:?}; now {next} checks/s");
                (rate, number) = (next, number + 1);
            }
            _ => return repeat(options, &folder, rate, load).await,
        }
    }
}

/// Two more windows like `first`; the middle one.
async fn repeat(options: &MemoryOptions, folder: &Path, rate: u32, first: Load) -> Result<Load> {
    let mut windows = vec![first];
    for again in 1..REPEATS {
        let folder = folder.with_extension(format!("again-{again}"));
        windows.push(window(options, &folder, rate, options.load_s).await?);
    }
    Load::middle_of(windows).context("no window was measured")
}

/// One window with a farm and a node of its own.
async fn window(options: &MemoryOptions, folder: &Path, rate: u32, seconds: u64) -> Result<Load> {
    let sites = sites_for(rate);
    let mut farm = start_farm(options, folder, sites, INTERVAL_S).await?;
    let targets = folder.join("targets.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
    let plan = NodePlan {
        histogram_interval_s: HISTOGRAM_INTERVAL_S,
        ..plan(options, folder, Some(targets))
    };
    let mut node = Node::start(plan, &farm.ready).await?;
    engine::warm_up(&mut node, sites).await?;
    let window = engine::measure(&farm, &mut node, seconds).await?;
    // The end of the node writes its last interval too.
    node.stop().await?;
    farm.stop().await?;
    let lag = interval_log::schedule_lag(&node.plan().histogram_dir(), &window.unix_ms)?;
    let lag_ms = |quantile| lag.value_at_quantile(quantile) as f64 / 1_000.0;
    let sample = window.sample;
    Ok(Load {
        checks_per_s: sample.rate(),
        core_us_per_check: sample.cpu_us(),
        core_busy_percent: 100.0 * sample.cpu_s / sample.seconds,
        farm_busy_percent: window.farm_busy_percent,
        failed: sample.failed,
        lag_count: lag.len(),
        lag_p50_ms: lag_ms(0.5),
        lag_p99_ms: lag_ms(0.99),
        lag_p999_ms: lag_ms(0.999),
        windows_ms: Vec::new(),
    })
}

#[cfg(test)]
pub(super) mod testbed {
    use super::Load;

    /// 40 µs a check; the lag misses its p99 and holds its p99.9.
    pub(crate) fn load(core_busy_percent: f64, farm_busy_percent: f64, failed: u64) -> Load {
        Load {
            checks_per_s: core_busy_percent / 100.0 * 25_000.0,
            core_us_per_check: 40.0,
            core_busy_percent,
            farm_busy_percent,
            failed,
            lag_count: 500_000,
            lag_p50_ms: 5.0,
            lag_p99_ms: 20.0,
            lag_p999_ms: 50.0,
            windows_ms: vec![[4.0, 9.0], [20.0, 50.0], [30.0, 40.0]],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Load;
    use super::testbed::load;

    #[test]
    fn the_middle_window_speaks_for_all_unless_one_is_flawed() {
        let with = |p99| Load {
            lag_p99_ms: p99,
            ..load(70.0, 50.0, 0)
        };
        let middle = Load::middle_of(vec![with(30.0), with(4.0), with(7.0)]).expect("a window");
        assert!((middle.lag_p99_ms - 7.0).abs() < 1e-9);
        let shown: Vec<f64> = middle.windows_ms.iter().map(|window| window[0]).collect();
        assert_eq!(shown, [30.0, 4.0, 7.0]);
        let flawed = Load::middle_of(vec![with(30.0), load(70.0, 50.0, 1), with(7.0)]);
        assert!(flawed.expect("a window").flaw().is_some());
    }

    #[test]
    fn the_rate_follows_from_the_cost_of_a_check() {
        assert_eq!(load(51.0, 60.0, 0).next_rate(), Some(17_500));
        assert_eq!(load(99.0, 95.0, 0).next_rate(), Some(17_500));
    }

    #[test]
    fn a_busy_core_or_a_farm_at_its_limit_ends_the_search() {
        for settled in [load(65.0, 60.0, 0), load(80.0, 99.0, 7)] {
            assert_eq!(settled.next_rate(), None);
        }
        assert_eq!(load(51.0, 85.0, 0).next_rate(), None);
    }

    #[test]
    fn only_the_asked_load_without_failures_is_no_flaw() {
        assert_eq!(load(65.0, 84.9, 0).flaw(), None);
        assert_eq!(load(80.0, 84.9, 0).flaw(), None);
        for flawed in [
            load(64.9, 50.0, 0),
            load(80.1, 50.0, 0),
            load(70.0, 85.0, 0),
        ] {
            assert!(flawed.flaw().is_some());
        }
        assert_eq!(
            load(70.0, 50.0, 1).flaw().as_deref(),
            Some("1 checks failed")
        );
    }
}
