//! Medians, ratios and bars of `ladder baseline`. Pure.

use serde::Serialize;

use super::allocations::{self, AllocationRow};
use super::engine::EngineWindow;
use super::scheme::{Handshakes, SCHEMES, Scheme};
use super::tally::Sample;
use crate::figures::median;
use crate::machine::Machine;
use crate::table::Table;

/// Rounds below this make no claim.
const REPEATS_FOR_A_CLAIM: usize = 3;
/// A farm busier than this answers late, and the numbers are its own.
pub(crate) const FARM_BUSY_MAX_PERCENT: f64 = 85.0;

/// Who checks, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Prober {
    Hyper,
    Epoll,
    Floor,
    Engine,
}

/// Who was measured, at what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Variant {
    pub(super) scheme: Scheme,
    pub(super) prober: Prober,
}

impl Variant {
    pub(super) fn name(self) -> String {
        let prober = match (self.prober, self.scheme.is_https()) {
            (Prober::Hyper, false) => "tokio + hyper 1",
            (Prober::Hyper, true) => "tokio + hyper 1 + tokio-rustls",
            (Prober::Epoll, _) => "ringwatch's prober on tokio epoll",
            (Prober::Floor, _) => "floor, raw monoio",
            (Prober::Engine, _) => "ringwatch probe core",
        };
        format!("{}: {prober}", self.scheme.name())
    }
}

/// All rounds of one variant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) variant: Variant,
    pub(super) samples: Vec<Sample>,
    /// Those of the engine, over all rounds; nothing where not read.
    pub(super) handshakes: Option<Handshakes>,
    /// The farm's busiest window beside the engine, in percent of one core; 0 where not read.
    pub(super) farm_busy_percent: f64,
}

impl Row {
    /// No round yet.
    pub(super) fn new(variant: Variant) -> Self {
        Self {
            variant,
            samples: Vec::new(),
            handshakes: None,
            farm_busy_percent: 0.0,
        }
    }

    /// Takes in what only a window of the engine shows.
    pub(super) fn watch(&mut self, window: &EngineWindow) {
        self.handshakes.get_or_insert_default().add(window);
        self.farm_busy_percent = self.farm_busy_percent.max(window.farm_busy_percent);
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    fn failed(&self) -> u64 {
        self.samples.iter().map(|sample| sample.failed).sum()
    }
}

/// One of the numbers of `bench.md` §5.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) what: String,
    /// Median over the rounds.
    pub(super) measured: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Absent where it is told, and no bar of anybody.
    pub(super) bar: Option<f64>,
    pub(super) holds: bool,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Parameters {
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) http_rate: u32,
    pub(super) https_rate: u32,
    pub(super) probe_cpu: usize,
    pub(super) farm_cpu: usize,
    pub(super) driver: String,
    pub(super) farm_shell: String,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) parameters: Parameters,
    pub(super) rows: Vec<Row>,
    pub(super) ratios: Vec<Ratio>,
    pub(super) allocations: Vec<AllocationRow>,
}

/// How dear a check may be against the floor, in HTTP.
const BAR_AGAINST_FLOOR: f64 = 1.15;

/// (scheme, the engine is measured against, bar), in the order of the report.
fn bars() -> impl Iterator<Item = (Scheme, Prober, Option<f64>)> {
    let floor = (Scheme::Http, Prober::Floor, Some(BAR_AGAINST_FLOOR));
    let hyper = SCHEMES.map(|scheme| (scheme, Prober::Hyper, Some(scheme.bar_against_hyper())));
    let epoll = SCHEMES.map(|scheme| (scheme, Prober::Epoll, None));
    std::iter::once(floor).chain(hyper).chain(epoll)
}

