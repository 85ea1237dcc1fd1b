//! Servers that never stop sending, in the simulator: each costs a bounded number of bytes and its
//! deadline, however fast or slow it sends, in clear and over TLS.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use flate2::Compression;
use flate2::write::GzEncoder;
use model::inbox::{CoreCommand, OneShotReport};
use model::limits::{
    ATTEMPT_READ_MAX_BYTES, ATTEMPT_READ_MORE_BYTES, BODY_MAX_BYTES, HEAD_MAX_BYTES, READ_BYTES,
};
use model::{FailureClass as C, MonoUs, TargetSpec, Ticket};
use rustls::{ServerConfig, ServerConnection};

use super::peers::{SITE, Tls, dns_answer};
use super::{shared, target_of};
use crate::world::{Bench, GRID_ZERO, Sizes, bench_in};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const TIMEOUT_MS: i64 = 500;
/// A deadline is judged a tick after the one in which it was due.
const JUDGED_WITHIN_US: u32 = 15_000;
/// More than any check may read: what is "endless" here.
const FOREVER_BYTES: usize = 2 * 1024 * 1024;
/// What is read of a head at most; a read may bring more.
const HEAD: u64 = (HEAD_MAX_BYTES + READ_BYTES) as u64;
/// What is read of everything at most.
const ALL: u64 = 1024 * 1024;
/// Where the body has to be seen as far as it is looked at.
const ALL_AND_BODY: u64 = ALL + ATTEMPT_READ_MORE_BYTES as u64;

/// What TLS adds to that: a handshake, and that a record must be whole to be read.
const TLS: u64 = 32 * 1024;

/// How fast a server sends: bytes of a piece, one every 10 µs.
const FAST: usize = READ_BYTES;
/// 100 kB a second: less than any limit within the deadline.
const SLOW: usize = 1;

/// What a server sends, and what a check of it comes to.
struct Flow {
    name: &'static str,
    /// Sent once.
    start: String,
    /// Sent for ever after it.
    again: Vec<u8>,
    keyword: Option<&'static str>,
    /// When the bytes come fast, and when they come slowly.
    classes: [Option<C>; 2],
    status: u16,
    bytes_max: u64,
}

impl Flow {
    /// Of a head without an end.
    fn head(name: &'static str, start: &str, again: &str, class: C) -> Self {
        Self {
            name,
            start: start.to_owned(),
            again: again.as_bytes().to_vec(),
            keyword: None,
            classes: [Some(class), Some(C::HttpTimeout)],
            status: 0,
            bytes_max: HEAD,
        }
    }

    /// Of a body without an end, that nobody looks into: its head counts into what is read. `start`
    /// follows the status line.
    fn body(name: &'static str, start: &str, again: &[u8]) -> Self {
        Self {
            name,
            start: format!("HTTP/1.1 200 OK\r\n{start}"),
            again: again.to_vec(),
            keyword: None,
            classes: [None, None],
            status: 200,
            bytes_max: ALL,
        }
    }

