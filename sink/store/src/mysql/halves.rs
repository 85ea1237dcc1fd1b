//! A large batch goes in two halves at once, by shards: one over the connection of the facts, with
//! the position of the journal, the other over that of freshness.
//!
//! ```text
//!  facts      begin · right · position ─┬─ facts of one half ────────── waits ─┬─ commit
//!  freshness                            └─ begin · right · the other · commit ─┘
//! ```
//!
//! The position is never there without both halves. Where the second one fails, or the node is
//! killed, the other half is there without a position: the batch is given again, and what is there
//! is met by its ids, as in any batch that comes again.

use std::sync::atomic::{AtomicBool, Ordering};

use model::fact::{Batch, Fact};
use model::limits::BATCH_MAX;
use tokio::sync::oneshot;

use super::Client;
use super::session::{Lane, Session};
use crate::Result;
use crate::answer::Applied;
use crate::lease::Fence;

/// Whether large batches are divided: not after one failed that was, until one is taken whole. So
/// a cause that lies in dividing them is never met twice in a row. Not either where two
/// transactions cannot lock the node's row at a time: the second half would wait for the first one.
#[derive(Debug)]
pub(super) struct Divides(AtomicBool);

impl Default for Divides {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Client {
    /// Applies `batch`, see [`crate::Store::apply`].
    pub(crate) async fn apply(
        &self,
        fence: Fence,
        batch: &Batch,
        acknowledged: u64,
    ) -> Result<Applied> {
        let divides = self.divides.0.load(Ordering::Relaxed);
        let (own, other) = if divides && batch.facts.len() > BATCH_MAX {
            halves(batch)
        } else {
            (batch.clone(), Vec::new())
        };
        if other.is_empty() {
            let (applied, shares_locks) = self.apply_whole(fence, own, acknowledged).await?;
            self.divides.0.store(shares_locks, Ordering::Relaxed);
            return Ok(applied);
        }
        let applied = self.apply_halves(fence, own, other, acknowledged).await;
        self.divides.0.store(applied.is_ok(), Ordering::Relaxed);
        applied
    }

    /// Also whether the server has locks that are shared.
    async fn apply_whole(
        &self,
        fence: Fence,
        batch: Batch,
        acknowledged: u64,
    ) -> Result<(Applied, bool)> {
        self.ask(Lane::Facts, async move |session: &mut Session| {
            let beside = &mut Beside::Nothing;
            let applied = session.apply(fence, &batch, acknowledged, beside).await?;
            Ok((applied, !session.shares_no_locks))
        })
        .await
    }

    async fn apply_halves(
        &self,
        fence: Fence,
        own: Batch,
        other: Vec<Fact>,
        acknowledged: u64,
    ) -> Result<Applied> {
        let (begin, begun) = oneshot::channel();
        let (commit, committed) = oneshot::channel();
        let mut beside = Beside::Waited {
            begin: Some(begin),
            committed,
        };
        let first = self.ask(Lane::Facts, async move |session: &mut Session| {
            session.apply(fence, &own, acknowledged, &mut beside).await
        });
        let skipped = other.len() as u64;
        let second = async {
            if begun.await.is_err() {
                // The store has them both, or the first half failed before.
                return Ok(Applied {
                    skipped,
                    ..Applied::default()
                });
            }
            self.ask(Lane::Freshness, async move |session: &mut Session| {
                let applied = session.apply_beside(fence, &other).await?;
                // Nobody waits any more where the first half failed meanwhile.
                commit.send(()).ok();
                Ok(applied)
            })
            .await
        };
        let (first, second) = tokio::join!(first, second);
        // The first half fails because of the second, too: then the second says why.
        let second = second?;
        Ok(first?.and(second))
    }
}

/// The other half of a batch, as the one with the position sees it.
pub(super) enum Beside {
    /// There is none.
    Nothing,
    Waited {
        begin: Option<oneshot::Sender<()>>,
        committed: oneshot::Receiver<()>,
    },
    Committed,
    Failed,
}

impl Beside {
    /// Lets the other half begin, once the position says that this batch is the next.
    pub(super) fn begin(&mut self) {
        if let Self::Waited { begin, .. } = self
            && let Some(begin) = begin.take()
        {
            // Without anybody who hears it nothing is committed either.
            begin.send(()).ok();
        }
    }

    /// Waits until the other half is committed, where there is one; `false`: it never will be.
    pub(super) async fn is_committed(&mut self) -> bool {
        if let Self::Waited { committed, .. } = self {
            // Kept, as this half may be tried again.
            *self = match committed.await {
                Ok(()) => Self::Committed,
                Err(_) => Self::Failed,
            };
        }
        !matches!(self, Self::Failed)
    }
}

/// The facts of even shards, with the number of the batch, and the others. Facts of one target stay
/// together, in their order.
fn halves(batch: &Batch) -> (Batch, Vec<Fact>) {
    let is_even = |fact: &Fact| fact.target().shard().get().is_multiple_of(2);
    let (even, odd): (Vec<Fact>, Vec<Fact>) = batch.facts.iter().cloned().partition(is_even);
    let (facts, other) = if even.is_empty() {
        (odd, even)
    } else {
        (even, odd)
    };
    let own = Batch {
        journal_seq: batch.journal_seq,
        facts,
    };
    (own, other)
}
