//! Compares what the node said with the ground truth. Pure.
//!
//! A fault is *detected* by one event of its site whose check met it: an event begins when its
//! first failing check began, so that check may have begun up to a timeout before the fault, if the
//! event was opened only after it, or may have been answered up to a timeout after its end. Any
//! other event is a *false down*.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::truth::{Fault, Incident};

/// Minimum, median, mean and maximum of delays, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: u64,
    pub(crate) median: u64,
    pub(crate) mean: u64,
    pub(crate) max: u64,
}

impl Spread {
    /// `None` of no delays.
    pub(crate) fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self {
            min,
            median: values[values.len() / 2],
            mean: values.iter().sum::<u64>() / values.len() as u64,
            max,
        })
    }
}

/// What became of all faults of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KindRow {
    pub(crate) kind: String,
    pub(crate) expected: String,
    /// Every class that the node's events of these sites carry.
    pub(crate) found: BTreeSet<String>,
    pub(crate) sites: usize,
    /// Sites with an event in the window.
    pub(crate) detected: usize,
    /// Sites whose event was confirmed as Down.
    pub(crate) confirmed: usize,
    /// Sites whose events all ended.
    pub(crate) recovered: usize,
    /// Sites with more than one event: the fault was there without a pause.
    pub(crate) repeated: usize,
    /// Sites whose events all ended while the fault still lasted.
    pub(crate) early: usize,
    /// Delay from the fault (or the node's start, if later) to Seems Down; absent where the class
    /// opens an event only once it is confirmed.
    pub(crate) seems_down: Option<Spread>,
    /// Delay from the same point to Down.
    pub(crate) down: Option<Spread>,
    /// Delay from the fault's end to the event's end.
    pub(crate) recovery: Option<Spread>,
}

/// The comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) kinds: Vec<KindRow>,
    /// One sentence for each event that no fault explains.
    pub(crate) false_downs: Vec<String>,
}

impl Findings {
    /// One sentence for each kind that was not found as it should.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for row in &self.kinds {
            let mut short = |count: usize, what: &str| {
                if count < row.sites {
                    sentences.push(format!(
                        "{}: {count} of {} sites {what}",
                        row.kind, row.sites
                    ));
                }
            };
            short(row.detected, "detected");
            short(row.confirmed, "confirmed as Down");
            short(row.recovered, "recovered");
            if row.repeated > 0 {
                sentences.push(format!(
                    "{}: {} of {} sites were found more than once",
                    row.kind, row.repeated, row.sites
                ));
            }
            if row.early > 0 {
                sentences.push(format!(
                    "{}: {} of {} sites were called up while the fault lasted",
                    row.kind, row.early, row.sites
                ));
            }
            let only = BTreeSet::from([row.expected.clone()]);
            if row.detected > 0 && row.found != only {
                let found: Vec<&str> = row.found.iter().map(String::as_str).collect();
                let found = found.join(", ");
                sentences.push(format!(
                    "{}: expected {}, found {found}",
                    row.kind, row.expected
                ));
            }
        }
        sentences
    }
}

/// Compares `incidents` with `faults`; `watching_since_ms` is when the node was there to see.
pub(crate) fn compare(
    faults: &[Fault],
    incidents: &[Incident],
    timeout_ms: u64,
    watching_since_ms: u64,
) -> Findings {
    let mut by_host: BTreeMap<&str, Vec<&Incident>> = BTreeMap::new();
    for incident in incidents {
        by_host.entry(incident.host()).or_default().push(incident);
    }
    let real: Vec<&Fault> = faults
        .iter()
        .filter(|fault| fault.class.is_some())
        .collect();
    let explains = |fault: &Fault, incident: &Incident| {
        fault.host == incident.host() && met(fault, incident, timeout_ms)
    };
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for fault in &real {
        let events = by_host.get(fault.host.as_str()).into_iter().flatten();
        let own: Vec<&Incident> = events
            .copied()
            .filter(|event| explains(fault, event))
            .collect();
        tallies
            .entry(&fault.kind)
            .or_default()
            .add(fault, &own, timeout_ms, watching_since_ms);
    }
    let is_false = |incident: &&Incident| !real.iter().any(|fault| explains(fault, incident));
    Findings {
        kinds: tallies
            .into_iter()
            .map(|(kind, tally)| tally.row(kind))
            .collect(),
        false_downs: incidents.iter().filter(is_false).map(sentence).collect(),
    }
}

