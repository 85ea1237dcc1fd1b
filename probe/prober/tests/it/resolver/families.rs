//! Both families of a name.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use model::FailureClass;
use prober::resolver::{IpPolicy, Lookup, Scope};

use super::{Bench, SECOND, Say, Sent, asked};

/// How many IPv4 and IPv6 addresses the only answer has, IPv4 first or last.
fn counts(bench: &mut Bench) -> (usize, usize, bool) {
    let addresses = bench.only_answer().expect("addresses").addresses;
    let v4 = addresses.iter().filter(std::net::IpAddr::is_ipv4).count();
    let leads = addresses.iter().next().is_some_and(|first| first.is_ipv4());
    (v4, addresses.len() - v4, leads)
}

#[test]
fn both_asks_for_both_and_gives_both_rotated_each_in_itself() {
    let (mut bench, host) = asked(1, IpPolicy::Both);
    bench.answer(Say::Addresses(3, 300));
    assert!(bench.answers.is_empty(), "half of it");
    bench.answer(Say::Addresses(2, 60));
    assert_eq!(counts(&mut bench), (3, 2, true));
    let kinds: Vec<RecordType> = bench.sent.iter().map(Sent::kind).collect();
    assert_eq!(kinds, [RecordType::A, RecordType::AAAA]);
    let hits: Vec<Vec<_>> = (2..5)
        .map(|waiter| match bench.lookup(host, waiter) {
            Lookup::Hit(name) => name.addresses.iter().collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(hits[0][0] != hits[1][0] && hits[0][3] != hits[1][3] && hits[0][3] == hits[2][3]);
    bench.pass(60 * SECOND);
    assert_eq!(
        bench.lookup(host, 9),
        Lookup::Waiting,
        "the lesser TTL holds"
    );
}

#[test]
fn with_both_a_name_that_lacks_a_family_fails_with_what_it_lacks() {
    for (first, second, class) in [
        (Say::Empty, None, FailureClass::DnsNoAddress),
        (
            Say::Addresses(1, 60),
            Some(Say::Empty),
            FailureClass::DnsNoAddress,
        ),
        (
            Say::Addresses(1, 60),
            Some(Say::Code(ResponseCode::ServFail, 60)),
            FailureClass::DnsServfail,
        ),
    ] {
        let (mut bench, host) = asked(1, IpPolicy::Both);
        bench.answer(first);
        if let Some(say) = second {
            bench.answer(say);
        }
        assert_eq!(bench.failure().0, class);
        assert!(matches!(bench.lookup(host, 2), Lookup::Failed(_)));
    }
}

#[test]
fn a_name_that_is_widened_has_the_other_family_at_hand_for_its_ttl() {
    for (policy, v4_leads) in [(IpPolicy::V4First, true), (IpPolicy::V6First, false)] {
        let (mut bench, host) = asked(1, policy);
        bench.answer(Say::Addresses(1, 300));
        bench.only_answer().expect("one family");
        assert_eq!(bench.resolver.widen(host, 2, bench.now), Lookup::Waiting);
        bench.pump();
        bench.answer(Say::Addresses(1, 300));
        assert_eq!(counts(&mut bench), (1, 1, v4_leads));
        let again = bench.resolver.widen(host, 3, bench.now);
        for hit in [again, bench.lookup(host, 4)] {
            assert!(matches!(hit, Lookup::Hit(name) if name.addresses.is_dual()));
        }
        assert_eq!(bench.sent.len(), 2, "each family once");
    }
}

#[test]
fn a_family_that_is_about_to_end_is_asked_for_again() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("one family");
    bench.pass(55 * SECOND);
    bench.resolver.widen(host, 2, bench.now);
    bench.pump();
    bench.answer(Say::Addresses(1, 60));
    bench.answer(Say::Addresses(1, 60));
    assert_eq!(counts(&mut bench), (1, 1, true));
    let kinds: Vec<RecordType> = bench.sent.iter().map(Sent::kind).collect();
    assert_eq!(kinds[1..], [RecordType::A, RecordType::AAAA]);
}

#[test]
fn the_ttl_of_each_family_counts_from_its_own_answer() {
    for (first_s, other_s, until_s) in [(60, 300, 60), (300, 60, 64), (60, 62, 60), (60, 32, 36)] {
        let (mut bench, host) = asked(3, IpPolicy::Both);
        bench.answer(Say::Addresses(1, first_s));
        // Two upstreams are silent before the third one gives the other family.
        bench.pass(2 * SECOND);
        bench.pass(2 * SECOND);
        bench.answer(Say::Addresses(1, other_s));
        assert_eq!(counts(&mut bench), (1, 1, true));
        bench.pass((until_s - 4) * SECOND - 100_000);
        assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)));
        bench.pass(100_000);
        assert_eq!(
            bench.lookup(host, 3),
            Lookup::Waiting,
            "{first_s} {other_s}"
        );
    }
}

