//! Servers that refuse a session which they gave out: what a check makes of it, and what is
//! remembered of them.

use prober::{Conn, ErrnoAt, SharedConfig, TlsPolicy};

use super::*;
use crate::driver::config;

const REFUSED: u16 = flags::TLS_SESSION_REFUSED;
const RESUMED: u16 = flags::TLS_RESUMED;
const EMFILE: i32 = 24;
const ECONNREFUSED: i32 = 111;
const FULL_EVERY_S: u64 = 900;
/// Every event takes so long.
const STEP_US: u64 = 1_000;

/// What a connection meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    /// The server itself.
    Good,
    /// The server, which breaks the connection after so many bytes of its own.
    Torn(usize),
    /// The server without our certificate: it turns to a full handshake and shows another one.
    Stranger,
    /// These bytes, then a close.
    Says(&'static [u8]),
    Resets,
    Silent,
    Fails(i32, ErrnoAt),
}

use Peer::{Fails, Good, Resets, Says, Silent, Stranger, Torn};

fn alert(number: u8) -> Peer {
    Says(vec![21, 3, 3, 0, 2, 2, number].leak())
}

/// A client and the servers that it may meet.
struct Bench {
    shared: Shared,
    good: Arc<ServerConfig>,
    stranger: Arc<ServerConfig>,
}

impl Bench {
    fn new(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let authority = authority();
        let settings = SharedConfig {
            tls: TlsPolicy {
                full_every_s: FULL_EVERY_S as u32,
                ..TlsPolicy::default()
            },
            ..config(Roots::Pem(authority.pem.clone().into_bytes()))
        };
        let server = |shown| Arc::new(server_config(shown, versions));
        Self {
            shared: Shared::new(settings).expect("valid settings"),
            good: server(signed(&authority, (2025, 2027))),
            stranger: server(self_signed()),
        }
    }

    /// A check that meets `peers`, so many seconds after 2026 began.
    fn check(&self, peers: &[Peer], at_s: u64) -> Seen {
        let spec = AttemptSpec {
            path: "/page",
            ..spec(Scheme::Https, HOST)
        };
        let mut clock_us = at_s * 1_000_000;
        let attempt = Attempt::start(&spec, &self.shared, Buffers::default(), at(clock_us));
        let mut seen = Seen {
            attempt,
            did: Vec::new(),
            heard: Vec::new(),
        };
        let mut line = None;
        for _ in 0..10_000 {
            let command = seen.attempt.next();
            clock_us += STEP_US;
            if command == Command::Done {
                seen.note_request(line);
                return seen;
            }
            self.obey(&mut seen, command, peers, &mut line, at(clock_us));
        }
        panic!("it never ends: {:?}", seen.did);
    }

    fn obey(
        &self,
        seen: &mut Seen,
        command: Command,
        peers: &[Peer],
        line: &mut Option<Line>,
        now: Now,
    ) {
        let resolved = name(&[local(9)]);
        let piece: Vec<u8>;
        let event = match command {
            Command::Resolve => Event::Resolved(Ok(&resolved)),
            Command::Connect { conn, .. } => {
                seen.note_request(line.take());
                let peer = peers[seen.connections()];
                seen.did.push(("connect", conn.0));
                if let Fails(errno, at) = peer {
                    Event::ConnectError { conn, errno, at }
                } else {
                    let flight = seen.attempt.first_flight(conn).to_vec();
                    let sent = !flight.is_empty();
                    let opened = line.insert(self.line(peer));
                    opened.take(&flight);
                    Event::Connected { conn, sent }
                }
            }
            Command::Send { conn } => {
                let buffer = seen.attempt.take_outgoing(conn);
                line.as_mut().expect("a connection").take(&buffer);
                Event::Sent { conn, buffer }
            }
            Command::Recv { conn } => {
                let line = line.as_mut().expect("a connection");
                piece = line.give();
                line.read(conn, &piece)
            }
            Command::CloseConn { conn } => return seen.did.push(("close", conn.0)),
            Command::Timer { .. } | Command::Done => return,
            Command::Widen | Command::Keep { .. } | Command::Wait => {
                panic!("nothing outstanding: {:?}", seen.did)
            }
        };
        seen.attempt.on(event, &self.shared, now);
    }

    fn line(&self, peer: Peer) -> Line {
        let config = if peer == Stranger {
            &self.stranger
        } else {
            &self.good
        };
        let connection = ServerConnection::new(config.clone()).expect("a server");
        let server = Server {
            connection,
            bytes: Vec::new(),
            request: Vec::new(),
            answered: false,
        };
        let given = 0;
        Line {
            peer,
            server,
            given,
        }
    }
}

