//! Counters of all that runs in a rung, at one moment, and what happened between two of them.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::record::Cpu;
use crate::baseline::engine::CORE_THREAD;
use crate::clock::{self, Stopwatch};
use crate::metrics::Scrape;
use crate::node::Node;
use crate::procfs::{self, ThreadCpu};

/// The processes of a rung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pids {
    pub(super) node: u32,
    pub(super) farm: u32,
    /// The server's, where there is one.
    pub(super) store: Option<u32>,
}

/// CPU time of the processes.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    at: Stopwatch,
    pub(super) unix_ms: u64,
    node: Duration,
    core: Duration,
    farm: Duration,
    store: Option<Duration>,
    threads: Vec<ThreadCpu>,
    /// How long the probe core was ready while others had its CPU; absent where the kernel keeps
    /// no account.
    queued: Option<Duration>,
}

impl Reading {
    pub(super) fn of_processes(pids: Pids) -> Result<Self> {
        let threads = procfs::threads(pids.node)?;
        Ok(Self {
            queued: queued(pids.node, &threads),
            node: procfs::process_cpu(pids.node)?,
            core: procfs::threads_cpu(pids.node, CORE_THREAD)?,
            farm: procfs::process_cpu(pids.farm)?,
            store: pids.store.map(procfs::process_cpu).transpose()?,
            threads,
            unix_ms: clock::unix_ms(),
            at: Stopwatch::start(),
        })
    }

    pub(super) fn seconds(&self, later: &Self) -> f64 {
        (self.at.seconds() - later.at.seconds()).max(1e-3)
    }

    /// Part of a CPU that the probe core had.
    pub(super) fn core_busy(&self, later: &Self) -> f64 {
        seconds(self.core, later.core) / self.seconds(later)
    }

    /// Part of the time that the probe core was ready while others had its CPU.
    pub(super) fn core_queued(&self, later: &Self) -> Option<f64> {
        Some(seconds(self.queued?, later.queued?) / self.seconds(later))
    }

    /// Part of a CPU that those had who share the farm's: the node without its probe core, and the
    /// store.
    pub(super) fn others_busy(&self, later: &Self) -> f64 {
        let node = seconds(self.node, later.node) - seconds(self.core, later.core);
        (node.max(0.0) + self.store_s(later).unwrap_or(0.0)) / self.seconds(later)
    }

    /// Part of a CPU that the store's server had.
    pub(super) fn store_busy(&self, later: &Self) -> f64 {
        self.store_s(later).unwrap_or(0.0) / self.seconds(later)
    }

    fn store_s(&self, later: &Self) -> Option<f64> {
        Some(seconds(self.store?, later.store?))
    }

    /// CPU of `checks` checks; how the farm was is its own word.
    pub(super) fn cpu(&self, later: &Self, checks: u64, farm: (f64, f64)) -> Cpu {
        let per_check = |seconds: f64| seconds * 1e6 / checks.max(1) as f64;
        let threads = procfs::used_since(&self.threads, &later.threads).into_iter();
        Cpu {
            core_busy: self.core_busy(later),
            farm_busy: farm.0,
            farm_lag_p99_ms: farm.1,
            core_us: per_check(seconds(self.core, later.core)),
            node_us: per_check(seconds(self.node, later.node)),
            farm_us: per_check(seconds(self.farm, later.farm)),
            store_us: self.store_s(later).map(per_check),
            threads_us: threads
                .map(|(name, used)| (name, per_check(used)))
                .collect(),
        }
    }
}

/// Of all probe cores.
fn queued(pid: u32, threads: &[ThreadCpu]) -> Option<Duration> {
    let cores = threads.iter().filter(|t| t.name.starts_with(CORE_THREAD));
    let times = cores.map(|core| procfs::thread_queued(pid, core.tid).ok());
    times.map(|queued| queued.map(|it| it.time)).sum()
}

fn seconds(before: Duration, after: Duration) -> f64 {
    after.saturating_sub(before).as_secs_f64()
}

/// Counters of the node that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) probed: u64,
    pub(super) up: u64,
    pub(super) unknown: u64,
    pub(super) shed: u64,
    pub(super) tls_full: u64,
    pub(super) tls_resumed: u64,
    pub(super) dns_queries: u64,
    pub(super) freshness_rows: u64,
}

/// What every scrape of a node has, from the first on. Read as it is, a metric that was renamed
/// would be a 0: nothing shed, nothing in flight, nothing waiting.
const ALWAYS: [&str; 13] = [
    "ringwatch_due_total",
    "ringwatch_pending",
    "ringwatch_in_flight",
    "ringwatch_in_flight_limit",
    "ringwatch_probed_total",
    "ringwatch_shed_total",
    "ringwatch_stale_total",
    "ringwatch_cancelled_total",
    "ringwatch_targets",
    "ringwatch_projection_pending",
    "ringwatch_store_rows_total",
    "ringwatch_tls_handshakes_total",
    "ringwatch_dns_queries_total",
];

