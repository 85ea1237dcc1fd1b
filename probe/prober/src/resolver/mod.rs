//! The DNS resolver of one core: a sans-IO machine of its own.
//!
//! ```text
//! lookup ─► hosts (interned names, cache lines) ─► Hit | Failed     nothing is allocated
//!             └─► flight, one per name ─► socket of a pool ─► Send … Datagram ─► codec
//!                     └─ ≤ 3 tries of 1.5 s, rotating upstreams          │
//!                 every waiter gets one Answer ◄── cache line ◄──────────┘
//! ```
//!
//! A shell feeds datagrams, socket events and `tick`, and carries out what `next` says. The
//! resolver opens nothing and reads no clock; its only randomness is the seed of its config.

mod answer;
mod asking;
mod chunks;
mod codec;
mod config;
mod flights;
mod hosts;
mod index;
mod line;
mod names;
mod random;
mod sockets;
mod stats;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use model::limits::{DNS_EDNS_BYTES, DNS_UPSTREAMS_MAX};
use model::{FailureClass, MonoUs};

use flights::Flights;
use hosts::Hosts;
use line::{Cached, Negative, Positive};
use random::Random;
use sockets::{Owed, Sockets};

pub use answer::{Addresses, DnsFailure, ResolvedName};
pub use config::{IpPolicy, ResolverConfig};
pub use stats::ResolverStats;

/// A name held by the resolver; valid from [`Resolver::intern`] to the last [`Resolver::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// Names a UDP socket of the resolver; a number is used again after its `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsSocket(pub u16);

/// What a lookup says at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// From the cache.
    Hit(ResolvedName),
    /// From the memory of failures, or no query is possible.
    Failed(DnsFailure),
    /// A [`DnsCommand::Answer`] follows.
    Waiting,
}

/// What a shell brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsEvent<'a> {
    /// A datagram arrived.
    Datagram {
        /// On this socket.
        socket: DnsSocket,
        /// All of it.
        bytes: &'a [u8],
    },
    /// The socket is connected to its upstream.
    Opened {
        /// Which.
        socket: DnsSocket,
    },
    /// The socket could not be made; there is nothing to close.
    OpenFailed {
        /// Which.
        socket: DnsSocket,
        /// Why.
        errno: i32,
    },
    /// Sending or receiving failed.
    SocketError {
        /// On this socket.
        socket: DnsSocket,
        /// Why.
        errno: i32,
    },
}

/// What a shell carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsCommand {
    /// Open a UDP socket on a random port, connected to `upstream`.
    Open {
        /// Its name from now on.
        socket: DnsSocket,
        /// Where to.
        upstream: SocketAddr,
    },
    /// Close the socket.
    Close {
        /// Which.
        socket: DnsSocket,
    },
    /// Send one datagram, then give the buffer back with [`Resolver::recycle`].
    Send {
        /// On this socket.
        socket: DnsSocket,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// The end of a lookup that was `Waiting`.
    Answer {
        /// Who waits.
        waiter: u64,
        /// The addresses, or why there are none.
        result: Result<ResolvedName, DnsFailure>,
    },
}

/// Buffers for queries that are kept for the next ones.
const BUFFERS_MAX: usize = 64;

/// The resolver of one core.
#[derive(Debug)]
pub struct Resolver {
    policy: IpPolicy,
    random: Random,
    hosts: Hosts,
    flights: Flights,
    sockets: Sockets,
    /// The upstream of first tries: it moves on when it is silent.
    preferred: u8,
    commands: VecDeque<DnsCommand>,
    buffers: Vec<Vec<u8>>,
    /// Scratch for the queries of one socket; empty between calls.
    owed: Vec<Owed>,
    /// Counters; the gauges are filled in by [`Resolver::stats`].
    stats: ResolverStats,
}

impl Resolver {
    /// A resolver without hosts and without an open socket.
    pub fn new(config: ResolverConfig) -> Self {
        let mut random = Random::new(config.seed);
        let mut upstreams = config.upstreams;
        upstreams.truncate(DNS_UPSTREAMS_MAX);
        Self {
            policy: config.policy,
            hosts: Hosts::new(random.next()),
            random,
            flights: Flights::default(),
            sockets: Sockets::new(upstreams, config.sockets_per_upstream),
            preferred: 0,
            commands: VecDeque::new(),
            buffers: Vec::new(),
            owed: Vec::new(),
            stats: ResolverStats::default(),
        }
    }

    /// The number of `name` (ASCII, lower case, no trailing dot, at most 253 bytes), held until as
    /// many [`Resolver::release`].
    pub fn intern(&mut self, name: &str) -> HostId {
        self.hosts.intern(name)
    }

    /// One holder more of a host that is held: an attempt keeps its host although its target may
    /// change meanwhile.
    pub fn retain(&mut self, host: HostId) {
        self.hosts.retain(host);
    }

    /// Gives one `intern` back. The last one frees the name and its cache line, as soon as no
    /// flight needs them.
    pub fn release(&mut self, host: HostId) {
        self.hosts.release(host);
    }

    /// The name of a host that is held.
    pub fn name(&self, host: HostId) -> &str {
        self.hosts.name(host)
    }

