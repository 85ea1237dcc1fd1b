//! Connections that are kept after a check for the next one that goes to the same place: which
//! there are, which one is given out, and which must go. It knows places and times, not sockets.
//!
//! ```text
//! answer has ended ─► kept ─┬─ a check goes there ──────────────► taken: the newest of the place
//!                           └─ idle for too long, no room for a
//!                              newer one, silence at its address ─► gone: the reactor closes it
//! ```
//! One that is kept again and again ends by its age.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use model::MonoUs;
use model::limits::{
    ADDRESS_IN_FLIGHT_MAX, KEPT_AGE_MS, KEPT_IDLE_MS, KEPT_PER_ADDRESS_MAX, REST_TICKS_MAX, TICK_MS,
};

use crate::local_end::Source;

/// A core looks after its connections once per turn: that much before its time one goes, so that
/// none is kept for longer.
const REST_MS: u64 = REST_TICKS_MAX as u64 * TICK_MS;

/// Nowhere in a list.
const NONE: u32 = u32::MAX;

/// How many connections a core keeps; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptLimits {
    /// Altogether.
    pub per_core: u32,
    /// Towards one address and port, from one of ours.
    pub per_address: u32,
    /// Towards one address that has caps, whatever the ports and our addresses.
    pub per_capped: u32,
    /// For how long at most, in ms; more than a core may rest.
    pub idle_ms: u64,
    /// Age from which none is kept again, in ms.
    pub age_ms: u64,
}

impl KeptLimits {
    /// What each of `cores` cores keeps, of which one has room for `per_core`: a node keeps no more
    /// towards an address with more cores, as long as each may keep one; towards one that has caps
    /// never more than may be in flight there.
    pub fn share(cores: usize, per_core: u32) -> Self {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        Self {
            per_core,
            per_address: (KEPT_PER_ADDRESS_MAX / cores).max(1),
            per_capped: u32::from(ADDRESS_IN_FLIGHT_MAX) / cores,
            idle_ms: KEPT_IDLE_MS,
            age_ms: KEPT_AGE_MS,
        }
    }
}

/// Names a kept connection; used again once it was taken or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeptId(pub u32);

/// Both ends of a connection, but for our port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) to: SocketAddr,
    pub(crate) source: Source,
}

impl Place {
    /// The address that it leads to.
    fn address(&self) -> IpAddr {
        self.to.ip().to_canonical()
    }
}

/// A connection that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepsake {
    pub(crate) place: Place,
    /// Since when it is there, as far as is known.
    pub(crate) since: MonoUs,
    /// Its address has caps.
    pub(crate) capped: bool,
}

/// The connections that a core keeps.
#[derive(Debug)]
pub(crate) struct Kept {
    limits: KeptLimits,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// All of them, by age; their time to go comes in the same order.
    all: List,
    /// Those of one place, by age.
    places: HashMap<Place, List>,
    /// Those towards one address, by age.
    addresses: HashMap<IpAddr, List>,
    /// To be closed. Their numbers are not given again before the reactor knows.
    gone: VecDeque<u32>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    since: MonoUs,
    until: MonoUs,
    in_all: Links,
    in_place: Links,
    in_address: Links,
}

/// A list through entries, newest first.
#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

/// The links of an entry in one of its lists.
type Chain = fn(&mut Entry) -> &mut Links;

const IN_ALL: Chain = |entry| &mut entry.in_all;
const IN_PLACE: Chain = |entry| &mut entry.in_place;
const IN_ADDRESS: Chain = |entry| &mut entry.in_address;

impl Links {
    const NONE: Self = Self {
        newer: NONE,
        older: NONE,
    };
}

impl List {
    const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        len: 0,
    };

    fn push(&mut self, at: u32, entries: &mut [Entry], chain: Chain) {
        let older = std::mem::replace(&mut self.newest, at);
        *chain(&mut entries[at as usize]) = Links { newer: NONE, older };
        match entries.get_mut(older as usize) {
            Some(entry) => chain(entry).newer = at,
            None => self.oldest = at,
        }
        self.len += 1;
    }

    /// The oldest one, if there is no room for `max` and another one.
    fn crowded_out(&self, max: u32) -> Option<u32> {
        (self.len >= max).then_some(self.oldest)
    }

    fn take_out(&mut self, at: u32, entries: &mut [Entry], chain: Chain) {
        let Links { newer, older } = *chain(&mut entries[at as usize]);
        match entries.get_mut(newer as usize) {
            Some(entry) => chain(entry).older = older,
            None => self.newest = older,
        }
        match entries.get_mut(older as usize) {
            Some(entry) => chain(entry).newer = newer,
            None => self.oldest = newer,
        }
        self.len -= 1;
    }
}

