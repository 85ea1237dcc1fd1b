//! From the channels to the incident machine: taking results, booking each in its core's account,
//! stepping those that are not healthy and clean.

use incident::{Audit, AuditKind, Context, Effect, Incident, Input, Subject, step};
use model::class::Verdict;
use model::outcome::{PHASE_ABSENT, flags};
use model::target::Method;
use model::{FailureClass, Now, Outcome, Slot, UnixMs};
use store::HistoryRow;

use super::Sink;
use crate::apply::FactStore;
use crate::incidents::{Command, Key};
use crate::slots::{Admission, Drained, Missed, Tenant};
use crate::windows::Windows;

/// What a step came to, beside what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stepped {
    /// Something else is known of the target now.
    pub(super) is_edge: bool,
    /// The check said something of the target.
    pub(super) is_known: bool,
    /// It is a first failure that waits: our own trouble may show yet.
    begins_hold: bool,
}

impl Stepped {
    const NOTHING: Self = Self {
        is_edge: false,
        is_known: true,
        begins_hold: false,
    };
}

impl<S: FactStore> Sink<S> {
    /// Takes all outcomes, then all evidence; says how many outcomes. While too many facts wait for
    /// the journal the outcomes stay where they are, and the cores hold theirs.
    pub(super) fn take_results(&mut self) -> usize {
        if self.is_congested() {
            return 0;
        }
        for core in &mut self.cores {
            core.batch.extend(
                core.outcomes
                    .try_iter()
                    .take(model::limits::OUTCOME_QUEUE_MAX),
            );
        }
        for (number, core) in self.cores.iter().enumerate() {
            let waiting = core.evidence.len();
            let evidence = core.evidence.try_iter().take(waiting);
            evidence.for_each(|evidence| self.evidence.put(number as u16, evidence));
        }
        self.cores.iter().map(|core| core.batch.len()).sum()
    }

    pub(super) fn book_results(&mut self, now: Now) {
        // Where no healthy check is kept, none pays for the question.
        let keeps_healthy = self.history.takes_healthy();
        let drained = Drained::at(now, self.calendar.at(now.mono));
        for number in 0..self.cores.len() {
            let batch = std::mem::take(&mut self.cores[number].batch);
            if keeps_healthy {
                let book = |outcome: &Outcome| self.book::<true>(number as u16, outcome, drained);
                batch.iter().for_each(book);
            } else {
                let book = |outcome: &Outcome| self.book::<false>(number as u16, outcome, drained);
                batch.iter().for_each(book);
            }
            self.cores[number].batch = batch;
            self.cores[number].batch.clear();
        }
    }

    fn book<const KEEPS_HEALTHY: bool>(&mut self, core: u16, outcome: &Outcome, drained: Drained) {
        let now = drained.now;
        if outcome.has(flags::SLOT_RELEASED) {
            self.retire(
                Key {
                    core,
                    slot: outcome.slot.0,
                },
                None,
                now,
            );
            self.to_release
                .push_back((self.cores[usize::from(core)].index, outcome.slot));
            return;
        }
        self.ledger.result_age.record(age_ms(outcome, now));
        let account = &mut self.ledger.cores[usize::from(core)];
        account.drained += 1;
        match self.slots[usize::from(core)].admit(outcome, drained) {
            Admission::Coalesced => {
                account.coalesced += 1;
                if KEEPS_HEALTHY {
                    self.keep_check(core, outcome, Stepped::NOTHING, now);
                }
            }
            Admission::Discarded => {
                account.discarded_old_generation += 1;
                if outcome.class != 0 {
                    self.evidence.take(core, outcome);
                }
            }
            Admission::Stepped => {
                account.stepped += 1;
                self.step_outcome(core, outcome, now);
            }
        }
    }

    pub(super) fn step_outcome(&mut self, core: u16, outcome: &Outcome, now: Now) {
        let evidence = if outcome.class == 0 {
            None
        } else {
            self.evidence.take(core, outcome)
        };
        let key = Key {
            core,
            slot: outcome.slot.0,
        };
        let (outcome_of, is_asked) = (*outcome, self.watches.asked_for(core, outcome));
        let checked = if is_asked {
            Input::Asked {
                outcome: outcome_of,
                evidence,
            }
        } else {
            Input::Checked {
                outcome: outcome_of,
                evidence,
            }
        };
        let stepped = self.step(key, checked, now);
        let slots = &mut self.slots[usize::from(core)];
        if stepped.is_known && outcome.verdict() != Verdict::Unknown {
            slots.checked(outcome, now.mono);
            if !is_good(outcome) {
                slots.failed(key.slot);
            }
        } else {
            slots.not_known(key.slot, outcome.failure().and_then(Missed::of));
        }
        self.keep_check(core, outcome, stepped, now);
    }

