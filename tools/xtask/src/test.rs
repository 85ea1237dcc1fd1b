//! `cargo xtask test`: every test of the workspace, after making sure that what they need is here.

use anyhow::Result;

use crate::{command, packages};

/// Runs `cargo test ARGS`, of the whole workspace unless ARGS choose packages.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    packages::require(packages::BUILD)?;
    packages::require(packages::TEST)?;
    command::run(
        command::cargo(&["test", "--no-fail-fast"])
            .args(scope(args))
            .args(args),
    )
}

fn scope(args: &[&str]) -> &'static [&'static str] {
    let chosen = |arg: &&str| {
        arg.starts_with("-p") || arg.starts_with("--package") || **arg == *"--workspace"
    };
    let own = args.iter().take_while(|arg| **arg != "--");
    if own.copied().any(|arg| chosen(&arg)) {
        &[]
    } else {
        &["--workspace"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workspace_is_tested_unless_packages_are_chosen() {
        assert_eq!(scope(&[]), ["--workspace"]);
        assert_eq!(scope(&["wheel", "--", "-p"]), ["--workspace"]);
        assert!(scope(&["-p", "model"]).is_empty());
        assert!(scope(&["--package=model"]).is_empty());
    }
}
