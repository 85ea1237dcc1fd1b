//! The real reactor, on monoio: the only module that names it.
//!
//! A timerfd made readable in the root future is the tick: monoio's own timers starve beside a
//! busy task. Attempts run as tasks that await I/O only. A task whose attempt ended elsewhere (its
//! deadline, a removal) is woken, sees that its key is dead, and drops its sockets.

mod dns;
mod sockets;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use model::limits::CONNECTIONS_PER_ATTEMPT;
use model::{Now, UnixMs};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use prober::attempt::{Conn, Event};

use crate::attempts::AttemptKey;
use crate::clock::Clock;
use crate::core::{Core, Io};
use crate::spawn::{Driver, DriverChoice};

/// Submission entries of a ring: completions of one tick at 20k checks/s fit several times over.
const RING_ENTRIES: u32 = 4_096;
/// Couriers kept for the next attempts; beyond it a courier ends with its attempt.
const IDLE_COURIERS_MAX: usize = 1_024;
/// One read. Most answers to a check fit; larger ones take several reads.
const READ_BYTES: usize = 4_096;

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
    /// A runtime on the driver that is asked for; `Auto` falls back to epoll where io_uring is
    /// refused, and says why.
    ///
    /// # Errors
    /// The kernel's refusal, when the driver that was asked for cannot be had.
    pub fn new(choice: DriverChoice) -> io::Result<Self> {
        let ring = || {
            RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .build()
        };
        let runtime = match choice {
            DriverChoice::IoUring => Runtime::IoUring(ring()?),
            DriverChoice::Epoll => Runtime::Epoll(epoll()?),
            DriverChoice::Auto => match ring() {
                Ok(runtime) => Runtime::IoUring(runtime),
                Err(_) => Runtime::Epoll(epoll()?),
            },
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
    read_buffers: RefCell<Vec<Vec<u8>>>,
    dns: RefCell<dns::Sockets>,
    /// Couriers without an attempt, at most [`IDLE_COURIERS_MAX`].
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
            *self.waker.borrow_mut() = Some(cx.waker().clone());
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
            read_buffers: RefCell::default(),
            dns: RefCell::default(),
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
        let waker = courier.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn event(&self, key: AttemptKey, event: Event<'_>) {
        self.core.borrow_mut().event(key, event, self.now());
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
    let tick = sockets::Tick::new()?;
    loop {
        tick.elapsed().await?;
        shell.core.borrow_mut().turn(shell.now_at_tick());
        shell.pump();
        if shell.core.borrow().is_drained() {
            shell.core.borrow_mut().publish(shell.now());
            return Ok(());
        }
    }
}

/// The life of a courier: ends when enough others are idle.
async fn carry_attempts(shell: Rc<Shell>, courier: Rc<Courier>) {
    loop {
        let key = courier.job().await;
        drive(&shell, key).await;
        if shell.idle.borrow().len() >= IDLE_COURIERS_MAX {
            shell.pump();
            return;
        }
        shell.idle.borrow_mut().push(Rc::clone(&courier));
        // The end of an attempt may have let others start: one of them may come to this courier.
        shell.pump();
    }
}

/// Drives one attempt: asks what to do, does it, brings back the event.
async fn drive(shell: &Shell, key: AttemptKey) {
    let mut streams: [Option<TcpStream>; CONNECTIONS_PER_ATTEMPT] = [const { None }; 3];
    loop {
        let io = shell.core.borrow_mut().io(key, shell.now());
        match io {
            Io::Connect { conn, address } => {
                let connecting = sockets::connect(address);
                let Some(result) = shell.while_wanted(key, connecting).await else {
                    continue;
                };
                match result {
                    Ok(stream) => {
                        streams[usize::from(conn.0)] = Some(stream);
                        shell.event(key, Event::Connected { conn });
                    }
                    Err((errno, at)) => {
                        shell.event(key, Event::ConnectError { conn, errno, at });
                    }
                }
            }
            Io::Send { conn, bytes } => send(shell, key, conn, &mut streams, bytes).await,
            Io::Recv { conn } => receive(shell, key, conn, &mut streams).await,
            Io::Close { conn } => streams[usize::from(conn.0)] = None,
            Io::Park => shell.parked(key).await,
            Io::Gone => break,
        }
    }
}

type Streams = [Option<TcpStream>; CONNECTIONS_PER_ATTEMPT];

/// Writes all of `bytes`.
async fn send(shell: &Shell, key: AttemptKey, conn: Conn, streams: &mut Streams, bytes: Vec<u8>) {
    let Some(stream) = &mut streams[usize::from(conn.0)] else {
        shell.event(
            key,
            Event::IoError {
                conn,
                errno: sockets::NOT_CONNECTED,
            },
        );
        return;
    };
    let Some((result, buffer)) = shell.while_wanted(key, stream.write_all(bytes)).await else {
        return;
    };
    match result {
        Ok(_) => shell.event(key, Event::Sent { conn, buffer }),
        Err(error) => shell.event(
            key,
            Event::IoError {
                conn,
                errno: sockets::errno(&error),
            },
        ),
    }
}

/// Reads once.
async fn receive(shell: &Shell, key: AttemptKey, conn: Conn, streams: &mut Streams) {
    let Some(stream) = &mut streams[usize::from(conn.0)] else {
        shell.event(
            key,
            Event::IoError {
                conn,
                errno: sockets::NOT_CONNECTED,
            },
        );
        return;
    };
    let pooled = shell.read_buffers.borrow_mut().pop();
    let buffer = pooled.unwrap_or_else(|| Vec::with_capacity(READ_BYTES));
    let Some((result, mut buffer)) = shell.while_wanted(key, stream.read(buffer)).await else {
        return;
    };
    match result {
        Ok(0) => shell.event(key, Event::Eof { conn }),
        Ok(n) => shell.event(
            key,
            Event::Bytes {
                conn,
                bytes: &buffer[..n],
            },
        ),
        Err(error) => shell.event(
            key,
            Event::IoError {
                conn,
                errno: sockets::errno(&error),
            },
        ),
    }
    buffer.clear();
    shell.read_buffers.borrow_mut().push(buffer);
}
