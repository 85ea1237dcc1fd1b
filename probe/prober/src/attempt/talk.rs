//! Checks that make no request: a few bytes each way over a bare connection, or nothing at all
//! after the handshake. It owns what is said, what must come, and where such a check ends.

use memchr::memmem::Finder;
use model::FailureClass;
use model::check::TcpCheck;
use model::limits::TCP_TEXT_MAX_BYTES;
use model::outcome::PHASE_ABSENT;
use model::time::Now;
use model::url::Scheme;

use super::errno::Errno;
use super::{Attempt, AttemptSpec, Rules, Stage, pending};

/// What is said over a bare connection, and what must come back.
#[derive(Debug)]
pub(crate) struct Talk {
    send: Vec<u8>,
    expect: Option<Finder<'static>>,
}

impl Talk {
    /// The talk of `check`; `None` when the connection alone is asked for.
    pub(crate) fn of(check: &TcpCheck) -> Option<Self> {
        let silent = check.send.is_none() && check.expect.is_none();
        let bytes = |text: &model::check::TcpText| text.as_bytes().to_vec();
        let finder = |text: &model::check::TcpText| Finder::new(text.as_bytes()).into_owned();
        (!silent).then(|| Self {
            send: check.send.as_ref().map(bytes).unwrap_or_default(),
            expect: check.expect.as_ref().map(finder),
        })
    }

    /// Appends what is said first to `out`.
    pub(super) fn write(spec: &AttemptSpec<'_>, out: &mut Vec<u8>) {
        if let Some(talk) = spec.rules.and_then(|rules| rules.set().talk.as_ref()) {
            out.extend_from_slice(&talk.send);
        }
    }
}

impl Attempt {
    /// The bare connection stands; what is to be said is `sent`, or goes now.
    pub(super) fn start_talk(&mut self, sent: bool, now: Now) {
        if sent || self.buffers.out.is_empty() {
            self.enter(Stage::Awaiting, now);
            self.on_said(now);
        } else {
            self.enter(Stage::Sending, now);
            self.pending |= pending::SEND;
        }
    }

    /// Everything is said. When nothing must come back, that is all; unless it was said in vain,
    /// then the reason may still be read.
    pub(super) fn on_said(&mut self, now: Now) {
        if self.expected().is_some() || self.send_errno.is_some() {
            self.pending |= pending::RECV;
        } else {
            self.finish_unanswered(now);
        }
    }

    /// The handshake is all that was asked for; what follows it is not looked at. Our last words
    /// of it go out, so that the server does not see it broken off.
    pub(super) fn on_handshaken(&mut self, now: Now) {
        self.flush_tls();
        if self.pending & pending::SEND == 0 {
            self.finish_unanswered(now);
        }
    }

    /// Looks for what must come, in the first KiB.
    pub(super) fn on_talk(&mut self, bytes: &[u8], now: Now) {
        if self.stage < Stage::Body {
            self.enter(Stage::Body, now);
        }
        let Some(expected) = self.rules.as_ref().and_then(expected_by) else {
            // Read for the reason alone, and there is none in it.
            return self.on_io_error(self.send_errno.map_or(0, Errno::get), now);
        };
        let heard = &mut self.buffers.carry;
        let known = heard.len();
        let room = TCP_TEXT_MAX_BYTES - known;
        heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let seam = known.saturating_sub(expected.needle().len() - 1);
        if expected.find(&heard[seam..]).is_some() {
            self.finish(None, now);
        } else if heard.len() == TCP_TEXT_MAX_BYTES {
            self.finish(Some(FailureClass::BodyKeywordMissing), now);
        }
    }

    /// Whether the remote ended a talk in which it had said something.
    pub(super) fn is_talked_out(&self) -> bool {
        self.hop.scheme == Scheme::Tcp && self.stage == Stage::Body
    }

    fn expected(&self) -> Option<&Finder<'static>> {
        self.rules.as_ref().and_then(expected_by)
    }

    /// A success without an answer: the first byte of one was never waited for.
    fn finish_unanswered(&mut self, now: Now) {
        self.finish(None, now);
        self.phases.ttfb_us = PHASE_ABSENT;
    }
}

fn expected_by(rules: &Rules) -> Option<&Finder<'static>> {
    rules.set().talk.as_ref()?.expect.as_ref()
}
