//! One target among many is added, changed and switched off while a node runs: when that is in
//! effect on its probe core, by the core's own gauges, and what it made the server read.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::filled::{self, LEGACY, LEGACY_TABLE, PLACES, SQLITE, filled};
use super::{Found, Place};
use crate::bar::Bar;
use crate::baseline::median;
use crate::clock::Stopwatch;
use crate::mariadb::{BINLOG, MariaDb};
use crate::metrics::Scrape;
use crate::node::Node;
use crate::procfs::process_cpu;
use crate::table::{Table, grouped};

const MAX_S: f64 = 1.0;
/// Of as many as a million: what grows with the fleet is far above.
const ROWS_READ_MAX: f64 = 1_000.0;
const LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);
/// Ids of the targets that are added: above those of the fleet.
const ID_MIN: u64 = 2_000_000_001;
/// Rows that the server looked at, for whomever.
const ROWS_READ: &str = "SELECT SUM(VARIABLE_VALUE) FROM information_schema.GLOBAL_STATUS \
    WHERE VARIABLE_NAME IN ('Handler_read_first', 'Handler_read_key', 'Handler_read_next', \
    'Handler_read_prev', 'Handler_read_rnd', 'Handler_read_rnd_next')";
const NOTE: &str = "From just before the command is started (our own tables: `targets import` of a \
    list of one row, `targets pause`) or the statement is sent (the legacy table, with a change \
    stream) until the gauges of the probe core show it; the targets are checked once a day. \
    Rows are all that the server looked at meanwhile, whole tables and the node's small questions \
    included; what the count itself looks at is taken off. A change during which the node counted \
    or compared legacy rows, as it does every 30 s and every minute whatever happens, counts for \
    its time alone: such reading is a table of its own, of a window in which nothing changes. \
    Bars are held against the longest, and against the most rows.";
/// Regular reading, in a window without a change, may cost so much of a core.
const REGULAR_CPU_MAX: f64 = 0.05;
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
    /// Absent where there is no server, and where regular reading fell into it.
    rows_read: Option<u64>,
}

/// What a node has a server read while nothing changes.
#[derive(Clone, Debug, Serialize)]
struct Regular {
    store: &'static str,
    seconds: f64,
    rows_read: u64,
    server_cpu_s: f64,
}

impl Regular {
    /// Of one core.
    fn cpu(&self) -> f64 {
        self.server_cpu_s / self.seconds
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
    /// Rows that one [`ROWS_READ`] looks at itself.
    of_reading: u64,
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let cpu = Some(place.server_cpu());
    let mut server = MariaDb::start_with(&place.server_folder(), cpu, &BINLOG).await?;
    let sites = place.sizes.start_sites;
    let mut farm = place.farm(sites, filled::INTERVAL_S, None).await?;
    let plans = filled(place, &server, &farm).await?;
    // Nothing else is connected yet.
    let (first, second) = (rows_read(&server)?, rows_read(&server)?);
    let of_reading = second.saturating_sub(first);
    let mut seen = Seen::default();
    for (store, plan) in plans {
        let node = Node::start(plan, &farm.ready).await?;
        let mut bed = Bed {
            store,
            node,
            server: &server,
            of_reading,
        };
        bed.wait_stream().await?;
        bed.change(place.sizes.changes, &mut seen.effects).await?;
        seen.regular
            .extend(bed.regular(place.sizes.steady_s).await?);
        bed.node.stop().await?;
    }
    farm.stop().await?;
    server.stop().await?;
    Ok(Found {
        title: "One change among many",
        note: NOTE,
        bars: bars(place, &seen),
        table: format!("{}\n{}", table(&seen.effects), regular_table(&seen.regular)),
        numbers: serde_json::to_value(&seen)?,
    })
}

impl Bed<'_> {
    fn is_legacy(&self) -> bool {
        self.store == LEGACY
    }

    /// Changes of a legacy table are told once the stream is up. The first one does not tell what
    /// was before: a pass over every row makes up for that, and is over when no row is read.
    async fn wait_stream(&mut self) -> Result<()> {
        let is = |scrape: &Scrape, name, value| scrape.sum(name, &[]) == Some(value);
        let is_even = |scrape: &Scrape| {
            is(scrape, "ringwatch_legacy_stream_up", 1.0)
                && is(scrape, "ringwatch_legacy_sweep_rate", 0.0)
        };
        if self.is_legacy() {
            let what = "the change stream and the pass that it begins with";
            self.until(what, is_even).await?;
        }
        Ok(())
    }

