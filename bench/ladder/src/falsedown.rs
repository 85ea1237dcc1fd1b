//! `ladder falsedown`: our own trouble, one kind after the other, beside a farm that is well but
//! for a few sites: no incident of a site that is well, and every one that fails found in time.
//! Then the reverse: nothing is wrong with us, and much of the fleet fails.
//!
//! Real processes; a run whose farm was not well is void, and said so.

mod bite;
mod doubts;
mod judge;
mod page;
mod plain;
mod plan;
mod pressing;
mod truedown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tokio::time::sleep;

use crate::baseline::engine::{self, CORE_THREAD};
use crate::burners::Burners;
use crate::clock::{self, Stopwatch};
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::gates::{self, Gate};
use crate::machine::Machine;
use crate::mariadb::MariaDb;
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::{procfs, truth};
use bite::Bite;
use judge::{Row, Seen};
use plain::Plain;
pub(crate) use plain::{ClientOptions, run_child as run_client};
use plan::{INTERVAL_S, LATE, LEAD_S, Slot, TIMEOUT_MS, Trouble};
use pressing::Press;
use truedown::TrueDown;

/// Every n-th site speaks HTTPS.
const HTTPS_EVERY: u32 = 2;
/// Names outside of the fleet, of the same resolver.
const CANARIES: u32 = 3;
/// Addresses are asked for again after this, so that a dead resolver is noticed.
const DNS_TTL_S: u32 = 30;
/// The farm, the store and the rest of the node; the probe core has the other CPU.
const FARM_CPU: usize = 0;
const PROBE_CPU: usize = 1;
const DATABASE: &str = "falsedown";
/// The list of the fleet.
const TARGETS: &str = "targets.csv";
/// Between two looks at the node.
const POLL: Duration = Duration::from_millis(500);
const NO_NETWORK: &str = "route gone: the run has no network of its own, because `unshare --net` \
    was refused: run it as root, or leave the trouble out with `--troubles \
    overload,stopped,resolver,store`";
const PART: &str = "a page (`--markdown`) is of a whole run: leave out neither a trouble nor \
    --true-down-s, or the page";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FalsedownOptions {
    /// The built `farm`.
    #[arg(long)]
    farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    ringwatch: PathBuf,
    /// Folder for logs and stores; each run makes a new one in it.
    #[arg(long, default_value = "target/falsedown")]
    out: PathBuf,
    /// Sites of the fleet; half of them speak HTTPS.
    #[arg(
        long,
        default_value_t = 9_000,
        value_parser = clap::value_parser!(u32).range(4_096..=1_000_000)
    )]
    sites: u32,
    /// How much longer than the shortest the troubles last.
    #[arg(long, default_value_t = 1)]
    factor: u32,
    /// How long much of the fleet fails while nothing is wrong with us, in s; 0: left out.
    #[arg(long, default_value_t = 60)]
    true_down_s: u32,
    /// Only these troubles; none: no trouble at all.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "overload,stopped,resolver,route,store"
    )]
    troubles: Vec<String>,
    /// This process has a network of its own (`unshare --net`), whose routes may be changed.
    #[arg(long)]
    own_network: bool,
    /// Where the page is written; nowhere by default.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Where the same is written for programs.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl FalsedownOptions {
    /// The troubles, each of which can be made.
    fn troubles(&self) -> Result<Vec<Trouble>> {
        let named = self.troubles.iter().filter(|name| !name.is_empty());
        let trouble = |name: &String| {
            let mut all = Trouble::ALL.into_iter();
            all.find(|trouble| trouble.name().starts_with(name.as_str()))
                .with_context(|| format!("no such trouble: {name}"))
        };
        let troubles: Vec<Trouble> = named.map(trouble).collect::<Result<_>>()?;
        let needs_network = troubles.contains(&Trouble::Route);
        ensure!(self.own_network || !needs_network, NO_NETWORK);
        let has_all = Trouble::ALL.iter().all(|all| troubles.contains(all));
        let is_whole = has_all && self.true_down_s > 0;
        ensure!(self.markdown.is_none() || is_whole, PART);
        Ok(troubles)
    }
}

/// Everything that a run found.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    sites: u32,
    /// Part of a CPU that the probe core needs when it is let alone.
    needed: f64,
    rows: Vec<Row>,
    /// A plain client in the place of the node, where there was an overload.
    plain: Option<Plain>,
    true_down: Option<TrueDown>,
    /// What was asked for and could not be run, and why.
    left_out: Vec<String>,
}

