//! Holds what the node said of each site against what was done to it. Pure.
//!
//! An incident is *explained* by a fault that its check can have met and that it names as expected;
//! any other one is a false positive. A site that should be found and has no such incident is a
//! false negative.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cases::{CASES, Case, Expected, case_of};
use crate::findings::{Spread, met};
use crate::truth::{Fault, Incident};

/// Why a row does not hold: more sentences than these help nobody.
const REASONS_MAX: usize = 4;
/// What a busy machine may add to a delay.
const LATE_GRACE_MS: u64 = 2_000;

/// What became of the sites of one case.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) fault: &'static str,
    pub(super) verdict: &'static str,
    pub(super) class: &'static str,
    pub(super) events: String,
    pub(super) sites: u64,
    pub(super) counts: Counts,
    /// From the fault (or the node's start, if later) to *Seems Down*, or to the note.
    pub(super) suspected: Option<Spread>,
    /// From the same to *Down*.
    pub(super) confirmed: Option<Spread>,
    /// From the fault's end to the end of what was said.
    pub(super) recovered: Option<Spread>,
    /// Why it does not hold; empty when it does.
    pub(super) reasons: Vec<String>,
}

/// Sites by whether something was wrong and whether the node said so; a site that was called
/// wrong in two ways, once rightly, counts as found and as called falsely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) true_positives: u64,
    pub(super) false_positives: u64,
    pub(super) true_negatives: u64,
    pub(super) false_negatives: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.true_negatives += other.true_negatives;
        self.false_negatives += other.false_negatives;
    }
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) rows: Vec<Row>,
    pub(super) total: Counts,
    /// Sites that nothing was done to.
    pub(super) healthy: u64,
    /// One sentence for each incident of such a site.
    pub(super) of_healthy: Vec<String>,
}

impl Verdict {
    /// Everything that does not hold.
    pub(super) fn complaints(&self) -> Vec<String> {
        let of_row = |row: &Row| -> Vec<String> {
            let reasons = row.reasons.iter();
            reasons.map(|why| format!("{}: {why}", row.fault)).collect()
        };
        let rows = self.rows.iter().flat_map(of_row);
        rows.chain(self.of_healthy.iter().take(REASONS_MAX).cloned())
            .collect()
    }
}

/// Rows of which a site was in doubt, or confirmed, later than the node's own constants allow, and
/// a busy machine may take.
pub(super) fn late(rows: &[Row], suspected_ms: u32, confirmed_ms: u32) -> Vec<String> {
    let over = |delays: Option<Spread>, bound_ms: u32| {
        let slowest = delays.map_or(0, |delays| delays.max);
        (slowest > u64::from(bound_ms) + LATE_GRACE_MS).then_some(slowest as f64 / 1_000.0)
    };
    let of_row = |row: &Row| {
        let found = [
            ("in doubt", over(row.suspected, suspected_ms), suspected_ms),
            ("Down", over(row.confirmed, confirmed_ms), confirmed_ms),
        ];
        found.map(|(what, slowest, bound_ms)| {
            let bound = f64::from(bound_ms) / 1_000.0;
            let said =
                |slowest| format!("{}: {what} after {slowest:.1} s of {bound:.1}", row.fault);
            slowest.map(said)
        })
    };
    rows.iter().flat_map(of_row).flatten().collect()
}

/// What the run was, as far as the comparison asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) sites: u32,
    pub(super) timeout_ms: u64,
    /// When the node was there to see.
    pub(super) watching_since_ms: u64,
}

/// Compares `incidents` with `faults`.
pub(super) fn compare(faults: &[Fault], incidents: &[Incident], run: Run) -> Verdict {
    let mut by_site: BTreeMap<u32, Site<'_>> = BTreeMap::new();
    for fault in faults {
        if let Some(number) = site_number(&fault.host) {
            by_site.entry(number).or_default().faults.push(fault);
        }
    }
    for incident in incidents {
        if let Some(number) = site_number(incident.host()) {
            by_site.entry(number).or_default().incidents.push(incident);
        }
    }
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let (mut of_healthy, mut called_falsely, mut broken) = (Vec::new(), 0, 0);
    for (&number, site) in &by_site {
        if let Some(case) = case_of(number).filter(|_| !site.faults.is_empty()) {
            broken += 1;
            tallies.entry(case.name).or_default().add(case, site, run);
        } else {
            called_falsely += 1;
            of_healthy.extend(site.incidents.iter().map(|incident| sentence(incident)));
        }
    }
    let healthy = u64::from(run.sites) - broken;
    let mut total = Counts {
        false_positives: called_falsely,
        true_negatives: healthy - called_falsely,
        ..Counts::default()
    };
    let row = |case: &'static Case| tallies.remove(case.name).unwrap_or_default().row(case);
    let rows: Vec<Row> = CASES.iter().map(row).collect();
    for row in &rows {
        total.add(row.counts);
    }
    Verdict {
        rows,
        total,
        healthy,
        of_healthy,
    }
}

