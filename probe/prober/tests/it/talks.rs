//! Bare TCP checks: what is said, what must come, and every way in which it does not.

use model::limits::TCP_TEXT_MAX_BYTES;
use model::url::Scheme;
use model::{Generation, Slot, TargetSpec};
use prober::{AttemptSpec, Command, ErrnoAt, HostRef, Rules};
use proptest::prelude::*;

use crate::driver::{ECONNREFUSED, ECONNRESET, End, Open, Run, Script, local, run, spec};

fn rules(send: &str, expect: &str, max_latency_ms: Option<i64>) -> Option<Rules> {
    let target = TargetSpec {
        url: "tcp://e.test:8080".to_owned(),
        send: Some(send.to_owned()),
        expect: vec![expect.to_owned()],
        max_latency_ms,
        ..TargetSpec::default()
    };
    Rules::from_config(&target.parse().expect("a valid target"))
}

fn talk(rules: Option<&Rules>, script: Script<'_>) -> Run {
    let spec = AttemptSpec {
        rules,
        ..spec(Scheme::Tcp, HostRef::Address(local(1)))
    };
    run(&spec, script, true)
}

/// Whether the phases connect, ttfb and body are there.
fn reached(run: &Run) -> (bool, bool, bool) {
    let [_, connect, tls, ttfb, body, total] = run.report().phases.values();
    assert!(tls.is_none() && total.is_some());
    (connect.is_some(), ttfb.is_some(), body.is_some())
}

#[test]
fn a_connection_alone_is_enough_when_nothing_is_expected() {
    let run = talk(None, Script::answering(vec![b"noise"], End::Silence));
    assert_eq!((run.class(), run.sent.len()), (None, 0));
    assert_eq!(reached(&run), (true, false, false));
    let reads = |command: &Command| matches!(command, Command::Recv { .. } | Command::Send { .. });
    assert!(!run.commands.iter().any(reads), "{:?}", run.commands);
    // The connect takes a millisecond, what is said another one.
    let slow = talk(
        rules("x", "", Some(1)).as_ref(),
        Script::answering(Vec::new(), End::Silence),
    );
    assert_eq!(slow.class(), Some("latency"));
}

#[test]
fn a_connection_that_does_not_stand_has_the_class_of_any_other() {
    for (open, class) in [
        (Open::Fails(ECONNREFUSED, ErrnoAt::Async), "connect.refused"),
        (Open::Fails(ECONNRESET, ErrnoAt::Async), "connect.reset"),
        (Open::Fails(24, ErrnoAt::Syscall), "connect.local"),
        (Open::Silent, "connect.timeout"),
    ] {
        let script = Script {
            opens: vec![open],
            ..Script::answering(Vec::new(), End::Silence)
        };
        let run = talk(rules("x", "y", None).as_ref(), script);
        assert_eq!(run.class(), Some(class));
        assert_eq!(reached(&run), (true, false, false));
    }
    let spec = spec(Scheme::Tcp, HostRef::Address([10, 0, 0, 1].into()));
    let blocked = run(&spec, Script::answering(Vec::new(), End::Eof), true);
    assert_eq!(blocked.class(), Some("safety.blocked"));
}

#[test]
fn what_is_said_goes_out_once_and_with_the_connect_where_it_can() {
    for early in [false, true] {
        let script = Script {
            early,
            ..Script::answering(vec![b"250-e.test\r\n250 ok\r\n"], End::Silence)
        };
        let run = talk(rules(r"EHLO x\r\n", "250 ok", None).as_ref(), script);
        assert_eq!((run.class(), &run.sent[..]), (None, &b"EHLO x\r\n"[..]));
        assert_eq!(reached(&run), (true, true, true));
        let script = Script {
            early,
            ..Script::answering(Vec::new(), End::Silence)
        };
        let unheard = talk(rules(r"QUIT\r\n", "", None).as_ref(), script);
        assert_eq!(
            (unheard.class(), &unheard.sent[..]),
            (None, &b"QUIT\r\n"[..])
        );
        assert_eq!(reached(&unheard), (true, false, false));
    }
}

#[test]
fn what_could_not_be_said_is_a_reset_whoever_listens() {
    for (early, expect, pieces) in [
        (false, "", vec![]),
        (true, "", vec![]),
        (true, "250", vec![]),
        (false, "", vec![&b"421 go away\r\n"[..]]),
    ] {
        let script = Script {
            early,
            send_error: Some(ECONNRESET),
            ..Script::answering(pieces, End::Eof)
        };
        let run = talk(rules("x", expect, None).as_ref(), script);
        assert_eq!(run.class(), Some("http.reset"), "{early} {expect:?}");
        assert_eq!(run.report().errno, Some(ECONNRESET));
    }
    // What came before it was the answer.
    let script = Script {
        send_error: Some(ECONNRESET),
        ..Script::answering(vec![b"220 e.test"], End::Eof)
    };
    let run = talk(rules("x", "220", None).as_ref(), script);
    assert_eq!(run.class(), None);
}

#[test]
fn a_talk_that_brings_something_else_is_told_with_what_came() {
    let script = Script::answering(vec![b"421 busy\r\n"], End::Eof);
    let run = talk(rules("", "220 ", None).as_ref(), script);
    assert_eq!(run.class(), Some("body.keyword_missing"));
    let evidence = run.attempt.evidence(Slot(0), Generation(0), 0);
    assert_eq!(evidence.head, "421 busy\r\n");
    let sentence = "127.0.0.1:8080 did not say the expected text in its first KiB";
    assert_eq!(evidence.text, sentence);
    assert!(evidence.redirects.is_empty() && evidence.tls.is_none());
}

/// What the spec says of `bytes` that end with `end`.
fn judged(bytes: &[u8], expect: &[u8], end: End) -> Option<&'static str> {
    let seen = &bytes[..bytes.len().min(TCP_TEXT_MAX_BYTES)];
    if seen.windows(expect.len()).any(|window| window == expect) {
        return None;
    }
    Some(match end {
        _ if seen.len() == TCP_TEXT_MAX_BYTES => "body.keyword_missing",
        End::Eof if seen.is_empty() => "http.truncated",
        End::Eof => "body.keyword_missing",
        End::Errno(_) => "http.reset",
        End::Silence => "http.timeout",
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_split_of_a_talk_is_judged_as_the_whole(
        // Few letters, so that texts begin and end everywhere.
        bytes in prop_oneof![
            prop::collection::vec(prop::sample::select(b"aab".to_vec()), 0..40),
            prop::collection::vec(prop::sample::select(b"aaaaaaaaaaaab".to_vec()), 900..1_200),
        ],
        expect in "[ab]{1,6}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        end in prop::sample::select(vec![End::Eof, End::Errno(ECONNRESET), End::Silence]),
        send in prop::sample::select(vec!["", "hello"]),
        early in any::<bool>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let early = early && !send.is_empty();
        let script = Script { early, ..Script::answering(pieces, end) };
        let run = talk(rules(send, &expect, None).as_ref(), script);
        prop_assert_eq!(run.class(), judged(&bytes, expect.as_bytes(), end));
        prop_assert_eq!(&run.sent[..], send.as_bytes());
        let head = run.attempt.evidence(Slot(0), Generation(0), 0).head;
        prop_assert!(bytes.starts_with(head.as_bytes()) && head.len() <= TCP_TEXT_MAX_BYTES);
    }
}
