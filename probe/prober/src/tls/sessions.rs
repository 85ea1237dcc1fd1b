//! TLS sessions of one core and when they may be resumed: between two full handshakes with a name
//! at most `full_every_s` pass, and a session never outlives the chain that it stands on.
//!
//! rustls asks by server name alone. Here a session belongs to a [`Fingerprint`] of name and port,
//! which the link that is at work has announced; the roots are those of the settings that this
//! store belongs to.
//!
//! A session holds what its server sent: its chain, and a ticket of any size. rustls shows neither,
//! so the link says after each call how much came, and only then is a session kept, or not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::limits::TLS_SESSION_MAX_BYTES;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::FedClock;
use super::fingerprint::Fingerprint;
use super::lru::Lru;
use crate::shared::TlsPolicy;

/// What a session takes besides what its server sent: secrets, counts, allocations.
const FIXED_BYTES: usize = 512;

/// One per core. The mutex is never contended: only the core's thread comes here; the signature of
/// `ClientSessionStore` (`&self`, `Sync`) forces it.
#[derive(Debug)]
pub(super) struct Sessions {
    clock: Arc<FedClock>,
    full_every_s: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Whose link is at work.
    current: Option<Fingerprint>,
    /// Whether it was given a session.
    offered: bool,
    /// What rustls gave for it in the call that is under way.
    incoming: Option<Session>,
    places: Lru<Fingerprint, Place>,
    /// Of the sessions of all places.
    bytes: usize,
    max_bytes: usize,
}

/// What is known of one name and port.
#[derive(Default)]
struct Place {
    kx_hint: Option<NamedGroup>,
    /// When the last full handshake was, and from when on the next one must be full; seconds
    /// since the Unix epoch. A place that refused a session has the end of its rest in the first
    /// one and 0 in the second.
    full_at: u64,
    resumable_until: u64,
    session: Option<(Session, usize)>,
}

// With its key and its index, of 100,000 names 40 MB.
const _: () = assert!(size_of::<Place>() <= 280);

/// What a later handshake can stand on.
enum Session {
    Tls12(Tls12ClientSessionValue),
    /// A ticket is used once; the check that uses it is given the next one.
    Tls13(Tls13ClientSessionValue),
}

/// What it holds is secret.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls12(_) => "Tls12",
            Self::Tls13(_) => "Tls13",
        })
    }
}

impl Place {
    /// Memory of its session.
    fn bytes(&self) -> usize {
        self.session.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    fn ticket(&mut self) -> Option<Tls13ClientSessionValue> {
        match self.session.take()? {
            (Session::Tls13(ticket), _) => Some(ticket),
            other => {
                self.session = Some(other);
                None
            }
        }
    }

    fn tls12(&self) -> Option<&Tls12ClientSessionValue> {
        match &self.session {
            Some((Session::Tls12(session), _)) => Some(session),
            _ => None,
        }
    }
}

impl Kept {
    /// Changes the current place, if it is known.
    fn change<T>(&mut self, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let place = self.places.get(self.current.as_ref()?)?;
        let before = place.bytes();
        let changed = change(place);
        self.bytes = self.bytes - before + place.bytes();
        Some(changed)
    }

    /// Changes the current place, known or not.
    fn edit(&mut self, change: impl FnOnce(&mut Place)) {
        let Some(current) = self.current else { return };
        if self.places.get(&current).is_none() {
            let forgotten = self.places.insert(current, Place::default());
            self.bytes -= forgotten.map_or(0, |place| place.bytes());
        }
        self.change(change);
    }

