//! `ladder outage`: a fleet of which a part fails all the time, and a store that is away for
//! minutes: frozen for the first half, killed for the second, started again. Nothing may be lost,
//! doubled or out of order, and probing goes on. Real processes and a real server; what happened to
//! the sites is the farm's word, what is stored the server's.

mod stored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::limits::{APPLY_FACTS_MAX, APPLY_LOADED_MAX, BATCH_MAX};
use serde::Serialize;
use tokio::time::sleep;

use crate::baseline::engine;
use crate::clock::{self, Stopwatch};
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::findings::{self, Findings};
use crate::machine::Machine;
use crate::mariadb::MariaDb;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};
use crate::truth;
use crate::waves::{FAILING_S, INTERVAL_S, TIMEOUT_MS, Waves};
use stored::Stored;

/// Failing sites before the store goes, so that incidents are in every state.
const LEAD_S: u32 = 15;
/// And new ones after it is back.
const TAIL_S: u32 = 10;
const FAILING_PERCENT: u32 = 5;
const SETTLED_LIMIT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(250);

/// Facts that the node keeps in memory for the store: what is read ahead, and what is offered.
const FACTS_LOADED_MAX: u64 = (APPLY_LOADED_MAX * BATCH_MAX + APPLY_FACTS_MAX) as u64;
const _: () = assert!(APPLY_FACTS_MAX <= APPLY_LOADED_MAX * BATCH_MAX);
/// What the node may take more than with a store and failing sites, of 1 KiB each: those facts,
/// those that are offered once more (as rows of statements), and the state of each incident.
/// Everything else that grows with an outage is on the disk.
fn growth_max_bytes(incidents: usize) -> u64 {
    (FACTS_LOADED_MAX + (APPLY_FACTS_MAX + incidents) as u64) * 1_024
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutageOptions {
    /// The built `farm`.
    #[arg(long)]
    farm: PathBuf,
    /// The built `ringwatch`.
    #[arg(long)]
    ringwatch: PathBuf,
    /// Folder for logs and stores; each run makes a new one in it.
    #[arg(long, default_value = "target/outage")]
    out: PathBuf,
    /// Seconds without the store.
    #[arg(long, default_value_t = 20)]
    away_s: u32,
    /// Checks a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Budget of the journal, in MiB; a file of it has an eighth.
    #[arg(long, default_value_t = 64)]
    journal_max_mib: u32,
    /// Files that the journal must have taken: a short run fills no second one.
    #[arg(long, default_value_t = 1)]
    journal_files_min: u64,
    /// Where the page is written; nowhere by default.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// What the node and its disk did meanwhile.
#[derive(Clone, Debug, Default, Serialize)]
struct Seen {
    checks_before: u64,
    checks_away: u64,
    before_s: f64,
    away_s: f64,
    journal_bytes_max: u64,
    journal_budget_bytes: u64,
    journal_segments_max: u64,
    records_waited_max: u64,
    facts_loaded_max: u64,
    freshness_pending_max: u64,
    rss_before_bytes: u64,
    rss_max_bytes: u64,
    /// Rows of transitions that the store took once it was back, until nothing waited.
    replayed: u64,
    replayed_records: u64,
    replay_s: f64,
    freshness_rows: u64,
}

/// What is wrong, a sentence each; none: it holds.
type Complaints = Vec<String>;

/// Runs it and judges.
///
/// # Errors
/// When a child fails, or something was lost, doubled, out of order or out of bounds.
pub(crate) async fn run(options: &OutageOptions) -> Result<()> {
    let machine = Machine::read();
    let folder = options
        .out
        .join(format!("run-{}", clock::unix_ms() / 1_000));
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let waves = Waves {
        rate: options.rate,
        failing_percent: FAILING_PERCENT,
        from_s: 0,
        until_s: LEAD_S + options.away_s + TAIL_S,
    };
    let scenario = folder.join("waves.toml");
    std::fs::write(&scenario, waves.toml())?;
    let mut farm = start_farm(options, &folder, waves.sites(), scenario).await?;
    let mut server = MariaDb::start(&folder.join("mariadb"), None).await?;
    server.create("outage")?;
    let mut node = start_node(options, &folder, &farm, &server).await?;
    engine::warm_up(&mut node, waves.sites()).await?;
    let watching_since_ms = clock::unix_ms();
    let seen = follow(options, &mut farm, &mut server, &mut node).await?;
    let status = node.plan().status()?;
    node.stop().await?;
    let truth = truth::parse_faults(&farm.truth().await?)?;
    let incidents = truth::parse_incidents(&node.plan().events()?)?;
    let found = findings::compare(&truth, &incidents, TIMEOUT_MS.into(), watching_since_ms);
    let stored = Stored::read(&server, "outage")?;
    farm.stop().await?;
    server.stop().await?;
    let mut complaints = stored.complaints();
    complaints.extend(complaints_of(&found, &seen, options.journal_files_min));
    if status["balanced"] != true {
        complaints.push("the accounts of the node do not balance".to_owned());
    }
    let page = page(options, &machine, &seen, &stored, truth.len(), &complaints);
    println!("{page}");
    if let Some(file) = &options.markdown {
        std::fs::write(file, &page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    Ok(())
}

async fn start_farm(
    options: &OutageOptions,
    folder: &Path,
    sites: u32,
    scenario: PathBuf,
) -> Result<Farm> {
    let plan = FarmPlan {
        program: options.farm.clone(),
        sites,
        interval_s: INTERVAL_S,
        https_every: 0,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        silent_max: None,
        dns_ttl_s: None,
        cpu: None,
    };
    Farm::start(&plan, &folder.join("farm")).await
}

async fn start_node(
    options: &OutageOptions,
    folder: &Path,
    farm: &Farm,
    server: &MariaDb,
) -> Result<Node> {
    let targets = folder.join("targets.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
    let flags = [
        "--projection-interval-s",
        "300",
        "--journal-max-mib",
        &options.journal_max_mib.to_string(),
    ];
    let plan = NodePlan {
        program: options.ringwatch.clone(),
        folder: folder.join("node"),
        targets: Some(targets),
        probe_cpu: None,
        histogram_interval_s: 5,
        store: Some(MariaDb::url("outage", server.port())),
        flags: flags.map(str::to_owned).to_vec(),
    };
    plan.migrate()?;
    Node::start(plan, &farm.ready).await
}

/// Takes the store away, brings it back, and watches until everything has settled.
async fn follow(
    options: &OutageOptions,
    farm: &mut Farm,
    server: &mut MariaDb,
    node: &mut Node,
) -> Result<Seen> {
    let mut seen = Seen::default();
    farm.start_scenario().await?;
    let rows_before = Look::take(node).await?.freshness_rows;
    (seen.checks_before, seen.before_s) = watch(node, LEAD_S, &mut seen.clone()).await?;
    seen.rss_before_bytes = procfs::rss_bytes(node.pid())?;
    println!(
        "ladder: the store is frozen, then killed, for {} s",
        options.away_s
    );
    let half_s = options.away_s / 2;
    server.freeze()?;
    let (frozen, frozen_s) = watch(node, half_s, &mut seen).await?;
    server.kill()?;
    let (killed, killed_s) = watch(node, options.away_s - half_s, &mut seen).await?;
    (seen.checks_away, seen.away_s) = (frozen + killed, frozen_s + killed_s);
    let away = Look::take(node).await?;
    let back = Stopwatch::start();
    server.start_again().await?;
    let caught_up = settle(node, &mut seen, |look| look.apply_lag <= 2).await?;
    seen.replay_s = back.seconds();
    seen.replayed = caught_up.transition_rows - away.transition_rows;
    seen.replayed_records = caught_up.applied - away.applied;
    watch(node, TAIL_S + FAILING_S, &mut seen).await?;
    settle(node, &mut seen, |look| {
        look.open == 0 && look.apply_lag == 0
    })
    .await?;
    farm.must_run()?;
    seen.freshness_rows = Look::take(node).await?.freshness_rows - rows_before;
    Ok(seen)
}

/// Watches for some seconds; checks that were made, and how long it was.
async fn watch(node: &mut Node, seconds: u32, seen: &mut Seen) -> Result<(u64, f64)> {
    let (watch, before) = (Stopwatch::start(), node.probed().await?);
    while watch.elapsed() < Duration::from_secs(seconds.into()) {
        sleep(POLL).await;
        seen.add(&Look::take(node).await?, procfs::rss_bytes(node.pid())?);
    }
    node.must_run()?;
    Ok((node.probed().await? - before, watch.seconds()))
}

async fn settle(node: &mut Node, seen: &mut Seen, settled: impl Fn(&Look) -> bool) -> Result<Look> {
    let watch = Stopwatch::start();
    loop {
        let look = Look::take(node).await?;
        seen.add(&look, procfs::rss_bytes(node.pid())?);
        if settled(&look) {
            return Ok(look);
        }
        if watch.elapsed() > SETTLED_LIMIT {
            bail!("the node did not settle within {SETTLED_LIMIT:?}: {look:?}");
        }
        node.must_run()?;
        sleep(POLL).await;
    }
}

/// Gauges and counters of the node at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    journal_bytes: u64,
    journal_max_bytes: u64,
    journal_segments: u64,
    apply_lag: u64,
    facts_loaded: u64,
    freshness_pending: u64,
    transition_rows: u64,
    applied: u64,
    freshness_rows: u64,
    open: u64,
}

impl Look {
    async fn take(node: &Node) -> Result<Self> {
        let scrape = node.scrape().await?;
        let of = |name: &str, labels: &[(&str, &str)]| {
            let sum = scrape.sum(&format!("ringwatch_{name}"), labels);
            sum.map(|value| value as u64)
                .with_context(|| format!("the node has no metric {name}"))
        };
        let open = crate::demo::open_events(&scrape);
        Ok(Self {
            journal_bytes: of("journal_bytes", &[])?,
            journal_max_bytes: of("journal_max_bytes", &[])?,
            journal_segments: of("journal_segments", &[])?,
            apply_lag: of("apply_lag", &[])?,
            facts_loaded: of("facts_loaded", &[])?,
            freshness_pending: of("projection_pending", &[])?,
            transition_rows: of("store_rows_total", &[("table", "event_transitions")])?,
            applied: of("journal_records_total", &[("dir", "applied")])?,
            freshness_rows: of("store_rows_total", &[("table", "freshness")])?,
            open,
        })
    }
}

impl Seen {
    fn add(&mut self, look: &Look, rss_bytes: u64) {
        let most = |kept: &mut u64, now: u64| *kept = (*kept).max(now);
        most(&mut self.journal_bytes_max, look.journal_bytes);
        most(&mut self.journal_budget_bytes, look.journal_max_bytes);
        most(&mut self.journal_segments_max, look.journal_segments);
        most(&mut self.records_waited_max, look.apply_lag);
        most(&mut self.facts_loaded_max, look.facts_loaded);
        most(&mut self.freshness_pending_max, look.freshness_pending);
        most(&mut self.rss_max_bytes, rss_bytes);
    }
}

impl Seen {
    /// What the page tells.
    fn rows(&self) -> [(&'static str, String); 17] {
        let rate = |count: u64, seconds: f64| format!("{:.0}", count as f64 / seconds.max(0.001));
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let most = |count: u64| grouped(count);
        [
            ("seconds without the store", format!("{:.0}", self.away_s)),
            ("checks/s before", rate(self.checks_before, self.before_s)),
            (
                "checks/s without the store",
                rate(self.checks_away, self.away_s),
            ),
            ("journal, MB, at most", mb(self.journal_bytes_max)),
            ("its budget, MB", mb(self.journal_budget_bytes)),
            ("its files, at most", most(self.journal_segments_max)),
            (
                "records that waited, at most",
                most(self.records_waited_max),
            ),
            (
                "facts in memory for the store, at most",
                most(self.facts_loaded_max),
            ),
            (
                "rows of freshness that waited, at most",
                most(self.freshness_pending_max),
            ),
            (
                "rows of freshness written in all",
                most(self.freshness_rows),
            ),
            (
                "memory with a store and failing sites, MB",
                mb(self.rss_before_bytes),
            ),
            ("memory, MB, at most", mb(self.rss_max_bytes)),
            (
                "s from the server's start until nothing waited",
                format!("{:.1}", self.replay_s),
            ),
            ("transitions taken in that time", most(self.replayed)),
            (
                "journal records taken in that time",
                most(self.replayed_records),
            ),
            ("transitions/s", rate(self.replayed, self.replay_s)),
            (
                "journal records/s",
                rate(self.replayed_records, self.replay_s),
            ),
        ]
    }
}

/// What the farm's truth and the node's gauges hold against the run.
fn complaints_of(found: &Findings, seen: &Seen, files_min: u64) -> Complaints {
    let mut complaints = found.shortfalls();
    complaints.extend(found.false_downs.iter().take(5).cloned());
    let mut must = |holds: bool, sentence: String| {
        if !holds {
            complaints.push(sentence);
        }
    };
    must(
        seen.records_waited_max > 0,
        "the store was not away: nothing waited for it".to_owned(),
    );
    must(
        seen.journal_bytes_max <= seen.journal_budget_bytes,
        format!("the journal took {} bytes", seen.journal_bytes_max),
    );
    must(
        seen.journal_segments_max >= files_min,
        format!("the journal took {} files", seen.journal_segments_max),
    );
    must(
        seen.facts_loaded_max <= FACTS_LOADED_MAX,
        format!(
            "{} facts were in memory for the store",
            seen.facts_loaded_max
        ),
    );
    let failures: usize = found.kinds.iter().map(|row| row.sites).sum();
    let growth = seen.rss_max_bytes.saturating_sub(seen.rss_before_bytes);
    must(
        growth <= growth_max_bytes(failures),
        format!("the node took {growth} bytes more than before"),
    );
    let (before, away) = (
        seen.checks_before as f64 / seen.before_s.max(1.0),
        seen.checks_away as f64 / seen.away_s.max(1.0),
    );
    must(
        away >= 0.9 * before,
        format!("{away:.0} checks/s without the store, {before:.0} before"),
    );
    complaints
}

fn page(
    options: &OutageOptions,
    machine: &Machine,
    seen: &Seen,
    stored: &Stored,
    faults: usize,
    complaints: &[String],
) -> String {
    let mut table = Table::new(&["what", "seen"]);
    let wrong = complaints.len() as u64;
    let told = [
        (
            "failures of sites, all to be found, confirmed and ended",
            faults as u64,
        ),
        ("events stored", stored.events),
        ("transitions stored", stored.transitions),
        ("jobs owed by them", stored.jobs),
        ("lost, doubled, out of order or out of bounds", wrong),
    ];
    for (what, count) in told {
        table.row([what.to_owned(), grouped(count)]);
    }
    for (what, value) in seen.rows() {
        table.row([what.to_owned(), value]);
    }
    let mut text = format!(
        "# The store away\n\n`cargo xtask outage --away-s {} --rate {}`\n\n{}\n\n\
         {FAILING_PERCENT} % of the sites fail at every moment. The server (MariaDB) is stopped by \
         SIGSTOP for the first half of its absence, killed for the second, and started again; the \
         time until nothing waits has its start in it.\n\n{}",
        options.away_s,
        options.rate,
        machine.line(),
        table.markdown()
    );
    text.extend(
        complaints
            .iter()
            .map(|complaint| format!("\n- {complaint}")),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            checks_before: 100,
            before_s: 10.0,
            checks_away: 180,
            away_s: 20.0,
            records_waited_max: 5,
            journal_bytes_max: 10,
            journal_budget_bytes: 10,
            journal_segments_max: 2,
            facts_loaded_max: FACTS_LOADED_MAX,
            rss_before_bytes: 50_000_000,
            rss_max_bytes: 50_000_000 + growth_max_bytes(0),
            ..Seen::default()
        }
    }

    type Change = fn(&mut Seen);

    #[test]
    fn what_is_out_of_bounds_is_said() {
        let complaints = |seen: Seen| complaints_of(&Findings::default(), &seen, 2);
        assert_eq!(complaints(good()), Vec::<String>::new());
        let cases: [(Change, &str); 6] = [
            (|seen| seen.records_waited_max = 0, "was not away"),
            (|seen| seen.journal_bytes_max = 11, "the journal took 11"),
            (|seen| seen.journal_segments_max = 1, "1 files"),
            (|seen| seen.facts_loaded_max += 1, "64001 facts"),
            (|seen| seen.rss_max_bytes += 1, "bytes more than before"),
            (|seen| seen.checks_away = 170, "without the store"),
        ];
        for (change, words) in cases {
            let mut seen = good();
            change(&mut seen);
            let said = complaints(seen);
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
        }
    }
}