/// The number in `s-0000042.farm.test`.
fn site_number(host: &str) -> Option<u32> {
    host.strip_prefix("s-")?.split('.').next()?.parse().ok()
}

fn sentence(incident: &Incident) -> String {
    format!(
        "{}: {} {} ({}) from {} ms on, opened at {} ms",
        incident.url,
        incident.check_type,
        incident.states().join(", "),
        incident.class.as_deref().unwrap_or("no class"),
        incident.started_at_ms,
        incident.opened_at_ms()
    )
}

/// What was done to one site, and what was said of it.
#[derive(Default)]
struct Site<'a> {
    faults: Vec<&'a Fault>,
    incidents: Vec<&'a Incident>,
}

impl Site<'_> {
    /// When the first fault began and the last one ended.
    fn span(&self) -> (u64, u64) {
        let starts = self.faults.iter().map(|fault| fault.start_ms);
        let ends = self.faults.iter().map(|fault| fault.end_ms);
        (starts.min().unwrap_or(0), ends.max().unwrap_or(0))
    }

    /// Whether some fault of the site can have been met by the check that opened `incident`.
    fn met(&self, incident: &Incident, timeout_ms: u64) -> bool {
        let faults = self.faults.iter();
        faults
            .into_iter()
            .any(|fault| met(fault, incident, timeout_ms))
    }
}

/// Whether an incident is one that `expected` asks for; of a site that flaps there are two kinds.
fn is_expected(expected: Expected, incident: &Incident) -> bool {
    let class = incident.class.as_deref();
    let (kind, states) = (incident.check_type.as_str(), incident.states());
    match expected {
        Expected::Down(name) => {
            kind == "http" && class == Some(name) && states.starts_with(&["Seems Down", "Down"])
        }
        Expected::DownAtOnce(name) => {
            kind == "http" && class == Some(name) && states.first() == Some(&"Down")
        }
        Expected::Note(name, state) => kind == name && states.first() == Some(&state),
        Expected::Flapping => match kind {
            "flapping" => states == ["Degraded"],
            _ => kind == "http" && states == ["Seems Down", "Resolved"],
        },
        Expected::Up | Expected::Unknown(_) => false,
    }
}

/// The sites of one case while they are counted.
#[derive(Default)]
struct Tally {
    sites: u64,
    counts: Counts,
    suspected: Vec<u64>,
    confirmed: Vec<u64>,
    recovered: Vec<u64>,
    reasons: BTreeSet<String>,
    complaints: u64,
}

impl Tally {
    fn add(&mut self, case: &Case, site: &Site<'_>, run: Run) {
        self.sites += 1;
        let fits = |incident: &&&Incident| {
            is_expected(case.expected, incident) && site.met(incident, run.timeout_ms)
        };
        let right: Vec<&Incident> = site.incidents.iter().filter(fits).copied().collect();
        let is_wrong = right.len() < site.incidents.len();
        if is_wrong {
            let odd = site.incidents.iter().filter(|incident| !fits(incident));
            odd.for_each(|incident| self.complain(sentence(incident)));
        }
        self.counts.false_positives += u64::from(is_wrong);
        let host = &site.faults[0].host;
        match case.expected {
            Expected::Up | Expected::Unknown(_) => {
                self.counts.true_negatives += u64::from(!is_wrong);
            }
            expected if !is_found(expected, &right) => {
                self.counts.false_negatives += 1;
                self.complain(format!("{host} was not found"));
            }
            expected => {
                self.counts.true_positives += 1;
                self.time(expected, site, &right, run);
            }
        }
    }

