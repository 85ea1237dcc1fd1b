//! Sockets and the tick, on rustix syscalls and monoio readiness.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use prober::attempt::ErrnoAt;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::local_end::{Close, Source, SourceError};

/// Of a connection that stood no more when it was looked at: `ENOTCONN`.
const NOT_CONNECTED: i32 = Errno::NOTCONN.raw_os_error();
/// Of a connection that we lost sight of: `EBADF`, which never speaks of the remote.
pub(super) const NO_STREAM: i32 = Errno::BADF.raw_os_error();

/// The errno inside `error`; errors that the kernel did not make are our own: `ECANCELED`.
pub(super) fn errno(error: &io::Error) -> i32 {
    error
        .raw_os_error()
        .unwrap_or(Errno::CANCELED.raw_os_error())
}

/// Our end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub(super) source: Source,
    pub(super) close: Close,
}

impl Local {
    /// What the kernel does by itself; costs no system call.
    pub(super) const PLAIN: Self = Self {
        source: Source::Kernel,
        close: Close::Fin,
    };
}

/// Why a connection could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) errno: i32,
    pub(super) at: ErrnoAt,
    /// When it is for the source; another one may do.
    pub(super) source: Option<SourceError>,
}

impl Refused {
    /// For want of a source.
    pub(super) const NO_SOURCE: Self = Self {
        errno: Errno::ADDRNOTAVAIL.raw_os_error(),
        at: ErrnoAt::Syscall,
        source: None,
    };
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self {
            errno: error.raw_os_error(),
            at: ErrnoAt::Syscall,
            source: None,
        }
    }
}

/// Starts to connect, by hand: an errno of `connect()` itself is our own trouble, one that comes
/// later is the remote's, and monoio's connect does not tell them apart.
///
/// With `speaks_first` the kernel keeps back the bare ACK that ends the handshake: the bytes that
/// follow at once carry it, one packet less for both sides.
pub(super) fn start_connect(
    address: SocketAddr,
    local: Local,
    speaks_first: bool,
) -> Result<TcpStream, Refused> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if speaks_first {
        sockopt::set_tcp_quickack(&fd, false)?;
    }
    if local.close == Close::Reset {
        sockopt::set_socket_linger(&fd, Some(Duration::ZERO))?;
    }
    if let Source::Address(source) = local.source {
        bind(&fd, source, address)?;
    }
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        // Loopback and some unreachable routes answer inside the call: the remote said it.
        Err(refused @ Errno::CONNREFUSED) => {
            return Err(Refused {
                at: ErrnoAt::Async,
                ..refused.into()
            });
        }
        Err(error @ (Errno::ADDRNOTAVAIL | Errno::ADDRINUSE)) => {
            return Err(Refused {
                source: Some(SourceError::Spent),
                ..error.into()
            });
        }
        Err(error) => return Err(error.into()),
    }
    TcpStream::from_std(StdStream::from(fd)).map_err(|error| Refused {
        errno: errno(&error),
        at: ErrnoAt::Syscall,
        source: None,
    })
}

/// Lets the connection to `to` come from `source`. The port is chosen at the connect, when its
/// destination is known: so one port serves many destinations. A kernel that cannot do that gives
/// each connection a port of its own.
fn bind(fd: &OwnedFd, source: IpAddr, to: SocketAddr) -> Result<(), Refused> {
    let _ = setsockopt(fd, IpBindAddressNoPort, &true);
    let source = match source {
        IpAddr::V4(v4) if to.is_ipv6() => v4.to_ipv6_mapped().into(),
        source => source,
    };
    let refused = |error: Errno| Refused {
        source: match error {
            Errno::ADDRNOTAVAIL => Some(SourceError::Absent),
            Errno::ADDRINUSE => Some(SourceError::Spent),
            _ => None,
        },
        ..error.into()
    };
    rustix::net::bind(fd, &SocketAddr::new(source, 0)).map_err(refused)
}

/// Waits until the connection stands; else the remote's errno.
pub(super) async fn established(stream: &mut TcpStream) -> Result<(), i32> {
    stream
        .writable(false)
        .await
        .map_err(|error| errno(&error))?;
    if stream.peer_addr().is_ok() {
        return Ok(());
    }
    // Not connected: the pending error of the socket is what a read returns.
    let (result, _) = stream.read(Vec::with_capacity(1)).await;
    Err(result.err().map_or(NOT_CONNECTED, |error| errno(&error)))
}

