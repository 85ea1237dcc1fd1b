//! Rules about bodies: keyword and forbidden texts, in every coding and however the bytes are cut.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use model::limits::{ATTEMPT_READ_MAX_BYTES, ATTEMPT_READ_MORE_BYTES};
use model::outcome::flags;
use model::target::TargetSpec;
use model::{Generation, Slot};
use prober::{AttemptSpec, Rules};
use proptest::prelude::*;

use crate::driver::{ECONNRESET, End, Run, Script, http, run, with_rules};

/// "Hello, keyword world! " ten times, by the reference encoder of brotli.
const BROTLI: &[u8] = include_bytes!("bodies/hello.br");
/// Some hundred bytes that ask for a window of a gigabyte and for one of 16 MiB, and fill them;
/// before them what chooses the coding of the fuzz target.
const LARGE_WINDOW: &[u8] = include_bytes!("../corpus/coding/brotli_window_30");
const WINDOW: &[u8] = include_bytes!("../corpus/coding/brotli_window_24");
const MIB: usize = 1024 * 1024;

fn rules(keyword: &str, forbidden: &[&str]) -> Rules {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some(keyword.to_owned()),
        forbidden: forbidden.iter().map(|text| (*text).to_owned()).collect(),
        ..TargetSpec::default()
    };
    Rules::from_config(&spec.parse().expect("valid")).expect("not all default")
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn check(rules: &Rules, pieces: Vec<&[u8]>, end: End) -> Run {
    run(&with_rules(rules), Script::answering(pieces, end), true)
}

fn class(rules: &Rules, body: &str) -> Option<&'static str> {
    check(rules, vec![&answer("", body.as_bytes())], End::Silence).class()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Text that does not compress well, with `text` at its end.
fn long(text: &str) -> Vec<u8> {
    let mut body: Vec<u8> = noise(30_000).iter().map(|byte| b' ' + byte % 90).collect();
    body.extend_from_slice(text.as_bytes());
    body
}

#[test]
fn the_keyword_must_be_there_and_forbidden_texts_must_not() {
    let both = rules("welcome", &["fatal error", "database"]);
    for (body, expected) in [
        ("you are welcome here", None),
        ("Welcome", Some("body.keyword_missing")),
        ("", Some("body.keyword_missing")),
        ("welcome: fatal error", Some("body.forbidden")),
        ("database error, welcome", Some("body.forbidden")),
        ("fatal error", Some("body.keyword_missing")),
    ] {
        assert_eq!(class(&both, body), expected, "{body}");
    }
    let forbidden = rules("", &["fatal error"]);
    assert_eq!(class(&forbidden, "all is well"), None);
    assert_eq!(class(&forbidden, ""), None);
    assert_eq!(class(&forbidden, "a fatal error"), Some("body.forbidden"));
}

#[test]
fn a_status_that_is_no_success_counts_first() {
    let answer = b"HTTP/1.1 503 Sorry\r\nContent-Length: 7\r\n\r\nwelcome";
    let run = check(&rules("welcome", &[]), vec![answer], End::Silence);
    assert_eq!(run.class(), Some("http.status"));
}

#[test]
fn a_keyword_that_was_found_ends_the_check() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nwelcome, and so on";
    assert_eq!(
        check(&rules("welcome", &[]), vec![answer], End::Silence).class(),
        None
    );
    let more_to_come = rules("welcome", &["fatal"]);
    assert_eq!(
        check(&more_to_come, vec![answer], End::Silence).class(),
        None,
        "forbidden texts are looked for in what came by the deadline"
    );
    assert_eq!(
        check(&more_to_come, vec![answer], End::Eof).class(),
        Some("http.truncated")
    );
}

