//! The parts of a node and their start: store, cores, sink, view. The only place that knows how
//! they are wired.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use cores::{Clock, CoreConfig, CoreError, CoreHandle, CoreHistograms, DestinationCaps, Driver};
use crossbeam_channel::{Receiver, Sender};
use model::inbox::{CoreCommand, OneShotReport};
use model::limits::{DNS_SICK_NAMES_MIN, DNS_SOCKETS_PER_UPSTREAM};
use model::{CoreIndex, Slot};
use persist::{CoreLink, PersistError, Questions, SinkCommand, SinkConfig};
use prober::SharedConfig;
use prober::resolver::{IpPolicy, ResolverConfig};
use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};
use store::{JournalId, Store, StoreUrl};
use tokio::net::TcpListener;

use super::checked::Checked;
use super::lease;
use super::plan::{Cpus, FilesPlan, raise_nofile};
use super::sources;
use super::view::{CoreSeen, Facts, View};
use crate::config::{Config, DriverWord, IpWord, absolute_store, upstreams};
use crate::report::log::IntervalLogs;

/// One running probe core, without the ends that the sink holds.
pub(super) struct RunningCore {
    pub(super) index: CoreIndex,
    pub(super) inbox: Sender<CoreCommand>,
    pub(super) one_shots: Receiver<OneShotReport>,
    pub(super) histograms: Receiver<Box<CoreHistograms>>,
    pub(super) thread: Option<JoinHandle<Result<(), CoreError>>>,
}

/// The running sink.
pub(super) struct RunningSink {
    pub(super) commands: Sender<SinkCommand>,
    pub(super) released: Receiver<(CoreIndex, Slot)>,
    /// What the verifiers are to be asked, until somebody takes it.
    pub(super) questions: Option<Questions>,
    pub(super) journal: JournalId,
    pub(super) thread: Option<JoinHandle<Result<(), PersistError>>>,
}

/// A started node.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) cpus: Cpus,
    pub(super) cores: Vec<RunningCore>,
    pub(super) sink: RunningSink,
    pub(super) logs: IntervalLogs,
    pub(super) view: Arc<View>,
}

/// What is left to take down, and how long it may take.
pub(super) struct Stopping {
    pub(super) parts: Parts,
    pub(super) drain_s: u32,
}

impl Parts {
    /// Starts everything but the feeding.
    pub(super) fn start(
        config: &Config,
        checked: Checked,
        listener: &TcpListener,
        store: Store,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let upstreams = upstreams::find(&config.dns)?;
        let Checked { cpus, prober } = checked;
        let files = FilesPlan::adopt(config, cpus.probe.len(), upstreams.len())?;
        cpus.adopt_control()?;
        let logs = IntervalLogs::open(&config.data_dir, cpus.probe.len()).with_context(|| {
            format!(
                "the interval logs in {} cannot be written",
                config.data_dir.display()
            )
        })?;
        let started = spawn_cores(config, &prober, clock, &cpus, files, &upstreams)?;
        let handles = started.handles;
        let node_id = node_id(config);
        let sink_config = sink_config(config, Some(cpus.sink))?;
        let links = handles.iter().map(link).collect();
        let now = Arc::new(move || clock.now());
        let sink = persist::spawn(sink_config, now, links, store.clone())?;
        let facts = Facts {
            pid: std::process::id(),
            started: clock.now().unix,
            data_dir: std::path::absolute(&config.data_dir)?,
            store: absolute_store(&config.store),
            node_id,
            boot_id: boot_id(),
            admin: listener.local_addr()?.to_string(),
            driver: started.driver,
            driver_note: started.note,
            max_in_flight: files.max_in_flight,
            nofile: raise_nofile(),
        };
        let seen = handles
            .iter()
            .zip(&cpus.probe)
            .map(|(core, &cpu)| CoreSeen {
                index: core.index,
                cpu,
                stats: Arc::clone(&core.stats),
            })
            .collect();
        let view = Arc::new(View::new(clock, facts, seen, Arc::clone(&sink.stats)));
        let sink = RunningSink {
            commands: sink.commands,
            released: sink.released,
            questions: Some(sink.questions),
            journal: sink.journal,
            thread: Some(sink.thread),
        };
        let cores = handles.into_iter().map(running).collect();
        Ok(Self {
            store,
            cpus,
            cores,
            sink,
            logs,
            view,
        })
    }
}

