//! Checks of the DNS itself: what is asked for, what the answer is compared with, and what is said
//! of a wrong one.

use model::record::{RecordType, RecordValue};
use model::url::Scheme;
use model::{Evidence, FailureClass, Generation, Slot, TargetSpec};
use prober::resolver::{DnsFailure, Records};
use prober::{Attempt, AttemptSpec, Buffers, Command, Event, HostRef, Rules};
use proptest::prelude::*;
use std::net::SocketAddr;

use crate::driver::{at, kept_shared, local, spec};

fn rules(kind: &str, expect: &[&str], max_latency_ms: Option<i64>) -> Option<Rules> {
    let target = TargetSpec {
        url: format!("dns://e.test?type={kind}"),
        expect: expect.iter().map(|&text| text.to_owned()).collect(),
        max_latency_ms,
        ..TargetSpec::default()
    };
    Rules::from_config(&target.parse().expect("a valid target"))
}

fn records(kind: RecordType, values: &[&str]) -> Records {
    let value = |text: &&str| RecordValue::parse(kind, text).expect("a value");
    Records {
        values: values.iter().map(value).collect(),
        server: Some(SocketAddr::new(local(53), 53)),
        tries: 2,
    }
}

/// An attempt that waits for its answer, 5 ms after it began.
fn asked(rules: Option<&Rules>) -> Attempt {
    let spec = AttemptSpec {
        rules,
        ..spec(Scheme::Dns, HostRef::Name("e.test"))
    };
    let mut attempt = Attempt::start(&spec, kept_shared(), Buffers::default(), at(0));
    assert_eq!(attempt.next(), Command::Resolve);
    assert_eq!(attempt.next(), Command::Wait);
    attempt
}

/// The end of an attempt with this answer.
fn answered(rules: Option<&Rules>, answer: Result<&Records, DnsFailure>) -> (Attempt, Evidence) {
    let mut attempt = asked(rules);
    attempt.on(Event::Answered(answer), kept_shared(), at(5_000));
    assert_eq!(attempt.next(), Command::Done, "nothing is connected to");
    let evidence = attempt.evidence(Slot(0), Generation(0), 0);
    (attempt, evidence)
}

fn class(kind: &str, expect: &[&str], values: &[&str]) -> (Option<&'static str>, String) {
    let rules = rules(kind, expect, None);
    let kind = RecordType::named(kind).expect("a type");
    let (attempt, evidence) = answered(rules.as_ref(), Ok(&records(kind, values)));
    let report = attempt.report();
    let [dns, connect, tls, ttfb, body, total] = report.phases.values();
    assert_eq!((dns, total), (Some(5_000), Some(5_000)));
    assert_eq!([connect, tls, ttfb, body], [None; 4]);
    assert_eq!((report.address, report.flags, report.status), (None, 0, 0));
    assert_eq!(evidence.head.lines().count(), values.len());
    let dns = evidence.dns.expect("it was asked");
    assert_eq!((dns.rcode, dns.tries), (Some(0), 2));
    assert!(dns.server.is_some() && evidence.addresses.is_empty());
    (report.class.map(FailureClass::as_str), evidence.text)
}

#[test]
fn the_type_of_the_url_is_asked_for() {
    for kind in ["A", "MX", "CAA"] {
        let attempt = asked(rules(kind, &[], None).as_ref());
        assert_eq!(attempt.question(), RecordType::named(kind));
    }
    let page = spec(Scheme::Http, HostRef::Name("e.test"));
    let page = Attempt::start(&page, kept_shared(), Buffers::default(), at(0));
    assert_eq!(page.question(), None);
}