#[test]
fn a_body_that_is_slower_than_the_deadline_passes_only_with_the_keyword() {
    let slow = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nwelcome, error";
    let deadline = |keyword, forbidden: &[&str]| {
        check(&rules(keyword, forbidden), vec![slow], End::Silence).class()
    };
    assert_eq!(deadline("welcome", &["fatal"]), None);
    assert_eq!(deadline("welcome", &["error"]), Some("body.forbidden"));
    assert_eq!(deadline("absent", &["fatal"]), Some("http.timeout"));
    assert_eq!(deadline("absent", &[]), Some("http.timeout"));
    assert_eq!(deadline("", &["fatal"]), Some("http.timeout"));
    // What is still in the decoder's block counts.
    let coded = gzip(b"welcome, error");
    let answer = answer("Content-Encoding: gzip\r\n", &coded);
    let cut = &answer[..answer.len() - 9];
    let deadline = |keyword, forbidden: &[&str]| {
        check(&rules(keyword, forbidden), vec![cut], End::Silence).class()
    };
    assert_eq!(deadline("welcome", &["fatal"]), None);
    assert_eq!(deadline("welcome", &[]), None);
    assert_eq!(deadline("welcome", &["error"]), Some("body.forbidden"));
    assert_eq!(deadline("absent", &[]), Some("http.timeout"));
}

#[test]
fn a_body_without_an_end_is_judged_by_what_came_unless_the_keyword_did_not() {
    let endless = b"HTTP/1.1 200 OK\r\n\r\nwelcome, fatal";
    let deadline = |keyword, forbidden: &[&str]| {
        check(&rules(keyword, forbidden), vec![endless], End::Silence).class()
    };
    assert_eq!(deadline("", &["other"]), None);
    assert_eq!(deadline("", &["fatal"]), Some("body.forbidden"));
    assert_eq!(deadline("welcome", &["other"]), None);
    assert_eq!(deadline("absent", &["other"]), Some("http.timeout"));
    // The time is up before the 250 ms are that such a body is read for.
    let brief = AttemptSpec {
        timeout_ms: 200,
        ..http()
    };
    let unsearched = run(&brief, Script::answering(vec![endless], End::Silence), true);
    assert_eq!(unsearched.class(), None);
    let closed = check(&rules("absent", &[]), vec![endless], End::Eof);
    assert_eq!(closed.class(), Some("body.keyword_missing"));
}

#[test]
fn codings_are_offered_and_decoded() {
    let wanted = rules("keyword world", &[]);
    let body = long("here is the keyword world of it");
    for (coding, coded) in [
        ("gzip", gzip(&body)),
        ("x-gzip", gzip(&body)),
        ("deflate", zlib(&body)),
        ("deflate", deflate(&body)),
        ("identity", body.clone()),
        ("br", BROTLI.to_vec()),
    ] {
        let answer = answer(&format!("Content-Encoding: {coding}\r\n"), &coded);
        let run = check(&wanted, vec![&answer], End::Silence);
        assert_eq!(run.class(), None, "{coding}");
        let request = String::from_utf8(run.sent.clone()).expect("ASCII");
        assert!(request.contains("Accept-Encoding: gzip, deflate, br\r\n"));
        let absent = check(&rules("absent", &[]), vec![&answer], End::Silence);
        assert_eq!(absent.class(), Some("body.keyword_missing"), "{coding}");
    }
}

#[test]
fn a_coding_that_is_broken_is_told_unless_the_keyword_came_before() {
    let body = long("the end");
    let start = String::from_utf8(body[20_000..20_020].to_vec()).expect("ASCII");
    let mut broken = gzip(&body);
    let middle = broken.len() * 3 / 4;
    broken[middle..middle + 64].fill(0xff);
    let cut = gzip(&body)[..middle].to_vec();
    let verdict = |coding: &str, coded: &[u8], keyword: &str| {
        let answer = answer(&format!("Content-Encoding: {coding}\r\n"), coded);
        check(&rules(keyword, &[]), vec![&answer], End::Silence).class()
    };
    for coded in [&broken, &cut] {
        assert_eq!(verdict("gzip", coded, "the end"), Some("http.bad_encoding"));
        assert_eq!(verdict("gzip", coded, &start), None);
    }
    assert_eq!(
        verdict("gzip", b"not gzip at all", "x"),
        Some("http.bad_encoding")
    );
    assert_eq!(
        verdict("br", b"\xff\xff\xff\xff", "x"),
        Some("http.bad_encoding")
    );
    let plain = http();
    let answer = answer("Content-Encoding: gzip\r\n", b"whatever");
    let unasked = run(&plain, Script::answering(vec![&answer], End::Silence), true);
    assert_eq!(unasked.class(), None, "nobody looks into it");
}

