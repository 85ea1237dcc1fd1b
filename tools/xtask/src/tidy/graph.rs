//! The dependency graph from `cargo metadata`, and the direction in which our crates may point.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// One package that is part of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression; empty when the package states none.
    pub(super) licence: String,
    /// Names of the packages that it depends on, tests and build scripts included.
    pub(super) dependencies: Vec<String>,
    /// Folder of a member of the workspace.
    pub(super) folder: Option<PathBuf>,
}

/// Every package of the build.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) packages: Vec<Package>,
}

impl Graph {
    /// Reads the output of `cargo metadata --format-version 1`.
    pub(super) fn parse(metadata: &Value) -> Result<Self> {
        let members = ids(&metadata["workspace_members"]);
        let nodes = metadata["resolve"]["nodes"]
            .as_array()
            .context("metadata has no nodes")?;
        let built: HashSet<&str> = nodes
            .iter()
            .filter_map(|node| node["id"].as_str())
            .collect();
        let packages = metadata["packages"]
            .as_array()
            .context("metadata has no packages")?;
        let mut graph = Self::default();
        for package in packages {
            let id = package["id"].as_str().context("a package without an id")?;
            if built.contains(id) {
                graph
                    .packages
                    .push(parse_package(package, members.contains(id))?);
            }
        }
        Ok(graph)
    }

    /// Adds what another workspace builds. A package that both have in one version is one, so two
    /// locks that differ show as a duplicate.
    pub(super) fn join(&mut self, other: Self) {
        for package in other.packages {
            let same =
                |ours: &Package| (&ours.name, &ours.version) == (&package.name, &package.version);
            if !self.packages.iter().any(same) {
                self.packages.push(package);
            }
        }
    }
}

fn ids(list: &Value) -> HashSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn parse_package(package: &Value, is_member: bool) -> Result<Package> {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let manifest = PathBuf::from(text("manifest_path"));
    let folder = manifest.parent().context("a manifest without a folder")?;
    Ok(Package {
        name: text("name"),
        version: text("version"),
        licence: text("license"),
        dependencies: dependencies
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect(),
        folder: is_member.then(|| folder.to_path_buf()),
    })
}

/// Finds dependencies between our crates that `allowed` does not list, and crates it lacks.
pub(super) fn check_direction(graph: &Graph, allowed: &[(&str, &[&str])]) -> Vec<Finding> {
    let members: Vec<&Package> = graph
        .packages
        .iter()
        .filter(|package| package.folder.is_some())
        .collect();
    let names: HashSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut findings = Vec::new();
    for member in &members {
        let Some((_, may_use)) = allowed.iter().find(|(name, _)| *name == member.name) else {
            findings.push(Finding::new(
                &member.name,
                "a crate that tidy's DIRECTION lacks",
            ));
            continue;
        };
        let ours = member
            .dependencies
            .iter()
            .filter(|name| names.contains(name.as_str()));
        for dependency in ours.filter(|name| !may_use.contains(&name.as_str())) {
            let message = format!("depends on {dependency}; of our crates it may use {may_use:?}");
            findings.push(Finding::new(&member.name, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(ToString::to_string).collect(),
            folder: Some(PathBuf::new()),
            ..Package::default()
        }
    }

    const ALLOWED: &[(&str, &[&str])] = &[("model", &[]), ("cores", &["model"]), ("persist", &[])];

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        let good = vec![
            member("model", &["serde"]),
            member("cores", &["model", "monoio"]),
        ];
        assert!(check_direction(&Graph { packages: good }, ALLOWED).is_empty());
        let bad = vec![member("cores", &["persist"]), member("persist", &[])];
        let findings = check_direction(&Graph { packages: bad }, ALLOWED);
        let expected = "cores: depends on persist; of our crates it may use [\"model\"]";
        assert_eq!(findings[0].to_string(), expected);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn a_crate_that_the_list_lacks_is_found() {
        let packages = vec![member("deliver", &[])];
        assert_eq!(
            check_direction(&Graph { packages }, ALLOWED)[0].place,
            "deliver"
        );
    }

    #[test]
    fn another_lock_adds_its_packages_and_the_versions_that_differ() {
        let package = |name: &str, version: &str| Package {
            version: version.to_owned(),
            ..member(name, &[])
        };
        let mut graph = Graph {
            packages: vec![package("model", "0.1.0"), package("url", "2.5.0")],
        };
        graph.join(Graph {
            packages: vec![package("url", "2.5.1"), package("model", "0.1.0")],
        });
        let shown: Vec<String> = graph
            .packages
            .iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        assert_eq!(shown, ["model 0.1.0", "url 2.5.0", "url 2.5.1"]);
    }

    #[test]
    fn only_packages_of_the_build_are_read() {
        let package = |name: &str| {
            json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT",
                "manifest_path": format!("/w/{name}/Cargo.toml"),
                "dependencies": [{ "name": "serde", "kind": "dev" }] })
        };
        let metadata = json!({
            "workspace_members": ["model"],
            "packages": [package("model"), package("serde"), package("windows")],
            "resolve": { "nodes": [{ "id": "model" }, { "id": "serde" }] },
        });
        let graph = Graph::parse(&metadata).expect("complete");
        let names: Vec<&str> = graph.packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["model", "serde"]);
        assert_eq!(graph.packages[0].folder, Some(PathBuf::from("/w/model")));
        assert_eq!(graph.packages[0].dependencies, ["serde"]);
        assert_eq!(
            (&*graph.packages[1].licence, &graph.packages[1].folder),
            ("MIT", &None)
        );
    }
}
