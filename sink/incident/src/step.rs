//! One step of the machine: what happened, to which part of it that goes, and what follows.

use std::borrow::Cow;

use model::class::Verdict;
use model::fact::{CheckType, Event, Reason};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::limits::SUSPECT_RECHECK_MS;
use model::outcome::flags;
use model::schedule::cadence_ms;
use model::target::{Maintenance, Method};
use model::{
    Belief, Evidence, FactId, FailureClass, Generation, MonoUs, Now, Outcome, TargetId, UnixMs,
};

use crate::advisory::{Advisories, Latency};
use crate::effect::{AuditKind, Effect};
use crate::event::{Checked, Desk, LOCAL, Opened, Seen};
use crate::flap::Changes;
use crate::http::Failure;
use crate::quorum::Answer;
use crate::state::{Http, Incident};

/// Rules that the operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Consecutive failures that confirm an incident, or that verifiers are asked after; 0 counts
    /// as 1.
    pub confirm_after: u32,
    /// Vantages that can be asked; with none, our own checks confirm.
    pub vantages: usize,
}

/// Whose incident it is, as configured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The target.
    pub target: TargetId,
    /// The legacy `blog_id`, or 0.
    pub group_id: u64,
    /// The current generation; checks of any other are ignored.
    pub generation: Generation,
    /// The target's interval, in seconds.
    pub interval_s: u32,
    /// The method of its requests, if it has any.
    pub method: Option<Method>,
    /// Its maintenance window, past or to come.
    pub maintenance: Option<Maintenance>,
}

/// What a step may look at and draw from.
#[derive(Debug)]
pub struct Context<'a> {
    /// Rules.
    pub policy: Policy,
    /// Whose.
    pub subject: Subject,
    /// How far our own checks may be believed, and why.
    pub belief: Belief,
    /// Start of the target's last good check, where it is known and was the last one that said
    /// anything.
    pub known_good: Option<UnixMs>,
    /// Start of its last check that said anything, good or not, where it is known.
    pub previous: Option<UnixMs>,
    /// What failed before was followed by canaries that answered.
    pub vouched: MonoUs,
    /// When.
    pub now: Now,
    /// The same for maintenance windows and the days of certificates, as a [`Calendar`] shows it.
    ///
    /// [`Calendar`]: crate::Calendar
    pub calendar: UnixMs,
    /// New ids.
    pub ids: &'a mut FactMint,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A check finished.
    Checked {
        /// Its result.
        outcome: Outcome,
        /// What it saw, if it failed.
        evidence: Option<Box<Evidence>>,
    },
    /// A check finished that an operator asked for: the operator's word for its success.
    Asked {
        /// Its result.
        outcome: Outcome,
        /// What it saw, if it failed.
        evidence: Option<Box<Evidence>>,
    },
    /// All verifiers that were asked have answered, or will not.
    Answered {
        /// What they were asked, as [`Effect::Ask`] named it.
        request: FactId,
        /// What they said.
        answers: Vec<Answer>,
    },
    /// There was no room for this question: nobody was asked.
    NotAsked {
        /// As [`Effect::Ask`] named it.
        request: FactId,
    },
    /// Time passed: a wait may be over.
    Tick,
    /// An open event of the target, as the store and the journal have it after a restart.
    Resume {
        /// The row.
        event: Box<Event>,
        /// Transitions that it already has.
        transitions: u32,
    },
    /// Its core has the target, or a new configuration of it: it checks on the grid.
    Placed,
    /// Somebody closes the open event of this type. If the target still fails, its next check
    /// opens another.
    Closed {
        /// Which.
        check_type: CheckType,
        /// Who.
        by: String,
    },
    /// The target is watched no more: it was removed or switched off, or somebody paused it.
    Retired {
        /// Who, if it was a person.
        by: Option<String>,
    },
}

/// Moves `state` by `input` and says what to write and to command, in that order.
pub fn step(state: Incident, input: Input, context: &mut Context<'_>) -> (Incident, Vec<Effect>) {
    let desk = Desk {
        context,
        effects: Vec::new(),
        source: Cow::Borrowed(LOCAL),
        seen: Seen::default(),
        discriminator: None,
    };
    let mut turn = Turn {
        state,
        desk,
        is_asked: false,
    };
    match input {
        Input::Checked { outcome, evidence } => turn.checked(&outcome, evidence),
        Input::Asked { outcome, evidence } => {
            turn.is_asked = true;
            turn.checked(&outcome, evidence);
        }
        Input::Answered { request, answers } => turn.answered(request, &answers),
        Input::NotAsked { request } => turn.not_asked(request),
        Input::Tick => turn.ticked(),
        Input::Resume { event, transitions } => turn.resumed(*event, transitions),
        Input::Placed => turn.placed(),
        Input::Closed { check_type, by } => turn.closed(check_type, by),
        Input::Retired { by } => turn.retired(by),
    }
    turn.desk.schedule(turn.state.commanded);
    (turn.state, turn.desk.effects)
}

