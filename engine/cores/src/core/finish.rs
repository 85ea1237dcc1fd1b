//! From finished to accounted: outcome, evidence, one-shot report, and the next due time.

use std::net::IpAddr;

use crossbeam_channel::TrySendError;
use model::inbox::OneShotReport;
use model::outcome::{Outcome, flags};
use model::{Evidence, FailureClass, Generation, MonoUs, Now, Slot, Ticket};
use prober::attempt::Event;
use prober::resolver::HostId;

use super::{Core, QUEUE_COMMANDED, STALL_LAG_US};
use crate::attempts::{AttemptKey, InFlight, OneShot, Owner};
use crate::destinations::DestinationId;
use crate::networks::{self, Network};
use crate::tick::{tick_after, tick_at};

/// The slot of a one-shot's outcome.
const NO_SLOT: Slot = Slot(u32::MAX);

impl Core {
    /// Cancels what runs under `key`; it is accounted as cancelled, not probed.
    pub(super) fn cancel(&mut self, key: AttemptKey, now: Now) {
        self.end(key, Event::Cancelled, now);
    }

    /// Ends the attempt: it has its verdict, or was cancelled. Read where it lies: at half a
    /// kilobyte an attempt is not moved for each check.
    pub(super) fn finish(&mut self, key: AttemptKey, ending: Ending, now: Now) {
        let (reap_us, stalled_us) = (self.reap_us(now), self.stalled_by(now));
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        if ending == Ending::Completed && entry.met_stall(stalled_us) {
            entry.attempt.excuse();
        }
        let mut end = End::of(entry, ending, reap_us, now);
        let asks = end.outcome.has(flags::SLOW_DOWN);
        let asked_by = asks.then(|| entry.attempt.report().address).flatten();
        self.account.reused_dead += u64::from(entry.attempt.reuses_refused());
        let answered = end.outcome.has(flags::CONNECTION_REUSED) && end.unheard_at.is_none();
        self.account.reused += u64::from(answered);
        let (host, destination) = (entry.host, entry.destination);
        let (rival, beside) = (entry.rival, entry.beside);
        if let Some(host) = host.filter(|_| entry.resolving) {
            self.resolver.forget(host, key.waiter());
        }
        self.heed(&mut end, asked_by, destination, now);
        self.release_attempt(key, host);
        self.leave_destination(destination, now);
        self.leave_destination(rival, now);
        self.close_all_beside(key, beside);
        if let Some(address) = end.unheard_at {
            self.kept.forsake(address);
        }
        match end.owner {
            Owner::Slot(slot) => self.finish_slot(slot, end, now),
            Owner::OneShot { ticket } => self.finish_one_shot(key, ticket, end),
        }
        if ending == Ending::CutShort {
            // Whoever drives it waits for I/O that nobody wants any more.
            self.woken.push(key);
        }
    }

    /// A site at the address `asked_by` wants fewer requests, if there is one; whatever is checked
    /// at an address that is slowed down for it says so.
    fn heed(
        &mut self,
        end: &mut End,
        asked_by: Option<IpAddr>,
        destination: Option<DestinationId>,
        now: Now,
    ) {
        if let (Some(address), Owner::Slot(slot)) = (asked_by, end.owner) {
            self.destinations.asked_to_slow(address, slot, now.mono);
        }
        if destination.is_some_and(|id| self.destinations.is_slowed(id, now.mono)) {
            end.outcome.flags |= flags::THROTTLED;
            if let Some(evidence) = &mut end.evidence {
                evidence.flags |= flags::THROTTLED;
            }
        }
    }

    /// Gives back what the attempt holds: timers, its name, its place.
    pub(super) fn release_attempt(&mut self, key: AttemptKey, host: Option<HostId>) {
        self.timers.cancel(key.index * 2);
        self.timers.cancel(key.index * 2 + 1);
        if let Some(host) = host {
            self.resolver.release(host);
        }
        self.attempts.remove(key);
    }

    fn finish_slot(&mut self, slot: Slot, end: End, now: Now) {
        self.account.in_flight -= 1;
        if end.outcome.failure() == Some(FailureClass::LocalCancelled) {
            self.account.cancelled += 1;
        } else if self.targets.generation(slot) != end.outcome.generation {
            self.account.stale += 1;
        } else if end.unheard_at.is_some() {
            return self.ask_again(slot, now);
        } else {
            let was_down = self.targets.stays_down(slot);
            self.targets.judged(slot, end.outcome.verdict());
            self.count_network(&end, was_down);
            self.account_probed(end);
        }
        self.reschedule(slot, now);
    }

    /// A kept connection took the time of the check, and nothing is known of the site: the check is
    /// made again at once, as a commanded one on a connection of its own.
    fn ask_again(&mut self, slot: Slot, now: Now) {
        self.targets.ended(slot);
        if self.drain_by.is_some() {
            self.account.cancelled += 1;
            return;
        }
        self.targets.set_commanded(slot);
        self.wheel
            .enqueue(QUEUE_COMMANDED, slot.0, tick_at(now.mono));
    }