/// Refuses a node that does not tell what is read here.
///
/// # Errors
/// Which metrics are not there.
pub(super) fn must_tell_all(scrape: &Scrape) -> Result<()> {
    let lacking = scrape.lacking(&ALWAYS);
    ensure!(
        lacking.is_empty(),
        "the node's metrics have no {}: this ladder and this node are not of one revision",
        lacking.join(", ")
    );
    Ok(())
}

impl Counters {
    pub(super) async fn read(node: &Node) -> Result<Self> {
        Ok(Self::of(&node.scrape().await?))
    }

    pub(super) fn of(scrape: &Scrape) -> Self {
        let count =
            |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels).unwrap_or(0.0) as u64;
        let tls = |kind| count("ringwatch_tls_handshakes_total", &[("kind", kind)]);
        Self {
            probed: count("ringwatch_probed_total", &[]),
            up: count("ringwatch_probed_total", &[("verdict", "up")]),
            unknown: count("ringwatch_probed_total", &[("verdict", "unknown")]),
            shed: count("ringwatch_shed_total", &[]),
            tls_full: tls("full"),
            tls_resumed: tls("resumed"),
            dns_queries: count("ringwatch_dns_queries_total", &[]),
            freshness_rows: count("ringwatch_store_rows_total", &[("table", "freshness")]),
        }
    }

    /// What was added until `later`.
    pub(super) fn until(&self, later: &Self) -> Self {
        Self {
            probed: later.probed.saturating_sub(self.probed),
            up: later.up.saturating_sub(self.up),
            unknown: later.unknown.saturating_sub(self.unknown),
            shed: later.shed.saturating_sub(self.shed),
            tls_full: later.tls_full.saturating_sub(self.tls_full),
            tls_resumed: later.tls_resumed.saturating_sub(self.tls_resumed),
            dns_queries: later.dns_queries.saturating_sub(self.dns_queries),
            freshness_rows: later.freshness_rows.saturating_sub(self.freshness_rows),
        }
    }
}

/// What was seen of the node in a window of some seconds, poll by poll.
#[derive(Clone, Debug, Default)]
pub(super) struct Polls {
    /// Checks that finished in each second.
    pub(super) by_second: Vec<u64>,
    /// When the last poll was, in ms, and how many checks had finished.
    pub(super) last: Option<(u64, u64)>,
    pub(super) in_flight_max: u64,
    /// The lowest limit of attempts in flight that a core had; absent where none was told.
    pub(super) limit_min: Option<u64>,
    /// Polls in which a core had as many in flight as it admitted, a sentence each.
    pub(super) full: Vec<String>,
    /// Freshness that waits to be written, at most.
    pub(super) pending_max: u64,
    /// Age of the oldest check, at most, in s; absent where it was never told.
    pub(super) freshness_max_s: Option<f64>,
    pub(super) rss_max_bytes: u64,
    /// Sums that did not balance, a sentence each.
    pub(super) unbalanced: Vec<String>,
}

/// More examples help nobody.
const EXAMPLES_MAX: usize = 5;

impl Polls {
    /// Takes one scrape in, so many ms after the begin of the window.
    pub(super) fn add(&mut self, at_ms: u64, scrape: &Scrape, rss_bytes: u64) {
        let sum = |name: &str| scrape.sum(name, &[]).unwrap_or(0.0) as u64;
        let probed = sum("ringwatch_probed_total");
        self.spread(at_ms, probed);
        self.in_flight_max = self.in_flight_max.max(sum("ringwatch_in_flight"));
        self.admitted(at_ms, scrape);
        self.pending_max = self.pending_max.max(sum("ringwatch_projection_pending"));
        let oldest = scrape.sum("ringwatch_freshness_age_seconds", &[("quantile", "1")]);
        self.freshness_max_s = match (self.freshness_max_s, oldest) {
            (Some(known), Some(oldest)) => Some(known.max(oldest)),
            (known, oldest) => known.or(oldest),
        };
        self.rss_max_bytes = self.rss_max_bytes.max(rss_bytes);
        let parts = [
            "pending",
            "in_flight",
            "probed_total",
            "shed_total",
            "stale_total",
            "cancelled_total",
        ];
        let parts: u64 = parts
            .iter()
            .map(|name| sum(&format!("ringwatch_{name}")))
            .sum();
        let due = sum("ringwatch_due_total");
        if due != parts && self.unbalanced.len() < EXAMPLES_MAX {
            let what = "pending + in flight + probed + shed + stale + cancelled";
            self.unbalanced
                .push(format!("after {at_ms} ms: {due} due ≠ {parts} {what}"));
        }
    }

