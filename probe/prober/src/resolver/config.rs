//! What the resolver is told at its start.

use std::net::SocketAddr;

use model::limits::{DNS_QUERIES_PER_S, DNS_SICK_NAMES_MIN, DNS_SOCKETS_PER_UPSTREAM};

/// Which address families are asked for, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpPolicy {
    /// A; AAAA when the name has no A, when its A cannot be had, or when [`Resolver::widen`] asks
    /// for it.
    ///
    /// [`Resolver::widen`]: super::Resolver::widen
    #[default]
    V4First,
    /// AAAA; A when the name has no AAAA, when its AAAA cannot be had, or when [`Resolver::widen`]
    /// asks for it.
    ///
    /// [`Resolver::widen`]: super::Resolver::widen
    V6First,
    /// A only.
    V4Only,
    /// AAAA only.
    V6Only,
    /// A and AAAA, and each must be there: a name that lacks one, or whose servers fail for one,
    /// fails.
    Both,
}

/// Configuration of one core's resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Recursive resolvers, asked in turn; the first
    /// [`DNS_UPSTREAMS_MAX`](model::limits::DNS_UPSTREAMS_MAX) are used. With none, every lookup
    /// that the cache cannot answer fails as `connect.local`.
    pub upstreams: Vec<SocketAddr>,
    /// Address families.
    pub policy: IpPolicy,
    /// Seeds query ids, the choice of sockets and the hash of names. Ids must not be guessable
    /// from outside: a shell takes the seed from the system's random source.
    pub seed: [u8; 32],
    /// Connected UDP sockets per upstream; at least 1.
    pub sockets_per_upstream: usize,
    /// Cap on queries per second; at least 1. Names beyond it wait in the queue.
    pub queries_per_s: u32,
    /// Names outside of the fleet (ASCII, lower case, no trailing dot) that are asked for when many
    /// names fail: whether they fail too tells sick resolvers from sick names. The first
    /// [`DNS_CANARIES_MAX`](model::limits::DNS_CANARIES_MAX) are used.
    pub canaries: Vec<String>,
    /// Names, asked for within 30 s, below which nothing is said of the health of the resolvers; at
    /// least [`DNS_SICK_NAMES_FLOOR`](model::limits::DNS_SICK_NAMES_FLOOR).
    pub sick_names_min: usize,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            policy: IpPolicy::default(),
            seed: [0; 32],
            sockets_per_upstream: DNS_SOCKETS_PER_UPSTREAM,
            queries_per_s: DNS_QUERIES_PER_S,
            canaries: Vec::new(),
            sick_names_min: DNS_SICK_NAMES_MIN,
        }
    }
}
