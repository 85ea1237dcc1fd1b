//! Questions for records: asked each time, read in their written form, and no business of the
//! cache.

use hickory_proto::rr::rdata::{CAA, CNAME, MX, NS, PTR, SRV, TXT};
use model::record::{RecordType as Kind, RecordValue};

use super::*;

/// Asks for the records of a host.
fn ask(bench: &mut Bench, host: HostId, kind: Kind, waiter: u64) {
    let refused = bench.resolver.ask_records(host, kind, waiter, bench.now);
    assert_eq!(refused, None);
    bench.pump();
}

fn next(bench: &mut Bench) -> Option<(u64, Result<Records, DnsFailure>)> {
    bench.records.pop_front()
}

/// A resolver and the host [`NAME`].
fn bench(upstreams: u8) -> (Bench, HostId) {
    let mut bench = Bench::new(upstreams, IpPolicy::V4First);
    let host = bench.resolver.intern(NAME);
    (bench, host)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// The answer of a server with these records of the name that was asked for.
fn reply(sent: &Sent, data: &[RData]) -> Vec<u8> {
    let mut message = sent.message();
    message.metadata.message_type = MessageType::Response;
    let owner = message.queries[0].name().clone();
    for data in data {
        message.add_answer(Record::from_rdata(owner.clone(), 60, data.clone()));
    }
    message.to_vec().expect("it encodes")
}

/// The written values of an answer with `data`.
fn read(kind: Kind, data: &[RData]) -> Vec<String> {
    let (mut bench, host) = bench(1);
    ask(&mut bench, host, kind, 7);
    let sent = bench.sent.last().expect("a query").clone();
    assert_eq!(u16::from(sent.kind()), kind.number());
    let bytes = reply(&sent, data);
    let socket = sent.socket;
    bench.event(DnsEvent::Datagram {
        socket,
        bytes: &bytes,
    });
    let (waiter, records) = next(&mut bench).expect("an answer");
    let records = records.expect("records");
    assert_eq!((waiter, records.tries), (7, 1));
    assert_eq!(records.server, Some(upstream(0)));
    assert_eq!(bench.resolver.stats().flights, 0);
    records.values.iter().map(ToString::to_string).collect()
}

#[test]
fn records_of_every_type_come_in_their_written_form_each_once_and_in_order() {
    let text = |parts: &[&str]| RData::TXT(TXT::new(parts.iter().map(|&p| p.into()).collect()));
    let mx = |preference, host: &str| RData::MX(MX::new(preference, name(host)));
    let four = |last| RData::A(A::new(192, 0, 2, last));
    let alias = || RData::CNAME(CNAME(name("Other.Example.")));
    let soa = SOA::new(name("NS.example."), name("a.example."), 7, 1, 2, 3, 4);
    let issue = CAA::new_issue(false, Some(name("ca.example")), Vec::new());
    for (kind, data, written) in [
        (
            Kind::A,
            vec![four(2), four(1), four(2)],
            vec!["192.0.2.1", "192.0.2.2"],
        ),
        (
            Kind::Aaaa,
            vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
            vec!["2001:db8::1"],
        ),
        (Kind::Cname, vec![alias()], vec!["other.example"]),
        (
            Kind::Ns,
            vec![RData::NS(NS(name("NS.example.")))],
            vec!["ns.example"],
        ),
        (
            Kind::Ptr,
            vec![RData::PTR(PTR(name("h.example.")))],
            vec!["h.example"],
        ),
        (
            Kind::Mx,
            vec![mx(20, "b."), mx(10, "A.")],
            vec!["10 a", "20 b"],
        ),
        (
            Kind::Srv,
            vec![RData::SRV(SRV::new(0, 5, 5060, name("Sip.example.")))],
            vec!["0 5 5060 sip.example"],
        ),
        (
            Kind::Txt,
            vec![text(&["v=spf1 ", "-all"])],
            vec!["v=spf1 -all"],
        ),
        (
            Kind::Soa,
            vec![RData::SOA(soa)],
            vec!["ns.example a.example 7 1 2 3 4"],
        ),
        (
            Kind::Caa,
            vec![RData::CAA(issue)],
            vec!["0 issue \"ca.example\""],
        ),
    ] {
        assert_eq!(read(kind, &data), written, "{kind}");
        for value in written {
            let expected = RecordValue::parse(kind, value).expect("it can be expected");
            assert_eq!(expected.as_str(), value);
        }
    }
}

#[test]
fn each_question_is_asked_and_the_cache_has_no_part_in_it() {
    let (mut bench, host) = bench(1);
    assert_eq!(bench.lookup(host, 1), Lookup::Waiting);
    ask(&mut bench, host, Kind::A, 2);
    ask(&mut bench, host, Kind::A, 3);
    assert_eq!(
        bench.sent.len(),
        3,
        "one for the addresses, one for each question"
    );
    for at in [1, 2, 0] {
        let sent = bench.sent[at].clone();
        bench.say(&sent, Say::Addresses(1, 300));
    }
    let waiters = [next(&mut bench), next(&mut bench)].map(|answer| answer.map(|(w, _)| w));
    assert_eq!((waiters, next(&mut bench)), ([Some(2), Some(3)], None));
    assert!(bench.only_answer().is_ok());
    assert!(matches!(bench.lookup(host, 4), Lookup::Hit(_)));
    ask(&mut bench, host, Kind::A, 5);
    assert_eq!(bench.sent.len(), 4, "although it is known");
    // A failure of a question is none of the addresses.
    bench.answer(Say::Code(ResponseCode::NXDomain, 60));
    assert!(matches!(bench.lookup(host, 6), Lookup::Hit(_)));
    let (_, failed) = next(&mut bench).expect("an answer");
    assert_eq!(
        failed.map_err(|failure| failure.class),
        Err(FailureClass::DnsNxdomain)
    );
    // Nor is it remembered for the next question.
    ask(&mut bench, host, Kind::A, 7);
    assert_eq!(bench.sent.len(), 5);
    bench.answer(Say::Addresses(1, 300));
    bench.resolver.release(host);
    assert_eq!(
        (bench.resolver.stats().hosts, bench.resolver.stats().flights),
        (0, 0)
    );
}

#[test]
fn a_question_fails_as_a_lookup_does() {
    let class = |upstreams, says: &[Say]| {
        let (mut bench, host) = bench(upstreams);
        ask(&mut bench, host, Kind::Mx, 1);
        for say in says {
            bench.answer(*say);
        }
        bench.pass(5 * SECOND);
        let (_, result) = next(&mut bench).expect("an answer");
        let failure = result.expect_err("it failed");
        (failure.class, failure.tries)
    };
    let refused = Say::Code(ResponseCode::ServFail, 0);
    assert_eq!(class(1, &[Say::Empty]), (FailureClass::DnsNoAddress, 1));
    assert_eq!(
        class(2, &[refused, refused]),
        (FailureClass::DnsServfail, 2)
    );
    assert_eq!(class(2, &[]), (FailureClass::DnsTimeout, 3));
    assert_eq!(class(1, &[Say::Noise; 3]), (FailureClass::DnsMalformed, 3));
    let mut alone = Bench::new(0, IpPolicy::V4First);
    let host = alone.resolver.intern(NAME);
    let refused = alone.resolver.ask_records(host, Kind::Mx, 1, alone.now);
    let class = refused.map(|failure| failure.class);
    assert_eq!(class, Some(FailureClass::ConnectLocal));
}

#[test]
fn an_alias_is_followed_inside_the_answer_unless_it_is_what_was_asked_for() {
    for (kind, class) in [
        (Kind::Mx, Ok(vec!["5 mx.test".to_owned()])),
        (Kind::Cname, Ok(vec!["c1.test".to_owned()])),
        (Kind::Txt, Err(FailureClass::DnsNoAddress)),
    ] {
        let (mut bench, host) = bench(1);
        ask(&mut bench, host, kind, 1);
        let sent = bench.sent[0].clone();
        let mut message = sent.message();
        message.metadata.message_type = MessageType::Response;
        let owner = message.queries[0].name().clone();
        let alias = |target| RData::CNAME(CNAME(name(target)));
        let mx = RData::MX(MX::new(5, name("MX.test.")));
        for (owner, data) in [
            (owner, alias("c1.test.")),
            (name("c1.test."), alias("c2.test.")),
            (name("other.test."), mx.clone()),
            (name("C2.test."), mx),
        ] {
            message.add_answer(Record::from_rdata(owner, 60, data));
        }
        let bytes = message.to_vec().expect("it encodes");
        let socket = sent.socket;
        bench.event(DnsEvent::Datagram {
            socket,
            bytes: &bytes,
        });
        let (_, said) = next(&mut bench).expect("an answer");
        let said = said.map_err(|failure| failure.class);
        let values: Result<Vec<String>, _> =
            said.map(|said| said.values.iter().map(ToString::to_string).collect());
        assert_eq!(values, class, "{kind}");
    }
}

#[test]
fn names_and_texts_that_nobody_would_write_are_escaped_and_in_one_line() {
    let strange = Name::from_labels([&b"a.B"[..], b"\xff\n", b"xn--bcher-kva"]).expect("labels");
    let written = r"a\.b.\255\010.xn--bcher-kva";
    assert_eq!(read(Kind::Ns, &[RData::NS(NS(strange))]), [written]);
    let text = RData::TXT(TXT::from_bytes(vec![&b"\"a\n"[..], b"\xff"]));
    assert_eq!(read(Kind::Txt, &[text]), [r#""\"a\010\255""#]);
}

#[test]
fn a_question_whose_waiter_ends_is_told_as_far_as_it_went() {
    let overdue = |bench: &mut Bench, host| {
        let failure = bench.resolver.overdue(host, 1);
        (failure.class, failure.server, failure.tries)
    };
    let (timeout, local) = (FailureClass::DnsTimeout, FailureClass::LocalPressure);
    for is_question in [true, false] {
        let (mut bench, host) = bench(2);
        if is_question {
            ask(&mut bench, host, Kind::Mx, 1);
        } else {
            assert_eq!(bench.lookup(host, 1), Lookup::Waiting);
        }
        let first = (timeout, Some(upstream(0)), 1);
        assert_eq!(overdue(&mut bench, host), first);
        bench.pass(2 * SECOND);
        let second = (timeout, Some(upstream(1)), 2);
        assert_eq!(overdue(&mut bench, host), second);
        // A query that no socket carries was not asked.
        let socket = bench.sent.last().expect("a query").socket;
        bench.event(DnsEvent::SocketError { socket, errno: 24 });
        let third = (timeout, Some(upstream(0)), 3);
        assert_eq!(overdue(&mut bench, host), third);
        // It goes on, and is told to nobody who could be mistaken for the waiter.
        bench.resolver.forget(host, 1);
        bench.pass(5 * SECOND);
        let ended = next(&mut bench).map(|(waiter, records)| (waiter, records.is_err()));
        assert_eq!(ended, is_question.then_some((1, true)));
        assert!(bench.answers.is_empty());
        assert_eq!(bench.resolver.stats().flights, 0);
    }
    // What still waits in our own queue was not asked at all.
    let mut bench = Bench::with(ResolverConfig {
        queries_per_s: 10,
        ..config(1)
    });
    let host = bench.resolver.intern(NAME);
    for waiter in (1..=17).rev() {
        ask(&mut bench, host, Kind::Mx, waiter);
    }
    assert_eq!(overdue(&mut bench, host), (local, None, 0));
    // And of what nobody asked for nothing is known.
    let other = bench.resolver.intern("other.test");
    let nothing = bench.resolver.overdue(other, 99);
    assert_eq!((nothing.class, nothing.server), (timeout, None));
}

#[test]
fn a_query_that_no_socket_carries_is_our_own_trouble() {
    let (mut bench, host) = bench(1);
    bench.opens_at_once = false;
    ask(&mut bench, host, Kind::A, 1);
    let socket = bench.opening.remove(0);
    bench.upstreams.remove(&socket);
    bench.event(DnsEvent::OpenFailed { socket, errno: 24 });
    let class = bench.resolver.overdue(host, 1).class;
    assert_eq!(class, FailureClass::ConnectLocal);
}

#[test]
fn an_answer_that_was_cut_short_comes_by_a_stream() {
    let (mut bench, host) = bench(1);
    ask(&mut bench, host, Kind::Txt, 1);
    bench.answer(Say::Truncated);
    let stream = bench.streams[0].clone();
    let long = RData::TXT(TXT::new(vec!["x".repeat(250); 9]));
    let bytes = framed(&reply(&stream.asked, &[long]));
    bench.event(DnsEvent::StreamBytes {
        stream: stream.number,
        bytes: &bytes,
    });
    let (_, records) = next(&mut bench).expect("an answer");
    assert_eq!(records.expect("records").values[0].as_str().len(), 2_250);
}

#[test]
fn questions_count_against_the_cap_on_queries() {
    let mut bench = Bench::with(ResolverConfig {
        queries_per_s: 10,
        ..config(1)
    });
    let host = bench.resolver.intern(NAME);
    for waiter in 0..40 {
        ask(&mut bench, host, Kind::A, waiter);
    }
    assert_eq!(bench.sent.len(), 16, "a full bucket");
    bench.pass(SECOND);
    assert_eq!(bench.sent.len(), 26, "and ten a second");
    bench.pass(SECOND);
    let ended: Vec<_> = std::iter::from_fn(|| next(&mut bench)).collect();
    let ours = Err(FailureClass::LocalPressure);
    let are_ours = ended.iter().all(|(_, result)| {
        let class = result.as_ref().map_err(|failure| failure.class);
        class.map(|_| ()) == ours
    });
    assert!(are_ours, "those that waited too long are our trouble");
    assert_eq!(ended.len() as u64, bench.resolver.stats().refused);
    assert!(ended.len() >= 5, "{}", ended.len());
}
