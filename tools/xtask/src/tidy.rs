//! `cargo xtask tidy`: the house rules that a compiler does not hold.
//!
//! Every check is a pure function from sources or cargo's metadata to findings, with tests that
//! show it fail; this file gathers the input and prints. The lists are in `lists`.

mod graph;
mod invariants;
mod licences;
mod lists;
mod names;
mod shape;
mod source;
mod versions;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use source::Source;

/// One broken rule, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// `path:line`, a package or a document.
    place: String,
    /// What is wrong, and what is accepted.
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Checks the workspace and prints every finding.
///
/// # Errors
/// When a rule is broken, or the workspace cannot be read.
pub(crate) fn run() -> Result<()> {
    let root = command::root();
    let mut graph = graph::Graph::parse(&metadata("Cargo.toml")?)?;
    graph.join(graph::Graph::parse(&metadata("tools/fuzz/Cargo.toml")?)?);
    let sources = read_sources(&root, &graph)?;
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md"))
        .context("ARCHITECTURE.md cannot be read")?;
    let deny =
        std::fs::read_to_string(root.join("deny.toml")).context("deny.toml cannot be read")?;
    let mut findings = licences::check_deny(&deny, lists::LICENCES);
    for source in &sources {
        findings.extend(shape::check(source));
        findings.extend(names::check(source));
    }
    findings.extend(graph::check_direction(&graph, lists::DIRECTION));
    findings.extend(licences::check(&graph, lists::LICENCES));
    findings.extend(versions::check(&graph, lists::DUPLICATES));
    findings.extend(invariants::check(
        &architecture,
        &sources,
        lists::INVARIANTS,
    ));
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!(
            "tidy: {} findings in {} files",
            findings.len(),
            sources.len()
        );
    }
    eprintln!(
        "xtask: tidy: {} files, {} packages, clean",
        sources.len(),
        graph.packages.len()
    );
    Ok(())
}

/// Cargo's view of a workspace on one named platform, so that every machine sees the same.
fn metadata(manifest: &str) -> Result<serde_json::Value> {
    let args = [
        "metadata",
        "--manifest-path",
        manifest,
        "--format-version",
        "1",
        "--filter-platform",
        lists::PLATFORM,
    ];
    let text = command::output(&mut command::cargo(&args))?;
    serde_json::from_str(&text).context("`cargo metadata` wrote no JSON")
}

fn read_sources(root: &Path, graph: &graph::Graph) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for package in graph
        .packages
        .iter()
        .filter(|package| package.folder.is_some())
    {
        let folder = package.folder.clone().unwrap_or_default();
        let mut files = Vec::new();
        rust_files(&folder, &mut files)?;
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let shown = file
                .strip_prefix(root)
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            sources.push(Source::parse(&package.name, &shown, text)?);
        }
    }
    Ok(sources)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be listed", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
