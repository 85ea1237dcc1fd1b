//! The network of a trace: sockets, the queries that went out, and the replies to them. It judges
//! only what a shell could: a socket is opened and closed once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use model::MonoUs;
use model::limits::{DNS_TTL_MAX_MS, DNS_TTL_MIN_MS};

use crate::resolver::{
    DnsCommand, DnsEvent, DnsFailure, DnsSocket, DnsStream, Records, ResolvedName, Resolver,
};

/// An answer of the resolver.
#[derive(Debug)]
pub(super) enum Said {
    Name(Result<ResolvedName, DnsFailure>),
    Records(Result<Records, DnsFailure>),
}

type Answers = Vec<(u64, Said)>;

/// Queries that are remembered: later ones push the oldest out.
const QUERIES_MAX: usize = 16;

/// A query on the wire.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) socket: DnsSocket,
    pub(super) id: u16,
    /// Number of the name that is asked for.
    pub(super) host: usize,
    bytes: Vec<u8>,
    /// Tells the replies to it from those to any other.
    serial: u16,
}

/// What an upstream says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Addresses {
        count: u8,
        ttl_s: u32,
    },
    /// A code without an address, with a SOA of so many seconds.
    Code(ResponseCode, u32),
    /// Addresses that nobody else gives.
    Forged,
    Truncated,
    /// One answer more is claimed than there is.
    Short,
}

impl Reply {
    pub(super) const OTHERS: [Self; 8] = [
        Self::Code(ResponseCode::NoError, 10),
        Self::Code(ResponseCode::NoError, 50),
        Self::Code(ResponseCode::NXDomain, 0),
        Self::Code(ResponseCode::NXDomain, 90),
        Self::Code(ResponseCode::ServFail, 30),
        Self::Code(ResponseCode::Refused, 30),
        Self::Truncated,
        Self::Short,
    ];
}

/// Sockets and queries of a trace.
pub(super) struct Network {
    /// Sockets open without a step of the trace.
    pub(super) opens_at_once: bool,
    /// Whether each is open.
    sockets: BTreeMap<DnsSocket, bool>,
    /// Those that are not closed, each with its question.
    streams: BTreeMap<DnsStream, Query>,
    /// The last ones.
    queries: Vec<Query>,
    /// Every id that was ever used on a socket.
    ids: BTreeSet<(DnsSocket, u16)>,
    sent: usize,
}

impl Network {
    pub(super) fn new(opens_at_once: bool) -> Self {
        Self {
            opens_at_once,
            sockets: BTreeMap::new(),
            streams: BTreeMap::new(),
            queries: Vec::new(),
            ids: BTreeSet::new(),
            sent: 0,
        }
    }

    /// Carries out every command; the answers are the caller's.
    pub(super) fn pump(&mut self, resolver: &mut Resolver, now: MonoUs) -> Answers {
        let mut answers = Vec::new();
        while resolver.has_next() {
            let Some(command) = resolver.next() else {
                break;
            };
            match command {
                DnsCommand::Open { socket, .. } => {
                    let before = self.sockets.insert(socket, self.opens_at_once);
                    assert_eq!(before, None, "a number in use");
                    if self.opens_at_once {
                        resolver.on(DnsEvent::Opened { socket }, now);
                    }
                }
                DnsCommand::Close { socket } => self.close(socket),
                DnsCommand::Send { socket, bytes } => {
                    self.note(socket, &bytes);
                    resolver.recycle(bytes);
                }
                DnsCommand::OpenStream { stream, bytes, .. } => {
                    let (length, message) = bytes.split_at(2);
                    assert_eq!(length, (message.len() as u16).to_be_bytes());
                    let query = self.query(DnsSocket(u16::MAX), message);
                    assert!(
                        self.streams.insert(stream, query).is_none(),
                        "a number in use"
                    );
                    resolver.recycle(bytes);
                }
                DnsCommand::CloseStream { stream } => {
                    assert!(self.streams.remove(&stream).is_some(), "closed twice");
                }
                DnsCommand::Answer { waiter, result } => answers.push((waiter, Said::Name(result))),
                DnsCommand::Records { waiter, result } => {
                    answers.push((waiter, Said::Records(result)));
                }
            }
        }
        answers
    }

    fn note(&mut self, socket: DnsSocket, bytes: &[u8]) {
        assert_eq!(
            self.sockets.get(&socket),
            Some(&true),
            "sent on a closed socket"
        );
        let query = self.query(socket, bytes);
        if self.queries.len() == QUERIES_MAX {
            self.queries.remove(0);
        }
        self.ids.insert((socket, query.id));
        self.queries.push(query);
    }

