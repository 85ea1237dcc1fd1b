//! Addresses whose sites ask us for fewer requests: who asked, and until when an address is slowed
//! down for it. It knows neither paces nor checks; an address that nobody asks for is not in it.
//!
//! ```text
//! asked by one ─► remembered for 5 min ── asked by enough of them ─► slowed for 5 min, from each
//!        └ nobody asked again, and not slowed: forgotten ◄──────────┘   time that one asks again
//! ```

use std::collections::HashMap;
use std::net::IpAddr;

use model::limits::{SLOWED_ADDRESSES_MAX, SLOWED_BY_TARGETS_MIN, SLOWED_MS};
use model::{MonoUs, Slot};

/// Between two looks at what can be forgotten, in ms.
const LOOK_MS: u64 = 1_000;

/// Who asked for one address.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Different ones, each with the last time; the others are of long ago, by nobody.
    by: [Option<(Slot, MonoUs)>; SLOWED_BY_TARGETS_MIN],
    last: MonoUs,
    /// Slowed down until then.
    until: MonoUs,
}

impl Asked {
    const NOBODY: Self = Self {
        by: [None; SLOWED_BY_TARGETS_MIN],
        last: MonoUs(0),
        until: MonoUs(0),
    };

    /// Notes `slot`, in the place of who asked longest ago, and says how many asked lately.
    fn note(&mut self, slot: Slot, now: MonoUs) -> usize {
        let of = |place: &Option<(Slot, MonoUs)>| place.map(|(slot, _)| slot);
        let own = self.by.iter().position(|place| of(place) == Some(slot));
        let oldest = || {
            let places = self.by.iter().enumerate();
            let oldest = places.min_by_key(|(_, place)| place.map(|(_, at)| at));
            oldest.map_or(0, |(index, _)| index)
        };
        let index = own.unwrap_or_else(oldest);
        self.by[index] = Some((slot, now));
        self.last = now;
        let lately = self.by.iter().flatten();
        lately.filter(|(_, at)| is_lately(*at, now)).count()
    }
}

fn is_lately(at: MonoUs, now: MonoUs) -> bool {
    now.since(at) < SLOWED_MS * 1_000
}

/// The addresses of one core for which somebody asked lately.
#[derive(Debug)]
pub(super) struct Slowed {
    /// So many different targets slow an address down.
    targets_min: usize,
    by_address: HashMap<IpAddr, Asked>,
    look_at: MonoUs,
    /// How many are slowed down, as of the last look.
    count: usize,
}

impl Slowed {
    pub(super) fn new(targets_min: usize) -> Self {
        Self {
            targets_min: targets_min.min(SLOWED_BY_TARGETS_MIN),
            by_address: HashMap::new(),
            look_at: MonoUs(0),
            count: 0,
        }
    }

    /// The target in `slot` asked for fewer requests to `address`: until when that is slowed down.
    /// Where [`SLOWED_ADDRESSES_MAX`] are known, no other one is until one of them is forgotten.
    pub(super) fn asked(&mut self, address: IpAddr, slot: Slot, now: MonoUs) -> MonoUs {
        let is_full = self.by_address.len() >= SLOWED_ADDRESSES_MAX;
        if is_full && !self.by_address.contains_key(&address) {
            return MonoUs(0);
        }
        let asked = self.by_address.entry(address).or_insert(Asked::NOBODY);
        if asked.note(slot, now) >= self.targets_min {
            asked.until = now.plus_ms(SLOWED_MS);
        }
        asked.until
    }

    /// Whether nobody asked lately.
    pub(super) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Until when `address` is slowed down; long ago when it is not.
    pub(super) fn until(&self, address: IpAddr) -> MonoUs {
        if self.by_address.is_empty() {
            return MonoUs(0);
        }
        let asked = self.by_address.get(&address);
        asked.map_or(MonoUs(0), |asked| asked.until)
    }

    /// Forgets who asked long ago, from time to time.
    pub(super) fn look(&mut self, now: MonoUs) {
        if self.by_address.is_empty() || now < self.look_at {
            return;
        }
        self.look_at = now.plus_ms(LOOK_MS);
        self.by_address
            .retain(|_, asked| is_lately(asked.last, now) || now < asked.until);
        let slowed = self.by_address.values();
        self.count = slowed.filter(|asked| now < asked.until).count();
    }

    /// How many are slowed down.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn at(s: u64) -> MonoUs {
        MonoUs(s * 1_000_000)
    }

    #[test]
    fn ten_different_targets_within_five_minutes_slow_an_address_for_five_more() {
        let mut slowed = Slowed::new(10);
        for second in 0..100 {
            assert_eq!(slowed.asked(address(1), Slot(0), at(second)), MonoUs(0));
        }
        for slot in 1..9 {
            let until = slowed.asked(address(1), Slot(slot), at(200));
            assert_eq!(until, MonoUs(0), "{slot} others");
        }
        assert_eq!(slowed.asked(address(2), Slot(9), at(201)), MonoUs(0));
        assert_eq!(slowed.asked(address(1), Slot(9), at(202)), at(502));
        assert_eq!(slowed.until(address(1)), at(502));
        slowed.look(at(202));
        assert_eq!((slowed.count(), slowed.by_address.len()), (1, 2));
        slowed.look(at(502));
        assert_eq!((slowed.count(), slowed.by_address.len()), (0, 0));
    }

    #[test]
    fn who_asked_long_ago_counts_no_more() {
        let mut slowed = Slowed::new(10);
        for slot in 0..30 {
            // Ten of them are always more than five minutes apart.
            let until = slowed.asked(address(1), Slot(slot), at(u64::from(slot) * 34));
            assert_eq!(until, MonoUs(0));
        }
        let until = (30..40).map(|slot| slowed.asked(address(1), Slot(slot), at(1_100)));
        assert_eq!(until.last(), Some(at(1_400)));
    }

    #[test]
    fn no_more_addresses_are_known_than_the_limit_says() {
        let mut slowed = Slowed::new(1);
        let max = SLOWED_ADDRESSES_MAX as u32;
        for n in 0..max + 10 {
            let until = slowed.asked(address(n), Slot(0), at(1));
            assert_eq!(until != MonoUs(0), n < max);
        }
        slowed.look(at(302));
        assert_eq!(slowed.asked(address(max), Slot(0), at(302)), at(602));
    }
}
