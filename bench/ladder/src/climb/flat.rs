//! Whether a check costs the same however large the fleet is. Pure.

use super::plan::{Form, Rung};
use super::record::{Flatness, Run, Verdict};
use crate::baseline::median;

/// What a check of one fleet may cost more than one of another, as a part.
const FLAT_MAX: f64 = 0.10;

/// For each scheme, store and interval what a check costs with each fleet, over the clean runs;
/// nothing of what has a single fleet.
pub(super) fn flatness(runs: &[Run]) -> Vec<Flatness> {
    let mut columns: Vec<(Rung, Vec<(u32, f64)>)> = Vec::new();
    for run in runs.iter().filter(|run| run.verdict == Verdict::Clean) {
        let (Some(measured), None) = (&run.measured, run.rung.overload) else {
            continue;
        };
        // The rung but for its size: names that expire, or no faults, are another column.
        let key = Rung {
            sites: 0,
            ..run.rung
        };
        let cost = (run.rung.sites, measured.cpu.core_us);
        match columns.iter_mut().find(|(of, _)| *of == key) {
            Some((_, costs)) => costs.push(cost),
            None => columns.push((key, vec![cost])),
        }
    }
    let columns = columns.into_iter();
    columns
        .filter_map(|(of, costs)| of_column(of, costs))
        .collect()
}

/// Of the runs of each fleet the median.
fn of_column(of: Rung, mut costs: Vec<(u32, f64)>) -> Option<Flatness> {
    costs.sort_by_key(|(sites, _)| *sites);
    let fleets = costs.chunk_by(|a, b| a.0 == b.0).map(|fleet| {
        let values = fleet.iter().map(|(_, us)| *us).collect();
        (fleet[0].0, median(values))
    });
    let fleets: Vec<(u32, f64)> = fleets.collect();
    let costs = || fleets.iter().map(|(_, us)| *us);
    let (min, max) = (
        costs().min_by(f64::total_cmp)?,
        costs().max_by(f64::total_cmp)?,
    );
    (fleets.len() > 1).then(|| Flatness {
        scheme: of.scheme,
        store: of.store,
        interval_s: of.interval_s,
        dns_ttl_s: of.dns_ttl_s,
        faults: of.faults,
        min_us: min,
        max_us: max,
        max_over_min: max / min.max(1e-3),
        fleets,
    })
}

impl Flatness {
    /// Why it is not flat; `None` when it is.
    fn failure(&self) -> Option<String> {
        let beyond = self.max_over_min > 1.0 + FLAT_MAX;
        beyond.then(|| {
            format!(
                "{} costs {:.1} to {:.1} µs per check by the size of the fleet, {:.0} % apart, at \
                 most {:.0} % are accepted",
                self.name(),
                self.min_us,
                self.max_us,
                100.0 * (self.max_over_min - 1.0),
                100.0 * FLAT_MAX
            )
        })
    }

    /// The rungs that it is of.
    pub(super) fn name(&self) -> String {
        let rung = Rung {
            sites: self.fleets[0].0,
            interval_s: self.interval_s,
            scheme: self.scheme,
            store: self.store,
            faults: self.faults,
            dns_ttl_s: self.dns_ttl_s,
            overload: None,
        };
        rung.column()
    }

    pub(super) fn is_flat(&self) -> bool {
        self.failure().is_none()
    }
}

/// The gate of a whole climb. CPU time is the machine's too: short forms only show it.
pub(super) fn failures(form: Form, all: &[Flatness]) -> Vec<String> {
    match form {
        Form::Full => all.iter().filter_map(Flatness::failure).collect(),
        Form::Quick | Form::Mini => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::testbed;
    use super::*;

    fn run(sites: u32, core_us: f64) -> Run {
        let rung = Rung {
            sites,
            ..testbed::rung()
        };
        testbed::run(rung, core_us)
    }

    #[test]
    fn a_column_is_as_flat_as_its_dearest_and_its_cheapest_fleet() {
        let mut dirty = run(500_000, 90.0);
        dirty.verdict = Verdict::Failed;
        let pressed = Run {
            rung: Rung {
                overload: Some(2),
                ..testbed::rung()
            },
            ..run(100_000, 90.0)
        };
        let hasty = Run {
            rung: Rung {
                dns_ttl_s: 60,
                ..testbed::rung()
            },
            ..run(100_000, 90.0)
        };
        let runs = [
            run(250_000, 44.0),
            run(100_000, 40.0),
            run(100_000, 39.0),
            run(100_000, 80.0),
            dirty,
            pressed,
            hasty,
        ];
        let all = flatness(&runs);
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].fleets, [(100_000, 40.0), (250_000, 44.0)]);
        assert!((all[0].max_over_min - 1.1).abs() < 1e-9 && all[0].is_flat());
        assert_eq!(all[0].name(), "http-sqlite@60");
        assert!(flatness(&runs[..1]).is_empty(), "one fleet shows nothing");
    }

    #[test]
    fn what_is_not_flat_is_a_failure_of_a_whole_climb() {
        let all = flatness(&[run(10_000, 44.1), run(20_000, 40.0)]);
        let found = failures(Form::Full, &all);
        assert!(
            found.len() == 1 && found[0].contains("44.1") && found[0].contains("10 % apart"),
            "{found:?}"
        );
        assert!(failures(Form::Quick, &all).is_empty() && !all[0].is_flat());
    }
}
