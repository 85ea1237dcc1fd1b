//! What a body must and must not contain (`monitor.md` §1), judged while it streams by. It sees
//! decoded bytes, keeps as few of them as the longest text needs, and knows nothing of framing.
//!
//! Looking at one byte costs as much as looking at some hundred. So small pieces, which a hostile
//! server may send hundreds of thousands of, are gathered until there are that many, or until a
//! judgement is asked for, which happens once for all that a read has brought.

use memchr::memmem::Finder;
use model::FailureClass;
use model::check::HttpCheck;
use model::limits::{BODY_MAX_BYTES, EVIDENCE_EXCERPT_MAX_BYTES};
use model::time::MonoUs;

use crate::http1::coding::Decoder;
use crate::http1::coding::budget::Budget;
use crate::http1::head::Content;

/// Bytes that are gathered before they are looked at.
const LOOK_BYTES: usize = 1_024;
/// Most bytes of an excerpt before the start of the text that was found, and from there on.
const EXCERPT_HALF_BYTES: usize = EVIDENCE_EXCERPT_MAX_BYTES / 2;

/// The texts that a target asks for and forbids.
#[derive(Debug)]
pub(crate) struct BodyRules {
    keyword: Option<Finder<'static>>,
    forbidden: Vec<Finder<'static>>,
    /// Bytes kept from one look to the next: all but one of the longest text, and before them what
    /// an excerpt shows before a hit.
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
            history: longest.saturating_sub(1) + EXCERPT_HALF_BYTES,
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
    /// The last bytes of what was looked at, at least the rules' history, and those that were not.
    window: Vec<u8>,
    /// How many of them were looked at.
    looked_at: usize,
    /// Decoded bytes that are still looked at.
    room: u64,
    found: bool,
    /// Which forbidden text was complete first; of two at the same byte, the first in the list.
    /// So it does not depend on the pieces.
    forbidden: Option<usize>,
    /// Up to the end of the forbidden text, since what follows it may not have come; else how the
    /// body begins.
    excerpt: Vec<u8>,
}

impl Search {
    /// The search through a body of these codings, whose head is complete `now`; what it takes to
    /// decode it comes out of `budget`.
    pub(crate) fn new(content: Content, budget: &Budget, now: MonoUs) -> Self {
        Self {
            decoder: Decoder::new(content, budget),
            eye: Eye {
                window: Vec::new(),
                looked_at: 0,
                room: BODY_MAX_BYTES,
                found: false,
                forbidden: None,
                excerpt: Vec::new(),
            },
            needed: now,
        }
    }

    /// Takes in the next piece of the body, its framing taken off.
    pub(crate) fn take(&mut self, rules: &BodyRules, piece: &[u8], now: MonoUs) {
        let Self { decoder, eye, .. } = self;
        let knew = eye.found;
        decoder.take(piece, &mut |data| eye.see(rules, data));
        self.note_keyword(knew, now);
    }

    fn note_keyword(&mut self, knew: bool, now: MonoUs) {
        if self.eye.found && !knew {
            self.needed = now;
        }
    }

    /// When the last byte came without which the body could not pass.
    pub(crate) fn needed(&self) -> MonoUs {
        self.needed
    }

    /// The judgement on all that was taken in, up to `now`.
    pub(crate) fn judge(&mut self, rules: &BodyRules, now: MonoUs) -> Judgement {
        let knew = self.eye.found;
        self.eye.look(rules);
        self.note_keyword(knew, now);
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
        eye.look(rules);
        self.at_the_end(rules)
    }

    /// The verdict on as much of a body as was read, when a limit of ours ends it: that it does
    /// not go on is nobody's fault.
    pub(crate) fn stop(&mut self, rules: &BodyRules) -> Option<FailureClass> {
        let Self { decoder, eye, .. } = self;
        decoder.stop(&mut |data| eye.see(rules, data));
        eye.look(rules);
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

    /// Where in the head the field lies that names a coding strange to us.
    pub(crate) fn strange_field(&self) -> Option<(u32, u32)> {
        self.decoder.strange().map(|strange| strange.field)
    }

    /// The forbidden text that was found.
    pub(crate) fn forbidden<'a>(&self, rules: &'a BodyRules) -> Option<&'a [u8]> {
        let index = self.eye.forbidden?;
        rules.forbidden.get(index).map(Finder::needle)
    }

    /// At most 256 decoded bytes up to the end of the forbidden text, else from the beginning.
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
        if self.decoder.is_broken() || early || self.is_hidden(rules) {
            return Some(FailureClass::HttpBadEncoding);
        }
        (!self.is_satisfied(rules)).then_some(FailureClass::BodyKeywordMissing)
    }

    /// Whether the body is under a coding that is strange to us, and may have what was not seen in
    /// its bytes. Not where the keyword was: then they are what they look like. Without a keyword
    /// to tell, a name that is no coding's is taken for the mistake that it is.
    fn is_hidden(&self, rules: &BodyRules) -> bool {
        let strange = self.decoder.strange().filter(|strange| strange.begun);
        strange.is_some_and(|strange| !self.eye.found && (strange.hides || rules.keyword.is_some()))
    }
}

impl Eye {
    fn see(&mut self, rules: &BodyRules, data: &[u8]) {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        self.room -= data.len() as u64;
        self.window.extend_from_slice(data);
        if self.forbidden.is_none() {
            let wanted = EVIDENCE_EXCERPT_MAX_BYTES - self.excerpt.len();
            self.excerpt
                .extend_from_slice(&data[..data.len().min(wanted)]);
        }
        if self.window.len() - self.looked_at >= LOOK_BYTES {
            self.look(rules);
        }
    }

    /// Looks at what was gathered.
    fn look(&mut self, rules: &BodyRules) {
        if self.looked_at == self.window.len() {
            return;
        }
        if self.forbidden.is_none() {
            self.look_for_forbidden(rules);
        }
        let keyword = rules.keyword.as_ref().filter(|_| !self.found);
        self.found |= keyword.is_some_and(|keyword| self.end_of(keyword).is_some());
        let gone = self.window.len().saturating_sub(rules.history);
        if gone >= LOOK_BYTES {
            self.window.drain(..gone);
        }
        self.looked_at = self.window.len();
    }

    /// Where `text` ends for the first time in what was not looked at.
    fn end_of(&self, text: &Finder<'_>) -> Option<usize> {
        let length = text.needle().len();
        let from = self.looked_at.saturating_sub(length.saturating_sub(1));
        let at = text.find(&self.window[from..])?;
        Some(from + at + length)
    }

    fn look_for_forbidden(&mut self, rules: &BodyRules) {
        let texts = rules.forbidden.iter().enumerate();
        let ends = texts.filter_map(|(index, text)| Some((self.end_of(text)?, index)));
        let Some((end, index)) = ends.min() else {
            return;
        };
        let at = end - rules.forbidden[index].needle().len();
        let shown = at.saturating_sub(EXCERPT_HALF_BYTES)..end.min(at + EXCERPT_HALF_BYTES);
        self.excerpt = self.window[shown].to_vec();
        self.forbidden = Some(index);
    }
}
