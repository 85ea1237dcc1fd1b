//! The machine beside a simple model of what one target should look like: random lives of checks,
//! restarts, takeovers, verifiers, maintenance, pressure and people.
//!
//! `RINGWATCH_INCIDENT_SEEDS` asks for more lives than the 1,000 of a normal run.

mod reference;

use std::collections::HashMap;

use incident::quorum::{Answer, Says};
use incident::{Effect, Expiry, Input, Stance};
use model::FailureClass::{
    ConnectRefused, ConnectTimeout, DnsNxdomain, DnsServfail, DnsTimeout, HttpStatus, HttpTimeout,
    Latency, LocalPressure, LocalShed, SafetyBlocked, TlsDeprecated, TlsExpired, TlsUnsupported,
};
use model::fact::{CheckType, Event, Reason, State};
use model::ids::splitmix64;
use model::inbox::Cadence;
use model::outcome::flags;
use model::target::Maintenance;
use model::{FactId, FailureClass, Generation, MonoUs, UnixMs};

use crate::script::{Life, START};
use reference::{Pace, Reference, Row, Said, Seen};

const LIVES: u64 = 1_000;
const STEPS: u32 = 150;

/// A small generator of its own: a seed gives the same life with any release.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = splitmix64(self.0);
        self.0 % limit
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What a target does for a while.
#[derive(Clone, Copy)]
enum Mood {
    Fine,
    Down,
    Dark,
    Nameless,
    Mixed,
}

const MIXED: [Option<FailureClass>; 14] = [
    None,
    None,
    Some(HttpStatus),
    Some(HttpTimeout),
    Some(ConnectTimeout),
    Some(ConnectRefused),
    Some(DnsServfail),
    Some(Latency),
    Some(Latency),
    Some(TlsDeprecated),
    Some(TlsUnsupported),
    Some(TlsExpired),
    Some(LocalPressure),
    Some(SafetyBlocked),
];

impl Mood {
    fn class(self, dice: &mut Dice) -> Option<FailureClass> {
        if dice.below(12) == 0 {
            return Some(dice.pick(&[LocalPressure, LocalShed, SafetyBlocked]));
        }
        match self {
            Self::Fine => dice.pick(&[None, None, None, None, None, Some(Latency)]),
            Self::Down => Some(dice.pick(&[HttpStatus, HttpStatus, HttpTimeout])),
            Self::Dark => Some(dice.pick(&[ConnectTimeout, ConnectRefused])),
            Self::Nameless => Some(dice.pick(&[DnsServfail, DnsTimeout, DnsNxdomain, DnsNxdomain])),
            Self::Mixed => dice.pick(&MIXED),
        }
    }
}

