//! `cargo xtask crash`: the sink is killed hundreds of times, at random points and moments, on one
//! directory, with either store; written under `docs/benchmarks`. The test suite does a few of them
//! each time.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::{command, packages, revision};

const KILLS: &str = "200";
const SEED: &str = "1";
/// Also kills at each named point alone, and between the halves of an offer.
const TEST: &str = "crash_test";
/// What is killed.
const CODE: [&str; 2] = ["probe/model", "sink"];
/// SQLite and MariaDB.
const STORES: usize = 2;
/// What the tests print before their figures.
const MARK: &str = "crash: ";

/// Runs the test as `args` say (`[--kills N] [--seed N]`) and writes the page.
///
/// # Errors
/// When a property does not hold, or the page cannot be written.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (kills, seed) = options(args)?;
    packages::require(packages::DATABASE)?;
    let mut test = command::cargo(&["test", "-p", "persist", "--lib", TEST]);
    test.args(["--", "--nocapture"]);
    test.env("RINGWATCH_CRASH_KILLS", kills);
    test.env("RINGWATCH_CRASH_SEED", seed);
    let text = command::output(&mut test)?;
    let told = told(&text)?;
    let code = revision::of(&command::root(), &CODE);
    let file = command::root().join("docs/benchmarks/crash.md");
    std::fs::write(&file, page(kills, seed, &code, &told))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("{told}\nwritten: {}", file.display());
    Ok(())
}

/// A line of each store, always in the same order.
fn told(text: &str) -> Result<String> {
    let told = text
        .lines()
        .filter_map(|line| Some(line.split_once(MARK)?.1));
    let mut told: Vec<&str> = told.collect();
    told.sort_unstable();
    if told.len() != STORES {
        bail!(
            "the tests told of {} stores, not of {STORES}:\n{text}",
            told.len()
        );
    }
    Ok(told.join("\n"))
}

fn options<'a>(args: &[&'a str]) -> Result<(&'a str, &'a str)> {
    let (mut kills, mut seed) = (KILLS, SEED);
    let mut args = args.iter().copied();
    while let Some(option) = args.next() {
        let value = args.next().filter(|value| value.parse::<u64>().is_ok());
        match (option, value) {
            ("--kills", Some(value)) => kills = value,
            ("--seed", Some(value)) => seed = value,
            _ => bail!("{option}: accepted is --kills N and --seed N"),
        }
    }
    Ok((kills, seed))
}

fn page(kills: &str, seed: &str, code: &str, told: &str) -> String {
    let mut page = format!(
        "# Kills\n\n`cargo xtask crash --kills {kills} --seed {seed}`\n\nRevision {code}.\n\n"
    );
    page += "A sink with its journal and a store, an SQLite file or a database of a real \
             MariaDB, in a process of its own, is killed by SIGKILL and started again on the \
             same directory (with MariaDB a new one after 20 kills): at a named point on either \
             side of each step (a new segment, append, sync, memory, apply, acknowledge, the \
             store's sync, the removal of segments), the n-th time it comes there, or after a \
             number of waves of checks, whatever it does then. Starts are killed as well, and \
             some ends of the journal that were not synced are torn first, as by a power \
             failure.\n\nAfter each kill, on a copy: each journaled batch up to the store's \
             position is there as a whole, and nothing beyond it, but on a server for the halves \
             of one offer, which are committed before the position; a start gives the store what \
             it had and what the journal has, each transition with its job, once, and nothing \
             else; every wave that was told to be durable is there, and at most the one under \
             way beyond it. At the end each target has one whole incident for each outage of \
             its checks. The same is held before by kills at each named point, and by one \
             between the commits of two halves and of the position.\n\n";
    writeln!(page, "```text\n{told}\n```").expect("a String takes everything");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_defaults_and_what_is_no_number_is_refused() {
        assert_eq!(options(&[]).expect("defaults"), (KILLS, SEED));
        let given = options(&["--seed", "7", "--kills", "5"]);
        assert_eq!(given.expect("both"), ("5", "7"));
        for bad in [&["--kills"][..], &["--kills", "many"], &["200"]] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_store_that_was_left_out_is_noticed() {
        let both = "crash: b 1\nother\n\ncrash: a 2\n";
        assert_eq!(told(both).expect("two"), "a 2\nb 1");
        assert!(told("crash: a 2\n").is_err());
    }

    #[test]
    fn the_page_can_be_repeated() {
        let page = page("5", "7", "1a2b3c4", "seed 7: ok");
        assert!(
            page.contains("`cargo xtask crash --kills 5 --seed 7`"),
            "{page}"
        );
        assert!(page.contains("Revision 1a2b3c4."), "{page}");
        assert!(page.ends_with("```text\nseed 7: ok\n```\n"), "{page}");
    }
}
