//! Facts: what the incident machine decides and the store keeps. A state change and everything it
//! owes travel together, as one [`Fact`], through the journal and into one transaction.

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::ids::{FactId, TargetId};
use crate::metadata::Metadata;
use crate::time::UnixMs;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in the database, the API and the documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value whose word is `word`.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// State of an event; also the derived state of a target.
    State {
        /// No open event.
        Up = "Up",
        /// Advisory.
        Warning = "Warning",
        /// Works, but not as it should.
        Degraded = "Degraded",
        /// Failing, not confirmed.
        SeemsDown = "Seems Down",
        /// Confirmed.
        Down = "Down",
        /// Not checked, by choice.
        Paused = "Paused",
        /// Failures are swallowed.
        Maintenance = "Maintenance",
        /// Not known: the trouble is ours.
        Unknown = "Unknown",
        /// Closed (transitions only).
        Resolved = "Resolved",
    }
}

impl State {
    /// 0 Up, 1 Warning, 2 Degraded, 3 Seems Down, 4 Down; `None` for states without a severity.
    pub fn severity(self) -> Option<u8> {
        match self {
            Self::Up => Some(0),
            Self::Warning => Some(1),
            Self::Degraded => Some(2),
            Self::SeemsDown => Some(3),
            Self::Down => Some(4),
            Self::Paused | Self::Maintenance | Self::Unknown | Self::Resolved => None,
        }
    }

    /// The legacy `site_status` while an event in this state is open.
    pub fn legacy_status(self) -> u8 {
        match self {
            Self::SeemsDown => 0,
            Self::Down => 2,
            _ => 1,
        }
    }
}

named! {
    /// What an event is about; part of its identity.
    CheckType {
        /// The HTTP check.
        Http = "http",
        /// A certificate that expires soon.
        TlsExpiry = "tls_expiry",
        /// TLS that browsers refuse.
        TlsDeprecated = "tls_deprecated",
        /// Slower than `max_latency_ms`.
        Latency = "latency",
        /// Up and down in turn, too often to tell of each time.
        Flapping = "flapping",
        /// The node's own: it does not believe failing checks.
        NodeSuppressing = "node_suppressing",
        /// The node's own: its network is gone.
        NodeIsolated = "node_isolated",
    }
}

impl CheckType {
    /// Every type that an event of a target has; the others are of a node.
    pub const OF_TARGETS: [Self; 5] = [
        Self::Http,
        Self::TlsExpiry,
        Self::TlsDeprecated,
        Self::Latency,
        Self::Flapping,
    ];
}

named! {
    /// Why a transition happened; closing reasons become the event's `resolution_reason`.
    Reason {
        /// First failure.
        Opened = "opened",
        /// Worse.
        SeverityEscalation = "severity_escalation",
        /// Better, not over.
        SeverityDeescalation = "severity_deescalation",
        /// Other state, same severity.
        StateChange = "state_change",
        /// Confirmed by verifiers, or by `confirm_after` local failures where there are none.
        VerifierConfirmed = "verifier_confirmed",
        /// A confirmed incident ended with a local success.
        VerifierCleared = "verifier_cleared",
        /// An unconfirmed incident ended with a local success.
        ProbeCleared = "probe_cleared",
        /// Verifiers disagreed.
        FalseAlarm = "false_alarm",
        /// A person closed it.
        ManualOverride = "manual_override",
        /// A maintenance window began over it.
        MaintenanceSwallowed = "maintenance_swallowed",
        /// Replaced by another event.
        Superseded = "superseded",
        /// Nothing was heard for too long.
        AutoTimeout = "auto_timeout",
        /// Linked to a cause.
        CauseLinked = "cause_linked",
        /// Unlinked from a cause.
        CauseUnlinked = "cause_unlinked",
    }
}

/// An incident row. At most one is open per (target, check type, discriminator); closed ones are
/// immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Our own id.
    pub id: FactId,
    /// Whose.
    pub target: TargetId,
    /// The legacy `blog_id`.
    pub group_id: u64,
    /// About what.
    pub check_type: CheckType,
    /// Tells apart several events of one type; usually `None`.
    pub discriminator: Option<String>,
    /// State while open, and the last state once closed.
    pub state: State,
    /// First failure; never moves.
    pub started_at: UnixMs,
    /// When it was closed.
    pub ended_at: Option<UnixMs>,
    /// Why it was closed.
    pub resolution: Option<Reason>,
    /// Failing checks since `started_at`: a restart resumes from here. Exact while the event is not
    /// confirmed, in every transition, and so once it is closed; the row of an open confirmed event
    /// has it as of its last doubling (or of its confirmation): more than half of the real count,
    /// never above it. So much of it survives a restart, and counting goes on from there.
    pub fail_count: u32,
    /// Number of the failure class of the last failing check that was written.
    pub class: u8,
}

