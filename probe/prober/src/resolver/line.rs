//! One cache line: addresses or a failure, until when, and who said so.
//!
//! ```text
//! empty ─► addresses ── TTL ─► stale, asked for again ── 1 h ─► of no use
//!      └─► failure ── TTL ─► of no use         └ held: used without a question for 5 s
//! ```
//!
//! Times are tenths of a second in a u32 (13 years), rounded down: a line never outlives its TTL.
//! The line remembers its TTL too: what is worth a refresh before its end depends on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::limits::{DNS_ADDRESSES_MAX, DNS_STALE_MAX_MS};
use model::{FailureClass, MonoUs};

use super::answer::Addresses;
use super::chunks::Chunks;

/// Addresses and the upstream that gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positive {
    pub(super) addresses: Addresses,
    pub(super) server: u8,
}

/// What addresses are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// The end of the TTL.
    pub(super) until: MonoUs,
    /// All of the TTL, what is over of it included.
    pub(super) ttl_ms: u64,
    pub(super) width: Width,
    /// Why the preferred family is not among them, where it could not be had.
    pub(super) lacks: Option<FailureClass>,
}

/// Whether there is more of a name to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The family that the policy does not prefer.
    Narrow,
    /// Nothing: the policy wants one family, or both have said what they have.
    Wide,
    /// Nothing until then: the other family was asked for in vain.
    WideUntil(MonoUs),
}

impl Width {
    pub(super) fn is_wide(self, now: MonoUs) -> bool {
        match self {
            Self::Narrow => false,
            Self::Wide => true,
            Self::WideUntil(until) => now < until,
        }
    }
}

/// A failure as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Negative {
    pub(super) class: FailureClass,
    pub(super) tries: u8,
    pub(super) server: u8,
    pub(super) rcode: Option<u16>,
    /// Two upstreams say that the name does not exist.
    pub(super) agreed: bool,
}

/// What a line says at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    /// Within its TTL.
    Fresh(Positive),
    /// Past its TTL, and the upstreams failed a moment ago.
    Held(Positive),
    /// A remembered failure.
    Failed(Negative),
    /// Ask.
    Nothing,
}

/// A cache line.
#[derive(Debug, Default)]
pub(super) struct Line {
    expires_ds: u32,
    content: Content,
    /// How long after `expires_ds` the addresses are used without asking; with [`VAIN`] how long
    /// before it the question in vain is forgotten.
    span_ds: u16,
    /// TTL of addresses in seconds (an hour is 3,600: [`TTL`]), and [`WIDE`] or [`VAIN`], and which
    /// of [`LACKS`] it is, from 1 on.
    life: u16,
}

/// Four IPv4 addresses or one IPv6 address are here; the few names with more have them in the
/// spill. `turn` counts the rotation.
#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    V4 {
        list: [Ipv4Addr; INLINE_V4],
        count: u8,
        turn: u8,
        server: u8,
    },
    V6 {
        address: Ipv6Addr,
        server: u8,
    },
    Spilled {
        at: u32,
        turn: u8,
        server: u8,
        offered: u8,
    },
    Failed(Negative),
}

/// [`Width::Wide`].
const WIDE: u16 = 1 << 15;
/// [`Width::WideUntil`].
const VAIN: u16 = 1 << 14;
/// What a family may fail with so that the other one is asked for.
const LACKS: [FailureClass; 3] = [
    FailureClass::DnsServfail,
    FailureClass::DnsTimeout,
    FailureClass::DnsMalformed,
];
/// Where the number of one of [`LACKS`] begins.
const LACKS_SHIFT: u32 = 12;
/// The bits of a TTL.
const TTL: u16 = (1 << LACKS_SHIFT) - 1;

/// IPv4 addresses that fit a line.
const INLINE_V4: usize = 4;

impl Line {
    /// What the line says; addresses come one place further on each time.
    pub(super) fn read(&mut self, spill: &mut Spill, now: MonoUs) -> Cached {
        let now = tenths(now);
        let live = now < self.expires_ds;
        if let Content::Failed(negative) = self.content {
            return if live {
                Cached::Failed(negative)
            } else {
                Cached::Nothing
            };
        }
        let held = self.life & VAIN == 0 && now < self.expires_ds + u32::from(self.span_ds);
        if !live && !held {
            return Cached::Nothing;
        }
        match self.take_turn(spill) {
            Some(positive) if live => Cached::Fresh(positive),
            Some(positive) => Cached::Held(positive),
            None => Cached::Nothing,
        }
    }

