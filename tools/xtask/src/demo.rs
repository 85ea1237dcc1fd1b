//! `cargo demo`: build, then hand over to `ladder demo`.

use anyhow::Result;

use crate::command;
use crate::release::{self, Profile};

/// Builds and becomes `ladder demo`; returns only when that failed.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let programs = release::build(Profile::Quick)?;
    Err(command::become_command(programs.ladder("demo").args(args)))
}

/// Builds and runs `ladder demo` as a step among others.
pub(crate) fn check(args: &[&str]) -> Result<()> {
    let programs = release::build(Profile::Quick)?;
    command::run(programs.ladder("demo").args(args))
}
