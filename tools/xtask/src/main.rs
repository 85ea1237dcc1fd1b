//! `cargo xtask`: what people and CI do with this workspace, one command each.
//!
//! This crate drives cargo and the built programs as child processes; it must not know the code
//! of any of them.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod clock;
mod command;
mod crash;
mod demo;
mod falsedown;
mod fuzz;
mod instructions;
mod ladder;
mod outage;
mod packages;
mod release;
mod replay;
mod revision;
mod scale;
mod scenarios;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <command> [arguments]

  demo [ARGS]          build (profile `quick`), then watch 10,000 local sites for about a minute
                       (`cargo demo` is the same; ARGS go to `ladder demo`, see `--help`)
  test [ARGS]          install or name what tests need, then `cargo test --workspace ARGS`
  tidy                 house rules: dependency direction, limits, names, licences, invariants
  ci                   fmt, tidy, clippy, doc, cargo-deny where installed, test,
                       and the demo, with io_uring and where it is refused
  bench probe [ARGS]   CPU per check against the baselines, and allocations per check
                       -> docs/benchmarks/probe.{md,json}
  bench idle [ARGS]    memory per target, CPU and start of an idle node
                       -> docs/benchmarks/idle.{md,json}
  bench attempts [ARGS]
                       memory per attempt in flight
                       -> docs/benchmarks/attempts.{md,json}
  bench lag [ARGS]     schedule lag at 70 % load
                       -> docs/benchmarks/lag.{md,json}
  bench store [ARGS]   rows of either store, replay, start, and probes while the store is in
                       trouble (--quick: a trial without figures)
                       -> docs/benchmarks/store.{md,json}
  bench statements [ARGS]
                       statements of a healthy fleet on a server (--quick: a trial)
                       -> docs/benchmarks/statements.{md,json}
  bench changes [ARGS] one of a million targets added, changed, switched off: when it is in effect,
                       and what it costs (--quick: a trial)
                       -> docs/benchmarks/changes.{md,json}
  bench verifier [ARGS]
                       checks a minute of one verifier
                       -> docs/benchmarks/verifier.{md,json}
  bench farm [ARGS]    new connections a second that the farm serves on one core
                       -> docs/benchmarks/farm.{md,json}
  bench journal        how fast a long journal is read at a start and taken by the store
                       -> docs/benchmarks/journal.md
  ladder [ARGS]        the capacity ladder: growing fleets, each judged by gates, for many hours
                       -> docs/benchmarks/ladder/report.{md,json} and plots;
                       --quick: its rates with short intervals, five minutes; --mini: one small
                       rung; both -> target/ladder (ARGS go to `ladder climb`, see `--help`)
  ladder compare A B   what got better or worse from report A to report B, beyond noise
  crash [--kills N] [--seed N]
                       the sink killed again and again, by default 200 times
                       -> docs/benchmarks/crash.md
  outage [ARGS]        the store of a real node away for 20 s, while a part of its sites fails;
                       --long: for five minutes at 5,000 checks/s -> docs/benchmarks/outage.md
  scenarios [ARGS]     every fault that a site can have, for about a minute; --long: checks every
                       60 s -> docs/benchmarks/accuracy.{md,json}
  falsedown [ARGS]     our own trouble beside sites that are well, and a fleet that fails while we
                       are well; --long -> docs/benchmarks/falsedown.{md,json}
  soak [SEEDS]         simulated days of 10,000 targets, by default from 16 seeds
                       -> docs/benchmarks/soak.md
  scale [TARGETS]      cadences of ten million simulated targets on one core
                       -> docs/benchmarks/scale.{md,json}
  instructions [--write]
                       instructions per healthy check, held against the figure that is checked in;
                       --write: the figure anew -> docs/benchmarks/instructions.{md,json}
  fuzz [OPTIONS] [TARGET…]
                       the fuzz targets under libFuzzer, by default all for 600 s each
                       -> docs/benchmarks/fuzz.{md,json} (options: docs/fuzzing.md)

Example: cargo xtask test -p prober
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["demo", rest @ ..] => demo::run(rest),
        ["test", rest @ ..] => test::run(rest),
        ["tidy"] => tidy::run(),
        ["ci"] => ci::run(),
        ["bench", "probe", rest @ ..] => bench::run(bench::Bench::Probe, rest),
        ["bench", "idle", rest @ ..] => bench::run(bench::Bench::Idle, rest),
        ["bench", "attempts", rest @ ..] => bench::run(bench::Bench::Attempts, rest),
        ["bench", "lag", rest @ ..] => bench::run(bench::Bench::Lag, rest),
        ["bench", "store", rest @ ..] => bench::run(bench::Bench::Store, rest),
        ["bench", "statements", rest @ ..] => bench::run(bench::Bench::Statements, rest),
        ["bench", "changes", rest @ ..] => bench::run(bench::Bench::Changes, rest),
        ["bench", "verifier", rest @ ..] => bench::run(bench::Bench::Verifier, rest),
        ["bench", "farm", rest @ ..] => bench::run(bench::Bench::Farm, rest),
        ["bench", "journal"] => replay::run(),
        ["ladder", "compare", rest @ ..] => ladder::compare(rest),
        ["ladder", rest @ ..] => ladder::run(rest),
        ["outage", rest @ ..] => outage::run(rest),
        ["scenarios", rest @ ..] => scenarios::run(rest),
        ["falsedown", rest @ ..] => falsedown::run(rest),
        ["crash", rest @ ..] => crash::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["instructions", rest @ ..] => instructions::run(rest),
        ["scale"] => scale::run(None),
        ["scale", targets] => scale::run(Some(targets)),
        ["soak"] => soak::run(None),
        ["soak", seeds] => soak::run(Some(seeds)),
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprint!("xtask: no such command: {}\n\n{USAGE}", unknown.join(" "));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
