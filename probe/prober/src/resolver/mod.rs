//! The DNS resolver of one core: a sans-IO machine of its own.
//!
//! ```text
//! lookup ─► hosts (interned names, cache lines) ─► Hit | Failed     nothing is allocated
//!             └─► flight, one per name ─► socket of a pool ─► Send … Datagram ─► codec
//!                     ├─ ≤ 3 tries of 1.5 s, rotating upstreams          │ cut short:
//!                     │                       OpenStream … StreamBytes ◄─┤ by a stream
//!                 every waiter gets one Answer ◄── cache line ◄──────────┘
//! ```
//!
//! A shell feeds datagrams, bytes, socket events and `tick`, and carries out what `next` says. The
//! resolver opens nothing and reads no clock; its only randomness is the seed of its config.

mod answer;
mod asking;
mod bucket;
mod case;
mod chunks;
mod codec;
mod config;
mod denial;
mod ending;
mod flights;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hosts;
mod index;
mod line;
mod localhost;
mod names;
mod question;
mod random;
mod rdata;
mod sick;
mod sockets;
mod stats;
mod streams;
mod tcp;
mod turns;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use model::limits::{
    DNS_BUFFERS_MAX, DNS_CANARIES_MAX, DNS_EDNS_BYTES, DNS_QUEUE_WAIT_MAX_MS, DNS_TRIES_MAX,
    DNS_TRY_MS, DNS_UPSTREAMS_MAX,
};
use model::{FailureClass, MonoUs};

use bucket::Bucket;
use flights::{Flights, Found};
use hosts::Hosts;
use line::{Cached, Positive};
use localhost::is_localhost;
use random::Random;
use sick::Health;
use sockets::{Owed, Sockets};
use streams::Streams;
use turns::Turns;

pub use answer::{Addresses, DnsFailure, ResolvedName, Scope};
pub use config::{IpPolicy, ResolverConfig};
pub use question::Records;
pub use sick::NamesFailing;
pub use stats::ResolverStats;

/// A name held by the resolver; valid from [`Resolver::intern`] to the last [`Resolver::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// Names a UDP socket of the resolver; a number is used again after its `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsSocket(pub u16);

/// Names a TCP connection of the resolver; no number comes back soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsStream(pub u32);

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
    /// Bytes arrived; any number of them.
    StreamBytes {
        /// On this stream.
        stream: DnsStream,
        /// What was read.
        bytes: &'a [u8],
    },
    /// The upstream closed the stream.
    StreamEof {
        /// Which.
        stream: DnsStream,
    },
    /// The stream could not be opened, or writing or reading failed.
    StreamError {
        /// Which.
        stream: DnsStream,
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
    /// Open a TCP connection to `upstream`, write all of `bytes` as soon as it stands, give the
    /// buffer back with [`Resolver::recycle`], and read until told to close.
    OpenStream {
        /// Its name from now on.
        stream: DnsStream,
        /// Where to.
        upstream: SocketAddr,
        /// One question, its length before it.
        bytes: Vec<u8>,
    },
    /// Close the connection, whatever state it is in; after an end or an error it may be closed
    /// already.
    CloseStream {
        /// Which.
        stream: DnsStream,
    },
    /// The end of a lookup that was `Waiting`.
    Answer {
        /// Who waits.
        waiter: u64,
        /// The addresses, or why there are none.
        result: Result<ResolvedName, DnsFailure>,
    },
    /// The end of a question for records.
    Records {
        /// Who waits, or did when it was asked.
        waiter: u64,
        /// The records, or why there are none.
        result: Result<Records, DnsFailure>,
    },
}

/// Longest time from the start of a flight to the end of one family's question, in ms.
const QUESTION_MAX_MS: u64 = DNS_QUEUE_WAIT_MAX_MS + DNS_TRIES_MAX as u64 * DNS_TRY_MS;

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A question that was asked for them.
    Asked,
    /// The cache, or what needs no question.
    Cache,
    /// The cache, past their TTL.
    Stale,
}

