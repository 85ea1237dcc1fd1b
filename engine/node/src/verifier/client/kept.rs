//! What is kept of one verifier for the next questions, not too many and not for long. It must not
//! know what it is.

use model::MonoUs;
use model::limits::{VERIFIER_KEPT_MAX, VERIFIER_KEPT_MS};

/// The last is taken first: those that are not needed grow old.
#[derive(Debug)]
pub(super) struct Kept<T>(Vec<(MonoUs, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Kept<T> {
    /// The one that was kept last.
    pub(super) fn take(&mut self, now: MonoUs) -> Option<T> {
        self.drop_old(now);
        self.0.pop().map(|(_, kept)| kept)
    }

    /// Keeps `one` from `now` on, if there is room.
    pub(super) fn keep(&mut self, one: T, now: MonoUs) {
        self.drop_old(now);
        if self.0.len() < VERIFIER_KEPT_MAX {
            self.0.push((now, one));
        }
    }

    /// Keeps none of them.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn drop_old(&mut self, now: MonoUs) {
        let is_young = |since: MonoUs| now.since(since) < VERIFIER_KEPT_MS * 1_000;
        self.0.retain(|(since, _)| is_young(*since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoUs {
        MonoUs(ms * 1_000)
    }

    #[test]
    fn what_is_old_is_not_taken_and_makes_room() {
        let mut kept = Kept::default();
        for number in 0..=VERIFIER_KEPT_MAX {
            kept.keep(number, at(number as u64));
        }
        assert_eq!(kept.take(at(20)), Some(VERIFIER_KEPT_MAX - 1), "no more");
        assert_eq!(kept.take(at(VERIFIER_KEPT_MS + 13)), Some(14));
        assert_eq!(kept.take(at(VERIFIER_KEPT_MS + 13)), None);
        (0..VERIFIER_KEPT_MAX).for_each(|number| kept.keep(number, at(0)));
        kept.keep(99, at(VERIFIER_KEPT_MS));
        assert_eq!(kept.take(at(VERIFIER_KEPT_MS)), Some(99));
        assert_eq!(kept.take(at(VERIFIER_KEPT_MS)), None);
    }
}
