//! The shell on glommio (`io_uring`). The only module that names glommio.
//!
//! On `io_uring` on purpose by another implementation than the node's: a bug of one runtime
//! cannot hide behind the same bug on the other side of the wire.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _};
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::timer::sleep;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use rustix::net::sockopt;

use super::{Shell, Stream};

/// Registered buffers, in bytes: small, because they count against memlock (often 8 MiB).
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Entries of each ring.
const RING_DEPTH: usize = 1_024;
/// glommio's preemption timer: as good as never. When it fires between glommio's look at the
/// rings and its look at the ready tasks (a thread that loses its CPU there), glommio 0.9 runs no
/// task and parks as if there were none: an idle farm on a busy machine then sleeps until somebody
/// connects. No task here runs long.
const PREEMPT: Duration = Duration::from_hours(24);

/// glommio.
pub(crate) struct Uring {
    executor: LocalExecutor,
}

impl Uring {
    /// An executor for this thread.
    ///
    /// # Errors
    /// When the kernel, a seccomp filter or a limit refuses `io_uring`: one sentence.
    pub(crate) fn open() -> Result<Self, String> {
        let builder = LocalExecutorBuilder::new(Placement::Unbound)
            .name("farm")
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(RING_DEPTH)
            .preempt_timer(PREEMPT);
        let executor = without_panic(|| builder.make().map_err(|error| error.to_string()))?;
        Ok(Self { executor })
    }

    /// Runs `main` to its end on this thread.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.executor.run(main)
    }
}

/// glommio panics where a seccomp filter refuses its first look at the kernel's operations, which
/// is what container runtimes do: that is a refusal like any other.
fn without_panic<T>(make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(make));
    panic::set_hook(hook);
    made.unwrap_or_else(|_| Err("the kernel or a seccomp filter refuses io_uring_setup".to_owned()))
}

impl Shell for Uring {
    type Listener = glommio::net::TcpListener;
    type Stream = glommio::net::TcpStream;
    type Udp = glommio::net::UdpSocket;

    // glommio has no safe way to take a socket over, and its own listens with a backlog of 1,024.
    #[allow(unsafe_code)]
    fn listener(socket: TcpListener) -> io::Result<Self::Listener> {
        let fd = socket.into_raw_fd();
        // SAFETY: `into_raw_fd` gave up the ownership of this open listening socket, which the
        // new owner takes; nobody else has this descriptor.
        Ok(unsafe { glommio::net::TcpListener::from_raw_fd(fd) })
    }

    // glommio has no safe way to take a socket over.
    #[allow(unsafe_code)]
    fn udp(socket: UdpSocket) -> io::Result<Self::Udp> {
        let fd = socket.into_raw_fd();
        // SAFETY: `into_raw_fd` gave up the ownership of this open UDP socket, which the new
        // owner takes; nobody else has this descriptor.
        Ok(unsafe { glommio::net::UdpSocket::from_raw_fd(fd) })
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept().await.map_err(io_error)
    }

    async fn receive(udp: &Self::Udp, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        udp.recv_from(into).await.map_err(io_error)
    }

    async fn send(udp: &Self::Udp, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        udp.send_to(bytes, to).await.map(|_| ()).map_err(io_error)
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }

    async fn sleep(duration: Duration) {
        sleep(duration).await;
    }

    async fn pause() {
        // A mere yield would not look at the rings while there is a ready task, this one above all.
        sleep(Duration::ZERO).await;
    }
}

impl Stream for glommio::net::TcpStream {
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let filled = into.len();
        into.resize(into.capacity(), 0);
        let read = AsyncReadExt::read(self, &mut into[filled..]).await;
        into.truncate(filled + read.as_ref().copied().unwrap_or(0));
        read
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        AsyncWriteExt::write_all(self, bytes).await
    }

    fn end_output(&mut self) {
        // An error means that the peer was faster.
        let _ = rustix::net::shutdown(borrow(self), rustix::net::Shutdown::Write);
    }

    fn finish(&mut self) {
        // glommio polls for the next read ahead of time, and that poll keeps the socket open for
        // one more turn of the ring after the close.
        self.end_output();
    }

    fn reset_on_close(&mut self) {
        // A socket that is gone already needs no RST.
        let _ = sockopt::set_socket_linger(borrow(self), Some(Duration::ZERO));
    }
}

// The stream has no `AsFd`.
#[allow(unsafe_code)]
fn borrow(stream: &glommio::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the open descriptor, and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
