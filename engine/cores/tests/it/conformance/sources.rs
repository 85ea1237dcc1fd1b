//! The local end of connections, as servers and the kernel see it: where they come from, how they
//! end, and what happens when their ports run out. On both real drivers.
//!
//! Ports run out in a network of the test's own, in which there are four of them.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cores::{Clock, Close, CoreError, CoreHandle, Driver, LocalEnd};
use model::inbox::{CoreCommand, OneShotReport};
use model::{FailureClass, Ticket, Verdict};
use prober::Guard;
use rig::namespace::Own;

use super::peers::Tls;
use super::real::{self, PATIENCE};
use super::{TRIES, drivers, target};

/// Time between two looks at what the kernel has still to do.
const PACE: Duration = Duration::from_millis(20);
/// `EADDRNOTAVAIL`.
const NO_ADDRESS: i32 = 99;
/// `TIME_WAIT` in `/proc/net/tcp`.
const TIME_WAIT: &str = "06";
/// What begins with all ports: the test says when there are few.
const UP: &str = "ip link set lo up && echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range";
/// Ports of that network.
const PORTS: usize = 4;

/// How the client of a connection ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    InOrder,
    ByReset,
}

/// Answers every request and leaves it to the client to close; says who it was, and how it closed.
fn server(at: IpAddr) -> (SocketAddr, Receiver<(SocketAddr, Ended)>) {
    let listener = TcpListener::bind((at, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, from)) = listener.accept() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let ended = answer(stream);
                // The test may have seen enough.
                let _ = sender.send((from, ended));
            });
        }
    });
    (address, seen)
}

fn answer(mut stream: TcpStream) -> Ended {
    let mut bytes = [0u8; 2_048];
    if stream.read(&mut bytes).is_ok_and(|read| read > 0) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).expect("the client reads it");
    }
    match stream.read(&mut bytes) {
        Ok(0) => Ended::InOrder,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ended::ByReset,
        other => panic!("{other:?}"),
    }
}

/// Accepts and says nothing, until it is dropped.
struct Silent {
    address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, accepted) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    /// Waits for so many connections.
    fn take(&self, count: usize) -> Vec<TcpStream> {
        let take = |_| self.accepted.recv_timeout(PATIENCE).expect("a connection");
        (0..count).map(take).collect()
    }
}

/// A core whose connections end here like this.
struct Bench(CoreHandle);

impl Bench {
    fn new(driver: Driver, sources: &[IpAddr], close: Close) -> Result<Self, CoreError> {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let mut config = real::config(driver, None, nobody, &Tls::new());
        let loopback = ["127.0.0.0/8", "::1/128"];
        config.shared.guard =
            Guard::public_only(loopback.map(|b| b.parse().expect("a block")).into());
        config.local_end = LocalEnd {
            sources: sources.to_vec(),
            close,
            ..LocalEnd::default()
        };
        cores::spawn(config, Clock::start()).map(Self)
    }

    fn start(&self, to: SocketAddr) {
        let command = CoreCommand::OneShot {
            target: target(&format!("http://{to}/"), 20_000),
            ticket: Ticket(1),
        };
        self.0.inbox.send(command).expect("the core runs");
    }

    fn report(&self) -> OneShotReport {
        let report = self.0.one_shots.recv_timeout(PATIENCE);
        report.expect("an answer")
    }

    /// Checks once; again when the machine of the test was too busy for the core to judge.
    fn check(&self, to: SocketAddr) -> OneShotReport {
        let once = |_| {
            self.start(to);
            self.report()
        };
        let was_judged =
            |report: &OneShotReport| report.outcome.failure() != Some(FailureClass::LocalPressure);
        let judged = (0..TRIES).map(once).find(was_judged);
        judged.expect("the core could judge once")
    }

    fn is_up(&self, to: SocketAddr) -> bool {
        let report = self.check(to);
        let failure = report.outcome.failure();
        let known = [None, Some(FailureClass::ConnectLocal)];
        assert!(known.contains(&failure), "{report:?}");
        failure.is_none()
    }

