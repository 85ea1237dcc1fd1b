//! The same storm with verifiers, which are away for a while in the middle of it: what they are
//! asked, how much of it at a time, and what comes of it.

use std::collections::VecDeque;

use incident::quorum::{Answer, Says};
use model::limits::{
    DEFERRAL_MAX_MS, VERIFIER_BATCH_MAX, VERIFIER_BATCHES_MAX, VERIFIER_QUESTIONS_MAX,
};

use super::*;
use crate::handle::SinkCommand;
use crate::questions::Question;

const VANTAGES: usize = 2;
/// From a question to its answers.
const ANSWERS_MS: u64 = 2_000;
/// Nobody answers meanwhile: what is not confirmed fails on, and is checked more often than others.
const AWAY: std::ops::Range<u64> = BEGINS_MS + 200_000..BEGINS_MS + 320_000;
/// Questions that can be under way.
const UNDER_WAY_MAX: usize = VERIFIER_BATCHES_MAX * VERIFIER_BATCH_MAX;
/// One verifier makes that many checks a second on a small machine, with room to spare.
const ASKED_PER_S_MAX: u64 = 2_000;

/// Those who are asked: each vantage sees what is so when it answers.
#[derive(Default)]
struct Verifiers {
    /// When each is answered, in ms since the start.
    under_way: VecDeque<(u64, Question)>,
    asked: u64,
    /// By second.
    per_s: BTreeMap<u64, u64>,
    most_waiting: usize,
}

impl Verifiers {
    fn step(&mut self, storm: &mut Storm) {
        let now_ms = storm.step * STEP_MS;
        self.most_waiting = self.most_waiting.max(storm.bed.questions.slow.len());
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some(question) = storm.bed.next_question()
        {
            self.under_way.push_back((now_ms + ANSWERS_MS, question));
            self.asked += 1;
            *self.per_s.entry(now_ms / 1_000).or_default() += 1;
        }
        while let Some(&(at_ms, question)) = self.under_way.front()
            && at_ms <= now_ms
            && !storm.bed.commands.is_full()
        {
            self.under_way.pop_front();
            let answers = answers(question, now_ms);
            let answered = SinkCommand::Answered { question, answers };
            storm.bed.commands.send(answered).expect("room");
        }
    }
}

fn answers(question: Question, now_ms: u64) -> Vec<Answer> {
    if AWAY.contains(&now_ms) {
        return Vec::new();
    }
    let fails = failing(question.slot.0).is_some_and(|span| span.contains(&now_ms));
    let says = if fails { Says::Down } else { Says::Up };
    let answer = |vantage| Answer::of(question.request, format!("v{vantage}"), says);
    (0..VANTAGES).map(answer).collect()
}

/// Whether a story is right: begun by a failure, never down before enough of them, always down
/// after them where verifiers can have said so in time, and over at the end.
fn is_right(slot: u32, checks: &[(u64, bool)], told: &[State]) -> bool {
    let failures: Vec<u64> = checks.iter().filter(|it| it.1).map(|it| it.0).collect();
    let doubted = [State::SeemsDown, State::Resolved];
    let down = [State::SeemsDown, State::Down, State::Resolved];
    let Some(&enough) = failures.get(CONFIRM_AFTER as usize - 1) else {
        // While many fail, the first failure of one alone is no event.
        return told == doubted || (told.is_empty() && failures.len() == 1);
    };
    // It may be over when verifiers look; whom they did not answer asks again later.
    let asked_in_vain = AWAY.start - ANSWERS_MS..AWAY.end;
    let answered = if asked_in_vain.contains(&enough) {
        AWAY.end + DEFERRAL_MAX_MS
    } else {
        enough
    };
    let is_late = failing(slot).is_none_or(|span| span.end < answered + 2 * ANSWERS_MS);
    told == down || (is_late && told == doubted)
}

#[test]
fn in_a_storm_verifiers_are_asked_once_an_outage_and_who_waits_for_them_is_no_pressure() {
    let dir = folder();
    on_virtual_time(async {
        let asking = SinkConfig {
            vantages: VANTAGES,
            ..config(dir.path())
        };
        let mut storm = Storm::start(asking, FailureClass::ConnectTimeout).await;
        let mut verifiers = Verifiers::default();
        let mut most_unconfirmed = 0;
        while storm.step * STEP_MS < OVER_MS {
            storm.step().await;
            verifiers.step(&mut storm);
            let counters = storm.bed.snapshot().counters;
            most_unconfirmed = most_unconfirmed.max(counters.unconfirmed);
            assert_eq!(
                (counters.failure_pressure, counters.doubting),
                (0, 0),
                "what fails anew is few, and no trouble of ours"
            );
        }
        let transitions = storm.assert_stories(is_right).await;
        let (hit, most) = (storm.found.len(), &storm.most);
        assert!((2 * hit..=3 * hit).contains(&transitions), "{transitions}");

        let counters = storm.bed.snapshot().counters;
        assert_eq!(counters.sample_questions, 0);
        assert!(most_unconfirmed > 0, "while they were away");
        assert_eq!(counters.unconfirmed, 0, "they are back");
        // One for each outage, and again for those that nobody answered for two minutes.
        assert_eq!(verifiers.asked, counters.questions);
        assert!(verifiers.asked < 2 * hit as u64, "{}", verifiers.asked);
        let busiest = verifiers.per_s.values().max().copied().unwrap_or(0);
        assert!(
            busiest <= ASKED_PER_S_MAX,
            "{busiest} questions in a second"
        );
        assert!(verifiers.most_waiting <= VERIFIER_QUESTIONS_MAX);
        assert_eq!((most.untaken, most.evidence_waiting), (0, 0), "{most:?}");
        assert!(
            most.facts_loaded <= (2 * (APPLY_FACTS_MAX + BATCH_MAX)) as u64,
            "{most:?}"
        );
        assert!(most.states <= hit + BATCH_MAX, "{most:?}");
        println!(
            "storm with verifiers: {} questions for {hit} outages, {} refused, \
             {busiest} in the busiest second, at most {} waited; {most:?}",
            verifiers.asked, counters.questions_refused, verifiers.most_waiting,
        );
    });
}
