//! Fuzz body of the resolver as a whole: the input is a script of everything that targets, the
//! network and time can do to it, judged by what the outside knows.
//!
//! The first byte chooses the configuration. Then every step is two bytes, what and which; replies
//! and noise take more. The clock is virtual, the seed of the resolver is fixed.

mod network;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::limits::{DNS_ADDRESSES_MAX, DNS_STALE_MAX_MS, DNS_TRIES_MAX, DNS_TTL_MAX_MS};
use model::record::RecordType;
use model::{FailureClass, MonoUs};

use super::super::{
    DnsEvent, DnsSocket, HostId, IpPolicy, Lookup, Records, ResolvedName, Resolver, ResolverConfig,
};
use network::{Network, Query, Reply, Said};

/// Names of a trace; those after the first few are held only for the moment of a lookup.
const HOSTS: usize = 8;
const HELD: usize = 4;
const SOCKETS_PER_UPSTREAM: usize = 2;
/// Queries of one flight: three tries for each of two families, each again over a stream.
const QUERIES_PER_FLIGHT_MAX: usize = 2 * 2 * DNS_TRIES_MAX as usize;
/// A few names cost a first block each of hosts, names, index and addresses of both families.
const MEMORY_MAX_BYTES: usize = 512 * 1024;
/// ECONNREFUSED, of the network; EMFILE, ours.
const ERRNOS: [i32; 2] = [111, 24];

/// Each waiter gets exactly one answer, an address is of the name asked for and never older than
/// its TTL and an hour, and nothing grows or is left behind, whatever happens in whatever order.
pub(crate) fn trace(data: &[u8]) {
    let mut script = Script(data);
    let mut trace = Trace::new(script.byte());
    while !script.0.is_empty() {
        let (what, which) = (script.byte(), script.byte());
        trace.step(what, usize::from(which), &mut script);
        trace.judge_limits();
    }
    trace.end();
}

/// The rest of an input; its end reads as zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        byte
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What the outside knows of one name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Addresses that upstreams gave it, and until when each may be called fresh.
    addresses: BTreeMap<IpAddr, MonoUs>,
    /// The same for addresses that noise may have held, if it had the id of a query.
    noise_until: MonoUs,
}

/// A trace under way.
struct Trace {
    resolver: Resolver,
    now: MonoUs,
    network: Network,
    upstreams: usize,
    /// The names that are held throughout.
    held: Vec<HostId>,
    known: [Known; HOSTS],
    /// Waiters that are owed an answer, with their name.
    owed: BTreeMap<u64, usize>,
    /// The same of questions for records.
    asked: BTreeMap<u64, usize>,
    next_waiter: u64,
    /// Lookups that had to wait: no more flights can have begun.
    waited: usize,
}

fn name(n: usize) -> String {
    format!("h{n}.test")
}

impl Trace {
    fn new(control: u8) -> Self {
        let policies = [
            IpPolicy::V4First,
            IpPolicy::V6First,
            IpPolicy::V4Only,
            IpPolicy::V6Only,
            IpPolicy::Both,
        ];
        let upstreams = 1 + control % 3;
        let mut resolver = Resolver::new(ResolverConfig {
            upstreams: (0..upstreams)
                .map(|n| ([198, 51, 100, n], 53).into())
                .collect(),
            policy: policies[usize::from(control >> 5) % policies.len()],
            seed: [42; 32],
            sockets_per_upstream: SOCKETS_PER_UPSTREAM,
            queries_per_s: if control & 4 == 0 { 1_000 } else { 1 },
            ..ResolverConfig::default()
        });
        let held = (0..HELD).map(|n| resolver.intern(&name(n))).collect();
        Self {
            resolver,
            now: MonoUs(7_000_000),
            network: Network::new(control & 16 != 0),
            upstreams: usize::from(upstreams),
            held,
            known: std::array::from_fn(|_| Known::default()),
            owed: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_waiter: 0,
            waited: 0,
        }
    }

