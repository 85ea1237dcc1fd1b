//! The HTTP part of an attempt: plaintext in, stages Sending to Body, the rules for status and
//! body.

use model::FailureClass;
use model::limits::{
    ATTEMPT_READ_MORE_BYTES, BODY_BUDGET_MS, EVIDENCE_HEAD_MAX_BYTES, HEAD_MAX_BYTES,
    INTERIM_RESPONSES_MAX,
};
use model::outcome::flags;
use model::target::ExpectStatus;
use model::time::Now;

use super::redirect::Redirected;
use super::reuse::After;
use super::{Attempt, Stage};
use crate::http1::Flaw;
use crate::http1::body::{Body, Fed};
use crate::http1::head::{self, Head};
use crate::http1::scan::{Found, Scan};
use crate::rules::{BodyRules, Judgement, Search};
use crate::shared::Shared;

/// The default of `expect_status`, without a set to look into.
const EXPECTED: std::ops::RangeInclusive<u16> = 200..=399;

impl Attempt {
    /// Takes in decrypted (or never encrypted) bytes; what follows the end is not looked at. What
    /// they say of a body that is searched is judged by [`Attempt::judge_body`].
    pub(super) fn on_plaintext(&mut self, mut bytes: &[u8], shared: &Shared, now: Now) {
        if matches!(self.stage, Stage::Sending | Stage::Awaiting) {
            self.enter(Stage::Head, now);
        }
        while self.stage == Stage::Head && !bytes.is_empty() {
            bytes = self.on_head_bytes(bytes, shared, now);
        }
        if self.stage != Stage::Body || bytes.is_empty() {
            return;
        }
        let body = self.hop.body.as_mut().expect("the stage Body has a body");
        let rules = self
            .rules
            .as_ref()
            .and_then(|rules| rules.set().body.as_ref());
        let Some((search, rules)) = self.hop.search.as_mut().zip(rules) else {
            return match body.feed(bytes, &mut |_| {}) {
                Ok(Fed::Whole { surplus }) => {
                    self.settle(surplus);
                    self.finish(None, now);
                }
                Ok(Fed::Enough) => self.finish_unread(None, now),
                Ok(Fed::More) => {}
                Err(flaw) => self.fail(flaw, now),
            };
        };
        let fed = body.feed(bytes, &mut |piece| search.take(rules, piece, now.mono));
        if fed == Ok(Fed::More) {
            return;
        }
        // What was found before a flaw counts more than the flaw, however the bytes were cut.
        match (search.judge(rules, now.mono), fed) {
            (Judgement::Failed(class), _) => self.finish(Some(class), now),
            // A whole body has no end that we do not wait for.
            (Judgement::Passed, Ok(Fed::Whole { .. })) => self.finish(None, now),
            (Judgement::Passed, _) => self.finish_unread(None, now),
            // Only here is the end always waited for; above it is chance how much had come.
            (Judgement::Open, Ok(Fed::Whole { surplus })) => {
                self.settle(surplus);
                self.on_end_of_body(now);
            }
            (Judgement::Open, Ok(Fed::Enough)) => self.on_enough_body(now),
            (Judgement::Open, Ok(Fed::More)) => {}
            (Judgement::Open, Err(flaw)) => self.fail(flaw, now),
        }
    }

    /// Judges what came of a body that is searched; once for all that a read has brought.
    pub(super) fn judge_body(&mut self, now: Now) {
        if self.stage != Stage::Body {
            return;
        }
        let judged = self
            .search()
            .map(|(search, rules)| search.judge(rules, now.mono));
        match judged {
            Some(Judgement::Failed(class)) => self.finish(Some(class), now),
            Some(Judgement::Passed) => self.finish_unread(None, now),
            Some(Judgement::Open) | None => {}
        }
    }

    /// The body is over.
    fn on_end_of_body(&mut self, now: Now) {
        let search = self.search();
        let verdict = search.and_then(|(search, rules)| search.conclude(rules));
        self.finish(verdict, now);
    }

    /// So much of the body came that no more of it is read.
    fn on_enough_body(&mut self, now: Now) {
        let search = self.search();
        let verdict = search.and_then(|(search, rules)| search.stop(rules));
        self.finish_unread(verdict, now);
    }

    /// The search through the body, and what for.
    fn search(&mut self) -> Option<(&mut Search, &BodyRules)> {
        let rules = self.rules.as_ref()?.set().body.as_ref()?;
        Some((self.hop.search.as_mut()?, rules))
    }

    /// The time is up. A keyword that came has come; a body without a known end is judged by what
    /// came of it, unless the keyword is still to come.
    pub(super) fn on_deadline(&mut self, now: Now) {
        let timeout = Some(self.timeout_class());
        let open_ended = self.hop.body.is_some_and(|body| body.is_open_ended());
        let unsearched = if open_ended { None } else { timeout };
        let judged = self.search().map_or(unsearched, |(search, rules)| {
            let verdict = search.stop(rules);
            let enough = search.has_keyword() || open_ended && search.is_satisfied(rules);
            if enough { verdict } else { timeout }
        });
        self.finish_unread(judged, now);
    }

    /// So much has come that no more is read. Of a body that is enough; everything before it is
    /// over sooner with whoever means it well.
    pub(super) fn on_enough_read(&mut self, now: Now) {
        match self.stage {
            Stage::Ended => {}
            Stage::Body => self.on_enough_body(now),
            Stage::Handshaking => self.fail(
                Flaw {
                    class: FailureClass::TlsHandshake,
                    why: "1 MiB was read and the TLS handshake is not over",
                },
                now,
            ),
            _ => self.fail(
                Flaw {
                    class: FailureClass::HttpHeaderTooLarge,
                    why: "1 MiB was read and the response head is not complete",
                },
                now,
            ),
        }
    }

