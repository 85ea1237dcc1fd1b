//! `ladder store`: what the two stores take, what a healthy fleet asks of a server, how fast a node
//! is there again, how soon a change is in effect, and whether probes notice a store in trouble.
//! From outside: programs, their CPU time, their metrics, and the server's own counters.

mod changes;
mod filled;
mod first_probe;
mod replay;
mod rows;
mod statements;
mod trouble;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bar::{self, Bar};
use crate::baseline::BenchOptions;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::machine::Machine;
use crate::node::NodePlan;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreOptions {
    #[command(flatten)]
    bench: BenchOptions,
    /// The built example `freshness_rate` of `store`; the part `rows` needs it.
    #[arg(long)]
    rows_program: Option<PathBuf>,
    /// The built unit tests of `persist`, of which one replays journals; for the part `replay`.
    #[arg(long)]
    replay_program: Option<PathBuf>,
    /// Which parts of the page; by default all.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// A small run that only shows that everything works: no bar is judged.
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when a bar is missed or not shown.
    #[arg(long)]
    gate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Rows of freshness a second, and the CPU that they cost.
    Rows,
    /// What a healthy fleet asks of a server.
    Statements,
    /// The same where the targets are in the table of an older system.
    LegacyStatements,
    /// The journal into the store.
    Replay,
    /// A start with many targets.
    FirstProbe,
    /// One target among many is changed.
    Changes,
    /// Schedule lag while the store is in trouble.
    Trouble,
}

/// What one command measures, and one page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// What the stores take, and whether probes notice them in trouble.
    Store,
    /// What a healthy fleet asks of a server.
    Statements,
    /// How soon one change among many targets is in effect.
    Changes,
}

impl Page {
    fn parts(self) -> &'static [Part] {
        match self {
            Self::Store => &[Part::Rows, Part::Replay, Part::FirstProbe, Part::Trouble],
            Self::Statements => &[Part::Statements, Part::LegacyStatements],
            Self::Changes => &[Part::Changes],
        }
    }

    /// The title, and the command that repeats it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Store => ("The stores", "cargo xtask bench store"),
            Self::Statements => (
                "What a healthy fleet asks of a server",
                "cargo xtask bench statements",
            ),
            Self::Changes => ("A change among many targets", "cargo xtask bench changes"),
        }
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sizes {
    rows: u32,
    row_rounds: u32,
    fleet_sites: u32,
    fleet_settle_s: u64,
    fleet_watch_s: u64,
    replay_facts: u32,
    start_sites: u32,
    starts: u32,
    changes: u32,
    steady_s: u64,
    sweep_s: u32,
    trouble_rate: u32,
    trouble_window_s: u64,
    trouble_rounds: u32,
}

const FULL: Sizes = Sizes {
    rows: 1_000_000,
    row_rounds: 3,
    fleet_sites: 500_000,
    fleet_settle_s: 330,
    fleet_watch_s: 180,
    replay_facts: 300_000,
    start_sites: 1_000_000,
    starts: 3,
    changes: 5,
    steady_s: 60,
    sweep_s: 300,
    trouble_rate: 4_000,
    trouble_window_s: 20,
    trouble_rounds: 5,
};

const QUICK: Sizes = Sizes {
    rows: 100_000,
    row_rounds: 1,
    fleet_sites: 100_000,
    fleet_settle_s: 10,
    fleet_watch_s: 30,
    replay_facts: 20_000,
    start_sites: 50_000,
    starts: 1,
    changes: 1,
    steady_s: 10,
    sweep_s: 20,
    trouble_rate: 1_000,
    trouble_window_s: 5,
    trouble_rounds: 1,
};

/// What a part found.
#[derive(Debug, Serialize)]
struct Found {
    title: &'static str,
    note: &'static str,
    #[serde(skip)]
    table: String,
    bars: Vec<Bar>,
    numbers: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    sizes: Sizes,
    quick: bool,
    parts: Vec<Found>,
}

/// Where a part runs, and how much it does.
struct Place<'a> {
    options: &'a StoreOptions,
    sizes: Sizes,
    folder: PathBuf,
}

