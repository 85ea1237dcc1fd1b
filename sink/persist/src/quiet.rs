//! Repeated warnings: the first of a kind at once, then one in a while with the number of those
//! that were swallowed. A store that is away for hours would fill the log otherwise.

use std::collections::BTreeMap;

use model::MonoUs;

/// Time between two of the sink's own warnings of one kind, in s.
const SINK_EVERY_S: u64 = 30;

/// Which warnings were said when, and how many were swallowed since.
#[derive(Debug)]
pub struct Quiet {
    every_s: u64,
    said: BTreeMap<&'static str, (MonoUs, u64)>,
}

impl Quiet {
    /// Lets one warning of a kind through in `every_s` seconds.
    #[must_use]
    pub fn every_s(every_s: u64) -> Self {
        let said = BTreeMap::new();
        Self { every_s, said }
    }

    /// Whether to say a warning of `kind` now, and if so how many were swallowed since the last.
    pub fn allows(&mut self, kind: &'static str, now: MonoUs) -> Option<u64> {
        if let Some((last, suppressed)) = self.said.get_mut(kind)
            && now.since(*last) < self.every_s * 1_000_000
        {
            *suppressed += 1;
            return None;
        }
        let before = self.said.insert(kind, (now, 0));
        Some(before.map_or(0, |(_, suppressed)| suppressed))
    }
}

impl Default for Quiet {
    fn default() -> Self {
        Self::every_s(SINK_EVERY_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_heard_once_in_the_time_that_was_asked_for() {
        let mut quiet = Quiet::every_s(60);
        let at = |s: u64| MonoUs(s * 1_000_000);
        assert_eq!(quiet.allows("store", at(1)), Some(0));
        assert_eq!(
            (quiet.allows("store", at(2)), quiet.allows("held", at(2))),
            (None, Some(0))
        );
        assert_eq!(quiet.allows("store", at(60)), None);
        assert_eq!(quiet.allows("store", at(61)), Some(2));
    }

    #[test]
    fn a_kind_is_heard_at_once_and_then_once_in_30_s_with_the_count_of_the_rest() {
        let mut quiet = Quiet::default();
        let at = |s: u64| MonoUs(s * 1_000_000);
        assert_eq!(quiet.allows("apply", at(1)), Some(0));
        assert_eq!(quiet.allows("apply", at(2)), None);
        assert_eq!(quiet.allows("freshness", at(2)), Some(0));
        assert_eq!(quiet.allows("apply", at(30)), None);
        assert_eq!(quiet.allows("apply", at(31)), Some(2));
        assert_eq!(quiet.allows("apply", at(61)), Some(0));
    }
}
