//! The simulator: the same core on a virtual clock against a scripted world.
//!
//! Nothing here sleeps or reads a clock. The world is asked when the core connects, sends and
//! queries; its answers become events on one ordered queue, so that the same world with the same
//! seed gives the same outcomes. What the peer says is up to the world, byte by byte: one that
//! keeps a TLS session per [`Peer`] speaks TLS.

mod dns;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::ops::Range;

use model::limits::{CONNECTIONS_PER_ATTEMPT, READ_BYTES, TICK_MS};
use model::{MonoUs, Now, UnixMs};
use prober::attempt::{Conn, ErrnoAt, Event};
use prober::resolver::DnsStream;

use crate::attempts::AttemptKey;
use crate::core::{Core, Io, Side};
use crate::kept::KeptId;
use dns::DnsReply;

/// How the world answers a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Established after this many µs.
    Accept(u64),
    /// Fails with this errno after this many µs.
    Fail(u64, i32),
    /// Our own kernel refuses at once, with this errno.
    Local(i32),
    /// Never answers.
    Silence,
}

/// What follows the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closes.
    Eof,
    /// The peer resets.
    Reset,
    /// Nothing more comes.
    Silence,
}

/// How the world answers what was sent to it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// First byte after this many µs.
    pub after_us: u64,
    /// What it sends; behind what it sent before and was not read yet.
    pub bytes: Cow<'static, [u8]>,
    /// In pieces of at most this many bytes.
    pub piece: usize,
    /// What follows.
    pub end: End,
}

/// The other side of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Tells the connection from every other one.
    pub serial: u64,
    /// Where it was dialled.
    pub address: SocketAddr,
}

/// The world outside of a simulated core.
pub trait World {
    /// A connection attempt to `address`.
    fn dial(&mut self, address: SocketAddr, now: MonoUs) -> Dial;
    /// The core wrote `sent` to `peer`, all in one piece; of plain HTTP that is the whole request.
    fn reply(&mut self, peer: Peer, sent: &[u8], now: MonoUs) -> Reply;
    /// A DNS query; writes the answer and says after how many µs it comes, `None` = never.
    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, now: MonoUs) -> Option<u64>;
    /// A DNS query over TCP, without its length; writes the answer and says after how many µs it
    /// comes and in pieces of how many bytes. `None` = the connection is refused.
    fn answer_stream(
        &mut self,
        _query: &[u8],
        _answer: &mut Vec<u8>,
        _now: MonoUs,
    ) -> Option<(u64, usize)> {
        None
    }
    /// How long the core's thread is kept from running at this tick, in µs.
    fn stall_us(&mut self, _now: MonoUs) -> u64 {
        0
    }
    /// How long a turn that starts checks takes before the first of them is taken up, in µs.
    fn busy_us(&mut self) -> u64 {
        0
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Dialled { conn: u8, serial: u64, errno: i32 },
    Sent { conn: u8, serial: u64 },
    Readable { conn: u8, serial: u64 },
    Answered { socket: u16, datagram: usize },
    Streamed { stream: u32, reply: usize },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_us: u64,
    order: u64,
    waiter: u64,
    happening: Happening,
}

#[derive(Clone, Debug)]
struct SimConn {
    /// Its serial tells this connection from earlier ones of the same number.
    peer: Peer,
    /// It was opened beside the attempt's I/O, and is no part of that yet.
    beside: bool,
    reply: Option<Reply>,
    /// Bytes of the reply that the core has.
    read: usize,
    ready_at_us: u64,
}

impl SimConn {
    fn new(peer: Peer, beside: bool) -> Self {
        Self {
            peer,
            beside,
            reply: None,
            read: 0,
            ready_at_us: 0,
        }
    }

    /// The peer has what was sent.
    fn ask(&mut self, world: &mut impl World, sent: &[u8], now: MonoUs) {
        let mut reply = world.reply(self.peer, sent, now);
        if let Some(before) = &self.reply
            && self.read < before.bytes.len()
        {
            reply.bytes = [&before.bytes[self.read..], &reply.bytes].concat().into();
        }
        self.ready_at_us = now.0 + reply.after_us;
        (self.reply, self.read) = (Some(reply), 0);
    }

    /// Whether nothing can be read from it, its end neither.
    fn is_quiet(&self) -> bool {
        let all_read = |reply: &Reply| self.read == reply.bytes.len() && reply.end == End::Silence;
        self.reply.as_ref().is_none_or(all_read)
    }

