//! The resolver's UDP sockets: sends are plain non-blocking syscalls, receives are tasks.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use monoio::net::udp::UdpSocket;
use prober::resolver::{DnsEvent, DnsSocket};

use super::{Shell, dns_streams, sockets};
use crate::core::DnsIo;

/// The largest answer over UDP that is read; we advertise less.
const DATAGRAM_BYTES: usize = 4_096;

/// Open sockets by the resolver's number.
#[derive(Default)]
pub(super) struct Sockets(Vec<Option<Open>>);

struct Open {
    sender: StdSocket,
    stop: Rc<Stop>,
}

/// Tells the task of a socket that the socket was closed.
#[derive(Default)]
pub(super) struct Stop {
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Stop {
    /// The task ends now.
    pub(super) fn stop(&self) {
        self.closed.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Carries out what the resolver asks for; looks at the clock only if it does.
pub(super) fn pump(shell: &Rc<Shell>) {
    while shell.core.borrow().has_dns_io() {
        let wish = shell.core.borrow_mut().dns_io(shell.now());
        match wish {
            None => return,
            Some(DnsIo::Open { socket, upstream }) => open(shell, socket, upstream),
            Some(DnsIo::Close { socket }) => close(shell, socket),
            Some(DnsIo::Send { socket, bytes }) => send(shell, socket, bytes),
            Some(DnsIo::OpenStream {
                stream,
                upstream,
                bytes,
            }) => dns_streams::open(shell, stream, upstream, bytes),
            Some(DnsIo::CloseStream { stream }) => dns_streams::close(shell, stream),
        }
    }
}

fn open(shell: &Rc<Shell>, socket: DnsSocket, upstream: SocketAddr) {
    let event = match connected(upstream) {
        Ok((sender, receiver)) => {
            let stop = Rc::new(Stop::default());
            let mut sockets = shell.dns.borrow_mut();
            let index = usize::from(socket.0);
            if sockets.0.len() <= index {
                sockets.0.resize_with(index + 1, || None);
            }
            sockets.0[index] = Some(Open {
                sender,
                stop: Rc::clone(&stop),
            });
            monoio::spawn(receive(Rc::clone(shell), socket, receiver, stop));
            DnsEvent::Opened { socket }
        }
        Err(error) => DnsEvent::OpenFailed {
            socket,
            errno: sockets::errno(&error),
        },
    };
    shell.core.borrow_mut().dns_event(event, shell.now());
}

/// A connected socket on a random port, once for sending and once for monoio to receive on.
fn connected(upstream: SocketAddr) -> io::Result<(StdSocket, UdpSocket)> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let sender = StdSocket::bind(any)?;
    sender.connect(upstream)?;
    sender.set_nonblocking(true)?;
    let receiver = UdpSocket::from_std(sender.try_clone()?)?;
    Ok((sender, receiver))
}

fn close(shell: &Shell, socket: DnsSocket) {
    let open = shell
        .dns
        .borrow_mut()
        .0
        .get_mut(usize::from(socket.0))
        .and_then(Option::take);
    if let Some(open) = open {
        open.stop.stop();
    }
}

fn send(shell: &Shell, socket: DnsSocket, bytes: Vec<u8>) {
    let sent = match shell.dns.borrow().0.get(usize::from(socket.0)) {
        Some(Some(open)) => open.sender.send(&bytes).map(drop),
        _ => Err(io::ErrorKind::NotConnected.into()),
    };
    let mut core = shell.core.borrow_mut();
    if let Err(error) = sent {
        let event = DnsEvent::SocketError {
            socket,
            errno: sockets::errno(&error),
        };
        core.dns_event(event, shell.now());
    }
    core.recycle_dns(bytes);
}

async fn receive(shell: Rc<Shell>, socket: DnsSocket, receiver: UdpSocket, stop: Rc<Stop>) {
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
    loop {
        let Some((result, returned)) = until_closed(&stop, receiver.recv(buffer)).await else {
            return;
        };
        buffer = returned;
        let event = match &result {
            Ok(n) => DnsEvent::Datagram {
                socket,
                bytes: &buffer[..*n],
            },
            Err(error) => DnsEvent::SocketError {
                socket,
                errno: sockets::errno(error),
            },
        };
        shell.core.borrow_mut().dns_event(event, shell.now());
        shell.pump();
        buffer.clear();
    }
}

/// Waits for `operation`, or until the socket is closed: then `None`, and the operation is dropped.
pub(super) async fn until_closed<F: Future>(stop: &Stop, operation: F) -> Option<F::Output> {
    let mut operation = pin!(operation);
    poll_fn(|cx| {
        if stop.closed.get() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = operation.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        *stop.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    })
    .await
}
