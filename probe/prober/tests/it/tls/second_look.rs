//! The second look, against servers that are a script: what they say to our hello, and what to the
//! old one.

use model::time::Now;
use prober::{Conn, ErrnoAt};

use super::*;
use crate::driver::config;

const ALERT_40: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
const ALERT_70: &[u8] = &[21, 3, 3, 0, 2, 2, 70];
const EMFILE: i32 = 24;
const ECONNREFUSED: i32 = 111;
const DAY_US: u64 = 86_400 * 1_000_000;
/// Every event takes so long.
const STEP_US: u64 = 1_000;

/// A suite of TLS 1.2 that we lack, and one that we have.
const CBC: u16 = 0xc013;
const GCM: u16 = 0xc02f;

fn server_hello(version: u16, suite: u16) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([1; 32]);
    body.push(0);
    body.extend(suite.to_be_bytes());
    body.push(0);
    let mut bytes = vec![22, 3, 1, 0, body.len() as u8 + 4, 2, 0, 0, body.len() as u8];
    bytes.extend(body);
    bytes
}

/// What comes of one connection.
#[derive(Clone)]
enum Answer {
    /// These bytes, then a close.
    Says(Vec<u8>),
    /// These bytes, then this errno.
    Breaks(Vec<u8>, i32),
    /// Nothing: the deadline passes.
    Silence,
    /// It does not come about.
    Fails(i32, ErrnoAt),
    /// Nothing: the attempt is cancelled.
    Cancelled,
    /// Nothing, and the time was used up by ourselves.
    Stalled,
}

use Answer::{Breaks, Cancelled, Fails, Says, Silence, Stalled};

fn says(bytes: &[u8]) -> Answer {
    Says(bytes.to_vec())
}

/// A client with the memory of one core.
fn client() -> Shared {
    Shared::new(config(Roots::WebPki)).expect("valid settings")
}

/// A finished attempt, and what it did.
struct Seen {
    attempt: Attempt,
    /// Connects and closes, in order.
    did: Vec<(&'static str, u8)>,
    /// What it sent, by connection in order.
    sent: Vec<Vec<u8>>,
}

impl Seen {
    fn class(&self) -> Option<FailureClass> {
        self.attempt.report().class
    }

    fn connections(&self) -> usize {
        self.sent.len()
    }

    fn text(&self) -> String {
        self.attempt.evidence(Slot(0), Generation(0), 0).text
    }
}

/// How the shell brings things.
#[derive(Clone, Copy)]
struct Shell {
    /// Bytes at once.
    piece: usize,
    /// The first flight goes out with the connect.
    early: bool,
    port: u16,
    at_us: u64,
}

const SHELL: Shell = Shell {
    piece: 1_000,
    early: true,
    port: 443,
    at_us: 0,
};

fn check(shared: &Shared, answers: &[Answer], shell: Shell) -> Seen {
    let spec = AttemptSpec {
        port: shell.port,
        ..spec(Scheme::Https, HostRef::Name("e.test"))
    };
    let mut clock_us = shell.at_us;
    let attempt = Attempt::start(&spec, shared, Buffers::default(), at(clock_us));
    let mut seen = Seen {
        attempt,
        did: Vec::new(),
        sent: Vec::new(),
    };
    let mut left = Vec::new();
    for _ in 0..10_000 {
        let command = seen.attempt.next();
        clock_us += STEP_US;
        if command == Command::Done {
            return seen;
        }
        let now = at(clock_us);
        answer(&mut seen, command, answers, &mut left, shared, shell, now);
    }
    panic!("it never ends: {:?}", seen.did);
}

fn answer(
    seen: &mut Seen,
    command: Command,
    answers: &[Answer],
    left: &mut Vec<u8>,
    shared: &Shared,
    shell: Shell,
    now: Now,
) {
    let resolved = name(&[local(9)]);
    let piece: Vec<u8>;
    let event = match command {
        Command::Resolve => Event::Resolved(Ok(&resolved)),
        Command::Connect { conn, address } => {
            assert_eq!(address.ip(), local(9));
            seen.did.push(("connect", conn.0));
            let flight = seen.attempt.first_flight(conn).to_vec();
            let sent = shell.early && !flight.is_empty();
            seen.sent.push(if sent { flight } else { Vec::new() });
            let answer = &answers[seen.sent.len() - 1];
            *left = match answer {
                Says(bytes) | Breaks(bytes, _) => bytes.clone(),
                _ => Vec::new(),
            };
            match *answer {
                Fails(errno, at) => Event::ConnectError { conn, errno, at },
                _ => Event::Connected { conn, sent },
            }
        }
        Command::Send { conn } => {
            let buffer = seen.attempt.take_outgoing(conn);
            let sent = seen.sent.last_mut().expect("a connection");
            sent.extend_from_slice(&buffer);
            Event::Sent { conn, buffer }
        }
        Command::Recv { conn } => {
            assert_eq!(Some(&("connect", conn.0)), seen.did.last());
            piece = left.drain(..left.len().min(shell.piece)).collect();
            read(&answers[seen.sent.len() - 1], conn, &piece)
        }
        Command::CloseConn { conn } => {
            seen.did.push(("close", conn.0));
            return;
        }
        Command::Timer { .. } | Command::Done => return,
        Command::Widen | Command::Keep { .. } | Command::Wait => {
            panic!("nothing outstanding after {:?}", seen.did)
        }
    };
    seen.attempt.on(event, shared, now);
}

fn read<'a>(answer: &Answer, conn: Conn, piece: &'a [u8]) -> Event<'a> {
    match *answer {
        _ if !piece.is_empty() => Event::Bytes { conn, bytes: piece },
        Breaks(_, errno) => Event::IoError { conn, errno },
        Silence => Event::Deadline { ours: false },
        Stalled => Event::Deadline { ours: true },
        Cancelled => Event::Cancelled,
        Says(_) | Fails(..) => Event::Eof { conn },
    }
}

