//! Whether probes notice that the store stalls, is restarted, or is slow: the schedule lag of
//! windows in trouble against that of calm windows before them, of one node that runs through all.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::{Found, Place, targets_of};
use crate::bar::Bar;
use crate::baseline::engine::CORE_THREAD;
use crate::baseline::{engine, median};
use crate::clock::{self, Stopwatch};
use crate::delay::DelayProxy;
use crate::interval_log;
use crate::mariadb::MariaDb;
use crate::memory::lag::{Lag, Quantiles};
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::Table;
use crate::taken::{TakenLog, Watched};
use crate::waves::{INTERVAL_S, Waves};

const FAILING_PERCENT: u32 = 5;
const SLOW_MS: u64 = 200;
const RATIO_MAX: f64 = 1.1;
/// Seconds of a window that the machine must leave alone for its calm seconds to be compared.
const CALM_MIN_S: f64 = 5.0;
/// A lag is known for an interval more on either side.
const EDGE: Duration = Duration::from_secs(2);
/// What a store that is back needs to take what waited.
const CAUGHT_UP_LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(200);
/// Records that wait for a store in trouble, at least, of those that wait for a calm one.
const WAITING_TIMES_MIN: u64 = 5;
const NOTE: &str = "p99 of the schedule lag of a window in which the store is in trouble, against \
    the calm window right before it, of one node that runs through all of them; 5 % of the sites \
    fail at every moment, so that the store always has something to take. *Stalled*: the server's \
    process is stopped (SIGSTOP). *Restarted*: it is killed, and is there again after half of the \
    window. *Slow*: each of its answers comes 200 ms later; a trouble for which no more records \
    wait than for a calm store shows nothing. In the window *right after* it the store takes what \
    waited, which is told and has no bar; before the next calm window it has taken everything. \
    Seconds in which others had the probe CPU are left out where five calm ones remain in all \
    three windows. Bars are held against the median of the rounds.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Trouble {
    Stalled,
    Restarted,
    Slow,
}

const TROUBLES: [Trouble; 3] = [Trouble::Stalled, Trouble::Restarted, Trouble::Slow];

impl Trouble {
    fn words(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Restarted => "restarted",
            Self::Slow => "200 ms slow",
        }
    }
}

/// What a window was and when.
struct Window {
    unix_ms: RangeInclusive<u64>,
    taken: TakenLog,
    /// Records of the journal that waited for the store before the trouble ended.
    apply_lag: u64,
}

/// A window in trouble, the calm one before it, and the one in which the store takes what waited.
struct Round {
    trouble: Trouble,
    calm: Window,
    troubled: Window,
    after: Window,
}

#[derive(Clone, Debug, Serialize)]
struct Ratio {
    trouble: Trouble,
    calm: Quantiles,
    troubled: Quantiles,
    after: Quantiles,
    /// Only seconds that the machine left alone.
    calm_seconds: bool,
    /// Records that waited at the end of the window in trouble, and of the calm one.
    apply_lag: u64,
    calm_apply_lag: u64,
}

impl Ratio {
    fn value(&self) -> f64 {
        self.troubled.p99_ms / self.calm.p99_ms.max(0.001)
    }

    /// Why it shows nothing, if it does not.
    fn flaw(&self) -> Option<String> {
        let (calm, troubled) = (self.calm_apply_lag, self.apply_lag);
        (troubled < WAITING_TIMES_MIN * calm.max(1)).then(|| {
            let words = self.trouble.words();
            format!("{words}: {troubled} records waited in trouble and {calm} in calm")
        })
    }
}