/// The settings of a sink on `cpu`.
pub(crate) fn sink_config(config: &Config, cpu: Option<usize>) -> anyhow::Result<SinkConfig> {
    let data_dir = std::path::absolute(&config.data_dir)?;
    Ok(SinkConfig {
        cpu,
        confirm_after: config.confirm_after,
        vantages: config.verifiers.vantages(),
        projection_interval_ms: u64::from(config.projection_interval_s) * 1_000,
        journal_max_bytes: u64::from(config.journal_max_mib) << 20,
        node: node_id(config),
        holder: format!("{}:{}", lease::host_name(), data_dir.display()),
        lease_ms: u64::from(config.lease_s) * 1_000,
        // Its file is locked, see `control::store_lock`.
        alone: matches!(config.store, StoreUrl::Sqlite(_)),
        history: config.history,
        data_dir: config.data_dir.clone(),
    })
}

/// The boot of the machine that this process belongs to, as the kernel names it; empty where it
/// does not.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// The name of the node in its store.
fn node_id(config: &Config) -> String {
    config.node_id.clone().unwrap_or_else(lease::host_name)
}

fn link(core: &CoreHandle) -> CoreLink {
    CoreLink {
        core: core.index,
        outcomes: core.outcomes.clone(),
        evidence: core.evidence.clone(),
        inbox: core.inbox.clone(),
    }
}

fn running(core: CoreHandle) -> RunningCore {
    RunningCore {
        index: core.index,
        inbox: core.inbox,
        one_shots: core.one_shots,
        histograms: core.histograms,
        thread: Some(core.thread),
    }
}

/// Cores on one driver, and why that one.
pub(crate) struct StartedCores {
    pub(crate) handles: Vec<CoreHandle>,
    driver: Driver,
    /// Why not the better one.
    pub(crate) note: Option<String>,
}

/// The first core shows which driver can be had; all others follow it.
pub(crate) fn spawn_cores(
    config: &Config,
    prober: &SharedConfig,
    clock: Clock,
    cpus: &Cpus,
    files: FilesPlan,
    upstreams: &[SocketAddr],
) -> anyhow::Result<StartedCores> {
    let caps = DestinationCaps::share(cpus.probe.len(), config.uncapped.clone());
    let cores = cpus.probe.len();
    let local_end = sources::local_end(config, cores, files.kept);
    let resolvers = cpus
        .probe
        .iter()
        .map(|_| resolver(config, upstreams, cores));
    let resolvers: Vec<ResolverConfig> = resolvers.collect::<anyhow::Result<_>>()?;
    let spawn = |index: usize, driver: Driver| {
        let config = CoreConfig {
            index: CoreIndex(index as u16),
            cpu: Some(cpus.probe[index]),
            max_in_flight: files.max_in_flight,
            destination_caps: caps.clone(),
            local_end: local_end.clone(),
            driver,
            resolver: resolvers[index].clone(),
            shared: prober.clone(),
            histogram_interval_ms: u64::from(config.histogram_interval_s) * 1_000,
        };
        cores::spawn(config, clock)
    };
    let (first, note) = spawn_first(config.driver, |driver| spawn(0, driver))?;
    let driver = first.driver;
    let mut handles = vec![first];
    for index in 1..cpus.probe.len() {
        handles.push(spawn(index, driver)?);
    }
    Ok(StartedCores {
        handles,
        driver,
        note,
    })
}