    fn step(&mut self, what: u8, which: usize, script: &mut Script<'_>) {
        match what % 14 {
            0 if which >= 192 => self.ask(which % HELD, which / 8 % 3),
            0 => self.lookup(which % HOSTS, false),
            1 => self.lookup(which % HOSTS, true),
            2 => self.forget(which),
            3 | 4 => {
                let reply = Reply::Addresses {
                    count: script.byte(),
                    ttl_s: u32::from(script.byte()) * 20,
                };
                self.reply(which, reply);
            }
            5 => self.reply(which / 8, Reply::OTHERS[which % Reply::OTHERS.len()]),
            6 => {
                let length = usize::from(script.byte());
                self.noise(which, script.bytes(length));
            }
            7 => self.forge(which),
            8 => self.socket_event(which, script.byte()),
            9 => self.misspelled(which),
            10 | 11 => self.stream(which, script),
            12 => self.prefetch(which % HELD, script.byte()),
            _ => self.pass(which),
        }
    }

    /// Time passes: in tens of milliseconds, or in minutes.
    fn pass(&mut self, which: usize) {
        let us = if which < 192 { 10_000 } else { 60_000_000 };
        self.now = self.now.plus_us((which % 192) as u64 * us);
        self.resolver.tick(self.now);
        self.pump();
    }

    fn lookup(&mut self, n: usize, wide: bool) {
        let visitor = (n >= HELD).then(|| self.resolver.intern(&name(n)));
        let host = visitor.unwrap_or_else(|| self.held[n]);
        assert_eq!(self.resolver.name(host), name(n));
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        let lookup = if wide {
            self.resolver.widen(host, waiter, self.now)
        } else {
            self.resolver.lookup(host, waiter, self.now)
        };
        match lookup {
            Lookup::Hit(found) => {
                assert!(found.cached);
                self.judge(n, &found);
            }
            Lookup::Failed(failure) => judge_class(failure.class),
            Lookup::Waiting => {
                self.waited += 1;
                self.owed.insert(waiter, n);
            }
        }
        self.pump();
        if visitor.is_some() {
            // Its attempt ends before the answer; the flight must hold the name by itself.
            if self.owed.remove(&waiter).is_some() {
                self.resolver.forget(host, waiter);
            }
            self.resolver.release(host);
            self.pump();
        }
    }

    /// A question of a check of the DNS: never answered by what is known already.
    fn ask(&mut self, n: usize, kind: usize) {
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        let kind = [RecordType::A, RecordType::Aaaa, RecordType::Txt][kind];
        let refused = self
            .resolver
            .ask_records(self.held[n], kind, waiter, self.now);
        if let Some(failure) = refused {
            judge_class(failure.class);
        } else {
            self.waited += 1;
            self.asked.insert(waiter, n);
        }
        self.pump();
    }

    /// What came of a question.
    fn judge_records(&self, n: usize, records: &Records) {
        let known = &self.known[n];
        assert!(records.values.is_sorted() && !records.values.is_empty());
        for value in &records.values {
            let given = value
                .as_str()
                .parse()
                .is_ok_and(|address| known.addresses.contains_key(&address));
            assert!(
                given || self.now < known.noise_until,
                "nobody gave {value} to this name"
            );
        }
    }

    fn forget(&mut self, which: usize) {
        if let Some((waiter, n)) = self.asked.first_key_value()
            && which.is_multiple_of(4)
        {
            // It ends before its answer, which comes all the same.
            let failure = self.resolver.overdue(self.held[*n], *waiter);
            judge_class(failure.class);
            self.resolver.forget(self.held[*n], *waiter);
        }
        let waiter = self.owed.keys().nth(which % self.owed.len().max(1));
        if let Some(waiter) = waiter.copied()
            && let Some(n) = self.owed.remove(&waiter)
        {
            self.resolver.forget(self.held[n], waiter);
            self.pump();
        }
    }

    fn reply(&mut self, which: usize, reply: Reply) {
        if let Some(query) = self.network.pick(which) {
            let bytes = self.learn(&query, reply);
            self.deliver(query.socket, &bytes);
        }
    }