    /// Changes targets in `rounds`, and in more of them where some were disturbed.
    async fn change(&mut self, rounds: u32, effects: &mut Vec<Effect>) -> Result<()> {
        let mut undisturbed = 0;
        for round in 0..rounds * ROUNDS_FACTOR {
            let mut are_all = true;
            for change in CHANGES {
                let effect = self.effect(change, ID_MIN + u64::from(round)).await?;
                are_all &= effect.rows_read.is_some() || self.store == SQLITE;
                effects.push(effect);
            }
            undisturbed += u32::from(are_all);
            if undisturbed == rounds {
                break;
            }
        }
        Ok(())
    }

    /// Lets `seconds` pass without a change; `None` where there is no server.
    async fn regular(&self, seconds: u64) -> Result<Option<Regular>> {
        let Some(before) = self.rows_read()? else {
            return Ok(None);
        };
        let (watch, cpu) = (Stopwatch::start(), process_cpu(self.server.pid())?);
        sleep(Duration::from_secs(seconds)).await;
        let (seconds, later) = (watch.seconds(), process_cpu(self.server.pid())?);
        let rows = self.rows_read()?.unwrap_or(0).saturating_sub(before);
        Ok(Some(Regular {
            store: self.store,
            seconds,
            rows_read: rows.saturating_sub(self.of_reading),
            server_cpu_s: later.saturating_sub(cpu).as_secs_f64(),
        }))
    }

