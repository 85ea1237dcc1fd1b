//! SVG plots: latency by percentile on the axis 1/(1-q), and schedule lag over time.

use anyhow::anyhow;
use plotters::prelude::*;

use super::read::Latencies;

/// Size of a plot.
const SIZE: (u32, u32) = (960, 540);
/// Points of a percentile curve per decade.
const STEPS_PER_DECADE: u32 = 24;
/// Colours that can be told apart, in the order of the phases (Okabe and Ito).
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

/// A curve: its name and its points.
type Series = (String, Vec<(f64, f64)>);

/// Latency in ms by 1/(1-q), one curve per phase, both axes logarithmic.
pub(super) fn percentiles(latencies: &Latencies) -> anyhow::Result<String> {
    let curve = |(name, histogram): (&str, &hdrhistogram::Histogram<u64>)| {
        let decades = (histogram.len().max(10) as f64).log10().ceil();
        let steps = (decades * f64::from(STEPS_PER_DECADE)) as u32;
        let point = |step: u32| {
            let odds = 10f64.powf(f64::from(step) / f64::from(STEPS_PER_DECADE));
            let us = histogram.value_at_quantile(1.0 - 1.0 / odds).max(1);
            (odds, us as f64 / 1_000.0)
        };
        (name.to_owned(), (0..=steps).map(point).collect())
    };
    let curves: Vec<Series> = latencies.phases().map(curve).collect();
    let (x_max, y_min, y_max) = bounds(&curves);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(broken)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("Latency by percentile", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (1.0..x_max.max(10.0)).log_scale(),
                (y_min..y_max.max(y_min * 10.0)).log_scale(),
            )
            .map_err(broken)?;
        chart
            .configure_mesh()
            .x_desc("percentile")
            .y_desc("ms")
            .x_label_formatter(&|odds| percentile_name(*odds))
            .draw()
            .map_err(broken)?;
        draw(&mut chart, curves)?;
        root.present().map_err(broken)?;
    }
    Ok(svg)
}

/// Schedule lag in ms over seconds, one curve per percentile.
pub(super) fn lag(latencies: &Latencies) -> anyhow::Result<String> {
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    let curve = |(name, quantile): (&str, f64)| -> Series {
        let point = |(at, histogram): (u64, &hdrhistogram::Histogram<u64>)| {
            (
                at as f64,
                histogram.value_at_quantile(quantile) as f64 / 1_000.0,
            )
        };
        (name.to_owned(), latencies.lag().map(point).collect())
    };
    let curves: Vec<Series> = quantiles.into_iter().map(curve).collect();
    let (x_max, _, y_max) = bounds(&curves);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(broken)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("Schedule lag over time", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..x_max.max(1.0), 0.0..(y_max * 1.1).max(1.0))
            .map_err(broken)?;
        chart
            .configure_mesh()
            .x_desc("s")
            .y_desc("ms")
            .draw()
            .map_err(broken)?;
        draw(&mut chart, curves)?;
        root.present().map_err(broken)?;
    }
    Ok(svg)
}

/// Every curve in its colour, and the legend that says which is which.
fn draw<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    curves: Vec<Series>,
) -> anyhow::Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (index, (name, points)) in curves.into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(broken)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(broken)
}

/// Largest x, smallest and largest y of all curves.
fn bounds(curves: &[Series]) -> (f64, f64, f64) {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let y_min = points().map(|point| point.1).fold(f64::MAX, f64::min);
    let y_max = points().map(|point| point.1).fold(0.001, f64::max);
    (x_max, y_min.min(y_max), y_max)
}

/// `90 %` for odds of 10, `99.9 %` for 1,000.
fn percentile_name(odds: f64) -> String {
    let decimals = (odds.log10().round() as i32 - 2).max(0) as usize;
    format!("{:.decimals$} %", 100.0 * (1.0 - 1.0 / odds))
}

fn broken<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("the plot cannot be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::super::log::IntervalLogs;
    use super::super::testbed::interval;
    use super::*;

    #[test]
    fn percentiles_are_named_by_their_odds() {
        let names = [1.0, 10.0, 100.0, 1_000.0, 10_000.0].map(percentile_name);
        assert_eq!(names, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn both_plots_are_svg_with_a_curve_per_series() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut logs = IntervalLogs::open(dir.path(), 4).expect("opened");
        for at in [1_795_000_000_000, 1_795_000_010_000] {
            logs.write(&interval(0, UnixMs(at), 500)).expect("written");
        }
        let entry = std::fs::read_dir(dir.path().join("hdr"))
            .expect("dir")
            .next();
        let mut latencies = Latencies::default();
        latencies
            .read(&entry.expect("one").expect("readable").path())
            .expect("read");
        let svg = percentiles(&latencies).expect("drawn");
        for name in ["<svg", "ttfb", "schedule_lag", "99.9 %"] {
            assert!(svg.contains(name), "{name}");
        }
        let svg = lag(&latencies).expect("drawn");
        assert!(svg.contains("p99.9") && svg.contains("<polyline"));
    }
}
