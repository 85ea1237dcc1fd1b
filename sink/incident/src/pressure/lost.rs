//! Targets that were well and of which check after check says nothing, because our own route to
//! them is gone, or our resolvers do not speak of their names. Each of these checks is not known
//! by itself; that it goes on is for the operator. It must not know which targets these are.

use model::MonoUs;
use model::limits::{CUT_OFF_SHARE_PER_MILLE, CUT_OFF_TARGETS_MIN, PRESSURE_STICKY_MS};

use super::Signals;

/// How many targets are lost by now, and whether a check just said so, by what we miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Our own kernel finds no way to so many targets.
    pub without_route: u64,
    /// A check of these was drained now.
    pub route_missed: bool,
    /// Our resolvers say nothing of the names of so many targets.
    pub without_resolver: u64,
    /// A check of these was drained now.
    pub resolver_missed: bool,
}

/// What is known of both.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// There are many, and when a check said so last.
    route: (bool, Option<MonoUs>),
    resolver: (bool, Option<MonoUs>),
}

impl Losses {
    pub(super) fn look(&mut self, lost: Lost, fleet: u64, now: MonoUs) {
        let many = |targets: u64| {
            targets >= CUT_OFF_TARGETS_MIN.min(fleet.max(1))
                && targets * 1_000 >= fleet * CUT_OFF_SHARE_PER_MILLE
        };
        let last = |missed: bool, before| if missed { Some(now) } else { before };
        self.route = (
            many(lost.without_route),
            last(lost.route_missed, self.route.1),
        );
        self.resolver = (
            many(lost.without_resolver),
            last(lost.resolver_missed, self.resolver.1),
        );
    }

    /// Those in force. A check must have said so lately: whose next one is an hour away may long be
    /// found again.
    pub(super) fn signals(&self, now: MonoUs) -> Signals {
        let goes_on = |(many, last): (bool, Option<MonoUs>)| {
            many && last.is_some_and(|last| now.since(last) < PRESSURE_STICKY_MS * 1_000)
        };
        let of = |is_set, signal| if is_set { signal } else { Signals::NONE };
        let route = of(goes_on(self.route), Signals::NO_ROUTE);
        route.and(of(goes_on(self.resolver), Signals::NO_RESOLVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> MonoUs {
        MonoUs(s * 1_000_000)
    }

    fn signals(targets: u64, fleet: u64) -> Signals {
        let mut losses = Losses::default();
        let lost = Lost {
            without_route: targets,
            route_missed: true,
            ..Lost::default()
        };
        losses.look(lost, fleet, at(1));
        losses.signals(at(1))
    }

    #[test]
    fn three_targets_and_one_in_a_thousand_are_many_or_all_of_a_smaller_fleet() {
        for (targets, fleet) in [(3, 3_000), (9, 9_000), (1, 1), (2, 2)] {
            assert_eq!(signals(targets, fleet), Signals::NO_ROUTE, "{targets}");
        }
        for (targets, fleet) in [(0, 0), (2, 3), (3, 3_001), (0, 2)] {
            assert_eq!(signals(targets, fleet), Signals::NONE, "{targets}");
        }
    }

    #[test]
    fn it_goes_on_for_two_minutes_after_the_last_check_that_said_so() {
        let mut losses = Losses::default();
        let mut signals = |resolver_missed, without_resolver, s| {
            let lost = Lost {
                without_resolver,
                resolver_missed,
                ..Lost::default()
            };
            losses.look(lost, 10, at(s));
            losses.signals(at(s))
        };
        assert_eq!(signals(true, 5, 10), Signals::NO_RESOLVER);
        assert_eq!(signals(false, 5, 129), Signals::NO_RESOLVER);
        assert_eq!(signals(false, 5, 130), Signals::NONE);
        assert_eq!(signals(true, 5, 131), Signals::NO_RESOLVER);
        assert_eq!(signals(false, 2, 132), Signals::NONE, "the others are back");
    }
}
