//! One probe core without its sockets: everything that a turn of the loop decides.
//!
//! ```text
//! inbox ─► slots + wheel ─► queues ─► admission ─► attempts ─► account ─► outcome channel
//!                                         ▲            │
//!                                    deadlines ◄── timers wheel
//! ```
//!
//! The core reads no clock and opens no socket: a reactor calls [`Core::turn`] each tick, carries
//! out what [`Core::io`] and [`Core::dns_io`] ask for, and brings back events. The monoio reactor
//! and the simulator run this same code.

mod beside;
mod deferral;
mod dispatch;
mod finish;
mod inbox;
mod io;
mod keeping;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use model::inbox::{CoreCommand, OneShotReport};
use model::limits::{LATE_TURN_US, NETWORKS_EVERY_MS, REST_TICKS_MAX, STALL_TURN_US, TICK_MS};
use model::{CoreIndex, Evidence, MonoUs, Now, Outcome, Target, UnixMs};
use prober::Shared;
use prober::resolver::Resolver;

use crate::admission::Admission;
use crate::attempts::{AttemptKey, Attempts, OneShot};
use crate::destinations::{DestinationCaps, Destinations};
use crate::histograms::CoreHistograms;
use crate::kept::Kept;
use crate::local_end::{LocalEnd, Sources};
use crate::networks::Networks;
use crate::redirect_names::RedirectNames;
use crate::stats::{CoreSnapshot, CoreStats};
use crate::targets::{HUNGER_MAX, Targets};
use crate::tick::tick_at;
use crate::wheel::Wheel;

pub use beside::Side;
pub use io::{DnsIo, Io};

/// A turn this much longer than it was meant to be is a stall.
const STALL_LAG_US: u64 = STALL_TURN_US - TICK_MS * 1_000;

/// Queues of what is due, in the order of their dispatch. Those of what waits for its destination
/// follow, two for each.
const QUEUE_COMMANDED: u32 = 0;
/// Behind it, the hungriest first, those of checks whose last ones were shed.
const QUEUE_ROUTINE: u32 = 1 + HUNGER_MAX;
const QUEUES: u32 = QUEUE_ROUTINE + 1;

/// The ends of the channels that a core holds.
#[derive(Debug)]
pub struct Channels {
    /// Commands to the core.
    pub inbox: Receiver<CoreCommand>,
    /// Outcomes to the sink.
    pub outcomes: Sender<Outcome>,
    /// Evidence to the sink.
    pub evidence: Sender<Box<Evidence>>,
    /// Answers to one-shots.
    pub one_shots: Sender<OneShotReport>,
    /// Histograms of finished intervals.
    pub histograms: Sender<Box<CoreHistograms>>,
}

/// What a core is made of.
pub struct CoreParts {
    /// Which core of the process.
    pub index: CoreIndex,
    /// Wall time at monotonic zero.
    pub grid_zero: UnixMs,
    /// Most attempts in flight.
    pub max_in_flight: u32,
    /// Caps per destination address.
    pub destination_caps: DestinationCaps,
    /// Where connections of checks come from, and how they are closed.
    pub local_end: LocalEnd,
    /// Length of a histogram interval, in ms.
    pub histogram_interval_ms: u64,
    /// The prober's shared part.
    pub shared: Shared,
    /// The resolver.
    pub resolver: Resolver,
    /// Channels.
    pub channels: Channels,
    /// Where the numbers are published.
    pub stats: Arc<CoreStats>,
}

/// What a reactor keeps for the attempts to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorPools {
    /// Tasks that wait for an attempt.
    pub couriers_idle: usize,
    /// Buffers that wait for a read.
    pub read_buffers: usize,
}

