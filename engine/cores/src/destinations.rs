//! Caps per destination address: attempts in flight, and starts per second.
//!
//! ```text
//! unknown ── start ─► known: so many in flight, paid off at … ── none left, paid off ─► unknown
//!                       └ full, or too soon: what comes waits; it is `open` when it has room again
//! ```
//!
//! Known is only an address that something runs against, ran against a moment ago, or waits for.
//! An address whose sites ask for fewer requests is slowed down: its pace is half of what it was,
//! and its sites are looked at half as often. That is remembered apart, since it outlasts being
//! known. Who waits hangs in the core's wheel; this knows counts and times, not slots.

mod slowed;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use model::limits::{
    ADDRESS_IN_FLIGHT_MAX, ADDRESS_STARTS_AT_ONCE, ADDRESS_STARTS_PER_S_MAX, SLOWED_BY_TARGETS_MIN,
};
use model::{MonoUs, Slot};
use prober::Cidr;

use slowed::Slowed;

use crate::tick::{tick_after, tick_at};
use crate::wheel::Wheel;

/// How far ahead of its pace an address may be, in µs: some starts of different sites that fall
/// together are no burst.
const CREDIT_US: u64 =
    (ADDRESS_STARTS_AT_ONCE as u64 - 1) * 1_000_000 / ADDRESS_STARTS_PER_S_MAX as u64;

/// One core's caps per address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationCaps {
    /// Attempts in flight.
    pub in_flight_max: u32,
    /// Time from one start to the next, in µs.
    pub start_every_us: u64,
    /// Different targets that ask for fewer requests before their address is slowed down.
    pub slowed_by_min: usize,
    /// Addresses without caps.
    pub uncapped: Vec<Cidr>,
}

impl DestinationCaps {
    /// The share of one core in a node of `cores`: what a node does to an address does not grow
    /// with its cores. (From 33 cores on it does: each may have one attempt in flight.) Nor does it
    /// take more sites to slow one down, but never one alone.
    pub fn share(cores: usize, uncapped: Vec<Cidr>) -> Self {
        let cores = cores.max(1) as u64;
        Self {
            in_flight_max: (u64::from(ADDRESS_IN_FLIGHT_MAX) / cores).max(1) as u32,
            start_every_us: cores * 1_000_000 / u64::from(ADDRESS_STARTS_PER_S_MAX),
            slowed_by_min: SLOWED_BY_TARGETS_MIN.div_ceil(cores as usize).max(2),
            uncapped,
        }
    }
}

/// Names a known address; used again once it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DestinationId(pub(crate) u32);

/// Whether one attempt more may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Now.
    Free,
    /// Then.
    At(MonoUs),
    /// When one ends.
    Full,
}

#[derive(Debug)]
struct Destination {
    address: IpAddr,
    in_flight: u32,
    /// When all starts so far are paid off at the pace of the cap.
    paid: MonoUs,
    /// At half its pace until then.
    slowed_until: MonoUs,
    /// Whether it is in the list of those who can let go of what waits.
    open: bool,
}

/// The addresses that one core deals with now.
#[derive(Debug)]
pub(crate) struct Destinations {
    caps: DestinationCaps,
    by_address: HashMap<IpAddr, u32>,
    known: Vec<Destination>,
    free: Vec<u32>,
    /// When to look at an address again: it has room for who waits, or can be forgotten.
    again: Wheel,
    due: Vec<u32>,
    /// With room, and something waits.
    open: VecDeque<u32>,
    slowed: Slowed,
}

impl Destinations {
    /// No addresses.
    pub(crate) fn new(caps: DestinationCaps, now: MonoUs) -> Self {
        Self {
            slowed: Slowed::new(caps.slowed_by_min),
            caps,
            by_address: HashMap::new(),
            known: Vec::new(),
            free: Vec::new(),
            again: Wheel::new(tick_at(now)),
            due: Vec::new(),
            open: VecDeque::new(),
        }
    }

    /// Addresses known now.
    pub(crate) fn len(&self) -> usize {
        self.known.len() - self.free.len()
    }

    /// Whether `address` has caps.
    pub(crate) fn has_caps(&self, address: IpAddr) -> bool {
        let (address, uncapped) = (address.to_canonical(), &self.caps.uncapped);
        !uncapped.iter().any(|block| block.contains(address))
    }

    /// The number of `address`, `None` when it has no caps. A new one must be started or waited
    /// for, or it is never forgotten.
    pub(crate) fn find(&mut self, address: IpAddr, now: MonoUs) -> Option<DestinationId> {
        if !self.has_caps(address) {
            return None;
        }
        let address = address.to_canonical();
        let (known, free, slowed) = (&mut self.known, &mut self.free, &self.slowed);
        let id = *self.by_address.entry(address).or_insert_with(|| {
            let new = Destination {
                address,
                in_flight: 0,
                paid: now,
                slowed_until: slowed.until(address),
                open: false,
            };
            let Some(id) = free.pop() else {
                known.push(new);
                return known.len() as u32 - 1;
            };
            known[id as usize] = new;
            id
        });
        Some(DestinationId(id))
    }

