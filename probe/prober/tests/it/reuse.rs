//! Connections that carry more than one request: which are kept, and what becomes of a request
//! that went out on a kept one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::LazyLock;

use model::limits::{HEAD_MAX_BYTES, INTERIM_RESPONSES_MAX};
use model::outcome::{PHASE_ABSENT, Phases, flags};
use model::target::Method;
use model::url::Scheme;
use model::{Generation, Slot};
use prober::resolver::{ResolvedName, Scope};
use prober::{
    Attempt, AttemptSpec, Buffers, Command, Conn, ErrnoAt, Event, HostRef, Report, Roots, Shared,
    SharedConfig,
};
use proptest::prelude::*;

use crate::driver::{self, ECONNREFUSED, ECONNRESET, End, at, http, local, name};
use crate::responses::{self, Case};
use crate::splits::pieces;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HOP: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n";
const ETIMEDOUT: i32 = 110;
/// From one event to the next, in µs.
const PACE_US: u64 = 10;

/// Made once per thread: it is no other one's, and parsing the Mozilla roots takes its time.
fn with_reuse() -> &'static Shared {
    thread_local! {
        static SHARED: &'static Shared = {
            let config = SharedConfig {
                reuse: true,
                ..driver::config(Roots::WebPki)
            };
            Box::leak(Box::new(Shared::new(config).expect("the settings are valid")))
        };
    }
    SHARED.with(|shared| *shared)
}

/// What a connection brings, in pieces, and how it ends.
#[derive(Clone)]
struct Line<'a> {
    pieces: VecDeque<&'a [u8]>,
    end: End,
}

impl<'a> Line<'a> {
    fn new(pieces: impl IntoIterator<Item = &'a [u8]>, end: End) -> Self {
        let pieces = pieces.into_iter().collect();
        Self { pieces, end }
    }

    fn whole(bytes: &'a [u8]) -> Self {
        Self::new([bytes], End::Silence)
    }

    /// What comes of a read; `None` when nothing does.
    fn read(&mut self, conn: Conn) -> Option<Event<'a>> {
        Some(match (self.pieces.pop_front(), self.end) {
            (Some(bytes), _) => Event::Bytes { conn, bytes },
            (None, End::Eof) => Event::Eof { conn },
            (None, End::Errno(errno)) => Event::IoError { conn, errno },
            (None, End::Silence) => return None,
        })
    }
}

/// A shell with connections to come, and some that were kept before.
struct Shell<'a> {
    dns: ResolvedName,
    kept: Vec<Line<'a>>,
    fresh: VecDeque<Line<'a>>,
    send_error: Option<i32>,
}

impl<'a> Shell<'a> {
    fn new(kept: Vec<Line<'a>>, fresh: Vec<Line<'a>>) -> Self {
        Self {
            dns: name(&[local(1)]),
            kept,
            fresh: fresh.into(),
            send_error: None,
        }
    }

    fn play(mut self, spec: &AttemptSpec<'_>, shared: &Shared) -> Played {
        let mut played = Played {
            attempt: Attempt::start(spec, shared, Buffers::default(), at(0)),
            did: Vec::new(),
            sent: Vec::new(),
            kept: Vec::new(),
            asked_us: Vec::new(),
        };
        let mut lines = HashMap::new();
        let mut now_us = 0;
        for _ in 0..1_000_000 {
            let event = match played.attempt.next() {
                Command::Done => return played,
                Command::Resolve => Event::Resolved(Ok(&self.dns)),
                Command::Connect { conn, .. } => {
                    played.asked_us.push(now_us);
                    self.connect(conn, &mut played, &mut lines)
                }
                Command::Send { conn } => self.send(conn, &mut played),
                Command::Recv { conn } => {
                    let line = lines.get_mut(&conn.0).expect("an open connection");
                    match line.read(conn) {
                        Some(event) => event,
                        None => continue,
                    }
                }
                Command::CloseConn { conn } => {
                    assert!(lines.remove(&conn.0).is_some());
                    played.did.push("close");
                    continue;
                }
                Command::Keep { conn, address } => {
                    let line = lines.remove(&conn.0).expect("an open connection");
                    self.keep(&line, address, &mut played);
                    continue;
                }
                Command::Timer { .. } => continue,
                Command::Widen => panic!("there is nothing more to be had"),
                Command::Wait => {
                    now_us = u64::from(spec.timeout_ms) * 1_000;
                    Event::Deadline { ours: false }
                }
            };
            now_us += PACE_US;
            played.attempt.on(event, shared, at(now_us));
        }
        panic!("it never ends: {:?}", played.did)
    }