    /// Delays of a site that was found, and whether its incident ended with the fault.
    fn time(&mut self, expected: Expected, site: &Site<'_>, right: &[&Incident], run: Run) {
        let (start_ms, end_ms) = site.span();
        let zero = start_ms.max(run.watching_since_ms);
        let since = |at: u64| at.saturating_sub(zero);
        let opened = right.iter().map(|incident| incident.opened_at_ms()).min();
        let down = right.iter().filter_map(|it| it.reached("Down")).min();
        if !matches!(expected, Expected::DownAtOnce(_)) {
            self.suspected.extend(opened.map(since));
        }
        self.confirmed.extend(down.map(since));
        if expected == Expected::Flapping {
            return;
        }
        let host = &site.faults[0].host;
        if right.len() > 1 {
            self.complain(format!("{host} was found {} times", right.len()));
        }
        match right[0].ended_at_ms {
            None => self.complain(format!("{host}: its recovery was not seen")),
            Some(at) if at + run.timeout_ms < end_ms => {
                self.complain(format!("{host} was called well while the fault lasted"));
            }
            Some(at) => self.recovered.push(at.saturating_sub(end_ms)),
        }
    }

    fn complain(&mut self, why: String) {
        self.complaints += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(why);
        }
    }

    fn row(mut self, case: &Case) -> Row {
        if case
            .planned()
            .map_or(self.sites == 0, |planned| planned != self.sites)
        {
            let sites = self.sites;
            self.reasons
                .insert(format!("the farm broke {sites} sites, not as planned"));
        }
        let more = self.complaints.saturating_sub(self.reasons.len() as u64);
        let more = (more > 0).then(|| format!("and {more} more"));
        Row {
            fault: case.name,
            verdict: case.expected.verdict(),
            class: case.expected.class(),
            events: case.expected.sequence(),
            sites: self.sites,
            counts: self.counts,
            suspected: Spread::of(self.suspected),
            confirmed: Spread::of(self.confirmed),
            recovered: Spread::of(self.recovered),
            reasons: self.reasons.into_iter().chain(more).collect(),
        }
    }
}

