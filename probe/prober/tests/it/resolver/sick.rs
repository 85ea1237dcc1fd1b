//! Sick resolvers and sick names.

use hickory_proto::op::ResponseCode;
use model::FailureClass;
use prober::resolver::{DnsFailure, HostId, IpPolicy, Lookup, ResolverConfig};

use super::{Bench, SECOND, Say, config};

/// A bench whose network answers by the name.
struct Town {
    bench: Bench,
    answered: usize,
    hosts: Vec<HostId>,
    waiter: u64,
}

impl Town {
    fn new(canaries: &[&str]) -> Self {
        let mut bench = Bench::with(ResolverConfig {
            canaries: canaries.iter().map(|&name| name.to_owned()).collect(),
            ..config(2)
        });
        let hosts = (0..400)
            .map(|n| bench.resolver.intern(&format!("n{n}.test")))
            .collect();
        Self {
            bench,
            answered: 0,
            hosts,
            waiter: 0,
        }
    }

    /// Answers what was asked, by its name; `None` is silence.
    fn answer(&mut self, say: impl Fn(&str) -> Option<Say>) {
        while self.answered < self.bench.sent.len() {
            let sent = self.bench.sent[self.answered].clone();
            self.answered += 1;
            if let Some(say) = say(&sent.name()) {
                self.bench.say(&sent, say);
            }
        }
    }

    /// Asks for names, of which the first `failing` of ten fail, and lets `s` seconds pass.
    fn ask(&mut self, failing: usize, canaries_fail: bool, s: u64) {
        for at in 0..self.hosts.len() {
            self.bench.lookup(self.hosts[at], self.waiter);
            self.waiter += 1;
        }
        for _ in 0..s * 10 {
            self.answer(|name| {
                let number = name
                    .strip_prefix('n')
                    .and_then(|rest| rest.split('.').next());
                let number: Option<usize> = number.and_then(|digits| digits.parse().ok());
                let fails = number.map_or(canaries_fail, |n| n % 10 < failing);
                Some(if fails {
                    Say::Code(ResponseCode::ServFail, 60)
                } else {
                    Say::Addresses(1, 30)
                })
            });
            self.bench.pass(SECOND / 10);
        }
    }

