//! The loaded node of `ladder memory`: finds the rate that keeps the probe core about 70 % busy on
//! this machine, and measures the schedule lag there.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::sleep;

use super::lag::Lag;
use super::{MemoryOptions, TIMEOUT_MS, plan, start_farm};
use crate::baseline::engine::{self, CORE_THREAD};
use crate::baseline::{FARM_BUSY_MAX_PERCENT, sites_for};
use crate::interval_log;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::taken::{TakenLog, Watched};

const INTERVAL_S: u32 = 10;
/// Seconds of a histogram interval: how far the lag reaches beyond its window on either side.
const HISTOGRAM_INTERVAL_S: u64 = 1;
/// Checks per second, and seconds, of the look that tells what a check costs at all.
const FIRST_RATE: u32 = 5_000;
const FIRST_LOOK_S: u64 = 10;
/// How busy the probe core should be, and how busy it may be, in percent.
const CORE_BUSY_WANTED: f64 = 70.0;
const CORE_BUSY: RangeInclusive<f64> = 65.0..=80.0;
/// Windows that count, however calm: one alone is a single run.
const COUNTED_MIN: usize = 3;
/// Windows after which the machine is given up. What a check costs here changes from one minute to
/// the next by a tenth, so that not each has the load that is wanted.
const WINDOWS_MAX: usize = 12;
/// Tries of one window.
const TRIES_MAX: u32 = 3;

/// One window of the loaded node, or all that had the load that is asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Load {
    pub(super) checks_per_s: f64,
    pub(super) core_us_per_check: f64,
    pub(super) core_busy_percent: f64,
    pub(super) farm_busy_percent: f64,
    pub(super) failed: u64,
    pub(super) lag: Lag,
    /// Every window, in order.
    pub(super) windows: Vec<Window>,
}

/// What is told of one window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Window {
    pub(super) checks_per_s: f64,
    pub(super) core_busy_percent: f64,
    /// It had the load that is asked for.
    pub(super) counts: bool,
    pub(super) lag: Lag,
}

impl Load {
    /// The windows of `all` that count as one, or all when none does: every check's lag, all
    /// failures, the busiest farm, and means by the seconds that are judged. Where the lag is told
    /// of calm seconds alone the load is too: a window that others had taken for themselves would
    /// make it look smaller than it was where it was measured.
    ///
    /// # Errors
    /// When there is none, or histograms do not fit each other.
    fn of_all(all: &[Self]) -> Result<Self> {
        let mut counted: Vec<&Self> = all.iter().filter(|load| load.counts()).collect();
        if counted.is_empty() {
            counted = all.iter().collect();
        }
        let lags: Vec<Lag> = counted.iter().map(|load| load.lag.clone()).collect();
        let lag = Lag::of_all(&lags)?.context("no window was measured")?;
        let weight = |load: &Self| {
            if lag.is_disturbed() {
                load.lag.watched_s / lag.watched_s
            } else {
                load.lag.calm_s / lag.calm_s
            }
        };
        let mean = |of: fn(&Self) -> f64| counted.iter().map(|load| weight(load) * of(load)).sum();
        let farm = counted.iter().map(|load| load.farm_busy_percent);
        Ok(Self {
            checks_per_s: mean(|load| load.checks_per_s),
            core_us_per_check: mean(|load| load.core_us_per_check),
            core_busy_percent: mean(|load| load.core_busy_percent),
            farm_busy_percent: farm.fold(0.0, f64::max),
            failed: counted.iter().map(|load| load.failed).sum(),
            lag,
            windows: all.iter().map(Self::window).collect(),
        })
    }

    fn window(&self) -> Window {
        Window {
            checks_per_s: self.checks_per_s,
            core_busy_percent: self.core_busy_percent,
            counts: self.counts(),
            lag: self.lag.clone(),
        }
    }

    /// Whether the core had the load that is asked for.
    fn counts(&self) -> bool {
        CORE_BUSY.contains(&self.core_busy_percent)
    }

    /// Whether these windows tell enough.
    fn is_enough(&self) -> bool {
        self.counted() >= COUNTED_MIN && !self.is_unclear()
    }

    /// Whether others had so much that a lag above the bars may be theirs.
    fn is_unclear(&self) -> bool {
        self.lag.is_disturbed() && !self.lag.every.holds()
    }

    fn counted(&self) -> usize {
        self.windows.iter().filter(|window| window.counts).count()
    }

