//! Starts a core on its own pinned thread and hands out the other ends of its channels.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use model::inbox::{CoreCommand, OneShotReport};
use model::limits::{EVIDENCE_QUEUE_MAX, HISTOGRAM_QUEUE_MAX, INBOX_MAX, OUTCOME_QUEUE_MAX};
use model::{CoreIndex, Evidence, Outcome};
use prober::resolver::{Resolver, ResolverConfig};
use prober::{Shared, SharedConfig};

use crate::clock::Clock;
use crate::core::{Channels, Core, CoreParts};
use crate::destinations::DestinationCaps;
use crate::histograms::CoreHistograms;
use crate::local_end::LocalEnd;
use crate::reactor::monoio::Reactor;
use crate::stats::CoreStats;

/// Which driver a core runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `io_uring`
    IoUring,
    /// `epoll`
    Epoll,
}

impl Driver {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What a core needs to start.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Index of the core in this process.
    pub index: CoreIndex,
    /// CPU to pin the thread to; `None` leaves it free.
    pub cpu: Option<usize>,
    /// Most attempts in flight.
    pub max_in_flight: u32,
    /// Caps per destination address: this core's share.
    pub destination_caps: DestinationCaps,
    /// Where connections of checks come from, and how they are closed.
    pub local_end: LocalEnd,
    /// Which driver.
    pub driver: Driver,
    /// The resolver's configuration.
    pub resolver: ResolverConfig,
    /// The prober's configuration.
    pub shared: SharedConfig,
    /// Length of a histogram interval, in ms.
    pub histogram_interval_ms: u64,
}

/// Why a core did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The thread could not be made.
    #[error("probe core {core} could not start its thread")]
    Thread {
        /// Which core.
        core: u16,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// The thread could not be pinned.
    #[error(
        "probe core {core} could not be pinned to CPU {cpu}; choose a CPU that this process may \
         use (see `taskset -p`)"
    )]
    Pin {
        /// Which core.
        core: u16,
        /// Which CPU.
        cpu: usize,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// The driver could not be had.
    #[error(
        "probe core {core}: the kernel refuses {} to this process (see `ringwatch doctor`)",
        driver.as_str()
    )]
    Driver {
        /// Which core.
        core: u16,
        /// Which driver.
        driver: Driver,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// The prober refused its configuration.
    #[error("probe core {core} cannot use the configuration of its checks")]
    Prober {
        /// Which core.
        core: u16,
        /// What is wrong.
        source: prober::ProberError,
    },
    /// The loop broke.
    #[error("probe core {core} stopped")]
    Loop {
        /// Which core.
        core: u16,
        /// What broke.
        source: io::Error,
    },
}

/// The control plane's and the sink's side of a running core.
#[derive(Debug)]
pub struct CoreHandle {
    /// Which core.
    pub index: CoreIndex,
    /// What it runs on.
    pub driver: Driver,
    /// Commands to it.
    pub inbox: Sender<CoreCommand>,
    /// Outcomes from it.
    pub outcomes: Receiver<Outcome>,
    /// Evidence from it.
    pub evidence: Receiver<Box<Evidence>>,
    /// Answers to one-shots.
    pub one_shots: Receiver<OneShotReport>,
    /// Finished histogram intervals.
    pub histograms: Receiver<Box<CoreHistograms>>,
    /// Its numbers.
    pub stats: Arc<CoreStats>,
    /// The thread; ends after a drain, or with what broke.
    pub thread: JoinHandle<Result<(), CoreError>>,
}

/// Starts a core.
///
/// # Errors
/// [`CoreError`] when the thread, its pinning, a driver or the prober's configuration is refused.
pub fn spawn(config: CoreConfig, clock: Clock) -> Result<CoreHandle, CoreError> {
    let (inbox_tx, inbox) = bounded(INBOX_MAX);
    let (outcomes, outcomes_rx) = bounded(OUTCOME_QUEUE_MAX);
    let (evidence, evidence_rx) = bounded(EVIDENCE_QUEUE_MAX);
    let (one_shots, one_shots_rx) = bounded(INBOX_MAX);
    let (histograms, histograms_rx) = bounded(HISTOGRAM_QUEUE_MAX);
    let channels = Channels {
        inbox,
        outcomes,
        evidence,
        one_shots,
        histograms,
    };
    let stats = Arc::new(CoreStats::default());
    let (ready_tx, ready) = bounded(1);
    let (index, driver) = (config.index, config.driver);
    let core_stats = Arc::clone(&stats);
    let thread = std::thread::Builder::new()
        .name(format!("core-{}", index.0))
        .spawn(move || -> Result<(), CoreError> {
            let (reactor, core) = match prepare(config, clock, channels, core_stats) {
                Ok(prepared) => prepared,
                Err(error) => {
                    // The starter waits for either; it cannot be gone.
                    let _ = ready_tx.send(Err(error));
                    return Ok(());
                }
            };
            let _ = ready_tx.send(Ok(()));
            reactor.run(core, clock).map_err(|source| CoreError::Loop {
                core: index.0,
                source,
            })
        })
        .map_err(|source| CoreError::Thread {
            core: index.0,
            source,
        })?;
    ready.recv().map_err(|_| CoreError::Thread {
        core: index.0,
        source: io::Error::other("the thread ended before it was ready"),
    })??;
    Ok(CoreHandle {
        index,
        driver,
        inbox: inbox_tx,
        outcomes: outcomes_rx,
        evidence: evidence_rx,
        one_shots: one_shots_rx,
        histograms: histograms_rx,
        stats,
        thread,
    })
}

/// On the core's own thread: pins it, makes runtime, prober and resolver.
fn prepare(
    config: CoreConfig,
    clock: Clock,
    channels: Channels,
    stats: Arc<CoreStats>,
) -> Result<(Reactor, Core), CoreError> {
    let core = config.index.0;
    if let Some(cpu) = config.cpu {
        pin(cpu).map_err(|source| CoreError::Pin { core, cpu, source })?;
    }
    let reactor = Reactor::new(config.driver).map_err(|source| CoreError::Driver {
        core,
        driver: config.driver,
        source,
    })?;
    let shared = Shared::new(config.shared).map_err(|source| CoreError::Prober { core, source })?;
    let parts = CoreParts {
        index: config.index,
        grid_zero: clock.grid_zero(),
        max_in_flight: config.max_in_flight,
        destination_caps: config.destination_caps,
        local_end: config.local_end,
        histogram_interval_ms: config.histogram_interval_ms,
        shared,
        resolver: Resolver::new(config.resolver),
        channels,
        stats,
    };
    Ok((reactor, Core::new(parts, clock.now())))
}

fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
