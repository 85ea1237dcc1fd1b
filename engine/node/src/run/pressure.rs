//! Whether the node itself is short of something: what waits for better times is put off meanwhile.

use cores::CoreSnapshot;
use persist::SinkCounters;

use super::lifetime::Lifetime;

/// A loop that turns later than this, in µs at the 99th percentile, has too much to do.
const LOOP_LAG_US: u64 = 50_000;
/// Checks that start later than this, in µs at the 99th percentile, wait for others.
const SCHEDULE_LAG_US: u64 = 1_000_000;

/// What we may be short of, and whether we are.
pub(crate) fn kinds(cores: &[CoreSnapshot], sink: &SinkCounters) -> [(&'static str, bool); 4] {
    let any = |is_short: fn(&CoreSnapshot) -> bool| cores.iter().any(is_short);
    [
        ("held", any(|core| core.held > 0)),
        (
            "ports",
            any(|core| core.sources_spent + core.sources_absent > 0),
        ),
        ("journal", sink.journal_alarm > 0),
        ("resolver", any(|core| core.dns.sick > 0)),
    ]
}

/// Whether the cores were late in their last interval.
pub(crate) fn is_late(histograms: &[Lifetime]) -> bool {
    histograms.iter().any(|core| {
        core.recent_loop_lag().value_at_quantile(0.99) > LOOP_LAG_US
            || core.recent_lag().value_at_quantile(0.99) > SCHEDULE_LAG_US
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_that_is_short_is_enough() {
        let short = |core: CoreSnapshot, sink: &SinkCounters| -> Vec<&str> {
            let all = kinds(&[CoreSnapshot::default(), core], sink);
            let short = all.into_iter().filter(|(_, is_short)| *is_short);
            short.map(|(kind, _)| kind).collect()
        };
        let well = SinkCounters::default();
        assert!(short(CoreSnapshot::default(), &well).is_empty());
        let mut core = CoreSnapshot {
            held: 1,
            sources_absent: 1,
            ..CoreSnapshot::default()
        };
        core.dns.sick = 1;
        let full = SinkCounters {
            journal_alarm: 1,
            ..SinkCounters::default()
        };
        assert_eq!(short(core, &full), ["held", "ports", "journal", "resolver"]);
    }
}