impl Report {
    /// Gates of the same name as one.
    fn gates(&self) -> Vec<Gate> {
        let mut gates: BTreeMap<&str, Gate> = BTreeMap::new();
        let of_rows = self.rows.iter().flat_map(Row::gates);
        for gate in of_rows.chain(self.true_down.iter().flat_map(TrueDown::gates)) {
            let together = gates.entry(gate.name).or_insert(Gate {
                name: gate.name,
                failures: Vec::new(),
            });
            together.failures.extend(gate.failures);
        }
        let all_run = Gate {
            name: "everything that was asked for was run",
            failures: self.left_out.clone(),
        };
        gates.into_values().chain([all_run]).collect()
    }
}

/// Runs it and judges.
///
/// # Errors
/// When a child fails, a site that is well was called down, one that fails was not found in time,
/// or the farm was not well.
pub(crate) async fn run(options: &FalsedownOptions) -> Result<()> {
    let troubles = options.troubles()?;
    let machine = Machine::read();
    ensure!(
        machine.cores > PROBE_CPU,
        "there is one CPU: farm and probe core need one each"
    );
    if options.own_network {
        pressing::own_network()?;
    }
    let folder = options
        .out
        .join(format!("run-{}", clock::unix_ms() / 1_000));
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    println!("{}\nwriting to {}", machine.line(), folder.display());
    let mut report = Report {
        machine,
        sites: options.sites,
        needed: 0.0,
        rows: Vec::new(),
        plain: None,
        true_down: None,
        left_out: Vec::new(),
    };
    if !troubles.is_empty() {
        in_trouble(options, &troubles, &folder, &mut report).await?;
    }
    if options.true_down_s > 0 {
        let lasts_s = options.true_down_s;
        let programs = (&options.farm, &options.ringwatch);
        report.true_down = Some(truedown::run(programs, lasts_s, &folder).await?);
    }
    conclude(options, &report)
}

/// Needed CPU of the probe core, and a row for each trouble; then, after the node, a plain client:
/// what it makes of the sites fails no run, but that it ends early does.
async fn in_trouble(
    options: &FalsedownOptions,
    troubles: &[Trouble],
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    let slots = plan::slots(troubles, options.factor);
    let mut farm = start_farm(options, &slots, folder).await?;
    let mut server = MariaDb::start(&folder.join("mariadb"), Some(FARM_CPU)).await?;
    server.create(DATABASE)?;
    let late = folder.join("late.csv");
    let mut node = start_node(options, folder, &farm, &server, &late).await?;
    engine::warm_up(&mut node, options.sites).await?;
    farm.start_scenario().await?;
    let (zero, zero_unix_ms) = (Stopwatch::start(), clock::unix_ms());
    let needed = calm(zero, &node).await?;
    println!(
        "ladder: the probe core needs {:.0} % of its CPU",
        100.0 * needed
    );
    let mut press = Press {
        farm: &farm,
        server: &mut server,
        cpu: PROBE_CPU,
        needed,
        late: &late,
        folder,
        burners: Burners::default(),
    };
    let mut seen = Vec::new();
    for slot in &slots {
        println!("ladder: {} from {} s on", slot.trouble.name(), slot.from_s);
        let of_slot = trouble(zero, slot, &mut press, &mut node).await?;
        seen.push((*slot, of_slot));
    }
    let truth = truth::parse_faults(&farm.truth().await?)?;
    node.stop().await?;
    let incidents = truth::parse_incidents(&node.plan().events()?)?;
    if troubles.contains(&Trouble::Overload) {
        println!("ladder: a plain client in the place of the node");
        let targets = folder.join(TARGETS);
        match plain::run(&press, &targets, options.factor).await {
            Ok(plain) => report.plain = Some(plain),
            Err(error) => report.left_out.push(format!("the plain client: {error:#}")),
        }
    }
    farm.stop().await?;
    server.stop().await?;
    report.needed = needed;
    report.rows = judge::rows(&seen, zero_unix_ms, needed, &truth, &incidents);
    Ok(())
}

async fn start_farm(options: &FalsedownOptions, slots: &[Slot], folder: &Path) -> Result<Farm> {
    let scenario = folder.join("failing.toml");
    std::fs::write(&scenario, plan::toml(slots))?;
    let plan = FarmPlan {
        program: options.farm.clone(),
        sites: options.sites + LATE + CANARIES,
        interval_s: INTERVAL_S,
        https_every: HTTPS_EVERY,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        silent_max: None,
        dns_ttl_s: Some(DNS_TTL_S),
        cpu: Some(FARM_CPU),
    };
    Farm::start(&plan, &folder.join("farm")).await
}