    /// Keeps `session`, and forgets what was used longest ago until all fit.
    fn keep(&mut self, session: Session, bytes: usize) {
        self.edit(|place| place.session = Some((session, bytes)));
        while self.bytes > self.max_bytes {
            let forgotten = self.places.pop_oldest();
            self.bytes -= forgotten.map_or(0, |place| place.bytes());
        }
    }
}

impl Sessions {
    /// With room for what `policy` says; for nothing when every handshake is to be a full one.
    pub(super) fn new(clock: Arc<FedClock>, policy: TlsPolicy) -> Self {
        let names_max = match policy.full_every_s {
            0 => 0,
            _ => policy.sessions_max,
        };
        let kept = Kept {
            current: None,
            offered: false,
            incoming: None,
            places: Lru::new(names_max),
            bytes: 0,
            max_bytes: policy.sessions_max_bytes,
        };
        Self {
            clock,
            full_every_s: u64::from(policy.full_every_s),
            kept: Mutex::new(kept),
        }
    }

    /// What rustls says and asks from now on is of `place`.
    pub(super) fn attend(&self, place: Fingerprint) {
        let mut kept = self.kept();
        (kept.current, kept.offered, kept.incoming) = (Some(place), false, None);
    }

    /// Keeps the session that rustls gave in the call that is over, if there was one. It holds at
    /// most as many bytes as `came` says: those of its chain, and those that came with its ticket.
    /// One that is too large is not kept: no server of the world sends so much.
    pub(super) fn settle(&self, came: impl FnOnce() -> usize) {
        let mut kept = self.kept();
        let Some(session) = kept.incoming.take() else {
            return;
        };
        let bytes = came() + FIXED_BYTES;
        if bytes <= TLS_SESSION_MAX_BYTES {
            kept.keep(session, bytes);
        } else {
            kept.change(|place| place.session = None);
        }
    }

    /// A full handshake with the current place has succeeded, with a chain that is good until
    /// `not_after` (seconds since the Unix epoch).
    pub(super) fn note_full(&self, not_after: i64) {
        let now = self.clock.seconds();
        let not_after = u64::try_from(not_after).unwrap_or(0);
        let until = not_after.min(now + self.full_every_s);
        let rests = |place: &Place| {
            let ahead = now + 1..=now + self.full_every_s;
            place.resumable_until == 0 && ahead.contains(&place.full_at)
        };
        self.kept().edit(|place| {
            if !rests(place) {
                (place.full_at, place.resumable_until) = (now, until);
            }
        });
    }

    /// Whether the link at work was given a session. rustls does not offer one that the server has
    /// limited to less time than has passed.
    pub(super) fn has_offered(&self) -> bool {
        self.kept().offered
    }

    /// The current place refused a session of its own. It would refuse the next one too, and cost
    /// a connection each time: it rests for as long as lies between two full handshakes.
    pub(super) fn rest(&self) {
        let until = self.clock.seconds() + self.full_every_s;
        self.distrust();
        self.kept().change(|place| place.full_at = until);
    }

    /// A connection to the current place failed: the next one is not to stand on what was agreed
    /// before, which may be the reason.
    pub(super) fn distrust(&self) {
        let mut kept = self.kept();
        kept.incoming = None;
        kept.change(|place| (place.resumable_until, place.session) = (0, None));
    }

    /// Names that are kept.
    pub(super) fn len(&self) -> usize {
        self.kept().places.len()
    }

    /// Memory of what is kept of their sessions, at most; what came with them is counted in.
    pub(super) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `ask` takes of a session that may be resumed now.
    fn resumable<T>(&self, ask: impl FnOnce(&mut Place) -> Option<T>) -> Option<T> {
        let now = self.clock.seconds();
        let mut kept = self.kept();
        let session = kept.change(|place| {
            let fresh = (place.full_at..place.resumable_until).contains(&now);
            fresh.then(|| ask(place)).flatten()
        });
        let session = session.flatten();
        kept.offered |= session.is_some();
        session
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().edit(|place| place.kx_hint = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().change(|place| place.kx_hint).flatten()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().incoming = Some(Session::Tls12(value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.resumable(|place| place.tls12().cloned())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().change(|place| {
            if place.tls12().is_some() {
                place.session = None;
            }
        });
    }

    /// Servers send several tickets for browsers that open several connections. The last one is
    /// enough: each has a copy of the chain with it.
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept().incoming = Some(Session::Tls13(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.resumable(Place::ticket)
    }
}
