//! Flights: one per name that is being asked for, however many wait for it.
//!
//! ```text
//! queued ─► asking (≤ 3 tries per family) ─► landed ─► one answer per waiter ─► gone
//!     └──── waited too long ────────────────┘
//! ```
//!
//! It owns waiters, time limits and the queue. It knows neither the cache nor the codec.

use std::collections::VecDeque;

use model::limits::{DNS_IN_FLIGHT_MAX, DNS_QUEUE_MAX, DNS_QUEUE_WAIT_MAX_MS, DNS_TRY_MS};
use model::{FailureClass, MonoUs};

use super::answer::{DnsFailure, ResolvedName};
use super::case::Case;
use super::codec::Style;
use super::denial::Denial;
use super::line::{Negative, Positive};
use super::question::Question;
use super::{DnsSocket, DnsStream, HostId};

/// End of a list.
const NONE: u32 = u32::MAX;

/// The best that is known of why a question fails; a later one replaces a lesser one or its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// We could not ask.
    Local,
    /// Upstreams refused to answer, or are not there (no code): whoever they are, they said
    /// nothing of the name.
    Refused { rcode: Option<u16> },
    /// Nobody answered.
    Silent,
    /// An upstream answered, in vain.
    Answered {
        class: FailureClass,
        rcode: Option<u16>,
    },
}

/// A query on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// A datagram on this socket, with this id.
    Datagram(DnsSocket, u16),
    /// The question of this stream.
    Stream(DnsStream),
}

/// Addresses of the preferred family, while the other one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) positive: Positive,
    /// The end of their TTL, which began with the answer that gave them.
    pub(super) until: MonoUs,
    pub(super) ttl_ms: u64,
    /// By this flight; else they come from the cache, and nobody has answered yet.
    pub(super) asked: bool,
}

/// A name being asked for.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) host: HostId,
    /// What is asked for, if not addresses: the cache knows nothing of such a flight.
    pub(super) question: Option<Question>,
    /// Which family of the policy is asked for.
    pub(super) step: u8,
    /// Tries of this family.
    pub(super) tries: u8,
    /// Upstream of the last try.
    pub(super) upstream: u8,
    /// Upstreams that are of no more use to this question, one bit each.
    pub(super) spent: u16,
    /// The query that is owed an answer.
    pub(super) query: Option<Query>,
    /// How the question of the last try is written.
    pub(super) style: Style,
    /// Upstreams that refused this question with EDNS: they are asked without it, one bit each.
    pub(super) plain: u16,
    /// Both families are asked for, whatever the first one gives.
    pub(super) wide: bool,
    pub(super) found: Option<Found>,
    /// Why the preferred family cannot be had, while the other one is asked for.
    pub(super) failed: Option<Negative>,
    pub(super) trouble: Trouble,
    pub(super) denial: Denial,
    /// How long the emptiness of the families asked so far is remembered.
    pub(super) empty_ttl_ms: u64,
    /// Tells the time limit of this try from those of earlier ones.
    serial: u64,
    waiters: List,
}

/// Waiters in the order of their coming; links into [`Flights::waiters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct Waiter {
    waiter: u64,
    next: u32,
}

#[derive(Debug)]
struct Landed {
    host: HostId,
    waiters: List,
    result: Result<ResolvedName, DnsFailure>,
}

/// The flights of one resolver.
#[derive(Debug, Default)]
pub(super) struct Flights {
    cells: Vec<Option<Flight>>,
    free: Vec<u32>,
    waiters: Vec<Waiter>,
    free_waiters: Vec<u32>,
    queue: VecDeque<(MonoUs, u32)>,
    asking: usize,
    /// Time limits of tries, in the order of their end because all are equally long.
    limits: VecDeque<(MonoUs, u32, u64)>,
    serial: u64,
    landed: VecDeque<Landed>,
    /// Hosts of flights that have ended without waiters.
    gone: Vec<HostId>,
}

impl Flights {
    /// A flight for `host`, queued; `None` when the queue is full.
    pub(super) fn start(&mut self, host: HostId, wide: bool, now: MonoUs) -> Option<u32> {
        if self.queue.len() >= DNS_QUEUE_MAX {
            return None;
        }
        let at = self.place(host, wide);
        self.queue.push_back((now, at));
        Some(at)
    }

    /// A flight for `host` that waits for nobody: it asks already.
    pub(super) fn start_at_once(&mut self, host: HostId, wide: bool) -> u32 {
        self.asking += 1;
        self.place(host, wide)
    }