/// The core.
pub struct Core {
    index: CoreIndex,
    grid_zero: UnixMs,
    histogram_interval_ms: u64,
    shared: Shared,
    resolver: Resolver,
    redirect_names: RedirectNames,
    channels: Channels,
    stats: Arc<CoreStats>,
    targets: Targets,
    /// Due times and queues, over slots.
    wheel: Wheel,
    /// Hunger whose queue may have entries, one bit each: mostly nobody is hungry.
    hungry: u32,
    attempts: Attempts,
    /// Deadlines (even) and attempts' own timers (odd), over attempt indices.
    timers: Wheel,
    /// Deadlines that were due at the last turn: judged at this one.
    ripe: Vec<AttemptKey>,
    /// Attempts' own timers that were due at a turn after a stall: rung at this one.
    overslept: Vec<AttemptKey>,
    admission: Admission,
    destinations: Destinations,
    sources: Sources,
    kept: Kept,
    networks: Networks,
    /// When others were shown them last.
    networks_shown: MonoUs,
    one_shots: VecDeque<OneShot>,
    /// What the one-shots in flight check that are made again where a kept connection takes their
    /// time.
    askable: HashMap<AttemptKey, Box<Target>>,
    /// Outcomes that found the channel full, oldest first.
    held: VecDeque<Outcome>,
    /// Cut evidence that found its channel full, oldest first; its outcomes are held behind it.
    held_evidence: VecDeque<Box<Evidence>>,
    pools: ReactorPools,
    held_reports: VecDeque<OneShotReport>,
    histograms: Box<CoreHistograms>,
    /// When their interval began; the wall clock may be set meanwhile.
    histograms_since: MonoUs,
    account: CoreSnapshot,
    /// Attempts that the reactor has not taken up yet.
    started: VecDeque<AttemptKey>,
    /// Attempts whose reactor side must look again.
    woken: Vec<AttemptKey>,
    /// What the reactor is to do beside its I/O under way.
    sides: VecDeque<Side>,
    due: Vec<u32>,
    last_turn: MonoUs,
    /// Ticks from the last turn to the next one.
    rest_ticks: u32,
    /// Sum of loop turns beyond 20 ms, in µs.
    stalled_us: u64,
    /// This turn came late by a stall.
    stalled: bool,
    paused: bool,
    /// Set by `Drain`: what still runs then is cancelled.
    drain_by: Option<MonoUs>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A core without targets.
    pub fn new(parts: CoreParts, now: Now) -> Self {
        let tick = tick_at(now.mono);
        Self {
            index: parts.index,
            grid_zero: parts.grid_zero,
            histogram_interval_ms: parts.histogram_interval_ms,
            shared: parts.shared,
            resolver: parts.resolver,
            redirect_names: RedirectNames::default(),
            channels: parts.channels,
            stats: parts.stats,
            targets: Targets::default(),
            wheel: Wheel::new(tick),
            hungry: 0,
            attempts: Attempts::default(),
            timers: Wheel::new(tick),
            ripe: Vec::new(),
            overslept: Vec::new(),
            admission: Admission::new(parts.max_in_flight, now.mono),
            destinations: Destinations::new(parts.destination_caps, now.mono),
            sources: Sources::new(&parts.local_end, parts.index.0),
            kept: Kept::new(parts.local_end.kept),
            networks: Networks::new(),
            networks_shown: now.mono,
            one_shots: VecDeque::new(),
            askable: HashMap::new(),
            held: VecDeque::new(),
            held_evidence: VecDeque::new(),
            pools: ReactorPools::default(),
            held_reports: VecDeque::new(),
            histograms: Box::new(CoreHistograms::new(parts.index, now.unix)),
            histograms_since: now.mono,
            account: CoreSnapshot::default(),
            started: VecDeque::new(),
            woken: Vec::new(),
            sides: VecDeque::new(),
            due: Vec::new(),
            last_turn: now.mono,
            rest_ticks: 1,
            stalled_us: 0,
            stalled: false,
            paused: false,
            drain_by: None,
        }
    }

    /// One turn of the loop: inbox, deadlines, due targets, admission, held results, statistics.
    pub fn turn(&mut self, now: Now) {
        self.measure_loop(now);
        self.drain_inbox(now);
        self.judge_deadlines(now);
        self.resolver.tick(now.mono);
        self.sources.settle(now.mono);
        self.kept.expire(now.mono);
        self.collect_due(now);
        self.flush_held();
        self.admission
            .refill(self.targets.required_per_gs(), now.mono);
        self.destinations.look_at_slowed(now.mono);
        self.revisit_destinations(now);
        self.admit(now);
        self.admission.adapt(now.mono);
        self.rotate_histograms(now);
        self.publish(now);
    }

    /// After a turn, and what it brought about: ticks until the next one. Mostly one; a core of a
    /// quiet fleet, on which nothing runs, waits or comes due, wakes less often.
    pub fn rest(&mut self) -> u32 {
        let at_work = self.attempts.len() > 0
            || self.wheel.queued() > 0
            || !self.held.is_empty()
            || !self.held_reports.is_empty()
            || !self.one_shots.is_empty()
            || !self.ripe.is_empty()
            || !self.overslept.is_empty()
            || self.drain_by.is_some();
        self.rest_ticks = if at_work {
            1
        } else {
            self.wheel.quiet_ticks(REST_TICKS_MAX)
        };
        self.rest_ticks
    }

    /// Whether a drain is complete: nothing runs, nothing is held.
    pub fn is_drained(&self) -> bool {
        self.drain_by.is_some()
            && self.attempts.len() == 0
            && self.held.is_empty()
            && self.held_reports.is_empty()
    }