    /// A check that finds no port, and what the core says of it.
    fn finds_no_port(&self, to: SocketAddr) {
        let before = self.0.stats.snapshot().sources_wanted;
        let report = self.check(to);
        let (outcome, evidence) = (report.outcome, report.evidence);
        assert_eq!(
            outcome.failure(),
            Some(FailureClass::ConnectLocal),
            "{evidence:?}"
        );
        assert_eq!(outcome.verdict(), Verdict::Unknown);
        assert_eq!(evidence.errno, Some(NO_ADDRESS), "{evidence:?}");
        eventually(|| self.0.stats.snapshot().sources_wanted > before);
    }

    /// Whether a check of `silent` gets through to it; it ends there.
    fn connects(&self, silent: &Silent) -> bool {
        self.start(silent.address);
        loop {
            if let Ok(stream) = silent.accepted.try_recv() {
                drop(stream);
                let failure = self.report().outcome.failure();
                assert!(is_hung_up_on(failure), "{failure:?}");
                return true;
            }
            if let Ok(report) = self.0.one_shots.recv_timeout(PACE) {
                let failure = report.outcome.failure();
                assert_eq!(failure, Some(FailureClass::ConnectLocal), "{report:?}");
                return false;
            }
        }
    }

    fn stop(self) {
        let drain = CoreCommand::Drain { within_ms: 0 };
        self.0.inbox.send(drain).expect("the core runs");
        let ended = self.0.thread.join();
        ended.expect("no panic").expect("a clean end");
    }
}

/// Asks until `reached` says so.
pub(super) fn eventually(mut reached: impl FnMut() -> bool) {
    // Nobody sends: the channel only paces the questions.
    let (_sender, pace) = channel::<()>();
    for _ in 0..PATIENCE.as_millis() / PACE.as_millis() {
        if reached() {
            return;
        }
        let _ = pace.recv_timeout(PACE);
    }
    panic!("not reached");
}

/// On epoll, and on `io_uring` where the kernel has it.
fn on_each_driver(sources: &[IpAddr], close: Close, test: impl Fn(Bench)) {
    for driver in drivers() {
        test(Bench::new(driver, sources, close).expect("the kernel gives out this driver"));
    }
}

/// A server that closes before it has read the request resets.
fn is_hung_up_on(failure: Option<FailureClass>) -> bool {
    let known = [FailureClass::HttpTruncated, FailureClass::HttpReset];
    failure.is_some_and(|class| known.contains(&class))
}

fn loopback(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// Whether the kernel keeps the port of a connection that `from` has closed.
fn waits(from: SocketAddr, to: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel's table");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let mut word = || words.next().unwrap_or_default();
        let (local, remote, state) = (word(), word(), word());
        let has = |end: &str, port| end.ends_with(&format!(":{port:04X}"));
        has(local, from.port()) && has(remote, to.port()) && state == TIME_WAIT
    })
}

#[test]
fn checks_come_from_each_source_in_turn_and_from_no_other() {
    let sources: Vec<IpAddr> = (2..=5).map(loopback).collect();
    on_each_driver(&sources, Close::Fin, |bench| {
        let (address, seen) = server(loopback(1));
        let mut times = HashMap::new();
        for _ in 0..8 {
            assert!(bench.is_up(address));
            // Told when the connection is over.
            let (from, _) = seen.recv_timeout(PATIENCE).expect("the check came");
            *times.entry(from.ip()).or_default() += 1;
        }
        assert_eq!(times, sources.iter().map(|source| (*source, 2)).collect());
        bench.stop();
    });
}

#[test]
fn a_source_of_the_other_family_is_not_used_and_ipv6_has_its_own() {
    let sources = [loopback(2), Ipv6Addr::LOCALHOST.into()];
    on_each_driver(&sources, Close::Reset, |bench| {
        for (at, from) in [(loopback(1), sources[0]), (sources[1], sources[1])] {
            let (address, seen) = server(at);
            assert!(bench.is_up(address));
            let (seen, ended) = seen.recv_timeout(PATIENCE).expect("a connection");
            assert_eq!((seen.ip(), ended), (from, Ended::ByReset));
        }
        bench.stop();
    });
    on_each_driver(&[Ipv6Addr::LOCALHOST.into()], Close::Fin, |bench| {
        let (address, seen) = server(loopback(1));
        assert!(bench.is_up(address));
        let (seen, _) = seen.recv_timeout(PATIENCE).expect("a connection");
        assert_eq!(seen.ip(), loopback(1), "the kernel's choice");
        bench.stop();
    });
}

