//! Questions for records of one type, for checks of the DNS itself: asked of an upstream each
//! time, within the cap on queries, and told to the one who asked. Nothing of them is remembered,
//! and nothing that is remembered answers them: such a check would check the memory.
//!
//! A question is a flight of its own, with the tries, upstreams and streams of any other one. It
//! goes on when its waiter has ended: what comes of it still speaks of the health of the resolvers.

use std::net::SocketAddr;

use model::record::{RecordType, RecordValue};
use model::{FailureClass, MonoUs};

use super::answer::DnsFailure;
use super::codec::Family;
use super::{DnsCommand, HostId, Resolver};

/// The records of a name, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Their values, each once, in order.
    pub values: Vec<RecordValue>,
    /// The upstream that gave them.
    pub server: Option<SocketAddr>,
    /// Tries that it took.
    pub tries: u8,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) kind: RecordType,
    waiter: u64,
}

impl Resolver {
    /// Asks for the records of a host that is held. `waiter`, who has no other question under way,
    /// gets exactly one [`DnsCommand::Records`], also when it has ended meanwhile; or at once the
    /// failure, when no query is possible.
    pub fn ask_records(
        &mut self,
        host: HostId,
        kind: RecordType,
        waiter: u64,
        now: MonoUs,
    ) -> Option<DnsFailure> {
        let question = Question { kind, waiter };
        match self.start(host, Some(question), false, now) {
            Ok(flight) => self.questions.insert(waiter, flight),
            Err(failure) => return Some(failure),
        };
        self.advance_queue(now);
        self.drop_gone();
        None
    }

    /// What the flight asks for now: records, or addresses of a family of the policy.
    pub(super) fn family(&mut self, flight: u32) -> Family {
        let families = self.policy.families();
        let entry = self.flights.get_mut(flight);
        match entry.question {
            Some(question) => Family::Records(question.kind),
            None => families[usize::from(entry.step)],
        }
    }

    /// The records that were asked for.
    pub(super) fn on_records(&mut self, flight: u32, mut values: Vec<RecordValue>, now: MonoUs) {
        values.sort_unstable();
        values.dedup();
        let entry = self.flights.get_mut(flight);
        let Some(question) = entry.question else {
            return;
        };
        let (upstream, tries) = (usize::from(entry.upstream), entry.tries);
        let server = self.sockets.upstreams().get(upstream).copied();
        self.observe(flight, false, now);
        let records = Records {
            values,
            server,
            tries,
        };
        self.answer(flight, question, Ok(records));
    }

    /// Ends the flight of a question.
    pub(super) fn answer(
        &mut self,
        flight: u32,
        question: Question,
        result: Result<Records, DnsFailure>,
    ) {
        let waiter = question.waiter;
        let ours = |failure: &DnsFailure| failure.class == FailureClass::LocalPressure;
        self.stats.refused += u64::from(result.as_ref().is_err_and(ours));
        self.commands
            .push_back(DnsCommand::Records { waiter, result });
        self.questions.remove(&waiter);
        self.flights.end(flight);
    }
}
