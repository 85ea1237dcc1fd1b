//! One step of the machine. Every mutation of an event is one transition with its owed job.

use model::class::Verdict;
use model::fact::{CheckType, Effect, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::limits::{FIRST_FAILURE_HOLD_MS, SUSPECT_RECHECK_MS};
use model::outcome::flags;
use model::{Evidence, FactId, FailureClass, Generation, Now, Outcome, TargetId, UnixMs};

use crate::state::{Hold, Incident, Opened, Phase, Suspicion};

/// Who decided, in transitions made from local checks.
const SOURCE: &str = "local";

/// Rules that the operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Consecutive failures that confirm an incident; 0 counts as 1.
    pub confirm_after: u32,
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
    /// The target's cadence, in ms.
    pub cadence_ms: u32,
}

/// What a step may look at and draw from.
#[derive(Debug)]
pub struct Context<'a> {
    /// Rules.
    pub policy: Policy,
    /// Whose.
    pub subject: Subject,
    /// When.
    pub now: Now,
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
    /// Time passed: a hold may be over.
    Tick,
    /// The target's open event, as the store and the journal have it after a restart.
    Resume {
        /// The row.
        event: Box<Event>,
        /// Transitions that it already has.
        transitions: u32,
    },
    /// Its core has the target, or a new configuration of it: it checks on the grid.
    Placed,
    /// The target is watched no more.
    Retired,
}

/// Moves `state` by `input` and says what to write and to command, in that order.
pub fn step(state: Incident, input: Input, context: &mut Context<'_>) -> (Incident, Vec<Effect>) {
    let mut turn = Turn {
        state,
        effects: Vec::new(),
        context,
    };
    match input {
        Input::Checked { outcome, evidence } => turn.checked(&outcome, evidence),
        Input::Tick => turn.ticked(),
        Input::Resume { event, transitions } => turn.resumed(*event, transitions),
        Input::Placed => turn.placed(),
        Input::Retired => turn.retired(),
    }
    (turn.state, turn.effects)
}

/// What a check means for the `http` identity.
enum Meaning {
    Success,
    Failure(FailureClass),
    /// Neither opens, closes nor counts.
    Nothing,
}

fn meaning(outcome: &Outcome) -> Meaning {
    match outcome.failure() {
        None if outcome.class == 0 => Meaning::Success,
        None => Meaning::Nothing,
        Some(class) => match class.verdict() {
            Verdict::Up => Meaning::Success,
            Verdict::Degraded if outcome.has(flags::HTTP_VERIFIED) => Meaning::Success,
            Verdict::Degraded | Verdict::Unknown => Meaning::Nothing,
            Verdict::Down => Meaning::Failure(class),
        },
    }
}

struct Turn<'t, 'c> {
    state: Incident,
    effects: Vec<Effect>,
    context: &'t mut Context<'c>,
}

impl Turn<'_, '_> {
    fn checked(&mut self, outcome: &Outcome, evidence: Option<Box<Evidence>>) {
        let meaning = meaning(outcome);
        if matches!(meaning, Meaning::Nothing) || !self.is_news(outcome) {
            return;
        }
        match meaning {
            Meaning::Success => self.succeeded(),
            Meaning::Failure(class) => self.failed(class, outcome.started.get(), evidence),
            Meaning::Nothing => {}
        }
    }

    /// Refuses other generations and sequence numbers that were already seen. A new generation
    /// starts its own numbers, and its core forgot the cadence that it was told.
    fn is_news(&mut self, outcome: &Outcome) -> bool {
        let current = self.context.subject.generation;
        if outcome.generation != current {
            return false;
        }
        match self.state.seen {
            Some((generation, seq)) if generation == current && outcome.seq <= seq => return false,
            Some((generation, _)) if generation > current => return false,
            Some((generation, _)) if generation < current => self.state.commanded = None,
            _ => {}
        }
        self.state.seen = Some((current, outcome.seq));
        true
    }

    fn succeeded(&mut self) {
        if let Some(event) = self.state.open_event() {
            let reason = match event.state {
                State::Down => Reason::VerifierCleared,
                _ => Reason::ProbeCleared,
            };
            self.close(reason);
        }
        self.state.phase = Phase::Clear;
        self.command(Cadence::Grid);
    }

