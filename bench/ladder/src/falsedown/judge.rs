//! What the node said in each of our troubles, against what was true. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bite::Bite;
use super::plan::{FAILING, LEAD_S, Slot, TIMEOUT_MS, Trouble, within_ms};
use crate::findings::{Spread, met};
use crate::gates::Gate;
use crate::truth::{Fault, Incident};

/// A farm that is busier than this measures itself.
const FARM_BUSY_MAX: f64 = 0.7;
/// A farm that is later than this does too.
const FARM_LAG_MAX_MS: f64 = 20.0;
/// The overload that is asked for: measured, it may be a little less.
const OVERLOAD_MIN: f64 = 3.5;
/// More examples help nobody.
const EXAMPLES_MAX: usize = 3;

/// Counters of the node and the farm over one trouble.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Seen {
    /// Checks by verdict.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// Failures by class, those that are unknown included.
    pub(super) classes: BTreeMap<String, u64>,
    pub(super) shed: u64,
    /// Part of a CPU that the probe core had while the trouble lasted.
    pub(super) had: f64,
    /// The farm while it lasted, or in the calm after it: what was worse.
    pub(super) farm_busy: f64,
    pub(super) farm_lag_p99_ms: f64,
    /// What does not balance at its end.
    pub(super) unbalanced: Vec<String>,
    /// Times that an operator incident `node_suppressing` was seen open.
    pub(super) suppressing: bool,
    /// What the trouble did.
    pub(super) bite: Bite,
}

/// The verdict on one trouble.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) slot: Slot,
    pub(super) seen: Seen,
    /// How many times more the node had to do than it had CPU for.
    pub(super) overload: f64,
    /// Incidents that no fault explains, a sentence for each of the first.
    pub(super) false_downs: u64,
    pub(super) examples: Vec<String>,
    /// False incidents by class.
    pub(super) false_classes: BTreeMap<String, u64>,
    /// Sites that fail and were confirmed as down, of [`FAILING`].
    pub(super) found: u64,
    /// From the fault to *Down*.
    pub(super) delay: Option<Spread>,
    pub(super) within_ms: u32,
    /// Why the trouble shows nothing; `None` when it does.
    pub(super) void: Option<String>,
}

/// One row for each trouble; `needed`: part of a CPU that the probe core needs when let alone.
pub(super) fn rows(
    seen: &[(Slot, Seen)],
    zero_unix_ms: u64,
    needed: f64,
    faults: &[Fault],
    incidents: &[Incident],
) -> Vec<Row> {
    let explained = |incident: &Incident| {
        faults
            .iter()
            .any(|fault| fault.host == incident.host() && met(fault, incident, TIMEOUT_MS.into()))
    };
    let wrong: Vec<&Incident> = incidents.iter().filter(|it| !explained(it)).collect();
    let seen_last = seen.last().map(|(slot, _)| *slot);
    let row = |(slot, seen): &(Slot, Seen)| {
        let at = |second: u32| zero_unix_ms + u64::from(second) * 1_000;
        // Troubles follow each other, and what was opened before the first one or after the last
        // one is nobody's but ours: each wrong incident is in one row.
        let is_first = slot.from_s == LEAD_S;
        let is_last = seen_last.is_some_and(|last| last.from_s == slot.from_s);
        let is_own = |opened_at_ms: u64| {
            (is_first || opened_at_ms >= at(slot.from_s))
                && (is_last || opened_at_ms < at(slot.until_s))
        };
        let wrong: Vec<&&Incident> = wrong
            .iter()
            .filter(|incident| is_own(incident.opened_at_ms()))
            .collect();
        let mut false_classes = BTreeMap::new();
        for incident in &wrong {
            let class = incident.class.clone().unwrap_or_default();
            *false_classes.entry(class).or_default() += 1;
        }
        let delays = delays(slot, faults, incidents, at(slot.faults_from_s));
        let overload = needed / seen.had.max(0.001);
        Row {
            slot: *slot,
            seen: seen.clone(),
            overload,
            false_downs: wrong.len() as u64,
            examples: wrong
                .iter()
                .take(EXAMPLES_MAX)
                .map(|it| sentence(it))
                .collect(),
            false_classes,
            found: delays.len() as u64,
            delay: Spread::of(delays),
            within_ms: within_ms(slot.trouble.cadences(overload)),
            void: void(slot.trouble, seen, needed),
        }
    };
    seen.iter().map(row).collect()
}

