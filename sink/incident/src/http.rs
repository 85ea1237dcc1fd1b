//! The life of the `http` identity: from the first failing check to the success that closes it.
//!
//! A failing check meets these rules, in this order: isolation, maintenance, local pressure,
//! suppression, confirmed down, count, open, retry, escalate. What asks verifiers is `escalation`.

use model::fact::{CheckType, Reason, State};
use model::inbox::Cadence;
use model::limits::{FIRST_FAILURE_HOLD_MAX_MS, FIRST_FAILURE_HOLD_MS, HEALTH_EVERY_MS};
use model::target::Maintenance;
use model::{Evidence, FailureClass, Outcome, UnixMs};

use crate::effect::{AuditKind, Effect};
use crate::event::{Birth, Opened};
use crate::pressure::Stance;
use crate::state::{Doubt, Hold, Http, Suspicion};
use crate::step::Turn;
use crate::suppress::Echo;

/// A check that failed.
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    /// Start of the check.
    pub(crate) at: UnixMs,
    /// HTTP status, 0 = none.
    status: u16,
    /// It opens no event before it is confirmed.
    is_doubtful: bool,
    pub(crate) evidence: Option<Box<Evidence>>,
}

impl Failure {
    pub(crate) fn of(
        outcome: &Outcome,
        class: FailureClass,
        evidence: Option<Box<Evidence>>,
    ) -> Self {
        Self {
            class,
            at: outcome.started.get(),
            status: outcome.status,
            is_doubtful: outcome.is_low_confidence(),
            evidence,
        }
    }
}

