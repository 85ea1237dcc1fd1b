//! A node with many targets: from the start of its process to its first check, on both stores and
//! on the table of an older system.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::filled::{INTERVAL_S, PLACES, filled};
use super::{Found, Place};
use crate::bar::Bar;
use crate::baseline::median;
use crate::clock::Stopwatch;
use crate::farm::Farm;
use crate::mariadb::MariaDb;
use crate::node::{Node, NodePlan};
use crate::table::{Table, grouped};

const LIMIT: Duration = Duration::from_mins(2);
const MAX_S: f64 = 5.0;
const NOTE: &str = "From the start of the process to its first finished check, and to the last \
    target loaded; the targets are in the store already, and the stores took turns. The legacy \
    table has the same sites, in the columns of an older system, and no settings of single rows. \
    Bars are held against the median.";

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
        bars: PLACES.map(bar).into(),
        table: table(&starts),
        numbers: serde_json::to_value(&starts)?,
    })
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
