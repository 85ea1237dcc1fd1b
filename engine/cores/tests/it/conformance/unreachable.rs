//! A router's word that a host cannot be reached, which loopback has none of: a second network
//! behind the test's own, whose only machine has no way to the host.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use cores::{Clock, Driver};
use model::inbox::{CoreCommand, OneShotReport};
use model::{FailureClass, Ticket};
use prober::Guard;
use rig::namespace::Own;

use super::peers::Tls;
use super::real::{self, PATIENCE};
use super::sources::eventually;
use super::{TRIES, drivers, target};
use crate::row::Row;

/// Where the router has no way to.
const BLOCK: &str = "10.78.0.0/16";
const HOST: &str = "10.78.0.1:80";
/// `EHOSTUNREACH`.
const UNREACHABLE: i32 = 113;

/// A program that does nothing, in a network of its own that is a router: it ends with its input.
struct Router(Child);

impl Router {
    /// Makes the way to [`BLOCK`] lead through it.
    fn start() -> Self {
        let idle = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let router = Self(idle.expect("unshare runs"));
        let pid = router.0.id();
        let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let (ours, its) = (network("self"), pid.to_string());
        eventually(|| network(&its).is_some_and(|its| Some(its) != ours));
        shell(&format!(
            "ip link add near type veth peer name far && ip link set far netns {pid} && \
             ip addr add 10.77.0.1/30 dev near && ip link set near up && \
             nsenter -t {pid} --net sh -c '\
             ip addr add 10.77.0.2/30 dev far && ip link set far up && \
             echo 1 >/proc/sys/net/ipv4/ip_forward && echo 0 >/proc/sys/net/ipv4/icmp_ratelimit && \
             ip route add unreachable {BLOCK}' && \
             ip route add {BLOCK} via 10.77.0.2"
        ));
        router
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status();
    assert!(status.expect("a shell runs").success(), "{script}");
}

/// Checks the host; again when the machine of the test was too busy for the core to judge.
fn check(driver: Driver) -> OneShotReport {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut config = real::config(driver, None, nobody, &Tls::new());
    config.shared.guard = Guard::public_only(vec![BLOCK.parse().expect("a block")]);
    let core = cores::spawn(config, Clock::start()).expect("the kernel gives out this driver");
    let once = |_| {
        let command = CoreCommand::OneShot {
            target: target(&format!("http://{HOST}/"), 20_000),
            ticket: Ticket(1),
        };
        core.inbox.send(command).expect("the core runs");
        let report = core.one_shots.recv_timeout(PATIENCE);
        report.expect("an answer")
    };
    let was_judged =
        |report: &OneShotReport| report.outcome.failure() != Some(FailureClass::LocalPressure);
    let judged = (0..TRIES).map(once).find(was_judged);
    let drain = CoreCommand::Drain { within_ms: 0 };
    core.inbox.send(drain).expect("the core runs");
    core.thread.join().expect("no panic").expect("a clean end");
    judged.expect("the core could judge once")
}

#[test]
fn a_host_that_a_router_cannot_reach_is_unreachable() {
    let name = "conformance::unreachable::a_host_that_a_router_cannot_reach_is_unreachable";
    if !Own::Network.hosts(name, "ip link set lo up") {
        return;
    }
    let _router = Router::start();
    let row = Row::of("a_host_that_a_router_cannot_reach_is_unreachable");
    for driver in drivers() {
        let OneShotReport {
            outcome, evidence, ..
        } = check(driver);
        let said = format!("{driver:?}: {outcome:?} {evidence:?}");
        row.holds(&outcome, &evidence);
        let tried: Vec<_> = evidence
            .addresses
            .iter()
            .map(|tried| (tried.address.to_string(), tried.errno, tried.local))
            .collect();
        assert_eq!(
            tried,
            [(HOST.to_owned(), Some(UNREACHABLE), false)],
            "{said}"
        );
        assert!(evidence.text.contains(HOST), "{said}");
    }
}
