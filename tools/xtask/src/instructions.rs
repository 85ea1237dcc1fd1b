//! `cargo xtask instructions`: instructions in user space per healthy check, counted by callgrind
//! on the simulator, held against the figure that is checked in. No clock is in it.
//!
//! A program runs a fleet that is well for a few cadences of virtual time, and then for more of
//! them: the slope between the two is the figure, without the start and the first DNS questions.
//! callgrind shows programs the same CPU on every machine that has AVX2, so that libraries which
//! choose their code by the CPU choose the same everywhere.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::ci::Done;
use crate::release::{self, Profile};
use crate::{command, packages};

/// Package and name of the program, and the targets and the interval that it is given.
const PROGRAM: (&str, &str) = ("cores", "healthy");
const TARGETS: &str = "10000";
const INTERVAL_S: &str = "10";
/// Cadences of the two runs. In the first two every name is asked for, and tables grow.
const CADENCES: [&str; 2] = ["2", "6"];
/// What `demo` of `cargo xtask ci` has built most of already.
const PROFILE: Profile = Profile::Quick;
/// How far off the figure the count may be, in percent.
const TOLERANCE_PERCENT: f64 = 3.0;
/// Where the figure is, below the workspace's root, and the page about it.
const FIGURE: &str = "docs/benchmarks/instructions.json";
const PAGE: &str = "docs/benchmarks/instructions.md";
/// Writes the figure instead of being held against it.
const WRITE: &str = "--write";

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    checks: u64,
    instructions: u64,
}

/// Counts, and holds the figure or writes it (`--write`).
///
/// # Errors
/// When the count is off the figure by more than 3 %, up or down, or cannot be made.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let writes = match args {
        [] => false,
        [WRITE] => true,
        _ => bail!("{}: accepted is {WRITE}", args.join(" ")),
    };
    if let Some(reason) = left_out() {
        eprintln!("xtask: instructions are not counted here: {reason}");
        return Ok(());
    }
    packages::require(packages::COUNT)?;
    let (package, name) = PROGRAM;
    let program = release::build_example(package, name, PROFILE)?;
    let folder = release::target_folder()?.join("instructions");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let [short, long] = CADENCES.map(|cadences| {
        let profile = folder.join(format!("callgrind.{cadences}"));
        count(&program, cadences, &profile).map(|run| (run, profile))
    });
    let ((short, _), (long, profile)) = (short?, long?);
    let per_check = slope(short, long)?;
    println!("instructions per healthy check: {per_check:.0}");
    let tools = tools()?;
    if writes {
        return write(per_check, &tools);
    }
    judge(per_check, &figure()?, &tools, &profile)
}

/// The same as a step among others, which tells where nothing was counted.
///
/// # Errors
/// As [`run`].
pub(crate) fn check() -> Result<Done> {
    run(&[])?;
    Ok(if left_out().is_some() {
        Done::LeftOut
    } else {
        Done::Passed
    })
}

/// Why the figure does not hold on this machine.
fn left_out() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let reason = (!std::arch::is_x86_feature_detected!("avx2"))
        .then_some("the figure is that of a CPU with AVX2, and this one has none");
    #[cfg(not(target_arch = "x86_64"))]
    let reason = Some("the figure is that of x86-64");
    reason
}

/// Runs the program under callgrind, in an environment without variables, whose length would move
/// the stack.
fn count(program: &Path, cadences: &str, profile: &Path) -> Result<Run> {
    let mut out = std::ffi::OsString::from("--callgrind-out-file=");
    out.push(profile);
    let mut valgrind = Command::new("valgrind");
    valgrind.env_clear().args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(out).arg(program);
    let told = command::output(valgrind.args([TARGETS, INTERVAL_S, cadences]))?;
    let told: Value = serde_json::from_str(&told).context("the program did not say what it did")?;
    let counted = std::fs::read_to_string(profile)
        .with_context(|| format!("cannot read {}", profile.display()))?;
    Ok(Run {
        checks: told["checks"]
            .as_u64()
            .context("the program names no checks")?,
        instructions: total(&counted).context("callgrind wrote no total")?,
    })
}

