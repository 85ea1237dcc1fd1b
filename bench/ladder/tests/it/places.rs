//! Places on this machine that no farm is needed for.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

/// Connections that are tried until the queue of a listener is full.
const FILLERS_MAX: usize = 16;
/// Without an answer for this long, loopback does not answer.
const NO_ANSWER: Duration = Duration::from_millis(500);

/// A listener that nobody accepts from and whose queue is full: the kernel drops every further
/// attempt to connect, as a host behind a silent firewall does.
pub(crate) struct Full {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Full {
    pub(crate) fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listen(&socket, 0).expect("it listens");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("an address");
        let mut queued = Vec::new();
        for _ in 0..FILLERS_MAX {
            match TcpStream::connect_timeout(&address, NO_ANSWER) {
                Ok(stream) => queued.push(stream),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                    return Self {
                        listener,
                        _queued: queued,
                    };
                }
            }
        }
        panic!("{FILLERS_MAX} connections fit into a queue of none");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }
}
