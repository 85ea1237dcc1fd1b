//! Batches in the formats of earlier releases: read, never written. In 2 transitions had no
//! metadata, in 4 those of 2 were followed by less of it than now; 3 was in no release.

use model::fact::{Batch, Event, Fact, Job, Reason, State, Transition};
use model::metadata::{Observation, Suppression, Votes};
use model::{Belief, Evidence, FactId, Metadata, TargetId, UnixMs};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An earlier format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Second,
    Fourth,
}

impl Version {
    pub(super) fn of(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Second),
            4 => Some(Self::Fourth),
            _ => None,
        }
    }

    /// The batch in `body`.
    pub(super) fn decode(self, body: &[u8]) -> Option<Batch> {
        match self {
            Self::Second => decode::<SecondTransition>(body),
            Self::Fourth => decode::<FourthTransition>(body),
        }
    }
}

fn decode<T: DeserializeOwned + Into<Transition>>(body: &[u8]) -> Option<Batch> {
    let EarlierBatch { journal_seq, facts } = postcard::from_bytes::<EarlierBatch<T>>(body).ok()?;
    let facts = facts.into_iter().map(Fact::from).collect();
    Some(Batch { journal_seq, facts })
}

#[derive(Deserialize)]
struct EarlierBatch<T> {
    journal_seq: u64,
    facts: Vec<EarlierFact<T>>,
}

#[derive(Deserialize)]
enum EarlierFact<T> {
    Transitioned {
        event: Event,
        transition: T,
        job: Job,
    },
    Counted {
        event: FactId,
        target: TargetId,
        fail_count: u32,
    },
}

#[derive(Deserialize)]
struct SecondTransition {
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

/// A struct in a struct is in postcard as if its fields were the outer one's.
#[derive(Deserialize)]
struct FourthTransition {
    transition: SecondTransition,
    metadata: Option<Box<FourthMetadata>>,
}

#[derive(Deserialize)]
struct FourthMetadata {
    observation: Observation,
    belief: Belief,
    votes: Option<Box<Votes>>,
    suppression: Option<Suppression>,
}

impl<T: Into<Transition>> From<EarlierFact<T>> for Fact {
    fn from(fact: EarlierFact<T>) -> Self {
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

impl From<SecondTransition> for Transition {
    fn from(earlier: SecondTransition) -> Self {
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

impl From<FourthTransition> for Transition {
    fn from(earlier: FourthTransition) -> Self {
        Self {
            metadata: earlier
                .metadata
                .map(|metadata| Box::new((*metadata).into())),
            ..earlier.transition.into()
        }
    }
}

impl From<FourthMetadata> for Metadata {
    fn from(earlier: FourthMetadata) -> Self {
        Self {
            observation: earlier.observation,
            belief: earlier.belief,
            votes: earlier.votes,
            suppression: earlier.suppression,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use model::belief::{Canaries, Stance};
    use model::fact::{CheckType, JobKind};

    use super::*;

    /// A record body of format 2: batch 9 with a transition of target 7 and a count.
    const BEFORE_METADATA: &[u8] = &[
        9, 2, // journal number, facts
        0, // transitioned
        1, 14, 3, 0, 0, 3, 5, 0, 0, 2, 10, // event
        2, 1, 14, 0, 3, 0, 5, b'l', b'o', b'c', b'a', b'l', 6, // transition
        1, 4, 10, 1, 222, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'n', b'o', // its evidence
    ];
    const AFTER_METADATA: &[u8] = &[
        3, 0, 2, 1, 6, // job
        1, 1, 14, 8, // counted
    ];
    /// What format 4 has between the two.
    const METADATA: &[u8] = &[
        1, // there is some
        1, 6, 1, 7, 0, 1, 1, 0, 1, 5, 0, 1, 172, 2, 1, 60, 0, 0, // observation
        1, 0, 3, 2, // belief
        0, 0, // votes, suppression
    ];

    fn metadata() -> Metadata {
        Metadata {
            observation: Observation {
                checked_at: Some(UnixMs(6)),
                lag_us: Some(7),
                late: Some(true),
                first_failed_at: Some(UnixMs(5)),
                normal_check_interval_seconds: Some(300),
                next_check_interval_seconds: Some(60),
                ..Observation::default()
            },
            belief: Belief {
                stance: Stance::Deferring,
                canaries: Canaries {
                    configured: 3,
                    answering: 2,
                },
                ..Belief::default()
            },
            ..Metadata::default()
        }
    }

    #[test]
    fn records_of_earlier_releases_are_read() {
        let second = [BEFORE_METADATA, AFTER_METADATA].concat();
        let fourth = [BEFORE_METADATA, METADATA, AFTER_METADATA].concat();
        let none = [BEFORE_METADATA, &[0], AFTER_METADATA].concat();
        assert_eq!(Version::Second.decode(&second), Some(batch(None)));
        assert_eq!(Version::Fourth.decode(&none), Some(batch(None)));
        assert_eq!(
            Version::Fourth.decode(&fourth),
            Some(batch(Some(metadata())))
        );
        assert_eq!(Version::Second.decode(&second[..40]), None);
        assert_eq!(Version::Fourth.decode(&fourth[..70]), None);
        assert_eq!([1, 3, 5].map(Version::of), [None; 3]);
    }

    /// The one in all those bytes.
    fn batch(metadata: Option<Metadata>) -> Batch {
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
            metadata: metadata.map(Box::new),
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
        Batch {
            journal_seq: 9,
            facts: vec![transitioned, counted],
        }
    }
}
