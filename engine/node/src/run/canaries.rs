//! The canary targets: who is asked when, and who answers. Pure: it must not know channels, or what
//! follows from their silence.
//!
//! ```text
//! not heard ─► answers ⇄ silent        what says nothing of it leaves it as it was
//!     └──────► of no use: our own guard refuses it
//! ```

use model::inbox::OneShotReport;
use model::limits::{CANARY_EVERY_MS, CANARY_PATIENCE_MS, CANARY_SOON_MS};
use model::target::TargetConfig;
use model::{FailureClass, Generation, MonoUs, Outcome, Target, TargetId, Ticket};
use persist::Canaries;

/// One question for one core.
#[derive(Debug)]
pub(super) struct Question {
    /// Which core is to ask, by index: they take turns, each with its own resolver.
    pub(super) core: usize,
    pub(super) target: Box<Target>,
    pub(super) ticket: Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotHeard,
    Answers,
    Silent,
    OfNoUse,
}

#[derive(Debug)]
struct Canary {
    target: Target,
    state: State,
    /// Which question is under way.
    asked: Option<Ticket>,
    /// When it was asked last.
    last: Option<MonoUs>,
    /// When it was asked what it answered last.
    vouched: Option<MonoUs>,
}

impl Canary {
    fn is_due(&self, now: MonoUs, soon: bool) -> bool {
        let every_ms = match (self.asked, soon) {
            (Some(_), _) => CANARY_PATIENCE_MS,
            (None, true) => CANARY_SOON_MS,
            (None, false) => CANARY_EVERY_MS,
        };
        self.last
            .is_none_or(|last| now.since(last) >= every_ms * 1_000)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Flock {
    canaries: Vec<Canary>,
    cores: usize,
    questions: u64,
}

impl Flock {
    /// Nobody was asked yet.
    pub(super) fn new(configs: &[TargetConfig], cores: usize) -> Self {
        let canary = |target| Canary {
            target,
            state: State::NotHeard,
            asked: None,
            last: None,
            vouched: None,
        };
        Self {
            canaries: targets(configs).into_iter().map(canary).collect(),
            cores,
            questions: 0,
        }
    }

    /// Asks those who are due, sooner while there is a reason; one that cannot be asked now stays
    /// due.
    pub(super) fn ask(&mut self, soon: bool, now: MonoUs, mut send: impl FnMut(Question) -> bool) {
        for canary in &mut self.canaries {
            if !canary.is_due(now, soon) {
                continue;
            }
            let ticket = Ticket(self.questions);
            self.questions += 1;
            let question = Question {
                core: (ticket.0 % self.cores.max(1) as u64) as usize,
                target: Box::new(canary.target.clone()),
                ticket,
            };
            if send(question) {
                (canary.asked, canary.last) = (Some(ticket), Some(now));
            }
        }
    }

    /// Takes in an answer; while we are `short` of sockets one without a connection says nothing.
    /// The canary, if it turned out to be of no use.
    pub(super) fn heard(&mut self, report: &OneShotReport, short: bool) -> Option<&TargetConfig> {
        let mut canaries = self.canaries.iter_mut();
        let canary = canaries.find(|canary| canary.asked == Some(report.ticket))?;
        canary.asked = None;
        let before = canary.state;
        match answers(&report.outcome, short) {
            Said::Something => (canary.state, canary.vouched) = (State::Answers, canary.last),
            Said::Nothing => canary.state = State::Silent,
            Said::NotHeard => {}
            Said::Refused => canary.state = State::OfNoUse,
        }
        let is_news = canary.state == State::OfNoUse && before != State::OfNoUse;
        is_news.then_some(&canary.target.config)
    }

    /// The last instant at which two of three were asked and answered, be it since then.
    pub(super) fn vouched(&self) -> Option<MonoUs> {
        let useful = |canary: &&Canary| canary.state != State::OfNoUse;
        let asked = self.canaries.iter().filter(useful);
        let mut asked: Vec<_> = asked.map(|canary| canary.vouched).collect();
        asked.sort_unstable_by(|one, other| other.cmp(one));
        let enough = (asked.len() * 2).div_ceil(3);
        *asked.get(enough.checked_sub(1)?)?
    }

    /// How many there are, and how many of them answered last.
    pub(super) fn count(&self) -> Canaries {
        let of = |is: fn(State) -> bool| {
            let all = self.canaries.iter().filter(|canary| is(canary.state));
            all.count() as u8
        };
        Canaries {
            configured: of(|state| state != State::OfNoUse),
            answering: of(|state| state == State::Answers),
        }
    }
}

/// The canaries as targets that can be checked.
pub(crate) fn targets(configs: &[TargetConfig]) -> Vec<Target> {
    let of = |(index, config): (usize, &TargetConfig)| Target {
        id: TargetId::new(index as i64 + 1).expect("an index plus one is positive"),
        generation: Generation(1),
        active: true,
        config: config.clone(),
    };
    configs.iter().enumerate().map(of).collect()
}

/// What a check of a canary tells of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is open, whatever the canary said.
    Something,
    /// It may be closed.
    Nothing,
    /// The check was not made.
    NotHeard,
    /// Our own guard does not let us go there.
    Refused,
}

/// What the check tells; `short` of sockets, one that could not connect is our own trouble.
pub(crate) fn answers(outcome: &Outcome, short: bool) -> Said {
    use FailureClass as C;
    let Some(class) = outcome.failure() else {
        return Said::Something;
    };
    match class {
        C::SafetyBlocked => Said::Refused,
        C::LocalPressure | C::LocalShed | C::LocalCancelled => Said::NotHeard,
        C::ConnectLocal if short => Said::NotHeard,
        C::ConnectLocal | C::DnsResolverSick | C::HttpReset | C::HttpTruncated => Said::Nothing,
        _ if class.may_be_ours() => Said::Nothing,
        _ => Said::Something,
    }
}

#[cfg(test)]
mod tests {
    use model::FailureClass as C;
    use model::{Evidence, Slot, TargetSpec, UnixMs};