    fn connect(
        &mut self,
        conn: Conn,
        played: &mut Played,
        lines: &mut HashMap<u8, Line<'a>>,
    ) -> Event<'static> {
        let may_reuse = played.attempt.may_reuse(conn);
        let (did, line, event) = match may_reuse.then(|| self.kept.pop()).flatten() {
            Some(line) => ("reuse", Some(line), Event::Reused { conn }),
            None => (
                "connect",
                self.fresh.pop_front(),
                Event::Connected { conn, sent: false },
            ),
        };
        played.did.push(did);
        let Some(line) = line else {
            return Event::ConnectError {
                conn,
                errno: ECONNREFUSED,
                at: ErrnoAt::Async,
            };
        };
        assert!(lines.insert(conn.0, line).is_none());
        event
    }

    fn send(&mut self, conn: Conn, played: &mut Played) -> Event<'static> {
        let buffer = played.attempt.take_outgoing(conn);
        played.sent.push(buffer.clone());
        match self.send_error.take() {
            Some(errno) => Event::IoError { conn, errno },
            None => Event::Sent { conn, buffer },
        }
    }

    /// Notes what is kept. To the next request it answers with the next line, unless there is
    /// something left to read: that is seen by who looks at it before its next use.
    fn keep(&mut self, line: &Line<'_>, address: SocketAddr, played: &mut Played) {
        let reusable = line.pieces.is_empty();
        played.did.push("keep");
        played.kept.push((address, reusable));
        if reusable {
            self.kept.extend(self.fresh.pop_front());
        }
    }
}

struct Played {
    attempt: Attempt,
    did: Vec<&'static str>,
    sent: Vec<Vec<u8>>,
    /// Where it leads, and whether nothing was left unread.
    kept: Vec<(SocketAddr, bool)>,
    /// When connections were asked for, in µs since the start.
    asked_us: Vec<u64>,
}

impl Played {
    fn report(&self) -> Report {
        self.attempt.report()
    }

    fn class(&self) -> Option<&'static str> {
        self.report().class.map(model::FailureClass::as_str)
    }

    fn is_flagged(&self) -> bool {
        self.report().flags & flags::CONNECTION_REUSED != 0
    }

    fn text(&self) -> String {
        let evidence = self.attempt.evidence(Slot(0), Generation(1), 1);
        evidence.text
    }

    /// Whether another request may ever go out on a connection of it.
    fn reusable(&self) -> Vec<SocketAddr> {
        let reusable = self.kept.iter().filter(|(_, reusable)| *reusable);
        reusable.map(|(address, _)| *address).collect()
    }
}

