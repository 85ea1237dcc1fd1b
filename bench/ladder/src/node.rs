//! The node as a child process, driven through its command line and its metrics as a user would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use crate::children::Running;
use crate::clock::Stopwatch;
use crate::farm::Ready;
use crate::http;
use crate::metrics::Scrape;

/// A million targets are imported and loaded within this time.
const READY_LIMIT: Duration = Duration::from_mins(3);
/// The node's own drain limit is 20 s.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) program: PathBuf,
    /// Everything that the node writes lies below this folder.
    pub(crate) folder: PathBuf,
    /// CSV to import at the start; `None`: what the store holds.
    pub(crate) targets: Option<PathBuf>,
    /// CPU of its one probe core; `None`: the node's own choice.
    pub(crate) probe_cpu: Option<usize>,
    /// Length of a histogram interval: the lag that `status` shows is the last one's.
    pub(crate) histogram_interval_s: u64,
    /// Where its targets and facts are; `None`: a file in the folder.
    pub(crate) store: Option<String>,
    /// More flags of `run`.
    pub(crate) flags: Vec<String>,
}

/// A running node.
pub(crate) struct Node {
    running: Running,
    plan: NodePlan,
    log: PathBuf,
    admin: SocketAddr,
}

impl Node {
    /// Starts `ringwatch run` against the farm and waits until it answers; it may still load.
    pub(crate) async fn launch(plan: NodePlan, farm: &Ready) -> Result<Self> {
        Self::launch_within(plan, farm, READY_LIMIT).await
    }

    async fn launch_within(plan: NodePlan, farm: &Ready, limit: Duration) -> Result<Self> {
        std::fs::create_dir_all(&plan.folder)?;
        let log = plan.log();
        let mut command = Command::new(&plan.program);
        command.arg("run").arg("--data-dir").arg(plan.data_dir());
        command
            .arg("--store")
            .arg(plan.store())
            .args(["--admin", "127.0.0.1:0"]);
        command.args(["--dns", &farm.dns.to_string(), "--allow", "127.0.0.0/8"]);
        command.arg("--ca-file").arg(&farm.ca_file);
        if let Some(targets) = &plan.targets {
            command.arg("--targets").arg(targets);
        }
        if let Some(cpu) = plan.probe_cpu {
            command.args(["--probe-cores", &cpu.to_string()]);
        }
        command.args([
            "--histogram-interval-s",
            &plan.histogram_interval_s.to_string(),
        ]);
        command.args(&plan.flags);
        let running = Running::start("ringwatch", &mut command, &log, Stdio::null())?;
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self {
            running,
            plan,
            log,
            admin,
        };
        node.admin = node.wait_status(limit, admin_address).await?;
        Ok(node)
    }

    /// Starts a node and waits until it has loaded every target.
    pub(crate) async fn start(plan: NodePlan, farm: &Ready) -> Result<Self> {
        Self::start_within(plan, farm, READY_LIMIT).await
    }

    /// The same, where more than a million targets take longer.
    pub(crate) async fn start_within(
        plan: NodePlan,
        farm: &Ready,
        limit: Duration,
    ) -> Result<Self> {
        let mut node = Self::launch_within(plan, farm, limit).await?;
        node.wait_status(limit, loaded).await?;
        Ok(node)
    }

    /// Waits until every target is loaded.
    pub(crate) async fn wait_loaded(&mut self) -> Result<()> {
        self.wait_status(READY_LIMIT, loaded).await
    }

