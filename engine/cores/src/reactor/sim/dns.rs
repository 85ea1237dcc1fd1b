//! The simulator's datagrams and streams to resolvers: carries the core's queries to the world, and
//! its answers back.

use prober::resolver::{DnsEvent, DnsSocket, DnsStream};

use super::{Happening, Sim, World};
use crate::core::DnsIo;

/// An answer over a DNS stream, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct DnsReply {
    bytes: Vec<u8>,
    sent: usize,
    piece: usize,
}

/// `ECONNREFUSED`.
const CONNECTION_REFUSED: i32 = 111;

impl<W: World> Sim<W> {
    pub(super) fn answered(&mut self, socket: u16, datagram: usize) {
        let bytes = std::mem::take(&mut self.datagrams[datagram]);
        let event = DnsEvent::Datagram {
            socket: DnsSocket(socket),
            bytes: &bytes,
        };
        self.core.dns_event(event, self.now());
        self.datagrams[datagram] = bytes;
        self.free_datagrams.push(datagram);
    }

    /// The next piece of an answer; the resolver does not look at streams that it has closed.
    pub(super) fn streamed(&mut self, stream: DnsStream, at: usize) {
        let now = self.now();
        let reply = &mut self.dns_replies[at];
        let end = reply.bytes.len().min(reply.sent + reply.piece.max(1));
        let piece = reply.sent..end;
        reply.sent = end;
        if piece.is_empty() {
            *reply = DnsReply::default();
            let event = DnsEvent::StreamEof { stream };
            return self.core.dns_event(event, now);
        }
        let bytes = &reply.bytes[piece];
        let event = DnsEvent::StreamBytes { stream, bytes };
        self.core.dns_event(event, now);
        self.schedule_dns(10, stream, at);
    }

    fn open_stream(&mut self, stream: DnsStream, bytes: Vec<u8>) {
        let mut answer = vec![0, 0];
        let said = self.world.answer_stream(&bytes[2..], &mut answer, self.now);
        self.core.recycle_dns(bytes);
        let Some((after_us, piece)) = said else {
            let errno = CONNECTION_REFUSED;
            let event = DnsEvent::StreamError { stream, errno };
            return self.core.dns_event(event, self.now());
        };
        let length = (answer.len() - 2) as u16;
        answer[..2].copy_from_slice(&length.to_be_bytes());
        let at = self.dns_replies.len();
        self.dns_replies.push(DnsReply {
            bytes: answer,
            sent: 0,
            piece,
        });
        self.schedule_dns(after_us, stream, at);
    }

    fn schedule_dns(&mut self, after_us: u64, stream: DnsStream, reply: usize) {
        let stream = stream.0;
        self.schedule_at(after_us, u64::MAX, Happening::Streamed { stream, reply });
    }

    pub(super) fn obey_dns(&mut self, wish: DnsIo) {
        match wish {
            DnsIo::Open { socket, .. } => {
                self.core.dns_event(DnsEvent::Opened { socket }, self.now());
            }
            DnsIo::Close { .. } | DnsIo::CloseStream { .. } => {}
            DnsIo::OpenStream { stream, bytes, .. } => self.open_stream(stream, bytes),
            DnsIo::Send { socket, bytes } => {
                let at = self.free_datagrams.pop().unwrap_or_else(|| {
                    self.datagrams.push(Vec::new());
                    self.datagrams.len() - 1
                });
                self.datagrams[at].clear();
                match self.world.answer(&bytes, &mut self.datagrams[at], self.now) {
                    Some(after_us) => {
                        let happening = Happening::Answered {
                            socket: socket.0,
                            datagram: at,
                        };
                        self.schedule_at(after_us, u64::MAX, happening);
                    }
                    None => self.free_datagrams.push(at),
                }
                self.core.recycle_dns(bytes);
            }
        }
    }
}