    /// Why the lag proves nothing about 70 % load.
    pub(super) fn flaw(&self) -> Option<String> {
        let (core, farm) = (self.core_busy_percent, self.farm_busy_percent);
        if self.counted() < COUNTED_MIN {
            let (low, high) = (CORE_BUSY.start(), CORE_BUSY.end());
            return Some(format!(
                "{CORE_THREAD} was {core:.0} % busy, and {low} to {high} % in {} windows of {} \
                 ({COUNTED_MIN} are needed)",
                self.counted(),
                self.windows.len()
            ));
        }
        if farm >= FARM_BUSY_MAX_PERCENT {
            let max = FARM_BUSY_MAX_PERCENT;
            return Some(format!(
                "the farm was {farm:.0} % busy, not below {max} % of its core"
            ));
        }
        if self.failed > 0 {
            return Some(format!("{} checks failed", self.failed));
        }
        self.is_unclear().then(|| self.lag.disturbance())
    }

    /// What was seen, for whoever waits for the end of it.
    fn line(&self) -> String {
        let lag = &self.lag;
        format!(
            "{:.0} checks/s, {CORE_THREAD} {:.0} % busy, farm {:.0} %; lag p99 {:.1} ms in {:.0} \
             calm seconds, {:.1} ms in all",
            self.checks_per_s,
            self.core_busy_percent,
            self.farm_busy_percent,
            lag.calm.p99_ms,
            lag.calm_s,
            lag.every.p99_ms
        )
    }

    /// The rate at which the core would be as busy as wanted, by the cost of a check here.
    fn wanted_rate(&self) -> u32 {
        (CORE_BUSY_WANTED / 100.0 * 1e6 / self.core_us_per_check.max(1.0)) as u32
    }

    /// Whether the farm cannot serve what would load the core.
    fn is_bound(&self) -> bool {
        let core = self.core_busy_percent;
        core < *CORE_BUSY.start() && self.farm_busy_percent >= FARM_BUSY_MAX_PERCENT
    }
}

/// Measures at a low rate what a check costs, then loads the core until it was about 70 % busy in
/// enough windows. Each has the rate that the cost of a check in the one before makes 70 %.
pub(super) async fn measure(options: &MemoryOptions, folder: &Path) -> Result<Load> {
    let mut last = window(options, &folder.join("load-0"), FIRST_RATE, FIRST_LOOK_S).await?;
    let mut windows = Vec::new();
    loop {
        println!("{}; now {} checks/s", last.line(), last.wanted_rate());
        let folder = folder.join(format!("load-{}", windows.len() + 1));
        last = window(options, &folder, last.wanted_rate(), options.load_s).await?;
        windows.push(last.clone());
        let all = Load::of_all(&windows)?;
        if all.is_enough() || last.is_bound() || windows.len() == WINDOWS_MAX {
            return Ok(all);
        }
    }
}

/// One window; again where the machine stopped for so long that its logs or readings have a hole.
async fn window(options: &MemoryOptions, folder: &Path, rate: u32, seconds: u64) -> Result<Load> {
    let mut number = 1;
    loop {
        let folder = folder.join(format!("try-{number}"));
        match one_window(options, &folder, rate, seconds).await {
            Err(error) if number < TRIES_MAX => println!("{error:#}; once more"),
            result => return result,
        }
        number += 1;
    }
}

/// One window with a farm and a node of its own.
async fn one_window(
    options: &MemoryOptions,
    folder: &Path,
    rate: u32,
    seconds: u64,
) -> Result<Load> {
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
    // An interval reaches out of the window on either side, and its time to catch up before it.
    let core = probe_core(options, &node)?;
    let (taken, window) = tokio::try_join!(
        TakenLog::watch(core, seconds + 4 * HISTOGRAM_INTERVAL_S),
        async {
            sleep(Duration::from_secs(2 * HISTOGRAM_INTERVAL_S)).await;
            engine::measure(&farm, &mut node, seconds).await
        }
    )?;
    // The end of the node writes its last interval too.
    node.stop().await?;
    farm.stop().await?;
    let intervals = interval_log::schedule_lag(&node.plan().histogram_dir(), &window.unix_ms)?;
    let sample = window.sample;
    Ok(Load {
        checks_per_s: sample.rate(),
        core_us_per_check: sample.cpu_us(),
        core_busy_percent: 100.0 * sample.cpu_s / sample.seconds,
        farm_busy_percent: window.farm_busy_percent,
        failed: sample.failed,
        lag: Lag::of(&intervals, &taken, &window.unix_ms)?,
        windows: Vec::new(),
    })
}

fn probe_core(options: &MemoryOptions, node: &Node) -> Result<Watched> {
    let pid = node.pid();
    let threads = procfs::threads(pid)?;
    let core = threads.iter().find(|thread| thread.name == CORE_THREAD);
    let tid = core.context("the node has no probe core")?.tid;
    let cpu = options.bench.probe_cpu;
    Ok(Watched { cpu, pid, tid })
}

