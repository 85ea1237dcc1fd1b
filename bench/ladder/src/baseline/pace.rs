//! Open-loop pacing at a fixed rate, in batches every 5 ms as the engine dispatches. Pure.

use std::time::Duration;

/// Time between two batches: the tick of a probe core.
pub(crate) const TICK: Duration = Duration::from_millis(model::limits::TICK_MS);

/// How many checks must have been started by now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: u32,
    started: u64,
}

impl Pace {
    /// Nothing started yet, at `rate` checks per second.
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate, started: 0 }
    }

    /// Numbers of the checks to start at `elapsed`, each given out once.
    pub(crate) fn due(&mut self, elapsed: Duration) -> std::ops::Range<u64> {
        let due = (elapsed.as_micros() * u128::from(self.rate) / 1_000_000) as u64;
        let batch = self.started..due.max(self.started);
        self.started = batch.end;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_started_once_and_in_time() {
        let mut pace = Pace::new(1_300);
        let mut started = 0;
        for tick in 1..=200 {
            let batch = pace.due(TICK * tick);
            assert_eq!(batch.start, started);
            assert!((6..=7).contains(&(batch.end - batch.start)));
            started = batch.end;
        }
        assert_eq!(started, 1_300);
        assert!(
            pace.due(TICK).is_empty(),
            "time that goes back starts nothing"
        );
    }
}