/// A fleet with its node, its store, and what is between them.
struct Bed {
    server: MariaDb,
    proxy: DelayProxy,
    node: Node,
    core: Watched,
    window: Duration,
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let server = MariaDb::start(&place.server_folder(), Some(place.server_cpu())).await?;
    server.create("trouble")?;
    let proxy = DelayProxy::start(server.port()).await?;
    let waves = waves(place);
    let scenario = place.folder.join("waves.toml");
    std::fs::write(&scenario, waves.toml())?;
    let mut farm = place
        .farm(waves.sites(), INTERVAL_S, Some(scenario))
        .await?;
    let targets = targets_of(&farm, &place.folder, INTERVAL_S).await?;
    let plan = NodePlan {
        targets: Some(targets),
        ..place.node("node", Some(MariaDb::url("trouble", proxy.port())))
    };
    // Not through the proxy, which has this thread's runtime.
    place
        .node("migrate", Some(MariaDb::url("trouble", server.port())))
        .migrate()?;
    let mut node = Node::start(plan, &farm.ready).await?;
    engine::warm_up(&mut node, waves.sites()).await?;
    farm.start_scenario().await?;
    // Until as many sites fail as in every window.
    sleep(Duration::from_secs(crate::waves::FAILING_S.into())).await;
    let mut bed = Bed {
        core: probe_core(place, &node)?,
        server,
        proxy,
        node,
        window: Duration::from_secs(place.sizes.trouble_window_s),
    };
    let mut rounds = Vec::new();
    for _ in 0..place.sizes.trouble_rounds {
        for trouble in TROUBLES {
            rounds.push(bed.round(trouble).await?);
        }
    }
    // The end of the node writes its last interval too.
    bed.node.stop().await?;
    farm.stop().await?;
    bed.server.stop().await?;
    let logs = bed.node.plan().histogram_dir();
    let ratios: Result<Vec<Ratio>> = rounds.iter().map(|round| ratio(&logs, round)).collect();
    found(place, &ratios?)
}

fn waves(place: &Place<'_>) -> Waves {
    let window_s = place.sizes.trouble_window_s as u32;
    // Twice as long as all windows: a store that catches up takes its time.
    let windows = 3 * place.sizes.trouble_rounds * TROUBLES.len() as u32;
    Waves {
        rate: place.sizes.trouble_rate,
        failing_percent: FAILING_PERCENT,
        from_s: 0,
        until_s: 120 + 2 * windows * (window_s + 10),
    }
}

fn probe_core(place: &Place<'_>, node: &Node) -> Result<Watched> {
    let pid = node.pid();
    let threads = procfs::threads(pid)?;
    let core = threads.iter().find(|thread| thread.name == CORE_THREAD);
    let tid = core.context("the node has no probe core")?.tid;
    let cpu = place.options.bench.probe_cpu;
    Ok(Watched { cpu, pid, tid })
}

impl Bed {
    async fn round(&mut self, trouble: Trouble) -> Result<Round> {
        self.wait_caught_up().await?;
        let calm = self.window(None).await?;
        let troubled = self.window(Some(trouble)).await?;
        let after = self.window(None).await?;
        println!(
            "{}: {} records waited before it ended",
            trouble.words(),
            troubled.apply_lag
        );
        Ok(Round {
            trouble,
            calm,
            troubled,
            after,
        })
    }

    async fn window(&mut self, trouble: Option<Trouble>) -> Result<Window> {
        let seconds = (self.window + 2 * EDGE + EDGE).as_secs();
        let core = self.core;
        let (taken, (unix_ms, apply_lag)) =
            tokio::try_join!(TakenLog::watch(core, seconds), async {
                sleep(EDGE).await;
                let from_ms = clock::unix_ms();
                let apply_lag = self.befall(trouble).await?;
                Ok((from_ms..=clock::unix_ms(), apply_lag))
            })?;
        self.node.must_run()?;
        Ok(Window {
            unix_ms,
            taken,
            apply_lag,
        })
    }

    /// Has the trouble for a window, and ends it; what waited for the store just before.
    async fn befall(&mut self, trouble: Option<Trouble>) -> Result<u64> {
        let watch = Stopwatch::start();
        match trouble {
            None | Some(Trouble::Slow) => {
                self.proxy.delay(trouble.map_or(0, |_| SLOW_MS));
                sleep(self.window).await;
            }
            Some(Trouble::Stalled) => {
                self.server.freeze()?;
                sleep(self.window).await;
            }
            Some(Trouble::Restarted) => {
                self.server.kill()?;
                sleep(self.window / 2).await;
            }
        }
        let apply_lag = self.apply_lag().await?;
        match trouble {
            None => {}
            Some(Trouble::Slow) => self.proxy.delay(0),
            Some(Trouble::Stalled) => self.server.thaw()?,
            Some(Trouble::Restarted) => {
                self.server.start_again().await?;
                sleep(self.window.saturating_sub(watch.elapsed())).await;
            }
        }
        Ok(apply_lag)
    }

