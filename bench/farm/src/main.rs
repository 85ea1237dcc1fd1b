//! `farm`: synthetic targets for one machine. HTTP, HTTPS and DNS for `s-0000000.farm.test` and
//! up to ten million more, faults on a clock, and an observer that counts what really arrives.
//!
//! ```text
//! control thread (axum) ── atomics, rare commands ── serving thread: shell (glommio | tokio)
//!   observer, truth, signals                           serve ─► request ─► pages │ dns │ tls
//! ```
//!
//! The serving thread waits for nobody; only `shell::uring` names glommio.

#![deny(unsafe_code)]

use anyhow::Result;
use clap::Parser as _;

mod broken;
mod certificates;
mod clock;
mod control;
mod dns;
mod farm;
mod faults;
mod gauges;
mod hello;
mod holds;
mod listen;
mod metrics;
mod observer;
mod options;
mod pages;
mod request;
mod scenario;
mod scenario_file;
mod serve;
mod shell;
mod sites;
mod start;
mod summary;
mod target_list;
mod tls;
mod truth;
mod world;

fn main() -> Result<()> {
    let options::Cli::Run(run) = options::Cli::parse();
    start::run(&run)
}
