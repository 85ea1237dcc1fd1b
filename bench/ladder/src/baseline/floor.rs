//! Baseline (c), the floor: connect, send, receive, close on raw monoio, with no engine at all.
//! The only module of this crate that names the runtime.
//!
//! It stops a check where the engine does, once the whole response has arrived: the length of a
//! healthy page is learned from one check before the measurement.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{FusionDriver, RuntimeBuilder};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::child::{self, ChildOptions};
use super::pace::{Pace, TICK};
use super::peers::{self, Peer};
use super::tally::{Sample, Tally};
use crate::clock::Stopwatch;

/// As large as the engine's ring and reads.
const RING_ENTRIES: u32 = 4_096;
const READ_BYTES: usize = 4_096;

/// Runs the child and returns what it measured.
pub(super) fn run(options: &ChildOptions) -> Result<Sample> {
    child::pin(options.cpu)?;
    let peers = peers::read(&options.peers)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new()
        .with_entries(RING_ENTRIES)
        .build()
        .context("monoio does not start")?;
    runtime.block_on(measure(options, peers))
}

async fn measure(options: &ChildOptions, peers: Vec<Peer>) -> Result<Sample> {
    let page_bytes = learn_page(&peers[0])
        .await
        .context("the first site does not answer")?;
    let (from, to) = options.window();
    let (peers, tally) = (Rc::new(peers), Rc::new(Tally::default()));
    let (mut pace, mut mark) = (Pace::new(options.rate), None);
    let tick = Tick::start()?;
    let watch = Stopwatch::start();
    loop {
        tick.wait().await?;
        let elapsed = watch.elapsed();
        if mark.is_none() && elapsed >= from {
            mark = Some(tally.mark());
        }
        if let Some(mark) = mark.filter(|_| elapsed >= to) {
            return Ok(mark.close(&tally));
        }
        for number in pace.due(elapsed) {
            let (peers, tally) = (Rc::clone(&peers), Rc::clone(&tally));
            monoio::spawn(async move {
                let peer = &peers[number as usize % peers.len()];
                let mut request = Vec::with_capacity(256);
                child::request(peer, &mut request);
                tally.count(check(peer.address, request, page_bytes).await.is_ok());
            });
        }
    }
}

/// One check: it ends when `page_bytes` have arrived, or fails when the peer closes before.
async fn check(address: SocketAddr, request: Vec<u8>, page_bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect_addr(address).await?;
    let (sent, mut buffer) = stream.write_all(request).await;
    sent?;
    buffer.clear();
    buffer.reserve(READ_BYTES);
    let mut received = 0;
    while received < page_bytes {
        let (size, returned) = stream.read(buffer).await;
        buffer = returned;
        match size? {
            0 => anyhow::bail!("closed after {received} bytes"),
            size => received += size,
        }
    }
    Ok(())
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
    use std::net::TcpListener;

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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        RuntimeBuilder::<FusionDriver>::new()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn the_page_is_learned_and_a_check_ends_with_it() {
        let address = server(PAGE, 2);
        let peer = Peer {
            address,
            host: "a".to_owned(),
            authority: "a:80".to_owned(),
        };
        block_on(async {
            let page_bytes = learn_page(&peer).await.expect("a page");
            assert_eq!(page_bytes, PAGE.len());
            check(address, b"GET / HTTP/1.1\r\n\r\n".to_vec(), page_bytes)
                .await
                .expect("whole");
        });
    }

    #[test]
    fn a_page_cut_short_is_a_failed_check() {
        let address = server(b"HTTP/1.1 200 OK\r\n", 1);
        let checked = block_on(check(
            address,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            PAGE.len(),
        ));
        assert!(checked.is_err());
    }
}
