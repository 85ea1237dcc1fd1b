//! The sink's time in tenths of a second, and when freshness is due to be projected. It knows no
//! slot.

use model::limits::PROJECTION_SLACK_MS;
use model::outcome::PHASE_ABSENT;
use model::schedule::spread_ms;
use model::{MonoUs, Outcome, TargetId};

/// Tenths of a second on the monotonic clock, since a moment before its zero: 13 years fit into 32
/// bits, and 0 means never. The wall clock may step; what is measured here must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenths(pub(super) u32);

/// Converts the monotonic clock to [`Tenths`], and knows the projection rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    projection_ms: u64,
}

impl Timeline {
    /// Two days of room before the clock's zero, for the spread of the first projections.
    const ROOM_MS: u64 = 2 * 86_400_000;

    pub(crate) fn new(projection_ms: u64) -> Self {
        Self {
            projection_ms: projection_ms.clamp(1, Self::ROOM_MS / 2),
        }
    }

    /// `at` in tenths, never 0.
    pub(super) fn tenths(at: MonoUs) -> Tenths {
        Self::of_ms(Self::ROOM_MS + at.0 / 1_000)
    }

    fn of_ms(with_room_ms: u64) -> Tenths {
        Tenths(u32::try_from(with_room_ms / 100).unwrap_or(u32::MAX).max(1))
    }

    /// Whether a check at `checked` is to be projected (`monitor.md` §6).
    pub(super) fn is_due(self, interval_s: u32, checked: Tenths, projected: Tenths) -> bool {
        let (slack, period) = (PROJECTION_SLACK_MS / 100, self.projection_ms / 100);
        u64::from(interval_s) * 1_000 >= self.projection_ms
            || u64::from(checked.0) + slack >= u64::from(projected.0) + period
    }

    /// When a target counts as projected last, before it ever was: spread over the interval, and
    /// not in step with its checks, or all rows of three intervals would come in one.
    pub(super) fn spread(self, target: TargetId, now: MonoUs) -> Tenths {
        let later = spread_ms(target, self.projection_ms as u32);
        Self::of_ms(Self::ROOM_MS + now.0 / 1_000 - self.projection_ms + u64::from(later))
    }
}

/// When a check began that was drained at `now`: an outcome carries the wall clock only, so it is
/// how long the check took before it was drained. What it waited on its way is missing: some 10 ms,
/// and more only when the sink left results where they were because the journal was not writable.
pub(crate) fn began(outcome: &Outcome, now: MonoUs) -> MonoUs {
    let took_us = match outcome.phases.total_us {
        PHASE_ABSENT => 0,
        took_us => u64::from(took_us),
    };
    // None begins before the clock's zero, but how long it took is the core's word.
    MonoUs(now.0.saturating_sub(took_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: MonoUs = MonoUs(5_000_000);

    #[test]
    fn a_check_two_seconds_early_still_counts_for_the_period() {
        let timeline = Timeline::new(900_000);
        let projected = Timeline::tenths(START);
        let due = |ms| timeline.is_due(300, Timeline::tenths(START.plus_ms(ms)), projected);
        assert!(!due(897_900));
        assert!(due(898_000));
    }
}