    fn account_probed(&mut self, end: End) {
        let outcome = end.outcome;
        self.account.probed += 1;
        self.account.count(outcome.verdict(), outcome.failure());
        self.account.late += u64::from(outcome.has(flags::LATE));
        let Outcome {
            phases,
            lag_us,
            reap_us,
            ..
        } = outcome;
        self.histograms.record(&phases, lag_us, reap_us);
        let [_, _, tls, ttfb, ..] = outcome.phases.values();
        // A handshake is through when something was asked after it, or nothing was to be asked.
        let succeeded = outcome.failure().is_none() || outcome.has(flags::HTTP_VERIFIED);
        let refused = outcome.has(flags::TLS_SESSION_REFUSED);
        self.account.tls_sessions_refused += u64::from(refused);
        if tls.is_some() && (ttfb.is_some() || succeeded) {
            self.count_handshake(outcome);
        }
        if let Some(evidence) = end.evidence {
            self.send_evidence(evidence);
        }
        self.send(outcome);
    }

    /// A site that `was_down` says nothing of its network by being down still.
    fn count_network(&mut self, end: &End, was_down: bool) {
        let is_dark = networks::is_dark(&end.outcome).filter(|is_dark| !(*is_dark && was_down));
        if let (Some(network), Some(is_dark)) = (end.network, is_dark) {
            self.networks.count(network, is_dark, self.last_turn);
        }
    }

    fn count_handshake(&mut self, outcome: Outcome) {
        if outcome.has(flags::TLS_RESUMED) {
            self.account.tls_resumed += 1;
        } else {
            self.account.tls_full += 1;
        }
        self.account.tls_chain_hits += u64::from(outcome.has(flags::TLS_CHAIN_CACHED));
    }

    /// The next check: off the grid while the sink says so, else the next grid point.
    fn reschedule(&mut self, slot: Slot, now: Now) {
        let again = self.targets.ended(slot);
        if self.drain_by.is_some() {
            return;
        }
        if again {
            self.targets.set_commanded(slot);
            self.account.due += 1;
            self.wheel
                .enqueue(QUEUE_COMMANDED, slot.0, tick_at(now.mono));
        } else if let Some(after_ms) = self.targets.recheck_ms(slot) {
            let due = now.mono.plus_ms(u64::from(after_ms));
            self.schedule(slot, due, after_ms, now);
        } else {
            let due_ms = self.targets.next_due_ms(slot, self.grid_ms(now));
            let due = MonoUs(due_ms.saturating_sub(self.grid_zero.0) * 1_000);
            self.schedule(slot, due, self.targets.cadence_ms(slot), now);
        }
    }

    /// The next check of a target that has just been checked; its name may be asked for before.
    fn schedule(&mut self, slot: Slot, due: MonoUs, cadence_ms: u32, now: Now) {
        self.wheel.insert(slot.0, tick_after(due));
        // A question is asked each time: there is nothing to have at hand for it.
        let host = self.targets.host(slot);
        if let Some(host) = host.filter(|_| self.targets.connects(slot)) {
            self.resolver.prefetch(host, due, cadence_ms, now.mono);
        }
    }

    /// Tells what came of it, or asks again. Beside those that were taken, no more wait than were
    /// in flight.
    fn finish_one_shot(&mut self, key: AttemptKey, ticket: Ticket, end: End) {
        self.account.one_shot.in_flight -= 1;
        let target = self.askable.remove(&key);
        let again = end.unheard_at.is_some() && self.drain_by.is_none();
        if let Some(target) = target.filter(|_| again) {
            self.account.one_shot.pending += 1;
            self.one_shots.push_front(OneShot {
                target,
                ticket,
                is_again: true,
            });
            return;
        }
        self.account.one_shot.done += 1;
        self.report(OneShotReport {
            ticket,
            outcome: end.outcome,
            evidence: end.evidence.unwrap_or_default(),
        });
    }

    /// Answers a one-shot that was never started.
    pub(super) fn refuse_one_shot(&mut self, ticket: Ticket, class: FailureClass, now: Now) {
        self.account.one_shot.refused += 1;
        let mut outcome = Outcome::slot_released(NO_SLOT, Generation::default(), now.unix);
        (outcome.class, outcome.flags) = (class as u8, 0);
        let mut evidence = Evidence::of(NO_SLOT, Generation::default(), 0);
        evidence.class = class as u8;
        let text = match class {
            FailureClass::LocalShed => "too many checks wait already; this one was not made",
            _ => "the check was cancelled, since the core is ending",
        };
        text.clone_into(&mut evidence.text);
        self.report(OneShotReport {
            ticket,
            outcome,
            evidence: Box::new(evidence),
        });
    }

    fn report(&mut self, report: OneShotReport) {
        self.held_reports.push_back(report);
        self.flush_reports();
    }

