//! `ringwatch doctor`: whether this machine can carry a node, and what to change.

mod canaries;
mod checks;
mod dns;
mod ports;

use std::process::ExitCode;

use crate::config::{Config, Layers};
use crate::out::Out;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// As it should be.
    Ok,
    /// A node runs, not at its best.
    Warn,
    /// A node does not start.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) grade: Grade,
    /// What was found.
    pub(crate) found: String,
    /// What to change; empty when nothing.
    pub(crate) advice: String,
}

impl Finding {
    /// All is well.
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Ok,
            found: found.into(),
            advice: String::new(),
        }
    }

    /// Not at its best.
    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Warn,
            found: found.into(),
            advice: advice.into(),
        }
    }

    /// A node does not start.
    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            name,
            grade: Grade::Fail,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

/// Looks at everything and prints it; exit code 1 when a node would not start.
pub(crate) async fn run(config: &Config, layers: &Layers) -> anyhow::Result<ExitCode> {
    let findings = checks::all(config, layers).await;
    let mut out = Out::start();
    for finding in &findings {
        out.line(line(finding));
    }
    out.end()?;
    let worst = findings.iter().map(|finding| finding.grade).max();
    Ok(ExitCode::from(u8::from(worst == Some(Grade::Fail))))
}

fn line(finding: &Finding) -> String {
    let grade = match finding.grade {
        Grade::Ok => "ok  ",
        Grade::Warn => "warn",
        Grade::Fail => "FAIL",
    };
    let advice = if finding.advice.is_empty() {
        String::new()
    } else {
        format!("\n{:15}-> {}", "", finding.advice)
    };
    format!("{grade}  {:<9}{}{advice}", finding.name, finding.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_under_its_finding() {
        let text = line(&Finding::warn("memlock", "8 MiB", "raise it"));
        assert_eq!(text, "warn  memlock  8 MiB\n               -> raise it");
        assert_eq!(line(&Finding::ok("kernel", "6.1")), "ok    kernel   6.1");
    }
}
