//! The single looks of the doctor. Each reads, none changes anything that outlives the process.

use std::fs;
use std::time::Duration;

use cores::{Clock, CoreConfig, CoreError, DestinationCaps, Driver, LocalEnd};
use model::CoreIndex;
use model::inbox::CoreCommand;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use store::{NoChanges, OpenOptions, Reader, Store, StoreError, StoreUrl};
use tokio::task::JoinSet;

use super::{Finding, canaries, dns, ports};
use crate::config::verifiers::Verifier;
use crate::config::{Config, DriverWord, Layers, upstreams};
use crate::control::Request;
use crate::control::client::Client;
use crate::control::lock::{self, Seen};
use crate::run::plan::{Cpus, FilesPlan, raise_nofile};
use crate::run::{parts, unread};
use crate::verifier::client;

/// Kernel from which io_uring has everything that the cores use.
const KERNEL_MIN: (u32, u32) = (5, 6);
/// A node that runs here has so long to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Every finding, in the order of a start.
pub(super) async fn all(config: &Config, layers: &Layers) -> Vec<Finding> {
    let mut findings = vec![kernel(), cpus(config), io_uring(config, layers)];
    findings.extend([files(config), memlock(), ports::ports()]);
    findings.extend(ports::sources(config));
    findings.push(clock());
    findings.extend(dns::resolvers(config));
    findings.extend(canaries::canaries(config, layers));
    findings.push(data_dir(config));
    findings.extend(store(config).await);
    findings.extend(verifiers(config).await);
    findings
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_MIN {
        return Finding::ok("kernel", format!("Linux {release}"));
    }
    let advice = "io_uring needs Linux 5.6 or newer: probing will use epoll";
    Finding::warn("kernel", format!("Linux {release}"), advice)
}

fn cpus(config: &Config) -> Finding {
    let assigned = Cpus::allowed().and_then(|all| Cpus::assign(all, &config.probe_cores));
    match assigned {
        Ok(cpus) if cpus.probe.contains(&cpus.sink) => Finding::warn(
            "cpus",
            format!(
                "probe cores on {:?}, which sink and control plane share",
                cpus.probe
            ),
            "give this process at least two CPUs, or leave one out of probe_cores",
        ),
        Ok(cpus) => Finding::ok(
            "cpus",
            format!(
                "probe cores on {:?}, sink and control plane on {:?}",
                cpus.probe, cpus.control
            ),
        ),
        Err(error) => Finding::fail("cpus", format!("{error:#}"), "change probe_cores"),
    }
}

/// Starts a probe core as `run` does and sees which driver it gets.
fn io_uring(config: &Config, layers: &Layers) -> Finding {
    let shared = match config.prober(layers) {
        Ok(shared) => shared,
        Err(error) => {
            let fix = "a node does not start before";
            return Finding::fail("config", format!("{error:#}"), fix);
        }
    };
    let resolver = match parts::resolver(config, &[], 1) {
        Ok(resolver) => resolver,
        Err(error) => {
            let fix = "allow getrandom in the seccomp profile of the container";
            return Finding::fail("random", format!("{error:#}"), fix);
        }
    };
    let clock = Clock::start();
    let make = |driver: Driver| CoreConfig {
        index: CoreIndex(0),
        cpu: None,
        max_in_flight: 1,
        destination_caps: DestinationCaps::share(1, Vec::new()),
        local_end: LocalEnd::default(),
        driver,
        resolver: resolver.clone(),
        shared: shared.clone(),
        histogram_interval_ms: 10_000,
    };
    let spawn = |driver: Driver| -> Result<_, CoreError> { cores::spawn(make(driver), clock) };
    match parts::spawn_first(config.driver, spawn) {
        Ok((core, note)) => {
            let driver = core.driver;
            // Either way the core has nothing to finish.
            let _ = core.inbox.send(CoreCommand::Drain { within_ms: 0 });
            let _ = core.thread.join();
            judge_driver(config.driver, driver, note)
        }
        Err(error) => Finding::fail(
            "driver",
            format!("{error:#}"),
            "set driver to auto or epoll",
        ),
    }
}

