//! What the resolver is told at its start.

use std::net::SocketAddr;

use model::limits::DNS_SOCKETS_PER_UPSTREAM;

/// Which address families are asked for, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpPolicy {
    /// A; AAAA only when the name has no A.
    #[default]
    V4First,
    /// AAAA; A only when the name has no AAAA.
    V6First,
    /// A only.
    V4Only,
    /// AAAA only.
    V6Only,
}

/// Configuration of one core's resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Recursive resolvers, in the order of preference; the first
    /// [`DNS_UPSTREAMS_MAX`](model::limits::DNS_UPSTREAMS_MAX) are used. With none, every lookup
    /// that the cache cannot answer fails as `connect.local`.
    pub upstreams: Vec<SocketAddr>,
    /// Address families.
    pub policy: IpPolicy,
    /// Seeds query ids, the choice of sockets and the hash of names. Ids must not be guessable
    /// from outside: a shell takes the seed from the system's random source.
    pub seed: u64,
    /// Connected UDP sockets per upstream; at least 1.
    pub sockets_per_upstream: usize,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            policy: IpPolicy::default(),
            seed: 0,
            sockets_per_upstream: DNS_SOCKETS_PER_UPSTREAM,
        }
    }
}
