//! `ladder scenarios`: every fault that a site can have, at once and on a clock, and what the node
//! said of each: verdict, class, events, delays; and how often it was right.
//!
//! The verdict and the evidence of a single check of each fault are the matter of
//! `tests/it/classes`; here it is what became of them.

mod cases;
mod judge;
mod page;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::clock::{self, Stopwatch};
use crate::demo::{Progress, in_state};
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::gates::{self, Gate};
use crate::machine::Machine;
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::truth;
use cases::{CASES, Case, Expected, HTTPS_EVERY, Timetable};
use judge::{Run, Verdict};
pub(crate) use page::spread;

/// Faults and recoveries that a busy machine is slow with are waited for so long beyond their time.
const PATIENCE_MS: u32 = 120_000;
const POLL: Duration = Duration::from_millis(500);
/// The address of IPv6 that `dns_a_servfail` gives out; else the node must not even try it.
const MULTICAST6: &str = "ff00::/8";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ScenariosOptions {
    /// The built `farm`.
    #[arg(long)]
    farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    ringwatch: PathBuf,
    /// Folder for logs and the store; each run makes a new one in it.
    #[arg(long, default_value = "target/scenarios")]
    out: PathBuf,
    /// How often each site is checked, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(10..=600))]
    interval_s: u32,
    /// Deadline of a check, in ms.
    #[arg(long, default_value_t = 2_000)]
    timeout_ms: u32,
    /// Where the page is written; nowhere by default.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Where the same is written for programs.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Everything that a run found.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    interval_s: u32,
    timeout_ms: u32,
    /// A fault is in doubt, and confirmed, within so many ms by the node's own constants.
    suspected_within_ms: u32,
    confirmed_within_ms: u32,
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(skip)]
    gates: Vec<Gate>,
}

/// Runs every scenario and judges.
///
/// # Errors
/// When a child fails, a fault was not found as it must, or a healthy site was called down.
pub(crate) async fn run(options: &ScenariosOptions) -> Result<()> {
    let machine = Machine::read();
    let folder = options
        .out
        .join(format!("run-{}", clock::unix_ms() / 1_000));
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let times = Timetable {
        interval_s: options.interval_s,
        timeout_ms: options.timeout_ms,
    };
    println!("{}\nwriting to {}", machine.line(), folder.display());
    let mut farm = start_farm(options, times, &folder).await?;
    let seen = watch(options, times, &folder, &mut farm).await?;
    farm.stop().await?;
    let run = Run {
        sites: cases::sites(),
        timeout_ms: options.timeout_ms.into(),
        watching_since_ms: seen.watching_since_ms,
    };
    let faults = truth::parse_faults(&seen.truth)?;
    let verdict = judge::compare(&faults, &truth::parse_incidents(&seen.events)?, run);
    let report = Report {
        machine,
        interval_s: options.interval_s,
        timeout_ms: options.timeout_ms,
        suspected_within_ms: times.suspected_ms(),
        confirmed_within_ms: times.confirmed_ms(),
        gates: gates_of(&verdict, times, &seen),
        verdict,
    };
    conclude(options, &report)
}

async fn start_farm(options: &ScenariosOptions, times: Timetable, folder: &Path) -> Result<Farm> {
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, times.toml())?;
    let plan = FarmPlan {
        program: options.farm.clone(),
        sites: cases::sites(),
        interval_s: options.interval_s,
        https_every: HTTPS_EVERY,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        silent_max: None,
        dns_ttl_s: None,
        cpu: None,
    };
    Farm::start(&plan, &folder.join("farm")).await
}

/// What was there at the end of the run.
struct Seen {
    watching_since_ms: u64,
    truth: String,
    events: String,
    status: Value,
    summary: Value,
    /// Its counters before it ended.
    scrape: Scrape,
}

async fn watch(
    options: &ScenariosOptions,
    times: Timetable,
    folder: &Path,
    farm: &mut Farm,
) -> Result<Seen> {
    let targets = folder.join("targets.csv");
    farm.write_targets(options.interval_s, options.timeout_ms, &targets)
        .await?;
    let list = std::fs::read_to_string(&targets)?;
    std::fs::write(&targets, cases::with_methods(&list))?;
    farm.start_scenario().await?;
    let zero = Stopwatch::start();
    let plan = NodePlan {
        program: options.ringwatch.clone(),
        folder: folder.join("node"),
        targets: Some(targets),
        probe_cpu: None,
        histogram_interval_s: 5,
        store: None,
        flags: ["--allow", MULTICAST6].map(str::to_owned).to_vec(),
    };
    let mut node = Node::start(plan, &farm.ready).await?;
    let watching_since_ms = clock::unix_ms();
    follow(times, zero, farm, &mut node).await?;
    let summary = farm.summary().await?;
    let truth = farm.truth().await?;
    let status = node.plan().status()?;
    let scrape = node.scrape().await?;
    node.stop().await?;
    Ok(Seen {
        watching_since_ms,
        truth,
        events: node.plan().events()?,
        status,
        summary,
        scrape,
    })
}

