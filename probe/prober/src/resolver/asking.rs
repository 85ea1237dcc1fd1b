//! How a name is asked for: tries, upstreams, replies.
//!
//! | what came | what follows |
//! |---|---|
//! | addresses, none | the end of the question |
//! | NXDOMAIN | another upstream, see [`denial`](super::denial) |
//! | TC, or our question in other letters | the same upstream by a stream, in the same try |
//! | FORMERR, NOTIMP | once the same upstream without EDNS, which is kept to if it helps |
//! | SERVFAIL, REFUSED, another code | an upstream that has not failed, else the end |
//! | unreadable | the next upstream, while there are tries |
//! | nothing for 1.5 s | the next upstream, while there are tries |
//! | socket trouble | an upstream that has not failed, else the next one when the 1.5 s are over |
//!
//! What refuses every question (REFUSED, NOTIMP, FORMERR) or does not listen is a resolver that
//! does not work for us: where no upstream does better, the failure is theirs, not the name's.
//!
//! New questions go to the upstreams in turn, see [`Turns`](super::turns::Turns).
//!
//! Names begin as the cap on queries and the number of those under way allow; until then they wait
//! in the queue.

use model::limits::{DNS_STYLES_MS, DNS_TRIES_MAX};
use model::{FailureClass, MonoUs};

use super::case::Case;
use super::codec::{self, Family, Reply, Style};
use super::flights::{Query, Trouble};
use super::sockets::{Owed, Readiness};
use super::streams::Reason;
use super::{DnsCommand, DnsSocket, IpPolicy, Resolver};

/// Errors that the network or the upstream sends back: EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH.
const REMOTE_ERRNOS: [i32; 4] = [32, 104, 110, 113];
/// ECONNREFUSED: nobody listens there.
const NO_LISTENER: i32 = 111;

impl IpPolicy {
    pub(super) fn families(self) -> &'static [Family] {
        match self {
            Self::V4First | Self::Both => &[Family::V4, Family::V6],
            Self::V6First => &[Family::V6, Family::V4],
            Self::V4Only => &[Family::V4],
            Self::V6Only => &[Family::V6],
        }
    }
}

impl Trouble {
    /// What an errno of a socket says.
    pub(super) fn of(errno: i32) -> Self {
        if errno == NO_LISTENER {
            Self::Refused { rcode: None }
        } else if REMOTE_ERRNOS.contains(&errno) {
            Self::Silent
        } else {
            Self::Local
        }
    }
}

impl Resolver {
    /// Begins what may begin, gives up what waited too long.
    pub(super) fn advance_queue(&mut self, now: MonoUs) {
        while let Some(flight) = self.flights.next_overdue(now) {
            self.give_up_queued(flight, now);
        }
        self.bucket.refill(now);
        while self.bucket.has_token()
            && let Some(flight) = self.flights.next_to_ask()
        {
            let upstream = self.turns.take(now);
            self.ask(flight, upstream, now);
        }
    }

    /// One try at `upstream`.
    pub(super) fn ask(&mut self, flight: u32, upstream: u8, now: MonoUs) {
        self.flights.limit(flight, now);
        self.bucket.take();
        if self.styles_until <= now {
            (self.plain, self.letterless) = (0, 0);
            self.styles_until = now.plus_ms(DNS_STYLES_MS);
        }
        let entry = self.flights.get_mut(flight);
        entry.tries += 1;
        entry.upstream = upstream;
        entry.style = Style {
            case: if self.letterless >> upstream & 1 == 1 {
                Case::Lower
            } else {
                Case::random(&mut self.random)
            },
            edns: (self.plain | entry.plain) >> upstream & 1 == 0,
        };
        let Some(taken) = self.sockets.take(upstream, flight, &mut self.random) else {
            return;
        };
        entry.query = Some(Query::Datagram(taken.socket, taken.id));
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
        let family = self.family(owed.flight);
        let flight = self.flights.get_mut(owed.flight);
        let mut bytes = self.buffers.pop().unwrap_or_default();
        let name = self.hosts.name(flight.host);
        codec::encode(name, flight.style, family, owed.id, &mut bytes);
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
        self.ask_all_elsewhere(lost, Trouble::Local, now);
    }

    /// The socket failed and is closed.
    pub(super) fn on_socket_error(&mut self, socket: DnsSocket, errno: i32, now: MonoUs) {
        let mut lost = std::mem::take(&mut self.owed);
        if self.sockets.fail(socket, &mut lost) {
            self.stats.socket_errors += 1;
            self.commands.push_back(DnsCommand::Close { socket });
        }
        self.ask_all_elsewhere(lost, Trouble::of(errno), now);
    }

    fn ask_all_elsewhere(&mut self, mut lost: Vec<Owed>, trouble: Trouble, now: MonoUs) {
        for owed in lost.drain(..) {
            self.flights.get_mut(owed.flight).query = None;
            self.ask_elsewhere(owed.flight, trouble, now);
        }
        self.owed = lost;
    }