/// What a check says.
enum Meaning {
    /// HTTP works, if slowly.
    Success { slow: bool },
    /// HTTP does not.
    Failure(FailureClass),
    /// Nothing of HTTP, but that its TLS is old.
    OldTls,
    /// Neither opens, closes nor counts.
    Nothing,
}

fn meaning(outcome: &Outcome) -> Meaning {
    let class = match outcome.failure() {
        None if outcome.class == 0 => return Meaning::Success { slow: false },
        None => return Meaning::Nothing,
        Some(class) => class,
    };
    match class.verdict() {
        Verdict::Up => Meaning::Success { slow: false },
        Verdict::Degraded if outcome.has(flags::HTTP_VERIFIED) => Meaning::Success {
            slow: class == FailureClass::Latency,
        },
        Verdict::Degraded => match class {
            FailureClass::TlsDeprecated | FailureClass::TlsUnsupported => Meaning::OldTls,
            _ => Meaning::Nothing,
        },
        Verdict::Unknown => Meaning::Nothing,
        Verdict::Down => Meaning::Failure(class),
    }
}

/// A state on its way through one step.
pub(crate) struct Turn<'t, 'c> {
    pub(crate) state: Incident,
    pub(crate) desk: Desk<'t, 'c>,
    /// The check was asked for by an operator.
    pub(crate) is_asked: bool,
}

impl Turn<'_, '_> {
    fn checked(&mut self, outcome: &Outcome, evidence: Option<Box<Evidence>>) {
        let meaning = meaning(outcome);
        if matches!(meaning, Meaning::Nothing) || !self.is_news(outcome) {
            return;
        }
        let previous = self.desk.context.previous;
        self.desk.seen.checked = Some(Checked::of(outcome, previous));
        match meaning {
            Meaning::Success { slow } => {
                self.succeeded();
                self.advise(outcome, slow, evidence);
            }
            Meaning::Failure(class) => {
                self.failed(Failure::of(outcome, class, evidence));
                // A certificate that was not accepted is what the failure says already.
                if outcome.not_after_days != 0 && !class.is_tls() {
                    self.state.advisories.certificate(outcome, &mut self.desk);
                }
            }
            Meaning::OldTls => {
                let advisories = &mut self.state.advisories;
                advisories.tls_is_old(outcome, evidence, &mut self.desk);
            }
            Meaning::Nothing => {}
        }
        self.settle_flapping();
    }

    /// Refuses other generations and sequence numbers that were already seen. A new generation
    /// starts its own numbers, and its core forgot the cadence that it was told.
    fn is_news(&mut self, outcome: &Outcome) -> bool {
        let current = self.desk.context.subject.generation;
        if outcome.generation != current {
            return false;
        }
        match self.state.seen {
            Some((generation, seq)) if generation == current && outcome.seq <= seq => return false,
            Some((generation, _)) if generation > current => return false,
            Some((generation, _)) if generation < current => self.command_again(),
            _ => {}
        }
        self.state.seen = Some((current, outcome.seq));
        true
    }

    /// HTTP works: what is there to say beside that?
    fn advise(&mut self, outcome: &Outcome, slow: bool, evidence: Option<Box<Evidence>>) {
        let in_maintenance = self.window().is_some();
        let Advisories { latency, .. } = &mut self.state.advisories;
        let is_watched = slow || !latency.is_idle();
        if is_watched && !in_maintenance {
            latency.observe(outcome, slow, evidence, &mut self.desk);
        }
        self.state.advisories.tls_is_good(&mut self.desk);
        self.state.advisories.certificate(outcome, &mut self.desk);
    }

    /// A change between up and failing; many of them are an incident of their own.
    pub(crate) fn note_change(&mut self, class: u8) {
        let now = self.desk.context.now;
        self.state.changes.note(now.mono);
        if self.state.flapping.is_none()
            && let Some(since) = self.state.changes.flapping_since(now)
        {
            self.state.flapping =
                Some(Box::new(self.desk.open(Changes::birth(since, class), None)));
        }
    }

    fn settle_flapping(&mut self) {
        let now = self.now();
        match self
            .state
            .flapping
            .take_if(|_| self.state.changes.is_quiet(now))
        {
            Some(opened) => {
                self.desk.close(*opened, Reason::ProbeCleared);
                self.state.changes = Changes::default();
            }
            None if self.state.flapping.is_none() => self.state.changes.forget_old(now),
            None => {}
        }
    }