/// One life, with its model.
struct Pair {
    life: Life,
    reference: Reference,
    dice: Dice,
    mood: Mood,
    /// Rows when they were closed: they stay so.
    closed: HashMap<FactId, Event>,
    /// A question that was answered before.
    answered: Option<FactId>,
    /// Effects of the life that were compared.
    heard: usize,
    seed: u64,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut life = Life::confirming_after(dice.pick(&[1, 2, 3, 3, 3, 5]));
        life.policy.vantages = dice.pick(&[0, 0, 1, 3]);
        life.subject.interval_s = dice.pick(&[10, 60, 300, 300, 3_600]);
        Self {
            life,
            reference: Reference::default(),
            dice,
            mood: Mood::Fine,
            closed: HashMap::new(),
            answered: None,
            heard: 0,
            seed,
        }
    }

    fn live(&mut self) {
        for _ in 0..STEPS {
            self.act();
            self.assert_sound();
        }
    }

    fn act(&mut self) {
        match self.dice.below(107) {
            0..=71 => self.check(),
            102..=103 => self.ask_canaries(),
            104..=106 => self.step_clock(),
            72..=79 => {
                let moods = [
                    Mood::Fine,
                    Mood::Fine,
                    Mood::Down,
                    Mood::Dark,
                    Mood::Nameless,
                ];
                self.mood = if self.dice.below(3) == 0 {
                    Mood::Mixed
                } else {
                    self.dice.pick(&moods)
                };
            }
            80..=86 => self.answer(),
            87..=89 | 100..=101 => self.edit_maintenance(),
            90..=93 => {
                let stances = [Stance::Doubting, Stance::Deferring, Stance::Isolated];
                self.life.stance = if self.dice.below(2) == 0 {
                    Stance::Clear
                } else {
                    self.dice.pick(&stances)
                };
            }
            94..=95 => self.restart(),
            96 => {
                self.life.subject.generation = Generation(self.life.subject.generation.0 + 1);
                self.life.seq = 0;
                self.life.input(Input::Placed);
                self.reference.placed();
            }
            97 => self.close(),
            98 => {
                self.life.input(Input::Retired { by: None });
                self.reference.retired();
            }
            _ => self.make_a_check_of_before(),
        }
    }

    /// Lets time pass second by second, so that both hear of every moment.
    fn pass(&mut self, ms: u64) {
        let end = self.life.now_ms + ms;
        while self.life.now_ms < end {
            let step_ms = (end - self.life.now_ms).min(1_000);
            self.life.pass(step_ms);
            self.reference.pass(&self.life);
        }
    }

    fn check(&mut self) {
        let gap_ms = self
            .dice
            .pick(&[0, 900, 1_999, 2_000, 30_000, 60_000, 60_000, 285_000]);
        let gap_ms = if self.dice.below(40) == 0 {
            2_000_000
        } else {
            gap_ms
        };
        self.pass(gap_ms);
        let class = self.mood.class(&mut self.dice);
        let days_left = self
            .dice
            .pick(&[None, Some(90), Some(31), Some(30), Some(8), Some(7)]);
        let status = self.dice.pick(&[0, 0, 200]);
        // Of any class: but for one it says nothing.
        let agreed = self.dice.below(2) == 0;
        let seen = Seen::of(class, days_left, status).agreed(agreed);
        let rows = self.rows();
        self.life.by_operator = self.dice.below(8) == 0;
        let now_ms = self.life.now_ms;
        self.life.check_with((class, 0), |outcome| {
            outcome.status = status;
            let today = Expiry::today(UnixMs(now_ms));
            outcome.not_after_days = days_left.map_or(0, |left| today + left);
            outcome.flags |= if agreed { flags::DNS_AGREED } else { 0 };
        });
        if seen.is_unknown() {
            assert_eq!(
                self.rows(),
                rows,
                "seed {}: unknown moves nothing",
                self.seed
            );
        }
        self.reference.checked(&self.life, seen);
        self.life.by_operator = false;
    }

    /// A check of the configuration before says nothing.
    fn make_a_check_of_before(&mut self) {
        let rows = self.rows();
        let class = self.mood.class(&mut self.dice);
        let mut outcome = self.life.outcome(class, self.life.seq + 1);
        outcome.generation = Generation(self.life.subject.generation.0 - 1);
        self.life.feed(outcome);
        assert_eq!(self.rows(), rows, "seed {}", self.seed);
    }

    /// Canaries answer that were asked a while ago, just now, or never; or nobody can be asked.
    fn ask_canaries(&mut self) {
        let now_us = (self.life.now_ms - START) * 1_000;
        let then_us = now_us.saturating_sub(self.dice.below(5) * 1_000_000);
        let pick = self.dice.pick(&[0, then_us, then_us, u64::MAX]);
        self.life.vouched = MonoUs(pick);
    }

    /// The wall clock is put an hour forward or back, or right again: the model, which has one
    /// clock alone, never hears of it.
    fn step_clock(&mut self) {
        self.life.wall_off_ms = self.dice.pick(&[-3_600_000, 0, 3_600_000]);
    }

    fn answer(&mut self) {
        let Some(request) = self.life.asked else {
            return self.answer_twice();
        };
        if self.dice.below(6) == 0 {
            self.reference.not_asked(&self.life);
            self.life.input(Input::NotAsked { request });
            self.life.asked = None;
            return;
        }
        let says = [
            Says::Up,
            Says::Down,
            Says::Down,
            Says::Unknown,
            Says::Failed,
            Says::Overloaded,
        ];
        let vantages = ["oslo", "oslo", "rome", "bonn"];
        let shape = self.dice.below(6);
        let answers: Vec<Answer> = (0..self.dice.below(6))
            .map(|_| {
                let vantage = self.dice.pick(&vantages);
                let says = match shape {
                    0 | 1 => Says::Down,
                    2 => Says::Up,
                    _ => self.dice.pick(&says),
                };
                Answer::of(request, vantage, says)
            })
            .collect();
        self.reference.answered(&self.life, &answers);
        self.life.input(Input::Answered { request, answers });
        self.answered = self.life.asked.take();
    }

    /// An answer counts once, and one to an older question for no other.
    fn answer_twice(&mut self) {
        let Some(request) = self.answered else {
            return;
        };
        let before = (self.rows(), self.life.incident.clone());
        let answers = ["oslo", "rome", "bonn"];
        let answers = answers.map(|vantage| Answer::of(request, vantage, Says::Down));
        self.life.input(Input::Answered {
            request,
            answers: answers.into(),
        });
        self.life.input(Input::NotAsked { request });
        let after = (self.rows(), self.life.incident.clone());
        assert_eq!(after, before, "seed {}", self.seed);
    }

    fn edit_maintenance(&mut self) {
        let now_ms = self.life.now_ms;
        self.life.subject.maintenance = match self.dice.below(6) {
            0 => None,
            // One that was; one that ends while a failure is held, or an answer is waited for.
            2 => Some(Maintenance {
                start_ms: now_ms - 600_000,
                end_ms: now_ms,
            }),
            3 => Some(Maintenance {
                start_ms: now_ms - 600_000,
                end_ms: now_ms + 1_500,
            }),
            4 => Some(Maintenance {
                start_ms: now_ms + 500,
                end_ms: now_ms + 90_000,
            }),
            1 => Some(Maintenance {
                start_ms: now_ms - 1,
                end_ms: now_ms + 600_000,
            }),
            _ => Some(Maintenance {
                start_ms: now_ms + 60_000,
                end_ms: now_ms + 300_000,
            }),
        };
    }

    fn restart(&mut self) {
        self.life.asked = None;
        self.life.restart();
        self.reference.restarted(&self.life);
    }

    fn close(&mut self) {
        let check_type = self.dice.pick(&CheckType::OF_TARGETS);
        self.life.input(Input::Closed {
            check_type,
            by: "ann".to_owned(),
        });
        self.reference.closed(check_type);
    }

    fn rows(&self) -> Vec<(FactId, State, bool)> {
        let rows = self.life.rows.iter();
        rows.map(|row| (row.id, row.state, row.ended_at.is_some()))
            .collect()
    }

    fn assert_sound(&mut self) {
        let seed = self.seed;
        let open: Vec<_> = self
            .life
            .rows
            .iter()
            .filter(|row| row.ended_at.is_none())
            .collect();
        for row in &open {
            let same = open
                .iter()
                .filter(|other| other.check_type == row.check_type);
            assert_eq!(
                same.count(),
                1,
                "seed {seed}: two open events of one identity"
            );
        }
        assert_eq!(self.life.rebuilt(), self.life.open(), "seed {seed}");
        // What is waited for: the end of a hold, answers, or a pause before the next question.
        let wakes_at = self.life.incident.wakes_at();
        let wakes_at = wakes_at.map(|at| START + at.0.div_ceil(1_000));
        let at_ms = self.life.now_ms - START;
        assert_eq!(
            wakes_at,
            self.reference.wakes_at(),
            "seed {seed} at {at_ms}"
        );
        let is_soon = matches!(self.life.cadence, Cadence::Recheck { .. });
        let expected = self.reference.pace == Pace::Soon;
        assert_eq!(is_soon, expected, "seed {seed} at {at_ms}");
        assert_eq!(self.closings(), self.reference.closings, "seed {seed}");
        let outage = open.iter().find(|row| row.check_type == CheckType::Http);
        let outage = outage.map(|row| as_row(row));
        assert_eq!(outage, self.reference.row(), "seed {seed} at {at_ms}");
        for row in self.life.rows.iter().filter(|row| row.ended_at.is_some()) {
            let before = self.closed.entry(row.id).or_insert_with(|| row.clone());
            assert_eq!(before, row, "seed {seed}: a closed event moved");
        }
        let states: HashMap<CheckType, State> =
            open.iter().map(|row| (row.check_type, row.state)).collect();
        assert_eq!(
            states,
            self.reference.states(),
            "seed {seed} at {}",
            self.life.now_ms - START
        );
        let said = self.said();
        assert_eq!(said, self.reference.said, "seed {seed} at {at_ms}");
        self.reference.said.clear();
        self.heard = self.life.effects.len();
    }

    /// Why each outage ended, and its row.
    fn closings(&self) -> Vec<(Reason, Row)> {
        let rows = &self.life.rows;
        let of_http = |id| {
            let row = rows.iter().find(|row| row.id == id);
            row.filter(|row| row.check_type == CheckType::Http)
        };
        let transitions = self.life.transitions.iter();
        let closings = transitions.filter(|it| it.after == State::Resolved);
        let closings =
            closings.filter_map(|it| of_http(it.event).map(|row| (it.reason, as_row(row))));
        closings.collect()
    }

    /// What the machine said beside the events since it was compared.
    fn said(&self) -> Vec<Said> {
        let mut rows = self.life.rows.iter().rev();
        let last = rows.find(|row| row.check_type == CheckType::Http);
        let new = self.life.effects[self.heard..].iter();
        let said = new.filter_map(|effect| match effect {
            Effect::Audit(audit) => {
                assert_eq!(audit.target, self.life.subject.target);
                let of_last = audit.event == last.map(|row| row.id);
                assert!(of_last || audit.event.is_none(), "seed {}", self.seed);
                let votes = audit.votes.as_ref();
                Some(Said::Line {
                    kind: audit.kind,
                    of_event: audit.event.is_some(),
                    votes: votes.map(|it| (it.disagreed as usize, it.confirmed as usize)),
                    at: audit.at,
                })
            }
            Effect::NotKnown => Some(Said::NotKnown),
            _ => None,
        });
        said.collect()
    }

    /// Every transition of every event has its own job, numbered without a gap.
    fn assert_every_transition_owes_a_job(&self) {
        let mut seqs: HashMap<FactId, u32> = HashMap::new();
        for (transition, job_seq) in self.life.transitions.iter().zip(&self.life.job_seqs) {
            let seq = seqs.entry(transition.event).or_default();
            *seq += 1;
            assert_eq!(job_seq, seq, "seed {}", self.seed);
        }
        assert_eq!(self.life.transitions.len(), self.life.job_seqs.len());
    }

    /// Votes are with what verifiers decided, and nowhere else.
    fn assert_every_transition_says_what_was_known(&self) {
        let seed = self.seed;
        for transition in &self.life.transitions {
            let known = transition.metadata.as_deref().expect("known");
            let row = self.life.rows.iter().find(|row| row.id == transition.event);
            let row = row.expect("its event");
            let is_http = row.check_type == CheckType::Http;
            let observation = known.observation;
            let first = is_http.then_some(row.started_at);
            assert_eq!(observation.first_failed_at, first, "seed {seed}");
            let is_closed = transition.after == State::Resolved;
            let closed = row.ended_at.filter(|_| is_closed);
            assert_eq!(observation.closed_at, closed, "seed {seed}");
            if is_http && transition.source == "quorum" {
                let votes = known.votes.as_deref().expect("votes");
                let all = votes.confirmed + votes.disagreed;
                assert_eq!(votes.healthy, all, "seed {seed}");
                let confirms = votes.confirmed >= votes.quorum;
                let is_down = transition.after == State::Down;
                assert_eq!(confirms, is_down, "seed {seed}");
            }
            assert!(known.suppression.is_none(), "seed {seed}");
        }
    }
}

fn as_row(event: &Event) -> Row {
    Row {
        first: event.started_at,
        failures: event.fail_count,
    }
}

#[test]
fn every_life_is_what_the_model_says() {
    let lives = std::env::var("RINGWATCH_INCIDENT_SEEDS").ok();
    let lives = lives.map_or(LIVES, |text| text.parse().expect("a number of seeds"));
    let mut opened: HashMap<CheckType, usize> = HashMap::new();
    for seed in 0..lives {
        let mut pair = Pair::new(seed);
        pair.live();
        pair.assert_every_transition_owes_a_job();
        pair.assert_every_transition_says_what_was_known();
        for row in &pair.life.rows {
            *opened.entry(row.check_type).or_default() += 1;
        }
    }
    for check_type in CheckType::OF_TARGETS {
        let count = opened.get(&check_type).copied().unwrap_or(0);
        assert!(
            count >= 100,
            "{check_type} was opened {count} times: {opened:?}"
        );
    }
}