#[test]
fn a_body_under_a_strange_coding_is_looked_at_as_it_is_and_the_coding_named() {
    let verdict = |coding: &str, body: &str, keyword: &str, forbidden: &[&str]| {
        let fields = format!("Server: x\r\nContent-Encoding: {coding}\r\n");
        let answer = answer(&fields, body.as_bytes());
        let run = check(&rules(keyword, forbidden), vec![&answer], End::Silence);
        let sloppy = run.report().flags & flags::HTTP_SLOPPY != 0;
        assert_eq!(sloppy, !["none", "identity"].contains(&coding), "{coding}");
        let evidence = run.attempt.evidence(Slot(1), Generation(1), 1);
        (run.class(), evidence.text)
    };
    let class =
        |coding, body, keyword, forbidden: &[&str]| verdict(coding, body, keyword, forbidden).0;
    let page = "you are welcome here";
    for coding in ["UTF-8", "zstd", "gzip, x", "br, br, br"] {
        assert_eq!(class(coding, page, "welcome", &[]), None, "{coding}");
        assert_eq!(class(coding, page, "welcome", &["fatal"]), None, "{coding}");
        assert_eq!(
            class(coding, page, "welcome", &["here"]),
            Some("body.forbidden")
        );
        assert_eq!(class(coding, page, "", &["here"]), Some("body.forbidden"));
        assert_eq!(
            class(coding, "", "welcome", &[]),
            Some("body.keyword_missing")
        );
        let (class, text) = verdict(coding, page, "absent", &["fatal"]);
        assert_eq!(class, Some("http.bad_encoding"), "{coding}");
        assert!(
            text.ends_with(&format!("its coding is {coding:?}")),
            "{text}"
        );
    }
    // Without a keyword nothing shows that the body is what it looks like.
    assert_eq!(class("UTF-8", page, "", &["fatal"]), None);
    let hidden = verdict("zstd", page, "", &["fatal"]);
    assert_eq!(hidden.0, Some("http.bad_encoding"));
    assert!(
        hidden.1.contains("cannot look into the body"),
        "{}",
        hidden.1
    );
    assert_eq!(
        class("none", page, "absent", &[]),
        Some("body.keyword_missing")
    );
}

#[test]
fn a_strange_coding_that_was_not_kept_with_the_head_is_told_without_its_name() {
    let fields = format!("A: {}\r\nContent-Encoding: UTF-8\r\n", "a".repeat(2_000));
    let answer = answer(&fields, b"welcome");
    let run = check(&rules("absent", &[]), vec![&answer], End::Silence);
    let text = run.attempt.evidence(Slot(1), Generation(1), 1).text;
    assert!(text.ends_with("its coding is \"(not kept)\""), "{text}");
}

#[test]
fn two_codings_are_taken_off_one_after_the_other() {
    let page = long("the end");
    for (codings, coded) in [
        ("gzip, gzip", gzip(&gzip(&page))),
        ("deflate, x-gzip", gzip(&zlib(&page))),
        ("gzip, deflate", deflate(&gzip(&page))),
        ("br, deflate", zlib(BROTLI)),
    ] {
        let keyword = if codings.starts_with("br") {
            "keyword world"
        } else {
            "the end"
        };
        let verdict = |coded: &[u8], keyword: &str| {
            let answer = answer(&format!("Content-Encoding: {codings}\r\n"), coded);
            check(&rules(keyword, &[]), vec![&answer], End::Silence).class()
        };
        assert_eq!(verdict(&coded, keyword), None, "{codings}");
        let absent = verdict(&coded, "absent");
        assert_eq!(absent, Some("body.keyword_missing"), "{codings}");
        let cut = &coded[..coded.len() - 12];
        assert_eq!(
            verdict(cut, "absent"),
            Some("http.bad_encoding"),
            "{codings}"
        );
    }
}

