//! How a name is asked for: tries, upstreams, replies, and how a question ends.
//!
//! | what came | what follows |
//! |---|---|
//! | addresses, NXDOMAIN | the end |
//! | no address of the family | the policy's next family, else the end: `dns.no_address` |
//! | SERVFAIL, REFUSED, another code, TC | an upstream that has not failed, else the end |
//! | unreadable | the next upstream, while there are tries |
//! | nothing for 1.5 s | the next upstream, while there are tries |
//! | socket trouble | an upstream that has not failed, else the next one when the 1.5 s are over |
//!
//! A truncated answer ends as `dns.malformed`: there is no TCP here to fetch the rest. A question
//! that ends without an answer gives the last known addresses, marked stale, if they are at most
//! an hour past their TTL; else the failure is remembered for the shortest negative TTL, so that
//! one name cannot storm. What we could not ask at all (`connect.local`) is not remembered.

use model::limits::{DNS_NEGATIVE_TTL_MIN_MS, DNS_TRIES_MAX};
use model::{FailureClass, MonoUs};

use super::answer::{DnsFailure, ResolvedName};
use super::codec::{self, Family, Reply};
use super::flights::Trouble;
use super::line::{Negative, Positive};
use super::sockets::{Owed, Readiness};
use super::{DnsCommand, DnsSocket, IpPolicy, Resolver};

/// Errors that the network or the upstream sends back: ECONNRESET, ECONNREFUSED, EHOSTUNREACH.
const REMOTE_ERRNOS: [i32; 3] = [104, 111, 113];

impl IpPolicy {
    fn families(self) -> &'static [Family] {
        match self {
            Self::V4First => &[Family::V4, Family::V6],
            Self::V6First => &[Family::V6, Family::V4],
            Self::V4Only => &[Family::V4],
            Self::V6Only => &[Family::V6],
        }
    }
}

impl Resolver {
    /// Begins what may begin, gives up what waited too long.
    pub(super) fn advance_queue(&mut self, now: MonoUs) {
        while let Some(flight) = self.flights.next_overdue(now) {
            let class = FailureClass::LocalPressure;
            let failure = DnsFailure {
                class,
                rcode: None,
                server: None,
                tries: 0,
            };
            self.land(flight, Err(failure));
        }
        while let Some(flight) = self.flights.next_to_ask() {
            self.ask(flight, self.preferred, now);
        }
    }

    /// One try at `upstream`.
    fn ask(&mut self, flight: u32, upstream: u8, now: MonoUs) {
        self.flights.limit(flight, now);
        let entry = self.flights.get_mut(flight);
        entry.tries += 1;
        entry.upstream = upstream;
        let Some(taken) = self.sockets.take(upstream, flight, &mut self.random) else {
            return;
        };
        entry.query = Some((taken.socket, taken.id));
        match taken.readiness {
            Readiness::Open => {
                let upstream = self.sockets.upstreams()[usize::from(upstream)];
                self.commands.push_back(DnsCommand::Open {
                    socket: taken.socket,
                    upstream,
                });
            }
            Readiness::Wait => {}
            Readiness::Send => self.send(
                taken.socket,
                Owed {
                    id: taken.id,
                    flight,
                },
            ),
        }
    }

    fn send(&mut self, socket: DnsSocket, owed: Owed) {
        let flight = self.flights.get_mut(owed.flight);
        let family = self.policy.families()[usize::from(flight.step)];
        let mut bytes = self.buffers.pop().unwrap_or_default();
        codec::encode(self.hosts.name(flight.host), family, owed.id, &mut bytes);
        self.commands.push_back(DnsCommand::Send { socket, bytes });
        self.stats.queries += 1;
    }

    /// Sends what waited for the socket.
    pub(super) fn on_opened(&mut self, socket: DnsSocket) {
        let mut waiting = std::mem::take(&mut self.owed);
        waiting.extend_from_slice(self.sockets.opened(socket).unwrap_or_default());
        for owed in waiting.drain(..) {
            self.send(socket, owed);
        }
        self.owed = waiting;
        self.close_if_done(socket);
    }

    /// The socket failed to open.
    pub(super) fn on_open_failure(&mut self, socket: DnsSocket, now: MonoUs) {
        let mut lost = std::mem::take(&mut self.owed);
        if self.sockets.fail(socket, &mut lost) {
            self.stats.socket_errors += 1;
        }
        self.ask_elsewhere(lost, Trouble::Local, now);
    }

