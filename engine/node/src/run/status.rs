//! `status`: every account and gauge as one JSON object, and whether the accounts balance.

use std::sync::atomic::Ordering;

use cores::CoreSnapshot;
use hdrhistogram::Histogram;
use model::{FailureClass, Verdict};
use persist::{CoreAccount, SinkSnapshot};
use prober::resolver::ResolverStats;
use serde_json::{Map, Value, json};

use super::accounts::Accounts;
use super::lease::Right;
use super::lifetime::Lifetime;
use super::pressure;
use super::view::View;

/// The status object.
pub(crate) async fn object(view: &View) -> Value {
    let accounts = view.accounts().await;
    let (sink, total) = (
        &accounts.sink,
        accounts.cores.iter().fold(CoreSnapshot::default(), add),
    );
    let now = view.clock.now();
    let facts = &view.facts;
    json!({
        "ok": true,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": facts.pid,
        "state": view.state(&sink.counters),
        "started_at_ms": facts.started.0,
        "uptime_s": now.unix.since(facts.started) / 1_000,
        "data_dir": facts.data_dir.display().to_string(),
        "store": facts.store,
        "node_id": facts.node_id,
        "admin": facts.admin,
        "driver": facts.driver.as_str(),
        "driver_note": facts.driver_note,
        "max_in_flight": facts.max_in_flight,
        "nofile": facts.nofile,
        "balanced": accounts.all_balance(),
        "targets": {
            "active": total.targets,
            "seems_down": sink.counters.open_seems_down,
            "down": sink.counters.open_down,
            "suspected": sink.counters.suspected,
            "unconfirmed": sink.counters.unconfirmed,
            "refused": view.refusals.now(),
        },
        "states": states(view, &total, sink),
        "identity": identity(view, sink),
        "required_rate_per_s": total.required_per_ks as f64 / 1_000.0,
        "fleet": account(&total, &sink.total()),
        "pressure": pressure::object(&view.health(), &sink.counters),
        "lag_us": view.with_histograms(fleet_lag),
        "verdicts": verdicts(&total),
        "failures": failures(&total),
        "cores": view.with_histograms(|all| cores_json(view, &accounts, all, now.mono.0)),
        "sink": sink_json(sink),
        "legacy": view.legacy.look().json(now.mono),
    })
}

/// The answer to who this is: nothing in it changes, so nobody has to be waited for.
pub(crate) fn who(view: &View) -> Value {
    let facts = &view.facts;
    json!({
        "ok": true,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": facts.pid,
        "node_id": facts.node_id,
        "data_dir": facts.data_dir.display().to_string(),
        "store": facts.store,
        "admin": facts.admin,
    })
}

/// Who this is, in the status.
fn identity(view: &View, sink: &SinkSnapshot) -> Value {
    let facts = &view.facts;
    json!({
        "node_id": facts.node_id,
        "boot_id": facts.boot_id,
        "pid": facts.pid,
        "started_at_ms": facts.started.0,
        "epoch": sink.counters.epoch,
        "version": env!("CARGO_PKG_VERSION"),
        "driver": facts.driver.as_str(),
    })
}

/// Targets by state. Those in maintenance, and those of which nothing is known, are in the number
/// of their open incident too, if they have one.
fn states(view: &View, total: &CoreSnapshot, sink: &SinkSnapshot) -> Value {
    let counters = &sink.counters;
    let troubled = [
        counters.open_seems_down,
        counters.open_down,
        counters.open_degraded,
        counters.open_warning,
    ];
    json!({
        "up": total.targets.saturating_sub(troubled.iter().sum()),
        "warning": counters.open_warning,
        "degraded": counters.open_degraded,
        "seems_down": counters.open_seems_down,
        "down": counters.open_down,
        "unknown": counters.not_known,
        "maintenance": view.ages().map(|ages| ages.in_maintenance),
        "paused": view.paused.load(Ordering::Relaxed),
    })
}

/// One account as it is published. `probed = held + sent` is the core's word; `queued` and
/// `drained` are the sink's, later: see [`super::accounts`].
fn account(core: &CoreSnapshot, sink: &CoreAccount) -> Value {
    json!({
        "due": core.due,
        "pending": core.pending,
        "in_flight": core.in_flight,
        "probed": core.probed,
        "shed": core.shed,
        "stale": core.stale,
        "cancelled": core.cancelled,
        "held": core.held,
        "sent": core.sent,
        "queued": sink.queued,
        "drained": sink.drained,
        "stepped": sink.stepped,
        "coalesced": sink.coalesced,
        "discarded": sink.discarded_old_generation,
    })
}

fn cores_json(
    view: &View,
    accounts: &Accounts,
    histograms: &[Lifetime],
    now_us: u64,
) -> Vec<Value> {
    let of = |index: usize| {
        let (seen, core) = (&view.cores[index], &accounts.cores[index]);
        let one = &core.one_shot;
        json!({
            "core": seen.index.0,
            "cpu": seen.cpu,
            "targets": core.targets,
            "required_rate_per_s": core.required_per_ks as f64 / 1_000.0,
            "account": account(core, &accounts.account(index)),
            "one_shots": {
                "due": one.due, "pending": one.pending, "in_flight": one.in_flight,
                "done": one.done, "refused": one.refused,
            },
            "balanced": accounts.balances(index),
            "held_total": core.held_total,
            "in_flight_limit": core.in_flight_limit,
            "destinations": core.destinations,
            "sources_usable": core.sources_usable, "sources_absent": core.sources_absent,
            "sources_spent": core.sources_spent, "sources_wanted": core.sources_wanted,
            "connections_kept": core.connections_kept,
            "reused": core.reused, "reused_dead": core.reused_dead,
            "deferred": core.deferred,
            "deferred_total": core.deferred_total,
            "shed_deferred": core.shed_deferred,
            "shed_slowed": core.shed_slowed,
            "evidence_truncated": core.evidence_truncated,
            "evidence_dropped": core.evidence_dropped,
            "bytes_in": core.bytes_in,
            "bytes_out": core.bytes_out,
            "tls_full": core.tls_full, "tls_resumed": core.tls_resumed,
            "since_turn_us": now_us.saturating_sub(core.last_turn_us),
            "lag_us": percentiles(histograms[index].recent_lag()),
            "lag_since_start_us": percentiles(histograms[index].lag_all()),
            "loop_lag_us": percentiles(histograms[index].recent_loop_lag()),
            "dns": dns(&core.dns),
        })
    };
    (0..accounts.cores.len()).map(of).collect()
}