/// The ratios that the rows allow: medians of the ratios within each round.
pub(super) fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let samples = |scheme, prober| {
        let variant = Variant { scheme, prober };
        let row = rows.iter().find(|row| row.variant == variant);
        row.map_or(&[][..], |row| &row.samples)
    };
    bars()
        .filter_map(|(scheme, against, bar)| {
            let pairs = samples(scheme, Prober::Engine)
                .iter()
                .zip(samples(scheme, against));
            let rounds: Vec<f64> = pairs
                .filter(|(_, against)| against.cpu_us() > 0.0)
                .map(|(engine, against)| engine.cpu_us() / against.cpu_us())
                .collect();
            let measured = median(rounds.clone());
            let peer = match against {
                Prober::Floor => "floor",
                Prober::Epoll => "its prober on tokio epoll",
                Prober::Hyper | Prober::Engine => "hyper",
            };
            (!rounds.is_empty()).then(|| Ratio {
                what: format!("{}: probe core vs {peer}", scheme.name()),
                measured,
                min: lowest(&rounds),
                max: highest(&rounds),
                bar,
                holds: bar.is_none_or(|bar| measured <= bar),
            })
        })
        .collect()
}

fn lowest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Why the numbers must not be used: failed checks, resumed handshakes, a rate that was missed.
pub(super) fn flaws(rows: &[Row], plain_rate: u32, tls_rate: u32) -> Vec<String> {
    let mut flaws = Vec::new();
    if rows.is_empty() {
        flaws.push("nothing was measured".to_owned());
    }
    for row in rows {
        let name = row.variant.name();
        let checks: u64 = row.samples.iter().map(|sample| sample.checks).sum();
        if row.failed() * 1_000 > checks {
            flaws.push(format!(
                "{name}: {} of {checks} checks failed",
                row.failed()
            ));
        }
        if row.samples.iter().any(|sample| sample.cpu_us() <= 0.0) {
            flaws.push(format!("{name}: a round without any CPU time"));
        }
        let handshakes = row.handshakes.and_then(|all| all.flaw(row.variant.scheme));
        flaws.extend(handshakes.map(|flaw| format!("{name}: {flaw}")));
        if row.farm_busy_percent > FARM_BUSY_MAX_PERCENT {
            flaws.push(format!(
                "{name}: the farm was {:.0} % busy",
                row.farm_busy_percent
            ));
        }
        let wanted = f64::from(row.variant.scheme.rate(plain_rate, tls_rate));
        let rate = row.median(Sample::rate);
        if (rate / wanted - 1.0).abs() > 0.05 {
            flaws.push(format!("{name}: {rate:.0} checks/s instead of {wanted:.0}"));
        }
    }
    flaws
}

