//! Names that do not exist for one upstream: what another one says of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const GONE: Say = Say::Code(ResponseCode::NXDomain, 60);

/// The upstream that the newest query went to.
fn asked_last(bench: &Bench) -> SocketAddr {
    bench.upstreams[&bench.sent.last().expect("a query").socket]
}

#[test]
fn what_two_upstreams_say_is_agreed_and_remembered_as_that_for_the_shorter_of_both() {
    let (mut bench, host) = asked(2, IpPolicy::V4First);
    bench.answer(Say::Code(ResponseCode::NXDomain, 50));
    assert_eq!((bench.answers.len(), bench.sent.len()), (0, 2));
    assert_eq!(asked_last(&bench), upstream(1));
    bench.answer(Say::Code(ResponseCode::NXDomain, 20));
    let failure = bench.only_answer().expect_err("no such name");
    let said = (failure.class, failure.rcode, failure.tries, failure.agreed);
    assert_eq!(said, (FailureClass::DnsNxdomain, Some(3), 2, true));
    bench.pass(19 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Failed(failure));
    bench.pass(SECOND);
    assert_eq!(bench.lookup(host, 3), Lookup::Waiting);
    assert_eq!(bench.resolver.stats().disagreed, 0);
}

#[test]
fn a_single_upstream_is_not_asked_twice_and_its_word_is_remembered_as_one() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(GONE);
    let failure = bench.only_answer().expect_err("no such name");
    assert_eq!((failure.tries, failure.agreed), (1, false));
    assert_eq!(bench.lookup(host, 2), Lookup::Failed(failure));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn addresses_of_another_upstream_count_and_the_disagreement_is_counted() {
    let (mut bench, host) = asked(2, IpPolicy::V4First);
    bench.answer(GONE);
    bench.answer(Say::Addresses(2, 60));
    let name = bench.only_answer().expect("addresses");
    assert_eq!((name.server, name.tries), (Some(upstream(1)), 2));
    assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)));
    assert_eq!(bench.resolver.stats().disagreed, 1);
}

#[test]
fn a_name_that_another_upstream_knows_without_addresses_is_never_agreed_to_be_gone() {
    let (mut bench, _) = asked(2, IpPolicy::V4First);
    for say in [GONE, Say::Empty, GONE] {
        bench.answer(say);
    }
    let failure = bench.only_answer().expect_err("no address");
    assert_eq!(
        (failure.class, failure.agreed),
        (FailureClass::DnsNxdomain, false)
    );
    assert_eq!(bench.sent.len(), 3, "the other family is not disputed anew");
    assert_eq!(bench.resolver.stats().disagreed, 1);
}

#[test]
fn where_no_second_opinion_is_had_the_first_one_stands_as_one() {
    let failing = [
        Some(Say::Code(ResponseCode::ServFail, 60)),
        Some(Say::Code(ResponseCode::Refused, 60)),
        Some(Say::Noise),
        None,
    ];
    for say in failing {
        let (mut bench, _) = asked(3, IpPolicy::V4First);
        bench.answer(GONE);
        match say {
            Some(say) => bench.answer(say),
            None => bench.pass(1_500_000),
        }
        let failure = bench.only_answer().expect_err("no such name");
        assert_eq!(
            (failure.class, failure.rcode, failure.agreed),
            (FailureClass::DnsNxdomain, Some(3), false),
            "{say:?}"
        );
        assert_eq!((failure.server, failure.tries), (Some(upstream(0)), 2));
    }
    let (mut bench, _) = asked(2, IpPolicy::V4First);
    bench.answer(GONE);
    let socket = bench.sent[1].socket;
    bench.event(DnsEvent::SocketError { socket, errno: 111 });
    assert_eq!(bench.failure(), (FailureClass::DnsNxdomain, 2));
}

#[test]
fn an_upstream_that_is_silent_is_not_asked_for_its_opinion() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    bench.pass(1_500_000);
    assert_eq!(asked_last(&bench), upstream(1));
    bench.answer(GONE);
    let failure = bench.only_answer().expect_err("no such name");
    assert_eq!((failure.tries, failure.agreed), (2, false));
}

