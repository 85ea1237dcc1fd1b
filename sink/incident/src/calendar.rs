//! The time that maintenance windows and the days of certificates go by: the wall clock's, run on
//! by the monotonic one. A wall clock that is stepped is followed once the step has lasted: a short
//! one neither leaves a window nor enters one, and makes no certificate older. It reads no clock.

use model::limits::{CLOCK_STEP_LASTS_MS, CLOCK_STEP_MIN_MS};
use model::{MonoUs, Now, UnixMs};

/// Follows the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Wall time at the zero of the monotonic clock, in ms.
    zero_ms: i64,
    /// Where that would be by a wall clock that was stepped, and since when.
    stepped: Option<(i64, MonoUs)>,
}

impl Calendar {
    /// Begins with the wall clock as it is.
    pub fn of(now: Now) -> Self {
        Self {
            zero_ms: zero_ms(now),
            stepped: None,
        }
    }

    /// Looks at both clocks: what they drift apart is followed at once.
    pub fn follow(&mut self, now: Now) {
        let found = zero_ms(now);
        if is_near(found, self.zero_ms) {
            (self.zero_ms, self.stepped) = (found, None);
            return;
        }
        let known = self.stepped.filter(|(to, _)| is_near(found, *to));
        let since = known.map_or(now.mono, |(_, since)| since);
        self.stepped = Some((found, since));
        if now.mono.since(since) >= CLOCK_STEP_LASTS_MS * 1_000 {
            (self.zero_ms, self.stepped) = (found, None);
        }
    }

    /// What it shows at `mono`.
    pub fn at(&self, mono: MonoUs) -> UnixMs {
        UnixMs((mono.0 / 1_000).saturating_add_signed(self.zero_ms))
    }
}

fn zero_ms(now: Now) -> i64 {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    ms(now.unix.0).saturating_sub(ms(now.mono.0 / 1_000))
}

fn is_near(one_ms: i64, other_ms: i64) -> bool {
    one_ms.abs_diff(other_ms) < CLOCK_STEP_MIN_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    /// `ms` after the start, by a wall clock that is `off_ms` off.
    fn now(ms: u64, off_ms: i64) -> Now {
        Now {
            mono: MonoUs(ms * 1_000),
            unix: UnixMs((NOON + ms).saturating_add_signed(off_ms)),
        }
    }

    #[test]
    fn a_step_is_followed_once_it_has_lasted_and_a_short_one_never() {
        for step_ms in [-HOUR_MS, HOUR_MS] {
            let mut calendar = Calendar::of(now(0, 0));
            let mut at = |ms, off_ms| {
                calendar.follow(now(ms, off_ms));
                calendar.at(now(ms, off_ms).mono)
            };
            assert_eq!(at(1_000, 0), UnixMs(NOON + 1_000));
            assert_eq!(at(2_000, step_ms), UnixMs(NOON + 2_000));
            let last = 2_000 + CLOCK_STEP_LASTS_MS - 1;
            assert_eq!(at(last, step_ms), UnixMs(NOON + last));
            assert_eq!(at(last + 1, 0), UnixMs(NOON + last + 1), "set right");
            let again = last + 1_000;
            assert_eq!(at(again, step_ms), UnixMs(NOON + again));
            let lasted = again + CLOCK_STEP_LASTS_MS;
            assert_eq!(at(lasted - 1, step_ms), UnixMs(NOON + lasted - 1));
            assert_eq!(at(lasted, step_ms), now(lasted, step_ms).unix);
        }
    }

    #[test]
    fn a_clock_that_drifts_is_followed_at_once() {
        let mut calendar = Calendar::of(now(0, 0));
        for s in 1..10_000 {
            let now = now(s * 1_000, (s / 2).cast_signed());
            calendar.follow(now);
            assert_eq!(calendar.at(now.mono), now.unix);
        }
    }

    #[test]
    fn another_step_starts_the_wait_again() {
        let mut calendar = Calendar::of(now(0, 0));
        for step in 0..10 {
            let ms = step * (CLOCK_STEP_LASTS_MS - 1);
            calendar.follow(now(ms, HOUR_MS * (1 + step.cast_signed() % 2)));
            assert_eq!(calendar.at(now(ms, 0).mono), UnixMs(NOON + ms));
        }
    }
}
