//! What is remembered of one target. It must not decide anything: that is `step`.

use model::fact::{Event, State};
use model::inbox::Cadence;
use model::limits::{SUPPRESSION_MAX_MS, UNCONFIRMED_DEFERRALS_MIN};
use model::{Evidence, FactId, FailureClass, Generation, MonoUs, UnixMs};

use crate::advisory::{Advisories, Expiry};
use crate::event::{Checked, Opened};
use crate::flap::Changes;
use crate::maintenance::Swallowing;
use crate::suppress::Echoes;

/// The state of one target. A target that was never seen, or is clear again, is the default value
/// and need not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    pub(crate) http: Http,
    /// What the verifiers are asked, if they are.
    pub(crate) ballot: Option<Box<Ballot>>,
    pub(crate) advisories: Advisories,
    pub(crate) flapping: Option<Box<Opened>>,
    pub(crate) changes: Changes,
    pub(crate) echoes: Echoes,
    pub(crate) swallowing: Swallowing,
    /// Generation and sequence number of the last check that counted.
    pub(crate) seen: Option<(Generation, u32)>,
    /// The cadence that the core was told last, or begins with.
    pub(crate) commanded: Cadence,
}

/// A storm of 100,000 failing targets fits into 64 MiB, with all that their map has to spare.
const _: () = assert!(size_of::<Incident>() <= 288);

impl Default for Incident {
    fn default() -> Self {
        Self {
            http: Http::Clear,
            ballot: None,
            advisories: Advisories::default(),
            flapping: None,
            changes: Changes::default(),
            echoes: Echoes::default(),
            swallowing: Swallowing::default(),
            seen: None,
            commanded: Cadence::Grid,
        }
    }
}

/// The `http` identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Http {
    /// Nothing is wrong.
    #[default]
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
    /// Start of the last good check before them, where it is known.
    pub(crate) known_good: Option<UnixMs>,
    pub(crate) doubt: Doubt,
}

/// Why failures opened no event yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The first failure that our own trouble looks like waits: that may show meanwhile.
    Held(Box<Hold>),
    /// Many targets fail: the second failure in a row counts.
    Deferred,
    /// Low confidence: only what is confirmed opens an event.
    LowConfidence,
    /// The target flaps: only what is confirmed opens an event.
    Damped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// When it was heard of.
    pub(crate) since: MonoUs,
    pub(crate) until: MonoUs,
    /// The check, and what it saw.
    pub(crate) checked: Option<Checked>,
    pub(crate) evidence: Option<Box<Evidence>>,
}

/// The verifiers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub(crate) stage: Stage,
    /// When the stage is over.
    pub(crate) until: MonoUs,
    /// When they were asked first.
    pub(crate) since: MonoUs,
    /// Times that too few answered.
    pub(crate) deferrals: u32,
    /// The check that made us ask, and what it saw.
    pub(crate) checked: Option<Checked>,
    pub(crate) evidence: Option<Box<Evidence>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Answers to this request are waited for.
    Asked(FactId),
    /// Too few could say: a pause.
    Deferred,
}

impl Incident {
    /// Whether nothing is wrong, nothing is remembered and the core checks on the grid: then the
    /// state may be forgotten.
    pub fn is_clear(&self) -> bool {
        self.rest() == Some(Expiry::Far)
    }

    /// What a healthy check must say of its certificate to change nothing at all; `None` where
    /// every check matters.
    pub fn rest(&self) -> Option<Expiry> {
        let rests = matches!(self.http, Http::Clear)
            && self.ballot.is_none()
            && self.advisories.is_idle()
            && self.flapping.is_none()
            && self.changes.is_empty()
            && self.echoes.is_empty()
            && self.swallowing.is_over()
            && self.commanded == Cadence::Grid;
        rests.then(|| Expiry::of_event(self.advisories.expiry.as_deref()))
    }

    /// The state of the target: that of the worst of its open events.
    pub fn state(&self) -> State {
        let states = self.open_events().map(|event| event.state);
        states
            .max_by_key(|state| state.severity())
            .unwrap_or(State::Up)
    }

    /// The state as far as HTTP goes: Up, Seems Down or Down.
    pub fn http_state(&self) -> State {
        self.open_event().map_or(State::Up, |event| event.state)
    }

    /// The open event of the `http` identity, if there is one.
    pub fn open_event(&self) -> Option<&Event> {
        match &self.http {
            Http::Open(opened) => Some(&opened.event),
            Http::Clear | Http::Suspected(_) => None,
        }
    }

    /// The class that the target fails with, if it fails.
    pub fn failing_class(&self) -> Option<FailureClass> {
        FailureClass::from_u8(match &self.http {
            Http::Open(opened) => opened.event.class,
            Http::Suspected(suspicion) => suspicion.class,
            Http::Clear => return None,
        })
    }

    /// Every open event: at most one per check type.
    pub fn open_events(&self) -> impl Iterator<Item = &Event> {
        let Advisories {
            expiry,
            deprecated,
            latency,
        } = &self.advisories;
        let others = [expiry, deprecated, &latency.opened, &self.flapping];
        let others = others.into_iter().flatten().map(|opened| &opened.event);
        self.open_event().into_iter().chain(others)
    }

    /// Whether checks failed without opening an event yet.
    pub fn is_suspected(&self) -> bool {
        matches!(self.http, Http::Suspected(_))
    }

    /// Whether the last failure is the first, and held: our own trouble may show yet.
    pub fn is_held(&self) -> bool {
        let Http::Suspected(suspicion) = &self.http else {
            return false;
        };
        matches!(suspicion.doubt, Doubt::Held(_))
    }

    /// Whether it waits for confirmation for longer than one unlucky question takes: too few
    /// verifiers say anything of it, or can be asked.
    pub fn is_unconfirmed(&self) -> bool {
        self.ballot.as_ref().is_some_and(|ballot| {
            ballot.deferrals >= UNCONFIRMED_DEFERRALS_MIN
                || ballot.until.since(ballot.since) >= SUPPRESSION_MAX_MS * 1_000
        })
    }

    /// When the machine wants a `Tick`, if it wants one.
    pub fn wakes_at(&self) -> Option<MonoUs> {
        let hold = match &self.http {
            Http::Suspected(Suspicion {
                doubt: Doubt::Held(hold),
                ..
            }) => Some(hold.until),
            _ => None,
        };
        let ballot = self.ballot.as_ref().map(|ballot| ballot.until);
        hold.into_iter().chain(ballot).min()
    }
}
