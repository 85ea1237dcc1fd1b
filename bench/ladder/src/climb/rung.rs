//! One run of one rung, from an empty folder to a verdict: farm, store and node as programs of
//! their own, watched from outside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use model::schedule::cadence_ms;
use serde_json::Value;
use tokio::time::sleep;

use super::ceiling::{self, Generator};
use super::finding::{Ended, Window};
use super::limits::{IN_FLIGHT_MAX, Means};
use super::plan::{Form, Rung, Scheme, StoreKind, TIMEOUT_MS};
use super::pressing::{self, Press};
use super::reading::{self, Counters, Pids, Polls, Reading};
use super::record::{Ceiling, Cpus, Run, Verdict};
use super::{faults, finding};
use crate::baseline::engine::CORE_THREAD;
use crate::clock::{self, Stopwatch};
use crate::demo::{Progress, in_state, open_events};
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::mariadb::MariaDb;
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::taken::{TakenLog, Watched};

const POLL: Duration = Duration::from_millis(500);
/// From the generator's end to the measured window, at least and at most: what it left behind is
/// gone.
const SETTLE: Duration = Duration::from_secs(3);
const SETTLE_LIMIT: Duration = Duration::from_mins(1);
/// Length of a histogram interval, in s: how far the lag reaches out of its window.
const HISTOGRAM_S: u64 = 5;
/// The same where the second in which all is well again is looked for.
const HISTOGRAM_PRESSED_S: u64 = 1;
/// A start may take so long, and so many targets come in a second of it at least.
const START_LIMIT: Duration = Duration::from_mins(3);
const TARGETS_PER_S: u32 = 4_000;
/// What a warm-up may take beyond its cadence.
const WARM_UP_MORE: Duration = Duration::from_mins(1);
const DATABASE: &str = "ladder";

/// Where a run is made, and with what.
pub(super) struct Place<'a> {
    pub(super) farm: &'a Path,
    pub(super) ringwatch: &'a Path,
    pub(super) cpus: Cpus,
    pub(super) form: Form,
    /// Of this run alone.
    pub(super) folder: PathBuf,
}

/// All that runs. Where a run breaks off the node ends first, as it is declared first: it drains
/// while sites and store still answer.
pub(super) struct Stand {
    pub(super) node: Node,
    pub(super) farm: Farm,
    server: Option<MariaDb>,
    targets: PathBuf,
    progress: Progress,
    since: Stopwatch,
    /// Sites that are broken until the node has confirmed all of them; 0: none is.
    broken: u64,
}

/// Makes the run.
///
/// # Errors
/// When a child fails, or does not say what it is asked for.
pub(super) async fn run(place: &Place<'_>, rung: &Rung) -> Result<Run> {
    std::fs::create_dir_all(&place.folder)?;
    let (began_unix_ms, watch) = (clock::unix_ms(), Stopwatch::start());
    let ended = |verdict, reasons, ceiling| Run {
        rung: *rung,
        began_unix_ms,
        took_s: watch.seconds(),
        verdict,
        reasons,
        gates: Vec::new(),
        ceiling,
        measured: None,
        pressed: None,
    };
    let short = Means::here(&place.folder)?.shortages(&Means::of(rung));
    if !short.is_empty() {
        return Ok(ended(Verdict::NotBegun, short, None));
    }
    let mut stand = Stand::set_up(place, rung).await?;
    reading::must_tell_all(&stand.look("start   ").await?)?;
    stand.warm_up(rung).await?;
    let ceiling = stand.ceiling(place, rung).await?;
    if let Some((verdict, why)) = ceiling.obstacle(place.form) {
        stand.node.stop().await?;
        stand.take_down().await?;
        return Ok(ended(verdict, vec![why], Some(ceiling)));
    }
    let window = stand.measure(place, rung).await?;
    let press = stand.press(place, rung, &window).await?;
    stand.end_faults(rung, &window).await?;
    let status = stand.node.plan().status()?;
    stand.node.stop().await?;
    let truth = stand.farm.truth().await?;
    let ended_well = Ended {
        node: stand.node.plan(),
        status,
        truth,
        press,
    };
    let found = finding::find(place.form, rung, &window, &ended_well)?;
    stand.take_down().await?;
    let run = ended(found.verdict, found.reasons, Some(ceiling));
    Ok(Run {
        gates: found.gates,
        measured: Some(found.measured),
        pressed: found.pressed,
        ..run
    })
}

impl Stand {
    async fn set_up(place: &Place<'_>, rung: &Rung) -> Result<Self> {
        let folder = &place.folder;
        let farm = start_farm(place, rung).await?;
        let targets = folder.join("targets.csv");
        farm.write_targets(rung.interval_s, TIMEOUT_MS, &targets)
            .await?;
        let server = match rung.store {
            StoreKind::Sqlite => None,
            StoreKind::Mysql => {
                let folder = folder.join("mariadb");
                let server = MariaDb::start(&folder, Some(place.cpus.farm)).await?;
                server.create(DATABASE)?;
                Some(server)
            }
        };
        let plan = node_plan(place, rung, &targets, server.as_ref());
        if server.is_some() {
            plan.migrate()?;
        }
        let limit = START_LIMIT + Duration::from_secs((rung.sites / TARGETS_PER_S).into());
        let node = Node::start_within(plan, &farm.ready, limit).await?;
        let cadence_s = u64::from(cadence_ms(rung.interval_s)) / 1_000;
        let total_s = cadence_s + u64::from(rung.window_s(place.form)) + ceiling_s(place.form);
        Ok(Self {
            farm,
            node,
            server,
            targets,
            progress: Progress::new(total_s),
            since: Stopwatch::start(),
            broken: 0,
        })
    }

