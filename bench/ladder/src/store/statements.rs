//! What a fleet in which every check succeeds asks of a server, by the server's own counters: all
//! that the node says there, with leases, looks for changes and freshness.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::filled::{PLAIN_USER, legacy_table, plain_url};
use super::{Found, Place, targets_of};
use crate::bar::{Bar, Bound};
use crate::clock::Stopwatch;
use crate::farm::Farm;
use crate::mariadb::{BINLOG, MariaDb};
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};

const INTERVAL_S: u32 = 300;
const CHECKS_PER_STATEMENT: f64 = 500.0;
const NOTE: &str = "Every site answers 200, in a store that is in use: before the window one more \
    target was down, and is paused since. Everything that is said to the server is held against \
    the bar, what begins and ends transactions too; these are the server's own counts over the \
    whole window, nothing left out. Each window is a single run.";

/// Counters of `SHOW GLOBAL STATUS`: all that clients said, and each kind of it. A prepared
/// statement is of its kind, and its preparation is no question.
const COUNTERS: &str = "SHOW GLOBAL STATUS WHERE Variable_name = 'Questions' \
    OR (Variable_name LIKE 'Com\\_%' AND Variable_name NOT LIKE 'Com\\_stmt\\_%')";
const QUESTIONS: &str = "Questions";
const AROUND: [&str; 4] = ["Com_begin", "Com_commit", "Com_rollback", "Com_set_option"];

/// Id of a target that nobody answers, above those of the fleet, and how often it is checked.
const DOWN_ID: u32 = 2_000_000_001;
const DOWN_URL: &str = "http://127.0.0.1:9/";
const DOWN_EVERY_S: u32 = 60;
/// How long its facts may take: a legacy row is found within a minute, and checked in another.
const DOWN_LIMIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(500);

type Counts = BTreeMap<String, u64>;

const FRESHNESS_COLUMNS: &str =
    "ADD last_checked_at DATETIME NULL, ADD next_check_at DATETIME NULL";
const LEGACY_NOTE: &str = "The same fleet in the table of an older system, with all that its \
    reading, its comparison and its change stream ask, too. Freshness goes into our own narrow \
    table (*sidecar*, the default) or into columns of theirs. Every site answers 200; nothing is \
    left out. One more row was down before the window, and is switched off since. Each window is \
    a single run.";

/// Where the freshness of a legacy table goes, and whether the server tells its changes.
#[derive(Clone, Copy, Debug)]
struct Way {
    database: &'static str,
    freshness: &'static str,
    streams: bool,
}

const fn way(database: &'static str, freshness: &'static str, streams: bool) -> Way {
    Way {
        database,
        freshness,
        streams,
    }
}

const WAYS: [Way; 4] = [
    way("legacy_a", "sidecar", true),
    way("legacy_b", "sidecar", false),
    way("legacy_c", "columns", true),
    way("legacy_d", "columns", false),
];

impl Way {
    fn words(self) -> String {
        let stream = if self.streams { "with" } else { "without" };
        format!("legacy table, {}, {stream} a change stream", self.freshness)
    }

    fn config(self) -> String {
        format!(
            "[legacy]\nload = true\nfreshness = \"{}\"\n",
            self.freshness
        )
    }

