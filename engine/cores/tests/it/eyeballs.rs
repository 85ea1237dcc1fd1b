//! Two families of addresses in virtual time: when the other one is asked for and connected to,
//! what is counted meanwhile, and that nothing is left behind.

use std::borrow::Cow;
use std::net::{Ipv6Addr, SocketAddr};

use cores::DestinationCaps;
use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use model::ids::splitmix64;
use model::inbox::CoreCommand;
use model::outcome::flags;
use model::{FailureClass, MonoUs, Outcome, Slot};
use prober::resolver::IpPolicy;

use crate::world::{Bench, GRID_ZERO, Sizes, bench_in, shared_config, target, write_answer};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Every name has `v4` addresses and one of IPv6.
struct Dual {
    v4: u8,
    v4_dial: Dial,
    v6_dial: Dial,
    /// Instead of both: everything by chance.
    chance: Option<u64>,
    /// Four times a second the core stalls for so long.
    stall_us: u64,
    /// Questions for AAAA, and connects to each family.
    asked_v6: usize,
    dialled: [usize; 2],
}

const DUAL: Dual = Dual {
    v4: 1,
    v4_dial: Dial::Accept(20 * MS),
    v6_dial: Dial::Accept(20 * MS),
    chance: None,
    stall_us: 0,
    asked_v6: 0,
    dialled: [0; 2],
};

impl Dual {
    fn draw(&mut self, below: u64) -> u64 {
        let state = self.chance.get_or_insert(0);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        splitmix64(*state) % below
    }
}

impl World for Dual {
    fn dial(&mut self, address: SocketAddr, _now: MonoUs) -> Dial {
        self.dialled[usize::from(address.is_ipv6())] += 1;
        if self.chance.is_some() {
            let after_us = self.draw(600) * MS;
            return match self.draw(5) {
                0 => Dial::Fail(after_us, 111),
                1 => Dial::Local(99),
                2 => Dial::Silence,
                _ => Dial::Accept(after_us),
            };
        }
        if address.is_ipv4() {
            self.v4_dial
        } else {
            self.v6_dial
        }
    }

    fn reply(&mut self, _peer: Peer, _sent: &[u8], _now: MonoUs) -> Reply {
        Reply {
            after_us: 10 * MS,
            bytes: Cow::Borrowed(OK),
            piece: 4_096,
            end: End::Eof,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        if self.chance.is_some() && self.draw(10) == 0 {
            return None;
        }
        let is_v4 = query[query.len() - 15..query.len() - 13] == [0, 1];
        write_answer(query, answer, 0);
        if is_v4 {
            let record = answer[answer.len() - 16..].to_vec();
            for n in 1..self.v4 {
                answer.extend_from_slice(&record);
                let end = answer.len();
                answer[end - 1] ^= n;
            }
            answer[7] = self.v4;
        } else {
            self.asked_v6 += 1;
            answer[7] = 1;
            answer.extend_from_slice(&[0xc0, 12, 0, 28, 0, 1, 0, 0, 14, 16, 0, 16]);
            let address = Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1);
            answer.extend_from_slice(&address.octets());
        }
        if self.chance.is_some() {
            Some(self.draw(400) * MS)
        } else {
            Some(MS)
        }
    }

    fn stall_us(&mut self, now: MonoUs) -> u64 {
        let stalls = (now.0 / (5 * MS)).is_multiple_of(50);
        if stalls { self.stall_us } else { 0 }
    }
}

/// A core with so many targets of 10 s (a cadence of 9 s).
fn fleet(world: Dual, targets: u32, policy: IpPolicy) -> Bench<Dual> {
    let sizes = Sizes {
        policy,
        destination_caps: DestinationCaps::share(1, Vec::new()),
        ..Sizes::default()
    };
    let bench = bench_in(world, &sizes, GRID_ZERO, shared_config());
    for slot in 0..targets {
        let target = target(i64::from(slot) + 1, 10);
        let slot = Slot(slot);
        let sent = bench.inbox.send(CoreCommand::Upsert { slot, target });
        sent.expect("the core lives");
    }
    bench
}

fn outcomes(bench: &mut Bench<Dual>, until_s: u64) -> Vec<Outcome> {
    bench.sim.run_until(MonoUs(until_s * SECOND));
    while bench.evidence.try_recv().is_ok() {}
    assert!(bench.sim.core().account().balances());
    bench.outcomes.try_iter().collect()
}

#[test]
fn a_dark_family_costs_250_ms_and_one_question() {
    let world = Dual {
        v4_dial: Dial::Silence,
        ..DUAL
    };
    let mut bench = fleet(world, 1, IpPolicy::V4First);
    let outcomes = outcomes(&mut bench, 40);
    assert!(outcomes.len() >= 4, "{}", outcomes.len());
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(
            (outcome.failure(), outcome.has(flags::DNS_CACHED)),
            (None, n > 0)
        );
        let [dns_us, connect_us, _, ttfb_us, _, total_us] = outcome.phases.values();
        assert_eq!(
            connect_us,
            Some(20 * MS as u32),
            "of the connection that won"
        );
        let total_us = u64::from(total_us.expect("it ended"));
        let rest_us = u64::from(dns_us.expect("asked") + ttfb_us.expect("asked"));
        let lost_us = total_us - 20 * MS - rest_us;
        // A tick late at most, and a question of 1 ms.
        assert!((250 * MS..=257 * MS).contains(&lost_us), "{lost_us} µs");
    }
    let world = bench.sim.world_mut();
    assert_eq!((world.asked_v6, world.dialled[0]), (1, outcomes.len()));
    assert_eq!(world.dialled[0], world.dialled[1]);
}