/// Starts the node on the fleet, and writes down those that come later.
async fn start_node(
    options: &FalsedownOptions,
    folder: &Path,
    farm: &Farm,
    server: &MariaDb,
    late: &Path,
) -> Result<Node> {
    let all = folder.join("all.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &all).await?;
    let text = std::fs::read_to_string(&all)?;
    let mut lines = text.lines();
    let head = lines.next().context("an empty list of targets")?;
    let mut list = |count: u32| {
        let rows: Vec<&str> = lines.by_ref().take(count as usize).collect();
        format!("{head}\n{}\n", rows.join("\n"))
    };
    let targets = folder.join(TARGETS);
    std::fs::write(&targets, list(options.sites))?;
    std::fs::write(late, list(LATE))?;
    let flags = canaries(lines);
    let plan = NodePlan {
        program: options.ringwatch.clone(),
        folder: folder.join("node"),
        targets: Some(targets),
        probe_cpu: Some(PROBE_CPU),
        histogram_interval_s: 5,
        store: Some(MariaDb::url(DATABASE, server.port())),
        flags,
    };
    plan.migrate()?;
    Node::start(plan, &farm.ready).await
}

/// Flags that name the sites in the rows of a list as canaries, of which none is a target.
fn canaries<'a>(rows: impl Iterator<Item = &'a str>) -> Vec<String> {
    let urls = rows.filter_map(|row| Some(row.split_once(',')?.0));
    let flags = |url: &str| {
        let (_, rest) = url.split_once("://").unwrap_or(("", url));
        let name = rest.split(':').next().unwrap_or(rest);
        [("--canaries", url), ("--dns-canaries", name)]
            .map(|(flag, value)| [flag.to_owned(), value.to_owned()])
            .concat()
    };
    urls.flat_map(flags).collect()
}

/// Lets the node alone for a while; the part of a CPU that its probe core needs.
async fn calm(zero: Stopwatch, node: &Node) -> Result<f64> {
    let before = (
        Stopwatch::start(),
        procfs::threads_cpu(node.pid(), CORE_THREAD)?,
    );
    wait_until(zero, LEAD_S).await;
    let used = procfs::threads_cpu(node.pid(), CORE_THREAD)?.saturating_sub(before.1);
    Ok(used.as_secs_f64() / before.0.seconds().max(0.001))
}

/// One trouble from its begin to the calm after it.
async fn trouble(
    zero: Stopwatch,
    slot: &Slot,
    press: &mut Press<'_>,
    node: &mut Node,
) -> Result<Seen> {
    wait_until(zero, slot.from_s).await;
    press.farm.reset_observer().await?;
    let before = node.scrape().await?;
    let core = procfs::threads_cpu(node.pid(), CORE_THREAD)?;
    let watch = Stopwatch::start();
    press.begin(slot.trouble, node).await?;
    let mut bite = last(zero, slot, &before, node).await?;
    let used = procfs::threads_cpu(node.pid(), CORE_THREAD)?.saturating_sub(core);
    let had = used.as_secs_f64() / watch.seconds().max(0.001);
    press.relieve(slot.trouble, node).await?;
    let under_it = Farm::health(&press.farm.summary().await?)?;
    // What a node catches up on is the most that a farm is asked for.
    press.farm.reset_observer().await?;
    let mut suppressing = false;
    while zero.elapsed() < at(slot.until_s) {
        node.must_run()?;
        let scrape = node.scrape().await?;
        suppressing |= doubts::is_suppressing(&scrape)?;
        bite.hear(&scrape);
        sleep(POLL).await;
    }
    let after = node.scrape().await?;
    let status = node.plan().status()?;
    let after_it = Farm::health(&press.farm.summary().await?)?;
    Ok(Seen {
        verdicts: grown(&before, &after, "ringwatch_probed_total", "verdict"),
        classes: grown(&before, &after, "ringwatch_failures_total", "class"),
        shed: grown(&before, &after, "ringwatch_shed_total", "reason")
            .values()
            .sum(),
        had,
        farm_busy: under_it.0.max(after_it.0),
        farm_lag_p99_ms: under_it.1.max(after_it.1),
        unbalanced: gates::accounts(&status).failures,
        suppressing,
        bite,
    })
}

