//! Depth of every queue, cache and buffer that has a limit, on the cores and in the sink, and what
//! was given up because of one. A test holds that no gauge of the sink is forgotten.

use std::fmt;

use super::{Page, Scrape, by, plain};

impl Scrape {
    /// Queues and buffers of the sink.
    pub(super) fn sink_depths(&self, page: &mut Page<'_>) -> fmt::Result {
        let sink = &self.sink.counters;
        let gauges = [
            ("slots", "Slots that the sink knows", sink.slots),
            (
                "facts_waiting",
                "Facts that wait for the journal",
                sink.facts_waiting,
            ),
            (
                "facts_waiting_bytes",
                "Memory of the facts that wait for the journal",
                sink.facts_waiting_bytes,
            ),
            (
                "facts_loaded",
                "Facts kept in memory for the store",
                sink.facts_loaded,
            ),
            (
                "evidence_waiting",
                "Evidence that waits for its outcome",
                sink.evidence_waiting,
            ),
            (
                "held_commands",
                "Cadence commands that wait for room in an inbox",
                sink.held_commands,
            ),
            (
                "sink_commands_waiting",
                "Commands that waited when the sink took them last",
                sink.commands_waiting,
            ),
            (
                "slots_released",
                "Released slots that the control plane has not taken yet",
                sink.released_waiting,
            ),
            (
                "apply_lag",
                "Journal records that the store does not have yet",
                sink.apply_lag,
            ),
            (
                "history_waiting",
                "Checks that wait for the history",
                sink.history_waiting,
            ),
            (
                "unclaimed_events",
                "Open incidents whose target is not loaded",
                sink.unclaimed_events,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(name, help, plain(value))?;
        }
        self.lease(page)?;
        self.history(page)?;
        self.drift(page)?;
        self.journal(page)?;
        let turn_age = self.now_us.saturating_sub(sink.last_loop_mono_us) as f64 / 1e6;
        let help = "Time since the last turn of the sink";
        page.gauge("sink_turn_age_seconds", help, vec![(Vec::new(), turn_age)])
    }

    /// The right to write to the store.
    fn lease(&self, page: &mut Page<'_>) -> fmt::Result {
        let sink = &self.sink.counters;
        let help =
            "0: this node may write, 1: its lease was not renewed in time, 2: another has it";
        page.gauge("lease", help, plain(sink.lease))?;
        page.gauge("epoch", "Epoch of the right to write", plain(sink.epoch))?;
        let help = "Times that another node took over, or the store was set back";
        page.counter("fenced", help, plain(sink.fenced))?;
        let help = "Facts passed over because another node wrote in their place";
        page.counter("facts_superseded", help, plain(sink.facts_superseded))?;
        let help = "Times that the store had less than it had acknowledged";
        page.counter("store_set_back", help, plain(sink.store_set_back))?;
        let help = "Journal records that neither the store nor the journal had any more";
        page.counter("batches_missing", help, plain(sink.batches_missing))
    }

    /// Checks that were not kept, and old rows that were not either.
    fn history(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Checks left out of the history because too many waited";
        page.counter(
            "history_left_out",
            help,
            plain(self.sink.counters.history_left_out),
        )?;
        let sink = &self.sink.counters;
        let waiting = [
            ("operators", self.audit_waiting),
            ("targets", sink.audit_waiting),
        ];
        let help = "Lines of the audit log that wait for the store";
        page.gauge("audit_waiting", help, by("about", &waiting))?;
        let left_out = [
            ("operators", self.audit_left_out),
            ("targets", sink.audit_left_out),
        ];
        let help = "Lines left out of the audit log because too many waited";
        page.counter("audit_left_out", help, by("about", &left_out))?;
        let help = "Old rows deleted, by table";
        page.counter("forgotten_rows", help, by("table", &self.forgotten))?;
        let help = "Statements that looked for old rows and deleted what they found";
        page.counter("forgetting_steps", help, plain(self.forgetting_steps))?;
        let help = "Failed tries to delete old rows";
        page.counter("forgetting_failed", help, plain(self.forgetting_failed))
    }

    /// Legacy rows that say something else than our events.
    fn drift(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Legacy rows whose status is not what the open events say";
        page.gauge("legacy_drift_rows", help, plain(self.drift_rows))?;
        let help = "Legacy rows compared, those that differed, and samples that failed";
        page.counter("legacy_drift", help, by("kind", &self.drift_looks))
    }

    /// The disk of the journal.
    fn journal(&self, page: &mut Page<'_>) -> fmt::Result {
        let sink = &self.sink.counters;
        let gauges = [
            (
                "journal_max_bytes",
                "What the journal may take on its disk",
                sink.journal_max_bytes,
            ),
            (
                "journal_full",
                "1 while the journal has used that up",
                sink.journal_full,
            ),
            (
                "journal_segments",
                "Segments of the journal on the disk",
                sink.journal_segments,
            ),
        ];
        for (name, help, value) in gauges {
            page.gauge(name, help, plain(value))?;
        }
        let events = [("ok", sink.journal_syncs), ("error", sink.journal_errors)];
        page.counter(
            "journal_syncs",
            "Syncs of the journal",
            by("result", &events),
        )
    }

    /// One-shots and the resolver of each core.
    pub(super) fn core_depths(&self, page: &mut Page<'_>) -> fmt::Result {
        let one_shots = self.per_core(|_, core| core.one_shot.pending);
        page.gauge("one_shot_pending", "One-shots that wait", one_shots)?;
        let limit = self.per_core(|_, core| core.in_flight_limit);
        page.gauge("in_flight_limit", "Checks that may run at once", limit)?;
        let known = self.per_core(|_, core| core.destinations);
        page.gauge("destinations", "Addresses that caps watch now", known)?;
        let slowed = self.per_core(|_, core| core.destinations_slowed);
        let help = "Addresses at half their pace, since their sites ask for it";
        page.gauge("destinations_slowed", help, slowed)?;
        self.sources(page)?;
        let waiting = self.per_core(|_, core| core.deferred);
        let help = "Pending checks that wait for their address";
        page.gauge("deferred_waiting", help, waiting)?;
        let deferred = self.per_core(|_, core| core.deferred_total);
        page.counter(
            "deferred",
            "Checks that had to wait for their address",
            deferred,
        )?;
        let held = self.per_core(|_, core| core.held);
        page.gauge("outcomes_waiting", "Results that a core holds", held)?;
        let hosts = self.per_core(|_, core| core.dns.hosts);
        page.gauge("dns_hosts", "Names in the DNS cache", hosts)?;
        let flights = self.per_core(|_, core| core.dns.flights);
        page.gauge("dns_flights", "Names that are being resolved", flights)?;
        let queued = self.per_core(|_, core| core.dns.queued);
        page.gauge(
            "dns_queued",
            "Names that wait for their first query",
            queued,
        )?;
        let sockets = self.per_core(|_, core| core.dns.sockets);
        page.gauge("dns_sockets", "Open sockets to resolvers", sockets)?;
        self.resolver_health(page)?;
        let keys = self.per_core(|_, core| core.issuer_keys);
        page.gauge(
            "tls_issuer_keys",
            "Issuers' keys that are kept parsed",
            keys,
        )?;
        let signatures = self.per_core(|_, core| core.issuer_signatures);
        page.gauge(
            "tls_issuer_signatures",
            "Signatures on issuers' certificates that need not be computed again",
            signatures,
        )?;
        let names = self.per_core(|_, core| core.redirect_names);
        page.gauge(
            "redirect_names",
            "Names that redirects led to, kept resolved",
            names,
        )?;
        self.tls_memories(page)?;
        self.core_channels(page)?;
        self.pools(page)?;
        self.given_up(page)
    }

    /// What waits between a core and the others, besides outcomes.
    fn core_channels(&self, page: &mut Page<'_>) -> fmt::Result {
        let inbox = self.per_core(|_, core| core.inbox);
        page.gauge("inbox_depth", "Commands that a core has not read", inbox)?;
        let queued = self.per_core(|_, core| core.evidence_queued);
        let help = "Evidence that the sink has not taken";
        page.gauge("evidence_queued", help, queued)?;
        let held = self.per_core(|_, core| core.evidence_held);
        let help = "Cut evidence that waits for room at the core";
        page.gauge("evidence_held", help, held)
    }

    /// What a core keeps for the checks to come.
    fn pools(&self, page: &mut Page<'_>) -> fmt::Result {
        let sets = self.per_core(|_, core| core.attempt_buffers);
        let help = "Sets of buffers that are kept for the next checks";
        page.gauge("attempt_buffers", help, sets)?;
        let bytes = self.per_core(|_, core| core.attempt_buffer_bytes);
        page.gauge("attempt_buffer_bytes", "Memory of those buffers", bytes)?;
        let decoders = self.per_core(|_, core| core.decoder_bytes);
        let help = "Memory that pages hold while they are decoded";
        page.gauge("decoder_bytes", help, decoders)?;
        let reads = self.per_core(|_, core| core.read_buffers);
        let help = "Buffers that are kept for the next reads";
        page.gauge("read_buffers", help, reads)?;
        let queries = self.per_core(|_, core| core.dns.buffers);
        let help = "Buffers that are kept for the next DNS queries";
        page.gauge("dns_buffers", help, queries)?;
        let kept = self.per_core(|_, core| core.connections_kept);
        let help = "Connections that are kept for the next checks";
        page.gauge("connections_kept", help, kept)?;
        let reused = self.per_core_by("result", |core| {
            vec![("used", core.reused), ("dead", core.reused_dead)]
        });
        let help = "Checks over a kept connection, and kept connections of no use any more";
        page.counter("connections_reused", help, reused)?;
        let couriers = self.per_core(|_, core| core.couriers_idle);
        let help = "Tasks that are kept for the next checks";
        page.gauge("couriers_idle", help, couriers)
    }

    /// Where checks come from, and what of it has run out.
    fn sources(&self, page: &mut Page<'_>) -> fmt::Result {
        let sources = self.per_core_by("state", |core| {
            vec![
                ("usable", core.sources_usable),
                ("absent", core.sources_absent),
            ]
        });
        page.gauge("sources", "Configured source addresses by state", sources)?;
        let spent = self.per_core(|_, core| core.sources_spent);
        let help = "Pairs of source and destination without a free port a moment ago";
        page.gauge("sources_spent", help, spent)?;
        let wanted = self.per_core(|_, core| core.sources_wanted);
        let help = "Connections not made for want of a local address or port";
        page.counter("sources_wanted", help, wanted)
    }

    /// What TLS remembers on each core from one check to the next.
    fn tls_memories(&self, page: &mut Page<'_>) -> fmt::Result {
        let chains = self.per_core(|_, core| core.tls_chains);
        let help = "Certificate chains that are known as verified";
        page.gauge("tls_chains", help, chains)?;
        let sessions = self.per_core(|_, core| core.tls_sessions);
        page.gauge(
            "tls_sessions",
            "Names whose TLS sessions are kept",
            sessions,
        )?;
        let bytes = self.per_core(|_, core| core.tls_session_bytes);
        page.gauge("tls_session_bytes", "Memory of those sessions", bytes)?;
        let looks = self.per_core(|_, core| core.tls_second_looks);
        let help = "Findings of second looks that are kept";
        page.gauge("tls_second_looks", help, looks)
    }

    fn resolver_health(&self, page: &mut Page<'_>) -> fmt::Result {
        let streams = self.per_core(|_, core| core.dns.streams);
        page.gauge("dns_streams", "Open TCP connections to resolvers", streams)?;
        let sick = self.per_core(|_, core| core.dns.sick);
        page.gauge("dns_sick", "1 while the resolvers are sick", sick)?;
        let asked = self.per_core_by("kind", |core| {
            let dns = &core.dns;
            vec![
                ("all", dns.queries),
                ("tcp", dns.stream_queries),
                ("prefetch", dns.prefetches),
                ("capped", dns.capped),
            ]
        });
        page.counter(
            "dns_asked",
            "Queries sent, those over TCP, names asked for ahead of time and names held back",
            asked,
        )
    }

    fn given_up(&self, page: &mut Page<'_>) -> fmt::Result {
        let errors = self.per_core_by("kind", |core| {
            let dns = &core.dns;
            vec![
                ("malformed", dns.malformed),
                ("truncated", dns.truncated),
                ("ignored", dns.ignored),
                ("socket", dns.socket_errors),
                ("refused", dns.refused),
                ("misspelled", dns.misspelled),
                ("stream_refused", dns.streams_refused),
                ("resolver_sick", dns.sick_answers),
                ("disagreed", dns.disagreed),
            ]
        });
        page.counter(
            "dns_errors",
            "DNS answers, sockets and lookups that came to nothing",
            errors,
        )?;
        let cores = |pick: fn(&cores::CoreSnapshot) -> u64| self.cores.iter().map(pick).sum();
        let lost = [
            ("core_cut", cores(|core| core.evidence_truncated)),
            ("core", cores(|core| core.evidence_dropped)),
            ("sink", self.sink.counters.evidence_dropped),
        ];
        page.counter(
            "evidence_dropped",
            "Evidence cut to class and errno, or dropped",
            by("by", &lost),
        )
    }
}

#[cfg(test)]
mod tests {
    use persist::SinkCounters;

