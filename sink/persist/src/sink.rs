//! One turn of the sink: take everything, step, write ahead, advance memory, hand on.
//!
//! The order matters. Outcomes are taken first: whatever was sent before them (their evidence, the
//! registration of their slot) is then surely there. The whole batch is taken before any result in
//! it is stepped.

mod asking;
mod commands;
mod doubt;
mod node_events;
mod operators;
mod results;
mod tenure;
mod write_ahead;

use std::rc::Rc;

use crossbeam_channel::Receiver;
use incident::pressure::Sample;
use incident::{Calendar, NodeEvents, Policy, Pressure};
use model::ids::FactMint;
use model::limits::{FACTS_WAITING_MAX, FACTS_WAITING_MAX_BYTES, FIRST_FAILURE_HOLD_MS};
use model::{CoreIndex, Evidence, Now, Outcome, Slot};
use tokio::sync::oneshot;

use crate::apply::{ApplyQueue, FactStore};
use crate::audit::AuditTrail;
use crate::cadences::CadenceOutbox;
use crate::evidence::EvidenceShelf;
use crate::facts::FactQueue;
use crate::freshness::Flushes;
use crate::handle::{Clock, Inside, SinkCommand, SinkConfig};
use crate::history::History;
use crate::incidents::Incidents;
use crate::questions::Lanes;
use crate::quiet::Quiet;
use crate::slots::{CoreSlots, Timeline};
use crate::start::{Found, Open};
use crate::stats::{Ledger, SinkStats};
use crate::watches::Watches;
use crate::windows::Windows;
pub(crate) use tenure::Tenure;
use write_ahead::Standing;

/// The channels of one core.
struct Core {
    index: CoreIndex,
    outcomes: Receiver<Outcome>,
    evidence: Receiver<Box<Evidence>>,
    outbox: CadenceOutbox,
    /// Outcomes of this turn; its memory is kept.
    batch: Vec<Outcome>,
}

/// Fewer results than this in a turn may as well wait for a slower one.
const BUSY_RESULTS: usize = 64;

/// A `Flush` that waits: for the store to have this batch, and for this many flushes.
struct Waiter {
    journal_seq: u64,
    flushes: u64,
    done: oneshot::Sender<()>,
}

/// Whether the end was asked for, and who waits for it.
enum Stop {
    GoOn,
    Asked(oneshot::Sender<()>),
    /// All who could command are gone, or the answer was taken.
    Unattended,
}

/// What a turn did, for the loop to choose its pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Much was drained, or something waits for its moment.
    pub(crate) busy: bool,
    /// The thread is asked to end.
    pub(crate) stop: bool,
}

/// The sink core.
pub(crate) struct Sink<S> {
    clock: Clock,
    store: Rc<S>,
    policy: Policy,
    cores: Vec<Core>,
    slots: Vec<CoreSlots>,
    timeline: Timeline,
    tenure: Tenure,
    quiet: Quiet,
    incidents: Incidents,
    pressure: Pressure,
    /// The node's own incidents, and its name in them.
    own: NodeEvents,
    node: String,
    sample: Sample,
    questions: Lanes,
    evidence: EvidenceShelf,
    windows: Windows,
    /// What they and certificates go by.
    calendar: Calendar,
    watches: Watches,
    mint: FactMint,
    facts: FactQueue,
    pub(crate) queue: Rc<ApplyQueue>,
    /// Facts that wait at most before outcomes are left in the channels.
    pub(crate) waiting_max: usize,
    /// And the memory that they may take.
    pub(crate) waiting_max_bytes: usize,
    standing: Standing,
    flushes: Flushes,
    history: History,
    audit: AuditTrail,
    flush_wanted: bool,
    commands: Receiver<SinkCommand>,
    /// Flushes that were asked for in this turn. Results that were sent before them may have come
    /// after this turn had drained: they mean what the next turn drains, too.
    asked: Vec<oneshot::Sender<()>>,
    /// Those of the turn before.
    asking: Vec<oneshot::Sender<()>>,
    waiters: Vec<Waiter>,
    stop: Stop,
    released: crossbeam_channel::Sender<(CoreIndex, Slot)>,
    to_release: std::collections::VecDeque<(CoreIndex, Slot)>,
    ledger: Ledger,
    stats: std::sync::Arc<SinkStats>,
}

