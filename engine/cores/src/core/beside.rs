//! What an attempt wants while its I/O is under way: a connection to the other family beside the
//! one that is being opened, or something else in its place.
//!
//! An attempt is driven by one sequence of I/O. What comes of anything else (a timer, an answer of
//! DNS, a connection beside) is followed up here: commands that can be carried out beside the I/O
//! under way are; any other one interrupts it.

use std::net::SocketAddr;

use model::Now;
use prober::attempt::{Command, Conn, Event};

use super::Core;
use crate::attempts::AttemptKey;
use crate::kept::KeptId;

/// What a reactor does beside the I/O under way of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Open a connection and write nothing to it; what comes of it goes to [`Core::side_event`].
    Open {
        /// Of this attempt.
        key: AttemptKey,
        /// Names the connection.
        conn: Conn,
        /// Where to.
        address: SocketAddr,
    },
    /// Give the connection up.
    Close {
        /// Of this attempt, which may be over.
        key: AttemptKey,
        /// The connection.
        conn: Conn,
    },
    /// Close a connection that was kept.
    LetGo {
        /// Which.
        kept: KeptId,
    },
}

impl Core {
    /// Whether there is something to do beside.
    pub fn has_sides(&self) -> bool {
        !self.sides.is_empty() || self.kept.has_gone()
    }

    /// The next thing to do beside.
    pub fn next_side(&mut self) -> Option<Side> {
        let side = self.sides.pop_front();
        side.or_else(|| self.kept.next_gone().map(|kept| Side::LetGo { kept }))
    }

    /// Brings back what came of a connection that was opened beside. Whether the attempt goes on
    /// with it: then it belongs to the attempt's own I/O from now on.
    pub fn side_event(&mut self, key: AttemptKey, event: Event<'_>, now: Now) -> bool {
        let (conn, is_over) = match event {
            Event::Connected { conn, .. } => (conn, false),
            Event::ConnectError { conn, .. } => (conn, true),
            _ => return false,
        };
        self.event(key, event, now);
        let Some(entry) = self.attempts.get_mut(key) else {
            return false;
        };
        let goes_on = entry.attempt.is_using(conn);
        if goes_on || is_over {
            entry.beside &= !bit(conn);
        }
        self.follow(key, now);
        goes_on
    }

    /// Carries out what an event brought about that does not come from the attempt's own I/O.
    pub(super) fn follow(&mut self, key: AttemptKey, now: Now) {
        while let Some(entry) = self.attempts.get_mut(key) {
            if entry.interrupt.is_some() {
                // Its I/O comes to an end anyway, and then asks for all that follows.
                return;
            }
            match entry.attempt.next() {
                Command::Wait => return,
                Command::Timer { at } => self.arm_timer(key, at),
                Command::Widen => self.widen(key, now),
                Command::Connect { conn, address } if entry.connecting => {
                    self.open_beside(key, conn, address, now);
                }
                Command::CloseConn { conn } if self.close_beside(key, conn) => {}
                command => return self.disturb(key, command),
            }
        }
    }

    fn disturb(&mut self, key: AttemptKey, command: Command) {
        if let Some(entry) = self.attempts.get_mut(key) {
            entry.interrupt = Some(command);
            self.woken.push(key);
        }
    }

    fn open_beside(&mut self, key: AttemptKey, conn: Conn, address: SocketAddr, now: Now) {
        let met = self.destinations.find(address.ip(), now.mono);
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        entry.beside |= bit(conn);
        let before = std::mem::replace(&mut entry.rival, met);
        self.enter_destination(met, now);
        self.leave_destination(before, now);
        self.sides.push_back(Side::Open { key, conn, address });
    }

    /// Whether the connection was opened beside; then it is given up.
    pub(super) fn close_beside(&mut self, key: AttemptKey, conn: Conn) -> bool {
        let Some(entry) = self.attempts.get_mut(key) else {
            return false;
        };
        let is_beside = entry.beside & bit(conn) != 0;
        entry.beside &= !bit(conn);
        if is_beside {
            self.sides.push_back(Side::Close { key, conn });
        }
        is_beside
    }

    /// The attempt is over: gives up what it has beside.
    pub(super) fn close_all_beside(&mut self, key: AttemptKey, mut beside: u8) {
        while beside != 0 {
            let conn = Conn(beside.trailing_zeros() as u8);
            beside &= beside - 1;
            self.sides.push_back(Side::Close { key, conn });
        }
    }
}

fn bit(conn: Conn) -> u8 {
    1 << conn.0
}