/// The count of a whole callgrind profile.
fn total(profile: &str) -> Option<u64> {
    let mut lines = profile.lines();
    lines.find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

/// Instructions per check beyond the first run's.
fn slope(short: Run, long: Run) -> Result<f64> {
    let checks = long
        .checks
        .checked_sub(short.checks)
        .filter(|more| *more > 0);
    let instructions = long.instructions.checked_sub(short.instructions);
    let (checks, instructions) = checks
        .zip(instructions)
        .with_context(|| format!("the longer run did no more: {short:?}, {long:?}"))?;
    Ok(instructions as f64 / checks as f64)
}

/// What else the count depends on.
fn tools() -> Result<Value> {
    let first_line = |program: &str| -> Result<String> {
        let text = command::output(Command::new(program).arg("--version"))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(json!({
        "compiler": first_line("rustc")?,
        "c_library": first_line("ldd")?,
        "valgrind": first_line("valgrind")?,
    }))
}

fn figure() -> Result<Value> {
    let text = std::fs::read_to_string(command::root().join(FIGURE))
        .with_context(|| format!("cannot read {FIGURE}: `cargo xtask instructions {WRITE}`"))?;
    serde_json::from_str(&text).with_context(|| format!("{FIGURE} is no JSON"))
}

/// Holds the count against the figure.
fn judge(per_check: f64, figure: &Value, tools: &Value, profile: &Path) -> Result<()> {
    let wanted = figure["instructions_per_check"].as_f64();
    let wanted = wanted.with_context(|| format!("{FIGURE} has no instructions_per_check"))?;
    let off_percent = (per_check / wanted - 1.0) * 100.0;
    println!("{off_percent:+.2} % of the figure, {wanted:.0}");
    if (per_check - wanted).abs() * 100.0 <= wanted * TOLERANCE_PERCENT {
        return Ok(());
    }
    let mut message = format!(
        "a healthy check takes {per_check:.0} instructions, {off_percent:+.1} % of the {wanted:.0} \
         in {FIGURE}. "
    );
    if off_percent < 0.0 {
        message += "That is better, and would let the next change be that much worse: ";
    } else {
        write!(
            message,
            "`callgrind_annotate {}` says where; if it must be: ",
            profile.display()
        )?;
    }
    write!(message, "`cargo xtask instructions {WRITE}`")?;
    if &figure["tools"] != tools {
        let then = &figure["tools"];
        write!(
            message,
            ". The figure was counted with {then}, this with {tools}"
        )?;
    }
    bail!(message)
}

fn write(per_check: f64, tools: &Value) -> Result<()> {
    let figure = json!({
        "instructions_per_check": per_check.round(),
        "tools": tools,
    });
    let mut text = serde_json::to_string_pretty(&figure)?;
    text.push('\n');
    for (file, text) in [(FIGURE, text), (PAGE, page(per_check, tools))] {
        let file = command::root().join(file);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("written: {}", file.display());
    }
    Ok(())
}

fn page(per_check: f64, tools: &Value) -> String {
    let [compiler, c_library, valgrind] =
        ["compiler", "c_library", "valgrind"].map(|tool| tools[tool].as_str().unwrap_or("?"));
    let [few, many] = CADENCES;
    format!(
        "# Instructions per healthy check\n\n`cargo xtask instructions {WRITE}`\n\n\
         **{per_check:.0}** instructions in user space for one healthy plain-HTTP check through \
         the whole engine core: wheel, admission, DNS cache, connection, request, answer of a \
         kilobyte, verdict, account, histograms, outcome channel.\n\n\
         Counted by callgrind on the simulator with {TARGETS} targets at {INTERVAL_S} s, the slope \
         between {few} and {many} cadences. The simulator's own queue of events and the receiver \
         of the outcomes are in it, about a tenth of it; system calls and the runtime are not. \
         `cargo xtask ci` counts again and fails {TOLERANCE_PERCENT} % off this figure, either \
         way.\n\n\
         The count hangs on the compiler (pinned in `rust-toolchain.toml`), on the profile \
         (`quick`, the one that the demo is built with) and, for the few per cent that are copies \
         of memory, on the C library. It does not hang on the machine: callgrind shows programs \
         one and the same CPU wherever there is AVX2, and without AVX2 nothing is counted. The \
         seeds of hash tables differ from run to run: that moves it by less than 0.1 %.\n\n\
         {compiler} · {c_library} · {valgrind}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_out_what_both_runs_did() {
        let run = |checks, instructions| Run {
            checks,
            instructions,
        };
        let found = slope(run(100, 5_000), run(300, 9_000)).expect("more");
        assert!((found - 20.0).abs() < 1e-9, "{found}");
        assert!(slope(run(100, 5_000), run(100, 9_000)).is_err());
        assert!(slope(run(100, 5_000), run(200, 4_000)).is_err());
    }

    #[test]
    fn the_total_is_that_of_the_profile() {
        let profile = "version: 1\nevents: Ir\nsummary: 7\nfn=(1)\n1 5\n\ntotals: 678509549\n";
        assert_eq!(total(profile), Some(678_509_549));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_count_may_be_off_by_three_percent_either_way() {
        let tools = json!({"compiler": "a"});
        let figure = json!({"instructions_per_check": 10_000.0, "tools": {"compiler": "a"}});
        let judged = |per_check| judge(per_check, &figure, &tools, Path::new("/t/callgrind.6"));
        for inside in [9_700.0, 10_000.0, 10_300.0] {
            judged(inside).expect("inside");
        }
        let worse = judged(10_301.0).expect_err("too many").to_string();
        assert!(worse.contains("+3.0 %"), "{worse}");
        assert!(
            worse.contains("callgrind_annotate /t/callgrind.6"),
            "{worse}"
        );
        assert!(!worse.contains("was counted with"), "{worse}");
        let better = judged(9_699.0).expect_err("too few").to_string();
        assert!(
            better.contains("`cargo xtask instructions --write`"),
            "{better}"
        );
    }

    #[test]
    fn other_tools_are_named_where_the_count_is_off() {
        let figure = json!({"instructions_per_check": 10_000.0, "tools": {"compiler": "a"}});
        let tools = json!({"compiler": "b"});
        let profile = Path::new("/t/callgrind.6");
        judge(10_000.0, &figure, &tools, profile).expect("the count holds");
        let error = judge(20_000.0, &figure, &tools, profile).expect_err("too many");
        let text = error.to_string();
        assert!(
            text.contains("{\"compiler\":\"a\"}, this with {\"compiler\":\"b\"}"),
            "{text}"
        );
    }

    #[test]
    fn the_page_is_that_of_the_figure() {
        let figure = figure().expect("checked in");
        let per_check = figure["instructions_per_check"].as_f64().expect("a number");
        let found = std::fs::read_to_string(command::root().join(PAGE)).expect("checked in");
        assert_eq!(found, page(per_check, &figure["tools"]));
    }
}