/// One connection.
struct Line {
    peer: Peer,
    server: Server,
    given: usize,
}

impl Line {
    fn take(&mut self, bytes: &[u8]) {
        match self.peer {
            Good | Stranger | Torn(_) => self.server.receive(bytes, POLITE),
            Says(said) if !bytes.is_empty() && self.given == 0 => {
                self.server.bytes = said.to_vec();
            }
            Says(_) | Resets | Silent | Fails(..) => {}
        }
    }

    fn give(&mut self) -> Vec<u8> {
        let most = match self.peer {
            Torn(limit) => limit - self.given,
            _ => usize::MAX,
        };
        let count = self.server.bytes.len().min(most);
        self.given += count;
        self.server.bytes.drain(..count).collect()
    }

    fn read<'a>(&self, conn: Conn, piece: &'a [u8]) -> Event<'a> {
        match self.peer {
            _ if !piece.is_empty() => Event::Bytes { conn, bytes: piece },
            Resets => Event::IoError {
                conn,
                errno: ECONNRESET,
            },
            Silent => Event::Deadline { ours: false },
            _ => Event::Eof { conn },
        }
    }
}

/// A finished attempt, and what it did.
struct Seen {
    attempt: Attempt,
    did: Vec<(&'static str, u8)>,
    /// The requests that the server could read.
    heard: Vec<String>,
}

impl Seen {
    fn note_request(&mut self, line: Option<Line>) {
        let request = line.map(|line| line.server.request).unwrap_or_default();
        if !request.is_empty() {
            self.heard.push(String::from_utf8(request).expect("text"));
        }
    }

    fn connections(&self) -> usize {
        self.did
            .iter()
            .filter(|(what, _)| *what == "connect")
            .count()
    }

    /// Class, status, and which of the flags of sessions are set.
    fn told(&self) -> (Option<FailureClass>, u16, u16) {
        let report = self.attempt.report();
        let flags = report.flags & (REFUSED | RESUMED);
        (report.class, report.status, flags)
    }

    fn text(&self) -> String {
        self.attempt.evidence(Slot(0), Generation(0), 0).text
    }
}

const VERSIONS: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];

/// Every way in which a server may refuse a session without a word of a full handshake.
fn refusals() -> Vec<Peer> {
    let mut refusals: Vec<Peer> = [0, 10, 40, 47, 51, 70, 80, 112].map(alert).into();
    refusals.extend([
        Says(b""),
        Says(b"HTTP/1.1 400 No\r\n\r\n"),
        Resets,
        Torn(1),
        Torn(30),
    ]);
    refusals
}

#[test]
fn a_refused_session_costs_a_second_connection_and_no_verdict() {
    for versions in VERSIONS {
        for refusal in refusals() {
            let bench = Bench::new(versions);
            let first = bench.check(&[Good], 0);
            assert_eq!(first.told(), (None, 200, 0));
            let second = bench.check(&[refusal, Good], 1);
            assert_eq!(second.told(), (None, 200, REFUSED), "{refusal:?}");
            let expected = [("connect", 0), ("close", 0), ("connect", 1), ("close", 1)];
            assert_eq!(second.did, expected, "{refusal:?}");
            assert_eq!(second.heard, first.heard, "the same request");
            assert!(first.heard[0].starts_with("GET /page HTTP/1.1\r\nHost: e.test:8080\r\n"));
            let phases = second.attempt.report().phases;
            // Resolve, connect, then: read, close, connect, send, read at least.
            assert_eq!(
                (phases.dns_us, phases.connect_us),
                (STEP_US as u32, STEP_US as u32)
            );
            assert!(phases.tls_us >= 5 * STEP_US as u32, "{phases:?}");
        }
    }
}

#[test]
fn the_last_flights_of_a_resumed_handshake_that_break_are_shaken_anew_too() {
    for versions in VERSIONS {
        let bench = Bench::new(versions);
        bench.check(&[Good], 0);
        let whole = bench.check(&[Good], 1);
        assert_eq!(whole.told(), (None, 200, RESUMED));
        // The server hello has come, with the session accepted.
        let torn = bench.check(&[Torn(100), Good], 2);
        assert_eq!(torn.told(), (None, 200, REFUSED));
    }
}