fn judge_driver(wanted: DriverWord, driver: Driver, note: Option<String>) -> Finding {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match (note, driver) {
        (Some(note), _) if disabled.trim() != "0" && !disabled.is_empty() => {
            Finding::warn("driver", note, "set sysctl kernel.io_uring_disabled=0")
        }
        (Some(note), _) => Finding::warn(
            "driver",
            note,
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile of \
             the container (Docker's default profile refuses them)",
        ),
        (None, driver) if wanted == DriverWord::Epoll => {
            Finding::ok("driver", format!("{}, as configured", driver.as_str()))
        }
        (None, driver) => Finding::ok("driver", driver.as_str()),
    }
}

fn files(config: &Config) -> Finding {
    let limit = raise_nofile();
    let cores = Cpus::allowed()
        .and_then(|all| Cpus::assign(all, &config.probe_cores))
        .map_or(1, |cpus| cpus.probe.len());
    let upstreams = upstreams::find(&config.dns).map_or(1, |found| found.len());
    let wanted = (config.max_in_flight, config.ip, config.reuse);
    match FilesPlan::make(limit, cores, upstreams, wanted) {
        Ok(plan)
            if config.max_in_flight == 0
                && plan.max_in_flight < model::limits::IN_FLIGHT_DEFAULT_MAX =>
        {
            let found = format!(
                "nofile {limit}: {} checks in flight per core on {cores} core(s)",
                plan.max_in_flight
            );
            Finding::warn(
                "files",
                found,
                "raise LimitNOFILE (or ulimit -n) to 1048576",
            )
        }
        Ok(plan) => Finding::ok(
            "files",
            format!(
                "nofile {limit}: {} checks in flight per core",
                plan.max_in_flight
            ),
        ),
        Err(error) => Finding::fail("files", format!("{error:#}"), "raise LimitNOFILE"),
    }
}

fn memlock() -> Finding {
    let least = 8 * 1024 * 1024;
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < least => Finding::warn(
            "memlock",
            format!("{} KiB", limit / 1024),
            "older kernels count rings against it: raise LimitMEMLOCK (or ulimit -l) to 8 MiB",
        ),
        Some(limit) => Finding::ok("memlock", format!("{} KiB", limit / 1024)),
        None => Finding::ok("memlock", "unlimited"),
    }
}