    async fn apply_lag(&self) -> Result<u64> {
        let scrape = self.node.scrape().await?;
        Ok(scrape.sum("ringwatch_apply_lag", &[]).unwrap_or(0.0) as u64)
    }

    async fn wait_caught_up(&self) -> Result<()> {
        let watch = Stopwatch::start();
        loop {
            // One batch is always on its way.
            let lag = self.apply_lag().await?;
            if lag <= 2 {
                return Ok(());
            }
            if watch.elapsed() > CAUGHT_UP_LIMIT {
                bail!("{lag} records still wait for the store after {CAUGHT_UP_LIMIT:?}");
            }
            sleep(POLL).await;
        }
    }
}

fn ratio(logs: &std::path::Path, round: &Round) -> Result<Ratio> {
    let lag = |window: &Window| {
        let intervals = interval_log::schedule_lag(logs, &window.unix_ms)?;
        Lag::of(&intervals, &window.taken, &window.unix_ms)
    };
    let (calm, troubled) = (lag(&round.calm)?, lag(&round.troubled)?);
    let after = lag(&round.after)?;
    let mut windows = [&calm, &troubled, &after].into_iter();
    let calm_seconds = windows.all(|lag| lag.calm_s >= CALM_MIN_S);
    let of = |lag: &Lag| if calm_seconds { lag.calm } else { lag.every };
    Ok(Ratio {
        trouble: round.trouble,
        calm: of(&calm),
        troubled: of(&troubled),
        after: of(&after),
        calm_seconds,
        apply_lag: round.troubled.apply_lag,
        calm_apply_lag: round.calm.apply_lag,
    })
}

fn found(place: &Place<'_>, ratios: &[Ratio]) -> Result<Found> {
    let bar = |trouble: Trouble| {
        let of_it = || ratios.iter().filter(|ratio| ratio.trouble == trouble);
        let values: Vec<f64> = of_it().map(Ratio::value).collect();
        let flaw = place.flaw().or_else(|| of_it().find_map(Ratio::flaw));
        let what = format!("schedule lag p99, store {}, against calm", trouble.words());
        Bar::new(what, Some(median(values)), (RATIO_MAX, "times"), flaw)
    };
    let note = format!(
        "\n{} checks a second, {INTERVAL_S} s apart, windows of {} s.\n",
        place.sizes.trouble_rate, place.sizes.trouble_window_s
    );
    Ok(Found {
        title: "Probes while the store is in trouble",
        note: NOTE,
        bars: TROUBLES.map(bar).to_vec(),
        table: table(ratios) + &note,
        numbers: serde_json::to_value(ratios)?,
    })
}

fn table(ratios: &[Ratio]) -> String {
    let mut table = Table::new(&[
        "store",
        "lag p50 / p99 / p99.9 ms, calm before",
        "in trouble",
        "right after",
        "ratio of p99",
        "seconds",
        "records waited, calm / in trouble",
    ]);
    let shown =
        |lag: &Quantiles| format!("{:.2} / {:.2} / {:.2}", lag.p50_ms, lag.p99_ms, lag.p999_ms);
    for ratio in ratios {
        table.row([
            ratio.trouble.words().to_owned(),
            shown(&ratio.calm),
            shown(&ratio.troubled),
            shown(&ratio.after),
            format!("{:.2}", ratio.value()),
            if ratio.calm_seconds { "calm" } else { "every" }.to_owned(),
            format!("{} / {}", ratio.calm_apply_lag, ratio.apply_lag),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_for_which_no_more_records_wait_than_in_calm_shows_nothing() {
        let lag = Quantiles {
            checks: 1,
            p50_ms: 1.0,
            p99_ms: 2.0,
            p999_ms: 3.0,
        };
        let waited = |calm_apply_lag, apply_lag| {
            let ratio = Ratio {
                trouble: Trouble::Slow,
                calm: lag,
                troubled: lag,
                after: lag,
                calm_seconds: true,
                apply_lag,
                calm_apply_lag,
            };
            ratio.flaw()
        };
        assert_eq!(waited(2, 400), None);
        assert_eq!(waited(0, 5), None);
        let flaw = waited(90, 100).expect("nothing waited for it");
        assert!(flaw.contains("100 records waited in trouble and 90 in calm"));
        assert!(waited(0, 0).is_some(), "the trouble did nothing");
    }
}