#[test]
fn what_fails_again_is_told_as_the_full_handshake_failed() {
    use FailureClass as C;
    const PROTOCOL_VERSION: u8 = 70;
    for (second, later, class, has) in [
        (alert(80), None, C::TlsAlert, "TLS alert 80"),
        (Stranger, None, C::TlsUntrusted, "trusted authority"),
        (
            Says(b"HTTP/1.1 400 No\r\n\r\n"),
            None,
            C::TlsHandshake,
            "not TLS",
        ),
        (Silent, None, C::TlsTimeout, "in time"),
        // A refusal of the full hello is looked at as ever.
        (
            alert(PROTOCOL_VERSION),
            Some(alert(PROTOCOL_VERSION)),
            C::TlsHandshake,
            "TLS alert 70",
        ),
        (
            Says(b""),
            Some(Resets),
            C::TlsHandshake,
            "instead of an answer",
        ),
    ] {
        let bench = Bench::new(BOTH);
        bench.check(&[Good], 0);
        let peers: Vec<Peer> = [Some(alert(40)), Some(second), later]
            .into_iter()
            .flatten()
            .collect();
        let seen = bench.check(&peers, 1);
        assert_eq!(seen.told(), (Some(class), 0, REFUSED), "{second:?}");
        assert_eq!(seen.connections(), peers.len(), "{second:?}");
        let text = seen.text();
        assert!(text.contains(has), "{text}");
        assert!(text.contains("it was the second handshake"), "{text}");
        assert!(seen.heard.is_empty());
    }
}

#[test]
fn without_a_second_connection_the_first_word_counts_unless_we_are_to_blame() {
    use FailureClass as C;
    for (refusal, fails, class, has) in [
        (
            alert(80),
            Fails(ECONNREFUSED, ErrnoAt::Async),
            C::TlsAlert,
            "TLS alert 80",
        ),
        (
            Says(b""),
            Fails(ECONNREFUSED, ErrnoAt::Async),
            C::TlsHandshake,
            "was closed",
        ),
        (
            alert(80),
            Fails(EMFILE, ErrnoAt::Syscall),
            C::ConnectLocal,
            "errno 24",
        ),
    ] {
        let bench = Bench::new(BOTH);
        bench.check(&[Good], 0);
        let seen = bench.check(&[refusal, fails], 1);
        assert_eq!(seen.told(), (Some(class), 0, REFUSED));
        let text = seen.text();
        assert!(text.contains(has), "{text}");
        let noted = text.contains("a second connection for a full handshake did not come about");
        assert_eq!(noted, class != C::ConnectLocal, "{text}");
    }
}

#[test]
fn a_handshake_that_does_not_stand_on_a_session_is_not_shaken_twice() {
    for versions in VERSIONS {
        let bench = Bench::new(versions);
        // Nothing is remembered.
        let fresh = bench.check(&[alert(80)], 0);
        assert_eq!(fresh.told(), (Some(FailureClass::TlsAlert), 0, 0));
        // The server turned to a full handshake, and that is what failed.
        bench.check(&[Good], 1);
        let turned = bench.check(&[Stranger], 2);
        assert_eq!(turned.told(), (Some(FailureClass::TlsUntrusted), 0, 0));
        assert_eq!((fresh.connections(), turned.connections()), (1, 1));
    }
}

#[test]
fn a_session_met_with_silence_is_not_offered_again() {
    for versions in VERSIONS {
        let bench = Bench::new(versions);
        bench.check(&[Good], 0);
        let silent = bench.check(&[Silent], 1);
        assert_eq!(silent.told(), (Some(FailureClass::TlsTimeout), 0, 0));
        assert_eq!(bench.check(&[Good], 2).told(), (None, 200, 0));
        assert_eq!(bench.check(&[Good], 3).told(), (None, 200, RESUMED));
    }
}

#[test]
fn a_place_that_refused_a_session_rests_for_as_long_as_between_full_handshakes() {
    for versions in VERSIONS {
        let bench = Bench::new(versions);
        let flags = |peers: &[Peer], at_s| {
            let (class, status, flags) = bench.check(peers, at_s).told();
            assert_eq!((class, status), (None, 200), "at {at_s}");
            flags
        };
        assert_eq!(flags(&[Good], 0), 0);
        assert_eq!(flags(&[alert(40), Good], 10), REFUSED);
        let times = [11, 12, 300, 10 + FULL_EVERY_S - 1];
        let rested = times.map(|at_s| flags(&[Good], at_s));
        assert_eq!(rested, [0; 4], "every handshake is a full one");
        assert_eq!(
            flags(&[Good], 10 + FULL_EVERY_S),
            0,
            "the one that ends the rest"
        );
        assert_eq!(flags(&[Good], 11 + FULL_EVERY_S), RESUMED);
        // Of a clock that was set back nothing is believed.
        assert_eq!(flags(&[alert(40), Good], 12 + FULL_EVERY_S), REFUSED);
        assert_eq!(flags(&[Good], 1), 0);
        assert_eq!(flags(&[Good], 2), RESUMED);
    }
}