    use super::super::tests::scrape;

    /// Names of the fields that the sink's own documentation calls gauges.
    fn gauges() -> Vec<&'static str> {
        let source = include_str!("../../../../../sink/persist/src/stats.rs");
        let (_, list) = source.split_once("counters! {\n").expect("the list");
        let (list, _) = list.split_once("\n}").expect("its end");
        let mut documented_as_gauge = false;
        let mut names = Vec::new();
        for line in list.lines().map(str::trim) {
            if line.starts_with("///") {
                documented_as_gauge = line.ends_with("(gauge).");
            } else if documented_as_gauge {
                names.push(line.trim_end_matches(','));
            }
        }
        names
    }

    /// The sample that shows a gauge; each test value is unlike every other.
    macro_rules! shown {
        ($($field:ident = $value:literal as $sample:literal,)*) => {
            (
                SinkCounters { $($field: $value,)* ..SinkCounters::default() },
                vec![$((stringify!($field), concat!("ringwatch_", $sample, "\n")),)*],
            )
        };
    }

    #[test]
    fn every_gauge_of_the_sink_is_served() {
        let (counters, shown) = shown! {
            last_loop_mono_us = 2_500_000 as "sink_turn_age_seconds{} 7.5",
            slots = 101 as "slots{} 101",
            facts_waiting = 102 as "facts_waiting{} 102",
            journal_bytes = 103 as "journal_bytes{} 103",
            facts_waiting_bytes = 115 as "facts_waiting_bytes{} 115",
            facts_loaded = 116 as "facts_loaded{} 116",
            journal_max_bytes = 117 as "journal_max_bytes{} 117",
            journal_full = 118 as "journal_full{} 118",
            journal_segments = 104 as "journal_segments{} 104",
            journal_alarm = 1 as "pressure{kind=\"journal\"} 1",
            apply_lag = 105 as "apply_lag{} 105",
            freshness_pending = 106 as "projection_pending{} 106",
            open_seems_down = 107 as "targets{state=\"seems_down\"} 107",
            open_down = 108 as "targets{state=\"down\"} 108",
            suspected = 109 as "targets{state=\"suspected\"} 109",
            unconfirmed = 125 as "targets{state=\"unconfirmed\"} 125",
            unclaimed_events = 110 as "unclaimed_events{} 110",
            evidence_waiting = 111 as "evidence_waiting{} 111",
            held_commands = 112 as "held_commands{} 112",
            commands_waiting = 113 as "sink_commands_waiting{} 113",
            released_waiting = 114 as "slots_released{} 114",
            epoch = 119 as "epoch{} 119",
            lease = 2 as "lease{} 2",
            history_waiting = 120 as "history_waiting{} 120",
            audit_waiting = 124 as "audit_waiting{about=\"targets\"} 124",
            open_degraded = 121 as "targets{state=\"degraded\"} 121",
            open_warning = 122 as "targets{state=\"warning\"} 122",
            not_known = 123 as "targets{state=\"not_known\"} 123",
            questions_waiting = 124 as "verifier_questions_waiting{} 124",
            failure_pressure = 1 as "pressure{kind=\"failures\"} 1",
            deferring = 1 as "doubt{kind=\"deferring\"} 1",
            signals = 128 as "pressure{kind=\"stalled\"} 1",
            doubting = 1 as "doubt{kind=\"doubting\"} 1",
            node_suppressing = 1 as "operator_incident{kind=\"node_suppressing\"} 1",
            node_isolated = 1 as "operator_incident{kind=\"node_isolated\"} 1",
        };
        let mut scrape = scrape();
        (scrape.sink.counters, scrape.now_us) = (counters, 10_000_000);
        let text = scrape.text().expect("text");
        for name in gauges() {
            let sample = shown.iter().find(|(field, _)| *field == name);
            let (_, sample) = sample.unwrap_or_else(|| panic!("{name} is not served"));
            assert!(text.contains(sample), "{sample} in\n{text}");
        }
        assert_eq!(gauges().len(), shown.len());
    }

