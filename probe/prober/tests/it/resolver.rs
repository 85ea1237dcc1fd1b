//! The resolver from outside, on a virtual clock: scenarios, and traces of everything that a
//! network can do to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use model::limits::{DNS_IN_FLIGHT_MAX, DNS_QUEUE_MAX};
use model::{FailureClass, MonoUs};
use prober::resolver::{
    DnsCommand, DnsEvent, DnsFailure, DnsSocket, HostId, IpPolicy, Lookup, ResolvedName, Resolver,
    ResolverConfig,
};
use proptest::prelude::*;

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
            .to_owned()
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

/// The resolver and the network around it.
struct Bench {
    resolver: Resolver,
    now: MonoUs,
    upstreams: BTreeMap<DnsSocket, SocketAddr>,
    sent: Vec<Sent>,
    answers: Vec<(u64, Answer)>,
    opening: Vec<DnsSocket>,
    /// Sockets open at once, without a step of the trace.
    opens_at_once: bool,
}

fn upstream(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 53))
}

impl Bench {
    fn new(upstreams: u8, policy: IpPolicy) -> Self {
        let resolver = Resolver::new(ResolverConfig {
            upstreams: (0..upstreams).map(upstream).collect(),
            policy,
            seed: 42,
            sockets_per_upstream: 4,
        });
        Self {
            resolver,
            now: MonoUs(7 * SECOND),
            upstreams: BTreeMap::new(),
            sent: Vec::new(),
            answers: Vec::new(),
            opening: Vec::new(),
            opens_at_once: true,
        }
    }