/// The resolver of one core.
#[derive(Debug)]
pub struct Resolver {
    policy: IpPolicy,
    random: Random,
    hosts: Hosts,
    flights: Flights,
    sockets: Sockets,
    streams: Streams,
    bucket: Bucket,
    health: Health,
    /// Held for as long as the resolver lives.
    canaries: Vec<HostId>,
    /// The upstreams of first tries.
    turns: Turns,
    /// Upstreams that do not repeat the letters of a question as they were written; one bit each.
    letterless: u16,
    /// Upstreams that refuse questions with EDNS and answer those without; one bit each.
    plain: u16,
    /// When both are forgotten: what happened once, or was made to, does not count for ever.
    styles_until: MonoUs,
    commands: VecDeque<DnsCommand>,
    buffers: Vec<Vec<u8>>,
    /// The flights of questions for records, by who waits for them.
    questions: BTreeMap<u64, u32>,
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
        let mut hosts = Hosts::new(random.next());
        let canaries = config.canaries.iter();
        let canaries: Vec<HostId> = canaries
            .filter(|name| codec::is_askable(name))
            .take(DNS_CANARIES_MAX)
            .map(|name| hosts.intern(name))
            .collect();
        Self {
            policy: config.policy,
            turns: Turns::new(upstreams.len()),
            hosts,
            random,
            flights: Flights::default(),
            sockets: Sockets::new(upstreams, config.sockets_per_upstream),
            streams: Streams::default(),
            bucket: Bucket::new(config.queries_per_s),
            health: Health::new(canaries.len(), config.sick_names_min),
            canaries,
            letterless: 0,
            plain: 0,
            styles_until: MonoUs(0),
            commands: VecDeque::new(),
            buffers: Vec::new(),
            questions: BTreeMap::new(),
            owed: Vec::new(),
            stats: ResolverStats::default(),
        }
    }

    /// The number of `name` (ASCII, lower case, no trailing dot, at most 253 bytes), held until as
    /// many [`Resolver::release`].
    pub fn intern(&mut self, name: &str) -> HostId {
        self.hosts.intern(name)
    }

    /// As [`Resolver::intern`], of a name that a server told us. Whoever makes up names that fail
    /// says nothing of our resolvers: they do not count for their health.
    pub fn intern_foreign(&mut self, name: &str) -> HostId {
        self.hosts.intern_foreign(name)
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
        let cached = self.hosts.read(host, now);
        self.say(cached, host, waiter, now)
    }

    /// As [`Resolver::lookup`], for addresses of both families where the policy only prefers one:
    /// what the name has of either, the preferred family first. A name that was looked up so keeps
    /// both for their TTL; that the second family cannot be had is no failure, and remembered like
    /// one. Of a name whose preferred family is in the cache only the other one is asked for.
    pub fn widen(&mut self, host: HostId, waiter: u64, now: MonoUs) -> Lookup {
        let cached = self.hosts.read(host, now);
        let is_wide = match cached {
            Cached::Fresh(_) => self.known_scope(host, now) != Scope::Narrow,
            Cached::Held(_) | Cached::Failed(_) => true,
            Cached::Nothing => is_localhost(self.hosts.name(host)),
        };
        if is_wide {
            return self.say(cached, host, waiter, now);
        }
        let known = match cached {
            Cached::Fresh(positive) => Some(positive),
            _ => None,
        };
        let prefers = matches!(self.policy, IpPolicy::V4First | IpPolicy::V6First);
        self.wait(host, waiter, prefers, known, now)
    }

    /// Asks for a host that is held ahead of time, so that the check at `due` finds it in the
    /// cache: only where its addresses end before that and live for two cadences, so that each
    /// answer serves at least one check besides the one that it was fetched for. Never at the
    /// expense of a name that somebody waits for.
    pub fn prefetch(&mut self, host: HostId, due: MonoUs, cadence_ms: u32, now: MonoUs) {
        let ttl_ms = 2 * u64::from(cadence_ms);
        if !self.hosts.ends_before(host, due, ttl_ms, now) || self.hosts.flight(host).is_some() {
            return;
        }
        self.bucket.refill(now);
        let idle = self.flights.queued() == 0 && self.bucket.has_token();
        // Both families, where both are in the cache.
        let wide = self.known_scope(host, due) != Scope::Narrow;
        if idle && self.start(host, None, wide, now).is_ok() {
            self.stats.prefetches += 1;
            self.advance_queue(now);
            self.drop_gone();
        }
    }

    fn say(&mut self, cached: Cached, host: HostId, waiter: u64, now: MonoUs) -> Lookup {
        match cached {
            Cached::Fresh(positive) => {
                self.stats.hits += 1;
                let scope = self.known_scope(host, now);
                Lookup::Hit(self.resolved(host, positive, scope, Source::Cache))
            }
            Cached::Held(positive) => {
                self.stats.stale_hits += 1;
                let scope = self.known_scope(host, now);
                Lookup::Hit(self.resolved(host, positive, scope, Source::Stale))
            }
            Cached::Failed(negative) => {
                self.stats.negative_hits += 1;
                Lookup::Failed(self.failure(negative))
            }
            Cached::Nothing if is_localhost(self.hosts.name(host)) => {
                Lookup::Hit(localhost::resolved(self.policy))
            }
            Cached::Nothing => self.wait(host, waiter, false, None, now),
        }
    }

    /// Whether so many names fail that it must be the resolvers: failures by timeout and SERVFAIL
    /// are `dns.resolver_sick` meanwhile.
    pub fn is_sick(&self) -> bool {
        self.health.is_sick()
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
            DnsEvent::StreamBytes { stream, bytes } => self.on_stream_bytes(stream, bytes, now),
            DnsEvent::StreamEof { stream } => self.on_stream_end(stream, now),
            DnsEvent::StreamError { stream, errno } => self.on_stream_error(stream, errno, now),
        }
        self.advance_queue(now);
        self.drop_gone();
    }

    /// Judges what is out of time; costs what is due, not what is waiting.
    pub fn tick(&mut self, now: MonoUs) {
        while let Some(flight) = self.flights.next_timeout(now) {
            self.on_timeout(flight, now);
        }
        if self.health.judge(now) {
            self.ask_canaries(now);
        }
        self.advance_queue(now);
        self.drop_gone();
    }

    /// Whether [`Resolver::next`] may have something to say.
    pub fn has_next(&self) -> bool {
        !self.commands.is_empty() || self.flights.has_landed()
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
        if self.buffers.len() < DNS_BUFFERS_MAX && bytes.capacity() <= usize::from(DNS_EDNS_BYTES) {
            bytes.clear();
            self.buffers.push(bytes);
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> ResolverStats {
        let sick = self.health.sick();
        ResolverStats {
            hosts: self.hosts.len() as u64,
            flights: self.flights.len() as u64,
            queued: self.flights.queued() as u64,
            sockets: self.sockets.len() as u64,
            buffers: self.buffers.len() as u64,
            streams: self.streams.len() as u64,
            sick: u64::from(sick.is_some()),
            names_failing: sick.map_or(0, |many| u64::from(many.failing)),
            names_judged: sick.map_or(0, |many| u64::from(many.names.get())),
            ..self.stats
        }
    }

    /// Bytes allocated for names, hosts, index and cache; 0 without hosts.
    pub fn memory_bytes(&self) -> usize {
        self.hosts.bytes()
    }

    /// Joins the flight of the host, or starts one, which need not ask for what is `known`.
    fn wait(
        &mut self,
        host: HostId,
        waiter: u64,
        wide: bool,
        known: Option<Positive>,
        now: MonoUs,
    ) -> Lookup {
        let flight = match self.hosts.flight(host) {
            Some(flight) => {
                self.flights.get_mut(flight).wide |= wide;
                flight
            }
            None => match self.start(host, None, wide, now) {
                Ok(flight) => {
                    self.skip(flight, known, now);
                    flight
                }
                Err(failure) => return self.not_asked(host, failure, now),
            },
        };
        self.stats.misses += 1;
        self.flights.join(flight, waiter);
        self.advance_queue(now);
        self.drop_gone();
        Lookup::Waiting
    }

    /// The first family of a new flight is `known`, for longer than the question for the other one
    /// takes: it is the only one that is asked for.
    fn skip(&mut self, flight: u32, known: Option<Positive>, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        let life = self.hosts.life(entry.host);
        let lasts = now.plus_ms(QUESTION_MAX_MS) < life.until;
        if let Some(positive) = known.filter(|_| lasts) {
            entry.step = 1;
            entry.found = Some(Found {
                positive,
                until: life.until,
                ttl_ms: life.ttl_ms,
                asked: false,
            });
        }
    }

    /// A new flight, which holds its host.
    fn start(
        &mut self,
        host: HostId,
        question: Option<question::Question>,
        wide: bool,
        now: MonoUs,
    ) -> Result<u32, DnsFailure> {
        let refuse = |class| DnsFailure {
            class,
            rcode: None,
            server: None,
            tries: 0,
            many: None,
            agreed: false,
        };
        if !codec::is_askable(self.hosts.name(host)) {
            // No server can know a name that no query can carry.
            return Err(refuse(FailureClass::DnsNxdomain));
        }
        if self.sockets.upstreams().is_empty() {
            return Err(refuse(FailureClass::ConnectLocal));
        }
        let wide = wide || self.policy == IpPolicy::Both;
        let Some(flight) = self.flights.start(host, wide, now) else {
            self.stats.refused += 1;
            return Err(refuse(FailureClass::LocalPressure));
        };
        self.bucket.refill(now);
        self.stats.capped += u64::from(!self.bucket.has_token());
        self.hosts.retain(host);
        self.flights.get_mut(flight).question = question;
        if question.is_none() {
            self.hosts.set_flight(host, Some(flight));
        }
        Ok(flight)
    }

    /// Lets go of the hosts of flights that have answered everybody.
    fn drop_gone(&mut self) {
        while let Some(host) = self.flights.next_gone() {
            self.hosts.release(host);
        }
    }

    /// What is said of a host whose line has these addresses.
    fn resolved(
        &self,
        host: HostId,
        positive: Positive,
        scope: Scope,
        source: Source,
    ) -> ResolvedName {
        let server = self
            .sockets
            .upstreams()
            .get(usize::from(positive.server))
            .copied();
        ResolvedName {
            addresses: positive.addresses,
            scope,
            stale: source == Source::Stale,
            cached: source != Source::Asked,
            lacks: self.hosts.life(host).lacks.map(|class| self.told(class)),
            server,
            rcode: None,
            tries: 0,
        }
    }
}
