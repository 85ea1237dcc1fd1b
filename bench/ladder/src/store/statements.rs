//! What a fleet in which every check succeeds asks of a server, by the server's own counters: all
//! that the node says there, with leases, looks for changes and freshness.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::sleep;

use super::{Found, Place, targets_of};
use crate::bar::{Bar, Bound};
use crate::mariadb::MariaDb;
use crate::node::{Node, NodePlan};
use crate::procfs;
use crate::table::{Table, grouped};

const INTERVAL_S: u32 = 300;
const CHECKS_PER_STATEMENT: f64 = 500.0;
const NOTE: &str = "Every site answers 200. Everything that is said to the server is held against \
    the bar, what begins and ends transactions too; these are the server's own counts over the \
    whole window, nothing left out.";

/// Counters of `SHOW GLOBAL STATUS`: all statements of clients, and those around transactions.
const COUNTERS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions', 'Com_begin', \
    'Com_commit', 'Com_rollback', 'Com_set_option', 'Com_select', 'Com_insert', 'Com_update')";
const AROUND: [&str; 4] = ["Com_begin", "Com_commit", "Com_rollback", "Com_set_option"];

type Counts = BTreeMap<String, u64>;

#[derive(Clone, Debug, Serialize)]
struct Window {
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
    /// Statements that read or write rows.
    fn work(&self) -> u64 {
        self.questions.saturating_sub(self.around)
    }
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let sites = place.sizes.fleet_sites;
    let mut server = MariaDb::start(&place.server_folder(), Some(place.server_cpu())).await?;
    server.create("fleet")?;
    let mut farm = place.farm(sites, INTERVAL_S, None).await?;
    let targets = targets_of(&farm, &place.folder, INTERVAL_S).await?;
    let plan = NodePlan {
        targets: Some(targets),
        ..place.node("node", Some(MariaDb::url("fleet", server.port())))
    };
    plan.migrate()?;
    let mut node = Node::start(plan, &farm.ready).await?;
    // Freshness comes evenly once every target was checked.
    sleep(Duration::from_secs(place.sizes.fleet_settle_s)).await;
    let window = window(place, &server, &node).await?;
    node.stop().await?;
    farm.stop().await?;
    server.stop().await?;
    found(place, &window)
}

async fn window(place: &Place<'_>, server: &MariaDb, node: &Node) -> Result<Window> {
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
    let grown = |name: &str, labels: &[(&str, &str)]| {
        let of = |scrape: &crate::metrics::Scrape| scrape.sum(name, labels).unwrap_or(0.0);
        (of(&later) - of(&scrape)) as u64
    };
    let checks = grown("ringwatch_probed_total", &[]);
    let up = grown("ringwatch_probed_total", &[("verdict", "up")]);
    Ok(Window {
        targets: place.sizes.fleet_sites,
        seconds: place.sizes.fleet_watch_s,
        checks,
        failed: checks.saturating_sub(up),
        questions: by_kind.get("Questions").copied().unwrap_or(0),
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

fn found(place: &Place<'_>, window: &Window) -> Result<Found> {
    let failed = (window.failed > 0).then(|| format!("{} checks failed", window.failed));
    let per_check = |statements: u64| window.checks as f64 / statements.max(1) as f64;
    let bar = Bar::of(
        format!(
            "checks per statement, {} targets every {INTERVAL_S} s",
            grouped(window.targets.into())
        ),
        Some(per_check(window.questions)),
        (Bound::Min(CHECKS_PER_STATEMENT), "checks"),
        place.flaw().or(failed),
    );
    let mut table = Table::new(&["in the window", "number", "checks for each"]);
    let mut row = |what: &str, count: u64| {
        table.row([
            what.to_owned(),
            grouped(count),
            format!("{:.0}", per_check(count)),
        ]);
    };
    row("checks", window.checks);
    row("everything said to the server", window.questions);
    row("of it, statements that read or write rows", window.work());
    row("rows of freshness", window.freshness_rows);
    for (kind, count) in window
        .by_kind
        .iter()
        .filter(|(kind, _)| *kind != "Questions")
    {
        row(kind, *count);
    }
    let note = format!(
        "\n{} s; the server used {:.2} s of CPU.\n",
        window.seconds, window.server_cpu_s
    );
    Ok(Found {
        title: "A healthy fleet",
        note: NOTE,
        bars: vec![bar],
        table: table.markdown() + &note,
        numbers: serde_json::to_value(window)?,
    })
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
        assert_eq!(window.work(), 32);
    }
}
