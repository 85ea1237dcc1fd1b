//! Which code a report is of.

use std::path::Path;
use std::process::Command;

/// The last commit that touched `paths` below `root`, with a `+` when files differ from it.
pub(crate) fn of(root: &Path, paths: &[&str]) -> String {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        let output = git
            .current_dir(root)
            .args(args)
            .arg("--")
            .args(paths)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["log", "-1", "--format=%h"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain"]).is_none_or(|files| !files.is_empty());
    commit + if changed { "+" } else { "" }
}
