//! The real reactor, on monoio: the only module that names it.
//!
//! A timerfd made readable in the root future is the tick: monoio's own timers starve beside a
//! busy task. Attempts run as tasks that await I/O only. A task whose attempt ended elsewhere (its
//! deadline, a removal) is woken, sees that its key is dead, and drops its sockets.

mod beside;
mod dial;
mod dns;
mod dns_streams;
mod kept;
mod sockets;
mod streams;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use model::limits::{COURIERS_IDLE_MAX, READ_BUFFERS_MAX, READ_BYTES};
use model::{Now, UnixMs};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use prober::attempt::{Conn, ErrnoAt, Event};

use crate::attempts::AttemptKey;
use crate::clock::Clock;
use crate::core::{Core, Io, ReactorPools};
use crate::spawn::Driver;
use sockets::Refused;
use streams::Streams;

/// Submission entries of a ring: completions of one tick at 20k checks/s fit several times over.
const RING_ENTRIES: u32 = 4_096;

/// A runtime that is ready to run one core on this thread.
pub struct Reactor {
    runtime: Runtime,
}

enum Runtime {
    IoUring(monoio::Runtime<IoUringDriver>),
    Epoll(monoio::Runtime<LegacyDriver>),
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("driver", &self.driver())
            .finish_non_exhaustive()
    }
}

impl Reactor {
    /// A runtime on `driver`. Where io_uring is refused it is for the caller to fall back: it can
    /// say so.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn new(driver: Driver) -> io::Result<Self> {
        let runtime = match driver {
            Driver::IoUring => Runtime::IoUring(ring()?),
            Driver::Epoll => Runtime::Epoll(epoll()?),
        };
        Ok(Self { runtime })
    }

    /// Which driver it is.
    pub fn driver(&self) -> Driver {
        match self.runtime {
            Runtime::IoUring(_) => Driver::IoUring,
            Runtime::Epoll(_) => Driver::Epoll,
        }
    }

    /// Runs `core` until it is drained.
    ///
    /// # Errors
    /// When the tick cannot be made or read: then the core cannot go on.
    pub fn run(mut self, core: Core, clock: Clock) -> io::Result<()> {
        let shell = Rc::new(Shell::new(core, clock));
        match &mut self.runtime {
            Runtime::IoUring(runtime) => runtime.block_on(turn_forever(shell)),
            Runtime::Epoll(runtime) => runtime.block_on(turn_forever(shell)),
        }
    }
}

/// Completions interrupt nobody: they are reaped when the loop enters the kernel anyway. Kernels
/// before 6.0 do not know both flags; their plain ring works as well, at the price of interrupts.
fn ring() -> io::Result<monoio::Runtime<IoUringDriver>> {
    let build = |builder: io_uring::Builder| {
        RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(builder)
            .build()
    };
    let mut calm = io_uring::IoUring::builder();
    calm.setup_coop_taskrun().setup_single_issuer();
    build(calm).or_else(|_| build(io_uring::IoUring::builder()))
}

fn epoll() -> io::Result<monoio::Runtime<LegacyDriver>> {
    RuntimeBuilder::<LegacyDriver>::new().build()
}

/// What the tasks of one core share. Never borrowed across an await.
struct Shell {
    core: RefCell<Core>,
    clock: Clock,
    /// Wall time at monotonic zero in ms, read anew each tick: between ticks one clock is enough.
    wall_zero_ms: Cell<u64>,
    /// Of the task that drives the attempt with this index.
    wakers: RefCell<Vec<Option<Waker>>>,
    /// Empty, of [`READ_BYTES`]; for what is read and for first flights.
    buffers: RefCell<Vec<Vec<u8>>>,
    dns: RefCell<dns::Sockets>,
    dns_streams: RefCell<dns_streams::Streams>,
    besides: beside::Besides,
    kept: kept::Kept,
    /// Couriers without an attempt, at most [`COURIERS_IDLE_MAX`].
    idle: RefCell<Vec<Rc<Courier>>>,
}

/// A task that drives one attempt after the other.
struct Courier {
    job: Cell<Option<AttemptKey>>,
    waker: RefCell<Option<Waker>>,
}