    /// The socket failed and is closed.
    pub(super) fn on_socket_error(&mut self, socket: DnsSocket, errno: i32, now: MonoUs) {
        let mut lost = std::mem::take(&mut self.owed);
        if self.sockets.fail(socket, &mut lost) {
            self.stats.socket_errors += 1;
            self.commands.push_back(DnsCommand::Close { socket });
        }
        let is_remote = REMOTE_ERRNOS.contains(&errno);
        self.ask_elsewhere(
            lost,
            if is_remote {
                Trouble::Silent
            } else {
                Trouble::Local
            },
            now,
        );
    }

    /// Queries that lost their socket go to another upstream at once; where none is left, they wait
    /// for the end of their time, so that a broken network is not asked in a busy loop.
    fn ask_elsewhere(&mut self, mut lost: Vec<Owed>, trouble: Trouble, now: MonoUs) {
        for owed in lost.drain(..) {
            let flight = self.flights.get_mut(owed.flight);
            flight.query = None;
            flight.note(trouble);
            if let Some(upstream) = self.next_unspent(owed.flight) {
                self.ask(owed.flight, upstream, now);
            }
        }
        self.owed = lost;
    }

    /// A datagram: the answer to a query of this socket, or nothing at all.
    pub(super) fn on_datagram(&mut self, socket: DnsSocket, bytes: &[u8], now: MonoUs) {
        let reply = codec::id_of(bytes).and_then(|id| {
            let flight = self.sockets.owed(socket, id)?;
            let entry = self.flights.get_mut(flight);
            let family = self.policy.families()[usize::from(entry.step)];
            Some((
                flight,
                codec::read(bytes, self.hosts.name(entry.host), family)?,
            ))
        });
        let Some((flight, reply)) = reply else {
            self.stats.ignored += 1;
            return;
        };
        self.settle(flight);
        self.count(reply);
        self.on_reply(flight, reply, now);
    }

    fn on_reply(&mut self, flight: u32, reply: Reply, now: MonoUs) {
        match reply {
            Reply::Addresses { addresses, ttl_ms } => {
                let server = self.flights.get_mut(flight).upstream;
                self.succeed(flight, &Positive { addresses, server }, ttl_ms, now);
            }
            Reply::NoSuchName { ttl_ms } => {
                self.fail(flight, FailureClass::DnsNxdomain, Some(3), ttl_ms, now);
            }
            Reply::Empty { ttl_ms } => self.on_empty(flight, ttl_ms, now),
            Reply::Failed { rcode } => {
                let class = FailureClass::DnsServfail;
                self.on_refusal(
                    flight,
                    Trouble::Answered {
                        class,
                        rcode: Some(rcode),
                    },
                    now,
                );
            }
            Reply::Truncated => {
                let class = FailureClass::DnsMalformed;
                self.on_refusal(
                    flight,
                    Trouble::Answered {
                        class,
                        rcode: Some(0),
                    },
                    now,
                );
            }
            Reply::Malformed => {
                let class = FailureClass::DnsMalformed;
                let entry = self.flights.get_mut(flight);
                entry.note(Trouble::Answered { class, rcode: None });
                self.retry(flight, now);
            }
        }
    }

    /// No address of this family: the next family is a new question.
    fn on_empty(&mut self, flight: u32, ttl_ms: u64, now: MonoUs) {
        let last = self.policy.families().len() - 1;
        let entry = self.flights.get_mut(flight);
        entry.empty_ttl_ms = entry.empty_ttl_ms.min(ttl_ms);
        if usize::from(entry.step) == last {
            let ttl_ms = entry.empty_ttl_ms;
            return self.fail(flight, FailureClass::DnsNoAddress, Some(0), ttl_ms, now);
        }
        entry.step += 1;
        (entry.tries, entry.spent, entry.trouble) = (0, 0, Trouble::Local);
        let upstream = entry.upstream;
        self.ask(flight, upstream, now);
    }

    /// An answer that asking the same upstream again would only repeat.
    fn on_refusal(&mut self, flight: u32, trouble: Trouble, now: MonoUs) {
        self.flights.get_mut(flight).note(trouble);
        match self.next_unspent(flight) {
            Some(upstream) => self.ask(flight, upstream, now),
            None => self.give_up(flight, now),
        }
    }

