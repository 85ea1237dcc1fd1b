//! 0x20: questions in random letters, and servers that do not keep them.

use prober::resolver::{DnsEvent, IpPolicy, Lookup};

use super::{Bench, NAME, Say, Sent, asked, framed};

/// The question's name as it stands on the wire.
fn letters(sent: &Sent) -> String {
    let name = sent.message().queries[0].name().to_ascii();
    name.trim_end_matches('.').to_owned()
}

/// Answers the newest query in lower case.
fn answer_in_lower_case(bench: &mut Bench) {
    let sent = bench.sent.last().expect("a query").clone();
    assert_ne!(letters(&sent), NAME, "the seed gives some upper case");
    let bytes = sent.lower_reply(Say::Addresses(1, 30));
    let socket = sent.socket;
    bench.event(DnsEvent::Datagram {
        socket,
        bytes: &bytes,
    });
}

#[test]
fn each_query_has_letters_of_its_own() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    bench.pass(4_500_000);
    let spelled: Vec<String> = bench.sent.iter().map(letters).collect();
    assert_eq!(spelled.len(), 3);
    assert!(spelled.iter().all(|name| name.eq_ignore_ascii_case(NAME)));
    assert!(spelled[0] != spelled[1] && spelled[1] != spelled[2]);
}

#[test]
fn a_forged_answer_in_wrong_letters_is_found_out_over_tcp() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    answer_in_lower_case(&mut bench);
    assert!(bench.answers.is_empty(), "it is not taken");
    bench.stream_answer(Say::Addresses(3, 30));
    assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(3));
    let stats = bench.resolver.stats();
    assert_eq!((stats.misspelled, stats.ignored), (1, 1));
    bench.pass(31_000_000);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    let next = bench.sent.last().expect("a query");
    assert_ne!(letters(next), NAME, "the upstream keeps letters");
}

#[test]
fn an_upstream_that_does_not_keep_letters_is_asked_in_lower_case_after_one_stream() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    answer_in_lower_case(&mut bench);
    let stream = bench.stream();
    let bytes = framed(&stream.asked.lower_reply(Say::Addresses(3, 30)));
    bench.stream_bytes(stream.number, &bytes);
    assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(3));
    bench.pass(31_000_000);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    assert_eq!(letters(bench.sent.last().expect("a query")), NAME);
    bench.answer(Say::Addresses(2, 30));
    assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(2));
    assert_eq!(bench.resolver.stats().stream_queries, 1);
}

#[test]
fn an_upstream_without_letters_and_without_tcp_is_believed_from_its_next_answer_on_for_an_hour() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    answer_in_lower_case(&mut bench);
    let stream = bench.stream().number;
    bench.event(DnsEvent::StreamError { stream, errno: 111 });
    bench.pass(1_500_000);
    assert_eq!(letters(&bench.sent[1]), NAME);
    bench.answer(Say::Addresses(2, 30));
    assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(2));
    bench.pass(3_600_000_000);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    let question = bench.sent.last().expect("a query");
    assert_ne!(letters(question), NAME, "the seed gives some upper case");
}

#[test]
fn an_upstream_that_only_drops_tcp_is_believed_too() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    answer_in_lower_case(&mut bench);
    bench.pass(1_500_000);
    assert_ne!(
        letters(&bench.sent[1]),
        NAME,
        "the other upstream is another one"
    );
    bench.pass(1_500_000);
    assert_eq!(letters(&bench.sent[2]), NAME);
    bench.answer(Say::Addresses(2, 30));
    assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(2));
}
