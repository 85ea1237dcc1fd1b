//! Maintenance windows that operators added, as instants, for one target, a group or all. They are
//! rules: no target is registered again for one, and only what is stepped looks them up. However
//! many there are, a look is at one of all, one of the group and one of the target.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use model::target::Maintenance;
use model::window::{Occurrence, Scope, Spans};
use model::{TargetId, UnixMs};

/// The windows of the days around now; who sends them says again what follows.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    all: Spans,
    groups: HashMap<u64, Spans>,
    targets: HashMap<TargetId, Spans>,
}

/// For whom there is a window at one moment.
#[derive(Debug, Default)]
pub(crate) struct Active {
    pub(crate) all: bool,
    pub(crate) groups: HashSet<u64>,
    pub(crate) targets: HashSet<TargetId>,
}

impl Windows {
    pub(crate) fn of(occurrences: Vec<Occurrence>) -> Self {
        let mut all = Vec::new();
        let mut groups: HashMap<u64, Vec<Maintenance>> = HashMap::new();
        let mut targets: HashMap<TargetId, Vec<Maintenance>> = HashMap::new();
        for Occurrence { scope, span } in occurrences {
            match scope {
                Scope::All => all.push(span),
                Scope::Group(group) => groups.entry(group).or_default().push(span),
                Scope::Target(target) => targets.entry(target).or_default().push(span),
            }
        }
        Self {
            all: all.into_iter().collect(),
            groups: in_order(groups),
            targets: in_order(targets),
        }
    }

    /// The window of a target at `now`: of several the one that ends last. `own` is that of its
    /// configuration, and what it has where none is active.
    pub(crate) fn of_target(
        &self,
        (target, group_id): (TargetId, u64),
        own: Option<Maintenance>,
        now: UnixMs,
    ) -> Option<Maintenance> {
        let of_group = self.groups.get(&group_id);
        let of_target = self.targets.get(&target);
        let rules = [Some(&self.all), of_group, of_target].into_iter().flatten();
        let counting = rules.filter_map(|spans| spans.at(now));
        Maintenance::of_several(counting.chain(own), now).or(own)
    }

    /// Whether a window of the target is active at `now`.
    pub(crate) fn is_over(
        &self,
        who: (TargetId, u64),
        own: Option<Maintenance>,
        now: UnixMs,
    ) -> bool {
        let window = self.of_target(who, own, now);
        window.is_some_and(|span| span.is_active(now))
    }

    /// For whom there is one at `now`.
    pub(crate) fn active(&self, now: UnixMs) -> Active {
        let any = |spans: &Spans| spans.at(now).is_some();
        let groups = self.groups.iter().filter(|(_, spans)| any(spans));
        let targets = self.targets.iter().filter(|(_, spans)| any(spans));
        Active {
            all: any(&self.all),
            groups: groups.map(|(group, _)| *group).collect(),
            targets: targets.map(|(target, _)| *target).collect(),
        }
    }
}

fn in_order<K: Eq + Hash>(rules: HashMap<K, Vec<Maintenance>>) -> HashMap<K, Spans> {
    let rules = rules.into_iter();
    rules
        .map(|(whose, spans)| (whose, spans.into_iter().collect()))
        .collect()
}

impl Active {
    /// Whether there is none, but for what configurations say.
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.groups.is_empty() && self.targets.is_empty()
    }

    pub(crate) fn covers(&self, target: TargetId, group_id: u64) -> bool {
        self.all || self.groups.contains(&group_id) || self.targets.contains(&target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::target;

    fn span(start_ms: u64, end_ms: u64) -> Maintenance {
        Maintenance { start_ms, end_ms }
    }

    fn windows() -> Windows {
        let of = |scope, span| Occurrence { scope, span };
        Windows::of(vec![
            of(Scope::All, span(900, 1_000)),
            of(Scope::Group(3), span(100, 200)),
            of(Scope::Group(3), span(150, 300)),
            of(Scope::Target(target(7)), span(250, 260)),
        ])
    }

    #[test]
    fn a_target_has_the_active_window_that_ends_last_and_else_its_own() {
        let windows = windows();
        let of = |id, group, own, at| windows.of_target((target(id), group), own, UnixMs(at));
        assert_eq!(of(8, 3, None, 120), Some(span(100, 200)));
        assert_eq!(of(8, 3, None, 160), Some(span(150, 300)));
        assert_eq!(of(8, 3, None, 300), None, "the end is outside");
        assert_eq!(of(8, 4, None, 160), None);
        assert_eq!(of(7, 4, None, 255), Some(span(250, 260)));
        assert_eq!(of(8, 4, None, 950), Some(span(900, 1_000)));
        let own = Some(span(10, 20));
        assert_eq!(of(8, 4, own, 500), own);
        assert_eq!(of(8, 4, own, 950), Some(span(900, 1_000)));
        let own = Some(span(940, 2_000));
        assert_eq!(of(8, 4, own, 950), own);
    }

    #[test]
    fn who_is_covered_is_known_for_a_moment() {
        let windows = windows();
        assert!(windows.active(UnixMs(500)).is_empty());
        assert!(windows.active(UnixMs(950)).covers(target(1), 0));
        let active = windows.active(UnixMs(255));
        assert!(active.covers(target(1), 3) && active.covers(target(7), 0));
        assert!(!active.covers(target(1), 0));
    }
}