    use super::*;

    fn flock(count: usize, cores: usize) -> Flock {
        let config = |n| {
            let spec = TargetSpec {
                url: format!("http://c{n}.example/"),
                ..TargetSpec::default()
            };
            spec.parse().expect("valid")
        };
        let configs: Vec<TargetConfig> = (0..count).map(config).collect();
        Flock::new(&configs, cores)
    }

    fn at(ms: u64) -> MonoUs {
        MonoUs(ms * 1_000)
    }

    fn outcome(class: Option<FailureClass>) -> Outcome {
        let mut outcome = Outcome::slot_released(Slot(0), Generation(1), UnixMs(5));
        (outcome.class, outcome.flags) = (class.map_or(0, |class| class as u8), 0);
        outcome
    }

    impl Flock {
        fn questions_at(&mut self, ms: u64, soon: bool) -> Vec<Question> {
            let mut questions = Vec::new();
            self.ask(soon, at(ms), |question| {
                questions.push(question);
                true
            });
            questions
        }

        /// Says the same of every canary; configured and answering.
        fn all_say(&mut self, ms: u64, class: Option<FailureClass>, short: bool) -> (u8, u8) {
            for question in self.questions_at(ms, false) {
                let report = OneShotReport {
                    ticket: question.ticket,
                    outcome: outcome(class),
                    evidence: Box::new(Evidence::default()),
                };
                self.heard(&report, short);
            }
            let count = self.count();
            (count.configured, count.answering)
        }
    }

    #[test]
    fn every_canary_is_asked_every_three_seconds_by_core_after_core() {
        let mut flock = flock(3, 2);
        let first = flock.questions_at(0, false);
        let cores: Vec<_> = first.iter().map(|question| question.core).collect();
        assert_eq!(cores, [0, 1, 0]);
        assert_eq!(
            first[2].target.config.check.to_string(),
            "http://c2.example/"
        );
        // Nobody answered: whoever was asked is waited for.
        assert!(flock.questions_at(9_999, true).is_empty());
        assert_eq!(flock.all_say(10_000, None, false), (3, 3));
        assert!(flock.questions_at(12_999, false).is_empty());
        let next = flock.questions_at(13_000, false);
        let cores: Vec<_> = next.iter().map(|question| question.core).collect();
        assert_eq!(cores, [0, 1, 0]);
    }

