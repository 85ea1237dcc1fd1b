//! Names from real servers: what unbound and nsd say is read as it is meant, on both drivers.

use std::net::SocketAddr;

use cores::{Clock, CoreConfig, CoreHandle, CoreSnapshot, Driver, spawn};
use model::FailureClass;
use model::inbox::{CoreCommand, OneShotReport};
use model::{Slot, Target, TargetSpec, Ticket, evidence::DnsSeen};
use prober::resolver::IpPolicy;

use super::name_servers::{LAME_ZONE, NameServers, ZONE};
use super::peers::Tls;
use super::real::{self, PATIENCE, start_server};
use super::{drivers, target, target_of};

/// A core that asks one of the servers, and a web server that every name leads to.
struct Town {
    core: CoreHandle,
    web: SocketAddr,
}

impl Town {
    fn start(driver: Driver, upstream: SocketAddr, policy: IpPolicy) -> Self {
        let mut config: CoreConfig = real::config(driver, None, upstream, &Tls::new());
        config.resolver.policy = policy;
        Self {
            core: spawn(config, Clock::start()).expect("the kernel gives out this driver"),
            web: start_server(None),
        }
    }

    fn check(&self, name: &str) -> OneShotReport {
        let url = format!("http://{name}:{}/ok", self.web.port());
        self.check_target(&target(&url, 9_000))
    }

    fn check_target(&self, target: &Target) -> OneShotReport {
        for _ in 0..super::TRIES {
            let ticket = Ticket(1);
            let target = Box::new(target.clone());
            let sent = self
                .core
                .inbox
                .send(CoreCommand::OneShot { target, ticket });
            sent.expect("the core runs");
            let report = self.core.one_shots.recv_timeout(PATIENCE);
            let report = report.expect("an answer");
            if report.outcome.failure() != Some(FailureClass::LocalPressure) {
                return report;
            }
        }
        panic!("the machine is too busy to judge {}", target.config.check)
    }

    fn ask(&self, question: &str, expect: &[&str]) -> OneShotReport {
        let target = target_of(&TargetSpec {
            url: format!("dns://{question}"),
            expect: expect.iter().map(|&text| text.to_owned()).collect(),
            timeout_ms: Some(9_000),
            ..TargetSpec::default()
        });
        self.check_target(&target)
    }

    /// As a target, which keeps what is known of its name.
    fn check_twice(&self, name: &str, class: FailureClass) {
        let slot = Slot(0);
        let target = target(&format!("http://{name}/"), 9_000);
        let upsert = CoreCommand::Upsert { slot, target };
        self.core.inbox.send(upsert).expect("the core runs");
        for _ in 0..2 {
            let again = CoreCommand::CheckNow { slot };
            self.core.inbox.send(again).expect("the core runs");
            let outcome = self.core.outcomes.recv_timeout(PATIENCE);
            assert_eq!(outcome.expect("an outcome").failure(), Some(class));
        }
    }

    fn class(&self, name: &str) -> Option<FailureClass> {
        self.check(name).outcome.failure()
    }

    fn dns(&self, name: &str) -> DnsSeen {
        self.check(name).evidence.dns.expect("it was asked for")
    }

    /// Ends the core; its last numbers.
    fn stop(self) -> CoreSnapshot {
        let drain = CoreCommand::Drain { within_ms: 100 };
        self.core.inbox.send(drain).expect("the core runs");
        let ended = self.core.thread.join();
        ended.expect("no panic").expect("a clean end");
        self.core.stats.snapshot()
    }
}

fn of_zone(label: &str) -> String {
    format!("{label}.{ZONE}")
}

/// What each server's word on [`LAME_ZONE`] comes to. unbound, a resolver, finds that its name
/// servers fail; nsd, which answers for its own zones alone, refuses the question itself.
fn lame(servers: &NameServers) -> [(SocketAddr, FailureClass); 2] {
    [
        (servers.unbound, FailureClass::DnsServfail),
        (servers.nsd, FailureClass::DnsResolverSick),
    ]
}

#[test]
fn what_unbound_and_nsd_say_of_a_name_is_its_class() {
    use FailureClass as C;
    let servers = NameServers::start();
    for driver in drivers() {
        for (upstream, lame) in lame(&servers) {
            let town = Town::start(driver, upstream, IpPolicy::V4First);
            for (name, class) in [
                (of_zone("www"), None),
                (of_zone("to-8"), None),
                (of_zone("to-9"), Some(C::DnsMalformed)),
                (of_zone("mail"), Some(C::DnsNoAddress)),
                (of_zone("absent"), Some(C::DnsNxdomain)),
                (format!("www.{LAME_ZONE}"), Some(lame)),
            ] {
                assert_eq!(town.class(&name), class, "{name} of {upstream}");
            }
            town.check_twice(&of_zone("absent"), C::DnsNxdomain);
            let numbers = town.stop().dns;
            assert!(numbers.negative_hits > 0, "the second check asked nobody");
            assert_eq!((numbers.misspelled, numbers.ignored), (0, 0), "{numbers:?}");
        }
    }
}

