//! `ladder`: drives the farm and the node as child processes, and judges what came out.
//!
//! It must not know how a check is made: it links none of the engine, and believes only the
//! farm's observer, the farm's ground truth, `/proc`, and what the node tells any user.
#![forbid(unsafe_code)]

mod bar;
mod baseline;
mod burners;
mod children;
mod climb;
mod clock;
mod delay;
mod demo;
mod falsedown;
mod farm;
mod figures;
mod findings;
mod gates;
mod http;
mod interval_log;
mod machine;
mod mariadb;
mod memory;
mod metrics;
mod node;
mod outage;
mod procfs;
mod refusal;
mod rings;
mod scenarios;
mod store;
mod table;
mod taken;
mod truth;
mod verifier;
mod waves;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Demo, baselines and measurements of ringwatch.
#[derive(Debug, Parser)]
#[command(name = "ladder", version, after_help = "Example: cargo demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch 10,000 local sites for about a minute, with faults, and judge the result.
    Demo(demo::DemoOptions),
    /// The capacity ladder: growing fleets, each judged by gates.
    Climb(climb::ClimbOptions),
    /// What got better or worse from one climb's report to another, beyond noise.
    Compare(climb::compare::CompareOptions),
    /// CPU per check: the engine against hyper and against the floor.
    Baseline(baseline::BaselineOptions),
    /// Memory per target and per attempt in flight, idle CPU, start from the store, lag under load.
    Memory(memory::MemoryOptions),
    /// What the stores take, and whether probes notice them in trouble.
    Store(store::StoreOptions),
    /// What a healthy fleet asks of a server.
    Statements(store::StoreOptions),
    /// How soon one change among many targets is in effect, and what it costs.
    Changes(store::StoreOptions),
    /// Checks a minute of one verifier.
    Verifier(verifier::VerifierOptions),
    /// The store away for minutes: nothing lost, doubled or out of order.
    Outage(outage::OutageOptions),
    /// Every fault that a site can have, and what the node says of each.
    Scenarios(scenarios::ScenariosOptions),
    /// Trouble of our own: no incident of a site that is well, and every one of those that fail.
    Falsedown(falsedown::FalsedownOptions),
    /// New connections a second that the farm serves on one core.
    Ceiling(baseline::ceiling::CeilingOptions),
    #[command(hide = true)]
    ProbeLoad(baseline::ceiling::LoadOptions),
    #[command(hide = true)]
    ProbeHyper(baseline::child::ChildOptions),
    #[command(hide = true)]
    ProbeEpoll(baseline::child::ChildOptions),
    #[command(hide = true)]
    ProbeFloor(baseline::child::ChildOptions),
    #[command(hide = true)]
    ProbePlain(falsedown::ClientOptions),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(options) => run_demo(&options),
        Command::Climb(options) => interruptible(climb::run(&options)),
        Command::Compare(options) => climb::compare::run(&options),
        Command::Baseline(options) => interruptible(baseline::run(&options)),
        Command::Memory(options) => interruptible(memory::run(&options)),
        Command::Store(options) => interruptible(store::run(&options, store::Page::Store)),
        Command::Statements(options) => {
            interruptible(store::run(&options, store::Page::Statements))
        }
        Command::Changes(options) => interruptible(store::run(&options, store::Page::Changes)),
        Command::Outage(options) => interruptible(outage::run(&options)),
        Command::Verifier(options) => interruptible(verifier::run(&options)),
        Command::Scenarios(options) => interruptible(scenarios::run(&options)),
        Command::Falsedown(options) => interruptible(falsedown::run(&options)),
        Command::Ceiling(options) => interruptible(baseline::ceiling::run(&options)),
        Command::ProbeLoad(options) => baseline::ceiling::run_load(&options),
        Command::ProbeHyper(options) => baseline::run_child(baseline::Child::Hyper, &options),
        Command::ProbeEpoll(options) => baseline::run_child(baseline::Child::Epoll, &options),
        Command::ProbeFloor(options) => baseline::run_child(baseline::Child::Floor, &options),
        Command::ProbePlain(options) => falsedown::run_client(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ladder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_demo(options: &demo::DemoOptions) -> Result<()> {
    if options.without_io_uring {
        refusal::refuse_io_uring()?;
    }
    interruptible(demo::run(options))
}

/// Runs `work` until it ends or a signal arrives; dropping it stops its children.
fn interruptible(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = work => result,
            _ = interrupt.recv() => {
                impatience();
                Err(stopped("Ctrl-C"))
            }
            _ = terminate.recv() => Err(stopped("SIGTERM")),
        }
    })
}

/// Ends this program at the next Ctrl-C, which its children have then had twice as well.
fn impatience() {
    eprintln!("ladder: stopping the farm and the node; Ctrl-C again to end at once");
    std::thread::spawn(|| -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            signal(SignalKind::interrupt())?.recv().await;
            std::process::exit(130)
        })
    });
}

fn stopped(by: &str) -> anyhow::Error {
    anyhow::anyhow!("stopped by {by}; the farm and the node have been stopped too")
}