impl Kept {
    pub(crate) fn new(limits: KeptLimits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            free: Vec::new(),
            all: List::EMPTY,
            places: HashMap::new(),
            addresses: HashMap::new(),
            gone: VecDeque::new(),
        }
    }

    /// Connections that are kept.
    pub(crate) fn len(&self) -> usize {
        self.all.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.len == 0
    }

    /// Whether one may be kept at all.
    pub(crate) fn keeps_any(&self) -> bool {
        self.limits.per_core > 0 && self.limits.per_address > 0
    }

    /// Keeps a connection; the oldest one of a place or an address without room, or of all, goes
    /// for it. `None` where nothing is kept, and for one that is too old.
    pub(crate) fn keep(&mut self, keepsake: Keepsake, now: MonoUs) -> Option<KeptId> {
        let Keepsake {
            place,
            since,
            capped,
        } = keepsake;
        let limits = self.limits;
        let nothing = !self.keeps_any();
        if nothing || capped && limits.per_capped == 0 || since.plus_ms(limits.age_ms) <= now {
            return None;
        }
        self.make_room(place, capped);
        let entry = Entry {
            place,
            since,
            until: now.plus_ms(limits.idle_ms.saturating_sub(REST_MS)),
            in_all: Links::NONE,
            in_place: Links::NONE,
            in_address: Links::NONE,
        };
        let at = if let Some(at) = self.free.pop() {
            self.entries[at as usize] = entry;
            at
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        self.all.push(at, &mut self.entries, IN_ALL);
        let list = self.places.entry(place).or_insert(List::EMPTY);
        list.push(at, &mut self.entries, IN_PLACE);
        let list = self.addresses.entry(place.address());
        let list = list.or_insert(List::EMPTY);
        list.push(at, &mut self.entries, IN_ADDRESS);
        Some(KeptId(at))
    }

    /// One goes at most: it is of the place, of the address and of all.
    fn make_room(&mut self, place: Place, capped: bool) {
        let (limits, list) = (self.limits, self.places.get(&place));
        let of_place = list.and_then(|list| list.crowded_out(limits.per_address));
        let list = self.addresses.get(&place.address()).filter(|_| capped);
        let of_address = || list.and_then(|list| list.crowded_out(limits.per_capped));
        let of_all = || self.all.crowded_out(limits.per_core);
        if let Some(oldest) = of_place.or_else(of_address).or_else(of_all) {
            self.let_go(oldest);
        }
    }

    /// The newest connection of the place, and since when it is there; it is not kept any more.
    pub(crate) fn take(&mut self, place: Place, now: MonoUs) -> Option<(KeptId, MonoUs)> {
        let newest = self.places.get(&place)?.newest;
        let Entry { since, until, .. } = self.entries[newest as usize];
        if until <= now {
            return None;
        }
        self.take_out(newest);
        self.free.push(newest);
        Some((KeptId(newest), since))
    }

    /// Lets go what has been kept for long enough.
    pub(crate) fn expire(&mut self, now: MonoUs) {
        while let Some(oldest) = self.entries.get(self.all.oldest as usize)
            && oldest.until <= now
        {
            self.let_go(self.all.oldest);
        }
    }

    /// Lets everything towards `address` go.
    pub(crate) fn forsake(&mut self, address: IpAddr) {
        while let Some(list) = self.addresses.get(&address.to_canonical()) {
            self.let_go(list.oldest);
        }
    }

    /// Lets everything go.
    pub(crate) fn clear(&mut self) {
        while !self.is_empty() {
            self.let_go(self.all.oldest);
        }
    }

    /// Whether the reactor has something to close.
    pub(crate) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The next connection to be closed; its number may be given again.
    pub(crate) fn next_gone(&mut self) -> Option<KeptId> {
        let at = self.gone.pop_front()?;
        self.free.push(at);
        Some(KeptId(at))
    }

    fn let_go(&mut self, at: u32) {
        self.take_out(at);
        self.gone.push_back(at);
    }

    fn take_out(&mut self, at: u32) {
        let (place, entries) = (self.entries[at as usize].place, &mut self.entries);
        self.all.take_out(at, entries, IN_ALL);
        let of_place = self.places.entry(place);
        take_out_of(of_place, at, entries, IN_PLACE);
        let of_address = self.addresses.entry(place.address());
        take_out_of(of_address, at, entries, IN_ADDRESS);
    }
}