    fn flush_reports(&mut self) {
        while let Some(report) = self.held_reports.pop_front() {
            match self.channels.one_shots.try_send(report) {
                Err(TrySendError::Full(report)) => {
                    self.held_reports.push_front(report);
                    return;
                }
                // Nobody waits for the answer any more.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Puts an outcome (or a slot's last word) on the channel, behind what is held already. Held
    /// are at most as many outcomes as may be in flight, and one last word for each slot: a slot is
    /// given again only after it was heard.
    pub(super) fn send(&mut self, outcome: Outcome) {
        // The marker of a released slot is no check: it is in no account.
        let checks = u64::from(!outcome.has(flags::SLOT_RELEASED));
        // Evidence goes before its outcome: while some is held, outcomes are.
        let must_wait = !self.held.is_empty() || !self.held_evidence.is_empty();
        if must_wait || self.channels.outcomes.try_send(outcome).is_err() {
            self.account.held += checks;
            self.account.held_total += checks;
            self.held.push_back(outcome);
        } else {
            self.account.sent += checks;
        }
    }

    /// Sends what was held, oldest first.
    pub(super) fn flush_held(&mut self) {
        self.flush_evidence();
        while let Some(outcome) = self.held.front().copied() {
            let behind_evidence = !self.held_evidence.is_empty();
            if behind_evidence || self.channels.outcomes.try_send(outcome).is_err() {
                break;
            }
            self.held.pop_front();
            let checks = u64::from(!outcome.has(flags::SLOT_RELEASED));
            self.account.held -= checks;
            self.account.sent += checks;
        }
        self.flush_reports();
    }

    /// Evidence goes before its outcome. Near the limit only class and errno go; at the limit they
    /// wait, and with them their outcomes: since what is held takes the places of attempts, no more
    /// waits than may be in flight.
    fn send_evidence(&mut self, mut evidence: Box<Evidence>) {
        let channel = &self.channels.evidence;
        let room = channel.capacity().unwrap_or(usize::MAX);
        if !self.held_evidence.is_empty() || channel.len() >= room - room / 8 {
            self.account.evidence_truncated += 1;
            *evidence = evidence.truncated();
        }
        self.held_evidence.push_back(evidence);
        self.flush_evidence();
    }

    fn flush_evidence(&mut self) {
        while let Some(evidence) = self.held_evidence.pop_front() {
            match self.channels.evidence.try_send(evidence) {
                Ok(()) => {}
                Err(TrySendError::Full(evidence)) => {
                    self.held_evidence.push_front(evidence);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => self.account.evidence_dropped += 1,
            }
        }
    }

    /// Sum of stalls, with one that the next turn will find: what came during it may be brought
    /// before that.
    pub(super) fn stalled_by(&self, now: Now) -> u64 {
        let late_us = now
            .mono
            .since(self.last_turn)
            .saturating_sub(self.meant_us());
        let unseen_us = if late_us > STALL_LAG_US { late_us } else { 0 };
        self.stalled_us + unseen_us
    }

    /// Upper bound of how long the last event waited: the time since the loop last turned.
    fn reap_us(&self, now: Now) -> u32 {
        u32::try_from(now.mono.since(self.last_turn)).unwrap_or(u32::MAX)
    }
}

/// How an attempt came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, be it after its deadline: what it found counts.
    Completed,
    /// By its deadline or a cancellation.
    CutShort,
}

/// What is left of a finished attempt.
struct End {
    owner: Owner,
    outcome: Outcome,
    /// Of a failed check, and of every one-shot.
    evidence: Option<Box<Evidence>>,
    /// Where a kept connection used up its time.
    unheard_at: Option<IpAddr>,
    /// The network that was tried last.
    network: Option<Network>,
}

impl End {
    fn of(entry: &InFlight, ending: Ending, reap_us: u32, now: Now) -> Self {
        let (slot, asked) = match entry.owner {
            Owner::Slot(slot) => (slot, false),
            Owner::OneShot { .. } => (NO_SLOT, true),
        };
        let outcome = outcome_of(slot, entry, ending, reap_us, now);
        let evidence = (asked || outcome.class != 0).then(|| {
            Box::new(Evidence {
                flags: outcome.flags,
                ..entry.attempt.evidence(slot, entry.generation, entry.seq)
            })
        });
        Self {
            owner: entry.owner,
            outcome,
            evidence,
            unheard_at: entry.attempt.unheard_at(),
            network: entry.network,
        }
    }
}

fn outcome_of(slot: Slot, entry: &InFlight, ending: Ending, reap_us: u32, now: Now) -> Outcome {
    let report = entry.attempt.report();
    let bit = |condition: bool, flag: u16| if condition { flag } else { 0 };
    // Cancelled before the reactor took it up, it never started.
    let started = entry.started.unwrap_or(now);
    let deadline = started.mono.plus_ms(u64::from(entry.timeout_ms));
    let late = ending == Ending::Completed && now.mono > deadline;
    Outcome {
        slot,
        generation: entry.generation,
        seq: entry.seq,
        started: started.unix.into(),
        phases: report.phases,
        lag_us: u32::try_from(started.mono.since(entry.due)).unwrap_or(u32::MAX),
        reap_us,
        not_after_days: report.not_after_days,
        status: report.status,
        flags: report.flags | bit(entry.commanded, flags::COMMANDED) | bit(late, flags::LATE),
        class: report.class.map_or(0, |class| class as u8),
        hops: report.hops,
    }
}
