//! What is known of a name outlives its TTL for an hour, and stands in for an answer that does not
//! come.

use super::*;

#[test]
fn a_known_answer_beats_later_silence() {
    let (mut bench, _) = asked(2, IpPolicy::V4Only);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    bench.pass(5 * SECOND);
    assert_eq!(bench.failure(), (FailureClass::DnsServfail, 3));
}

#[test]
fn a_stale_answer_stands_in_for_an_hour_when_nobody_answers() {
    let (mut bench, host) = asked(1, IpPolicy::V4Only);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("addresses");
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    let name = bench.only_answer().expect("the old address");
    assert!(name.stale && name.cached);
    let Lookup::Hit(held) = bench.lookup(host, 3) else {
        panic!("held for 5 s")
    };
    assert!(held.stale);
    bench.now = bench.now.plus_us(3_600 * SECOND);
    assert_eq!(bench.lookup(host, 4), Lookup::Waiting);
    bench.answer(Say::Code(ResponseCode::ServFail, 60));
    assert_eq!(bench.failure(), (FailureClass::DnsServfail, 1), "too old");
    assert_eq!(bench.resolver.stats().stale_hits, 2);
}

#[test]
fn an_old_answer_stands_in_after_one_silent_try_and_the_next_upstream_is_asked_at_once() {
    let (mut bench, host) = asked(2, IpPolicy::V4Only);
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("addresses");
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.pass(1_490_000);
    assert!(bench.answers.is_empty());
    bench.pass(10_000);
    let name = bench.only_answer().expect("the old address");
    assert_eq!((name.stale, name.rcode, name.tries), (true, None, 1));
    let who_comes_then = bench.lookup(host, 3);
    assert!(matches!(who_comes_then, Lookup::Hit(name) if name.stale));
    bench.answer(Say::Addresses(2, 60));
    assert!(bench.answers.is_empty(), "nobody waits any more");
    let Lookup::Hit(new) = bench.lookup(host, 4) else {
        panic!("the second upstream answered")
    };
    assert!(!new.stale && new.addresses.len() == 2);
    bench.now = bench.now.plus_us(3_700 * SECOND);
    assert_eq!(bench.lookup(host, 5), Lookup::Waiting);
    bench.pass(2 * SECOND);
    assert!(bench.answers.is_empty(), "too old: every try is made");
}

#[test]
fn who_has_no_time_for_two_tries_has_the_old_answer_sooner_and_the_question_goes_on() {
    let (mut bench, host) = asked(2, IpPolicy::V4Only);
    bench.resolver.hurry(host, bench.now);
    assert!(bench.answers.is_empty(), "nothing is known yet");
    bench.answer(Say::Addresses(1, 60));
    bench.only_answer().expect("addresses");
    bench.resolver.hurry(host, bench.now);
    bench.pass(60 * SECOND);
    assert_eq!(bench.lookup(host, 2), Lookup::Waiting);
    bench.pass(500_000);
    bench.resolver.hurry(host, bench.now);
    bench.pass(10_000);
    assert!(bench.only_answer().expect("the old address").stale);
    bench.answer(Say::Addresses(2, 60));
    let Lookup::Hit(new) = bench.lookup(host, 3) else {
        panic!("the upstream answered late")
    };
    assert!(!new.stale && new.addresses.len() == 2);
}
