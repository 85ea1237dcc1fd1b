//! Reads what `/metrics` says: sums of samples and quantiles of histograms. Knows the text format
//! (`OpenMetrics` 1.0), not the metrics' meaning.

use std::collections::BTreeSet;

/// One line of the exposition.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

impl Scrape {
    /// Reads an exposition; lines that are no samples are skipped.
    pub(crate) fn parse(text: &str) -> Self {
        Self {
            samples: text.lines().filter_map(parse_line).collect(),
        }
    }

    /// Sum of the samples called `name` that carry all of `labels`; `None` when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name && sample.has(labels))
            .map(|sample| sample.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Those of `names` without any sample.
    pub(crate) fn lacking<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let is_there = |name: &&str| self.samples.iter().any(|sample| sample.name == **name);
        let names = names.iter().copied();
        names.filter(|name| !is_there(name)).collect()
    }

    /// Every value that `label` has on samples called `name`.
    pub(crate) fn labels(&self, name: &str, label: &str) -> BTreeSet<String> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples
            .filter_map(|sample| sample.label(label).map(str::to_owned))
            .collect()
    }

    /// Upper bound of the bucket in which quantile `q` of histogram `name` lies, over all label
    /// sets; infinite past the last bound, `None` without observations.
    pub(crate) fn quantile(&self, name: &str, q: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut bounds: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name == bucket) {
            let bound = sample
                .label("le")
                .and_then(|le| le.parse().ok())
                .unwrap_or(f64::INFINITY);
            match bounds
                .iter_mut()
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
            {
                Some((_, count)) => *count += sample.value,
                None => bounds.push((bound, sample.value)),
            }
        }
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = bounds
            .last()
            .map(|(_, count)| *count)
            .filter(|total| *total > 0.0)?;
        bounds
            .iter()
            .find(|(_, count)| *count >= q * total)
            .map(|(bound, _)| *bound)
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == Some(value))
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, rest) = match line.rsplit_once('}') {
        Some(split) => split,
        None => line.split_once(' ')?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let value = rest.split_whitespace().next()?.parse().ok()?;
    let labels = labels.split("\",").filter_map(parse_label).collect();
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// `name="value` with or without its last quote. Our label values hold no quotes.
fn parse_label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once("=\"")?;
    Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE x counter
ringwatch_due_total{core=\"0\"} 10
ringwatch_due_total{core=\"1\"} 5
ringwatch_probed_total{core=\"0\",verdict=\"up\"} 9
ringwatch_rss_bytes 1024
lag_bucket{core=\"0\",le=\"0.001\"} 90
lag_bucket{core=\"0\",le=\"0.01\"} 95
lag_bucket{core=\"0\",le=\"+Inf\"} 100
lag_bucket{core=\"1\",le=\"0.001\"} 100
lag_bucket{core=\"1\",le=\"0.01\"} 100
lag_bucket{core=\"1\",le=\"+Inf\"} 100
# EOF
";

    #[test]
    fn samples_are_summed_by_label() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.sum("ringwatch_due_total", &[]), Some(15.0));
        assert_eq!(
            scrape.sum("ringwatch_due_total", &[("core", "1")]),
            Some(5.0)
        );
        assert_eq!(
            scrape.sum("ringwatch_probed_total", &[("verdict", "up")]),
            Some(9.0)
        );
        assert_eq!(
            scrape.sum("ringwatch_probed_total", &[("verdict", "down")]),
            None
        );
        assert_eq!(scrape.sum("ringwatch_rss_bytes", &[]), Some(1_024.0));
        let names = ["ringwatch_due_total", "ringwatch_due", "lag_bucket"];
        assert_eq!(scrape.lacking(&names), ["ringwatch_due"]);
    }

    #[test]
    fn quantiles_are_taken_over_all_cores() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.quantile("lag", 0.5), Some(0.001));
        assert_eq!(scrape.quantile("lag", 0.97), Some(0.01));
        assert_eq!(scrape.quantile("lag", 0.99), Some(f64::INFINITY));
        assert_eq!(scrape.quantile("other", 0.5), None);
    }
}
