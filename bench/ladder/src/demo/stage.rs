//! How far the demo is. Pure: what the node says of itself moves it on, and patience ends it.

use super::progress::in_state;
use super::scenario;
use crate::metrics::Scrape;

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Every site is checked for the first time.
    WarmUp,
    /// Sites are broken, until the node has found all of them.
    Faults,
    /// They are well again, until the node has seen that.
    Recovery {
        since_ms: u32,
    },
    Over,
}

/// Open events by the node's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    seems_down: u64,
    down: u64,
}

impl Open {
    pub(super) fn of(scrape: &Scrape) -> Self {
        Self {
            seems_down: in_state(scrape, "seems_down"),
            down: in_state(scrape, "down"),
        }
    }
}

impl Stage {
    /// The stage at `elapsed_ms`. The gates judge what was found; here it is only counted.
    pub(super) fn next(self, elapsed_ms: u32, open: Open) -> Self {
        let faults_over_ms = scenario::WARM_UP_MS + scenario::FAULTS_MAX_MS;
        match self {
            Self::WarmUp if elapsed_ms >= scenario::WARM_UP_MS => Self::Faults,
            Self::Faults
                if open.down >= u64::from(scenario::SITES_DOWN) || elapsed_ms >= faults_over_ms =>
            {
                Self::Recovery {
                    since_ms: elapsed_ms,
                }
            }
            Self::Recovery { since_ms }
                if open.seems_down + open.down == 0
                    || elapsed_ms >= since_ms + scenario::RECOVERY_MAX_MS =>
            {
                Self::Over
            }
            stage => stage,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up ",
            Self::Faults => "faults  ",
            Self::Recovery { .. } | Self::Over => "recovery",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn open(seems_down: u64, down: u64) -> Open {
        Open { seems_down, down }
    }

    const ALL: u64 = scenario::SITES_DOWN as u64;

    #[test]
    fn the_run_moves_on_when_the_node_has_seen_everything() {
        let warm = scenario::WARM_UP_MS;
        assert_eq!(Stage::WarmUp.next(warm - 1, open(0, ALL)), Stage::WarmUp);
        assert_eq!(Stage::WarmUp.next(warm, open(0, 0)), Stage::Faults);
        assert_eq!(Stage::Faults.next(40_000, open(1, ALL - 1)), Stage::Faults);
        let recovery = Stage::Recovery { since_ms: 41_000 };
        assert_eq!(Stage::Faults.next(41_000, open(0, ALL)), recovery);
        assert_eq!(recovery.next(45_000, open(1, 0)), recovery);
        assert_eq!(recovery.next(45_000, open(0, 1)), recovery);
        assert_eq!(recovery.next(45_000, open(0, 0)), Stage::Over);
    }

    #[test]
    fn a_node_that_sees_nothing_does_not_hold_the_run_up_for_ever() {
        let last = scenario::WARM_UP_MS + scenario::FAULTS_MAX_MS;
        assert_eq!(Stage::Faults.next(last - 1, open(0, 0)), Stage::Faults);
        let recovery = Stage::Recovery { since_ms: last };
        assert_eq!(Stage::Faults.next(last, open(0, 0)), recovery);
        let end = last + scenario::RECOVERY_MAX_MS;
        assert_eq!(recovery.next(end - 1, open(0, ALL)), recovery);
        assert_eq!(recovery.next(end, open(0, ALL)), Stage::Over);
    }
}
