//! How far a node believed failures that were real, look by look. Pure.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::gates::Gate;
use crate::metrics::Scrape;

/// A node says after 300 s of doubt that it suppresses; a run must leave room for that, else it
/// shows nothing that nothing was said.
const TOLD_FROM_S: u32 = 330;
/// Signals of a machine that is short of something: whatever fails, a node doubts with them.
const OF_THE_MACHINE: [&str; 5] = [
    "loop_lag",
    "results_held",
    "descriptors",
    "ports",
    "stalled",
];
/// Of the looks, at most one of so many may find a machine that is short.
const SHORT_ONE_OF: u32 = 10;

/// What a node said of itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Doubts {
    looks: u32,
    /// Looks at which it doubted, and was short of nothing: it took the failures for its own.
    doubting: u32,
    /// Looks at which it doubted because the machine was short.
    short: u32,
    /// Whether `node_suppressing` was seen open.
    pub(super) suppressing: bool,
}

impl Doubts {
    /// One look.
    ///
    /// # Errors
    /// When the node does not tell whether it doubts or suppresses.
    pub(super) fn look(&mut self, scrape: &Scrape) -> Result<()> {
        let is_short = OF_THE_MACHINE
            .iter()
            .any(|kind| scrape.sum("ringwatch_pressure", &[("kind", kind)]) > Some(0.0));
        let doubts = is_set(scrape, "ringwatch_doubt", "doubting")?;
        self.looks += 1;
        self.doubting += u32::from(doubts && !is_short);
        self.short += u32::from(doubts && is_short);
        self.suppressing |= is_suppressing(scrape)?;
        Ok(())
    }

    /// The gate on a run whose failures last so long each: what a short one can show is that
    /// nothing was doubted at all.
    pub(super) fn gate(&self, lasts_s: u32) -> Gate {
        let Self {
            looks,
            doubting,
            short,
            suppressing,
        } = *self;
        if lasts_s >= TOLD_FROM_S {
            let failures = suppressing.then(|| "node_suppressing was opened".to_owned());
            return Gate {
                name: "nothing was suppressed for long",
                failures: failures.into_iter().collect(),
            };
        }
        let doubted = (doubting > 0).then(|| {
            format!("the node doubted failures that were real at {doubting} of {looks} looks")
        });
        let is_void = looks == 0 || short * SHORT_ONE_OF > looks;
        let void = is_void.then(|| format!("void, the machine was short at {short} of {looks}"));
        Gate {
            name: "no failure that was real was doubted",
            failures: doubted.into_iter().chain(void).collect(),
        }
    }
}

/// Whether the node suppresses failures for so long that the operator is told.
///
/// # Errors
/// When it does not tell that.
pub(super) fn is_suppressing(scrape: &Scrape) -> Result<bool> {
    is_set(scrape, "ringwatch_operator_incident", "node_suppressing")
}

fn is_set(scrape: &Scrape, name: &str, kind: &str) -> Result<bool> {
    let value = scrape.sum(name, &[("kind", kind)]);
    let value = value.with_context(|| format!("the node's metrics have no {name} of {kind}"))?;
    Ok(value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(doubting: u32, suppressing: u32, lag: u32) -> Scrape {
        Scrape::parse(&format!(
            "ringwatch_doubt{{kind=\"doubting\"}} {doubting}\n\
             ringwatch_doubt{{kind=\"deferring\"}} 1\n\
             ringwatch_operator_incident{{kind=\"node_suppressing\"}} {suppressing}\n\
             ringwatch_pressure{{kind=\"loop_lag\"}} {lag}\n\
             ringwatch_pressure{{kind=\"failures\"}} 1\n"
        ))
    }

    fn after(looks: &[Scrape]) -> Doubts {
        let mut doubts = Doubts::default();
        for look in looks {
            doubts.look(look).expect("all is told");
        }
        doubts
    }

    #[test]
    fn a_short_run_fails_by_doubt_and_a_long_one_by_what_the_operator_is_told() {
        let clear = || vec![scrape(0, 0, 0); 20];
        let with = |look| [clear(), vec![look]].concat();
        let (doubts, tells) = (after(&with(scrape(1, 0, 0))), after(&with(scrape(0, 1, 0))));
        assert!(after(&clear()).gate(60).holds() && after(&clear()).gate(900).holds());
        assert!(!doubts.gate(60).holds() && doubts.gate(900).holds());
        assert!(tells.gate(329).holds() && !tells.gate(330).holds());
    }

    #[test]
    fn a_machine_that_is_short_excuses_a_moment_and_makes_more_of_it_void() {
        let looks = |short| [vec![scrape(0, 0, 0); 18], vec![scrape(1, 0, 1); short]].concat();
        assert!(after(&looks(2)).gate(60).holds());
        assert!(!after(&looks(3)).gate(60).holds());
        assert!(!Doubts::default().gate(60).holds(), "nobody looked");
    }

    #[test]
    fn what_is_not_told_is_an_error_and_not_a_no() {
        let told = "ringwatch_doubt{kind=\"doubting\"} 0\n";
        assert!(Doubts::default().look(&Scrape::parse(told)).is_err());
        assert!(is_suppressing(&Scrape::default()).is_err());
        assert!(!is_suppressing(&scrape(1, 0, 0)).expect("told"));
    }
}
