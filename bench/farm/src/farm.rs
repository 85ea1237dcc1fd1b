//! The state of the serving thread, and its tick. Knows no runtime: shells drive it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use crate::clock::{self, FarmMs};
use crate::dns::{self, Reply, Transport, Zone};
use crate::faults::{FaultKind, Layer};
use crate::gauges::Gauges;
use crate::holds::Holds;
use crate::listen::{Gate, GateState};
use crate::observer::Table;
use crate::pages::{Pages, Plan};
use crate::request::Parsed;
use crate::tls::TlsConfigs;
use crate::world::{SiteDns, World};

/// Longest life of a connection that waits for a request or is kept silent, in ms: above the
/// longest timeout of a target (60 s), so that the client gives up first.
const WAIT_MAX_MS: u32 = 75_000;
/// Read buffers that are kept for the next connection.
const BUFFERS_MAX: usize = 1_024;
/// Capacity of a new read buffer, in bytes: any usual request head.
const BUFFER_BYTES: usize = 2_048;

/// An order of the control thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Observe into this table from now on; the old one is left as it is.
    Observe(Arc<Table>),
}

/// Everything that the serving thread owns.
pub(crate) struct Farm {
    pub(crate) world: Arc<World>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) tls: TlsConfigs,
    /// Whether a fault may be in the handshake of TLS: then each hello is read before it is
    /// answered.
    pub(crate) breaks_handshakes: bool,
    /// Connections that wait for a request, and those kept silent.
    pub(crate) open: Rc<Holds>,
    pub(crate) silent: Rc<Holds>,
    pages: Pages,
    table: RefCell<Arc<Table>>,
    commands: Receiver<Command>,
    gates: RefCell<Vec<Gate>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    complained: Cell<bool>,
}

/// What a [`Farm`] is made of.
pub(crate) struct FarmParts {
    pub(crate) world: Arc<World>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) tls: TlsConfigs,
    pub(crate) table: Arc<Table>,
    pub(crate) commands: Receiver<Command>,
    /// One per fault at the accept, in the order of the scenario; further ones are always open.
    pub(crate) gates: Vec<Gate>,
    /// Most connections at a time, silent ones not counted.
    pub(crate) connections_max: usize,
    /// Most connections that are kept silent on purpose.
    pub(crate) silent_max: usize,
}

impl Farm {
    pub(crate) fn new(parts: FarmParts) -> Rc<Self> {
        Rc::new(Self {
            pages: Pages::new(&parts.world.scenario),
            breaks_handshakes: parts.world.scenario.breaks_handshakes(),
            world: parts.world,
            gauges: parts.gauges,
            tls: parts.tls,
            open: Holds::new(parts.connections_max, WAIT_MAX_MS),
            silent: Holds::new(parts.silent_max, WAIT_MAX_MS),
            table: RefCell::new(parts.table),
            commands: parts.commands,
            gates: RefCell::new(parts.gates),
            buffers: RefCell::default(),
            complained: Cell::new(false),
        })
    }

    /// Milliseconds since the start of the farm.
    pub(crate) fn now_ms(&self) -> FarmMs {
        self.world.clock.now_ms()
    }

