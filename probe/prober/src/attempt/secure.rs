//! The TLS part of an attempt: records in, plaintext handed on, records out. The handshake's
//! rules are in `tls`.

use model::FailureClass;
use model::time::Now;
use model::url::Scheme;

use super::{Attempt, Stage, pending};
use crate::shared::Shared;
use crate::tls::{TlsFault, TlsLink};

impl Attempt {
    /// Hands the request to the link, which sends it once the handshake is through, and writes the
    /// hello, which can go out with the connect. A host that no certificate could name is told
    /// once the connection stands.
    pub(super) fn prepare_tls(&mut self, shared: &Shared, now: Now) {
        let Some(link) = self.tls.as_mut() else {
            return;
        };
        let request = &mut self.buffers.out;
        if link.open(&shared.tls, request, now.unix).is_ok() {
            request.clear();
            link.write(request);
        }
    }

    /// The connection stands; the hello was sent with the connect, or goes now.
    pub(super) fn start_tls(&mut self, sent: bool, shared: &Shared, now: Now) {
        let link = self.tls.as_mut().expect("an https attempt has a link");
        if link.is_open() {
            self.pending |= if sent { pending::RECV } else { pending::SEND };
        } else if let Err(fault) = link.open(&shared.tls, &self.buffers.out, now.unix) {
            self.why = "the host has no form that a certificate could name";
            self.on_fault(fault, shared, now);
        }
    }

    /// Takes in records. The link is lent out meanwhile, since its plaintext feeds `self`. What
    /// follows a `close_notify` is not looked at: the link would never take it off `bytes`.
    pub(super) fn on_records(&mut self, mut bytes: &[u8], shared: &Shared, now: Now) {
        let mut link = self.tls.take().expect("an https attempt has a link");
        let mut fault = None;
        while !bytes.is_empty()
            && fault.is_none()
            && self.stage < Stage::Turning
            && !link.peer_has_closed()
        {
            let received = link.receive(&shared.tls, &mut bytes, now.unix);
            if self.stage == Stage::Handshaking && !link.is_handshaking() {
                self.flags |= link.established(&shared.tls, now.unix);
                self.enter(Stage::Sending, now);
                if self.hop.scheme == Scheme::Tls {
                    self.tls = Some(link);
                    return self.on_handshaken(now);
                }
            }
            self.drain(&mut link, shared, now);
            fault = received.err();
        }
        let closed = link.peer_has_closed();
        self.tls = Some(link);
        if self.stage >= Stage::Turning {
            return;
        }
        if let Some(fault) = fault {
            self.on_fault(fault, shared, now);
        } else if closed && !self.shake_hands_anew(FailureClass::TlsHandshake, shared, now) {
            self.on_eof(now);
        } else if !closed {
            self.flush_tls();
        }
    }

    fn drain(&mut self, link: &mut TlsLink, shared: &Shared, now: Now) {
        loop {
            let piece = link.plaintext();
            let length = piece.len();
            if length == 0 {
                return self.judge_body(now);
            }
            self.on_plaintext(piece, shared, now);
            link.consume(length);
        }
    }

    pub(super) fn flush_tls(&mut self) {
        let link = self.tls.as_mut().expect("an https attempt has a link");
        if link.wants_write() && !self.sending {
            link.write(&mut self.buffers.out);
            self.pending |= pending::SEND;
        }
    }

    fn on_fault(&mut self, fault: TlsFault, shared: &Shared, now: Now) {
        if self.shake_hands_anew(fault.class, shared, now) {
            return;
        }
        match fault.refusal {
            Some(refusal) => self.look_again(refusal, shared, now),
            None => self.finish(Some(fault.class), now),
        }
    }
}