/// A timerfd that is readable once per so many ticks.
pub(super) struct Tick {
    readable: TcpStream,
    fd: OwnedFd,
    every: u32,
}

impl Tick {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // monoio waits for readiness of sockets only; a timerfd is ready in the same way.
        let readable = TcpStream::from_std(StdStream::from(fd.try_clone()?))?;
        let mut tick = Self {
            readable,
            fd,
            every: 0,
        };
        tick.set(1)?;
        Ok(tick)
    }

    /// Sets after how many ticks it is readable, and again after as many.
    pub(super) fn set(&mut self, ticks: u32) -> io::Result<()> {
        if self.every == ticks {
            return Ok(());
        }
        let every = Timespec {
            tv_sec: 0,
            tv_nsec: (u64::from(ticks) * model::limits::TICK_MS * 1_000_000) as i64,
        };
        let spec = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        self.every = ticks;
        Ok(())
    }

    /// Waits for the next tick; ticks that were missed count as one.
    pub(super) async fn elapsed(&self) -> io::Result<()> {
        loop {
            self.readable.readable(false).await?;
            let mut expirations = [0u8; 8];
            match rustix::io::read(&self.fd, &mut expirations) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};

    use monoio::io::AsyncWriteRentExt;
    use monoio::{LegacyDriver, RuntimeBuilder};

    use super::*;

    /// A machine that stands still for 200 ms within a try lets the kernel lose its patience with
    /// the ACK that it keeps back, and one that is busy may bring the other ACK late; neither
    /// happens each time.
    const TRIES: usize = 20;

    #[test]
    fn an_error_that_the_kernel_did_not_make_is_our_own() {
        assert_eq!(errno(&io::Error::from_raw_os_error(104)), 104);
        let made_here = io::Error::other("a task went away");
        assert_eq!(errno(&made_here), Errno::CANCELED.raw_os_error());
        assert_eq!(NO_STREAM, Errno::BADF.raw_os_error());
    }

    /// The only way to a reset of the connect itself on this machine: whoever speaks first learns
    /// of it by what it says, on a connection that stood.
    #[test]
    fn a_connection_that_is_reset_before_we_looked_never_stood() {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().build();
        let found = runtime.expect("epoll is everywhere").block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let mut stream = start_connect(address, Local::PLAIN, false).expect("it listens");
            let (peer, _) = listener.accept().expect("it came");
            sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("a socket");
            drop(peer);
            let is_reset = |_| {
                std::thread::yield_now();
                stream.peer_addr().is_err()
            };
            assert!((0..1_000_000).any(is_reset), "the reset does not come");
            established(&mut stream).await
        });
        assert_eq!(found, Err(Errno::CONNRESET.raw_os_error()));
    }

    async fn connected(address: SocketAddr, speaks_first: bool) -> TcpStream {
        let mut stream =
            start_connect(address, Local::PLAIN, speaks_first).expect("loopback connects");
        established(&mut stream).await.expect("it listens");
        stream
    }

    /// Connects one that speaks first, and after it one that does not. Both are established on
    /// their own side then; says whether on the other side only the later one is, and the earlier
    /// one follows with its first byte.
    async fn is_overtaken() -> io::Result<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut speaker = connected(address, true).await;
        let silent = connected(address, false).await;
        listener.set_nonblocking(true)?;
        match listener.accept() {
            Ok((_, from)) if from == silent.local_addr()? => {}
            _ => return Ok(false),
        }
        if listener.accept().is_ok() {
            return Ok(false);
        }
        let (written, _) = speaker.write_all(b"x".to_vec()).await;
        written?;
        listener.set_nonblocking(false)?;
        let (mut spoken, from) = listener.accept()?;
        assert_eq!(from, speaker.local_addr()?);
        let mut said = [0];
        spoken.read_exact(&mut said)?;
        assert_eq!(said, *b"x");
        Ok(true)
    }

    #[test]
    fn only_a_connection_that_speaks_first_keeps_back_its_ack_until_it_speaks() {
        let runtime = RuntimeBuilder::<LegacyDriver>::new().build();
        let overtaken = runtime.expect("epoll is everywhere").block_on(async {
            for _ in 0..TRIES {
                if is_overtaken().await.expect("loopback works") {
                    return true;
                }
            }
            false
        });
        assert!(overtaken, "not once in {TRIES} tries");
    }
}