/// The resolver of one core.
fn dns(dns: &ResolverStats) -> Value {
    json!({
        "hits": dns.hits, "misses": dns.misses,
        "negative_hits": dns.negative_hits, "stale_hits": dns.stale_hits,
        "queries": dns.queries, "timeouts": dns.timeouts,
        "hosts": dns.hosts, "flights": dns.flights,
        "queued": dns.queued, "sockets": dns.sockets,
        "refused": dns.refused, "malformed": dns.malformed,
        "truncated": dns.truncated, "ignored": dns.ignored,
        "socket_errors": dns.socket_errors,
        "stream_queries": dns.stream_queries, "streams": dns.streams,
        "streams_refused": dns.streams_refused,
        "misspelled": dns.misspelled, "capped": dns.capped,
        "prefetches": dns.prefetches,
        "sick": dns.sick, "sick_answers": dns.sick_answers,
        "disagreed": dns.disagreed,
    })
}

fn sink_json(sink: &SinkSnapshot) -> Value {
    let counters = &sink.counters;
    json!({
        "balanced": sink.cores.iter().all(|(_, account)| account.balances()),
        "lease": Right::of(counters).as_str(),
        "epoch": counters.epoch,
        "fenced": counters.fenced,
        "facts_superseded": counters.facts_superseded,
        "store_set_back": counters.store_set_back,
        "batches_missing": counters.batches_missing,
        "transitions": counters.transitions,
        "journal_records": counters.journal_records,
        "journal_bytes": counters.journal_bytes,
        "journal_max_bytes": counters.journal_max_bytes,
        "journal_alarm": counters.journal_alarm,
        "journal_full": counters.journal_full,
        "journal_errors": counters.journal_errors,
        "apply_lag": counters.apply_lag,
        "applies": counters.applies,
        "apply_retries": counters.apply_retries,
        "history_rows": counters.history_rows,
        "history_waiting": counters.history_waiting,
        "history_left_out": counters.history_left_out,
        "history_retries": counters.history_retries,
        "freshness_rows": counters.freshness_rows,
        "freshness_pending": counters.freshness_pending,
        "freshness_retries": counters.freshness_retries,
        "unclaimed_events": counters.unclaimed_events,
        "facts_waiting": counters.facts_waiting,
        "facts_waiting_bytes": counters.facts_waiting_bytes,
        "facts_loaded": counters.facts_loaded,
        "evidence_waiting": counters.evidence_waiting,
        "evidence_dropped": counters.evidence_dropped,
        "held_commands": counters.held_commands,
        "journal_segments": counters.journal_segments,
        "apply_overdue": counters.apply_overdue,
    })
}

fn fleet_lag(all: &[Lifetime]) -> Value {
    let mut merged = super::lifetime::histogram();
    for one in all {
        merged
            .add(one.lag_all())
            .expect("a histogram that grows takes every value");
    }
    percentiles(&merged)
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": histogram.value_at_quantile(0.5),
        "p99": histogram.value_at_quantile(0.99),
        "p99_9": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
        "count": histogram.len(),
    })
}

fn verdicts(total: &CoreSnapshot) -> Value {
    let pairs = Verdict::ALL.into_iter().zip(total.verdicts);
    Value::Object(
        pairs
            .map(|(verdict, count)| (verdict.as_str().to_owned(), count.into()))
            .collect(),
    )
}

/// Classes that were seen at all.
fn failures(total: &CoreSnapshot) -> Value {
    let mut map = Map::new();
    for &class in FailureClass::ALL {
        if total.failed(class) > 0 {
            map.insert(class.as_str().to_owned(), total.failed(class).into());
        }
    }
    Value::Object(map)
}

/// The sum of what `status` and the summary line show of several cores.
pub(crate) fn add(mut sum: CoreSnapshot, core: &CoreSnapshot) -> CoreSnapshot {
    sum.due += core.due;
    sum.pending += core.pending;
    sum.in_flight += core.in_flight;
    sum.probed += core.probed;
    sum.shed += core.shed;
    sum.stale += core.stale;
    sum.cancelled += core.cancelled;
    sum.held += core.held;
    sum.sent += core.sent;
    sum.targets += core.targets;
    sum.required_per_ks += core.required_per_ks;
    for (left, right) in sum.verdicts.iter_mut().zip(core.verdicts) {
        *left += right;
    }
    for (left, right) in sum.failures.iter_mut().zip(core.failures) {
        *left += right;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_is_the_channels_own_length_not_what_is_missing() {
        let core = CoreSnapshot {
            probed: 7,
            sent: 7,
            ..CoreSnapshot::default()
        };
        let sink = CoreAccount {
            drained: 4,
            coalesced: 4,
            queued: 1,
            ..CoreAccount::default()
        };
        let published = account(&core, &sink);
        assert_eq!(
            (
                &published["sent"],
                &published["queued"],
                &published["drained"]
            ),
            (&7.into(), &1.into(), &4.into())
        );
    }
}
