//! The addresses of one family of a hop, inline, and what came of each one tried. Those of the
//! other family lie behind them until they are wanted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::FailureClass;
use model::evidence::AddressTried;
use model::limits::DNS_ADDRESSES_MAX;

use super::errno;
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
    /// The errno, and whether it speaks of us.
    Failed {
        errno: u16,
        local: bool,
    },
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
        let local = errno::connect_class(errno, at) == FailureClass::ConnectLocal;
        let errno = u16::try_from(errno).unwrap_or(u16::MAX);
        self.trials[usize::from(self.current)] = Trial::Failed { errno, local };
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

    /// What to say when every address failed: the first errno that is the remote's, else the
    /// first of ours; when nothing was tried at all, the guard forbade it.
    pub(super) fn verdict(&self) -> (FailureClass, Option<i32>) {
        let failed = |ours: bool| {
            self.trials.iter().find_map(|trial| match *trial {
                Trial::Failed { errno, local } if local == ours => Some(i32::from(errno)),
                _ => None,
            })
        };
        match (failed(false), failed(true)) {
            (Some(errno), _) => (errno::connect_class(errno, ErrnoAt::Async), Some(errno)),
            (None, Some(errno)) => (FailureClass::ConnectLocal, Some(errno)),
            (None, None) => (FailureClass::SafetyBlocked, None),
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
                Trial::Failed { errno, local } => (Some(i32::from(errno)), local),
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
