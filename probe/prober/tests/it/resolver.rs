//! The resolver from outside, on a virtual clock: scenarios here and beside, random traces in
//! [`trace`].

mod ahead;
mod answers;
mod denial;
mod families;
mod letters;
mod records;
mod refusing;
mod sick;
mod stale;
mod tcp;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use model::limits::{DNS_IN_FLIGHT_MAX, DNS_QUEUE_MAX};
use model::{FailureClass, MonoUs};
use prober::resolver::{
    DnsCommand, DnsEvent, DnsFailure, DnsSocket, DnsStream, HostId, IpPolicy, Lookup, Records,
    ResolvedName, Resolver, ResolverConfig,
};

const SECOND: u64 = 1_000_000;
const NAME: &str = "www.example.test";

type Answer = Result<ResolvedName, DnsFailure>;

/// What a scripted upstream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    /// So many addresses, with this TTL in seconds.
    Addresses(u8, u32),
    /// NOERROR without records.
    Empty,
    /// A code, with a SOA of this minimum in seconds.
    Code(ResponseCode, u32),
    Truncated,
    Noise,
}

/// One query on the wire.
#[derive(Clone, Debug)]
struct Sent {
    socket: DnsSocket,
    bytes: Vec<u8>,
}

impl Sent {
    fn message(&self) -> Message {
        Message::from_vec(&self.bytes).expect("our queries decode")
    }

    fn kind(&self) -> RecordType {
        self.message().queries[0].query_type()
    }

    fn name(&self) -> String {
        self.message().queries[0]
            .name()
            .to_ascii()
            .trim_end_matches('.')
            .to_ascii_lowercase()
    }

    /// The reply of a server that does not keep the letters of the question.
    fn lower_reply(&self, say: Say) -> Vec<u8> {
        let mut lower = self.clone();
        lower.bytes[12..].make_ascii_lowercase();
        lower.reply(say)
    }

    fn reply(&self, say: Say) -> Vec<u8> {
        let mut message = self.message();
        message.metadata.message_type = MessageType::Response;
        let owner = message.queries[0].name().clone();
        match say {
            Say::Addresses(count, ttl) => {
                for n in 0..count {
                    let data = match self.kind() {
                        RecordType::A => RData::A(A::new(192, 0, 2, n)),
                        _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
                    };
                    message.add_answer(Record::from_rdata(owner.clone(), ttl, data));
                }
            }
            Say::Empty => {}
            Say::Code(code, minimum) => {
                message.metadata.response_code = code;
                let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
                message.add_authority(Record::from_rdata(owner, 3_600, RData::SOA(soa)));
            }
            Say::Truncated => message.metadata.truncation = true,
            Say::Noise => {
                let mut bytes = message.to_vec().expect("it encodes");
                // One answer is claimed; none follows.
                bytes[7] = 9;
                return bytes;
            }
        }
        message.to_vec().expect("it encodes")
    }
}

/// A question over TCP, as long as its connection is open.
#[derive(Clone, Debug)]
struct Stream {
    number: DnsStream,
    upstream: SocketAddr,
    asked: Sent,
}

/// `message` with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("it fits a frame");
    [&length.to_be_bytes(), message].concat()
}

/// The resolver and the network around it.
struct Bench {
    resolver: Resolver,
    now: MonoUs,
    upstreams: BTreeMap<DnsSocket, SocketAddr>,
    sent: Vec<Sent>,
    streams: Vec<Stream>,
    answers: Vec<(u64, Answer)>,
    records: VecDeque<(u64, Result<Records, DnsFailure>)>,
    opening: Vec<DnsSocket>,
    /// Sockets open at once, without a step of the trace.
    opens_at_once: bool,
}

fn config(upstreams: u8) -> ResolverConfig {
    ResolverConfig {
        upstreams: (0..upstreams).map(upstream).collect(),
        seed: [42; 32],
        sockets_per_upstream: 4,
        queries_per_s: 1_000_000,
        ..ResolverConfig::default()
    }
}

fn upstream(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 53))
}

impl Bench {
    fn new(upstreams: u8, policy: IpPolicy) -> Self {
        Self::with(ResolverConfig {
            policy,
            ..config(upstreams)
        })
    }

