//! Batches in an earlier format, whose transitions had no metadata: read, never written. The one
//! between, 3, was in no release.

use model::fact::{Batch, Event, Fact, Job, Reason, State, Transition};
use model::{Evidence, FactId, TargetId, UnixMs};
use serde::Deserialize;

/// Its version.
pub(crate) const VERSION: u8 = 2;

#[derive(Deserialize)]
struct EarlierBatch {
    journal_seq: u64,
    facts: Vec<EarlierFact>,
}

#[derive(Deserialize)]
enum EarlierFact {
    Transitioned {
        event: Event,
        transition: EarlierTransition,
        job: Job,
    },
    Counted {
        event: FactId,
        target: TargetId,
        fail_count: u32,
    },
}

#[derive(Deserialize)]
struct EarlierTransition {
    id: FactId,
    event: FactId,
    target: TargetId,
    before: Option<State>,
    after: State,
    reason: Reason,
    source: String,
    changed_at: UnixMs,
    evidence: Option<Box<Evidence>>,
}

/// The batch in `body`.
pub(crate) fn decode(body: &[u8]) -> Option<Batch> {
    let EarlierBatch { journal_seq, facts } = postcard::from_bytes(body).ok()?;
    let facts = facts.into_iter().map(Fact::from).collect();
    Some(Batch { journal_seq, facts })
}

impl From<EarlierFact> for Fact {
    fn from(fact: EarlierFact) -> Self {
        match fact {
            EarlierFact::Transitioned {
                event,
                transition,
                job,
            } => Self::Transitioned {
                event,
                transition: transition.into(),
                job,
            },
            EarlierFact::Counted {
                event,
                target,
                fail_count,
            } => Self::Counted {
                event,
                target,
                fail_count,
            },
        }
    }
}

impl From<EarlierTransition> for Transition {
    fn from(earlier: EarlierTransition) -> Self {
        Self {
            id: earlier.id,
            event: earlier.event,
            target: earlier.target,
            before: earlier.before,
            after: earlier.after,
            reason: earlier.reason,
            source: earlier.source,
            changed_at: earlier.changed_at,
            evidence: earlier.evidence,
            metadata: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::fact::{CheckType, JobKind};

    use super::*;

    /// A record body as the release before wrote it: batch 9 with a transition of target 7 and a
    /// count.
    const BODY: &[u8] = &[
        9, 2, // journal number, facts
        0, // transitioned
        1, 14, 3, 0, 0, 3, 5, 0, 0, 2, 10, // event
        2, 1, 14, 0, 3, 0, 5, b'l', b'o', b'c', b'a', b'l', 6, // transition
        1, 4, 10, 1, 222, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'n', b'o', // its evidence
        3, 0, 2, 1, 6, // job
        1, 1, 14, 8, // counted
    ];

    #[test]
    fn a_record_of_the_release_before_is_read() {
        let id = |raw| FactId::new(raw).expect("positive");
        let target = TargetId::new(7).expect("positive");
        let evidence = Evidence {
            seq: 4,
            class: 10,
            errno: Some(111),
            text: "no".to_owned(),
            ..Evidence::default()
        };
        let event = Event {
            id: id(1),
            target,
            group_id: 3,
            check_type: CheckType::Http,
            discriminator: None,
            state: State::SeemsDown,
            started_at: UnixMs(5),
            ended_at: None,
            resolution: None,
            fail_count: 2,
            class: 10,
        };
        let transition = Transition {
            id: id(2),
            event: id(1),
            target,
            before: None,
            after: State::SeemsDown,
            reason: Reason::Opened,
            source: "local".to_owned(),
            changed_at: UnixMs(6),
            evidence: Some(Box::new(evidence)),
            metadata: None,
        };
        let job = Job {
            id: id(3),
            kind: JobKind::Fanout,
            transition: id(2),
            seq: 1,
            run_at: UnixMs(6),
        };
        let transitioned = Fact::Transitioned {
            event,
            transition,
            job,
        };
        let counted = Fact::Counted {
            event: id(1),
            target,
            fail_count: 8,
        };
        let batch = Batch {
            journal_seq: 9,
            facts: vec![transitioned, counted],
        };
        assert_eq!(decode(BODY), Some(batch));
        assert_eq!(decode(&BODY[..40]), None);
    }
}