    #[test]
    fn with_a_reason_they_are_asked_sooner() {
        let mut flock = flock(1, 1);
        flock.all_say(0, None, false);
        assert!(flock.questions_at(999, true).is_empty());
        assert_eq!(flock.questions_at(1_000, true).len(), 1);
    }

    #[test]
    fn one_that_cannot_be_asked_stays_due() {
        let mut flock = flock(2, 1);
        let mut tried = 0;
        for _ in 0..3 {
            flock.ask(false, at(0), |_| {
                tried += 1;
                false
            });
        }
        assert_eq!((tried, flock.questions_at(1, false).len()), (6, 2));
    }

    #[test]
    fn before_the_first_word_nobody_answers_and_then_the_last_word_counts() {
        let mut flock = flock(3, 1);
        let count = flock.count();
        assert_eq!((count.configured, count.answering), (3, 0));
        let mut ms = 0;
        let mut say = |class, short| {
            ms += 3_000;
            flock.all_say(ms, class, short)
        };
        assert_eq!(say(Some(C::HttpStatus), false), (3, 3));
        assert_eq!(say(Some(C::ConnectTimeout), false), (3, 0));
        assert_eq!(say(Some(C::TlsExpired), false), (3, 3));
        assert_eq!(say(Some(C::ConnectLocal), true), (3, 3));
        assert_eq!(say(Some(C::LocalPressure), false), (3, 3));
        assert_eq!(say(Some(C::ConnectLocal), false), (3, 0));
        assert_eq!(say(Some(C::LocalCancelled), false), (3, 0));
        assert_eq!(say(None, false), (3, 3));
        for class in [
            C::DnsTimeout,
            C::DnsResolverSick,
            C::HttpTruncated,
            C::ConnectRefused,
        ] {
            assert_eq!(say(Some(class), false), (3, 0), "{class}");
            assert_eq!(say(None, false), (3, 3));
        }
    }

    #[test]
    fn they_vouch_for_the_time_before_two_of_three_were_asked() {
        let mut flock = flock(3, 1);
        assert_eq!(flock.vouched(), None);
        let mut answer = |ms, classes: [Option<FailureClass>; 3]| {
            for (question, class) in flock.questions_at(ms, false).iter().zip(classes) {
                let report = OneShotReport {
                    ticket: question.ticket,
                    outcome: outcome(class),
                    evidence: Box::new(Evidence::default()),
                };
                flock.heard(&report, false);
            }
            flock.vouched()
        };
        let silent = Some(C::ConnectTimeout);
        assert_eq!(answer(1_000, [None, silent, silent]), None);
        assert_eq!(answer(4_000, [None, None, silent]), Some(at(4_000)));
        // What was true stays true.
        assert_eq!(answer(7_000, [silent; 3]), Some(at(4_000)));
        assert_eq!(answer(10_000, [None, silent, silent]), Some(at(4_000)));
        assert_eq!(answer(13_000, [silent, silent, None]), Some(at(10_000)));
        assert_eq!(Flock::new(&[], 1).vouched(), None);
    }

    #[test]
    fn one_that_our_guard_refuses_is_told_of_once_and_does_not_count() {
        let mut flock = flock(2, 1);
        let mut told = 0;
        for ms in [0, 3_000] {
            for (number, question) in flock.questions_at(ms, false).iter().enumerate() {
                let class = (number == 0).then_some(FailureClass::SafetyBlocked);
                let report = OneShotReport {
                    ticket: question.ticket,
                    outcome: outcome(class),
                    evidence: Box::new(Evidence::default()),
                };
                told += usize::from(flock.heard(&report, false).is_some());
                assert!(
                    flock.heard(&report, false).is_none(),
                    "an answer counts once"
                );
            }
        }
        let count = flock.count();
        assert_eq!((told, count.configured, count.answering), (1, 1, 1));
    }
}
