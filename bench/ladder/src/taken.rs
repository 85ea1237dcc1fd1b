//! CPU time that others had while a pinned thread of the node wanted to run: what the hypervisor
//! took from its CPU, and how long it stood in the kernel's run queue. A second with much of it
//! says how the machine did, not how the node did.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::clock;
use crate::procfs::{self, Queued};

const STAT: &str = "/proc/stat";
/// How often the counters are read.
const STEP: Duration = Duration::from_millis(250);
/// What each turn on the CPU may wait for: the kernel's own way from a wake-up to the thread.
const WAKE_UP_US: u64 = 10;

/// The thread that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// The CPU that it is pinned to.
    pub(crate) cpu: usize,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
}

/// Readings of what was taken from one thread.
#[derive(Clone, Debug)]
pub(crate) struct TakenLog {
    /// Unix ms and what was taken so far, rising.
    readings: Vec<(u64, Taken)>,
}

/// What was taken since the thread began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) stolen_ms: u64,
    pub(crate) queued: Queued,
}

impl TakenLog {
    /// Reads the counters for `seconds`.
    ///
    /// # Errors
    /// When the kernel knows neither the CPU nor the thread, or keeps no account of run queues.
    pub(crate) async fn watch(watched: Watched, seconds: u64) -> Result<Self> {
        let mut readings = vec![read(watched)?];
        let until_ms = readings[0].0 + seconds * 1_000;
        while readings.last().is_some_and(|(at_ms, _)| *at_ms < until_ms) {
            sleep(STEP).await;
            readings.push(read(watched)?);
        }
        Ok(Self { readings })
    }

    /// Taken within a span of Unix ms and up to one reading on either side; `None` where the
    /// readings do not reach.
    pub(crate) fn taken_ms(&self, from_ms: u64, to_ms: u64) -> Option<u64> {
        let before = self.readings.iter().rfind(|(at, _)| *at <= from_ms)?;
        let after = self.readings.iter().find(|(at, _)| *at >= to_ms)?;
        Some(after.1.since(&before.1))
    }
}

impl Taken {
    /// In ms. Where the kernel counts stolen time in the run queue's too it counts twice: a second
    /// is rather called disturbed than calm.
    fn since(&self, before: &Self) -> u64 {
        let turns = self.queued.turns.saturating_sub(before.queued.turns);
        let queued = self.queued.time.saturating_sub(before.queued.time);
        let queued = queued.saturating_sub(Duration::from_micros(turns * WAKE_UP_US));
        let queued_ms = u64::try_from(queued.as_millis()).unwrap_or(u64::MAX);
        let stolen_ms = self.stolen_ms.saturating_sub(before.stolen_ms);
        stolen_ms.saturating_add(queued_ms)
    }
}

fn read(watched: Watched) -> Result<(u64, Taken)> {
    let text =
        std::fs::read_to_string(Path::new(STAT)).with_context(|| format!("cannot read {STAT}"))?;
    let cpu = watched.cpu;
    let ticks = steal_ticks(&text, cpu).with_context(|| format!("{STAT} has no cpu{cpu}"))?;
    let stolen_ms = ticks * 1_000 / rustix::param::clock_ticks_per_second();
    let queued = procfs::thread_queued(watched.pid, watched.tid)?;
    Ok((clock::unix_ms(), Taken { stolen_ms, queued }))
}

/// The eighth number of the CPU's line.
fn steal_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let mut lines = stat.lines().map(str::split_ascii_whitespace);
    let mut fields = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
    fields.nth(7)?.parse().ok()
}

#[cfg(test)]
pub(crate) mod testbed {
    use super::{Taken, TakenLog};

    /// A log of these readings: Unix ms and ms stolen so far.
    pub(crate) fn log(readings: &[(u64, u64)]) -> TakenLog {
        let taken = |stolen_ms| Taken {
            stolen_ms,
            ..Taken::default()
        };
        let readings = readings.iter().map(|&(at_ms, ms)| (at_ms, taken(ms)));
        TakenLog {
            readings: readings.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testbed::log;
    use super::*;

    #[test]
    fn the_line_of_the_cpu_is_found_and_its_eighth_number() {
        let stat = "cpu  1 2 3 4 5 6 7 800 9 10\ncpu1 1 2 3 4 5 6 7 81 9 0\n\
                    cpu10 1 2 3 4 5 6 7 82 9 0\nintr 5 6\n";
        assert_eq!(steal_ticks(stat, 1), Some(81));
        assert_eq!(steal_ticks(stat, 10), Some(82));
        assert_eq!(steal_ticks(stat, 0), None);
    }

    #[test]
    fn a_span_is_widened_to_the_readings_around_it() {
        let log = log(&[(1_000, 50), (1_250, 50), (1_500, 80), (1_750, 80)]);
        assert_eq!(log.taken_ms(1_000, 1_250), Some(0));
        assert_eq!(log.taken_ms(1_100, 1_300), Some(30));
        assert_eq!(log.taken_ms(1_500, 1_700), Some(0));
        assert_eq!(log.taken_ms(999, 1_250), None);
        assert_eq!(log.taken_ms(1_500, 1_751), None);
    }

    #[test]
    fn a_wake_up_is_the_kernels_own_and_what_waits_longer_is_not() {
        let taken = |us, turns| Taken {
            stolen_ms: 0,
            queued: Queued {
                time: Duration::from_micros(us),
                turns,
            },
        };
        let before = taken(1_000_000, 500);
        assert_eq!(taken(1_030_000, 3_500).since(&before), 0);
        assert_eq!(taken(1_050_000, 3_500).since(&before), 20);
    }

    #[test]
    fn this_machine_tells_of_its_own_thread() {
        let pid = std::process::id();
        let own = Watched {
            cpu: 0,
            pid,
            tid: pid,
        };
        assert!(read(own).expect("readable").0 > 0);
        for wrong in [
            Watched {
                cpu: usize::MAX,
                ..own
            },
            Watched { tid: 0, ..own },
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
