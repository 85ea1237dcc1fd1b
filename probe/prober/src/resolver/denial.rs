//! Names that do not exist: what one upstream says of that is asked of another one.
//!
//! | after the first NXDOMAIN | the failure |
//! |---|---|
//! | another upstream says the same | is agreed |
//! | another one knows the name | is none: that one's word counts, and this is counted |
//! | another one fails, or is silent for one try | is the word of one |
//! | no other one is well, a try is not left, or names wait for their first query | the same |
//!
//! So no question has more tries than before, no name waits for another one's second opinion, and
//! no more than twice as many queries are sent as there are answers of this kind.

use model::limits::DNS_TRIES_MAX;
use model::{FailureClass, MonoUs};

use super::Resolver;
use super::line::Negative;

/// The response code NXDOMAIN.
const NXDOMAIN: u16 = 3;

/// What upstreams said of whether the name exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Denial {
    /// Nobody said that it does not exist.
    #[default]
    Nobody,
    /// One did, to be remembered for so long.
    By { upstream: u8, ttl_ms: u64 },
    /// Two did.
    Agreed,
    /// One did, and another one knows it.
    Disputed,
}

impl Resolver {
    /// An upstream says that the name does not exist.
    pub(super) fn on_no_such_name(&mut self, flight: u32, ttl_ms: u64, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        let upstream = entry.upstream;
        match entry.denial {
            Denial::By {
                upstream: first,
                ttl_ms: first_ms,
            } if first != upstream => {
                entry.denial = Denial::Agreed;
                self.deny(flight, ttl_ms.min(first_ms), now);
            }
            Denial::Nobody if entry.found.is_none() => {
                entry.denial = Denial::By { upstream, ttl_ms };
                entry.spent |= 1 << upstream;
                match self.other_to_ask(flight, now) {
                    Some(other) => self.ask(flight, other, now),
                    None => self.deny(flight, ttl_ms, now),
                }
            }
            _ => self.deny(flight, ttl_ms, now),
        }
    }

    /// An upstream knows the name, whatever it knows of it.
    pub(super) fn on_known_name(&mut self, flight: u32) {
        let entry = self.flights.get_mut(flight);
        if entry.denial.is_by_one() {
            entry.denial = Denial::Disputed;
            self.stats.disagreed += 1;
        }
    }

    /// Nothing came of the second opinion: whether the word of the first one ends the question.
    pub(super) fn end_by_denial(&mut self, flight: u32, now: MonoUs) -> bool {
        let entry = self.flights.get_mut(flight);
        let Denial::By { upstream, ttl_ms } = entry.denial else {
            return false;
        };
        entry.upstream = upstream;
        self.deny(flight, ttl_ms, now);
        true
    }

    fn deny(&mut self, flight: u32, ttl_ms: u64, now: MonoUs) {
        let class = FailureClass::DnsNxdomain;
        self.fail(flight, class, Some(NXDOMAIN), ttl_ms, now);
    }

    /// Whose second opinion may be asked for.
    fn other_to_ask(&mut self, flight: u32, now: MonoUs) -> Option<u8> {
        self.bucket.refill(now);
        let entry = self.flights.get_mut(flight);
        let (spent, first, tries) = (entry.spent, entry.upstream, entry.tries);
        let is_idle = self.flights.queued() == 0 && self.bucket.has_token();
        if tries >= DNS_TRIES_MAX || !is_idle {
            return None;
        }
        let count = self.sockets.upstreams().len() as u8;
        let mut others = (1..count).map(|step| (first + step) % count);
        others.find(|other| spent >> other & 1 == 0 && !self.turns.is_silent(*other))
    }
}

impl Denial {
    /// Whether a second opinion is waited for.
    pub(super) fn is_by_one(self) -> bool {
        matches!(self, Self::By { .. })
    }

    /// The failure of a question that ends while it waits for a second opinion.
    pub(super) fn so_far(self, tries: u8) -> Option<Negative> {
        let Self::By { upstream, .. } = self else {
            return None;
        };
        Some(Negative {
            class: FailureClass::DnsNxdomain,
            tries,
            server: upstream,
            rcode: Some(NXDOMAIN),
            agreed: false,
        })
    }
}
