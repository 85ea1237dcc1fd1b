//! What the incident machine did beside its events (swallowed, suppressed, asked again), on its way
//! to the audit log. They are no facts: nothing is owed for them and they are not in the journal.
//! When too many wait the next ones are left out, counted, and nothing else is held up.

use std::rc::Rc;

use incident::Audit;
use model::MonoUs;
use model::limits::{AUDIT_TRAIL_MAX, AUDIT_TRAIL_VOTES_MAX};
use store::{AuditRow, AuditSubject, Fence};

use crate::apply::FactStore;
use crate::flight::Flights;
use crate::quiet::Quiet;

/// The lines that wait, and what became of the others.
pub(crate) struct AuditTrail {
    /// Who writes them.
    source: String,
    pub(crate) flights: Flights<AuditRow>,
    quiet: Quiet,
    pub(crate) left_out: u64,
}

impl AuditTrail {
    /// Of the node called `node`.
    pub(crate) fn new(node: &str) -> Self {
        Self {
            source: format!("ringwatch:{node}"),
            // Its lines have no id of ours: what is said again is there twice.
            flights: Flights::of(1),
            quiet: Quiet::default(),
            left_out: 0,
        }
    }

    /// Keeps a line about a target of `group_id`. Where many wait, lines go without their votes.
    pub(crate) fn note(&mut self, audit: Audit, group_id: u64, now: MonoUs) {
        let waiting = self.flights.len();
        if waiting >= AUDIT_TRAIL_MAX {
            self.left_out += 1;
            if let Some(suppressed) = self.quiet.allows("full", now) {
                tracing::warn!(
                    waiting,
                    suppressed,
                    "lines about targets are left out of the audit log: the store does not take \
                     them as fast as they come; see to the store"
                );
            }
            return;
        }
        let subject = AuditSubject {
            target: audit.target,
            group_id,
            event: audit.event,
            votes: audit.votes.filter(|_| waiting < AUDIT_TRAIL_VOTES_MAX),
        };
        let row = AuditRow {
            event_type: audit.kind.as_str(),
            source: self.source.clone(),
            detail: audit.detail.to_owned(),
            at: audit.at,
            subject: Some(subject),
        };
        self.flights.push(row, now);
    }

    /// Ends a write that landed.
    pub(crate) fn land(&mut self, now: MonoUs) {
        if let Some(error) = self.flights.land(now)
            && let Some(suppressed) = self.quiet.allows("audit", now)
        {
            tracing::warn!(%error, suppressed,
                "lines about targets were not written to the audit log; they wait again");
        }
    }

    /// Starts the next write when it is time. Must run on a tokio `LocalSet`.
    pub(crate) fn start<S: FactStore>(
        &mut self,
        store: &Rc<S>,
        fence: Fence,
        now: MonoUs,
        at_once: bool,
    ) {
        let store = Rc::clone(store);
        let write = async move |rows| store.write_trail(fence, rows).await;
        self.flights.start(now, at_once, write);
    }
}

#[cfg(test)]
mod tests {
    use incident::AuditKind;
    use model::metadata::Votes;
    use store::StoreError;

    use super::*;
    use crate::testbed::{START, target};

    fn line() -> Audit {
        Audit {
            target: target(7),
            event: None,
            kind: AuditKind::RetryDispatched,
            detail: "verifier decision deferred",
            votes: Some(Box::default()),
            at: START,
        }
    }

    /// Lesson: a flight was ten transactions and came again as a whole when its last one failed.
    #[test]
    fn what_comes_again_after_a_failure_was_one_transaction() {
        let mut trail = AuditTrail::new("n");
        for _ in 0..2_500 {
            trail.note(line(), 0, MonoUs(0));
        }
        let (rows, landing) = trail.flights.depart(MonoUs(0), true).expect("a flight");
        assert_eq!(rows.len(), 1_000);
        let lost = StoreError::OutcomeUnknown {
            store: "s".to_owned(),
            detail: "reset".to_owned(),
        };
        landing.set(Some(Err(lost)));
        trail.land(MonoUs(0));
        let flights = &trail.flights;
        assert_eq!(
            (flights.len(), flights.written, flights.failed),
            (2_500, 0, 1)
        );
    }

    #[test]
    fn what_is_too_much_is_left_out_and_votes_go_before_lines() {
        let mut trail = AuditTrail::new("n");
        for _ in 0..AUDIT_TRAIL_MAX + 3 {
            trail.note(line(), 0, MonoUs(0));
        }
        assert_eq!((trail.flights.len(), trail.left_out), (AUDIT_TRAIL_MAX, 3));
        let mut rows = Vec::new();
        while let Some((flight, landing)) = trail.flights.depart(MonoUs(0), true) {
            rows.extend(flight);
            landing.set(Some(Ok(())));
            trail.land(MonoUs(0));
        }
        assert_eq!((rows.len(), trail.flights.len()), (AUDIT_TRAIL_MAX, 0));
        let votes = |row: &AuditRow| row.subject.as_ref().and_then(|s| s.votes.clone());
        assert_eq!(votes(&rows[0]), Some(Box::<Votes>::default()));
        assert!(votes(&rows[AUDIT_TRAIL_VOTES_MAX]).is_none());
    }
}
