//! A target on a virtual clock, with everything that its incident machine asked for, and the rows
//! that a store would have.

use incident::{Context, Incident, Input, Policy, Subject, step};
use model::fact::{Effect, Event, Fact, State, Transition};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::outcome::flags;
use model::{Evidence, FailureClass, Generation, MonoUs, Now, Outcome, Slot, TargetId, UnixMs};

pub(crate) const START: u64 = 1_800_000_000_000;
pub(crate) const CADENCE_MS: u32 = 285_000;

/// One check: its class (`None` = up), and the time since the one before.
pub(crate) type Check = (Option<FailureClass>, u64);

pub(crate) struct Life {
    pub(crate) incident: Incident,
    pub(crate) effects: Vec<Effect>,
    /// Rows as a store keeps them: every event ever opened, by age.
    pub(crate) rows: Vec<Event>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) job_seqs: Vec<u32>,
    pub(crate) now_ms: u64,
    pub(crate) seq: u32,
    ids: FactMint,
    policy: Policy,
    pub(crate) subject: Subject,
}

impl Life {
    pub(crate) fn new() -> Self {
        let target = TargetId::new(7).expect("positive");
        let generation = Generation(3);
        Self {
            incident: Incident::default(),
            effects: Vec::new(),
            rows: Vec::new(),
            transitions: Vec::new(),
            job_seqs: Vec::new(),
            now_ms: START,
            seq: 0,
            ids: FactMint::default(),
            policy: Policy { confirm_after: 3 },
            subject: Subject {
                target,
                group_id: 42,
                generation,
                cadence_ms: CADENCE_MS,
            },
        }
    }

    pub(crate) fn confirming_after(confirm_after: u32) -> Self {
        Self {
            policy: Policy { confirm_after },
            ..Self::new()
        }
    }

    pub(crate) fn of(checks: &[Check]) -> Self {
        let mut life = Self::new();
        for &check in checks {
            life.check(check);
        }
        life
    }

    pub(crate) fn outcome(&self, class: Option<FailureClass>, seq: u32) -> Outcome {
        let at = UnixMs(self.now_ms);
        let released = Outcome::slot_released(Slot(1), self.subject.generation, at);
        let verified = class == Some(FailureClass::Latency);
        Outcome {
            seq,
            flags: if verified { flags::HTTP_VERIFIED } else { 0 },
            class: class.map_or(0, |class| class as u8),
            ..released
        }
    }

    /// Lets time pass, delivers a tick that falls due meanwhile, then the check.
    pub(crate) fn check(&mut self, (class, after_ms): Check) {
        self.pass(after_ms);
        self.seq += 1;
        self.feed(self.outcome(class, self.seq));
    }

    pub(crate) fn feed(&mut self, outcome: Outcome) {
        let (slot, generation) = (outcome.slot, outcome.generation);
        let evidence = Box::new(Evidence {
            class: outcome.class,
            ..Evidence::of(slot, generation, outcome.seq)
        });
        let evidence = outcome.failure().is_some().then_some(evidence);
        self.input(Input::Checked { outcome, evidence });
    }

    pub(crate) fn pass(&mut self, after_ms: u64) {
        let end = self.now_ms + after_ms;
        if let Some(at) = self.incident.wakes_at() {
            let at_ms = START + at.0 / 1_000;
            if at_ms <= end {
                self.now_ms = at_ms;
                self.input(Input::Tick);
            }
        }
        self.now_ms = end;
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mono = MonoUs((self.now_ms - START) * 1_000);
        let mut context = Context {
            policy: self.policy,
            subject: self.subject,
            now: Now {
                mono,
                unix: UnixMs(self.now_ms),
            },
            ids: &mut self.ids,
        };
        let (after, effects) = step(self.incident.clone(), input, &mut context);
        self.incident = after;
        for effect in &effects {
            self.keep(effect);
        }
        self.effects.extend(effects);
    }

    fn keep(&mut self, effect: &Effect) {
        match effect {
            Effect::Write(Fact::Transitioned {
                event,
                transition,
                job,
            }) => {
                match self.rows.iter_mut().find(|row| row.id == event.id) {
                    Some(row) => *row = event.clone(),
                    None => self.rows.push(event.clone()),
                }
                assert_eq!(job.transition, transition.id);
                self.transitions.push(transition.clone());
                self.job_seqs.push(job.seq);
            }
            Effect::Write(Fact::Counted {
                event, fail_count, ..
            }) => {
                let row = self.rows.iter_mut().find(|row| row.id == *event);
                row.expect("counted after it was opened").fail_count = *fail_count;
            }
            Effect::Cadence(_) => {}
        }
    }

    /// The process ends and starts again: only the rows are left.
    pub(crate) fn restart(&mut self) {
        self.incident = Incident::default();
        self.seq = 0;
        if let Some(row) = self.rows.iter().find(|row| row.ended_at.is_none()) {
            let of_row = |transition: &&Transition| transition.event == row.id;
            let transitions = self.transitions.iter().filter(of_row).count() as u32;
            let event = Box::new(row.clone());
            self.input(Input::Resume { event, transitions });
        }
    }

    /// Failures of the open event, as memory has them.
    pub(crate) fn counted(&self) -> Option<u32> {
        self.incident.open_event().map(|event| event.fail_count)
    }

    /// Facts about the open event.
    pub(crate) fn writes_of_open_event(&self) -> usize {
        let id = self.incident.open_event().map(|event| event.id);
        let of = |effect: &&Effect| match effect {
            Effect::Write(Fact::Transitioned { event, .. }) => Some(event.id) == id,
            Effect::Write(Fact::Counted { event, .. }) => Some(*event) == id,
            Effect::Cadence(_) => false,
        };
        self.effects.iter().filter(of).count()
    }

    pub(crate) fn cadences(&self) -> Vec<Cadence> {
        let cadence = |effect: &Effect| match effect {
            Effect::Cadence(cadence) => Some(*cadence),
            Effect::Write(_) => None,
        };
        self.effects.iter().filter_map(cadence).collect()
    }

    /// States after each transition, in words.
    pub(crate) fn story(&self) -> Vec<(&'static str, &'static str)> {
        let words = |t: &Transition| (t.after.as_str(), t.reason.as_str());
        self.transitions.iter().map(words).collect()
    }

    /// The state that the transitions alone lead to.
    pub(crate) fn rebuilt(&self) -> State {
        let last = self
            .transitions
            .last()
            .map_or(State::Up, |transition| transition.after);
        if last == State::Resolved {
            State::Up
        } else {
            last
        }
    }
}