    /// Asks for the addresses of a host that is held. After `Waiting`, `waiter` gets exactly one
    /// [`DnsCommand::Answer`], unless it is forgotten first. A hit allocates nothing.
    pub fn lookup(&mut self, host: HostId, waiter: u64, now: MonoUs) -> Lookup {
        match self.hosts.read(host, now) {
            Cached::Fresh(positive) => {
                self.stats.hits += 1;
                Lookup::Hit(self.resolved(positive, false, true))
            }
            Cached::Held(positive) => {
                self.stats.stale_hits += 1;
                Lookup::Hit(self.resolved(positive, true, true))
            }
            Cached::Failed(negative) => {
                self.stats.negative_hits += 1;
                Lookup::Failed(self.failure(negative))
            }
            Cached::Nothing => self.wait(host, waiter, now),
        }
    }

    /// The address that the next answer from the cache will begin with, be it past its TTL: where a
    /// check of the host is likely to go. `None` when the name never resolved or failed since.
    pub fn next_address(&self, host: HostId) -> Option<IpAddr> {
        self.hosts.next_address(host)
    }

    /// The waiter ended first: it gets no answer any more. The flight goes on and fills the cache.
    pub fn forget(&mut self, host: HostId, waiter: u64) {
        self.flights.forget(self.hosts.flight(host), host, waiter);
        self.drop_gone();
    }

    /// Something happened to a socket. Events of sockets that are closed are ignored.
    pub fn on(&mut self, event: DnsEvent<'_>, now: MonoUs) {
        match event {
            DnsEvent::Datagram { socket, bytes } => self.on_datagram(socket, bytes, now),
            DnsEvent::Opened { socket } => self.on_opened(socket),
            DnsEvent::OpenFailed { socket, .. } => self.on_open_failure(socket, now),
            DnsEvent::SocketError { socket, errno } => self.on_socket_error(socket, errno, now),
        }
        self.advance_queue(now);
        self.drop_gone();
    }

    /// Judges what is out of time; costs what is due, not what is waiting.
    pub fn tick(&mut self, now: MonoUs) {
        while let Some(flight) = self.flights.next_timeout(now) {
            self.on_timeout(flight, now);
        }
        self.advance_queue(now);
        self.drop_gone();
    }

    /// What to do next; to be called until `None` after each of the calls above.
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: more comes after `None`"
    )]
    pub fn next(&mut self) -> Option<DnsCommand> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        let (waiter, result) = self.flights.next_answer()?;
        self.drop_gone();
        match &result {
            Ok(name) => self.stats.stale_hits += u64::from(name.stale),
            Err(failure) => {
                self.stats.refused += u64::from(failure.class == FailureClass::LocalPressure);
            }
        }
        Some(DnsCommand::Answer { waiter, result })
    }

    /// Takes the buffer of a sent query back.
    pub fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX && bytes.capacity() <= usize::from(DNS_EDNS_BYTES) {
            bytes.clear();
            self.buffers.push(bytes);
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> ResolverStats {
        ResolverStats {
            hosts: self.hosts.len() as u64,
            flights: self.flights.len() as u64,
            queued: self.flights.queued() as u64,
            sockets: self.sockets.len() as u64,
            ..self.stats
        }
    }

    /// Bytes allocated for names, hosts, index and cache; 0 without hosts.
    pub fn memory_bytes(&self) -> usize {
        self.hosts.bytes()
    }

    /// Joins the flight of the host, or starts one.
    fn wait(&mut self, host: HostId, waiter: u64, now: MonoUs) -> Lookup {
        let flight = match self.hosts.flight(host) {
            Some(flight) => flight,
            None => match self.start(host, now) {
                Ok(flight) => flight,
                Err(failure) => return Lookup::Failed(failure),
            },
        };
        self.stats.misses += 1;
        self.flights.join(flight, waiter);
        self.advance_queue(now);
        self.drop_gone();
        Lookup::Waiting
    }

    /// A new flight, which holds its host.
    fn start(&mut self, host: HostId, now: MonoUs) -> Result<u32, DnsFailure> {
        let refuse = |class| DnsFailure {
            class,
            rcode: None,
            server: None,
            tries: 0,
        };
        if !codec::is_askable(self.hosts.name(host)) {
            // No server can know a name that no query can carry.
            return Err(refuse(FailureClass::DnsNxdomain));
        }
        if self.sockets.upstreams().is_empty() {
            return Err(refuse(FailureClass::ConnectLocal));
        }
        let Some(flight) = self.flights.start(host, now) else {
            self.stats.refused += 1;
            return Err(refuse(FailureClass::LocalPressure));
        };
        self.hosts.retain(host);
        self.hosts.set_flight(host, Some(flight));
        Ok(flight)
    }

    /// Lets go of the hosts of flights that have answered everybody.
    fn drop_gone(&mut self) {
        while let Some(host) = self.flights.next_gone() {
            self.hosts.release(host);
        }
    }

    fn resolved(&self, positive: Positive, stale: bool, cached: bool) -> ResolvedName {
        let server = self
            .sockets
            .upstreams()
            .get(usize::from(positive.server))
            .copied();
        ResolvedName {
            addresses: positive.addresses,
            stale,
            cached,
            server,
        }
    }

    fn failure(&self, negative: Negative) -> DnsFailure {
        let Negative {
            class,
            tries,
            rcode,
            server,
        } = negative;
        let server = self.sockets.upstreams().get(usize::from(server)).copied();
        DnsFailure {
            class,
            rcode,
            server,
            tries,
        }
    }
}