    /// A target looks for what never comes. Framing takes nothing from the mebibyte that is
    /// searched: only the limit of the whole check ends what is mostly framing.
    fn searched(self) -> Self {
        let framed = self.start.contains("chunked");
        Self {
            keyword: Some("a text that never comes"),
            classes: [Some(C::BodyKeywordMissing), Some(C::HttpTimeout)],
            bytes_max: if framed {
                ALL_AND_BODY
            } else {
                BODY_MAX_BYTES + READ_BYTES as u64
            },
            ..self
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.start.clone().into_bytes();
        while bytes.len() < FOREVER_BYTES {
            bytes.extend_from_slice(&self.again);
        }
        bytes
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

fn heads() -> Vec<Flow> {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const LARGE: C = C::HttpHeaderTooLarge;
    let interim = |bytes: usize| format!("HTTP/1.1 103 E\r\nA: {}\r\n\r\n", "x".repeat(bytes));
    let sixteen = interim(60_000).repeat(16) + OK + "\r\n";
    vec![
        Flow::head("fields", OK, "A: b\r\n", LARGE),
        Flow::head("one field's name", OK, "x", LARGE),
        Flow::head("one field's value", "HTTP/1.1 200 OK\r\nA: ", "x", LARGE),
        Flow::head(
            "lines of one field",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            " c\r\n",
            LARGE,
        ),
        Flow::head("a reason", "HTTP/1.1 200 ", "x", LARGE),
        Flow::head("empty lines", "", "\r\n", LARGE),
        Flow {
            // All of them fit long before the deadline.
            classes: [Some(C::HttpMalformed); 2],
            ..Flow::head("interim responses", "", &interim(1), C::HttpMalformed)
        },
        Flow {
            bytes_max: 17 * HEAD,
            ..Flow::head(
                "long interim responses",
                "",
                &interim(60_000),
                C::HttpMalformed,
            )
        },
        Flow {
            classes: [None, Some(C::HttpTimeout)],
            status: 200,
            bytes_max: ALL,
            ..Flow::head(
                "sixteen long interim responses, and a body",
                &sixteen,
                "x",
                LARGE,
            )
        },
    ]
}

fn bodies() -> Vec<Flow> {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::default());
    bomb.write_all(&vec![0; 2 * FOREVER_BYTES]).expect("memory");
    let bomb = bomb.finish().expect("memory");
    let mut flows = Vec::new();
    for searched in [false, true] {
        let both = [
            Flow::body("a body to the close", "\r\n", b"x"),
            Flow::body(
                "an exabyte",
                "Content-Length: 1000000000000000000\r\n\r\n",
                b"x",
            ),
            Flow::body("chunks", CHUNKED, b"4\r\nwiki\r\n"),
            Flow::body("tiny chunks", CHUNKED, b"1\r\nx\r\n"),
            Flow::body("one chunk", &format!("{CHUNKED}FFFFFFFFFFFFFFF\r\n"), b"x"),
            Flow::body("a chunk's extension", &format!("{CHUNKED}5;"), b"x"),
            Flow::body("a chunk's size", CHUNKED, b"0"),
            Flow::body("trailers", &format!("{CHUNKED}0\r\n"), b"A: b\r\n"),
        ];
        let look = |flow: Flow| if searched { flow.searched() } else { flow };
        flows.extend(both.into_iter().map(look));
    }
    flows.push(Flow {
        // A mebibyte of it is decoded long before the deadline.
        classes: [Some(C::BodyKeywordMissing); 2],
        ..Flow::body(
            "what gzip blows up",
            "Content-Encoding: gzip\r\n\r\n",
            &bomb,
        )
        .searched()
    });
    flows.push(Flow {
        bytes_max: HEAD,
        ..Flow::body(
            "events",
            "Content-Type: text/event-stream\r\n\r\n",
            b"data: x\n\n",
        )
    });
    flows
}

/// A server of one flow.
struct Hose {
    bytes: Arc<[u8]>,
    manner: Manner,
    piece: usize,
    config: Arc<ServerConfig>,
    sessions: HashMap<Peer, ServerConnection>,
}

/// How the bytes go over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// In records of the usual size.
    Records,
    /// Each byte in a record of its own.
    TinyRecords,
    /// Instead of the server's part of the handshake.
    Raw,
}

impl Hose {
    fn reply_tls(&mut self, peer: Peer, mut sent: &[u8]) -> Vec<u8> {
        let new = || ServerConnection::new(Arc::clone(&self.config)).expect("a valid config");
        let session = self.sessions.entry(peer).or_insert_with(new);
        session.set_buffer_limit(None);
        let mut request = Vec::new();
        while !sent.is_empty() {
            session.read_tls(&mut sent).expect("memory is readable");
            // The core may end it by an alert.
            let _ = session.process_new_packets();
            // Only what was decrypted so far is wanted: the error says that there is no more.
            let _ = session.reader().read_to_end(&mut request);
        }
        let record = if self.manner == Manner::Records {
            16_384
        } else {
            1
        };
        let mut bytes = Vec::new();
        for piece in self
            .bytes
            .chunks(record)
            .take_while(|_| !request.is_empty())
        {
            session
                .writer()
                .write_all(piece)
                .expect("memory is writable");
            session.write_tls(&mut bytes).expect("memory is writable");
            if bytes.len() > FOREVER_BYTES {
                break;
            }
        }
        while session.wants_write() {
            session.write_tls(&mut bytes).expect("memory is writable");
        }
        bytes
    }
}

impl World for Hose {
    fn dial(&mut self, _address: SocketAddr, _now: MonoUs) -> Dial {
        Dial::Accept(100)
    }

