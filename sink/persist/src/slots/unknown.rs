//! Targets of which the last check could say nothing, and what of ours was missing where they were
//! well before. It must not know who is told.

use std::ops::AddAssign;

use model::FailureClass;

use super::{CoreSlots, FAILED, NO_RESOLVER, NO_ROUTE, NOT_KNOWN, Tenths};

/// All that is noted of such a target.
pub(super) const BITS: u32 = NOT_KNOWN | NO_ROUTE | NO_RESOLVER;

/// What of ours a check missed, so that it says nothing of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// A way that our own kernel finds.
    Route,
    /// A resolver that speaks of the name.
    Resolver,
}

impl Missed {
    /// What a check that failed so missed.
    pub(crate) fn of(class: FailureClass) -> Option<Self> {
        match class {
            FailureClass::ConnectLocal => Some(Self::Route),
            FailureClass::DnsResolverSick => Some(Self::Resolver),
            _ => None,
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Route => NO_ROUTE,
            Self::Resolver => NO_RESOLVER,
        }
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// All of them.
    pub(crate) targets: u64,
    /// Those that were well, and to which no way is found.
    pub(crate) without_route: u64,
    /// Those that were well, and of whose names no resolver speaks.
    pub(crate) without_resolver: u64,
}

impl Unknown {
    fn count(&mut self, flags: u32, change: impl Fn(&mut u64)) {
        let places = [
            (NOT_KNOWN, &mut self.targets),
            (NO_ROUTE, &mut self.without_route),
            (NO_RESOLVER, &mut self.without_resolver),
        ];
        let set = places.into_iter().filter(|(flag, _)| flags & flag != 0);
        set.for_each(|(_, place)| change(place));
    }

    /// One with these `flags` is known, or gone.
    pub(super) fn forget(&mut self, flags: u32) {
        self.count(flags, |place| *place -= 1);
    }
}

impl AddAssign for Unknown {
    fn add_assign(&mut self, other: Self) {
        self.targets += other.targets;
        self.without_route += other.without_route;
        self.without_resolver += other.without_resolver;
    }
}

impl CoreSlots {
    /// Notes that a check of the target in `slot` could say nothing, and what it `missed`. Since
    /// when nothing is known is when the last one could.
    pub(crate) fn not_known(&mut self, slot: u32, missed: Option<Missed>) {
        let Some(hot) = self.hot.get_mut(slot as usize) else {
            return;
        };
        let flags = hot.interval_and_flags;
        let was_well = hot.checked != Tenths(0) && flags & FAILED == 0;
        let missed = missed.filter(|_| was_well).map_or(0, Missed::bit);
        hot.interval_and_flags = flags & !BITS | NOT_KNOWN | missed;
        self.unknown.forget(flags);
        self.unknown.count(NOT_KNOWN | missed, |place| *place += 1);
    }

    /// Targets of which the last check could say nothing.
    pub(crate) fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// Whether the last check could say nothing.
    pub(crate) fn is_not_known(&self, slot: u32) -> bool {
        let hot = self.hot.get(slot as usize);
        hot.is_some_and(|hot| hot.interval_and_flags & NOT_KNOWN != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Admission;
    use super::super::tests::{START, WALL, admit, seat, slots};
    use super::*;
    use crate::testbed::healthy;

    #[test]
    fn what_is_not_known_is_counted_once_until_a_check_says_something_or_the_target_goes() {
        let mut slots = slots();
        (0..3).for_each(|slot| seat(&mut slots, slot, 1 + i64::from(slot), 60));
        for slot in [0, 1, 1, 2, 9] {
            slots.not_known(slot, None);
        }
        assert_eq!(slots.unknown().targets, 3);
        assert_eq!(admit(&mut slots, 0, START), Admission::Coalesced);
        slots.checked(&healthy(0, 1, WALL), START);
        assert_eq!(slots.unknown().targets, 2);
        seat(&mut slots, 1, 2, 300);
        assert_eq!(
            slots.unknown().targets,
            2,
            "a new configuration says nothing either"
        );
        slots.clear(1);
        seat(&mut slots, 2, 7, 60);
        assert_eq!(slots.unknown(), Unknown::default());
    }

    #[test]
    fn what_was_missed_last_is_counted_of_targets_that_were_well() {
        let mut slots = slots();
        (0..4).for_each(|slot| seat(&mut slots, slot, 1 + i64::from(slot), 60));
        (0..3).for_each(|slot| slots.checked(&healthy(slot, 1, WALL), START));
        slots.failed(2);
        (0..4).for_each(|slot| slots.not_known(slot, Some(Missed::Route)));
        let told = |slots: &CoreSlots| {
            let unknown = slots.unknown();
            (unknown.without_route, unknown.without_resolver)
        };
        assert_eq!(told(&slots), (2, 0), "neither what failed nor what is new");
        slots.not_known(0, Some(Missed::Route));
        slots.not_known(1, Some(Missed::Resolver));
        assert_eq!(told(&slots), (1, 1));
        slots.not_known(1, None);
        slots.checked(&healthy(0, 1, WALL), START);
        assert_eq!((told(&slots), slots.unknown().targets), ((0, 0), 3));
        assert_eq!(slots.tenant(1).map(|tenant| tenant.interval_s), Some(60));
    }
}
