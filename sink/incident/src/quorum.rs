//! What verifiers' answers come to: votes by vantage, quorum, deferral. It must not know how
//! verifiers are asked.
//!
//! A vote is a vantage that saw the target up or down. Replicas behind one vantage add capacity,
//! not votes; everything else is a non-vote, and counted as what it is.

use model::FactId;
use model::limits::{
    DEFERRAL_MAX_MS, DEFERRAL_MIN_MS, HEALTHY_VANTAGES_MIN, QUORUM_MAX, VOTES_KEPT_MAX,
};
use model::metadata::{Vote, Votes};

pub use model::metadata::Says;

/// The answer of one verifier to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says it answers.
    pub request: FactId,
    /// Whose vote it is: the vantage, else the host, else the address; empty is nobody's.
    pub vantage: String,
    /// What it says.
    pub says: Says,
    /// HTTP status that it saw, if it came so far.
    pub http_code: Option<u16>,
    /// How long its check took, in ms.
    pub rtt_ms: Option<u32>,
    /// What went wrong, in words: of its check, or of asking it.
    pub error: Option<String>,
}

impl Answer {
    /// An answer of which nothing else is known.
    pub fn of(request: FactId, vantage: impl Into<String>, says: Says) -> Self {
        Self {
            request,
            vantage: vantage.into(),
            says,
            http_code: None,
            rtt_ms: None,
            error: None,
        }
    }

    fn is_vote(&self) -> bool {
        matches!(self.says, Says::Up | Says::Down)
    }

    fn vote(&self) -> Vote {
        let vote = Vote {
            vantage: self.vantage.clone(),
            says: self.says,
            http_code: self.http_code,
            rtt_ms: self.rtt_ms,
            error: self.error.clone(),
        };
        vote.bounded()
    }
}

/// How the answers to one request were counted: votes first, then non-votes by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Vantages that saw it down.
    pub confirming: u32,
    /// Vantages that saw it up.
    pub disagreeing: u32,
    /// Answers that do not know.
    pub unknown: u32,
    /// Verifiers that have too much to do.
    pub overloaded: u32,
    /// Errors, missing and unreadable answers.
    pub failed: u32,
    /// Further answers of a vantage that has voted.
    pub duplicate: u32,
    /// Answers to another request, or to none.
    pub wrong_request: u32,
    /// Votes on a question that was given up before they came.
    pub late: u32,
}

/// What follows from the votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The target is down.
    Confirmed,
    /// It is not: only we saw it so.
    FalseAlarm,
    /// Too few could say: ask again later.
    Deferred,
}

impl Tally {
    /// Counts `answers` to `request`.
    pub fn of(request: FactId, answers: &[Answer]) -> Self {
        let mut tally = Self::default();
        let mut voted = Vec::new();
        for answer in answers {
            *tally.count_of(request, answer, &mut voted) += 1;
        }
        tally
    }