    fn url(self, port: u16) -> String {
        if self.streams {
            MariaDb::url(self.database, port)
        } else {
            plain_url(self.database, port)
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Window {
    what: String,
    targets: u32,
    seconds: u64,
    checks: u64,
    failed: u64,
    /// Everything that was said to the server.
    questions: u64,
    /// Of these, begins, commits, rollbacks and settings.
    around: u64,
    freshness_rows: u64,
    server_cpu_s: f64,
    by_kind: Counts,
}

impl Window {
    /// What is of no kind that the server counts, such as the end of a connection.
    fn other(&self) -> u64 {
        let kinds = self.by_kind.iter().filter(|(kind, _)| *kind != QUESTIONS);
        let of_kinds: u64 = kinds.map(|(_, count)| count).sum();
        self.questions.saturating_sub(of_kinds)
    }

    /// Statements that read or write rows.
    fn work(&self) -> u64 {
        self.questions.saturating_sub(self.around)
    }

    fn checks_per(&self, statements: u64) -> f64 {
        self.checks as f64 / statements.max(1) as f64
    }
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let mut server = MariaDb::start(&place.server_folder(), Some(place.server_cpu())).await?;
    server.create("fleet")?;
    let mut farm = place
        .farm(place.sizes.fleet_sites, INTERVAL_S, None)
        .await?;
    let plan = NodePlan {
        targets: Some(targets_of(&farm, &place.folder, INTERVAL_S).await?),
        ..place.node("node", Some(MariaDb::url("fleet", server.port())))
    };
    plan.migrate()?;
    let mut node = Node::start(plan, &farm.ready).await?;
    let plan = node.plan().clone();
    let list = place.folder.join("down.csv");
    let row = format!("id,url,interval_s\n{DOWN_ID},{DOWN_URL},{DOWN_EVERY_S}\n");
    std::fs::write(&list, row)?;
    plan.targets(&["import", &list.display().to_string()])?;
    has_facts(&mut node).await?;
    plan.targets(&["pause", &DOWN_ID.to_string()])?;
    let window = window(place, &server, &node, "own tables".to_owned()).await?;
    node.stop().await?;
    farm.stop().await?;
    server.stop().await?;
    found(place, ("A healthy fleet", NOTE), &[window])
}

/// The same of a fleet in a legacy table.
pub(super) async fn measure_legacy(place: &Place<'_>) -> Result<Found> {
    let cpu = Some(place.server_cpu());
    let mut server = MariaDb::start_with(&place.server_folder(), cpu, &BINLOG).await?;
    server.sql(PLAIN_USER)?;
    let mut farm = place
        .farm(place.sizes.fleet_sites, INTERVAL_S, None)
        .await?;
    let targets = targets_of(&farm, &place.folder, INTERVAL_S).await?;
    server.create("starts")?;
    let filling = place.node("filling", Some(MariaDb::url("starts", server.port())));
    filling.migrate()?;
    filling.targets(&["import", &targets.display().to_string()])?;
    let mut windows = Vec::new();
    for way in WAYS {
        windows.push(legacy_window(place, (&server, &farm), way).await?);
    }
    farm.stop().await?;
    server.stop().await?;
    found(
        place,
        ("A healthy fleet of a legacy table", LEGACY_NOTE),
        &windows,
    )
}

async fn legacy_window(
    place: &Place<'_>,
    (server, farm): (&MariaDb, &Farm),
    way: Way,
) -> Result<Window> {
    server.create(way.database)?;
    let config = place.folder.join(format!("{}.toml", way.database));
    std::fs::write(&config, way.config())?;
    let plan = NodePlan {
        flags: vec!["--config".to_owned(), config.display().to_string()],
        ..place.node(way.database, Some(way.url(server.port())))
    };
    plan.migrate()?;
    let table = legacy_table(server, way.database)?;
    server.sql(&format!("ALTER TABLE {table} {FRESHNESS_COLUMNS}"))?;
    let mut node = Node::start(plan, &farm.ready).await?;
    server.sql(&format!(
        "INSERT INTO {table} (jetpack_monitor_site_id, blog_id, bucket_no, monitor_url, \
         check_interval) VALUES ({DOWN_ID}, {DOWN_ID}, 0, '{DOWN_URL}', {})",
        DOWN_EVERY_S / 60
    ))?;
    has_facts(&mut node).await?;
    server.sql(&format!(
        "UPDATE {table} SET monitor_active = 0 WHERE jetpack_monitor_site_id = {DOWN_ID}"
    ))?;
    let window = window(place, server, &node, way.words()).await?;
    let up = node.scrape().await?.sum("ringwatch_legacy_stream_up", &[]);
    if (up == Some(1.0)) != way.streams {
        bail!("{}: the gauge of the stream says {up:?}", way.words());
    }
    node.stop().await?;
    // The next one has the memory of the server to itself.
    server.sql(&format!("DROP DATABASE {}", way.database))?;
    Ok(window)
}

/// Waits until the store was given facts: from then on the node asks whether they are still there.
async fn has_facts(node: &mut Node) -> Result<()> {
    let watch = Stopwatch::start();
    let applied = [("dir", "applied")];
    while node
        .scrape()
        .await?
        .sum("ringwatch_journal_records_total", &applied)
        .is_none_or(|records| records == 0.0)
    {
        node.must_run()?;
        if watch.elapsed() > DOWN_LIMIT {
            bail!("nobody answers at {DOWN_URL}, and no incident says so within {DOWN_LIMIT:?}");
        }
        sleep(POLL).await;
    }
    Ok(())
}

async fn window(place: &Place<'_>, server: &MariaDb, node: &Node, what: String) -> Result<Window> {
    // Freshness comes evenly once every target was checked.
    sleep(Duration::from_secs(place.sizes.fleet_settle_s)).await;
    // What a reading itself says is counted too.
    let (first, before) = (counters(server)?, counters(server)?);
    let of_reading = between(&first, &before);
    let (scrape, cpu) = (node.scrape().await?, procfs::process_cpu(server.pid())?);
    sleep(Duration::from_secs(place.sizes.fleet_watch_s)).await;
    let (later, cpu_later) = (node.scrape().await?, procfs::process_cpu(server.pid())?);
    let mut by_kind = between(&before, &counters(server)?);
    for (kind, count) in &mut by_kind {
        *count = count.saturating_sub(of_reading.get(kind).copied().unwrap_or(0));
    }
    by_kind.retain(|_, count| *count > 0);
    let grown = |name: &str, labels: &[(&str, &str)]| {
        let of = |scrape: &crate::metrics::Scrape| scrape.sum(name, labels).unwrap_or(0.0);
        (of(&later) - of(&scrape)) as u64
    };
    let checks = grown("ringwatch_probed_total", &[]);
    let up = grown("ringwatch_probed_total", &[("verdict", "up")]);
    Ok(Window {
        what,
        targets: place.sizes.fleet_sites,
        seconds: place.sizes.fleet_watch_s,
        checks,
        failed: checks.saturating_sub(up),
        questions: by_kind.get(QUESTIONS).copied().unwrap_or(0),
        around: AROUND.iter().filter_map(|kind| by_kind.get(*kind)).sum(),
        freshness_rows: grown("ringwatch_store_rows_total", &[("table", "freshness")]),
        server_cpu_s: cpu_later.saturating_sub(cpu).as_secs_f64(),
        by_kind,
    })
}

fn counters(server: &MariaDb) -> Result<Counts> {
    let text = server.sql(COUNTERS)?;
    let read = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    let lines = text.lines();
    lines
        .map(|line| read(line).with_context(|| format!("no counter: {line}")))
        .collect()
}

fn between(before: &Counts, after: &Counts) -> Counts {
    let grown = |(kind, count): (&String, &u64)| {
        let before = before.get(kind).copied().unwrap_or(0);
        (kind.clone(), count.saturating_sub(before))
    };
    after.iter().map(grown).collect()
}

fn found(
    place: &Place<'_>,
    (title, note): (&'static str, &'static str),
    windows: &[Window],
) -> Result<Found> {
    Ok(Found {
        title,
        note,
        bars: windows.iter().map(|window| bar(place, window)).collect(),
        table: windows.iter().map(table).collect(),
        numbers: serde_json::to_value(windows)?,
    })
}

fn bar(place: &Place<'_>, window: &Window) -> Bar {
    let failed = (window.failed > 0).then(|| format!("{} checks failed", window.failed));
    Bar::of(
        format!(
            "checks per statement, {} targets every {INTERVAL_S} s, {}",
            grouped(window.targets.into()),
            window.what
        ),
        Some(window.checks_per(window.questions)),
        (Bound::Min(CHECKS_PER_STATEMENT), "checks"),
        place.flaw().or(failed),
    )
}

fn table(window: &Window) -> String {
    let mut table = Table::new(&[&window.what, "number", "checks for each"]);
    let mut row = |what: &str, count: u64| {
        table.row([
            what.to_owned(),
            grouped(count),
            format!("{:.0}", window.checks_per(count)),
        ]);
    };
    row("checks", window.checks);
    row("everything said to the server", window.questions);
    row("of it, statements that read or write rows", window.work());
    row("rows of freshness", window.freshness_rows);
    let kinds = window.by_kind.iter();
    for (kind, count) in kinds.filter(|(kind, _)| *kind != QUESTIONS) {
        row(kind, *count);
    }
    row("of no kind that is counted", window.other());
    let (seconds, cpu) = (window.seconds, window.server_cpu_s);
    let rest = format!("\n{seconds} s; the server used {cpu:.2} s of CPU.\n\n");
    table.markdown() + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_and_ends_transactions_is_told_apart() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect()
        };
        let before = counts(&[("Questions", 10), ("Com_begin", 1)]);
        let after = counts(&[("Questions", 50), ("Com_begin", 9), ("Com_insert", 4)]);
        let grown = between(&before, &after);
        assert_eq!(
            grown,
            counts(&[("Questions", 40), ("Com_begin", 8), ("Com_insert", 4)])
        );
        let window = Window {
            what: "own tables".to_owned(),
            targets: 1,
            seconds: 1,
            checks: 1_000,
            failed: 0,
            questions: 40,
            around: 8,
            freshness_rows: 0,
            server_cpu_s: 0.0,
            by_kind: grown,
        };
        assert_eq!((window.work(), window.other()), (32, 40 - 8 - 4));
        assert!(table(&window).starts_with("| own tables "));
    }

    #[test]
    fn who_may_not_read_the_log_is_another_user() {
        let [with, without, ..] = WAYS;
        assert_eq!(with.url(5), "mysql://ladder:ladder@127.0.0.1:5/legacy_a");
        assert_eq!(without.url(5), "mysql://plain:ladder@127.0.0.1:5/legacy_b");
        assert!(without.words().contains("sidecar, without"));
    }
}