/// The report for people.
pub(super) fn markdown(report: &Report, flaws: &[String], command: &str) -> String {
    let p = &report.parameters;
    let single = if p.rounds < REPEATS_FOR_A_CLAIM {
        " **Single: no claim.**"
    } else {
        ""
    };
    let mut parts = vec![
        "# CPU per check".to_owned(),
        format!("`{command}`\n\n{}", report.machine.line()),
        format!(
            "Medians of {} rounds of {} s.{single} In a round all variants of a scheme run at the \
             same time on CPU {}; the farm ({} shell) is on CPU {}, with the node's other threads. \
             HTTP at {} and HTTPS at {} checks/s of each where the farm signs each with RSA, at \
             more where it signs less; a new connection per check; driver: {}. CPU is user + \
             system of the measured thread. Between the engine and its prober on tokio's epoll \
             lie the ring, the executor and the engine's own books. The floor is the exchange as \
             one would write it on monoio; the engine's own ways of connecting, closing and \
             allocating (decision 0005) are part of the engine. HTTPS is TLS 1.3 with X25519 \
             through rustls and aws-lc-rs on both sides; hyper verifies the chain in every check, \
             the engine as its row says, and it computes the signature on an authority's \
             certificate once and not in every chain; each side has its own order of suites and \
             its own allocator.",
            p.rounds,
            p.seconds,
            p.probe_cpu,
            p.farm_shell,
            p.farm_cpu,
            p.http_rate,
            p.https_rate,
            p.driver,
        ),
        row_table(&report.rows),
        ratio_table(&report.ratios),
        allocations::table(&report.allocations),
    ];
    if !flaws.is_empty() {
        let list: Vec<String> = flaws.iter().map(|flaw| format!("- {flaw}")).collect();
        parts.push(format!("**Not to be used:**\n\n{}", list.join("\n")));
    }
    let mut text = parts.join("\n\n").replace("\n\n\n", "\n\n");
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn row_table(rows: &[Row]) -> String {
    let head = [
        "variant",
        "CPU µs/check",
        "min",
        "max",
        "whole process",
        "checks/s",
        "failed",
    ];
    let mut table = Table::new(&head);
    for row in rows.iter().filter(|row| !row.samples.is_empty()) {
        let all: Vec<f64> = row.samples.iter().map(Sample::cpu_us).collect();
        let number = |value: f64| format!("{value:.1}");
        table.row([
            row.variant.name(),
            number(median(all.clone())),
            number(lowest(&all)),
            number(highest(&all)),
            number(row.median(Sample::process_us)),
            format!("{:.0}", row.median(Sample::rate)),
            row.failed().to_string(),
        ]);
    }
    table.markdown()
}

fn ratio_table(ratios: &[Ratio]) -> String {
    let mut table = Table::new(&[
        "ratio within a round",
        "median",
        "min",
        "max",
        "bar",
        "holds",
    ]);
    for ratio in ratios {
        table.row([
            ratio.what.clone(),
            format!("{:.3}", ratio.measured),
            format!("{:.3}", ratio.min),
            format!("{:.3}", ratio.max),
            ratio.bar.map_or_else(none, |bar| format!("≤ {bar:.2}")),
            match (ratio.bar, ratio.holds) {
                (None, _) => none(),
                (Some(_), true) => "yes".to_owned(),
                (Some(_), false) => "NO".to_owned(),
            },
        ]);
    }
    table.markdown()
}

/// In a cell that has nothing to say.
fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scheme: Scheme, prober: Prober, cpu_us: &[f64]) -> Row {
        let sample = |cpu_us: &f64| Sample {
            checks: 1_000,
            failed: 0,
            seconds: 1.0,
            cpu_s: cpu_us / 1e3,
            process_s: cpu_us / 1e3,
        };
        Row {
            samples: cpu_us.iter().map(sample).collect(),
            ..Row::new(Variant { scheme, prober })
        }
    }

    #[test]
    fn ratios_are_of_rounds_and_need_both_sides() {
        let rows = [
            row(Scheme::Http, Prober::Engine, &[46.0, 82.0, 41.0]),
            // The second round met a slow machine: so did both.
            row(Scheme::Http, Prober::Floor, &[40.0, 80.0, 40.0]),
            row(Scheme::Http, Prober::Hyper, &[50.0, 80.0, 50.0]),
            row(SCHEMES[1], Prober::Engine, &[200.0]),
            row(SCHEMES[2], Prober::Hyper, &[10.0]),
        ];
        let permille = |ratio: f64| (ratio * 1e3).round() as u32;
        let found: Vec<_> = ratios(&rows)
            .iter()
            .map(|r| [r.min, r.measured, r.max].map(permille))
            .collect();
        assert_eq!(found, [[1_025, 1_025, 1_150], [820, 920, 1_025]]);
        let holds: Vec<bool> = ratios(&rows).iter().map(|ratio| ratio.holds).collect();
        assert_eq!(holds, [true, false]);
    }

    #[test]
    fn failed_resumed_and_missed_rates_are_flaws_as_is_nothing_at_all() {
        assert_eq!(flaws(&[], 1, 1_000), ["nothing was measured"]);
        let good = row(SCHEMES[1], Prober::Engine, &[200.0]);
        assert_eq!(
            flaws(std::slice::from_ref(&good), 1, 1_000),
            Vec::<String>::new()
        );
        let mut bad = good.clone();
        bad.samples[0].failed = 2;
        bad.handshakes = Some(Handshakes {
            good: 100,
            full: 93,
            remembered: 0,
        });
        bad.farm_busy_percent = 99.4;
        let found = flaws(&[bad], 1, 2_000);
        let ends = [
            "2 of 1000 checks failed",
            "7 handshakes were resumed",
            "the farm was 99 % busy",
            "1000 checks/s instead of 2000",
        ];
        assert_eq!(found.len(), ends.len(), "{found:?}");
        assert!(
            found
                .iter()
                .zip(ends)
                .all(|(flaw, end)| flaw.ends_with(end)),
            "{found:?}"
        );
    }
}
