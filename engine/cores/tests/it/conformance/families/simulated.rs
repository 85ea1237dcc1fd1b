//! The town in the simulator.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use cores::reactor::sim::{Dial, Peer, Reply, World};
use model::inbox::{CoreCommand, OneShotReport};
use model::{MonoUs, Ticket};
use prober::Guard;
use prober::resolver::IpPolicy;

use super::super::peers::{Script, script};
use super::super::target;
use super::{Manner, Ports, Town, zone};
use crate::world::{Bench, GRID_ZERO, Sizes, bench_in, shared_config};

const PORTS: Ports = Ports {
    answers: 81,
    refuses: 82,
    dark: 83,
};
const ECONNREFUSED: i32 = 111;

struct Lo;

fn manner(address: SocketAddr) -> Manner {
    let v6 = match address.port() {
        81 => Manner::Answers,
        82 => Manner::Refuses,
        _ => Manner::Dark,
    };
    match address.ip() {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => v6,
        IpAddr::V4(v4) if v4.octets()[3] == 1 => Manner::Answers,
        IpAddr::V4(v4) if v4.octets()[3] == 3 => Manner::Dark,
        _ => Manner::Refuses,
    }
}

impl World for Lo {
    fn dial(&mut self, address: SocketAddr, _now: MonoUs) -> Dial {
        match manner(address) {
            Manner::Answers => Dial::Accept(100),
            Manner::Refuses => Dial::Fail(100, ECONNREFUSED),
            Manner::Dark => Dial::Silence,
        }
    }

    fn reply(&mut self, _peer: Peer, sent: &[u8], _now: MonoUs) -> Reply {
        let Script { bytes, end } = script(sent);
        Reply {
            after_us: 100,
            bytes: bytes.into(),
            piece: 1_000,
            end,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        answer.extend_from_slice(&zone::answer(query));
        Some(100)
    }
}

/// A simulated core in it.
pub(super) struct Simulated(Bench<Lo>);

impl Simulated {
    pub(super) fn new(policy: IpPolicy) -> Self {
        let sizes = Sizes {
            policy,
            ..Sizes::default()
        };
        let allow = ["127.0.0.0/8", "::1"].map(|block| block.parse().expect("a block"));
        let shared = prober::SharedConfig {
            guard: Guard::public_only(allow.to_vec()),
            ..shared_config()
        };
        Self(bench_in(Lo, &sizes, GRID_ZERO, shared))
    }

    fn run_for<T>(&mut self, pick: impl Fn(&Bench<Lo>) -> Option<T>) -> T {
        let until = self.0.sim.now().mono.0 + 30_000_000;
        while self.0.sim.now().mono.0 < until {
            if let Some(found) = pick(&self.0) {
                return found;
            }
            let next = MonoUs(self.0.sim.now().mono.0 + 1_000);
            self.0.sim.run_until(next);
        }
        panic!("nothing came within 30 virtual seconds")
    }
}

impl Town for Simulated {
    fn ports(&self) -> Ports {
        PORTS
    }

    fn tell(&mut self, url: &str, timeout_ms: i64) {
        let command = CoreCommand::OneShot {
            target: target(url, timeout_ms),
            ticket: Ticket(1),
        };
        self.0.inbox.send(command).expect("the core lives");
    }

    fn report(&mut self) -> OneShotReport {
        self.run_for(|bench| bench.one_shots.try_recv().ok())
    }

    fn stop(mut self) {
        let drain = CoreCommand::Drain { within_ms: 100 };
        self.0.inbox.send(drain).expect("the core lives");
        self.run_for(|bench| bench.sim.core().is_drained().then_some(()));
    }
}