    fn resumed(&mut self, event: Event, transitions: u32) {
        let ours = event.target == self.desk.context.subject.target
            && event.discriminator.is_none()
            && event.ended_at.is_none();
        if !ours {
            return;
        }
        let now = self.now();
        let state = &mut self.state;
        let check_type = event.check_type;
        let opened = Opened { event, transitions };
        let place = match check_type {
            CheckType::Http => {
                if matches!(state.http, Http::Clear) {
                    state.http = Http::Open(opened);
                }
                return;
            }
            CheckType::TlsExpiry => &mut state.advisories.expiry,
            CheckType::TlsDeprecated => &mut state.advisories.deprecated,
            CheckType::Latency => {
                state.advisories.latency.slow = Latency::ALL_SLOW;
                &mut state.advisories.latency.opened
            }
            CheckType::Flapping => {
                state.changes.note(now);
                &mut state.flapping
            }
            CheckType::NodeSuppressing | CheckType::NodeIsolated => return,
        };
        place.get_or_insert_with(|| Box::new(opened));
    }

    /// What is failing and not confirmed is checked again soon, also after a restart or a change.
    fn placed(&mut self) {
        self.state.commanded = Cadence::Grid;
        let unconfirmed = match &self.state.http {
            Http::Clear => false,
            Http::Suspected(_) => true,
            Http::Open(opened) => !opened.is_confirmed(),
        };
        if unconfirmed {
            self.command(self.recheck());
        }
    }

    fn closed(&mut self, check_type: CheckType, by: String) {
        self.desk.source = Cow::Owned(by);
        if let Some(opened) = self.take(check_type) {
            self.desk.close(opened, Reason::ManualOverride);
        }
    }

    fn retired(&mut self, by: Option<String>) {
        if let Some(by) = by {
            self.desk.source = Cow::Owned(by);
        }
        for check_type in CheckType::OF_TARGETS {
            if let Some(opened) = self.take(check_type) {
                self.desk.close(opened, Reason::ManualOverride);
            }
        }
        self.state = Incident::default();
    }

    /// Takes an open event out of the state, with all that led to it.
    fn take(&mut self, check_type: CheckType) -> Option<Opened> {
        let state = &mut self.state;
        let boxed = match check_type {
            CheckType::Http => {
                let opened = state.http.take_open()?;
                state.ballot = None;
                self.command(Cadence::Grid);
                return Some(opened);
            }
            CheckType::TlsExpiry => state.advisories.expiry.take(),
            CheckType::TlsDeprecated => state.advisories.deprecated.take(),
            CheckType::Latency => std::mem::take(&mut state.advisories.latency).opened,
            CheckType::Flapping => {
                state.changes = Changes::default();
                state.flapping.take()
            }
            CheckType::NodeSuppressing | CheckType::NodeIsolated => None,
        };
        boxed.map(|opened| *opened)
    }

    pub(crate) fn command_recheck(&mut self) {
        if self.command(self.recheck()) {
            let event = self.state.open_event().map(|event| event.id);
            let detail = "a failing check is made again soon";
            self.desk.audit(AuditKind::RetryDispatched, event, detail);
        }
    }

    fn recheck(&self) -> Cadence {
        let cadence_ms = cadence_ms(self.desk.context.subject.interval_s);
        Cadence::Recheck {
            after_ms: cadence_ms.min(SUSPECT_RECHECK_MS),
        }
    }

    /// Says whether the core was told something else before.
    pub(crate) fn command(&mut self, cadence: Cadence) -> bool {
        let is_new = std::mem::replace(&mut self.state.commanded, cadence) != cadence;
        if is_new {
            self.desk.effects.push(Effect::Cadence(cadence));
        }
        is_new
    }

    /// What the core may have forgotten is told again, and is not begun again.
    fn command_again(&mut self) {
        let cadence = self.state.commanded;
        if cadence != Cadence::Grid {
            self.desk.effects.push(Effect::Cadence(cadence));
        }
    }

    /// The maintenance window that is active.
    pub(crate) fn window(&self) -> Option<Maintenance> {
        let window = self.desk.context.subject.maintenance;
        window.filter(|window| window.is_active(self.desk.context.calendar))
    }

    pub(crate) fn now(&self) -> MonoUs {
        self.desk.context.now.mono
    }

    pub(crate) fn confirm_after(&self) -> u32 {
        self.desk.context.policy.confirm_after.max(1)
    }
}
