//! The plain client, a process of its own: each site by turns at its interval, a new connection
//! each time, one timeout around all of it, and down after as many failures in a row as the node
//! wants. It must not know who presses it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use model::limits::CONFIRM_AFTER;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;
use tokio::time::error::Elapsed;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::super::plan::{INTERVAL_S, TIMEOUT_MS};
use crate::baseline::child::pin;
use crate::baseline::hyper_probe::{check, connector};
use crate::baseline::pace::{Pace, TICK};
use crate::baseline::peers::{self, Peer};
use crate::clock::Stopwatch;

const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS as u64);
/// How long those that are under way at the end may take.
const DRAIN: Duration = Duration::from_secs(20);

/// Flags of the client; it is started by `ladder falsedown` only.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClientOptions {
    /// The farm's list of targets.
    #[arg(long)]
    targets: PathBuf,
    /// The farm's DNS.
    #[arg(long)]
    dns: SocketAddr,
    /// PEM of the farm's CA.
    #[arg(long)]
    ca_file: PathBuf,
    /// CPU to run on.
    #[arg(long)]
    cpu: usize,
    /// Seconds before the checks that count.
    #[arg(long)]
    calm_s: u64,
    /// Seconds of the checks that count.
    #[arg(long)]
    pressed_s: u64,
    /// Where what it found is written.
    #[arg(long)]
    out: PathBuf,
}

/// What it makes of the sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Checks that failed before those that count: there should be none.
    pub(crate) failed_before: u64,
    /// Checks that count, those without an end included.
    pub(crate) checks: u64,
    pub(crate) failed: u64,
    /// Of those that failed: by the timeout.
    pub(crate) timed_out: u64,
    /// Of those that failed: our own kernel had no file, address or port left for them.
    pub(crate) refused_here: u64,
    /// Checks that count and had no end long after the last one was started: there should be none.
    pub(crate) unfinished: u64,
    /// Sites with a failing check.
    pub(crate) sites_failed: u64,
    /// Sites with so many in a row that it calls them down.
    pub(crate) sites_down: u64,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Up,
    TimedOut,
    /// Our own kernel gave no connection.
    RefusedHere,
    /// Refused, cut, or answered with another status.
    Failed,
}

impl Ended {
    fn of(checked: Result<Result<()>, Elapsed>) -> Self {
        match checked {
            Ok(Ok(())) => Self::Up,
            Ok(Err(error)) if is_ours(&error) => Self::RefusedHere,
            Ok(Err(_)) => Self::Failed,
            Err(_) => Self::TimedOut,
        }
    }
}

/// Whether files, addresses or ports of this machine have run out.
fn is_ours(error: &anyhow::Error) -> bool {
    let own = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::ADDRNOTAVAIL,
        Errno::NOBUFS,
    ];
    let io = error.downcast_ref::<std::io::Error>();
    io.and_then(Errno::from_io_error)
        .is_some_and(|errno| own.contains(&errno))
}

/// One site.
struct Site {
    peer: Peer,
    is_https: bool,
}

/// Runs the client.
///
/// # Errors
/// When a name is not resolved, or a file cannot be read or written.
pub(crate) fn run_child(options: &ClientOptions) -> Result<()> {
    pin(options.cpu)?;
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        ..files
    };
    setrlimit(Resource::Nofile, all).context("no more files may be open")?;
    let list = std::fs::read_to_string(&options.targets)?;
    let peers = peers::resolve_all(&list, options.dns)?;
    let rows = list.lines().skip(1).filter(|row| !row.is_empty());
    let sites = rows.zip(peers).map(|(row, peer)| Site {
        peer,
        is_https: row.starts_with("https:"),
    });
    let sites: Rc<[Site]> = sites.collect();
    let tls = connector(&options.ca_file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("ready");
    let told = LocalSet::new().block_on(&runtime, measure(options, sites, tls));
    let written = options.out.with_extension("part");
    std::fs::write(&written, serde_json::to_string(&told)?)
        .and_then(|()| std::fs::rename(&written, &options.out))
        .with_context(|| format!("cannot write {}", options.out.display()))
}

