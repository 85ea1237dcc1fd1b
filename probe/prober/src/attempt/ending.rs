//! How the stages of an attempt end, and the attempt itself: phases, the class of a deadline, the
//! verdict. It opens and reads nothing.

use model::FailureClass;
use model::limits::BODY_BUDGET_MS;
use model::outcome::{PHASE_ABSENT, flags};
use model::time::{MonoUs, Now};
use model::url::Scheme;

use super::{Attempt, NO_TIMER, Stage};
use crate::http1::Flaw;

/// What a server makes of a client that it has waited for in vain.
const GIVEN_UP: [FailureClass; 3] = [
    FailureClass::HttpReset,
    FailureClass::HttpTruncated,
    FailureClass::TlsHandshake,
];

/// What some servers say to such a client before they close.
const REQUEST_TIMEOUT: u16 = 408;

impl Attempt {
    /// What it says that the deadline has passed in this stage.
    pub(super) fn timeout_class(&mut self) -> FailureClass {
        match self.stage {
            Stage::Resolving => FailureClass::DnsTimeout,
            Stage::Connecting => self.connect_verdict(),
            Stage::Handshaking => FailureClass::TlsTimeout,
            _ if self.hop.scheme == Scheme::Tls => FailureClass::TlsTimeout,
            _ => FailureClass::HttpTimeout,
        }
    }

    /// Ends the phase of the current stage and goes to `next`.
    pub(super) fn enter(&mut self, next: Stage, now: Now) {
        let spent = now.mono.since(self.mark).min(u64::from(PHASE_ABSENT - 1)) as u32;
        let phase = match self.stage {
            Stage::Resolving => &mut self.phases.dns_us,
            Stage::Connecting => &mut self.phases.connect_us,
            Stage::Handshaking => &mut self.phases.tls_us,
            Stage::Sending | Stage::Awaiting => &mut self.phases.ttfb_us,
            Stage::Head | Stage::Body | Stage::Turning | Stage::Ended => &mut self.phases.body_us,
        };
        let same_phase = matches!((self.stage, next), (Stage::Head, Stage::Body));
        if !same_phase {
            *phase = spent;
            self.mark = now.mono;
        }
        self.stage = next;
    }

    /// Ends the attempt for a flaw of the target.
    pub(super) fn fail(&mut self, flaw: Flaw, now: Now) {
        self.why = flaw.why;
        self.finish(Some(flaw.class), now);
    }

    /// Ends the attempt where we read no further. A body whose end we do not wait for is as slow
    /// as the last byte of it that was needed; our own waiting is not the target's.
    pub(super) fn finish_unread(&mut self, class: Option<FailureClass>, now: Now) {
        let awaited = self.hop.body.is_none_or(|body| !body.is_open_ended());
        let needed = match &self.hop.search {
            _ if awaited => now.mono,
            Some(search) => search.needed(),
            // Armed when the head was complete.
            None => MonoUs(self.timer.0.saturating_sub(BODY_BUDGET_MS * 1_000)),
        };
        self.finish_at(class, needed.min(now.mono), now);
    }

    /// This node stood still for much of the time of the check. A server that gives up on a silent
    /// client closes the connection, or says 408: then nothing is known of the site.
    pub fn excuse(&mut self) {
        let is_given_up = self.class.is_some_and(|class| match class {
            FailureClass::HttpStatus => self.status == REQUEST_TIMEOUT,
            class => GIVEN_UP.contains(&class),
        });
        if is_given_up {
            self.class = Some(FailureClass::LocalPressure);
            self.why = "it stood still for so long that the server may have given it up";
        }
    }

    /// Ends the attempt: `class` is the verdict, unless a success came too slowly.
    pub(super) fn finish(&mut self, class: Option<FailureClass>, now: Now) {
        self.finish_at(class, now.mono, now);
    }

    /// Ends the attempt, unless it has to be asked once more; how slow a success is counts up to
    /// `needed`.
    fn finish_at(&mut self, class: Option<FailureClass>, needed: MonoUs, now: Now) {
        if class.is_some_and(|class| self.is_doubtful(class)) {
            return self.refuse_reuse();
        }
        self.note_reuse();
        self.enter(Stage::Ended, now);
        let total_us = now
            .mono
            .since(self.started)
            .min(u64::from(PHASE_ABSENT - 1)) as u32;
        self.phases.total_us = total_us;
        if class == Some(FailureClass::SafetyBlocked) {
            // No connection was tried: the phase was not reached.
            self.phases.connect_us = PHASE_ABSENT;
        }
        let limit_ms = self
            .rules
            .as_ref()
            .and_then(|rules| rules.set().max_latency_ms);
        let needed_us = needed.since(self.started);
        let slow = limit_ms.is_some_and(|ms| needed_us > u64::from(ms) * 1_000);
        self.class = if class.is_none() && slow {
            self.flags |= flags::HTTP_VERIFIED;
            Some(FailureClass::Latency)
        } else {
            class
        };
        if self.hop.body.is_some_and(|body| body.sloppy()) {
            self.flags |= flags::HTTP_SLOPPY;
        }
        self.timer = NO_TIMER;
        self.pending = 0;
        self.closing = self.opened;
        self.keep_last();
    }
}