/// Lets the faults come, have their time and be found, and go again.
async fn follow(times: Timetable, zero: Stopwatch, farm: &mut Farm, node: &mut Node) -> Result<()> {
    let known = CASES.iter().filter(|case| case.expected.is_down());
    let known: u64 = known.filter_map(Case::planned).sum();
    let mut progress = Progress::new(u64::from(times.expected_end_ms()) / 1_000);
    let (mut is_reset, mut ended_ms) = (false, None);
    loop {
        farm.must_run()?;
        node.must_run()?;
        let scrape = node.scrape().await?;
        let now_ms = u32::try_from(zero.elapsed().as_millis()).unwrap_or(u32::MAX);
        let (suspects, down) = (in_state(&scrape, "seems_down"), in_state(&scrape, "down"));
        let stage = if ended_ms.is_some() {
            "recovery"
        } else {
            "faults  "
        };
        progress.show(u64::from(now_ms / 1_000), stage, &scrape);
        if !is_reset && now_ms >= times.warm_up_ms() {
            is_reset = true;
            farm.reset_observer().await?;
        }
        match ended_ms {
            None => {
                let over_ms = times.faults_over_ms();
                let are_found = down >= known && suspects == 0 && now_ms >= over_ms;
                if are_found || now_ms >= over_ms + PATIENCE_MS {
                    farm.end_scenario().await?;
                    ended_ms = Some(now_ms);
                }
            }
            // A cadence more: notes end as well, and no number tells of them.
            Some(since_ms) => {
                let least_ms = since_ms + times.cadence_ms() + 3_000;
                let is_well = suspects + down == 0 && now_ms >= least_ms;
                if is_well || now_ms >= since_ms + times.cadence_ms() + PATIENCE_MS {
                    return Ok(());
                }
            }
        }
        sleep(POLL).await;
    }
}

fn gates_of(verdict: &Verdict, times: Timetable, seen: &Seen) -> Vec<Gate> {
    let (status, summary) = (&seen.status, &seen.summary);
    let (suspected_ms, confirmed_ms) = (times.suspected_ms(), times.confirmed_ms());
    vec![
        Gate {
            name: "every fault said as it is, and nothing else",
            failures: verdict.complaints(),
        },
        Gate {
            name: "every fault said in time",
            failures: judge::late(&verdict.rows, suspected_ms, confirmed_ms),
        },
        Gate {
            name: "what is neither up nor down was met",
            failures: unmet(&seen.scrape),
        },
        gates::observer(summary, "never_seen", 0.0..=0.0),
        gates::observer(summary, "farm.evicted", 0.0..=0.0),
        gates::accounts(status),
        gates::nothing_shed(status),
    ]
}

/// Cases of which no incident can tell, and whose class was counted for fewer checks than they have
/// sites.
fn unmet(scrape: &Scrape) -> Vec<String> {
    let not_known = CASES.iter().filter_map(|case| match case.expected {
        Expected::Unknown(class) => Some((case, class)),
        _ => None,
    });
    let unmet = not_known.filter_map(|(case, class)| {
        let counted = scrape.sum("ringwatch_failures_total", &[("class", class)]);
        let (counted, sites) = (counted.unwrap_or(0.0) as u64, case.planned().unwrap_or(1));
        (counted < sites).then(|| {
            let name = case.name;
            format!("{name}: {class} was counted {counted} times, there are {sites} sites")
        })
    });
    unmet.collect()
}

fn conclude(options: &ScenariosOptions, report: &Report) -> Result<()> {
    let text = page::markdown(report);
    println!("\n{text}");
    if let Some(file) = &options.markdown {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(report)? + "\n";
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed: Vec<&str> = report
        .gates
        .iter()
        .filter(|gate| !gate.holds())
        .map(|gate| gate.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed gates: {}", failed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_opens_no_incident_is_known_by_its_count() {
        let scrape = |counted| {
            Scrape::parse(&format!(
                "ringwatch_failures_total{{core=\"0\",class=\"safety.blocked\"}} {counted}\n"
            ))
        };
        assert_eq!(unmet(&scrape(9)), Vec::<String>::new());
        let failures = unmet(&scrape(8));
        assert!(failures[0].contains("redirect_private"), "{failures:?}");
        assert_eq!(unmet(&Scrape::default()).len(), 1);
    }
}