async fn measure(options: &ClientOptions, sites: Rc<[Site]>, tls: TlsConnector) -> Told {
    let calm = Duration::from_secs(options.calm_s);
    let end = calm + Duration::from_secs(options.pressed_s);
    let ledger = Rc::new(RefCell::new(Ledger::of(sites.len())));
    let mut pace = Pace::new((sites.len() as u32).div_ceil(INTERVAL_S));
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let watch = Stopwatch::start();
    while watch.elapsed() < end {
        tick.tick().await;
        let elapsed = watch.elapsed();
        for number in pace.due(elapsed) {
            let (sites, ledger) = (Rc::clone(&sites), Rc::clone(&ledger));
            let (tls, counts) = (tls.clone(), elapsed >= calm);
            ledger.borrow_mut().begin(counts);
            tokio::task::spawn_local(async move {
                let at = number as usize % sites.len();
                let tls = sites[at].is_https.then_some(tls);
                let checked = timeout(TIMEOUT, check(&sites[at].peer, tls)).await;
                let ended = Ended::of(checked);
                ledger.borrow_mut().end(at, ended, counts);
            });
        }
    }
    // The last ones end by their timeout, as soon as there is CPU for it.
    while ledger.borrow().told.unfinished > 0 && watch.elapsed() < end + DRAIN {
        tick.tick().await;
    }
    ledger.borrow().told()
}

/// What was found of each site.
struct Ledger {
    /// By site: failures in a row, and the most of them.
    sites: Vec<(u32, u32)>,
    told: Told,
}

impl Ledger {
    fn of(sites: usize) -> Self {
        Self {
            sites: vec![(0, 0); sites],
            told: Told::default(),
        }
    }

    fn begin(&mut self, counts: bool) {
        self.told.checks += u64::from(counts);
        self.told.unfinished += u64::from(counts);
    }

    fn end(&mut self, site: usize, ended: Ended, counts: bool) {
        let failed = ended != Ended::Up;
        if !counts {
            self.told.failed_before += u64::from(failed);
            return;
        }
        self.told.unfinished -= 1;
        self.told.failed += u64::from(failed);
        self.told.timed_out += u64::from(ended == Ended::TimedOut);
        self.told.refused_here += u64::from(ended == Ended::RefusedHere);
        let (row, most) = &mut self.sites[site];
        *row = if failed { *row + 1 } else { 0 };
        *most = (*most).max(*row);
    }

    fn told(&self) -> Told {
        let with = |least: u32| self.sites.iter().filter(|(_, most)| *most >= least).count() as u64;
        Told {
            sites_failed: with(1),
            sites_down: with(CONFIRM_AFTER),
            ..self.told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_without_a_file_or_a_port_is_told_from_one_that_a_site_refused() {
        let of = |errno: Errno| {
            let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
            Ended::of(Ok(Err(anyhow::Error::from(error))))
        };
        assert_eq!(of(Errno::MFILE), Ended::RefusedHere);
        assert_eq!(of(Errno::ADDRNOTAVAIL), Ended::RefusedHere);
        assert_eq!(of(Errno::CONNREFUSED), Ended::Failed);
        let status = anyhow::anyhow!("answered 503");
        assert_eq!(Ended::of(Ok(Err(status))), Ended::Failed);
    }

    #[test]
    fn a_site_is_called_down_after_failures_in_a_row_and_calm_counts_apart() {
        let mut ledger = Ledger::of(3);
        let mut check = |site, ended, counts| {
            ledger.begin(counts);
            ledger.end(site, ended, counts);
        };
        check(0, Ended::TimedOut, false);
        let ends = [
            Ended::Failed,
            Ended::TimedOut,
            Ended::Up,
            Ended::RefusedHere,
        ];
        for ended in ends {
            check(0, ended, true);
        }
        for ended in [Ended::TimedOut, Ended::Failed, Ended::TimedOut, Ended::Up] {
            check(1, ended, true);
        }
        check(2, Ended::Up, true);
        ledger.begin(true);
        let expected = Told {
            failed_before: 1,
            checks: 10,
            failed: 6,
            timed_out: 3,
            refused_here: 1,
            unfinished: 1,
            sites_failed: 2,
            sites_down: 1,
        };
        assert_eq!(CONFIRM_AFTER, 3);
        assert_eq!(ledger.told(), expected);
    }
}
