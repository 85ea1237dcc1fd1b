//! Upstreams that do not work for us: their trouble is never the name's.

use hickory_proto::op::ResponseCode;
use model::{FailureClass, Verdict};
use prober::resolver::{DnsEvent, IpPolicy, Lookup};

use super::{Bench, SECOND, Say, Sent, SocketAddr, asked, upstream};

const FORMERR: Say = Say::Code(ResponseCode::FormErr, 60);
const NOTIMP: Say = Say::Code(ResponseCode::NotImp, 60);
const REFUSED: Say = Say::Code(ResponseCode::Refused, 60);
const SERVFAIL: Say = Say::Code(ResponseCode::ServFail, 60);

fn has_edns(sent: &Sent) -> bool {
    sent.message().edns.is_some()
}

/// What an upstream does with the newest question.
#[derive(Clone, Copy)]
enum Does {
    Say(Say),
    /// Nobody listens on its port.
    Absent,
    Silent,
}

fn play(bench: &mut Bench, does: Does) {
    match does {
        Does::Say(say) => bench.answer(say),
        Does::Absent => {
            let socket = bench.sent.last().expect("a query").socket;
            bench.event(DnsEvent::SocketError { socket, errno: 111 });
        }
        Does::Silent => bench.pass(1_500_000),
    }
}

#[test]
fn upstreams_that_all_refuse_or_are_absent_are_sick_and_any_word_of_the_name_counts_more() {
    use FailureClass as F;
    let cases: [(&[Does], F, Option<u16>); 6] = [
        (
            &[Does::Say(REFUSED), Does::Say(REFUSED)],
            F::DnsResolverSick,
            Some(5),
        ),
        (
            &[Does::Absent, Does::Say(REFUSED)],
            F::DnsResolverSick,
            Some(5),
        ),
        (
            &[Does::Say(NOTIMP), Does::Say(NOTIMP), Does::Say(REFUSED)],
            F::DnsResolverSick,
            Some(5),
        ),
        (
            &[Does::Say(REFUSED), Does::Say(SERVFAIL)],
            F::DnsServfail,
            Some(2),
        ),
        (
            &[Does::Say(SERVFAIL), Does::Say(REFUSED)],
            F::DnsServfail,
            Some(2),
        ),
        (&[Does::Silent, Does::Say(REFUSED)], F::DnsTimeout, None),
    ];
    for (at, (does, class, rcode)) in cases.into_iter().enumerate() {
        let (mut bench, _) = asked(2, IpPolicy::V4Only);
        for does in does {
            play(&mut bench, *does);
        }
        while bench.answers.is_empty() {
            bench.pass(SECOND / 10);
        }
        let failure = bench.only_answer().expect_err("nobody knows it");
        assert_eq!((failure.class, failure.rcode), (class, rcode), "case {at}");
        let ours = class == F::DnsResolverSick;
        assert_eq!(failure.class.verdict() == Verdict::Unknown, ours);
        assert_eq!(bench.resolver.stats().sick_answers, u64::from(ours));
    }
}

#[test]
fn what_may_not_understand_edns_is_asked_once_without_and_kept_to_if_that_helps() {
    for code in [FORMERR, NOTIMP] {
        let (mut bench, host) = asked(2, IpPolicy::V4Only);
        bench.answer(code);
        let (first, again) = (&bench.sent[0], &bench.sent[1]);
        assert!(has_edns(first) && !has_edns(again));
        assert_eq!(bench.upstreams[&again.socket], upstream(0), "the same one");
        bench.answer(Say::Addresses(1, 30));
        assert_eq!(bench.only_answer().map(|name| name.addresses.len()), Ok(1));
        bench.pass(31 * SECOND);
        let mut asked = Vec::new();
        for waiter in 2..4 {
            assert_eq!(bench.lookup(host, waiter), Lookup::Waiting);
            let sent = bench.sent.last().expect("a query");
            asked.push((bench.upstreams[&sent.socket], has_edns(sent)));
            bench.answer(Say::Addresses(1, 30));
            bench.pass(31 * SECOND);
        }
        assert!(asked.contains(&(upstream(0), false)), "{asked:?}");
        assert!(!asked.contains(&(upstream(0), true)), "{asked:?}");
        bench.now = bench.now.plus_us(3_600 * SECOND);
        for waiter in 4..6 {
            assert_eq!(bench.lookup(host, waiter), Lookup::Waiting);
            assert!(bench.sent.last().is_some_and(has_edns), "an hour later");
            bench.answer(Say::Addresses(1, 30));
            bench.pass(31 * SECOND);
        }
    }
}

#[test]
fn without_edns_a_refusal_is_one_and_nothing_is_learned_of_it() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    bench.answer(FORMERR);
    bench.answer(FORMERR);
    let failure = bench.only_answer().expect_err("refused");
    assert_eq!(
        (failure.class, failure.rcode),
        (FailureClass::DnsResolverSick, Some(1))
    );
    assert_eq!((failure.tries, bench.sent.len()), (2, 2));
    bench.pass(5 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    assert!(bench.sent.last().is_some_and(has_edns));
}

#[test]
fn an_old_answer_stands_in_while_the_upstreams_refuse() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("an address");
    bench.pass(61 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.answer(REFUSED);
    assert!(bench.only_answer().expect("the old address").stale);
}

#[test]
fn a_deadline_within_the_tries_at_an_absent_upstream_says_so_too() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    play(&mut bench, Does::Absent);
    let failure = bench.resolver.overdue(host, 1);
    assert_eq!(failure.class, FailureClass::DnsResolverSick);
    assert_eq!((failure.server, failure.tries), (Some(upstream(0)), 1));
}

/// The upstream that the question for a new name goes to, answered or not.
fn next(bench: &mut Bench, name: &str, says: Option<Say>) -> SocketAddr {
    let host = bench.resolver.intern(name);
    assert_eq!(bench.lookup(host, 1), Lookup::Waiting);
    let server = bench.upstreams[&bench.sent.last().expect("a query").socket];
    if let Some(say) = says {
        bench.answer(say);
    }
    server
}

#[test]
fn new_questions_go_to_each_upstream_in_turn_whatever_they_answer() {
    let mut bench = Bench::new(3, IpPolicy::V4Only);
    for (n, say) in [Say::Addresses(1, 60), SERVFAIL, Say::Empty]
        .into_iter()
        .enumerate()
    {
        for at in 0..3 {
            let name = format!("{n}-{at}.test");
            let server = next(&mut bench, &name, None);
            assert_eq!(server, upstream(at));
            while bench.answers.is_empty() {
                bench.answer(say);
            }
            bench.answers.clear();
        }
    }
}

#[test]
fn a_silent_upstream_is_passed_over_and_asked_now_and_then() {
    let mut bench = Bench::new(3, IpPolicy::V4Only);
    assert_eq!(next(&mut bench, "a.test", None), upstream(0));
    bench.pass(1_500_000);
    bench.answer(Say::Addresses(1, 60));
    let well = Some(Say::Addresses(1, 60));
    let ask = |bench: &mut Bench, n: u64| next(bench, &format!("n{n}.test"), well);
    let asked: Vec<SocketAddr> = (0..4).map(|n| ask(&mut bench, n)).collect();
    assert_eq!(asked, [1, 2, 1, 2].map(upstream));
    bench.pass(30 * SECOND);
    let asked: Vec<SocketAddr> = (4..8).map(|n| ask(&mut bench, n)).collect();
    assert_eq!(asked, [0, 1, 2, 0].map(upstream), "it answered");
}