    async fn effect(&mut self, change: Change, id: u64) -> Result<Effect> {
        let scrape = self.node.scrape().await?;
        let (before, regular) = (Fleet::of(&scrape), regular_readings(&scrape));
        let rows = self.rows_read()?;
        let watch = Stopwatch::start();
        if self.is_legacy() {
            self.server.sql(&statement(change, id))?;
        } else {
            self.command(change, id)?;
        }
        let shown = |scrape: &Scrape| before.shows(change, Fleet::of(scrape));
        self.until(change.words(), shown).await?;
        let seconds = watch.seconds();
        let rows_read = rows.zip(self.rows_read()?);
        let between = |(before, after): (u64, u64)| {
            let all = after.saturating_sub(before);
            all.saturating_sub(self.of_reading)
        };
        sleep(READ_OUT).await;
        let is_disturbed = regular_readings(&self.node.scrape().await?) != regular;
        Ok(Effect {
            store: self.store,
            change,
            seconds,
            rows_read: rows_read.map(between).filter(|_| !is_disturbed),
        })
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Scrape) -> bool) -> Result<()> {
        let watch = Stopwatch::start();
        while !is_so(&self.node.scrape().await?) {
            self.node.must_run()?;
            if watch.elapsed() > LIMIT {
                bail!("{}: {what}: not in effect within {LIMIT:?}", self.store);
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    fn rows_read(&self) -> Result<Option<u64>> {
        if self.store == SQLITE {
            return Ok(None);
        }
        rows_read(self.server).map(Some)
    }

    /// As a person changes a target of our own tables.
    fn command(&self, change: Change, id: u64) -> Result<()> {
        let plan = self.node.plan();
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
}

/// Legacy rows that were read for no change: statements over many of them, and rows compared.
fn regular_readings(scrape: &Scrape) -> u64 {
    let reads = |kind| scrape.sum("ringwatch_legacy_reads_total", &[("kind", kind)]);
    let many = ["page", "counts", "bucket"].into_iter().filter_map(reads);
    let compared = scrape.sum("ringwatch_legacy_drift_total", &[("kind", "looked")]);
    many.chain(compared).map(|count| count as u64).sum()
}

fn rows_read(server: &MariaDb) -> Result<u64> {
    Ok(server.sql(ROWS_READ)?.parse()?)
}

/// Nobody listens there, and nobody looks within the day.
fn url(id: u64) -> String {
    format!("http://127.0.0.1:9/{id}")
}

fn statement(change: Change, id: u64) -> String {
    let one = format!("WHERE jetpack_monitor_site_id = {id}");
    match change {
        Change::Added => format!(
            "INSERT INTO {LEGACY_TABLE} (jetpack_monitor_site_id, blog_id, bucket_no, monitor_url, \
             check_interval) VALUES ({id}, {id}, {}, '{}', 1440)",
            id % 512,
            url(id)
        ),
        Change::Changed => format!("UPDATE {LEGACY_TABLE} SET check_interval = 1 {one}"),
        Change::SwitchedOff => format!("UPDATE {LEGACY_TABLE} SET monitor_active = 0 {one}"),
    }
}

fn of<'e>(effects: &'e [Effect], store: &str, change: Change) -> impl Iterator<Item = &'e Effect> {
    let is_meant = move |effect: &&Effect| (effect.store, effect.change) == (store, change);
    effects.iter().filter(is_meant)
}

/// In time for every store; in work where a server counts it.
fn bars(place: &Place<'_>, Seen { effects, regular }: &Seen) -> Vec<Bar> {
    let sites = grouped(place.sizes.start_sites.into());
    let each = |store: &'static str| CHANGES.map(|change| (store, change));
    let in_effect = PLACES.into_iter().flat_map(each).map(|(store, change)| {
        let seconds = of(effects, store, change).map(|effect| effect.seconds);
        let what = format!("one of {sites} {}, {store}", change.words());
        Bar::new(what, seconds.reduce(f64::max), (MAX_S, "s"), place.flaw())
    });
    let on_server = PLACES.into_iter().filter(|store| *store != SQLITE);
    let work = on_server.flat_map(each).map(|(store, change)| {
        let what = format!("rows read for one of {sites} {}, {store}", change.words());
        let most = most_rows(effects, store, change).map(|rows| rows as f64);
        Bar::new(what, most, (ROWS_READ_MAX, "rows"), place.flaw())
    });
    let at_rest = regular.iter().map(|one| {
        let what = format!("server while nothing changes, {}", one.store);
        let bound = (REGULAR_CPU_MAX, "of a core");
        Bar::new(what, Some(one.cpu()), bound, place.flaw())
    });
    in_effect.chain(work).chain(at_rest).collect()
}

fn most_rows(effects: &[Effect], store: &str, change: Change) -> Option<u64> {
    of(effects, store, change)
        .filter_map(|one| one.rows_read)
        .max()
}

fn table(effects: &[Effect]) -> String {
    let mut table = Table::new(&[
        "store",
        "one target",
        "in effect, s: median",
        "longest",
        "rows read: median",
        "most",
    ]);
    for store in PLACES {
        for change in CHANGES {
            let seconds: Vec<f64> = of(effects, store, change).map(|one| one.seconds).collect();
            let rows: Vec<f64> = of(effects, store, change)
                .filter_map(|one| one.rows_read)
                .map(|rows| rows as f64)
                .collect();
            let longest = seconds.iter().copied().fold(0.0, f64::max);
            let rows = if rows.is_empty() {
                "–".to_owned()
            } else {
                grouped(median(rows) as u64)
            };
            let most = most_rows(effects, store, change);
            table.row([
                store.to_owned(),
                change.words().to_owned(),
                format!("{:.3}", median(seconds)),
                format!("{longest:.3}"),
                rows,
                most.map_or_else(|| "–".to_owned(), grouped),
            ]);
        }
    }
    table.markdown()
}

fn regular_table(regular: &[Regular]) -> String {
    let mut table = Table::new(&[
        "while nothing changes",
        "s",
        "rows read",
        "rows/s",
        "server CPU, of a core",
    ]);
    for one in regular {
        table.row([
            one.store.to_owned(),
            format!("{:.0}", one.seconds),
            grouped(one.rows_read),
            grouped((one.rows_read as f64 / one.seconds) as u64),
            format!("{:.3}", one.cpu()),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::super::filled::OWN;
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
    /// a change.
    #[test]
    fn reading_that_is_regular_is_told_from_that_of_a_change() {
        let scrape = |counts: u32, ids: u32, looked: u32| {
            Scrape::parse(&format!(
                "ringwatch_legacy_reads_total{{kind=\"counts\"}} {counts}\n\
                 ringwatch_legacy_reads_total{{kind=\"ids\"}} {ids}\n\
                 ringwatch_legacy_drift_total{{kind=\"looked\"}} {looked}\n\
                 ringwatch_legacy_drift_total{{kind=\"differed\"}} 7\n"
            ))
        };
        let before = regular_readings(&scrape(4, 1, 100));
        assert_eq!(regular_readings(&scrape(4, 2, 100)), before);
        assert!(regular_readings(&scrape(5, 2, 100)) > before);
        assert!(regular_readings(&scrape(4, 1, 200)) > before);
        assert_eq!(regular_readings(&Scrape::default()), 0, "own tables");
    }

    #[test]
    fn the_most_rows_of_a_change_are_judged_and_none_where_no_server_counts_them() {
        let effect = |store, rows_read| Effect {
            store,
            change: Change::Added,
            seconds: 0.1,
            rows_read,
        };
        let effects = [
            effect(OWN, Some(40)),
            effect(OWN, Some(1_200)),
            effect(OWN, Some(12)),
            effect(SQLITE, None),
        ];
        assert_eq!(most_rows(&effects, OWN, Change::Added), Some(1_200));
        assert_eq!(most_rows(&effects, OWN, Change::Changed), None);
        assert_eq!(most_rows(&effects, SQLITE, Change::Added), None);
    }
}