    /// The bytes of a reply, whose addresses are known from now on.
    fn learn(&mut self, query: &Query, reply: Reply) -> Vec<u8> {
        let (bytes, addresses, ttl_ms) = query.reply(reply);
        let known = &mut self.known[query.host].addresses;
        for address in addresses {
            let until = known.entry(address).or_default();
            *until = (*until).max(self.now.plus_ms(ttl_ms));
        }
        bytes
    }

    /// Any bytes behind the id of one of our queries.
    fn noise(&mut self, which: usize, bytes: &[u8]) {
        if let Some(query) = self.network.pick(which) {
            self.known[query.host].noise_until = self.now.plus_ms(DNS_TTL_MAX_MS);
            let bytes = [&query.id.to_be_bytes(), bytes].concat();
            self.deliver(query.socket, &bytes);
        }
    }

    /// A good answer for another name, or to a socket that did not ask: nobody's. Its addresses are
    /// not known, so whoever gets them fails the trace.
    fn forge(&mut self, which: usize) {
        let Some(query) = self.network.pick(which / 2) else {
            return;
        };
        let (mut bytes, ..) = query.reply(Reply::Forged);
        if which.is_multiple_of(2) {
            // The digit of the name in the question, behind header, length and `h`.
            bytes[14] = b'x';
            self.deliver(query.socket, &bytes);
        } else if let Some(socket) = self.network.other_socket(&query) {
            self.deliver(socket, &bytes);
        }
    }

    /// An answer of an upstream that does not keep letters, or of one that guesses.
    fn misspelled(&mut self, which: usize) {
        if let Some(query) = self.network.pick(which) {
            let mut bytes = query.reply(Reply::Forged).0;
            // The name alone, which the answers point to: an address may hold a letter too.
            bytes[12..12 + 1 + name(query.host).len()].make_ascii_lowercase();
            // Where our letters were in lower case anyway, it is a good answer.
            self.learn(&query, Reply::Forged);
            self.deliver(query.socket, &bytes);
        }
    }

    /// Something of a stream: an answer or noise, in two pieces, or its end.
    fn stream(&mut self, which: usize, script: &mut Script<'_>) {
        let Some((stream, query)) = self.network.stream(which) else {
            return;
        };
        let (kind, at) = (script.byte(), usize::from(script.byte()));
        let bytes = match kind % 4 {
            0 => self.learn(
                &query,
                Reply::Addresses {
                    count: kind / 4,
                    ttl_s: 90,
                },
            ),
            1 => self.learn(
                &query,
                Reply::OTHERS[usize::from(kind / 4) % Reply::OTHERS.len()],
            ),
            2 => {
                self.known[query.host].noise_until = self.now.plus_ms(DNS_TTL_MAX_MS);
                [&query.id.to_be_bytes(), script.bytes(at)].concat()
            }
            _ => {
                let errno = ERRNOS[at % ERRNOS.len()];
                self.resolver.on(
                    if kind < 128 {
                        DnsEvent::StreamEof { stream }
                    } else {
                        DnsEvent::StreamError { stream, errno }
                    },
                    self.now,
                );
                return self.pump();
            }
        };
        let bytes = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        let (first, rest) = bytes.split_at(at % bytes.len());
        for bytes in [first, rest] {
            self.resolver
                .on(DnsEvent::StreamBytes { stream, bytes }, self.now);
            self.pump();
        }
    }

    fn prefetch(&mut self, n: usize, seconds: u8) {
        let due = self.now.plus_ms(u64::from(seconds) * 1_000);
        let before = self.resolver.stats().prefetches;
        self.resolver.prefetch(self.held[n], due, 10_000, self.now);
        self.waited += (self.resolver.stats().prefetches - before) as usize;
        self.pump();
    }

    fn deliver(&mut self, socket: DnsSocket, bytes: &[u8]) {
        self.resolver
            .on(DnsEvent::Datagram { socket, bytes }, self.now);
        self.pump();
    }

