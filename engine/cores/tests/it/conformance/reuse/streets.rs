//! The streets: real servers on loopback with a core on each driver, and the simulator's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use cores::{Clock, CoreHandle, CoreSnapshot, KeptLimits, LocalEnd};
use model::MonoUs;
use model::inbox::{CoreCommand, OneShotReport};

use super::{Street, script};
use crate::conformance::peers::{Script, Tls};
use crate::conformance::real::{self, PATIENCE};
use crate::conformance::simulated::{self, Town};
use crate::conformance::sources::eventually;
use crate::conformance::{drivers, shared};
use crate::world::{Bench, GRID_ZERO, Sizes, bench_in};

/// Requests for `/together` that are answered once all of them have come.
pub(super) const TOGETHER: usize = 5;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Number of the connection, in the order in which they came.
    pub(super) connection: usize,
    /// Its field `Host`.
    pub(super) host: String,
}

fn visit(connection: usize, request: &str) -> Visit {
    let host = request.lines().find_map(|line| line.strip_prefix("Host: "));
    Visit {
        connection,
        host: host.expect("every request has it").to_owned(),
    }
}

/// One street for each driver that is to be had, and one of the simulator.
pub(super) fn streets(limits: KeptLimits) -> Vec<Box<dyn Street>> {
    let tls = Tls::new();
    let mut streets = real_streets(limits, &[]);
    streets.push(Box::new(SimStreet::new(limits, &tls)));
    streets
}

/// One for each driver, whose checks come from these addresses.
pub(super) fn real_streets(limits: KeptLimits, sources: &[IpAddr]) -> Vec<Box<dyn Street>> {
    let tls = Tls::new();
    let local_end = LocalEnd {
        sources: sources.to_vec(),
        kept: limits,
        ..LocalEnd::default()
    };
    let new = |driver| RealStreet::new(driver, local_end.clone(), &tls);
    let real = |driver| Box::new(new(driver)) as Box<dyn Street>;
    drivers().into_iter().map(real).collect()
}

struct RealStreet {
    core: CoreHandle,
    port: u16,
    tls_port: u16,
    /// Those that came, and those that are not yet among them.
    visits: Vec<Visit>,
    news: Receiver<Visit>,
}

impl RealStreet {
    fn new(driver: cores::Driver, local_end: LocalEnd, tls: &Tls) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (visits, news) = channel();
        std::thread::spawn(move || serve(&listener, &visits));
        let secured = real::start_server(Some(Arc::clone(&tls.good)));
        let mut config = real::config(driver, None, real::start_dns(), tls);
        config.shared.reuse = true;
        config.local_end = local_end;
        Self {
            core: cores::spawn(config, Clock::start()).expect("the kernel gives out this driver"),
            port,
            tls_port: secured.port(),
            visits: Vec::new(),
            news,
        }
    }
}

/// Serves each connection for as long as it lasts.
fn serve(listener: &TcpListener, visits: &Sender<Visit>) {
    let together = Arc::new(Barrier::new(TOGETHER));
    for (connection, stream) in listener.incoming().enumerate() {
        let (visits, together) = (visits.clone(), Arc::clone(&together));
        let stream = stream.expect("loopback accepts");
        std::thread::spawn(move || {
            // The core closes when it likes.
            let _ = answer(stream, connection, &visits, &together);
        });
    }
}

fn answer(
    mut stream: TcpStream,
    connection: usize,
    visits: &Sender<Visit>,
    together: &Barrier,
) -> std::io::Result<()> {
    for nth in 1.. {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 2_048];
            match stream.read(&mut bytes)? {
                0 => return Ok(()),
                read => request.extend_from_slice(&bytes[..read]),
            }
        }
        let request = String::from_utf8(request).expect("ASCII");
        // The test may have seen enough.
        let _ = visits.send(visit(connection, &request));
        if request.contains("/together ") {
            together.wait();
        }
        let Script { bytes, end } = script(&request, nth);
        match end {
            End::Silence => stream.write_all(&bytes)?,
            End::Eof => return stream.write_all(&bytes),
            End::Reset => {
                let linger = Some(Duration::ZERO);
                return Ok(rustix::net::sockopt::set_socket_linger(&stream, linger)?);
            }
        }
    }
    Ok(())
}

impl Street for RealStreet {
    fn port(&self) -> u16 {
        self.port
    }

    fn tls_port(&self) -> u16 {
        self.tls_port
    }

    fn tell(&mut self, command: CoreCommand) {
        self.core.inbox.send(command).expect("the core runs");
    }

    fn report(&mut self) -> OneShotReport {
        let report = self.core.one_shots.recv_timeout(PATIENCE);
        report.expect("an answer")
    }