#[test]
fn a_family_that_answers_keeps_the_other_one_out() {
    let mut bench = fleet(DUAL, 20, IpPolicy::V4First);
    let outcomes = outcomes(&mut bench, 40);
    assert!(outcomes.iter().all(|outcome| outcome.failure().is_none()));
    let world = bench.sim.world_mut();
    assert_eq!((world.asked_v6, world.dialled[1]), (0, 0));
}

#[test]
fn a_connection_that_stood_while_the_core_was_stalled_races_nobody() {
    let world = Dual {
        stall_us: 400 * MS,
        ..DUAL
    };
    let mut bench = fleet(world, 400, IpPolicy::V4First);
    let outcomes = outcomes(&mut bench, 60);
    let late = |one: &&Outcome| one.phases.connect_us > 250 * MS as u32;
    assert!(
        outcomes.iter().filter(late).count() > 50,
        "some met a stall"
    );
    let world = bench.sim.world_mut();
    assert_eq!((world.asked_v6, world.dialled[1]), (0, 0));
}

#[test]
fn a_black_hole_among_the_addresses_of_a_family_takes_its_share_of_the_time_only() {
    let world = Dual {
        v4: 3,
        v4_dial: Dial::Silence,
        v6_dial: Dial::Silence,
        ..DUAL
    };
    let mut bench = fleet(world, 1, IpPolicy::V4Only);
    // Due within 9 s, and 5 s long.
    let outcomes = outcomes(&mut bench, 15);
    assert_eq!(outcomes[0].failure(), Some(FailureClass::ConnectTimeout));
    let [v4, v6] = bench.sim.world_mut().dialled;
    assert!(v4 >= 3 && v6 == 0, "each was tried: {v4}");
}

#[test]
fn both_addresses_of_a_race_are_counted_and_given_back() {
    let (dark, slow) = (Dial::Silence, Dial::Accept(3 * SECOND));
    for (v4_dial, v6_dial) in [(dark, slow), (slow, dark), (dark, dark)] {
        let world = Dual {
            v4_dial,
            v6_dial,
            ..DUAL
        };
        let mut bench = fleet(world, 30, IpPolicy::V4First);
        let mut most = 0;
        for at_s in 1..60 {
            outcomes(&mut bench, at_s);
            most = most.max(bench.sim.core().account().destinations);
        }
        assert!(most > 1, "both families are watched");
        for slot in (0..30).map(Slot) {
            let sent = bench.inbox.send(CoreCommand::Remove { slot });
            sent.expect("the core lives");
        }
        outcomes(&mut bench, 70);
        let account = bench.sim.core().account();
        assert_eq!(
            (account.in_flight, account.destinations),
            (0, 0),
            "{account:?}"
        );
        assert_eq!(account.dns.hosts, 0, "no name is held");
    }
}

#[test]
fn with_both_a_dark_family_is_an_outage_and_a_plain_fleet_is_up() {
    for (v6_dial, class) in [
        (Dial::Accept(20 * MS), None),
        (Dial::Silence, Some(FailureClass::ConnectTimeout)),
        (Dial::Fail(MS, 111), Some(FailureClass::ConnectRefused)),
    ] {
        let mut bench = fleet(Dual { v6_dial, ..DUAL }, 10, IpPolicy::Both);
        bench.sim.run_until(MonoUs(30 * SECOND));
        let evidence: Vec<_> = bench.evidence.try_iter().collect();
        let outcomes = outcomes(&mut bench, 30);
        assert!(outcomes.len() >= 20);
        assert!(outcomes.iter().all(|outcome| outcome.failure() == class));
        for one in evidence {
            assert!(one.text.contains("2606:4700::1"), "{}", one.text);
        }
    }
}

#[test]
fn whatever_the_families_do_accounts_balance_and_nothing_is_left() {
    for seed in 0..6 {
        for policy in [IpPolicy::V4First, IpPolicy::V6First, IpPolicy::Both] {
            let world = Dual {
                v4: 1 + seed as u8 % 3,
                chance: Some(seed),
                ..DUAL
            };
            let mut bench = fleet(world, 100, policy);
            let mut up = 0;
            for at_s in 1..40 {
                let outcomes = outcomes(&mut bench, at_s);
                up += outcomes.iter().filter(|o| o.failure().is_none()).count();
                // Targets come and go in the midst of it.
                let slot = Slot((at_s % 100) as u32);
                let sent = bench.inbox.send(CoreCommand::Remove { slot });
                sent.expect("the core lives");
            }
            assert!(up > 20, "{up} with seed {seed}");
            for slot in (0..100).map(Slot) {
                let sent = bench.inbox.send(CoreCommand::Remove { slot });
                sent.expect("the core lives");
            }
            outcomes(&mut bench, 60);
            let account = bench.sim.core().account();
            let left = (account.in_flight, account.destinations, account.dns.hosts);
            assert_eq!(left, (0, 0, 0), "{account:?}");
        }
    }
}