impl Courier {
    /// Waits for the next attempt.
    async fn job(&self) -> AttemptKey {
        poll_fn(|cx| {
            if let Some(key) = self.job.take() {
                return Poll::Ready(key);
            }
            // A task keeps its waker for life.
            self.waker
                .borrow_mut()
                .get_or_insert_with(|| cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Shell {
    fn new(core: Core, clock: Clock) -> Self {
        Self {
            core: RefCell::new(core),
            clock,
            wall_zero_ms: Cell::new(clock.grid_zero().0),
            wakers: RefCell::default(),
            buffers: RefCell::default(),
            dns: RefCell::default(),
            dns_streams: RefCell::default(),
            besides: beside::Besides::default(),
            kept: kept::Kept::default(),
            idle: RefCell::default(),
        }
    }

    /// Both clocks, for the price of one.
    fn now(&self) -> Now {
        let mono = self.clock.mono();
        let unix = UnixMs(self.wall_zero_ms.get() + mono.0 / 1_000);
        Now { mono, unix }
    }

    /// Both clocks read; the wall clock may have been set since the last tick.
    fn now_at_tick(&self) -> Now {
        let now = self.clock.now();
        self.wall_zero_ms
            .set(now.unix.0.saturating_sub(now.mono.0 / 1_000));
        now
    }

    /// Carries out what the core has decided since the last call.
    fn pump(self: &Rc<Self>) {
        dns::pump(self);
        beside::pump(self);
        loop {
            let started = self.core.borrow_mut().next_started();
            let Some(key) = started else { break };
            self.hand_over(key);
        }
        loop {
            let woken = self.core.borrow_mut().next_woken();
            let Some(key) = woken else { break };
            let waker = self
                .wakers
                .borrow_mut()
                .get_mut(key.index as usize)
                .and_then(Option::take);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Gives the attempt to a courier that is idle, or to a new one. A task made anew for each
    /// check costs more than its memory: the allocator grows and trims its heap with every batch.
    fn hand_over(self: &Rc<Self>, key: AttemptKey) {
        let Some(courier) = self.idle.borrow_mut().pop() else {
            let courier = Rc::new(Courier {
                job: Cell::new(Some(key)),
                waker: RefCell::default(),
            });
            monoio::spawn(carry_attempts(Rc::clone(self), courier));
            return;
        };
        courier.job.set(Some(key));
        if let Some(waker) = &*courier.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What is kept for later attempts, for the gauges.
    fn pools(&self) -> ReactorPools {
        ReactorPools {
            couriers_idle: self.idle.borrow().len(),
            read_buffers: self.buffers.borrow().len(),
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let pooled = self.buffers.borrow_mut().pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    /// A buffer that grew for a long request is not kept: a read would grow with it.
    fn recycle(&self, mut buffer: Vec<u8>) {
        let mut pool = self.buffers.borrow_mut();
        if buffer.capacity() <= READ_BYTES && pool.len() < READ_BUFFERS_MAX {
            buffer.clear();
            pool.push(buffer);
        }
    }

    /// Brings an event that happens now; says when that is.
    fn event(&self, key: AttemptKey, event: Event<'_>) -> Now {
        let now = self.now();
        self.core.borrow_mut().event(key, event, now);
        now
    }

    /// Lets the core wake this task; one waker per attempt, cloned once per wait.
    fn register(&self, key: AttemptKey, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        let index = key.index as usize;
        if wakers.len() <= index {
            wakers.resize(index + 1, None);
        }
        if !wakers[index]
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            wakers[index] = Some(cx.waker().clone());
        }
    }

    /// Waits for `operation`, or until the attempt ended or wants something else: then `None`, and
    /// the operation is dropped, which cancels it.
    async fn while_wanted<F: Future>(&self, key: AttemptKey, operation: F) -> Option<F::Output> {
        let mut operation = pin!(operation);
        poll_fn(|cx| {
            if let Poll::Ready(output) = operation.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if !self.core.borrow().is_undisturbed(key) {
                return Poll::Ready(None);
            }
            self.register(key, cx);
            Poll::Pending
        })
        .await
    }

    /// Waits to be woken once.
    async fn parked(&self, key: AttemptKey) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.register(key, cx);
            Poll::Pending
        })
        .await;
    }
}

/// The root future: one turn of the core per tick.
async fn turn_forever(shell: Rc<Shell>) -> io::Result<()> {
    let mut tick = sockets::Tick::new()?;
    loop {
        tick.elapsed().await?;
        shell.core.borrow_mut().note_pools(shell.pools());
        shell.core.borrow_mut().turn(shell.now_at_tick());
        shell.pump();
        if shell.core.borrow().is_drained() {
            shell.core.borrow_mut().publish(shell.now());
            return Ok(());
        }
        tick.set(shell.core.borrow_mut().rest())?;
    }
}

/// The life of a courier: ends when enough others are idle.
async fn carry_attempts(shell: Rc<Shell>, courier: Rc<Courier>) {
    loop {
        let key = courier.job().await;
        drive(&shell, key).await;
        if shell.idle.borrow().len() >= COURIERS_IDLE_MAX {
            shell.pump();
            return;
        }
        shell.idle.borrow_mut().push(Rc::clone(&courier));
        // The end of an attempt may have let others start: one of them may come to this courier.
        shell.pump();
    }
}

/// Drives one attempt: asks what to do, does it, brings back the event. One clock read per wake-up:
/// what an event brings about happens at the time of the event.
async fn drive(shell: &Rc<Shell>, key: AttemptKey) {
    let mut streams = Streams::default();
    let mut now = shell.now();
    loop {
        shell.besides.take_over(key, &mut streams);
        let io = shell.core.borrow_mut().io(key, now);
        if shell.core.borrow().has_sides() {
            beside::pump(shell);
        }
        let event = match io {
            Io::Connect { conn, address } => connect(shell, key, conn, address, &mut streams).await,
            Io::Reuse {
                conn,
                address,
                kept,
            } => kept::reuse(shell, key, (conn, address), kept, &mut streams),
            Io::Keep { conn, address } => {
                kept::keep(shell, key, (conn, address), &mut streams, now);
                continue;
            }
            Io::Send { conn, bytes } => send(shell, key, conn, &mut streams, bytes).await,
            Io::Recv { conn } => match receive(shell, key, conn, &mut streams).await {
                Some(at) => {
                    now = at;
                    continue;
                }
                None => None,
            },
            Io::Close { conn } => {
                streams.close(conn);
                continue;
            }
            Io::Park => {
                // It may wait for an answer to a question that nobody has sent yet.
                dns::pump(shell);
                shell.parked(key).await;
                now = shell.now();
                continue;
            }
            Io::Gone => break,
        };
        now = shell.now();
        if let Some(event) = event {
            shell.core.borrow_mut().event(key, event, now);
        }
    }
}

/// Opens a connection; what the attempt can say at once goes out in the same operation that waits
/// for it: one wait instead of two.
async fn connect(
    shell: &Shell,
    key: AttemptKey,
    conn: Conn,
    address: SocketAddr,
    streams: &mut Streams,
) -> Option<Event<'static>> {
    let mut flight = shell.buffer();
    shell.core.borrow_mut().first_flight(key, conn, &mut flight);
    match dial::start(shell, address, !flight.is_empty()) {
        Ok(stream) => streams.open(conn, stream),
        Err(Refused { errno, at, .. }) => {
            shell.recycle(flight);
            return Some(Event::ConnectError { conn, errno, at });
        }
    }
    if flight.is_empty() {
        shell.recycle(flight);
        return established(shell, key, conn, streams).await;
    }
    Some(match send(shell, key, conn, streams, flight).await? {
        Event::Sent { buffer, .. } => {
            shell.recycle(buffer);
            Event::Connected { conn, sent: true }
        }
        failed => failed,
    })
}

/// Waits until the connection stands.
async fn established(
    shell: &Shell,
    key: AttemptKey,
    conn: Conn,
    streams: &mut Streams,
) -> Option<Event<'static>> {
    let Some(stream) = streams.operate(conn) else {
        return Some(no_stream(conn));
    };
    let result = shell
        .while_wanted(key, sockets::established(stream))
        .await?;
    streams.settle();
    Some(match result {
        Ok(()) => Event::Connected { conn, sent: false },
        Err(errno) => Event::ConnectError {
            conn,
            errno,
            at: ErrnoAt::Async,
        },
    })
}

/// Writes all of `bytes`.
async fn send(
    shell: &Shell,
    key: AttemptKey,
    conn: Conn,
    streams: &mut Streams,
    bytes: Vec<u8>,
) -> Option<Event<'static>> {
    let Some(stream) = streams.operate(conn) else {
        return Some(no_stream(conn));
    };
    let (result, buffer) = shell.while_wanted(key, stream.write_all(bytes)).await?;
    streams.settle();
    Some(match result {
        Ok(_) => Event::Sent { conn, buffer },
        Err(error) => io_error(conn, &error),
    })
}

/// Reads once and brings the event, which borrows the buffer; the time of it.
async fn receive(shell: &Shell, key: AttemptKey, conn: Conn, streams: &mut Streams) -> Option<Now> {
    let Some(stream) = streams.operate(conn) else {
        return Some(shell.event(key, no_stream(conn)));
    };
    let reading = shell.while_wanted(key, stream.read(shell.buffer()));
    let (result, buffer) = reading.await?;
    streams.settle();
    let bytes = buffer.as_slice();
    let now = shell.event(
        key,
        match result {
            Ok(0) => Event::Eof { conn },
            Ok(n) => Event::Bytes {
                conn,
                bytes: &bytes[..n],
            },
            Err(error) => io_error(conn, &error),
        },
    );
    shell.recycle(buffer);
    Some(now)
}

fn io_error(conn: Conn, error: &io::Error) -> Event<'static> {
    Event::IoError {
        conn,
        errno: sockets::errno(error),
    }
}

fn no_stream(conn: Conn) -> Event<'static> {
    Event::IoError {
        conn,
        errno: sockets::NO_STREAM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what `made` makes.
    fn size_of_made<A, B, F>(_made: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_courier_is_as_small_as_is_written_here() {
        let bytes = size_of_made(carry_attempts);
        assert!(bytes <= 1_072, "{bytes} B");
    }
}
