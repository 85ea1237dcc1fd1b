//! The rig in the simulator: the same peers, on a virtual clock.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use model::inbox::{CoreCommand, OneShotReport};
use model::{MonoUs, Outcome};
use rustls::{ServerConfig, ServerConnection};

use super::peers::{Script, Tls, dns_answer, script};
use super::{Addresses, Rig, shared};
use crate::world::{Bench, GRID_ZERO, Sizes, bench_in};

const ECONNREFUSED: i32 = 111;

/// Servers by address. A TLS session lives as long as the test.
pub(super) struct Town {
    addresses: Addresses,
    good: Arc<ServerConfig>,
    untrusted: Arc<ServerConfig>,
    sessions: HashMap<Peer, ServerConnection>,
}

impl Town {
    pub(super) fn new(addresses: Addresses, tls: &Tls) -> Self {
        Self {
            addresses,
            good: Arc::clone(&tls.good),
            untrusted: Arc::clone(&tls.untrusted),
            sessions: HashMap::new(),
        }
    }

    fn session(&mut self, peer: Peer) -> Option<&mut ServerConnection> {
        let config = if peer.address == self.addresses.tls {
            &self.good
        } else if peer.address == self.addresses.untrusted {
            &self.untrusted
        } else {
            return None;
        };
        let new = || {
            let session = ServerConnection::new(Arc::clone(config));
            let mut session = session.expect("the config is valid");
            // A whole script fits.
            session.set_buffer_limit(None);
            session
        };
        Some(self.sessions.entry(peer).or_insert_with(new))
    }
}

/// What the session says to `sent`: its part of the handshake, or the script in records.
fn speak_tls(session: &mut ServerConnection, mut sent: &[u8]) -> Script {
    use std::io::{Read, Write};
    let (mut request, mut end) = (Vec::new(), End::Silence);
    while !sent.is_empty() {
        session.read_tls(&mut sent).expect("memory is readable");
        if session.process_new_packets().is_err() {
            // Its alert goes out below.
            end = End::Eof;
            break;
        }
        // Only what was decrypted so far is wanted: the error says that there is no more.
        let _ = session.reader().read_to_end(&mut request);
    }
    if !request.is_empty() {
        let script = script(&request);
        let written = session.writer().write_all(&script.bytes);
        written.expect("memory is writable");
        end = script.end;
    }
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).expect("memory is writable");
    }
    Script { bytes, end }
}

impl World for Town {
    fn dial(&mut self, address: SocketAddr, _now: MonoUs) -> Dial {
        if address == self.addresses.closed {
            Dial::Fail(100, ECONNREFUSED)
        } else {
            Dial::Accept(100)
        }
    }

    fn reply(&mut self, peer: Peer, sent: &[u8], _now: MonoUs) -> Reply {
        let Script { bytes, end } = match self.session(peer) {
            Some(session) => speak_tls(session, sent),
            None => script(sent),
        };
        Reply {
            after_us: 100,
            bytes: bytes.into(),
            piece: 1_000,
            end,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        answer.extend_from_slice(&dns_answer(query));
        Some(100)
    }
}

/// Where everybody lives.
pub(super) fn addresses() -> Addresses {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Addresses {
        plain: local(80),
        tls: local(443),
        untrusted: local(444),
        closed: local(9),
    }
}

/// A core in a town.
pub(super) struct SimRig {
    bench: Bench<Town>,
    addresses: Addresses,
}

impl SimRig {
    pub(super) fn new(tls: &Tls) -> Self {
        let addresses = addresses();
        let town = Town::new(addresses, tls);
        Self {
            bench: bench_in(town, &Sizes::default(), GRID_ZERO, shared(tls)),
            addresses,
        }
    }

    /// Runs until `pick` finds something, for at most 30 virtual seconds.
    fn run_for<T>(&mut self, pick: impl Fn(&Bench<Town>) -> Option<T>) -> T {
        let until = self.bench.sim.now().mono.0 + 30_000_000;
        while self.bench.sim.now().mono.0 < until {
            if let Some(found) = pick(&self.bench) {
                return found;
            }
            let next = MonoUs(self.bench.sim.now().mono.0 + 1_000);
            self.bench.sim.run_until(next);
        }
        panic!("nothing came within 30 virtual seconds")
    }
}

impl Rig for SimRig {
    fn addresses(&self) -> Addresses {
        self.addresses
    }

    fn tell(&mut self, command: CoreCommand) {
        self.bench.inbox.send(command).expect("the core lives");
    }

    fn report(&mut self) -> OneShotReport {
        self.run_for(|bench| bench.one_shots.try_recv().ok())
    }

    fn outcome(&mut self) -> Outcome {
        self.run_for(|bench| bench.outcomes.try_recv().ok())
    }

    fn interval(&mut self) -> Box<cores::CoreHistograms> {
        self.run_for(|bench| bench.histograms.try_recv().ok())
    }

    fn stop(mut self) {
        self.tell(CoreCommand::Drain { within_ms: 100 });
        self.run_for(|bench| bench.sim.core().is_drained().then_some(()));
    }
}
