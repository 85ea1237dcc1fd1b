//! Where the next stream of changes begins, and after which pause. A machine: what became of the
//! last one in, a pause out. It knows no store and no clock, and no place in a log from another.

use std::time::Duration;

use super::super::events::Gap;

/// Pause before a stream that broke is opened again, doubled with each that did not last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);
/// What told changes for so long did work: what broke it says nothing about the next one.
const LASTING: Duration = Duration::from_mins(1);
/// Pause after a stream that was lost, doubled with each that was lost soon again: each costs a
/// pass, and what one pass makes up for may be many losses.
const LOST: Duration = Duration::from_secs(10);
const LOST_MAX: Duration = Duration::from_mins(5);
/// Changes that were told for so long since the last loss: the next one stands alone again.
const APART: Duration = Duration::from_mins(10);
/// Somebody may switch the log on, or give the right to read it.
const ASK_AGAIN: Duration = Duration::from_mins(5);

/// What became of a stream that was to begin at some place, `P`, of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended<P> {
    /// It told changes for `lasted`, and its connection broke; the next one goes on `at` a place.
    Broke { at: P, lasted: Duration },
    /// It told changes for `lasted`, and what came then cannot be told.
    Lost { lasted: Duration },
    /// From where it was to begin, nothing can be told any more.
    Gone,
    /// It could not be opened now.
    Unopened,
    /// The server tells none.
    Refused,
}

/// From one stream to the next.
#[derive(Clone, Debug)]
pub(super) struct Course<P> {
    from: Option<P>,
    /// Streams in a row that broke before they had told changes for long, or were not opened.
    broken: u32,
    /// Losses in a row, none of them long after the one before.
    lost: u32,
    /// How long changes were told since the last of them.
    told: Duration,
}

impl<P> Course<P> {
    /// Begins at `from`; `None`: at the end of the log, whatever was before it.
    pub(super) fn beginning(from: Option<P>) -> Self {
        Self {
            from,
            broken: 0,
            lost: 0,
            told: Duration::ZERO,
        }
    }

    /// Where the next stream begins. `None`: at the end of the log, and what was before it has to
    /// be made up for.
    pub(super) fn from(&self) -> Option<&P> {
        self.from.as_ref()
    }

    /// How the next stream makes up for what was before it.
    pub(super) fn gap(&self) -> Gap {
        match (&self.from, self.lost) {
            (Some(_), _) => Gap::None,
            (None, 0 | 1) => Gap::Hurried,
            (None, _) => Gap::Paced,
        }
    }

    /// How long to wait before the next stream is opened.
    pub(super) fn after(&mut self, ended: Ended<P>) -> Duration {
        match ended {
            Ended::Broke { at, lasted } => {
                self.from = Some(at);
                self.told += lasted;
                self.broken = if lasted < LASTING { self.broken + 1 } else { 0 };
                doubled(RETRY, self.broken, RETRY_MAX)
            }
            Ended::Lost { lasted } => {
                self.told += lasted;
                self.lose()
            }
            Ended::Gone => {
                let is_place = self.from.is_some();
                let pause = self.lose();
                // The end of the log is another place, but only once.
                if is_place { Duration::ZERO } else { pause }
            }
            Ended::Unopened => {
                self.broken += 1;
                doubled(RETRY, self.broken, RETRY_MAX)
            }
            Ended::Refused => ASK_AGAIN,
        }
    }

    fn lose(&mut self) -> Duration {
        let stands_alone = self.told >= APART;
        self.lost = if stands_alone { 1 } else { self.lost + 1 };
        self.told = Duration::ZERO;
        self.from = None;
        doubled(LOST, self.lost - 1, LOST_MAX)
    }
}

fn doubled(pause: Duration, times: u32, most: Duration) -> Duration {
    pause.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broke(lasted_s: u64) -> Ended<u32> {
        let lasted = Duration::from_secs(lasted_s);
        Ended::Broke { at: 7, lasted }
    }

    /// After each of these in turn, in s.
    fn pauses<const N: usize>(course: &mut Course<u32>, ended: [Ended<u32>; N]) -> [u64; N] {
        ended.map(|ended| course.after(ended).as_secs())
    }

    #[test]
    fn streams_that_break_at_once_are_opened_ever_more_seldom_whatever_they_told() {
        let mut course = Course::beginning(Some(3));
        let found = pauses(&mut course, [broke(1); 8]);
        assert_eq!(found, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(course.from(), Some(&7));
        assert_eq!(pauses(&mut course, [broke(60), broke(59)]), [1, 2]);
        let unopened = [Ended::Unopened, Ended::Unopened, broke(90)];
        assert_eq!(pauses(&mut course, unopened), [4, 8, 1]);
    }

    fn lost(lasted_s: u64) -> Ended<u32> {
        let lasted = Duration::from_secs(lasted_s);
        Ended::Lost { lasted }
    }

    #[test]
    fn what_is_lost_begins_at_the_end_of_the_log_with_a_pass() {
        let mut course = Course::beginning(None);
        assert_eq!(course.gap(), Gap::Hurried, "nobody read anything before");
        course = Course::beginning(Some(3));
        assert_eq!(course.gap(), Gap::None);
        assert_eq!(pauses(&mut course, [lost(1)]), [10]);
        assert_eq!((course.from(), course.gap()), (None, Gap::Hurried));
        assert_eq!(pauses(&mut course, [broke(1)]), [2]);
        assert_eq!((course.from(), course.gap()), (Some(&7), Gap::None));
        assert_eq!(pauses(&mut course, [Ended::Refused]), [300]);
        assert_eq!(course.from(), Some(&7), "nothing was lost");
    }

    #[test]
    fn losses_that_follow_each_other_are_far_apart_and_no_pass_hurries_for_them() {
        let mut course = Course::beginning(Some(3));
        let found = pauses(&mut course, [lost(50); 7]);
        assert_eq!(found, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!((course.from(), course.gap()), (None, Gap::Paced));
        // Told for ten minutes, if with a break.
        let found = pauses(&mut course, [broke(580), lost(20), lost(599), lost(600)]);
        assert_eq!(found, [1, 10, 20, 10]);
        assert_eq!(course.gap(), Gap::Hurried);
    }

    #[test]
    fn a_place_that_is_gone_is_left_at_once_and_the_end_of_a_log_not_asked_for_without_pause() {
        let mut course = Course::beginning(Some(3));
        assert_eq!(pauses(&mut course, [Ended::Gone]), [0]);
        assert_eq!((course.from(), course.gap()), (None, Gap::Hurried));
        assert_eq!(pauses(&mut course, [Ended::Gone; 2]), [20, 40]);
        assert_eq!((course.from(), course.gap()), (None, Gap::Paced));
    }
}
