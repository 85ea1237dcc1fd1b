//! Rows on their way to the store that are no facts: gathered, one flight at a time, and in front
//! again when the store did not take them. It must not know what they are, nor how many may wait.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use model::MonoUs;
use model::limits::HISTORY_CHUNK_ROWS;
use store::StoreError;

/// Rows wait this long for company, in ms.
const GATHER_MS: u64 = 250;
/// Pause after a failed flight, in ms.
const RETRY_MS: u64 = 1_000;

/// Where a flight tells how it ended.
pub(crate) type Landing = Rc<Cell<Option<Result<(), StoreError>>>>;

struct Flight<R> {
    rows: Vec<R>,
    /// `Some` once it ended.
    landed: Landing,
}

/// The rows that wait, and the flight that is under way.
pub(crate) struct Flights<R> {
    /// Rows of one flight at most.
    rows_max: usize,
    waiting: VecDeque<R>,
    /// When the first of them came.
    oldest: Option<MonoUs>,
    flight: Option<Flight<R>>,
    retry_at: Option<MonoUs>,
    /// An epoch under which the store refused to write.
    refused: Option<u64>,
    /// Rows that the store has.
    pub(crate) written: u64,
    /// Flights that failed.
    pub(crate) failed: u64,
}

impl<R: Clone> Flights<R> {
    /// Of `transactions` of the store each, at most. A flight that fails is said again as a whole:
    /// rows that are doubled then must fly in one.
    pub(crate) fn of(transactions: usize) -> Self {
        Self {
            rows_max: transactions * HISTORY_CHUNK_ROWS,
            waiting: VecDeque::new(),
            oldest: None,
            flight: None,
            retry_at: None,
            refused: None,
            written: 0,
            failed: 0,
        }
    }

    pub(crate) fn push(&mut self, row: R, now: MonoUs) {
        self.oldest.get_or_insert(now);
        self.waiting.push_back(row);
    }

    /// Rows that wait, those on their way included.
    pub(crate) fn len(&self) -> usize {
        let flying = self.flight.as_ref().map_or(0, |flight| flight.rows.len());
        self.waiting.len() + flying
    }

    /// An epoch under which the store refused to write since the last time.
    pub(crate) fn take_refused(&mut self) -> Option<u64> {
        self.refused.take()
    }

    /// Ends a flight that landed; rows that were not written wait again, in front. Says why they
    /// were not, unless another node has the right to write.
    pub(crate) fn land(&mut self, now: MonoUs) -> Option<StoreError> {
        let result = self.flight.as_ref()?.landed.take()?;
        let flight = self.flight.take()?;
        let Err(error) = result else {
            self.written += flight.rows.len() as u64;
            return None;
        };
        for row in flight.rows.into_iter().rev() {
            self.waiting.push_front(row);
        }
        self.oldest.get_or_insert(now);
        self.failed += 1;
        self.retry_at = Some(now.plus_ms(RETRY_MS));
        if let StoreError::Fenced { epoch, .. } = error {
            self.refused = Some(epoch);
            return None;
        }
        Some(error)
    }

    /// Starts the next flight when it is time: `write` takes its rows to the store. Must run on a
    /// tokio `LocalSet`.
    pub(crate) fn start<F>(&mut self, now: MonoUs, at_once: bool, write: impl FnOnce(Vec<R>) -> F)
    where
        F: Future<Output = Result<(), StoreError>> + 'static,
    {
        if let Some((rows, landing)) = self.depart(now, at_once) {
            let writing = write(rows);
            tokio::task::spawn_local(async move { landing.set(Some(writing.await)) });
        }
    }

    /// The rows of the next flight, when it is time, and where to tell how it ended.
    pub(crate) fn depart(&mut self, now: MonoUs, at_once: bool) -> Option<(Vec<R>, Landing)> {
        let is_old = |oldest: MonoUs| now.since(oldest) >= GATHER_MS * 1_000;
        let is_time =
            at_once || self.waiting.len() >= HISTORY_CHUNK_ROWS || self.oldest.is_some_and(is_old);
        let may = self.retry_at.is_none_or(|at| at <= now);
        if self.waiting.is_empty() || self.flight.is_some() || !is_time || !may {
            return None;
        }
        let count = self.waiting.len().min(self.rows_max);
        let rows: Vec<R> = self.waiting.drain(..count).collect();
        self.oldest = (!self.waiting.is_empty()).then_some(now);
        let landed = Landing::default();
        self.flight = Some(Flight {
            rows: rows.clone(),
            landed: Rc::clone(&landed),
        });
        Some((rows, landed))
    }
}
