//! Baseline (c), the floor: connect, send, receive, close on raw monoio, with no engine at all.
//! The only module of this crate that names the runtime.
//!
//! It shares with the engine what costs nothing to share, so that the ratio shows the engine and
//! not its surroundings: the ring's size and flags and their fallbacks, a timerfd as the tick, the
//! size of a read, and pooled buffers: after warm-up a check allocates none. The rest is plain, as
//! one would write it: a task per check, monoio's own connect operation before the send, its own
//! close, the default allocator. The engine has found something cheaper for each of them (the
//! first flight, no bare ACK, `close(2)`, mimalloc: decision 0005), and spends that on its work.
//!
//! It stops a check where the engine does, once the whole response has arrived: the length of a
//! healthy page is learned from one check before the measurement.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use model::limits::{READ_BUFFERS_MAX, READ_BYTES};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::child::{self, ChildOptions};
use super::pace::{Pace, TICK};
use super::peers::{self, Peer};
use super::tally::{Sample, Tally};
use crate::clock::Stopwatch;

/// As large as the engine's ring; so are its reads and its pool.
const RING_ENTRIES: u32 = 4_096;

/// Runs the child and returns what it measured.
pub(super) fn run(options: &ChildOptions) -> Result<Sample> {
    child::pin(options.cpu)?;
    let peers = peers::read(&options.peers)?;
    block_on(measure(options, peers))?
}

/// Runs `work` on a ring, or on epoll where the kernel refuses one, as the engine chooses.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    if let Ok(mut runtime) = ring() {
        return Ok(runtime.block_on(work));
    }
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
        .build()
        .context("monoio gets neither io_uring nor epoll from the kernel")?;
    Ok(runtime.block_on(work))
}

/// The engine's ring: no interrupts where the kernel knows how (6.0), else a plain one.
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

async fn measure(options: &ChildOptions, peers: Vec<Peer>) -> Result<Sample> {
    let page_bytes = learn_page(&peers[0])
        .await
        .context("the first site does not answer")?;
    let floor = Rc::new(Floor::new(peers, page_bytes));
    let (from, to) = options.window();
    let (mut pace, mut mark) = (Pace::new(options.rate), None);
    let tick = Tick::start()?;
    let watch = Stopwatch::start();
    loop {
        tick.wait().await?;
        let elapsed = watch.elapsed();
        if mark.is_none() && elapsed >= from {
            mark = Some(floor.tally.mark());
        }
        if let Some(mark) = mark.filter(|_| elapsed >= to) {
            return Ok(mark.close(&floor.tally));
        }
        for number in pace.due(elapsed) {
            let floor = Rc::clone(&floor);
            monoio::spawn(async move {
                let peer = &floor.peers[number as usize % floor.peers.len()];
                floor.tally.count(floor.check(peer).await.is_ok());
            });
        }
    }
}

/// What the tasks of all checks share.
struct Floor {
    peers: Vec<Peer>,
    page_bytes: usize,
    tally: Tally,
    pool: Pool,
}

impl Floor {
    fn new(peers: Vec<Peer>, page_bytes: usize) -> Self {
        Self {
            peers,
            page_bytes,
            tally: Tally::default(),
            pool: Pool::default(),
        }
    }

    /// One check: it ends when the whole page has arrived, or fails when the peer closes before.
    async fn check(&self, peer: &Peer) -> Result<()> {
        let mut stream = TcpStream::connect_addr(peer.address).await?;
        let mut request = self.pool.take();
        child::request(peer, &mut request);
        let (sent, request) = stream.write_all(request).await;
        self.pool.give(request);
        sent?;
        let (received, buffer) = self.receive(&mut stream, self.pool.take()).await;
        self.pool.give(buffer);
        received
    }