    fn pids(&self) -> Pids {
        Pids {
            node: self.node.pid(),
            farm: self.farm.pid(),
            store: self.server.as_ref().map(MariaDb::pid),
        }
    }

    /// The node's metrics; both must run.
    pub(super) async fn look(&mut self, stage: &str) -> Result<Scrape> {
        self.farm.must_run()?;
        self.node.must_run()?;
        let scrape = self.node.scrape().await?;
        self.progress
            .show(self.since.elapsed().as_secs(), stage, &scrape);
        Ok(scrape)
    }

    /// Resident memory of the node.
    pub(super) fn rss_bytes(&self) -> Result<u64> {
        procfs::rss_bytes(self.node.pid())
    }

    /// Every site is checked once, and a cadence is over: names are resolved, sessions are there. A
    /// node that has not come so far in a minute more is measured as it is.
    async fn warm_up(&mut self, rung: &Rung) -> Result<()> {
        let cadence = Duration::from_millis(cadence_ms(rung.interval_s).into());
        let mut probed = 0;
        while self.since.elapsed() < cadence
            || (probed < rung.sites.into() && self.since.elapsed() < cadence + WARM_UP_MORE)
        {
            probed = Counters::of(&self.look("warm-up ").await?).probed;
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn ceiling(&mut self, place: &Place<'_>, rung: &Rung) -> Result<Ceiling> {
        let generator = Generator {
            farm: &self.farm,
            is_https: rung.scheme.https_every() == 1,
            cpu: place.cpus.generator,
            folder: &place.folder,
            targets: &self.targets,
        };
        let seconds = ceiling_s(place.form);
        let of = (&self.farm, self.pids());
        let ceiling = ceiling::measure(of, &generator, rung.rate(), seconds).await?;
        self.settle().await?;
        Ok(ceiling)
    }

    /// What the generator did to the node is over: its cores admit what is configured, and it
    /// believes what it sees. One that does not come so far is measured as it is.
    async fn settle(&mut self) -> Result<()> {
        sleep(SETTLE).await;
        let since = Stopwatch::start();
        while !is_calm(&self.node.plan().status()?) && since.elapsed() < SETTLE_LIMIT {
            self.look("settle  ").await?;
            sleep(SETTLE).await;
        }
        Ok(())
    }

    /// The measured window: exactly so many intervals, from the reset of the observer.
    async fn measure(&mut self, place: &Place<'_>, rung: &Rung) -> Result<Window> {
        let window_s = rung.window_s(place.form);
        let status = self.node.plan().status()?;
        let core = probe_core(place, &self.node)?;
        self.farm.reset_observer().await?;
        let watch = Stopwatch::start();
        self.broken = faults::sites_down(rung);
        if self.broken > 0 {
            self.farm.start_scenario().await?;
        }
        let counted = Counters::read(&self.node).await?;
        let before = Reading::of_processes(self.pids())?;
        let end = Duration::from_secs(window_s.into());
        let (taken, polls) = tokio::join!(
            TakenLog::watch(core, window_s.into()),
            self.watch("measured", watch, end)
        );
        let (polls, summary) = polls?;
        let after = Reading::of_processes(self.pids())?;
        let counted = counted.until(&Counters::read(&self.node).await?);
        // Its readings begin and end a little beside the window.
        let span_ms = u64::from(window_s) * 1_000 - 500;
        let span = (before.unix_ms + 1_000, before.unix_ms + span_ms);
        Ok(Window {
            watch,
            status,
            summary,
            counted,
            polls,
            taken_ms: taken.ok().and_then(|log| log.taken_ms(span.0, span.1)),
            store_rss_bytes: self
                .server
                .as_ref()
                .and_then(|s| procfs::rss_bytes(s.pid()).ok()),
            before,
            after,
        })
    }

    /// Polls until `watch` says `end`, and asks the observer then.
    async fn watch(
        &mut self,
        stage: &str,
        watch: Stopwatch,
        end: Duration,
    ) -> Result<(Polls, Value)> {
        let mut polls = Polls::default();
        while watch.elapsed() < end {
            let scrape = self.look(stage).await?;
            self.end_found(&scrape).await?;
            polls.add(watch.elapsed_ms(), &scrape, self.rss_bytes()?);
            sleep(POLL.min(end.saturating_sub(watch.elapsed()))).await;
        }
        Ok((polls, self.farm.summary().await?))
    }

    async fn press(
        &mut self,
        place: &Place<'_>,
        rung: &Rung,
        window: &Window,
    ) -> Result<Option<Press>> {
        let Some(factor) = rung.overload else {
            return Ok(None);
        };
        let needed = window.before.core_busy(&window.after);
        let pressure = pressing::Pressure {
            factor: factor.into(),
            needed,
            cpu: place.cpus.probe,
            tid: probe_core(place, &self.node)?.tid,
            pids: self.pids(),
            folder: &place.folder,
        };
        pressing::press(self, &pressure).await.map(Some)
    }

    /// Ends the faults once the node has confirmed all of them.
    async fn end_found(&mut self, scrape: &Scrape) -> Result<()> {
        if self.broken > 0 && in_state(scrape, "down") >= self.broken {
            self.farm.end_scenario().await?;
            self.broken = 0;
        }
        Ok(())
    }

    /// Faults that the node has not confirmed yet are given their time; then it must see that all
    /// are over.
    async fn end_faults(&mut self, rung: &Rung, window: &Window) -> Result<()> {
        let limit = Duration::from_millis(faults::given_up_ms(rung).into());
        while self.broken > 0 {
            let scrape = self.look("faults  ").await?;
            self.end_found(&scrape).await?;
            if self.broken > 0 && window.watch.elapsed() > limit {
                self.farm.end_scenario().await?;
                self.broken = 0;
            }
            sleep(POLL).await;
        }
        let since = Stopwatch::start();
        let limit = Duration::from_millis(faults::not_recovered_ms(rung).into());
        while open_events(&self.look("recovery").await?) > 0 && since.elapsed() < limit {
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn take_down(mut self) -> Result<()> {
        self.farm.stop().await?;
        if let Some(server) = &mut self.server {
            server.stop().await?;
        }
        Ok(())
    }
}

/// Whether a node has its whole cap of checks in flight, and doubts nothing.
fn is_calm(status: &Value) -> bool {
    let cores = status["cores"].as_array().map_or(&[][..], Vec::as_slice);
    let limits = cores.iter().filter_map(|c| c["in_flight_limit"].as_u64());
    status["max_in_flight"].as_u64() == Some(limits.sum())
        && status["pressure"]["stance"] == "clear"
}

/// Seconds of the load generator.
fn ceiling_s(form: Form) -> u64 {
    match form {
        Form::Full => 15,
        Form::Quick | Form::Mini => 3,
    }
}

async fn start_farm(place: &Place<'_>, rung: &Rung) -> Result<Farm> {
    let scenario = place.folder.join("scenario.toml");
    std::fs::write(&scenario, faults::toml(rung))?;
    let plan = FarmPlan {
        program: place.farm.to_owned(),
        sites: rung.sites,
        interval_s: rung.interval_s,
        https_every: rung.scheme.https_every(),
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: rung.scheme.has_tickets(),
        scenario: Some(scenario),
        silent_max: None,
        dns_ttl_s: Some(rung.dns_ttl_s),
        cpu: Some(place.cpus.farm),
    };
    Farm::start(&plan, &place.folder.join("farm")).await
}

fn node_plan(place: &Place<'_>, rung: &Rung, targets: &Path, server: Option<&MariaDb>) -> NodePlan {
    let mut flags = vec!["--max-in-flight".to_owned(), IN_FLIGHT_MAX.to_string()];
    let more: &[&str] = match rung.scheme {
        Scheme::Http => &[],
        // The farm shows one chain for all sites: remembered it would be verified once.
        Scheme::HttpsFull | Scheme::Mixed => &["--tls-chains-max", "0"],
        Scheme::HttpsResumed => &["--tls-full-every-s", "86400"],
    };
    flags.extend(more.iter().map(ToString::to_string));
    let histogram_interval_s = if rung.overload.is_some() {
        HISTOGRAM_PRESSED_S
    } else {
        HISTOGRAM_S
    };
    NodePlan {
        program: place.ringwatch.to_owned(),
        folder: place.folder.join("node"),
        targets: Some(targets.to_owned()),
        probe_cpu: Some(place.cpus.probe),
        histogram_interval_s,
        store: server.map(|server| MariaDb::url(DATABASE, server.port())),
        flags,
    }
}

fn probe_core(place: &Place<'_>, node: &Node) -> Result<Watched> {
    let pid = node.pid();
    let threads = procfs::threads(pid)?;
    let core = threads.iter().find(|thread| thread.name == CORE_THREAD);
    Ok(Watched {
        cpu: place.cpus.probe,
        pid,
        tid: core.context("the node has no probe core")?.tid,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_calm_with_its_whole_cap_and_without_doubts() {
        let status = |limits: [u64; 2], stance: &str| {
            json!({
                "max_in_flight": 8_192, "pressure": { "stance": stance },
                "cores": [{ "in_flight_limit": limits[0] }, { "in_flight_limit": limits[1] }],
            })
        };
        assert!(is_calm(&status([4_096, 4_096], "clear")));
        assert!(!is_calm(&status([4_096, 4_095], "clear")));
        assert!(!is_calm(&status([4_096, 4_096], "doubting")));
        assert!(!is_calm(&json!({})));
    }
}
