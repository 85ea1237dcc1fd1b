//! Happy eyeballs: two families of addresses in virtual time, every order of what can happen.

mod network;
mod oracle;

use std::net::IpAddr;

use model::outcome::PHASE_ABSENT;
use model::url::Scheme;
use model::{Evidence, FailureClass, Generation, Slot, Verdict};
use prober::resolver::Scope;
use prober::{Command, HostRef};
use proptest::prelude::*;

use crate::driver::{http, spec};
use network::{End, Fate, MS, Network, Other, run};
use oracle::expected;

const DEADLINE_MS: u64 = 10_000;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One address of each family, asked for with the name.
fn two(first: Fate, other: Fate) -> Network {
    Network {
        first: vec![first],
        other: vec![other],
        answer: Other::WithTheFirst,
        ..Network::default()
    }
}

/// Everything that one address can do, far from each other in time.
const FATES: [Fate; 8] = [
    Fate::Accepts(10 * MS),
    Fate::Accepts(400 * MS),
    Fate::Refuses(11 * MS),
    Fate::Refuses(410 * MS),
    Fate::Silent,
    Fate::NoWay,
    Fate::Short,
    Fate::Blocked,
];

#[test]
fn every_order_of_two_addresses_comes_to_what_the_rules_say() {
    let answers = [
        Other::WithTheFirst,
        Other::After(20 * MS),
        Other::After(300 * MS),
        Other::Lacking(20 * MS),
        Other::Failing(300 * MS),
        Other::Never,
    ];
    for first in FATES {
        for other in FATES {
            for answer in answers {
                for dns_us in [0, 100 * MS, 600 * MS] {
                    for early in [false, true] {
                        let network = Network {
                            answer,
                            dns_us,
                            early,
                            ..two(first, other)
                        };
                        let run = run(&http(), &network, DEADLINE_MS);
                        let report = run.attempt.report();
                        let seen = (report.class, report.address, report.phases.connect_us);
                        let wanted = expected(&network, DEADLINE_MS * MS);
                        assert_eq!(seen, wanted, "{network:?}: {:?}", run.commands);
                    }
                }
            }
        }
    }
}

#[test]
fn where_the_preferred_family_cannot_be_had_and_the_other_one_is_out_of_reach_dns_failed() {
    use FailureClass as C;
    let lacking = [
        C::DnsServfail,
        C::DnsTimeout,
        C::DnsMalformed,
        C::DnsResolverSick,
    ];
    for lacks in lacking.map(Some).into_iter().chain([None]) {
        for (fates, class) in [
            (&[Fate::NoWay][..], lacks.unwrap_or(C::ConnectLocal)),
            (
                &[Fate::NoWay, Fate::NoWay],
                lacks.unwrap_or(C::ConnectLocal),
            ),
            (
                &[Fate::NoWay, Fate::Blocked],
                lacks.unwrap_or(C::ConnectLocal),
            ),
            // What is short has nothing to do with families.
            (&[Fate::NoWay, Fate::Short], C::ConnectLocal),
            (&[Fate::Short], C::ConnectLocal),
            (&[Fate::Blocked], C::SafetyBlocked),
            (&[Fate::Refuses(MS)], C::ConnectRefused),
            (&[Fate::Silent], C::ConnectTimeout),
        ] {
            let network = Network {
                first: fates.to_vec(),
                lacks,
                ..Network::default()
            };
            let run = run(&http(), &network, DEADLINE_MS);
            assert_eq!(run.attempt.report().class, Some(class), "{network:?}");
            let told = lacks == Some(class);
            let seen = evidence(&run);
            let noted = seen.text.contains("this host has no way to them");
            assert_eq!(noted, told, "{}", seen.text);
            assert!(!told || seen.addresses.iter().all(|tried| tried.local));
            assert!(
                !told || seen.errno.is_none() && seen.dns.is_some_and(|dns| dns.rcode.is_none())
            );
        }
        let works = Network {
            first: vec![Fate::Accepts(MS)],
            lacks,
            ..Network::default()
        };
        assert_eq!(
            run(&http(), &works, DEADLINE_MS).attempt.report().class,
            None
        );
    }
    // Beside a remote that refused, the remote's word counts, as everywhere.
    let mixed = Network {
        first: vec![Fate::NoWay, Fate::Refuses(MS)],
        lacks: Some(C::DnsServfail),
        ..Network::default()
    };
    let class = run(&http(), &mixed, DEADLINE_MS).attempt.report().class;
    assert_eq!(class, Some(C::ConnectRefused));
}

