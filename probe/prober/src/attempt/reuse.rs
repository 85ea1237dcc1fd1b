//! Connections of cleartext HTTP that carry more than one request: whether one is kept once its
//! answer has ended, and what becomes of a request that went out on one that was kept.
//!
//! ```text
//! Connecting ─► Connected ─► … ─► an answer that ends where it should ─► Keep
//!     └───────► Reused ────► Sending ─► … ─► an answer ─► as on any other connection
//!                               └► closed, reset, nonsense ─► Turning ─► Connecting, on its own
//! ```
//! A kept connection that brings no answer is given up for a new one to the same address, once in a
//! hop and inside the same deadline. Where it took so long that the deadline passed, nothing is
//! known of the site: [`Attempt::unheard_at`] says so, for another attempt. An answer that was
//! read counts, but for the two that speak of the connection.
//!
//! Of an answer it knows only where it must have ended. Bytes behind it that were read rule the
//! connection out here; those that come later are for the shell to see before it gives the
//! connection out: so it does not matter how they were split.

use std::net::{IpAddr, SocketAddr};

use model::FailureClass;
use model::Verdict;
use model::limits::ATTEMPT_READ_MAX_BYTES;
use model::outcome::{PHASE_ABSENT, flags};
use model::time::Now;
use model::url::Scheme;

use super::spec::{AttemptSpec, Command, Conn};
use super::{Attempt, NO_TIMER, Stage, bit, pending};
use crate::http1::scan::Scan;
use crate::shared::Shared;

/// 408 is what some servers say to a connection that is idle for too long, 421 to a host that they
/// do not serve on it: the request may be repeated on another one (RFC 9110, §15.5.9, §15.5.20).
const OF_THE_CONNECTION: [u16; 2] = [408, 421];

/// What it may be called that the time was up.
const TIMEOUTS: [FailureClass; 3] = [
    FailureClass::ConnectTimeout,
    FailureClass::TlsTimeout,
    FailureClass::HttpTimeout,
];

/// How the request of a hop is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// By a connection that nobody uses before or after it.
    Single,
    /// By one that is opened for it and may be kept.
    Fresh,
    /// By one that was kept.
    Reused,
    /// By one that was kept and brought no answer; another one is not asked for yet.
    Refused,
    /// By one that is opened for it, since the kept one brought no answer.
    Renewed,
}

/// What the answer leaves of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing of use, as far as is known.
    Close,
    /// Its head says that the connection lasts.
    Open,
    /// It is over, and another request may follow.
    Settled,
}

impl Carrier {
    pub(super) fn of(spec: &AttemptSpec<'_>, shared: &Shared) -> Self {
        if shared.reuse && spec.scheme == Scheme::Http {
            Self::Fresh
        } else {
            Self::Single
        }
    }
}

impl Attempt {
    /// Whether a connection that was kept will do for `conn`, which is to be opened: then
    /// [`Event::Reused`](super::Event::Reused) may come instead of that. Never while each family
    /// must be connected to, or another connection may win.
    pub fn may_reuse(&self, conn: Conn) -> bool {
        let lane = self.lane_of(conn);
        self.carrier == Carrier::Fresh && lane.is_some_and(|lane| self.is_alone(lane))
    }

    /// Kept connections that brought no answer.
    pub fn reuses_refused(&self) -> u32 {
        let before = self.journey.as_ref();
        let before = before.map_or(0, |journey| journey.reuses_refused);
        before + u32::from(self.carrier == Carrier::Renewed || self.met_silence())
    }

    /// The address towards which kept connections used up the deadline, or a part of it: they
    /// brought no answer, and the time was up before another one did. The verdict, which is a
    /// timeout, may then speak of them alone.
    pub fn unheard_at(&self) -> Option<IpAddr> {
        let timed_out = self.class.is_some_and(|class| TIMEOUTS.contains(&class));
        let is_unheard = timed_out && self.reuses_refused() > 0;
        self.route().address().filter(|_| is_unheard)
    }

    /// The time was up, and nothing had come of a kept connection.
    fn met_silence(&self) -> bool {
        let timed_out = self.class == Some(FailureClass::HttpTimeout);
        timed_out && self.carrier == Carrier::Reused && self.status == 0
    }