#[test]
fn a_coded_body_that_our_own_limits_cut_is_judged_as_an_uncoded_one() {
    let page = [long("welcome"), long("the end")].concat();
    let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    let endless = [&head[..], &gzip(&page)[..20_000]].concat();
    let deadline = |keyword, forbidden: &[&str]| {
        check(&rules(keyword, forbidden), vec![&endless], End::Silence).class()
    };
    assert_eq!(deadline("", &["fatal error"]), None);
    assert_eq!(deadline("absent", &["fatal error"]), Some("http.timeout"));
    let start = String::from_utf8(page[10_000..10_020].to_vec()).expect("ASCII");
    assert_eq!(deadline(&start, &["fatal error"]), None);
    assert_eq!(deadline("", &[&start]), Some("body.forbidden"));
    // More than a mebibyte, before and after decoding, and all of it is well.
    let large = noise(1_500_000);
    let coded = gzip(&large);
    assert!(coded.len() > MIB, "it must not compress");
    for coded in [coded, zlib(&large)] {
        let coding = if coded[0] == 0x1f { "gzip" } else { "deflate" };
        let answer = answer(&format!("Content-Encoding: {coding}\r\n"), &coded);
        let pieces = answer.chunks(4_096).collect();
        let run = check(&rules("", &["fatal error"]), pieces, End::Eof);
        assert_eq!(run.class(), None, "{coding}");
    }
}

#[test]
fn a_coded_body_that_its_server_ends_early_passes_only_with_the_keyword() {
    let whole = gzip(b"you are welcome here");
    for lacks in [1, 8] {
        let coded = &whole[..whole.len() - lacks];
        let verdict = |keyword, forbidden: &[&str]| {
            let answer = answer("Content-Encoding: gzip\r\n", coded);
            check(&rules(keyword, forbidden), vec![&answer], End::Silence).class()
        };
        assert_eq!(verdict("welcome", &[]), None);
        assert_eq!(verdict("welcome", &["fatal error"]), None);
        assert_eq!(verdict("welcome", &["here"]), Some("body.forbidden"));
        assert_eq!(verdict("absent", &[]), Some("http.bad_encoding"));
        assert_eq!(verdict("", &["fatal error"]), Some("http.bad_encoding"));
    }
}

#[test]
fn a_window_of_brotli_that_no_content_coding_has_is_told_and_costs_nothing() {
    let verdict = |coded: &[u8], keyword: &str| {
        let answer = answer("Content-Encoding: br\r\n", coded);
        check(&rules(keyword, &[]), vec![&answer], End::Silence).class()
    };
    assert_eq!(
        verdict(&LARGE_WINDOW[1..], "aaa"),
        Some("http.bad_encoding")
    );
    assert_eq!(verdict(&WINDOW[1..], "aaa"), None);
    assert_eq!(verdict(&WINDOW[1..], "b"), Some("body.keyword_missing"));
}

#[test]
fn only_the_first_mebibyte_counts_before_and_after_decoding() {
    let mut body = vec![b'.'; MIB];
    body.extend_from_slice(b"keyword");
    let gzipped = answer("Content-Encoding: gzip\r\n", &gzip(&body));
    let plain = answer("", &body);
    for answer in [&gzipped, &plain] {
        let run = check(&rules("keyword", &[]), vec![answer], End::Silence);
        assert_eq!(run.class(), Some("body.keyword_missing"));
    }
    body.drain(..7);
    let gzipped = answer("Content-Encoding: gzip\r\n", &gzip(&body));
    assert_eq!(
        check(&rules("keyword", &[]), vec![&gzipped], End::Silence).class(),
        None
    );
}

#[test]
fn evidence_shows_what_was_found_or_how_the_body_begins() {
    let body = [long(""), b" a fatal error occurred".to_vec(), long("")].concat();
    let answer = answer("", &body);
    let run = check(&rules("", &["fatal error"]), vec![&answer], End::Silence);
    let evidence = run.attempt.evidence(Slot(1), Generation(1), 1);
    assert!(
        evidence.excerpt.contains("fatal error"),
        "{}",
        evidence.excerpt
    );
    assert!(evidence.excerpt.len() <= 256);
    assert!(
        evidence
            .text
            .ends_with("has the forbidden text \"fatal error\"")
    );
    let run = check(&rules("absent", &[]), vec![&answer], End::Silence);
    let evidence = run.attempt.evidence(Slot(1), Generation(1), 1);
    assert_eq!(evidence.excerpt.as_bytes(), &body[..256]);
    assert!(evidence.text.ends_with("does not have the keyword"));
}

