//! The addresses of one family of a hop, inline, and what came of each one tried. Those of the
//! other family lie behind them until they are wanted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::FailureClass;
use model::evidence::AddressTried;
use model::limits::DNS_ADDRESSES_MAX;

use super::errno::{self, Cause};
use super::spec::ErrnoAt;
use crate::guard::Guard;

/// What came of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Untried,
    /// The guard forbids it.
    Blocked,
    /// A connection is being opened, or was when the attempt ended.
    Opening,
    Connected,
    Failed {
        errno: u16,
        cause: Cause,
    },
}

/// How much what became of a route says, from nothing on. That an address could not be tried for
/// our own sake says most: the target may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// The guard forbids every address.
    Blocked,
    /// This host has no way to addresses of a family that it need not have.
    NoWay,
    Remote,
    Ours,
}

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) weight: Weight,
    pub(super) class: FailureClass,
    pub(super) errno: Option<i32>,
}

/// Addresses in the order in which they are tried.
#[derive(Debug)]
pub(super) struct Route {
    addresses: [IpAddr; DNS_ADDRESSES_MAX],
    trials: [Trial; DNS_ADDRESSES_MAX],
    count: u8,
    current: u8,
    /// Addresses of the other family, behind the others.
    spare: u8,
    /// When the current address was opened, in µs since the start of the attempt.
    opened_us: u32,
}

impl Route {
    pub(super) const EMPTY: Self = Self {
        addresses: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); DNS_ADDRESSES_MAX],
        trials: [Trial::Untried; DNS_ADDRESSES_MAX],
        count: 0,
        current: 0,
        spare: 0,
        opened_us: 0,
    };

    /// The first [`DNS_ADDRESSES_MAX`] of `addresses`; those that are not of the family of the
    /// first one come last, and are spare.
    pub(super) fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut route = Self::EMPTY;
        for address in addresses.into_iter().take(DNS_ADDRESSES_MAX) {
            let used = route.count + route.spare;
            route.addresses[usize::from(used)] = address;
            if address.is_ipv4() == route.addresses[0].is_ipv4() {
                route.count += 1;
            } else {
                route.spare += 1;
            }
        }
        route
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether addresses of the other family are at hand.
    pub(super) fn has_spare(&self) -> bool {
        self.spare > 0
    }

    /// A route over the other family; its addresses are not here any more.
    pub(super) fn split_off(&mut self) -> Self {
        let from = usize::from(self.count);
        let to = from + usize::from(std::mem::take(&mut self.spare));
        Self::new(self.addresses[from..to].iter().copied())
    }

    /// Whether the addresses are IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.addresses[0].is_ipv4()
    }

    /// Moves to the first address, from the current one on, that `guard` permits, and marks it
    /// as being opened, so many µs after the start of the attempt; whether there is one.
    pub(super) fn open(&mut self, guard: &Guard, now_us: u32) -> bool {
        while !self.is_spent() {
            let at = usize::from(self.current);
            if guard.permits(self.addresses[at]) {
                self.trials[at] = Trial::Opening;
                self.opened_us = now_us;
                return true;
            }
            self.trials[at] = Trial::Blocked;
            self.current += 1;
        }
        false
    }

    /// Whether no address is left to be tried, and none is connected.
    pub(super) fn is_spent(&self) -> bool {
        self.current >= self.count
    }

    /// Whether the current address is being opened.
    pub(super) fn is_opening(&self) -> bool {
        self.trial() == Some(Trial::Opening)
    }

    /// Whether the current address is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.trial() == Some(Trial::Connected)
    }

    fn trial(&self) -> Option<Trial> {
        (!self.is_spent()).then(|| self.trials[usize::from(self.current)])
    }

    /// When the current address was opened, in µs since the start of the attempt.
    pub(super) fn opened_us(&self) -> u32 {
        self.opened_us
    }

    /// Notes that the current address is connected.
    pub(super) fn connected(&mut self) {
        self.trials[usize::from(self.current)] = Trial::Connected;
    }

    /// Notes why the current address failed, and goes on to the next one.
    pub(super) fn failed(&mut self, errno: i32, at: ErrnoAt) {
        let cause = errno::connect_cause(errno, at);
        let errno = u16::try_from(errno).unwrap_or(u16::MAX);
        self.trials[usize::from(self.current)] = Trial::Failed { errno, cause };
        self.current += 1;
    }

    /// Addresses after the current one.
    pub(super) fn left(&self) -> u64 {
        u64::from(self.count.saturating_sub(self.current + 1))
    }

    /// The current address, or the last one when all were tried.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let last = self.count.checked_sub(1)?;
        Some(self.addresses[usize::from(self.current.min(last))])
    }

    /// What to say when no address is connected. `needed`: this host is to have a way to addresses
    /// of this family.
    pub(super) fn finding(&self, needed: bool) -> Finding {
        let failed = |wanted: Cause| {
            self.trials.iter().find_map(|trial| match *trial {
                Trial::Failed { errno, cause } if cause == wanted => Some(i32::from(errno)),
                _ => None,
            })
        };
        let no_way = failed(Cause::NoWay);
        let ours = failed(Cause::Short).or(no_way.filter(|_| needed));
        let (weight, class, errno) = match (ours, failed(Cause::Remote)) {
            (Some(_), _) => (Weight::Ours, FailureClass::ConnectLocal, ours),
            (None, _) if self.is_opening() => (Weight::Remote, FailureClass::ConnectTimeout, None),
            (None, Some(errno)) => {
                let class = errno::connect_class(errno, ErrnoAt::Async);
                (Weight::Remote, class, Some(errno))
            }
            (None, None) if no_way.is_some() => (Weight::NoWay, FailureClass::ConnectLocal, no_way),
            (None, None) => (Weight::Blocked, FailureClass::SafetyBlocked, None),
        };
        Finding {
            weight,
            class,
            errno,
        }
    }

    /// The addresses that were tried, for evidence.
    pub(super) fn tried(&self, port: u16) -> impl Iterator<Item = AddressTried> + '_ {
        let pairs = self
            .addresses
            .iter()
            .zip(&self.trials)
            .take(usize::from(self.count));
        pairs.filter_map(move |(&address, &trial)| {
            let (errno, local) = match trial {
                Trial::Untried | Trial::Blocked => return None,
                Trial::Opening => (Some(errno::NO_ANSWER), false),
                Trial::Connected => (None, false),
                Trial::Failed { errno, cause } => (Some(i32::from(errno)), cause != Cause::Remote),
            };
            Some(AddressTried {
                address: SocketAddr::new(address, port),
                errno,
                local,
            })
        })
    }

    /// All addresses, those of the other family too, for evidence.
    pub(super) fn all(&self) -> &[IpAddr] {
        &self.addresses[..usize::from(self.count + self.spare)]
    }
}