    fn failed(&mut self, class: FailureClass, at: UnixMs, evidence: Option<Box<Evidence>>) {
        match std::mem::replace(&mut self.state.phase, Phase::Clear) {
            Phase::Clear => self.first_failure(class, at, evidence),
            Phase::Suspected(suspicion) => self.failed_again(suspicion, class, evidence),
            Phase::Open(opened) => {
                self.state.phase = Phase::Open(opened);
                self.count(class, evidence);
            }
        }
    }

    fn first_failure(&mut self, class: FailureClass, at: UnixMs, evidence: Option<Box<Evidence>>) {
        let mut suspicion = Suspicion {
            first: at,
            failures: 1,
            class: class as u8,
            hold: None,
        };
        if class.is_low_confidence() {
            self.doubt(suspicion, evidence);
        } else if class.is_connect_or_timeout() {
            let until = self.context.now.mono.plus_ms(FIRST_FAILURE_HOLD_MS);
            suspicion.hold = Some(Hold { until, evidence });
            self.state.phase = Phase::Suspected(suspicion);
            self.command_recheck();
        } else {
            self.open(&suspicion, evidence);
        }
    }

    fn failed_again(
        &mut self,
        mut suspicion: Suspicion,
        class: FailureClass,
        evidence: Option<Box<Evidence>>,
    ) {
        if let Some(hold) = suspicion.hold.take() {
            self.open(&suspicion, hold.evidence);
            self.count(class, evidence);
            return;
        }
        suspicion.failures += 1;
        suspicion.class = class as u8;
        if class.is_low_confidence() {
            self.doubt(suspicion, evidence);
        } else {
            self.open(&suspicion, evidence);
        }
    }

    /// A low-confidence failure opens nothing before it repeated often enough; then the event is
    /// born confirmed.
    fn doubt(&mut self, suspicion: Suspicion, evidence: Option<Box<Evidence>>) {
        if suspicion.failures < self.confirm_after() {
            self.state.phase = Phase::Suspected(suspicion);
            self.command_recheck();
            return;
        }
        let event = self.new_event(&suspicion, State::Down);
        self.state.phase = Phase::Open(Opened {
            event,
            transitions: 0,
        });
        self.mutate(None, State::Down, Reason::Opened, evidence);
        self.command(Cadence::Grid);
    }

    /// Opens the event as Seems Down, and confirms it at once when enough checks failed before.
    fn open(&mut self, suspicion: &Suspicion, mut evidence: Option<Box<Evidence>>) {
        let event = self.new_event(suspicion, State::SeemsDown);
        let confirmed = suspicion.failures >= self.confirm_after();
        self.state.phase = Phase::Open(Opened {
            event,
            transitions: 0,
        });
        let of_opening = if confirmed {
            evidence.clone()
        } else {
            evidence.take()
        };
        self.mutate(None, State::SeemsDown, Reason::Opened, of_opening);
        if confirmed {
            self.confirm(evidence);
        } else {
            self.command_recheck();
        }
    }

    /// Another failure of an open event.
    fn count(&mut self, class: FailureClass, evidence: Option<Box<Evidence>>) {
        let confirm_after = self.confirm_after();
        let Phase::Open(opened) = &mut self.state.phase else {
            return;
        };
        let event = &mut opened.event;
        event.fail_count = event.fail_count.saturating_add(1);
        if event.state == State::Down {
            // Nothing is decided from this count any more: the row gets it at each doubling, so
            // that a kill costs less than half of it, and whole when the event closes.
            if event.fail_count.is_power_of_two() {
                self.write_count();
            }
            self.command(Cadence::Grid);
            return;
        }
        event.class = class as u8;
        if event.fail_count >= confirm_after {
            self.confirm(evidence);
            return;
        }
        self.write_count();
        self.command_recheck();
    }

    /// Writes the fail count of the open event, which owes nothing.
    fn write_count(&mut self) {
        if let Some(event) = self.state.open_event() {
            let fact = Fact::Counted {
                event: event.id,
                target: event.target,
                fail_count: event.fail_count,
            };
            self.effects.push(Effect::Write(fact));
        }
    }

