//! What comes with the addresses of an answer, and which of many they are.

use std::collections::BTreeSet;

use hickory_proto::op::ResponseCode;
use prober::resolver::{Addresses, IpPolicy, Lookup, ResolvedName};

use super::{SECOND, Say, asked};

#[test]
fn an_answer_has_the_code_and_the_tries_of_the_question_that_was_asked_for_it() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    bench.pass(1_500_000);
    bench.answer(Say::Addresses(1, 60));
    let said = |name: ResolvedName| (name.rcode, name.tries, name.cached, name.stale);
    let asked = bench.only_answer().expect("an address");
    assert_eq!(said(asked), (Some(0), 2, false, false));
    let Lookup::Hit(hit) = bench.lookup(host, 2) else {
        panic!("a hit")
    };
    assert_eq!(said(hit), (None, 0, true, false));
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 3), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    let stale = bench.only_answer().expect("the old address");
    assert_eq!(said(stale), (Some(2), 1, true, true));
    let (mut bench, _) = super::asked(1, IpPolicy::V4First);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    bench.answer(Say::Addresses(1, 60));
    let other = bench.only_answer().expect("the other family");
    assert_eq!(said(other), (Some(0), 2, false, false));
}

#[test]
fn of_more_addresses_than_there_is_room_for_each_answer_gives_others() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    let mut seen = BTreeSet::new();
    for waiter in 2..60 {
        bench.answer(Say::Addresses(20, 30));
        let asked = bench.only_answer().expect("addresses").addresses;
        assert_eq!((asked.len(), asked.offered()), (8, 20));
        let Lookup::Hit(hit) = bench.lookup(host, waiter) else {
            panic!("a hit")
        };
        let sorted = |list: &Addresses| list.iter().collect::<BTreeSet<_>>();
        assert_eq!(
            sorted(&hit.addresses),
            sorted(&asked),
            "the same ones until the TTL ends"
        );
        assert_eq!(hit.addresses.offered(), 20);
        seen.extend(asked.iter());
        bench.pass(30 * SECOND);
        assert_eq!(bench.lookup(host, waiter), Lookup::Waiting);
    }
    assert_eq!(seen.len(), 20);
}