#[test]
fn no_second_opinion_is_asked_for_while_names_wait_for_the_cap() {
    let mut bench = Bench::with(ResolverConfig {
        queries_per_s: 1,
        ..config(2)
    });
    // A bucket of so small a cap holds sixteen queries.
    let hosts: Vec<HostId> = (0..17)
        .map(|n| bench.resolver.intern(&format!("{n}.test")))
        .collect();
    for (waiter, host) in hosts.iter().enumerate() {
        bench.lookup(*host, waiter as u64);
    }
    assert_eq!((bench.sent.len(), bench.resolver.stats().queued), (16, 1));
    bench.answer(GONE);
    let failure = bench.only_answer().expect_err("no such name");
    assert_eq!((failure.tries, failure.agreed), (1, false));
}

#[test]
fn a_deadline_that_ends_before_the_second_opinion_is_told_of_the_first() {
    let (mut bench, host) = asked(2, IpPolicy::V4First);
    bench.answer(GONE);
    let failure = bench.resolver.overdue(host, 1);
    assert_eq!(
        (failure.class, failure.server, failure.agreed),
        (FailureClass::DnsNxdomain, Some(upstream(0)), false)
    );
}

#[test]
fn old_addresses_do_not_stand_in_for_a_name_that_is_said_to_be_gone() {
    let (mut bench, host) = asked(2, IpPolicy::V4Only);
    bench.answer(Say::Addresses(1, 30));
    bench.answers.clear();
    bench.pass(31 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.answer(GONE);
    bench.resolver.hurry(host, bench.now);
    bench.pass(1_500_000);
    assert_eq!(bench.failure(), (FailureClass::DnsNxdomain, 2));
}

#[test]
fn questions_for_records_have_a_second_opinion_too() {
    let mut bench = Bench::new(2, IpPolicy::V4First);
    let host = bench.resolver.intern(NAME);
    let kind = model::record::RecordType::A;
    let refused = bench.resolver.ask_records(host, kind, 1, bench.now);
    assert_eq!(refused, None);
    bench.pump();
    bench.answer(GONE);
    bench.answer(GONE);
    let (_, said) = bench.records.pop_front().expect("one answer");
    assert!(said.expect_err("no such name").agreed);
}

/// What an upstream does with a question.
fn deeds() -> impl Strategy<Value = Option<Say>> {
    prop_oneof![
        4 => Just(Some(GONE)),
        1 => Just(Some(Say::Addresses(1, 60))),
        1 => Just(Some(Say::Empty)),
        1 => Just(Some(Say::Code(ResponseCode::ServFail, 60))),
        1 => Just(Some(Say::Code(ResponseCode::Refused, 60))),
        1 => Just(Some(Say::Noise)),
        1 => Just(None),
    ]
}

proptest! {
    #[test]
    fn gone_is_agreed_when_two_upstreams_say_so_and_whoever_knows_an_address_is_heard(
        upstreams in 1u8..4,
        deeds in prop::collection::vec(deeds(), 3),
    ) {
        let (mut bench, _) = asked(upstreams, IpPolicy::V4Only);
        let (mut denied_by, mut has_address) = (BTreeSet::new(), false);
        let begun = bench.now;
        for deed in deeds {
            if !bench.answers.is_empty() {
                break;
            }
            match deed {
                Some(say) => {
                    if say == GONE {
                        denied_by.insert(asked_last(&bench));
                    }
                    has_address |= matches!(say, Say::Addresses(..));
                    bench.answer(say);
                }
                None => bench.pass(1_500_000),
            }
        }
        prop_assert!(bench.now.since(begun) <= 4_500_000);
        let answer = bench.only_answer();
        prop_assert_eq!(answer.is_ok(), has_address);
        let agreed = answer.is_err_and(|failure| failure.agreed);
        prop_assert_eq!(agreed, denied_by.len() >= 2);
    }
}