    fn query(&mut self, socket: DnsSocket, bytes: &[u8]) -> Query {
        let message = Message::from_vec(bytes).expect("our queries decode");
        let asked = message.queries[0].name().to_ascii().to_ascii_lowercase();
        let digit = asked
            .strip_prefix('h')
            .and_then(|rest| rest.strip_suffix(".test."));
        let host = digit.and_then(|digit| digit.parse().ok());
        self.sent += 1;
        Query {
            socket,
            id: message.metadata.id,
            host: host.expect("only names of the trace are asked for"),
            bytes: bytes.to_vec(),
            serial: self.sent as u16,
        }
    }

    /// One of the last queries.
    pub(super) fn pick(&self, which: usize) -> Option<Query> {
        let newest_first = self.queries.iter().rev();
        newest_first.cycle().nth(which % QUERIES_MAX).cloned()
    }

    /// A socket on which nothing was ever asked with the id of `query`, or waits to be.
    pub(super) fn other_socket(&self, query: &Query) -> Option<DnsSocket> {
        let mut open = self.sockets.iter().filter(|(_, open)| **open);
        open.find(|(socket, _)| !self.ids.contains(&(**socket, query.id)))
            .map(|(socket, _)| *socket)
    }

    /// One of the sockets that are being opened.
    pub(super) fn opening(&self, which: usize) -> Option<DnsSocket> {
        let opening = self.sockets.iter().filter(|(_, open)| !**open);
        opening.map(|(socket, _)| *socket).cycle().nth(which % 4)
    }

    pub(super) fn open(&mut self, socket: DnsSocket) {
        self.sockets.insert(socket, true);
    }

    pub(super) fn close(&mut self, socket: DnsSocket) {
        assert!(self.sockets.remove(&socket).is_some(), "closed twice");
    }

    /// One of the streams, with its question.
    pub(super) fn stream(&self, which: usize) -> Option<(DnsStream, Query)> {
        let (stream, query) = self.streams.iter().nth(which % self.streams.len().max(1))?;
        Some((*stream, query.clone()))
    }

    /// Streams that are not closed.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Sockets that are open or being opened.
    pub(super) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Queries since the start.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }
}

impl Query {
    /// The bytes of `reply`, the addresses in it, and how long they live, in ms.
    pub(super) fn reply(&self, reply: Reply) -> (Vec<u8>, Vec<IpAddr>, u64) {
        const INVARIANT: &str = "a reply to our query encodes";
        let mut message = Message::from_vec(&self.bytes).expect("our queries decode");
        message.metadata.message_type = MessageType::Response;
        let owner = message.queries[0].name().clone();
        let (mut addresses, mut life_ms) = (Vec::new(), 0);
        let places = match reply {
            Reply::Addresses { count, .. } => 0..1 + count % 12,
            Reply::Forged => 100..103,
            _ => 0..0,
        };
        for n in places {
            let ttl_s = if let Reply::Addresses { ttl_s, .. } = reply {
                ttl_s
            } else {
                4_000
            };
            let data = self.address(message.queries[0].query_type(), n);
            addresses.extend(data.ip_addr());
            message.add_answer(Record::from_rdata(owner.clone(), ttl_s, data));
            life_ms = (u64::from(ttl_s) * 1_000).clamp(DNS_TTL_MIN_MS, DNS_TTL_MAX_MS);
        }
        if let Reply::Code(code, minimum_s) = reply {
            message.metadata.response_code = code;
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum_s);
            message.add_authority(Record::from_rdata(owner, 3_600, RData::SOA(soa)));
        }
        message.metadata.truncation = matches!(reply, Reply::Truncated);
        let mut bytes = message.to_vec().expect(INVARIANT);
        // One answer more is claimed than there is.
        bytes[7] += u8::from(matches!(reply, Reply::Short));
        (bytes, addresses, life_ms)
    }

    /// An address that tells the name and the query.
    fn address(&self, kind: RecordType, n: u8) -> RData {
        let host = self.host as u8;
        let [high, low] = self.serial.to_be_bytes();
        if kind == RecordType::A {
            RData::A(A::new(128 + host, high, low, n))
        } else {
            let host = 0xfd00 + u16::from(host);
            RData::AAAA(AAAA::new(host, self.serial, 0, 0, 0, 0, 0, n.into()))
        }
    }
}