/// How long each site of the trouble that fails took to be confirmed; those that were not are not
/// there.
fn delays(slot: &Slot, faults: &[Fault], incidents: &[Incident], start_ms: u64) -> Vec<u64> {
    let hosts: Vec<String> = (slot.first_site..slot.first_site + FAILING)
        .map(|site| format!("s-{site:07}.farm.test"))
        .collect();
    let own = faults
        .iter()
        .filter(|fault| hosts.contains(&fault.host) && fault.start_ms.abs_diff(start_ms) < 1_000);
    own.filter_map(|fault| {
        let found = incidents.iter().filter(|incident| {
            incident.host() == fault.host && met(fault, incident, TIMEOUT_MS.into())
        });
        let down = found
            .filter_map(|incident| incident.reached("Down"))
            .min()?;
        Some(down.saturating_sub(fault.start_ms))
    })
    .collect()
}

fn sentence(incident: &Incident) -> String {
    let class = incident.class.as_deref().unwrap_or("no class");
    let states = incident.states().join(", ");
    format!("{} {} {class}: {states}", incident.url, incident.check_type)
}

/// Why what was seen says nothing of the node.
fn void(trouble: Trouble, seen: &Seen, needed: f64) -> Option<String> {
    let light = || match trouble {
        Trouble::Overload => void_of_load("the node", needed / seen.had.max(0.001)),
        _ => seen.bite.void(trouble, seen.had / needed.max(0.001)),
    };
    void_of_farm(seen.farm_busy, seen.farm_lag_p99_ms).or_else(light)
}

/// Why a farm that was so busy, and so late at p99, shows nothing.
pub(super) fn void_of_farm(busy: f64, lag_p99_ms: f64) -> Option<String> {
    if busy > FARM_BUSY_MAX {
        return Some(format!("the farm was {:.0} % busy", 100.0 * busy));
    }
    let is_late = lag_p99_ms >= FARM_LAG_MAX_MS;
    is_late.then(|| format!("the farm's loop was {lag_p99_ms:.0} ms late at p99"))
}

/// Why somebody who had so many times more to do than CPU for it was not overloaded as asked for.
pub(super) fn void_of_load(who: &str, overload: f64) -> Option<String> {
    let is_light = overload < OVERLOAD_MIN;
    is_light.then(|| format!("{who} was overloaded {overload:.1} times, not {OVERLOAD_MIN}"))
}

