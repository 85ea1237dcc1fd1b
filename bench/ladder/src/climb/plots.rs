//! SVG plots of a climb: one set for each scheme and store, a curve for each rung. Pure: text from
//! numbers; the drawing is plotters'.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::record::{Latency, Measured, Run};

/// The one plot of all columns.
const CPU: &str = "cpu.svg";
/// Size of a plot.
const SIZE: (u32, u32) = (960, 540);
/// Colours that can be told apart (Okabe and Ito); further curves begin again.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];

/// Points of a curve up to which each is marked: a single one is no line.
const MARKED_MAX: usize = 24;

/// Name and text of a file.
pub(super) type Plot = (String, String);
/// A curve: its name and its points.
type Curve = (String, Vec<(f64, f64)>);

/// Title of a plot, what its axes are, and its curves.
struct Chart<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    curves: Vec<Curve>,
}

/// Every plot of `runs`; of the repeats of a rung the last one is shown.
pub(super) fn all(runs: &[Run]) -> Result<Vec<Plot>> {
    let mut columns: BTreeMap<String, BTreeMap<Order, &Run>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.measured.is_some()) {
        let column = format!("{}-{}", run.rung.scheme.name(), run.rung.store.name());
        columns.entry(column).or_default().insert(order(run), run);
    }
    let mut plots = Vec::new();
    for (column, runs) in &columns {
        let runs: Vec<(String, &Measured)> = runs
            .values()
            .filter_map(|run| Some((run.rung.name(), run.measured.as_ref()?)))
            .collect();
        for (kind, svg) in [
            ("age", ages(&runs)?),
            ("lag", lags(&runs)?),
            ("rate", rates(&runs)?),
        ] {
            plots.push((format!("{kind}-{column}.svg"), svg));
        }
        for (name, measured) in &runs {
            plots.push((
                format!("phases-{name}.svg"),
                phases(name, &measured.phases)?,
            ));
        }
    }
    if !columns.is_empty() {
        plots.push((CPU.to_owned(), cpu(&columns)?));
    }
    Ok(plots)
}

/// Whether [`all`] may have given a file this name.
pub(super) fn is_plot(name: &str) -> bool {
    let kinds = ["age-", "lag-", "rate-", "phases-"];
    let is_of_kind = |stem: &str| kinds.iter().any(|kind| stem.starts_with(kind));
    name == CPU || name.strip_suffix(".svg").is_some_and(is_of_kind)
}

/// Of the rungs of a column.
type Order = (u32, u32, String);

fn order(run: &Run) -> Order {
    (run.rung.interval_s, run.rung.sites, run.rung.name())
}

/// Part of the sites whose last request is younger, in intervals.
fn ages(runs: &[(String, &Measured)]) -> Result<String> {
    let curve = |(name, measured): &(String, &Measured)| {
        let age = measured.observer.age?;
        let interval_ms = measured.seconds * 1_000.0 / f64::from(measured.intervals.max(1));
        let points = [
            (age.min, 0.0),
            (age.p50, 50.0),
            (age.p95, 95.0),
            (age.p99, 99.0),
            (age.p999, 99.9),
            (age.max, 100.0),
        ];
        let points = points.map(|(ms, percent)| (ms as f64 / interval_ms, percent));
        Some((name.clone(), points.to_vec()))
    };
    let chart = Chart {
        title: "Age of the sites' last request",
        x: "intervals",
        y: "% of the sites are younger",
        curves: runs.iter().filter_map(curve).collect(),
    };
    let x_max = chart.x_max().max(1.0);
    chart.svg(0.0..x_max, 0.0..100.0, &short)
}

/// Schedule lag by percentile.
fn lags(runs: &[(String, &Measured)]) -> Result<String> {
    let curves = runs
        .iter()
        .map(|(name, measured)| (name.clone(), percentiles(&measured.lag)));
    by_percentile("Schedule lag by percentile", curves.collect())
}

/// Every phase of one rung by percentile.
fn phases(name: &str, phases: &[Latency]) -> Result<String> {
    let curves = phases
        .iter()
        .map(|phase| (phase.phase.clone(), percentiles(phase)));
    by_percentile(&format!("Phases of {name}"), curves.collect())
}

/// Odds of 1/(1-q), and ms.
fn percentiles(latency: &Latency) -> Vec<(f64, f64)> {
    let points = [
        (2.0, latency.p50_us),
        (10.0, latency.p90_us),
        (100.0, latency.p99_us),
        (1_000.0, latency.p999_us),
        (10_000.0, latency.p9999_us),
    ];
    let known = points
        .into_iter()
        .filter(|(odds, _)| *odds <= latency.count.max(2) as f64);
    known
        .map(|(odds, us)| (odds, us.max(1) as f64 / 1_000.0))
        .collect()
}

fn by_percentile(title: &str, curves: Vec<Curve>) -> Result<String> {
    let chart = Chart {
        title,
        x: "percentile",
        y: "ms",
        curves,
    };
    let (low, high) = chart.y_bounds();
    let (x, y) = (2.0..chart.x_max().max(100.0), low..high.max(low * 10.0));
    chart.svg(x.log_scale(), y.log_scale(), &|odds| percentile(odds))
}