#[test]
fn a_server_of_tls_1_1_is_deprecated_and_the_look_is_part_of_the_handshake() {
    let shared = client();
    let answers = [says(ALERT_70), Says(server_hello(0x0302, CBC))];
    let seen = check(&shared, &answers, SHELL);
    let order = [("connect", 0), ("close", 0), ("connect", 1), ("close", 1)];
    assert_eq!(seen.did, order);
    let report = seen.attempt.report();
    assert_eq!(report.class, Some(FailureClass::TlsDeprecated));
    assert_eq!((report.status, report.flags & flags::HTTP_VERIFIED), (0, 0));
    let [dns, connect, tls, ttfb, body, total] = report.phases.values();
    assert!(dns.is_some() && ttfb.is_none() && body.is_none());
    // The first connect alone is `connect`; both hellos and the second connect are `tls`.
    assert_eq!(connect, Some(STEP_US as u32));
    let steps = [dns, connect, tls].map(|phase| phase.expect("reached"));
    assert_eq!(total, Some(steps.iter().sum()));
    assert!(tls > Some(4 * STEP_US as u32), "{tls:?}");
    let evidence = seen.attempt.evidence(Slot(0), Generation(0), 0);
    let tls = evidence.tls.expect("TLS");
    assert_eq!(tls.version, "TLSv1.1");
    assert_eq!(tls.cipher, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA");
    let words = "127.0.0.9:443: the server speaks TLSv1.1 at most";
    assert!(evidence.text.starts_with(words), "{}", evidence.text);
}

#[test]
fn each_answer_to_the_old_hello_has_its_class_after_each_refusal_in_any_split() {
    use FailureClass as C;
    let refusals = [
        says(ALERT_40),
        says(ALERT_70),
        says(&[]),
        Breaks(Vec::new(), ECONNRESET),
        // A server that never heard of `supported_versions` answers our hello as well.
        Says(server_hello(0x0302, CBC)),
        Says(server_hello(0x0300, 0x0005)),
    ];
    let looks = [
        (Says(server_hello(0x0301, 0x002f)), C::TlsDeprecated),
        (Says(server_hello(0x0300, 0x0005)), C::TlsDeprecated),
        (Says(server_hello(0x0303, CBC)), C::TlsUnsupported),
        (Says(server_hello(0x0303, GCM)), C::TlsHandshake),
        (Says(server_hello(0x0304, 0x1301)), C::TlsHandshake),
        (says(ALERT_40), C::TlsHandshake),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), C::TlsHandshake),
        (says(&[]), C::TlsHandshake),
        (says(&server_hello(0x0302, CBC)[..20]), C::TlsHandshake),
        (Breaks(vec![22, 3], ECONNRESET), C::TlsHandshake),
    ];
    for refusal in &refusals {
        for (look, class) in &looks {
            for (piece, early) in [(1, true), (3, false), (1_000, true), (1_000, false)] {
                let shell = Shell {
                    piece,
                    early,
                    ..SHELL
                };
                let shared = client_of_test();
                let seen = check(&shared, &[refusal.clone(), look.clone()], shell);
                assert_eq!(seen.class(), Some(*class), "{}", seen.text());
                assert_eq!(seen.connections(), 2);
                // A hello of 1.2 at most: a handshake record, its message, its version.
                assert_eq!(seen.sent[1][..3], [22, 3, 1]);
                assert_eq!(seen.sent[1][9..11], [3, 3]);
                assert!(seen.sent[1].windows(6).any(|bytes| bytes == b"e.test"));
                assert_eq!(shared.tls_second_looks(), 1);
            }
        }
    }
}