/// Whether the check that opened `incident` can have met `fault`.
pub(crate) fn met(fault: &Fault, incident: &Incident, timeout_ms: u64) -> bool {
    let began = fault.start_ms.saturating_sub(timeout_ms)..=fault.end_ms + timeout_ms;
    began.contains(&incident.started_at_ms) && incident.opened_at_ms() >= fault.start_ms
}

fn sentence(incident: &Incident) -> String {
    let class = incident.class.as_deref().unwrap_or("no class");
    format!(
        "{} said {class} from {} ms on, opened at {} ms",
        incident.url,
        incident.started_at_ms,
        incident.opened_at_ms()
    )
}

/// The faults of one kind while they are counted.
#[derive(Default)]
struct Tally {
    row: KindRow,
    seems_down: Vec<u64>,
    down: Vec<u64>,
    recovery: Vec<u64>,
}

impl Tally {
    fn add(
        &mut self,
        fault: &Fault,
        events: &[&Incident],
        timeout_ms: u64,
        watching_since_ms: u64,
    ) {
        self.row.expected = fault.class.clone().unwrap_or_default();
        self.row.sites += 1;
        let Some(first) = events.iter().min_by_key(|event| event.started_at_ms) else {
            return;
        };
        self.row.detected += 1;
        self.row.repeated += usize::from(events.len() > 1);
        let classes = events
            .iter()
            .map(|event| event.class.clone().unwrap_or_default());
        self.row.found.extend(classes);
        let zero = fault.start_ms.max(watching_since_ms);
        let since_zero = |at: u64| at.saturating_sub(zero);
        self.seems_down
            .extend(first.reached("Seems Down").map(since_zero));
        if let Some(down) = events
            .iter()
            .filter_map(|event| event.reached("Down"))
            .min()
        {
            self.row.confirmed += 1;
            self.down.push(since_zero(down));
        }
        let ends: Option<Vec<u64>> = events.iter().map(|event| event.ended_at_ms).collect();
        if let Some(end) = ends.and_then(|ends| ends.into_iter().max()) {
            self.row.recovered += 1;
            // A check that began in the fault may have been answered after it.
            self.row.early += usize::from(end + timeout_ms < fault.end_ms);
            self.recovery.push(end.saturating_sub(fault.end_ms));
        }
    }

