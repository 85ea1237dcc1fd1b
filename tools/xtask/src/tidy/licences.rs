//! Licences: every package's SPDX expression must be satisfiable with the allowed list.
//!
//! Understood is what crates write: `AND`, `OR`, `WITH`, parentheses, and the old `/` for `OR`
//! (SPDX 2.3 annex D; `AND` binds tighter than `OR`).

use super::{Finding, graph::Graph};

/// Finds packages whose licence the list does not allow, and entries that nothing needs.
pub(super) fn check(graph: &Graph, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
    let mut findings = Vec::new();
    for package in &graph.packages {
        if !is_satisfied(&package.licence, &names) {
            let place = format!("{} {}", package.name, package.version);
            let message = format!("licence {:?} is not in tidy's LICENCES", package.licence);
            findings.push(Finding::new(place, message));
        }
    }
    for (index, name) in names.iter().enumerate() {
        let without: Vec<&str> = names
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != index)
            .map(|(_, n)| *n)
            .collect();
        let is_needed = graph
            .packages
            .iter()
            .any(|p| is_satisfied(&p.licence, &names) && !is_satisfied(&p.licence, &without));
        if !is_needed {
            findings.push(Finding::new(
                *name,
                "no package needs this entry of LICENCES",
            ));
        }
    }
    findings
}

/// Finds entries of `allowed` that deny.toml, the list for machines with cargo-deny, does not have.
pub(super) fn check_deny(deny: &str, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let is_listed = |name: &str| {
        let entry = format!("\"{name}\",");
        deny.lines().any(|line| line.trim() == entry)
    };
    let missing = allowed.iter().filter(|(name, _)| !is_listed(name));
    missing
        .map(|(name, _)| {
            let message = format!("licence {name:?} of tidy's LICENCES is missing: add it");
            Finding::new("deny.toml", message)
        })
        .collect()
}

fn is_satisfied(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        allowed,
    };
    let satisfied = parser.alternatives();
    parser.words.is_empty() && satisfied
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn alternatives(&mut self) -> bool {
        let mut satisfied = self.parts();
        while self.take("OR") {
            satisfied |= self.parts();
        }
        satisfied
    }

    fn parts(&mut self) -> bool {
        let mut satisfied = self.licence();
        while self.take("AND") {
            satisfied &= self.licence();
        }
        satisfied
    }

    /// One licence, or a group. An exception (`WITH …`) only grants more, so it is skipped.
    fn licence(&mut self) -> bool {
        if self.take("(") {
            let satisfied = self.alternatives();
            return self.take(")") && satisfied;
        }
        let Some((word, rest)) = self.words.split_first() else {
            return false;
        };
        self.words = rest;
        if self.take("WITH") {
            self.words = self.words.get(1..).unwrap_or_default();
        }
        self.allowed.contains(word)
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Package;
    use super::*;

    #[test]
    fn expressions_are_judged_by_their_operators() {
        let allowed = ["MIT", "ISC", "Apache-2.0"];
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "(GPL-3.0 OR MIT) AND ISC",
            "GPL-3.0 AND BSL-1.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception",
            "ISC AND (Apache-2.0 OR ISC) AND MIT",
        ] {
            assert!(is_satisfied(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT ISC",
            "GPL-3.0 OR (ISC AND X)",
        ] {
            assert!(!is_satisfied(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_licence_that_deny_toml_does_not_have_is_found() {
        let deny = "allow = [\n    \"MIT\",\n    # \"ISC\",\n    \"MIT-0\",\n]\n";
        let findings = check_deny(deny, &[("ISC", "permissive"), ("MIT", "permissive")]);
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let message = "deny.toml: licence \"ISC\" of tidy's LICENCES is missing: add it";
        assert_eq!(found, [message]);
    }

    #[test]
    fn a_refused_licence_and_an_unused_entry_are_found() {
        let package = |licence: &str| Package {
            name: "left-pad".to_owned(),
            version: "1.0.0".to_owned(),
            licence: licence.to_owned(),
            ..Package::default()
        };
        let graph = Graph {
            packages: vec![package("MIT"), package("GPL-3.0")],
        };
        let findings = check(&graph, &[("MIT", "permissive"), ("ISC", "permissive")]);
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "left-pad 1.0.0: licence \"GPL-3.0\" is not in tidy's LICENCES",
                "ISC: no package needs this entry of LICENCES",
            ]
        );
    }
}