/// What a check does whose one fresh connection brings `bytes`.
fn answered(spec: &AttemptSpec<'_>, bytes: &[u8]) -> Vec<&'static str> {
    let shell = Shell::new(Vec::new(), vec![Line::whole(bytes)]);
    shell.play(spec, with_reuse()).did
}

#[test]
fn an_answer_that_ends_where_it_should_leaves_its_connection_to_the_next_check() {
    let head = AttemptSpec {
        method: Method::Head,
        ..http()
    };
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n";
    let old = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    for (spec, bytes) in [
        (http(), OK),
        (http(), chunked),
        (http(), old),
        (http(), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (http(), b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n"),
        (http(), b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n"),
        (
            http(),
            b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ),
        (head, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(answered(&spec, bytes), ["connect", "keep"], "{text}");
    }
}

#[test]
fn an_answer_that_may_not_have_ended_there_closes_its_connection() {
    let simple = AttemptSpec {
        head_only: true,
        ..http()
    };
    for (spec, bytes) in [
        (
            http(),
            &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"[..],
        ),
        (http(), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (http(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\noks"),
        (
            http(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nH",
        ),
        (
            http(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n",
        ),
        (http(), b"HTTP/1.1 204 No Content\r\n\r\nx"),
        (http(), b"HTTP/1.1 101 Other\r\n\r\n"),
        (http(), b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        (
            http(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        ),
        (
            http(),
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        ),
        (
            http(),
            b"HTTP/1.1 503 Sorry\r\nContent-Length: 5\r\n\r\nsorry",
        ),
        (simple, OK),
        (http(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(answered(&spec, bytes), ["connect", "close"], "{text}");
    }
}

#[test]
fn without_the_option_and_with_tls_no_connection_is_kept_or_taken() {
    let plain = driver::shared();
    let shell = Shell::new(vec![Line::whole(OK)], vec![Line::whole(OK)]);
    let played = shell.play(&http(), &plain);
    assert_eq!(played.did, ["connect", "close"]);
    assert!(played.sent[0].ends_with(b"\r\nConnection: close\r\n\r\n"));
    for scheme in [Scheme::Https, Scheme::Tls, Scheme::Tcp] {
        let spec = driver::spec(scheme, HostRef::Name("e.test"));
        let eof = Line::new([], End::Eof);
        let shell = Shell::new(vec![eof.clone()], vec![eof]);
        let played = shell.play(&spec, with_reuse());
        let kept = |did: &&str| ["reuse", "keep"].contains(did);
        assert!(
            !played.did.is_empty() && !played.did.iter().any(kept),
            "{scheme:?}"
        );
    }
}

#[test]
fn a_kept_connection_is_taken_without_a_phase_of_connecting_and_the_outcome_says_so() {
    let shell = Shell::new(vec![Line::whole(OK)], Vec::new());
    let played = shell.play(&http(), with_reuse());
    assert_eq!(played.did, ["reuse", "keep"]);
    let report = played.report();
    assert_eq!((report.class, report.status), (None, 200));
    assert_eq!(report.address, Some(local(1)));
    assert_eq!(report.phases.connect_us, PHASE_ABSENT);
    assert_ne!(report.phases.ttfb_us, PHASE_ABSENT);
    assert!(played.is_flagged());
    assert!(played.sent[0].ends_with(b"\r\nConnection: keep-alive\r\n\r\n"));
    assert_eq!(played.kept, [(SocketAddr::new(local(1), 8080), true)]);
    assert_eq!(played.attempt.reuses_refused(), 0);
}

/// Ways in which a kept connection brings no answer.
fn duds() -> Vec<Line<'static>> {
    static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
        bytes.resize(HEAD_MAX_BYTES + 9, b'x');
        bytes
    });
    static INTERIM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nA: ".to_vec();
        bytes.resize(HEAD_MAX_BYTES - 9, b'x');
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes
    });
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    // Together nearly as much as is read in a check.
    let interims = [&INTERIM[..]; INTERIM_RESPONSES_MAX as usize - 1];
    vec![
        Line::new([], End::Eof),
        Line::new([], End::Errno(ECONNRESET)),
        Line::new(interims, End::Eof),
        Line::whole(b"HTTP/1.1 408 Request Timeout\nContent-Length: 0\n\n"),
        Line::new([], End::Errno(ETIMEDOUT)),
        Line::new([&b"HTTP/1.1 200"[..]], End::Eof),
        Line::new([&b"HTTP/1.1 100 Go on\r\n\r\n"[..]], End::Eof),
        Line::whole(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        Line::whole(&LARGE),
        Line::whole(timeout),
        Line::whole(b"HTTP/1.1 421 Not here\r\n\r\n"),
    ]
}

#[test]
fn a_kept_connection_that_brings_no_answer_is_given_up_for_a_new_one() {
    for (number, dud) in duds().into_iter().enumerate() {
        let shell = Shell::new(vec![dud], vec![Line::whole(OK)]);
        let played = shell.play(&http(), with_reuse());
        let report = played.report();
        assert_eq!((report.class, report.status), (None, 200), "{number}");
        assert_eq!(
            played.did,
            ["reuse", "close", "connect", "keep"],
            "{number}"
        );
        assert_eq!(played.sent[0], played.sent[1]);
        assert!(!played.is_flagged(), "the answer came on a fresh one");
        assert_eq!(report.flags & flags::HTTP_SLOPPY, 0, "{number}");
        assert_eq!(played.attempt.reuses_refused(), 1);
        assert_eq!(played.attempt.unheard_at(), None, "there was time enough");
    }
}

#[test]
fn what_a_refused_connection_took_is_in_the_whole_and_in_no_phase() {
    for (number, dud) in duds().into_iter().enumerate() {
        let played = Shell::new(vec![dud], vec![Line::whole(OK)]).play(&http(), with_reuse());
        let [reused_us, renewed_us] = played.asked_us[..] else {
            panic!("{number}: {:?}", played.asked_us)
        };
        assert!(renewed_us >= reused_us + 2 * PACE_US, "{number}");
        // Connected, sent, answered: of the writing alone no phase tells.
        let report = played.report();
        let total_us = renewed_us + 3 * PACE_US;
        assert_eq!(u64::from(report.phases.total_us), total_us, "{number}");
        let phases = [report.phases.connect_us, report.phases.ttfb_us];
        assert_eq!(phases.map(u64::from), [PACE_US; 2], "{number}");
    }
}

#[test]
fn how_much_a_refused_connection_brought_is_not_counted() {
    // With what the dud brought it would be more than is read in a check.
    let head = format!(
        "HTTP/1.1 200 OK\r\nA: {}\r\n",
        "x".repeat(HEAD_MAX_BYTES / 2)
    );
    let long = head.clone() + "Content-Length: 2\r\n\r\nok";
    let interim = head.replace("200 OK", "103 Hints") + "\r\n";
    let interims = || [interim.as_bytes(); 4];
    let fresh = || Line::new(interims().into_iter().chain([long.as_bytes()]), End::Eof);
    for dud in duds() {
        let played = Shell::new(vec![dud], vec![fresh()]).play(&http(), with_reuse());
        assert_eq!(played.class(), None);
    }
    // What the hops before have used is used.
    let hop = head.replace("200 OK", "302 Found") + "Location: /next\r\n";
    let hop = hop + "Content-Length: 0\r\n\r\n";
    let first = Line::new([hop.as_bytes()], End::Silence);
    let second = duds().swap_remove(2);
    let played = Shell::new(Vec::new(), vec![first, second, fresh()]).play(&http(), with_reuse());
    assert_eq!((played.class(), played.report().hops), (None, 1));
    assert_eq!(played.attempt.reuses_refused(), 1);
}

#[test]
fn what_was_tolerated_in_a_hop_before_is_still_said() {
    let sloppy = b"HTTP/1.1 302 Found\nLocation: /next\nContent-Length: 0\n\n";
    let kept = vec![Line::new([], End::Eof), Line::whole(sloppy)];
    let played = Shell::new(kept, vec![Line::whole(OK)]).play(&http(), with_reuse());
    assert_eq!(
        played.did[..],
        ["reuse", "close", "reuse", "close", "connect", "close"]
    );
    assert_ne!(played.report().flags & flags::HTTP_SLOPPY, 0);
}

#[test]
fn of_a_site_nothing_is_known_where_a_kept_connection_used_up_the_time() {
    let silent = || Line::new([], End::Silence);
    let play = |kept, fresh| Shell::new(kept, fresh).play(&http(), with_reuse());
    let address = Some(local(1));
    let alone = play(vec![silent()], vec![Line::whole(OK)]);
    assert_eq!(alone.class(), Some("http.timeout"));
    assert_eq!(
        (alone.attempt.unheard_at(), alone.is_flagged()),
        (address, true)
    );
    assert_eq!(alone.attempt.reuses_refused(), 1);
    let note = "; it was asked over a connection that an earlier check had left";
    assert!(alone.text().ends_with(note), "{}", alone.text());
    // It may have been refused a moment before the end.
    let before = "; a connection that an earlier check had left was tried before and brought no \
                  answer";
    for (fresh, class, unheard_at) in [
        (vec![silent()], "http.timeout", address),
        (vec![Line::new([], End::Eof)], "http.truncated", None),
        (Vec::new(), "connect.refused", None),
    ] {
        let played = play(vec![Line::new([], End::Eof)], fresh);
        assert_eq!(played.class(), Some(class));
        assert_eq!(played.attempt.unheard_at(), unheard_at, "{class}");
        assert_eq!(played.attempt.reuses_refused(), 1);
        assert!(played.text().ends_with(before), "{}", played.text());
    }
    let begun = Line::whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok");
    for (kept, fresh) in [(vec![begun], Vec::new()), (Vec::new(), vec![silent()])] {
        let played = play(kept, fresh);
        assert_eq!(played.class(), Some("http.timeout"));
        assert_eq!(played.attempt.unheard_at(), None);
        assert!(
            !played.text().contains("earlier check"),
            "{}",
            played.text()
        );
    }
}

#[test]
fn what_the_fresh_connection_says_then_is_final() {
    for (number, dud) in duds().into_iter().enumerate() {
        let fresh = Line::new([], End::Eof);
        // Another kept one is not asked: once is enough.
        let shell = Shell::new(vec![Line::whole(OK), dud.clone()], vec![fresh]);
        let played = shell.play(&http(), with_reuse());
        assert_eq!(played.class(), Some("http.truncated"), "{number}");
        assert_eq!(played.did, ["reuse", "close", "connect", "close"]);
        let played = Shell::new(vec![dud], Vec::new()).play(&http(), with_reuse());
        assert_eq!(played.class(), Some("connect.refused"), "{number}");
        assert_eq!(played.report().errno, Some(ECONNREFUSED));
        assert_eq!(played.report().phases.ttfb_us, PHASE_ABSENT);
    }
}

#[test]
fn a_request_that_cannot_be_written_goes_out_anew() {
    let shell = Shell {
        send_error: Some(32),
        ..Shell::new(vec![Line::new([], End::Eof)], vec![Line::whole(OK)])
    };
    let played = shell.play(&http(), with_reuse());
    assert_eq!(played.class(), None);
    assert_eq!(played.did, ["reuse", "close", "connect", "keep"]);
}

#[test]
fn an_answer_on_a_kept_connection_counts_whatever_it_says() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok";
    for (line, class) in [
        (
            Line::whole(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
            "http.status",
        ),
        (Line::new([&short[..]], End::Eof), "http.truncated"),
        (Line::new([], End::Silence), "http.timeout"),
    ] {
        let shell = Shell::new(vec![line], vec![Line::whole(OK)]);
        let played = shell.play(&http(), with_reuse());
        assert_eq!(played.class(), Some(class));
        assert!(
            played.is_flagged() && played.did[..] != ["connect"],
            "{class}"
        );
        assert_eq!(
            played.did.iter().filter(|did| **did == "connect").count(),
            0
        );
    }
}

#[test]
fn the_next_hop_to_the_same_address_goes_over_the_connection_of_the_last_one() {
    // The kept one answers the second time with what the second line brings.
    let shell = Shell::new(Vec::new(), vec![Line::whole(HOP), Line::whole(OK)]);
    let played = shell.play(&http(), with_reuse());
    let report = played.report();
    assert_eq!((report.class, report.status, report.hops), (None, 200, 1));
    assert_eq!(played.did, ["connect", "keep", "reuse", "keep"]);
    assert!(played.is_flagged());
    assert!(played.sent[1].starts_with(b"GET /next HTTP/1.1\r\n"));
    // One whose body is still to come is not waited for.
    let with_body = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 3\r\n\r\n302";
    let shell = Shell::new(Vec::new(), vec![Line::whole(with_body), Line::whole(OK)]);
    let played = shell.play(&http(), with_reuse());
    assert_eq!(played.did, ["connect", "close", "connect", "keep"]);
    assert!(!played.is_flagged());
}

#[test]
fn a_hop_that_is_forbidden_closes_what_the_last_one_left() {
    let away = b"HTTP/1.1 302 Found\r\nLocation: http://10.1.2.3/\r\nContent-Length: 0\r\n\r\n";
    let shell = Shell::new(Vec::new(), vec![Line::whole(away)]);
    let played = shell.play(&http(), with_reuse());
    assert_eq!(played.class(), Some("safety.blocked"));
    assert_eq!(played.did, ["connect", "close"]);
}

#[test]
fn the_guard_judges_an_address_before_a_kept_connection_to_it_is_taken() {
    let spec = AttemptSpec {
        host: HostRef::Address([10, 1, 2, 3].into()),
        ..http()
    };
    let shell = Shell::new(vec![Line::whole(OK)], Vec::new());
    let played = shell.play(&spec, with_reuse());
    assert_eq!(played.class(), Some("safety.blocked"));
    assert!(played.did.is_empty());
}

#[test]
fn where_each_family_must_connect_nothing_is_reused() {
    let v6 = "fe80::1".parse().expect("an address");
    let shared = Shared::new(SharedConfig {
        reuse: true,
        guard: prober::Guard::public_only(
            ["127.0.0.0/8", "fe80::/10"]
                .map(|block| block.parse().expect("a block"))
                .into(),
        ),
        ..SharedConfig::default()
    })
    .expect("valid");
    let shell = Shell {
        dns: ResolvedName {
            scope: Scope::Each,
            ..name(&[local(1), v6])
        },
        ..Shell::new(
            vec![Line::whole(OK)],
            vec![Line::whole(OK), Line::whole(OK)],
        )
    };
    let played = shell.play(&http(), &shared);
    assert_eq!(played.class(), None);
    assert!(!played.did.contains(&"reuse") && !played.did.contains(&"keep"));
}

/// To where requests could go out after `case`, each of whose connections is cut at `cuts`.
fn reusable(case: &Case, surplus: &[u8], cuts: &[usize]) -> (Report, Vec<SocketAddr>) {
    let spec = AttemptSpec {
        method: case.method,
        rules: case.rules.as_ref(),
        ..http()
    };
    let bytes = |bytes: &Vec<u8>| [bytes, surplus].concat();
    let connections: Vec<Vec<u8>> = case.connections.iter().map(bytes).collect();
    let lines = connections
        .iter()
        .map(|bytes| Line::new(pieces(bytes, cuts), case.end));
    let played = Shell::new(Vec::new(), lines.collect()).play(&spec, with_reuse());
    // How long it took depends on the split.
    let report = Report {
        phases: Phases::NONE,
        ..played.report()
    };
    (report, played.reusable())
}

#[test]
fn the_corpus_has_answers_after_which_a_connection_is_kept_and_others() {
    let kept = |case: &&&Case| !reusable(case, b"", &[]).1.is_empty();
    let all = responses::small();
    let count = all.iter().filter(kept).count();
    assert!(count > 20 && count < all.len() - 20, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn whether_a_connection_may_be_used_again_does_not_depend_on_the_split(
        index in any::<prop::sample::Index>(),
        surplus in prop::sample::select(vec!["", "", "\r\n", "HTTP/1.1 200 OK\r\n\r\n"]),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
        near in prop::collection::vec(0_usize..120, 0..12),
    ) {
        let case = responses::small()[index.index(responses::small().len())];
        let cuts = [cuts, near].concat();
        let whole = reusable(case, surplus.as_bytes(), &[]);
        let split = reusable(case, surplus.as_bytes(), &cuts);
        prop_assert_eq!(split, whole, "{}", case.name);
    }

    #[test]
    fn a_kept_connection_brings_the_verdict_that_a_fresh_one_brings(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let case = responses::small()[index.index(responses::small().len())];
        let spec = AttemptSpec {
            method: case.method,
            rules: case.rules.as_ref(),
            ..http()
        };
        let line = |bytes: &'static Vec<u8>| Line::new(pieces(bytes, &cuts), case.end);
        let lines = || case.connections.iter().map(line);
        let fresh = Shell::new(Vec::new(), lines().collect()).play(&spec, with_reuse());
        // What the kept one says is said again by the fresh one, if that is asked.
        let kept = lines().take(1).collect();
        let both = Shell::new(kept, lines().collect()).play(&spec, with_reuse());
        if case.connections.len() == 1 {
            prop_assert_eq!(both.class(), fresh.class(), "{}", case.name);
            prop_assert_eq!(both.report().status, fresh.report().status, "{}", case.name);
        }
    }
}
