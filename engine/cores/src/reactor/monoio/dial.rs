//! Starts the connections of checks, each from the next local address of its core.

use std::net::SocketAddr;

use monoio::net::TcpStream;

use super::Shell;
use super::sockets::{Local, Refused, start_connect};

/// Local addresses that are tried for one connection. Where one has no free port the kernel says so
/// only after a search through all of them, which takes milliseconds of the core; the next check
/// goes on with the addresses that are left.
const TRIES: usize = 2;

/// Starts to connect to `to`.
pub(super) fn start(
    shell: &Shell,
    to: SocketAddr,
    speaks_first: bool,
) -> Result<TcpStream, Refused> {
    let close = shell.core.borrow().close();
    for _ in 0..TRIES {
        let source = shell.core.borrow_mut().source(to);
        let Some(source) = source else { break };
        let started = start_connect(to, Local { source, close }, speaks_first);
        let Err(Refused {
            source: Some(error),
            ..
        }) = started
        else {
            return started;
        };
        let now = shell.now();
        shell
            .core
            .borrow_mut()
            .source_refused(source, to, error, now);
    }
    Err(Refused::NO_SOURCE)
}