#[test]
fn a_reset_is_seen_by_the_server_and_leaves_no_port_behind_and_a_fin_does() {
    for (close, ended) in [(Close::Fin, Ended::InOrder), (Close::Reset, Ended::ByReset)] {
        on_each_driver(&[loopback(2)], close, |bench| {
            let (address, seen) = server(loopback(1));
            assert!(bench.is_up(address));
            let (from, how) = seen.recv_timeout(PATIENCE).expect("a connection");
            assert_eq!(how, ended);
            match close {
                Close::Fin => eventually(|| waits(from, address)),
                Close::Reset => assert!(!waits(from, address)),
            }
            bench.stop();
        });
    }
}

#[test]
fn an_address_that_is_not_here_is_passed_over_and_alone_it_is_unknown() {
    // TEST-NET-1 (RFC 5737).
    let absent = IpAddr::from([192, 0, 2, 1]);
    on_each_driver(&[absent, loopback(2)], Close::Fin, |bench| {
        let (address, seen) = server(loopback(1));
        for _ in 0..4 {
            assert!(bench.is_up(address));
            let (from, _) = seen.recv_timeout(PATIENCE).expect("a connection");
            assert_eq!(from.ip(), loopback(2));
        }
        let has_seen = || {
            let seen = bench.0.stats.snapshot();
            seen.sources_absent == 1 && seen.sources_usable == 1
        };
        eventually(|| bench.is_up(address) && has_seen());
        assert_eq!(bench.0.stats.snapshot().sources_wanted, 0);
        bench.stop();
    });
    on_each_driver(&[absent], Close::Fin, |bench| {
        let (address, seen) = server(loopback(1));
        bench.finds_no_port(address);
        assert!(seen.try_recv().is_err(), "nothing came from elsewhere");
        bench.stop();
    });
}

/// From now on this network has so few ports. What listens has its port already.
fn leave_few_ports() {
    let range = format!("40000 {}", 40_000 + PORTS - 1);
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("our own network");
    // Else loopback uses a port again after a second.
    fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").expect("our own network");
}

#[test]
fn ports_are_shared_between_destinations_and_without_one_a_check_is_unknown() {
    let name = "conformance::sources::\
                ports_are_shared_between_destinations_and_without_one_a_check_is_unknown";
    if !Own::Network.hosts(name, UP) {
        return;
    }
    let (silent, (other, _seen)) = (Silent::new(), server(loopback(1)));
    leave_few_ports();
    for sources in [&[loopback(2), loopback(3)][..], &[]] {
        on_each_driver(sources, Close::Reset, |bench| {
            let ports = PORTS * sources.len().max(1);
            (0..ports).for_each(|_| bench.start(silent.address));
            let connections = silent.take(ports);
            bench.finds_no_port(silent.address);
            bench.finds_no_port(silent.address);
            let spent = sources.len().max(1) as u64;
            eventually(|| {
                // What was refused is forgotten after a second.
                bench.finds_no_port(silent.address);
                bench.0.stats.snapshot().sources_spent == spent
            });
            assert!(bench.is_up(other));
            drop(connections);
            for _ in 0..ports {
                let failure = bench.report().outcome.failure();
                assert!(is_hung_up_on(failure), "{failure:?}");
            }
            eventually(|| bench.connects(&silent));
            bench.stop();
        });
    }
}

#[test]
fn closed_in_order_ports_run_out_and_by_reset_they_do_not() {
    let name = "conformance::sources::closed_in_order_ports_run_out_and_by_reset_they_do_not";
    if !Own::Network.hosts(name, UP) {
        return;
    }
    let servers = [(); 4].map(|()| server(loopback(1)));
    let mut addresses = servers.iter().map(|(address, _)| *address);
    leave_few_ports();
    let addresses = std::cell::RefCell::new(&mut addresses);
    let next = || addresses.borrow_mut().next().expect("one per bench");
    on_each_driver(&[loopback(2)], Close::Fin, |bench| {
        let address = next();
        let mut ups = 0;
        while bench.is_up(address) {
            ups += 1;
        }
        assert_eq!(ups, PORTS);
        bench.finds_no_port(address);
        bench.stop();
    });
    on_each_driver(&[loopback(2)], Close::Reset, |bench| {
        let address = next();
        for _ in 0..5 * PORTS {
            assert!(bench.is_up(address));
        }
        bench.stop();
    });
}