    /// A query that lost its socket goes to another upstream at once; where none is left, it waits
    /// for the end of its time, so that a broken network is not asked in a busy loop. Nobody waits
    /// for a second opinion that is not to be had.
    pub(super) fn ask_elsewhere(&mut self, flight: u32, trouble: Trouble, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        entry.note(trouble);
        if trouble != Trouble::Local {
            self.turns.note_silent(entry.upstream, now);
        }
        if let Some(upstream) = self.next_unspent(flight) {
            self.ask(flight, upstream, now);
        } else {
            self.end_by_denial(flight, now);
        }
    }

    /// A datagram: the answer to a query of this socket, or nothing at all.
    pub(super) fn on_datagram(&mut self, socket: DnsSocket, bytes: &[u8], now: MonoUs) {
        let said = codec::id_of(bytes).and_then(|id| {
            let flight = self.sockets.owed(socket, id)?;
            let family = self.family(flight);
            let entry = self.flights.get_mut(flight);
            let name = self.hosts.name(entry.host);
            Some((flight, codec::read(bytes, name, entry.style.case, family)?))
        });
        let Some((flight, said)) = said else {
            self.stats.ignored += 1;
            return;
        };
        self.settle(flight);
        self.turns
            .note_answer(self.flights.get_mut(flight).upstream);
        if !said.spelled {
            self.stats.misspelled += 1;
            return self.ask_by_stream(flight, Reason::Misspelled, now);
        }
        self.count(&said.reply);
        self.on_reply(flight, said.reply, now);
    }

    pub(super) fn on_reply(&mut self, flight: u32, reply: Reply, now: MonoUs) {
        self.learn_style(flight, &reply);
        if reply.knows_name() {
            self.on_known_name(flight);
        }
        match reply {
            Reply::Addresses { addresses, ttl_ms } => {
                self.on_addresses(flight, addresses, ttl_ms, now);
            }
            Reply::Records(values) => self.on_records(flight, values, now),
            Reply::NoSuchName { ttl_ms } => self.on_no_such_name(flight, ttl_ms, now),
            Reply::Empty { ttl_ms } => self.on_empty(flight, ttl_ms, now),
            Reply::Failed { rcode } => self.on_code(flight, rcode, now),
            Reply::Truncated => self.ask_by_stream(flight, Reason::Truncated, now),
            Reply::Malformed => {
                let class = FailureClass::DnsMalformed;
                let entry = self.flights.get_mut(flight);
                entry.note(Trouble::Answered { class, rcode: None });
                self.retry(flight, now);
            }
        }
    }

    /// The upstream failed or refused.
    fn on_code(&mut self, flight: u32, rcode: u16, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        if !codec::is_refusal(rcode) {
            let (class, rcode) = (FailureClass::DnsServfail, Some(rcode));
            return self.on_refusal(flight, Trouble::Answered { class, rcode }, now);
        }
        let trouble = Trouble::Refused { rcode: Some(rcode) };
        let is_left = entry.style.edns && entry.tries < DNS_TRIES_MAX;
        if !is_left || !codec::may_mean_edns(rcode) {
            return self.on_refusal(flight, trouble, now);
        }
        entry.note(trouble);
        entry.plain |= 1 << entry.upstream;
        let upstream = entry.upstream;
        self.ask(flight, upstream, now);
    }

    /// An upstream that refused a question with EDNS and answers it without is asked without for
    /// some time: that one name was answered so says little of the others.
    fn learn_style(&mut self, flight: u32, reply: &Reply) {
        let entry = self.flights.get_mut(flight);
        let learned = entry.plain & 1 << entry.upstream;
        if learned != 0 && !matches!(reply, Reply::Failed { .. } | Reply::Malformed) {
            self.plain |= learned;
        }
    }

    /// An answer that asking the same upstream again would only repeat.
    pub(super) fn on_refusal(&mut self, flight: u32, trouble: Trouble, now: MonoUs) {
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
            self.turns.note_silent(silent, now);
            self.stand_in(flight, now);
        }
        self.retry(flight, now);
    }

    fn retry(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        if entry.tries >= DNS_TRIES_MAX || entry.denial.is_by_one() {
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
        if entry.tries >= DNS_TRIES_MAX || entry.denial.is_by_one() {
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

    /// The flight's query is owed no answer any more.
    fn settle(&mut self, flight: u32) {
        match self.flights.get_mut(flight).query.take() {
            Some(Query::Datagram(socket, id)) => {
                self.sockets.settle(socket, id);
                self.close_if_done(socket);
            }
            Some(Query::Stream(stream)) => self.drop_stream(stream),
            None => {}
        }
    }

    fn close_if_done(&mut self, socket: DnsSocket) {
        if self.sockets.close_if_done(socket) {
            self.commands.push_back(DnsCommand::Close { socket });
        }
    }

    pub(super) fn count(&mut self, reply: &Reply) {
        let stats = &mut self.stats;
        let counter = match reply {
            Reply::Addresses { .. } | Reply::Records(_) | Reply::Empty { .. } => &mut stats.noerror,
            Reply::NoSuchName { .. } => &mut stats.nxdomain,
            Reply::Failed { rcode: 2 } => &mut stats.servfail,
            Reply::Failed { .. } => &mut stats.other,
            Reply::Truncated => &mut stats.truncated,
            Reply::Malformed => &mut stats.malformed,
        };
        *counter += 1;
    }
}
