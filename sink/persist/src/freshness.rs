//! Writing freshness: the whole coalesced map at once, one flight at a time, the next one 10 s
//! after the start of the last or when that ends, whichever is later. One flight at a time is also
//! what orders the rows: the store takes whatever comes later, as the wall clock may step back.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;

use model::limits::FRESHNESS_FLUSH_MS;
use model::{MonoUs, TargetId, UnixMs};
use store::{Fence, FreshnessRow, FreshnessWritten, StoreError};

use crate::apply::FactStore;
use crate::quiet::Quiet;
use crate::slots::CoreSlots;

/// Pause after a failed flush, even when someone waits for the next one.
const HURRY_PAUSE_MS: u64 = 1_000;

/// A flush that is on its way.
struct Flight {
    rows: Vec<(u16, u32, TargetId)>,
    /// `Some` once it ended.
    landed: Rc<Cell<Option<FreshnessWritten>>>,
}

/// When freshness is written, and what is on its way.
#[derive(Default)]
pub(crate) struct Flushes {
    flight: Option<Flight>,
    last_start: Option<MonoUs>,
    last_failure: Option<MonoUs>,
    /// Rows that the store says it wrote.
    pub(crate) rows: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// An epoch under which the store refused to write.
    refused: Option<u64>,
    quiet: Quiet,
}

impl Flushes {
    /// Ends a flight that landed; rows that were not written wait again.
    pub(crate) fn land(&mut self, cores: &mut [CoreSlots], now: MonoUs) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let Some(written) = flight.landed.take() else {
            self.flight = Some(flight);
            return;
        };
        self.rows += written.rows;
        let Some(error) = written.error else {
            self.succeeded += 1;
            return;
        };
        self.failed += 1;
        if let StoreError::Fenced { epoch, .. } = error {
            self.refused = Some(epoch);
        }
        self.last_failure = Some(now);
        let left: HashSet<TargetId> = written.left.iter().map(|row| row.target).collect();
        if let Some(suppressed) = self.quiet.allows("freshness", now) {
            let rows = left.len();
            tracing::warn!(%error, rows, suppressed,
                "freshness was not written; its rows wait again");
        }
        for (core, slot, target) in flight.rows {
            if let Some(slots) = cores.get_mut(usize::from(core))
                && left.contains(&target)
            {
                slots.requeue(slot, target);
            }
        }
    }

    /// An epoch under which the store refused to write since the last time.
    pub(crate) fn take_refused(&mut self) -> Option<u64> {
        self.refused.take()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_none()
    }

    /// Whether the next flush may start.
    pub(crate) fn is_due(&self, now: MonoUs) -> bool {
        self.is_idle()
            && self
                .last_start
                .is_none_or(|last| now.since(last) >= FRESHNESS_FLUSH_MS * 1_000)
    }

    /// Whether a flush that someone waits for may start: at once, but not in a row after failures.
    pub(crate) fn may_hurry(&self, now: MonoUs) -> bool {
        let calm = |last: MonoUs| now.since(last) >= HURRY_PAUSE_MS * 1_000;
        self.is_idle() && self.last_failure.is_none_or(calm)
    }

    /// Takes everything that waits and starts writing it. Must run on a tokio `LocalSet`.
    pub(crate) fn start<S: FactStore>(
        &mut self,
        store: &Rc<S>,
        fence: Fence,
        cores: &mut [CoreSlots],
        (mono, unix): (MonoUs, UnixMs),
    ) {
        let (mut rows, mut written) = (Vec::new(), Vec::new());
        for (core, slots) in cores.iter_mut().enumerate() {
            slots.take_pending(unix, |slot, target, next_check| {
                rows.push((core as u16, slot, target));
                written.push(FreshnessRow {
                    target,
                    last_checked: unix,
                    next_check,
                });
            });
        }
        self.last_start = Some(mono);
        if rows.is_empty() {
            return;
        }
        let landed = Rc::new(Cell::new(None));
        self.flight = Some(Flight {
            rows,
            landed: Rc::clone(&landed),
        });
        let store = Rc::clone(store);
        tokio::task::spawn_local(async move {
            landed.set(Some(store.write_freshness(fence, written).await));
        });
    }
}
