//! Orders, phases, deadlines, addresses and evidence of plain attempts.

use std::net::SocketAddr;

use model::limits::{ATTEMPT_CARRY_KEPT_MAX_BYTES, ATTEMPT_OUT_KEPT_MAX_BYTES};
use model::outcome::{PHASE_ABSENT, flags};
use model::target::TargetSpec;
use model::time::MonoUs;
use model::{FailureClass, Generation, Slot};
use prober::resolver::DnsFailure;
use prober::{Attempt, AttemptSpec, Buffers, Command, Conn, ErrnoAt, Event, HostRef, Rules};

use crate::driver::{
    ECONNREFUSED, ECONNRESET, End, Open, Run, Script, at, http, local, name, run, shared, spec,
    with_rules,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const EHOSTUNREACH: i32 = 113;

fn address(last: u8) -> SocketAddr {
    SocketAddr::new(local(last), 8080)
}

fn connects(run: &Run) -> Vec<SocketAddr> {
    let of = |command: &Command| match command {
        Command::Connect { address, .. } => Some(*address),
        _ => None,
    };
    run.commands.iter().filter_map(of).collect()
}

fn opening(addresses: &[u8], opens: Vec<Open>) -> Run {
    let addresses: Vec<_> = addresses.iter().copied().map(local).collect();
    let script = Script {
        dns: Ok(name(&addresses)),
        opens,
        ..Script::answering(vec![OK], End::Silence)
    };
    run(&http(), script, true)
}

fn rules(spec: TargetSpec) -> Rules {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        ..spec
    };
    Rules::from_config(&spec.parse().expect("valid")).expect("not all default")
}

#[test]
fn a_plain_check_is_six_commands() {
    let run = run(&http(), Script::answering(vec![OK], End::Silence), true);
    let conn = Conn(0);
    assert_eq!(
        run.commands,
        [
            Command::Resolve,
            Command::Connect {
                conn,
                address: address(1)
            },
            Command::Send { conn },
            Command::Recv { conn },
            Command::CloseConn { conn },
            Command::Done,
        ]
    );
    assert!(
        run.sent
            .starts_with(b"GET / HTTP/1.1\r\nHost: e.test:8080\r\n")
    );
    let report = run.report();
    assert_eq!(
        (report.class, report.status, report.address),
        (None, 200, Some(local(1)))
    );
    assert_eq!(report.flags, flags::DNS_CACHED);
}

#[test]
fn a_literal_is_not_resolved_and_has_no_dns_phase() {
    let spec = AttemptSpec {
        host: HostRef::Address(local(7)),
        ..http()
    };
    let run = run(&spec, Script::answering(vec![OK], End::Silence), true);
    assert_eq!(
        run.commands[0],
        Command::Connect {
            conn: Conn(0),
            address: address(7)
        }
    );
    let phases = run.report().phases.values();
    assert_eq!(
        phases,
        [None, Some(1_000), None, Some(1_000), Some(0), Some(3_000)]
    );
}

#[test]
fn every_phase_that_was_entered_is_timed_and_the_others_are_absent() {
    let (head, body) = OK.split_at(10);
    let whole = run(
        &http(),
        Script::answering(vec![head, body], End::Silence),
        true,
    );
    let phases = whole.report().phases.values();
    assert_eq!(
        phases,
        [
            Some(1_000),
            Some(1_000),
            None,
            Some(1_000),
            Some(1_000),
            Some(5_000)
        ]
    );
    let refused = opening(&[1], vec![Open::Fails(ECONNREFUSED, ErrnoAt::Async)]);
    let phases = refused.report().phases.values();
    assert_eq!(
        phases,
        [Some(1_000), Some(1_000), None, None, None, Some(2_000)]
    );
}

#[test]
fn dns_failures_keep_their_class_and_their_details() {
    for class in [
        FailureClass::DnsNxdomain,
        FailureClass::DnsServfail,
        FailureClass::DnsTimeout,
    ] {
        let server = Some(SocketAddr::new(local(53), 53));
        let dns = Err(DnsFailure {
            class,
            rcode: Some(3),
            server,
            tries: 2,
            many: None,
            agreed: class == FailureClass::DnsNxdomain,
        });
        let script = Script {
            dns,
            ..Script::answering(vec![], End::Silence)
        };
        let run = run(&http(), script, true);
        assert_eq!(run.commands, [Command::Resolve, Command::Done]);
        assert_eq!(run.report().class, Some(class));
        let is_agreed = run.report().flags & flags::DNS_AGREED != 0;
        assert_eq!(is_agreed, class == FailureClass::DnsNxdomain);
        let seen = run
            .attempt
            .evidence(Slot(1), Generation(2), 3)
            .dns
            .expect("asked");
        assert_eq!((seen.server, seen.rcode, seen.tries), (server, Some(3), 2));
    }
    assert_eq!(opening(&[], vec![]).class(), Some("dns.no_address"));
}

