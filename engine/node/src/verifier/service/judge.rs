//! From what a probe core saw to what an asker is told. It must not know how either is carried.

use model::inbox::OneShotReport;
use model::outcome::{Phases, flags};
use model::{FailureClass, Verdict};
use serde_json::{Map, Value, json};

use crate::check::address;
use crate::verifier::protocol::{CheckRequest, CheckResult, Outcome, PROBE_SAFETY};

/// Who looks, for every result.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Whose vote it is.
    pub(super) vantage_id: String,
    /// Which process.
    pub(super) agent_id: String,
}

impl Place {
    /// A result that says nothing of the target, and why.
    pub(super) fn unknown(&self, request: &CheckRequest, code: u8, why: &str) -> CheckResult {
        CheckResult {
            request_id: request.request_id.clone(),
            blog_id: request.blog_id,
            url: request.url.clone(),
            vantage_id: self.vantage_id.clone(),
            agent_id: self.agent_id.clone(),
            outcome: Outcome::Unknown,
            success: false,
            http_code: 0,
            error_code: code,
            rtt_ms: 0,
            timings_ms: Value::Object(Map::new()),
            diagnostics: json!({ "text": why }),
        }
    }

    /// A check that cannot be made.
    pub(super) fn refused(&self, request: &CheckRequest, why: &str) -> CheckResult {
        self.unknown(request, PROBE_SAFETY, why)
    }

    /// What a check came to.
    pub(super) fn result(&self, request: &CheckRequest, report: &OneShotReport) -> CheckResult {
        let (outcome, evidence) = (&report.outcome, &report.evidence);
        let word = word(outcome);
        let class = outcome.failure();
        let total_us = outcome.phases.values()[5].unwrap_or(0);
        CheckResult {
            outcome: word,
            success: matches!(word, Outcome::Up | Outcome::Degraded),
            http_code: outcome.status,
            error_code: class.and_then(FailureClass::legacy_code).unwrap_or(0),
            rtt_ms: u64::from(total_us).div_ceil(1_000),
            timings_ms: timings(&outcome.phases),
            diagnostics: json!({
                "class": class.map(FailureClass::as_str),
                "text": evidence.text,
                "address": address(evidence).map(|address| address.to_string()),
            }),
            ..self.unknown(request, 0, "")
        }
    }
}

/// The word, by the rules of the node's own incidents: what only says that TLS is old says nothing
/// of the target.
fn word(outcome: &model::Outcome) -> Outcome {
    match outcome.verdict() {
        Verdict::Up => Outcome::Up,
        Verdict::Degraded if outcome.has(flags::HTTP_VERIFIED) => Outcome::Degraded,
        Verdict::Degraded | Verdict::Unknown => Outcome::Unknown,
        Verdict::Down => Outcome::Down,
    }
}

fn timings(phases: &Phases) -> Value {
    let named = Phases::NAMES.into_iter().zip(phases.values());
    let reached = named.filter_map(|(name, us)| Some((name, us?)));
    let shown = reached.map(|(name, us)| (name.to_owned(), json!(f64::from(us) / 1_000.0)));
    Value::Object(shown.collect())
}

#[cfg(test)]
mod tests {
    use model::{Evidence, Generation, Slot, Ticket, UnixMs};

    use super::*;

    fn told(class: Option<FailureClass>, flags: u16) -> CheckResult {
        let released = model::Outcome::slot_released(Slot(0), Generation(1), UnixMs(5));
        let outcome = model::Outcome {
            class: class.map_or(0, |class| class as u8),
            flags,
            status: 200,
            phases: Phases {
                connect_us: 1_500,
                total_us: 2_001,
                ..Phases::NONE
            },
            ..released
        };
        let report = OneShotReport {
            ticket: Ticket(1),
            outcome,
            evidence: Box::new(Evidence::default()),
        };
        let place = Place {
            vantage_id: "oslo".into(),
            agent_id: "a".into(),
        };
        let request = CheckRequest {
            request_id: "r".into(),
            url: "http://a/".into(),
            ..CheckRequest::default()
        };
        place.result(&request, &report)
    }

    #[test]
    fn every_verdict_has_its_word_and_only_what_is_down_or_up_is_a_vote() {
        use FailureClass::{HttpStatus, LocalShed, SafetyBlocked, TlsDeprecated};
        let of = |class, flags| {
            let told = told(class, flags);
            (told.outcome, told.success, told.error_code)
        };
        assert_eq!(of(None, 0), (Outcome::Up, true, 0));
        assert_eq!(of(Some(HttpStatus), 0), (Outcome::Down, false, 0));
        let verified = of(Some(TlsDeprecated), flags::HTTP_VERIFIED);
        assert_eq!(verified, (Outcome::Degraded, true, 7));
        assert_eq!(of(Some(TlsDeprecated), 0), (Outcome::Unknown, false, 7));
        assert_eq!(of(Some(SafetyBlocked), 0), (Outcome::Unknown, false, 9));
        assert_eq!(of(Some(LocalShed), 0), (Outcome::Unknown, false, 0));
    }

    #[test]
    fn a_result_names_its_request_and_has_the_phases_that_were_reached() {
        let told = told(None, 0);
        assert_eq!((told.request_id.as_str(), told.rtt_ms), ("r", 3));
        assert_eq!(told.timings_ms, json!({ "connect": 1.5, "total": 2.001 }));
    }
}
