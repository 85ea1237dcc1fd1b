//! Places on this machine where nobody listens.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

/// A port that nobody listens on, and that is given to nobody else meanwhile: it is bound.
pub struct Closed(OwnedFd);

impl Closed {
    /// One of 127.0.0.1.
    ///
    /// # Panics
    /// When the kernel has no socket or no port.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "what takes a port of the machine says so"
    )]
    pub fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// One of `address`, which this machine has.
    ///
    /// # Panics
    /// As [`Closed::new`].
    #[must_use]
    pub fn at(address: Ipv4Addr) -> Self {
        // No program that a test starts keeps it.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        bind(&socket, &SocketAddrV4::new(address, 0)).expect("a free port");
        Self(socket)
    }

    /// Where nobody listens.
    ///
    /// # Panics
    /// Never: it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let name = getsockname(&self.0).expect("it is bound");
        name.try_into().expect("an address of IPv4")
    }

    /// Closed no more, at the same place.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn open(self) -> TcpListener {
        listen(&self.0, 128).expect("it listens");
        TcpListener::from(self.0)
    }
}
