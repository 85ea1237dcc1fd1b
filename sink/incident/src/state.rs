//! What is remembered of one target. It must not decide anything: that is `step`.

use model::fact::{Event, State};
use model::inbox::Cadence;
use model::{Evidence, Generation, MonoUs, UnixMs};

/// The state of one target. A target that was never seen, or is clean again, is the default value
/// and need not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub(crate) phase: Phase,
    /// Generation and sequence number of the last check that counted.
    pub(crate) seen: Option<(Generation, u32)>,
    /// The cadence that the core was told last; `None` when it may have forgotten.
    pub(crate) commanded: Option<Cadence>,
}

impl Default for Incident {
    fn default() -> Self {
        Self {
            phase: Phase::Clear,
            seen: None,
            commanded: Some(Cadence::Grid),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is wrong.
    Clear,
    /// Failing, but not enough to open an event.
    Suspected(Suspicion),
    /// An event is open.
    Open(Opened),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// Start of the first failing check.
    pub(crate) first: UnixMs,
    /// Failing checks so far.
    pub(crate) failures: u32,
    /// Number of the class of the last one.
    pub(crate) class: u8,
    /// A first connect or timeout failure waits for the end of this.
    pub(crate) hold: Option<Hold>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) until: MonoUs,
    pub(crate) evidence: Option<Box<Evidence>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) event: Event,
    /// Transitions of the event so far.
    pub(crate) transitions: u32,
}

impl Incident {
    /// Whether nothing is wrong and the core checks on the grid: then the state may be forgotten.
    pub fn is_clear(&self) -> bool {
        matches!(self.phase, Phase::Clear) && self.commanded == Some(Cadence::Grid)
    }

    /// The state shown for the target.
    pub fn state(&self) -> State {
        self.open_event().map_or(State::Up, |event| event.state)
    }

    /// The open event, if there is one.
    pub fn open_event(&self) -> Option<&Event> {
        match &self.phase {
            Phase::Open(opened) => Some(&opened.event),
            Phase::Clear | Phase::Suspected(_) => None,
        }
    }

    /// Whether checks failed without opening an event yet.
    pub fn is_suspected(&self) -> bool {
        matches!(self.phase, Phase::Suspected(_))
    }

    /// When the machine wants a `Tick`, if it wants one.
    pub fn wakes_at(&self) -> Option<MonoUs> {
        match &self.phase {
            Phase::Suspected(suspicion) => suspicion.hold.as_ref().map(|hold| hold.until),
            Phase::Clear | Phase::Open(_) => None,
        }
    }
}