    fn reply(&mut self, peer: Peer, sent: &[u8], _now: MonoUs) -> Reply {
        let speaks_tls = peer.address.port() == HTTPS && self.manner != Manner::Raw;
        let bytes = if speaks_tls {
            self.reply_tls(peer, sent)
        } else {
            self.bytes.to_vec()
        };
        Reply {
            after_us: 100,
            bytes: bytes.into(),
            piece: self.piece,
            end: End::Silence,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        answer.extend_from_slice(&dns_answer(query));
        Some(100)
    }
}

/// A core and one server, and what a check of it read.
struct Rig {
    tls: Tls,
    /// Of the server.
    config: ServerConfig,
}

impl Rig {
    fn new() -> Self {
        let tls = Tls::new();
        let mut config = ServerConfig::clone(&tls.good);
        config.send_tls13_tickets = 0;
        Self { tls, config }
    }

    /// Checks `spec` against a server of `bytes`: the report, and the bytes that were read.
    fn check(
        &self,
        spec: &TargetSpec,
        bytes: &[u8],
        manner: Manner,
        piece: usize,
    ) -> (OneShotReport, u64) {
        let hose = Hose {
            bytes: bytes.into(),
            manner,
            piece,
            config: Arc::new(self.config.clone()),
            sessions: HashMap::new(),
        };
        let mut bench = bench_in(hose, &Sizes::default(), GRID_ZERO, shared(&self.tls));
        bench.tell(CoreCommand::OneShot {
            target: target_of(spec),
            ticket: Ticket(1),
        });
        let report = run(&mut bench);
        (report, bench.sim.core().account().bytes_in)
    }
}

/// Runs until the check is over, for at most twice its deadline.
fn run(bench: &mut Bench<Hose>) -> OneShotReport {
    let until_us = TIMEOUT_MS as u64 * 2_000;
    while bench.sim.now().mono.0 < until_us {
        let next = MonoUs(bench.sim.now().mono.0 + 1_000);
        bench.sim.run_until(next);
        if let Ok(report) = bench.one_shots.try_recv() {
            return report;
        }
    }
    panic!("the check goes on after its deadline")
}

fn spec(url: String) -> TargetSpec {
    TargetSpec {
        url,
        timeout_ms: Some(TIMEOUT_MS),
        ..TargetSpec::default()
    }
}

fn is_in_time(report: &OneShotReport) -> bool {
    let total_us = report.outcome.phases.total_us;
    total_us <= TIMEOUT_MS as u32 * 1_000 + JUDGED_WITHIN_US
}

#[test]
fn a_server_that_sends_for_ever_costs_a_mebibyte_and_its_deadline() {
    let rig = Rig::new();
    for flow in heads().into_iter().chain(bodies()) {
        let bytes = flow.bytes();
        for (scheme, port, added) in [("http", HTTP, 0), ("https", HTTPS, TLS)] {
            let target = TargetSpec {
                keyword: flow.keyword.map(str::to_owned),
                ..spec(format!("{scheme}://{SITE}:{port}/"))
            };
            for (piece, class) in [FAST, SLOW].into_iter().zip(flow.classes) {
                let (report, read) = rig.check(&target, &bytes, Manner::Records, piece);
                let told = format!("{scheme}, {}, {piece} B: {report:?}", flow.name);
                assert_eq!(report.outcome.failure(), class, "{told}");
                let timed_out = class == Some(C::HttpTimeout);
                let status = report.outcome.status;
                assert!(
                    status == flow.status || (timed_out && status == 0),
                    "{told}"
                );
                let all = match flow.keyword {
                    Some(_) => ALL_AND_BODY,
                    None => ALL,
                };
                assert!(
                    read <= (flow.bytes_max + added).min(all),
                    "{read} B: {told}"
                );
                assert!(is_in_time(&report), "{told}");
            }
        }
    }
}

#[test]
fn records_of_one_byte_are_read_up_to_the_limit_of_an_attempt() {
    let rig = Rig::new();
    let target = spec(format!("https://{SITE}:{HTTPS}/"));
    for (flow, class) in [
        (Flow::body("a body", "\r\n", b"x"), None),
        (
            Flow::head(
                "a value",
                "HTTP/1.1 200 OK\r\nA: ",
                "x",
                C::HttpHeaderTooLarge,
            ),
            Some(C::HttpHeaderTooLarge),
        ),
    ] {
        let (report, read) = rig.check(&target, &flow.bytes(), Manner::TinyRecords, FAST);
        assert_eq!(report.outcome.failure(), class, "{report:?}");
        assert!(read <= ALL, "{read} B: {}", flow.name);
        assert!(is_in_time(&report), "{report:?}");
    }
}

#[test]
fn a_body_that_is_to_be_seen_whole_is_read_further_and_not_for_ever() {
    let rig = Rig::new();
    let length = format!("Content-Length: {BODY_MAX_BYTES}\r\n\r\n");
    let flow = Flow::body("a mebibyte", &length, b"x");
    for (scheme, port, manner, least) in [
        ("http", HTTP, Manner::Records, BODY_MAX_BYTES),
        ("https", HTTPS, Manner::Records, BODY_MAX_BYTES),
        (
            "https",
            HTTPS,
            Manner::TinyRecords,
            ALL_AND_BODY - READ_BYTES as u64,
        ),
    ] {
        let target = spec(format!("{scheme}://{SITE}:{port}/"));
        let (report, read) = rig.check(&target, &flow.bytes(), manner, FAST);
        assert_eq!(report.outcome.failure(), None, "{manner:?} {report:?}");
        assert!(
            (least..=ALL_AND_BODY).contains(&read),
            "{read} B: {manner:?}"
        );
        assert!(is_in_time(&report), "{report:?}");
    }
}

#[test]
fn tickets_without_an_end_are_no_answer() {
    // Of the server's tickets: with the header of its record, one fills it to the last byte.
    const ONE_PER_RECORD: usize = 86;
    let mut rig = Rig::new();
    rig.config.send_tls13_tickets = 20_000;
    let target = spec(format!("https://{SITE}:{HTTPS}/"));
    let limit = u64::from(ATTEMPT_READ_MAX_BYTES);
    for (record, class, bytes) in [
        // Messages across records are joined, and no more than 64 KiB of them.
        (None, C::TlsHandshake, 0..=HEAD + TLS),
        (Some(ONE_PER_RECORD), C::HttpHeaderTooLarge, limit..=ALL),
    ] {
        rig.config.max_fragment_size = record;
        let (report, read) = rig.check(&target, b"", Manner::Records, FAST);
        assert_eq!(report.outcome.failure(), Some(class), "{report:?}");
        assert!(bytes.contains(&read), "{read} B: {report:?}");
        assert!(is_in_time(&report), "{report:?}");
    }
}

#[test]
fn noise_instead_of_a_handshake_is_told_from_its_first_bytes() {
    let rig = Rig::new();
    // Content type, version, length, and what the record has.
    for record in [
        &b"\x16\x03\x03\x00\x04\x02\xff\xff\xff"[..],
        b"\x15\x03\x03\x00\x02\x01\x5a",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\x00\x01x",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\0",
    ] {
        let bytes = record.repeat(FOREVER_BYTES / record.len());
        for scheme in ["https", "tls"] {
            let target = spec(format!("{scheme}://{SITE}:{HTTPS}"));
            let (report, read) = rig.check(&target, &bytes, Manner::Raw, FAST);
            assert_eq!(
                report.outcome.failure(),
                Some(C::TlsHandshake),
                "{record:?} {report:?}"
            );
            assert!(read <= 2 * HEAD, "{read} B: {record:?}");
            assert!(is_in_time(&report), "{report:?}");
        }
    }
}

#[test]
fn a_port_that_talks_for_ever_is_heard_for_a_kibibyte() {
    let rig = Rig::new();
    let target = TargetSpec {
        send: Some("hello".to_owned()),
        expect: vec!["a text that never comes".to_owned()],
        ..spec(format!("tcp://{SITE}:{HTTP}"))
    };
    let bytes = b"x".repeat(FOREVER_BYTES);
    let (report, read) = rig.check(&target, &bytes, Manner::Raw, FAST);
    assert_eq!(
        report.outcome.failure(),
        Some(C::BodyKeywordMissing),
        "{report:?}"
    );
    assert!(
        read <= READ_BYTES as u64 && is_in_time(&report),
        "{report:?}"
    );
}