#[test]
fn one_bad_address_is_not_an_outage_but_is_evidence() {
    let run = opening(
        &[1, 2, 3],
        vec![
            Open::Fails(ECONNREFUSED, ErrnoAt::Async),
            Open::Fails(EHOSTUNREACH, ErrnoAt::Async),
            Open::Accepts,
        ],
    );
    assert_eq!((run.class(), run.report().address), (None, Some(local(3))));
    assert_eq!(connects(&run), [address(1), address(2), address(3)]);
    let tried = run.attempt.evidence(Slot(0), Generation(0), 0).addresses;
    let errnos: Vec<_> = tried.iter().map(|tried| tried.errno).collect();
    assert_eq!(errnos, [Some(ECONNREFUSED), Some(EHOSTUNREACH), None]);
}

#[test]
fn a_black_hole_gets_its_share_of_the_time_and_no_more() {
    let run = opening(&[1, 2], vec![Open::Silent, Open::Accepts]);
    assert_eq!((run.class(), run.report().address), (None, Some(local(2))));
    let total_us = run.report().phases.total_us;
    assert!((5_000_000..5_100_000).contains(&total_us), "{total_us}");
    let closed = run
        .commands
        .iter()
        .position(|c| *c == Command::CloseConn { conn: Conn(0) });
    let second = Command::Connect {
        conn: Conn(1),
        address: address(2),
    };
    let opened = run.commands.iter().position(|command| *command == second);
    assert!(closed.is_some() && closed < opened, "{:?}", run.commands);
    let none = opening(&[1, 2, 3], vec![Open::Silent; 3]);
    assert_eq!(none.class(), Some("connect.timeout"));
    assert_eq!(connects(&none).len(), 3);
}

#[test]
fn the_first_failure_of_the_remote_names_the_class() {
    let (refused, ours) = (ECONNREFUSED, 99);
    for (opens, class, errno) in [
        (
            vec![(refused, ErrnoAt::Async), (EHOSTUNREACH, ErrnoAt::Async)],
            "connect.refused",
            refused,
        ),
        (
            vec![(ours, ErrnoAt::Syscall), (refused, ErrnoAt::Async)],
            "connect.local",
            ours,
        ),
        (
            vec![(refused, ErrnoAt::Async), (ours, ErrnoAt::Syscall)],
            "connect.local",
            ours,
        ),
        (
            vec![(ours, ErrnoAt::Syscall), (101, ErrnoAt::Syscall)],
            "connect.local",
            ours,
        ),
        (
            vec![(ECONNRESET, ErrnoAt::Async), (refused, ErrnoAt::Async)],
            "connect.reset",
            ECONNRESET,
        ),
        (
            vec![(110, ErrnoAt::Async), (110, ErrnoAt::Async)],
            "connect.timeout",
            110,
        ),
    ] {
        let opens = opens
            .into_iter()
            .map(|(errno, at)| Open::Fails(errno, at))
            .collect();
        let run = opening(&[1, 2], opens);
        assert_eq!(
            (run.class(), run.report().errno),
            (Some(class), Some(errno))
        );
        let phases = run.report().phases.values().map(|phase| phase.is_some());
        assert_eq!(phases, [true, true, false, false, false, true], "{class}");
    }
}

