//! Connections that checks leave for those that come after them, and where a check may go over
//! one. Which there are is in `kept`; whether an answer leaves one is for the attempt to say.
//!
//! Silence on a kept connection opens no incident: the check is made again. And no answer over one
//! closes an incident: a check of a site that was not up last opens its own.

use std::net::{IpAddr, SocketAddr};

use model::Now;
use prober::attempt::{Command, Conn};

use super::Core;
use crate::attempts::{AttemptKey, Owner};
use crate::kept::{Keepsake, KeptId, Place};

impl Core {
    /// Under which number the reactor is to keep a connection of the attempt to `address`; `None`:
    /// it is to be closed. `local`: our address of it, asked for only where it matters.
    pub fn keep(
        &mut self,
        key: AttemptKey,
        address: SocketAddr,
        local: impl FnOnce() -> Option<IpAddr>,
        now: Now,
    ) -> Option<KeptId> {
        if self.drain_by.is_some() {
            return None;
        }
        let source = self.sources.of(address, local);
        let place = Place {
            to: address,
            source,
        };
        let keepsake = Keepsake {
            place,
            since: self.attempts.get_mut(key)?.connected,
            capped: self.destinations.has_caps(address.ip()),
        };
        self.kept.keep(keepsake, now.mono)
    }

    /// The connection of [`Io::Reuse`](super::Io::Reuse) had ended, or had something to say that
    /// nobody asked for: another one, kept or new, takes its place.
    pub fn reuse_failed(&mut self, key: AttemptKey, conn: Conn, address: SocketAddr) {
        self.account.reused_dead += 1;
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.interrupt = Some(Command::Connect { conn, address });
        }
    }

    /// A kept connection for `conn`, if there is one and it will do. Not for a check that confirms
    /// what another one has found, or says that a site is up which was not, as far as is known
    /// here; nor for a one-shot that is not made again: nothing of another check has a part in it.
    pub(super) fn take_kept(
        &mut self,
        key: AttemptKey,
        conn: Conn,
        address: SocketAddr,
        now: Now,
    ) -> Option<KeptId> {
        let entry = self.attempts.get_mut(key)?;
        let may_reuse = match entry.owner {
            Owner::Slot(slot) => !entry.commanded && self.targets.is_up(slot),
            Owner::OneShot { .. } => self.askable.contains_key(&key),
        };
        if !may_reuse || !entry.attempt.may_reuse(conn) {
            return None;
        }
        let place = Place {
            to: address,
            source: self.sources.in_turn(address),
        };
        let (kept, since) = self.kept.take(place, now.mono)?;
        (entry.connecting, entry.connected) = (false, since);
        self.sources.pass(address);
        Some(kept)
    }
}
