//! Repeated warnings, at most one a minute of each kind.

use std::collections::BTreeMap;

use model::MonoUs;

/// Time between two warnings of one kind, in ms.
const EVERY_MS: u64 = 60_000;

/// Which warnings were said when.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    said: BTreeMap<&'static str, (MonoUs, u64)>,
}

impl Quiet {
    /// Whether to say a warning of `kind` now, and if so how many were swallowed since the last.
    pub(crate) fn allows(&mut self, kind: &'static str, now: MonoUs) -> Option<u64> {
        match self.said.get_mut(kind) {
            Some((last, swallowed)) if now.since(*last) < EVERY_MS * 1_000 => {
                *swallowed += 1;
                None
            }
            _ => Some(
                self.said
                    .insert(kind, (now, 0))
                    .map_or(0, |(_, swallowed)| swallowed),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_heard_once_a_minute_with_the_count_of_the_rest() {
        let mut quiet = Quiet::default();
        let at = |s: u64| MonoUs(s * 1_000_000);
        assert_eq!(quiet.allows("store", at(1)), Some(0));
        assert_eq!(
            (quiet.allows("store", at(2)), quiet.allows("held", at(2))),
            (None, Some(0))
        );
        assert_eq!(quiet.allows("store", at(60)), None);
        assert_eq!(quiet.allows("store", at(61)), Some(2));
    }
}
