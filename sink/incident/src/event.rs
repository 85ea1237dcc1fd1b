//! Open events, whatever they are about, and the only place where they change: every change is one
//! transition with its owed job. It must not decide anything.

use std::borrow::Cow;

use model::fact::{CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::inbox::Cadence;
use model::metadata::{Observation, Probed, Suppression, Votes};
use model::outcome::{Phases, flags};
use model::target::Method;
use model::{Evidence, FactId, Metadata, Outcome, UnixMs};

use crate::effect::{Audit, AuditKind, Effect};
use crate::step::Context;

/// Who decided, in transitions made from local checks.
pub(crate) const LOCAL: &str = "local";
/// Who decided, where verifiers were asked.
pub(crate) const QUORUM: &str = "quorum";

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// An event that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) event: Event,
    /// Transitions of the event so far.
    pub(crate) transitions: u32,
}

/// What an event begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) check_type: CheckType,
    pub(crate) state: State,
    pub(crate) started_at: UnixMs,
    pub(crate) fail_count: u32,
    pub(crate) class: u8,
}

/// Where a step writes: its effects, and what it may look at and draw from.
pub(crate) struct Desk<'t, 'c> {
    pub(crate) context: &'t mut Context<'c>,
    pub(crate) effects: Vec<Effect>,
    /// Who decides in this step.
    pub(crate) source: Cow<'static, str>,
    /// What it decides from, for the metadata of what it changes.
    pub(crate) seen: Seen,
    /// Tells apart events of one target and type.
    pub(crate) discriminator: Option<String>,
}

/// The check that a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Its start.
    pub(crate) at: UnixMs,
    /// Start of the one before that could say something.
    previous_at: Option<UnixMs>,
    lag_us: u32,
    reap_us: u32,
    is_late: bool,
    /// As in [`Outcome::not_after_days`].
    not_after_days: u16,
    phases: Phases,
    hops: u8,
}

impl Checked {
    pub(crate) fn of(outcome: &Outcome, previous_at: Option<UnixMs>) -> Self {
        Self {
            at: outcome.started.get(),
            previous_at,
            lag_us: outcome.lag_us,
            reap_us: outcome.reap_us,
            is_late: outcome.has(flags::LATE),
            not_after_days: outcome.not_after_days,
            phases: outcome.phases,
            hops: outcome.hops,
        }
    }

    fn probed(&self, method: Option<Method>) -> Probed {
        Probed {
            method,
            phases: self.phases,
            redirect_count: self.hops,
        }
    }

    /// When the certificate that it saw expires, if it saw one.
    fn not_after(&self) -> Option<UnixMs> {
        let days = Some(u64::from(self.not_after_days)).filter(|&days| days > 0);
        days.map(|days| UnixMs(days * DAY_MS))
    }
}

/// What a step has before it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The check that it is about.
    pub(crate) checked: Option<Checked>,
    /// Start of the last good check before the first failure, while an event is opened.
    pub(crate) known_good: Option<UnixMs>,
    /// How verifiers voted.
    pub(crate) votes: Option<Box<Votes>>,
    /// Of the node's own incidents.
    pub(crate) suppression: Option<Suppression>,
}

impl Desk<'_, '_> {
    pub(crate) fn open(&mut self, birth: Birth, evidence: Option<Box<Evidence>>) -> Opened {
        let subject = self.context.subject;
        let event = Event {
            id: self.mint(),
            target: subject.target,
            group_id: subject.group_id,
            check_type: birth.check_type,
            discriminator: self.discriminator.clone(),
            state: birth.state,
            started_at: birth.started_at,
            ended_at: None,
            resolution: None,
            fail_count: birth.fail_count,
            class: birth.class,
        };
        let mut opened = Opened {
            event,
            transitions: 0,
        };
        self.write(&mut opened, (None, birth.state), Reason::Opened, evidence);
        opened
    }

    pub(crate) fn change(
        &mut self,
        opened: &mut Opened,
        state: State,
        reason: Reason,
        evidence: Option<Box<Evidence>>,
    ) {
        let before = std::mem::replace(&mut opened.event.state, state);
        self.write(opened, (Some(before), state), reason, evidence);
    }

    /// Takes the event: a closed one changes no more.
    pub(crate) fn close(&mut self, opened: Opened, reason: Reason) {
        self.close_on(opened, reason, None);
    }

    /// The same, on what was seen.
    pub(crate) fn close_on(
        &mut self,
        mut opened: Opened,
        reason: Reason,
        evidence: Option<Box<Evidence>>,
    ) {
        let event = &mut opened.event;
        event.ended_at = Some(self.context.now.unix.max(event.started_at));
        event.resolution = Some(reason);
        let states = (Some(event.state), State::Resolved);
        self.write(&mut opened, states, reason, evidence);
    }

