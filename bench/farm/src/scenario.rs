//! Faults on a clock: which site fails how, from when to when. Pure; the kinds of faults are in
//! `faults`, the file format is in `scenario_file`.
//!
//! All times are milliseconds since the scenario's zero. At most one fault holds a site at any
//! moment (the parser refuses overlaps), so the ground truth is never ambiguous.

use model::schedule::{cadence_ms, effective_timeout_ms};
use serde::Serialize;

use crate::faults::{BodyRule, FaultKind, Layer};
use crate::sites::Sites;

/// A request method that the farm serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Get,
    Head,
}

/// One fault over a range of sites.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) first_site: u32,
    pub(crate) count: u32,
    /// Start, since the scenario's zero, inclusive.
    pub(crate) start_ms: u32,
    /// End, since the scenario's zero, exclusive; `None`: when the control port ends it.
    pub(crate) end_ms: Option<u32>,
    /// It flaps: it holds in the first half of every so many ms after its start, which then has an
    /// end.
    pub(crate) period_ms: Option<u32>,
    /// The part of the range that fails, 0 to 1, chosen by `seed`.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    /// Only requests of this method; `None` means both.
    pub(crate) method: Option<Method>,
}

impl Fault {
    /// Whether `site` is one of this fault's.
    pub(crate) fn chooses(&self, site: u32, sites: &Sites) -> bool {
        site.wrapping_sub(self.first_site) < self.count
            && (self.kind.layer() != Layer::Tls || sites.is_https(site))
            && (self.rate >= 1.0 || unit(self.seed, site) < self.rate)
    }

    /// The sites of this fault, in order.
    pub(crate) fn sites<'a>(&'a self, sites: &'a Sites) -> impl Iterator<Item = u32> + 'a {
        let range = self.first_site..self.first_site + self.count;
        range.filter(|&site| self.chooses(site, sites))
    }

    /// From when to when the fault holds for the `turn`-th time, from 0, in ms after zero; the end
    /// is `None` until it is known. One that does not flap holds once.
    pub(crate) fn spell(&self, turn: u32, at: Moment) -> Option<(u32, Option<u32>)> {
        let end_ms = self.end_ms.or(at.ended_ms);
        let Some(period_ms) = self.period_ms else {
            return (turn == 0).then_some((self.start_ms, end_ms));
        };
        let start_ms = self.start_ms.checked_add(turn.checked_mul(period_ms)?)?;
        let last_ms = end_ms.filter(|end_ms| start_ms < *end_ms)?;
        let half_ms = start_ms.saturating_add(period_ms / 2);
        Some((start_ms, Some(half_ms.min(last_ms))))
    }

    /// How often the fault holds, if that is known.
    pub(crate) fn spells(&self) -> u32 {
        match (self.period_ms, self.end_ms) {
            (Some(period_ms), Some(end_ms)) => (end_ms - self.start_ms).div_ceil(period_ms),
            _ => 1,
        }
    }

    /// Whether the fault holds.
    pub(crate) fn is_active(&self, at: Moment) -> bool {
        let Some(since_ms) = at.elapsed_ms.checked_sub(self.start_ms) else {
            return false;
        };
        let is_bad_half = |period_ms| since_ms % period_ms < period_ms / 2;
        !self.is_over(at) && self.period_ms.is_none_or(is_bad_half)
    }

    fn is_over(&self, at: Moment) -> bool {
        let end_ms = self.end_ms.or(at.ended_ms);
        end_ms.is_some_and(|end_ms| end_ms <= at.elapsed_ms)
    }
}

/// How far a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the scenario's zero.
    pub(crate) elapsed_ms: u32,
    /// When the faults without a duration were ended, since zero.
    pub(crate) ended_ms: Option<u32>,
}

/// A number in 0..1 that depends on seed and site only.
fn unit(seed: u64, site: u32) -> f64 {
    let mut z = seed
        ^ u64::from(site)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / 18_446_744_073_709_551_616.0
}