impl Http {
    /// Takes the open event, if there is one.
    pub(crate) fn take_open(&mut self) -> Option<Opened> {
        match std::mem::take(self) {
            Self::Open(opened) => Some(opened),
            other => {
                *self = other;
                None
            }
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

impl Opened {
    pub(crate) fn is_confirmed(&self) -> bool {
        self.event.state == State::Down
    }
}

impl Suspicion {
    fn birth(&self, state: State) -> Birth {
        Birth {
            check_type: CheckType::Http,
            state,
            started_at: self.first,
            fail_count: self.failures,
            class: self.class,
        }
    }
}

impl Turn<'_, '_> {
    pub(crate) fn succeeded(&mut self) {
        let (now, window) = (self.now(), self.window());
        if window.is_none() {
            self.state.swallowing.over();
        }
        self.state.echoes.good(self.interval_s(), now);
        self.state.ballot = None;
        match std::mem::take(&mut self.state.http) {
            Http::Open(opened) => {
                self.state.echoes.recovered(now);
                self.recovered(opened, window);
            }
            Http::Suspected(suspicion) if suspicion.doubt == Doubt::Damped => {
                self.note_change(suspicion.class);
            }
            Http::Suspected(_) | Http::Clear => {}
        }
        self.command(Cadence::Grid);
    }

    /// A recovery inside of a maintenance window is closed as what the window swallowed: nobody is
    /// told of it.
    fn recovered(&mut self, opened: Opened, window: Option<Maintenance>) {
        let event = opened.event.id;
        if let Some(window) = window {
            self.desk.close(opened, Reason::MaintenanceSwallowed);
            self.state.swallowing.swallow(window);
            let detail = "recovered inside of a maintenance window";
            let kind = AuditKind::MaintenanceActive;
            return self.desk.audit(kind, Some(event), detail);
        }
        let class = opened.event.class;
        let reason = if opened.is_confirmed() && !self.is_asked {
            Reason::VerifierCleared
        } else {
            Reason::ProbeCleared
        };
        self.desk.close(opened, reason);
        self.note_change(class);
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        let stance = self.desk.context.belief.stance;
        if stance == Stance::Isolated {
            return self.not_known();
        }
        if let Some(window) = self.window() {
            return self.swallow(window);
        }
        self.state.swallowing.over();
        if failure.class.may_be_ours() && !self.state.http.is_open() {
            if stance == Stance::Doubting {
                return self.not_known();
            }
            if self.is_echo(&failure) {
                return;
            }
        }
        match std::mem::take(&mut self.state.http) {
            Http::Clear => self.first_failure(failure),
            Http::Suspected(suspicion) => self.failed_again(suspicion, failure),
            Http::Open(opened) if opened.is_confirmed() => self.still_down(opened),
            Http::Open(opened) => self.count(opened, failure),
        }
    }

    /// The trouble may be ours: nothing is said of the target, and it is not checked any sooner.
    /// Failures before and after it are not one after another, unless verifiers are asked already.
    fn not_known(&mut self) {
        self.desk.effects.push(Effect::NotKnown);
        if self.state.http.is_open() {
            return;
        }
        if self.state.ballot.is_none() {
            self.state.http = Http::Clear;
        }
        self.command(Cadence::Grid);
    }

    fn swallow(&mut self, window: Maintenance) {
        let opened = self.state.http.take_open();
        let event = opened.as_ref().map(|opened| opened.event.id);
        if let Some(opened) = opened {
            self.desk.close(opened, Reason::MaintenanceSwallowed);
        }
        self.state.http = Http::Clear;
        self.state.ballot = None;
        self.state.echoes.count_again();
        if self.state.swallowing.swallow(window) || event.is_some() {
            let detail = "a failure inside of a maintenance window is swallowed";
            self.desk.audit(AuditKind::MaintenanceActive, event, detail);
        }
        self.command(Cadence::Grid);
    }

    /// Whether the failure is suppressed as the echo of an outage that ended, or of a false alarm.
    fn is_echo(&mut self, failure: &Failure) -> bool {
        if failure.status != 0 || self.state.http != Http::Clear {
            return false;
        }
        let (interval_s, now) = (self.interval_s(), self.desk.context.now);
        match self.state.echoes.judge(interval_s, failure.at, now) {
            Echo::No => false,
            Echo::Suppressed { first } => {
                if first {
                    let detail = "post-recovery transient failure suppressed";
                    self.desk.audit(AuditKind::AlertSuppressed, None, detail);
                }
                true
            }
        }
    }

    fn first_failure(&mut self, failure: Failure) {
        let known_good = self.desk.context.known_good;
        let suppressed = self.state.echoes.count_again();
        let suspicion = |doubt| Suspicion {
            first: suppressed.unwrap_or(failure.at),
            failures: 1,
            class: failure.class as u8,
            known_good,
            doubt,
        };
        let evidence = failure.evidence;
        if failure.is_doubtful {
            self.prove(suspicion(Doubt::LowConfidence), evidence);
        } else if failure.class.may_be_ours() {
            let since = self.now();
            let hold = Doubt::Held(Box::new(Hold {
                since,
                until: since.plus_ms(FIRST_FAILURE_HOLD_MS),
                checked: self.desk.seen.checked,
                evidence,
            }));
            self.state.http = Http::Suspected(suspicion(hold));
            self.command_recheck();
        } else {
            // Nobody will ask for a doubt.
            self.open(suspicion(Doubt::Deferred), evidence);
        }
    }

    fn failed_again(&mut self, mut suspicion: Suspicion, failure: Failure) {
        if let Doubt::Held(hold) = &mut suspicion.doubt {
            // The first one still waits: it opens with what it saw, and this one is counted.
            let evidence = hold.evidence.take();
            let checked = std::mem::replace(&mut self.desk.seen.checked, hold.checked);
            self.open(suspicion, evidence);
            self.desk.seen.checked = checked;
            return self.failed(failure);
        }
        suspicion.failures = suspicion.failures.saturating_add(1);
        suspicion.class = failure.class as u8;
        match suspicion.doubt {
            Doubt::Damped => self.prove(suspicion, failure.evidence),
            Doubt::LowConfidence if failure.is_doubtful => {
                self.prove(suspicion, failure.evidence);
            }
            Doubt::LowConfidence | Doubt::Deferred | Doubt::Held(_) => {
                self.open(suspicion, failure.evidence);
            }
        }
    }

    /// What opens no event before it is confirmed; then the event is born confirmed.
    fn prove(&mut self, suspicion: Suspicion, evidence: Option<Box<Evidence>>) {
        // Where many targets fail one failure is not enough, whatever the operator says.
        let least = match self.desk.context.belief.stance {
            Stance::Deferring => 2,
            Stance::Clear | Stance::Doubting | Stance::Isolated => 1,
        };
        let enough = suspicion.failures >= self.confirm_after().max(least);
        self.state.http = Http::Suspected(suspicion);
        if enough {
            self.escalate(evidence);
        } else {
            self.command_recheck();
        }
    }

    /// Opens the event, unless the target flaps: then only what is confirmed has one.
    pub(crate) fn open(&mut self, mut suspicion: Suspicion, evidence: Option<Box<Evidence>>) {
        self.note_change(suspicion.class);
        if self.state.flapping.is_some() {
            suspicion.doubt = Doubt::Damped;
            return self.prove(suspicion, evidence);
        }
        self.open_unconfirmed(&suspicion, evidence);
    }

    /// Opens the event as Seems Down, and escalates it at once when enough checks failed before.
    pub(crate) fn open_unconfirmed(
        &mut self,
        suspicion: &Suspicion,
        mut evidence: Option<Box<Evidence>>,
    ) {
        let escalates = suspicion.failures >= self.confirm_after();
        let of_opening = if escalates {
            evidence.clone()
        } else {
            evidence.take()
        };
        let opened = self.open_from(suspicion, State::SeemsDown, of_opening);
        self.state.http = Http::Open(opened);
        if escalates {
            self.escalate(evidence);
        } else {
            self.command_recheck();
        }
    }

    fn open_from(
        &mut self,
        suspicion: &Suspicion,
        state: State,
        evidence: Option<Box<Evidence>>,
    ) -> Opened {
        self.desk.seen.known_good = suspicion.known_good;
        self.desk.open(suspicion.birth(state), evidence)
    }

    /// Another failure of an event that is not confirmed.
    fn count(&mut self, mut opened: Opened, failure: Failure) {
        let event = &mut opened.event;
        event.fail_count = event.fail_count.saturating_add(1);
        event.class = failure.class as u8;
        let escalates = event.fail_count >= self.confirm_after();
        if !(escalates && self.confirms_alone()) {
            // The transition that confirms would bring the count along.
            self.desk.write_count(&opened.event);
        }
        self.state.http = Http::Open(opened);
        if escalates {
            self.escalate(failure.evidence);
        } else {
            self.command_recheck();
        }
    }

    /// Another failure of a confirmed event. Nothing is decided from its count any more: the row
    /// gets it at each doubling, so that a kill costs less than half of it, and whole when the
    /// event closes.
    fn still_down(&mut self, mut opened: Opened) {
        let event = &mut opened.event;
        event.fail_count = event.fail_count.saturating_add(1);
        if event.fail_count.is_power_of_two() {
            self.desk.write_count(event);
        }
        self.state.http = Http::Open(opened);
        self.command(Cadence::Grid);
    }

    /// The target is down.
    pub(crate) fn confirm(&mut self, evidence: Option<Box<Evidence>>) {
        self.state.ballot = None;
        match std::mem::take(&mut self.state.http) {
            Http::Clear => {}
            Http::Suspected(suspicion) => {
                if suspicion.doubt != Doubt::Damped {
                    self.note_change(suspicion.class);
                }
                let opened = self.open_from(&suspicion, State::Down, evidence);
                self.state.http = Http::Open(opened);
            }
            Http::Open(mut opened) => {
                let reason = Reason::VerifierConfirmed;
                self.desk.change(&mut opened, State::Down, reason, evidence);
                self.state.http = Http::Open(opened);
            }
        }
        self.command(Cadence::Grid);
    }

    /// A first failure was held long enough: did our own trouble show meanwhile? Canaries that were
    /// asked before it may have answered while there was a network: it waits for the next ones.
    pub(crate) fn end_hold(&mut self) {
        let (now, vouched) = (self.now(), self.desk.context.vouched);
        let opens = self.desk.context.belief.stance == Stance::Clear && self.window().is_none();
        let waits = |hold: &Hold| {
            let longest_us = FIRST_FAILURE_HOLD_MAX_MS * 1_000;
            opens && vouched < hold.since && now.since(hold.since) < longest_us
        };
        let Http::Suspected(suspicion) = &mut self.state.http else {
            return;
        };
        let (checked, evidence) = match &mut suspicion.doubt {
            Doubt::Held(hold) if hold.until > now => return,
            Doubt::Held(hold) if waits(hold) => {
                hold.until = now.plus_ms(HEALTH_EVERY_MS);
                return;
            }
            Doubt::Held(hold) => (hold.checked, hold.evidence.take()),
            _ => return,
        };
        let suspicion = Suspicion {
            doubt: Doubt::Deferred,
            ..suspicion.clone()
        };
        if let Some(window) = self.window() {
            return self.swallow(window);
        }
        self.desk.seen.checked = checked;
        match self.desk.context.belief.stance {
            Stance::Clear => self.open(suspicion, evidence),
            Stance::Deferring => self.state.http = Http::Suspected(suspicion),
            Stance::Doubting | Stance::Isolated => self.not_known(),
        }
    }

    fn interval_s(&self) -> u32 {
        self.desk.context.subject.interval_s
    }
}
