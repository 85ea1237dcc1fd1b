//! The connections of one attempt, and their end.
//!
//! An operation that is given up before its end stays in the ring for a while, and its socket with
//! it: then monoio must close. Else we do, which costs less.

use std::os::fd::IntoRawFd;

use model::limits::CONNECTIONS_PER_ATTEMPT;
use monoio::net::TcpStream;
use prober::attempt::Conn;

/// Open connections by their number. Dropped, it closes them.
#[derive(Default)]
pub(super) struct Streams {
    open: [Option<TcpStream>; CONNECTIONS_PER_ATTEMPT],
    ring: Ring,
}

/// What the ring may have of these connections.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ring {
    #[default]
    Nothing,
    /// The operation under way, or one that was given up just now.
    Operation,
    /// One that was given up, whatever came after it.
    Remains,
}

impl Streams {
    /// Adds a connection.
    pub(super) fn open(&mut self, conn: Conn, stream: TcpStream) {
        self.open[usize::from(conn.0)] = Some(stream);
    }

    /// The connection, if it is open, for one operation on it; [`Streams::settle`] must follow its
    /// end.
    pub(super) fn operate(&mut self, conn: Conn) -> Option<&mut TcpStream> {
        let stream = self.open[usize::from(conn.0)].as_mut()?;
        self.ring = match self.ring {
            Ring::Nothing => Ring::Operation,
            Ring::Operation | Ring::Remains => Ring::Remains,
        };
        Some(stream)
    }

    /// The operation came to its end by itself.
    pub(super) fn settle(&mut self) {
        if self.ring == Ring::Operation {
            self.ring = Ring::Nothing;
        }
    }

    /// The connection, for whoever keeps it, unless the ring may still have something of it.
    pub(super) fn take_settled(&mut self, conn: Conn) -> Option<TcpStream> {
        let open = &mut self.open[usize::from(conn.0)];
        (self.ring == Ring::Nothing).then(|| open.take()).flatten()
    }

    /// Closes the connection.
    pub(super) fn close(&mut self, conn: Conn) {
        let stream = self.open[usize::from(conn.0)].take();
        if let Some(stream) = stream.filter(|_| self.ring == Ring::Nothing) {
            close_now(stream);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for conn in 0..CONNECTIONS_PER_ATTEMPT {
            self.close(Conn(conn as u8));
        }
    }
}

/// Closes by the system call. monoio would ask the ring to close and, as nobody waits for that,
/// ask it to cancel that. Nothing else may have the socket.
pub(super) fn close_now(stream: TcpStream) {
    // Whatever close() says, the descriptor is gone (Linux), and nothing is left to do.
    let _ = nix::unistd::close(stream.into_raw_fd());
}
