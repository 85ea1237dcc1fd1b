//! What a reactor carries out for the core, and the events that it brings back.

use std::net::SocketAddr;

use model::Now;
use model::record::RecordType;
use prober::attempt::{Command, Conn, ErrnoAt, Event};
use prober::resolver::{DnsCommand, DnsEvent, DnsSocket, DnsStream, HostId, Lookup, Resolver};
use rustix::io::Errno;

use super::Core;
use super::deferral::Meeting;
use super::finish::Ending;
use crate::attempts::AttemptKey;
use crate::kept::KeptId;
use crate::local_end::{Close, Source, SourceError};
use crate::networks::Network;
use crate::redirect_names::RedirectNames;

/// The next thing to do for one attempt.
#[derive(Debug)]
pub enum Io {
    /// Open a connection, and write [`Core::first_flight`] as soon as it stands.
    Connect {
        /// Names the connection.
        conn: Conn,
        /// Where to.
        address: SocketAddr,
    },
    /// Take this kept connection, if nothing can be read from it and it has not ended: then
    /// `Event::Reused`. Else close it, and say [`Core::reuse_failed`].
    Reuse {
        /// Names the connection from now on.
        conn: Conn,
        /// Where it leads.
        address: SocketAddr,
        /// The kept connection.
        kept: KeptId,
    },
    /// Keep the connection as [`Core::keep`] says, or close it.
    Keep {
        /// The connection.
        conn: Conn,
        /// Where it leads.
        address: SocketAddr,
    },
    /// Write all of it, then hand the buffer back with `Event::Sent`.
    Send {
        /// The connection.
        conn: Conn,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Read once.
    Recv {
        /// The connection.
        conn: Conn,
    },
    /// Close the connection.
    Close {
        /// The connection.
        conn: Conn,
    },
    /// Nothing until the attempt is woken.
    Park,
    /// The attempt ended: drop its connections.
    Gone,
}

/// What the resolver needs from the network.
#[derive(Debug)]
pub enum DnsIo {
    /// Open a UDP socket connected to the upstream.
    Open {
        /// Names the socket.
        socket: DnsSocket,
        /// Where to.
        upstream: SocketAddr,
    },
    /// Close the socket.
    Close {
        /// The socket.
        socket: DnsSocket,
    },
    /// Send one datagram, then hand the buffer back with [`Core::recycle_dns`].
    Send {
        /// The socket.
        socket: DnsSocket,
        /// The query.
        bytes: Vec<u8>,
    },
    /// Open a TCP connection to the upstream, write all of it as soon as it stands, hand the buffer
    /// back with [`Core::recycle_dns`], and read until told to close.
    OpenStream {
        /// Names the connection.
        stream: DnsStream,
        /// Where to.
        upstream: SocketAddr,
        /// The query.
        bytes: Vec<u8>,
    },
    /// Close the connection, if it is still open.
    CloseStream {
        /// The connection.
        stream: DnsStream,
    },
}

impl Core {
    /// The next attempt that the reactor must take up.
    pub fn next_started(&mut self) -> Option<AttemptKey> {
        self.started.pop_front()
    }

    /// The next attempt whose reactor side must look again (it ended, or has something to do).
    pub fn next_woken(&mut self) -> Option<AttemptKey> {
        self.woken.pop()
    }

    /// Whether the I/O under way for the attempt shall go on; else it is dropped, and
    /// [`Core::io`] says what comes next.
    pub fn is_undisturbed(&self, key: AttemptKey) -> bool {
        self.attempts.is_undisturbed(key)
    }

