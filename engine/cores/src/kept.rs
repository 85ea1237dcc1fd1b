//! Connections that are kept after a check for the next one that goes to the same place: which
//! there are, which one is given out, and which must go. It knows places and times, not sockets.
//!
//! ```text
//! answer has ended ─► kept ─┬─ a check goes there ─────────────► taken: the newest of the place
//!                           └─ too old, or no room for a newer ─► gone: the reactor closes it
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use model::MonoUs;
use model::limits::{KEPT_IDLE_MS, KEPT_PER_ADDRESS_MAX, REST_TICKS_MAX, TICK_MS};

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
    /// For how long at most, in ms; more than a core may rest.
    pub idle_ms: u64,
}

impl KeptLimits {
    /// What each of `cores` cores keeps, of which one has room for `per_core`: a node keeps no more
    /// towards an address with more cores, as long as each may keep one.
    pub fn share(cores: usize, per_core: u32) -> Self {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        Self {
            per_core,
            per_address: (KEPT_PER_ADDRESS_MAX / cores).max(1),
            idle_ms: KEPT_IDLE_MS,
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
    /// To be closed. Their numbers are not given again before the reactor knows.
    gone: VecDeque<u32>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    until: MonoUs,
    in_all: Links,
    in_place: Links,
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

    /// Keeps a connection; the oldest one of a place without room, or of all, goes for it. `None`
    /// where nothing is kept.
    pub(crate) fn keep(&mut self, place: Place, now: MonoUs) -> Option<KeptId> {
        if self.limits.per_core == 0 || self.limits.per_address == 0 {
            return None;
        }
        let list = self.places.get(&place);
        let crowded = list.filter(|list| list.len >= self.limits.per_address);
        if let Some(oldest) = crowded.map(|list| list.oldest) {
            self.let_go(oldest);
        } else if self.all.len >= self.limits.per_core {
            self.let_go(self.all.oldest);
        }
        let entry = Entry {
            place,
            until: now.plus_ms(self.limits.idle_ms.saturating_sub(REST_MS)),
            in_all: Links {
                newer: NONE,
                older: NONE,
            },
            in_place: Links {
                newer: NONE,
                older: NONE,
            },
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
        Some(KeptId(at))
    }

    /// The newest connection of the place; it is not kept any more.
    pub(crate) fn take(&mut self, place: Place, now: MonoUs) -> Option<KeptId> {
        let newest = self.places.get(&place)?.newest;
        if self.entries[newest as usize].until <= now {
            return None;
        }
        self.take_out(newest);
        self.free.push(newest);
        Some(KeptId(newest))
    }

    /// Lets go what has been kept for long enough.
    pub(crate) fn expire(&mut self, now: MonoUs) {
        while let Some(oldest) = self.entries.get(self.all.oldest as usize)
            && oldest.until <= now
        {
            self.let_go(self.all.oldest);
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
        self.all.take_out(at, &mut self.entries, IN_ALL);
        let place = self.entries[at as usize].place;
        let list = self.places.get_mut(&place);
        let list = list.expect("what is kept is in the list of its place");
        list.take_out(at, &mut self.entries, IN_PLACE);
        if list.len == 0 {
            self.places.remove(&place);
        }
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
        idle_ms: KEPT_IDLE_MS,
    };
    const IDLE_MS: u64 = KEPT_IDLE_MS - REST_MS;

    fn place(n: u16) -> Place {
        Place {
            to: (Ipv4Addr::LOCALHOST, 80 + n).into(),
            source: Source::Kernel,
        }
    }

    #[test]
    fn nothing_is_kept_where_there_is_no_room_for_it() {
        let mut kept = Kept::new(KeptLimits::default());
        assert_eq!(kept.keep(place(0), MonoUs(0)), None);
        assert!(kept.is_empty() && !kept.has_gone());
    }

    #[test]
    fn a_node_keeps_no_more_towards_an_address_with_more_cores() {
        for cores in 1..=KEPT_PER_ADDRESS_MAX as usize {
            let share = KeptLimits::share(cores, 9);
            assert!(share.per_address >= 1);
            assert!(share.per_address * cores as u32 <= KEPT_PER_ADDRESS_MAX);
        }
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
        let id = kept.keep(own, MonoUs(0));
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
        assert_eq!(kept.take(own, MonoUs(0)), id);
    }

    #[test]
    fn none_is_kept_for_longer_than_the_limit_however_late_the_core_turns() {
        let mut kept = Kept::new(LIMITS);
        kept.keep(place(0), MonoUs(0));
        let last = MonoUs(IDLE_MS * 1_000);
        kept.expire(MonoUs(last.0 - 1));
        assert_eq!(kept.len(), 1);
        assert_eq!(kept.take(place(0), last), None, "it is not given out then");
        kept.expire(last);
        assert_eq!((kept.len(), kept.has_gone()), (0, true));
        assert!(last.plus_ms(REST_MS) <= MonoUs(KEPT_IDLE_MS * 1_000));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Keep(u16),
        Take(u16),
        Pass(u64),
        Close,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0u16..4).prop_map(Step::Keep),
            4 => (0u16..4).prop_map(Step::Take),
            2 => (0u64..20_000).prop_map(Step::Pass),
            2 => Just(Step::Close),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 1..200)
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
            let of_place = |(_, of, _): &(KeptId, Place, MonoUs)| *of == place;
            let count = self.kept.iter().filter(|one| of_place(one)).count();
            if count == LIMITS.per_address as usize {
                let oldest = self.kept.iter().position(of_place);
                self.let_go(oldest.expect("there are some"));
            } else if self.kept.len() == LIMITS.per_core as usize {
                self.let_go(0);
            }
            self.kept.push((id, place, now));
        }
    }

    proptest! {
        #[test]
        fn it_keeps_the_newest_within_both_limits_and_gives_no_number_twice(steps in steps()) {
            let (mut kept, mut model) = (Kept::new(LIMITS), Model::default());
            let mut now = MonoUs(0);
            for step in steps {
                match step {
                    Step::Keep(n) => {
                        let id = kept.keep(place(n), now).expect("there is room");
                        model.keep(id, place(n), now);
                        let is_it = |(known, ..): &&(KeptId, Place, MonoUs)| *known == id;
                        prop_assert_eq!(model.kept.iter().filter(is_it).count(), 1);
                        prop_assert!(!model.gone.contains(&id.0));
                    }
                    Step::Take(n) => {
                        let newest = model.kept.iter().rposition(|(_, of, _)| *of == place(n));
                        let expected = newest.map(|at| model.kept.remove(at).0);
                        prop_assert_eq!(kept.take(place(n), now), expected);
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
                    Step::Clear => {
                        kept.clear();
                        (0..model.kept.len()).for_each(|_| model.let_go(0));
                    }
                }
                prop_assert_eq!(kept.len(), model.kept.len());
                prop_assert!(kept.len() <= LIMITS.per_core as usize);
                let places: HashSet<Place> = model.kept.iter().map(|(_, of, _)| *of).collect();
                prop_assert_eq!(kept.places.len(), places.len(), "nothing is left of others");
            }
        }
    }
}