/// Measures the parts that are asked for, one after the other, and writes the report.
///
/// # Errors
/// When a child fails, or, with `--gate`, a bar is missed or not shown.
pub(crate) async fn run(options: &StoreOptions, page: Page) -> Result<()> {
    options.bench.check_cpus()?;
    let machine = Machine::read();
    println!("{}", machine.line());
    let sizes = if options.quick { QUICK } else { FULL };
    let folder = options.bench.folder("store")?;
    let mut parts = Vec::new();
    let asked = |part: &&Part| options.part.is_empty() || options.part.contains(part);
    for part in page.parts().iter().filter(asked) {
        let place = Place {
            options,
            sizes,
            folder: folder.join(format!("{part:?}").to_lowercase()),
        };
        std::fs::create_dir_all(&place.folder)?;
        let found = match part {
            Part::Rows => rows::measure(&place).await?,
            Part::Statements => statements::measure(&place).await?,
            Part::LegacyStatements => statements::measure_legacy(&place).await?,
            Part::Replay => replay::measure(&place).await?,
            Part::FirstProbe => first_probe::measure(&place).await?,
            Part::Changes => changes::measure(&place).await?,
            Part::Trouble => trouble::measure(&place).await?,
        };
        println!("\n{}\n{}", found.title, found.table);
        parts.push(found);
    }
    let report = Report {
        machine,
        sizes,
        quick: options.quick,
        parts,
    };
    let markdown = markdown(&report, page);
    options.bench.write(&report, &markdown)?;
    if options.gate {
        let bars: Vec<Bar> = report
            .parts
            .into_iter()
            .flat_map(|part| part.bars)
            .collect();
        bar::require(&bars)?;
    }
    Ok(())
}

impl Place<'_> {
    /// Why no bar can be judged by what was measured here.
    fn flaw(&self) -> Option<String> {
        let words = "a quick run, far smaller than the bar asks for";
        self.options.quick.then(|| words.to_owned())
    }

    async fn farm(&self, sites: u32, interval_s: u32, scenario: Option<PathBuf>) -> Result<Farm> {
        let plan = FarmPlan {
            program: self.options.bench.farm.clone(),
            sites,
            interval_s,
            https_every: 0,
            tls_chain: TlsChain::Ecdsa,
            tls_tickets: false,
            scenario,
            silent_max: None,
            dns_ttl_s: None,
            cpu: Some(self.options.bench.farm_cpu),
        };
        Farm::start(&plan, &self.folder.join("farm")).await
    }

    /// A node whose store is `store`, or a file.
    fn node(&self, name: &str, store: Option<String>) -> NodePlan {
        NodePlan {
            program: self.options.bench.ringwatch.clone(),
            folder: self.folder.join(name),
            targets: None,
            probe_cpu: Some(self.options.bench.probe_cpu),
            histogram_interval_s: 1,
            store,
            flags: Vec::new(),
        }
    }

    fn server_folder(&self) -> PathBuf {
        self.folder.join("mariadb")
    }

    /// Where the server runs: not where probes are measured.
    fn server_cpu(&self) -> usize {
        self.options.bench.farm_cpu
    }
}

/// A program that a part cannot do without, named by the option `option`.
fn needed<'p>(program: Option<&'p Path>, option: &str) -> Result<&'p Path> {
    program.with_context(|| format!("{option} is needed for this part"))
}

/// The list of a farm's sites, for `ringwatch run --targets`.
async fn targets_of(farm: &Farm, folder: &Path, interval_s: u32) -> Result<PathBuf> {
    let file = folder.join("targets.csv");
    let timeout_ms = crate::waves::TIMEOUT_MS;
    farm.write_targets(interval_s, timeout_ms, &file).await?;
    Ok(file)
}

fn markdown(report: &Report, page: Page) -> String {
    let (title, command) = page.names();
    let quick = if report.quick { " -- --quick" } else { "" };
    let mut text = format!(
        "# {title}\n\n`{command}{quick}`\n\n{}\n\nMariaDB is Debian's, \
         alone on the CPU that the farm has too unless it is said otherwise, with a buffer pool \
         of 1 GiB and a synced log at every commit. \
         CPU is that of the named process alone.\n",
        report.machine.line()
    );
    let chapter = |part: &Found| {
        let bars = bar::table(&part.bars);
        format!(
            "\n## {}\n\n{}\n\n{bars}\n{}",
            part.title, part.note, part.table
        )
    };
    text.extend(report.parts.iter().map(chapter));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_its_command_its_parts_and_what_is_not_shown() {
        let flaw = Some("quick".to_owned());
        let found = Found {
            title: "Rows",
            note: "All of them.",
            table: "| a |\n".to_owned(),
            bars: vec![Bar::new("x".to_owned(), Some(1.0), (2.0, "s"), flaw)],
            numbers: serde_json::Value::Null,
        };
        let report = Report {
            machine: Machine::read(),
            sizes: QUICK,
            quick: true,
            parts: vec![found],
        };
        let page = markdown(&report, Page::Store);
        for words in [
            "bench store -- --quick`",
            "## Rows",
            "not shown: quick",
            "| a |",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        for (page, name) in [(Page::Statements, "statements"), (Page::Changes, "changes")] {
            let text = markdown(&report, page);
            assert!(
                text.contains(&format!("bench {name} -- --quick`")),
                "{text}"
            );
        }
    }
}
