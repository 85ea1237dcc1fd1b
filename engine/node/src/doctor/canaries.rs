//! Whether the canary targets answer, asked as a probe core asks them.

use model::inbox::OneShotReport;
use model::target::TargetConfig;

use super::Finding;
use crate::check;
use crate::config::{Config, Layers};
use crate::run::canaries::{Said, answers, targets};

const NAME: &str = "canaries";

/// What each of the canaries of `config` says.
pub(super) fn canaries(config: &Config, layers: &Layers) -> Vec<Finding> {
    if config.canaries.is_empty() {
        let none = "none: with some, an outage of your own network is told from one of theirs";
        return vec![Finding::ok(NAME, none)];
    }
    match check::probe(config, layers, &targets(&config.canaries)) {
        Ok(reports) => {
            let pairs = config.canaries.iter().zip(&reports);
            pairs.map(|(canary, report)| of(canary, report)).collect()
        }
        Err(error) => {
            let found = format!("they cannot be asked ({error:#})");
            vec![Finding::warn(NAME, found, "see to what is wrong above")]
        }
    }
}

fn of(canary: &TargetConfig, report: &OneShotReport) -> Finding {
    let url = canary.check.to_string();
    let class = report.outcome.failure();
    let why = class.map_or("", model::FailureClass::as_str);
    match answers(&report.outcome, false) {
        Said::Something => Finding::ok(NAME, format!("{url} answers")),
        Said::Refused => Finding::warn(
            NAME,
            format!("{url} is refused by the safety guard"),
            "add --allow CIDR for its network, or take it out of canaries",
        ),
        Said::Nothing | Said::NotHeard => Finding::warn(
            NAME,
            format!("{url} does not answer ({why})"),
            "choose sites that always answer, far from yours and from each other",
        ),
    }
}

#[cfg(test)]
mod tests {
    use model::{Evidence, FailureClass, Generation, Outcome, Slot, Ticket, UnixMs};

    use super::*;
    use crate::config::canary_target;
    use crate::doctor::Grade;

    #[test]
    fn a_canary_is_well_when_it_answers_whatever_it_says() {
        let canary = canary_target("http://c.example/").expect("valid");
        let found = |class: Option<FailureClass>| {
            let mut outcome = Outcome::slot_released(Slot(0), Generation(1), UnixMs(5));
            (outcome.class, outcome.flags) = (class.map_or(0, |class| class as u8), 0);
            let report = OneShotReport {
                ticket: Ticket(0),
                outcome,
                evidence: Box::new(Evidence::default()),
            };
            let finding = of(&canary, &report);
            (finding.grade, finding.found)
        };
        let (grade, text) = found(Some(FailureClass::HttpStatus));
        assert_eq!((grade, &text[..]), (Grade::Ok, "http://c.example/ answers"));
        let (grade, text) = found(Some(FailureClass::ConnectTimeout));
        assert_eq!(grade, Grade::Warn);
        assert_eq!(text, "http://c.example/ does not answer (connect.timeout)");
        let (_, text) = found(Some(FailureClass::SafetyBlocked));
        assert!(text.ends_with("refused by the safety guard"));
    }
}
