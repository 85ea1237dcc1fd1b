//! The shell on tokio's single-threaded runtime (epoll), for machines that refuse `io_uring`.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::{Shell, Stream};

/// tokio, current thread.
pub(crate) struct Epoll;

impl Epoll {
    /// Runs `main` to its end on this thread.
    pub(crate) fn run<T>(main: impl Future<Output = T>) -> io::Result<T> {
        // How many tasks run between two looks at the sockets: with the default of 61 the accept
        // queue waits for the tasks that it spawned.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(31)
            .build()?;
        Ok(LocalSet::new().block_on(&runtime, main))
    }
}

impl Shell for Epoll {
    type Listener = tokio::net::TcpListener;
    type Stream = tokio::net::TcpStream;
    type Udp = tokio::net::UdpSocket;

    fn listener(socket: TcpListener) -> io::Result<Self::Listener> {
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket)
    }

    fn udp(socket: UdpSocket) -> io::Result<Self::Udp> {
        socket.set_nonblocking(true)?;
        tokio::net::UdpSocket::from_std(socket)
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        listener.accept().await.map(|(stream, _)| stream)
    }

    async fn receive(udp: &Self::Udp, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        udp.recv_from(into).await
    }

    async fn send(udp: &Self::Udp, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        udp.send_to(bytes, to).await.map(|_| ())
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        spawn_local(task);
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn pause() {
        yield_now().await;
    }
}

impl Stream for tokio::net::TcpStream {
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.read_buf(into).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        AsyncWriteExt::write_all(self, bytes).await
    }

    fn end_output(&mut self) {
        // An error means that the peer was faster.
        let _ = rustix::net::shutdown(&*self, rustix::net::Shutdown::Write);
    }

    fn finish(&mut self) {}

    fn reset_on_close(&mut self) {
        // A socket that is gone already needs no RST.
        let _ = sockopt::set_socket_linger(&*self, Some(Duration::ZERO));
    }
}