    /// What to do next for the attempt.
    pub fn io(&mut self, key: AttemptKey, now: Now) -> Io {
        loop {
            let Some(entry) = self.attempts.get_mut(key) else {
                return Io::Gone;
            };
            if entry.started.is_none() {
                self.begin(key, now);
                continue;
            }
            entry.connecting = false;
            let command = entry
                .interrupt
                .take()
                .unwrap_or_else(|| entry.attempt.next());
            match command {
                Command::Resolve => self.resolve(key, now),
                Command::Widen => self.widen(key, now),
                Command::Timer { at } => self.arm_timer(key, at),
                Command::Connect { conn, address } => {
                    (entry.connecting, entry.connected) = (true, now.mono);
                    entry.network = Some(Network::of(address.ip()));
                    let goes_on = entry.attempt.has_commands();
                    if self.meet(key, address.ip(), now) == Meeting::Postponed {
                        return Io::Gone;
                    }
                    if !self.kept.is_empty()
                        && let Some(kept) = self.take_kept(key, conn, address, now)
                    {
                        return Io::Reuse {
                            conn,
                            address,
                            kept,
                        };
                    }
                    if goes_on {
                        self.follow(key, now);
                    }
                    return Io::Connect { conn, address };
                }
                Command::Send { conn } => {
                    let bytes = entry.attempt.take_outgoing(conn);
                    self.account.bytes_out += bytes.len() as u64;
                    return Io::Send { conn, bytes };
                }
                Command::Recv { conn } => return Io::Recv { conn },
                Command::CloseConn { conn } if self.close_beside(key, conn) => {}
                Command::CloseConn { conn } => return Io::Close { conn },
                Command::Keep { conn, address } => return Io::Keep { conn, address },
                Command::Wait => return Io::Park,
                Command::Done => {
                    self.finish(key, Ending::Completed, now);
                    self.admit(now);
                    return Io::Gone;
                }
            }
        }
    }

    /// Appends what is to be written to a connection that is being opened; nothing when the
    /// attempt must first know that it stands.
    pub fn first_flight(&mut self, key: AttemptKey, conn: Conn, out: &mut Vec<u8>) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let bytes = entry.attempt.first_flight(conn);
        out.extend_from_slice(bytes);
        self.account.bytes_out += bytes.len() as u64;
    }

    /// Where the next connection of a check to `to` comes from; `None` when no local address has a
    /// port left for it.
    pub fn source(&mut self, to: SocketAddr) -> Option<Source> {
        self.sources.next(to)
    }

    /// The kernel could not let a connection to `to` come from `source`.
    pub fn source_refused(&mut self, source: Source, to: SocketAddr, error: SourceError, now: Now) {
        self.sources.refused(source, to, error, now.mono);
    }

    /// How connections of checks are closed.
    pub fn close(&self) -> Close {
        self.sources.close()
    }

