//! The cap on queries, and names that are asked for ahead of time.

use model::FailureClass;
use model::limits::DNS_QUEUE_WAIT_MAX_MS;
use prober::resolver::{HostId, IpPolicy, Lookup, ResolverConfig};
use proptest::prelude::*;

use super::{Bench, SECOND, Say, asked, config};

fn capped(queries_per_s: u32) -> Bench {
    Bench::with(ResolverConfig {
        queries_per_s,
        ..config(1)
    })
}

#[test]
fn names_beyond_the_cap_wait_their_turn_and_then_are_given_up_as_ours() {
    let mut bench = capped(100);
    let hosts: Vec<HostId> = (0..300)
        .map(|n| bench.resolver.intern(&format!("{n}.test")))
        .collect();
    for (n, host) in hosts.iter().enumerate() {
        assert_eq!(bench.lookup(*host, n as u64), Lookup::Waiting);
    }
    assert_eq!(bench.sent.len(), 16, "a burst");
    let stats = bench.resolver.stats();
    assert_eq!((stats.queued, stats.capped), (284, 284));
    for asked in 16..116 {
        assert_eq!(bench.sent.len(), asked);
        let sent = bench.sent[asked - 16].clone();
        bench.say(&sent, Say::Addresses(1, 300));
        bench.pass(10_000);
    }
    bench.pass(DNS_QUEUE_WAIT_MAX_MS * 1_000 - SECOND);
    let ours = |class: FailureClass| class == FailureClass::LocalPressure;
    let given_up = bench.answers.iter();
    let given_up = given_up.filter(|(_, answer)| answer.is_err_and(|f| ours(f.class)));
    let stats = bench.resolver.stats();
    assert_eq!((given_up.count() as u64, stats.queued), (stats.refused, 0));
    assert!((130..=136).contains(&stats.refused), "{}", stats.refused);
}

proptest! {
    #[test]
    fn no_second_has_more_first_queries_than_the_cap_and_a_burst(
        per_s in 20u32..400,
        steps in prop::collection::vec((0usize..40, 1u64..200_000), 1..40),
    ) {
        let mut bench = capped(per_s);
        let (mut waiter, mut answered, mut sent_at) = (0, 0, Vec::new());
        for (lookups, pause_us) in steps {
            for _ in 0..lookups {
                let host = bench.resolver.intern(&format!("{waiter}.test"));
                bench.lookup(host, waiter);
                waiter += 1;
            }
            while answered < bench.sent.len() {
                let sent = bench.sent[answered].clone();
                answered += 1;
                bench.say(&sent, Say::Addresses(1, 300));
            }
            sent_at.resize(bench.sent.len(), bench.now.0);
            bench.pass(pause_us);
            sent_at.resize(bench.sent.len(), bench.now.0);
        }
        let burst = (per_s / 10).max(16) as usize;
        for (n, from) in sent_at.iter().enumerate() {
            let within = sent_at[n..].iter().filter(|at| **at - from < SECOND).count();
            // What was sent in a pause is counted at its end.
            let slack_us = SECOND + 200_000;
            let most = burst + (u64::from(per_s) * slack_us / SECOND) as usize + 1;
            prop_assert!(within <= most, "{within} in a second, {most} allowed");
        }
    }
}

/// A name with this TTL that has just been resolved.
fn known(ttl_s: u32) -> (Bench, HostId) {
    let (mut bench, host) = asked(1, IpPolicy::V4First);
    bench.answer(Say::Addresses(1, ttl_s));
    bench.only_answer().expect("an address");
    (bench, host)
}

/// Whether the resolver asks ahead of time for a check `due_s` from now.
fn is_fetched(bench: &mut Bench, host: HostId, due_s: u64, cadence_s: u32) -> bool {
    let before = bench.sent.len();
    let due = bench.now.plus_us(due_s * SECOND);
    bench
        .resolver
        .prefetch(host, due, cadence_s * 1_000, bench.now);
    bench.pump();
    bench.sent.len() > before
}

#[test]
fn a_name_is_fetched_ahead_only_if_it_ends_before_the_check_and_lives_for_two() {
    let (mut bench, host) = known(120);
    assert!(!is_fetched(&mut bench, host, 57, 57), "it will be fresh");
    bench.pass(70 * SECOND);
    assert!(
        !is_fetched(&mut bench, host, 57, 61),
        "one answer, one check"
    );
    assert!(is_fetched(&mut bench, host, 57, 57));
    assert!(!is_fetched(&mut bench, host, 57, 57), "under way");
    assert!(matches!(bench.lookup(host, 2), Lookup::Hit(_)), "meanwhile");
    bench.answer(Say::Addresses(2, 120));
    assert!(bench.answers.is_empty(), "nobody waits for it");
    bench.pass(57 * SECOND);
    let Lookup::Hit(name) = bench.lookup(host, 3) else {
        panic!("found in the cache")
    };
    assert_eq!(name.addresses.len(), 2);
    assert_eq!(bench.resolver.stats().prefetches, 1);
}

#[test]
fn what_is_over_or_failed_is_not_fetched_ahead() {
    let (mut bench, host) = known(120);
    bench.pass(120 * SECOND);
    assert!(!is_fetched(&mut bench, host, 57, 57), "it has ended");
    bench.lookup(host, 2);
    bench.answer(Say::Code(hickory_proto::op::ResponseCode::NXDomain, 60));
    assert!(!is_fetched(&mut bench, host, 57, 57), "a failure");
}

#[test]
fn a_fetch_ahead_that_fails_costs_the_name_nothing() {
    use hickory_proto::op::ResponseCode as R;
    for code in [R::ServFail, R::NXDomain] {
        let (mut bench, host) = known(120);
        bench.pass(70 * SECOND);
        assert!(is_fetched(&mut bench, host, 57, 57));
        bench.answer(Say::Code(code, 60));
        let found = bench.lookup(host, 2);
        assert!(
            matches!(found, Lookup::Hit(name) if !name.stale),
            "{found:?}"
        );
    }
}

#[test]
fn nobody_waits_longer_because_of_a_fetch_ahead() {
    let mut bench = capped(20);
    let host = bench.resolver.intern("known.test");
    bench.lookup(host, 0);
    bench.answer(Say::Addresses(1, 120));
    bench.pass(70 * SECOND);
    for n in 1..=16 {
        let host = bench.resolver.intern(&format!("{n}.test"));
        bench.lookup(host, n);
    }
    assert!(!is_fetched(&mut bench, host, 57, 57), "no token is left");
}
