//! The farm as a child process: its flags, its ready line, its control port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::children::Running;
use crate::http;

/// Certificates and tables of ten million sites are made within this time.
const READY_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a healthy HTTPS site shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TlsChain {
    /// Leaf and one intermediate, P-256.
    Ecdsa,
    /// Leaf and two intermediates, RSA 2048.
    Rsa3,
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct FarmPlan {
    pub(crate) program: PathBuf,
    pub(crate) sites: u32,
    pub(crate) interval_s: u32,
    /// Every n-th site speaks HTTPS, 0 = none.
    pub(crate) https_every: u32,
    pub(crate) tls_chain: TlsChain,
    /// Whether sessions can be resumed.
    pub(crate) tls_tickets: bool,
    pub(crate) scenario: Option<PathBuf>,
    /// Connections that are kept silent at a time; `None`: the farm's default.
    pub(crate) silent_max: Option<u32>,
    /// How long an address may be kept; `None`: the farm's default, an hour.
    pub(crate) dns_ttl_s: Option<u32>,
    /// CPU to pin the farm to.
    pub(crate) cpu: Option<usize>,
}

/// The ready line.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) dns: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) ca_file: PathBuf,
    /// `glommio` or `tokio`.
    pub(crate) shell: String,
}

/// A running farm.
pub(crate) struct Farm {
    running: Running,
    log: PathBuf,
    pub(crate) ready: Ready,
}

impl Farm {
    /// Starts the farm with its files in `folder` and waits until it serves.
    pub(crate) async fn start(plan: &FarmPlan, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = folder.join("farm.log");
        let mut command = Command::new(&plan.program);
        command.arg("run").arg("--out").arg(folder);
        command.args(["--sites", &plan.sites.to_string()]);
        command.args(["--interval-s", &plan.interval_s.to_string()]);
        command.args(["--https-every", &plan.https_every.to_string()]);
        let chain = match plan.tls_chain {
            TlsChain::Ecdsa => "ecdsa",
            TlsChain::Rsa3 => "rsa3",
        };
        command.args(["--tls-chain", chain]);
        if plan.tls_tickets {
            command.arg("--tls-tickets");
        }
        if let Some(scenario) = &plan.scenario {
            command.arg("--scenario").arg(scenario);
        }
        if let Some(silent_max) = plan.silent_max {
            command.args(["--silent-max", &silent_max.to_string()]);
        }
        if let Some(ttl_s) = plan.dns_ttl_s {
            command.args(["--dns-ttl-s", &ttl_s.to_string()]);
        }
        if let Some(cpu) = plan.cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let mut running = Running::start("farm", &mut command, &log, Stdio::piped())?;
        let line = running.first_line(&log, READY_LIMIT).await?;
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("the farm's ready line is not understood: {line}"))?;
        Ok(Self {
            running,
            log,
            ready,
        })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Fails when the farm has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        self.running.must_run(&self.log)
    }

    /// Writes the list of targets, as `ringwatch` imports it, to `file`.
    pub(crate) async fn write_targets(
        &self,
        interval_s: u32,
        timeout_ms: u32,
        file: &Path,
    ) -> Result<()> {
        let path = format!("/targets.csv?interval_s={interval_s}&timeout_ms={timeout_ms}");
        let text = http::get(self.ready.control, &path).await?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Starts the scenario's clock.
    pub(crate) async fn start_scenario(&self) -> Result<()> {
        http::post(self.ready.control, "/scenario/start")
            .await
            .map(drop)
    }

    /// Ends the faults of the scenario that have no duration.
    pub(crate) async fn end_scenario(&self) -> Result<()> {
        http::post(self.ready.control, "/scenario/end")
            .await
            .map(drop)
    }

    /// The name server answers nobody from now on, or again as ever.
    pub(crate) async fn silence_dns(&self, is_silent: bool) -> Result<()> {
        let path = if is_silent {
            "/dns/silence"
        } else {
            "/dns/answer"
        };
        http::post(self.ready.control, path).await.map(drop)
    }

    /// Forgets what was observed so far.
    pub(crate) async fn reset_observer(&self) -> Result<()> {
        http::post(self.ready.control, "/observe/reset")
            .await
            .map(drop)
    }

    /// Of a summary: the part of its CPU that the farm used, and how late its loop was at p99, in
    /// ms.
    pub(crate) fn health(summary: &Value) -> Result<(f64, f64)> {
        let farm = &summary["farm"];
        let busy = farm["busy"].as_f64().context("no farm.busy")?;
        let lag_us = farm["loop_lag_us"]["p99"].as_f64();
        Ok((busy, lag_us.context("no farm.loop_lag_us")? / 1_000.0))
    }

    /// What was observed since the reset.
    pub(crate) async fn summary(&self) -> Result<Value> {
        let text = http::get(self.ready.control, "/observe/summary").await?;
        serde_json::from_str(&text).context("the observer's summary is no JSON")
    }

    /// The ground truth so far, as JSON lines.
    pub(crate) async fn truth(&self) -> Result<String> {
        http::get(self.ready.control, "/truth").await
    }

    /// Stops the farm.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.running.stop(STOP_LIMIT).await.map(drop)
    }
}
