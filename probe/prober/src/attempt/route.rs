//! The addresses of one hop, inline, and what came of each one tried.

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
}

impl Route {
    pub(super) const EMPTY: Self = Self {
        addresses: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); DNS_ADDRESSES_MAX],
        trials: [Trial::Untried; DNS_ADDRESSES_MAX],
        count: 0,
        current: 0,
    };

    /// The first [`DNS_ADDRESSES_MAX`] of `addresses`.
    pub(super) fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut route = Self::EMPTY;
        for address in addresses.into_iter().take(DNS_ADDRESSES_MAX) {
            route.addresses[usize::from(route.count)] = address;
            route.count += 1;
        }
        route
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Moves to the first address, from the current one on, that `guard` permits, and marks it
    /// as being opened; `None` when no address is left.
    pub(super) fn open(&mut self, guard: &Guard) -> Option<IpAddr> {
        while self.current < self.count {
            let at = usize::from(self.current);
            if guard.permits(self.addresses[at]) {
                self.trials[at] = Trial::Opening;
                return Some(self.addresses[at]);
            }
            self.trials[at] = Trial::Blocked;
            self.current += 1;
        }
        None
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
    pub(super) fn tried(&self, port: u16) -> Vec<AddressTried> {
        let pairs = self
            .addresses
            .iter()
            .zip(&self.trials)
            .take(usize::from(self.count));
        pairs
            .filter_map(|(&address, &trial)| {
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
            .collect()
    }

    /// All addresses, for evidence.
    pub(super) fn all(&self) -> &[IpAddr] {
        &self.addresses[..usize::from(self.count)]
    }
}
