//! The page under `docs/benchmarks`: what runs of the targets add up to. Runs of the same code add
//! up; a run of other code, or one that found something, starts a target's row anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::session::Session;
use super::{HANG_S, MEMORY_MAX_MB, SECONDS};
use crate::revision;

/// What a fuzz program is made of; corpora, pages and the runner are not.
const CODE: [&str; 4] = [
    "probe/model/src",
    "probe/prober/src",
    "engine/node/src",
    "tools/fuzz",
];

/// The page, and the file that it is made from.
pub(super) struct Page {
    folder: PathBuf,
    /// The code that runs now.
    code: String,
    rows: Vec<Row>,
}

/// A target and its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    target: String,
    runs: Option<Runs>,
}

/// Runs of one target, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Runs {
    /// The last commit of the code that was run.
    code: String,
    count: u64,
    total: Session,
}

impl Page {
    /// The page as it is below `root`, with a row for each of `targets`.
    pub(super) fn read(root: &Path, targets: &[String]) -> Result<Self> {
        let folder = root.join("docs/benchmarks");
        let text = fs::read_to_string(folder.join("fuzz.json")).unwrap_or_else(|_| "{}".to_owned());
        let known: Value = serde_json::from_str(&text).context("docs/benchmarks/fuzz.json")?;
        let row = |target: &String| Row {
            target: target.clone(),
            runs: Runs::parse(&known[target]),
        };
        Ok(Self {
            folder,
            code: revision::of(root, &CODE),
            rows: targets.iter().map(row).collect(),
        })
    }

    /// Adds a run of `target`; none when it found something.
    pub(super) fn add(&mut self, target: &str, session: Option<Session>) {
        for row in self.rows.iter_mut().filter(|row| row.target == target) {
            let before = row.runs.take().filter(|runs| runs.code == self.code);
            row.runs = session.map(|session| match before {
                Some(runs) => runs.and(session),
                None => Runs {
                    code: self.code.clone(),
                    count: 1,
                    total: session,
                },
            });
        }
    }

    pub(super) fn write(&self) -> Result<()> {
        let known: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .filter_map(|row| Some((row.target.clone(), row.runs.as_ref()?.json())))
            .collect();
        let json = format!("{:#}\n", Value::Object(known));
        for (name, text) in [("fuzz.json", json), ("fuzz.md", page(&self.rows))] {
            let file = self.folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

impl Runs {
    fn and(self, session: Session) -> Self {
        let total = self.total;
        Self {
            code: self.code,
            count: self.count + 1,
            total: Session {
                seconds: total.seconds + session.seconds,
                executions: total.executions + session.executions,
                edges_before: total.edges_before,
                slowest_s: total.slowest_s.max(session.slowest_s),
                peak_mb: total.peak_mb.max(session.peak_mb),
                ..session
            },
        }
    }

    fn json(&self) -> Value {
        let total = &self.total;
        json!({
            "code": self.code,
            "runs": self.count,
            "seconds": total.seconds,
            "executions": total.executions,
            "edges_before": total.edges_before,
            "edges": total.edges,
            "inputs": total.inputs,
            "slowest_s": total.slowest_s,
            "peak_mb": total.peak_mb,
        })
    }

    fn parse(value: &Value) -> Option<Self> {
        let number = |key: &str| value[key].as_u64();
        Some(Self {
            code: value["code"].as_str()?.to_owned(),
            count: number("runs")?,
            total: Session {
                seconds: number("seconds")?,
                executions: number("executions")?,
                edges_before: number("edges_before")?,
                edges: number("edges")?,
                inputs: number("inputs")?,
                slowest_s: number("slowest_s")?,
                peak_mb: number("peak_mb")?,
            },
        })
    }
}

fn page(rows: &[Row]) -> String {
    let mut page = format!(
        "# Fuzzing\n\n`cargo xtask fuzz`\n\nEach target under libFuzzer, from its checked-in \
         corpus and what runs before have found, with overflow checks and debug assertions; \
         [what each holds](../fuzzing.md). A run fails at a panic, at an input that takes \
         {HANG_S} s, and at {MEMORY_MAX_MB} MB. Runs of the same code add up; a run that finds \
         something takes its target's row away. Edges are those of our code and of the crates \
         under it that some input has reached: with the inputs at hand when the first of the \
         runs began, and at the end of the last.\n\n"
    );
    page += "| target       | seconds | runs |    executions | edges at first | edges | inputs | \
             slowest input | peak MB | code      | result |\n";
    page += "|--------------|--------:|-----:|--------------:|---------------:|------:|-------:|\
             --------------:|--------:|-----------|--------|\n";
    for row in rows {
        line(&mut page, row).expect("a String takes everything");
    }
    page
}

fn line(page: &mut String, Row { target, runs }: &Row) -> std::fmt::Result {
    let Some(Runs { code, count, total }) = runs else {
        return writeln!(
            page,
            "| {target:<12} | {:>7} | not run since a finding |",
            0
        );
    };
    let result = if total.seconds < SECONDS {
        format!("clean, but not yet for {SECONDS} s")
    } else {
        "clean".to_owned()
    };
    let slowest = match total.slowest_s {
        0 => "< 1 s".to_owned(),
        seconds => format!("{seconds} s"),
    };
    writeln!(
        page,
        "| {target:<12} | {:>7} | {count:>4} | {:>13} | {:>14} | {:>5} | {:>6} | {slowest:>13} | \
         {:>7} | {code:<9} | {result} |",
        total.seconds,
        grouped(total.executions),
        total.edges_before,
        total.edges,
        total.inputs,
        total.peak_mb,
    )
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Session = Session {
        seconds: 400,
        executions: 1_000,
        edges_before: 80,
        edges: 90,
        inputs: 7,
        slowest_s: 0,
        peak_mb: 40,
    };

    fn empty(code: &str) -> Page {
        Page {
            folder: PathBuf::new(),
            code: code.to_owned(),
            rows: ["csv", "url"]
                .map(|target| Row {
                    target: target.to_owned(),
                    runs: None,
                })
                .to_vec(),
        }
    }

    #[test]
    fn runs_of_the_same_code_add_up_and_others_do_not() {
        let mut table = empty("abc");
        table.add("url", Some(FIRST));
        assert!(page(&table.rows).contains("clean, but not yet for 600 s"));
        let second = Session {
            seconds: 200,
            executions: 500,
            edges_before: 90,
            edges: 91,
            inputs: 8,
            slowest_s: 2,
            peak_mb: 30,
        };
        table.add("url", Some(second));
        let shown = page(&table.rows);
        let row: Vec<&str> = shown
            .lines()
            .next_back()
            .expect("two rows")
            .split('|')
            .map(str::trim)
            .collect();
        let expected = "|url|600|2|1,500|80|91|8|2 s|40|abc|clean|";
        assert_eq!(row.join("|"), expected);
        assert!(
            shown.contains("| csv          |       0 | not run"),
            "{shown}"
        );
        table.code = "def".to_owned();
        table.add("url", Some(FIRST));
        assert!(page(&table.rows).contains("|     400 |    1 |"));
        table.add("url", None);
        assert_eq!(table.rows[1].runs, None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let runs = Runs {
            code: "abc+".to_owned(),
            count: 2,
            total: FIRST,
        };
        assert_eq!(Runs::parse(&runs.json()), Some(runs));
        assert_eq!(Runs::parse(&json!({"code": "abc"})), None);
    }
}
