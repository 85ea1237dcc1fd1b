//! Whether `connect()` itself began to fail: our own route to a part of the fleet is gone. Checks
//! that begin now say so and are unknown; those that were connected before end in silence, and
//! would be taken for the site's. It must not know which targets these are.

use model::MonoUs;
use model::limits::{
    CUT_OFF_AFTERMATH_MS, CUT_OFF_SHARE_PER_MILLE, CUT_OFF_TARGETS_MIN, SUPPRESSION_MAX_MS,
};

use super::window::{Share, Window};

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct CutOff {
    /// Targets that were well and are cut off, as failing ones.
    window: Window,
    /// Since when there are many, and when one was added last.
    episode: Option<(MonoUs, MonoUs)>,
}

impl CutOff {
    /// So many `targets` are cut off that were well before, while so many `results` came.
    pub(super) fn add(&mut self, targets: u64, results: u64, now: MonoUs) {
        if targets == 0 {
            return;
        }
        let share = Share {
            results: targets,
            failing: targets,
        };
        self.window.add(share, now);
        let recent = self.window.share(now).failing;
        let many =
            recent >= CUT_OFF_TARGETS_MIN && recent * 1_000 >= results * CUT_OFF_SHARE_PER_MILLE;
        if many {
            let since = self.episode.map_or(now, |(since, _)| since);
            self.episode = Some((since, now));
        }
    }

    /// Whether checks end now that were connected before. What lasts longer than any suppression
    /// may is no beginning any more.
    pub(super) fn is_recent(&mut self, now: MonoUs) -> bool {
        let is_over =
            |&mut (_, last): &mut (MonoUs, MonoUs)| now.since(last) >= CUT_OFF_AFTERMATH_MS * 1_000;
        self.episode.take_if(is_over);
        let since = self.episode.map(|(since, _)| since);
        since.is_some_and(|since| now.since(since) < SUPPRESSION_MAX_MS * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> MonoUs {
        MonoUs(s * 1_000_000)
    }

    #[test]
    fn three_targets_within_ten_seconds_are_a_beginning_for_fifteen_more() {
        let mut cut_off = CutOff::default();
        cut_off.add(2, 0, at(1));
        assert!(!cut_off.is_recent(at(1)));
        cut_off.add(1, 0, at(11));
        assert!(!cut_off.is_recent(at(11)), "the others are forgotten");
        cut_off.add(2, 0, at(12));
        assert!(cut_off.is_recent(at(12)) && cut_off.is_recent(at(26)));
        assert!(!cut_off.is_recent(at(27)));
    }

    #[test]
    fn of_a_large_fleet_it_takes_one_in_a_thousand() {
        let mut cut_off = CutOff::default();
        cut_off.add(9, 10_000, at(1));
        assert!(!cut_off.is_recent(at(1)));
        cut_off.add(1, 10_000, at(2));
        assert!(cut_off.is_recent(at(2)));
    }

    #[test]
    fn what_never_ends_is_a_beginning_for_five_minutes() {
        let mut cut_off = CutOff::default();
        for second in 0..600 {
            cut_off.add(5, 0, at(second));
            assert_eq!(cut_off.is_recent(at(second)), second < 300, "{second}");
        }
        assert!(!cut_off.is_recent(at(614)));
        cut_off.add(5, 0, at(630));
        assert!(cut_off.is_recent(at(630)), "it begins anew");
    }
}
