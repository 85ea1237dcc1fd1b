//! Whether the node is well: its cores tick, their results are taken, and it has a network. Says
//! nothing of targets.

use cores::CoreSnapshot;
use persist::SinkCounters;

use crate::run::view::View;

/// A core that has not turned for this long is dead or stuck, in µs.
const TICK_LIMIT_US: u64 = 5_000_000;
/// Results that were held for this long mean that the sink is stuck, in µs.
const HELD_LIMIT_US: u64 = 30_000_000;

/// Why the node is unwell; empty = well.
pub(crate) fn reasons(view: &View) -> Vec<String> {
    let (sink, cores) = view.snapshots();
    let now_us = view.clock.mono().0;
    let of_core = |(index, core)| of_core(index, core, now_us);
    let mut reasons: Vec<_> = cores.iter().enumerate().flat_map(of_core).collect();
    reasons.extend(of_network(&sink.counters));
    reasons
}

fn of_network(sink: &SinkCounters) -> Option<String> {
    let gone = "the network of this node is gone: no canary answers, nor does the fleet";
    (sink.node_isolated > 0).then(|| gone.to_owned())
}

fn of_core(index: usize, core: &CoreSnapshot, now_us: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    let since_turn = now_us.saturating_sub(core.last_turn_us);
    if since_turn > TICK_LIMIT_US {
        reasons.push(format!(
            "core {index} has not ticked for {} s",
            since_turn / 1_000_000
        ));
    }
    let held = now_us.saturating_sub(core.held_since_us);
    if core.held_since_us > 0 && held > HELD_LIMIT_US {
        reasons.push(format!(
            "core {index} has held results for {} s",
            held / 1_000_000
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_network_is_unwell() {
        let sink = SinkCounters::default();
        assert_eq!(of_network(&sink), None);
        let node_isolated = 1;
        let sink = SinkCounters {
            node_isolated,
            ..sink
        };
        let reason = of_network(&sink).expect("unwell");
        assert!(reason.starts_with("the network of this node is gone"));
    }

    #[test]
    fn a_silent_core_and_held_results_are_unwell() {
        let now_us = 100_000_000;
        let well = CoreSnapshot {
            last_turn_us: now_us - 5_000,
            ..CoreSnapshot::default()
        };
        assert!(of_core(0, &well, now_us).is_empty());
        let silent = CoreSnapshot {
            last_turn_us: now_us - 5_000_001,
            ..well
        };
        assert_eq!(
            of_core(1, &silent, now_us),
            ["core 1 has not ticked for 5 s"]
        );
        let holding = CoreSnapshot {
            held_since_us: now_us - 29_000_000,
            ..well
        };
        assert!(of_core(0, &holding, now_us).is_empty());
        let stuck = CoreSnapshot {
            held_since_us: now_us - 31_000_000,
            ..well
        };
        assert_eq!(
            of_core(0, &stuck, now_us),
            ["core 0 has held results for 31 s"]
        );
    }
}
