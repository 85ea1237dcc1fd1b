//! The timetable of our own troubles, and of the sites that really fail in each. Pure.

use std::fmt::Write as _;

use model::limits::{CONFIRM_AFTER, FIRST_FAILURE_HOLD_MS, SUSPECT_RECHECK_MS};
use model::schedule::cadence_ms;
use serde::Serialize;

/// How often each site is checked, in s.
pub(super) const INTERVAL_S: u32 = 10;
/// Deadline of a check, in ms.
pub(super) const TIMEOUT_MS: u32 = 2_000;
/// How much more the node is to do than it is left CPU for.
pub(super) const OVERLOAD: f64 = 4.0;
/// What the plan leaves room for: the machine decides what it really is.
const OVERLOAD_MAX: u32 = 6;
/// Sites that really fail in each trouble.
pub(super) const FAILING: u32 = 25;
/// The first of them: none is behind the route that goes (`GONE`).
const FAILING_FIRST: u32 = 1_501;
/// Targets that come while the resolver is dead: no answer of theirs is remembered.
pub(super) const LATE: u32 = 600;
/// Addresses without a route, and how many of the farm's 4,096 they are.
pub(super) const GONE: [&str; 3] = ["127.1.0.0/22", "127.1.4.0/24", "127.1.5.0/26"];
/// Calm before the first trouble, in which the node's own need of CPU is measured.
pub(super) const LEAD_S: u32 = 20;
/// Calm between two troubles, beyond a cadence.
const REST_S: u32 = 8;
/// From the begin of a trouble to that of the real failures.
const INTO_S: u32 = 3;
/// What a command, a scrape and a busy machine may take, in ms.
const GRACE_MS: u32 = 2_000;
/// Faults last so long beyond the time within which they must be found.
const BEYOND_S: u32 = 10;

/// Something of ours that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trouble {
    /// Others have most of the probe core's CPU.
    Overload,
    /// The whole node stands still, and goes on.
    Stopped,
    /// Our resolver answers nobody.
    Resolver,
    /// Our own way to a third of the fleet is gone.
    Route,
    /// The store does not answer.
    Store,
}

impl Trouble {
    pub(super) const ALL: [Self; 5] = [
        Self::Overload,
        Self::Stopped,
        Self::Resolver,
        Self::Route,
        Self::Store,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Stopped => "stopped",
            Self::Resolver => "resolver dead",
            Self::Route => "route gone",
            Self::Store => "store stalled",
        }
    }

    /// How long it lasts, in s; `factor` makes a run longer.
    pub(super) fn lasts_s(self, factor: u32) -> u32 {
        match self {
            Self::Overload => INTO_S + found_s(OVERLOAD_MAX),
            Self::Stopped => 5,
            Self::Resolver => 60,
            // What fails must be found under it.
            Self::Route | Self::Store => (INTO_S + found_s(1) + 1) * factor,
        }
    }

    /// Cadences within which a real failure is met: under overload a round takes as many of them.
    pub(super) fn cadences(self, overload: f64) -> u32 {
        match self {
            Self::Overload => overload.max(1.0).ceil() as u32 + 1,
            _ => 1,
        }
    }
}

/// Within how many ms a failure is confirmed whose first check comes within so many cadences.
pub(super) fn within_ms(cadences: u32) -> u32 {
    let cadence = cadence_ms(INTERVAL_S);
    let confirmation = (CONFIRM_AFTER - 1) * (cadence.min(SUSPECT_RECHECK_MS) + TIMEOUT_MS);
    cadences * cadence + TIMEOUT_MS + FIRST_FAILURE_HOLD_MS as u32 + confirmation + GRACE_MS
}

/// The same in whole s.
fn found_s(cadences: u32) -> u32 {
    within_ms(cadences).div_ceil(1_000)
}

/// One trouble on the scenario's clock, in s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Slot {
    pub(super) trouble: Trouble,
    pub(super) from_s: u32,
    pub(super) relief_s: u32,
    pub(super) faults_from_s: u32,
    pub(super) faults_to_s: u32,
    /// When the next one begins, or the run ends.
    pub(super) until_s: u32,
    pub(super) first_site: u32,
}

/// The troubles one after the other.
pub(super) fn slots(troubles: &[Trouble], factor: u32) -> Vec<Slot> {
    let mut from_s = LEAD_S;
    let mut slots = Vec::new();
    for (first_site, &trouble) in (FAILING_FIRST..).step_by(100).zip(troubles) {
        let cadences = trouble.cadences(f64::from(OVERLOAD_MAX - 1));
        let faults_from_s = from_s + INTO_S;
        let faults_to_s = faults_from_s + found_s(cadences) + BEYOND_S;
        let relief_s = from_s + trouble.lasts_s(factor);
        let until_s = faults_to_s.max(relief_s) + INTERVAL_S + REST_S;
        slots.push(Slot {
            trouble,
            from_s,
            relief_s,
            faults_from_s,
            faults_to_s,
            until_s,
            first_site,
        });
        from_s = until_s;
    }
    slots
}

/// The sites that really fail, as the farm reads it.
pub(super) fn toml(slots: &[Slot]) -> String {
    let mut text = String::new();
    for slot in slots {
        let _ = writeln!(
            text,
            "[[fault]]\nkind = \"status\"\nstatus = 503\nfirst_site = {}\ncount = {FAILING}\n\
             offset_s = {}\nduration_s = {}",
            slot.first_site,
            slot.faults_from_s,
            slot.faults_to_s - slot.faults_from_s
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_follow_each_other_and_failures_have_their_time_within() {
        let slots = slots(&Trouble::ALL, 1);
        assert_eq!(slots[0].from_s, LEAD_S);
        for pair in slots.windows(2) {
            assert_eq!(pair[0].until_s, pair[1].from_s);
        }
        for slot in &slots {
            let found_s = slot.faults_from_s + found_s(slot.trouble.cadences(4.9));
            assert!(found_s <= slot.faults_to_s && slot.faults_to_s < slot.until_s);
            assert!(slot.relief_s < slot.until_s, "{slot:?}");
            // Nothing is found by who stands still.
            let is_under_it = found_s <= slot.relief_s;
            assert!(is_under_it || slot.trouble == Trouble::Stopped, "{slot:?}");
        }
    }

    #[test]
    fn what_really_fails_has_a_route_and_is_its_own() {
        let slots = slots(&Trouble::ALL, 1);
        let file: toml::Table = toml(&slots).parse().expect("valid TOML");
        let faults = file["fault"].as_array().expect("tables");
        let firsts = faults.iter().map(|fault| fault["first_site"].as_integer());
        let firsts: Vec<i64> = firsts.map(|site| site.expect("a number")).collect();
        assert!(
            firsts
                .windows(2)
                .all(|pair| pair[0] + i64::from(FAILING) < pair[1])
        );
        let without_route = 1_024 + 256 + 64;
        assert!(
            firsts
                .iter()
                .all(|&first| (without_route..4_000).contains(&first))
        );
    }

    #[test]
    fn overload_stretches_the_time_to_meet_a_failure_by_whole_rounds() {
        assert_eq!(Trouble::Overload.cadences(3.2), 5);
        assert_eq!(Trouble::Overload.cadences(0.5), 2);
        assert_eq!(Trouble::Store.cadences(3.2), 1);
        assert_eq!(within_ms(3) - within_ms(1), 2 * cadence_ms(INTERVAL_S));
    }
}
