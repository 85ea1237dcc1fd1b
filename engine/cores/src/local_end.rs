//! The local end of connections: which of our addresses the next one comes from, and how it is
//! closed.
//!
//! ```text
//! usable ─┬─ connect() finds no free port to a destination ─► spent there ─┬─ 1 s ─► usable
//!         └─ bind() says that the address is not ours ──────► absent ──────┘
//! ```
//!
//! Which ports are free the kernel alone knows: a port that one destination uses is free for every
//! other one, and a closed connection keeps its port for a minute. Kept here is only what the
//! kernel refused a moment ago, so that another address is taken instead and nobody asks again at
//! once: where every port is taken the answer costs a search through all of them. This knows
//! addresses and times, not sockets.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use model::MonoUs;
use model::limits::{SOURCE_REST_MS, SOURCES_SPENT_MAX};

use crate::kept::KeptLimits;

/// How a connection of ours is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// In order; who closes first keeps the port for a minute (`TIME_WAIT`).
    #[default]
    Fin,
    /// By a reset, which leaves nothing behind on either side.
    Reset,
}

/// The local end of all connections of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalEnd {
    /// Addresses that connections come from, in turn. Of a family without one the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// How connections are closed.
    pub close: Close,
    /// How many are kept for later checks instead.
    pub kept: KeptLimits,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The kernel chooses.
    Kernel,
    /// This address; the kernel chooses the port.
    Address(IpAddr),
}

/// Why a connection could not come from a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// This machine does not have the address.
    Absent,
    /// Every port towards the destination is taken.
    Spent,
}

/// The sources of one core.
#[derive(Debug)]
pub(crate) struct Sources {
    v4: Pool,
    v6: Pool,
    close: Close,
    spent: HashSet<(Source, SocketAddr)>,
    /// The same, in the order in which they become usable again.
    spent_until: VecDeque<(MonoUs, Source, SocketAddr)>,
    absent: VecDeque<(MonoUs, IpAddr)>,
}

/// Addresses of one family.
#[derive(Debug)]
struct Pool {
    addresses: Vec<IpAddr>,
    next: usize,
}

impl Pool {
    /// Each core begins with another address.
    fn new(all: &[IpAddr], core: u16, is_member: fn(&IpAddr) -> bool) -> Self {
        let addresses: Vec<IpAddr> = all.iter().copied().filter(is_member).collect();
        let next = usize::from(core) % addresses.len().max(1);
        Self { addresses, next }
    }

    fn turn(&mut self) -> IpAddr {
        let address = self.addresses[self.next];
        self.next = (self.next + 1) % self.addresses.len();
        address
    }

    /// The address whose turn it is.
    fn in_turn(&self) -> Option<IpAddr> {
        self.addresses.get(self.next).copied()
    }
}

impl Sources {
    /// The sources of the core with this number.
    pub(crate) fn new(config: &LocalEnd, core: u16) -> Self {
        Self {
            v4: Pool::new(&config.sources, core, IpAddr::is_ipv4),
            v6: Pool::new(&config.sources, core, IpAddr::is_ipv6),
            close: config.close,
            spent: HashSet::new(),
            spent_until: VecDeque::new(),
            absent: VecDeque::new(),
        }
    }

    /// How connections are closed.
    pub(crate) fn close(&self) -> Close {
        self.close
    }

    /// Where the next connection to `to` comes from; `None` when no source has a port left for it.
    pub(crate) fn next(&mut self, to: SocketAddr) -> Option<Source> {
        let pool = if is_v4(to) {
            &mut self.v4
        } else {
            &mut self.v6
        };
        if pool.addresses.is_empty() {
            let kernel = Source::Kernel;
            return (!self.spent.contains(&(kernel, to))).then_some(kernel);
        }
        let (spent, absent) = (&self.spent, &self.absent);
        let is_usable = |address: &IpAddr| {
            !spent.contains(&(Source::Address(*address), to))
                && !absent.iter().any(|(_, gone)| gone == address)
        };
        let turns = pool.addresses.len();
        let next = (0..turns).map(|_| pool.turn()).find(is_usable);
        next.map(Source::Address)
    }

