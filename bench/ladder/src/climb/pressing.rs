//! A core that is left too little CPU for a while, by a cgroup's bound or by burners beside it, and
//! how long it takes until all is as before. The farm is never asked for more than it serves.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::sleep;

use super::finding::number;
use super::judge::BACK_MAX_S;
use super::quota::Quota;
use super::reading::{Counters, Pids, Polls, Reading};
use super::record::{Pressed, Sites};
use super::rung::Stand;
use crate::burners::Burners;
use crate::clock::{self, Stopwatch};
use crate::interval_log::LagInterval;

/// How long the pressure lasts: several intervals of the fleet, and of shedding.
const PRESSED: Duration = Duration::from_mins(1);
/// How much longer than it may take is waited for the calm.
const BEYOND_S: f64 = 5.0;
const POLL: Duration = Duration::from_millis(500);
/// The lag of a second that is as in the calm, at p99.9, in µs.
const LAG_CALM_US: u64 = 250_000;

/// What presses.
pub(super) struct Pressure<'a> {
    /// How many times more there is to do than CPU for it.
    pub(super) factor: f64,
    /// Part of its CPU that the core needs.
    pub(super) needed: f64,
    pub(super) cpu: usize,
    /// The probe core's thread.
    pub(super) tid: u32,
    pub(super) pids: Pids,
    pub(super) folder: &'a Path,
}

/// What takes the CPU from the core.
enum Taker {
    Quota(Quota),
    Burners(Burners),
}

impl Taker {
    /// The cgroup's bound, which leaves what is asked for; burners, of which only whole ones share,
    /// where there is none.
    fn start(pressure: &Pressure<'_>) -> Result<Self> {
        let left = pressure.needed / pressure.factor;
        match Quota::start(pressure.tid, left) {
            Ok(quota) => Ok(Self::Quota(quota)),
            Err(why) => {
                println!("ladder: burners press the core, since no cgroup can: {why:#}");
                let (cpu, needed) = (pressure.cpu, pressure.needed);
                Burners::start(cpu, needed, pressure.factor, pressure.folder).map(Self::Burners)
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Quota(quota) => format!("cgroup, cpu.max {:.0} %", 100.0 * quota.share()),
            Self::Burners(burners) => format!("{} pinned burner(s)", burners.len()),
        }
    }

    /// Part of the CPU that is the core's if it wants it.
    fn share(&self) -> f64 {
        match self {
            Self::Quota(quota) => quota.share(),
            Self::Burners(burners) => burners.share(),
        }
    }

    /// Part of the time that the core stood in the queue of its CPU, by what the kernel said of it;
    /// a core that a bound stops stands in none.
    fn queued(&self, told: Option<f64>) -> Option<f64> {
        match self {
            Self::Quota(_) => None,
            Self::Burners(_) => told,
        }
    }

    async fn stop(self) -> Result<()> {
        match self {
            Self::Quota(quota) => {
                drop(quota);
                Ok(())
            }
            Self::Burners(mut burners) => burners.stop().await,
        }
    }
}

/// What was seen of it.
#[derive(Clone, Debug)]
pub(super) struct Press {
    by: String,
    seconds: f64,
    needed: f64,
    had: f64,
    /// Part of the time that the core stood in the queue of its CPU, where the kernel says so.
    queued: Option<f64>,
    /// Part of the CPU that is the core's if it wants it.
    share: f64,
    counted: Counters,
    /// From the begin of the pressure to the end of the watch.
    pub(super) polls: Polls,
    pressed: Sites,
    relieved: Sites,
    farm_busy: f64,
    farm_lag_p99_ms: f64,
    pub(super) relief_unix_ms: u64,
    pub(super) until_unix_ms: u64,
    /// Unix ms and how many checks had been shed by then.
    shed: Vec<(u64, u64)>,
}

/// Presses, relieves, and watches what comes after.
pub(super) async fn press(stand: &mut Stand, pressure: &Pressure<'_>) -> Result<Press> {
    stand.farm.reset_observer().await?;
    let counted = Counters::read(&stand.node).await?;
    let before = Reading::of_processes(pressure.pids)?;
    let taker = Taker::start(pressure)?;
    let (by, share) = (taker.name(), taker.share());
    let (watch, mut polls) = (Stopwatch::start(), Polls::default());
    while watch.elapsed() < PRESSED {
        let scrape = stand.look("pressed ").await?;
        polls.add(watch.elapsed_ms(), &scrape, stand.rss_bytes()?);
        sleep(POLL).await;
    }
    let after = Reading::of_processes(pressure.pids)?;
    let counted = counted.until(&Counters::read(&stand.node).await?);
    let summary = stand.farm.summary().await?;
    let queued = taker.queued(before.core_queued(&after));
    taker.stop().await?;
    let relief_unix_ms = clock::unix_ms();
    stand.farm.reset_observer().await?;
    let (relief, mut shed) = (Stopwatch::start(), Vec::new());
    while relief.seconds() < BACK_MAX_S + BEYOND_S {
        let scrape = stand.look("relieved").await?;
        polls.add(watch.elapsed_ms(), &scrape, stand.rss_bytes()?);
        shed.push((clock::unix_ms(), Counters::of(&scrape).shed));
        sleep(POLL).await;
    }
    let relieved = Sites::of(&stand.farm.summary().await?)?;
    Ok(Press {
        by,
        seconds: before.seconds(&after),
        needed: pressure.needed,
        had: before.core_busy(&after),
        queued,
        share,
        counted,
        polls,
        pressed: Sites::of(&summary)?,
        relieved,
        farm_busy: number(&summary, "/farm/busy")?,
        farm_lag_p99_ms: number(&summary, "/farm/loop_lag_us/p99")? / 1_000.0,
        relief_unix_ms,
        until_unix_ms: clock::unix_ms(),
        shed,
    })
}

impl Sites {
    /// By the observer's summary.
    fn of(summary: &Value) -> Result<Self> {
        let whole = |path| number(summary, path).map(|found| found as u64);
        Ok(Self {
            requests: whole("/requests_total")?,
            never_seen: whole("/never_seen")?,
            stale: whole("/stale")?,
        })
    }
}

impl Press {
    /// With what a check costs in the calm, and the lag from the relief on.
    pub(super) fn found(&self, core_us: f64, lag: &[LagInterval]) -> Pressed {
        Pressed {
            by: self.by.clone(),
            seconds: self.seconds,
            needed: self.needed,
            had: self.had,
            could: self.could(),
            factor: self.needed / self.could().max(1e-3),
            good: self.counted.up,
            allowed: self.could() * self.seconds * 1e6 / core_us.max(1e-3),
            shed: self.counted.shed,
            unknown: self.counted.unknown,
            sites: self.pressed,
            relieved: self.relieved,
            farm_busy: self.farm_busy,
            farm_lag_p99_ms: self.farm_lag_p99_ms,
            back_s: back_s(self.relief_unix_ms, &self.shed, lag),
        }
    }