    /// Remembers addresses.
    pub(super) fn keep(&mut self, spill: &mut Spill, new: &Positive, life: Life) {
        self.clear(spill);
        self.expires_ds = tenths(life.until);
        let flag = match life.width {
            Width::Narrow => 0,
            Width::Wide => WIDE,
            Width::WideUntil(until) => {
                // No TTL is longer than an hour, 36,000 tenths: it fits.
                self.span_ds = self.expires_ds.saturating_sub(tenths(until)) as u16;
                VAIN
            }
        };
        let is_lacking = |class: &FailureClass| Some(*class) == life.lacks;
        let lacks = LACKS.iter().position(is_lacking).map_or(0, |at| at + 1) as u16;
        self.life = (life.ttl_ms / 1_000) as u16 & TTL | flag | lacks << LACKS_SHIFT;
        self.content = Content::of(new, spill);
    }

    /// Remembers a failure.
    pub(super) fn fail(&mut self, spill: &mut Spill, new: Negative, ttl_ms: u64, now: MonoUs) {
        self.clear(spill);
        self.expires_ds = tenths(now.plus_ms(ttl_ms));
        self.content = Content::Failed(new);
    }

    /// The addresses if they may still be used; for `hold_ms` they will be given without asking.
    pub(super) fn stale(
        &mut self,
        spill: &mut Spill,
        hold_ms: u64,
        now: MonoUs,
    ) -> Option<Positive> {
        let last = self.expires_ds + (DNS_STALE_MAX_MS / 100) as u32;
        if tenths(now) >= last {
            return None;
        }
        let positive = self.take_turn(spill)?;
        let until = tenths(now.plus_ms(hold_ms)).min(last);
        // One hour of tenths is 36,000: it fits.
        self.span_ds = until.saturating_sub(self.expires_ds) as u16;
        self.life &= !VAIN;
        Some(positive)
    }

    /// The address that the next read begins with, be it past its TTL.
    pub(super) fn next_address(&self, spill: &Spill) -> Option<IpAddr> {
        match &self.content {
            Content::Empty | Content::Failed(_) => None,
            Content::V4 { list, turn, .. } => Some(list[usize::from(*turn)].into()),
            Content::V6 { address, .. } => Some((*address).into()),
            Content::Spilled { at, turn, .. } => {
                spill.get(*at).rotated(usize::from(*turn)).iter().next()
            }
        }
    }

    /// Whether the addresses are within their TTL.
    pub(super) fn is_fresh(&self, now: MonoUs) -> bool {
        let is_known = !matches!(self.content, Content::Empty | Content::Failed(_));
        is_known && tenths(now) < self.expires_ds
    }

    /// Whether the addresses are fresh now and not at `due`, and live for at least `ttl_ms`.
    pub(super) fn ends_before(&self, due: MonoUs, ttl_ms: u64, now: MonoUs) -> bool {
        self.is_fresh(now) && tenths(due) >= self.expires_ds && self.life().ttl_ms >= ttl_ms
    }

    /// What the addresses are good for.
    pub(super) fn life(&self) -> Life {
        let width = match self.life & (WIDE | VAIN) {
            0 => Width::Narrow,
            VAIN => Width::WideUntil(of_tenths(self.expires_ds - u32::from(self.span_ds))),
            _ => Width::Wide,
        };
        let lacks = usize::from(self.life >> LACKS_SHIFT & 3);
        Life {
            until: of_tenths(self.expires_ds),
            ttl_ms: u64::from(self.life & TTL) * 1_000,
            width,
            lacks: lacks.checked_sub(1).map(|at| LACKS[at]),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, spill: &mut Spill) {
        if let Content::Spilled { at, .. } = self.content {
            spill.remove(at);
        }
        *self = Self::default();
    }

    fn take_turn(&mut self, spill: &Spill) -> Option<Positive> {
        match &mut self.content {
            Content::Empty | Content::Failed(_) => None,
            Content::V4 {
                list,
                count,
                turn,
                server,
            } => {
                let list = list[..usize::from(*count)].iter().map(|v4| IpAddr::V4(*v4));
                Some(rotated(list.collect(), turn, *server))
            }
            Content::V6 { address, server } => Some(Positive {
                addresses: std::iter::once(IpAddr::V6(*address)).collect(),
                server: *server,
            }),
            Content::Spilled {
                at,
                turn,
                server,
                offered,
            } => Some(rotated(spill.get(*at).of(*offered), turn, *server)),
        }
    }
}

impl Content {
    fn of(new: &Positive, spill: &mut Spill) -> Self {
        let server = new.server;
        match new.addresses.as_slice() {
            [] => Self::Empty,
            [IpAddr::V6(address)] => Self::V6 {
                address: *address,
                server,
            },
            [IpAddr::V4(_), ..] if new.addresses.len() <= INLINE_V4 && !new.addresses.is_dual() => {
                let mut list = [Ipv4Addr::UNSPECIFIED; INLINE_V4];
                for (place, address) in list.iter_mut().zip(new.addresses.iter()) {
                    *place = match address {
                        IpAddr::V4(v4) => v4,
                        IpAddr::V6(_) => continue,
                    };
                }
                Self::V4 {
                    list,
                    count: new.addresses.len() as u8,
                    turn: 0,
                    server,
                }
            }
            _ => Self::Spilled {
                at: spill.insert(&new.addresses),
                turn: 0,
                server,
                offered: new.addresses.offered(),
            },
        }
    }
}

fn rotated(addresses: Addresses, turn: &mut u8, server: u8) -> Positive {
    let by = usize::from(*turn);
    *turn = ((by + 1) % addresses.len().max(1)) as u8;
    Positive {
        addresses: addresses.rotated(by),
        server,
    }
}

fn tenths(at: MonoUs) -> u32 {
    (at.0 / 100_000) as u32
}

fn of_tenths(tenths: u32) -> MonoUs {
    MonoUs(u64::from(tenths) * 100_000)
}

/// Address lists that are too long for a line: 33 bytes each for IPv4, 129 for IPv6, 139 for both.
#[derive(Debug, Default)]
pub(super) struct Spill {
    v4: Pool<[Ipv4Addr; DNS_ADDRESSES_MAX]>,
    v6: Pool<[Ipv6Addr; DNS_ADDRESSES_MAX]>,
    dual: Pool<Addresses>,
}

/// Lists of one family; a free one has length 0.
#[derive(Debug)]
struct Pool<T> {
    lists: Chunks<(u8, T)>,
    free: Vec<u32>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            lists: Chunks::default(),
            free: Vec::new(),
        }
    }
}

