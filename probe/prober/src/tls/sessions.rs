//! TLS sessions of one core and when they may be resumed: between two full handshakes with a name
//! at most `full_every_s` pass, and a session never outlives the chain that it stands on.
//!
//! rustls asks by server name alone. Here a session belongs to a [`Fingerprint`] of name and port,
//! which the link that is at work has announced; the roots are those of the settings that this
//! store belongs to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use super::FedClock;
use super::fingerprint::Fingerprint;
use super::lru::Lru;

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
    places: Lru<Fingerprint, Place>,
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
    tls12: Option<Tls12ClientSessionValue>,
    /// A ticket is used once; the check that uses it is given the next one.
    tls13: Option<Tls13ClientSessionValue>,
}

impl Sessions {
    /// With room for `max` names; for none when every handshake is to be a full one.
    pub(super) fn new(clock: Arc<FedClock>, full_every_s: u32, max: usize) -> Self {
        let max = if full_every_s == 0 { 0 } else { max };
        let kept = Kept {
            current: None,
            offered: false,
            places: Lru::new(max),
        };
        Self {
            clock,
            full_every_s: u64::from(full_every_s),
            kept: Mutex::new(kept),
        }
    }

    /// What rustls says and asks from now on is of `place`.
    pub(super) fn attend(&self, place: Fingerprint) {
        let mut kept = self.kept();
        (kept.current, kept.offered) = (Some(place), false);
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
        self.edit(|place| {
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
        self.known(|place| {
            place.full_at = until;
            None::<()>
        });
    }

    /// A connection to the current place failed: the next one is not to stand on what was agreed
    /// before, which may be the reason.
    pub(super) fn distrust(&self) {
        self.known(|place| {
            place.resumable_until = 0;
            (place.tls12, place.tls13) = (None, None);
            None::<()>
        });
    }

    /// Names that are kept.
    pub(super) fn len(&self) -> usize {
        self.kept().places.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, change: impl FnOnce(&mut Place)) {
        let mut kept = self.kept();
        let Some(current) = kept.current else { return };
        if let Some(place) = kept.places.get(&current) {
            return change(place);
        }
        let mut place = Place::default();
        change(&mut place);
        kept.places.insert(current, place);
    }

    fn known<T>(&self, ask: impl FnOnce(&mut Place) -> Option<T>) -> Option<T> {
        let mut kept = self.kept();
        let current = kept.current?;
        kept.places.get(&current).and_then(ask)
    }

    fn resumable<T>(&self, ask: impl FnOnce(&mut Place) -> Option<T>) -> Option<T> {
        let now = self.clock.seconds();
        let session = self.known(|place| {
            let fresh = (place.full_at..place.resumable_until).contains(&now);
            fresh.then(|| ask(place)).flatten()
        });
        if session.is_some() {
            self.kept().offered = true;
        }
        session
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.edit(|place| place.kx_hint = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.known(|place| place.kx_hint)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(|place| place.tls12 = Some(value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.resumable(|place| place.tls12.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.edit(|place| place.tls12 = None);
    }

    /// Servers send several tickets for browsers that open several connections. The last one is
    /// enough: each has a copy of the chain with it.
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(|place| place.tls13 = Some(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.resumable(|place| place.tls13.take())
    }
}