    /// Observes a parsed request and says how it is answered.
    pub(crate) fn plan(&self, parsed: Parsed, now: FarmMs) -> Plan<'_> {
        let table = self.table.borrow();
        let (method, fault) = match parsed {
            Parsed::Request { method, site, .. } => {
                table.hit(site, now);
                (
                    Some(method),
                    self.world.fault(Layer::Http, site, Some(method), now),
                )
            }
            _ => (None, None),
        };
        let plan = self.pages.plan(parsed, fault);
        table.count(method, plan.outcome);
        plan
    }

    /// What breaks connections to the gate of this index, whose port is only for its sites.
    pub(crate) fn at_accept(&self, gate: usize) -> Option<FaultKind> {
        let at = self.world.moment(self.now_ms())?;
        let fault = self.world.scenario.at_accept().nth(gate)?;
        fault.is_active(at).then_some(fault.kind)
    }

    /// What breaks the handshake of TLS with `site`, its certificate apart.
    pub(crate) fn in_handshake(&self, site: u32) -> Option<FaultKind> {
        let fault = self.world.fault(Layer::Tls, site, None, self.now_ms());
        fault.filter(|kind| kind.is_of_handshake())
    }

    /// Writes the answer to a DNS query into `out`; after how many ms it is to be sent. `None`:
    /// stay silent.
    pub(crate) fn answer_dns(
        &self,
        query: &[u8],
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let zone = ZoneNow {
            world: &self.world,
            now: self.now_ms(),
        };
        let (code, delay_ms) = match dns::answer(query, transport, &zone, out) {
            Reply::Send(code) => (code, 0),
            Reply::SendLater(code, delay_ms) => (code, delay_ms),
            Reply::Drop => {
                self.gauges.dns_dropped.add(1);
                return None;
            }
        };
        self.gauges.dns_answers[usize::from(code & 15)].add(1);
        Some(delay_ms)
    }

    /// A read buffer, empty.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        let pooled = self.buffers.borrow_mut().pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives a read buffer back.
    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS_MAX && buffer.capacity() <= 2 * BUFFER_BYTES {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// What is due every few ms, `lag_us` later than planned. `false`: the farm is to end.
    /// Listeners that opened are handed to `opened`, with the index of their gate.
    pub(crate) fn tick(&self, lag_us: u64, opened: impl FnMut(usize, TcpListener)) -> bool {
        let now = self.now_ms();
        self.gauges.loop_lag_us.record(lag_us);
        while let Ok(Command::Observe(table)) = self.commands.try_recv() {
            self.table.replace(table);
        }
        self.open.expire(now);
        self.silent.expire(now);
        self.gauges.open_connections.set(self.open.len() as u64);
        self.gauges.silent_connections.set(self.silent.len() as u64);
        self.gauges
            .evicted
            .set(self.open.evicted() + self.silent.evicted());
        self.gauges.thread_cpu_us.set(clock::thread_cpu_us());
        if let Err(error) = self.move_gates(now, opened)
            && !self.complained.replace(true)
        {
            eprintln!("farm: cannot move the port of a fault: {error}; trying on every tick");
        }
        !self.gauges.stop.load(Ordering::Relaxed)
    }

    /// Opens and closes the ports as the scenario wants: a `refuse` closes its own, a `black_hole`
    /// darkens it.
    fn move_gates(
        &self,
        now: FarmMs,
        mut opened: impl FnMut(usize, TcpListener),
    ) -> io::Result<()> {
        let mut faults = self.world.scenario.at_accept();
        let at = self.world.moment(now);
        for (index, gate) in self.gates.borrow_mut().iter_mut().enumerate() {
            let fault = faults.next();
            let active = fault.filter(|fault| at.is_some_and(|at| fault.is_active(at)));
            let state = match active.map(|fault| fault.kind) {
                Some(FaultKind::Refuse) => GateState::Closed,
                Some(FaultKind::BlackHole) => GateState::Dark,
                _ => GateState::Open,
            };
            if let Some(listener) = gate.set(state)? {
                opened(index, listener);
            }
        }
        Ok(())
    }
}

/// The zone at one moment.
struct ZoneNow<'a> {
    world: &'a World,
    now: FarmMs,
}

impl Zone for ZoneNow<'_> {
    fn site(&self, label: &[u8]) -> Option<u32> {
        self.world.sites.parse_label(label)
    }

    fn address(&self, site: u32) -> Ipv4Addr {
        self.world.sites.address(site)
    }

    fn address6(&self, site: u32) -> Option<Ipv6Addr> {
        self.world.address6(site)
    }

    fn dns(&self, site: u32) -> SiteDns {
        self.world.dns(site, self.now)
    }

    fn given_out(&self, site: u32) {
        self.world.note_resolved(site);
    }
}
