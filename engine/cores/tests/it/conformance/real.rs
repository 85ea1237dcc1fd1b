//! The rig over real loopback sockets: one core on a real reactor.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use cores::reactor::sim::End;
use cores::{Clock, CoreConfig, CoreError, CoreHandle, DestinationCaps, Driver, LocalEnd};
use model::inbox::{CoreCommand, OneShotReport};
use model::{CoreIndex, Outcome};
use prober::resolver::{IpPolicy, ResolverConfig};
use rig::places::Closed;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::peers::{Tls, dns_answer, script};
use super::{Addresses, Rig, shared};

/// Far beyond what any of these steps takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Serves one connection after the other; silent ones stay open.
fn serve(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>) {
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        let stream = stream.expect("loopback accepts");
        let kept = stream.try_clone().expect("a second handle");
        let end = match tls {
            None => answer(stream),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config));
                answer(StreamOwned::new(session.expect("a valid config"), stream))
            }
        };
        match end {
            End::Silence => silent.push(kept),
            End::Reset => reset(&kept),
            End::Eof => {}
        }
    }
}

/// Reads a request and writes its script; the peer may be gone already: what it saw is what the
/// test asserts.
fn answer(mut stream: impl Read + Write) -> End {
    let mut request = [0u8; 2_048];
    let read = stream.read(&mut request).unwrap_or(0);
    let script = script(&request[..read]);
    let _ = stream
        .write_all(&script.bytes)
        .and_then(|()| stream.flush());
    script.end
}

fn reset(stream: &TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(stream, linger).expect("a TCP socket lingers");
}

fn answer_dns(socket: &UdpSocket) {
    let mut query = [0u8; 1_500];
    while let Ok((n, from)) = socket.recv_from(&mut query) {
        let answer = dns_answer(&query[..n]);
        socket.send_to(&answer, from).expect("loopback sends");
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

pub(super) fn start_server(tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let (listener, address) = listen();
    start_serving(listener, tls);
    address
}

pub(super) fn start_serving(listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    std::thread::spawn(move || serve(&listener, tls.as_ref()));
}

pub(super) fn start_dns() -> SocketAddr {
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let upstream = dns.local_addr().expect("bound");
    std::thread::spawn(move || answer_dns(&dns));
    upstream
}

/// What a core on `driver` needs; `cpu` to be pinned to.
pub(super) fn config(
    driver: Driver,
    cpu: Option<usize>,
    upstream: SocketAddr,
    tls: &Tls,
) -> CoreConfig {
    CoreConfig {
        index: CoreIndex(3),
        cpu,
        max_in_flight: 256,
        // Every peer is one address, and the table asks it more often than a fleet would.
        destination_caps: DestinationCaps::share(1, vec!["127.0.0.0/8".parse().expect("a CIDR")]),
        local_end: LocalEnd::default(),
        driver,
        resolver: ResolverConfig {
            upstreams: vec![upstream],
            policy: IpPolicy::V4First,
            seed: [7; 32],
            sockets_per_upstream: 2,
            ..ResolverConfig::default()
        },
        shared: shared(tls),
        histogram_interval_ms: 1_000,
    }
}

/// A running core.
pub(super) struct RealRig {
    pub(super) core: CoreHandle,
    addresses: Addresses,
    _closed: Closed,
}

impl RealRig {
    pub(super) fn new(driver: Driver, tls: &Tls) -> Result<Self, CoreError> {
        let closed = Closed::new();
        let config = config(driver, None, start_dns(), tls);
        Ok(Self {
            core: cores::spawn(config, Clock::start())?,
            addresses: Addresses {
                plain: start_server(None),
                tls: start_server(Some(Arc::clone(&tls.good))),
                untrusted: start_server(Some(Arc::clone(&tls.untrusted))),
                closed: closed.address(),
            },
            _closed: closed,
        })
    }
}

impl Rig for RealRig {
    fn addresses(&self) -> Addresses {
        self.addresses
    }

    fn tell(&mut self, command: CoreCommand) {
        self.core.inbox.send(command).expect("the core runs");
    }

    fn report(&mut self) -> OneShotReport {
        let report = self.core.one_shots.recv_timeout(PATIENCE);
        report.expect("an answer")
    }

    fn outcome(&mut self) -> Outcome {
        let outcome = self.core.outcomes.recv_timeout(PATIENCE);
        outcome.expect("an outcome")
    }

    fn interval(&mut self) -> Box<cores::CoreHistograms> {
        let interval = self.core.histograms.recv_timeout(PATIENCE);
        interval.expect("an interval")
    }

    fn stop(mut self) {
        self.tell(CoreCommand::Drain { within_ms: 100 });
        let ended = self.core.thread.join();
        ended.expect("no panic").expect("a clean end");
    }
}