/// Every fault of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scenario {
    faults: Vec<Fault>,
}

impl Scenario {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// The faults in the order of the file.
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether every fault is over.
    pub(crate) fn is_over(&self, at: Moment) -> bool {
        self.faults.iter().all(|fault| fault.is_over(at))
    }

    /// Whether a fault has begun that only the control port ends.
    pub(crate) fn waits_for_its_end(&self, at: Moment) -> bool {
        let waits = |fault: &Fault| fault.end_ms.is_none() && fault.is_active(at);
        self.faults.iter().any(waits)
    }

    /// The faults that strike at the accept; the index is that of their port.
    pub(crate) fn at_accept(&self) -> impl Iterator<Item = &Fault> {
        self.of_layer(Layer::Connect)
    }

    /// Which port of those faults `site` lives on; `None`: on the ordinary port of its scheme.
    pub(crate) fn gate_index(&self, site: u32, sites: &Sites) -> Option<usize> {
        self.at_accept()
            .position(|fault| fault.chooses(site, sites))
    }

    /// Whether any fault is in the handshake of TLS itself.
    pub(crate) fn breaks_handshakes(&self) -> bool {
        self.of_layer(Layer::Tls)
            .any(|fault| fault.kind.is_of_handshake())
    }

    /// What a target on `site` must look for, so that its faults are found.
    pub(crate) fn body_rule(&self, site: u32, sites: &Sites) -> Option<BodyRule> {
        self.faults.iter().find_map(|fault| {
            let rule = fault.kind.body_rule()?;
            fault.chooses(site, sites).then_some(rule)
        })
    }

    /// Whether any site needs a rule of the body.
    pub(crate) fn has_body_rules(&self) -> bool {
        let mut kinds = self.faults.iter().map(|fault| fault.kind);
        kinds.any(|kind| kind.body_rule().is_some())
    }

    /// Whether DNS ever fails for `site`: such a site has a short TTL all the time.
    pub(crate) fn has_dns_fault(&self, site: u32, sites: &Sites) -> bool {
        self.of_layer(Layer::Dns)
            .any(|fault| fault.chooses(site, sites))
    }

    /// What breaks `layer` for `site`.
    pub(crate) fn active(
        &self,
        layer: Layer,
        site: u32,
        method: Option<Method>,
        at: Moment,
        sites: &Sites,
    ) -> Option<FaultKind> {
        let fits = |fault: &&Fault| {
            fault.is_active(at)
                && (fault.method.is_none() || fault.method == method)
                && fault.chooses(site, sites)
        };
        self.of_layer(layer).find(fits).map(|fault| fault.kind)
    }

    fn of_layer(&self, layer: Layer) -> impl Iterator<Item = &Fault> {
        self.faults
            .iter()
            .filter(move |fault| fault.kind.layer() == layer)
    }
}

