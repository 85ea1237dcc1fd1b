//! The real engine in the comparison: `ringwatch run` at the same rate, measured from outside.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::tally::Sample;
use crate::clock::{self, Stopwatch};
use crate::farm::Farm;
use crate::node::Node;
use crate::procfs;

/// Name of the probe core's thread.
pub(crate) const CORE_THREAD: &str = "core-0";
/// Every name is resolved once in the first cadence; the rest is slack for the start.
const WARM_UP_LIMIT: Duration = Duration::from_mins(1);

/// One window of the engine.
pub(crate) struct EngineWindow {
    pub(crate) sample: Sample,
    /// Full TLS handshakes of the checks in the window.
    pub(crate) full_handshakes: u64,
    /// Of these, those whose chain had been verified before.
    pub(crate) remembered_chains: u64,
    /// How busy the farm was, in percent of one core: a busy farm measures itself.
    pub(crate) farm_busy_percent: f64,
    /// Start and end of the window.
    pub(crate) unix_ms: RangeInclusive<u64>,
}

/// Counters of the node at one moment.
struct Reading {
    probed: u64,
    up: u64,
    full: u64,
    remembered: u64,
    core: Duration,
    process: Duration,
    farm: Duration,
    at: Stopwatch,
    unix_ms: u64,
}

impl Reading {
    async fn take(farm: &Farm, node: &Node) -> Result<Self> {
        let scrape = node.scrape().await?;
        let count =
            |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels).unwrap_or(0.0) as u64;
        Ok(Self {
            probed: count("ringwatch_probed_total", &[]),
            up: count("ringwatch_probed_total", &[("verdict", "up")]),
            full: count("ringwatch_tls_handshakes_total", &[("kind", "full")]),
            remembered: count("ringwatch_tls_chain_hits_total", &[]),
            core: procfs::threads_cpu(node.pid(), CORE_THREAD)?,
            process: procfs::process_cpu(node.pid())?,
            farm: procfs::process_cpu(farm.pid())?,
            at: Stopwatch::start(),
            unix_ms: clock::unix_ms(),
        })
    }

    fn until(&self, later: &Self) -> EngineWindow {
        let checks = later.probed - self.probed;
        let sample = Sample {
            checks,
            failed: checks.saturating_sub(later.up - self.up),
            seconds: self.at.seconds() - later.at.seconds(),
            cpu_s: later.core.saturating_sub(self.core).as_secs_f64(),
            process_s: later.process.saturating_sub(self.process).as_secs_f64(),
        };
        let farm_s = later.farm.saturating_sub(self.farm).as_secs_f64();
        EngineWindow {
            full_handshakes: later.full - self.full,
            remembered_chains: later.remembered - self.remembered,
            farm_busy_percent: 100.0 * farm_s / sample.seconds,
            sample,
            unix_ms: self.unix_ms..=later.unix_ms,
        }
    }
}

/// Waits until each of `sites` was checked once: every name is resolved then.
pub(crate) async fn warm_up(node: &mut Node, sites: u32) -> Result<()> {
    node.wait_probed(u64::from(sites), WARM_UP_LIMIT).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Measures for `seconds`.
pub(crate) async fn measure(farm: &Farm, node: &mut Node, seconds: u64) -> Result<EngineWindow> {
    let before = Reading::take(farm, node).await?;
    sleep(Duration::from_secs(seconds)).await;
    node.must_run()?;
    Ok(before.until(&Reading::take(farm, node).await?))
}
