//! A sample of failing targets that verifiers are asked about while many fail at once: a few
//! questions that say whether the failures are real. It must not know how they are asked.
//!
//! ```text
//!  idle ──many fail──► asking ──enough confirmed──► confirmed, until failure pressure is over
//!   ▲                    │
//!   └───── a pause ◄─────┘ all answered, or time is up
//! ```

use model::limits::{SAMPLE_CONFIRMING_MIN, SAMPLE_PAUSE_MS, SAMPLE_SIZE, VERIFIERS_WAIT_MS};
use model::{FactId, MonoUs};

use crate::quorum::Decision;

/// The questions of one sample after the other.
#[derive(Debug, Default)]
pub struct Sample {
    /// Questions without an answer.
    open: Vec<FactId>,
    asked: usize,
    confirmed: usize,
    /// When the sample, or the pause after it, is over; `None`: there is neither.
    until: Option<MonoUs>,
    pauses: bool,
    is_confirmed: bool,
}

impl Sample {
    /// How many more questions it wants, while many checks fail (`is_failing`).
    pub fn wants(&mut self, is_failing: bool, now: MonoUs) -> usize {
        if !is_failing {
            *self = Self::default();
            return 0;
        }
        if self.until.is_some_and(|until| until <= now) {
            self.end(now);
        }
        if self.pauses || self.is_confirmed {
            return 0;
        }
        SAMPLE_SIZE - self.asked
    }

    /// `request` was asked for it.
    pub fn asked(&mut self, request: FactId, now: MonoUs) {
        self.asked += 1;
        self.open.push(request);
        self.until
            .get_or_insert_with(|| now.plus_ms(VERIFIERS_WAIT_MS));
    }

    /// Whether it waits for the answers to `request` at `now`.
    pub fn awaits(&self, request: FactId, now: MonoUs) -> bool {
        self.open.contains(&request) && self.until.is_some_and(|until| now < until)
    }

    /// The answers to `request` came to `decision`; whether they make the sample confirm.
    pub fn answered(&mut self, request: FactId, decision: Decision, now: MonoUs) -> bool {
        let Some(at) = self.open.iter().position(|&open| open == request) else {
            return false;
        };
        self.open.swap_remove(at);
        self.confirmed += usize::from(decision == Decision::Confirmed);
        if self.confirmed >= SAMPLE_CONFIRMING_MIN {
            let is_news = !self.is_confirmed;
            self.is_confirmed = true;
            return is_news;
        }
        if self.open.is_empty() && self.asked == SAMPLE_SIZE {
            self.end(now);
        }
        false
    }

    /// From a sample to its pause, and from there to nothing.
    fn end(&mut self, now: MonoUs) {
        let paused = self.pauses;
        let is_confirmed = self.is_confirmed;
        *self = Self {
            is_confirmed,
            ..Self::default()
        };
        if !paused && !is_confirmed {
            self.pauses = true;
            self.until = Some(now.plus_ms(SAMPLE_PAUSE_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use model::ids::FactMint;
    use model::{TargetId, UnixMs};

    use super::*;

    fn at(ms: u64) -> MonoUs {
        MonoUs(ms * 1_000)
    }

    /// A sample that asked as many as it wants, and its questions.
    fn asked(sample: &mut Sample, mint: &mut FactMint, now: MonoUs) -> Vec<FactId> {
        let shard = TargetId::new(7).expect("positive").shard();
        let requests: Vec<FactId> = (0..sample.wants(true, now))
            .map(|_| mint.mint(shard, UnixMs(1_800_000_000_000)))
            .collect();
        for &request in &requests {
            sample.asked(request, now);
        }
        requests
    }

    #[test]
    fn twenty_are_asked_and_sixteen_that_agree_confirm_once() {
        let (mut sample, mut mint) = (Sample::default(), FactMint::default());
        assert_eq!(sample.wants(false, at(0)), 0);
        let requests = asked(&mut sample, &mut mint, at(0));
        assert_eq!((requests.len(), sample.wants(true, at(1))), (20, 0));
        let mut confirms = Vec::new();
        for (index, &request) in requests.iter().enumerate() {
            let decision = match index {
                0..4 => Decision::FalseAlarm,
                _ => Decision::Confirmed,
            };
            confirms.push(sample.answered(request, decision, at(2)));
            assert!(!sample.answered(request, Decision::Confirmed, at(2)));
        }
        let (last, before) = confirms.split_last().expect("twenty");
        assert!(*last && before.iter().all(|confirms| !confirms));
        // As long as many fail nobody is asked again.
        assert_eq!(sample.wants(true, at(3_600_000)), 0);
        assert_eq!(sample.wants(false, at(3_600_001)), 0);
        assert_eq!(sample.wants(true, at(3_600_002)), 20);
    }

    #[test]
    fn a_sample_that_does_not_confirm_is_followed_by_a_pause_and_another() {
        let (mut sample, mut mint) = (Sample::default(), FactMint::default());
        for request in asked(&mut sample, &mut mint, at(0)) {
            assert!(!sample.answered(request, Decision::FalseAlarm, at(1_000)));
        }
        assert_eq!(sample.wants(true, at(1_000)), 0);
        let over = 1_000 + SAMPLE_PAUSE_MS;
        assert_eq!(sample.wants(true, at(over - 1)), 0);
        assert_eq!(sample.wants(true, at(over)), 20);
    }

    #[test]
    fn answers_that_never_come_end_the_sample_and_count_for_no_other() {
        let (mut sample, mut mint) = (Sample::default(), FactMint::default());
        let late = asked(&mut sample, &mut mint, at(0));
        assert!(sample.awaits(late[0], at(VERIFIERS_WAIT_MS - 1)));
        assert!(!sample.awaits(late[0], at(VERIFIERS_WAIT_MS)));
        let over = VERIFIERS_WAIT_MS + SAMPLE_PAUSE_MS;
        assert_eq!(sample.wants(true, at(VERIFIERS_WAIT_MS)), 0);
        assert_eq!(sample.wants(true, at(over)), 20);
        assert!(!sample.awaits(late[0], at(over)));
        for request in late {
            assert!(!sample.answered(request, Decision::Confirmed, at(over)));
        }
    }
}