    /// Takes the next piece of the reply: where it lies in its bytes.
    fn take_piece(&mut self) -> Option<(&Reply, Range<usize>)> {
        let reply = self.reply.as_ref()?;
        let piece = reply.piece.clamp(1, READ_BYTES);
        let end = reply.bytes.len().min(self.read + piece);
        let range = self.read..end;
        self.read = end;
        Some((reply, range))
    }
}

/// A core, its world and the clock between them.
pub struct Sim<W> {
    core: Core,
    world: W,
    now: MonoUs,
    grid_zero: UnixMs,
    /// What was done to the wall clock since the start, in ms.
    wall_steps_ms: i64,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// By attempt index and connection.
    conns: Vec<Option<SimConn>>,
    /// By their numbers.
    kept: Vec<Option<SimConn>>,
    /// The buffer under way of a connection's send.
    sending: Vec<Option<Vec<u8>>>,
    /// Used again for each connection's first flight.
    flight: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
    free_datagrams: Vec<usize>,
    dns_replies: Vec<DnsReply>,
}

impl<W> std::fmt::Debug for Sim<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl<W: World> Sim<W> {
    /// A simulation of `core`, which was made at monotonic zero with this `grid_zero`.
    pub fn new(core: Core, world: W, grid_zero: UnixMs) -> Self {
        Self {
            core,
            world,
            now: MonoUs(0),
            grid_zero,
            wall_steps_ms: 0,
            queue: BinaryHeap::new(),
            order: 0,
            conns: Vec::new(),
            kept: Vec::new(),
            sending: Vec::new(),
            flight: Vec::new(),
            datagrams: Vec::new(),
            free_datagrams: Vec::new(),
            dns_replies: Vec::new(),
        }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The world, to look at.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The world.
    pub fn world_mut(&mut self) -> &mut W {
        &mut self.world
    }

    /// Both virtual clocks.
    pub fn now(&self) -> Now {
        let unix = self.grid_zero.plus_ms(self.now.0 / 1_000);
        Now {
            mono: self.now,
            unix: UnixMs(unix.0.saturating_add_signed(self.wall_steps_ms)),
        }
    }

    /// Sets the wall clock forward or back; the monotonic clock goes on as it was.
    pub fn step_wall_clock(&mut self, by_ms: i64) {
        self.wall_steps_ms += by_ms;
    }

    /// Runs tick by tick until `until`, or until the core is drained.
    pub fn run_until(&mut self, until: MonoUs) {
        let tick_us = TICK_MS * 1_000;
        while self.now < until && !self.core.is_drained() {
            let stall_us = self.world.stall_us(self.now);
            let rest = u64::from(self.core.rest());
            let next_tick = MonoUs((self.now.0 / tick_us + rest) * tick_us + stall_us);
            if stall_us == 0 {
                self.happen_before(next_tick);
            }
            self.now = next_tick;
            self.turn();
            self.pump();
            // What a stall held up is reaped only after the turn that follows it.
            self.happen_before(MonoUs(self.now.0 + 1));
        }
    }

    fn turn(&mut self) {
        let busy_us = self.world.busy_us();
        if busy_us == 0 {
            return self.core.turn(self.now());
        }
        let before = self.core.account().in_flight;
        self.core.turn(self.now());
        if self.core.account().in_flight > before {
            self.now = MonoUs(self.now.0 + busy_us);
        }
    }

    fn happen_before(&mut self, limit: MonoUs) {
        while self
            .queue
            .peek()
            .is_some_and(|Reverse(due)| due.at_us < limit.0)
        {
            let Some(Reverse(due)) = self.queue.pop() else {
                return;
            };
            self.now = self.now.max(MonoUs(due.at_us));
            self.happen(&due);
        }
    }

    fn happen(&mut self, due: &Due) {
        let key = AttemptKey::from_waiter(due.waiter);
        match due.happening {
            Happening::Answered { socket, datagram } => self.answered(socket, datagram),
            Happening::Streamed { stream, reply } => self.streamed(DnsStream(stream), reply),
            Happening::Dialled {
                conn,
                serial,
                errno,
            } => {
                if self.is_open(key, Conn(conn), serial) {
                    self.dialled(key, Conn(conn), errno);
                }
            }
            Happening::Sent { conn, serial } => {
                let conn = Conn(conn);
                // A buffer of an attempt that is over went with it; its successor's is not ours.
                if self.is_open(key, conn, serial)
                    && let Some(buffer) = self.sending[Self::place(key, conn)].take()
                {
                    self.bring(key, Event::Sent { conn, buffer });
                }
            }
            Happening::Readable { conn, serial } => {
                if self.is_open(key, Conn(conn), serial) {
                    self.readable(key, Conn(conn));
                }
            }
        }
        self.pump();
    }

    fn is_open(&self, key: AttemptKey, conn: Conn, serial: u64) -> bool {
        let state = &self.conns[Self::place(key, conn)];
        let is_same = |state: &SimConn| state.peer.serial == serial;
        self.core.is_undisturbed(key) && state.as_ref().is_some_and(is_same)
    }

    fn dialled(&mut self, key: AttemptKey, conn: Conn, errno: i32) {
        let state = &self.conns[Self::place(key, conn)];
        if state.as_ref().is_some_and(|state| state.beside) {
            return self.dialled_beside(key, conn, errno);
        }
        if errno == 0 {
            let sent = self.send_first_flight(key, conn);
            self.bring(key, Event::Connected { conn, sent });
        } else {
            self.conns[Self::place(key, conn)] = None;
            self.bring(
                key,
                Event::ConnectError {
                    conn,
                    errno,
                    at: ErrnoAt::Async,
                },
            );
        }
    }

    fn dialled_beside(&mut self, key: AttemptKey, conn: Conn, errno: i32) {
        let at = ErrnoAt::Async;
        let event = match errno {
            0 => Event::Connected { conn, sent: false },
            _ => Event::ConnectError { conn, errno, at },
        };
        let goes_on = self.core.side_event(key, event, self.now());
        let state = &mut self.conns[Self::place(key, conn)];
        if errno != 0 {
            *state = None;
        } else if let Some(state) = state {
            state.beside = !goes_on;
        }
    }

    /// Says whether there was one.
    fn send_first_flight(&mut self, key: AttemptKey, conn: Conn) -> bool {
        self.flight.clear();
        self.core.first_flight(key, conn, &mut self.flight);
        let state = &mut self.conns[Self::place(key, conn)];
        let Some(state) = state.as_mut().filter(|_| !self.flight.is_empty()) else {
            return false;
        };
        state.ask(&mut self.world, &self.flight, self.now);
        true
    }

    fn bring(&mut self, key: AttemptKey, event: Event<'_>) {
        self.core.event(key, event, self.now());
        self.drive(key);
    }

    fn readable(&mut self, key: AttemptKey, conn: Conn) {
        let now = self.now();
        let state = self.conns[Self::place(key, conn)].as_mut();
        let Some((reply, piece)) = state.and_then(SimConn::take_piece) else {
            return;
        };
        let event = match reply.end {
            _ if !piece.is_empty() => Event::Bytes {
                conn,
                bytes: &reply.bytes[piece],
            },
            End::Eof => Event::Eof { conn },
            End::Reset => Event::IoError { conn, errno: 104 },
            End::Silence => return,
        };
        self.core.event(key, event, now);
        self.drive(key);
    }

    /// Carries out what the core has decided since the last call.
    fn pump(&mut self) {
        loop {
            while let Some(wish) = self.core.dns_io(self.now()) {
                self.obey_dns(wish);
            }
            if let Some(side) = self.core.next_side() {
                self.obey_side(side);
            } else if let Some(key) = self.core.next_started() {
                self.drive(key);
            } else if let Some(key) = self.core.next_woken() {
                // A key that is dead by now finds nothing to do.
                self.drive(key);
            } else {
                return;
            }
        }
    }

    fn drive(&mut self, key: AttemptKey) {
        loop {
            match self.core.io(key, self.now()) {
                Io::Connect { conn, address } => {
                    let Err(errno) = self.dial(key, conn, address, false) else {
                        return;
                    };
                    let at = ErrnoAt::Syscall;
                    let event = Event::ConnectError { conn, errno, at };
                    self.core.event(key, event, self.now());
                }
                Io::Reuse {
                    conn,
                    address,
                    kept,
                } => self.reuse(key, (conn, address), kept),
                Io::Keep { conn, address } => self.keep(key, conn, address),
                Io::Send { conn, bytes } => return self.send(key, conn, bytes),
                Io::Recv { conn } => return self.receive(key, conn),
                Io::Close { conn } => self.close(key, conn),
                Io::Park | Io::Gone => return,
            }
        }
    }

    fn close(&mut self, key: AttemptKey, conn: Conn) {
        if let Some(state) = self.conns.get_mut(Self::place(key, conn)) {
            *state = None;
        }
    }

    fn keep(&mut self, key: AttemptKey, conn: Conn, address: SocketAddr) {
        let Some(state) = self.conns[Self::place(key, conn)].take() else {
            return;
        };
        // The world does not ask where a connection comes from.
        if let Some(KeptId(at)) = self.core.keep(key, address, || None, self.now()) {
            let at = at as usize;
            self.kept.resize(self.kept.len().max(at + 1), None);
            self.kept[at] = Some(state);
        }
    }

    fn reuse(&mut self, key: AttemptKey, (conn, address): (Conn, SocketAddr), kept: KeptId) {
        let state = self.kept[kept.0 as usize].take();
        let Some(state) = state.filter(SimConn::is_quiet) else {
            return self.core.reuse_failed(key, conn, address);
        };
        self.make_room(key);
        self.conns[Self::place(key, conn)] = Some(state);
        self.core.event(key, Event::Reused { conn }, self.now());
    }

    fn obey_side(&mut self, side: Side) {
        match side {
            Side::Open { key, conn, address } => {
                if let Err(errno) = self.dial(key, conn, address, true) {
                    let at = ErrnoAt::Syscall;
                    let event = Event::ConnectError { conn, errno, at };
                    self.core.side_event(key, event, self.now());
                }
            }
            Side::Close { key, conn } => self.close_beside(key, conn),
            Side::LetGo { kept } => self.kept[kept.0 as usize] = None,
        }
    }

    /// The attempt may be over, and its place another one's.
    fn close_beside(&mut self, key: AttemptKey, conn: Conn) {
        let state = &mut self.conns[Self::place(key, conn)];
        if state.as_ref().is_some_and(|state| state.beside) {
            *state = None;
        }
    }

    /// Our own kernel may refuse at once.
    fn dial(
        &mut self,
        key: AttemptKey,
        conn: Conn,
        address: SocketAddr,
        beside: bool,
    ) -> Result<(), i32> {
        self.make_room(key);
        let at = Self::place(key, conn);
        // No other one has it: a connection may live on when its attempt is over.
        self.order += 1;
        let serial = self.order;
        self.conns[at] = Some(SimConn::new(Peer { serial, address }, beside));
        let (after_us, errno) = match self.world.dial(address, self.now) {
            Dial::Accept(after_us) => (after_us, 0),
            Dial::Fail(after_us, errno) => (after_us, errno),
            Dial::Silence => return Ok(()),
            Dial::Local(errno) => {
                self.conns[at] = None;
                return Err(errno);
            }
        };
        self.schedule(
            after_us,
            key,
            Happening::Dialled {
                conn: conn.0,
                serial,
                errno,
            },
        );
        Ok(())
    }

    fn make_room(&mut self, key: AttemptKey) {
        let end = Self::place(key, Conn(0)) + CONNECTIONS_PER_ATTEMPT;
        if self.conns.len() < end {
            self.conns.resize(end, None);
            self.sending.resize(end, None);
        }
    }

    fn send(&mut self, key: AttemptKey, conn: Conn, bytes: Vec<u8>) {
        let at = Self::place(key, conn);
        let Some(state) = &mut self.conns[at] else {
            return;
        };
        state.ask(&mut self.world, &bytes, self.now);
        let serial = state.peer.serial;
        self.sending[at] = Some(bytes);
        self.schedule(
            10,
            key,
            Happening::Sent {
                conn: conn.0,
                serial,
            },
        );
    }

    fn receive(&mut self, key: AttemptKey, conn: Conn) {
        if let Some(state) = &self.conns[Self::place(key, conn)] {
            let after_us = state.ready_at_us.saturating_sub(self.now.0).max(10);
            let happening = Happening::Readable {
                conn: conn.0,
                serial: state.peer.serial,
            };
            self.schedule(after_us, key, happening);
        }
    }

    fn schedule(&mut self, after_us: u64, key: AttemptKey, happening: Happening) {
        self.schedule_at(after_us, key.waiter(), happening);
    }

    fn schedule_at(&mut self, after_us: u64, waiter: u64, happening: Happening) {
        self.order += 1;
        let due = Due {
            at_us: self.now.0 + after_us,
            order: self.order,
            waiter,
            happening,
        };
        self.queue.push(Reverse(due));
    }

    fn place(key: AttemptKey, conn: Conn) -> usize {
        key.index as usize * CONNECTIONS_PER_ATTEMPT + usize::from(conn.0)
    }
}