    /// Whether `id` is the number of `address`.
    pub(crate) fn is(&self, id: DestinationId, address: IpAddr) -> bool {
        self.known[id.0 as usize].address == address.to_canonical()
    }

    /// Whether one attempt more may start.
    pub(crate) fn room(&self, id: DestinationId, now: MonoUs) -> Room {
        let destination = &self.known[id.0 as usize];
        let ahead_us = destination.paid.since(now);
        if destination.in_flight >= self.caps.in_flight_max {
            Room::Full
        } else if ahead_us > CREDIT_US {
            Room::At(MonoUs(destination.paid.0 - CREDIT_US))
        } else {
            Room::Free
        }
    }

    /// Counts a start, whether there was room or not: what a person asked for does not wait. Such
    /// starts are no debt, or a burst of them would keep everybody else away long after it.
    pub(crate) fn start(&mut self, id: DestinationId, now: MonoUs) {
        let destination = &mut self.known[id.0 as usize];
        destination.in_flight += 1;
        let from = destination.paid.0.clamp(now.0, now.0 + CREDIT_US);
        let half = u32::from(now < destination.slowed_until);
        destination.paid = MonoUs(from + (self.caps.start_every_us << half));
    }

    /// The target in `slot` asked for fewer requests to `address`, against which something runs.
    pub(crate) fn asked_to_slow(&mut self, address: IpAddr, slot: Slot, now: MonoUs) {
        let address = address.to_canonical();
        if let Some(id) = self.by_address.get(&address) {
            let until = self.slowed.asked(address, slot, now);
            self.known[*id as usize].slowed_until = until;
        }
    }

    /// Whether somebody asked for fewer requests to any address.
    pub(crate) fn may_slow(&self) -> bool {
        !self.slowed.is_empty()
    }

    /// Whether the sites of `address` are looked at half as often.
    pub(crate) fn is_slow(&self, address: IpAddr, now: MonoUs) -> bool {
        now < self.slowed.until(address.to_canonical())
    }

    /// Whether the address is at half its pace.
    pub(crate) fn is_slowed(&self, id: DestinationId, now: MonoUs) -> bool {
        now < self.known[id.0 as usize].slowed_until
    }

    /// Forgets in time who asked for fewer requests.
    pub(crate) fn look_at_slowed(&mut self, now: MonoUs) {
        self.slowed.look(now);
    }

    /// Addresses at half their pace.
    pub(crate) fn slowed(&self) -> usize {
        self.slowed.count()
    }

    /// Counts an end; [`Destinations::settle`] must follow.
    pub(crate) fn end(&mut self, id: DestinationId) {
        self.known[id.0 as usize].in_flight -= 1;
    }

    /// After any change: opens the address when somebody is `waiting` and it has room, sees that it
    /// is looked at again when time will bring room, and forgets it when nothing is left of it.
    pub(crate) fn settle(&mut self, id: DestinationId, waiting: bool, now: MonoUs) {
        let room = self.room(id, now);
        let destination = &mut self.known[id.0 as usize];
        if waiting {
            match room {
                Room::Free if !destination.open => {
                    destination.open = true;
                    self.open.push_back(id.0);
                }
                Room::At(at) => self.again.insert(id.0, tick_after(at)),
                Room::Free | Room::Full => {}
            }
        } else if destination.in_flight == 0 && !destination.open {
            if destination.paid > now {
                self.again.insert(id.0, tick_after(destination.paid));
            } else {
                self.forget(id.0);
            }
        }
    }

    /// Addresses that time may have changed, for [`Destinations::settle`].
    pub(crate) fn pop_due(&mut self, now: MonoUs) -> Option<DestinationId> {
        if self.due.is_empty() {
            self.again.advance(tick_at(now), &mut self.due);
        }
        self.due.pop().map(DestinationId)
    }

    /// An address that has (or had) room for who waits; it stays first.
    pub(crate) fn first_open(&self) -> Option<DestinationId> {
        self.open.front().copied().map(DestinationId)
    }

    /// Takes the first open one off the list; [`Destinations::settle`] must follow.
    pub(crate) fn close_first(&mut self) {
        if let Some(id) = self.open.pop_front() {
            self.known[id as usize].open = false;
        }
    }

