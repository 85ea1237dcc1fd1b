//! What the bars of `bench.md` §5 say of one run of `ladder memory`. Pure.

use super::Idle;
use super::load::Load;
use crate::bar::Bar;
use crate::baseline::engine::CORE_THREAD;
use crate::table::grouped;

const BYTES_PER_TARGET_MAX: f64 = 200.0;
const IDLE_CORE_PERCENT_MAX: f64 = 1.0;
const FIRST_PROBE_MAX_S: f64 = 5.0;
pub(super) const LAG_P99_MAX_MS: f64 = 15.0;
pub(super) const LAG_P999_MAX_MS: f64 = 50.0;
/// An idle node does some of its work once in 30 s: a shorter look may miss it.
pub(super) const IDLE_WATCH_MIN_S: f64 = 60.0;

/// The bars of an idle node.
pub(super) fn idle_bars(idle: &[Idle], bytes_per_target: f64) -> Vec<Bar> {
    let (Some(smallest), Some(largest)) = (idle.first(), idle.last()) else {
        return Vec::new();
    };
    let targets = |idle: &Idle| grouped(u64::from(idle.sites));
    let slope = format!(
        "memory per target, {} to {} targets",
        targets(smallest),
        targets(largest)
    );
    let of = |what: &str| format!("{what}, {} targets", targets(largest));
    let too_short = (largest.watched_s < IDLE_WATCH_MIN_S).then(|| {
        let watched_s = largest.watched_s;
        format!("watched for {watched_s:.0} s, {IDLE_WATCH_MIN_S:.0} s are needed")
    });
    let (percent, first_s) = (largest.core_percent, largest.first_probe_s());
    let idle_max = (IDLE_CORE_PERCENT_MAX, "% of a core");
    vec![
        Bar::new(
            slope,
            Some(bytes_per_target),
            (BYTES_PER_TARGET_MAX, "B"),
            None,
        ),
        Bar::new(
            of("idle CPU, all threads"),
            Some(percent),
            idle_max,
            too_short,
        ),
        Bar::new(
            of("first probe"),
            Some(first_s),
            (FIRST_PROBE_MAX_S, "s"),
            None,
        ),
    ]
}

/// The bars of a loaded node.
pub(super) fn lag_bars(load: &Load) -> [Bar; 2] {
    let bar = |what: &str, measured_ms: f64, max_ms: f64| {
        let what = format!("{what} {}", at(load));
        Bar::new(what, Some(measured_ms), (max_ms, "ms"), load.flaw())
    };
    let judged = load.lag.judged();
    [
        bar("schedule lag p99", judged.p99_ms, LAG_P99_MAX_MS),
        bar("schedule lag p99.9", judged.p999_ms, LAG_P999_MAX_MS),
    ]
}

fn at(load: &Load) -> String {
    let seconds = if load.lag.is_disturbed() {
        "every"
    } else {
        "calm"
    };
    format!(
        "at {:.0} checks/s, {CORE_THREAD} {:.0} % busy, farm {:.0} %, {seconds} seconds",
        load.checks_per_s, load.core_busy_percent, load.farm_busy_percent
    )
}

#[cfg(test)]
mod tests {
    use super::super::load::testbed::load;
    use super::super::testbed::idle;
    use super::*;
    use crate::bar::Verdict;

    fn rows() -> [Idle; 2] {
        [idle(100_000, 1), idle(1_000_000, 2)]
    }

    fn verdicts(bars: impl IntoIterator<Item = Bar>) -> Vec<Verdict> {
        bars.into_iter().map(|bar| bar.verdict().clone()).collect()
    }

    #[test]
    fn a_bar_holds_up_to_its_maximum() {
        use Verdict::{Holds, Missed};
        assert_eq!(verdicts(idle_bars(&rows(), 200.0)), [Holds, Holds, Holds]);
        assert_eq!(verdicts(idle_bars(&rows(), 200.1))[0], Missed);
        assert_eq!(verdicts(lag_bars(&load(70.0, 80.0, 0))), [Missed, Holds]);
    }

    #[test]
    fn lag_under_another_load_is_not_shown_however_low_it_is() {
        for (load, reason) in [
            (
                load(51.0, 40.0, 0),
                "core-0 was 51 % busy, and 65 to 80 % in 0",
            ),
            (load(81.0, 40.0, 0), "core-0 was 81 % busy"),
            (load(70.0, 85.0, 0), "the farm was 85 % busy"),
            (load(70.0, 40.0, 3), "3 checks failed"),
        ] {
            for bar in lag_bars(&load) {
                let complaint = bar.complaint().expect("not shown");
                assert!(complaint.contains("not shown"), "{complaint}");
                assert!(complaint.contains(reason), "{complaint}");
            }
        }
    }

    #[test]
    fn a_short_look_at_an_idle_node_is_not_shown() {
        let mut rows = rows();
        rows[1].watched_s = 30.0;
        let complaint = idle_bars(&rows, 200.0)[1].complaint();
        let text = complaint.expect("not shown");
        assert!(
            text.ends_with("watched for 30 s, 60 s are needed"),
            "{text}"
        );
    }

    #[test]
    fn the_numbers_file_tells_verdict_and_reason() {
        let bars = serde_json::to_value(idle_bars(&rows(), 200.0)).expect("JSON");
        assert_eq!(bars[0]["verdict"], "holds");
        let bars = serde_json::to_value(lag_bars(&load(70.0, 40.0, 3))).expect("JSON");
        assert_eq!(bars[0]["verdict"], "not_shown");
        assert_eq!(bars[0]["reason"], "3 checks failed");
    }
}
