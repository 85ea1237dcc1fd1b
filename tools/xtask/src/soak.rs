//! `cargo xtask soak`: simulated days of 10,000 targets from many seeds, written under
//! `docs/benchmarks`. The test suite runs one of them each time.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::command;

const SEEDS: &str = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";
/// What the test prints before the figures of a seed.
const MARK: &str = "soak: ";

/// Runs the test for `seeds` (comma-separated) in release and writes the page.
///
/// # Errors
/// When a seed does not balance, or the page cannot be written.
pub(crate) fn run(seeds: Option<&str>) -> Result<()> {
    let seeds = seeds.unwrap_or(SEEDS);
    let mut test = command::cargo(&["test", "--release", "-p", "cores", "--test", "it", "soak"]);
    test.args(["--", "--nocapture"]);
    let text = command::output(test.env("RINGWATCH_SOAK_SEEDS", seeds))?;
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(MARK)?.1))
        .collect();
    let wanted = seeds.split(',').count();
    if lines.len() != wanted {
        bail!("{} of {wanted} seeds were run:\n{text}", lines.len());
    }
    let file = command::root().join("docs/benchmarks/soak.md");
    std::fs::write(&file, page(seeds, &lines))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

fn page(seeds: &str, lines: &[&str]) -> String {
    let mut page = format!("# Simulated days\n\n`cargo xtask soak {seeds}`\n\n");
    page += "One core on the simulator's clock: \
             10,000 targets every 300 s, at most 128 checks in flight, 2 % random faults in \
             connects, answers and DNS, and stalls of 3 s. Each minute new generations, \
             removals, additions, checks at once (some of them overtaken by a change or a \
             removal) and a one-shot; failing targets are re-checked after 60 s. Each hour \
             4 to 7 minutes in which a check takes 4.8 s, which is more than 128 can \
             carry, up to two minutes in which the sink takes nothing from a channel of \
             1,024, and a minute's pause.\n\nEvery 5 simulated seconds each account \
             balances, as it is and as it is published. At the end each of pending, in \
             flight, probed, shed, stale, cancelled and held was above 0 at some time; the \
             sink has taken every result that was sent, the evidence of every failure, the \
             last word on every slot and the answer to every one-shot.\n\n```text\n";
    for line in lines {
        writeln!(page, "{line}").expect("a String takes everything");
    }
    page + "```\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_line_for_each_seed() {
        let page = page("1,2", &["seed 1: ok", "seed 2: ok"]);
        assert!(page.contains("`cargo xtask soak 1,2`"), "{page}");
        assert!(
            page.ends_with("```text\nseed 1: ok\nseed 2: ok\n```\n"),
            "{page}"
        );
    }
}