/// One mutation of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Our own id; applying the same id twice changes nothing.
    pub id: FactId,
    /// The event.
    pub event: FactId,
    /// The event's target.
    pub target: TargetId,
    /// State before; `None` when the event was opened by this transition.
    pub before: Option<State>,
    /// State after; `Resolved` when the event was closed by it.
    pub after: State,
    /// Why.
    pub reason: Reason,
    /// Who: `local`, a vantage, a person.
    pub source: String,
    /// When.
    pub changed_at: UnixMs,
    /// What was seen; only transitions store evidence.
    pub evidence: Option<Box<Evidence>>,
    /// What was known beside that; of transitions of earlier releases there is none.
    pub metadata: Option<Box<Metadata>>,
}

impl Transition {
    /// Memory held behind the fixed part, in bytes.
    pub fn size_bytes(&self) -> usize {
        let evidence = self.evidence.as_deref().map_or(0, Evidence::size_bytes);
        let metadata = self.metadata.as_deref().map_or(0, Metadata::size_bytes);
        evidence + metadata
    }
}

/// Kind of an owed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Match subscribers of one transition and make their deliveries.
    Fanout,
}

impl JobKind {
    /// Number in the job table.
    pub fn as_u8(self) -> u8 {
        match self {
            Self::Fanout => 1,
        }
    }
}

/// Work that a transition owes, written in its transaction and consumed by job workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Our own id.
    pub id: FactId,
    /// What to do.
    pub kind: JobKind,
    /// For which transition.
    pub transition: FactId,
    /// Number of this transition in its event, from 1.
    pub seq: u32,
    /// Due at.
    pub run_at: UnixMs,
}

/// What the incident machine decided: the event as it now is, the transition that led there, and
/// what both owe. The status projection follows from `event.state` and `event.ended_at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A state change with everything it owes: one transaction, idempotent by `transition.id`.
    Transitioned {
        /// The event after the change.
        event: Event,
        /// The change.
        transition: Transition,
        /// The owed job.
        job: Job,
    },
    /// Another failing check of an open event: only its fail count moved, so nothing is owed.
    Counted {
        /// The event.
        event: FactId,
        /// Its target.
        target: TargetId,
        /// The new count; a lower one than stored changes nothing.
        fail_count: u32,
    },
}

impl Fact {
    /// The target that the fact is about.
    pub fn target(&self) -> TargetId {
        match self {
            Self::Transitioned { event, .. } => event.target,
            Self::Counted { target, .. } => *target,
        }
    }

    /// The highest of our own ids inside; the mint stays above it.
    pub fn newest_id(&self) -> FactId {
        match self {
            Self::Transitioned {
                event,
                transition,
                job,
            } => event.id.max(transition.id).max(job.id),
            Self::Counted { event, .. } => *event,
        }
    }
}

/// Facts in the order in which they must be applied, as one journal record and one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Position in the journal, from 1, without gaps.
    pub journal_seq: u64,
    /// The facts.
    pub facts: Vec<Fact>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_words_severities_and_legacy_statuses_that_readers_know() {
        // The order is the number in the journal.
        let pinned = [
            ("Up", Some(0), 1),
            ("Warning", Some(1), 1),
            ("Degraded", Some(2), 1),
            ("Seems Down", Some(3), 0),
            ("Down", Some(4), 2),
            ("Paused", None, 1),
            ("Maintenance", None, 1),
            ("Unknown", None, 1),
            ("Resolved", None, 1),
        ];
        let of = |state: &State| (state.as_str(), state.severity(), state.legacy_status());
        let found: Vec<_> = State::ALL.iter().map(of).collect();
        assert_eq!(found, pinned);
    }

    #[test]
    fn reasons_and_check_types_have_the_words_that_readers_know() {
        // The order is the number in the journal.
        let reasons = [
            "opened",
            "severity_escalation",
            "severity_deescalation",
            "state_change",
            "verifier_confirmed",
            "verifier_cleared",
            "probe_cleared",
            "false_alarm",
            "manual_override",
            "maintenance_swallowed",
            "superseded",
            "auto_timeout",
            "cause_linked",
            "cause_unlinked",
        ];
        let found: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(found, reasons);
        let types: Vec<_> = CheckType::ALL.iter().map(|kind| kind.as_str()).collect();
        let words = [
            "http",
            "tls_expiry",
            "tls_deprecated",
            "latency",
            "flapping",
            "node_suppressing",
            "node_isolated",
        ];
        assert_eq!(types, words);
        assert_eq!(Reason::from_word("opened"), Some(Reason::Opened));
        assert_eq!(CheckType::from_word("Http"), None);
    }
}