#[test]
fn with_both_each_family_must_connect_and_the_one_that_fails_decides() {
    for first in FATES {
        for other in FATES {
            let network = Network {
                scope: Some(Scope::Each),
                ..two(first, other)
            };
            let run = run(&http(), &network, DEADLINE_MS);
            let report = run.attempt.report();
            let works = |fate| matches!(fate, Fate::Accepts(_));
            assert_eq!(
                report.class.is_none(),
                works(first) && works(other),
                "{network:?}"
            );
            if works(first) != works(other) {
                let failing = if works(first) {
                    network.other_address(0)
                } else {
                    network.first_address(0)
                };
                assert_eq!(report.address, Some(failing), "{network:?}");
            }
            let text = evidence(&run).text;
            let says_both = text.contains("IPv4 and IPv6");
            let connects = report
                .class
                .is_some_and(|class| class.as_str().starts_with("connect."));
            assert_eq!(says_both, connects, "{text}");
            if report.class.is_none() {
                let longer = [first, other].map(Fate::takes_us).into_iter().max();
                assert_eq!(Some(u64::from(report.phases.connect_us)), longer);
                assert_eq!(report.address, Some(network.first_address(0)));
            }
        }
    }
}

#[test]
fn a_check_whose_first_address_answers_knows_nothing_of_the_other_family() {
    for answer in [Other::WithTheFirst, Other::After(0)] {
        let network = Network {
            answer,
            early: true,
            ..two(Fate::Accepts(200 * MS), Fate::Accepts(0))
        };
        let run = run(&http(), &network, DEADLINE_MS);
        let kinds: Vec<String> = run.commands.iter().map(kind).collect();
        assert_eq!(
            kinds,
            ["Resolve", "Connect", "Recv", "CloseConn", "Done"],
            "as many commands as with one family"
        );
    }
}

fn kind(command: &Command) -> String {
    let text = format!("{command:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn evidence(run: &network::Run) -> Evidence {
    run.attempt.evidence(Slot(0), Generation(0), 0)
}

#[test]
fn every_hop_of_a_redirect_races_anew_and_late_answers_of_the_last_hop_are_nobodys() {
    let hop: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: //www.e.test:8080/\r\n\r\n";
    for answer in [Other::WithTheFirst, Other::After(20 * MS)] {
        let network = Network {
            answer,
            replies: vec![hop, OK],
            ..two(Fate::Silent, Fate::Accepts(30 * MS))
        };
        let run = run(&http(), &network, DEADLINE_MS);
        let report = run.attempt.report();
        assert_eq!((report.class, report.hops), (None, 1));
        assert_eq!(report.address, Some(network.other_address(0)));
        assert_eq!(u64::from(report.phases.connect_us), 60 * MS, "of each hop");
        let widened = run.commands.iter().filter(|c| **c == Command::Widen);
        let wanted = if answer == Other::WithTheFirst { 0 } else { 2 };
        assert_eq!(widened.count(), wanted);
    }
    // The first hop is over before the answer that it has asked for; the second one asks again.
    let network = Network {
        answer: Other::After(500 * MS),
        replies: vec![hop, OK],
        ..two(Fate::Accepts(300 * MS), Fate::Accepts(0))
    };
    let run = run(&http(), &network, DEADLINE_MS);
    let report = run.attempt.report();
    assert_eq!(
        (report.class, report.address),
        (None, Some(network.first_address(0)))
    );
}

#[test]
fn the_second_look_goes_to_the_family_that_won() {
    let https = spec(Scheme::Https, HostRef::Name("e.test"));
    let network = Network {
        replies: vec![b"", b""],
        end: End::Eof,
        ..two(Fate::Silent, Fate::Accepts(30 * MS))
    };
    let run = run(&https, &network, DEADLINE_MS);
    let report = run.attempt.report();
    assert_eq!(
        report.class.map(FailureClass::as_str),
        Some("tls.handshake")
    );
    let to: Vec<IpAddr> = run
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::Connect { address, .. } => Some(address.ip()),
            _ => None,
        })
        .collect();
    let (first, other) = (network.first_address(0), network.other_address(0));
    assert_eq!(to, [first, other, other]);
    assert_eq!(report.address, Some(other));
}