    fn pump(&mut self) {
        while let Some(command) = self.resolver.next() {
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
                DnsCommand::Answer { waiter, result } => self.answers.push((waiter, result)),
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
    let (mut bench, host) = asked(2, IpPolicy::V4First);
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
fn servfail_and_truncation_go_once_to_each_upstream_and_keep_their_class() {
    let cases = [
        (
            Say::Code(ResponseCode::ServFail, 60),
            FailureClass::DnsServfail,
            Some(2),
        ),
        (
            Say::Code(ResponseCode::Refused, 60),
            FailureClass::DnsServfail,
            Some(5),
        ),
        (Say::Truncated, FailureClass::DnsMalformed, Some(0)),
    ];
    for (say, class, rcode) in cases {
        let (mut bench, _) = asked(2, IpPolicy::V4First);
        bench.answer(say);
        assert_eq!(bench.sent.len(), 2, "the next upstream, at once");
        bench.answer(say);
        let failure = bench.only_answer().expect_err("both failed");
        assert_eq!(
            (failure.class, failure.rcode, failure.tries),
            (class, rcode, 2)
        );
        let (mut bench, _) = asked(2, IpPolicy::V4First);
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
    let (mut bench, _) = asked(1, IpPolicy::V4First);
    (0..3).for_each(|_| bench.answer(Say::Noise));
    assert_eq!(
        (bench.failure(), bench.sent.len()),
        ((FailureClass::DnsMalformed, 3), 3)
    );
    assert_eq!(bench.resolver.stats().malformed, 3);
}

#[test]
fn a_known_answer_beats_later_silence() {
    let (mut bench, _) = asked(2, IpPolicy::V4First);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    bench.pass(5 * SECOND);
    assert_eq!(bench.failure(), (FailureClass::DnsServfail, 3));
}

#[test]
fn a_stale_answer_stands_in_for_an_hour_when_nobody_answers() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("addresses");
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    let name = bench.only_answer().expect("the old address");
    assert!(name.stale && name.cached);
    let Lookup::Hit(held) = bench.lookup(host, 3) else {
        panic!("held for 5 s")
    };
    assert!(held.stale);
    bench.now = bench.now.plus_us(3_600 * SECOND);
    assert_eq!(bench.lookup(host, 4), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    assert_eq!(bench.failure(), (FailureClass::DnsServfail, 1), "too old");
    assert_eq!(bench.resolver.stats().stale_hits, 2);
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
fn a_refusing_upstream_is_left_at_once_and_alone_is_timed_out() {
    let (mut bench, _) = asked(2, IpPolicy::V4First);
    let socket = bench.sent[0].socket;
    bench.event(DnsEvent::SocketError { socket, errno: 111 });
    assert_eq!(
        (bench.sent.len(), bench.upstreams.contains_key(&socket)),
        (2, false)
    );
    let (mut bench, _) = asked(1, IpPolicy::V4First);
    for _ in 0..3 {
        let socket = bench.sent.last().expect("a query").socket;
        bench.event(DnsEvent::SocketError { socket, errno: 111 });
        bench.event(DnsEvent::SocketError { socket, errno: 111 });
        bench.pass(1_500_000);
    }
    assert_eq!(
        (bench.failure(), bench.sent.len()),
        ((FailureClass::DnsTimeout, 3), 3)
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

/// One thing that happens; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Lookup(usize),
    Forget(usize),
    Say(usize, Say),
    Forge(usize, u8),
    Open(usize),
    Fail(usize, i32),
    Pass(u64),
    Jump(u64),
    Churn(usize),
}

fn says() -> impl Strategy<Value = Say> {
    prop_oneof![
        2 => (1u8..12, 0u32..100).prop_map(|(n, ttl)| Say::Addresses(n, ttl)),
        2 => (1u8..12, 3_000u32..5_000).prop_map(|(n, ttl)| Say::Addresses(n, ttl)),
        2 => Just(Say::Empty),
        1 => (0u32..100).prop_map(|ttl| Say::Code(ResponseCode::NXDomain, ttl)),
        2 => (0u32..100).prop_map(|ttl| Say::Code(ResponseCode::ServFail, ttl)),
        1 => Just(Say::Truncated),
        1 => Just(Say::Noise),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let any = any::<u16>().prop_map(usize::from);
    prop_oneof![
        6 => (0usize..HOSTS).prop_map(Step::Lookup),
        1 => any.clone().prop_map(Step::Forget),
        8 => (any.clone(), says()).prop_map(|(n, say)| Step::Say(n, say)),
        1 => (any.clone(), 1u8..).prop_map(|(n, flip)| Step::Forge(n, flip)),
        4 => any.clone().prop_map(Step::Open),
        1 => (any, prop_oneof![Just(111), Just(24)]).prop_map(|(n, errno)| Step::Fail(n, errno)),
        5 => (0u64..2_000_000).prop_map(Step::Pass),
        1 => (0u64..4_000).prop_map(Step::Jump),
        1 => (0usize..HOSTS).prop_map(Step::Churn),
    ]
}

/// Hosts of a trace.
const HOSTS: usize = 5;

/// What the outside knows of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Until when the addresses are fresh, and how many there are.
    fresh_until: u64,
    count: usize,
    failed_until: u64,
    /// A never forgotten waiter of the flight in the air.
    observer: Option<u64>,
}

/// A trace under way.
struct Trace {
    bench: Bench,
    hosts: Vec<HostId>,
    known: [Known; HOSTS],
    /// Waiters that are owed an answer, with their host.
    owed: BTreeMap<u64, usize>,
    next_waiter: u64,
    /// Queries per flight and family.
    tries: BTreeMap<(usize, RecordType), usize>,
    seen: usize,
    /// The longest TTL that any upstream gave a query.
    ttl_ms: BTreeMap<usize, u64>,
}

impl Trace {
    fn new(upstreams: u8, policy: IpPolicy, opens_at_once: bool) -> Self {
        let mut bench = Bench::new(upstreams, policy);
        bench.opens_at_once = opens_at_once;
        let hosts = (0..HOSTS)
            .map(|n| bench.resolver.intern(&format!("h{n}.test")))
            .collect();
        Self {
            bench,
            hosts,
            known: [Known::default(); HOSTS],
            owed: BTreeMap::new(),
            next_waiter: 0,
            tries: BTreeMap::new(),
            seen: 0,
            ttl_ms: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Lookup(n) => self.lookup(n),
            Step::Forget(n) => self.forget(n),
            Step::Say(n, say) => {
                if let Some(sent) = self.pick(n) {
                    self.note_ttl(&sent, say);
                    self.bench.say(&sent, say);
                }
            }
            Step::Forge(n, flip) => {
                if let Some(sent) = self.pick(n) {
                    let mut bytes = sent.reply(Say::Addresses(3, 4_000));
                    // The digit of the name is damaged: never our question, whatever the id.
                    bytes[14] ^= flip;
                    bytes[1] ^= flip & 1;
                    let before = self.bench.answers.len();
                    self.bench.event(DnsEvent::Datagram {
                        socket: sent.socket,
                        bytes: &bytes,
                    });
                    let new = &self.bench.answers[before..];
                    assert!(
                        new.iter()
                            .all(|(_, a)| a.is_err() || a.is_ok_and(|n| n.stale))
                    );
                }
            }
            Step::Open(n) => {
                if !self.bench.opening.is_empty() {
                    self.bench.open(n % self.bench.opening.len());
                    self.bench.pump();
                }
            }
            Step::Fail(n, errno) => self.fail(n, errno),
            Step::Pass(us) => self.bench.pass(us),
            Step::Jump(s) => {
                self.bench.now = self.bench.now.plus_us(s * SECOND);
                self.bench.pass(5_000);
            }
            Step::Churn(n) => {
                let host = self.bench.resolver.intern(&format!("h{n}.test"));
                assert_eq!(host, self.hosts[n]);
                let other = self.bench.resolver.intern(&format!("other-{n}.test"));
                self.bench.resolver.release(other);
                self.bench.resolver.release(host);
            }
        }
        self.judge();
    }

    fn pick(&self, n: usize) -> Option<Sent> {
        // Mostly recent queries, so that many answers are in time.
        let from = self.bench.sent.len().saturating_sub(6);
        let recent = &self.bench.sent[from..];
        (!recent.is_empty()).then(|| recent[n % recent.len()].clone())
    }

    fn note_ttl(&mut self, sent: &Sent, say: Say) {
        if let Say::Addresses(_, ttl) = say {
            let ms = (u64::from(ttl) * 1_000).clamp(30_000, 3_600_000);
            self.ttl_ms.insert(host_of(sent), ms);
        }
    }

    fn lookup(&mut self, n: usize) {
        let waiter = self.next_waiter;
        self.next_waiter += 2;
        let now = self.bench.now.0;
        match self.bench.lookup(self.hosts[n], waiter) {
            Lookup::Hit(name) => {
                let known = self.known[n];
                assert_eq!(name.addresses.len(), known.count);
                let stale_us = if name.stale { 3_600 * SECOND } else { 0 };
                assert!(now < known.fresh_until + stale_us, "served too old");
            }
            Lookup::Failed(failure) => {
                assert_ne!(failure.class, FailureClass::ConnectLocal);
                assert!(now < self.known[n].failed_until, "remembered too long");
            }
            Lookup::Waiting => {
                self.owed.insert(waiter, n);
                if self.known[n].observer.is_none() {
                    // A flight begins: the queries before this one were another's.
                    let observer = waiter + 1;
                    let again = self.bench.lookup(self.hosts[n], observer);
                    assert_eq!(again, Lookup::Waiting);
                    self.owed.insert(observer, n);
                    self.known[n].observer = Some(observer);
                }
            }
        }
    }

    fn forget(&mut self, n: usize) {
        let forgettable: Vec<u64> = self.owed.keys().copied().filter(|w| w % 2 == 0).collect();
        if let Some(waiter) = forgettable.get(n % forgettable.len().max(1)) {
            let host = self.owed[waiter];
            self.owed.remove(waiter);
            self.bench.resolver.forget(self.hosts[host], *waiter);
            self.bench.pump();
        }
    }

    fn fail(&mut self, n: usize, errno: i32) {
        if !self.bench.opening.is_empty() {
            let socket = self.bench.opening.remove(n % self.bench.opening.len());
            self.bench.upstreams.remove(&socket);
            self.bench.event(DnsEvent::OpenFailed { socket, errno });
        } else if let Some(sent) = self.pick(n) {
            self.bench.event(DnsEvent::SocketError {
                socket: sent.socket,
                errno,
            });
        }
    }

    /// Every query and every answer since the last step.
    fn judge(&mut self) {
        for (waiter, answer) in std::mem::take(&mut self.bench.answers) {
            let n = self
                .owed
                .remove(&waiter)
                .expect("exactly one answer, to who is owed one");
            self.learn(n, &answer);
            if self.known[n].observer == Some(waiter) {
                self.known[n].observer = None;
                // Its queries are counted out below, by their place in time.
                self.count_queries();
                self.tries.retain(|(host, _), _| *host != n);
            }
        }
        self.count_queries();
    }

    fn count_queries(&mut self) {
        for sent in &self.bench.sent[self.seen..] {
            let tries = self.tries.entry((host_of(sent), sent.kind())).or_default();
            *tries += 1;
            assert!(*tries <= 3, "a fourth try");
        }
        self.seen = self.bench.sent.len();
    }

    fn learn(&mut self, n: usize, answer: &Answer) {
        let now = self.bench.now.0;
        let known = &mut self.known[n];
        match answer {
            Ok(name) if name.stale => {
                assert!(name.cached && now < known.fresh_until + 3_600 * SECOND);
                assert_eq!(name.addresses.len(), known.count);
            }
            Ok(name) => {
                assert!(!name.cached && !name.addresses.is_empty());
                known.count = name.addresses.len();
                known.fresh_until = now + self.ttl_ms[&n] * 1_000;
            }
            Err(failure) => {
                assert!(failure.tries <= 3);
                known.failed_until = now + 60 * SECOND;
            }
        }
    }

    /// Nothing more comes from the network; everybody is answered and everything given back.
    fn end(mut self) {
        while !self.bench.opening.is_empty() {
            self.bench.open(0);
            self.bench.pump();
        }
        self.bench.opens_at_once = true;
        for _ in 0..30 {
            self.bench.pass(500_000);
            self.judge();
        }
        assert!(self.owed.is_empty(), "never answered: {:?}", self.owed);
        let stats = self.bench.resolver.stats();
        assert_eq!((stats.flights, stats.hosts), (0, HOSTS as u64));
        assert_eq!(
            stats.sockets,
            self.bench.upstreams.len() as u64,
            "no socket is lost"
        );
        self.hosts
            .iter()
            .for_each(|host| self.bench.resolver.release(*host));
        assert_eq!(self.bench.resolver.stats().hosts, 0);
        assert_eq!(self.bench.resolver.memory_bytes(), 0);
    }
}

fn host_of(sent: &Sent) -> usize {
    let name = sent.name();
    name[1..2].parse().expect("names of the trace are h0 to h4")
}

proptest! {
    #[test]
    fn every_waiter_is_answered_once_whatever_the_network_does(
        trace in prop::collection::vec(steps(), 1..120),
        upstreams in 1u8..4,
        policy in prop::sample::select(vec![
            IpPolicy::V4First, IpPolicy::V6First, IpPolicy::V4Only, IpPolicy::V6Only,
        ]),
        opens_at_once in any::<bool>(),
    ) {
        let mut run = Trace::new(upstreams, policy, opens_at_once);
        for step in &trace {
            run.step(step);
        }
        run.end();
    }
}
