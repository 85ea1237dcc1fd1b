//! `ringwatch`: the uptime-monitoring node and its command line.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod aside;
mod check;
mod cli;
mod config;
mod control;
mod doctor;
mod events;
mod exit;
mod json_ids;
mod logging;
mod operate;
mod operator;
mod out;
mod report;
mod run;
mod targets;
mod verifier;
mod windows;

use std::process::ExitCode;

use clap::Parser;

/// For the C libraries too; `docs/decisions/0005` has what it saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli::commands::execute(cli.command).unwrap_or_else(|error| exit::report(&error))
}
