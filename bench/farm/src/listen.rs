//! Opens the sockets: on the loopback interface alone, with large backlogs, and ports that stay
//! ours while their listener is closed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, listen, shutdown, sockopt,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;

/// Pending connections per listener; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 16_384;
/// Wanted receive buffer of the DNS socket, in bytes; the kernel cuts it to its limit.
const DNS_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Connections that fill a queue of one; the second one is dropped, and sees to it that the first
/// one was not.
const FILLERS: usize = 2;
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

/// A listening socket on the one IPv6 address of loopback.
///
/// # Errors
/// When the port is in use or not allowed, or this machine has no IPv6.
pub(crate) fn tcp6(port: u16) -> io::Result<TcpListener> {
    let socket = stream(AddressFamily::INET6)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0))?;
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
    state: GateState,
    /// While it is dark: a listener of its own, which the accept loop knows nothing of, and the
    /// connections that fill its queue.
    dark: Vec<OwnedFd>,
}

/// What becomes of a connection to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateState {
    /// It is refused.
    Closed,
    /// It is accepted.
    Open,
    /// It is dropped: the queue of the listener is full, and nobody accepts from it.
    Dark,
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
                        state: GateState::Closed,
                        dark: Vec::new(),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// Brings the gate into `state`; a listener that opened is for the accept loop.
    ///
    /// # Errors
    /// When the kernel refuses; the gate is then closed, or as it was.
    pub(crate) fn set(&mut self, state: GateState) -> io::Result<Option<TcpListener>> {
        if state == self.state {
            return Ok(None);
        }
        self.close()?;
        match state {
            GateState::Closed => Ok(None),
            GateState::Open => self.open().map(Some),
            GateState::Dark => self.darken().map(|()| None),
        }
    }

    fn open(&mut self) -> io::Result<TcpListener> {
        sockopt::set_socket_reuseaddr(&self.socket, true)?;
        listen(&self.socket, BACKLOG)?;
        self.state = GateState::Open;
        Ok(TcpListener::from(self.socket.try_clone()?))
    }

    /// Closes whatever listens: from here on connections are refused, and the accept loop ends
    /// with EINVAL.
    fn close(&mut self) -> io::Result<()> {
        if self.state == GateState::Open {
            shutdown(&self.socket, rustix::net::Shutdown::Read)?;
        }
        self.dark.clear();
        sockopt::set_socket_reuseaddr(&self.socket, false)?;
        self.state = GateState::Closed;
        Ok(())
    }

    /// Listens with a queue of one connection, and fills it: the kernel then drops every other
    /// attempt (`tcp_abort_on_overflow` is off by default).
    fn darken(&mut self) -> io::Result<()> {
        sockopt::set_socket_reuseaddr(&self.socket, true)?;
        let listener = bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.port), true)?;
        listen(&listener, 0)?;
        self.dark.push(listener);
        for _ in 0..FILLERS {
            let filler = stream(AddressFamily::INET)?;
            rustix::io::ioctl_fionbio(&filler, true)?;
            match connect(&filler, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)) {
                Ok(()) | Err(Errno::INPROGRESS) => self.dark.push(filler),
                Err(error) => return Err(error.into()),
            }
        }
        self.state = GateState::Dark;
        Ok(())
    }
}

fn stream(family: AddressFamily) -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, kind, flags, Some(ipproto::TCP))?;
    Ok(socket)
}

fn bound(address: SocketAddrV4, reuse: bool) -> io::Result<OwnedFd> {
    let socket = stream(AddressFamily::INET)?;
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
    use std::time::Duration;

    use super::*;

    /// Loopback answers at once; without an answer for this long, it does not.
    const PATIENCE: Duration = Duration::from_millis(100);

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
            let listener = gate
                .set(GateState::Open)
                .expect("opens")
                .expect("it listens");
            let client = connect().expect("open");
            connections.push((client, listener.accept().expect("accepted")));
            assert!(gate.set(GateState::Closed).expect("closes").is_none());
            assert_eq!(
                connect().expect_err("closed").kind(),
                io::ErrorKind::ConnectionRefused
            );
            let error = listener.accept().expect_err("shut down");
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        let error = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect_err("still ours");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_dark_gate_drops_whoever_comes_from_whatever_state_until_it_changes() {
        let mut gate = Gate::new().expect("a gate");
        let port = gate.port;
        // Any address of loopback, each with a time limit of its own.
        let connect = || {
            let address = (Ipv4Addr::new(127, 9, 8, 7), port).into();
            TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.kind())
        };
        for before in [GateState::Closed, GateState::Open, GateState::Closed] {
            let listener = gate.set(before).expect("set");
            assert!(gate.set(GateState::Dark).expect("darkens").is_none());
            if let Some(listener) = listener {
                let error = listener.accept().expect_err("shut down");
                assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
            }
            for _ in 0..3 {
                assert_eq!(connect().expect_err("dropped"), io::ErrorKind::TimedOut);
            }
            let listener = gate
                .set(GateState::Open)
                .expect("opens")
                .expect("it listens");
            let _client = connect().expect("open");
            listener.accept().expect("accepted");
            gate.set(GateState::Closed).expect("closes");
            let refused = connect().expect_err("closed");
            assert_eq!(refused, io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn ipv6_has_one_address_of_loopback() {
        let Ok(listener) = tcp6(0) else {
            eprintln!("this machine has no IPv6: it is not tested");
            return;
        };
        let address = listener.local_addr().expect("an address");
        assert_eq!(address.ip(), Ipv6Addr::LOCALHOST);
        TcpStream::connect(address).expect("it listens");
        assert!(tcp6(address.port()).is_err(), "the port is taken");
    }

    #[test]
    fn every_listener_is_on_the_loopback_interface_alone() {
        let listener = tcp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
        let mut gate = Gate::new().expect("a gate");
        let opened = gate
            .set(GateState::Open)
            .expect("opens")
            .expect("it listens");
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
