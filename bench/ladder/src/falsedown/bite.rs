//! What a trouble did while it lasted: a node that met none of it shows nothing. Pure.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Serialize;

use super::plan::{LATE, Trouble};
use crate::metrics::Scrape;
use crate::table::grouped;

/// A node that stands still has less of the CPU that it needs than this part.
const STOPPED_MAX: f64 = 0.1;
/// A third of the fleet has no route: of the checks, at least one of so many.
const ROUTE_ONE_OF: u64 = 4;
/// A store that answers lags for moments only: of the looks, it must lag at one of so many.
const BEHIND_ONE_OF: u32 = 2;

/// Counters of the node from the begin of a trouble to its end, and what the node said of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Bite {
    /// Checks that ended.
    pub(super) checks: u64,
    /// Of these, those that had no address: names that were answered before are remembered, so
    /// that they are of the sites that came late.
    pub(super) no_address: u64,
    /// Of these, those that our own kernel gave no route.
    pub(super) no_route: u64,
    /// Looks at the journal, and at how many of them the store did not have all of it.
    pub(super) looks: u32,
    pub(super) behind: u32,
    /// Writes that the store was asked for again.
    pub(super) store_retries: u64,
    /// Signals of pressure, those of the calm after it included.
    pub(super) signals: BTreeSet<String>,
}

impl Bite {
    /// A look while it lasts; `before`: how the counters stood at its begin.
    ///
    /// # Errors
    /// When the node does not tell how far the store is behind.
    pub(super) fn look(&mut self, before: &Scrape, now: &Scrape) -> Result<()> {
        let failed = |is_meant: fn(&str) -> bool| {
            let classes = super::grown(before, now, "ringwatch_failures_total", "class");
            let meant = classes.iter().filter(|(class, _)| is_meant(class));
            meant.map(|(_, checks)| checks).sum()
        };
        let total = |name, label| super::grown(before, now, name, label).values().sum();
        self.checks = total("ringwatch_probed_total", "verdict");
        self.no_address = failed(|class| class.starts_with("dns."));
        self.no_route = failed(|class| class == "connect.local");
        self.store_retries = total("ringwatch_store_retries_total", "code");
        let behind = now.sum("ringwatch_apply_lag", &[]);
        let behind = behind.context("the node's metrics have no ringwatch_apply_lag")?;
        self.looks += 1;
        self.behind += u32::from(behind > 0.0);
        self.hear(now);
        Ok(())
    }

    /// What the node says of itself now.
    pub(super) fn hear(&mut self, now: &Scrape) {
        let name = "ringwatch_pressure";
        let kinds = now.labels(name, "kind").into_iter();
        let set = kinds.filter(|kind| now.sum(name, &[("kind", kind)]) > Some(0.0));
        self.signals.extend(set);
    }

    /// Why `trouble` was none; `had`: the part of the CPU it needs that the probe core had.
    pub(super) fn void(&self, trouble: Trouble, had: f64) -> Option<String> {
        let (is_felt, why) = match trouble {
            // How strong it was is measured.
            Trouble::Overload => return None,
            Trouble::Stopped => (
                had < STOPPED_MAX || self.signals.contains("stalled"),
                format!("the node went on, with {:.0} % of its CPU", 100.0 * had),
            ),
            Trouble::Resolver => (
                self.no_address >= LATE.into(),
                format!("{}, not {LATE}", self.told(trouble)),
            ),
            Trouble::Route => (
                self.checks > 0 && self.no_route * ROUTE_ONE_OF >= self.checks,
                format!("only {}", self.told(trouble)),
            ),
            Trouble::Store => (
                self.store_retries > 0
                    || (self.looks > 0 && self.behind * BEHIND_ONE_OF >= self.looks),
                format!("only {}", self.told(trouble)),
            ),
        };
        (!is_felt).then_some(why)
    }

