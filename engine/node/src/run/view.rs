//! What anyone may look at while the node runs: facts, snapshots, histograms. Readers never slow
//! a probe core; nothing here changes the node.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cores::{Clock, CoreHistograms, CoreSnapshot, CoreStats, Driver};
use hdrhistogram::Histogram;
use model::limits::TICK_MS;
use model::{CoreIndex, UnixMs};
use persist::{FreshnessAges, Health, SinkCounters, SinkSnapshot, SinkStats};

use super::accounts::{Accounts, have_arrived};
use super::audit::Audit;
use super::drift::DriftStats;
use super::legacy::stats::LegacyStats;
use super::lifetime::Lifetime;
use super::refusals::Refusals;
use super::retention::RetentionStats;
use crate::verifier::client::stats::VerifierStats;

/// A second's worth of ticks.
const SETTLE_TICKS_MAX: u64 = 1_000 / TICK_MS;

/// Waits until `done`, for a second at most; says whether it was.
async fn settled(done: impl Fn() -> bool) -> bool {
    for _ in 0..SETTLE_TICKS_MAX {
        if done() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
    }
    done()
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Targets are being loaded; those that are loaded are probed.
    Loading,
    /// All targets are loaded.
    Running,
    /// Nothing is dispatched, by request.
    Paused,
    /// On the way out.
    Draining,
    /// Nothing is dispatched: another node took over.
    Fenced,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::Loading,
        Self::Running,
        Self::Paused,
        Self::Draining,
        Self::Fenced,
    ];

    /// The word in `status` and logs.
    pub(crate) fn as_str(self) -> &'static str {
        ["loading", "running", "paused", "draining", "fenced"][self as usize]
    }
}

/// What never changes while the node runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// This process.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started: UnixMs,
    /// Lock, socket, journal, histograms.
    pub(crate) data_dir: PathBuf,
    /// The store, secrets masked.
    pub(crate) store: String,
    /// The name of the node there.
    pub(crate) node_id: String,
    /// The boot of the machine.
    pub(crate) boot_id: String,
    /// Bound address of the admin listener.
    pub(crate) admin: String,
    /// What the cores run on.
    pub(crate) driver: Driver,
    /// Why not `io_uring`, when it was refused.
    pub(crate) driver_note: Option<String>,
    /// Attempts in flight per core at most.
    pub(crate) max_in_flight: u32,
    /// Open files allowed.
    pub(crate) nofile: u64,
}

/// One core, as seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct CoreSeen {
    /// Which.
    pub(crate) index: CoreIndex,
    /// Its CPU.
    pub(crate) cpu: usize,
    /// Its published numbers.
    pub(crate) stats: Arc<CoreStats>,
}

/// Everything to look at.
#[derive(Debug)]
pub(crate) struct View {
    /// Both clocks.
    pub(crate) clock: Clock,
    /// Facts.
    pub(crate) facts: Facts,
    /// Cores, by index.
    pub(crate) cores: Vec<CoreSeen>,
    sink: Arc<SinkStats>,
    stage: AtomicU8,
    drain_s: AtomicU32,
    /// Targets that are paused, as the store said last.
    pub(crate) paused: AtomicU64,
    /// Changes of our own targets that wait for better times, as the store was asked last.
    pub(crate) changes_waiting: AtomicU64,
    /// Refused targets.
    pub(crate) refusals: Refusals,
    /// Legacy rows that were read again.
    pub(crate) legacy: LegacyStats,
    /// Old rows that were deleted.
    pub(crate) retention: RetentionStats,
    /// What operators had done, on its way into the store.
    pub(crate) audit: Audit,
    /// Legacy rows that differ.
    pub(crate) drift: DriftStats,
    /// What verifiers were asked.
    pub(crate) verifiers: VerifierStats,
    histograms: Mutex<Vec<Lifetime>>,
    health: Mutex<Health>,
    ages: Mutex<Option<FreshnessAges>>,
}

impl View {
    /// A view of a node that is loading.
    pub(crate) fn new(
        clock: Clock,
        facts: Facts,
        cores: Vec<CoreSeen>,
        sink: Arc<SinkStats>,
    ) -> Self {
        let histograms = cores.iter().map(|_| Lifetime::new()).collect();
        Self {
            clock,
            facts,
            cores,
            sink,
            stage: AtomicU8::new(Stage::Loading as u8),
            drain_s: AtomicU32::new(0),
            paused: AtomicU64::new(0),
            changes_waiting: AtomicU64::new(0),
            refusals: Refusals::default(),
            legacy: LegacyStats::default(),
            retention: RetentionStats::default(),
            audit: Audit::default(),
            drift: DriftStats::default(),
            verifiers: VerifierStats::default(),
            histograms: Mutex::new(histograms),
            health: Mutex::new(Health::default()),
            ages: Mutex::new(None),
        }
    }

