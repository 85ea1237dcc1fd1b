//! Connections that checks leave for those that come after them, and where a check may go over
//! one. Which there are is in `kept`; whether an answer leaves one is for the attempt to say.

use std::net::{IpAddr, SocketAddr};

use model::Now;
use prober::attempt::{Command, Conn};

use super::Core;
use crate::attempts::{AttemptKey, InFlight, Owner};
use crate::kept::{KeptId, Place};

impl Core {
    /// Under which number the reactor is to keep a connection to `address`; `None`: it is to be
    /// closed. `local`: our address of it, asked for only where it matters.
    pub fn keep(
        &mut self,
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
        self.kept.keep(place, now.mono)
    }

    /// The connection of [`Io::Reuse`](super::Io::Reuse) had ended, or had something to say that
    /// nobody asked for: another one, kept or new, takes its place.
    pub fn reuse_failed(&mut self, key: AttemptKey, conn: Conn, address: SocketAddr) {
        self.account.reused_dead += 1;
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.interrupt = Some(Command::Connect { conn, address });
        }
    }

    /// A kept connection for `conn`, if there is one and it will do.
    pub(super) fn take_kept(
        &mut self,
        key: AttemptKey,
        conn: Conn,
        address: SocketAddr,
        now: Now,
    ) -> Option<KeptId> {
        let entry = self.attempts.get_mut(key)?;
        if needs_its_own(entry) || !entry.attempt.may_reuse(conn) {
            return None;
        }
        let place = Place {
            to: address,
            source: self.sources.in_turn(address),
        };
        let kept = self.kept.take(place, now.mono)?;
        entry.connecting = false;
        self.sources.pass(address);
        Some(kept)
    }
}

/// Whether the check confirms what another one has found: nothing of that one may have a part in
/// it.
fn needs_its_own(entry: &InFlight) -> bool {
    entry.commanded && matches!(entry.owner, Owner::Slot(_))
}