#[test]
fn an_answer_says_whether_there_is_more_to_be_had() {
    let scope = |policy, says: &[Say]| {
        let (mut bench, host) = asked(1, policy);
        for say in says {
            bench.answer(*say);
        }
        let scope = bench.only_answer().expect("addresses").scope;
        let again = match bench.lookup(host, 2) {
            Lookup::Hit(name) => name.scope,
            other => panic!("{other:?}"),
        };
        assert_eq!(scope, again, "the cache says the same");
        scope
    };
    let some = Say::Addresses(1, 300);
    assert_eq!(scope(IpPolicy::V4First, &[some]), Scope::Narrow);
    assert_eq!(scope(IpPolicy::V6First, &[some]), Scope::Narrow);
    assert_eq!(scope(IpPolicy::V6First, &[Say::Empty, some]), Scope::Wide);
    assert_eq!(scope(IpPolicy::V4Only, &[some]), Scope::Wide);
    assert_eq!(scope(IpPolicy::Both, &[some, some]), Scope::Each);
}

#[test]
fn localhost_is_loopback_and_nobody_is_asked() {
    for name in ["localhost", "shop.localhost"] {
        let mut bench = Bench::new(1, IpPolicy::V4First);
        let host = bench.resolver.intern(name);
        let lookups = [
            bench.resolver.lookup(host, 1, bench.now),
            bench.resolver.widen(host, 2, bench.now),
        ];
        for lookup in lookups {
            let Lookup::Hit(found) = lookup else {
                panic!("{lookup:?}")
            };
            let addresses: Vec<String> = found.addresses.iter().map(|ip| ip.to_string()).collect();
            assert_eq!(addresses, ["127.0.0.1", "::1"]);
            assert_eq!((found.scope, found.server), (Scope::Wide, None));
        }
        bench.pump();
        assert!(bench.sent.is_empty() && bench.resolver.stats().flights == 0);
    }
}

#[test]
fn widening_joins_a_question_under_way() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    assert_eq!(bench.resolver.widen(host, 2, bench.now), Lookup::Waiting);
    bench.answer(Say::Addresses(1, 300));
    bench.answer(Say::Addresses(1, 300));
    assert_eq!((bench.sent.len(), bench.answers.len()), (2, 2));
    let dual = |answer: &super::Answer| answer.is_ok_and(|name| name.addresses.is_dual());
    assert!(bench.answers.iter().all(|(_, answer)| dual(answer)));
}

/// What a question for the second family alone comes to.
fn second(bench: &mut Bench, say: Option<Say>) {
    match say {
        Some(say) => bench.answer(say),
        None => {
            while bench.answers.is_empty() {
                bench.pass(SECOND / 100);
            }
        }
    }
}

#[test]
fn a_second_family_that_fails_takes_nothing_and_is_forgotten_like_any_failure() {
    for (say, forgotten_s) in [
        (Some(Say::Empty), 5),
        (Some(Say::Code(ResponseCode::NoError, 60)), 60),
        (Some(Say::Code(ResponseCode::NXDomain, 60)), 60),
        (Some(Say::Code(ResponseCode::ServFail, 60)), 5),
        (None, 5),
    ] {
        for first_is_cached in [true, false] {
            let mut bench = Bench::new(1, IpPolicy::V4First);
            let host = bench.resolver.intern("www.example.test");
            if first_is_cached {
                bench.lookup(host, 1);
                bench.pump();
                bench.answer(Say::Addresses(2, 300));
                bench.only_answer().expect("one family");
            }
            bench.resolver.widen(host, 2, bench.now);
            bench.pump();
            if !first_is_cached {
                bench.answer(Say::Addresses(2, 300));
            }
            second(&mut bench, say);
            let name = bench.only_answer().expect("what is known");
            assert_eq!((name.addresses.len(), name.scope), (2, Scope::Wide));
            assert!(!name.stale && !name.addresses.is_dual());
            bench.pass((forgotten_s - 1) * SECOND);
            let again = bench.resolver.widen(host, 3, bench.now);
            assert!(matches!(again, Lookup::Hit(_)), "asked again: {say:?}");
            bench.pass(SECOND);
            let hit = bench.lookup(host, 4);
            assert!(matches!(hit, Lookup::Hit(name) if name.scope == Scope::Narrow));
            let again = bench.resolver.widen(host, 5, bench.now);
            assert_eq!(again, Lookup::Waiting, "not asked again: {say:?}");
        }
    }
}