    fn with(config: ResolverConfig) -> Self {
        Self {
            resolver: Resolver::new(config),
            now: MonoUs(7 * SECOND),
            upstreams: BTreeMap::new(),
            sent: Vec::new(),
            streams: Vec::new(),
            answers: Vec::new(),
            records: VecDeque::new(),
            opening: Vec::new(),
            opens_at_once: true,
        }
    }

    /// Shells ask whether there may be one before they look at the clock: it must never be missed.
    fn next_command(&mut self) -> Option<DnsCommand> {
        let has_next = self.resolver.has_next();
        let command = self.resolver.next();
        assert!(has_next || command.is_none(), "missed: {command:?}");
        command
    }

    fn pump(&mut self) {
        while let Some(command) = self.next_command() {
            match command {
                DnsCommand::Open { socket, upstream } => {
                    assert_eq!(
                        self.upstreams.insert(socket, upstream),
                        None,
                        "number in use"
                    );
                    self.opening.push(socket);
                    if self.opens_at_once {
                        self.open(0);
                    }
                }
                DnsCommand::Close { socket } => {
                    assert!(self.upstreams.remove(&socket).is_some(), "closed twice");
                    self.opening.retain(|other| *other != socket);
                }
                DnsCommand::Send { socket, bytes } => {
                    self.sent.push(Sent {
                        socket,
                        bytes: bytes.clone(),
                    });
                    self.resolver.recycle(bytes);
                }
                DnsCommand::OpenStream {
                    stream,
                    upstream,
                    bytes,
                } => {
                    let length = u16::from_be_bytes([bytes[0], bytes[1]]);
                    assert_eq!(usize::from(length), bytes.len() - 2);
                    let asked = Sent {
                        socket: DnsSocket(u16::MAX),
                        bytes: bytes[2..].to_vec(),
                    };
                    self.streams.push(Stream {
                        number: stream,
                        upstream,
                        asked,
                    });
                    self.resolver.recycle(bytes);
                }
                DnsCommand::CloseStream { stream } => {
                    let open = self.streams.len();
                    self.streams.retain(|other| other.number != stream);
                    assert_eq!(self.streams.len() + 1, open, "closed twice");
                }
                DnsCommand::Answer { waiter, result } => self.answers.push((waiter, result)),
                DnsCommand::Records { waiter, result } => {
                    self.records.push_back((waiter, result));
                }
            }
        }
    }

    fn open(&mut self, at: usize) {
        let socket = self.opening.remove(at);
        self.resolver.on(DnsEvent::Opened { socket }, self.now);
    }

    fn event(&mut self, event: DnsEvent<'_>) {
        self.resolver.on(event, self.now);
        self.pump();
    }

    fn lookup(&mut self, host: HostId, waiter: u64) -> Lookup {
        let lookup = self.resolver.lookup(host, waiter, self.now);
        self.pump();
        lookup
    }

    fn say(&mut self, sent: &Sent, say: Say) {
        let bytes = sent.reply(say);
        self.event(DnsEvent::Datagram {
            socket: sent.socket,
            bytes: &bytes,
        });
    }

    /// Answers the newest query.
    fn answer(&mut self, say: Say) {
        let sent = self.sent.last().expect("a query was sent").clone();
        self.say(&sent, say);
    }

    fn pass(&mut self, us: u64) {
        let end = self.now.plus_us(us);
        while self.now < end {
            self.now = self.now.plus_us(5_000).min(end);
            self.resolver.tick(self.now);
            self.pump();
        }
    }

    fn only_answer(&mut self) -> Answer {
        assert_eq!(self.answers.len(), 1, "{:?}", self.answers);
        self.answers.remove(0).1
    }

    fn failure(&mut self) -> (FailureClass, u8) {
        let failure = self.only_answer().expect_err("it failed");
        (failure.class, failure.tries)
    }
}

/// A resolver, the host [`NAME`] and a lookup under way.
fn asked(upstreams: u8, policy: IpPolicy) -> (Bench, HostId) {
    let mut bench = Bench::new(upstreams, policy);
    let host = bench.resolver.intern(NAME);
    assert_eq!(bench.lookup(host, 1), Lookup::Waiting);
    (bench, host)
}

