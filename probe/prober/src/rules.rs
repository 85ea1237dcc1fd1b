//! What a body must and must not contain (`monitor.md` §1), judged while it streams by. It sees
//! decoded bytes, keeps as few of them as the longest text needs, and knows nothing of framing.

use memchr::memmem::Finder;
use model::FailureClass;
use model::check::HttpCheck;
use model::limits::{BODY_MAX_BYTES, EVIDENCE_EXCERPT_MAX_BYTES};
use model::time::MonoUs;

use crate::http1::coding::Decoder;
use crate::http1::coding::budget::Budget;
use crate::http1::head::Coding;

/// The texts that a target asks for and forbids.
#[derive(Debug)]
pub(crate) struct BodyRules {
    keyword: Option<Finder<'static>>,
    forbidden: Vec<Finder<'static>>,
    /// Bytes kept from one piece to the next: all but one of the longest text, and what an
    /// excerpt shows before a hit.
    history: usize,
}

impl BodyRules {
    /// The rules of `check`; `None` without any.
    pub(crate) fn of(check: &HttpCheck) -> Option<Self> {
        let texts = check.keyword.iter().chain(&check.forbidden);
        let longest = texts.map(String::len).max()?;
        let finder = |text: &String| Finder::new(text.as_bytes()).into_owned();
        Some(Self {
            keyword: check.keyword.as_ref().map(finder),
            forbidden: check.forbidden.iter().map(finder).collect(),
            history: (longest - 1).max(EVIDENCE_EXCERPT_MAX_BYTES / 2),
        })
    }
}

/// What is known of a body while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It depends on what follows.
    Open,
    /// Nothing that follows can make it fail.
    Passed,
    /// Nothing that follows can save it.
    Failed(FailureClass),
}

/// The search through one body.
#[derive(Debug)]
pub(crate) struct Search {
    decoder: Decoder,
    eye: Eye,
    /// When the keyword came; until it does, and without one, when the head was complete.
    needed: MonoUs,
}

/// What was seen of the decoded bytes.
#[derive(Debug)]
struct Eye {
    /// The last bytes of what was seen, at most the rules' history, and the piece in sight.
    window: Vec<u8>,
    /// Decoded bytes that are still looked at.
    room: u64,
    found: bool,
    /// Which forbidden text was there first.
    forbidden: Option<usize>,
    /// Around the forbidden text; else how the body begins.
    excerpt: Vec<u8>,
}

impl Search {
    /// The search through a body of this coding, whose head is complete `now`; what it takes to
    /// decode it comes out of `budget`.
    pub(crate) fn new(coding: Coding, budget: &Budget, now: MonoUs) -> Self {
        Self {
            decoder: Decoder::new(coding, budget),
            eye: Eye {
                window: Vec::new(),
                room: BODY_MAX_BYTES,
                found: false,
                forbidden: None,
                excerpt: Vec::new(),
            },
            needed: now,
        }
    }

    /// Looks at the next piece of the body, its framing taken off.
    pub(crate) fn take(&mut self, rules: &BodyRules, piece: &[u8], now: MonoUs) {
        let Self {
            decoder,
            eye,
            needed,
        } = self;
        let knew = eye.found;
        decoder.take(piece, &mut |data| eye.see(rules, data));
        if eye.found && !knew {
            *needed = now;
        }
    }

    /// When the last byte came without which the body could not pass.
    pub(crate) fn needed(&self) -> MonoUs {
        self.needed
    }

    /// The judgement so far.
    pub(crate) fn judge(&self, rules: &BodyRules) -> Judgement {
        let satisfied = self.is_satisfied(rules);
        let broken = satisfied && self.eye.forbidden.is_some();
        let decoder = &self.decoder;
        let nothing_more = decoder.is_broken() || decoder.is_starved() || self.eye.room == 0;
        if satisfied && rules.forbidden.is_empty() {
            return Judgement::Passed;
        }
        if !nothing_more && !broken {
            return Judgement::Open;
        }
        match self.at_the_end(rules) {
            Some(class) => Judgement::Failed(class),
            None => Judgement::Passed,
        }
    }

