//! The pool of UDP sockets: which one a query takes, what each one still owes.
//!
//! ```text
//! vacant ─► opening ─► open ── 1,024 queries ─► retired ── last answer or time limit ─► closed
//! ```
//!
//! A pool place opens its socket on first use. A retired socket has left its place, which opens
//! the next one, and stays only for what it still owes. It knows flights by number only.

use std::collections::VecDeque;
use std::net::SocketAddr;

use model::limits::DNS_QUERIES_PER_SOCKET;

use super::DnsSocket;
use super::random::Random;

/// A closed number rests until so many others were closed after it: what a shell still has to say
/// of the old socket must not be taken for the new one's.
const REST: usize = 256;

/// The sockets of all upstreams.
#[derive(Debug)]
pub(super) struct Sockets {
    upstreams: Vec<SocketAddr>,
    per_upstream: usize,
    /// The socket of each place; those of one upstream stand together.
    places: Vec<Option<u16>>,
    entries: Vec<Socket>,
    /// Numbers not in use, the longest closed first.
    free: VecDeque<u16>,
}

#[derive(Debug)]
struct Socket {
    state: State,
    /// Index into `places`.
    place: usize,
    asked: u32,
    owed: Vec<Owed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Opening,
    Open,
}

/// A query without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    /// Its id; no two of one socket are alike.
    pub(super) id: u16,
    /// Who asked.
    pub(super) flight: u32,
}

/// Where a query goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) socket: DnsSocket,
    pub(super) id: u16,
    pub(super) readiness: Readiness,
}

/// What stands between a query and its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The socket must be opened; the query follows when it is.
    Open,
    /// It is being opened; the query follows when it is.
    Wait,
    /// Nothing.
    Send,
}

impl Sockets {
    /// No socket yet.
    pub(super) fn new(upstreams: Vec<SocketAddr>, per_upstream: usize) -> Self {
        let per_upstream = per_upstream.clamp(1, usize::from(u16::MAX) / upstreams.len().max(1));
        let places = vec![None; upstreams.len() * per_upstream];
        Self {
            upstreams,
            per_upstream,
            places,
            entries: Vec::new(),
            free: VecDeque::new(),
        }
    }

    /// The upstreams' addresses.
    pub(super) fn upstreams(&self) -> &[SocketAddr] {
        &self.upstreams
    }

    /// Sockets open or opening.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// A random socket to `upstream` and a random id for the flight's query; `None` when all
    /// 65,536 socket numbers are in use.
    pub(super) fn take(&mut self, upstream: u8, flight: u32, random: &mut Random) -> Option<Taken> {
        let place = usize::from(upstream) * self.per_upstream + random.below(self.per_upstream);
        let (number, readiness) = match self.places[place] {
            Some(number) if self.entries[usize::from(number)].state == State::Open => {
                (number, Readiness::Send)
            }
            Some(number) => (number, Readiness::Wait),
            None => (self.vacant(place)?, Readiness::Open),
        };
        let socket = &mut self.entries[usize::from(number)];
        let id = socket.unused_id(random);
        socket.owed.push(Owed { id, flight });
        socket.asked += 1;
        // The place is left at once: the query that fills the socket is its last.
        let is_full = socket.asked >= DNS_QUERIES_PER_SOCKET;
        self.places[place] = (!is_full).then_some(number);
        Some(Taken {
            socket: DnsSocket(number),
            id,
            readiness,
        })
    }

    /// What waits for the socket that has just opened; `None` when it was not opening.
    pub(super) fn opened(&mut self, socket: DnsSocket) -> Option<&[Owed]> {
        let entry = self.entries.get_mut(usize::from(socket.0))?;
        if entry.state != State::Opening {
            return None;
        }
        entry.state = State::Open;
        Some(&entry.owed)
    }

    /// The flight that asked with `id` on `socket`.
    pub(super) fn owed(&self, socket: DnsSocket, id: u16) -> Option<u32> {
        let entry = self.entries.get(usize::from(socket.0))?;
        entry
            .owed
            .iter()
            .find(|owed| owed.id == id)
            .map(|owed| owed.flight)
    }