#[test]
fn the_forbidden_text_that_is_complete_first_is_named_however_the_bytes_are_cut() {
    // (texts in their order, body, the one that is named)
    for (texts, body, named) in [
        (&["abcdefgh", "cde"][..], "..abcdefgh..", "cde"),
        (&["second", "first"], "..first..second..", "first"),
        (&["bcd", "abcd"], "..abcd..", "bcd"),
        (&["abcd", "bcd"], "..abcd..", "abcd"),
    ] {
        let rules = rules("", texts);
        let body = format!("{}{body}", "-".repeat(1_500));
        for head in ["Content-Length", "Padding: x\r\nContent-Length"] {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}: {}\r\n\r\n{body}", body.len());
            for piece in [1, 2, 3, 5, 1_000, 4_096] {
                let pieces = answer.as_bytes().chunks(piece).collect();
                let run = check(&rules, pieces, End::Silence);
                let evidence = run.attempt.evidence(Slot(1), Generation(1), 1);
                let ends = format!("has the forbidden text {named:?}");
                assert!(evidence.text.ends_with(&ends), "{}", evidence.text);
                assert!(evidence.excerpt.ends_with(named), "{}", evidence.excerpt);
                let before = evidence.excerpt.len() - named.len();
                assert_eq!(before, 128, "in pieces of {piece}");
            }
        }
    }
}

#[test]
fn texts_are_found_at_every_seam_of_small_pieces() {
    let text = "k".repeat(499) + "!";
    let wanted = rules(&text, &["never here"]);
    for before in [0, 1, 523, 524, 525, 1_023, 1_024, 1_025, 2_000] {
        let body = ["x".repeat(before), text.clone(), "y".repeat(700)].concat();
        for size in [1, 7, 255] {
            let chunks = chunked(body.as_bytes(), size);
            for read in [1, 100, 4_096] {
                let run = check(&wanted, chunks.chunks(read).collect(), End::Silence);
                assert_eq!(run.class(), None, "{before} in chunks of {size}, {read}");
            }
        }
    }
}

#[test]
fn a_target_that_is_judged_by_the_head_reads_no_body() {
    let head_only = AttemptSpec {
        head_only: true,
        ..http()
    };
    let broken = [
        "Content-Length: 20\r\n\r\nshort",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Content-Length: 20\r\n\r\n",
    ];
    for (fields, end) in broken
        .into_iter()
        .zip([End::Eof, End::Errno(ECONNRESET), End::Silence])
    {
        let answer = |status: &str| format!("HTTP/1.1 {status}\r\n{fields}");
        let verdict = |spec: &AttemptSpec<'_>, status: &str| {
            let answer = answer(status);
            run(spec, Script::answering(vec![answer.as_bytes()], end), true)
        };
        let good = verdict(&head_only, "200 OK");
        assert_eq!(
            (good.class(), good.report().status),
            (None, 200),
            "{fields}"
        );
        let phases = good.report().phases;
        assert_eq!(phases.total_us, 4_000, "the head is the end of it");
        assert_eq!(verdict(&head_only, "500 Oops").class(), Some("http.status"));
        assert!(verdict(&http(), "200 OK").class().is_some(), "{fields}");
        // Each hop of the way, too.
        let to = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9\r\n\r\n";
        let last = answer("200 OK");
        let mut script = Script::answering(vec![to], end);
        script.later = vec![vec![last.as_bytes()]];
        assert_eq!(run(&head_only, script, true).class(), None, "{fields}");
    }
    // What is no head stays a failure, and so does one that does not come.
    for (bytes, class) in [
        ("SMTP\r\n\r\n", "http.malformed"),
        ("HTTP/1.1 2", "http.timeout"),
    ] {
        let script = Script::answering(vec![bytes.as_bytes()], End::Silence);
        assert_eq!(run(&head_only, script, true).class(), Some(class));
    }
}

/// Of a target with `max_latency_ms = 200` whose first bytes come after 3 ms, and no more.
fn latency(keyword: &str, forbidden: &[&str], answer: &[u8], end: End) -> Option<&'static str> {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some(keyword.to_owned()),
        forbidden: forbidden.iter().map(|text| (*text).to_owned()).collect(),
        max_latency_ms: Some(200),
        ..TargetSpec::default()
    };
    let rules = Rules::from_config(&spec.parse().expect("valid")).expect("not all default");
    let pieces = answer.chunks(4_096).collect();
    let run = check(&rules, pieces, end);
    let total_us = run.report().phases.total_us;
    assert!(total_us > 200_000, "{total_us} µs in all");
    run.class()
}

