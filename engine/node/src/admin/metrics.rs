//! Prometheus metrics: one collector over the snapshots, nothing shared with the hot path, no
//! label per target. Names as in the documentation; a test compares them.

mod depths;
mod legacy;
mod verifiers;

use std::fmt;
use std::sync::atomic::Ordering;

use cores::CoreSnapshot;
use model::outcome::Phases;
use model::{FailureClass, Verdict};
use persist::{BOUNDS_MS, Durations, FreshnessAges, Health, SinkSnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::run::feeder::open_files;
use crate::run::legacy::stats::LegacySeen;
use crate::run::lifetime::{BOUNDS_US, Buckets, Lifetime};
use crate::run::pressure;
use crate::run::view::View;
use crate::verifier::client::stats::VerifierSeen;

/// Everything that one scrape shows.
#[derive(Debug)]
struct Scrape {
    driver: &'static str,
    cores: Vec<CoreSnapshot>,
    sink: SinkSnapshot,
    targets_refused: u64,
    changes_waiting: u64,
    paused: u64,
    forgotten: [(&'static str, u64); 6],
    forgetting_steps: u64,
    forgetting_failed: u64,
    audit_waiting: u64,
    audit_left_out: u64,
    drift_rows: u64,
    drift_looks: [(&'static str, u64); 3],
    health: Health,
    ages: Option<FreshnessAges>,
    legacy: LegacySeen,
    verifiers: VerifierSeen,
    /// Of the monotonic clock.
    now_us: u64,
    histograms: Vec<CoreBuckets>,
    rss_bytes: u64,
    fds: u64,
}

/// Histograms of one core, copied for the scrape.
#[derive(Debug)]
struct CoreBuckets {
    phases: [Buckets; 6],
    lag: Buckets,
    reap: Buckets,
    loop_lag: Buckets,
}

impl From<&Lifetime> for CoreBuckets {
    fn from(one: &Lifetime) -> Self {
        Self {
            phases: one.phases.clone(),
            lag: one.lag.clone(),
            reap: one.reap.clone(),
            loop_lag: one.loop_lag.clone(),
        }
    }
}

/// The metrics page.
pub(crate) fn render(view: &View) -> Result<String, fmt::Error> {
    let (sink, cores) = view.snapshots();
    let scrape = Scrape {
        driver: view.facts.driver.as_str(),
        cores,
        sink,
        targets_refused: view.refusals.total(),
        changes_waiting: view.changes_waiting.load(Ordering::Relaxed),
        paused: view.paused.load(Ordering::Relaxed),
        forgotten: view.retention.rows(),
        forgetting_steps: view.retention.steps(),
        forgetting_failed: view.retention.failed(),
        audit_waiting: view.audit.waiting(),
        audit_left_out: view.audit.left_out(),
        drift_rows: view.drift.rows(),
        drift_looks: view.drift.totals(),
        health: view.health(),
        ages: view.ages(),
        legacy: view.legacy.look(),
        verifiers: view.verifiers.look(),
        now_us: view.clock.mono().0,
        histograms: view.with_histograms(|all| all.iter().map(CoreBuckets::from).collect()),
        rss_bytes: rss_bytes(),
        fds: open_files(),
    };
    scrape.text()
}

impl Scrape {
    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("ringwatch");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// The length of the channel from a core, as the sink measured it.
    fn outcome_depth(&self, index: usize) -> u64 {
        let own = self.sink.cores.get(index);
        own.map_or(0, |(_, account)| account.queued)
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.core_counters(&mut page)?;
        self.verdicts_and_failures(&mut page)?;
        self.core_gauges(&mut page)?;
        self.dns_and_tls(&mut page)?;
        self.core_depths(&mut page)?;
        self.sink_metrics(&mut page)?;
        self.sink_depths(&mut page)?;
        self.freshness(&mut page)?;
        self.legacy_rows(&mut page)?;
        self.verifiers(&mut page)?;
        self.process(&mut page)?;
        self.latency_histograms(&mut page)
    }
}

type Label = (&'static str, String);

impl Scrape {
    /// One sample per core.
    fn per_core(&self, of: impl Fn(usize, &CoreSnapshot) -> u64) -> Vec<(Vec<Label>, u64)> {
        let sample = |(index, core): (usize, &CoreSnapshot)| {
            (vec![("core", index.to_string())], of(index, core))
        };
        self.cores.iter().enumerate().map(sample).collect()
    }

    /// One sample per core and word.
    fn per_core_by(
        &self,
        label: &'static str,
        of: impl Fn(&CoreSnapshot) -> Vec<(&'static str, u64)>,
    ) -> Vec<(Vec<Label>, u64)> {
        let mut samples = Vec::new();
        for (index, core) in self.cores.iter().enumerate() {
            for (word, value) in of(core) {
                let labels = vec![("core", index.to_string()), (label, word.to_owned())];
                samples.push((labels, value));
            }
        }
        samples
    }

    fn core_counters(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("due", "Checks that became due", self.per_core(|_, c| c.due))?;
        let late = self.per_core(|_, core| core.late);
        let help = "Finished checks that were over only after their deadline";
        page.counter("late", help, late)?;
        let shed = self.per_core_by("reason", |core| {
            let late = core.shed - core.shed_deferred - core.shed_slowed;
            vec![
                ("late", late),
                ("deferred", core.shed_deferred),
                ("slowed", core.shed_slowed),
            ]
        });
        page.counter("shed", "Checks given up before their start", shed)?;
        let stale = self.per_core(|_, core| core.stale);
        page.counter("stale", "Checks of an older configuration", stale)?;
        let cancelled = self.per_core(|_, core| core.cancelled);
        page.counter(
            "cancelled",
            "Checks of removed targets, or cut by the drain",
            cancelled,
        )?;
        let held = self.per_core(|_, core| core.held_total);
        page.counter("outcomes_held", "Results that met a full channel", held)?;
        let bytes = self.per_core_by("dir", |core| {
            vec![("in", core.bytes_in), ("out", core.bytes_out)]
        });
        page.counter("bytes", "Bytes of checks on the wire", bytes)
    }

    fn verdicts_and_failures(&self, page: &mut Page<'_>) -> fmt::Result {
        let verdicts = self.per_core_by("verdict", |core| {
            Verdict::ALL
                .iter()
                .map(|v| v.as_str())
                .zip(core.verdicts)
                .collect()
        });
        page.counter("probed", "Finished checks by verdict", verdicts)?;
        let failures = self.per_core_by("class", |core| {
            FailureClass::ALL
                .iter()
                .map(|&class| (class.as_str(), core.failed(class)))
                .collect()
        });
        page.counter(
            "failures",
            "Finished checks that were not up, by class",
            failures,
        )
    }

    fn core_gauges(&self, page: &mut Page<'_>) -> fmt::Result {
        let active: u64 = self.cores.iter().map(|core| core.targets).sum();
        let counters = &self.sink.counters;
        let states = [
            ("active", active),
            ("suspected", counters.suspected),
            ("unconfirmed", counters.unconfirmed),
            ("seems_down", counters.open_seems_down),
            ("down", counters.open_down),
            ("degraded", counters.open_degraded),
            ("warning", counters.open_warning),
            ("not_known", counters.not_known),
            (
                "maintenance",
                self.ages.map_or(0, |ages| ages.in_maintenance),
            ),
            ("paused", self.paused),
        ];
        page.gauge("targets", "Targets by state", by("state", &states))?;
        let in_flight = self.per_core(|_, core| core.in_flight);
        page.gauge("in_flight", "Checks that run", in_flight)?;
        page.gauge(
            "pending",
            "Checks that are due and wait",
            self.per_core(|_, c| c.pending),
        )?;
        let rates = self.per_core(|_, core| core.required_per_ks);
        let rates = rates
            .into_iter()
            .map(|(l, per_ks)| (l, per_ks as f64 / 1_000.0))
            .collect();
        page.gauge(
            "required_rate",
            "Checks per second that the targets ask for",
            rates,
        )?;
        let depth = self.per_core(|index, _| self.outcome_depth(index));
        page.gauge("outcome_depth", "Results between core and sink", depth)?;
        let driver = vec![(vec![("driver", self.driver.to_owned())], 1u64)];
        page.gauge("driver_info", "Kernel interface of the probe cores", driver)
    }

    fn dns_and_tls(&self, page: &mut Page<'_>) -> fmt::Result {
        let queries = self.per_core_by("rcode", |core| {
            let dns = &core.dns;
            vec![
                ("noerror", dns.noerror),
                ("nxdomain", dns.nxdomain),
                ("servfail", dns.servfail),
                ("other", dns.other),
                ("timeout", dns.timeouts),
            ]
        });
        page.counter(
            "dns_queries",
            "Answered or timed-out DNS queries by rcode",
            queries,
        )?;
        let cache = self.per_core_by("result", |core| {
            let dns = &core.dns;
            vec![
                ("hit", dns.hits),
                ("miss", dns.misses),
                ("negative_hit", dns.negative_hits),
                ("stale_hit", dns.stale_hits),
            ]
        });
        page.counter("dns_cache", "DNS lookups by what the cache had", cache)?;
        let tls = self.per_core_by("kind", |core| {
            vec![
                ("full", core.tls_full),
                ("resumed", core.tls_resumed),
                ("refused", core.tls_sessions_refused),
            ]
        });
        page.counter("tls_handshakes", "TLS handshakes of finished checks", tls)?;
        let hits = self.per_core(|_, core| core.tls_chain_hits);
        let help = "Full TLS handshakes whose chain was known as verified";
        page.counter("tls_chain_hits", help, hits)
    }

    fn sink_metrics(&self, page: &mut Page<'_>) -> fmt::Result {
        let sink = &self.sink.counters;
        let rows = [
            ("event_transitions", sink.transition_rows),
            ("jobs", sink.job_rows),
            ("freshness", sink.freshness_rows),
            ("check_history", sink.history_rows),
            ("audit_log", sink.audit_rows),
        ];
        page.counter("store_rows", "Rows written, by table", by("table", &rows))?;
        let retries = [
            ("apply", sink.apply_retries),
            ("freshness", sink.freshness_retries),
            ("history", sink.history_retries),
            ("audit", sink.audit_retries),
        ];
        page.counter(
            "store_retries",
            "Store writes tried again",
            by("code", &retries),
        )?;
        let records = [("written", sink.journal_records), ("applied", sink.applies)];
        page.counter(
            "journal_records",
            "Journal records by direction",
            by("dir", &records),
        )?;
        page.counter(
            "targets_refused",
            "Refused targets",
            plain(self.targets_refused),
        )?;
        let help = "Changed targets that wait for better times";
        page.gauge("changes_waiting", help, plain(self.changes_waiting))?;
        let pending = plain(sink.freshness_pending);
        page.gauge(
            "projection_pending",
            "Targets whose freshness waits",
            pending,
        )?;
        page.gauge(
            "journal_bytes",
            "Size of the journal",
            plain(sink.journal_bytes),
        )?;
        page.histogram_ms(
            "result_age_seconds",
            "Age of results when drained",
            &self.sink.result_age,
        )?;
        page.histogram_ms(
            "store_batch_seconds",
            "Time that the store took for a batch of facts",
            &self.sink.store_batch,
        )
    }

    fn freshness(&self, page: &mut Page<'_>) -> fmt::Result {
        // Not known in the first moments: no sample is better than a wrong one.
        let Some(ages) = self.ages else { return Ok(()) };
        let quantiles = [
            ("0.5", ages.p50_ms),
            ("0.9", ages.p90_ms),
            ("0.99", ages.p99_ms),
            ("1", ages.max_ms),
        ];
        let seconds = by("quantile", &quantiles);
        let seconds = seconds
            .into_iter()
            .map(|(l, ms)| (l, ms as f64 / 1_000.0))
            .collect();
        page.gauge(
            "freshness_age_seconds",
            "Age of the last check over all targets",
            seconds,
        )
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("rss_bytes", "Resident memory", plain(self.rss_bytes))?;
        page.gauge("fds", "Open files", plain(self.fds))?;
        let kinds = pressure::kinds(&self.health, &self.sink.counters);
        let pressure: Vec<(&str, u64)> = kinds
            .into_iter()
            .map(|(kind, is_short)| (kind, u64::from(is_short)))
            .collect();
        page.gauge(
            "pressure",
            "1 while we are short of something, or much fails",
            by("kind", &pressure),
        )?;
        self.doubt(page)?;
        self.canaries(page)
    }

    /// What tells an outage of our own network from one of theirs.
    fn canaries(&self, page: &mut Page<'_>) -> fmt::Result {
        let canaries = self.health.canaries;
        let states = [
            ("configured", u64::from(canaries.configured)),
            ("answering", u64::from(canaries.answering)),
        ];
        let help = "Canary targets that can be asked, and that answered last";
        page.gauge("canaries", help, by("state", &states))?;
        let networks = self.per_core(|_, core| core.networks);
        let help = "Networks (/16, of IPv6 /32) whose last checks are counted";
        page.gauge("networks", help, networks)?;
        let dark = plain(u64::from(self.health.dark_networks));
        let help = "Networks of which more than 90 % of the last checks did not connect";
        page.gauge("networks_dark", help, dark)
    }

    /// How far failing checks are believed, and what was not made an incident.
    fn doubt(&self, page: &mut Page<'_>) -> fmt::Result {
        let sink = &self.sink.counters;
        let doubt = [("deferring", sink.deferring), ("doubting", sink.doubting)];
        let help = "1 while connect failures and timeouts count late (deferring) or not (doubting)";
        page.gauge("doubt", help, by("kind", &doubt))?;
        let incidents = [
            ("node_suppressing", sink.node_suppressing),
            ("node_isolated", sink.node_isolated),
        ];
        let help = "1 while the operator is told of it";
        page.gauge("operator_incident", help, by("kind", &incidents))?;
        let audits = [
            ("maintenance_active", sink.maintenance_active),
            ("alert_suppressed", sink.alerts_suppressed),
            ("retry_dispatched", sink.retries_dispatched),
            ("verifier_sent", sink.verifiers_sent),
        ];
        let help = "What happened beside incidents";
        page.counter("audits", help, by("kind", &audits))?;
        let disbelieved = self.sink.disbelieved.by_signal();
        let disbelieved: Vec<(&str, u64)> = disbelieved.collect();
        let help = "Failing checks that said nothing of their targets, for a doubt of ours";
        page.counter("failures_disbelieved", help, by("signal", &disbelieved))
    }

    fn latency_histograms(&self, page: &mut Page<'_>) -> fmt::Result {
        let of = |pick: fn(&CoreBuckets) -> &Buckets| -> Vec<(Vec<Label>, &Buckets)> {
            let all = self.histograms.iter().enumerate();
            all.map(|(core, one)| (vec![("core", core.to_string())], pick(one)))
                .collect()
        };
        page.histogram(
            "schedule_lag_seconds",
            "How late checks started",
            of(|one| &one.lag),
        )?;
        let help = "How long the ends of checks may have waited for their core to look";
        page.histogram("reap_seconds", help, of(|one| &one.reap))?;
        page.histogram(
            "loop_lag_seconds",
            "Loop turns beyond a tick",
            of(|one| &one.loop_lag),
        )?;
        let mut phases = Vec::new();
        for (core, one) in self.histograms.iter().enumerate() {
            for (name, buckets) in Phases::NAMES.iter().zip(&one.phases) {
                let labels = vec![("core", core.to_string()), ("phase", (*name).to_owned())];
                phases.push((labels, buckets));
            }
        }
        page.histogram("phase_seconds", "Duration of the phases of checks", phases)
    }
}

fn plain(value: u64) -> Vec<(Vec<Label>, u64)> {
    vec![(Vec::new(), value)]
}

fn by(label: &'static str, samples: &[(&str, u64)]) -> Vec<(Vec<Label>, u64)> {
    samples
        .iter()
        .map(|&(word, value)| (vec![(label, word.to_owned())], value))
        .collect()
}

/// Writes the metrics of one page.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn metric<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        of: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, of)
    }

    fn counter(&mut self, name: &str, help: &str, samples: Vec<(Vec<Label>, u64)>) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut sample = metric.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<V: prometheus_client::encoding::EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: Vec<(Vec<Label>, V)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        samples: Vec<(Vec<Label>, &Buckets)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        for (labels, buckets) in samples {
            let bounds = BOUNDS_US
                .iter()
                .map(|&us| us as f64 / 1e6)
                .chain([f64::INFINITY]);
            let counts: Vec<(f64, u64)> = bounds.zip(buckets.counts).collect();
            let total = buckets.counts.iter().sum();
            let sum = buckets.sum_us as f64 / 1e6;
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, total, &counts, None)?;
        }
        Ok(())
    }

    fn histogram_ms(&mut self, name: &str, help: &str, durations: &Durations) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Histogram)?;
        let bounds = BOUNDS_MS
            .iter()
            .map(|&ms| ms as f64 / 1e3)
            .chain([f64::INFINITY]);
        let counts: Vec<(f64, u64)> = bounds.zip(durations.counts).collect();
        let sum = durations.sum_ms as f64 / 1e3;
        metric.encode_histogram::<NoLabelSet>(sum, durations.counts.iter().sum(), &counts, None)
    }
}

/// Resident memory of this process; 0 when the kernel does not tell.
fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The guide's table, as the integration tests look at it too.
#[cfg(test)]
#[path = "../../tests/it/guide.rs"]
mod guide;

#[cfg(test)]
mod tests {
    use persist::{Canaries, Signals};

    use super::*;
    use crate::report::testbed::interval;

    pub(super) fn scrape() -> Scrape {
        let mut lifetime = Lifetime::new();
        lifetime.absorb(&interval(0, model::UnixMs(1_000), 10));
        let core = CoreSnapshot {
            due: 3,
            probed: 2,
            sent: 2,
            shed: 1,
            ..CoreSnapshot::default()
        };
        Scrape {
            driver: "epoll",
            cores: vec![core],
            sink: SinkSnapshot::default(),
            targets_refused: 4,
            changes_waiting: 16,
            paused: 2,
            forgotten: [
                ("check_history", 5),
                ("events", 6),
                ("event_transitions", 7),
                ("audit_log", 13),
                ("shards_taken", 14),
                ("site_runtime", 16),
            ],
            forgetting_steps: 17,
            forgetting_failed: 8,
            audit_waiting: 14,
            audit_left_out: 15,
            drift_rows: 9,
            drift_looks: [("looked", 10), ("differed", 11), ("failed", 12)],
            ages: Some(FreshnessAges::default()),
            legacy: LegacySeen::default(),
            verifiers: VerifierSeen::default(),
            now_us: 0,
            histograms: vec![CoreBuckets::from(&lifetime)],
            rss_bytes: 1,
            fds: 95,
            health: Health {
                signals: Signals::DESCRIPTORS,
                dark_networks: 2,
                canaries: Canaries {
                    configured: 3,
                    answering: 1,
                },
                vouched: None,
                measured: None,
            },
        }
    }

    #[test]
    fn every_name_of_the_guide_is_served_with_its_labels() {
        guide::assert_served(&scrape().text().expect("text"));
    }

    #[test]
    fn nothing_is_served_that_the_guide_does_not_name() {
        let text = scrape().text().expect("text");
        let rows = guide::documented();
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split_whitespace().nth(2).expect("a name");
            let short = name.strip_prefix("ringwatch_").expect("our prefix");
            let known = rows
                .iter()
                .flat_map(|(names, _)| names)
                .any(|name| *name == short || name.strip_suffix("_total") == Some(short));
            assert!(known, "{name}");
        }
    }

    #[test]
    fn the_outcome_depth_is_what_the_sink_found_in_the_channel() {
        let mut scrape = scrape();
        scrape.cores[0].sent = 9;
        let account = persist::CoreAccount {
            drained: 4,
            queued: 3,
            ..persist::CoreAccount::default()
        };
        scrape.sink.cores = vec![(model::CoreIndex(0), account)];
        let text = scrape.text().expect("text");
        assert!(
            text.contains("ringwatch_outcome_depth{core=\"0\"} 3\n"),
            "{text}"
        );
    }

    #[test]
    fn what_was_late_or_not_believed_is_served() {
        let mut scrape = scrape();
        scrape.cores[0].late = 7;
        let trouble = Signals::CUT_OFF.and(Signals::CHECKS_EXCUSED);
        scrape.sink.disbelieved.count(trouble);
        let text = scrape.text().expect("text");
        for line in [
            "ringwatch_late_total{core=\"0\"} 7\n",
            "ringwatch_failures_disbelieved_total{signal=\"cut_off\"} 1\n",
            "ringwatch_failures_disbelieved_total{signal=\"isolation\"} 0\n",
            "ringwatch_reap_seconds_count{core=\"0\"} 10\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        // It makes nobody doubt a check.
        assert!(!text.contains("failures_disbelieved_total{signal=\"checks_excused\"}"));
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_infinity() {
        let text = scrape().text().expect("text");
        let total = "ringwatch_phase_seconds_bucket{le=\"+Inf\",core=\"0\",phase=\"total\"} 10";
        assert!(text.contains(total), "{text}");
        assert!(text.contains("ringwatch_pressure{kind=\"descriptors\"} 1"));
        assert!(text.ends_with("# EOF\n"));
    }
}