    /// Brings back what came of an `Io`.
    pub fn event(&mut self, key: AttemptKey, event: Event<'_>, now: Now) {
        match &event {
            Event::Bytes { bytes, .. } => self.account.bytes_in += bytes.len() as u64,
            Event::ConnectError { errno, at, .. } if is_want_of_ours(*errno, *at) => {
                self.admission.report_unwell();
            }
            Event::ConnectError { errno, at, .. } if is_want_of_a_source(*errno, *at) => {
                self.account.sources_wanted += 1;
            }
            _ => {}
        }
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.attempt.on(event, &self.shared, now);
        }
    }

    /// Ends the attempt by its deadline or by a cancellation.
    pub(super) fn end(&mut self, key: AttemptKey, event: Event<'_>, now: Now) {
        self.event(key, event, now);
        self.finish(key, Ending::CutShort, now);
    }

    /// The attempt's own timer: when it wants something else now, its I/O under way is dropped.
    pub(super) fn interrupt(&mut self, key: AttemptKey, now: Now) {
        self.event(key, Event::Timer, now);
        self.follow(key, now);
    }

    fn resolve(&mut self, key: AttemptKey, now: Now) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        if let Some(host) = entry.host.filter(|_| entry.resolving) {
            // A hop before this one has asked for more, and did not need it.
            self.resolver.forget(host, key.waiter());
            entry.resolving = false;
        }
        if let Some(name) = entry.attempt.redirected_to() {
            let host = self.resolver.intern_foreign(name);
            if let Some(before) = entry.host.replace(host) {
                self.resolver.release(before);
            }
            hold(&mut self.redirect_names, &mut self.resolver, host);
        }
        let host = entry
            .host
            .expect("only an attempt on a name asks to resolve");
        if let Some(kind) = entry.attempt.question() {
            return self.ask(key, host, kind, now);
        }
        let lookup = self.resolver.lookup(host, key.waiter(), now.mono);
        self.on_lookup(key, lookup, now);
    }

    /// The attempt is a question of its own.
    fn ask(&mut self, key: AttemptKey, host: HostId, kind: RecordType, now: Now) {
        let refused = self
            .resolver
            .ask_records(host, kind, key.waiter(), now.mono);
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        match refused {
            None => entry.resolving = true,
            Some(failure) => {
                let event = Event::Answered(Err(failure));
                entry.attempt.on(event, &self.shared, now);
            }
        }
    }

    /// The attempt wants addresses of the other family too.
    pub(super) fn widen(&mut self, key: AttemptKey, now: Now) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let host = entry
            .host
            .expect("only an attempt on a name asks for more of its addresses");
        let lookup = self.resolver.widen(host, key.waiter(), now.mono);
        self.on_lookup(key, lookup, now);
    }

    fn on_lookup(&mut self, key: AttemptKey, lookup: Lookup, now: Now) {
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let answer = match &lookup {
            Lookup::Waiting => {
                entry.resolving = true;
                return;
            }
            Lookup::Hit(name) => Ok(name),
            Lookup::Failed(failure) => Err(*failure),
        };
        entry.attempt.on(Event::Resolved(answer), &self.shared, now);
    }

    /// Whether [`Core::dns_io`] may have something to say.
    pub fn has_dns_io(&self) -> bool {
        self.resolver.has_next()
    }

    /// What the resolver needs next; answers go to their attempts on the way.
    pub fn dns_io(&mut self, now: Now) -> Option<DnsIo> {
        loop {
            match self.resolver.next()? {
                DnsCommand::Open { socket, upstream } => {
                    return Some(DnsIo::Open { socket, upstream });
                }
                DnsCommand::Close { socket } => return Some(DnsIo::Close { socket }),
                DnsCommand::Send { socket, bytes } => return Some(DnsIo::Send { socket, bytes }),
                DnsCommand::OpenStream {
                    stream,
                    upstream,
                    bytes,
                } => {
                    return Some(DnsIo::OpenStream {
                        stream,
                        upstream,
                        bytes,
                    });
                }
                DnsCommand::CloseStream { stream } => {
                    return Some(DnsIo::CloseStream { stream });
                }
                DnsCommand::Answer { waiter, result } => {
                    let answer = result.as_ref().map_err(|failure| *failure);
                    self.bring(waiter, Event::Resolved(answer), now);
                }
                DnsCommand::Records { waiter, result } => {
                    let answer = result.as_ref().map_err(|failure| *failure);
                    self.bring(waiter, Event::Answered(answer), now);
                }
            }
        }
    }

    /// Hands an answer of the resolver to its attempt.
    fn bring(&mut self, waiter: u64, answer: Event<'_>, now: Now) {
        let key = AttemptKey::from_waiter(waiter);
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.resolving = false;
        }
        self.event(key, answer, now);
        self.follow(key, now);
    }

    /// Brings back what came of a `DnsIo`.
    pub fn dns_event(&mut self, event: DnsEvent<'_>, now: Now) {
        self.resolver.on(event, now.mono);
    }

    /// Takes the buffer of a sent query back.
    pub fn recycle_dns(&mut self, bytes: Vec<u8>) {
        self.resolver.recycle(bytes);
    }
}

/// Keeps the name that a redirect led to, for the next check that it leads there.
fn hold(names: &mut RedirectNames, resolver: &mut Resolver, host: HostId) {
    let used = names.used(host);
    if used.is_new {
        resolver.retain(host);
    }
    for gone in used.gone {
        resolver.release(gone);
    }
}

/// Whether a connection could not even be tried for want of something that fewer attempts in flight
/// would leave us: files, memory.
fn is_want_of_ours(errno: i32, at: ErrnoAt) -> bool {
    let wants = [Errno::NFILE, Errno::MFILE, Errno::NOMEM, Errno::NOBUFS];
    at == ErrnoAt::Syscall && wants.iter().any(|want| want.raw_os_error() == errno)
}

/// Whether a connection could not be tried for want of a local address or port. Ports run out
/// towards one destination at a time: fewer attempts against the others would bring none back.
fn is_want_of_a_source(errno: i32, at: ErrnoAt) -> bool {
    let wants = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE];
    at == ErrnoAt::Syscall && wants.iter().any(|want| want.raw_os_error() == errno)
}