/// Starts a core on the wanted driver; where `io_uring` is refused `auto` goes on with epoll and
/// says why.
pub(crate) fn spawn_first(
    wanted: DriverWord,
    mut spawn: impl FnMut(Driver) -> Result<CoreHandle, CoreError>,
) -> anyhow::Result<(CoreHandle, Option<String>)> {
    let choice = match wanted {
        DriverWord::Epoll => Driver::Epoll,
        DriverWord::Auto | DriverWord::IoUring => Driver::IoUring,
    };
    match spawn(choice) {
        Ok(core) => Ok((core, None)),
        Err(CoreError::Driver { source, .. }) if wanted == DriverWord::Auto => {
            let note = format!(
                "io_uring is refused here ({source}): probing on epoll instead, which costs about \
                 a fifth more CPU per check; see `ringwatch doctor`"
            );
            Ok((spawn(Driver::Epoll)?, Some(note)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The settings of the resolver of one of `cores` cores.
pub(crate) fn resolver(
    config: &Config,
    upstreams: &[SocketAddr],
    cores: usize,
) -> anyhow::Result<ResolverConfig> {
    let policy = match config.ip {
        IpWord::V4First => IpPolicy::V4First,
        IpWord::V6First => IpPolicy::V6First,
        IpWord::V4Only => IpPolicy::V4Only,
        IpWord::V6Only => IpPolicy::V6Only,
        IpWord::Both => IpPolicy::Both,
    };
    Ok(ResolverConfig {
        upstreams: upstreams.to_vec(),
        policy,
        seed: seed()?,
        sockets_per_upstream: DNS_SOCKETS_PER_UPSTREAM,
        queries_per_s: config.dns_queries_per_s.div_ceil(cores.max(1) as u32),
        canaries: config.dns_canaries.clone(),
        sick_names_min: DNS_SICK_NAMES_MIN.div_ceil(cores.max(1)),
    })
}

/// Unpredictable to others: query ids and sockets hang on it, and who guesses them can forge an
/// answer (RFC 5452, section 4). So there is no second-best source.
fn seed() -> anyhow::Result<[u8; 32]> {
    let mut random = [0; 32];
    // So few bytes come all at once; a signal interrupts only the wait for the kernel's first
    // entropy (getrandom(2)).
    match retry_on_intr(|| getrandom(&mut random, GetRandomFlags::empty())) {
        Ok(_) => Ok(random),
        Err(refused) => bail!(
            "the kernel refuses random numbers to this process ({refused}), and DNS answers could \
             be forged without them: allow it the system call getrandom"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that refuses rings.
    fn refusing(driver: Driver) -> Result<CoreHandle, CoreError> {
        if driver != Driver::Epoll {
            let source = std::io::Error::from_raw_os_error(1);
            return Err(CoreError::Driver {
                core: 0,
                driver,
                source,
            });
        }
        let clock = Clock::start();
        let config = CoreConfig {
            index: CoreIndex(0),
            cpu: None,
            max_in_flight: 1,
            destination_caps: DestinationCaps::share(1, Vec::new()),
            local_end: cores::LocalEnd::default(),
            driver,
            resolver: ResolverConfig::default(),
            shared: SharedConfig::default(),
            histogram_interval_ms: 1_000,
        };
        cores::spawn(config, clock)
    }

    #[test]
    fn what_a_resolver_is_told_for_the_node_is_shared_by_the_cores() {
        let layers = crate::config::Layers::read(None, std::iter::empty(), Vec::new());
        let config = Config::resolve(&layers.expect("no file")).expect("valid");
        for (cores, queries_per_s, sick_names_min) in [(1, 20_000, 200), (3, 6_667, 67)] {
            let told = resolver(&config, &[], cores).expect("randomness");
            let shares = (told.queries_per_s, told.sick_names_min);
            assert_eq!(shares, (queries_per_s, sick_names_min));
        }
    }

    #[test]
    fn where_io_uring_is_refused_epoll_is_used_and_the_reason_kept() {
        let (core, note) = spawn_first(DriverWord::Auto, refusing).expect("epoll works");
        assert_eq!(core.driver, Driver::Epoll);
        assert!(note.is_some_and(|note| note.contains("Operation not permitted")));
        core.inbox
            .send(CoreCommand::Drain { within_ms: 0 })
            .expect("the core lives");
        core.thread.join().expect("no panic").expect("no error");
        let refused = spawn_first(DriverWord::IoUring, refusing).expect_err("no ring");
        assert!(refused.to_string().contains("io_uring"), "{refused}");
    }
}