    fn forget(&mut self, id: u32) {
        self.again.cancel(id);
        self.by_address.remove(&self.known[id as usize].address);
        self.free.push(id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const CAPS: DestinationCaps = DestinationCaps {
        in_flight_max: 4,
        start_every_us: 20_000,
        slowed_by_min: 10,
        uncapped: Vec::new(),
    };

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    #[test]
    fn a_node_asks_no_more_of_an_address_with_more_cores() {
        let share = |cores| {
            let caps = DestinationCaps::share(cores, Vec::new());
            (caps.in_flight_max, caps.start_every_us)
        };
        assert_eq!(share(1), (32, 20_000));
        assert_eq!(share(4), (8, 80_000));
        assert_eq!(share(32), (1, 640_000));
        for cores in 1..=32 {
            assert!(share(cores).0 * cores as u32 <= 32);
        }
    }

    #[test]
    fn an_uncapped_block_is_never_counted() {
        let uncapped = vec!["192.0.2.0/25".parse().expect("a block")];
        let mut destinations = Destinations::new(DestinationCaps { uncapped, ..CAPS }, MonoUs(0));
        assert_eq!(destinations.find(address(7), MonoUs(0)), None);
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        assert_eq!(destinations.find(mapped.into(), MonoUs(0)), None);
        assert!(destinations.find(address(200), MonoUs(0)).is_some());
    }

    #[test]
    fn starts_that_ask_for_no_room_keep_others_away_for_one_pace() {
        let mut destinations = Destinations::new(CAPS, MonoUs(0));
        let id = destinations.find(address(1), MonoUs(0)).expect("capped");
        for _ in 0..1_000 {
            destinations.start(id, MonoUs(0));
        }
        assert_eq!(destinations.room(id, MonoUs(0)), Room::Full);
        (0..1_000).for_each(|_| destinations.end(id));
        assert_eq!(destinations.room(id, MonoUs(0)), Room::At(MonoUs(20_000)));
        assert_eq!(destinations.room(id, MonoUs(20_000)), Room::Free);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask(u8),
        End(u8),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..3).prop_map(Step::Ask),
            3 => (0u8..3).prop_map(Step::End),
            3 => prop_oneof![0u64..3_000, 1_000u64..400_000].prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..300)
    }

    /// Three addresses with a queue each, and what really started against them.
    struct Model {
        destinations: Destinations,
        now: MonoUs,
        waiting: [u32; 3],
        running: [u32; 3],
        starts: [Vec<u64>; 3],
    }

    impl Model {
        fn id(&mut self, n: usize) -> DestinationId {
            let found = self.destinations.find(address(n as u8), self.now);
            found.expect("all three are capped")
        }

        fn number_of(&self, id: DestinationId) -> usize {
            let is = |n: &usize| self.destinations.is(id, address(*n as u8));
            (0..3).find(is).expect("one of three")
        }

        fn settle(&mut self, id: DestinationId) {
            let waiting = self.waiting[self.number_of(id)] > 0;
            self.destinations.settle(id, waiting, self.now);
        }

        fn turn(&mut self) {
            while let Some(id) = self.destinations.pop_due(self.now) {
                self.settle(id);
            }
            while let Some(id) = self.destinations.first_open() {
                let n = self.number_of(id);
                let free = self.destinations.room(id, self.now) == Room::Free;
                if free && self.waiting[n] > 0 {
                    self.waiting[n] -= 1;
                    self.start(n, id);
                } else {
                    self.destinations.close_first();
                    self.settle(id);
                }
            }
        }

        fn start(&mut self, n: usize, id: DestinationId) {
            self.destinations.start(id, self.now);
            self.running[n] += 1;
            self.starts[n].push(self.now.0);
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Ask(n) => {
                    let n = usize::from(n);
                    let id = self.id(n);
                    let free = self.destinations.room(id, self.now) == Room::Free;
                    if free && self.waiting[n] == 0 {
                        self.start(n, id);
                    } else {
                        self.waiting[n] += 1;
                        self.settle(id);
                    }
                }
                Step::End(n) => {
                    let n = usize::from(n);
                    if self.running[n] > 0 {
                        self.running[n] -= 1;
                        let id = self.id(n);
                        self.destinations.end(id);
                        self.settle(id);
                    }
                }
                Step::Pass(us) => self.now = MonoUs(self.now.0 + us),
            }
            self.turn();
        }

        /// More than the cap never runs, a window of a second never sees more than the pace plus
        /// what may fall together, and nobody waits while there is room.
        fn check(&self) {
            assert!(self.running.iter().all(|running| *running <= 4));
            for starts in &self.starts {
                let from = starts.last().map_or(0, |last| last.saturating_sub(999_999));
                let within = starts.iter().filter(|at| **at >= from).count();
                assert!(within <= 50 + 5, "{within} starts in a second");
            }
        }
    }

    proptest! {
        #[test]
        fn caps_hold_and_nothing_is_kept_of_an_address_that_is_left_alone(steps in steps()) {
            let mut model = Model {
                destinations: Destinations::new(CAPS, MonoUs(0)),
                now: MonoUs(0),
                waiting: [0; 3],
                running: [0; 3],
                starts: Default::default(),
            };
            for step in &steps {
                model.take(step);
                model.check();
            }
            let asked = steps.iter().filter(|step| matches!(step, Step::Ask(_))).count();
            // Everything that runs ends, and time goes on: whoever waited was started.
            for _ in 0..4 * steps.len() {
                (0..3).for_each(|n| model.take(&Step::End(n)));
                model.take(&Step::Pass(20_000));
                model.check();
            }
            model.take(&Step::Pass(10_000_000));
            prop_assert_eq!(model.waiting, [0; 3]);
            prop_assert_eq!(model.starts.iter().map(Vec::len).sum::<usize>(), asked);
            prop_assert_eq!(model.destinations.len(), 0);
        }
    }
}