    #[test]
    fn local_ends_of_connections_are_served() {
        let mut scrape = scrape();
        let core = &mut scrape.cores[0];
        (core.sources_usable, core.sources_absent) = (32, 33);
        (core.sources_spent, core.sources_wanted) = (34, 35);
        (core.connections_kept, core.reused, core.reused_dead) = (37, 38, 39);
        let text = scrape.text().expect("text");
        for sample in [
            "sources{core=\"0\",state=\"usable\"} 32\n",
            "sources{core=\"0\",state=\"absent\"} 33\n",
            "sources_spent{core=\"0\"} 34\n",
            "sources_wanted_total{core=\"0\"} 35\n",
            "connections_kept{core=\"0\"} 37\n",
            "connections_reused_total{core=\"0\",result=\"used\"} 38\n",
            "connections_reused_total{core=\"0\",result=\"dead\"} 39\n",
        ] {
            assert!(text.contains(sample), "{sample} in\n{text}");
        }
    }

    #[test]
    fn queues_and_losses_of_the_cores_are_served() {
        let mut scrape = scrape();
        let core = &mut scrape.cores[0];
        (core.one_shot.due, core.one_shot.pending) = (5, 5);
        core.destinations_slowed = 21;
        (core.destinations, core.deferred, core.deferred_total) = (11, 12, 13);
        (core.shed, core.shed_deferred, core.issuer_keys) = (29, 14, 16);
        core.shed_slowed = 5;
        (core.issuer_signatures, core.redirect_names) = (36, 17);
        (core.inbox, core.evidence_queued, core.evidence_held) = (23, 24, 25);
        (core.attempt_buffers, core.attempt_buffer_bytes) = (26, 27);
        (core.read_buffers, core.couriers_idle, core.dns.buffers) = (28, 30, 31);
        (core.decoder_bytes, core.tls_session_bytes) = (37, 38);
        (core.tls_chains, core.tls_sessions, core.tls_second_looks) = (17, 18, 19);
        (core.dns.queued, core.dns.sockets, core.dns.refused) = (6, 7, 8);
        (core.dns.streams, core.dns.sick, core.dns.capped) = (17, 1, 18);
        (core.dns.prefetches, core.dns.stream_queries) = (19, 20);
        (core.dns.misspelled, core.dns.sick_answers) = (21, 22);
        core.dns.disagreed = 39;
        (
            core.evidence_truncated,
            scrape.sink.counters.evidence_dropped,
        ) = (9, 10);
        let text = scrape.text().expect("text");
        for sample in [
            "one_shot_pending{core=\"0\"} 5\n",
            "destinations{core=\"0\"} 11\n",
            "destinations_slowed{core=\"0\"} 21\n",
            "deferred_waiting{core=\"0\"} 12\n",
            "deferred_total{core=\"0\"} 13\n",
            "tls_issuer_keys{core=\"0\"} 16\n",
            "tls_issuer_signatures{core=\"0\"} 36\n",
            "redirect_names{core=\"0\"} 17\n",
            "inbox_depth{core=\"0\"} 23\n",
            "evidence_queued{core=\"0\"} 24\n",
            "evidence_held{core=\"0\"} 25\n",
            "attempt_buffers{core=\"0\"} 26\n",
            "attempt_buffer_bytes{core=\"0\"} 27\n",
            "read_buffers{core=\"0\"} 28\n",
            "decoder_bytes{core=\"0\"} 37\n",
            "couriers_idle{core=\"0\"} 30\n",
            "dns_buffers{core=\"0\"} 31\n",
            "tls_chains{core=\"0\"} 17\n",
            "tls_sessions{core=\"0\"} 18\n",
            "tls_session_bytes{core=\"0\"} 38\n",
            "tls_second_looks{core=\"0\"} 19\n",
            "shed_total{core=\"0\",reason=\"late\"} 10\n",
            "shed_total{core=\"0\",reason=\"deferred\"} 14\n",
            "shed_total{core=\"0\",reason=\"slowed\"} 5\n",
            "dns_queued{core=\"0\"} 6\n",
            "dns_sockets{core=\"0\"} 7\n",
            "dns_errors_total{core=\"0\",kind=\"refused\"} 8\n",
            "dns_errors_total{core=\"0\",kind=\"misspelled\"} 21\n",
            "dns_errors_total{core=\"0\",kind=\"resolver_sick\"} 22\n",
            "dns_errors_total{core=\"0\",kind=\"disagreed\"} 39\n",
            "dns_streams{core=\"0\"} 17\n",
            "dns_sick{core=\"0\"} 1\n",
            "dns_asked_total{core=\"0\",kind=\"capped\"} 18\n",
            "dns_asked_total{core=\"0\",kind=\"prefetch\"} 19\n",
            "dns_asked_total{core=\"0\",kind=\"tcp\"} 20\n",
            "evidence_dropped_total{by=\"core_cut\"} 9\n",
            "evidence_dropped_total{by=\"sink\"} 10\n",
        ] {
            assert!(text.contains(sample), "{sample} in\n{text}");
        }
    }
}