#[test]
fn one_query_serves_every_waiter_and_the_cache_serves_the_rest() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    assert_eq!(bench.sent.len(), 1);
    bench.answer(Say::Addresses(3, 300));
    let firsts: BTreeSet<IpAddr> = bench
        .answers
        .iter()
        .filter_map(|(_, answer)| answer.ok()?.addresses.iter().next())
        .collect();
    assert_eq!(
        (bench.answers.len(), firsts.len()),
        (2, 2),
        "rotated from waiter to waiter"
    );
    let mut firsts = BTreeSet::new();
    for waiter in 3..6 {
        let Lookup::Hit(name) = bench.lookup(host, waiter) else {
            panic!("a hit")
        };
        assert!(name.cached && !name.stale && name.server == Some(upstream(0)));
        firsts.insert(name.addresses.iter().next());
    }
    assert_eq!(firsts.len(), 3, "rotated from hit to hit");
    let stats = bench.resolver.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.queries, stats.noerror),
        (3, 2, 1, 1)
    );
}

#[test]
fn the_second_family_is_asked_only_when_the_first_is_empty() {
    let cases = [
        (IpPolicy::V4First, vec![RecordType::A, RecordType::AAAA]),
        (IpPolicy::V6First, vec![RecordType::AAAA, RecordType::A]),
        (IpPolicy::V4Only, vec![RecordType::A]),
        (IpPolicy::V6Only, vec![RecordType::AAAA]),
    ];
    for (policy, kinds) in cases {
        let (mut bench, _) = asked(1, policy);
        for _ in &kinds {
            bench.answer(Say::Empty);
        }
        assert_eq!(bench.sent.iter().map(Sent::kind).collect::<Vec<_>>(), kinds);
        assert_eq!(bench.failure(), (FailureClass::DnsNoAddress, 1));
        let (mut bench, _) = asked(1, policy);
        bench.answer(Say::Addresses(2, 60));
        assert_eq!(bench.sent.len(), 1);
        assert_eq!(bench.only_answer().expect("addresses").addresses.len(), 2);
    }
}

#[test]
fn a_failure_is_remembered_as_long_as_the_soa_says() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Code(ResponseCode::NXDomain, 20));
    let failure = bench.only_answer().expect_err("no such name");
    assert_eq!(
        (failure.class, failure.rcode),
        (FailureClass::DnsNxdomain, Some(3))
    );
    assert_eq!(failure.server, Some(upstream(0)));
    bench.pass(19 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Failed(failure));
    bench.pass(SECOND);
    assert_eq!(bench.lookup(host, 3), Lookup::Waiting);
}

#[test]
fn silence_costs_three_tries_of_a_second_and_a_half_on_rotating_upstreams() {
    let (mut bench, host) = asked(2, IpPolicy::V4Only);
    bench.pass(4_490_000);
    assert!(bench.answers.is_empty());
    bench.pass(10_000);
    let asked: Vec<SocketAddr> = bench
        .sent
        .iter()
        .map(|sent| bench.upstreams[&sent.socket])
        .collect();
    assert_eq!(asked, [upstream(0), upstream(1), upstream(0)]);
    assert_eq!(bench.failure(), (FailureClass::DnsTimeout, 3));
    assert!(
        matches!(bench.lookup(host, 2), Lookup::Failed(_)),
        "one name cannot storm"
    );
    bench.pass(5 * SECOND);
    assert_eq!(bench.lookup(host, 3), Lookup::Waiting);
    assert_eq!(bench.resolver.stats().timeouts, 3);
}

#[test]
fn servfail_and_refused_go_once_to_each_upstream_and_keep_their_class() {
    let cases = [
        (
            Say::Code(ResponseCode::ServFail, 60),
            FailureClass::DnsServfail,
            Some(2),
        ),
        (
            Say::Code(ResponseCode::Refused, 60),
            FailureClass::DnsResolverSick,
            Some(5),
        ),
    ];
    for (say, class, rcode) in cases {
        let (mut bench, _) = asked(2, IpPolicy::V4Only);
        bench.answer(say);
        assert_eq!(bench.sent.len(), 2, "the next upstream, at once");
        bench.answer(say);
        let failure = bench.only_answer().expect_err("both failed");
        assert_eq!(
            (failure.class, failure.rcode, failure.tries),
            (class, rcode, 2)
        );
        let (mut bench, _) = asked(2, IpPolicy::V4Only);
        bench.answer(say);
        bench.answer(Say::Addresses(1, 60));
        assert_eq!(
            bench.only_answer().map(|name| name.server),
            Ok(Some(upstream(1)))
        );
    }
}