    /// Where a connection to `to` that is kept must come from to be used now: whose turn it is.
    pub(crate) fn in_turn(&self, to: SocketAddr) -> Source {
        let pool = self.pool(to);
        pool.in_turn().map_or(Source::Kernel, Source::Address)
    }

    /// A kept connection of the source whose turn it was is used.
    pub(crate) fn pass(&mut self, to: SocketAddr) {
        let pool = if is_v4(to) {
            &mut self.v4
        } else {
            &mut self.v6
        };
        if !pool.addresses.is_empty() {
            pool.turn();
        }
    }

    /// What a connection to `to` that has this `local` address counts as.
    pub(crate) fn of(&self, to: SocketAddr, local: impl FnOnce() -> Option<IpAddr>) -> Source {
        if self.pool(to).addresses.is_empty() {
            return Source::Kernel;
        }
        let local = local().map(|address| address.to_canonical());
        local.map_or(Source::Kernel, Source::Address)
    }

    fn pool(&self, to: SocketAddr) -> &Pool {
        if is_v4(to) { &self.v4 } else { &self.v6 }
    }

    /// The kernel refused `source`. When more is refused than can be kept, the kernel is asked
    /// again.
    pub(crate) fn refused(
        &mut self,
        source: Source,
        to: SocketAddr,
        error: SourceError,
        now: MonoUs,
    ) {
        let until = now.plus_ms(SOURCE_REST_MS);
        match (error, source) {
            (SourceError::Absent, Source::Address(address)) => {
                if !self.absent.iter().any(|(_, gone)| *gone == address) {
                    self.absent.push_back((until, address));
                }
            }
            (SourceError::Spent | SourceError::Absent, _) => {
                if self.spent.len() < SOURCES_SPENT_MAX && self.spent.insert((source, to)) {
                    self.spent_until.push_back((until, source, to));
                }
            }
        }
    }

    /// Makes usable again what has rested.
    pub(crate) fn settle(&mut self, now: MonoUs) {
        while let Some((_, source, to)) = self.spent_until.pop_front_if(|(until, ..)| *until <= now)
        {
            self.spent.remove(&(source, to));
        }
        while self
            .absent
            .pop_front_if(|(until, _)| *until <= now)
            .is_some()
        {}
    }

    /// Addresses that are configured and not known to be absent.
    pub(crate) fn usable(&self) -> usize {
        self.v4.addresses.len() + self.v6.addresses.len() - self.absent.len()
    }

    /// Addresses that this machine did not have a moment ago.
    pub(crate) fn absent(&self) -> usize {
        self.absent.len()
    }

    /// Pairs of source and destination that had no free port a moment ago.
    pub(crate) fn spent(&self) -> usize {
        self.spent.len()
    }
}

