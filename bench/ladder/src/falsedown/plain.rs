//! For comparison: a client written plainly, tokio and hyper with a timeout, beside the same
//! burners on the same farm, whose sites are all well. How many would it have called down?
//!
//! It is spared what the node has to do: names are resolved before, nothing is stored, and nothing
//! is checked in a body. It has no notion of its own trouble, which is all that is compared.

mod client;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

pub(crate) use client::{ClientOptions, run_child};

use super::judge;
use super::plan::{OVERLOAD, Trouble};
use super::pressing::Press;
use crate::burners::Burners;
use crate::children::Running;
use crate::clock::Stopwatch;
use crate::farm::Farm;
use crate::procfs;
pub(super) use client::Told;

/// The name of the hidden subcommand.
const COMMAND: &str = "probe-plain";
const LOG: &str = "plain.log";
/// Calm in which its own need of CPU is measured, one round of the sites and more.
const CALM_S: u32 = 15;
/// It resolves every name first, one after the other.
const READY_LIMIT: Duration = Duration::from_mins(5);
const END_LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);

/// What the client made of sites that were well.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plain {
    pub(super) sites: u32,
    /// Part of a CPU that it needs when it is let alone.
    pub(super) needed: f64,
    /// How many times more it had to do than it had CPU for.
    pub(super) overload: f64,
    pub(super) lasts_s: u32,
    pub(super) told: Told,
    pub(super) farm_busy: f64,
    pub(super) farm_lag_p99_ms: f64,
    /// Why it shows nothing; `None` when it does.
    pub(super) void: Option<String>,
}

/// Runs it on the sites of the list `targets`, first alone and then with so little CPU as the node
/// had: a quarter of what it needs.
///
/// # Errors
/// When the client or the farm ends early.
pub(super) async fn run(press: &Press<'_>, targets: &Path, factor: u32) -> Result<Plain> {
    let lasts_s = Trouble::Overload.lasts_s(factor);
    let out = press.folder.join("plain.json");
    let mut client = start(press, targets, lasts_s, &out).await?;
    let pid = client.pid();
    let cpu_of = async |seconds: u32| {
        let (watch, before) = (Stopwatch::start(), procfs::process_cpu(pid)?);
        sleep(Duration::from_secs(seconds.into())).await;
        let used = procfs::process_cpu(pid)?.saturating_sub(before);
        Ok::<f64, anyhow::Error>(used.as_secs_f64() / watch.seconds().max(0.001))
    };
    let needed = cpu_of(CALM_S).await?;
    press.farm.reset_observer().await?;
    let mut burners = Burners::start(press.cpu, needed, OVERLOAD, press.folder)?;
    let had = cpu_of(lasts_s).await?;
    burners.stop().await?;
    let health = press.farm.summary().await?;
    let text = told(&mut client, &out, &press.folder.join(LOG)).await?;
    let (farm_busy, farm_lag_p99_ms) = Farm::health(&health)?;
    let overload = needed / had.max(0.001);
    let told: Told = serde_json::from_str(&text)?;
    let void = judge::void_of_farm(farm_busy, farm_lag_p99_ms)
        .or_else(|| judge::void_of_load("the client", overload))
        .or_else(|| void_of_client(&told));
    Ok(Plain {
        sites: sites(targets)?,
        needed,
        overload,
        lasts_s,
        told,
        farm_busy,
        farm_lag_p99_ms,
        void,
    })
}

/// Why what it found says nothing of its lack of CPU.
fn void_of_client(told: &Told) -> Option<String> {
    if told.failed_before > 0 {
        let failed = told.failed_before;
        return Some(format!(
            "{failed} of its checks failed before it was pressed"
        ));
    }
    (told.unfinished > 0).then(|| format!("{} of its checks had no end", told.unfinished))
}

/// What it writes at its end, as a whole.
async fn told(client: &mut Running, out: &Path, log: &Path) -> Result<String> {
    let watch = Stopwatch::start();
    while watch.elapsed() < END_LIMIT {
        let runs = client.must_run(log);
        if out.exists() {
            return Ok(std::fs::read_to_string(out)?);
        }
        runs?;
        sleep(POLL).await;
    }
    bail!("the plain client did not end within {END_LIMIT:?}");
}

/// Starts it; it is at its first checks then.
async fn start(press: &Press<'_>, targets: &Path, lasts_s: u32, out: &Path) -> Result<Running> {
    let ready = &press.farm.ready;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg("--targets").arg(targets);
    command.args(["--dns", &ready.dns.to_string()]);
    command.arg("--ca-file").arg(&ready.ca_file);
    command.args(["--cpu", &press.cpu.to_string()]);
    command.args(["--calm-s", &CALM_S.to_string()]);
    command.args(["--pressed-s", &lasts_s.to_string()]);
    command.arg("--out").arg(out);
    let log = press.folder.join(LOG);
    let mut client = Running::start("the plain client", &mut command, &log, Stdio::piped())?;
    client.first_line(&log, READY_LIMIT).await?;
    Ok(client)
}

fn sites(targets: &Path) -> Result<u32> {
    let list = std::fs::read_to_string(targets)?;
    Ok(list.lines().skip(1).count() as u32)
}