#[test]
fn noise_is_malformed_after_three_tries() {
    let (mut bench, _) = asked(1, IpPolicy::V4Only);
    (0..3).for_each(|_| bench.answer(Say::Noise));
    assert_eq!(
        (bench.failure(), bench.sent.len()),
        ((FailureClass::DnsMalformed, 3), 3)
    );
    assert_eq!(bench.resolver.stats().malformed, 3);
}

#[test]
fn forged_late_and_duplicate_datagrams_change_nothing() {
    let (mut bench, host) = asked(2, IpPolicy::V4First);
    let first = bench.sent[0].clone();
    let mut forged = first.reply(Say::Addresses(1, 60));
    forged[0] ^= 1;
    bench.event(DnsEvent::Datagram {
        socket: first.socket,
        bytes: &forged,
    });
    let elsewhere = Sent {
        socket: DnsSocket(first.socket.0 + 1),
        ..first.clone()
    };
    bench.say(&elsewhere, Say::Addresses(1, 60));
    bench.event(DnsEvent::Datagram {
        socket: first.socket,
        bytes: &first.bytes,
    });
    bench.pass(1_500_000);
    bench.say(&first, Say::Addresses(1, 60));
    assert_eq!(
        (bench.answers.len(), bench.resolver.stats().ignored),
        (0, 4)
    );
    bench.answer(Say::Addresses(2, 60));
    bench.answer(Say::Code(ResponseCode::NXDomain, 60));
    bench.only_answer().expect("the real answer");
    assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)));
}

#[test]
fn an_upstream_that_does_not_listen_is_left_at_once_and_alone_is_sick() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    let socket = bench.sent[0].socket;
    bench.event(DnsEvent::SocketError { socket, errno: 111 });
    assert_eq!(
        (bench.sent.len(), bench.upstreams.contains_key(&socket)),
        (2, false)
    );
    let (mut bench, _) = asked(1, IpPolicy::V4Only);
    for _ in 0..3 {
        let socket = bench.sent.last().expect("a query").socket;
        bench.event(DnsEvent::SocketError { socket, errno: 111 });
        bench.event(DnsEvent::SocketError { socket, errno: 111 });
        bench.pass(1_500_000);
    }
    assert_eq!(
        (bench.failure(), bench.sent.len()),
        ((FailureClass::DnsResolverSick, 3), 3)
    );
}

#[test]
fn when_no_socket_opens_the_trouble_is_ours_and_not_remembered() {
    let mut bench = Bench::new(2, IpPolicy::V4First);
    bench.opens_at_once = false;
    let host = bench.resolver.intern(NAME);
    bench.lookup(host, 1);
    for _ in 0..4 {
        while let Some(socket) = bench.opening.pop() {
            bench.upstreams.remove(&socket);
            bench.event(DnsEvent::OpenFailed { socket, errno: 24 });
        }
        bench.pass(1_500_000);
    }
    assert_eq!(bench.failure().0, FailureClass::ConnectLocal);
    assert_eq!(bench.resolver.stats().queries, 0);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
}

#[test]
fn a_forgotten_waiter_gets_nothing_and_the_flight_fills_the_cache() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.resolver.forget(host, 1);
    bench.answer(Say::Addresses(1, 60));
    assert!(bench.answers.is_empty());
    assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)));
}

#[test]
fn an_answer_that_is_forgotten_before_it_is_taken_does_not_come() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    let bytes = bench.sent[0].reply(Say::Addresses(1, 60));
    let socket = bench.sent[0].socket;
    bench.resolver.on(
        DnsEvent::Datagram {
            socket,
            bytes: &bytes,
        },
        bench.now,
    );
    bench.resolver.forget(host, 1);
    assert_eq!(bench.resolver.next(), None);
}

