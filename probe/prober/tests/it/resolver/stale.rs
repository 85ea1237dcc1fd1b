//! What is known of a name outlives its TTL for an hour, and stands in for an answer that does not
//! come.

use model::limits::DNS_QUEUE_WAIT_MAX_MS;

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

/// Lesson: the resolver was dead, and 4,096 names were asked for again and again. The others waited
/// for their turn until they were given up, although their addresses were known.
#[test]
fn who_has_no_turn_to_ask_has_the_old_answer() {
    const NAMES: usize = DNS_IN_FLIGHT_MAX + DNS_QUEUE_MAX;
    let mut bench = Bench::new(1, IpPolicy::V4Only);
    let known = [0, 1, 2].map(|n| bench.resolver.intern(&format!("known-{n}.test")));
    for host in known {
        bench.lookup(host, 0);
        bench.answer(Say::Addresses(1, 60));
    }
    bench.answers.clear();
    bench.pass(60 * SECOND);
    let others = |range: std::ops::Range<usize>, bench: &mut Bench| {
        for n in range {
            let host = bench.resolver.intern(&format!("{n}.test"));
            bench.lookup(host, 1_000 + n as u64);
        }
    };
    // All that may be asked for at a time are, and two names wait for their turn.
    others(0..DNS_IN_FLIGHT_MAX, &mut bench);
    assert_eq!(bench.lookup(known[0], 1), Lookup::Waiting);
    assert_eq!(bench.lookup(known[1], 2), Lookup::Waiting);
    assert_eq!(bench.resolver.stats().queued, 2);
    // One is in a hurry, a third one finds no room in the queue, and the second is given up.
    bench.resolver.hurry(known[0], bench.now);
    bench.pass(5_000);
    assert!(bench.only_answer().expect("known").stale);
    others(DNS_IN_FLIGHT_MAX..NAMES, &mut bench);
    let Lookup::Hit(name) = bench.lookup(known[2], 3) else {
        panic!("its address is known")
    };
    assert!(name.stale);
    bench.pass(DNS_QUEUE_WAIT_MAX_MS * 1_000);
    let waited = bench.answers.iter();
    let (given_up, others): (Vec<_>, Vec<_>) = waited.copied().partition(|(who, _)| *who == 2);
    assert!(given_up[0].1.expect("known").stale);
    // Of the others nothing is known, and nothing said but that it was us.
    let is_ours = |answer: &Answer| answer.is_err_and(|it| it.class == FailureClass::LocalPressure);
    let ours = others.iter().filter(|(_, answer)| is_ours(answer)).count();
    assert!(ours >= DNS_QUEUE_MAX - 2, "{ours}");
}
