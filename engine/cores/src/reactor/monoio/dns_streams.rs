//! The resolver's TCP connections: each one a task that connects, writes one question and reads.
//!
//! They are few: only answers that a datagram cannot bring come over them.

use std::net::SocketAddr;
use std::rc::Rc;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use prober::resolver::{DnsEvent, DnsStream};

use super::dns::{Stop, until_closed};
use super::sockets::Local;
use super::{Shell, sockets};

/// Tasks by the resolver's number of their connection.
#[derive(Default)]
pub(super) struct Streams(Vec<(DnsStream, Rc<Stop>)>);

/// Starts the task of a connection.
pub(super) fn open(shell: &Rc<Shell>, stream: DnsStream, upstream: SocketAddr, bytes: Vec<u8>) {
    let stop = Rc::new(Stop::default());
    let mut streams = shell.dns_streams.borrow_mut();
    streams.0.push((stream, Rc::clone(&stop)));
    monoio::spawn(carry(Rc::clone(shell), stream, upstream, bytes, stop));
}

/// Ends the task of a connection, which closes it.
pub(super) fn close(shell: &Shell, stream: DnsStream) {
    let mut streams = shell.dns_streams.borrow_mut();
    if let Some(at) = streams.0.iter().position(|(number, _)| *number == stream) {
        streams.0.swap_remove(at).1.stop();
    }
}

/// The life of a connection; whatever ends it, the resolver is told and closes it.
async fn carry(
    shell: Rc<Shell>,
    stream: DnsStream,
    upstream: SocketAddr,
    bytes: Vec<u8>,
    stop: Rc<Stop>,
) {
    let asked = until_closed(&stop, ask(&shell, upstream, bytes)).await;
    let mut connection = match asked {
        None => return,
        Some(Ok(connection)) => connection,
        Some(Err(errno)) => return bring(&shell, DnsEvent::StreamError { stream, errno }),
    };
    let mut buffer = shell.buffer();
    while let Some((result, read)) = until_closed(&stop, connection.read(buffer)).await {
        buffer = read;
        let event = match result {
            Ok(0) => DnsEvent::StreamEof { stream },
            Ok(n) => DnsEvent::StreamBytes {
                stream,
                bytes: &buffer[..n],
            },
            Err(error) => DnsEvent::StreamError {
                stream,
                errno: sockets::errno(&error),
            },
        };
        bring(&shell, event);
        buffer.clear();
    }
}

/// Connects and writes the question; else the errno.
async fn ask(shell: &Shell, upstream: SocketAddr, bytes: Vec<u8>) -> Result<TcpStream, i32> {
    let connection = sockets::start_connect(upstream, Local::PLAIN, true);
    let mut connection = connection.map_err(|refused| refused.errno)?;
    let (result, bytes) = connection.write_all(bytes).await;
    shell.core.borrow_mut().recycle_dns(bytes);
    match result {
        Ok(_) => Ok(connection),
        Err(error) => Err(sockets::errno(&error)),
    }
}

fn bring(shell: &Rc<Shell>, event: DnsEvent<'_>) {
    shell.core.borrow_mut().dns_event(event, shell.now());
    shell.pump();
}