    fn row(self, kind: &str) -> KindRow {
        KindRow {
            kind: kind.to_owned(),
            seems_down: Spread::of(self.seems_down),
            down: Spread::of(self.down),
            recovery: Spread::of(self.recovery),
            ..self.row
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Change;

    const TIMEOUT_MS: u64 = 5_000;

    fn fault(host: &str, class: Option<&str>) -> Fault {
        Fault {
            host: host.to_owned(),
            kind: "status".to_owned(),
            class: class.map(str::to_owned),
            start_ms: 100_000,
            end_ms: 130_000,
        }
    }

    fn incident(host: &str, started_at_ms: u64, ended_at_ms: Option<u64>) -> Incident {
        let change = |after: &str, delay| Change {
            after: after.to_owned(),
            changed_at_ms: started_at_ms + delay,
        };
        Incident {
            url: format!("http://{host}:8080/"),
            check_type: "http".to_owned(),
            class: Some("http.status".to_owned()),
            started_at_ms,
            ended_at_ms,
            transitions: vec![change("Seems Down", 10), change("Down", 18_000)],
        }
    }

    #[test]
    fn a_detected_fault_has_its_delays() {
        let faults = [
            fault("a", Some("http.status")),
            fault("b", Some("http.status")),
        ];
        let incidents = [
            incident("a", 101_000, Some(134_000)),
            incident("b", 104_000, Some(131_000)),
        ];
        let findings = compare(&faults, &incidents, TIMEOUT_MS, 0);
        let row = &findings.kinds[0];
        assert_eq!(
            (row.sites, row.detected, row.confirmed, row.recovered),
            (2, 2, 2, 2)
        );
        assert_eq!(
            row.seems_down,
            Some(Spread {
                min: 1_010,
                median: 4_010,
                mean: 2_510,
                max: 4_010
            })
        );
        assert_eq!(
            row.down,
            Some(Spread {
                min: 19_000,
                median: 22_000,
                mean: 20_500,
                max: 22_000
            })
        );
        assert_eq!(
            row.recovery,
            Some(Spread {
                min: 1_000,
                median: 4_000,
                mean: 2_500,
                max: 4_000
            })
        );
        assert!(findings.shortfalls().is_empty() && findings.false_downs.is_empty());
    }

    #[test]
    fn a_check_that_began_before_the_fault_may_meet_it_until_its_timeout() {
        let opened_in_the_fault = |began_before_ms: u64| {
            let mut event = incident("a", 100_000 - began_before_ms, Some(131_000));
            event.transitions[0].changed_at_ms = 100_001;
            compare(&[fault("a", Some("http.status"))], &[event], TIMEOUT_MS, 0)
        };
        assert_eq!(opened_in_the_fault(TIMEOUT_MS).kinds[0].detected, 1);
        assert!(opened_in_the_fault(TIMEOUT_MS).false_downs.is_empty());
        let too_early = opened_in_the_fault(TIMEOUT_MS + 1);
        assert_eq!(too_early.kinds[0].detected, 0);
        assert_eq!(too_early.false_downs.len(), 1);
    }

    #[test]
    fn delays_of_older_faults_count_from_the_nodes_start() {
        let findings = compare(
            &[fault("a", Some("http.status"))],
            &[incident("a", 101_000, None)],
            TIMEOUT_MS,
            100_500,
        );
        assert_eq!(
            findings.kinds[0].seems_down.map(|delay| delay.min),
            Some(510)
        );
    }

    #[test]
    fn a_missed_an_open_and_an_unconfirmed_fault_fall_short() {
        let faults = ["a", "b", "c"].map(|host| fault(host, Some("http.status")));
        let mut unconfirmed = incident("c", 101_000, Some(131_000));
        unconfirmed.transitions.truncate(1);
        let incidents = [incident("b", 101_000, None), unconfirmed];
        let shortfalls = compare(&faults, &incidents, TIMEOUT_MS, 0).shortfalls();
        assert_eq!(
            shortfalls,
            [
                "status: 2 of 3 sites detected",
                "status: 1 of 3 sites confirmed as Down",
                "status: 1 of 3 sites recovered",
            ]
        );
    }

    #[test]
    fn another_class_than_expected_falls_short() {
        let faults = [fault("a", Some("http.reset"))];
        let incidents = [incident("a", 101_000, Some(131_000))];
        let shortfalls = compare(&faults, &incidents, TIMEOUT_MS, 0).shortfalls();
        assert_eq!(
            shortfalls,
            ["status: expected http.reset, found http.status"]
        );
    }

    #[test]
    fn a_fault_that_is_found_twice_falls_short() {
        let faults = [fault("a", Some("http.status"))];
        let incidents = [
            incident("a", 101_000, Some(110_000)),
            incident("a", 119_000, Some(131_000)),
        ];
        let shortfalls = compare(&faults, &incidents, TIMEOUT_MS, 0).shortfalls();
        assert_eq!(
            shortfalls,
            ["status: 1 of 1 sites were found more than once"]
        );
    }

    #[test]
    fn an_end_while_the_fault_lasts_is_no_recovery() {
        let faults = ["a", "b"].map(|host| fault(host, Some("http.status")));
        let incidents = [
            incident("a", 101_000, Some(124_999)),
            incident("b", 101_000, Some(125_000)),
        ];
        let shortfalls = compare(&faults, &incidents, TIMEOUT_MS, 0).shortfalls();
        assert_eq!(
            shortfalls,
            ["status: 1 of 2 sites were called up while the fault lasted"]
        );
    }

    #[test]
    fn events_outside_every_window_are_false_downs() {
        let faults = [fault("a", Some("http.status")), fault("b", None)];
        let ended = Some(999_999);
        for (host, start, is_false) in [
            ("a", 100_000, false),
            ("a", 135_000, false),
            // `incident` is opened 10 ms after its check began.
            ("a", 99_990, false),
            ("a", 99_989, true),
            ("a", 135_001, true),
            ("b", 101_000, true),
            ("c", 101_000, true),
        ] {
            let findings = compare(&faults, &[incident(host, start, ended)], TIMEOUT_MS, 0);
            assert_eq!(
                findings.false_downs.len(),
                usize::from(is_false),
                "{host} {start}"
            );
        }
    }
}