impl Row {
    /// What must hold of it, and does not.
    pub(super) fn gates(&self) -> [Gate; 4] {
        let name = self.slot.trouble.name();
        let unless = |holds: bool, why: String| if holds { vec![] } else { vec![why] };
        let mut false_downs = unless(
            self.false_downs == 0,
            format!(
                "{name}: {} incidents of sites that were well",
                self.false_downs
            ),
        );
        false_downs.extend(self.examples.iter().cloned());
        let slowest = self.delay.map_or(0, |delay| delay.max);
        let failing = u64::from(FAILING);
        let all = self.found == failing && slowest <= self.within_ms.into();
        let found = unless(
            all,
            format!(
                "{name}: {} of {failing} found, the last after {:.1} s of {:.1}",
                self.found,
                slowest as f64 / 1_000.0,
                f64::from(self.within_ms) / 1_000.0
            ),
        );
        let unbalanced = self.seen.unbalanced.iter();
        [
            Gate {
                name: "no incident of a site that is well",
                failures: false_downs,
            },
            Gate {
                name: "every site that fails found in time",
                failures: found,
            },
            Gate {
                name: "every check accounted",
                failures: unbalanced.map(|why| format!("{name}: {why}")).collect(),
            },
            Gate {
                name: "the farm was well, the trouble as asked for",
                failures: self
                    .void
                    .iter()
                    .map(|why| format!("{name}: void, {why}"))
                    .collect(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::falsedown::plan::slots;
    use crate::truth::Change;

    fn well() -> Seen {
        Seen {
            had: 0.1,
            farm_busy: 0.3,
            farm_lag_p99_ms: 5.0,
            ..Seen::default()
        }
    }

    fn slot() -> Slot {
        slots(&[Trouble::Overload], 1)[0]
    }

    fn host(number: u32) -> String {
        format!("s-{:07}.farm.test", slot().first_site + number)
    }

    fn faults() -> Vec<Fault> {
        let start_ms = u64::from(slot().faults_from_s) * 1_000;
        let fault = |number| Fault {
            host: host(number),
            kind: "status".to_owned(),
            class: Some("http.status".to_owned()),
            start_ms,
            end_ms: u64::from(slot().faults_to_s) * 1_000,
        };
        (0..FAILING).map(fault).collect()
    }

    fn incident(host: &str, opened_at_ms: u64, down_at_ms: u64) -> Incident {
        let change = |(after, changed_at_ms): (&str, u64)| Change {
            after: after.to_owned(),
            changed_at_ms,
        };
        Incident {
            url: format!("http://{host}/"),
            check_type: "http".to_owned(),
            class: Some("http.timeout".to_owned()),
            started_at_ms: opened_at_ms,
            ended_at_ms: None,
            transitions: [("Seems Down", opened_at_ms), ("Down", down_at_ms)]
                .map(change)
                .to_vec(),
        }
    }

    fn all_found(after_ms: u64) -> Vec<Incident> {
        let start_ms = u64::from(slot().faults_from_s) * 1_000;
        let found = |number| incident(&host(number), start_ms + 500, start_ms + after_ms);
        (0..FAILING).map(found).collect()
    }

    fn row(seen: Seen, incidents: &[Incident]) -> Row {
        rows(&[(slot(), seen)], 0, 0.4, &faults(), incidents).remove(0)
    }

    fn failed(row: &Row) -> Vec<&'static str> {
        let gates = row.gates();
        let failed = gates.iter().filter(|gate| !gate.holds());
        failed.map(|gate| gate.name).collect()
    }

    #[test]
    fn all_found_in_time_and_nobody_else_holds() {
        let bound = u64::from(within_ms(5));
        let row = row(well(), &all_found(bound));
        assert_eq!(
            (row.found, row.false_downs, row.within_ms),
            (25, 0, within_ms(5))
        );
        assert_eq!(failed(&row), Vec::<&str>::new());
    }

    #[test]
    fn a_site_that_is_missed_or_late_is_said() {
        let late = all_found(u64::from(within_ms(5)) + 1);
        assert_eq!(
            failed(&row(well(), &late)),
            ["every site that fails found in time"]
        );
        let missed = &all_found(1_000)[1..];
        assert_eq!(
            failed(&row(well(), missed)),
            ["every site that fails found in time"]
        );
    }

    #[test]
    fn an_incident_of_a_site_that_is_well_is_false_whatever_it_is_called() {
        let mut incidents = all_found(1_000);
        incidents.push(incident("s-0009999.farm.test", 30_000, 31_000));
        let row = row(well(), &incidents);
        assert_eq!(
            row.false_classes,
            BTreeMap::from([("http.timeout".to_owned(), 1)])
        );
        assert_eq!(failed(&row), ["no incident of a site that is well"]);
    }

    #[test]
    fn a_wrong_incident_is_in_one_row_whenever_it_was_opened() {
        let slots = slots(&[Trouble::Overload, Trouble::Store], 1);
        let seen: Vec<(Slot, Seen)> = slots.iter().map(|slot| (*slot, well())).collect();
        let begin = |slot: &Slot| u64::from(slot.from_s) * 1_000;
        let end_ms = u64::from(slots[1].until_s) * 1_000;
        let moments = [0, begin(&slots[0]), begin(&slots[1]), end_ms, 10 * end_ms];
        let host = "s-0009999.farm.test";
        let wrong = moments.map(|at_ms| incident(host, at_ms, at_ms + 1));
        let rows = rows(&seen, 0, 0.4, &[], &wrong);
        let of_rows: Vec<u64> = rows.iter().map(|row| row.false_downs).collect();
        assert_eq!(of_rows, [2, 3]);
    }

    #[test]
    fn a_sick_farm_or_a_light_load_is_void_and_never_passes() {
        let name = "the farm was well, the trouble as asked for";
        let sick: [fn(&mut Seen); 3] = [
            |seen| seen.farm_busy = 0.71,
            |seen| seen.farm_lag_p99_ms = 20.0,
            |seen| seen.had = 0.2,
        ];
        for change in sick {
            let mut seen = well();
            change(&mut seen);
            assert_eq!(failed(&row(seen, &all_found(1_000))), [name]);
        }
    }

    #[test]
    fn a_trouble_that_did_nothing_is_void_and_never_passes() {
        let name = "the farm was well, the trouble as asked for";
        for trouble in Trouble::ALL {
            let slot = slots(&[trouble], 1)[0];
            let (stood_still, went_on) = (0.0, 0.4);
            let of = |had| {
                let seen = Seen { had, ..well() };
                rows(&[(slot, seen)], 0, 0.4, &[], &[]).remove(0)
            };
            assert!(failed(&of(went_on)).contains(&name), "{trouble:?}");
            let is_told_by_cpu = matches!(trouble, Trouble::Overload | Trouble::Stopped);
            assert_eq!(
                failed(&of(stood_still)).contains(&name),
                !is_told_by_cpu,
                "{trouble:?}"
            );
        }
    }

    #[test]
    fn accounts_that_do_not_balance_are_passed_on() {
        let seen = Seen {
            unbalanced: vec!["core 0: due 2 ≠ probed 1".to_owned()],
            ..well()
        };
        assert_eq!(
            failed(&row(seen, &all_found(1_000))),
            ["every check accounted"]
        );
    }
}
