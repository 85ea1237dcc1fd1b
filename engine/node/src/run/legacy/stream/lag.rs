//! How late the changes are that a stream tells, and whether that is too late to rely on. A
//! machine: what was reached and `now` in. Its clock is the server's, so that two clocks that
//! differ are no lag.

use model::MonoUs;
use store::Reached;

/// What is told later than this is late: the net below the stream is as quick. Longer than a
/// server is silent before it says that it has nothing to tell.
const LATE_S: u64 = 15;
/// So near to the end, what was late is not any more.
const NEAR_S: u64 = 5;
/// Events may be so much newer than our reckoning of the server's clock, which is late by what the
/// opening took; newer ones have times that somebody made up (`SET timestamp`).
const SLACK_S: u64 = 60;

/// Of one stream.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    opened: MonoUs,
    /// Everything that was logged before this was read; `None`: not known yet.
    as_of_s: Option<u64>,
    /// As it was judged last.
    is_late: Option<bool>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Age of the newest change that may not have been told yet, in s; at least that where nothing
    /// was told yet.
    pub(super) lag_s: u64,
    /// Whether changes come late now, where that is new.
    pub(super) turned: Option<bool>,
}

impl Lag {
    /// Of a stream that was `opened` a moment ago.
    pub(super) fn since(opened: MonoUs) -> Self {
        Self {
            opened,
            as_of_s: None,
            is_late: None,
        }
    }

    /// Takes in how far the stream is.
    pub(super) fn look(&mut self, reached: Reached, now: MonoUs) -> Look {
        let now_s = reached.opened_s + now.since(self.opened) / 1_000_000;
        let told_s = if reached.is_end {
            Some(now_s)
        } else {
            reached.newest_s.filter(|&at| at <= now_s + SLACK_S)
        };
        // Statements that took long are logged with the time of their beginning: no step back.
        self.as_of_s = self.as_of_s.max(told_s);
        let lag_s = now_s.saturating_sub(self.as_of_s.unwrap_or(reached.opened_s));
        let is_late = match (self.as_of_s, self.is_late) {
            (None, _) => true,
            (Some(_), Some(false)) => lag_s > LATE_S,
            (Some(_), _) => lag_s > NEAR_S,
        };
        let turned = (self.is_late != Some(is_late)).then_some(is_late);
        self.is_late = Some(is_late);
        Look { lag_s, turned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's clock is what it is: ours says seven seconds.
    const OPENED_S: u64 = 1_800_000_000;
    const OPENED: MonoUs = MonoUs(7_000_000);

    struct Bed(Lag);

    impl Bed {
        fn new() -> Self {
            Self(Lag::since(OPENED))
        }

        /// `at` s after it was opened the stream is at an event of `newest` s after that.
        fn look(&mut self, at: u64, newest: Option<i64>, is_end: bool) -> (u64, Option<bool>) {
            let newest_s = newest.map(|newest| OPENED_S.saturating_add_signed(newest));
            let reached = Reached {
                opened_s: OPENED_S,
                newest_s,
                is_end,
            };
            let Look { lag_s, turned } = self.0.look(reached, OPENED.plus_ms(at * 1_000));
            (lag_s, turned)
        }
    }

    #[test]
    fn a_stream_that_is_hours_behind_is_late_until_it_is_near_the_end() {
        let mut bed = Bed::new();
        assert_eq!(bed.look(0, None, false), (0, Some(true)));
        assert_eq!(bed.look(1, Some(-7_200), false), (7_201, None));
        assert_eq!(bed.look(2, Some(-600), false), (602, None));
        assert_eq!(bed.look(3, Some(-3), false), (6, None));
        assert_eq!(bed.look(4, Some(-1), false), (5, Some(false)));
        // Some seconds are no reason to read the table.
        assert_eq!(bed.look(19, Some(4), false), (15, None));
        assert_eq!(bed.look(20, Some(4), false), (16, Some(true)));
        assert_eq!(bed.look(21, Some(10), false), (11, None));
        assert_eq!(bed.look(22, Some(20), false), (2, Some(false)));
    }

    #[test]
    fn a_server_that_has_nothing_to_tell_is_not_late_however_long() {
        let mut bed = Bed::new();
        assert_eq!(bed.look(0, None, true), (0, Some(false)));
        assert_eq!(bed.look(9_000, None, true), (0, None));
        // It goes on, and says ten seconds later that there is no more.
        assert_eq!(bed.look(9_001, Some(9_001), false), (0, None));
        assert_eq!(bed.look(9_011, Some(9_001), false), (10, None));
        assert_eq!(bed.look(9_012, Some(9_001), true), (0, None));
    }

    #[test]
    fn times_of_long_statements_and_those_that_were_made_up_change_nothing() {
        let mut bed = Bed::new();
        assert_eq!(bed.look(1_000, None, true), (0, Some(false)));
        assert_eq!(bed.look(1_001, Some(400), false), (1, None));
        assert_eq!(bed.look(1_002, Some(900_000), false), (2, None));
        assert_eq!(bed.look(1_030, Some(900_000), false), (30, Some(true)));
        assert_eq!(bed.look(1_031, Some(1_030), false), (1, Some(false)));
    }
}
