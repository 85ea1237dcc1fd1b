//! Whether the node itself is short of something: what is shown of it, and what waits for better
//! times meanwhile. What the numbers say is in `vitals`.

use persist::{Health, Signals, SinkCounters};
use serde_json::{Value, json};

use super::lifetime::Lifetime;

/// Checks that start later than this, in µs at the 99th percentile, wait for others.
const SCHEDULE_LAG_US: u64 = 1_000_000;

/// Every signal in force: those that the sink adds, too.
fn in_force(health: &Health, sink: &SinkCounters) -> Signals {
    let of_sink = Signals::from_bits(sink.signals as u16);
    health.signals.and(of_sink)
}

/// What we may be short of, and whether we are; many failing checks, be they believed, included.
pub(crate) fn kinds(health: &Health, sink: &SinkCounters) -> Vec<(&'static str, bool)> {
    let mut signals = in_force(health, sink);
    if sink.failure_pressure > 0 {
        signals = signals.and(Signals::FAILURES);
    }
    let mut kinds: Vec<_> = signals.each().collect();
    kinds.push(("journal", sink.journal_alarm > 0));
    kinds
}

/// Whether what can wait should.
pub(crate) fn is_pressed(health: &Health, sink: &SinkCounters, histograms: &[Lifetime]) -> bool {
    let late = |core: &Lifetime| core.recent_lag().value_at_quantile(0.99) > SCHEDULE_LAG_US;
    !health.signals.is_empty() || sink.journal_alarm > 0 || histograms.iter().any(late)
}

/// How far failing checks are believed, in one word.
fn stance(sink: &SinkCounters) -> &'static str {
    match () {
        () if sink.node_isolated > 0 => "isolated",
        () if sink.doubting > 0 => "doubting",
        () if sink.deferring > 0 => "deferring",
        () => "clear",
    }
}

/// The part of `status`.
pub(crate) fn object(health: &Health, sink: &SinkCounters) -> Value {
    json!({
        "signals": in_force(health, sink).names().collect::<Vec<_>>(),
        "stance": stance(sink),
        "not_known": sink.not_known,
        "node_suppressing": sink.node_suppressing > 0,
        "dark_networks": health.dark_networks,
        "canaries": {
            "configured": health.canaries.configured,
            "answering": health.canaries.answering,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sink_finds_out_by_itself_is_in_force_too() {
        let health = Health {
            signals: Signals::PORTS,
            ..Health::default()
        };
        let sink = SinkCounters {
            signals: u64::from(Signals::STALLED.bits()),
            failure_pressure: 1,
            journal_alarm: 1,
            deferring: 1,
            ..SinkCounters::default()
        };
        let kinds = kinds(&health, &sink);
        let set: Vec<_> = kinds.iter().filter(|(_, is_set)| *is_set).collect();
        let set: Vec<_> = set.into_iter().map(|(kind, _)| *kind).collect();
        assert_eq!(set, ["ports", "failures", "stalled", "journal"]);
        assert_eq!(kinds.len(), 15);
        let object = object(&health, &sink);
        assert_eq!(object["signals"], json!(["ports", "stalled"]));
        assert_eq!(object["stance"], "deferring");
        assert!(is_pressed(&health, &SinkCounters::default(), &[]));
        assert!(!is_pressed(
            &Health::default(),
            &SinkCounters::default(),
            &[]
        ));
    }

    #[test]
    fn of_several_stances_the_strongest_is_told() {
        let told = |node_isolated, doubting, deferring| {
            stance(&SinkCounters {
                node_isolated,
                doubting,
                deferring,
                ..SinkCounters::default()
            })
        };
        let words = [told(1, 1, 0), told(0, 1, 0), told(0, 0, 1), told(0, 0, 0)];
        assert_eq!(words, ["isolated", "doubting", "deferring", "clear"]);
    }
}
