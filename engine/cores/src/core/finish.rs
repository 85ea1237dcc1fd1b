//! From finished to accounted: outcome, evidence, one-shot report, and the next due time.

use model::inbox::OneShotReport;
use model::limits::EVIDENCE_QUEUE_MAX;
use model::outcome::{Outcome, Phases, flags};
use model::{Evidence, FailureClass, Generation, Now, Slot, Ticket};
use prober::attempt::Event;

use super::{Core, QUEUE_COMMANDED, tick_after, tick_at};
use crate::attempts::{AttemptKey, InFlight, Owner};

/// The slot of a one-shot's outcome.
const NO_SLOT: Slot = Slot(u32::MAX);

impl Core {
    /// Cancels what runs under `key`; it is accounted as cancelled, not probed.
    pub(super) fn cancel(&mut self, key: AttemptKey, now: Now) {
        self.end(key, Event::Cancelled, now);
    }

    /// Ends the attempt: it has its verdict, or was cancelled.
    pub(super) fn finish(&mut self, key: AttemptKey, now: Now) {
        let Some(entry) = self.attempts.remove(key) else {
            return;
        };
        self.timers.cancel(key.index * 2);
        self.timers.cancel(key.index * 2 + 1);
        if let Some(host) = entry.host {
            if entry.resolving {
                self.resolver.forget(host, key.waiter());
            }
            self.resolver.release(host);
        }
        match entry.owner {
            Owner::Slot(slot) => self.finish_slot(slot, &entry, now),
            Owner::OneShot { ticket, .. } => self.finish_one_shot(ticket, &entry, now),
        }
        self.woken.push(key);
        self.attempts.recycle(entry.attempt.into_buffers());
    }

    fn finish_slot(&mut self, slot: Slot, entry: &InFlight, now: Now) {
        self.account.in_flight -= 1;
        let outcome = outcome_of(slot, entry, self.reap_us(now), now);
        if outcome.failure() == Some(FailureClass::LocalCancelled) {
            self.account.cancelled += 1;
        } else if self.targets.generation(slot) == entry.generation {
            self.account_probed(&outcome, entry);
        } else {
            self.account.stale += 1;
        }
        self.reschedule(slot, now);
    }

    fn account_probed(&mut self, outcome: &Outcome, entry: &InFlight) {
        self.account.probed += 1;
        self.account.count(outcome.verdict(), outcome.failure());
        self.histograms.record(&outcome.phases, outcome.lag_us);
        if outcome.phases.values()[2].is_some() && !outcome.has(flags::TLS_RESUMED) {
            self.account.tls_full += 1;
        }
        if outcome.class != 0 {
            let evidence = entry
                .attempt
                .evidence(outcome.slot, entry.generation, entry.seq);
            self.send_evidence(evidence);
        }
        self.send(*outcome);
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
            self.wheel
                .insert(slot.0, tick_after(now.mono.plus_ms(u64::from(after_ms))));
        } else {
            self.schedule_on_grid(slot, self.grid_ms(now));
        }
    }

    fn finish_one_shot(&mut self, ticket: Ticket, entry: &InFlight, now: Now) {
        self.account.one_shot.in_flight -= 1;
        self.account.one_shot.done += 1;
        let outcome = outcome_of(NO_SLOT, entry, self.reap_us(now), now);
        let evidence = entry
            .attempt
            .evidence(NO_SLOT, entry.generation, entry.seq)
            .bounded();
        self.report(OneShotReport {
            ticket,
            outcome,
            evidence: Box::new(evidence),
        });
    }

    /// Answers a one-shot that was never started.
    pub(super) fn refuse_one_shot(&mut self, ticket: Ticket, class: FailureClass, now: Now) {
        self.account.one_shot.refused += 1;
        let mut outcome = Outcome::slot_released(NO_SLOT, Generation::default(), now.unix);
        (outcome.class, outcome.flags) = (class as u8, 0);
        let mut evidence = Evidence::of(NO_SLOT, Generation::default(), 0);
        evidence.class = class as u8;
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
                Err(crossbeam_channel::TrySendError::Full(report)) => {
                    self.held_reports.push_front(report);
                    return;
                }
                // Nobody waits for the answer any more.
                Ok(()) | Err(crossbeam_channel::TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Puts an outcome (or a slot's last word) on the channel, behind what is held already.
    pub(super) fn send(&mut self, outcome: Outcome) {
        // The marker of a released slot is no check: it is in no account.
        let checks = u64::from(!outcome.has(flags::SLOT_RELEASED));
        if !self.held.is_empty() || self.channels.outcomes.try_send(outcome).is_err() {
            self.account.held += checks;
            self.account.held_total += checks;
            self.held.push_back(outcome);
        } else {
            self.account.sent += checks;
        }
    }

    /// Sends what was held, oldest first.
    pub(super) fn flush_held(&mut self) {
        while let Some(outcome) = self.held.front().copied() {
            if self.channels.outcomes.try_send(outcome).is_err() {
                break;
            }
            self.held.pop_front();
            let checks = u64::from(!outcome.has(flags::SLOT_RELEASED));
            self.account.held -= checks;
            self.account.sent += checks;
        }
        self.flush_reports();
    }

    /// Evidence goes before its outcome. Near the limit only class and errno go; beyond it the
    /// class in the outcome has to do.
    fn send_evidence(&mut self, evidence: Evidence) {
        let waiting = self.channels.evidence.len();
        let evidence = if waiting > EVIDENCE_QUEUE_MAX / 8 * 7 {
            self.account.evidence_truncated += 1;
            evidence.truncated()
        } else {
            evidence.bounded()
        };
        if self.channels.evidence.try_send(Box::new(evidence)).is_err() {
            self.account.evidence_dropped += 1;
        }
    }

    /// Upper bound of how long the last event waited: the time since the loop last turned.
    fn reap_us(&self, now: Now) -> u32 {
        u32::try_from(now.mono.since(self.last_turn)).unwrap_or(u32::MAX)
    }
}

fn outcome_of(slot: Slot, entry: &InFlight, reap_us: u32, now: Now) -> Outcome {
    let report = entry.attempt.report();
    let bit = |condition: bool, flag: u16| if condition { flag } else { 0 };
    let completed = report.phases != Phases::NONE;
    Outcome {
        slot,
        generation: entry.generation,
        seq: entry.seq,
        started: entry.started.unix.into(),
        phases: report.phases,
        lag_us: entry.lag_us,
        reap_us,
        not_after_days: report.not_after_days,
        status: report.status,
        flags: report.flags
            | bit(entry.commanded, flags::COMMANDED)
            | bit(completed && now.mono > entry.deadline, flags::LATE),
        class: report.class.map_or(0, |class| class as u8),
        hops: report.hops,
    }
}
