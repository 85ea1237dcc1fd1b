//! One target among many is added, changed and switched off while a node runs: when that is in
//! effect on its probe core, by the core's own gauges, and what it made the server and the node do.

mod page;
mod swept;
mod work;

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use self::work::{Meter, Work};
use super::filled::{self, LEGACY, LEGACY_TABLE, SQLITE, filled};
use super::{Found, Place};
use crate::clock::Stopwatch;
use crate::mariadb::{BINLOG, MariaDb};
use crate::metrics::Scrape;
use crate::node::{Node, NodePlan};
use crate::procfs::Ran;

/// The legacy table once more, of a user who may not read the server's log.
const SWEPT: &str = "MariaDB, legacy table, no stream";
/// For a change to be in effect; a sweep may be slower than it should be.
const LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);
/// The same where a change takes seconds.
const SWEPT_POLL: Duration = Duration::from_millis(100);
/// Ids of the targets that are added: above those of the fleet.
const ID_MIN: u64 = 2_000_000_001;
/// More of them, where the table was changed before.
const SWEPT_ID_MIN: u64 = ID_MIN + 1_000;
/// A reading that had begun is over, and counted, after so long.
const READ_OUT: Duration = Duration::from_secs(1);
/// So many times as many rounds as are asked for, at most, until enough were undisturbed.
const ROUNDS_FACTOR: u32 = 3;

/// What is done to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added,
    Changed,
    SwitchedOff,
}

const CHANGES: [Change; 3] = [Change::Added, Change::Changed, Change::SwitchedOff];

impl Change {
    fn words(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::SwitchedOff => "switched off",
        }
    }
}

/// One change, and when it was in effect.
#[derive(Clone, Debug, Serialize)]
struct Effect {
    store: &'static str,
    change: Change,
    seconds: f64,
    /// Whether no regular reading fell into it: else only its time counts.
    is_whole: bool,
    /// Absent where it is not whole, and where a thread ended meanwhile.
    node_cpu_ms: Option<f64>,
    /// Absent where it is not whole, and where there is no server.
    server: Option<Work>,
}

/// What a node has a server do while nothing changes.
#[derive(Clone, Debug, Serialize)]
struct Regular {
    store: &'static str,
    seconds: f64,
    server: Work,
    /// Rows a second that the sweep says it reads; 0 while it rests.
    sweep_rows_per_s: f64,
}

impl Regular {
    /// Of one core.
    fn cpu(&self) -> Option<f64> {
        Some(self.server.cpu_ms? / 1e3 / self.seconds)
    }
}

#[derive(Debug, Default, Serialize)]
struct Seen {
    effects: Vec<Effect>,
    regular: Vec<Regular>,
}

/// What the gauges of the probe core say of its targets.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fleet {
    targets: f64,
    rate: f64,
}

impl Fleet {
    fn of(scrape: &Scrape) -> Self {
        let sum = |name, labels: &[_]| scrape.sum(name, labels).unwrap_or(0.0);
        Self {
            targets: sum("ringwatch_targets", &[("state", "active")]),
            rate: sum("ringwatch_required_rate", &[]),
        }
    }

    /// Whether `change`, made when it was `self`, is in effect `now`.
    fn shows(self, change: Change, now: Self) -> bool {
        match change {
            Change::Added => now.targets > self.targets,
            // Checked once a minute from now on.
            Change::Changed => now.rate > self.rate,
            Change::SwitchedOff => now.targets < self.targets,
        }
    }
}

/// A running node, and the way in which its targets are changed.
struct Bed<'a> {
    store: &'static str,
    node: Node,
    server: &'a MariaDb,
    meter: &'a Meter<'a>,
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let cpu = Some(place.server_cpu());
    let mut server = MariaDb::start_with(&place.server_folder(), cpu, &BINLOG).await?;
    server.sql(filled::PLAIN_USER)?;
    let mut farm = place
        .farm(place.sizes.start_sites, filled::INTERVAL_S, None)
        .await?;
    let [sqlite, own, legacy] = filled(place, &server, &farm).await?;
    let swept = (SWEPT, swept_plan(place, &server, &legacy.1)?);
    // Nothing else is connected yet.
    let meter = Meter::new(&server)?;
    let mut seen = Seen::default();
    for (store, plan) in [sqlite, own, legacy, swept] {
        let mut bed = Bed {
            store,
            node: Node::start(plan, &farm.ready).await?,
            server: &server,
            meter: &meter,
        };
        if let Err(error) = bed.measure(place, &mut seen).await {
            // What a node that ended said last says more.
            bed.node.must_run()?;
            return Err(error);
        }
        bed.node.stop().await?;
    }
    farm.stop().await?;
    server.stop().await?;
    page::found(place, &seen)
}

