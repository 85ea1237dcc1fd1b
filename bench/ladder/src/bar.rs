//! Bars: what a measurement is held against. Pure.
//!
//! A bar that was measured under other conditions than it asks for is neither held nor missed: it
//! is *not shown*, with the reason.

use serde::Serialize;

use crate::table::{Table, grouped};

/// One bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: String,
    /// Absent when nothing was measured.
    measured: Option<f64>,
    #[serde(flatten)]
    bound: Bound,
    unit: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
}

/// On which side of it a measurement has to be; the bound itself holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    Max(f64),
    Min(f64),
}

/// Whether a bar holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "snake_case")]
pub(crate) enum Verdict {
    Holds,
    Missed,
    /// With the reason.
    NotShown(String),
}

impl Bound {
    fn takes(self, measured: f64) -> bool {
        match self {
            Self::Max(max) => measured <= max,
            Self::Min(min) => measured >= min,
        }
    }
}

impl Bar {
    /// Judges `measured`, which may be at most `max`, unless `flaw` says why it proves nothing.
    pub(crate) fn new(
        what: String,
        measured: Option<f64>,
        (max, unit): (f64, &'static str),
        flaw: Option<String>,
    ) -> Self {
        Self::of(what, measured, (Bound::Max(max), unit), flaw)
    }

    /// Judges `measured` against either bound.
    pub(crate) fn of(
        what: String,
        measured: Option<f64>,
        (bound, unit): (Bound, &'static str),
        flaw: Option<String>,
    ) -> Self {
        let verdict = match (flaw, measured) {
            (Some(flaw), _) => Verdict::NotShown(flaw),
            (None, None) => Verdict::NotShown("not measured".to_owned()),
            (None, Some(measured)) if bound.takes(measured) => Verdict::Holds,
            (None, Some(_)) => Verdict::Missed,
        };
        Self {
            what,
            measured,
            bound,
            unit,
            verdict,
        }
    }

    /// Whether it holds, is missed, or not shown.
    #[cfg(test)]
    pub(crate) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What `--gate` says of this bar; `None` when it holds.
    pub(crate) fn complaint(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Holds => None,
            Verdict::Missed => Some(format!("{}: missed", self.what)),
            Verdict::NotShown(reason) => Some(format!("{}: not shown, {reason}", self.what)),
        }
    }

    fn cells(&self) -> [String; 4] {
        let unit = self.unit;
        let measured = self.measured.map_or_else(
            || "–".to_owned(),
            |value| format!("{} {unit}", shown(value)),
        );
        let verdict = match &self.verdict {
            Verdict::Holds => "yes".to_owned(),
            Verdict::Missed => "NO".to_owned(),
            Verdict::NotShown(reason) => format!("not shown: {reason}"),
        };
        let bound = match self.bound {
            Bound::Max(max) => format!("≤ {} {unit}", bare(max)),
            Bound::Min(min) => format!("≥ {} {unit}", bare(min)),
        };
        [self.what.clone(), measured, bound, verdict]
    }
}

/// Two digits after the point, where they say anything.
fn shown(value: f64) -> String {
    if value.abs() < 10_000.0 {
        format!("{value:.2}")
    } else {
        bare(value)
    }
}

/// As it was written down, with thousands apart.
fn bare(value: f64) -> String {
    if value >= 10_000.0 {
        grouped(value.round() as u64)
    } else {
        value.to_string()
    }
}

/// Bars for people.
pub(crate) fn table(bars: &[Bar]) -> String {
    let mut table = Table::new(&["what", "measured", "bar", "holds"]);
    for bar in bars {
        table.row(bar.cells());
    }
    table.markdown()
}

/// Fails, naming them, when bars do not hold.
///
/// # Errors
/// When one is missed or not shown.
pub(crate) fn require(bars: &[Bar]) -> anyhow::Result<()> {
    let complaints: Vec<String> = bars.iter().filter_map(Bar::complaint).collect();
    if !complaints.is_empty() {
        anyhow::bail!("bars that do not hold: {}", complaints.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(bound: Bound, measured: f64) -> Bar {
        Bar::of("rows".to_owned(), Some(measured), (bound, "/s"), None)
    }

    #[test]
    fn a_bound_holds_itself_and_its_own_side() {
        for (bound, holds, missed) in [(Bound::Max(10.0), 9.9, 10.1), (Bound::Min(10.0), 10.1, 9.9)]
        {
            assert_eq!(bar(bound, 10.0).verdict, Verdict::Holds);
            assert_eq!(bar(bound, holds).verdict, Verdict::Holds);
            assert_eq!(bar(bound, missed).verdict, Verdict::Missed);
        }
        assert!(require(&[bar(Bound::Min(1.0), 1.0)]).is_ok());
        let error = require(&[bar(Bound::Min(2.0), 1.0)]).expect_err("missed");
        assert!(error.to_string().ends_with("rows: missed"), "{error}");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let cells = bar(Bound::Min(100_000.0), 123_456.7).cells();
        assert_eq!(cells[1..3], ["123,457 /s", "≥ 100,000 /s"]);
        let cells = bar(Bound::Max(1.1), 1.0).cells();
        assert_eq!(cells[1..3], ["1.00 /s", "≤ 1.1 /s"]);
        let json = serde_json::to_value(bar(Bound::Min(2.0), 1.0)).expect("JSON");
        assert_eq!(
            (&json["min"], &json["verdict"]),
            (&2.0.into(), &"missed".into())
        );
    }
}