#[test]
fn the_guard_judges_every_address_that_is_used() {
    let private: std::net::IpAddr = "10.0.0.1".parse().expect("address");
    let to = |addresses: &[std::net::IpAddr]| {
        let script = Script {
            dns: Ok(name(addresses)),
            ..Script::answering(vec![OK], End::Silence)
        };
        run(&http(), script, true)
    };
    let blocked = to(&[private, "::ffff:192.168.1.1".parse().expect("address")]);
    assert_eq!(
        (blocked.class(), connects(&blocked).len()),
        (Some("safety.blocked"), 0)
    );
    let evidence = blocked.attempt.evidence(Slot(0), Generation(0), 0);
    assert!(
        evidence.text.contains("not a public address"),
        "{}",
        evidence.text
    );
    let mixed = to(&[private, local(2)]);
    assert_eq!((mixed.class(), connects(&mixed)), (None, vec![address(2)]));
    let literal = AttemptSpec {
        host: HostRef::Address(private),
        ..http()
    };
    let run = run(&literal, Script::answering(vec![OK], End::Silence), true);
    assert_eq!(
        (run.class(), run.commands),
        (Some("safety.blocked"), vec![Command::Done])
    );
}

#[test]
fn a_deadline_has_the_class_of_what_was_waited_for() {
    let silent = |opens| {
        let script = Script {
            opens,
            ..Script::answering(vec![], End::Silence)
        };
        run(&http(), script, true)
    };
    assert_eq!(silent(vec![Open::Silent]).class(), Some("connect.timeout"));
    assert_eq!(silent(vec![Open::Accepts]).class(), Some("http.timeout"));
    let shared = shared();
    let mut attempt = Attempt::start(&http(), &shared, Buffers::default(), at(0));
    assert_eq!(
        (attempt.next(), attempt.next()),
        (Command::Resolve, Command::Wait)
    );
    attempt.on(Event::Deadline { ours: false }, &shared, at(10_000_000));
    assert_eq!(attempt.next(), Command::Done);
    let report = attempt.report();
    assert_eq!(report.class, Some(FailureClass::DnsTimeout));
    assert_eq!(report.phases.dns_us, 10_000_000);
}

#[test]
fn our_own_stall_and_a_cancellation_say_nothing_of_the_target() {
    let shared = shared();
    for (event, class) in [
        (Event::Deadline { ours: true }, FailureClass::LocalPressure),
        (Event::Cancelled, FailureClass::LocalCancelled),
    ] {
        let host = HostRef::Address(local(1));
        let spec = AttemptSpec { host, ..http() };
        let mut attempt = Attempt::start(&spec, &shared, Buffers::default(), at(0));
        let conn = Conn(0);
        assert_eq!(
            attempt.next(),
            Command::Connect {
                conn,
                address: address(1)
            }
        );
        attempt.on(event, &shared, at(5));
        assert_eq!(
            (attempt.next(), attempt.next()),
            (Command::CloseConn { conn }, Command::Done)
        );
        assert_eq!(attempt.report().class, Some(class));
        let before = attempt.report();
        attempt.on(Event::Connected { conn, sent: false }, &shared, at(9));
        attempt.on(Event::Timer, &shared, at(9));
        assert_eq!((attempt.next(), attempt.report()), (Command::Done, before));
    }
}

#[test]
fn what_an_attempt_waited_for_the_shell_is_no_part_of_it() {
    let shared = shared();
    let mut attempt = Attempt::start(&http(), &shared, Buffers::default(), at(0));
    attempt.begin(at(4_000));
    assert_eq!(attempt.next(), Command::Resolve);
    attempt.on(Event::Resolved(Ok(&name(&[local(1)]))), &shared, at(4_003));
    attempt.on(Event::Cancelled, &shared, at(4_010));
    let phases = attempt.report().phases;
    assert_eq!((phases.dns_us, phases.total_us), (3, 10));
}

#[test]
fn an_early_response_counts_more_than_a_broken_pipe() {
    for early in [false, true] {
        let with = |pieces: Vec<&'static [u8]>| {
            let script = Script {
                early,
                send_error: Some(32),
                ..Script::answering(pieces, End::Eof)
            };
            let run = run(&http(), script, true);
            (run.class(), run.report().errno)
        };
        assert_eq!(with(vec![OK]), (None, None));
        let denied = with(vec![b"HTTP/1.1 431 Too Large\r\n\r\n"]);
        assert_eq!(denied, (Some("http.status"), None));
        assert_eq!(with(vec![]), (Some("http.reset"), Some(32)));
    }
}

