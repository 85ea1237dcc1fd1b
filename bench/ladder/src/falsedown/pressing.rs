//! Brings our own troubles about and takes them away again. Ends only what it started, and touches
//! routes only in a network of the run's own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::plan::{GONE, OVERLOAD, Trouble};
use crate::burners::Burners;
use crate::farm::Farm;
use crate::mariadb::MariaDb;
use crate::node::Node;

/// What can be pressed, and what presses now.
pub(super) struct Press<'a> {
    pub(super) farm: &'a Farm,
    pub(super) server: &'a mut MariaDb,
    /// The CPU of the probe core.
    pub(super) cpu: usize,
    /// Part of that CPU that the node needs.
    pub(super) needed: f64,
    /// Targets that the resolver is asked for the first time while it is dead.
    pub(super) late: &'a Path,
    /// For the logs of what burns CPU.
    pub(super) folder: &'a Path,
    pub(super) burners: Burners,
}

impl Press<'_> {
    /// Begins a trouble.
    pub(super) async fn begin(&mut self, trouble: Trouble, node: &Node) -> Result<()> {
        match trouble {
            Trouble::Overload => {
                self.burners = Burners::start(self.cpu, self.needed, OVERLOAD, self.folder)?;
                Ok(())
            }
            Trouble::Stopped => node.signal(Signal::STOP),
            Trouble::Resolver => {
                self.farm.silence_dns(true).await?;
                let late = self
                    .late
                    .to_str()
                    .context("a folder whose name is no text")?;
                node.plan().targets(&["import", late])
            }
            Trouble::Route => routes("add"),
            Trouble::Store => self.server.freeze(),
        }
    }

    /// Ends it.
    pub(super) async fn relieve(&mut self, trouble: Trouble, node: &Node) -> Result<()> {
        match trouble {
            Trouble::Overload => self.burners.stop().await,
            Trouble::Stopped => node.signal(Signal::CONT),
            Trouble::Resolver => self.farm.silence_dns(false).await,
            Trouble::Route => routes("del"),
            Trouble::Store => self.server.thaw(),
        }
    }
}

/// Makes the run's own network usable: a new one has its loopback down.
///
/// # Errors
/// When the network is that of the machine, or may not be changed.
pub(super) fn own_network() -> Result<()> {
    let links = std::fs::read_to_string("/proc/net/dev").context("cannot read /proc/net/dev")?;
    // Two lines of head, and loopback alone.
    if links.lines().count() != 3 {
        bail!("--own-network, but there are other interfaces than loopback here");
    }
    ip(&["link", "set", "lo", "up"])
}

/// Adds or deletes the routes that say that a third of the fleet cannot be reached.
fn routes(verb: &str) -> Result<()> {
    for prefix in GONE {
        ip(&["route", verb, "unreachable", prefix, "table", "local"])?;
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<()> {
    let shown = args.join(" ");
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`ip {shown}` could not be started: is iproute2 installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {shown}` failed: {}", said.trim());
    }
    Ok(())
}