/// Whether what was rightly said is all that must be.
fn is_found(expected: Expected, right: &[&Incident]) -> bool {
    let flaps = |incident: &&&Incident| incident.check_type == "flapping";
    match expected {
        Expected::Flapping => right.iter().filter(flaps).count() == 1 && right.len() > 1,
        _ => !right.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Change;

    const RUN: Run = Run {
        sites: 10_000,
        timeout_ms: 2_000,
        watching_since_ms: 0,
    };

    /// The first site of the case called `name`.
    fn host(name: &str) -> String {
        let site = (0..RUN.sites).find(|&site| case_of(site).is_some_and(|case| case.name == name));
        format!("s-{:07}.farm.test", site.expect("a case"))
    }

    fn fault(host: &str, start_ms: u64, end_ms: u64) -> Fault {
        Fault {
            host: host.to_owned(),
            kind: String::new(),
            class: None,
            start_ms,
            end_ms,
        }
    }

    fn incident(host: &str, kind: &str, class: Option<&str>, states: &[(&str, u64)]) -> Incident {
        let change = |&(after, changed_at_ms): &(&str, u64)| Change {
            after: after.to_owned(),
            changed_at_ms,
        };
        let last = states.last().expect("a state");
        Incident {
            url: format!("http://{host}:80/"),
            check_type: kind.to_owned(),
            class: class.map(str::to_owned),
            started_at_ms: states[0].1,
            ended_at_ms: (last.0 == "Resolved").then_some(last.1),
            transitions: states.iter().map(change).collect(),
        }
    }

    fn row(verdict: &Verdict, name: &str) -> Row {
        let row = verdict.rows.iter().find(|row| row.fault == name);
        row.expect("every case has a row").clone()
    }

    const DOWN: &[(&str, u64)] = &[
        ("Seems Down", 12_000),
        ("Down", 30_000),
        ("Resolved", 61_000),
    ];

    #[test]
    fn a_site_that_is_found_as_expected_has_its_delays() {
        let host = host("refuse");
        let incident = incident(&host, "http", Some("connect.refused"), DOWN);
        let verdict = compare(&[fault(&host, 10_000, 60_000)], &[incident], RUN);
        let row = row(&verdict, "refuse");
        let found = Counts {
            true_positives: 1,
            ..Counts::default()
        };
        assert_eq!(row.counts, found);
        let delays = [row.suspected, row.confirmed, row.recovered];
        assert_eq!(
            delays.map(|delay| delay.expect("measured").max),
            [2_000, 20_000, 1_000]
        );
        assert_eq!(row.reasons, ["the farm broke 1 sites, not as planned"]);
        assert_eq!(verdict.total.true_negatives, 9_999);
    }

    #[test]
    fn what_is_found_later_than_the_constants_allow_is_late() {
        let host = host("refuse");
        let incident = incident(&host, "http", Some("connect.refused"), DOWN);
        let rows = compare(&[fault(&host, 10_000, 60_000)], &[incident], RUN).rows;
        assert_eq!(late(&rows, 0, 18_000), Vec::<String>::new());
        assert_eq!(
            late(&rows, 0, 17_999),
            ["refuse: Down after 20.0 s of 18.0"]
        );
    }

    #[test]
    fn another_class_another_story_or_nothing_is_not_the_site_found() {
        let host = host("refuse");
        let faults = [fault(&host, 10_000, 60_000)];
        let said = [
            incident(&host, "http", Some("connect.timeout"), DOWN),
            incident(&host, "http", Some("connect.refused"), &DOWN[1..]),
            incident(&host, "tls_expiry", Some("connect.refused"), DOWN),
        ];
        for said in said {
            let counts = row(&compare(&faults, &[said], RUN), "refuse").counts;
            assert_eq!((counts.false_negatives, counts.false_positives), (1, 1));
        }
        let counts = row(&compare(&faults, &[], RUN), "refuse").counts;
        assert_eq!((counts.false_negatives, counts.false_positives), (1, 0));
    }

    #[test]
    fn what_is_no_failure_may_have_no_incident() {
        let host = host("status 204");
        let faults = [fault(&host, 10_000, 60_000)];
        let said = incident(&host, "http", Some("http.status"), DOWN);
        let counts = |said: &[Incident]| row(&compare(&faults, said, RUN), "status 204").counts;
        assert_eq!(counts(&[]).true_negatives, 1);
        assert_eq!(counts(&[said]).false_positives, 1);
    }

    #[test]
    fn an_incident_outside_of_the_fault_and_one_of_a_healthy_site_are_false() {
        let host = host("refuse");
        let faults = [fault(&host, 70_000, 90_000)];
        let early = incident(&host, "http", Some("connect.refused"), DOWN);
        let stranger = incident("s-0009999.farm.test", "http", Some("http.reset"), DOWN);
        let verdict = compare(&faults, &[early, stranger], RUN);
        assert_eq!(verdict.total.false_positives, 2);
        assert_eq!(verdict.of_healthy.len(), 1);
        assert!(
            verdict
                .complaints()
                .iter()
                .any(|why| why.contains("s-0009999"))
        );
    }

    #[test]
    fn an_open_an_early_and_a_doubled_end_are_complained_of() {
        let host = host("refuse");
        let faults = [fault(&host, 10_000, 80_000)];
        let said = |states| incident(&host, "http", Some("connect.refused"), states);
        let reasons = |said: &[Incident]| row(&compare(&faults, said, RUN), "refuse").reasons;
        assert!(reasons(&[said(&DOWN[..2])])[0].contains("recovery was not seen"));
        assert!(reasons(&[said(DOWN)])[0].contains("while the fault lasted"));
        let twice = reasons(&[said(DOWN), said(DOWN)]);
        assert!(twice.iter().any(|why| why.contains("2 times")), "{twice:?}");
    }

    #[test]
    fn a_site_flaps_when_its_blips_are_told_and_that_it_flaps() {
        let host = host("flapping");
        let faults = [fault(&host, 10_000, 20_000), fault(&host, 30_000, 40_000)];
        let blip = |at| {
            incident(
                &host,
                "http",
                Some("http.status"),
                &[("Seems Down", at), ("Resolved", at + 9_000)],
            )
        };
        let flaps = incident(&host, "flapping", None, &[("Degraded", 40_000)]);
        let counts = |said: &[Incident]| row(&compare(&faults, said, RUN), "flapping").counts;
        assert_eq!(
            counts(&[blip(12_000), blip(32_000), flaps.clone()]).true_positives,
            1
        );
        assert_eq!(counts(&[blip(12_000), blip(32_000)]).false_negatives, 1);
        assert_eq!(counts(&[flaps]).false_negatives, 1);
    }
}