#[test]
fn the_errno_of_a_first_flight_tells_whether_the_connection_stood() {
    let host = HostRef::Address(local(1));
    let spec = AttemptSpec { host, ..http() };
    let with = |errno| {
        let script = Script {
            early: true,
            send_error: Some(errno),
            ..Script::answering(vec![], End::Eof)
        };
        let run = run(&spec, script, true);
        let reached_http = run.report().phases.ttfb_us != PHASE_ABSENT;
        (run.class(), run.report().errno, reached_http)
    };
    for (errno, class, reached_http) in [
        (ECONNREFUSED, "connect.refused", false),
        (EHOSTUNREACH, "connect.unreachable", false),
        (ECONNRESET, "http.reset", true),
    ] {
        assert_eq!(with(errno), (Some(class), Some(errno), reached_http));
    }
}

#[test]
fn a_first_flight_that_is_turned_down_goes_to_the_next_address() {
    let script = Script {
        dns: Ok(name(&[local(1), local(2)])),
        opens: vec![Open::Fails(ECONNREFUSED, ErrnoAt::Async), Open::Accepts],
        early: true,
        ..Script::answering(vec![OK], End::Eof)
    };
    let run = run(&http(), script, true);
    assert_eq!((run.class(), run.report().address), (None, Some(local(2))));
    assert!(run.sent.starts_with(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn the_first_flight_of_tls_is_its_hello_and_never_the_request_in_clear() {
    let shared = shared();
    let flight = |host| {
        let spec = spec(model::url::Scheme::Https, host);
        let mut attempt = Attempt::start(&spec, &shared, Buffers::default(), at(0));
        let resolved = name(&[local(1)]);
        attempt.on(Event::Resolved(Ok(&resolved)), &shared, at(0));
        while attempt.next() != Command::Wait {}
        attempt.first_flight(Conn(0)).to_vec()
    };
    // A handshake record that holds a ClientHello.
    let hello = flight(HostRef::Address(local(1)));
    assert_eq!((hello[0], hello[1], hello[5]), (22, 3, 1));
    assert_eq!(flight(HostRef::Name("no_name..at-all")), b"");
}

#[test]
fn a_body_without_end_is_read_for_250_ms() {
    let pieces: Vec<&[u8]> = vec![b"HTTP/1.1 200 OK\r\n\r\n", b"some"];
    let run = run(&http(), Script::answering(pieces, End::Silence), false);
    let timer = Command::Timer {
        at: MonoUs(1_250_000),
    };
    assert!(run.commands.contains(&timer), "{:?}", run.commands);
    assert_eq!((run.class(), run.report().phases.body_us), (None, 250_000));
}

#[test]
fn expected_statuses_replace_the_default() {
    let rules = rules(TargetSpec {
        expect_status: Some("404,101".into()),
        ..TargetSpec::default()
    });
    let with = |head: &'static [u8]| {
        run(
            &with_rules(&rules),
            Script::answering(vec![head], End::Eof),
            true,
        )
        .class()
    };
    assert_eq!(with(b"HTTP/1.1 404 Gone\r\n\r\n"), None);
    assert_eq!(with(b"HTTP/1.1 101 Switching\r\n\r\n"), None);
    assert_eq!(with(b"HTTP/1.1 200 OK\r\n\r\n"), Some("http.status"));
}

#[test]
fn a_slow_success_is_degraded_and_a_slow_failure_is_a_failure() {
    let rules = rules(TargetSpec {
        max_latency_ms: Some(3),
        ..TargetSpec::default()
    });
    let with = |bytes: &'static [u8]| {
        run(
            &with_rules(&rules),
            Script::answering(vec![bytes], End::Silence),
            true,
        )
    };
    let slow = with(OK);
    assert_eq!(slow.class(), Some("latency"));
    assert_eq!(
        slow.report().flags & flags::HTTP_VERIFIED,
        flags::HTTP_VERIFIED
    );
    assert_eq!(
        with(b"HTTP/1.1 500 Oops\r\n\r\n").class(),
        Some("http.status")
    );
}

#[test]
fn evidence_has_the_head_the_status_and_a_sentence() {
    let long = format!(
        "HTTP/1.1 503 Busy\r\nServer: x\r\nA: {}\r\n\r\n",
        "y".repeat(5_000)
    );
    let bytes = long.as_bytes();
    for pieces in [vec![bytes], vec![&bytes[..30], &bytes[30..]]] {
        let run = run(&http(), Script::answering(pieces, End::Eof), true);
        let evidence = run.attempt.evidence(Slot(4), Generation(5), 6);
        assert_eq!(
            (evidence.slot, evidence.generation, evidence.seq),
            (4, 5, 6)
        );
        assert_eq!(
            (evidence.failure(), evidence.status),
            (Some(FailureClass::HttpStatus), 503)
        );
        assert_eq!(evidence.head, long[..1_024]);
        assert_eq!(evidence.text, "127.0.0.1:8080 answered with status 503");
        assert_eq!(evidence.addresses.len(), 1);
    }
}

#[test]
fn buffers_come_back_with_their_capacity_but_for_what_they_have_grown_by() {
    let buffers = Buffers {
        out: Vec::with_capacity(1_024),
        carry: Vec::with_capacity(1_024),
        url: Vec::with_capacity(1_024),
    };
    let shared = shared();
    let mut attempt = Attempt::start(&http(), &shared, buffers, at(0));
    let name = name(&[local(1)]);
    attempt.on(Event::Resolved(Ok(&name)), &shared, at(0));
    let conn = Conn(0);
    while attempt.next() != Command::Wait {}
    attempt.on(Event::Connected { conn, sent: false }, &shared, at(0));
    while attempt.next() != Command::Wait {}
    let buffer = attempt.take_outgoing(conn);
    attempt.on(Event::Sent { conn, buffer }, &shared, at(0));
    attempt.on(Event::Bytes { conn, bytes: OK }, &shared, at(0));
    let buffers = attempt.take_buffers();
    for buffer in [&buffers.out, &buffers.carry, &buffers.url] {
        assert_eq!((buffer.len(), buffer.capacity()), (0, 1_024));
    }
    let grown = Buffers {
        out: Vec::with_capacity(1 << 17),
        carry: Vec::with_capacity(1 << 17),
        url: Vec::with_capacity(1 << 17),
    };
    let mut attempt = Attempt::start(&http(), &shared, grown, at(0));
    let kept = attempt.take_buffers();
    for (buffer, max) in [
        (&kept.out, ATTEMPT_OUT_KEPT_MAX_BYTES),
        (&kept.carry, ATTEMPT_CARRY_KEPT_MAX_BYTES),
        (&kept.url, ATTEMPT_OUT_KEPT_MAX_BYTES),
    ] {
        assert!(
            (1..=max).contains(&buffer.capacity()),
            "{}",
            buffer.capacity()
        );
    }
}

#[test]
fn events_of_another_connection_change_nothing() {
    let shared = shared();
    let host = HostRef::Address(local(1));
    let mut attempt = Attempt::start(
        &spec(model::url::Scheme::Http, host),
        &shared,
        Buffers::default(),
        at(0),
    );
    while attempt.next() != Command::Wait {}
    let other = Conn(2);
    attempt.on(
        Event::Connected {
            conn: other,
            sent: false,
        },
        &shared,
        at(1),
    );
    attempt.on(
        Event::Bytes {
            conn: other,
            bytes: OK,
        },
        &shared,
        at(1),
    );
    attempt.on(Event::Eof { conn: Conn(200) }, &shared, at(1));
    attempt.on(
        Event::IoError {
            conn: other,
            errno: ECONNRESET,
        },
        &shared,
        at(1),
    );
    assert_eq!(attempt.next(), Command::Wait);
    assert_eq!(attempt.report().class, None);
}

#[test]
fn an_early_timer_is_armed_again_and_a_stale_one_is_ignored() {
    let shared = shared();
    let mut attempt = Attempt::start(&http(), &shared, Buffers::default(), at(0));
    attempt.on(
        Event::Resolved(Ok(&name(&[local(1), local(2)]))),
        &shared,
        at(0),
    );
    let timer = Command::Timer {
        at: MonoUs(6_000_000),
    };
    let commands: Vec<_> = (0..4).map(|_| attempt.next()).collect();
    assert_eq!((commands[1], commands[3]), (timer, Command::Wait));
    attempt.on(Event::Timer, &shared, at(4_999_999));
    assert_eq!((attempt.next(), attempt.next()), (timer, Command::Wait));
    attempt.on(
        Event::Connected {
            conn: Conn(0),
            sent: false,
        },
        &shared,
        at(4_999_999),
    );
    attempt.on(Event::Timer, &shared, at(5_000_000));
    assert_eq!(
        (attempt.next(), attempt.next()),
        (Command::Send { conn: Conn(0) }, Command::Wait)
    );
}