impl<S: FactStore> Sink<S> {
    pub(crate) fn new(
        config: &SinkConfig,
        clock: Clock,
        inside: Inside,
        (store, tenure): (Rc<S>, Tenure),
        mut found: Found,
    ) -> Self {
        let timeline = Timeline::new(config.projection_interval_ms);
        let cores: Vec<Core> = inside
            .links
            .into_iter()
            .map(|link| Core {
                index: link.core,
                outcomes: link.outcomes,
                evidence: link.evidence,
                outbox: CadenceOutbox::new(link.inbox),
                batch: Vec::new(),
            })
            .collect();
        let facts = FactQueue::new(found.journal.next_seq());
        let queue = ApplyQueue::new(found.journal, found.applied, found.fence, clock.clone());
        let reached = (found.floor, found.applied);
        queue.go_on(found.fence, reached, found.superseded);
        let now = clock();
        let mut sink = Self {
            calendar: Calendar::of(now),
            clock,
            store,
            policy: Policy {
                confirm_after: config.confirm_after,
                vantages: config.vantages,
            },
            timeline,
            tenure,
            quiet: Quiet::default(),
            slots: cores.iter().map(|_| CoreSlots::new(timeline)).collect(),
            ledger: Ledger::new(cores.len()),
            evidence: EvidenceShelf::new(cores.len()),
            cores,
            incidents: Incidents::new(Open::new()),
            pressure: Pressure::default(),
            own: NodeEvents::default(),
            node: config.node.clone(),
            windows: Windows::default(),
            watches: Watches::default(),
            sample: Sample::default(),
            questions: inside.questions,
            mint: found.mint,
            facts,
            queue,
            waiting_max: FACTS_WAITING_MAX,
            waiting_max_bytes: FACTS_WAITING_MAX_BYTES,
            standing: Standing::default(),
            flushes: Flushes::default(),
            history: History::new(config.history),
            audit: AuditTrail::new(&config.node),
            flush_wanted: false,
            commands: inside.commands,
            asked: Vec::new(),
            asking: Vec::new(),
            waiters: Vec::new(),
            stop: Stop::GoOn,
            released: inside.released,
            to_release: std::collections::VecDeque::new(),
            stats: inside.stats,
        };
        sink.resume_own(&mut found.open, now);
        sink.incidents = Incidents::new(found.open);
        sink
    }

    /// Does everything that there is to do now. Must run on a tokio `LocalSet`.
    pub(crate) fn turn(&mut self) -> Activity {
        let now = (self.clock)();
        self.calendar.follow(now);
        self.keep_tenure(now);
        self.asking.append(&mut self.asked);
        let drained = self.take_results();
        self.take_commands(now);
        self.close_abandoned(now);
        self.weigh_results(now);
        self.follow_own(now);
        self.see_watched(now);
        self.sample_failures(now);
        self.book_results(now);
        self.answer_watches();
        if !self.is_stopping() {
            // A machine that shuts down may have lost its network first.
            self.end_waits(now);
        }
        self.write_ahead(now, self.is_stopping() || !self.asking.is_empty());
        self.note_flushes();
        self.cores.iter_mut().for_each(|core| core.outbox.send());
        self.send_released();
        self.flush_freshness(now);
        self.flush_notes(now);
        self.answer_waiters();
        self.publish(now);
        let is_asked = self.flush_wanted || !self.asked.is_empty();
        let soon = now.mono.plus_ms(FIRST_FAILURE_HOLD_MS);
        let waits = self.facts.len() > 0 || self.incidents.wakes_by(soon) || is_asked;
        Activity {
            busy: drained >= BUSY_RESULTS || waits,
            stop: self.is_stopping(),
        }
    }

    fn flush_freshness(&mut self, now: Now) {
        self.flushes.land(&mut self.slots, now.mono);
        let Some(fence) = self.queue.fence() else {
            self.flush_wanted = false;
            return;
        };
        self.flush_wanted |= self.is_stopping() && self.freshness_pending() > 0;
        let hurried = self.flush_wanted && self.flushes.may_hurry(now.mono);
        if hurried || self.flushes.is_due(now.mono) {
            self.flush_wanted = false;
            self.flushes
                .start(&self.store, fence, &mut self.slots, (now.mono, now.unix));
        }
    }

    /// What is no fact: single checks, and lines of the audit log.
    fn flush_notes(&mut self, now: Now) {
        self.history.land(now.mono);
        self.audit.land(now.mono);
        if let Some(fence) = self.queue.fence() {
            let at_once = self.is_stopping();
            self.history.start(&self.store, fence, now.mono, at_once);
            self.audit.start(&self.store, fence, now.mono, at_once);
        }
    }

    fn freshness_pending(&self) -> usize {
        self.slots.iter().map(CoreSlots::pending).sum()
    }

    /// Where it tells everybody how it is, and is asked.
    pub(crate) fn stats(&self) -> &SinkStats {
        &self.stats
    }