#[cfg(test)]
pub(super) mod testbed {
    use super::{COUNTED_MIN, Load};
    use crate::memory::lag::testbed::lag;

    /// 40 µs a check; the lag misses its p99 and holds its p99.9.
    pub(crate) fn load(core_busy_percent: f64, farm_busy_percent: f64, failed: u64) -> Load {
        let mut load = Load {
            checks_per_s: core_busy_percent / 100.0 * 25_000.0,
            core_us_per_check: 40.0,
            core_busy_percent,
            farm_busy_percent,
            failed,
            lag: lag(30.0, 20),
            windows: Vec::new(),
        };
        load.windows = vec![load.window(); COUNTED_MIN];
        load
    }
}

#[cfg(test)]
mod tests {
    use super::super::lag::testbed::lag;
    use super::Load;
    use super::testbed::load;

    #[test]
    fn windows_at_one_rate_are_one() {
        let window = |calm_s, p99_ms, failed| Load {
            lag: lag(calm_s, p99_ms),
            ..load(70.0, 50.0, failed)
        };
        let of = |windows: [Load; 3]| Load::of_all(&windows).expect("alike");
        let all = of([window(30.0, 4, 0), window(0.0, 4, 0), window(0.0, 4, 0)]);
        assert_eq!(
            (all.flaw(), all.windows.len(), all.is_enough()),
            (None, 3, true)
        );
        assert!((all.core_us_per_check - 40.0).abs() < 1e-9);
        let all = of([window(30.0, 4, 2), window(0.0, 4, 1), window(0.0, 4, 0)]);
        assert_eq!(all.flaw().as_deref(), Some("3 checks failed"));
        let all = of([window(3.0, 4, 0), window(5.0, 4, 0), window(0.0, 4, 0)]);
        assert_eq!(
            (all.flaw(), all.is_enough()),
            (None, true),
            "holds every second"
        );
        let all = of([window(3.0, 40, 0), window(5.0, 40, 0), window(0.0, 4, 0)]);
        assert!(!all.is_enough());
        let flaw = all.flaw().expect("disturbed");
        assert!(flaw.contains("left 8.0 calm seconds of 90"), "{flaw}");
        assert!(Load::of_all(&[]).is_err());
    }

    #[test]
    fn the_load_is_that_of_the_calm_seconds() {
        let window = |calm_s, core_busy_percent| Load {
            lag: lag(calm_s, 4),
            ..load(core_busy_percent, 50.0, 0)
        };
        let busy = |windows: &[Load]| {
            let all = Load::of_all(windows).expect("alike");
            (all.core_busy_percent.round() as u32, all.lag.calm_s as u32)
        };
        assert_eq!(busy(&[window(30.0, 72.0), window(10.0, 68.0)]), (71, 40));
        assert_eq!(busy(&[window(0.0, 70.0), window(0.0, 80.0)]), (75, 0));
    }

    #[test]
    fn a_window_with_another_load_is_told_and_does_not_count() {
        let window = |core_busy_percent, p99_ms| Load {
            lag: lag(30.0, p99_ms),
            ..load(core_busy_percent, 50.0, 0)
        };
        let (calm, less, more) = (window(70.0, 4), window(64.9, 1), window(80.1, 90));
        let windows = [calm.clone(), less.clone(), more.clone(), calm.clone()];
        let all = Load::of_all(&windows).expect("alike");
        assert!(
            (all.lag.calm_s - 60.0).abs() < 1e-9 && !all.is_enough(),
            "two count"
        );
        let flaw = all.flaw().expect("too few");
        assert!(
            flaw.contains("70 % busy, and 65 to 80 % in 2 windows of 4"),
            "{flaw}"
        );
        let enough = [calm.clone(), calm.clone(), less.clone(), calm];
        assert!(Load::of_all(&enough).expect("alike").is_enough());
        let none = Load::of_all(&[less, more]).expect("alike");
        assert!(
            none.flaw()
                .is_some_and(|flaw| flaw.contains("in 0 windows of 2"))
        );
    }

    #[test]
    fn the_rate_follows_from_the_cost_of_a_check() {
        assert_eq!(load(51.0, 60.0, 0).wanted_rate(), 17_500);
        assert_eq!(load(99.0, 95.0, 0).wanted_rate(), 17_500);
    }

    #[test]
    fn a_farm_at_its_limit_ends_the_search() {
        assert!(load(51.0, 85.0, 0).is_bound());
        assert!(!load(51.0, 84.0, 0).is_bound() && !load(65.0, 99.0, 0).is_bound());
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
