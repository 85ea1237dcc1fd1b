//! What the farm asks of a runtime: accept, read, write, sleep, spawn on one thread.
//!
//! Everything above is written once, generic over [`Shell`]; a shell moves bytes only.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

pub(crate) mod epoll;
pub(crate) mod uring;

/// A single-threaded runtime.
pub(crate) trait Shell: 'static {
    type Listener: 'static;
    type Stream: Stream;
    type Udp: 'static;

    /// Registers a listening socket.
    fn listener(socket: TcpListener) -> io::Result<Self::Listener>;
    /// Registers a UDP socket.
    fn udp(socket: UdpSocket) -> io::Result<Self::Udp>;
    /// The next connection.
    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
    /// The next datagram and its sender.
    async fn receive(udp: &Self::Udp, into: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    /// Sends a datagram.
    async fn send(udp: &Self::Udp, bytes: &[u8], to: SocketAddr) -> io::Result<()>;
    /// Runs `task` on this thread to its end.
    fn spawn(task: impl Future<Output = ()> + 'static);
    /// Waits.
    async fn sleep(duration: Duration);
    /// Lets other tasks and the kernel have their turn.
    async fn pause();
}

/// A connection. Dropping it closes it.
pub(crate) trait Stream: 'static {
    /// Appends what comes to `into`, within its spare capacity, of which there must be some;
    /// 0: the peer has closed.
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;
    /// Writes everything.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Sends the FIN; what the peer says can still be read.
    fn end_output(&mut self);
    /// Sends the FIN before the close, where the close alone would send it late.
    fn finish(&mut self);
    /// Makes the close send RST.
    fn reset_on_close(&mut self);
}