#[test]
fn a_name_with_both_families_keeps_both_when_it_is_fetched_ahead() {
    let mut bench = Bench::new(1, IpPolicy::V4First);
    let host = bench.resolver.intern("www.example.test");
    bench.resolver.widen(host, 1, bench.now);
    bench.pump();
    bench.answer(Say::Addresses(1, 60));
    bench.answer(Say::Addresses(1, 60));
    assert_eq!(counts(&mut bench), (1, 1, true));
    bench.pass(50 * SECOND);
    let due = bench.now.plus_us(20 * SECOND);
    bench.resolver.prefetch(host, due, 30_000, bench.now);
    bench.pump();
    bench.answer(Say::Addresses(1, 60));
    bench.answer(Say::Addresses(1, 60));
    bench.pass(20 * SECOND);
    let hit = bench.lookup(host, 2);
    assert!(
        matches!(hit, Lookup::Hit(name) if name.addresses.is_dual()),
        "{hit:?}"
    );
}

/// All that is said of the preferred family before it is given up, at one upstream.
fn fail_first(bench: &mut Bench, class: FailureClass) {
    match class {
        FailureClass::DnsServfail => bench.answer(Say::Code(ResponseCode::ServFail, 60)),
        FailureClass::DnsMalformed => (0..3).for_each(|_| bench.answer(Say::Noise)),
        _ => bench.pass(4_500_000),
    }
}

const FAILURES: [(FailureClass, u8); 3] = [
    (FailureClass::DnsServfail, 1),
    (FailureClass::DnsMalformed, 3),
    (FailureClass::DnsTimeout, 3),
];

#[test]
fn where_the_preferred_family_cannot_be_had_the_other_one_is_asked_for() {
    for (policy, v4_leads) in [(IpPolicy::V4First, false), (IpPolicy::V6First, true)] {
        for (class, _) in FAILURES {
            let (mut bench, host) = asked(1, policy);
            fail_first(&mut bench, class);
            assert!(bench.answers.is_empty(), "{class:?}");
            bench.answer(Say::Addresses(2, 3_600));
            let name = bench.only_answer().expect("the other family");
            assert_eq!((name.addresses.len(), name.lacks), (2, Some(class)));
            assert!(
                name.addresses
                    .iter()
                    .all(|address| address.is_ipv4() == v4_leads)
            );
            bench.pass(29 * SECOND);
            let Lookup::Hit(known) = bench.lookup(host, 2) else {
                panic!("it is in the cache");
            };
            assert_eq!(known.lacks, Some(class));
            bench.pass(SECOND);
            assert_eq!(bench.lookup(host, 3), Lookup::Waiting);
            let kinds: Vec<RecordType> = bench.sent.iter().map(Sent::kind).collect();
            assert_eq!(kinds.first(), kinds.last(), "the preferred one may be back");
        }
    }
}

#[test]
fn a_name_that_has_none_of_the_preferred_family_lacks_nothing() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Empty);
    bench.answer(Say::Addresses(1, 3_600));
    let name = bench.only_answer().expect("the other family");
    assert_eq!((name.addresses.len(), name.lacks), (1, None));
    let Lookup::Hit(known) = bench.lookup(host, 2) else {
        panic!("it is in the cache");
    };
    assert_eq!(known.lacks, None);
}

#[test]
fn where_neither_family_can_be_had_the_first_failure_is_told_after_one_try_of_the_other() {
    for (class, tries) in FAILURES {
        for second in [
            None,
            Some(Say::Empty),
            Some(Say::Code(ResponseCode::ServFail, 60)),
        ] {
            let (mut bench, host) = asked(1, IpPolicy::V4First);
            fail_first(&mut bench, class);
            let overdue = bench.resolver.overdue(host, 1);
            assert_eq!((overdue.class, overdue.tries), (class, tries));
            match second {
                Some(say) => bench.answer(say),
                None => bench.pass(1_500_000),
            }
            assert_eq!(bench.failure(), (class, tries), "{second:?}");
            let others = bench
                .sent
                .iter()
                .filter(|sent| sent.kind() == RecordType::AAAA);
            assert_eq!(
                (others.count(), bench.sent.len()),
                (1, usize::from(tries) + 1)
            );
            assert!(
                matches!(bench.lookup(host, 2), Lookup::Failed(_)),
                "remembered"
            );
        }
    }
}

#[test]
fn that_a_name_does_not_exist_holds_for_both_families() {
    let gone = Say::Code(ResponseCode::NXDomain, 60);
    let (mut bench, _) = asked(1, IpPolicy::V4First);
    bench.answer(gone);
    assert_eq!(
        (bench.failure().0, bench.sent.len()),
        (FailureClass::DnsNxdomain, 1)
    );
    let (mut bench, _) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    bench.answer(gone);
    assert_eq!(bench.failure().0, FailureClass::DnsNxdomain);
}

#[test]
fn old_addresses_of_the_preferred_family_come_before_the_other_family() {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("an address");
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    assert!(bench.only_answer().expect("the old address").stale);
    assert!(bench.sent.iter().all(|sent| sent.kind() == RecordType::A));
}
