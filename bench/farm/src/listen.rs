//! Opens the sockets: on the loopback interface alone, with large backlogs, and ports that stay
//! ours while their listener is closed.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, shutdown, sockopt,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;

/// Pending connections per listener; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 16_384;
/// Wanted receive buffer of the DNS socket, in bytes; the kernel cuts it to its limit.
const DNS_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// How often a free port pair is looked for.
const PAIR_TRIES: usize = 32;

/// The interface that every TCP socket is tied to: all of 127.0.0.0/8 reaches the farm, and no
/// other machine does.
const INTERFACE: &[u8] = b"lo";

/// A listening socket on `address`; port 0 means any.
///
/// # Errors
/// When the port is in use or not allowed.
pub(crate) fn tcp(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = bound(address, true)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A UDP socket and a TCP listener on the same loopback port.
///
/// # Errors
/// When no port is free on both.
pub(crate) fn dns(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..PAIR_TRIES {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        let chosen = udp.local_addr()?.port();
        match tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, chosen)) {
            Ok(tcp) => {
                sockopt::set_socket_recv_buffer_size(&udp, DNS_BUFFER_BYTES)?;
                return Ok((udp, tcp));
            }
            Err(error) if port != 0 => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// A port whose listener comes and goes. One socket stays bound to it all the time, so that the
/// port is given to nobody else meanwhile: neither to a client as its ephemeral port nor to
/// another listener.
///
/// `SO_REUSEADDR` is on only while it listens: its connections inherit it, which allows the next
/// opening beside those that still live; off, it keeps every other socket away.
#[derive(Debug)]
pub(crate) struct Gate {
    socket: OwnedFd,
    pub(crate) port: u16,
    open: bool,
}

impl Gate {
    /// A closed gate on a free port.
    ///
    /// # Errors
    /// When no free port is found.
    pub(crate) fn new() -> io::Result<Self> {
        let mut last = None;
        for _ in 0..PAIR_TRIES {
            // Bound by its number: a port that the kernel chose is given up when the listener
            // closes (SOCK_BINDPORT_LOCK is set for asked-for ports only).
            let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
                .local_addr()?
                .port();
            match bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, free), false) {
                Ok(socket) => {
                    return Ok(Self {
                        socket,
                        port: free,
                        open: false,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Opens the listener; the one returned is for the accept loop.
    ///
    /// # Errors
    /// When the kernel refuses to listen.
    pub(crate) fn open(&mut self) -> io::Result<TcpListener> {
        sockopt::set_socket_reuseaddr(&self.socket, true)?;
        listen(&self.socket, BACKLOG)?;
        self.open = true;
        Ok(TcpListener::from(self.socket.try_clone()?))
    }

    /// Closes the listener: from here on connections are refused, and the accept loop ends with
    /// EINVAL.
    ///
    /// # Errors
    /// When the kernel refuses the shutdown.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        shutdown(&self.socket, rustix::net::Shutdown::Read)?;
        sockopt::set_socket_reuseaddr(&self.socket, false)?;
        self.open = false;
        Ok(())
    }
}

fn bound(address: SocketAddrV4, reuse: bool) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    SockRef::from(&socket).bind_device(Some(INTERFACE))?;
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Raises the limit of open files to what is allowed and returns it.
pub(crate) fn raise_nofile() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.map_or(usize::MAX, |files| files as usize)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_gate_refuses_while_it_is_closed_and_keeps_its_port() {
        let mut gate = Gate::new().expect("a gate");
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port));
        assert_eq!(
            connect().expect_err("closed").kind(),
            io::ErrorKind::ConnectionRefused
        );
        let port = gate.port;
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let mut connections = Vec::new();
        for _ in 0..3 {
            let listener = gate.open().expect("opens");
            let client = connect().expect("open");
            connections.push((client, listener.accept().expect("accepted")));
            gate.close().expect("closes");
            assert_eq!(
                connect().expect_err("closed").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let error = listener.accept().expect_err("shut down");
            assert_eq!(
                error.raw_os_error(),
                Some(rustix::io::Errno::INVAL.raw_os_error())
            );
        }
        let error = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect_err("still ours");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn every_listener_is_on_the_loopback_interface_alone() {
        let listener = tcp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
        let mut gate = Gate::new().expect("a gate");
        let opened = gate.open().expect("opens");
        for listener in [listener, opened] {
            let device = SockRef::from(&listener).device().expect("known");
            assert_eq!(device.as_deref(), Some(INTERFACE));
            let port = listener.local_addr().expect("an address").port();
            let far = Ipv4Addr::new(127, 200, 3, 4);
            TcpStream::connect((far, port)).expect("all of 127.0.0.0/8 is served");
        }
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let taken = tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let port = taken.local_addr().expect("an address").port();
        let error = tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