/// As `legacy`, without the right to a stream, and with a sweep as long as the sizes say.
fn swept_plan(place: &Place<'_>, server: &MariaDb, legacy: &NodePlan) -> Result<NodePlan> {
    let config = place.folder.join("swept.toml");
    let sweep_s = place.sizes.sweep_s;
    std::fs::write(
        &config,
        format!("[legacy]\nload = true\nsweep_s = {sweep_s}\n"),
    )?;
    Ok(NodePlan {
        store: Some(filled::plain_url("legacy", server.port())),
        flags: vec!["--config".to_owned(), config.display().to_string()],
        ..legacy.clone()
    })
}

impl Bed<'_> {
    async fn measure(&self, place: &Place<'_>, seen: &mut Seen) -> Result<()> {
        let up = |scrape: &Scrape| scrape.sum("ringwatch_legacy_stream_up", &[]);
        if self.store == SWEPT {
            if up(&self.node.scrape().await?) == Some(1.0) {
                bail!("{SWEPT}: its user reads the log");
            }
            return swept::measure(place, self, seen).await;
        }
        if self.store == LEGACY {
            // The first one does not tell what was before: a pass over every row makes up for
            // that, and is over when no row is read.
            let is_even = |scrape: &Scrape| {
                let rate = scrape.sum("ringwatch_legacy_sweep_rate", &[]);
                (up(scrape), rate) == (Some(1.0), Some(0.0))
            };
            let what = "the change stream and the pass that it begins with";
            self.until(what, is_even).await?;
        }
        self.change(place.sizes.changes, &mut seen.effects).await?;
        if self.store != SQLITE {
            seen.regular.push(self.regular(place.sizes.steady_s).await?);
        }
        Ok(())
    }

    fn is_legacy(&self) -> bool {
        [LEGACY, SWEPT].contains(&self.store)
    }

    /// Changes targets in `rounds`, and in more of them where some were disturbed.
    async fn change(&self, rounds: u32, effects: &mut Vec<Effect>) -> Result<()> {
        let mut undisturbed = 0;
        for round in 0..rounds * ROUNDS_FACTOR {
            let mut are_all = true;
            for change in CHANGES {
                let effect = self.effect(change, round).await?;
                are_all &= effect.is_whole;
                effects.push(effect);
            }
            undisturbed += u32::from(are_all);
            if undisturbed == rounds {
                break;
            }
        }
        Ok(())
    }

    /// Lets `seconds` pass without a change.
    async fn regular(&self, seconds: u64) -> Result<Regular> {
        let (watch, begun) = (Stopwatch::start(), self.meter.begin()?);
        sleep(Duration::from_secs(seconds)).await;
        let scrape = self.node.scrape().await?;
        let rate = scrape.sum("ringwatch_legacy_sweep_rate", &[]);
        Ok(Regular {
            store: self.store,
            seconds: watch.seconds(),
            server: self.meter.end_window(&begun)?,
            sweep_rows_per_s: rate.unwrap_or(0.0),
        })
    }

    async fn effect(&self, change: Change, round: u32) -> Result<Effect> {
        let scrape = self.node.scrape().await?;
        let (before, regular) = (Fleet::of(&scrape), self.regular_readings(&scrape));
        let (begun, ran) = (self.meter.begin()?, Ran::read(self.node.pid())?);
        let watch = Stopwatch::start();
        if self.is_legacy() {
            self.server.sql(&self.statement(change, round))?;
        } else {
            self.command(change, round)?;
        }
        let shown = |scrape: &Scrape| before.shows(change, Fleet::of(scrape));
        self.until(change.words(), shown).await?;
        let seconds = watch.seconds();
        let ran = Ran::read(self.node.pid())?.since(&ran);
        let server = self.meter.end(&begun)?;
        sleep(READ_OUT).await;
        let is_whole = self.regular_readings(&self.node.scrape().await?) == regular;
        Ok(Effect {
            store: self.store,
            change,
            seconds,
            is_whole,
            node_cpu_ms: ran.filter(|_| is_whole).map(|ran| ran.as_secs_f64() * 1e3),
            server: (is_whole && self.store != SQLITE).then_some(server),
        })
    }

    fn regular_readings(&self, scrape: &Scrape) -> u64 {
        regular_readings(scrape, self.store == SWEPT)
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Scrape) -> bool) -> Result<()> {
        let pause = if self.store == SWEPT {
            SWEPT_POLL
        } else {
            POLL
        };
        let watch = Stopwatch::start();
        while !is_so(&self.node.scrape().await?) {
            if watch.elapsed() > LIMIT {
                bail!("{}: {what}: not in effect within {LIMIT:?}", self.store);
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Of the target that comes and goes in a round.
    fn id(&self, round: u32) -> u64 {
        let first = if self.store == SWEPT {
            SWEPT_ID_MIN
        } else {
            ID_MIN
        };
        first + u64::from(round)
    }

    /// As a person changes a target of our own tables.
    fn command(&self, change: Change, round: u32) -> Result<()> {
        let (plan, id) = (self.node.plan(), self.id(round));
        let interval_s = match change {
            Change::Added => filled::INTERVAL_S,
            Change::Changed => 60,
            Change::SwitchedOff => return plan.targets(&["pause", &id.to_string()]),
        };
        let list = plan.folder.join("change.csv");
        std::fs::write(
            &list,
            format!("id,url,interval_s\n{id},{},{interval_s}\n", url(id)),
        )?;
        plan.targets(&["import", &list.display().to_string()])
    }

    /// As the older system does.
    fn statement(&self, change: Change, round: u32) -> String {
        let id = self.id(round);
        let one = format!("WHERE jetpack_monitor_site_id = {id}");
        match change {
            Change::Added => format!(
                "INSERT INTO {LEGACY_TABLE} (jetpack_monitor_site_id, blog_id, bucket_no, \
                 monitor_url, check_interval) VALUES ({id}, {id}, {}, '{}', 1440)",
                id % 512,
                url(id)
            ),
            Change::Changed => format!("UPDATE {LEGACY_TABLE} SET check_interval = 1 {one}"),
            Change::SwitchedOff => format!("UPDATE {LEGACY_TABLE} SET monitor_active = 0 {one}"),
        }
    }
}

/// Reading that goes on whatever changes: counts of legacy rows, rows of them that are compared,
/// and looks for what is old, the first of which comes a minute after the start. Pages are regular
/// where a table `is_swept`; while a stream tells of changes they, and buckets anywhere, are read
/// only because something changed.
fn regular_readings(scrape: &Scrape, is_swept: bool) -> u64 {
    let reads = |kind| scrape.sum("ringwatch_legacy_reads_total", &[("kind", kind)]);
    let counts = reads("counts");
    let pages = reads("page").filter(|_| is_swept);
    let compared = scrape.sum("ringwatch_legacy_drift_total", &[("kind", "looked")]);
    let old = scrape.sum("ringwatch_forgetting_steps_total", &[]);
    let all = [counts, pages, compared, old].into_iter().flatten();
    all.map(|count| count as u64).sum()
}

/// Nobody listens there, and nobody looks within the day.
fn url(id: u64) -> String {
    format!("http://127.0.0.1:9/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_in_what_it_moves_and_nowhere_else() {
        let before = Fleet {
            targets: 10.0,
            rate: 1.0,
        };
        let more = Fleet {
            targets: 11.0,
            rate: 1.0,
        };
        let faster = Fleet {
            rate: 1.016,
            ..before
        };
        assert!(before.shows(Change::Added, more) && more.shows(Change::SwitchedOff, before));
        assert!(before.shows(Change::Changed, faster));
        for change in CHANGES {
            assert!(!before.shows(change, before));
        }
        assert!(!before.shows(Change::Added, faster));
    }

    /// Lesson: the count of a tenth of the table, which comes every 30 s, was taken for the work of
    /// a change; so was the first look for old rows. Pages that a change made a node read were not.
    #[test]
    fn reading_that_is_regular_is_told_from_that_of_a_change() {
        let regular = |samples: &str, is_swept| {
            let samples = samples
                .lines()
                .map(|line| format!("ringwatch_{}\n", line.trim()));
            regular_readings(&Scrape::parse(&samples.collect::<String>()), is_swept)
        };
        let always = [
            "legacy_reads_total{kind=\"counts\"} 5",
            "legacy_drift_total{kind=\"looked\"} 5",
            "forgetting_steps_total 5",
        ];
        let never = [
            "legacy_reads_total{kind=\"ids\"} 5",
            "legacy_reads_total{kind=\"bucket\"} 5",
            "legacy_drift_total{kind=\"differed\"} 5",
        ];
        for is_swept in [true, false] {
            for samples in always {
                assert_eq!(regular(samples, is_swept), 5, "{samples}");
            }
            for samples in never {
                assert_eq!(regular(samples, is_swept), 0, "{samples}");
            }
            assert_eq!(regular(&always.join("\n"), is_swept), 15);
        }
        let page = "legacy_reads_total{kind=\"page\"} 5";
        assert_eq!((regular(page, true), regular(page, false)), (5, 0));
    }
}