#[test]
fn a_bad_address_is_no_outage_but_evidence_with_its_error() {
    let network = Network {
        first: vec![Fate::Refuses(MS), Fate::Blocked, Fate::NoWay],
        other: vec![Fate::Refuses(MS), Fate::Accepts(MS)],
        replies: vec![b"HTTP/1.1 500 No\r\n\r\n"],
        ..two(Fate::Silent, Fate::Silent)
    };
    let run = run(&http(), &network, DEADLINE_MS);
    let evidence = evidence(&run);
    let tried: Vec<_> = evidence
        .addresses
        .iter()
        .map(|tried| (tried.address.ip(), tried.errno, tried.local))
        .collect();
    assert_eq!(
        tried,
        [
            (network.first_address(0), Some(111), false),
            (network.first_address(2), Some(99), true),
            (network.other_address(0), Some(111), false),
            (network.other_address(1), None, false),
        ]
    );
    assert_eq!(evidence.dns.expect("asked").addresses.len(), 5);
    let place = format!("[{}]:8080", network.other_address(1));
    assert!(evidence.text.starts_with(&place), "{}", evidence.text);
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        3 => (0..90u64).prop_map(|ms| Fate::Accepts(ms * MS)),
        1 => (0..700u64).prop_map(|ms| Fate::Refuses(ms * MS)),
        2 => Just(Fate::Silent),
        1 => Just(Fate::NoWay),
        1 => Just(Fate::Short),
        1 => Just(Fate::Blocked),
    ];
    prop::collection::vec(fate, 1..=4)
}

fn networks() -> impl Strategy<Value = Network> {
    let answer = prop_oneof![
        Just(Other::WithTheFirst),
        (0..900u64).prop_map(|ms| Other::After(ms * MS)),
        (0..900u64).prop_map(|ms| Other::Failing(ms * MS)),
        Just(Other::Never),
    ];
    let flags = any::<[bool; 3]>();
    (fates(), fates(), answer, 0..700u64, flags).prop_map(
        |(first, other, answer, dns_ms, [early, reversed, each])| Network {
            first,
            other,
            scope: (each && answer == Other::WithTheFirst).then_some(Scope::Each),
            answer,
            dns_us: dns_ms * MS,
            early,
            reversed,
            ..Network::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// [`run`] judges connections and numbers on the way.
    #[test]
    fn where_one_good_address_is_in_reach_the_site_is_up(network in networks()) {
        let run = run(&http(), &network, DEADLINE_MS);
        let report = run.attempt.report();
        let good = |fates: &[Fate]| fates.iter().any(|fate| matches!(fate, Fate::Accepts(_)));
        let in_reach = matches!(network.answer, Other::WithTheFirst | Other::After(_));
        let (first, other) = (good(&network.first), in_reach && good(&network.other));
        let each = network.scope == Some(Scope::Each);
        let up = if each { first && other } else { first || other };
        prop_assert_eq!(report.class.is_none(), up, "{:?}", run.commands);
        let total_us = u64::from(report.phases.total_us);
        prop_assert!(total_us <= DEADLINE_MS * MS);
        let address = report.address.expect("some address");
        if up && !each {
            let takes_us = network.fate(address).takes_us();
            prop_assert_eq!(u64::from(report.phases.connect_us), takes_us);
        }
        if !up {
            let blocked = report.phases.connect_us == PHASE_ABSENT;
            prop_assert_eq!(blocked, report.class == Some(FailureClass::SafetyBlocked));
        }
        let evidence = evidence(&run);
        if report.class.is_some_and(|class| class.verdict() == Verdict::Down) {
            let remotes = evidence.addresses.iter().any(|tried| !tried.local);
            prop_assert!(remotes, "nobody else said anything: {network:?}");
            let mut tried = evidence.addresses.iter().filter(|tried| tried.local);
            let untried = tried.any(|tried| {
                tried.address.is_ipv4() || network.fate(tried.address.ip()) == Fate::Short
            });
            prop_assert!(each || !untried, "it may be there: {network:?}");
        }
        let mut tried: Vec<IpAddr> = evidence.addresses.iter().map(|t| t.address.ip()).collect();
        for seen in &evidence.addresses {
            let errno = network.fate(seen.address.ip()).errno();
            // Who was overtaken or came too late had no answer to give.
            let is_true = seen.errno == errno || seen.errno == Some(110);
            prop_assert!(is_true, "{:?} of {:?}", seen, network);
        }
        let count = tried.len();
        tried.sort_unstable();
        tried.dedup();
        prop_assert_eq!(tried.len(), count, "no address twice");
    }
}
