//! Nothing is wrong with us, and much of the fleet fails: all names of one name server, then
//! two fifths of the sites in silence. Neither may be taken for trouble of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use super::doubts::Doubts;
use super::plan::{INTERVAL_S, TIMEOUT_MS, within_ms};
use super::{CANARIES, HTTPS_EVERY, canaries};
use crate::clock::{self, Stopwatch};
use crate::demo::Progress;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::findings::{self, KindRow};
use crate::gates::{self, Gate};
use crate::node::{Node, NodePlan};
use crate::truth;

const SITES: u32 = 3_000;
/// Sites whose name server fails.
const SERVFAIL: u32 = SITES * 3 / 10;
/// Sites that go dark.
const DARK: u32 = SITES * 4 / 10;
/// Between the end of the one and the begin of the other.
const REST_S: u32 = 2 * INTERVAL_S;
const POLL: Duration = Duration::from_millis(500);

/// What became of it.
#[derive(Debug, Serialize)]
pub(super) struct TrueDown {
    pub(super) lasts_s: u32,
    pub(super) rows: Vec<KindRow>,
    pub(super) within_ms: u32,
    pub(super) doubts: Doubts,
    #[serde(skip)]
    gates: Vec<Gate>,
}

impl TrueDown {
    pub(super) fn gates(&self) -> Vec<Gate> {
        self.gates.clone()
    }
}

/// Runs both, each for `lasts_s`.
pub(super) async fn run(
    (farm, ringwatch): (&PathBuf, &PathBuf),
    lasts_s: u32,
    folder: &Path,
) -> Result<TrueDown> {
    let folder = folder.join("true-down");
    std::fs::create_dir_all(&folder)?;
    let scenario = folder.join("failing.toml");
    std::fs::write(&scenario, toml(lasts_s))?;
    let plan = FarmPlan {
        program: farm.clone(),
        sites: SITES + CANARIES,
        interval_s: INTERVAL_S,
        https_every: HTTPS_EVERY,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: Some(scenario),
        silent_max: None,
        dns_ttl_s: None,
        cpu: None,
    };
    let mut farm = Farm::start(&plan, &folder.join("farm")).await?;
    let targets = folder.join("targets.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
    let flags = take_canaries_out(&targets)?;
    farm.start_scenario().await?;
    let zero = Stopwatch::start();
    let plan = NodePlan {
        program: ringwatch.clone(),
        folder: folder.join("node"),
        targets: Some(targets),
        probe_cpu: None,
        histogram_interval_s: 5,
        store: None,
        flags,
    };
    let mut node = Node::start(plan, &farm.ready).await?;
    let watching_since_ms = clock::unix_ms();
    let doubts = follow(zero, lasts_s, &mut farm, &mut node).await?;
    let status = node.plan().status()?;
    let faults = truth::parse_faults(&farm.truth().await?)?;
    node.stop().await?;
    let incidents = truth::parse_incidents(&node.plan().events()?)?;
    farm.stop().await?;
    let found = findings::compare(&faults, &incidents, TIMEOUT_MS.into(), watching_since_ms);
    let planned = [
        ("dns_servfail", SERVFAIL as usize),
        ("black_hole", DARK as usize),
    ];
    Ok(TrueDown {
        lasts_s,
        gates: vec![
            gates::faults(&found, &planned),
            in_time(&found.kinds, within_ms(1)),
            gates::false_downs(&found),
            gates::accounts(&status),
            doubts.gate(lasts_s),
        ],
        rows: found.kinds,
        within_ms: within_ms(1),
        doubts,
    })
}

/// Every failure is confirmed as soon as it must be.
fn in_time(kinds: &[KindRow], within_ms: u32) -> Gate {
    let late = kinds.iter().filter_map(|row| {
        let slowest = row.down.as_ref().map_or(0, |spread| spread.max);
        (slowest > within_ms.into()).then(|| {
            let (slowest, within) = (slowest as f64 / 1_000.0, f64::from(within_ms) / 1_000.0);
            format!(
                "{}: the last one after {slowest:.1} s of {within:.1}",
                row.kind
            )
        })
    });
    Gate {
        name: "found in time",
        failures: late.collect(),
    }
}

/// When the silence begins: after the names are well again.
fn dark_from_s(lasts_s: u32) -> u32 {
    lasts_s + REST_S
}

fn toml(lasts_s: u32) -> String {
    let dark_from_s = dark_from_s(lasts_s);
    format!(
        "[[fault]]\nkind = \"dns_servfail\"\nfirst_site = 0\ncount = {SERVFAIL}\noffset_s = 0\n\
         duration_s = {lasts_s}\n\n[[fault]]\nkind = \"black_hole\"\nfirst_site = {}\n\
         count = {DARK}\noffset_s = {dark_from_s}\nduration_s = {lasts_s}\n",
        SERVFAIL + 100
    )
}

/// Canaries are the last rows of the farm's list: they leave it, and are told by flags.
fn take_canaries_out(targets: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(targets)?;
    let mut lines = text.lines();
    let fleet: Vec<&str> = lines.by_ref().take(1 + SITES as usize).collect();
    std::fs::write(targets, fleet.join("\n") + "\n")?;
    Ok(canaries(lines))
}

/// Waits for all of it to be over; how far the node believed what failed.
async fn follow(zero: Stopwatch, lasts_s: u32, farm: &mut Farm, node: &mut Node) -> Result<Doubts> {
    let total_s = u64::from(dark_from_s(lasts_s) + lasts_s + 2 * INTERVAL_S);
    let mut progress = Progress::new(total_s);
    let mut doubts = Doubts::default();
    while zero.elapsed() < Duration::from_secs(total_s) {
        farm.must_run()?;
        node.must_run()?;
        let scrape = node.scrape().await?;
        doubts.look(&scrape)?;
        progress.show(zero.elapsed().as_secs(), "true down", &scrape);
        sleep(POLL).await;
    }
    Ok(doubts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_of_the_fleet_fail_one_after_the_other() {
        let file: toml::Table = toml(60).parse().expect("valid TOML");
        let faults = file["fault"].as_array().expect("tables");
        let number = |index: usize, key: &str| faults[index][key].as_integer().expect("a number");
        let end = |index, from, long| number(index, from) + number(index, long);
        assert!(end(0, "first_site", "count") < number(1, "first_site"));
        assert!(end(0, "offset_s", "duration_s") < number(1, "offset_s"));
        assert_eq!(number(1, "count"), i64::from(SITES * 2 / 5));
        assert!(
            end(1, "first_site", "count") < i64::from(SITES),
            "the rest is well"
        );
    }
}
