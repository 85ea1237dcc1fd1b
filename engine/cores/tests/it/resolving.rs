//! Names as the core uses them: answers over TCP, names asked for ahead of time, sick resolvers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use model::inbox::{Cadence, CoreCommand};
use model::outcome::flags;
use model::{FailureClass, MonoUs, Outcome, Slot, Target, TargetId, Verdict};

use crate::row::Row;
use crate::world::{
    Bench, GRID_ZERO, Sizes, bench_in, shared_config, target, target_at, write_answer,
};

const SECOND: u64 = 1_000_000;

/// A world whose web servers are well and whose resolver is not always.
struct Names {
    /// TTL of every answer, in seconds.
    ttl_s: u32,
    /// Code of every answer.
    rcode: u8,
    /// Datagrams are cut short.
    cut: bool,
    /// No answer comes from then on.
    silent_from: MonoUs,
    /// Bytes of one read of a stream.
    piece: usize,
}

const WELL: Names = Names {
    ttl_s: 300,
    rcode: 0,
    cut: false,
    silent_from: MonoUs(u64::MAX),
    piece: 512,
};

const MUTE: Names = Names {
    silent_from: MonoUs(0),
    ..WELL
};

impl Names {
    fn write(&self, query: &[u8], answer: &mut Vec<u8>) {
        write_answer(query, answer, self.rcode);
        // TTL, length and address end an answer.
        if let Some(at) = answer.len().checked_sub(10).filter(|_| answer[7] == 1) {
            answer[at..at + 4].copy_from_slice(&self.ttl_s.to_be_bytes());
        }
    }
}

impl World for Names {
    fn dial(&mut self, _address: SocketAddr, _now: MonoUs) -> Dial {
        Dial::Accept(100)
    }

