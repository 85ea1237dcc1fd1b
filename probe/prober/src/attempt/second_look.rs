//! The second look: a server that refuses our hello gets an old client's, on a connection of its
//! own inside the same deadline. It tells a server that speaks only what nobody should speak any
//! more from one that is broken; nothing more is ever said on that connection.
//!
//! ```text
//! Handshaking ─► refused ─► known of the last 24 h ─────────────────────────► Ended
//!                   └─────► Connect ─► Send legacy hello ─► Recv ServerHello ──┘
//! ```
//! The stage stays Handshaking, so that all of it is in the phase `tls`. A look that comes to
//! nothing leaves the class at what the first connection said, `tls.handshake`.

use model::FailureClass;
use model::time::Now;

use super::errno::Errno;
use super::spec::{Conn, ErrnoAt, Event};
use super::{Attempt, Stage, bit, errno, pending};
use crate::shared::Shared;
use crate::tls::Refusal;

impl Attempt {
    /// Whether `event` is of a second look, or brings one about: then it is dealt with.
    pub(super) fn on_second_look(&mut self, event: &Event<'_>, shared: &Shared, now: Now) -> bool {
        let Some(link) = self
            .tls
            .as_ref()
            .filter(|_| self.stage == Stage::Handshaking)
        else {
            return false;
        };
        if link.is_looking() {
            return self.on_look(event, shared, now);
        }
        let closed = link.is_unheard() && self.is_closed_by(event);
        if closed {
            if let Event::IoError { errno, .. } = *event {
                self.send_errno = self.send_errno.or(Some(Errno::new(errno)));
            }
            self.why = "the server closed the connection instead of an answer to the TLS hello";
            self.look_again(Refusal::Closed, shared, now);
        }
        closed
    }

    /// Closes the connection and opens the next one for a second look, or ends the attempt when
    /// an earlier look tells.
    pub(super) fn look_again(&mut self, refusal: Refusal, shared: &Shared, now: Now) {
        let link = self.tls.as_mut().expect("an https attempt has a link");
        let out = &mut self.buffers.out;
        if let Some(finding) = link.look_again(&shared.tls, refusal, out, now.unix) {
            return self.end_look(finding.class(), now);
        }
        self.leave_connection();
        self.sending = false;
        self.pending = pending::CONNECT;
    }

    /// Whether the remote ended the connection in use. An error of a send is not yet the end: the
    /// reason may still be read.
    pub(super) fn is_closed_by(&self, event: &Event<'_>) -> bool {
        let (conn, reset) = match *event {
            Event::Eof { conn } => (conn, true),
            Event::IoError { conn, errno } => {
                let unread = self.sending && self.send_errno.is_none();
                (conn, errno::was_established(errno) && !unread)
            }
            _ => return false,
        };
        reset && self.in_use(conn)
    }

    /// Whether `conn` is the one that the attempt goes on with, be it that it does not stand yet.
    pub(super) fn in_use(&self, conn: Conn) -> bool {
        conn == self.conn && self.opened & bit(conn) != 0
    }

    /// Events of the look's own connection, and the deadline. What is ours to blame, a
    /// cancellation, and what belongs to the first connection go the way of every attempt.
    fn on_look(&mut self, event: &Event<'_>, shared: &Shared, now: Now) -> bool {
        match *event {
            Event::Connected { conn, .. } if self.in_use(conn) => {
                self.pending = pending::SEND;
            }
            Event::ConnectError { conn, errno, at } if self.in_use(conn) => {
                self.opened &= !bit(conn);
                self.on_no_look(errno, at, now);
            }
            Event::Bytes { conn, bytes } if self.in_use(conn) => {
                self.on_look_bytes(bytes, shared, now);
            }
            // The answer may be there all the same.
            Event::IoError { conn, .. } if self.in_use(conn) && self.sending => {
                self.sending = false;
                self.pending |= pending::RECV;
            }
            Event::Eof { conn } | Event::IoError { conn, .. } if self.in_use(conn) => {
                if self.is_closed_by(event) {
                    let link = self.tls.as_mut().expect("an https attempt has a link");
                    link.refuse_look(&shared.tls, now.unix);
                }
                self.end_look(FailureClass::TlsHandshake, now);
            }
            Event::Deadline { ours: false } => self.end_look(FailureClass::TlsHandshake, now),
            _ => return false,
        }
        true
    }

    /// The look cannot be made. When that is our fault, nothing is said of the server.
    fn on_no_look(&mut self, errno: i32, at: ErrnoAt, now: Now) {
        match errno::connect_class(errno, at) {
            FailureClass::ConnectLocal => {
                self.errno = Some(errno);
                self.finish(Some(FailureClass::ConnectLocal), now);
            }
            _ => self.end_look(FailureClass::TlsHandshake, now),
        }
    }

    fn on_look_bytes(&mut self, bytes: &[u8], shared: &Shared, now: Now) {
        let link = self.tls.as_mut().expect("an https attempt has a link");
        match link.hear_look(&shared.tls, bytes, now.unix) {
            Some(finding) => self.end_look(finding.class(), now),
            None => self.pending |= pending::RECV,
        }
    }

    fn end_look(&mut self, class: FailureClass, now: Now) {
        if class == FailureClass::TlsHandshake {
            self.errno = self.send_errno.map(Errno::get);
        }
        self.finish(Some(class), now);
    }
}