    fn write(
        &mut self,
        opened: &mut Opened,
        (before, after): (Option<State>, State),
        reason: Reason,
        evidence: Option<Box<Evidence>>,
    ) {
        let (id, job) = (self.mint(), self.mint());
        opened.transitions += 1;
        let event = opened.event.clone();
        let changed_at = self.context.now.unix.max(event.started_at);
        let mut transition = Transition {
            id,
            event: event.id,
            target: event.target,
            before,
            after,
            reason,
            source: self.source.clone().into_owned(),
            changed_at,
            evidence,
            metadata: None,
        };
        transition.metadata = Some(Box::new(self.known(&event, &transition)));
        let job = Job {
            id: job,
            kind: JobKind::Fanout,
            transition: id,
            seq: opened.transitions,
            run_at: changed_at,
        };
        self.effects.push(Effect::Write(Fact::Transitioned {
            event,
            transition,
            job,
        }));
    }

    /// What is known as `transition` of `event` is written.
    fn known(&self, event: &Event, transition: &Transition) -> Metadata {
        let subject = self.context.subject;
        let is_http = event.check_type == CheckType::Http;
        let checked = self.seen.checked.as_ref();
        let of_certificate = checked.filter(|_| event.check_type == CheckType::TlsExpiry);
        let interval_s = Some(subject.interval_s).filter(|&seconds| seconds > 0);
        Metadata {
            observation: Observation {
                normal_check_interval_seconds: interval_s,
                ..self.seen.of(event, transition)
            },
            belief: self.context.belief,
            votes: self.seen.votes.clone().filter(|_| is_http),
            suppression: self.seen.suppression,
            not_after: of_certificate.and_then(Checked::not_after),
            probed: checked.map(|checked| checked.probed(subject.method)),
        }
    }

    /// Adds when the next check is to everything that changed, once the step has `commanded` it.
    pub(crate) fn schedule(&mut self, commanded: Cadence) {
        for effect in &mut self.effects {
            let Effect::Write(Fact::Transitioned { transition, .. }) = effect else {
                continue;
            };
            let Some(known) = transition.metadata.as_deref_mut() else {
                continue;
            };
            let normal = known.observation.normal_check_interval_seconds;
            known.observation.next_check_interval_seconds = match commanded {
                Cadence::Recheck { after_ms } => normal.map(|_| after_ms.div_ceil(1_000)),
                Cadence::Grid => normal,
            };
        }
    }

    /// Writes the fail count of an open event, which owes nothing.
    pub(crate) fn write_count(&mut self, event: &Event) {
        let fact = Fact::Counted {
            event: event.id,
            target: event.target,
            fail_count: event.fail_count,
        };
        self.effects.push(Effect::Write(fact));
    }

    pub(crate) fn audit(&mut self, kind: AuditKind, event: Option<FactId>, detail: &'static str) {
        self.audit_votes(kind, event, detail, None);
    }

    /// The same of what verifiers said.
    pub(crate) fn audit_votes(
        &mut self,
        kind: AuditKind,
        event: Option<FactId>,
        detail: &'static str,
        votes: Option<Box<Votes>>,
    ) {
        self.effects.push(Effect::Audit(Audit {
            target: self.context.subject.target,
            event,
            kind,
            detail,
            votes,
            at: self.context.now.unix,
        }));
    }

    pub(crate) fn mint(&mut self) -> FactId {
        let shard = self.context.subject.target.shard();
        self.context.ids.mint(shard, self.context.now.unix)
    }
}

impl Seen {
    /// As far as it is about this change of this event.
    fn of(&self, event: &Event, transition: &Transition) -> Observation {
        let is_http = event.check_type == CheckType::Http;
        let is_opened = is_http && transition.before.is_none();
        let is_recovery = matches!(
            transition.reason,
            Reason::VerifierCleared | Reason::ProbeCleared
        );
        let checked_at = self.checked.map(|checked| checked.at);
        Observation {
            checked_at,
            lag_us: self.checked.map(|checked| checked.lag_us),
            reap_us: self.checked.map(|checked| checked.reap_us),
            late: self.checked.map(|checked| checked.is_late),
            previous_observed_at: self.checked.and_then(|checked| checked.previous_at),
            first_failed_at: is_http.then_some(event.started_at),
            previous_known_good_at: self.known_good.filter(|_| is_opened),
            first_recovered_at: checked_at.filter(|_| is_recovery),
            closed_at: event.ended_at,
            ..Observation::default()
        }
    }
}