    fn socket_event(&mut self, which: usize, errno: u8) {
        let errno = ERRNOS[usize::from(errno) % ERRNOS.len()];
        let event = match (which % 3, self.network.opening(which / 3)) {
            (0 | 1, Some(socket)) => {
                self.network.open(socket);
                DnsEvent::Opened { socket }
            }
            (_, Some(socket)) => {
                self.network.close(socket);
                DnsEvent::OpenFailed { socket, errno }
            }
            (_, None) => match self.network.pick(which) {
                Some(Query { socket, .. }) => DnsEvent::SocketError { socket, errno },
                None => return,
            },
        };
        self.resolver.on(event, self.now);
        self.pump();
    }

    /// Carries out what the resolver says, and judges its answers.
    fn pump(&mut self) {
        for (waiter, said) in self.network.pump(&mut self.resolver, self.now) {
            let owed = match said {
                Said::Name(_) => &mut self.owed,
                Said::Records(_) => &mut self.asked,
            };
            let n = owed
                .remove(&waiter)
                .expect("one answer, to who is owed one");
            match said {
                Said::Name(Ok(found)) => self.judge(n, &found),
                Said::Records(Ok(records)) => self.judge_records(n, &records),
                Said::Name(Err(failure)) | Said::Records(Err(failure)) => {
                    judge_class(failure.class);
                    assert!(failure.tries <= DNS_TRIES_MAX);
                }
            }
        }
    }

    /// Addresses given for a name.
    fn judge(&self, n: usize, found: &ResolvedName) {
        let known = &self.known[n];
        let over_ms = if found.stale { DNS_STALE_MAX_MS } else { 0 };
        for address in found.addresses.iter() {
            let given = known.addresses.get(&address).copied().unwrap_or_default();
            let until = given.max(known.noise_until);
            assert!(until > MonoUs(0), "nobody gave {address} to this name");
            assert!(self.now < until.plus_ms(over_ms), "{address} is too old");
        }
        assert!((1..=DNS_ADDRESSES_MAX).contains(&found.addresses.len()));
    }

    fn judge_limits(&self) {
        let stats = self.resolver.stats();
        let flights = HOSTS + self.asked.len();
        assert!(
            stats.flights <= flights as u64,
            "one flight for each name, and for each question"
        );
        assert!(stats.hosts <= HOSTS as u64);
        assert_eq!(
            stats.sockets,
            self.network.sockets() as u64,
            "a socket is lost"
        );
        assert_eq!(
            stats.streams,
            self.network.streams() as u64,
            "a stream is lost"
        );
        assert!(
            stats.streams <= stats.flights,
            "a flight asks one upstream at a time"
        );
        assert!(
            self.network.sent() <= self.waited * QUERIES_PER_FLIGHT_MAX,
            "a storm"
        );
        assert!(self.resolver.memory_bytes() <= MEMORY_MAX_BYTES);
        // Twice: a socket that has asked its last query waits beside its successor.
        assert!(self.network.sockets() <= 2 * self.upstreams * SOCKETS_PER_UPSTREAM);
    }

    /// The network says nothing any more: everybody is answered, everything given back.
    fn end(mut self) {
        self.network.opens_at_once = true;
        while let Some(socket) = self.network.opening(0) {
            self.network.open(socket);
            self.resolver.on(DnsEvent::Opened { socket }, self.now);
            self.pump();
        }
        for _ in 0..30 {
            self.now = self.now.plus_us(500_000);
            self.resolver.tick(self.now);
            self.pump();
            self.judge_limits();
        }
        assert!(self.owed.is_empty(), "never answered: {:?}", self.owed);
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        let stats = self.resolver.stats();
        assert_eq!(
            (stats.flights, stats.queued, stats.hosts),
            (0, 0, HELD as u64)
        );
        for host in self.held {
            self.resolver.release(host);
        }
        assert_eq!(
            (self.resolver.stats().hosts, self.resolver.memory_bytes()),
            (0, 0)
        );
    }
}

/// A name fails in words of DNS, or of our own side.
fn judge_class(class: FailureClass) {
    let ours = matches!(
        class,
        FailureClass::LocalPressure | FailureClass::ConnectLocal
    );
    assert!(ours || class.as_str().starts_with("dns."), "{class:?}");
}
