//! The memory that bodies take while they are decoded: of one core together, whatever servers send.

use model::limits::{ADDRESS_IN_FLIGHT_MAX, DECODED_PAGE_BYTES, DECODER_BYTES, DECODERS_MAX_BYTES};
use model::target::TargetSpec;
use model::{FailureClass, Generation, Slot};
use prober::{Attempt, Rules, Shared};

use crate::driver::{End, Run, Script, begun_with, feed, http, run_on, shared, with_rules};

/// Some hundred bytes that make a decoder of brotli hold all that it can, and wait for more; before
/// them what chooses the coding of the fuzz target.
const GREEDY: &[u8] = include_bytes!("../corpus/coding/brotli_greedy");
/// "Hello, keyword world! " ten times.
const HELLO: &[u8] = include_bytes!("bodies/hello.br");
/// Some kilobytes of words, `final words` at their end, as encoders pack them by default: with a
/// window of 4 MiB. Of what its decoder has seen after the first bytes more is to come.
const PAGE: &[u8] = include_bytes!("bodies/page.br");
const PAGE_BEGINS: usize = 600;

fn wants(keyword: &str) -> Rules {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some(keyword.to_owned()),
        ..TargetSpec::default()
    };
    Rules::from_config(&spec.parse().expect("valid")).expect("not all default")
}

fn head(coding: &str, length: usize) -> Vec<u8> {
    let status = "HTTP/1.1 200 OK\r\n";
    format!("{status}Content-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

/// An answer whose body is larger than what comes of it.
fn answer(coding: &str, begun: &[u8]) -> Vec<u8> {
    [&head(coding, begun.len() + 1_000)[..], begun].concat()
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
    let bytes = [&head(coding, body.len())[..], body].concat();
    let script = Script::answering(vec![&bytes], End::Silence);
    run_on(shared, &with_rules(&wants(keyword)), script, false)
}

/// Bodies in flight at a time, of two addresses.
const HOSTILE: usize = 64;

/// So many checks whose servers all send `begun`, some bytes of each in turn; then those that still
/// run, and what is said of the others.
fn beside_each_other(shared: &Shared, begun: &[u8]) -> (Vec<Attempt>, Vec<String>) {
    let rules = wants("absent");
    let (head, body) = begun.split_at(100);
    let mut all: Vec<Attempt> = (0..HOSTILE)
        .map(|_| self::begun(shared, &rules, head))
        .collect();
    for bytes in body.chunks(64) {
        for attempt in all.iter_mut().filter(|attempt| class(attempt).is_none()) {
            feed(attempt, shared, bytes);
        }
    }
    let (run, over): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|attempt| class(attempt).is_none());
    let said = over.iter().map(|attempt| {
        assert_eq!(class(attempt), Some(FailureClass::LocalPressure));
        attempt.evidence(Slot(1), Generation(1), 1).text
    });
    let said = said.collect();
    (run, said)
}

#[test]
fn hostile_bodies_take_half_of_what_their_core_has_and_honest_ones_beside_them_are_judged() {
    let shared = shared();
    let (held, refused) = beside_each_other(&shared, &answer("br", &GREEDY[1..]));
    assert!(held.len() >= 10 && refused.len() > 40, "{}", held.len());
    for said in &refused {
        assert!(said.contains("hold all memory"), "{said}");
    }
    let of_hostile = shared.decoder_bytes();
    let half = DECODERS_MAX_BYTES / 2;
    assert!((half - (6 << 20)..=half).contains(&of_hostile));
    // Honest ones, of which each holds a full window, are all in flight.
    let rules = wants("absent");
    let (begins, ends) = PAGE.split_at(PAGE_BEGINS);
    let begins = [&head("br", PAGE.len())[..], begins].concat();
    let mut honest = vec![begun(&shared, &rules, &begins)];
    let each = shared.decoder_bytes() - of_hostile;
    assert!(
        (2 << 20..=DECODED_PAGE_BYTES).contains(&each),
        "{each} bytes"
    );
    while shared.decoder_bytes() + 2 * DECODED_PAGE_BYTES <= DECODERS_MAX_BYTES {
        honest.push(begun(&shared, &rules, &begins));
    }
    assert!(honest.len() > 25, "{}", honest.len());
    assert!(honest.iter().all(|attempt| class(attempt).is_none()));
    // Beside them those that come and go are judged, while hostile ones come again.
    for _ in 0..3 {
        let (more, refused) = beside_each_other(&shared, &answer("br", &GREEDY[1..]));
        assert_eq!((more.len(), refused.len()), (0, HOSTILE));
        assert_eq!(page(&shared, "br", PAGE, "final words").class(), None);
        let without = page(&shared, "br", PAGE, "absent");
        assert_eq!(without.class(), Some("body.keyword_missing"));
        assert_eq!(page(&shared, "br", HELLO, "keyword world").class(), None);
    }
    for attempt in &mut honest {
        feed(attempt, &shared, ends);
        assert_eq!(class(attempt), Some(FailureClass::BodyKeywordMissing));
    }
    assert_eq!(shared.decoder_bytes(), of_hostile);
    drop(held);
    assert_eq!(shared.decoder_bytes(), 0);
}

#[test]
fn hostile_bodies_of_one_address_leave_room_for_pages_and_of_two_they_leave_none() {
    let rules = wants("absent");
    let greedy = answer("br", &GREEDY[1..]);
    // It holds a full window, as pages do, for as long as it likes.
    let window = answer("br", &PAGE[..PAGE_BEGINS]);
    for (addresses, judged) in [(1, None), (2, Some("local.pressure"))] {
        let shared = shared();
        let in_flight = addresses * usize::from(ADDRESS_IN_FLIGHT_MAX);
        let first = (0..in_flight).map(|_| begun(&shared, &rules, &greedy));
        let mut held: Vec<Attempt> = first.filter(|attempt| class(attempt).is_none()).collect();
        while held.len() < in_flight {
            held.push(begun(&shared, &rules, &window));
        }
        let run = page(&shared, "br", PAGE, "final words");
        assert_eq!(run.class(), judged, "of {addresses} addresses");
        drop(held);
        assert_eq!(shared.decoder_bytes(), 0);
    }
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