/// Set in the number of an IPv6 list.
const V6_BIT: u32 = 1 << 31;
/// Set in the number of a list of both families.
const DUAL_BIT: u32 = 1 << 30;

impl Spill {
    fn insert(&mut self, addresses: &Addresses) -> u32 {
        let len = addresses.len() as u8;
        if addresses.is_dual() {
            return self.dual.insert((len, *addresses)) | DUAL_BIT;
        }
        let mut v4 = [Ipv4Addr::UNSPECIFIED; DNS_ADDRESSES_MAX];
        let mut v6 = [Ipv6Addr::UNSPECIFIED; DNS_ADDRESSES_MAX];
        let mut is_v6 = false;
        for (n, address) in addresses.iter().enumerate() {
            match address {
                IpAddr::V4(address) => v4[n] = address,
                IpAddr::V6(address) => (v6[n], is_v6) = (address, true),
            }
        }
        if is_v6 {
            self.v6.insert((len, v6)) | V6_BIT
        } else {
            self.v4.insert((len, v4))
        }
    }

    fn get(&self, at: u32) -> Addresses {
        if at & DUAL_BIT != 0 {
            return self.dual.lists[at & !DUAL_BIT].1;
        }
        if at & V6_BIT == 0 {
            let (len, list) = &self.v4.lists[at];
            return list[..usize::from(*len)]
                .iter()
                .copied()
                .map(IpAddr::V4)
                .collect();
        }
        let (len, list) = &self.v6.lists[at & !V6_BIT];
        list[..usize::from(*len)]
            .iter()
            .copied()
            .map(IpAddr::V6)
            .collect()
    }

    fn remove(&mut self, at: u32) {
        let free = match at & (V6_BIT | DUAL_BIT) {
            0 => &mut self.v4.free,
            V6_BIT => &mut self.v6.free,
            _ => &mut self.dual.free,
        };
        free.push(at & !(V6_BIT | DUAL_BIT));
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let free = self.v4.free.capacity() + self.v6.free.capacity() + self.dual.free.capacity();
        self.v4.lists.bytes()
            + self.v6.lists.bytes()
            + self.dual.lists.bytes()
            + free * size_of::<u32>()
    }
}