    /// What each core admits and has in flight, in this poll.
    fn admitted(&mut self, at_ms: u64, scrape: &Scrape) {
        for core in scrape.labels("ringwatch_in_flight_limit", "core") {
            let of = |name: &str| scrape.sum(name, &[("core", &core)]);
            let limit = of("ringwatch_in_flight_limit").unwrap_or(0.0) as u64;
            let busy = of("ringwatch_in_flight").unwrap_or(0.0) as u64;
            self.limit_min = Some(self.limit_min.map_or(limit, |least| least.min(limit)));
            if busy >= limit && self.full.len() < EXAMPLES_MAX {
                self.full.push(format!(
                    "after {at_ms} ms core {core} had {busy} checks in flight, and admitted {limit}"
                ));
            }
        }
    }

    /// Checks since the last poll, over the seconds since then by how much of each has passed.
    fn spread(&mut self, at_ms: u64, probed: u64) {
        if let Some((last_ms, before)) = self.last.filter(|(last_ms, _)| *last_ms < at_ms) {
            let (whole, length_ms) = (probed.saturating_sub(before), at_ms - last_ms);
            let mut given = 0;
            for second in last_ms / 1_000..=(at_ms - 1) / 1_000 {
                let until_ms = at_ms.min((second + 1) * 1_000) - last_ms;
                let until = whole * until_ms / length_ms;
                let second = second as usize;
                if self.by_second.len() <= second {
                    self.by_second.resize(second + 1, 0);
                }
                self.by_second[second] += until - given;
                given = until;
            }
        }
        self.last = Some((at_ms, probed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(due: u64, probed: u64, limit: u64) -> Scrape {
        Scrape::parse(&format!(
            "ringwatch_due_total{{core=\"0\"}} {due}\n\
             ringwatch_probed_total{{core=\"0\",verdict=\"up\"}} {probed}\n\
             ringwatch_in_flight{{core=\"0\"}} 2\n\
             ringwatch_in_flight_limit{{core=\"0\"}} {limit}\n\
             ringwatch_projection_pending 7\n\
             ringwatch_freshness_age_seconds{{quantile=\"1\"}} 9.5\n"
        ))
    }

    #[test]
    fn polls_keep_the_worst_and_count_every_check_once() {
        let mut polls = Polls::default();
        for (at_ms, probed) in [(0, 100), (500, 150), (1_000, 200), (2_900, 500)] {
            polls.add(at_ms, &scrape(probed + 2, probed, 8_192), at_ms);
        }
        assert_eq!(polls.by_second, [100, 157, 143], "300 over 1.9 s");
        assert_eq!(
            (polls.in_flight_max, polls.pending_max, polls.rss_max_bytes),
            (2, 7, 2_900)
        );
        assert_eq!(polls.freshness_max_s, Some(9.5));
        assert!(polls.unbalanced.is_empty() && polls.full.is_empty());
        assert_eq!(polls.limit_min, Some(8_192));
        polls.add(3_000, &scrape(504, 501, 100), 1);
        assert_eq!(polls.unbalanced.len(), 1, "{:?}", polls.unbalanced);
        assert!(
            polls.unbalanced[0].contains("504 due ≠ 503"),
            "{:?}",
            polls.unbalanced
        );
        assert_eq!((polls.limit_min, polls.full.len()), (Some(100), 0));
        polls.add(3_500, &scrape(504, 502, 2), 1);
        assert_eq!(
            polls.full,
            ["after 3500 ms core 0 had 2 checks in flight, and admitted 2"]
        );
    }

    #[test]
    fn a_metric_that_is_not_there_is_no_zero() {
        let text: Vec<String> = ALWAYS.iter().map(|name| format!("{name} 0\n")).collect();
        assert!(must_tell_all(&Scrape::parse(&text.concat())).is_ok());
        let cut = must_tell_all(&Scrape::parse(&text[1..].concat())).expect_err("one lacks");
        assert!(cut.to_string().contains("no ringwatch_due_total:"), "{cut}");
    }

    #[test]
    fn counters_are_read_by_their_labels() {
        let scrape = Scrape::parse(
            "ringwatch_probed_total{verdict=\"up\"} 8\n\
             ringwatch_probed_total{verdict=\"down\"} 2\n\
             ringwatch_probed_total{verdict=\"unknown\"} 1\n\
             ringwatch_shed_total{reason=\"late\"} 3\n\
             ringwatch_tls_handshakes_total{kind=\"full\"} 4\n\
             ringwatch_store_rows_total{table=\"freshness\"} 6\n",
        );
        let counters = Counters::of(&scrape);
        assert_eq!(
            (
                counters.probed,
                counters.up,
                counters.unknown,
                counters.shed
            ),
            (11, 8, 1, 3)
        );
        assert_eq!((counters.tls_full, counters.freshness_rows), (4, 6));
        let grown = Counters::default().until(&counters);
        assert_eq!(grown, counters);
        assert_eq!(counters.until(&counters), Counters::default());
    }
}