    /// The remote will send no more.
    pub(super) fn on_end_of_stream(&mut self, now: Now) {
        let left_out = match (self.stage, &self.hop.body) {
            (Stage::Body, Some(body)) => body.eof(),
            (Stage::Head, _) => Err(Flaw::truncated("the response head is not complete")),
            _ => Err(Flaw::truncated(
                "the connection was closed before the first byte",
            )),
        };
        match left_out {
            Ok(()) => self.on_end_of_body(now),
            Err(flaw) => self.fail(flaw, now),
        }
    }

    /// Goes on with the head; the bytes that follow it. A head that comes in one piece is parsed
    /// where it lies; else `carry` gathers it.
    fn on_head_bytes<'a>(&mut self, bytes: &'a [u8], shared: &Shared, now: Now) -> &'a [u8] {
        let known = self.buffers.carry.len();
        let carry = &mut self.buffers.carry;
        if known > 0 {
            carry.extend_from_slice(&bytes[..bytes.len().min(HEAD_MAX_BYTES - known)]);
        }
        let gathered: &[u8] = if known > 0 { carry } else { bytes };
        let end = match self.hop.scan.run(gathered) {
            Ok(Found::End(end)) => end,
            Ok(Found::Partial) => {
                if known == 0 {
                    carry.extend_from_slice(bytes);
                }
                return &[];
            }
            Err(flaw) => {
                self.keep_head(if known > 0 { &[] } else { bytes });
                self.fail(flaw, now);
                return &[];
            }
        };
        let parsed = head::parse(&gathered[..end], self.hop.method);
        let redirected = parsed.ok().and_then(|head| Redirected::of(&head, gathered));
        let rest = &bytes[end - known..];
        if known > 0 {
            carry.truncate(end);
        }
        self.keep_head(if known > 0 { &[] } else { &bytes[..end] });
        match parsed {
            Ok(head) => self.on_head(head, redirected, (shared, now), !rest.is_empty()),
            Err(flaw) => self.fail(flaw, now),
        }
        rest
    }

    /// Leaves in `carry` what evidence may show: a copy of some hundred bytes, far cheaper than
    /// a check that fails later and has nothing to show.
    fn keep_head(&mut self, in_place: &[u8]) {
        let carry = &mut self.buffers.carry;
        carry.truncate(EVIDENCE_HEAD_MAX_BYTES);
        let room = EVIDENCE_HEAD_MAX_BYTES - carry.len();
        carry.extend_from_slice(&in_place[..in_place.len().min(room)]);
    }

    /// `followed`: bytes came behind it.
    fn on_head(
        &mut self,
        head: Head,
        redirected: Option<Redirected>,
        (shared, now): (&Shared, Now),
        followed: bool,
    ) {
        if head.sloppy || self.hop.scan.sloppy() {
            self.flags |= flags::HTTP_SLOPPY;
        }
        // 101 is final: nothing was asked to be upgraded, and what follows is not HTTP.
        if (100..200).contains(&head.status) && head.status != 101 {
            return self.on_interim(now);
        }
        self.status = head.status;
        if asks_for_less(&head) {
            self.flags |= flags::SLOW_DOWN;
        }
        if head.lasts && self.flags & flags::HTTP_SLOPPY == 0 {
            self.after = After::Open;
        }
        if head.framing.is_empty() {
            self.settle(followed);
        }
        if let Some(redirected) = redirected {
            return self.on_redirect(head.status, &redirected, now);
        }
        if !self.expects(head.status) {
            return self.finish(Some(FailureClass::HttpStatus), now);
        }
        if self.head_only {
            return self.finish(None, now);
        }
        self.hop.search = self
            .body_rules()
            .map(|_| Box::new(Search::new(head.content, &shared.decoders, now.mono)));
        let strange = self
            .hop
            .search
            .as_ref()
            .and_then(|search| search.strange_field());
        if strange.is_some() {
            self.flags |= flags::HTTP_SLOPPY;
        }
        self.hop.body = Body::new(head.framing, self.hop.search.is_some());
        let Some(body) = &self.hop.body else {
            return self.on_end_of_body(now);
        };
        if body.is_open_ended() && self.hop.search.is_none() {
            self.set_timer(now.mono.plus_ms(BODY_BUDGET_MS));
        } else {
            self.read_left += ATTEMPT_READ_MORE_BYTES;
        }
        self.enter(Stage::Body, now);
    }

    fn on_interim(&mut self, now: Now) {
        self.hop.interims += 1;
        if self.hop.interims > INTERIM_RESPONSES_MAX {
            return self.fail(Flaw::malformed("more than 16 interim responses"), now);
        }
        self.hop.scan = Scan::default();
        self.buffers.carry.clear();
    }

    pub(super) fn body_rules(&self) -> Option<&BodyRules> {
        self.rules.as_ref()?.set().body.as_ref()
    }

    fn expects(&self, status: u16) -> bool {
        let set: Option<&ExpectStatus> =
            self.rules.as_ref().map(|rules| &rules.set().expect_status);
        set.map_or_else(|| EXPECTED.contains(&status), |set| set.accepts(status))
    }
}

/// Whether the site has had too many requests (RFC 6585 §4), or says when it can take one again.
fn asks_for_less(head: &Head) -> bool {
    head.status == 429 || head.status == 503 && head.has_retry_after
}