    fn confirm(&mut self, evidence: Option<Box<Evidence>>) {
        let Phase::Open(opened) = &mut self.state.phase else {
            return;
        };
        let before = opened.event.state;
        opened.event.state = State::Down;
        self.mutate(
            Some(before),
            State::Down,
            Reason::VerifierConfirmed,
            evidence,
        );
        self.command(Cadence::Grid);
    }

    fn close(&mut self, reason: Reason) {
        let now = self.context.now.unix;
        let Phase::Open(opened) = &mut self.state.phase else {
            return;
        };
        let before = opened.event.state;
        opened.event.ended_at = Some(now.max(opened.event.started_at));
        opened.event.resolution = Some(reason);
        self.mutate(Some(before), State::Resolved, reason, None);
        self.state.phase = Phase::Clear;
    }

    fn ticked(&mut self) {
        let due = self
            .state
            .wakes_at()
            .is_some_and(|at| at <= self.context.now.mono);
        if !due {
            return;
        }
        if let Phase::Suspected(mut suspicion) =
            std::mem::replace(&mut self.state.phase, Phase::Clear)
        {
            let evidence = suspicion.hold.take().and_then(|hold| hold.evidence);
            self.open(&suspicion, evidence);
        }
    }

    fn resumed(&mut self, event: Event, transitions: u32) {
        let ours = event.target == self.context.subject.target
            && event.check_type == CheckType::Http
            && event.ended_at.is_none();
        if ours && matches!(self.state.phase, Phase::Clear) {
            self.state.phase = Phase::Open(Opened { event, transitions });
        }
    }

    /// What is failing and not confirmed is checked again soon, also after a restart or a change.
    fn placed(&mut self) {
        self.state.commanded = Some(Cadence::Grid);
        let unconfirmed = match &self.state.phase {
            Phase::Clear => false,
            Phase::Suspected(_) => true,
            Phase::Open(opened) => opened.event.state == State::SeemsDown,
        };
        if unconfirmed {
            self.command_recheck();
        }
    }

    fn retired(&mut self) {
        self.close(Reason::ManualOverride);
        self.state = Incident::default();
    }

    fn new_event(&mut self, suspicion: &Suspicion, state: State) -> Event {
        let subject = self.context.subject;
        Event {
            id: self.mint(subject.target),
            target: subject.target,
            group_id: subject.group_id,
            check_type: CheckType::Http,
            discriminator: None,
            state,
            started_at: suspicion.first,
            ended_at: None,
            resolution: None,
            fail_count: suspicion.failures,
            class: suspicion.class,
        }
    }

    /// Writes the open event as it now is, with the transition that led there and its job.
    fn mutate(
        &mut self,
        before: Option<State>,
        after: State,
        reason: Reason,
        evidence: Option<Box<Evidence>>,
    ) {
        let target = self.context.subject.target;
        let (id, job_id) = (self.mint(target), self.mint(target));
        let Phase::Open(opened) = &mut self.state.phase else {
            return;
        };
        opened.transitions += 1;
        let changed_at = self.context.now.unix.max(opened.event.started_at);
        let transition = Transition {
            id,
            event: opened.event.id,
            target: opened.event.target,
            before,
            after,
            reason,
            source: SOURCE.to_owned(),
            changed_at,
            evidence,
        };
        let job = Job {
            id: job_id,
            kind: JobKind::Fanout,
            transition: id,
            seq: opened.transitions,
            run_at: changed_at,
        };
        let event = opened.event.clone();
        self.effects.push(Effect::Write(Fact::Transitioned {
            event,
            transition,
            job,
        }));
    }

    fn command_recheck(&mut self) {
        let after_ms = self.context.subject.cadence_ms.min(SUSPECT_RECHECK_MS);
        self.command(Cadence::Recheck { after_ms });
    }

    fn command(&mut self, cadence: Cadence) {
        if self.state.commanded != Some(cadence) {
            self.state.commanded = Some(cadence);
            self.effects.push(Effect::Cadence(cadence));
        }
    }

    fn mint(&mut self, target: TargetId) -> FactId {
        self.context.ids.mint(target.shard(), self.context.now.unix)
    }

    fn confirm_after(&self) -> u32 {
        self.context.policy.confirm_after.max(1)
    }
}