/// Checks a second, as a part of what is required.
fn rates(runs: &[(String, &Measured)]) -> Result<String> {
    let curve = |(name, measured): &(String, &Measured)| {
        let seconds = measured.checks_by_second.iter().enumerate();
        let required = measured.required_per_s.max(1e-6);
        let points = seconds.map(|(at, checks)| (at as f64, 100.0 * *checks as f64 / required));
        (name.clone(), points.collect())
    };
    let chart = Chart {
        title: "Checks that finished in each second",
        x: "s",
        y: "% of what the fleet asks for",
        curves: runs.iter().map(curve).collect(),
    };
    let (x_max, (_, high)) = (chart.x_max().max(1.0), chart.y_bounds());
    chart.svg(0.0..x_max, 0.0..(high * 1.1).max(110.0), &short)
}

/// CPU of a check as the fleet grows: a curve for each scheme, store and interval.
fn cpu(columns: &BTreeMap<String, BTreeMap<Order, &Run>>) -> Result<String> {
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (column, runs) in columns {
        let plain = runs.values().filter(|run| run.rung.overload.is_none());
        for (run, measured) in plain.filter_map(|run| Some((run, run.measured.as_ref()?))) {
            let mut add = |what: &str, us: f64| {
                let name = format!("{column}@{}, {what}", run.rung.interval_s);
                let points = curves.entry(name).or_default();
                points.push((f64::from(run.rung.sites), us));
            };
            add("probe core", measured.cpu.core_us);
            add("node", measured.cpu.node_us);
        }
    }
    let chart = Chart {
        title: "CPU per check as the fleet grows",
        x: "sites",
        y: "µs",
        curves: curves.into_iter().collect(),
    };
    let (x_max, (_, high)) = (chart.x_max().max(10_000.0), chart.y_bounds());
    chart.svg(
        (1_000.0..x_max).log_scale(),
        0.0..(high * 1.1).max(1.0),
        &short,
    )
}

impl Chart<'_> {
    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.curves.iter().flat_map(|(_, points)| points)
    }

    fn x_max(&self) -> f64 {
        self.points().map(|point| point.0).fold(0.0, f64::max)
    }

    fn y_bounds(&self) -> (f64, f64) {
        let high = self.points().map(|point| point.1).fold(0.001, f64::max);
        let low = self.points().map(|point| point.1).fold(high, f64::min);
        (low.max(0.001), high)
    }

    fn svg<X, Y>(self, x: X, y: Y, label: &dyn Fn(f64) -> String) -> Result<String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&WHITE).map_err(broken)?;
            let mut chart = ChartBuilder::on(&root)
                .caption(self.title, ("sans-serif", 20))
                .margin(12)
                .margin_right(40)
                .x_label_area_size(40)
                .y_label_area_size(64)
                .build_cartesian_2d(x, y)
                .map_err(broken)?;
            let mut mesh = chart.configure_mesh();
            mesh.x_desc(self.x).y_desc(self.y);
            mesh.x_label_formatter(&|x| label(*x))
                .draw()
                .map_err(broken)?;
            for (index, (name, points)) in self.curves.into_iter().enumerate() {
                let colour = COLOURS[index % COLOURS.len()];
                let marked = if points.len() <= MARKED_MAX { 3 } else { 0 };
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(marked))
                    .map_err(broken)?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
            }
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperLeft);
            labels
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3));
            labels.draw().map_err(broken)?;
            root.present().map_err(broken)?;
        }
        Ok(svg)
    }
}

/// `90 %` for odds of 10, `99.9 %` for 1,000.
fn percentile(odds: f64) -> String {
    let decimals = (odds.log10().round() as i32 - 2).max(0) as usize;
    format!("{:.decimals$} %", 100.0 * (1.0 - 1.0 / odds))
}

/// 250k, 5M, or one digit after the point where it says anything.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.0}M", value / 1e6),
        _ if value >= 1e3 => format!("{:.0}k", value / 1e3),
        _ if value.fract().abs() < 1e-9 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

fn broken<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("the plot cannot be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::record::testbed;
    use super::*;

    #[test]
    fn every_column_has_its_plots_and_every_rung_its_curve() {
        let plots = all(&testbed::report().runs).expect("drawn");
        let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "age-http-sqlite.svg",
                "lag-http-sqlite.svg",
                "rate-http-sqlite.svg",
                "phases-http-sqlite-100k@60.svg",
                "phases-http-sqlite-100k@60-overload2x.svg",
                "cpu.svg"
            ]
        );
        for (name, svg) in &plots[..3] {
            let curves = svg.matches("<polyline").count();
            assert!(curves >= 2 && svg.contains("100k@60-overload2x"), "{name}");
        }
        assert!(plots[3].1.contains("connect") && plots[3].1.contains("99.9 %"));
        let cpu = &plots[5].1;
        assert!(
            cpu.contains("node") && !cpu.contains("overload"),
            "the pressed is no growth"
        );
    }

    #[test]
    fn without_a_measurement_there_is_no_plot() {
        assert!(all(&[]).expect("none").is_empty());
        let bound = Run {
            measured: None,
            ..testbed::run(testbed::rung(), 1.0)
        };
        assert!(all(&[bound]).expect("none").is_empty());
    }

    #[test]
    fn labels_are_short_and_percentiles_are_named_by_their_odds() {
        let named = [10.0, 100.0, 1_000.0].map(percentile);
        assert_eq!(named, ["90 %", "99 %", "99.9 %"]);
        let labels = [0.0, 0.5, 250_000.0, 5e6].map(short);
        assert_eq!(labels, ["0", "0.5", "250k", "5M"]);
    }
}