    /// What a name that fails is said to be now.
    fn class(&mut self) -> FailureClass {
        let host = self.bench.resolver.intern("n0.test");
        let mut said = self.bench.lookup(host, u64::MAX);
        if said == Lookup::Waiting {
            self.answer(|_| Some(Say::Code(ResponseCode::ServFail, 60)));
            let answer = self.bench.answers.pop().expect("an answer").1;
            said = Lookup::Failed(answer.expect_err("it failed"));
        }
        match said {
            Lookup::Failed(DnsFailure { class, .. }) => class,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_few_failing_names_speak_of_themselves_and_many_of_the_resolvers() {
    for (failing, class) in [
        (2, FailureClass::DnsServfail),
        (3, FailureClass::DnsResolverSick),
    ] {
        let mut town = Town::new(&[]);
        town.ask(failing, false, 2);
        assert_eq!(town.class(), class, "{failing} of 10");
        let sick = class == FailureClass::DnsResolverSick;
        assert_eq!(town.bench.resolver.is_sick(), sick);
        assert_eq!(town.bench.resolver.stats().sick, u64::from(sick));
    }
}

#[test]
fn names_that_servers_make_up_say_nothing_of_the_resolvers_until_a_target_has_them() {
    let mut town = Town::new(&[]);
    for at in 0..town.hosts.len() {
        town.bench.resolver.release(town.hosts[at]);
    }
    for (at, host) in town.hosts.iter_mut().enumerate() {
        *host = town.bench.resolver.intern_foreign(&format!("n{at}.test"));
    }
    town.ask(10, false, 2);
    assert!(!town.bench.resolver.is_sick(), "400 names of theirs fail");
    for at in 0..town.hosts.len() {
        let host = town.bench.resolver.intern(&format!("n{at}.test"));
        assert_eq!(host, town.hosts[at]);
    }
    town.bench.pass(60 * SECOND);
    town.ask(10, false, 2);
    assert!(town.bench.resolver.is_sick(), "400 of ours fail");
}

#[test]
fn the_canaries_decide_when_there_are_some() {
    for (fail, class) in [
        (true, FailureClass::DnsResolverSick),
        (false, FailureClass::DnsServfail),
    ] {
        let mut town = Town::new(&["canary.example", "other.example", "third.example"]);
        assert_eq!(town.bench.sent.len(), 0, "they are left alone");
        town.ask(10, fail, 3);
        let asked = |name: &str| town.bench.sent.iter().any(|sent| sent.name() == name);
        assert!(asked("canary.example") && asked("third.example"));
        assert_eq!(town.class(), class);
    }
}

#[test]
fn canaries_are_not_asked_while_the_names_are_well() {
    let mut town = Town::new(&["canary.example"]);
    town.ask(1, false, 5);
    assert!(
        town.bench
            .sent
            .iter()
            .all(|sent| sent.name() != "canary.example")
    );
}

#[test]
fn silence_makes_sick_as_servfail_does_and_an_answer_that_is_no_use_does_not() {
    let mut town = Town::new(&[]);
    for at in 0..town.hosts.len() {
        town.bench.lookup(town.hosts[at], at as u64);
    }
    town.bench.pass(6 * SECOND);
    assert!(town.bench.resolver.is_sick());
    let mut town = Town::new(&[]);
    for at in 0..town.hosts.len() {
        town.bench.lookup(town.hosts[at], at as u64);
    }
    town.answer(|_| Some(Say::Code(ResponseCode::NXDomain, 60)));
    town.bench.pass(6 * SECOND);
    assert!(!town.bench.resolver.is_sick());
}

#[test]
fn canaries_are_asked_ahead_of_a_full_queue() {
    let mut town = Town::new(&["canary.example"]);
    let ask = |town: &mut Town, names: std::ops::Range<u64>| {
        for n in names {
            let host = town.bench.resolver.intern(&format!("silent-{n}.test"));
            town.bench.lookup(host, n);
        }
    };
    ask(&mut town, 0..4_096);
    town.bench.pass(4_400_000);
    ask(&mut town, 4_096..16_000);
    town.bench.pass(SECOND);
    assert!(town.bench.resolver.stats().queued > 0, "thousands wait");
    let of_canary = |sent: &super::Sent| sent.name() == "canary.example";
    assert!(town.bench.sent.iter().any(of_canary));
    town.bench.pass(6 * SECOND);
    assert!(town.bench.resolver.is_sick());
}

#[test]
fn without_canaries_a_sickness_is_news_after_five_minutes() {
    let mut town = Town::new(&[]);
    let mut sick_s = 0;
    for _ in 0..62 {
        town.ask(10, true, 10);
        sick_s += 10 * u64::from(town.bench.resolver.is_sick());
    }
    assert!((290..=310).contains(&sick_s), "{sick_s} s");
    assert_eq!(town.class(), FailureClass::DnsServfail);
}

#[test]
fn a_core_that_has_an_eighth_of_the_names_notices_as_soon_as_the_node_would() {
    for (sick_names_min, sick) in [(200, false), (25, true)] {
        let mut bench = Bench::with(ResolverConfig {
            sick_names_min,
            ..config(2)
        });
        for n in 0..40 {
            let host = bench.resolver.intern(&format!("n{n}.test"));
            bench.lookup(host, n);
        }
        bench.pass(6 * SECOND);
        assert_eq!(bench.resolver.is_sick(), sick, "from {sick_names_min} on");
    }
}

#[test]
fn an_old_answer_that_stands_in_still_counts_as_a_failure() {
    let mut town = Town::new(&[]);
    town.ask(0, false, 31);
    town.bench.answers.clear();
    town.ask(10, false, 2);
    assert!(
        town.bench
            .answers
            .iter()
            .all(|(_, answer)| answer.is_ok_and(|name| name.stale))
    );
    assert!(town.bench.resolver.is_sick());
}

/// Lesson: a question that old addresses stood in for was over then, so that one lost datagram of
/// three was a name that fails.
#[test]
fn a_lost_datagram_is_no_sickness_where_the_next_try_is_answered() {
    let mut town = Town::new(&[]);
    town.ask(0, false, 2);
    town.bench.pass(40 * SECOND);
    town.answered = town.bench.sent.len();
    town.bench.answers.clear();
    for at in 0..town.hosts.len() {
        town.bench.lookup(town.hosts[at], town.waiter);
        town.waiter += 1;
    }
    // The first datagrams are lost, and what follows them is answered.
    town.bench.pass(SECOND);
    town.answered = town.bench.sent.len();
    for _ in 0..20 {
        town.bench.pass(SECOND / 10);
        town.answer(|_| Some(Say::Addresses(1, 30)));
    }
    let names = town.bench.answers.len();
    assert_eq!(names, town.hosts.len());
    let stale = town
        .bench
        .answers
        .iter()
        .filter(|(_, answer)| answer.is_ok_and(|name| name.stale));
    assert!(stale.count() > 100, "old addresses stood in");
    assert!(!town.bench.resolver.is_sick());
}

#[test]
fn questions_for_the_other_family_alone_speak_of_the_resolvers_too() {
    let mut bench = Bench::new(1, IpPolicy::V4First);
    let hosts: Vec<HostId> = (0..400)
        .map(|n| bench.resolver.intern(&format!("n{n}.test")))
        .collect();
    for host in &hosts {
        bench.lookup(*host, 1);
        bench.answer(Say::Addresses(1, 3_600));
    }
    bench.pass(120 * SECOND);
    for host in &hosts {
        bench.resolver.widen(*host, 2, bench.now);
        bench.pump();
        bench.answer(Say::Code(ResponseCode::ServFail, 60));
    }
    bench.pass(2 * SECOND);
    assert!(bench.resolver.is_sick());
    let name = bench.answers.pop().expect("an answer").1;
    assert_eq!(name.expect("what is known").addresses.len(), 1);
}
