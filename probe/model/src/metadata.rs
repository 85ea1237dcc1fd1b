//! What was known when an event changed, beside what its check saw: when it was seen, how far the
//! node believed itself, how verifiers voted. Bounded, and kept with the transition only.
//!
//! The names of the fields are those in the metadata of a transition's row, where they are members
//! of one object with the evidence; instants are ms since the Unix epoch.

use serde::{Deserialize, Serialize};

use crate::belief::Belief;
use crate::evidence::shorten;
use crate::limits::{VANTAGE_MAX_BYTES, VOTE_ERROR_MAX_BYTES};
use crate::outcome::{PHASE_ABSENT, Phases};
use crate::target::Method;
use crate::time::UnixMs;

/// What one verifier said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// The target is up from there.
    Up,
    /// It is down from there, too.
    Down,
    /// The verifier cannot say.
    Unknown,
    /// The verifier has too much to do.
    Overloaded,
    /// No answer, an error, or one that cannot be read.
    Failed,
}

impl Says {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }
}

/// What one verifier answered, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whose vote it is; empty = nobody's.
    pub vantage: String,
    /// What it says.
    pub says: Says,
    /// HTTP status that it saw.
    pub http_code: Option<u16>,
    /// How long its check took, in ms.
    pub rtt_ms: Option<u32>,
    /// What went wrong there, or on the way there.
    pub error: Option<String>,
}

impl Vote {
    /// The same with its texts cut to [`VANTAGE_MAX_BYTES`] and [`VOTE_ERROR_MAX_BYTES`].
    #[must_use]
    pub fn bounded(mut self) -> Self {
        shorten(&mut self.vantage, VANTAGE_MAX_BYTES);
        if let Some(error) = &mut self.error {
            shorten(error, VOTE_ERROR_MAX_BYTES);
        }
        self
    }

    fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.vantage.len() + self.error.as_ref().map_or(0, String::len)
    }
}

/// How verifiers decided: their votes, and how they were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    /// The answers, votes and non-votes, in the order in which they came; the first
    /// [`VOTES_KEPT_MAX`](crate::limits::VOTES_KEPT_MAX) of them.
    #[serde(rename = "verifier_results")]
    pub results: Vec<Vote>,
    /// Votes for down that confirm.
    #[serde(rename = "verifier_quorum")]
    pub quorum: u32,
    /// Vantages that must vote for a decision.
    #[serde(rename = "verifier_min_healthy")]
    pub min_healthy: u32,
    /// Vantages that voted.
    #[serde(rename = "verifier_healthy")]
    pub healthy: u32,
    /// Those that saw it down.
    #[serde(rename = "verifier_confirmed")]
    pub confirmed: u32,
    /// Those that saw it up.
    #[serde(rename = "verifier_disagreed")]
    pub disagreed: u32,
    /// Further answers of vantages that had voted.
    #[serde(rename = "verifier_duplicate_votes")]
    pub duplicates: u32,
}

impl Votes {
    fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.results.iter().map(Vote::size_bytes).sum::<usize>()
    }
}

/// When what was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Start of the check that led to the change, if one did.
    pub checked_at: Option<UnixMs>,
    /// How late that check began, in µs.
    pub lag_us: Option<u32>,
    /// How long its end may have waited until a core looked, in µs: the loop lagged no more.
    pub reap_us: Option<u32>,
    /// It was over only after its deadline, and counts all the same.
    pub late: Option<bool>,
    /// Start of the check before it that could say something, be it good or not.
    pub previous_observed_at: Option<UnixMs>,
    /// Start of the first failing check.
    pub first_failed_at: Option<UnixMs>,
    /// Start of the last good check before it, where that is known: not after a restart.
    pub previous_known_good_at: Option<UnixMs>,
    /// The target's interval.
    pub normal_check_interval_seconds: Option<u32>,
    /// When it is checked next after the change: sooner than usual while it is not confirmed.
    pub next_check_interval_seconds: Option<u32>,
    /// Start of the good check that closed the event.
    pub first_recovered_at: Option<UnixMs>,
    /// When the event was closed.
    pub closed_at: Option<UnixMs>,
}

/// How the check that led to a change was made and how it went, beside what its evidence says: that
/// is kept of failing checks only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The method of its requests; `None` where there are none (`tcp`, `tls`, `dns`).
    pub method: Option<Method>,
    /// Time spent, by phase, over all redirects.
    #[serde(rename = "phases_us")]
    pub phases: Phases,
    /// Redirects followed.
    pub redirect_count: u8,
}

impl Probed {
    /// The time of the whole check in ms, as older systems have it.
    pub fn rtt_ms(&self) -> Option<u32> {
        let total_us = self.phases.total_us;
        (total_us != PHASE_ABSENT).then_some(total_us / 1_000)
    }
}

/// What an incident of the node itself is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Since when failing checks are not believed, or not confirmed.
    pub since: UnixMs,
    /// Targets that are not known because of it, or wait for confirmation.
    pub targets: u64,
}

/// Everything that was known beside the evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// When what was seen.
    pub observation: Observation,
    /// How far the node believed itself.
    #[serde(rename = "node")]
    pub belief: Belief,
    /// How verifiers decided, if they were asked.
    pub votes: Option<Box<Votes>>,
    /// Of the node's own incidents.
    pub suppression: Option<Suppression>,
    /// Of a certificate's incidents: the beginning of the day (UTC) on which the one in the chain
    /// that expires first does; `None` where there was no TLS any more, or nobody looked.
    pub not_after: Option<UnixMs>,
    /// How the check went, if one led to the change.
    pub probed: Option<Probed>,
}

impl Metadata {
    /// Bytes held, the fixed part included.
    pub fn size_bytes(&self) -> usize {
        let votes = self.votes.as_ref().map_or(0, |votes| votes.size_bytes());
        size_of::<Self>() + votes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{METADATA_MAX_BYTES, VOTES_KEPT_MAX};

    #[test]
    fn the_longest_votes_fit() {
        let vote = Vote {
            vantage: "é".repeat(1_000),
            says: Says::Failed,
            http_code: None,
            rtt_ms: None,
            error: Some("connection refused; ".repeat(1_000)),
        };
        let votes = Votes {
            results: vec![vote.bounded(); VOTES_KEPT_MAX],
            ..Votes::default()
        };
        let metadata = Metadata {
            votes: Some(Box::new(votes)),
            ..Metadata::default()
        };
        assert!(metadata.size_bytes() <= METADATA_MAX_BYTES);
        let plain = Metadata::default().size_bytes();
        assert!(plain <= 224, "{plain} B for each transition of a storm");
    }

    #[test]
    fn answers_have_the_words_that_readers_know() {
        // The order is the number in the journal.
        let says = [
            Says::Up,
            Says::Down,
            Says::Unknown,
            Says::Overloaded,
            Says::Failed,
        ];
        for (number, one) in says.into_iter().enumerate() {
            assert_eq!(one as usize, number);
        }
        let words = ["up", "down", "unknown", "overloaded", "failed"];
        assert_eq!(says.map(Says::as_str), words);
    }
}