/// A wall clock that was never set cannot judge certificates, nor number facts, whose ids count
/// from 2025.
fn clock() -> Finding {
    let now = Clock::start().now().unix;
    let at = jiff::Timestamp::from_millisecond(now.0 as i64).unwrap_or_default();
    if now.0 < model::limits::FACT_EPOCH_UNIX_MS {
        let advice = "set the clock (systemctl enable --now systemd-timesyncd, or chrony)";
        return Finding::fail("clock", format!("{at} is in the past"), advice);
    }
    Finding::ok("clock", at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn data_dir(config: &Config) -> Finding {
    let shown = config.data_dir.display();
    match lock::look(&config.data_dir) {
        Ok(Seen::Free) => Finding::ok("data_dir", format!("{shown} is writable and free")),
        Ok(Seen::Held(pid)) => Finding::warn(
            "data_dir",
            lock::in_use(&config.data_dir, pid),
            "nothing, if that is the node you mean",
        ),
        Ok(Seen::Unwritable) => Finding::fail(
            "data_dir",
            format!("{shown} cannot be written by this user"),
            "change its rights, or data_dir",
        ),
        Err(error) => Finding::fail(
            "data_dir",
            format!("{shown} cannot be looked at ({error})"),
            "change its rights, or data_dir",
        ),
    }
}

/// The store, and whether what it holds can be checked from here.
async fn store(config: &Config) -> Vec<Finding> {
    if let StoreUrl::Sqlite(path) = &config.store
        && path.exists()
        && access(path, Access::WRITE_OK).is_err()
    {
        let found = format!("{} cannot be written by this user", config.store);
        return vec![Finding::fail(
            "store",
            found,
            "change its rights, or name another store",
        )];
    }
    match Store::open_with(&config.store, config.opening(OpenOptions::look())).await {
        Ok(store) => {
            let mut findings = vec![
                holdings(&store, config).await,
                ports::plan(&store, config).await,
            ];
            findings.extend(rights(&store).await);
            findings.extend(changes(&store, config).await);
            if config.legacy.load {
                findings.extend(without_effect(&store).await);
            }
            // Nothing was written, so closing has nothing to lose.
            let _ = store.close().await;
            findings
        }
        Err(error) => vec![unopened(&error, config)],
    }
}

/// A node that cannot write checks all the same, and keeps what it finds until its journal is full.
async fn rights(store: &Store) -> Option<Finding> {
    let error = store.require_rights().await.err()?;
    Some(Finding::fail(
        "store",
        format!("a node cannot write: {error}"),
        "see to it before one is started",
    ))
}

async fn holdings(store: &Store, config: &Config) -> Finding {
    held(store.active_targets().await, config)
}

fn held(active: Result<u64, StoreError>, config: &Config) -> Finding {
    match active {
        Ok(active) => {
            let found = format!("{}: {active} active targets", config.store);
            Finding::ok("store", found)
        }
        // A node reads them page by page.
        Err(error @ StoreError::TimedOut { .. }) => Finding::warn(
            "store",
            format!("its active targets were not counted: {error}"),
            "see what else the server does (SHOW PROCESSLIST); a node needs no count",
        ),
        Err(error) => Finding::fail("store", error.to_string(), REPAIR),
    }
}

const REPAIR: &str = "repair it or name another store";

/// Whether each verifier answers, as the one that it is configured as. Without them a node runs,
/// and failing targets stay unconfirmed.
async fn verifiers(config: &Config) -> Vec<Finding> {
    let mut looking = JoinSet::new();
    for (place, verifier) in config.verifiers.0.iter().cloned().enumerate() {
        looking.spawn(async move {
            let found = client::look(&verifier).await;
            (place, verifier, found)
        });
    }
    let mut looked = looking.join_all().await;
    looked.sort_by_key(|(place, ..)| *place);
    let finding = |(_, verifier, found): (usize, Verifier, Result<String, String>)| {
        let who = format!("{} at {}", verifier.vantage, verifier.url);
        match (found, verifier.in_clear()) {
            (Ok(found), None) => Finding::ok("verifier", format!("{who}: {found}")),
            (Ok(found), Some(words)) => Finding::warn("verifier", format!("{who}: {found}"), words),
            (Err(found), _) => Finding::warn(
                "verifier",
                format!("{who}: {found}"),
                "until it answers it has no vote: start it, or change verifiers",
            ),
        }
    };
    looked.into_iter().map(finding).collect()
}

/// How changes of legacy rows are seen: as the server tells them, or by reading the table.
async fn changes(store: &Store, config: &Config) -> Option<Finding> {
    let sweep = "changes of the legacy table are seen by reading it again";
    match store.legacy_changes(Reader::Passing, None).await {
        Ok(changes) => {
            let place = changes.start().to_string();
            changes.close().await;
            let found = format!("stream: the server tells them at once (its log is at {place})");
            Some(match lag_here(config) {
                None => Finding::ok("changes", found),
                Some((lag_s, false)) => Finding::ok(
                    "changes",
                    format!("{found}; the node here is {lag_s} s behind"),
                ),
                Some((lag_s, true)) => Finding::warn(
                    "changes",
                    format!("{found}; the node here is {lag_s} s behind"),
                    "until it has read the log they are seen by reading the table again: see \
                     whether the server logs more than this machine can read",
                ),
            })
        }
        Err(StoreError::NoChanges {
            why: NoChanges::OwnTargets,
            ..
        }) => None,
        Err(StoreError::NoChanges { why, .. }) => {
            Some(Finding::warn("changes", format!("sweep: {why}"), sweep))
        }
        Err(error) => Some(Finding::warn("changes", format!("sweep: {error}"), sweep)),
    }
}

/// Settings of legacy rows that no node follows.
async fn without_effect(store: &Store) -> Option<Finding> {
    match store.legacy_unread().await {
        Ok(0) => None,
        Ok(rows) => Some(Finding::warn(
            "settings",
            unread::sentence(rows),
            unread::ADVICE,
        )),
        Err(error) => Some(Finding::warn("settings", error.to_string(), REPAIR)),
    }
}

/// How late the node that runs here is told of changes, in s, and whether it relies on that.
fn lag_here(config: &Config) -> Option<(u64, bool)> {
    let mut node = Client::connect(&config.data_dir)?;
    let status = node.ask(&Request::Status, Some(ANSWER)).ok()?;
    let stream = &status["legacy"]["stream"];
    Some((stream["lag_s"].as_u64()?, stream["late"] == true))
}

fn unopened(error: &StoreError, config: &Config) -> Finding {
    match error {
        StoreError::NotFound { .. } => {
            Finding::ok("store", format!("{} will be created", config.store))
        }
        StoreError::OlderSchema { found, known, .. } => Finding::ok(
            "store",
            format!(
                "{} will be brought from schema version {found} to {known}",
                config.store
            ),
        ),
        StoreError::NotMigrated { .. } => Finding::fail(
            "store",
            error.to_string(),
            "run `ringwatch migrate` once, then start the node",
        ),
        error => Finding::fail("store", error.to_string(), REPAIR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: seven tables were counted for the one number that is shown, and whose server was
    /// slow at that read `FAIL`, "see above", with nothing above it.
    #[test]
    fn a_count_that_takes_too_long_is_a_warning_and_each_failure_says_what_to_do() {
        let layers = Layers::read(None, std::iter::empty(), Vec::new()).expect("no file");
        let config = Config::resolve(&layers).expect("valid");
        let slow = StoreError::TimedOut {
            store: "s".to_owned(),
            doing: "a query",
            limit_ms: 30_000,
        };
        let finding = held(Err(slow), &config);
        assert_eq!(finding.grade, super::super::Grade::Warn);
        assert!(finding.advice.contains("PROCESSLIST"), "{finding:?}");
        let gone = StoreError::TableGone {
            store: "s".to_owned(),
            detail: "Table 'x' doesn't exist".to_owned(),
        };
        let finding = held(Err(gone), &config);
        assert_eq!(finding.grade, super::super::Grade::Fail);
        assert!(finding.found.contains("from a backup"), "{finding:?}");
        assert_eq!(finding.advice, REPAIR);
        let found = held(Ok(7), &config).found;
        assert!(found.ends_with(": 7 active targets"), "{found}");
    }

    #[test]
    fn a_refused_ring_is_a_warning_with_advice() {
        let finding = judge_driver(
            DriverWord::Auto,
            Driver::Epoll,
            Some("io_uring is refused".into()),
        );
        assert_eq!(finding.grade, super::super::Grade::Warn);
        assert!(!finding.advice.is_empty());
        let chosen = judge_driver(DriverWord::Epoll, Driver::Epoll, None);
        assert_eq!(chosen.found, "epoll, as configured");
    }
}