    /// That a kept connection took time of the check and brought nothing.
    pub(super) fn reuse_note(&self) -> Option<&'static str> {
        let note = if self.met_silence() {
            "it was asked over a connection that an earlier check had left"
        } else {
            "a connection that an earlier check had left was tried before and brought no answer"
        };
        (self.reuses_refused() > 0).then_some(note)
    }

    /// A kept connection was taken instead of a new one: there is no phase of connecting.
    pub(super) fn on_reused(&mut self, conn: Conn, now: Now) {
        let lane = self.lane_of(conn).filter(|_| self.may_reuse(conn));
        if !lane.is_some_and(|lane| self.has_connected(lane)) {
            return;
        }
        self.carrier = Carrier::Reused;
        self.timer = NO_TIMER;
        (self.stage, self.mark) = (Stage::Sending, now.mono);
        self.pending = pending::SEND;
    }

    /// The answer is over as far as its framing says: unless there is a `surplus` of bytes behind
    /// it, another one could follow.
    pub(super) fn settle(&mut self, surplus: bool) {
        let sloppy = self.hop.body.is_some_and(|body| body.sloppy());
        let written = !self.sending && self.send_errno.is_none();
        let lasts = self.carrier != Carrier::Single && self.after == After::Open;
        if lasts && written && !sloppy && !surplus {
            self.after = After::Settled;
        }
    }

    /// More came than the answer after which the connection was to be kept.
    pub(super) fn unsettle(&mut self) {
        self.after = After::Close;
        if self.stage == Stage::Ended {
            (self.pending, self.closing) = (0, self.opened);
        }
    }

    /// The attempt is over: its connection is kept, if its answer has left it so.
    pub(super) fn keep_last(&mut self) {
        if self.after == After::Settled && self.opened & bit(self.conn) != 0 {
            self.closing &= !bit(self.conn);
            self.pending = pending::KEEP;
        }
    }

    /// The hop is over: where its connection leads to, if that is to be kept.
    pub(super) fn left_to_keep(&self) -> Option<(Conn, SocketAddr)> {
        let is_settled = self.after == After::Settled;
        let address = self.route().address().filter(|_| is_settled)?;
        Some((self.conn, SocketAddr::new(address, self.hop.port)))
    }

    /// The command for the connection that a hop before this one has left, or for the last one.
    pub(super) fn give_keep(&mut self) -> Command {
        let left = self
            .journey
            .as_mut()
            .and_then(|journey| journey.left.take());
        let kept = left.or_else(|| self.left_to_keep());
        let (conn, address) = kept.expect("the answer on a connection that is kept was read");
        self.opened &= !bit(conn);
        Command::Keep { conn, address }
    }

    /// Says in the flags that the hop, which is over, went over a kept connection.
    pub(super) fn note_reuse(&mut self) {
        if self.carrier == Carrier::Reused {
            self.flags |= flags::CONNECTION_REUSED;
        }
    }

    /// Whether `class` may speak of the kept connection alone. Not the deadline: after it there is
    /// no time for another one.
    pub(super) fn is_doubtful(&self, class: FailureClass) -> bool {
        let brought_nothing = match self.status {
            0 => class != FailureClass::HttpTimeout || self.errno.is_some(),
            status => class == FailureClass::HttpStatus && OF_THE_CONNECTION.contains(&status),
        };
        let is_theirs = class.verdict() == Verdict::Down;
        self.carrier == Carrier::Reused && is_theirs && brought_nothing
    }

    /// Nothing came of the kept connection: [`Attempt::ask_afresh`] follows.
    pub(super) fn refuse_reuse(&mut self) {
        (self.carrier, self.stage) = (Carrier::Refused, Stage::Turning);
    }

    /// Gives the kept connection up and opens one to the same address, for the same request. What
    /// the first try took is in `total` alone.
    pub(super) fn ask_afresh(&mut self, shared: &Shared, now: Now) {
        self.leave_connection();
        self.buffers.carry.clear();
        self.rewrite_request(shared);
        (self.carrier, self.after) = (Carrier::Renewed, After::Close);
        (self.hop.scan, self.hop.interims) = (Scan::default(), 0);
        (self.phases.ttfb_us, self.phases.body_us) = (PHASE_ABSENT, PHASE_ABSENT);
        (self.status, self.sending, self.why) = (0, false, "");
        (self.errno, self.send_errno) = (None, None);
        self.forget_answer();
        (self.stage, self.pending, self.mark) = (Stage::Connecting, 0, now.mono);
        self.open(self.hop.lane, shared, now);
        self.arm();
    }

    /// What was read over the kept connection is no part of the hop: neither what was tolerated in
    /// it nor how much it was.
    fn forget_answer(&mut self) {
        let before = self.journey.as_ref();
        let before = before.map_or((0, ATTEMPT_READ_MAX_BYTES), |journey| journey.before);
        self.flags &= before.0 | !flags::HTTP_SLOPPY;
        self.read_left = before.1;
    }
}
