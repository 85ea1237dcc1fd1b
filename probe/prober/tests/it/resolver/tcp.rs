//! Answers that a datagram cannot bring.

use model::FailureClass;
use model::limits::DNS_STREAMS_MAX;
use prober::resolver::{DnsEvent, DnsStream, IpPolicy, Lookup, ResolverStats};
use proptest::prelude::*;

use super::{Answer, Bench, Say, Stream, asked, config, framed, upstream};

impl Bench {
    pub(super) fn stream(&self) -> Stream {
        self.streams.last().expect("a stream is open").clone()
    }

    pub(super) fn stream_bytes(&mut self, stream: DnsStream, bytes: &[u8]) {
        self.event(DnsEvent::StreamBytes { stream, bytes });
    }

    /// Answers over the newest stream.
    pub(super) fn stream_answer(&mut self, say: Say) {
        let stream = self.stream();
        self.stream_bytes(stream.number, &framed(&stream.asked.reply(say)));
    }
}

#[test]
fn what_is_cut_short_is_asked_again_over_tcp_at_the_same_upstream() {
    let (mut bench, host) = asked(2, IpPolicy::V4Only);
    bench.answer(Say::Truncated);
    let stream = bench.stream();
    assert_eq!(stream.upstream, upstream(0));
    let (udp, tcp) = (bench.sent[0].message(), stream.asked.message());
    assert_eq!(udp.queries, tcp.queries);
    bench.stream_answer(Say::Addresses(8, 300));
    let name = bench.only_answer().expect("addresses");
    assert_eq!((name.addresses.len(), name.server), (8, Some(upstream(0))));
    assert!(bench.streams.is_empty(), "closed with its answer");
    assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)));
    let stats = bench.resolver.stats();
    let counts = (stats.queries, stats.stream_queries, stats.truncated);
    assert_eq!((counts, stats.streams), ((2, 1, 1), 0));
}

#[test]
fn a_refusal_over_tcp_is_an_answer() {
    let (mut bench, _) = asked(1, IpPolicy::V4Only);
    bench.answer(Say::Truncated);
    bench.stream_answer(Say::Code(hickory_proto::op::ResponseCode::NXDomain, 60));
    assert_eq!(bench.failure(), (FailureClass::DnsNxdomain, 1));
}

#[test]
fn the_stream_has_what_is_left_of_the_try() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    bench.pass(1_400_000);
    bench.answer(Say::Truncated);
    bench.pass(95_000);
    assert_eq!((bench.streams.len(), bench.sent.len()), (1, 1));
    let late = bench.stream();
    bench.pass(5_000);
    assert!(bench.streams.is_empty(), "given up");
    assert_eq!(bench.sent.len(), 2, "the next upstream");
    bench.stream_bytes(
        late.number,
        &framed(&late.asked.reply(Say::Addresses(1, 60))),
    );
    assert!(bench.answers.is_empty(), "too late");
    bench.pass(3_000_000);
    assert_eq!(bench.failure(), (FailureClass::DnsTimeout, 3));
}

#[test]
fn a_stream_that_brings_no_answer_is_malformed_and_one_that_is_refused_is_sick() {
    type End = fn(&mut Bench, DnsStream);
    let eof: End = |bench, stream| {
        bench.stream_bytes(stream, &[1, 0, 9]);
        bench.event(DnsEvent::StreamEof { stream });
    };
    let refused: End = |bench, stream| bench.event(DnsEvent::StreamError { stream, errno: 111 });
    let no_files: End = |bench, stream| bench.event(DnsEvent::StreamError { stream, errno: 24 });
    for (end, tries, class) in [
        (eof, 1, FailureClass::DnsMalformed),
        (refused, 3, FailureClass::DnsResolverSick),
        (no_files, 3, FailureClass::ConnectLocal),
    ] {
        let (mut bench, _) = asked(1, IpPolicy::V4Only);
        for _ in 0..tries {
            assert!(bench.answers.is_empty());
            bench.answer(Say::Truncated);
            let stream = bench.stream().number;
            end(&mut bench, stream);
            assert!(bench.streams.is_empty());
            bench.pass(1_500_000);
        }
        assert_eq!(bench.failure(), (class, tries));
    }
}

#[test]
fn an_upstream_that_fails_over_tcp_is_left_for_the_next_one() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    bench.answer(Say::Truncated);
    let stream = bench.stream().number;
    bench.event(DnsEvent::StreamError { stream, errno: 111 });
    let asked = bench.sent.last().expect("at once").socket;
    assert_eq!(bench.upstreams[&asked], upstream(1));
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("an address");
}

#[test]
fn noise_a_foreign_id_and_tc_over_tcp_are_malformed() {
    type Reply = fn(&Stream) -> Vec<u8>;
    let foreign: Reply = |stream| {
        let mut reply = stream.asked.reply(Say::Addresses(1, 60));
        reply[0] ^= 1;
        reply
    };
    let replies: [Reply; 4] = [
        |_| vec![1, 2, 3],
        foreign,
        |stream| stream.asked.reply(Say::Truncated),
        |stream| stream.asked.reply(Say::Noise),
    ];
    for reply in replies {
        let (mut bench, _) = asked(1, IpPolicy::V4Only);
        for _ in 0..3 {
            bench.answer(Say::Truncated);
            let stream = bench.stream();
            bench.stream_bytes(stream.number, &framed(&reply(&stream)));
        }
        assert_eq!(bench.failure(), (FailureClass::DnsMalformed, 3));
    }
}

#[test]
fn only_so_many_streams_are_open_and_one_too_many_is_our_trouble() {
    let mut bench = Bench::with(config(1));
    for n in 0..=DNS_STREAMS_MAX {
        let host = bench.resolver.intern(&format!("{n}.test"));
        bench.lookup(host, n as u64);
        bench.answer(Say::Truncated);
    }
    assert_eq!(bench.streams.len(), DNS_STREAMS_MAX);
    assert_eq!(bench.resolver.stats().streams_refused, 1);
    assert_eq!(bench.failure().0, FailureClass::ConnectLocal);
}

/// What comes of an answer over TCP whose bytes arrive in these pieces.
fn split(bytes: &[u8], cuts: &[usize]) -> (Vec<(u64, Answer)>, usize, ResolverStats) {
    let (mut bench, _) = asked(1, IpPolicy::V4Only);
    bench.answer(Say::Truncated);
    let stream = bench.stream();
    let mut bytes = bytes.to_vec();
    bytes[2..4].copy_from_slice(&stream.asked.bytes[..2]);
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        bench.stream_bytes(stream.number, &bytes[from..to]);
        from = to;
    }
    (bench.answers, bench.streams.len(), bench.resolver.stats())
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_answer(
        say in prop_oneof![
            (1u8..9, 0u32..5_000).prop_map(|(n, ttl)| Say::Addresses(n, ttl)),
            Just(Say::Empty),
            Just(Say::Noise),
        ],
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (mut bench, _) = asked(1, IpPolicy::V4Only);
        bench.answer(Say::Truncated);
        let mut bytes = framed(&bench.stream().asked.reply(say));
        if let Some((at, value)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(split(&bytes, &[]), split(&bytes, &cuts));
    }
}