    fn count_of<'a>(
        &mut self,
        request: FactId,
        answer: &'a Answer,
        voted: &mut Vec<&'a str>,
    ) -> &mut u32 {
        let vantage = answer.vantage.as_str();
        match answer.says {
            _ if answer.request != request => return &mut self.wrong_request,
            Says::Unknown => return &mut self.unknown,
            Says::Overloaded => return &mut self.overloaded,
            Says::Failed => return &mut self.failed,
            Says::Up | Says::Down if vantage.is_empty() => return &mut self.failed,
            Says::Up | Says::Down if voted.contains(&vantage) => return &mut self.duplicate,
            Says::Up | Says::Down => voted.push(vantage),
        }
        if answer.says == Says::Down {
            &mut self.confirming
        } else {
            &mut self.disagreeing
        }
    }

    /// Counts `answers` to a request that nobody waits for any more: their time was over, or their
    /// target is well again, or gone. Nothing is decided by them.
    pub fn too_late(answers: &[Answer]) -> Self {
        let votes = answers.iter().filter(|answer| answer.is_vote());
        Self {
            late: votes.count() as u32,
            ..Self::default()
        }
    }

    /// Vantages that voted.
    pub fn healthy(&self) -> usize {
        (self.confirming + self.disagreeing) as usize
    }

    /// Votes for down that confirm: of all that voted, up to three.
    fn quorum(&self, configured: usize) -> usize {
        QUORUM_MAX.min(self.healthy()).max(healthy_min(configured))
    }

    /// What follows, where `configured` vantages (at least one) could have voted.
    pub fn decide(&self, configured: usize) -> Decision {
        if self.healthy() < healthy_min(configured) {
            Decision::Deferred
        } else if self.confirming as usize >= self.quorum(configured) {
            Decision::Confirmed
        } else {
            Decision::FalseAlarm
        }
    }

    /// What is kept of it with the decision: `answers` to `request` are what was counted.
    pub fn votes(&self, request: FactId, answers: &[Answer], configured: usize) -> Votes {
        let ours = answers.iter().filter(|answer| answer.request == request);
        // What decided is kept before what did not.
        let (voted, silent): (Vec<_>, Vec<_>) = ours.partition(|answer| answer.is_vote());
        let kept = voted.into_iter().chain(silent).take(VOTES_KEPT_MAX);
        Votes {
            results: kept.map(Answer::vote).collect(),
            quorum: self.quorum(configured) as u32,
            min_healthy: healthy_min(configured) as u32,
            healthy: self.healthy() as u32,
            confirmed: self.confirming,
            disagreed: self.disagreeing,
            duplicates: self.duplicate,
        }
    }
}

/// Vantages that must vote for a decision, where so many are configured.
fn healthy_min(configured: usize) -> usize {
    configured.clamp(1, HEALTHY_VANTAGES_MIN)
}

/// How long to wait before asking again, after so many deferrals in a row, in ms.
pub(crate) fn deferral_ms(deferrals: u32) -> u64 {
    (DEFERRAL_MIN_MS << deferrals.min(16)).min(DEFERRAL_MAX_MS)
}

#[cfg(test)]
mod tests {
    use model::ids::FactMint;
    use model::limits::VANTAGE_MAX_BYTES;
    use model::{TargetId, UnixMs};

    use super::*;

    fn ids() -> (FactId, FactId) {
        let shard = TargetId::new(7).expect("positive").shard();
        let (mut mint, at) = (FactMint::default(), UnixMs(1_800_000_000_000));
        (mint.mint(shard, at), mint.mint(shard, at))
    }

    fn tally(answers: &[(&str, Says)]) -> Tally {
        let (request, _) = ids();
        let answer = |&(vantage, says): &(&str, Says)| Answer::of(request, vantage, says);
        let answers: Vec<Answer> = answers.iter().map(answer).collect();
        Tally::of(request, &answers)
    }

    #[test]
    fn as_many_as_answer_must_agree_up_to_three() {
        use Decision::{Confirmed, FalseAlarm};
        // (down, up) of a fleet of six vantages.
        let cases = [
            ((2, 0), Confirmed),
            ((1, 1), FalseAlarm),
            ((0, 2), FalseAlarm),
            ((3, 0), Confirmed),
            ((2, 1), FalseAlarm),
            ((3, 3), Confirmed),
            ((2, 4), FalseAlarm),
        ];
        for ((confirming, disagreeing), expected) in cases {
            let tally = Tally {
                confirming,
                disagreeing,
                ..Tally::default()
            };
            assert_eq!(tally.decide(6), expected, "{confirming}:{disagreeing}");
        }
    }

    #[test]
    fn one_vantage_decides_alone_only_where_there_is_no_other() {
        let one = tally(&[("oslo", Says::Down)]);
        assert_eq!(one.decide(1), Decision::Confirmed);
        assert_eq!(one.decide(2), Decision::Deferred);
        assert_eq!(tally(&[]).decide(1), Decision::Deferred);
        assert_eq!(tally(&[("oslo", Says::Up)]).decide(1), Decision::FalseAlarm);
    }

