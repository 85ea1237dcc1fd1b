//! Whether a verifier that failed may be asked again. Pure: `now` is an argument.

use model::MonoUs;
use model::limits::{VERIFIER_BLANKS_MAX, VERIFIER_COOLDOWN_MS};

/// The pause of one verifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cooldown {
    failures: u32,
    /// Answers in a row that said nothing.
    blanks: u32,
    until: Option<MonoUs>,
}

impl Cooldown {
    /// Whether it is not to be asked at `now`.
    pub(super) fn is_on(&self, now: MonoUs) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It failed. Failures of what was asked before the pause began do not lengthen it.
    pub(super) fn failed(&mut self, now: MonoUs) {
        if self.is_on(now) {
            return;
        }
        let (first, longest) = VERIFIER_COOLDOWN_MS;
        let pause_ms = (first << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now.plus_ms(pause_ms));
    }

    /// It answered, and said nothing; who goes on so has failed.
    pub(super) fn said_nothing(&mut self, now: MonoUs) {
        if self.is_on(now) {
            return;
        }
        self.blanks = self.blanks.saturating_add(1);
        if self.blanks >= VERIFIER_BLANKS_MAX {
            self.failed(now);
        }
    }

    /// It answered: all is forgotten.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: one of two replicas whose resolver was gone took every other question, for ever.
    #[test]
    fn who_answers_and_goes_on_saying_nothing_is_left_out_and_one_vote_ends_that() {
        let (mut cooldown, mut now) = (Cooldown::default(), MonoUs(0));
        let mut say_nothing = |cooldown: &mut Cooldown| {
            now = now.plus_ms(60_000);
            cooldown.said_nothing(now);
            cooldown.is_on(now)
        };
        assert!(!say_nothing(&mut cooldown) && !say_nothing(&mut cooldown));
        assert!(say_nothing(&mut cooldown) && say_nothing(&mut cooldown));
        cooldown.succeeded();
        assert!(!say_nothing(&mut cooldown));
    }

    #[test]
    fn pauses_double_up_to_their_limit_and_an_answer_ends_them() {
        let mut cooldown = Cooldown::default();
        let mut now = MonoUs(0);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            cooldown.failed(now);
            // Those that were asked at the same time fail at the same time.
            cooldown.failed(now);
            let begun = now;
            while cooldown.is_on(now) {
                now = now.plus_ms(1_000);
            }
            pauses.push(now.since(begun) / 1_000_000);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        cooldown.failed(now);
        cooldown.succeeded();
        assert!(!cooldown.is_on(now));
        cooldown.failed(now);
        assert!(!cooldown.is_on(now.plus_ms(5_000)));
    }
}