fn is_v4(to: SocketAddr) -> bool {
    to.ip().to_canonical().is_ipv4()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn source(n: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, n).into()
    }

    fn to(port: u16) -> SocketAddr {
        (Ipv4Addr::new(203, 0, 113, 7), port).into()
    }

    fn pool(count: u8, core: u16) -> Sources {
        let config = LocalEnd {
            sources: (1..=count).map(source).collect(),
            ..LocalEnd::default()
        };
        Sources::new(&config, core)
    }

    fn refused(sources: &mut Sources, n: u8, port: u16, error: SourceError, at_ms: u64) {
        let from = Source::Address(source(n));
        sources.refused(from, to(port), error, MonoUs(at_ms * 1_000));
    }

    fn next(sources: &mut Sources, port: u16) -> Option<u8> {
        match sources.next(to(port))? {
            Source::Address(IpAddr::V4(address)) => Some(address.octets()[3]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sources_take_turns_and_each_core_begins_with_another_one() {
        let mut first = pool(3, 0);
        let turns: Vec<_> = (0..5).map(|_| next(&mut first, 80)).collect();
        assert_eq!(turns, [Some(1), Some(2), Some(3), Some(1), Some(2)]);
        assert_eq!(next(&mut pool(3, 1), 80), Some(2));
        assert_eq!(next(&mut pool(3, 5), 80), Some(3));
    }

    #[test]
    fn a_kept_connection_is_used_when_it_is_its_sources_turn() {
        let mut sources = pool(2, 0);
        let of = |sources: &Sources, n| sources.of(to(80), || Some(source(n)));
        assert_eq!(sources.in_turn(to(80)), of(&sources, 1));
        assert_eq!(next(&mut sources, 80), Some(1), "looking takes no turn");
        assert_eq!(sources.in_turn(to(80)), of(&sources, 2));
        sources.pass(to(80));
        assert_eq!(next(&mut sources, 80), Some(1));
        let mut kernel = pool(0, 0);
        kernel.pass(to(80));
        assert_eq!(kernel.in_turn(to(80)), Source::Kernel);
        assert_eq!(of(&kernel, 1), Source::Kernel);
    }

    #[test]
    fn the_kernel_chooses_for_a_family_without_a_source() {
        let mut sources = pool(2, 0);
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        assert_eq!(sources.next(v6), Some(Source::Kernel));
        let mut none = pool(0, 0);
        assert_eq!(none.next(to(80)), Some(Source::Kernel));
        none.refused(Source::Kernel, to(80), SourceError::Spent, MonoUs(0));
        assert_eq!((none.next(to(80)), none.spent()), (None, 1));
        assert_eq!(none.next(to(81)), Some(Source::Kernel));
    }

    #[test]
    fn a_source_without_a_port_is_passed_over_for_that_destination_until_it_has_rested() {
        let mut sources = pool(2, 0);
        refused(&mut sources, 1, 80, SourceError::Spent, 0);
        assert_eq!(next(&mut sources, 80), Some(2));
        assert_eq!(next(&mut sources, 80), Some(2));
        assert_eq!(next(&mut sources, 81), Some(1), "another destination");
        refused(&mut sources, 2, 80, SourceError::Spent, 400);
        assert_eq!((next(&mut sources, 80), sources.spent()), (None, 2));
        sources.settle(MonoUs(999_999));
        assert_eq!(next(&mut sources, 80), None);
        sources.settle(MonoUs(1_000_000));
        assert_eq!((next(&mut sources, 80), sources.spent()), (Some(1), 1));
        sources.settle(MonoUs(1_400_000));
        assert_eq!((next(&mut sources, 80), sources.spent()), (Some(2), 0));
    }

    #[test]
    fn an_address_that_is_gone_is_passed_over_for_every_destination() {
        let mut sources = pool(2, 0);
        refused(&mut sources, 2, 80, SourceError::Absent, 0);
        refused(&mut sources, 2, 81, SourceError::Absent, 0);
        assert_eq!((sources.usable(), sources.absent()), (1, 1));
        assert_eq!(next(&mut sources, 82), Some(1));
        assert_eq!(next(&mut sources, 82), Some(1));
        refused(&mut sources, 1, 80, SourceError::Absent, 0);
        // No fall-back to an address that nobody configured: others may let in only these.
        assert_eq!(next(&mut sources, 82), None);
        sources.settle(MonoUs(1_000_000));
        assert_eq!((sources.usable(), sources.absent()), (2, 0));
    }

    #[test]
    fn what_is_kept_of_refusals_has_a_limit() {
        let mut sources = pool(1, 0);
        for n in 0..2 * SOURCES_SPENT_MAX {
            refused(&mut sources, 1, n as u16 + 1, SourceError::Spent, 0);
        }
        assert_eq!(sources.spent(), SOURCES_SPENT_MAX);
        assert_eq!(next(&mut sources, u16::MAX), Some(1), "asked again");
        sources.settle(MonoUs(1_000_000));
        assert_eq!(sources.spent(), 0);
    }
}
