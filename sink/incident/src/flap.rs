//! Targets that go up and down in turn. While one flaps, one incident stands for its short
//! failures; a failure that is confirmed has its own all the same.

use model::fact::{CheckType, State};
use model::limits::{FLAP_CHANGES, FLAP_QUIET_MS, FLAP_WINDOW_MS};
use model::{MonoUs, Now, UnixMs};

use crate::event::Birth;

/// The last changes between up and failing, oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    at: [MonoUs; FLAP_CHANGES],
    len: u8,
}

impl Changes {
    pub(crate) fn note(&mut self, now: MonoUs) {
        if usize::from(self.len) == FLAP_CHANGES {
            self.at.rotate_left(1);
            self.len -= 1;
        }
        self.at[usize::from(self.len)] = now;
        self.len += 1;
    }

    /// Since when it flaps on the wall clock, if it does.
    pub(crate) fn flapping_since(&self, now: Now) -> Option<UnixMs> {
        let lasts_us = now.mono.since(self.at[0]);
        let many = usize::from(self.len) == FLAP_CHANGES;
        let flaps = many && lasts_us <= FLAP_WINDOW_MS * 1_000;
        flaps.then(|| UnixMs(now.unix.0.saturating_sub(lasts_us / 1_000)))
    }

    /// What the incident begins with.
    pub(crate) fn birth(since: UnixMs, class: u8) -> Birth {
        Birth {
            check_type: CheckType::Flapping,
            state: State::Degraded,
            started_at: since,
            fail_count: 1,
            class,
        }
    }

    /// Whether nothing changed for so long that it flaps no more.
    pub(crate) fn is_quiet(&self, now: MonoUs) -> bool {
        let last = self.at[..usize::from(self.len)].last();
        last.is_none_or(|&last| now.since(last) >= FLAP_QUIET_MS * 1_000)
    }

    /// Forgets all when the last one is too long ago to count.
    pub(crate) fn forget_old(&mut self, now: MonoUs) {
        let last = self.at[..usize::from(self.len)].last();
        if last.is_some_and(|&last| now.since(last) > FLAP_WINDOW_MS * 1_000) {
            *self = Self::default();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn now(minute: u64) -> Now {
        let mono = MonoUs(minute * MINUTE);
        Now {
            mono,
            unix: UnixMs(1_800_000_000_000 + mono.0 / 1_000),
        }
    }

    fn changes(minutes: &[u64]) -> Changes {
        let mut changes = Changes::default();
        for &minute in minutes {
            changes.note(now(minute).mono);
        }
        changes
    }

    #[test]
    fn four_changes_within_half_an_hour_are_flapping_from_the_first_of_them_on() {
        let since = |minutes: &[u64]| {
            let last = now(*minutes.last().expect("a change"));
            changes(minutes).flapping_since(last)
        };
        assert_eq!(since(&[1, 2, 3]), None);
        assert_eq!(since(&[1, 2, 3, 31]), Some(now(1).unix));
        assert_eq!(since(&[1, 2, 3, 32]), None);
        assert_eq!(since(&[1, 2, 3, 32, 32]), Some(now(2).unix));
    }

    #[test]
    fn fifteen_minutes_without_a_change_are_quiet() {
        let changes = changes(&[1, 2]);
        assert!(!changes.is_quiet(MonoUs(17 * MINUTE - 1)));
        assert!(changes.is_quiet(MonoUs(17 * MINUTE)));
    }

    #[test]
    fn changes_are_forgotten_when_none_of_them_can_count_any_more() {
        let mut changes = changes(&[1, 2]);
        changes.forget_old(MonoUs(32 * MINUTE));
        assert!(!changes.is_empty());
        changes.forget_old(MonoUs(32 * MINUTE + 1));
        assert!(changes.is_empty());
    }
}