    fn place(&mut self, host: HostId, wide: bool) -> u32 {
        let flight = Flight {
            host,
            question: None,
            step: 0,
            tries: 0,
            upstream: 0,
            spent: 0,
            query: None,
            style: Style {
                case: Case::Lower,
                edns: true,
            },
            plain: 0,
            wide,
            found: None,
            failed: None,
            trouble: Trouble::Local,
            denial: Denial::Nobody,
            empty_ttl_ms: u64::MAX,
            serial: 0,
            waiters: List::EMPTY,
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.cells.push(None);
            self.cells.len() as u32 - 1
        });
        self.cells[at as usize] = Some(flight);
        at
    }

    /// The flight numbered `at`, which must not have landed.
    pub(super) fn get_mut(&mut self, at: u32) -> &mut Flight {
        self.cells[at as usize]
            .as_mut()
            .expect("only a flight in the air is asked for")
    }

    /// The next flight that may begin to ask.
    pub(super) fn next_to_ask(&mut self) -> Option<u32> {
        if self.asking >= DNS_IN_FLIGHT_MAX {
            return None;
        }
        let (_, at) = self.queue.pop_front()?;
        self.asking += 1;
        Some(at)
    }

    /// A flight that waited too long to begin; it leaves the queue.
    pub(super) fn next_overdue(&mut self, now: MonoUs) -> Option<u32> {
        let (since, _) = self.queue.front()?;
        if now < since.plus_ms(DNS_QUEUE_WAIT_MAX_MS) {
            return None;
        }
        // Counts as asking for the moment until it lands.
        self.asking += 1;
        self.queue.pop_front().map(|(_, at)| at)
    }

    /// Begins the time limit of a new try.
    pub(super) fn limit(&mut self, at: u32, now: MonoUs) {
        self.serial += 1;
        let serial = self.serial;
        self.get_mut(at).serial = serial;
        self.limits.push_back((now.plus_ms(DNS_TRY_MS), at, serial));
    }

    /// A flight whose current try is out of time.
    pub(super) fn next_timeout(&mut self, now: MonoUs) -> Option<u32> {
        while let Some(&(end, at, serial)) = self.limits.front() {
            let flight = self.cells[at as usize].as_ref();
            let is_current = flight.is_some_and(|flight| flight.serial == serial);
            if is_current && end > now {
                return None;
            }
            self.limits.pop_front();
            if is_current {
                return Some(at);
            }
        }
        None
    }

    /// Adds a waiter.
    pub(super) fn join(&mut self, at: u32, waiter: u64) {
        let entry = Waiter { waiter, next: NONE };
        let new = if let Some(free) = self.free_waiters.pop() {
            self.waiters[free as usize] = entry;
            free
        } else {
            self.waiters.push(entry);
            self.waiters.len() as u32 - 1
        };
        let mut list = self.get_mut(at).waiters;
        if list.first == NONE {
            list.first = new;
        } else {
            self.waiters[list.last as usize].next = new;
        }
        list.last = new;
        self.get_mut(at).waiters = list;
    }

    /// Drops a waiter of a flight in the air (`at`), or of one of `host` that has landed.
    pub(super) fn forget(&mut self, at: Option<u32>, host: HostId, waiter: u64) {
        if let Some(mut list) = at.map(|at| self.get_mut(at).waiters) {
            let found = self.unlink(&mut list, waiter);
            if let (true, Some(at)) = (found, at) {
                self.get_mut(at).waiters = list;
                return;
            }
        }
        for n in 0..self.landed.len() {
            let mut list = self.landed[n].waiters;
            if self.landed[n].host == host && self.unlink(&mut list, waiter) {
                self.landed[n].waiters = list;
                return;
            }
        }
    }

    /// Ends a flight; its waiters are answered by [`Flights::next_answer`].
    pub(super) fn land(&mut self, at: u32, result: Result<ResolvedName, DnsFailure>) {
        if let Some(flight) = self.cells[at as usize].take() {
            self.free.push(at);
            self.asking -= 1;
            self.landed.push_back(Landed {
                host: flight.host,
                waiters: flight.waiters,
                result,
            });
        }
    }

    /// Answers those who wait by now; the flight goes on.
    pub(super) fn serve(&mut self, at: u32, result: Result<ResolvedName, DnsFailure>) {
        let flight = self.get_mut(at);
        let waiters = std::mem::replace(&mut flight.waiters, List::EMPTY);
        let host = flight.host;
        self.landed.push_back(Landed {
            host,
            waiters,
            result,
        });
    }

    /// Whether somebody may be owed an answer.
    pub(super) fn has_landed(&self) -> bool {
        !self.landed.is_empty()
    }

    /// Ends a flight that nobody in the list of its waiters waits for.
    pub(super) fn end(&mut self, at: u32) {
        if let Some(flight) = self.cells[at as usize].take() {
            self.free.push(at);
            self.asking -= 1;
            self.gone.push(flight.host);
        }
    }

    /// The next answer that is due; addresses come one place further on for each waiter.
    pub(super) fn next_answer(&mut self) -> Option<(u64, Result<ResolvedName, DnsFailure>)> {
        let landed = self
            .landed
            .iter_mut()
            .find(|landed| landed.waiters.first != NONE)?;
        let first = landed.waiters.first;
        let result = landed.result;
        if let Ok(name) = &mut landed.result {
            name.addresses = name.addresses.rotated(1);
        }
        landed.waiters.first = self.waiters[first as usize].next;
        self.free_waiters.push(first);
        Some((self.waiters[first as usize].waiter, result))
    }

    /// The host of a flight that has answered everybody.
    pub(super) fn next_gone(&mut self) -> Option<HostId> {
        if let Some(host) = self.gone.pop() {
            return Some(host);
        }
        if self.landed.front()?.waiters.first != NONE {
            return None;
        }
        self.landed.pop_front().map(|landed| landed.host)
    }

    /// Flights in the air, queued or asking.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.asking
    }

    /// Flights that have not begun to ask.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    fn unlink(&mut self, list: &mut List, waiter: u64) -> bool {
        let (mut before, mut at) = (NONE, list.first);
        while at != NONE && self.waiters[at as usize].waiter != waiter {
            (before, at) = (at, self.waiters[at as usize].next);
        }
        if at == NONE {
            return false;
        }
        let next = self.waiters[at as usize].next;
        if before == NONE {
            list.first = next;
        } else {
            self.waiters[before as usize].next = next;
        }
        if next == NONE {
            list.last = before;
        }
        self.free_waiters.push(at);
        true
    }
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