    fn reply(&mut self, _peer: Peer, _sent: &[u8], _now: MonoUs) -> Reply {
        Reply {
            after_us: 100,
            bytes: Cow::Borrowed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            piece: 1_000,
            end: End::Eof,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, now: MonoUs) -> Option<u64> {
        if self.silent_from <= now {
            return None;
        }
        if !self.cut {
            self.write(query, answer);
            return Some(1_000);
        }
        // The question alone, with TC.
        self.write(query, answer);
        answer.truncate(query.len() - 11);
        answer[2] |= 2;
        answer[7] = 0;
        Some(1_000)
    }

    fn answer_stream(
        &mut self,
        query: &[u8],
        answer: &mut Vec<u8>,
        _now: MonoUs,
    ) -> Option<(u64, usize)> {
        let mut message = Vec::new();
        self.write(query, &mut message);
        answer.extend_from_slice(&message);
        Some((2_000, self.piece))
    }
}

/// A core with so many targets of 60 s (a cadence of 57 s).
fn fleet(world: Names, targets: u32) -> Bench<Names> {
    fleet_of(world, (1..=i64::from(targets)).map(|id| target(id, 60)))
}

fn fleet_of(world: Names, targets: impl Iterator<Item = Box<Target>>) -> Bench<Names> {
    fleet_in(world, &Sizes::default(), targets)
}

fn fleet_in(
    world: Names,
    sizes: &Sizes,
    targets: impl Iterator<Item = Box<Target>>,
) -> Bench<Names> {
    let bench = bench_in(world, sizes, GRID_ZERO, shared_config());
    for (slot, target) in (0..).map(Slot).zip(targets) {
        let sent = bench.inbox.send(CoreCommand::Upsert { slot, target });
        sent.expect("the core lives");
    }
    bench
}

/// What the name of [`target`] says of itself.
fn question(id: i64) -> Box<Target> {
    target_at(id, &format!("dns://s-{id}.example"), 60, 1)
}

fn outcomes(bench: &mut Bench<Names>, until_s: u64) -> Vec<Outcome> {
    bench.sim.run_until(MonoUs(until_s * SECOND));
    bench.outcomes.try_iter().collect()
}

#[test]
fn a_name_whose_answer_fits_no_datagram_is_checked_all_the_same() {
    for piece in [1, 2, 3, 512] {
        let world = Names {
            cut: true,
            piece,
            ..WELL
        };
        let mut bench = fleet(world, 20);
        let outcomes = outcomes(&mut bench, 58);
        assert_eq!(outcomes.len(), 20);
        assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
        let dns = bench.sim.core().account().dns;
        assert_eq!(
            (dns.truncated, dns.stream_queries, dns.streams),
            (20, 20, 0)
        );
    }
}

#[test]
fn a_result_says_whether_two_upstreams_agree_that_the_name_does_not_exist() {
    const TARGETS: i64 = 20;
    for upstreams in [1, 2] {
        let sizes = Sizes {
            upstreams,
            ..Sizes::default()
        };
        let world = Names { rcode: 3, ..WELL };
        let targets = (1..=TARGETS).map(|id| {
            if id % 2 == 0 {
                question(id)
            } else {
                target(id, 60)
            }
        });
        let mut bench = fleet_in(world, &sizes, targets);
        let outcomes = outcomes(&mut bench, 58);
        assert_eq!(outcomes.len(), TARGETS as usize);
        for outcome in outcomes {
            assert_eq!(outcome.failure(), Some(FailureClass::DnsNxdomain));
            assert_eq!(outcome.has(flags::DNS_AGREED), upstreams == 2);
            assert_eq!(outcome.is_low_confidence(), upstreams == 1);
        }
        let dns = bench.sim.core().account().dns;
        assert_eq!(dns.queries, TARGETS as u64 * u64::from(upstreams));
    }
}

#[test]
fn with_a_ttl_of_two_cadences_only_the_first_check_waits_for_dns() {
    for (ttl_s, waiting) in [(120, 1), (110, 5)] {
        let mut bench = fleet(Names { ttl_s, ..WELL }, 10);
        // Ten rounds.
        let outcomes = outcomes(&mut bench, 570);
        assert_eq!(outcomes.len(), 100);
        let waited = |outcome: &&Outcome| !outcome.has(flags::DNS_CACHED);
        assert_eq!(outcomes.iter().filter(waited).count(), 10 * waiting);
        let dns = bench.sim.core().account().dns;
        assert_eq!(dns.prefetches > 0, waiting == 1, "{dns:?}");
        assert!(dns.queries <= 110, "{dns:?}");
    }
}

#[test]
fn while_the_resolvers_are_sick_no_name_is_down() {
    let mut bench = fleet(MUTE, 2_000);
    let outcomes = outcomes(&mut bench, 58);
    // 2,000 names in 57 s are 36 a second. 200 of them have failed when those of the first 5.7 s
    // are out of tries (4.5 s); the judgement comes within a second more.
    let early = |o: &&Outcome| o.verdict() == Verdict::Down;
    let early: Vec<&Outcome> = outcomes.iter().filter(early).collect();
    assert!((150..=236).contains(&early.len()), "{}", early.len());
    let noticed = early.iter().map(|o| ends_us(o)).max().expect("some");
    assert!(noticed <= (5_700 + 4_500 + 1_000 + 50) * 1_000, "{noticed}");
    for outcome in &outcomes {
        let expected = if ends_us(outcome) <= noticed {
            FailureClass::DnsTimeout
        } else {
            FailureClass::DnsResolverSick
        };
        assert_eq!(outcome.failure(), Some(expected), "{outcome:?}");
        let [dns, connect, .., total] = outcome.phases.values();
        assert!(
            dns.is_some() && dns == total && connect.is_none(),
            "{outcome:?}"
        );
    }
    let row = Row::of("while_the_resolvers_are_sick_no_name_is_down");
    let told: Vec<_> = bench.evidence.try_iter().collect();
    assert_eq!(told.len(), outcomes.len());
    let by_check: BTreeMap<_, _> = outcomes.iter().map(|o| ((o.slot.0, o.seq), o)).collect();
    for evidence in told {
        let outcome = by_check[&(evidence.slot, evidence.seq)];
        if outcome.failure() == Some(FailureClass::DnsResolverSick) {
            row.holds(outcome, &evidence);
        }
        let sick = evidence.failure() == Some(FailureClass::DnsResolverSick);
        let many = is_of_many(&evidence.text);
        let unknown = evidence.text.ends_with("nothing is known of the site");
        assert_eq!((many, unknown), (sick, sick), "{}", evidence.text);
        assert!(evidence.dns.is_some(), "{evidence:?}");
    }
    assert!(outcomes.len() > 1_700, "{}", outcomes.len());
}

/// Whether the text says for how many of at least 200 names the resolvers fail: for all of them.
fn is_of_many(text: &str) -> bool {
    let share = text.split("our resolvers fail for ").nth(1);
    let Some((failing, rest)) = share.and_then(|share| share.split_once(" of ")) else {
        return false;
    };
    let names = rest.strip_suffix(" names asked for in 30 s: nothing is known of the site");
    let count: Option<u32> = names.and_then(|names| names.parse().ok());
    count.is_some_and(|count| count >= 200) && names == Some(failing)
}

/// The failures before the sickness is noticed are down; they are no incident because a failure
/// of the DNS opens none before it has repeated (`confirm_after`, 3), and it does not.
#[test]
fn the_failures_before_the_resolvers_are_known_to_be_sick_do_not_repeat() {
    let mut bench = fleet(MUTE, 2_000);
    let mut downs = vec![0; 2_000];
    // Four minutes: as long as the names speak of the resolvers without canaries, and less.
    for s in 1..=240 {
        for outcome in outcomes(&mut bench, s) {
            if outcome.verdict() != Verdict::Down {
                assert_eq!(outcome.failure(), Some(FailureClass::DnsResolverSick));
                continue;
            }
            downs[outcome.slot.index()] += 1;
            // As the sink does with a suspect.
            let cadence = Cadence::Recheck { after_ms: 60_000 };
            let (slot, generation) = (outcome.slot, outcome.generation);
            let command = CoreCommand::Cadence {
                slot,
                generation,
                cadence,
            };
            bench.inbox.send(command).expect("the core lives");
        }
    }
    assert!(downs.iter().filter(|downs| **downs == 1).count() >= 150);
    assert!(downs.iter().all(|downs| *downs <= 1), "none is confirmed");
}

/// When a check ended, in µs since the start of the bench.
fn ends_us(outcome: &Outcome) -> u64 {
    let started_ms = outcome.started.get().0 - GRID_ZERO.0;
    started_ms * 1_000 + u64::from(outcome.phases.total_us)
}

#[test]
fn a_deadline_that_is_shorter_than_the_tries_speaks_of_sick_resolvers_too() {
    let brief = |id| {
        let mut target = if id % 2 == 0 {
            target(id, 60)
        } else {
            question(id)
        };
        target.config.timeout_ms = 1_000;
        target
    };
    let mut bench = fleet_of(MUTE, (1..=2_000).map(brief));
    let outcomes = outcomes(&mut bench, 58);
    let last = &outcomes[outcomes.len() - 1_000..];
    let sick = |o: &Outcome| o.failure() == Some(FailureClass::DnsResolverSick);
    assert!(last.iter().all(sick));
}

#[test]
fn a_deadline_that_is_shorter_than_a_try_is_no_failure_where_an_old_address_is_known() {
    let world = Names {
        ttl_s: 60,
        silent_from: MonoUs(100 * SECOND),
        ..WELL
    };
    let brief = |id| {
        let mut target = target(id, 60);
        target.config.timeout_ms = 1_000;
        target
    };
    let mut bench = fleet_of(world, (1..=10).map(brief));
    let outcomes = outcomes(&mut bench, 171);
    assert_eq!(outcomes.len(), 30);
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
    let old = |outcome: &&Outcome| outcome.has(flags::DNS_STALE);
    assert_eq!(outcomes.iter().filter(old).count(), 10);
}

#[test]
fn names_of_private_networks_leave_no_question() {
    let urls = [
        "http://nas.local/",
        "https://a.corp/",
        "dns://b.lan",
        "tcp://c.home:25",
    ];
    let targets = (1..).zip(urls).map(|(id, url)| target_at(id, url, 60, 1));
    let mut bench = fleet_of(WELL, targets);
    let outcomes = outcomes(&mut bench, 120);
    assert!(outcomes.len() >= 8, "{}", outcomes.len());
    let blocked = |o: &Outcome| o.failure() == Some(FailureClass::SafetyBlocked);
    assert!(outcomes.iter().all(blocked));
    let dns = bench.sim.core().account().dns;
    assert_eq!((dns.queries, dns.misses, dns.flights), (0, 0, 0), "{dns:?}");
}

#[test]
fn a_question_is_asked_at_each_check_whatever_the_cache_knows() {
    // A page and a question of each name; an answer serves pages for five minutes.
    let targets = (1..=10).flat_map(|id| {
        let mut page = target(id, 60);
        page.id = TargetId::new(id + 100).expect("positive");
        [question(id), page]
    });
    let mut bench = fleet_of(Names { ttl_s: 300, ..WELL }, targets);
    let outcomes = outcomes(&mut bench, 570);
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
    let is_question = |outcome: &&Outcome| outcome.slot.0.is_multiple_of(2);
    let (questions, pages): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(is_question);
    assert!(questions.iter().all(|o| !o.has(flags::DNS_CACHED)));
    let asked = |outcome: &Outcome| outcome.phases.dns_us >= 1_000;
    assert!(questions.iter().all(|outcome| asked(outcome)));
    let dns = bench.sim.core().account().dns;
    let for_pages = dns.misses + dns.prefetches;
    assert_eq!(dns.queries, 100 + for_pages, "{dns:?}");
    assert_eq!(dns.hits + dns.misses, pages.len() as u64, "{dns:?}");
}

#[test]
fn a_question_is_never_asked_ahead_of_its_check() {
    // With this TTL the addresses of pages are.
    let mut bench = fleet_of(Names { ttl_s: 120, ..WELL }, (1..=10).map(question));
    assert_eq!(outcomes(&mut bench, 570).len(), 100);
    let dns = bench.sim.core().account().dns;
    assert_eq!((dns.queries, dns.prefetches), (100, 0), "{dns:?}");
    assert_eq!((dns.hits, dns.misses, dns.flights), (0, 0, 0), "{dns:?}");
}

#[test]
fn the_answer_to_a_question_comes_over_tcp_where_it_fits_no_datagram() {
    for piece in [1, 2, 3, 512] {
        let world = Names {
            cut: true,
            piece,
            ..WELL
        };
        let mut bench = fleet_of(world, (1..=20).map(question));
        let outcomes = outcomes(&mut bench, 58);
        assert_eq!(outcomes.len(), 20);
        assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
        let dns = bench.sim.core().account().dns;
        assert_eq!((dns.stream_queries, dns.streams), (20, 0));
    }
}

#[test]
fn a_deadline_that_is_shorter_than_the_tries_names_the_server_that_was_asked() {
    // Each try takes 1.5 s.
    for (timeout_ms, tries) in [(1_000, 1), (2_000, 2), (4_000, 3), (5_000, 3)] {
        let targets = [target(1, 60), question(2)].map(|mut target| {
            target.config.timeout_ms = timeout_ms;
            target
        });
        let mut bench = fleet_of(MUTE, targets.into_iter());
        // Each at least once, and to its end.
        let outcomes = outcomes(&mut bench, 63);
        for outcome in &outcomes {
            assert_eq!(outcome.failure(), Some(FailureClass::DnsTimeout));
            let [dns, connect, ..] = outcome.phases.values();
            assert!(dns.is_some() && connect.is_none());
        }
        let slots: BTreeSet<Slot> = outcomes.iter().map(|outcome| outcome.slot).collect();
        assert_eq!(slots, BTreeSet::from([Slot(0), Slot(1)]));
        let seen: Vec<_> = bench.evidence.try_iter().collect();
        assert_eq!(seen.len(), outcomes.len());
        for evidence in seen {
            let dns = evidence.dns.expect("it was asked");
            assert_eq!(dns.server, Some(SocketAddr::from(([1, 1, 1, 1], 53))));
            assert_eq!((dns.tries, dns.rcode), (tries, None), "{timeout_ms} ms");
            let blames = "our resolver 1.1.1.1:53 did not answer";
            assert!(evidence.text.contains(blames), "{}", evidence.text);
        }
    }
}