    fn is_up(&mut self) -> bool {
        let outcome = self.core.outcomes.recv_timeout(PATIENCE);
        outcome.expect("an outcome").failure().is_none()
    }

    fn wait_for(&mut self, reached: &dyn Fn(&CoreSnapshot) -> bool) {
        eventually(|| reached(&self.core.stats.snapshot()));
    }

    fn visits(&mut self) -> &[Visit] {
        self.visits.extend(self.news.try_iter());
        &self.visits
    }

    fn stop(mut self: Box<Self>) {
        self.tell(CoreCommand::Drain { within_ms: 100 });
        let ended = self.core.thread.join();
        ended.expect("no panic").expect("a clean end");
        let left = self.core.stats.snapshot().connections_kept;
        assert_eq!(left, 0, "a drain keeps nothing");
    }
}

/// The same servers in the simulator.
struct Quiet {
    town: Town,
    plain: SocketAddr,
    /// Requests by the serials of their connections, in the order of the first ones.
    connections: Vec<(u64, usize)>,
    numbers: HashMap<u64, usize>,
    visits: Vec<Visit>,
}

impl World for Quiet {
    fn dial(&mut self, address: SocketAddr, now: MonoUs) -> Dial {
        self.town.dial(address, now)
    }

    fn reply(&mut self, peer: Peer, sent: &[u8], now: MonoUs) -> Reply {
        if peer.address != self.plain {
            return self.town.reply(peer, sent, now);
        }
        let request = String::from_utf8_lossy(sent);
        let next = self.connections.len();
        let number = *self.numbers.entry(peer.serial).or_insert(next);
        if number == next {
            self.connections.push((peer.serial, 0));
        }
        self.connections[number].1 += 1;
        self.visits.push(visit(number, &request));
        let Script { bytes, end } = script(&request, self.connections[number].1);
        Reply {
            // Long enough for all that are sent at once.
            after_us: 50_000,
            bytes: bytes.into(),
            piece: 1_000,
            end,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, now: MonoUs) -> Option<u64> {
        self.town.answer(query, answer, now)
    }
}

struct SimStreet {
    bench: Bench<Quiet>,
    port: u16,
    tls_port: u16,
}

impl SimStreet {
    fn new(limits: KeptLimits, tls: &Tls) -> Self {
        let addresses = simulated::addresses();
        let world = Quiet {
            town: Town::new(addresses, tls),
            plain: addresses.plain,
            connections: Vec::new(),
            numbers: HashMap::new(),
            visits: Vec::new(),
        };
        let sizes = Sizes {
            kept: limits,
            ..Sizes::default()
        };
        let shared = prober::SharedConfig {
            reuse: true,
            ..shared(tls)
        };
        Self {
            bench: bench_in(world, &sizes, GRID_ZERO, shared),
            port: addresses.plain.port(),
            tls_port: addresses.tls.port(),
        }
    }

    /// Runs until `pick` finds something, for at most 60 virtual seconds.
    fn run_for<T>(&mut self, pick: impl Fn(&Bench<Quiet>) -> Option<T>) -> T {
        let until = self.bench.sim.now().mono.0 + 60_000_000;
        while self.bench.sim.now().mono.0 < until {
            if let Some(found) = pick(&self.bench) {
                return found;
            }
            let next = MonoUs(self.bench.sim.now().mono.0 + 1_000);
            self.bench.sim.run_until(next);
        }
        panic!("nothing came within 60 virtual seconds")
    }
}

impl Street for SimStreet {
    fn port(&self) -> u16 {
        self.port
    }

    fn tls_port(&self) -> u16 {
        self.tls_port
    }

    fn tell(&mut self, command: CoreCommand) {
        self.bench.inbox.send(command).expect("the core lives");
    }

    fn report(&mut self) -> OneShotReport {
        self.run_for(|bench| bench.one_shots.try_recv().ok())
    }

    fn is_up(&mut self) -> bool {
        let outcome = self.run_for(|bench| bench.outcomes.try_recv().ok());
        outcome.failure().is_none()
    }

    fn wait_for(&mut self, reached: &dyn Fn(&CoreSnapshot) -> bool) {
        self.run_for(|bench| reached(&bench.sim.core().account()).then_some(()));
    }

    fn visits(&mut self) -> &[Visit] {
        &self.bench.sim.world().visits
    }

    fn stop(mut self: Box<Self>) {
        self.tell(CoreCommand::Drain { within_ms: 100 });
        self.run_for(|bench| bench.sim.core().is_drained().then_some(()));
        assert_eq!(self.bench.sim.core().account().connections_kept, 0);
    }
}