#[test]
fn a_name_released_in_flight_is_kept_until_it_lands() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.resolver.release(host);
    assert_eq!(
        (bench.resolver.stats().hosts, bench.resolver.name(host)),
        (1, NAME)
    );
    bench.answer(Say::Addresses(8, 60));
    bench.only_answer().expect("addresses");
    assert_eq!(
        (bench.resolver.stats().hosts, bench.resolver.memory_bytes()),
        (0, 0)
    );
}

#[test]
fn too_many_names_at_once_wait_and_then_are_given_up_as_our_pressure() {
    let mut bench = Bench::new(1, IpPolicy::V4Only);
    let total = DNS_IN_FLIGHT_MAX + DNS_QUEUE_MAX;
    let hosts: Vec<HostId> = (0..=total)
        .map(|n| bench.resolver.intern(&format!("{n}.test")))
        .collect();
    for (n, host) in hosts[..total].iter().enumerate() {
        assert_eq!(bench.lookup(*host, n as u64), Lookup::Waiting);
    }
    let stats = bench.resolver.stats();
    assert_eq!(
        (bench.sent.len(), stats.queued),
        (DNS_IN_FLIGHT_MAX, DNS_QUEUE_MAX as u64)
    );
    let Lookup::Failed(failure) = bench.lookup(hosts[total], u64::MAX) else {
        panic!("full")
    };
    assert_eq!(failure.class, FailureClass::LocalPressure);
    bench.answer(Say::Addresses(1, 60));
    assert_eq!(
        bench.sent.len(),
        DNS_IN_FLIGHT_MAX + 1,
        "the next one's turn"
    );
    bench.pass(1_500_000);
    let ours = |answer: &Answer| answer.is_err_and(|f| f.class == FailureClass::LocalPressure);
    let given_up = bench
        .answers
        .iter()
        .filter(|(_, answer)| ours(answer))
        .count();
    assert_eq!(given_up, DNS_QUEUE_MAX - 1);
    assert_eq!(bench.resolver.stats().refused, DNS_QUEUE_MAX as u64);
    bench.pass(5 * SECOND);
    assert_eq!(
        (bench.answers.len(), bench.resolver.stats().flights),
        (total, 0)
    );
}

#[test]
fn sockets_are_replaced_after_1024_queries() {
    let mut bench = Bench::new(1, IpPolicy::V4Only);
    for n in 0..10_000 {
        let host = bench.resolver.intern(&format!("{n}.test"));
        bench.lookup(host, n);
        bench.answer(Say::Addresses(1, 60));
    }
    let mut per_socket: BTreeMap<DnsSocket, usize> = BTreeMap::new();
    bench
        .sent
        .iter()
        .for_each(|sent| *per_socket.entry(sent.socket).or_default() += 1);
    assert!(per_socket.values().all(|queries| *queries <= 1_024));
    assert!(bench.upstreams.len() <= 4 && bench.resolver.stats().sockets <= 4);
    let ids: BTreeSet<[u8; 2]> = bench
        .sent
        .iter()
        .map(|s| [s.bytes[0], s.bytes[1]])
        .collect();
    assert!(
        ids.len() > 9_000,
        "ids are spread over 16 bits: {}",
        ids.len()
    );
}

#[test]
fn names_that_no_query_can_carry_do_not_exist() {
    let mut bench = Bench::new(1, IpPolicy::V4First);
    for name in ["a..test", &format!("{}.test", "x".repeat(64)), ""] {
        let host = bench.resolver.intern(name);
        let Lookup::Failed(failure) = bench.lookup(host, 1) else {
            panic!("{name}")
        };
        assert_eq!(
            (failure.class, failure.tries),
            (FailureClass::DnsNxdomain, 0)
        );
    }
    assert!(bench.sent.is_empty());
}

#[test]
fn the_same_script_and_seed_give_the_same_bytes() {
    let run = || {
        let (mut bench, _) = asked(3, IpPolicy::V6First);
        bench.pass(2 * SECOND);
        bench.answer(Say::Empty);
        bench
            .sent
            .iter()
            .map(|sent| (sent.socket, sent.bytes.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
