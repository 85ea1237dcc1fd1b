//! The sockets of connections that are kept. Nothing waits for them: what became of one is seen
//! when it is to be used again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use model::Now;
use monoio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use prober::attempt::{Conn, Event};

use super::Shell;
use super::streams::{Streams, close_now};
use crate::attempts::AttemptKey;
use crate::kept::KeptId;

/// By their numbers.
#[derive(Default)]
pub(super) struct Kept(RefCell<Vec<Option<TcpStream>>>);

impl Kept {
    fn put(&self, id: KeptId, stream: TcpStream) {
        let mut places = self.0.borrow_mut();
        let at = id.0 as usize;
        if places.len() <= at {
            places.resize_with(at + 1, || None);
        }
        places[at] = Some(stream);
    }

    fn take(&self, id: KeptId) -> Option<TcpStream> {
        self.0.borrow_mut().get_mut(id.0 as usize)?.take()
    }

    /// Closes a connection.
    pub(super) fn let_go(&self, id: KeptId) {
        if let Some(stream) = self.take(id) {
            close_now(stream);
        }
    }
}

/// Keeps the attempt's connection, or closes it.
pub(super) fn keep(
    shell: &Shell,
    key: AttemptKey,
    (conn, address): (Conn, SocketAddr),
    streams: &mut Streams,
    now: Now,
) {
    let Some(stream) = streams.take_settled(conn) else {
        return streams.close(conn);
    };
    let local = || Some(stream.local_addr().ok()?.ip());
    let mut core = shell.core.borrow_mut();
    let kept = core.keep(key, address, local, now);
    drop(core);
    match kept {
        Some(kept) => shell.kept.put(kept, stream),
        None => close_now(stream),
    }
}

/// Gives the kept connection to the attempt, if it is still of use.
pub(super) fn reuse(
    shell: &Shell,
    key: AttemptKey,
    (conn, address): (Conn, SocketAddr),
    kept: KeptId,
    streams: &mut Streams,
) -> Option<Event<'static>> {
    match shell.kept.take(kept) {
        Some(stream) if is_quiet(&stream) => {
            streams.open(conn, stream);
            Some(Event::Reused { conn })
        }
        ended => {
            ended.into_iter().for_each(close_now);
            shell.core.borrow_mut().reuse_failed(key, conn, address);
            None
        }
    }
}

/// Whether the connection stands and nothing can be read from it: neither bytes that nobody asked
/// for, nor its end, nor an error.
fn is_quiet(stream: &TcpStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(stream.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
}