#[test]
fn our_own_waiting_for_a_body_is_no_latency_of_the_target() {
    let chunked_head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * MIB);
    for begun in ["HTTP/1.1 200 OK\r\n\r\nhello", chunked_head, &large] {
        let verdict = |keyword, forbidden: &[&str]| {
            latency(keyword, forbidden, begun.as_bytes(), End::Silence)
        };
        assert_eq!(verdict("", &[]), None, "{begun}");
        assert_eq!(verdict("", &["fatal"]), None, "{begun}");
    }
    let endless = b"HTTP/1.1 200 OK\r\n\r\nhello";
    assert_eq!(latency("hello", &["fatal"], endless, End::Silence), None);
    // 4 KiB a millisecond: the end of a mebibyte, or of what fits in 250 ms, is not what counts.
    let mut more = large.into_bytes();
    more.resize(more.len() + 2 * MIB, b'x');
    assert_eq!(latency("", &[], &more, End::Eof), None);
    // What is waited for counts: all of a body with a length, and the keyword.
    let sized = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n".to_vec(),
        vec![b'x'; MIB],
    ]
    .concat();
    assert_eq!(
        latency("", &["fatal"], &sized[..], End::Eof),
        Some("latency")
    );
}

#[test]
fn a_keyword_that_comes_late_is_late_however_the_body_goes_on() {
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(endless.len() + 1_000_000, b'x');
    endless.extend_from_slice(b"welcome");
    let spec = |max_latency_ms| TargetSpec {
        url: "http://e.test/".to_owned(),
        keyword: Some("welcome".to_owned()),
        forbidden: vec!["fatal".to_owned()],
        max_latency_ms: Some(max_latency_ms),
        ..TargetSpec::default()
    };
    // Of 4 KiB a millisecond, the keyword is in the piece of the 248th.
    for (max_latency_ms, expected) in [(200, Some("latency")), (300, None)] {
        let config = spec(max_latency_ms).parse().expect("valid");
        let rules = Rules::from_config(&config).expect("not all default");
        let pieces = endless.chunks(4_096).collect();
        assert_eq!(check(&rules, pieces, End::Silence).class(), expected);
    }
}

/// `body` in chunks of `size` bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(size) {
        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

#[test]
fn the_framing_of_chunks_takes_nothing_from_the_mebibyte_that_is_searched() {
    let verdict = |before: usize, size: usize| {
        let mut body = vec![b'.'; before];
        body.extend_from_slice(b"welcome");
        let wire = chunked(&body, size);
        let pieces = wire.chunks(4_096).collect();
        check(&rules("welcome", &[]), pieces, End::Eof).class()
    };
    assert_eq!(verdict(900_000, 16), None);
    assert_eq!(verdict(MIB - 7, 1_000), None, "the last bytes that count");
    assert_eq!(verdict(MIB - 6, 1_000), Some("body.keyword_missing"));
    // The limit of all that is read comes before the mebibyte: six bytes for one.
    let read = (ATTEMPT_READ_MAX_BYTES + ATTEMPT_READ_MORE_BYTES) as usize / 6;
    assert!(read < MIB);
    assert_eq!(verdict(read - 1_000, 1), None);
    assert_eq!(verdict(read + 1_000, 1), Some("body.keyword_missing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_split_gives_the_same_verdict(
        coded in 0_usize..5,
        keyword in prop::sample::select(vec!["the end", "absent", ""]),
        damage in prop::option::of(any::<prop::sample::Index>()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let body = long("the end");
        let (coding, mut bytes) = [
            ("identity", body.clone()),
            ("gzip", gzip(&body)),
            ("deflate", zlib(&body)),
            ("deflate", deflate(&body)),
            ("br", BROTLI.to_vec()),
        ][coded].clone();
        if let Some(at) = damage {
            let at = at.index(bytes.len());
            bytes[at] ^= 0x55;
        }
        let answer = answer(&format!("Content-Encoding: {coding}\r\n"), &bytes);
        let rules = rules(keyword, &["a text that never comes"]);
        let whole = check(&rules, vec![&answer], End::Eof).report();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len())).collect();
        at.extend([0, answer.len()]);
        at.sort_unstable();
        at.dedup();
        let pieces = at.windows(2).map(|pair| &answer[pair[0]..pair[1]]).collect();
        let split = check(&rules, pieces, End::Eof).report();
        prop_assert_eq!(split.class, whole.class);
    }
}