/// Lets a trouble last until its relief, and looks at what it does. Who stands still answers
/// nobody; and an overload is measured by its CPU, of which looks would take some.
async fn last(zero: Stopwatch, slot: &Slot, before: &Scrape, node: &mut Node) -> Result<Bite> {
    let mut bite = Bite::default();
    if matches!(slot.trouble, Trouble::Overload | Trouble::Stopped) {
        wait_until(zero, slot.relief_s).await;
        return Ok(bite);
    }
    while zero.elapsed() < at(slot.relief_s) {
        node.must_run()?;
        bite.look(before, &node.scrape().await?)?;
        sleep(POLL.min(at(slot.relief_s).saturating_sub(zero.elapsed()))).await;
    }
    Ok(bite)
}

fn at(second: u32) -> Duration {
    Duration::from_secs(second.into())
}

async fn wait_until(zero: Stopwatch, second: u32) {
    sleep(at(second).saturating_sub(zero.elapsed())).await;
}

/// By how much the counter `name` grew, by the values of `label`.
fn grown(before: &Scrape, after: &Scrape, name: &str, label: &str) -> BTreeMap<String, u64> {
    let grown = after.labels(name, label).into_iter().map(|value| {
        let of = |scrape: &Scrape| scrape.sum(name, &[(label, &value)]).unwrap_or(0.0);
        let more = (of(after) - of(before)).max(0.0) as u64;
        (value, more)
    });
    grown.filter(|(_, more)| *more > 0).collect()
}

fn conclude(options: &FalsedownOptions, report: &Report) -> Result<()> {
    let gates = report.gates();
    let text = page::markdown(report, &gates);
    println!("\n{text}");
    if let Some(file) = &options.markdown {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(report)? + "\n";
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed = gates.iter().filter(|gate| !gate.holds());
    let failed: Vec<&str> = failed.map(|gate| gate.name).collect();
    if !failed.is_empty() {
        bail!("failed gates: {}", failed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_apart_by_their_label_and_what_stood_still_is_left_out() {
        let scrape = |up, down| {
            Scrape::parse(&format!(
                "x_total{{core=\"0\",verdict=\"up\"}} {up}\n\
                 x_total{{core=\"1\",verdict=\"up\"}} 1\n\
                 x_total{{core=\"0\",verdict=\"down\"}} {down}\n"
            ))
        };
        let grown = grown(&scrape(5, 2), &scrape(9, 2), "x_total", "verdict");
        assert_eq!(grown, BTreeMap::from([("up".to_owned(), 4)]));
    }

    /// The options of a command line, in a network of its own or not.
    fn options(line: &str) -> FalsedownOptions {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: FalsedownOptions,
        }
        let words = "falsedown --farm f --ringwatch r".split(' ');
        let words = words.chain(line.split_whitespace());
        <Line as clap::Parser>::try_parse_from(words)
            .expect("valid")
            .options
    }

    /// Lesson: without a network of its own a run ended well that had left out a trouble, and wrote
    /// its page over the whole one.
    #[test]
    fn a_trouble_that_cannot_be_made_is_refused_unless_it_was_not_asked_for() {
        let refused = |line: &str| options(line).troubles().map_err(|why| why.to_string());
        assert_eq!(refused(""), Err(NO_NETWORK.to_owned()));
        assert_eq!(refused("--own-network").map(|all| all.len()), Ok(5));
        let chosen = refused("--troubles stopped,store");
        assert_eq!(chosen, Ok(vec![Trouble::Stopped, Trouble::Store]));
        let whole = refused("--own-network --markdown page.md");
        assert_eq!(whole.map(|all| all.len()), Ok(5));
        for part in ["--troubles stopped,store", "--own-network --true-down-s 0"] {
            let refused = refused(&format!("{part} --markdown page.md"));
            assert_eq!(refused, Err(PART.to_owned()), "{part}");
        }
    }

    #[test]
    fn what_could_not_be_run_fails_the_run() {
        let report = |left_out| Report {
            machine: Machine::read(),
            sites: 0,
            needed: 0.0,
            rows: Vec::new(),
            plain: None,
            true_down: None,
            left_out,
        };
        let holds = |left_out| report(left_out).gates().iter().all(Gate::holds);
        assert!(holds(Vec::new()));
        assert!(!holds(vec!["the plain client: it ended".to_owned()]));
    }

    #[test]
    fn canaries_are_asked_for_as_names_and_as_sites() {
        let flags = canaries(["http://s-0009600.farm.test:81/,10,2000"].into_iter());
        assert_eq!(
            flags,
            [
                "--canaries",
                "http://s-0009600.farm.test:81/",
                "--dns-canaries",
                "s-0009600.farm.test"
            ]
        );
    }
}
