//! Single checks on their way to the store's history: which are kept, and how many may wait. They
//! are no facts: when too many wait the next ones are left out, counted, and nothing else is held
//! up.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;

use model::ids::splitmix64;
use model::limits::HISTORY_WAITING_MAX;
use model::{FailureClass, MonoUs, Outcome, TargetId};
use store::{Fence, HistoryRow};

use crate::apply::FactStore;
use crate::flight::Flights;
use crate::incidents::Key;
use crate::quiet::Quiet;

/// Which checks the history keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryMode {
    /// Those after which something else is known of their target: the first failure, what opens,
    /// confirms and closes an incident.
    Edges,
    /// Those, every check that is not healthy, and of each target one in so many healthy ones.
    Sample(NonZeroU32),
    /// Every check.
    All,
}

/// The checks that wait, and what became of the others.
pub(crate) struct History {
    mode: HistoryMode,
    pub(crate) flights: Flights<HistoryRow>,
    /// First failures that may turn out to be ours.
    held: HashMap<Key, HistoryRow>,
    quiet: Quiet,
    pub(crate) left_out: u64,
}

impl History {
    pub(crate) fn new(mode: HistoryMode) -> Self {
        Self {
            mode,
            // What is said again changes nothing: its ids are ours.
            flights: Flights::of(10),
            held: HashMap::new(),
            quiet: Quiet::default(),
            left_out: 0,
        }
    }

    /// Whether healthy checks of clean targets are to be shown to it at all.
    pub(crate) fn takes_healthy(&self) -> bool {
        self.mode != HistoryMode::Edges
    }

    /// Whether to keep a check of `target`.
    pub(crate) fn wants(&self, target: TargetId, outcome: &Outcome, is_edge: bool) -> bool {
        if is_edge {
            return true;
        }
        match self.mode {
            HistoryMode::Edges => false,
            HistoryMode::All => true,
            HistoryMode::Sample(_) if outcome.class != 0 => true,
            HistoryMode::Sample(one_in) => is_sampled(target, outcome.seq, one_in),
        }
    }

    /// Keeps a check. From half of the room on only those that are not healthy are kept.
    pub(crate) fn push(&mut self, row: HistoryRow, now: MonoUs) {
        let is_healthy = row.class.is_none();
        let room = if is_healthy {
            HISTORY_WAITING_MAX / 2
        } else {
            HISTORY_WAITING_MAX
        };
        if self.waiting() < room {
            return self.flights.push(row, now);
        }
        self.left_out += 1;
        if let Some(suppressed) = self.quiet.allows("full", now) {
            tracing::warn!(
                waiting = self.waiting(),
                suppressed,
                "checks are left out of the history: the store does not take them as fast as they \
                 come; choose a smaller `history`, or make the store faster"
            );
        }
    }

    /// Keeps the failing check of `key` until it is known whose failure it is.
    pub(crate) fn hold(&mut self, key: Key, row: HistoryRow, now: MonoUs) {
        if self.waiting() >= HISTORY_WAITING_MAX {
            // It is left out.
            return self.push(row, now);
        }
        if let Some(before) = self.held.insert(key, row) {
            self.push(before, now);
        }
    }

    /// Gives on what is held of `key`, with what its class is now called.
    pub(crate) fn settle(
        &mut self,
        key: Key,
        called: impl Fn(FailureClass) -> FailureClass,
        now: MonoUs,
    ) {
        if let Some(row) = self.held.remove(&key) {
            let class = row.class.map(called);
            self.push(HistoryRow { class, ..row }, now);
        }
    }

    /// Checks that wait: for the store, for the flight that is under way, or for being believed.
    pub(crate) fn waiting(&self) -> usize {
        self.flights.len() + self.held.len()
    }

    /// Ends a flight that landed.
    pub(crate) fn land(&mut self, now: MonoUs) {
        if let Some(error) = self.flights.land(now)
            && let Some(suppressed) = self.quiet.allows("history", now)
        {
            tracing::warn!(%error, suppressed, "the history was not written; its rows wait again");
        }
    }

    /// Starts the next flight when it is time. Must run on a tokio `LocalSet`.
    pub(crate) fn start<S: FactStore>(
        &mut self,
        store: &Rc<S>,
        fence: Fence,
        now: MonoUs,
        at_once: bool,
    ) {
        if at_once {
            // Whose failures these are will never be known.
            for (_, row) in self.held.drain() {
                let class = row.class.and(Some(FailureClass::LocalPressure));
                self.flights.push(HistoryRow { class, ..row }, now);
            }
        }
        let store = Rc::clone(store);
        let write = async move |rows| store.write_history(fence, rows).await.map(drop);
        self.flights.start(now, at_once, write);
    }
}

