//! The optimised build of the programs that demo and benchmarks run.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{clock, command, packages};

/// How much the compiler may take its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// What is shipped, and what every figure is measured with.
    Release,
    /// The same code optimised crate by crate: about as fast, and built in half the time.
    Quick,
}

impl Profile {
    /// Cargo's name of it, and of its folder.
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Quick => "quick",
        }
    }
}

/// The built programs.
pub(crate) struct Programs {
    pub(crate) farm: PathBuf,
    pub(crate) ringwatch: PathBuf,
    pub(crate) ladder: PathBuf,
}

impl Programs {
    /// `ladder SUBCOMMAND --farm … --ringwatch …`.
    pub(crate) fn ladder(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.ladder);
        command.current_dir(command::root()).arg(subcommand);
        command
            .arg("--farm")
            .arg(&self.farm)
            .arg("--ringwatch")
            .arg(&self.ringwatch);
        command
    }
}

/// Builds `farm`, `ringwatch` and `ladder`, with cargo's own progress.
///
/// # Errors
/// When a needed program is missing or the build fails.
pub(crate) fn build(profile: Profile) -> Result<Programs> {
    packages::require(packages::BUILD)?;
    let name = profile.name();
    eprintln!("xtask: building farm, ringwatch and ladder ({name}); the first time takes minutes");
    let args = [
        "build",
        "--profile",
        name,
        "-p",
        "farm",
        "-p",
        "node",
        "-p",
        "ladder",
    ];
    let (built, took) = clock::timed(|| command::run(&mut command::cargo(&args)));
    built?;
    eprintln!("xtask: built in {:.0} s", took.as_secs_f64());
    let folder = target_folder()?.join(name);
    let program = |name: &str| folder.join(name);
    Ok(Programs {
        farm: program("farm"),
        ringwatch: program("ringwatch"),
        ladder: program("ladder"),
    })
}

/// Builds one example of one package and returns the program.
///
/// # Errors
/// When the build fails.
pub(crate) fn build_example(package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let profile = profile.name();
    let args = [
        "build",
        "--profile",
        profile,
        "-p",
        package,
        "--example",
        name,
    ];
    command::run(&mut command::cargo(&args))?;
    Ok(target_folder()?.join(profile).join("examples").join(name))
}

/// Builds the unit tests of one package and returns the program.
///
/// # Errors
/// When the build fails.
pub(crate) fn build_unit_tests(package: &str, profile: Profile) -> Result<PathBuf> {
    let args = ["test", "--profile", profile.name(), "-p", package, "--lib"];
    let mut command = command::cargo(&args);
    command.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let text = command::output(&mut command)?;
    let program = test_program(&text);
    program.with_context(|| format!("cargo built no unit tests of {package}"))
}

/// The program that cargo's messages name last.
fn test_program(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().rev();
    messages
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(message["executable"].as_str()?.into()))
}

/// Where cargo puts what it builds, whoever configured it.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let args = [
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ];
    let text = command::output(&mut command::cargo(&args))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder
        .context("`cargo metadata` names no target_directory")?
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_the_tests_is_in_the_last_message_that_names_one() {
        let messages = "\
            {\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/persist-1\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(test_program(messages), Some("/t/persist-1".into()));
        assert_eq!(test_program("no JSON"), None);
    }
}
