//! Repeated warnings: the first of a kind at once, then one in 30 s with the number of those that
//! were swallowed. A store that is away for hours would fill the log otherwise.

use std::collections::BTreeMap;

use model::MonoUs;

/// Time between two warnings of one kind, in ms.
const EVERY_MS: u64 = 30_000;

/// Which warnings were said when, and how many were swallowed since.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    said: BTreeMap<&'static str, (MonoUs, u64)>,
}

impl Quiet {
    /// Whether to say a warning of `kind` now, and if so how many were swallowed since the last.
    pub(crate) fn allows(&mut self, kind: &'static str, now: MonoUs) -> Option<u64> {
        if let Some((last, suppressed)) = self.said.get_mut(kind)
            && now.since(*last) < EVERY_MS * 1_000
        {
            *suppressed += 1;
            return None;
        }
        let before = self.said.insert(kind, (now, 0));
        Some(before.map_or(0, |(_, suppressed)| suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
