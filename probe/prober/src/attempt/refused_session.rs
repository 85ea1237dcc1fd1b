//! A server that refuses a TLS session which it gave out itself: the session is forgotten, and a
//! full handshake on a connection of its own follows inside the same deadline. What is remembered
//! here to save time is never why a site is down.
//!
//! ```text
//! Handshaking, session offered ─► alert, nonsense, close or reset ─► Connect ─► Handshaking, full
//!            └► the server turns to a full handshake: what fails then is told as it is
//! ```
//! The stage stays Handshaking, so that all of it is in the phase `tls`. It happens once in a hop
//! at most: a full handshake offers nothing that could be refused. Where no second connection comes
//! about, the class is what the first one said.

use model::FailureClass;
use model::outcome::flags;
use model::time::Now;

use super::spec::{Conn, ErrnoAt, Event};
use super::{Attempt, Stage, errno, pending};
use crate::shared::Shared;

impl Attempt {
    /// Whether `event` ends a handshake that offered a session, or is of the connection for the
    /// full one: then it is dealt with.
    pub(super) fn on_refused_session(
        &mut self,
        event: &Event<'_>,
        shared: &Shared,
        now: Now,
    ) -> bool {
        let handshakes = self.stage == Stage::Handshaking;
        let Some(link) = self.tls.as_mut().filter(|_| handshakes) else {
            return false;
        };
        if let Some(class) = link.refused_session() {
            return self.on_reconnect(event, class, shared, now);
        }
        if matches!(event, Event::Deadline { .. }) && link.suspects_session() {
            // Silence may be its answer to the session; there is no time left to find out.
            link.forget_session(&shared.tls, now.unix);
            return false;
        }
        self.is_closed_by(event) && self.shake_hands_anew(FailureClass::TlsHandshake, shared, now)
    }

    /// The handshake failed with `class`: if the session that it offers may be why, opens the
    /// connection for a full one. Whether it does.
    pub(super) fn shake_hands_anew(
        &mut self,
        class: FailureClass,
        shared: &Shared,
        now: Now,
    ) -> bool {
        let handshakes = self.stage == Stage::Handshaking;
        let link = self.tls.as_mut().filter(|_| handshakes);
        let Some(link) = link.filter(|link| link.suspects_session()) else {
            return false;
        };
        link.refuse_session(&shared.tls, class, now.unix);
        self.flags |= flags::TLS_SESSION_REFUSED;
        self.leave_connection();
        self.buffers.out.clear();
        (self.sending, self.send_errno) = (false, None);
        self.pending = pending::CONNECT;
        true
    }

    /// Events of the connection for the full handshake, until it stands. What is ours to blame, a
    /// cancellation, and the deadline go the way of every attempt.
    fn on_reconnect(
        &mut self,
        event: &Event<'_>,
        class: FailureClass,
        shared: &Shared,
        now: Now,
    ) -> bool {
        match *event {
            Event::Connected { conn, .. } if self.in_use(conn) => {
                self.rewrite_request(shared);
                self.prepare_tls(shared, now);
                self.start_tls(false, shared, now);
            }
            Event::ConnectError { conn, errno, at } if self.in_use(conn) => {
                self.on_no_reconnect(conn, (errno, at), class, now);
            }
            _ => return false,
        }
        true
    }

    /// There is no second connection. When that is our fault, nothing is said of the server.
    fn on_no_reconnect(
        &mut self,
        conn: Conn,
        (errno, at): (i32, ErrnoAt),
        class: FailureClass,
        now: Now,
    ) {
        self.opened &= !super::bit(conn);
        let is_ours = errno::connect_class(errno, at) == FailureClass::ConnectLocal;
        self.errno = is_ours.then_some(errno);
        self.why = "the connection was closed during the TLS handshake";
        let class = if is_ours {
            FailureClass::ConnectLocal
        } else {
            class
        };
        self.finish(Some(class), now);
    }
}