    #[test]
    fn replicas_of_a_vantage_have_one_vote_and_the_first_that_votes_has_it() {
        let tally = tally(&[
            ("oslo", Says::Overloaded),
            ("oslo", Says::Down),
            ("oslo", Says::Up),
            ("oslo", Says::Down),
            ("rome", Says::Failed),
        ]);
        assert_eq!((tally.confirming, tally.disagreeing), (1, 0));
        assert_eq!((tally.overloaded, tally.duplicate, tally.failed), (1, 2, 1));
        assert_eq!(tally.decide(2), Decision::Deferred);
    }

    #[test]
    fn what_names_no_vantage_or_another_request_is_no_vote() {
        let (request, other) = ids();
        let answer = |request, vantage| Answer::of(request, vantage, Says::Down);
        let answers = [answer(request, ""), answer(other, "oslo")];
        let tally = Tally::of(request, &answers);
        assert_eq!(
            (tally.healthy(), tally.failed, tally.wrong_request),
            (0, 1, 1)
        );
    }

    #[test]
    fn a_decision_keeps_each_answer_to_its_request_and_how_it_was_counted() {
        let (request, other) = ids();
        let seen = Answer {
            http_code: Some(503),
            rtt_ms: Some(12),
            ..Answer::of(request, "oslo", Says::Down)
        };
        let failed = Answer {
            error: Some("no route to host ".repeat(100)),
            ..Answer::of(request, "v".repeat(300), Says::Failed)
        };
        let stray = Answer::of(other, "rome", Says::Up);
        let answers = [seen.clone(), seen, failed, stray];
        let votes = Tally::of(request, &answers).votes(request, &answers, 3);
        let counts = (votes.quorum, votes.min_healthy, votes.healthy);
        assert_eq!(counts, (2, 2, 1), "what lacked for a decision");
        assert_eq!(
            (votes.confirmed, votes.disagreed, votes.duplicates),
            (1, 0, 1)
        );
        let of: Vec<_> = votes.results.iter().map(|vote| vote.http_code).collect();
        assert_eq!(of, [Some(503), Some(503), None]);
        assert_eq!(votes.results[0].rtt_ms, Some(12));
        assert_eq!(votes.results[2].vantage.len(), VANTAGE_MAX_BYTES);

        let many = vec![Answer::of(request, "oslo", Says::Unknown); 3 * VOTES_KEPT_MAX];
        let votes = Tally::of(request, &many).votes(request, &many, 3);
        assert_eq!(votes.results.len(), VOTES_KEPT_MAX);
    }

    /// Lesson: sixteen that were overloaded stood in the event, and not the three that decided.
    #[test]
    fn what_decided_is_kept_before_what_said_nothing() {
        let (request, _) = ids();
        let mut answers: Vec<Answer> = (0..VOTES_KEPT_MAX)
            .map(|n| Answer::of(request, format!("v{n}"), Says::Overloaded))
            .collect();
        let deciding = ["oslo", "rome", "riga"];
        answers.extend(deciding.map(|vantage| Answer::of(request, vantage, Says::Down)));
        let votes = Tally::of(request, &answers).votes(request, &answers, answers.len());
        let kept: Vec<&str> = votes.results.iter().map(|vote| &vote.vantage[..]).collect();
        assert_eq!(kept[..4], ["oslo", "rome", "riga", "v0"]);
        assert_eq!((kept.len(), votes.confirmed), (VOTES_KEPT_MAX, 3));
    }

    #[test]
    fn deferrals_double_up_to_their_limit_and_never_overflow() {
        let pauses: Vec<u64> = (0..7).map(deferral_ms).collect();
        let seconds = [15, 30, 60, 120, 240, 300, 300];
        assert_eq!(pauses, seconds.map(|s| s * 1_000));
        assert_eq!(deferral_ms(63), DEFERRAL_MAX_MS);
        assert_eq!(deferral_ms(u32::MAX), DEFERRAL_MAX_MS);
    }
}