    /// Gives a check to the history, if that wants it. One that is held waits there, too: nobody
    /// knows yet whose failure it is.
    fn keep_check(&mut self, core: u16, outcome: &Outcome, stepped: Stepped, now: Now) {
        let tenant = self.slots[usize::from(core)].tenant(outcome.slot.0);
        let wants = |of: &Tenant| self.history.wants(of.target, outcome, stepped.is_edge);
        let Some(tenant) = tenant.filter(wants) else {
            return;
        };
        let row = HistoryRow {
            id: self.mint.mint(tenant.target.shard(), now.unix),
            target: tenant.target,
            group_id: tenant.group_id,
            method: tenant.method.map_or("", Method::as_str),
            status: outcome.status,
            class: outcome.failure().map(|class| believed(class, stepped)),
            phases: outcome.phases,
            checked_at: outcome.started.get(),
        };
        if stepped.begins_hold {
            let slot = outcome.slot.0;
            self.history.hold(Key { core, slot }, row, now.mono);
        } else {
            self.history.push(row, now.mono);
        }
    }

    /// Moves one target's incident and keeps what follows until it is durable.
    pub(super) fn step(&mut self, key: Key, input: Input, now: Now) -> Stepped {
        let Some(tenant) = self.slots[usize::from(key.core)].tenant(key.slot) else {
            return Stepped::NOTHING;
        };
        let calendar = self.calendar.at(now.mono);
        let mut context = Context {
            policy: self.policy,
            subject: subject(&tenant, &self.windows, calendar),
            belief: self.pressure.belief(),
            vouched: self.pressure.vouched(),
            previous: self.slots[usize::from(key.core)].previous(key.slot, now),
            known_good: self.slots[usize::from(key.core)].known_good(key.slot, now),
            now,
            calendar,
            ids: &mut self.mint,
        };
        let before = self.incidents.get(key);
        let (was_clear, was_held) = (before.is_clear(), before.is_held());
        let known = |incident: &Incident| (incident.http_state(), incident.is_suspected());
        let known_before = known(&before);
        let (after, effects) = step(before, input, &mut context);
        let is_held = after.is_held();
        let mut stepped = Stepped {
            is_edge: known(&after) != known_before,
            begins_hold: is_held && !was_held,
            ..Stepped::NOTHING
        };
        // Most of a storm that is not known ends here: nothing is kept of a target without trouble.
        let is_kept = !was_clear || !after.is_clear() || self.incidents.has(key);
        if is_kept {
            self.slots[usize::from(key.core)].set_rest(key.slot, None);
            self.incidents.stage(key, after);
        }
        for effect in effects {
            stepped.is_known &= effect != Effect::NotKnown;
            self.follow(effect, key, &tenant, now);
        }
        if was_held && !is_held {
            let believed = |class| believed(class, stepped);
            self.history.settle(key, believed, now.mono);
        }
        stepped
    }

    fn follow(&mut self, effect: Effect, key: Key, tenant: &Tenant, now: Now) {
        match effect {
            Effect::Write(fact) => self.facts.push(fact, now.mono),
            Effect::Cadence(cadence) => self.incidents.command(Command {
                core: key.core,
                slot: Slot(key.slot),
                generation: tenant.generation,
                cadence,
            }),
            Effect::Audit(audit) => self.note(audit, tenant.group_id, now),
            Effect::Ask { request } => self.ask(request, key, tenant, now),
            Effect::Tallied(tally) => self.count_votes(&tally),
            // The caller notes it.
            Effect::NotKnown => self.ledger.disbelieved.count(self.pressure.signals()),
        }
    }

    /// Counts a line and has it written to the audit log.
    pub(super) fn note(&mut self, audit: Audit, group_id: u64, now: Now) {
        let counters = &mut self.ledger.counters;
        *match audit.kind {
            AuditKind::MaintenanceActive => &mut counters.maintenance_active,
            AuditKind::AlertSuppressed => &mut counters.alerts_suppressed,
            AuditKind::RetryDispatched => &mut counters.retries_dispatched,
            AuditKind::VerifierSent => &mut counters.verifiers_sent,
        } += 1;
        self.audit.note(audit, group_id, now.mono);
    }

    pub(super) fn end_waits(&mut self, now: Now) {
        while let Some(key) = self.incidents.next_due(now.mono) {
            if self.incidents.has(key) && !self.step(key, Input::Tick, now).is_known {
                self.slots[usize::from(key.core)].not_known(key.slot, None);
            }
        }
    }
}

fn subject(tenant: &Tenant, windows: &Windows, now: UnixMs) -> Subject {
    let Tenant {
        target,
        group_id,
        generation,
        interval_s,
        method,
        maintenance,
    } = *tenant;
    Subject {
        target,
        group_id,
        generation,
        interval_s,
        method,
        maintenance: windows.of_target((target, group_id), maintenance, now),
    }
}

/// What a failure of `class` is called: one that was not believed is ours.
fn believed(class: FailureClass, stepped: Stepped) -> FailureClass {
    if stepped.is_known {
        class
    } else {
        FailureClass::LocalPressure
    }
}

/// Whether HTTP worked, if slowly.
fn is_good(outcome: &Outcome) -> bool {
    let is_verified = outcome.has(flags::HTTP_VERIFIED);
    match outcome.verdict() {
        Verdict::Up => true,
        Verdict::Degraded => is_verified,
        Verdict::Down | Verdict::Unknown => false,
    }
}

/// Time from the end of the check to `now`.
fn age_ms(outcome: &Outcome, now: Now) -> u64 {
    let total_us = outcome.phases.total_us;
    let took_ms = if total_us == PHASE_ABSENT {
        0
    } else {
        u64::from(total_us) / 1_000
    };
    now.unix
        .since(outcome.started.get())
        .saturating_sub(took_ms)
}