#[test]
fn the_answer_must_be_what_is_expected_and_nothing_else() {
    let two = ["10 a.example", "20 b.example"];
    assert_eq!(class("MX", &[], &two), (None, String::new()));
    assert_eq!(
        class("MX", &["20 B.example.", "10 A.example."], &two),
        (None, String::new())
    );
    let lacks = "the MX records lack the expected 10 a.example";
    let (missing, surplus) = (Some("body.keyword_missing"), Some("body.forbidden"));
    assert_eq!(class("MX", &two, &two[1..]), (missing, lacks.to_owned()));
    let has = "the MX records have one not expected: 20 b.example";
    assert_eq!(class("MX", &two[..1], &two), (surplus, has.to_owned()));
    assert_eq!(class("A", &["192.0.2.1"], &["192.0.2.2"]).0, missing);
    let text = |expect: &str| class("TXT", &[expect], &[r#""v=1 " "x y""#]).0;
    assert_eq!([text("v=1 x y"), text(r#""v=1 x y""#)], [None; 2]);
    assert_eq!(
        [text("V=1 x y"), text("v=1"), text("v=1 xy")],
        [missing; 3],
        "capitals and spaces of a text count"
    );
}

#[test]
fn the_smallest_and_the_strangest_texts_are_told_apart() {
    let texts = ["a", "\"\"", "\" a\"", "\"\\255\"", "\"a\\010b\"", "b\\"];
    for (at, text) in texts.into_iter().enumerate() {
        assert_eq!(class("TXT", &[text], &[text]), (None, String::new()));
        let other = texts[(at + 1) % texts.len()];
        let judged = class("TXT", &[text], &[text, other]).0;
        assert_eq!(judged, Some("body.forbidden"), "{text} {other}");
    }
    assert_eq!(class("TXT", &texts, &texts).0, None);
}

#[test]
fn no_answer_and_a_late_one_are_told_as_for_any_name() {
    let failure = DnsFailure {
        class: FailureClass::DnsNoAddress,
        rcode: Some(0),
        server: None,
        tries: 1,
        many: None,
        agreed: false,
    };
    let (attempt, evidence) = answered(rules("CAA", &[], None).as_ref(), Err(failure));
    assert_eq!(attempt.report().class, Some(FailureClass::DnsNoAddress));
    assert_eq!(evidence.text, "the name has no CAA record");
    assert_eq!(
        evidence.dns.map(|dns| (dns.rcode, dns.tries)),
        Some((Some(0), 1))
    );
    let slow = rules("A", &[], Some(4));
    let (attempt, _) = answered(slow.as_ref(), Ok(&records(RecordType::A, &["192.0.2.1"])));
    assert_eq!(attempt.report().class, Some(FailureClass::Latency));
    let told = attempt.evidence(Slot(0), Generation(0), 0).text;
    assert_eq!(told, "the DNS answer came more slowly than max_latency_ms");
    let mut attempt = asked(None);
    attempt.on(
        Event::Deadline { ours: false },
        kept_shared(),
        at(10_000_000),
    );
    assert_eq!(attempt.report().class, Some(FailureClass::DnsTimeout));
}

#[test]
fn a_long_answer_is_compared_as_a_whole_and_shown_in_part() {
    let all: Vec<String> = (0..30)
        .map(|n| format!("{n:02} {}", "x".repeat(200)))
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let rules = rules("TXT", &all, None);
    let (attempt, evidence) = answered(rules.as_ref(), Ok(&records(RecordType::Txt, &all)));
    assert_eq!(attempt.report().class, None);
    assert!(evidence.head.starts_with("00 xx") && evidence.head.len() <= 1_024);
    let (attempt, evidence) = answered(rules.as_ref(), Ok(&records(RecordType::Txt, &all[..29])));
    let class = Some(FailureClass::BodyKeywordMissing);
    assert_eq!(attempt.report().class, class);
    let told = "the TXT records lack the expected 29 xx";
    assert!(evidence.text.starts_with(told), "{}", evidence.text);
}

proptest! {
    #[test]
    fn answers_are_compared_as_sets(
        expected in prop::collection::btree_set(0_u8..6, 1..5),
        came in prop::collection::btree_set(0_u8..6, 1..5),
    ) {
        let text = |set: &std::collections::BTreeSet<u8>| -> Vec<String> {
            set.iter().rev().map(|last| format!("192.0.2.{last}")).collect()
        };
        let (expect, values) = (text(&expected), text(&came));
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let judged = class("A", &expect, &values).0;
        let right = if !expected.is_subset(&came) {
            Some("body.keyword_missing")
        } else if came != expected {
            Some("body.forbidden")
        } else {
            None
        };
        prop_assert_eq!(judged, right);
    }
}