    /// Tells everybody how it is.
    pub(crate) fn publish(&mut self, now: Now) {
        let journal = self.queue.journal.borrow();
        let (applies, tally) = (self.queue.counts(), self.incidents.tally());
        let counters = &mut self.ledger.counters;
        counters.turns += 1;
        counters.last_loop_mono_us = now.mono.0;
        counters.slots = self.slots.iter().map(CoreSlots::registered).sum::<usize>() as u64;
        counters.facts_waiting = self.facts.len() as u64;
        counters.facts_waiting_bytes = self.facts.bytes() as u64;
        counters.facts_loaded = self.queue.facts_loaded() as u64;
        counters.journal_bytes = journal.bytes();
        counters.journal_segments = journal.segments() as u64;
        counters.journal_syncs = journal.syncs();
        counters.journal_max_bytes = journal.max_bytes();
        counters.journal_full = u64::from(self.standing.is_full());
        let stuck = self.standing.is_troubled() || self.queue.is_unreadable();
        counters.journal_alarm = u64::from(stuck);
        drop(journal);
        counters.apply_lag = self.queue.lag();
        counters.applies = applies.applies;
        counters.apply_retries = applies.retries;
        counters.apply_overdue = applies.overdue;
        counters.facts_superseded = applies.superseded;
        counters.store_set_back = applies.set_back;
        counters.batches_missing = applies.missing;
        counters.epoch = self.tenure.lease.epoch();
        counters.lease = self.tenure.lease.standing(now.mono) as u64;
        counters.fenced = self.tenure.fenced;
        counters.history_rows = self.history.flights.written;
        counters.history_waiting = self.history.waiting() as u64;
        counters.history_left_out = self.history.left_out;
        counters.history_retries = self.history.flights.failed;
        counters.audit_rows = self.audit.flights.written;
        counters.audit_waiting = self.audit.flights.len() as u64;
        counters.audit_left_out = self.audit.left_out;
        counters.audit_retries = self.audit.flights.failed;
        counters.transition_rows = applies.transition_rows;
        counters.job_rows = applies.job_rows;
        counters.freshness_rows = self.flushes.rows;
        counters.freshness_flushes = self.flushes.succeeded;
        counters.freshness_retries = self.flushes.failed;
        counters.open_seems_down = tally.seems_down;
        counters.open_down = tally.down;
        counters.suspected = tally.suspected;
        counters.unconfirmed = tally.unconfirmed;
        counters.open_degraded = tally.degraded;
        counters.open_warning = tally.warning;
        counters.unclaimed_events = self.incidents.unclaimed() as u64;
        counters.evidence_waiting = self.evidence.len() as u64;
        counters.evidence_dropped = self.evidence.dropped();
        counters.held_commands = self.cores.iter().map(|core| core.outbox.len() as u64).sum();
        counters.released_waiting = (self.released.len() + self.to_release.len()) as u64;
        for (account, core) in self.ledger.cores.iter_mut().zip(&self.cores) {
            account.queued = core.outcomes.len() as u64;
        }
        self.publish_doubt();
        self.publish_asking();
        self.ledger.store_batch = applies.batches;
        self.ledger.counters.freshness_pending = self.freshness_pending() as u64;
        self.stats.publish(&self.ledger);
    }

    /// Asks for the last flush; the loop turns on until [`Sink::is_settled`].
    pub(crate) fn wind_down(&mut self) {
        self.flush_wanted = true;
        self.queue.tidy_up();
    }

    /// Gives the right to write back, so that another node need not wait for the lease.
    pub(crate) async fn release(&self) {
        if let Some(fence) = self.queue.fence()
            && let Err(error) = self.store.release(fence).await
        {
            tracing::warn!(%error, "the lease could not be given back; it runs out by itself");
        }
    }

    /// Whether another node has the right to write.
    pub(crate) fn is_fenced(&self) -> bool {
        self.tenure.is_lost()
    }

    /// Whether everything that was drained is in the store, freshness included.
    pub(crate) fn is_settled(&self) -> bool {
        let is_written = self.facts.len() == 0 && self.queue.is_settled();
        is_written
            && self.is_fresh()
            && self.history.waiting() == 0
            && self.audit.flights.len() == 0
    }

    /// Whether the store has every check time.
    pub(crate) fn is_fresh(&self) -> bool {
        self.flushes.is_idle() && !self.flush_wanted && self.freshness_pending() == 0
    }

    /// Checks that would be missing in the history if the process ended now.
    pub(crate) fn history_waiting(&self) -> usize {
        self.history.waiting()
    }

    /// Lines that would be missing in the audit log if the process ended now.
    pub(crate) fn audit_waiting(&self) -> usize {
        self.audit.flights.len()
    }

    /// Facts that would be lost if the process ended now: the journal could not take them. They
    /// are derived again from later checks, with a later start.
    pub(crate) fn unwritten(&self) -> usize {
        self.facts.len()
    }

    /// Who waits for the end.
    pub(crate) fn take_stop(&mut self) -> Option<oneshot::Sender<()>> {
        match std::mem::replace(&mut self.stop, Stop::Unattended) {
            Stop::Asked(done) => Some(done),
            Stop::GoOn | Stop::Unattended => None,
        }
    }

    fn is_stopping(&self) -> bool {
        !matches!(self.stop, Stop::GoOn)
    }
}

#[cfg(test)]
mod tests;