/// Label, type, what is expected, and what it comes to: of [`ZONE`].
type Question = (
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<FailureClass>,
);

const QUESTIONS: &[Question] = {
    use FailureClass as C;
    let (missing, surplus) = (Some(C::BodyKeywordMissing), Some(C::BodyForbidden));
    let soa = &["ns.rw.example hostmaster.rw.example 1 3600 600 86400 60"];
    &[
        (
            "",
            "MX",
            &["20 BACKUP.other.example", "10 mail.rw.example."],
            None,
        ),
        ("", "MX", &["10 mail.rw.example"], surplus),
        ("", "MX", &["10 other.rw.example"], missing),
        (
            "",
            "MX",
            &["20 mail.rw.example", "20 backup.other.example"],
            missing,
        ),
        ("", "NS", &["ns.rw.example"], None),
        ("", "SOA", soa, None),
        ("", "CAA", &["0 issue \"ca.example\""], None),
        ("", "TXT", &["v=spf1 -all"], None),
        ("", "TXT", &["\"v=spf1 \" \"-all\""], None),
        ("", "TXT", &["V=spf1 -all"], missing),
        ("_sip._tcp.", "SRV", &["0 5 5060 sip.rw.example"], None),
        ("back.", "PTR", &["WWW.rw.example"], None),
        ("to-1.", "CNAME", &["to-0.rw.example"], None),
        ("to-8.", "A", &["127.0.0.1"], None),
        ("to-9.", "A", &[], Some(C::DnsMalformed)),
        ("dual.", "AAAA", &["0:0:0:0:0:0:0:1"], None),
        ("big.", "A", &["127.9.9.1"], surplus),
        ("www.", "AAAA", &[], Some(C::DnsNoAddress)),
        ("absent.", "MX", &[], Some(C::DnsNxdomain)),
    ]
};

#[test]
fn what_a_name_says_of_itself_is_compared_with_what_is_expected() {
    let servers = NameServers::start();
    for driver in drivers() {
        for (upstream, lame) in lame(&servers) {
            let town = Town::start(driver, upstream, IpPolicy::V4First);
            for (label, kind, expect, class) in QUESTIONS {
                let report = town.ask(&format!("{label}{ZONE}?type={kind}"), expect);
                let told = format!("{label} {kind} of {upstream}: {:?}", report.evidence);
                assert_eq!(report.outcome.failure(), *class, "{told}");
                let dns = report.evidence.dns.expect("it was asked");
                assert_eq!(dns.server, Some(upstream), "{told}");
            }
            let asked = town.ask(&format!("{LAME_ZONE}?type=NS"), &[]);
            assert_eq!(asked.outcome.failure(), Some(lame));
            let numbers = town.stop().dns;
            assert_eq!((numbers.hits, numbers.negative_hits), (0, 0), "{numbers:?}");
            let streams = (numbers.truncated, numbers.stream_queries, numbers.streams);
            assert_eq!(streams, (1, 1, 0), "the big one alone");
        }
    }
}

#[test]
fn an_answer_that_fits_no_datagram_comes_over_tcp() {
    let servers = NameServers::start();
    for driver in drivers() {
        for upstream in [servers.unbound, servers.nsd] {
            let town = Town::start(driver, upstream, IpPolicy::V4First);
            let dns = town.dns(&of_zone("big"));
            assert_eq!(dns.addresses.len(), 8, "{dns:?}");
            let in_big = |address: &std::net::IpAddr| address.to_string().starts_with("127.9.9.");
            assert!(dns.addresses.iter().all(in_big), "{dns:?}");
            let numbers = town.stop().dns;
            let counts = (numbers.truncated, numbers.stream_queries, numbers.streams);
            assert_eq!(counts, (1, 1, 0), "{numbers:?}");
        }
    }
}

#[test]
fn both_families_come_from_real_servers_and_a_lack_of_one_is_said() {
    let servers = NameServers::start();
    for driver in drivers() {
        let town = Town::start(driver, servers.unbound, IpPolicy::Both);
        let dns = town.dns(&of_zone("dual"));
        let addresses: Vec<String> = dns.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1"]);
        assert_eq!(
            town.class(&of_zone("www")),
            Some(FailureClass::DnsNoAddress)
        );
        town.stop();
    }
}

#[test]
fn a_loop_of_aliases_is_followed_by_nobody() {
    use FailureClass as C;
    let servers = NameServers::start();
    for driver in drivers() {
        // nsd gives the loop as it is; unbound finds it out and refuses.
        for (upstream, class) in [
            (servers.nsd, C::DnsMalformed),
            (servers.unbound, C::DnsServfail),
        ] {
            let town = Town::start(driver, upstream, IpPolicy::V4First);
            assert_eq!(town.class(&of_zone("loop")), Some(class), "of {upstream}");
            town.stop();
        }
    }
}
