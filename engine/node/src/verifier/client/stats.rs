//! Counters of questions and of what was no vote; the sink counts the votes. Written by the asking
//! task, read by anyone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a vantage that was asked, or could have been, has no vote on a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NonVote {
    /// No connection, or an answer that is none.
    Error,
    /// The answer does not have the question.
    Missing,
    /// It cannot say.
    Unknown,
    /// It has too much to do.
    Overloaded,
    /// It answers what was not asked.
    WrongRequest,
    /// It answers twice.
    Duplicate,
    /// It answers too late, or never.
    Late,
    /// What it says cannot be read, or contradicts itself.
    Unreadable,
    /// It says that it is somewhere else than configured.
    WrongVantage,
    /// It failed a moment ago and is not asked.
    Cooling,
    /// The target could not be read, or is gone by now: nobody was asked.
    NoTarget,
    /// It was edited, is not checked by the node as it is now, and somebody finds it up.
    Edited,
}

impl NonVote {
    /// Every reason, in the order of the documentation.
    pub(crate) const ALL: [Self; 12] = [
        Self::Error,
        Self::Missing,
        Self::Unknown,
        Self::Overloaded,
        Self::WrongRequest,
        Self::Duplicate,
        Self::Late,
        Self::Unreadable,
        Self::WrongVantage,
        Self::Cooling,
        Self::NoTarget,
        Self::Edited,
    ];

    /// The word in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Overloaded => "overloaded",
            Self::WrongRequest => "wrong_request",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Unreadable => "unreadable",
            Self::WrongVantage => "wrong_vantage",
            Self::Cooling => "cooling",
            Self::NoTarget => "no_target",
            Self::Edited => "edited",
        }
    }
}

/// What was asked, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct VerifierStats {
    batches: AtomicU64,
    under_way: AtomicU64,
    cooling: AtomicU64,
    asking: AtomicBool,
    broken: AtomicU64,
    non_votes: [AtomicU64; NonVote::ALL.len()],
}

/// The numbers at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VerifierSeen {
    /// Batches that were sent.
    pub(crate) batches: u64,
    /// Batches that wait for answers.
    pub(crate) under_way: u64,
    /// Verifiers that are not asked for a while.
    pub(crate) cooling: u64,
    /// Somebody takes questions.
    pub(crate) is_asking: bool,
    /// Tasks that broke: the asking one, or one of a batch.
    pub(crate) broken: u64,
    /// In the order of [`NonVote::ALL`].
    pub(crate) non_votes: [u64; NonVote::ALL.len()],
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl VerifierStats {
    pub(super) fn sent(&self) {
        one_more(&self.batches);
    }

    pub(super) fn not_voted(&self, why: NonVote) {
        one_more(&self.non_votes[why as usize]);
    }

    pub(super) fn set_under_way(&self, batches: usize) {
        self.under_way.store(batches as u64, Ordering::Relaxed);
    }

    pub(super) fn set_cooling(&self, verifiers: usize) {
        self.cooling.store(verifiers as u64, Ordering::Relaxed);
    }

    pub(super) fn set_asking(&self, is_asking: bool) {
        self.asking.store(is_asking, Ordering::Relaxed);
    }

    pub(super) fn broke(&self) {
        one_more(&self.broken);
    }

    /// The numbers now.
    pub(crate) fn look(&self) -> VerifierSeen {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VerifierSeen {
            batches: read(&self.batches),
            under_way: read(&self.under_way),
            cooling: read(&self.cooling),
            is_asking: self.asking.load(Ordering::Relaxed),
            broken: read(&self.broken),
            non_votes: std::array::from_fn(|index| read(&self.non_votes[index])),
        }
    }
}
