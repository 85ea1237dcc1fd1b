//! From enough failures to a decision: by our own checks where there are no verifiers, else by
//! asking them. It must not know how votes are counted: that is `quorum`.

use std::borrow::Cow;

use model::fact::Reason;
use model::inbox::Cadence;
use model::limits::{DEFERRAL_MIN_MS, SUPPRESSION_MAX_MS, VERIFIERS_WAIT_MS};
use model::{Evidence, FactId};

use crate::effect::{AuditKind, Effect};
use crate::event::{QUORUM, Seen};
use crate::quorum::{Answer, Decision, Tally, deferral_ms};
use crate::state::{Ballot, Doubt, Http, Stage};
use crate::step::Turn;

impl Turn<'_, '_> {
    /// Whether our own checks confirm, because nobody else can be asked.
    pub(crate) fn confirms_alone(&self) -> bool {
        self.desk.context.policy.vantages == 0
    }

    /// Enough checks failed. While verifiers are being asked further failures ask nobody.
    pub(crate) fn escalate(&mut self, evidence: Option<Box<Evidence>>) {
        if self.confirms_alone() {
            return self.confirm(evidence);
        }
        if self.state.ballot.is_none() {
            let now = self.now();
            let ballot = Ballot {
                stage: Stage::Deferred,
                until: now,
                since: now,
                deferrals: 0,
                checked: self.desk.seen.checked,
                evidence,
            };
            self.ask(Box::new(ballot));
        }
        self.command_recheck();
    }

    fn ask(&mut self, mut ballot: Box<Ballot>) {
        let request = self.desk.mint();
        ballot.stage = Stage::Asked(request);
        ballot.until = self.now().plus_ms(VERIFIERS_WAIT_MS);
        self.state.ballot = Some(ballot);
        self.desk.effects.push(Effect::Ask { request });
    }

    pub(crate) fn answered(&mut self, request: FactId, answers: &[Answer]) {
        // Of answers that waited for us beyond their time nobody knows whether they still hold.
        let now = self.now();
        let is_awaited =
            |ballot: &mut Box<Ballot>| ballot.stage == Stage::Asked(request) && now < ballot.until;
        let Some(ballot) = self.state.ballot.take_if(is_awaited) else {
            let tally = Tally::too_late(answers);
            return self.desk.effects.push(Effect::Tallied(tally));
        };
        let configured = self.desk.context.policy.vantages;
        let tally = Tally::of(request, answers);
        self.desk.effects.push(Effect::Tallied(tally));
        self.desk.seen = Seen {
            checked: ballot.checked,
            votes: Some(Box::new(tally.votes(request, answers, configured))),
            ..Seen::default()
        };
        if self.window().is_some() {
            // The next failing check is swallowed; until then nothing gets worse.
            return self.defer(ballot);
        }
        match tally.decide(configured) {
            Decision::Confirmed => {
                self.desk.source = Cow::Borrowed(QUORUM);
                self.confirm(ballot.evidence);
            }
            Decision::FalseAlarm => {
                self.desk.source = Cow::Borrowed(QUORUM);
                self.false_alarm(ballot.evidence);
            }
            Decision::Deferred => self.defer(ballot),
        }
    }

    /// The transition says what only we saw; where there was no event yet, the audit log does.
    fn false_alarm(&mut self, evidence: Option<Box<Evidence>>) {
        self.state.echoes.false_alarm(self.now());
        match std::mem::take(&mut self.state.http) {
            Http::Open(opened) => {
                let class = opened.event.class;
                self.desk.close_on(opened, Reason::FalseAlarm, evidence);
                self.note_change(class);
            }
            Http::Suspected(suspicion) => {
                let detail = "verifiers saw up what had no event yet";
                let votes = self.desk.seen.votes.clone();
                self.desk
                    .audit_votes(AuditKind::VerifierSent, None, detail, votes);
                if suspicion.doubt == Doubt::Damped {
                    self.note_change(suspicion.class);
                }
            }
            Http::Clear => {}
        }
        self.command(Cadence::Grid);
    }

    /// Too few could say: the pause grows.
    fn defer(&mut self, mut ballot: Box<Ballot>) {
        let pause_ms = deferral_ms(ballot.deferrals);
        ballot.deferrals = ballot.deferrals.saturating_add(1);
        let event = self.state.open_event().map(|event| event.id);
        let detail = "verifier decision deferred";
        let (kind, votes) = (AuditKind::RetryDispatched, self.desk.seen.votes.clone());
        self.desk.audit_votes(kind, event, detail, votes);
        self.pause(ballot, pause_ms);
    }

    /// There is too much to ask here, which says nothing of the vantages: the pause stays short.
    pub(crate) fn not_asked(&mut self, request: FactId) {
        let is_it = |ballot: &mut Box<Ballot>| ballot.stage == Stage::Asked(request);
        if let Some(ballot) = self.state.ballot.take_if(is_it) {
            self.pause(ballot, DEFERRAL_MIN_MS);
        }
    }

    /// Asks again later. A failure that has no event because of that has one after five minutes,
    /// confirmed or not; but in a window, or while the trouble may be ours, nothing opens.
    fn pause(&mut self, mut ballot: Box<Ballot>, pause_ms: u64) {
        let now = self.now();
        ballot.stage = Stage::Deferred;
        ballot.until = now.plus_ms(pause_ms);
        let waited_long = now.since(ballot.since) >= SUPPRESSION_MAX_MS * 1_000;
        let (checked, evidence) = (ballot.checked, ballot.evidence.clone());
        self.state.ballot = Some(ballot);
        let may_open = self.window().is_none() && !self.desk.context.belief.stance.suppresses();
        if waited_long
            && may_open
            && let Http::Suspected(suspicion) = &self.state.http
        {
            let suspicion = suspicion.clone();
            self.desk.seen.checked = checked;
            if suspicion.doubt != Doubt::Damped {
                self.note_change(suspicion.class);
            }
            self.open_unconfirmed(&suspicion, evidence);
        }
    }

    pub(crate) fn ticked(&mut self) {
        self.end_hold();
        let now = self.now();
        let Some(ballot) = self.state.ballot.take_if(|ballot| ballot.until <= now) else {
            return;
        };
        match ballot.stage {
            Stage::Asked(_) => self.defer(ballot),
            Stage::Deferred => self.ask(ballot),
        }
    }
}