    /// The try's time is over.
    pub(super) fn on_timeout(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        if entry.query.is_some() {
            entry.note(Trouble::Silent);
            let silent = entry.upstream;
            self.stats.timeouts += 1;
            self.settle(flight);
            if silent == self.preferred {
                self.preferred = self.after(silent);
            }
        }
        self.retry(flight, now);
    }

    fn retry(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        if entry.tries >= DNS_TRIES_MAX {
            return self.give_up(flight, now);
        }
        let upstream = entry.upstream;
        let next = self
            .unspent_after(flight)
            .unwrap_or_else(|| self.after(upstream));
        self.ask(flight, next, now);
    }

    /// Marks the last upstream as spent and gives the next one, if a try and an upstream are left.
    fn next_unspent(&mut self, flight: u32) -> Option<u8> {
        let entry = self.flights.get_mut(flight);
        entry.spent |= 1 << entry.upstream;
        if entry.tries >= DNS_TRIES_MAX {
            return None;
        }
        self.unspent_after(flight)
    }

    fn unspent_after(&mut self, flight: u32) -> Option<u8> {
        let entry = self.flights.get_mut(flight);
        let (spent, mut upstream) = (entry.spent, entry.upstream);
        for _ in self.sockets.upstreams() {
            upstream = self.after(upstream);
            if spent & (1 << upstream) == 0 {
                return Some(upstream);
            }
        }
        None
    }

    fn after(&self, upstream: u8) -> u8 {
        (upstream + 1) % self.sockets.upstreams().len() as u8
    }

    /// Ends the question with what is known of its trouble, or with the last known addresses.
    fn give_up(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        let (host, trouble) = (entry.host, entry.trouble);
        let (class, rcode) = match trouble {
            Trouble::Local => (FailureClass::ConnectLocal, None),
            Trouble::Silent => (FailureClass::DnsTimeout, None),
            Trouble::Answered { class, rcode } => (class, rcode),
        };
        if class != FailureClass::DnsMalformed
            && let Some(old) = self.hosts.stale(host, DNS_NEGATIVE_TTL_MIN_MS, now)
        {
            return self.land(flight, Ok(self.resolved(old, true, true)));
        }
        self.fail(flight, class, rcode, DNS_NEGATIVE_TTL_MIN_MS, now);
    }

    fn succeed(&mut self, flight: u32, positive: &Positive, ttl_ms: u64, now: MonoUs) {
        let host = self.flights.get_mut(flight).host;
        self.hosts.keep(host, positive, ttl_ms, now);
        self.land(flight, Ok(self.resolved(*positive, false, false)));
    }

    fn fail(
        &mut self,
        flight: u32,
        class: FailureClass,
        rcode: Option<u16>,
        ttl_ms: u64,
        now: MonoUs,
    ) {
        let entry = self.flights.get_mut(flight);
        let negative = Negative {
            class,
            tries: entry.tries,
            server: entry.upstream,
            rcode,
        };
        let host = entry.host;
        if class != FailureClass::ConnectLocal {
            self.hosts.fail(host, negative, ttl_ms, now);
        }
        self.land(flight, Err(self.failure(negative)));
    }

    fn land(&mut self, flight: u32, result: Result<ResolvedName, DnsFailure>) {
        let host = self.flights.get_mut(flight).host;
        self.hosts.set_flight(host, None);
        self.flights.land(flight, result);
    }

    /// The flight's query is owed no answer any more.
    fn settle(&mut self, flight: u32) {
        if let Some((socket, id)) = self.flights.get_mut(flight).query.take() {
            self.sockets.settle(socket, id);
            self.close_if_done(socket);
        }
    }

    fn close_if_done(&mut self, socket: DnsSocket) {
        if self.sockets.close_if_done(socket) {
            self.commands.push_back(DnsCommand::Close { socket });
        }
    }

    fn count(&mut self, reply: Reply) {
        let stats = &mut self.stats;
        let counter = match reply {
            Reply::Addresses { .. } | Reply::Empty { .. } => &mut stats.noerror,
            Reply::NoSuchName { .. } => &mut stats.nxdomain,
            Reply::Failed { rcode: 2 } => &mut stats.servfail,
            Reply::Failed { .. } => &mut stats.other,
            Reply::Truncated => &mut stats.truncated,
            Reply::Malformed => &mut stats.malformed,
        };
        *counter += 1;
    }
}