    /// What it did, for the page.
    pub(super) fn told(&self, trouble: Trouble) -> String {
        let of_checks = |part: u64, what: &str| {
            let (part, checks) = (grouped(part), grouped(self.checks));
            format!("{part} of {checks} checks had no {what}")
        };
        match trouble {
            Trouble::Overload => "its core was short of CPU".to_owned(),
            Trouble::Stopped if self.signals.contains("stalled") => {
                "the node said that it had stood still".to_owned()
            }
            Trouble::Stopped => "no CPU; the node did not say it".to_owned(),
            Trouble::Resolver => of_checks(self.no_address, "address"),
            Trouble::Route => of_checks(self.no_route, "route"),
            Trouble::Store => format!(
                "facts waited at {} of {} looks; {} writes asked for again",
                self.behind, self.looks, self.store_retries
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(up: u64, dns: u64, local: u64, lag: u64) -> Scrape {
        Scrape::parse(&format!(
            "ringwatch_probed_total{{core=\"0\",verdict=\"up\"}} {up}\n\
             ringwatch_probed_total{{core=\"0\",verdict=\"unknown\"}} {local}\n\
             ringwatch_failures_total{{core=\"0\",class=\"dns.timeout\"}} {dns}\n\
             ringwatch_failures_total{{core=\"0\",class=\"dns.resolver_sick\"}} {dns}\n\
             ringwatch_failures_total{{core=\"0\",class=\"connect.local\"}} {local}\n\
             ringwatch_pressure{{kind=\"stalled\"}} {local}\n\
             ringwatch_pressure{{kind=\"ports\"}} 0\n\
             ringwatch_apply_lag {lag}\n"
        ))
    }

    #[test]
    fn what_grew_since_the_begin_is_what_the_trouble_did() {
        let before = scrape(100, 10, 1, 0);
        let mut bite = Bite::default();
        for now in [scrape(110, 11, 2, 1), scrape(160, 15, 7, 0)] {
            bite.look(&before, &now).expect("a whole scrape");
        }
        assert_eq!(
            (bite.checks, bite.no_address, bite.no_route),
            (60 + 6, 10, 6)
        );
        assert_eq!((bite.looks, bite.behind, bite.store_retries), (2, 1, 0));
        assert_eq!(bite.signals, BTreeSet::from(["stalled".to_owned()]));
        let without_lag = Scrape::parse("ringwatch_probed_total{verdict=\"up\"} 1\n");
        assert!(bite.look(&before, &without_lag).is_err());
    }

    #[test]
    fn a_trouble_that_did_nothing_is_none() {
        for trouble in Trouble::ALL {
            let void = Bite::default().void(trouble, 1.0);
            assert_eq!(void.is_some(), trouble != Trouble::Overload, "{trouble:?}");
        }
    }

    #[test]
    fn each_trouble_is_known_by_what_it_does() {
        let with = |change: fn(&mut Bite)| {
            let mut bite = Bite {
                checks: 400,
                looks: 80,
                ..Bite::default()
            };
            change(&mut bite);
            bite
        };
        let is_void = |trouble, change| with(change).void(trouble, 1.0).is_some();
        assert!(is_void(Trouble::Resolver, |bite| bite.no_address = 599));
        assert!(!is_void(Trouble::Resolver, |bite| bite.no_address = 600));
        assert!(is_void(Trouble::Route, |bite| bite.no_route = 99));
        assert!(!is_void(Trouble::Route, |bite| bite.no_route = 100));
        assert!(is_void(Trouble::Store, |bite| bite.behind = 39));
        assert!(!is_void(Trouble::Store, |bite| bite.behind = 40));
        assert!(!is_void(Trouble::Store, |bite| bite.store_retries = 1));
        assert!(!is_void(Trouble::Stopped, |bite| {
            bite.signals.insert("stalled".to_owned());
        }));
        assert_eq!(with(|_| ()).void(Trouble::Stopped, 0.0), None);
    }
}
