//! The town over real sockets of loopback. A listener whose queue is full is dark: the kernel drops
//! what wants to connect, and says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use cores::{Clock, CoreHandle, DestinationCaps, Driver};
use model::Ticket;
use model::inbox::{CoreCommand, OneShotReport};
use prober::Guard;
use prober::resolver::IpPolicy;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::super::peers::Tls;
use super::super::real::{self, PATIENCE, start_serving};
use super::super::target;
use super::{Manner, Ports, Town, zone};

/// Ports that are free on one address may be taken on another one.
const TRIES: usize = 50;
/// Connections that fill a queue of one; more than the kernel lets in.
const FILLERS: usize = 4;

/// A running core.
pub(super) struct Loopback {
    core: CoreHandle,
    ports: Ports,
    _dark: Vec<OwnedFd>,
}

impl Loopback {
    pub(super) fn new(driver: Driver, policy: IpPolicy) -> Self {
        let mut dark = Vec::new();
        let ports = Ports {
            answers: port(Manner::Answers, &mut dark),
            refuses: port(Manner::Refuses, &mut dark),
            dark: port(Manner::Dark, &mut dark),
        };
        let mut config = real::config(driver, None, start_dns(), &Tls::new());
        let allow = ["127.0.0.0/8", "::1"].map(|block| block.parse().expect("a block"));
        config.destination_caps = DestinationCaps::share(1, allow.to_vec());
        config.shared.guard = Guard::public_only(allow.to_vec());
        config.resolver.policy = policy;
        let core = cores::spawn(config, Clock::start());
        Self {
            core: core.expect("the kernel gives out this driver"),
            ports,
            _dark: dark,
        }
    }
}

impl Town for Loopback {
    fn ports(&self) -> Ports {
        self.ports
    }

    fn tell(&mut self, url: &str, timeout_ms: i64) {
        let command = CoreCommand::OneShot {
            target: target(url, timeout_ms),
            ticket: Ticket(1),
        };
        self.core.inbox.send(command).expect("the core runs");
    }

    fn report(&mut self) -> OneShotReport {
        let report = self.core.one_shots.recv_timeout(PATIENCE);
        report.expect("an answer")
    }

    fn stop(self) {
        let drain = CoreCommand::Drain { within_ms: 100 };
        self.core.inbox.send(drain).expect("the core runs");
        let ended = self.core.thread.join();
        ended.expect("no panic").expect("a clean end");
    }
}

/// A port on which 127.0.0.1 answers, 127.0.0.2 refuses, 127.0.0.3 is dark, and `::1` is as told.
fn port(v6: Manner, dark: &mut Vec<OwnedFd>) -> u16 {
    let port = (0..TRIES).find_map(|_| try_port(v6, dark));
    port.expect("a port is free on three addresses")
}

fn try_port(v6: Manner, dark: &mut Vec<OwnedFd>) -> Option<u16> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = v4.local_addr().expect("bound").port();
    let hole = Ipv4Addr::new(127, 0, 0, 3);
    match v6 {
        Manner::Answers => {
            let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok()?;
            start_serving(listener, None);
        }
        Manner::Refuses => drop(TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok()?),
        Manner::Dark => dark.extend(dark_at((Ipv6Addr::LOCALHOST, port).into())?),
    }
    dark.extend(dark_at((hole, port).into())?);
    start_serving(v4, None);
    Some(port)
}

/// A listener that nobody reaches, and what fills its queue; `None` when the port is taken.
fn dark_at(address: SocketAddr) -> Option<Vec<OwnedFd>> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).expect("a socket")
    };
    let listener = socket();
    rustix::net::bind(&listener, &address).ok()?;
    rustix::net::listen(&listener, 0).expect("it is bound");
    let mut all = vec![listener];
    for _ in 0..FILLERS {
        let filler = socket();
        match rustix::net::connect(&filler, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => all.push(filler),
            Err(error) => panic!("loopback connects: {error}"),
        }
    }
    Some(all)
}

fn start_dns() -> SocketAddr {
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let upstream = dns.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut query = [0u8; 1_500];
        while let Ok((n, from)) = dns.recv_from(&mut query) {
            dns.send_to(&zone::answer(&query[..n]), from)
                .expect("loopback sends");
        }
    });
    upstream
}
