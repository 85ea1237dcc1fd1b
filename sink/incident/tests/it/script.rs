//! A target on a virtual clock, with everything that its incident machine asked for, and the rows
//! that a store would have.

use std::collections::BTreeMap;

use incident::quorum::{Answer, Says, Tally};
use incident::{AuditKind, Context, Effect, Incident, Input, Policy, Stance, Subject, step};
use model::fact::{CheckType, Event, Fact, State, Transition};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::outcome::flags;
use model::target::Method;
use model::{
    Belief, Evidence, FactId, FailureClass, Generation, MonoUs, Now, Outcome, Slot, TargetId,
    UnixMs,
};

pub(crate) const START: u64 = 1_800_000_000_000;
pub(crate) const INTERVAL_S: u32 = 300;

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
    /// How far the wall clock is off, in ms: timers must not follow it.
    pub(crate) wall_off_ms: i64,
    pub(crate) seq: u32,
    /// What the verifiers were asked last.
    pub(crate) asked: Option<FactId>,
    /// How often the core checks the target, as it was told last.
    pub(crate) cadence: Cadence,
    ids: FactMint,
    pub(crate) policy: Policy,
    pub(crate) stance: Stance,
    pub(crate) known_good: Option<UnixMs>,
    pub(crate) previous: Option<UnixMs>,
    pub(crate) vouched: MonoUs,
    /// Checks are asked for by an operator.
    pub(crate) by_operator: bool,
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
            wall_off_ms: 0,
            seq: 0,
            asked: None,
            cadence: Cadence::Grid,
            ids: FactMint::default(),
            policy: Policy {
                confirm_after: 3,
                vantages: 0,
            },
            stance: Stance::Clear,
            known_good: None,
            previous: None,
            vouched: MonoUs(u64::MAX),
            by_operator: false,
            subject: Subject {
                target,
                group_id: 42,
                generation,
                interval_s: INTERVAL_S,
                method: Some(Method::Head),
                maintenance: None,
            },
        }
    }

    pub(crate) fn confirming_after(confirm_after: u32) -> Self {
        let mut life = Self::new();
        life.policy.confirm_after = confirm_after;
        life
    }

    pub(crate) fn of(checks: &[Check]) -> Self {
        let mut life = Self::new();
        for &check in checks {
            life.check(check);
        }
        life
    }

    /// What the wall clock says.
    fn unix(&self) -> UnixMs {
        self.unix_at(self.now_ms)
    }

    /// What it says when the other clock says `ms`.
    pub(crate) fn unix_at(&self, ms: u64) -> UnixMs {
        UnixMs(ms.saturating_add_signed(self.wall_off_ms))
    }

    pub(crate) fn outcome(&self, class: Option<FailureClass>, seq: u32) -> Outcome {
        let at = self.unix();
        let released = Outcome::slot_released(Slot(1), self.subject.generation, at);
        let verified = class == Some(FailureClass::Latency);
        Outcome {
            seq,
            flags: if verified { flags::HTTP_VERIFIED } else { 0 },
            class: class.map_or(0, |class| class as u8),
            ..released
        }
    }

    /// Lets time pass, delivers ticks that fall due meanwhile, then the check.
    pub(crate) fn check(&mut self, (class, after_ms): Check) {
        self.pass(after_ms);
        self.seq += 1;
        self.feed(self.outcome(class, self.seq));
    }

    /// A check whose outcome `change` makes special.
    pub(crate) fn check_with(&mut self, check: Check, change: impl FnOnce(&mut Outcome)) {
        self.pass(check.1);
        self.seq += 1;
        let mut outcome = self.outcome(check.0, self.seq);
        change(&mut outcome);
        self.feed(outcome);
    }

    pub(crate) fn feed(&mut self, outcome: Outcome) {
        let (slot, generation) = (outcome.slot, outcome.generation);
        let evidence = Box::new(Evidence {
            class: outcome.class,
            ..Evidence::of(slot, generation, outcome.seq)
        });
        let evidence = outcome.failure().is_some().then_some(evidence);
        self.input(if self.by_operator {
            Input::Asked { outcome, evidence }
        } else {
            Input::Checked { outcome, evidence }
        });
    }

    pub(crate) fn pass(&mut self, after_ms: u64) {
        let end = self.now_ms + after_ms;
        while let Some(at) = self.incident.wakes_at() {
            let at_ms = START + at.0.div_ceil(1_000);
            if at_ms > end {
                break;
            }
            self.now_ms = self.now_ms.max(at_ms);
            self.input(Input::Tick);
        }
        self.now_ms = end;
    }

    pub(crate) fn input(&mut self, input: Input) {
        // A core that is given a target, or gives it up, checks it on the grid until it is told.
        if matches!(input, Input::Placed | Input::Retired { .. }) {
            self.cadence = Cadence::Grid;
        }
        let mono = MonoUs((self.now_ms - START) * 1_000);
        let mut context = Context {
            policy: self.policy,
            subject: self.subject,
            belief: Belief {
                stance: self.stance,
                ..Belief::default()
            },
            known_good: self.known_good,
            previous: self.previous,
            vouched: self.vouched,
            now: Now {
                mono,
                unix: self.unix(),
            },
            // Short steps of the wall clock are not in it.
            calendar: UnixMs(self.now_ms),
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
            Effect::Ask { request } => self.asked = Some(*request),
            Effect::Cadence(cadence) => self.cadence = *cadence,
            Effect::Tallied(_) | Effect::Audit(_) | Effect::NotKnown => {}
        }
    }

    /// The vantages that were asked last answer.
    pub(crate) fn answer(&mut self, says: &[Says]) {
        let request = self.asked.expect("verifiers were asked");
        let answer = |(vantage, &says)| Answer::of(request, format!("vantage {vantage}"), says);
        let answers = (1..).zip(says).map(answer).collect();
        self.input(Input::Answered { request, answers });
    }

    /// The process ends and starts again, or another one takes over: only the rows are left.
    pub(crate) fn restart(&mut self) {
        self.incident = Incident::default();
        self.seq = 0;
        let open = self.rows.iter().filter(|row| row.ended_at.is_none());
        let open: Vec<Event> = open.cloned().collect();
        for event in open {
            let of_row = |transition: &&Transition| transition.event == event.id;
            let transitions = self.transitions.iter().filter(of_row).count() as u32;
            let event = Box::new(event);
            self.input(Input::Resume { event, transitions });
        }
        self.input(Input::Placed);
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
            _ => false,
        };
        self.effects.iter().filter(of).count()
    }

    pub(crate) fn cadences(&self) -> Vec<Cadence> {
        let cadence = |effect: &Effect| match effect {
            Effect::Cadence(cadence) => Some(*cadence),
            _ => None,
        };
        self.effects.iter().filter_map(cadence).collect()
    }

    pub(crate) fn audits(&self) -> Vec<AuditKind> {
        let kind = |effect: &Effect| match effect {
            Effect::Audit(audit) => Some(audit.kind),
            _ => None,
        };
        self.effects.iter().filter_map(kind).collect()
    }

    pub(crate) fn tallies(&self) -> Vec<Tally> {
        let tally = |effect: &Effect| match effect {
            Effect::Tallied(tally) => Some(*tally),
            _ => None,
        };
        self.effects.iter().filter_map(tally).collect()
    }

    pub(crate) fn not_known(&self) -> usize {
        let said = |effect: &&Effect| **effect == Effect::NotKnown;
        self.effects.iter().filter(said).count()
    }

    /// States after each transition of the events of one type, in words.
    pub(crate) fn story_of(&self, check_type: CheckType) -> Vec<(&'static str, &'static str)> {
        let is_of = |t: &&Transition| {
            let row = self.rows.iter().find(|row| row.id == t.event);
            row.expect("a row per event").check_type == check_type
        };
        let words = |t: &Transition| (t.after.as_str(), t.reason.as_str());
        self.transitions.iter().filter(is_of).map(words).collect()
    }

    /// The same of the `http` identity.
    pub(crate) fn story(&self) -> Vec<(&'static str, &'static str)> {
        self.story_of(CheckType::Http)
    }

    /// The open events and their states that the transitions alone lead to, by id.
    pub(crate) fn rebuilt(&self) -> Vec<(FactId, State)> {
        let mut states: BTreeMap<FactId, State> = BTreeMap::new();
        for transition in &self.transitions {
            let before = states.insert(transition.event, transition.after);
            assert_eq!(
                before, transition.before,
                "each begins where the one before ended"
            );
        }
        let open = |&(_, state): &(FactId, State)| state != State::Resolved;
        states.into_iter().filter(open).collect()
    }

    /// The open events and their states, as memory has them, by id.
    pub(crate) fn open(&self) -> Vec<(FactId, State)> {
        let events = self.incident.open_events();
        let mut open: Vec<_> = events.map(|event| (event.id, event.state)).collect();
        open.sort_unstable();
        open
    }
}
