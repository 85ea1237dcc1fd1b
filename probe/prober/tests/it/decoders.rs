//! The memory that bodies take while they are decoded: of one core together, whatever servers send.

use model::limits::{DECODER_BYTES, DECODERS_MAX_BYTES};
use model::target::TargetSpec;
use model::{FailureClass, Generation, Slot};
use prober::{Attempt, Rules, Shared};

use crate::driver::{End, Run, Script, begun_with, http, run_on, shared, with_rules};

/// Some hundred bytes that make a decoder of brotli hold all that it can, and wait for more; before
/// them what chooses the coding of the fuzz target.
const GREEDY: &[u8] = include_bytes!("../corpus/coding/brotli_greedy");
/// "Hello, keyword world! " ten times.
const HELLO: &[u8] = include_bytes!("bodies/hello.br");
/// A mebibyte of one letter, and more, with a window of 16 MiB.
const WINDOW: &[u8] = include_bytes!("../corpus/coding/brotli_window_24");

fn wants(keyword: &str) -> Rules {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some(keyword.to_owned()),
        ..TargetSpec::default()
    };
    Rules::from_config(&spec.parse().expect("valid")).expect("not all default")
}

/// An answer whose body is larger than what comes of it.
fn answer(coding: &str, begun: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        begun.len() + 1_000
    );
    [head.as_bytes(), begun].concat()
}

/// A check that has read `bytes` and goes on waiting, unless that was enough for a verdict.
fn begun(shared: &Shared, rules: &Rules, bytes: &[u8]) -> Attempt {
    begun_with(shared, rules, [bytes].into_iter())
}

fn class(attempt: &Attempt) -> Option<FailureClass> {
    attempt.report().class
}

/// A check of a whole page under this coding.
fn page(shared: &Shared, coding: &str, body: &[u8], keyword: &str) -> Run {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), body].concat();
    let script = Script::answering(vec![&bytes], End::Silence);
    run_on(shared, &with_rules(&wants(keyword)), script, false)
}

#[test]
fn hostile_bodies_take_no_more_than_their_core_has_and_give_it_back() {
    let shared = shared();
    let rules = wants("absent");
    let hostile = answer("br", &GREEDY[1..]);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let before = shared.decoder_bytes();
        let attempt = begun(&shared, &rules, &hostile);
        let took = shared.decoder_bytes() - before;
        assert!(shared.decoder_bytes() <= DECODERS_MAX_BYTES);
        match class(&attempt) {
            None => {
                assert!((5 << 20..6 << 20).contains(&took), "{took} bytes");
                held.push(attempt);
            }
            class => {
                assert_eq!(class, Some(FailureClass::LocalPressure));
                assert_eq!(took, 0, "who was refused holds nothing");
                let said = attempt.evidence(Slot(1), Generation(1), 1).text;
                assert!(said.contains("hold all memory"), "{said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && held.len() > 20, "{refused} were refused");
    assert!(DECODERS_MAX_BYTES - shared.decoder_bytes() < 6 << 20);
    // Beside them: what needs little passes, and what finds nothing left is not down.
    assert_eq!(page(&shared, "br", HELLO, "keyword world").class(), None);
    let plain = page(&shared, "identity", b"the keyword world", "keyword world");
    assert_eq!(plain.class(), None);
    let large = page(&shared, "br", &WINDOW[1..], "aaa");
    assert!(matches!(large.class(), None | Some("local.pressure")));
    held.clear();
    assert_eq!(shared.decoder_bytes(), 0);
    assert_eq!(page(&shared, "br", &WINDOW[1..], "aaa").class(), None);
}

#[test]
fn a_core_without_memory_for_decoders_judges_what_needs_none() {
    let shared = shared();
    let waiting = answer("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    let rules = wants("absent");
    let held: Vec<Attempt> = (0..DECODERS_MAX_BYTES / DECODER_BYTES)
        .map(|_| begun(&shared, &rules, &waiting))
        .collect();
    assert!(held.iter().all(|attempt| class(attempt).is_none()));
    assert_eq!(shared.decoder_bytes(), DECODERS_MAX_BYTES);
    for coding in ["gzip", "deflate", "br"] {
        let run = page(&shared, coding, HELLO, "keyword world");
        assert_eq!(run.class(), Some("local.pressure"), "{coding}");
        assert_eq!(run.report().status, 200);
    }
    let plain = page(&shared, "identity", b"the keyword world", "keyword world");
    assert_eq!(plain.class(), None);
    // Nobody looks into it: nothing has to be decoded.
    let unlooked = answer("gzip", b"whatever");
    let script = Script::answering(vec![&unlooked], End::Silence);
    let run = run_on(&shared, &http(), script, false);
    assert_eq!(run.class(), Some("http.timeout"), "its length never comes");
    drop(held);
    assert_eq!(shared.decoder_bytes(), 0);
}

#[test]
fn a_body_that_is_over_holds_no_memory_while_the_check_goes_on() {
    let shared = shared();
    let rules = wants("absent");
    // The stream ends, but not the body.
    let whole = answer("br", &[HELLO, &[0; 300]].concat());
    let attempt = begun(&shared, &rules, &whole);
    assert_eq!((class(&attempt), shared.decoder_bytes()), (None, 0));
}

#[test]
fn a_body_under_two_codings_counts_with_both_and_is_refused_without_room_for_one() {
    let shared = shared();
    let rules = wants("absent");
    let waiting = answer("gzip, deflate", b"\x78");
    let mut held = vec![begun(&shared, &rules, &waiting)];
    assert_eq!(shared.decoder_bytes(), 2 * DECODER_BYTES);
    let one = answer("gzip", b"\x1f\x8b");
    while shared.decoder_bytes() + DECODER_BYTES < DECODERS_MAX_BYTES {
        held.push(begun(&shared, &rules, &one));
    }
    let used_bytes = shared.decoder_bytes();
    let refused = begun(&shared, &rules, &waiting);
    assert_eq!(class(&refused), Some(FailureClass::LocalPressure));
    assert_eq!(
        shared.decoder_bytes(),
        used_bytes,
        "who was refused holds nothing"
    );
    held.clear();
    assert_eq!(shared.decoder_bytes(), 0);
}
