//! A node with many targets: from the start of its process to its first check, on both stores and
//! on the table of an older system.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{Found, Place, targets_of};
use crate::bar::Bar;
use crate::baseline::median;
use crate::clock::Stopwatch;
use crate::farm::Farm;
use crate::mariadb::MariaDb;
use crate::node::{Node, NodePlan};
use crate::table::{Table, grouped};

/// A day: little is probed while the rest loads.
const INTERVAL_S: u32 = 86_400;
const LIMIT: Duration = Duration::from_mins(2);
const MAX_S: f64 = 5.0;
const NOTE: &str = "From the start of the process to its first finished check, and to the last \
    target loaded; the targets are in the store already, and the stores took turns. The legacy \
    table has the same sites, in the columns of an older system, and no settings of single rows. \
    Bars are held against the median.";

/// Where the targets are, in the order of the report.
const SQLITE: &str = "SQLite";
const OWN: &str = "MariaDB";
const LEGACY: &str = "MariaDB, legacy table";

/// What is read as targets from a legacy table.
const CONFIG: &str = "[legacy]\nload = true\n";
/// The legacy table with the sites of our own one. An older system counts in minutes; a day of them
/// is more than its own column holds.
const LEGACY_SITES: &str = "CREATE TABLE legacy.jetpack_monitor_sites (\
    jetpack_monitor_site_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, \
    blog_id BIGINT UNSIGNED NOT NULL, \
    bucket_no SMALLINT UNSIGNED NOT NULL, \
    monitor_url VARCHAR(300) NOT NULL, \
    monitor_active TINYINT UNSIGNED NOT NULL DEFAULT 1, \
    site_status TINYINT UNSIGNED NOT NULL DEFAULT 1, \
    last_status_change TIMESTAMP NULL DEFAULT NULL, \
    check_interval SMALLINT UNSIGNED NOT NULL DEFAULT 5, \
    PRIMARY KEY (jetpack_monitor_site_id), \
    KEY blog_id_monitor_url (blog_id, monitor_url), \
    KEY bucket_no_monitor_active_check_interval (bucket_no, monitor_active, check_interval)\
    ) ENGINE=InnoDB DEFAULT CHARSET=latin1; \
    INSERT INTO legacy.jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
    monitor_url, check_interval) SELECT id, blog_id, shard, CONVERT(monitor_url USING latin1), \
    check_interval_sec DIV 60 FROM starts.jetpack_monitor_check_targets";

#[derive(Clone, Debug, Serialize)]
struct Start {
    store: &'static str,
    targets: u32,
    first_probe_s: f64,
    loaded_s: f64,
}

pub(super) async fn measure(place: &Place<'_>) -> Result<Found> {
    let sites = place.sizes.start_sites;
    let mut server = MariaDb::start(&place.server_folder(), Some(place.server_cpu())).await?;
    let mut farm = place.farm(sites, INTERVAL_S, None).await?;
    let plans = filled(place, &server, &farm).await?;
    let mut starts = Vec::new();
    for _ in 0..place.sizes.starts {
        for (store, plan) in &plans {
            starts.push(start(store, plan, sites, &farm).await?);
        }
    }
    farm.stop().await?;
    server.stop().await?;
    let bar = |store: &str| {
        let of_store = starts.iter().filter(|start| start.store == store);
        let seconds: Vec<f64> = of_store.map(|start| start.first_probe_s).collect();
        let what = format!(
            "first probe with {} targets, {store}",
            grouped(sites.into())
        );
        Bar::new(what, Some(median(seconds)), (MAX_S, "s"), place.flaw())
    };
    Ok(Found {
        title: "A start",
        note: NOTE,
        bars: [SQLITE, OWN, LEGACY].map(bar).into(),
        table: table(&starts),
        numbers: serde_json::to_value(&starts)?,
    })
}

/// Nodes whose stores hold every site of the farm.
async fn filled(
    place: &Place<'_>,
    server: &MariaDb,
    farm: &Farm,
) -> Result<[(&'static str, NodePlan); 3]> {
    let targets = targets_of(farm, &place.folder, INTERVAL_S).await?;
    let on_server = |name: &str, database: &str| {
        server.create(database)?;
        let plan = place.node(name, Some(MariaDb::url(database, server.port())));
        plan.migrate()?;
        anyhow::Ok(plan)
    };
    let sqlite = place.node("sqlite", None);
    let own = on_server("mariadb-node", "starts")?;
    for plan in [&sqlite, &own] {
        let filling = NodePlan {
            targets: Some(targets.clone()),
            ..plan.clone()
        };
        Node::start(filling, &farm.ready).await?.stop().await?;
    }
    let config = place.folder.join("legacy.toml");
    std::fs::write(&config, CONFIG)?;
    let legacy = NodePlan {
        flags: vec!["--config".to_owned(), config.display().to_string()],
        ..on_server("legacy-node", "legacy")?
    };
    server.sql(LEGACY_SITES)?;
    Ok([(SQLITE, sqlite), (OWN, own), (LEGACY, legacy)])
}

async fn start(store: &'static str, plan: &NodePlan, targets: u32, farm: &Farm) -> Result<Start> {
    let watch = Stopwatch::start();
    let mut node = Node::launch(plan.clone(), &farm.ready).await?;
    node.wait_probed(1, LIMIT).await?;
    let first_probe_s = watch.seconds();
    node.wait_loaded().await?;
    let loaded_s = watch.seconds();
    node.stop().await?;
    Ok(Start {
        store,
        targets,
        first_probe_s,
        loaded_s,
    })
}

fn table(starts: &[Start]) -> String {
    let mut table = Table::new(&["store", "targets", "first probe s", "loaded s"]);
    for start in starts {
        table.row([
            start.store.to_owned(),
            grouped(start.targets.into()),
            format!("{:.2}", start.first_probe_s),
            format!("{:.2}", start.loaded_s),
        ]);
    }
    table.markdown()
}
