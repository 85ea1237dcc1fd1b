//! Checks that somebody asked for: the first of a target that ends after the question and began
//! after it. Who waits for one is told. Must not know what a check means.

use model::{Evidence, MonoUs, Outcome};
use tokio::sync::oneshot;

use crate::handle::Watched;
use crate::incidents::Key;
use crate::slots::began;

/// Questions that somebody waits for at most; who asks beyond it gets no answer.
const WATCHES_MAX: usize = 64;
/// Questions that nobody waits for at most; a check beyond it counts as one of the cadence.
const UNWATCHED_MAX: usize = 256;

/// A question.
#[derive(Debug)]
struct Watch {
    key: Key,
    since: MonoUs,
    /// Number of the check that answers it, and what that saw.
    found: Option<(Outcome, Option<Box<Evidence>>)>,
    reply: Option<Reply>,
}

type Reply = oneshot::Sender<Box<Watched>>;

impl Watch {
    fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_closed)
    }
}

/// Questions that wait.
#[derive(Debug, Default)]
pub(crate) struct Watches(Vec<Watch>);

impl Watches {
    pub(crate) fn add(&mut self, key: Key, since: MonoUs, reply: Option<Reply>) {
        self.0.retain(|watch| !watch.is_given_up());
        let is_watched = reply.is_some();
        let alike = |watch: &&Watch| watch.reply.is_some() == is_watched;
        let max = if is_watched {
            WATCHES_MAX
        } else {
            UNWATCHED_MAX
        };
        if self.0.iter().filter(alike).count() < max {
            self.0.push(Watch {
                key,
                since,
                found: None,
                reply,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks whether a check of core number `core`, drained at `now`, is waited for.
    pub(crate) fn see(
        &mut self,
        core: u16,
        outcome: &Outcome,
        now: MonoUs,
        evidence: impl Fn(u16, &Outcome) -> Option<Box<Evidence>>,
    ) {
        for watch in &mut self.0 {
            let is_it = (watch.key.core, watch.key.slot) == (core, outcome.slot.0);
            if is_it && watch.found.is_none() && began(outcome, now) >= watch.since {
                watch.found = Some((*outcome, evidence(core, outcome)));
            }
        }
    }

    /// Whether somebody asked for this check.
    pub(crate) fn asked_for(&self, core: u16, outcome: &Outcome) -> bool {
        self.0.iter().any(|watch| {
            let found = watch
                .found
                .as_ref()
                .map(|(found, _)| (found.slot, found.seq));
            watch.key.core == core && found == Some((outcome.slot, outcome.seq))
        })
    }

    /// Answers what was found.
    pub(crate) fn answer(
        &mut self,
        finish: impl Fn(Key, Outcome, Option<Box<Evidence>>) -> Watched,
    ) {
        for watch in self.0.extract_if(.., |watch| watch.found.is_some()) {
            if let (Some((outcome, evidence)), Some(reply)) = (watch.found, watch.reply) {
                // Whoever asked may have gone: then nobody waits for the answer.
                let _ = reply.send(Box::new(finish(watch.key, outcome, evidence)));
            }
        }
    }

    /// Forgets who asked for a target that is not watched any more: the answer never comes.
    pub(crate) fn forget(&mut self, key: Key) {
        self.0.retain(|watch| watch.key != key);
    }
}
