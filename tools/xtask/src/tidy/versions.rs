//! Packages that are in the build in several versions: each must be on the list, with a reason.

use std::collections::BTreeMap;

use super::{Finding, graph::Graph};

/// Finds duplicates that `allowed` lacks, and entries that are no longer duplicates.
pub(super) fn check(graph: &Graph, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &graph.packages {
        versions
            .entry(&package.name)
            .or_default()
            .push(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut findings = Vec::new();
    for (name, versions) in &versions {
        if !allowed.iter().any(|(entry, _)| entry == name) {
            let message = format!(
                "in the build as {}; not on the list",
                versions.join(" and ")
            );
            findings.push(Finding::new(*name, message));
        }
    }
    for (entry, _) in allowed
        .iter()
        .filter(|(entry, _)| !versions.contains_key(entry))
    {
        findings.push(Finding::new(
            *entry,
            "no longer a duplicate: remove it from DUPLICATES",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::graph::Package;
    use super::*;

    #[test]
    fn an_unlisted_duplicate_and_an_unused_entry_are_found() {
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Package::default()
        };
        let packages = vec![
            package("syn", "2.0.0"),
            package("syn", "3.0.0"),
            package("mio", "0.8.0"),
            package("mio", "1.0.0"),
            package("nom", "8.0.0"),
        ];
        let findings = check(
            &Graph { packages },
            &[("mio", "two runtimes"), ("nom", "gone")],
        );
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "syn: in the build as 2.0.0 and 3.0.0; not on the list",
                "nom: no longer a duplicate: remove it from DUPLICATES",
            ]
        );
    }
}