impl<T> Pool<T> {
    fn insert(&mut self, list: (u8, T)) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.lists[at] = list;
                at
            }
            None => self.lists.push(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn positive(v4: u8, v6: u16) -> Positive {
        let v4 = (0..v4).map(|n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)));
        let v6 = (0..v6).map(|n| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)));
        Positive {
            addresses: v4.chain(v6).collect(),
            server: 3,
        }
    }

    /// Of addresses that came at 0.
    fn life(ttl_ms: u64) -> Life {
        Life {
            until: MonoUs(ttl_ms * 1_000),
            ttl_ms,
            width: Width::Narrow,
            lacks: None,
        }
    }

    #[test]
    fn every_shape_of_addresses_comes_back_rotated() {
        let mut spill = Spill::default();
        for kept in [
            (1, 0),
            (4, 0),
            (5, 0),
            (8, 0),
            (0, 1),
            (0, 2),
            (0, 8),
            (12, 0),
            (0, 255),
            (1, 1),
            (3, 5),
        ] {
            let kept = positive(kept.0, kept.1);
            let mut line = Line::default();
            line.keep(&mut spill, &kept, life(30_000));
            for turn in 0..20 {
                let turned = kept.addresses.rotated(turn % kept.addresses.len());
                let want = Cached::Fresh(Positive {
                    addresses: turned,
                    server: 3,
                });
                let next = line.next_address(&spill);
                assert_eq!(next, turned.iter().next(), "said before it is read");
                assert_eq!(line.read(&mut spill, MonoUs(SECOND)), want);
            }
            line.clear(&mut spill);
            assert_eq!(line.next_address(&spill), None);
            assert_eq!(line.read(&mut spill, MonoUs(SECOND)), Cached::Nothing);
        }
        assert_eq!(
            [&spill.v4.free, &spill.v6.free, &spill.dual.free].map(Vec::len),
            [1, 1, 1],
            "places are used again"
        );
    }

    #[test]
    fn a_line_says_whether_it_ends_before_it_is_needed_and_lives_long_enough() {
        let (mut spill, mut line) = (Spill::default(), Line::default());
        let at = |s: u64| MonoUs(s * SECOND);
        assert!(!line.ends_before(at(50), 1, at(1)), "nothing is known");
        line.keep(&mut spill, &positive(1, 0), life(40_000));
        assert!(line.ends_before(at(50), 40_000, at(1)) && line.life().width == Width::Narrow);
        assert!(!line.ends_before(at(50), 40_001, at(1)), "too short a life");
        assert!(!line.ends_before(at(39), 1, at(1)), "still fresh then");
        assert!(!line.ends_before(at(50), 1, at(40)), "over already");
        let wide = Life {
            width: Width::Wide,
            ..life(3_600_000)
        };
        for lacks in LACKS.map(Some).into_iter().chain([None]) {
            let wide = Life { lacks, ..wide };
            line.keep(&mut spill, &positive(1, 0), wide);
            assert!(line.ends_before(at(3_600), 3_600_000, at(1)));
            assert_eq!(line.life(), wide);
        }
        let class = FailureClass::DnsTimeout;
        let (tries, server, rcode) = (3, 0, None);
        let failure = Negative {
            agreed: true,
            class,
            tries,
            server,
            rcode,
        };
        line.fail(&mut spill, failure, 40_000, at(0));
        assert!(!line.ends_before(at(50), 1, at(1)) && !line.is_fresh(at(1)));
        assert_eq!(line.life().width, Width::Narrow, "nothing is left of it");
    }

    #[test]
    fn a_question_in_vain_is_remembered_for_its_own_time_and_never_past_the_line() {
        let (mut spill, mut line) = (Spill::default(), Line::default());
        let at = |s: u64| MonoUs(s * SECOND);
        for (until_s, remembered_s) in [(5, 5), (60, 60), (3_600, 3_600), (3_700, 3_600)] {
            let vain = Life {
                width: Width::WideUntil(at(until_s)),
                ..life(3_600_000)
            };
            line.keep(&mut spill, &positive(1, 0), vain);
            let width = line.life().width;
            assert!(
                width.is_wide(MonoUs(remembered_s * SECOND - 1)),
                "{until_s}"
            );
            assert!(!width.is_wide(at(remembered_s)), "{until_s}");
            assert_eq!(
                line.read(&mut spill, at(3_600)),
                Cached::Nothing,
                "{until_s}"
            );
        }
        assert!(line.stale(&mut spill, 5_000, at(3_601)).is_some());
        assert!(matches!(line.read(&mut spill, at(3_602)), Cached::Held(_)));
        assert_eq!(line.life().width, Width::Narrow);
    }

    #[test]
    fn a_line_lives_for_its_ttl_is_held_when_stale_and_dies_after_an_hour() {
        let (mut spill, mut line) = (Spill::default(), Line::default());
        let at = |s: u64| MonoUs(s * SECOND);
        line.keep(&mut spill, &positive(1, 0), life(30_000));
        assert!(matches!(line.read(&mut spill, at(29)), Cached::Fresh(_)));
        assert_eq!(line.read(&mut spill, at(30)), Cached::Nothing);
        assert!(line.stale(&mut spill, 5_000, at(40)).is_some());
        assert!(matches!(line.read(&mut spill, at(44)), Cached::Held(_)));
        assert_eq!(line.read(&mut spill, at(45)), Cached::Nothing);
        assert!(line.stale(&mut spill, 5_000, at(3_629)).is_some());
        assert_eq!(
            line.read(&mut spill, at(3_630)),
            Cached::Nothing,
            "no hold past the hour"
        );
        assert!(line.stale(&mut spill, 5_000, at(3_630)).is_none());
    }
}