    /// Asks for the status until `found` finds what it looks for.
    async fn wait_status<T>(
        &mut self,
        limit: Duration,
        found: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let watch = Stopwatch::start();
        loop {
            self.must_run()?;
            if let Some(value) = self.plan.status().ok().as_ref().and_then(&found) {
                return Ok(value);
            }
            if watch.elapsed() > limit {
                bail!("ringwatch was not ready within {limit:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Where metrics are served.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What was started.
    pub(crate) fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.running.signal(signal)
    }

    /// Fails when the node has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        self.running.must_run(&self.log)
    }

    /// All metrics.
    pub(crate) async fn scrape(&self) -> Result<Scrape> {
        Ok(Scrape::parse(&http::get(self.admin, "/metrics").await?))
    }

    /// Checks finished so far.
    pub(crate) async fn probed(&self) -> Result<u64> {
        Ok(self
            .scrape()
            .await?
            .sum("ringwatch_probed_total", &[])
            .unwrap_or(0.0) as u64)
    }

    /// Waits until `count` checks have finished.
    pub(crate) async fn wait_probed(&mut self, count: u64, limit: Duration) -> Result<()> {
        let watch = Stopwatch::start();
        loop {
            self.must_run()?;
            let probed = self.probed().await?;
            if probed >= count {
                return Ok(());
            }
            if watch.elapsed() > limit {
                bail!("{probed} of {count} checks finished within {limit:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Stops the node: it drains, flushes and exits by itself.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.running.stop(STOP_LIMIT).await? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("ringwatch ended with {status}; see {}", self.log.display()),
            None => bail!("ringwatch did not end within {STOP_LIMIT:?} of SIGTERM and was killed"),
        }
    }
}

impl NodePlan {
    /// The node's data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the node writes its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("ringwatch.log")
    }

    /// Where the node writes its interval logs.
    pub(crate) fn histogram_dir(&self) -> PathBuf {
        self.data_dir().join("hdr")
    }

    fn store(&self) -> String {
        let file = || format!("sqlite:{}", self.folder.join("ringwatch.db").display());
        self.store.clone().unwrap_or_else(file)
    }

    /// `ringwatch migrate`: a server is never migrated by a start.
    pub(crate) fn migrate(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["migrate", "--store", &self.store()]);
        command.arg("--data-dir").arg(self.data_dir());
        self.command(&mut command).map(drop)
    }

    /// `ringwatch targets WORDS`.
    pub(crate) fn targets(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("targets").args(words);
        command.args(["--store", &self.store(), "--data-dir"]);
        self.command(command.arg(self.data_dir())).map(drop)
    }

    /// `ringwatch status --json`.
    pub(crate) fn status(&self) -> Result<Value> {
        let data_dir = self.data_dir();
        let args = ["status", "--json", "--data-dir"];
        let text = self.command(Command::new(&self.program).args(args).arg(data_dir))?;
        serde_json::from_str(&text).context("`ringwatch status --json` wrote no JSON")
    }

    /// `ringwatch events list --json`: one object per line.
    pub(crate) fn events(&self) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["events", "list", "--json", "--limit", "100000", "--store"]);
        self.command(
            command
                .arg(self.store())
                .arg("--data-dir")
                .arg(self.data_dir()),
        )
    }

    /// `ringwatch report`: prints the table; writes plots and Markdown to `out`.
    pub(crate) fn report(&self, out: &Path) -> Result<String> {
        let mut command = Command::new(&self.program);
        self.command(
            command
                .arg("report")
                .arg(self.data_dir())
                .arg("--out")
                .arg(out),
        )
    }

    fn command(&self, command: &mut Command) -> Result<String> {
        let name = self.program.display();
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{name}"))?;
        if !output.status.success() {
            let args: Vec<_> = command
                .get_args()
                .map(|arg| arg.to_string_lossy())
                .collect();
            let error = String::from_utf8_lossy(&output.stderr);
            bail!(
                "`ringwatch {}` failed ({}): {error}",
                args.join(" "),
                output.status
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn admin_address(status: &Value) -> Option<SocketAddr> {
    status["admin"].as_str()?.parse().ok()
}

fn loaded(status: &Value) -> Option<()> {
    (status["state"] == "running").then_some(())
}

/// Which kernel interface the probe cores use, by the status.
pub(crate) fn driver(status: &Value) -> String {
    status["driver"].as_str().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_loads_has_an_address_and_is_not_ready() {
        let status = |state: &str| serde_json::json!({ "admin": "127.0.0.1:9470", "state": state });
        let address = SocketAddr::from(([127, 0, 0, 1], 9470));
        assert_eq!(admin_address(&status("loading")), Some(address));
        assert_eq!(loaded(&status("loading")), None);
        assert_eq!(loaded(&status("running")), Some(()));
        assert_eq!(admin_address(&serde_json::json!({})), None);
    }

    #[test]
    fn the_driver_is_that_of_the_status() {
        assert_eq!(driver(&serde_json::json!({ "driver": "epoll" })), "epoll");
        assert_eq!(driver(&serde_json::json!({})), "unknown");
    }
}