/// Whether the check number `seq` of `target` is one in `one_in`. Checks are not counted across
/// targets: those come in the same order each interval, and the same few would be kept. Each target
/// has a turn of its own, scattered so that not all are kept at once.
fn is_sampled(target: TargetId, seq: u32, one_in: NonZeroU32) -> bool {
    let turn = splitmix64(target.get() as u64) % u64::from(one_in.get());
    (turn + u64::from(seq)).is_multiple_of(u64::from(one_in.get()))
}

#[cfg(test)]
mod tests {
    use model::outcome::Phases;
    use model::{FactId, FailureClass, UnixMs};

    use super::*;
    use crate::testbed::{START, healthy, target};

    fn row(class: Option<FailureClass>) -> HistoryRow {
        HistoryRow {
            id: FactId::new(1).expect("positive"),
            target: target(1),
            group_id: 0,
            method: "GET",
            status: 200,
            class,
            phases: Phases::NONE,
            checked_at: START,
        }
    }

    #[test]
    fn a_sample_has_one_in_so_many_healthy_checks_and_all_that_are_not() {
        let failing = Outcome {
            class: FailureClass::HttpStatus as u8,
            ..healthy(0, 1, UnixMs(0))
        };
        let kept = |mode| {
            let history = History::new(mode);
            let one = |(nth, is_edge): (u32, bool)| {
                let outcome = if nth.is_multiple_of(10) {
                    failing
                } else {
                    healthy(0, 1, UnixMs(0))
                };
                let outcome = Outcome {
                    seq: nth + 1,
                    ..outcome
                };
                u32::from(history.wants(target(1), &outcome, is_edge))
            };
            (0..100)
                .map(|nth| (nth, nth % 50 == 1))
                .map(one)
                .sum::<u32>()
        };
        let one_in = |n| HistoryMode::Sample(NonZeroU32::new(n).expect("positive"));
        // 10 fail, 2 healthy ones are edges; 2 of the 12 turns of target 1 fall on failing ones.
        assert_eq!(kept(HistoryMode::Edges), 2);
        assert_eq!(kept(one_in(8)), 10 + 2 + 10);
        assert_eq!(kept(one_in(1)), 100);
        assert_eq!(kept(HistoryMode::All), 100);
    }

    /// Lesson: one healthy check in N of all was kept. Targets of one interval come in the same
    /// order each time, and of 1,000 the same ten were kept for ever.
    #[test]
    fn of_each_target_one_healthy_check_in_so_many_is_kept_and_not_all_at_once() {
        const TARGETS: i64 = 1_000;
        const ONE_IN: u32 = 100;
        let one_in = NonZeroU32::new(ONE_IN).expect("positive");
        let history = History::new(HistoryMode::Sample(one_in));
        let mut kept = vec![0; TARGETS as usize];
        for seq in 1..=3 * ONE_IN {
            let outcome = Outcome {
                seq,
                ..healthy(0, 1, UnixMs(0))
            };
            let mut at_once = 0;
            for (id, kept) in (1..).zip(&mut kept) {
                let is_kept = history.wants(target(id), &outcome, false);
                *kept += u32::from(is_kept);
                at_once += u32::from(is_kept);
            }
            assert!(at_once <= 40, "{at_once} of check {seq}");
            if seq.is_multiple_of(ONE_IN) {
                let rounds = seq / ONE_IN;
                assert!(kept.iter().all(|&kept| kept == rounds), "{kept:?}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_left_out_healthy_checks_first() {
        let mut history = History::new(HistoryMode::All);
        for _ in 0..HISTORY_WAITING_MAX {
            history.push(row(None), MonoUs(0));
        }
        assert_eq!(history.flights.len(), HISTORY_WAITING_MAX / 2);
        for _ in 0..HISTORY_WAITING_MAX {
            history.push(row(Some(FailureClass::HttpStatus)), MonoUs(0));
        }
        assert_eq!(history.flights.len(), HISTORY_WAITING_MAX);
        assert_eq!(history.left_out, HISTORY_WAITING_MAX as u64);
    }
}