    /// Reads the page into `buffer`, again and again, and hands the buffer back.
    async fn receive(&self, stream: &mut TcpStream, buffer: Vec<u8>) -> (Result<()>, Vec<u8>) {
        let (mut buffer, mut received) = (buffer, 0);
        while received < self.page_bytes {
            let (size, returned) = stream.read(buffer).await;
            buffer = returned;
            match size {
                Ok(0) => return (Err(anyhow!("closed after {received} bytes")), buffer),
                Ok(size) => received += size,
                Err(error) => return (Err(error.into()), buffer),
            }
        }
        (Ok(()), buffer)
    }
}

/// Empty buffers of [`READ_BYTES`] between two uses, for requests and for reads.
#[derive(Default)]
struct Pool(RefCell<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let pooled = self.0.borrow_mut().pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    fn give(&self, mut buffer: Vec<u8>) {
        let mut pooled = self.0.borrow_mut();
        if pooled.len() < READ_BUFFERS_MAX {
            buffer.clear();
            pooled.push(buffer);
        }
    }
}

/// Bytes of a whole response, read to the end.
async fn learn_page(peer: &Peer) -> Result<usize> {
    let mut stream = TcpStream::connect_addr(peer.address).await?;
    let mut request = Vec::new();
    child::request(peer, &mut request);
    stream.write_all(request).await.0?;
    let (mut buffer, mut received) = (Vec::with_capacity(READ_BYTES), 0);
    loop {
        let (size, returned) = stream.read(buffer).await;
        buffer = returned;
        match size? {
            0 => return Ok(received),
            size => received += size,
        }
    }
}

/// A timerfd made readable through the runtime, as the engine's: monoio's own timers starve.
struct Tick {
    stream: TcpStream,
    timer: OwnedFd,
}

impl Tick {
    fn start() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = timespec(TICK);
        let spec = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let stream = TcpStream::from_std(std::net::TcpStream::from(timer.try_clone()?))?;
        Ok(Self { stream, timer })
    }

    async fn wait(&self) -> Result<()> {
        self.stream.readable(false).await?;
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno).context("the timer cannot be read"),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

    /// Answers `count` connections with `page`, then ends.
    fn server(page: &'static [u8], count: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().take(count) {
                let mut stream = stream.expect("accepted");
                let _ = stream.read(&mut [0; 1_024]).expect("a request");
                stream.write_all(page).expect("answered");
            }
        });
        address
    }

    fn peer(address: SocketAddr) -> Peer {
        Peer {
            address,
            host: "a".to_owned(),
            authority: "a:80".to_owned(),
        }
    }

    #[test]
    fn the_page_is_learned_and_a_check_ends_with_it() {
        let peer = peer(server(PAGE, 2));
        block_on(async {
            let page_bytes = learn_page(&peer).await.expect("a page");
            assert_eq!(page_bytes, PAGE.len());
            let floor = Floor::new(Vec::new(), page_bytes);
            floor.check(&peer).await.expect("whole");
        })
        .expect("a runtime");
    }

    #[test]
    fn a_page_cut_short_is_a_failed_check() {
        let peer = peer(server(b"HTTP/1.1 200 OK\r\n", 1));
        let floor = Floor::new(Vec::new(), PAGE.len());
        let checked = block_on(floor.check(&peer)).expect("a runtime");
        assert!(checked.is_err());
        assert_eq!(floor.pool.0.borrow().len(), 1, "the buffer is back");
    }

    #[test]
    fn the_next_check_uses_the_buffer_of_the_last() {
        let peer = peer(server(PAGE, 2));
        let floor = Floor::new(Vec::new(), PAGE.len());
        let pooled = || {
            let pool = floor.pool.0.borrow();
            assert!(pool.iter().all(Vec::is_empty), "emptied");
            pool.iter().map(Vec::as_ptr).collect::<Vec<_>>()
        };
        let after_each = block_on(async {
            floor.check(&peer).await.expect("whole");
            let first = pooled();
            floor.check(&peer).await.expect("whole");
            (first, pooled())
        })
        .expect("a runtime");
        assert_eq!((after_each.0.len(), &after_each.0), (1, &after_each.1));
    }
}