    /// Part of a CPU that the core could have had: a core that is short of CPU has no reason to
    /// sleep, and of the time in which it does its share was left. Where the kernel does not say
    /// how long it stood in the queue, its share is taken for what it could have.
    fn could(&self) -> f64 {
        let asleep = self.queued.map(|queued| 1.0 - self.had - queued);
        let could = asleep.map_or(self.share, |asleep| self.had + asleep.max(0.0) * self.share);
        could.min(self.needed).max(self.had)
    }
}

/// From the relief to the last moment at which a check had been shed, or was late, in s.
fn back_s(relief_unix_ms: u64, shed: &[(u64, u64)], lag: &[LagInterval]) -> f64 {
    let late = lag
        .iter()
        .filter(|one| one.lag.value_at_quantile(0.999) > LAG_CALM_US);
    let late = late.map(|one| one.span.1);
    let grew = shed
        .windows(2)
        .filter(|two| two[1].1 > two[0].1)
        .map(|two| two[1].0);
    let last = late.chain(grew).max().unwrap_or(relief_unix_ms);
    last.saturating_sub(relief_unix_ms) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn interval(from: u64, us: u64) -> LagInterval {
        let mut lag = Histogram::new(3).expect("valid");
        lag.record(us).expect("it grows");
        LagInterval {
            span: (from, from + 1_000),
            lag,
        }
    }

    #[test]
    fn it_is_back_when_nothing_is_shed_or_late_any_more() {
        let back = |shed: &[(u64, u64)], lag: &[LagInterval]| back_s(10_000, shed, lag);
        assert!(back(&[], &[]).abs() < 1e-9);
        let calm = [interval(10_000, 900), interval(11_000, 249_000)];
        assert!(back(&[(10_500, 7), (11_000, 7)], &calm).abs() < 1e-9);
        let late = [
            interval(10_000, 9_000_000),
            interval(13_000, 260_000),
            interval(14_000, 5),
        ];
        assert!((back(&[], &late) - 4.0).abs() < 1e-9);
        let shed = [(10_500, 7), (12_000, 9), (16_500, 10), (17_000, 10)];
        assert!((back(&shed, &late) - 6.5).abs() < 1e-9);
    }

    fn press() -> Press {
        Press {
            by: "1 burner".to_owned(),
            seconds: 60.0,
            needed: 0.5,
            had: 0.25,
            queued: Some(0.75),
            share: 0.25,
            counted: Counters {
                probed: 402_000,
                up: 399_000,
                unknown: 1_000,
                shed: 9,
                ..Counters::default()
            },
            polls: Polls::default(),
            pressed: Sites::default(),
            relieved: Sites::default(),
            farm_busy: 0.2,
            farm_lag_p99_ms: 1.0,
            relief_unix_ms: 0,
            until_unix_ms: 0,
            shed: Vec::new(),
        }
    }

    #[test]
    fn what_the_cpu_allows_follows_from_the_cost_in_the_calm() {
        let found = press().found(40.0, &[]);
        assert!((found.allowed - 375_000.0).abs() < 1e-6 && (found.factor - 2.0).abs() < 1e-9);
        assert_eq!((found.good, found.shed, found.unknown), (399_000, 9, 1_000));
    }

    #[test]
    fn a_core_that_sleeps_while_checks_wait_could_have_had_its_share() {
        let could = |had, queued| {
            Press {
                had,
                queued,
                ..press()
            }
            .could()
        };
        let near = |found: f64, wanted: f64| (found - wanted).abs() < 1e-9;
        assert!(near(could(0.25, Some(0.75)), 0.25), "it never slept");
        assert!(
            near(could(0.02, Some(0.06)), 0.25),
            "it slept nearly always"
        );
        assert!(near(could(0.02, None), 0.25), "its share");
        assert!(near(could(0.4, None), 0.4), "it had more than its share");
        assert!(
            near(could(0.49, Some(0.01)), 0.5),
            "never more than it needs"
        );
        let idler = Press {
            had: 0.02,
            queued: Some(0.06),
            counted: Counters {
                up: 30_000,
                ..Counters::default()
            },
            ..press()
        };
        let found = idler.found(40.0, &[]);
        assert!((found.good as f64) < 0.1 * found.allowed, "{found:?}");
        assert!(near(found.factor, 2.0), "who sleeps is not pressed more");
    }
}
