//! What was known when an incident changed, beside the evidence, for programs.

use model::Metadata;
use model::metadata::{Observation, Probed, Says, Vote, Votes};
use model::target::Method;
use serde_json::{Value, json};

use crate::check;

/// One object; what is not known is `null`.
pub(super) fn object(metadata: &Metadata) -> Value {
    let Metadata {
        observation,
        belief,
        votes,
        suppression,
        not_after,
        probed,
    } = metadata;
    json!({
        "observation": observation_object(observation),
        "node": {
            "stance": belief.stance.as_str(),
            "signals": belief.signals.names().collect::<Vec<_>>(),
            "canaries": {
                "configured": belief.canaries.configured,
                "answering": belief.canaries.answering,
            },
        },
        "verifiers": votes.as_deref().map(votes_object),
        "suppression": suppression.map(|suppression| json!({
            "began_at_ms": suppression.since.0,
            "targets": suppression.targets,
        })),
        "not_after_at_ms": not_after,
        "check": probed.as_ref().map(probed_object),
    })
}

fn observation_object(observation: &Observation) -> Value {
    let Observation {
        checked_at,
        lag_us,
        reap_us,
        late,
        previous_observed_at,
        first_failed_at,
        previous_known_good_at,
        normal_check_interval_seconds,
        next_check_interval_seconds,
        first_recovered_at,
        closed_at,
    } = observation;
    json!({
        "checked_at_ms": checked_at,
        "lag_us": lag_us,
        "reap_us": reap_us,
        "late": late,
        "previous_observed_at_ms": previous_observed_at,
        "first_failed_at_ms": first_failed_at,
        "previous_known_good_at_ms": previous_known_good_at,
        "normal_check_interval_seconds": normal_check_interval_seconds,
        "next_check_interval_seconds": next_check_interval_seconds,
        "first_recovered_at_ms": first_recovered_at,
        "closed_at_ms": closed_at,
    })
}

fn probed_object(probed: &Probed) -> Value {
    json!({
        "method": probed.method.map(Method::as_str),
        "rtt_ms": probed.rtt_ms(),
        "phases": check::phases(&probed.phases.values()),
        "redirect_count": probed.redirect_count,
    })
}

fn votes_object(votes: &Votes) -> Value {
    json!({
        "quorum": votes.quorum,
        "min_healthy": votes.min_healthy,
        "healthy": votes.healthy,
        "confirmed": votes.confirmed,
        "disagreed": votes.disagreed,
        "duplicates": votes.duplicates,
        "results": votes.results.iter().map(vote_object).collect::<Vec<_>>(),
    })
}

fn vote_object(vote: &Vote) -> Value {
    json!({
        "vantage": vote.vantage,
        "says": Says::as_str(vote.says),
        "http_code": vote.http_code,
        "rtt_ms": vote.rtt_ms,
        "error": vote.error,
    })
}