    /// The query needs no answer any more.
    pub(super) fn settle(&mut self, socket: DnsSocket, id: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(socket.0)) {
            entry.owed.retain(|owed| owed.id != id);
        }
    }

    /// Whether the socket is of no more use; it then counts as closed.
    pub(super) fn close_if_done(&mut self, socket: DnsSocket) -> bool {
        let number = usize::from(socket.0);
        let Some(entry) = self.entries.get(number) else {
            return false;
        };
        let is_placed = self.places[entry.place] == Some(socket.0);
        if is_placed || entry.state != State::Open || !entry.owed.is_empty() {
            return false;
        }
        self.vacate(socket);
        true
    }

    /// Takes the socket out of use; what it owed goes to `owed`. False when it was not in use.
    pub(super) fn fail(&mut self, socket: DnsSocket, owed: &mut Vec<Owed>) -> bool {
        let number = usize::from(socket.0);
        if self
            .entries
            .get(number)
            .is_none_or(|entry| entry.state == State::Closed)
        {
            return false;
        }
        owed.append(&mut self.entries[number].owed);
        self.vacate(socket);
        true
    }

    fn vacate(&mut self, socket: DnsSocket) {
        let entry = &mut self.entries[usize::from(socket.0)];
        entry.state = State::Closed;
        if self.places[entry.place] == Some(socket.0) {
            self.places[entry.place] = None;
        }
        self.free.push_back(socket.0);
    }

    /// A socket number for `place`.
    fn vacant(&mut self, place: usize) -> Option<u16> {
        let new = u16::try_from(self.entries.len()).ok();
        if let Some(number) = new.filter(|_| self.free.len() < REST) {
            self.entries.push(Socket {
                state: State::Opening,
                place,
                asked: 0,
                owed: Vec::new(),
            });
            return Some(number);
        }
        let number = self.free.pop_front()?;
        let entry = &mut self.entries[usize::from(number)];
        (entry.state, entry.place, entry.asked) = (State::Opening, place, 0);
        Some(number)
    }
}

impl Socket {
    /// A socket is asked 1,024 times at most, so most ids are unused.
    fn unused_id(&self, random: &mut Random) -> u16 {
        loop {
            let id = random.next() as u16;
            if self.owed.iter().all(|owed| owed.id != id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(per_upstream: usize) -> (Sockets, Random) {
        let upstreams = vec!["192.0.2.1:53".parse().expect("an address")];
        (Sockets::new(upstreams, per_upstream), Random::new([5; 32]))
    }

    #[test]
    fn a_socket_is_replaced_after_1024_queries_and_closed_with_its_last_answer() {
        let (mut sockets, mut random) = pool(1);
        let taken: Vec<Taken> = (0..1_025)
            .filter_map(|flight| sockets.take(0, flight, &mut random))
            .collect();
        let first = taken[0].socket;
        assert_eq!(taken[0].readiness, Readiness::Open);
        assert!(
            taken[1..1_024]
                .iter()
                .all(|t| t.socket == first && t.readiness == Readiness::Wait)
        );
        assert_eq!((taken[1_024].socket != first, sockets.len()), (true, 2));
        assert_eq!(sockets.opened(first).map(<[Owed]>::len), Some(1_024));
        for (flight, t) in taken[..1_024].iter().enumerate() {
            assert!(!sockets.close_if_done(first));
            assert_eq!(sockets.owed(first, t.id), Some(flight as u32));
            sockets.settle(first, t.id);
        }
        assert!(sockets.close_if_done(first));
        assert_eq!(sockets.len(), 1);
    }

    #[test]
    fn a_failed_socket_gives_back_what_it_owed_once() {
        let (mut sockets, mut random) = pool(1);
        let taken = sockets.take(0, 9, &mut random).expect("a free number");
        let mut owed = Vec::new();
        assert!(sockets.fail(taken.socket, &mut owed));
        assert_eq!(
            owed,
            [Owed {
                id: taken.id,
                flight: 9
            }]
        );
        assert!(!sockets.fail(taken.socket, &mut owed));
        assert_eq!((owed.len(), sockets.len()), (1, 0));
    }

    #[test]
    fn queries_spread_over_all_sockets_of_an_upstream() {
        let (mut sockets, mut random) = pool(64);
        for flight in 0..2_000 {
            sockets.take(0, flight, &mut random);
        }
        assert_eq!(sockets.len(), 64);
    }
}
