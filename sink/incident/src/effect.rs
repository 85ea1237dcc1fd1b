//! What a step asks of its caller, as data. It must not know how any of it is done.

use model::fact::Fact;
use model::inbox::Cadence;
use model::metadata::Votes;
use model::{FactId, TargetId, UnixMs};

use crate::quorum::Tally;

/// What the incident machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Keep this, durably.
    Write(Fact),
    /// Check the target this often from now on.
    Cadence(Cadence),
    /// Ask the verifiers about the target; their answers come back as
    /// [`Input::Answered`](crate::Input::Answered) with the same `request`.
    Ask {
        /// Names the answers.
        request: FactId,
    },
    /// How the answers to one request were counted.
    Tallied(Tally),
    /// Something that is no change of an event, and that somebody may ask about later.
    Audit(Audit),
    /// The check failed, but the trouble may be ours: the target is not known.
    NotKnown,
}

/// What kind of thing happened beside the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditKind {
    /// A maintenance window swallowed something: once per window.
    MaintenanceActive,
    /// Failures soon after a recovery or a false alarm open nothing: once per row of them.
    AlertSuppressed,
    /// The target is checked again soon, or its verifiers are asked again: once when that begins,
    /// and once per deferral.
    RetryDispatched,
    /// Verifiers were asked, and no change of an event tells what they said: they saw up what had
    /// no event yet, or it was about a sample.
    VerifierSent,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::MaintenanceActive,
        Self::AlertSuppressed,
        Self::RetryDispatched,
        Self::VerifierSent,
    ];

    /// The word in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaintenanceActive => "maintenance_active",
            Self::AlertSuppressed => "alert_suppressed",
            Self::RetryDispatched => "retry_dispatched",
            Self::VerifierSent => "verifier_sent",
        }
    }
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// About whom.
    pub target: TargetId,
    /// About which event, if one was open.
    pub event: Option<FactId>,
    /// What.
    pub kind: AuditKind,
    /// In words.
    pub detail: &'static str,
    /// What verifiers said, where it is about that.
    pub votes: Option<Box<Votes>>,
    /// When.
    pub at: UnixMs,
}