impl Flight {
    /// Tries so far: of this family, and of the preferred one if that could not be had.
    pub(super) fn tries_made(&self) -> u8 {
        let first = self.failed.map(|first| first.tries + 1);
        first.unwrap_or(self.tries)
    }

    /// Notes a trouble, unless a better one is known.
    pub(super) fn note(&mut self, trouble: Trouble) {
        if trouble.weight() >= self.trouble.weight() {
            self.trouble = trouble;
        }
    }
}

impl Trouble {
    /// How much it says of the name.
    fn weight(self) -> u8 {
        match self {
            Self::Local => 0,
            Self::Refused { .. } => 1,
            Self::Silent => 2,
            Self::Answered { .. } => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId(3);

    fn failure() -> Result<ResolvedName, DnsFailure> {
        let class = FailureClass::DnsTimeout;
        Err(DnsFailure {
            class,
            rcode: None,
            server: None,
            tries: 3,
            many: None,
            agreed: false,
        })
    }

    fn answers(flights: &mut Flights) -> Vec<u64> {
        std::iter::from_fn(|| flights.next_answer().map(|(waiter, _)| waiter)).collect()
    }

    #[test]
    fn waiters_are_answered_in_order_and_the_forgotten_are_not() {
        for forgotten in 0..5 {
            let mut flights = Flights::default();
            let at = flights.start(HOST, false, MonoUs(0)).expect("room");
            (0..5).for_each(|waiter| flights.join(at, waiter));
            flights.forget(Some(at), HOST, forgotten);
            flights.join(at, 5);
            flights.next_to_ask();
            flights.land(at, failure());
            flights.forget(None, HOST, (forgotten + 1) % 5);
            let left = |w: &u64| *w != forgotten && *w != (forgotten + 1) % 5;
            assert_eq!(
                answers(&mut flights),
                (0..6).filter(left).collect::<Vec<_>>()
            );
            assert_eq!(
                (flights.next_gone(), flights.next_gone()),
                (Some(HOST), None)
            );
            assert_eq!(flights.free_waiters.len(), flights.waiters.len());
        }
    }

    #[test]
    fn the_queue_has_an_end_and_only_so_many_ask() {
        let mut flights = Flights::default();
        for _ in 0..DNS_IN_FLIGHT_MAX {
            flights.start(HOST, false, MonoUs(0));
            assert!(flights.next_to_ask().is_some());
        }
        for _ in 0..DNS_QUEUE_MAX {
            assert!(flights.start(HOST, false, MonoUs(0)).is_some());
            assert_eq!(flights.next_to_ask(), None);
        }
        assert_eq!(flights.start(HOST, false, MonoUs(0)), None);
        assert_eq!(flights.next_overdue(MonoUs(1_499_999)), None);
        assert!(flights.next_overdue(MonoUs(1_500_000)).is_some());
    }

    #[test]
    fn only_the_limit_of_the_current_try_counts() {
        let mut flights = Flights::default();
        let at = flights.start(HOST, false, MonoUs(0)).expect("room");
        flights.next_to_ask();
        flights.limit(at, MonoUs(0));
        flights.limit(at, MonoUs(1_000_000));
        assert_eq!(flights.next_timeout(MonoUs(2_000_000)), None);
        assert_eq!(flights.next_timeout(MonoUs(2_500_000)), Some(at));
        assert_eq!(flights.next_timeout(MonoUs(9_000_000)), None);
    }
}
