//! What the resolver says of a name: addresses, or why there are none.
//!
//! Plain `Copy` data, so that a cache hit allocates nothing. It knows nothing of queries.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::FailureClass;
use model::limits::DNS_ADDRESSES_MAX;

/// Addresses of a name, at most eight, all of one family, inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    list: [IpAddr; DNS_ADDRESSES_MAX],
    len: u8,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            list: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); DNS_ADDRESSES_MAX],
            len: 0,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    /// The first eight of `iter`; the rest is not kept.
    fn from_iter<T: IntoIterator<Item = IpAddr>>(iter: T) -> Self {
        let mut addresses = Self::default();
        for (place, address) in addresses.list.iter_mut().zip(iter) {
            *place = address;
            addresses.len += 1;
        }
        addresses
    }
}

impl Addresses {
    /// The addresses, in the order of use.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.as_slice().iter().copied()
    }

    /// The addresses, in the order of use.
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.list[..usize::from(self.len)]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same addresses, `by` places further on.
    #[must_use]
    pub(super) fn rotated(mut self, by: usize) -> Self {
        let list = &mut self.list[..usize::from(self.len)];
        if !list.is_empty() {
            list.rotate_left(by % list.len());
        }
        self
    }
}

/// A name that resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedName {
    /// Where it points; never empty.
    pub addresses: Addresses,
    /// Past its TTL by at most one hour, because nobody could say anything newer.
    pub stale: bool,
    /// From the cache: no query was made for this answer.
    pub cached: bool,
    /// The upstream that gave the addresses.
    pub server: Option<SocketAddr>,
}

/// A name that did not resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsFailure {
    /// Why: a `dns.*` class for what the name or its servers did, `local.pressure` or
    /// `connect.local` for what we could not do.
    pub class: FailureClass,
    /// The response code, when an answer came.
    pub rcode: Option<u16>,
    /// The upstream asked last; `None` when none was asked.
    pub server: Option<SocketAddr>,
    /// Tries of the question that failed.
    pub tries: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(last: impl IntoIterator<Item = u8>) -> Addresses {
        last.into_iter()
            .map(|n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)))
            .collect()
    }

    #[test]
    fn more_than_eight_addresses_are_cut_to_eight() {
        assert_eq!(list(0..20), list(0..8));
        assert_eq!(list(0..20).len(), 8);
    }

    #[test]
    fn rotation_keeps_every_address_and_wraps() {
        assert_eq!(list([1, 2, 3]).rotated(1), list([2, 3, 1]));
        assert_eq!(list([1, 2, 3]).rotated(4), list([2, 3, 1]));
        assert_eq!(list([]).rotated(1), list([]));
    }
}