    /// Where the node is.
    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Ordering::Relaxed))]
    }

    /// The control plane moves on.
    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The word for where the node is; a running one that has lost its network, as `sink` says, is
    /// isolated.
    pub(crate) fn state(&self, sink: &SinkCounters) -> &'static str {
        match self.stage() {
            Stage::Running if sink.node_isolated > 0 => "isolated",
            stage => stage.as_str(),
        }
    }

    /// What a drain may take.
    pub(crate) fn drain_s(&self) -> u32 {
        self.drain_s.load(Ordering::Relaxed)
    }

    /// The configuration says so now.
    pub(crate) fn set_drain_s(&self, seconds: u32) {
        self.drain_s.store(seconds, Ordering::Relaxed);
    }

    /// The accounts: the sink first, then the cores once each has published again, so that what
    /// the sink drained was sent; then the sink again, which is asked for it. A core that rests
    /// publishes after 100 ms at most; one that does not turn, or a sink, is not waited for beyond
    /// a second.
    pub(crate) async fn accounts(&self) -> Accounts {
        let before = self.sink.snapshot();
        let turns = || -> Vec<u64> {
            let of = |core: &CoreSeen| core.stats.snapshot().turns;
            self.cores.iter().map(of).collect()
        };
        let first = turns();
        settled(|| turns().iter().zip(&first).all(|(now, then)| now > then)).await;
        let cores = self.core_snapshots();
        let turns = self.sink.snapshot().counters.turns;
        let after = settled(|| {
            self.sink.ask();
            let sink = self.sink.snapshot();
            // The end of the turn that is under way may have measured its channels before; that of
            // the next one has not.
            match sink.counters.turns - turns {
                0 => false,
                1 => have_arrived(&cores, &sink),
                _ => true,
            }
        })
        .await;
        Accounts::new(before, cores, self.sink.snapshot(), after)
    }

    /// The accounts of cores and a sink that have ended.
    pub(crate) fn last_accounts(&self) -> Accounts {
        let sink = self.sink.snapshot();
        Accounts::new(sink.clone(), self.core_snapshots(), sink, false)
    }

    /// The numbers of the sink as it published them last.
    pub(crate) fn sink_counters(&self) -> SinkCounters {
        self.sink.snapshot().counters
    }

    fn core_snapshots(&self) -> Vec<(CoreIndex, CoreSnapshot)> {
        let of = |core: &CoreSeen| (core.index, core.stats.snapshot());
        self.cores.iter().map(of).collect()
    }

    /// The numbers as they were last published, core by core and the sink for itself.
    pub(crate) fn snapshots(&self) -> (SinkSnapshot, Vec<CoreSnapshot>) {
        let sink = self.sink.snapshot();
        (
            sink,
            self.cores
                .iter()
                .map(|core| core.stats.snapshot())
                .collect(),
        )
    }

    /// Takes in an interval of one core.
    pub(crate) fn absorb(&self, set: &CoreHistograms) {
        let mut all = self
            .histograms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all[usize::from(set.core.0)].absorb(set);
    }

    /// Looks at the histograms of all cores.
    pub(crate) fn with_histograms<T>(&self, look: impl FnOnce(&[Lifetime]) -> T) -> T {
        look(
            &self
                .histograms
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Keeps what was found of the node last.
    pub(super) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// How the node was half a second ago.
    pub(crate) fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the freshness ages that the sink computed last.
    pub(crate) fn set_ages(&self, ages: FreshnessAges) {
        *self.ages.lock().unwrap_or_else(PoisonError::into_inner) = Some(ages);
    }

    /// The freshness ages of a few seconds ago.
    pub(crate) fn ages(&self) -> Option<FreshnessAges> {
        *self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedule lag of the last interval over all cores.
    pub(crate) fn recent_lag(&self) -> Histogram<u64> {
        self.with_histograms(|all| {
            let mut merged = super::lifetime::histogram();
            for one in all {
                merged
                    .add(one.recent_lag())
                    .expect("all lag histograms have one range");
            }
            merged
        })
    }
}

#[cfg(test)]
pub(super) mod testbed {
    use super::*;

    /// A view of a node without cores.
    pub(crate) fn view() -> View {
        view_of(Vec::new())
    }

    /// A view of a node of these cores, whose sink has not turned yet.
    pub(super) fn view_of(cores: Vec<CoreSeen>) -> View {
        let facts = Facts {
            pid: 1,
            started: UnixMs(0),
            data_dir: PathBuf::from("d"),
            store: "sqlite:s".to_owned(),
            node_id: "n".to_owned(),
            boot_id: "b".to_owned(),
            admin: "127.0.0.1:1".to_owned(),
            driver: Driver::Epoll,
            driver_note: None,
            max_in_flight: 1,
            nofile: 1,
        };
        let sink = Arc::new(SinkStats::new(cores.iter().map(|core| core.index)));
        View::new(Clock::start(), facts, cores, sink)
    }
}

#[cfg(test)]
mod tests {
    use persist::Ledger;
    use tokio::task::yield_now;

    use super::*;

    /// A core that checks all the time.
    async fn check(view: &View) {
        let mut core = CoreSnapshot::default();
        loop {
            core.turns += 1;
            (core.due, core.probed, core.sent) = (core.turns, core.turns, core.turns);
            view.cores[0].stats.publish(&core);
            yield_now().await;
        }
    }

    /// A sink that turns only when it is asked.
    async fn turn_when_asked(view: &View) {
        let mut ledger = Ledger::new(1);
        loop {
            view.sink.asked().await;
            ledger.counters.turns += 1;
            let sent = view.cores[0].stats.snapshot().sent;
            let account = &mut ledger.cores[0];
            (account.drained, account.coalesced) = (sent, sent);
            view.sink.publish(&ledger);
        }
    }

    /// Lesson: results came in while the sink of a quiet node was waited for, so that the accounts
    /// were looked at four times.
    #[tokio::test]
    async fn whoever_looks_waits_for_one_turn_of_the_sink_also_while_results_come_in() {
        let view = testbed::view_of(vec![CoreSeen {
            index: CoreIndex(0),
            cpu: 0,
            stats: Arc::default(),
        }]);
        let accounts = tokio::select! {
            accounts = view.accounts() => accounts,
            () = check(&view) => unreachable!("it goes on"),
            () = turn_when_asked(&view) => unreachable!("it goes on"),
        };
        assert!(accounts.all_balance());
        assert_eq!(view.sink_counters().turns, 1);
    }
}