    /// The accounts as they are now (other threads read [`CoreStats`]).
    pub fn account(&self) -> CoreSnapshot {
        CoreSnapshot {
            pending: self.wheel.queued() as u64,
            targets: self.targets.active(),
            required_per_ks: self.targets.required_per_gs() / 1_000_000,
            in_flight_limit: u64::from(self.admission.limit()),
            destinations: self.destinations.len() as u64,
            destinations_slowed: self.destinations.slowed() as u64,
            sources_usable: self.sources.usable() as u64,
            sources_absent: self.sources.absent() as u64,
            sources_spent: self.sources.spent() as u64,
            connections_kept: self.kept.len() as u64,
            issuer_keys: self.shared.issuer_keys() as u64,
            issuer_signatures: self.shared.issuer_signatures() as u64,
            redirect_names: self.redirect_names.len() as u64,
            tls_chains: self.shared.tls_chains() as u64,
            tls_sessions: self.shared.tls_sessions() as u64,
            tls_session_bytes: self.shared.tls_session_bytes() as u64,
            tls_second_looks: self.shared.tls_second_looks() as u64,
            decoder_bytes: self.shared.decoder_bytes() as u64,
            last_turn_us: self.last_turn.0,
            evidence_held: self.held_evidence.len() as u64,
            evidence_queued: self.channels.evidence.len() as u64,
            inbox: self.channels.inbox.len() as u64,
            attempt_buffers: self.attempts.pool().len() as u64,
            attempt_buffer_bytes: self.attempts.pool().bytes() as u64,
            read_buffers: self.pools.read_buffers as u64,
            couriers_idle: self.pools.couriers_idle as u64,
            dns: self.resolver.stats(),
            ..self.account
        }
    }

    /// What the reactor keeps for later attempts, for the next snapshot.
    pub fn note_pools(&mut self, pools: ReactorPools) {
        self.pools = pools;
    }

    /// Publishes the accounts for other threads.
    pub fn publish(&mut self, now: Now) {
        if self.held.is_empty() {
            self.account.held_since_us = 0;
        } else if self.account.held_since_us == 0 {
            self.account.held_since_us = now.mono.0.max(1);
        }
        if now.mono.since(self.networks_shown) >= NETWORKS_EVERY_MS * 1_000 {
            self.networks_shown = now.mono;
            self.account.networks = self.stats.network_stats.publish(&self.networks, now.mono);
        }
        self.stats.publish(&self.account());
    }

    /// Loop lag, and the stalls that make a timeout ours.
    fn measure_loop(&mut self, now: Now) {
        let turn_us = now.mono.since(self.last_turn);
        let lag_us = turn_us.saturating_sub(self.meant_us());
        self.histograms.loop_lag.saturating_record(lag_us);
        self.account.turns_late += u64::from(lag_us > LATE_TURN_US);
        self.stalled = lag_us > STALL_LAG_US;
        if self.stalled {
            self.stalled_us += lag_us;
        }
        if lag_us > 2 * STALL_LAG_US || !self.held.is_empty() {
            self.admission.report_unwell();
        }
        self.last_turn = now.mono;
        self.account.turns += 1;
    }

    /// Time from the last turn to the next one, as it is meant to be.
    fn meant_us(&self) -> u64 {
        u64::from(self.rest_ticks) * TICK_MS * 1_000
    }

    /// Hands a finished interval to the control plane; when nobody takes it, the interval goes on.
    fn rotate_histograms(&mut self, now: Now) {
        let filled_ms = now.mono.since(self.histograms_since) / 1_000;
        let due = filled_ms >= self.histogram_interval_ms;
        if due || self.is_drained() {
            self.send_histograms(now);
        }
    }

    /// Sends what was measured since the last time.
    fn send_histograms(&mut self, now: Now) {
        if self.channels.histograms.is_full() || now.mono == self.histograms_since {
            return;
        }
        let fresh = Box::new(CoreHistograms::new(self.index, now.unix));
        let mut full = std::mem::replace(&mut self.histograms, fresh);
        // A log's interval has a length, whatever was done to the wall clock in it.
        full.end = full
            .start
            .plus_ms(now.mono.since(self.histograms_since) / 1_000);
        self.histograms_since = now.mono;
        // A receiver that is gone has no use for the interval.
        let _ = self.channels.histograms.try_send(full);
    }

    /// The instant on the schedule's grid: wall time at start, run on by the monotonic clock.
    fn grid_ms(&self, now: Now) -> u64 {
        self.grid_zero.0 + now.mono.0 / 1_000
    }

    /// The tick at which the grid reads `grid_ms`, rounded up.
    fn tick_of_grid(&self, grid_ms: u64) -> u32 {
        (grid_ms.saturating_sub(self.grid_zero.0).div_ceil(TICK_MS)) as u32
    }
}
