//! The resolver under random traces of everything that a network can do to it, judged by what the
//! outside knows.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use model::FailureClass;
use prober::resolver::{DnsEvent, HostId, IpPolicy, Lookup};
use proptest::prelude::*;

use super::{Answer, Bench, SECOND, Say, Sent, framed};

/// One thing that happens; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Lookup(usize),
    Forget(usize),
    Say(usize, Say),
    Forge(usize, u8),
    Open(usize),
    Fail(usize, i32),
    /// An answer over a stream, in two pieces.
    Stream(usize, Say, usize),
    StreamEnd(usize, Option<i32>),
    /// An answer in lower case.
    Misspell(usize),
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
        1 => prop::sample::select(vec![
            ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::Refused,
        ])
        .prop_map(|code| Say::Code(code, 60)),
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
        1 => (any.clone(), prop_oneof![Just(111), Just(24)])
            .prop_map(|(n, errno)| Step::Fail(n, errno)),
        4 => (any.clone(), says(), any.clone()).prop_map(|(n, say, at)| Step::Stream(n, say, at)),
        1 => (any.clone(), prop::option::of(Just(111)))
            .prop_map(|(n, errno)| Step::StreamEnd(n, errno)),
        1 => any.clone().prop_map(Step::Misspell),
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
    /// Old addresses were given while the question may have gone on: what came of it shows later.
    standing: bool,
    /// Until when any answer that was said would be fresh.
    said_until: u64,
}

impl Known {
    /// The question that went on may have brought so many others, as fresh as was said.
    fn catch_up(&mut self, count: usize) {
        if self.standing {
            self.count = count;
            self.fresh_until = self.fresh_until.max(self.said_until);
        }
    }
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
            Step::Stream(n, say, at) => self.stream(n, say, at),
            Step::StreamEnd(n, errno) => self.stream_end(n, errno),
            Step::Misspell(n) => {
                if let Some(sent) = self.pick(n) {
                    let say = Say::Addresses(2, 100);
                    self.note_ttl(&sent, say);
                    let bytes = sent.lower_reply(say);
                    let socket = sent.socket;
                    self.bench.event(DnsEvent::Datagram {
                        socket,
                        bytes: &bytes,
                    });
                }
            }
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

    fn stream(&mut self, n: usize, say: Say, at: usize) {
        let count = self.bench.streams.len();
        if count == 0 {
            return;
        }
        let stream = self.bench.streams[n % count].clone();
        self.note_ttl(&stream.asked, say);
        let bytes = framed(&stream.asked.reply(say));
        let (first, rest) = bytes.split_at(at % bytes.len());
        self.bench.stream_bytes(stream.number, first);
        self.bench.stream_bytes(stream.number, rest);
        assert!(
            self.bench
                .streams
                .iter()
                .all(|open| open.number != stream.number)
        );
    }

    fn stream_end(&mut self, n: usize, errno: Option<i32>) {
        let count = self.bench.streams.len();
        if count == 0 {
            return;
        }
        let stream = self.bench.streams[n % count].number;
        self.bench.event(match errno {
            Some(errno) => DnsEvent::StreamError { stream, errno },
            None => DnsEvent::StreamEof { stream },
        });
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
            let host = host_of(sent);
            self.ttl_ms.insert(host, ms);
            let until = self.bench.now.0 + ms * 1_000;
            self.known[host].said_until = self.known[host].said_until.max(until);
        }
    }

    fn lookup(&mut self, n: usize) {
        let waiter = self.next_waiter;
        self.next_waiter += 2;
        let now = self.bench.now.0;
        match self.bench.lookup(self.hosts[n], waiter) {
            Lookup::Hit(name) => {
                let known = &mut self.known[n];
                known.catch_up(name.addresses.len());
                assert_eq!(name.addresses.len(), known.count);
                let stale_us = if name.stale { 3_600 * SECOND } else { 0 };
                assert!(now < known.fresh_until + stale_us, "served too old");
            }
            Lookup::Failed(failure) => {
                assert_ne!(failure.class, FailureClass::ConnectLocal);
                let known = &self.known[n];
                assert!(
                    known.standing || now < known.failed_until,
                    "remembered too long"
                );
            }
            Lookup::Waiting => {
                self.owed.insert(waiter, n);
                if self.known[n].observer.is_none() {
                    // A flight begins: the queries before this one were another's.
                    self.tries.retain(|(host, _), _| *host != n);
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
                known.catch_up(name.addresses.len());
                assert!(name.cached && now < known.fresh_until + 3_600 * SECOND);
                assert_eq!(name.addresses.len(), known.count);
                known.standing = true;
            }
            Ok(name) => {
                known.standing = false;
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
        assert_eq!((stats.streams, self.bench.streams.len()), (0, 0));
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
            IpPolicy::Both,
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
