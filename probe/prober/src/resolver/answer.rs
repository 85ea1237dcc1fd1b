//! What the resolver says of a name: addresses, or why there are none.
//!
//! Plain `Copy` data, so that a cache hit allocates nothing. It knows nothing of queries.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::FailureClass;
use model::limits::DNS_ADDRESSES_MAX;

use super::sick::NamesFailing;

/// Addresses of a name, at most eight, inline: those of the preferred family first, those of the
/// other one after them, if both were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    list: [IpAddr; DNS_ADDRESSES_MAX],
    len: u8,
    /// How many there were before those without room were left out.
    offered: u8,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            list: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); DNS_ADDRESSES_MAX],
            len: 0,
            offered: 0,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    /// The first eight of `iter`; the rest is counted and not kept.
    fn from_iter<T: IntoIterator<Item = IpAddr>>(iter: T) -> Self {
        let mut addresses = Self::default();
        for address in iter {
            if let Some(place) = addresses.list.get_mut(usize::from(addresses.len)) {
                *place = address;
                addresses.len += 1;
            }
            addresses.offered = addresses.offered.saturating_add(1);
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

    /// How many the name has: more than [`Addresses::len`] where there was no room for all. 255 is
    /// that many or more.
    pub fn offered(&self) -> u8 {
        self.offered
    }

    /// These, of so many.
    #[must_use]
    pub(super) fn of(mut self, offered: u8) -> Self {
        self.offered = offered;
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same addresses, those of each family `by` places further on.
    #[must_use]
    pub(super) fn rotated(mut self, by: usize) -> Self {
        let border = self.border();
        let (first, other) = self.list[..usize::from(self.len)].split_at_mut(border);
        for family in [first, other].into_iter().filter(|list| !list.is_empty()) {
            family.rotate_left(by % family.len());
        }
        self
    }

    /// These and then `other`, those of another family. Where there is no room for all, each family
    /// keeps at least half of it.
    #[must_use]
    pub(super) fn joined(&self, other: &Self) -> Self {
        let room = DNS_ADDRESSES_MAX - other.len().min(DNS_ADDRESSES_MAX / 2);
        let joined: Self = self.iter().take(room).chain(other.iter()).collect();
        joined.of(self.offered.saturating_add(other.offered))
    }

    /// Whether both families are there.
    pub fn is_dual(&self) -> bool {
        self.border() < self.len()
    }

    /// Where the second family begins.
    fn border(&self) -> usize {
        let list = self.as_slice();
        let is_other = |address: &IpAddr| address.is_ipv4() != list[0].is_ipv4();
        list.iter().position(is_other).unwrap_or(list.len())
    }
}

/// How much of a name an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The preferred family: [`Resolver::widen`](super::Resolver::widen) asks for the other one.
    Narrow,
    /// All that there is, or all that the policy wants.
    #[default]
    Wide,
    /// Both families, and each of them must work.
    Each,
}

/// A name that resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedName {
    /// Where it points; never empty.
    pub addresses: Addresses,
    /// Whether there may be more.
    pub scope: Scope,
    /// Past its TTL by at most one hour, because nobody could say anything newer.
    pub stale: bool,
    /// From the cache: no query was made for this answer.
    pub cached: bool,
    /// Why the preferred family is not among them: it could not be had, with this class, and these
    /// are of the other one. `None` also where the name just has none of the preferred family.
    pub lacks: Option<FailureClass>,
    /// The upstream that gave the addresses.
    pub server: Option<SocketAddr>,
    /// The response code of the question for this answer, when one was asked and answered.
    pub rcode: Option<u16>,
    /// Tries of that question; 0 from the cache.
    pub tries: u8,
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
    /// Where the failures of many names say that it is the resolvers': of how many.
    pub many: Option<NamesFailing>,
    /// Two upstreams say that the name does not exist; never of another class.
    pub agreed: bool,
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
        assert_eq!(list(0..20).as_slice(), list(0..8).as_slice());
        assert_eq!((list(0..20).len(), list(0..20).offered()), (8, 20));
        assert_eq!(list(0..8).offered(), 8);
    }

    #[test]
    fn rotation_keeps_every_address_and_wraps() {
        assert_eq!(list([1, 2, 3]).rotated(1), list([2, 3, 1]));
        assert_eq!(list([1, 2, 3]).rotated(4), list([2, 3, 1]));
        assert_eq!(list([]).rotated(1), list([]));
    }

    #[test]
    fn two_families_stay_apart_in_their_order_and_share_the_room() {
        let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let other: Addresses = (0..2).map(v6).collect();
        let both = list([1, 2, 3]).joined(&other);
        assert!(both.is_dual() && !other.is_dual() && !list([]).is_dual());
        let turned = list([2, 3, 1]).joined(&[v6(1), v6(0)].into_iter().collect());
        assert_eq!(both.rotated(1), turned);
        let many: Addresses = (0..8).map(v6).collect();
        let shared = list(0..8).joined(&many);
        assert_eq!(shared.iter().filter(IpAddr::is_ipv4).count(), 4);
        assert_eq!(list([1]).joined(&many).len(), 8);
        assert_eq!(list(0..20).joined(&many).offered(), 28);
        assert_eq!(list(0..8).joined(&other).rotated(1).len(), 8);
    }
}