/// A client with an authority of its own: reading the Mozilla roots takes longer than the test.
fn client_of_test() -> Shared {
    static PEM: LazyLock<String> = LazyLock::new(|| authority().pem);
    shared_with(Roots::Pem(PEM.clone().into_bytes()))
}

#[test]
fn what_is_no_refusal_of_the_hello_is_not_looked_at_twice() {
    use FailureClass as C;
    let shared = client_of_test();
    let early_part = server_hello(0x0303, GCM);
    let after_hello = [&early_part[..], ALERT_40].concat();
    for (answer, class) in [
        (says(&[21, 3, 3, 0, 2, 2, 112]), C::TlsAlert),
        (says(&ALERT_40[..5]), C::TlsHandshake),
        (says(&early_part[..9]), C::TlsHandshake),
        (Says(after_hello), C::TlsHandshake),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), C::TlsHandshake),
        (Breaks(vec![22], ECONNRESET), C::TlsHandshake),
        (Breaks(Vec::new(), EMFILE), C::ConnectLocal),
        (Breaks(Vec::new(), 110), C::TlsTimeout),
        (Silence, C::TlsTimeout),
    ] {
        let seen = check(&shared, &[answer], SHELL);
        assert_eq!((seen.class(), seen.connections()), (Some(class), 1));
    }
    assert_eq!(shared.tls_second_looks(), 0);
}

#[test]
fn a_look_that_comes_to_nothing_leaves_the_first_word_and_is_not_remembered() {
    use FailureClass as C;
    let shared = client_of_test();
    for (look, class) in [
        (Silence, C::TlsHandshake),
        (Fails(ECONNREFUSED, ErrnoAt::Async), C::TlsHandshake),
        (Fails(EMFILE, ErrnoAt::Syscall), C::ConnectLocal),
        (Breaks(Vec::new(), 110), C::TlsHandshake),
        (Cancelled, C::LocalCancelled),
        (Stalled, C::LocalPressure),
    ] {
        let seen = check(&shared, &[says(ALERT_40), look], SHELL);
        assert_eq!((seen.class(), seen.connections()), (Some(class), 2));
        if class == C::TlsHandshake {
            assert!(seen.text().contains("TLS alert 40"), "{}", seen.text());
        }
    }
    assert_eq!(shared.tls_second_looks(), 0);
}

#[test]
fn a_server_that_sends_without_end_is_read_to_a_kilobyte() {
    let shared = client_of_test();
    let warnings = [21, 3, 1, 0, 2, 1, 112].repeat(10_000);
    let shell = Shell { piece: 7, ..SHELL };
    let seen = check(&shared, &[says(ALERT_40), Says(warnings)], shell);
    assert_eq!(seen.class(), Some(FailureClass::TlsHandshake));
    assert_eq!(shared.tls_second_looks(), 1);
}

#[test]
fn a_finding_is_remembered_for_a_day_of_the_target_and_the_refusal() {
    let shared = client_of_test();
    let old = [says(ALERT_70), Says(server_hello(0x0302, CBC))];
    let visit = |refusal: &Answer, port, at_us| {
        let answers = [refusal.clone(), old[1].clone()];
        let shell = Shell {
            port,
            at_us,
            ..SHELL
        };
        let seen = check(&shared, &answers, shell);
        assert_eq!(seen.class(), Some(FailureClass::TlsDeprecated));
        assert!(seen.text().contains("TLSv1.1 at most"), "{}", seen.text());
        seen.connections()
    };
    for (refusal, port, at_us, connections) in [
        (&old[0], 443, 0, 2),
        (&old[0], 443, STEP_US, 1),
        (&old[0], 8443, STEP_US, 2),
        (&old[0], 443, DAY_US - STEP_US * 20, 1),
        (&old[0], 443, DAY_US + STEP_US * 20, 2),
        (&says(&[]), 443, DAY_US + STEP_US * 40, 2),
        (&says(&[]), 443, DAY_US + STEP_US * 60, 1),
    ] {
        assert_eq!(
            visit(refusal, port, at_us),
            connections,
            "{port} at {at_us}"
        );
    }
    assert_eq!(shared.tls_second_looks(), 2);
}

#[test]
fn a_handshake_that_succeeds_ends_what_was_remembered() {
    let authority = authority();
    let shared = trusting(&authority);
    let refused = |expected| {
        let shell = Shell {
            port: 8080,
            ..SHELL
        };
        let answers = [says(ALERT_40), Says(server_hello(0x0303, CBC))];
        assert_eq!(check(&shared, &answers, shell).connections(), expected);
    };
    refused(2);
    refused(1);
    let config = server_config(signed(&authority, (2025, 2027)), BOTH);
    let good = super::check(HOST, &shared, config, POLITE).report();
    assert_eq!(good.class, None);
    refused(2);
}