/// Takes `at` out of a list that it is in; an empty one goes.
fn take_out_of<K>(list: MapEntry<'_, K, List>, at: u32, entries: &mut [Entry], chain: Chain) {
    let MapEntry::Occupied(mut list) = list else {
        return;
    };
    list.get_mut().take_out(at, entries, chain);
    if list.get().len == 0 {
        list.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: KeptLimits = KeptLimits {
        per_core: 6,
        per_address: 3,
        per_capped: 4,
        idle_ms: KEPT_IDLE_MS,
        age_ms: KEPT_AGE_MS,
    };
    const IDLE_MS: u64 = KEPT_IDLE_MS - REST_MS;

    /// Two at each address.
    fn place(n: u16) -> Place {
        Place {
            to: (Ipv4Addr::new(127, 0, 0, n as u8 / 2), 80 + n).into(),
            source: Source::Kernel,
        }
    }

    /// A new one, without caps.
    fn fresh(place: Place, now: MonoUs) -> Keepsake {
        Keepsake {
            place,
            since: now,
            capped: false,
        }
    }

    #[test]
    fn nothing_is_kept_where_there_is_no_room_for_it() {
        let mut kept = Kept::new(KeptLimits::default());
        assert_eq!(kept.keep(fresh(place(0), MonoUs(0)), MonoUs(0)), None);
        assert!(kept.is_empty() && !kept.has_gone());
        let mut kept = Kept::new(KeptLimits {
            per_capped: 0,
            ..LIMITS
        });
        let capped = Keepsake {
            capped: true,
            ..fresh(place(0), MonoUs(0))
        };
        assert_eq!(kept.keep(capped, MonoUs(0)), None);
        assert!(kept.keep(fresh(place(0), MonoUs(0)), MonoUs(0)).is_some());
    }

    #[test]
    fn a_node_keeps_no_more_towards_an_address_with_more_cores() {
        for cores in 1..=KEPT_PER_ADDRESS_MAX as usize {
            let share = KeptLimits::share(cores, 9);
            assert!(share.per_address >= 1);
            assert!(share.per_address * cores as u32 <= KEPT_PER_ADDRESS_MAX);
            assert!(share.per_capped * cores as u32 <= u32::from(ADDRESS_IN_FLIGHT_MAX));
        }
        assert_eq!(KeptLimits::share(1, 9).per_capped, 32);
        assert_eq!(KeptLimits::share(1_000, 9).per_address, 1);
    }

    #[test]
    fn a_connection_is_of_one_source_and_one_destination() {
        let mut kept = Kept::new(LIMITS);
        let from = |n| Source::Address(Ipv4Addr::new(127, 0, 0, n).into());
        let own = Place {
            source: from(2),
            ..place(0)
        };
        let id = kept.keep(fresh(own, MonoUs(0)), MonoUs(0));
        for other in [
            place(0),
            Place {
                source: from(3),
                ..own
            },
            Place {
                to: place(1).to,
                ..own
            },
        ] {
            assert_eq!(kept.take(other, MonoUs(0)), None, "{other:?}");
        }
        assert_eq!(kept.take(own, MonoUs(0)).map(|(id, _)| id), id);
    }

    #[test]
    fn none_is_kept_for_longer_than_the_limit_however_late_the_core_turns() {
        let mut kept = Kept::new(LIMITS);
        kept.keep(fresh(place(0), MonoUs(0)), MonoUs(0));
        let last = MonoUs(IDLE_MS * 1_000);
        kept.expire(MonoUs(last.0 - 1));
        assert_eq!(kept.len(), 1);
        assert_eq!(kept.take(place(0), last), None, "it is not given out then");
        kept.expire(last);
        assert_eq!((kept.len(), kept.has_gone()), (0, true));
        assert!(last.plus_ms(REST_MS) <= MonoUs(KEPT_IDLE_MS * 1_000));
    }

    #[test]
    fn one_that_is_used_again_and_again_ends_by_its_age() {
        let (mut kept, born) = (Kept::new(LIMITS), MonoUs(7));
        let mut keepsake = fresh(place(0), born);
        let mut now = born;
        while kept.keep(keepsake, now).is_some() {
            let (_, since) = kept.take(place(0), now).expect("it was kept");
            assert_eq!(since, born);
            keepsake.since = since;
            now = now.plus_ms(20_000);
        }
        assert_eq!(now, born.plus_ms(KEPT_AGE_MS));
        assert!(kept.is_empty());
    }

    #[test]
    fn what_leads_to_a_forsaken_address_goes_and_nothing_else() {
        let mut kept = Kept::new(LIMITS);
        let ids: Vec<_> = [0, 1, 0, 2]
            .map(|n| kept.keep(fresh(place(n), MonoUs(0)), MonoUs(0)))
            .into();
        // As it may be written in an answer of the DNS.
        let address = Ipv4Addr::new(127, 0, 0, 0).to_ipv6_mapped();
        kept.forsake(address.into());
        let gone: Vec<_> = std::iter::from_fn(|| kept.next_gone()).map(Some).collect();
        assert_eq!(gone, ids[..3]);
        kept.forsake(address.into());
        assert_eq!((kept.len(), kept.has_gone()), (1, false));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Keep(u16),
        Take(u16),
        Pass(u64),
        Close,
        Forsake(u16),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0u16..4).prop_map(Step::Keep),
            4 => (0u16..4).prop_map(Step::Take),
            2 => (0u64..20_000).prop_map(Step::Pass),
            2 => Just(Step::Close),
            1 => (0u16..4).prop_map(Step::Forsake),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// Whether the place has caps: one address has, and one has none.
    fn is_capped(place: Place) -> bool {
        place.address() == Ipv4Addr::new(127, 0, 0, 0)
    }

    /// What must be kept: numbers with their place and time, oldest first.
    #[derive(Default)]
    struct Model {
        kept: Vec<(KeptId, Place, MonoUs)>,
        gone: HashSet<u32>,
    }

    impl Model {
        fn let_go(&mut self, at: usize) {
            let (id, ..) = self.kept.remove(at);
            self.gone.insert(id.0);
        }

        fn expire(&mut self, now: MonoUs) {
            while self
                .kept
                .first()
                .is_some_and(|(.., since)| since.plus_ms(IDLE_MS) <= now)
            {
                self.let_go(0);
            }
        }

        fn keep(&mut self, id: KeptId, place: Place, now: MonoUs) {
            type One = (KeptId, Place, MonoUs);
            let of_place = |(_, of, _): &One| *of == place;
            let of_address = |(_, of, _): &One| is_capped(place) && is_capped(*of);
            let count = |is: &dyn Fn(&One) -> bool| self.kept.iter().filter(|one| is(one)).count();
            let oldest = if count(&of_place) == LIMITS.per_address as usize {
                self.kept.iter().position(of_place)
            } else if count(&of_address) == LIMITS.per_capped as usize {
                self.kept.iter().position(of_address)
            } else {
                (self.kept.len() == LIMITS.per_core as usize).then_some(0)
            };
            if let Some(oldest) = oldest {
                self.let_go(oldest);
            }
            self.kept.push((id, place, now));
        }

        fn forsake(&mut self, address: IpAddr) {
            while let Some(at) = self
                .kept
                .iter()
                .position(|(_, of, _)| of.address() == address)
            {
                self.let_go(at);
            }
        }
    }

    proptest! {
        #[test]
        fn it_keeps_the_newest_within_all_limits_and_gives_no_number_twice(steps in steps()) {
            let (mut kept, mut model) = (Kept::new(LIMITS), Model::default());
            let mut now = MonoUs(0);
            for step in steps {
                match step {
                    Step::Keep(n) => {
                        let keepsake = Keepsake {
                            capped: is_capped(place(n)),
                            ..fresh(place(n), now)
                        };
                        let id = kept.keep(keepsake, now).expect("there is room");
                        model.keep(id, place(n), now);
                        let is_it = |(known, ..): &&(KeptId, Place, MonoUs)| *known == id;
                        prop_assert_eq!(model.kept.iter().filter(is_it).count(), 1);
                        prop_assert!(!model.gone.contains(&id.0));
                    }
                    Step::Take(n) => {
                        let newest = model.kept.iter().rposition(|(_, of, _)| *of == place(n));
                        let expected = newest.map(|at| model.kept.remove(at).0);
                        let taken = kept.take(place(n), now);
                        prop_assert_eq!(taken.map(|(id, _)| id), expected);
                    }
                    Step::Pass(ms) => {
                        now = now.plus_ms(ms);
                        kept.expire(now);
                        model.expire(now);
                    }
                    Step::Close => {
                        let closed = kept.next_gone();
                        prop_assert_eq!(closed.is_none(), model.gone.is_empty());
                        prop_assert!(closed.is_none_or(|id| model.gone.remove(&id.0)));
                    }
                    Step::Forsake(n) => {
                        kept.forsake(place(n).address());
                        model.forsake(place(n).address());
                    }
                    Step::Clear => {
                        kept.clear();
                        (0..model.kept.len()).for_each(|_| model.let_go(0));
                    }
                }
                prop_assert_eq!(kept.len(), model.kept.len());
                prop_assert!(kept.len() <= LIMITS.per_core as usize);
                let places: HashSet<Place> = model.kept.iter().map(|(_, of, _)| *of).collect();
                prop_assert_eq!(kept.places.len(), places.len(), "nothing is left of others");
                let addresses: HashSet<IpAddr> = places.iter().map(Place::address).collect();
                prop_assert_eq!(kept.addresses.len(), addresses.len());
            }
        }
    }
}