    /// The verdict on a body that is over.
    pub(crate) fn conclude(&mut self, rules: &BodyRules) -> Option<FailureClass> {
        let Self { decoder, eye, .. } = self;
        decoder.finish(&mut |data| eye.see(rules, data));
        self.at_the_end(rules)
    }

    /// The verdict on as much of a body as was read, when a limit of ours ends it: that it does
    /// not go on is nobody's fault.
    pub(crate) fn stop(&mut self, rules: &BodyRules) -> Option<FailureClass> {
        let Self { decoder, eye, .. } = self;
        decoder.stop(&mut |data| eye.see(rules, data));
        self.at_the_end(rules)
    }

    /// Whether there is a keyword, and it was seen.
    pub(crate) fn has_keyword(&self) -> bool {
        self.eye.found
    }

    /// Whether the keyword, if there is one, was seen.
    pub(crate) fn is_satisfied(&self, rules: &BodyRules) -> bool {
        rules.keyword.is_none() || self.eye.found
    }

    /// What went wrong with the coding, for people; empty when nothing did.
    pub(crate) fn why(&self) -> &'static str {
        self.decoder.why()
    }

    /// The forbidden text that was found.
    pub(crate) fn forbidden<'a>(&self, rules: &'a BodyRules) -> Option<&'a [u8]> {
        let index = self.eye.forbidden?;
        rules.forbidden.get(index).map(Finder::needle)
    }

    /// At most 256 decoded bytes around the forbidden text, else from the beginning.
    pub(crate) fn excerpt(&self) -> &[u8] {
        &self.eye.excerpt
    }

    fn at_the_end(&self, rules: &BodyRules) -> Option<FailureClass> {
        if self.is_satisfied(rules) && self.eye.forbidden.is_some() {
            return Some(FailureClass::BodyForbidden);
        }
        if self.decoder.is_starved() {
            return Some(FailureClass::LocalPressure);
        }
        // A forbidden text is looked for in what could be read. A stream that breaks hides the
        // rest of it, or was damaged; of one that ends early all that came was seen.
        let early = self.decoder.is_cut() && !self.eye.found;
        if self.decoder.is_broken() || early {
            return Some(FailureClass::HttpBadEncoding);
        }
        (!self.is_satisfied(rules)).then_some(FailureClass::BodyKeywordMissing)
    }
}

impl Eye {
    fn see(&mut self, rules: &BodyRules, data: &[u8]) {
        let seen = data
            .len()
            .min(usize::try_from(self.room).unwrap_or(usize::MAX));
        let data = &data[..seen];
        self.room -= seen as u64;
        self.window.extend_from_slice(data);
        if self.forbidden.is_none() {
            let wanted = EVIDENCE_EXCERPT_MAX_BYTES - self.excerpt.len();
            self.excerpt.extend_from_slice(&data[..seen.min(wanted)]);
            self.look_for_forbidden(rules);
        }
        let keyword = rules.keyword.as_ref().filter(|_| !self.found);
        self.found |= keyword.is_some_and(|finder| finder.find(&self.window).is_some());
        let gone = self.window.len().saturating_sub(rules.history);
        self.window.drain(..gone);
    }

    fn look_for_forbidden(&mut self, rules: &BodyRules) {
        let hits = rules.forbidden.iter().enumerate();
        let hits = hits.filter_map(|(index, finder)| Some((finder.find(&self.window)?, index)));
        let Some((at, index)) = hits.min() else {
            return;
        };
        let end = (at + EVIDENCE_EXCERPT_MAX_BYTES / 2).min(self.window.len());
        let start = at.saturating_sub(EVIDENCE_EXCERPT_MAX_BYTES / 2);
        self.excerpt = self.window[start..end].to_vec();
        self.forbidden = Some(index);
    }
}
