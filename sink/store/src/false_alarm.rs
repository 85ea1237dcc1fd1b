//! Failures that verifiers at other places did not see: a row for each event that was closed as a
//! false alarm, written and forgotten with the transition that closed it. It knows no database.

use model::fact::{Event, Reason, Transition};
use model::{FactId, FailureClass, UnixMs};

/// A row of the false positives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FalsePositive {
    /// The transition, which has the votes.
    pub(crate) id: FactId,
    pub(crate) group_id: u64,
    /// What only we saw, as far as it was HTTP.
    pub(crate) http_code: Option<u16>,
    pub(crate) error_code: Option<u8>,
    pub(crate) at: UnixMs,
}

impl FalsePositive {
    /// What `transition` of `event` was, if it closed a false alarm.
    pub(crate) fn of(event: &Event, transition: &Transition) -> Option<Self> {
        if transition.reason != Reason::FalseAlarm || event.ended_at.is_none() {
            return None;
        }
        let status = transition.evidence.as_ref().map_or(0, |seen| seen.status);
        let class = FailureClass::from_u8(event.class);
        Some(Self {
            id: transition.id,
            group_id: event.group_id,
            http_code: (status > 0).then_some(status),
            error_code: class.and_then(FailureClass::legacy_code),
            at: transition.changed_at,
        })
    }
}
