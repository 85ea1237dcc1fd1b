//! The metadata of a transition as its row has it: one JSON object whose members are what was seen
//! (the evidence), when (`observation`), how far the node believed itself (`node`), how verifiers
//! voted (`verifier_…`) and, of the node's own incidents, what it suppressed (`suppression`), of a
//! certificate's when that expires (`not_after`), and how the check went (`method`, `phases_us`).
//! Names are those that readers of older systems know. It knows no database.

use model::fact::Transition;
use model::metadata::{Metadata, Observation, Suppression, Votes};
use model::{Belief, Evidence, FailureClass};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, from_value, to_value};

use crate::answer::AuditRow;

type Object = Map<String, Value>;

/// A member that every evidence has, one that all votes have, and one of what was probed.
const OF_EVIDENCE: &str = "class";
const OF_VOTES: &str = "verifier_quorum";
const OF_PROBED: &str = "phases_us";

/// The text of the column; `None` where nothing is known.
pub(crate) fn written(transition: &Transition) -> serde_json::Result<Option<String>> {
    let evidence = transition.evidence.as_deref();
    let Some(metadata) = transition.metadata.as_deref() else {
        return evidence.map(serde_json::to_string).transpose();
    };
    let mut members = object(&evidence)?;
    members.extend(object(&metadata.votes)?);
    let observation = known(object(&metadata.observation)?);
    members.insert("observation".to_owned(), Value::Object(observation));
    members.insert("node".to_owned(), to_value(metadata.belief)?);
    if let Some(suppression) = metadata.suppression {
        members.insert("suppression".to_owned(), to_value(suppression)?);
    }
    if let Some(not_after) = metadata.not_after {
        members.insert("not_after".to_owned(), to_value(not_after)?);
    }
    if let Some(probed) = metadata.probed {
        members.extend(known(object(&probed)?));
    }
    members.extend(known(for_earlier_readers(transition)));
    serde_json::to_string(&members).map(Some)
}

/// What follows from other members, under the names of older systems; nobody here reads it.
fn for_earlier_readers(transition: &Transition) -> Object {
    let probed = transition.metadata.as_ref().and_then(|known| known.probed);
    let class = transition.evidence.as_ref().and_then(|seen| seen.failure());
    let rule = match class {
        Some(FailureClass::BodyKeywordMissing) => Some("required"),
        Some(FailureClass::BodyForbidden) => Some("forbidden"),
        _ => None,
    };
    let members = [
        ("rtt_ms", probed.and_then(|probed| probed.rtt_ms()).into()),
        (
            "error_code",
            class.and_then(FailureClass::legacy_code).into(),
        ),
        ("keyword_rule", rule.into()),
    ];
    Object::from_iter(members.map(|(name, value): (&str, Value)| (name.to_owned(), value)))
}

/// The same of a line of the audit log.
pub(crate) fn of_audit(row: &AuditRow) -> serde_json::Result<Option<String>> {
    let Some(subject) = &row.subject else {
        return Ok(None);
    };
    let mut members = object(&subject.votes)?;
    members.insert("endpoint_id".to_owned(), subject.target.get().into());
    serde_json::to_string(&members).map(Some)
}

/// What the column says.
pub(crate) struct Read {
    pub(crate) evidence: Option<Box<Evidence>>,
    pub(crate) metadata: Option<Box<Metadata>>,
}

/// Reads the column; members of nobody are passed over.
pub(crate) fn read(json: &str) -> serde_json::Result<Read> {
    let members: Object = serde_json::from_str(json)?;
    let evidence = whole(&members, OF_EVIDENCE)?;
    let observation: Option<Observation> = member(&members, "observation")?;
    let belief: Option<Belief> = member(&members, "node")?;
    let suppression: Option<Suppression> = member(&members, "suppression")?;
    let votes: Option<Box<Votes>> = whole(&members, OF_VOTES)?;
    let is_there = observation.is_some() || belief.is_some() || votes.is_some();
    let metadata = Metadata {
        observation: observation.unwrap_or_default(),
        belief: belief.unwrap_or_default(),
        votes,
        suppression,
        not_after: member(&members, "not_after")?,
        probed: whole(&members, OF_PROBED)?,
    };
    Ok(Read {
        evidence,
        metadata: is_there.then(|| Box::new(metadata)),
    })
}

/// The members of `value`; none of nothing.
fn object(value: &impl Serialize) -> serde_json::Result<Object> {
    Ok(match to_value(value)? {
        Value::Object(members) => members,
        _ => Object::new(),
    })
}

fn known(mut members: Object) -> Object {
    members.retain(|_, value| !value.is_null());
    members
}

fn member<T: DeserializeOwned>(members: &Object, name: &str) -> serde_json::Result<Option<T>> {
    members.get(name).cloned().map(from_value).transpose()
}

/// What the whole object says, where it has the member `mark`.
fn whole<T: DeserializeOwned>(members: &Object, mark: &str) -> serde_json::Result<Option<T>> {
    let is_there = members.contains_key(mark);
    let value = is_there.then(|| Value::Object(members.clone()));
    value.map(from_value).transpose()
}

#[cfg(test)]
mod tests {
    use model::fact::{Reason, State};
    use model::metadata::Probed;
    use model::outcome::Phases;
    use model::target::Method;
    use model::{FactId, TargetId, UnixMs};

    use super::*;

    #[test]
    fn how_the_check_went_is_there_for_us_and_for_earlier_readers() {
        let id = FactId::new(7).expect("positive");
        let evidence = Evidence {
            class: FailureClass::BodyForbidden as u8,
            ..Evidence::default()
        };
        let probed = Probed {
            method: Some(Method::Get),
            phases: Phases {
                total_us: 14_900,
                ..Phases::NONE
            },
            redirect_count: 2,
        };
        let metadata = Metadata {
            probed: Some(probed),
            ..Metadata::default()
        };
        let transition = Transition {
            id,
            event: id,
            target: TargetId::new(1).expect("positive"),
            before: None,
            after: State::SeemsDown,
            reason: Reason::Opened,
            source: String::new(),
            changed_at: UnixMs(0),
            evidence: Some(Box::new(evidence)),
            metadata: Some(Box::new(metadata)),
        };
        let row = written(&transition).expect("JSON").expect("something");
        let members: Object = serde_json::from_str(&row).expect("an object");
        assert_eq!(members["method"], "get");
        assert_eq!(members["rtt_ms"], 14);
        assert_eq!(members["redirect_count"], 2);
        assert_eq!(
            (&members["error_code"], &members["keyword_rule"]),
            (&5.into(), &"forbidden".into())
        );
        let read = read(&row).expect("read");
        assert_eq!(read.evidence, transition.evidence);
        assert_eq!(read.metadata, transition.metadata);
    }

    #[test]
    fn rows_of_earlier_releases_have_evidence_alone() {
        let evidence = Evidence {
            class: 10,
            errno: Some(111),
            ..Evidence::default()
        };
        let json = serde_json::to_string(&evidence).expect("JSON");
        let read = read(&json).expect("read");
        assert_eq!(read.evidence.as_deref(), Some(&evidence));
        assert_eq!(read.metadata, None);
    }

    #[test]
    fn what_is_broken_is_refused_and_what_is_nobodys_passed_over() {
        for broken in [
            "",
            "[]",
            r#"{"class": 10}"#,
            r#"{"observation": 7}"#,
            r#"{"verifier_quorum": 2}"#,
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
        let read = read(r#"{"weather": "fine"}"#).expect("read");
        assert!(read.evidence.is_none() && read.metadata.is_none());
    }
}