/// The deadline that a monitor really applies to a target with this timeout and interval.
pub(crate) fn deadline_ms(timeout_ms: u32, interval_s: u32) -> u32 {
    effective_timeout_ms(timeout_ms, cadence_ms(interval_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: Sites = Sites {
        count: 10_000,
        interval_s: 10,
        https_every: 4,
        addresses: 256,
    };

    fn fault(kind: FaultKind) -> Fault {
        let (start_ms, end_ms) = (5_000, 9_000);
        Fault {
            kind,
            first_site: 10,
            count: 20,
            start_ms,
            end_ms: Some(end_ms),
            period_ms: None,
            rate: 1.0,
            seed: 0,
            method: None,
        }
    }

    fn after(elapsed_ms: u32) -> Moment {
        Moment {
            elapsed_ms,
            ended_ms: None,
        }
    }

    #[test]
    fn a_fault_holds_from_its_start_to_just_before_its_end() {
        let scenario = Scenario::new(vec![fault(FaultKind::Status(503))]);
        let at =
            |site, ms| scenario.active(Layer::Http, site, Some(Method::Get), after(ms), &SITES);
        assert_eq!(at(10, 4_999), None);
        assert_eq!(at(10, 5_000), Some(FaultKind::Status(503)));
        assert_eq!(at(29, 8_999), Some(FaultKind::Status(503)));
        assert_eq!(at(29, 9_000), None);
        assert_eq!(at(30, 6_000), None);
        assert_eq!(at(9, 6_000), None);
    }

    #[test]
    fn a_fault_without_a_duration_holds_until_it_is_ended() {
        let open = Fault {
            end_ms: None,
            ..fault(FaultKind::Reset)
        };
        let scenario = Scenario::new(vec![open, fault(FaultKind::Refuse)]);
        assert!(!scenario.waits_for_its_end(after(4_999)));
        assert!(scenario.waits_for_its_end(after(5_000)));
        assert!(!scenario.is_over(after(u32::MAX)));
        let ended = Moment {
            elapsed_ms: 8_999,
            ended_ms: Some(8_000),
        };
        assert!(!scenario.faults()[0].is_active(ended));
        assert!(!scenario.waits_for_its_end(ended));
        assert!(!scenario.is_over(ended), "the other fault lasts until 9 s");
        let later = Moment {
            elapsed_ms: 9_000,
            ..ended
        };
        assert!(scenario.is_over(later));
    }

    #[test]
    fn a_fault_that_flaps_holds_in_the_first_half_of_each_period() {
        let flapping = Fault {
            period_ms: Some(1_500),
            ..fault(FaultKind::Refuse)
        };
        assert_eq!(flapping.spells(), 3);
        let spells: Vec<_> = (0..5).map(|turn| flapping.spell(turn, after(0))).collect();
        let spell = |start_ms, end_ms| Some((start_ms, Some(end_ms)));
        let expected = [(5_000, 5_750), (6_500, 7_250), (8_000, 8_750)];
        assert_eq!(spells[..3], expected.map(|(start, end)| spell(start, end)));
        assert_eq!(spells[3..], [None, None]);
        for ms in 0..10_000 {
            let holds = expected
                .iter()
                .any(|(start, end)| (*start..*end).contains(&ms));
            assert_eq!(flapping.is_active(after(ms)), holds, "{ms}");
        }
        let short = Fault {
            end_ms: Some(5_200),
            ..flapping
        };
        assert_eq!(short.spell(0, after(0)), spell(5_000, 5_200));
        assert_eq!(short.spell(1, after(0)), None);
    }

    #[test]
    fn a_method_of_a_fault_spares_the_other() {
        let head = Fault {
            method: Some(Method::Head),
            ..fault(FaultKind::Reset)
        };
        let scenario = Scenario::new(vec![head]);
        let at = |method| scenario.active(Layer::Http, 10, Some(method), after(6_000), &SITES);
        assert_eq!(at(Method::Get), None);
        assert_eq!(at(Method::Head), Some(FaultKind::Reset));
    }

    #[test]
    fn a_rate_chooses_about_that_part_and_always_the_same() {
        let storm = Fault {
            first_site: 0,
            count: 10_000,
            rate: 0.25,
            seed: 7,
            ..fault(FaultKind::Silence)
        };
        let chosen: Vec<u32> = storm.sites(&SITES).collect();
        assert!((2_300..2_700).contains(&chosen.len()), "{}", chosen.len());
        assert_eq!(chosen, storm.sites(&SITES).collect::<Vec<_>>());
        let other = Fault { seed: 8, ..storm };
        assert_ne!(chosen, other.sites(&SITES).collect::<Vec<_>>());
    }

    #[test]
    fn a_tls_fault_chooses_https_sites_only() {
        let chosen: Vec<u32> = fault(FaultKind::TlsExpired).sites(&SITES).collect();
        assert_eq!(chosen, [12, 16, 20, 24, 28]);
    }

    #[test]
    fn the_deadline_stays_below_the_cadence() {
        assert_eq!(deadline_ms(10_000, 10), 8_500);
        assert_eq!(deadline_ms(2_000, 10), 2_000);
    }
}
