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

use std::sync::Arc;
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
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied> {
        let divides = self.divides.0.load(Ordering::Relaxed);
        let batch = Arc::clone(batch);
        if !divides || batch.facts.len() <= BATCH_MAX {
            let (applied, shares_locks) = self.apply_whole(fence, batch, acknowledged).await?;
            self.divides.0.store(shares_locks, Ordering::Relaxed);
            return Ok(applied);
        }
        let applied = self.apply_halves(fence, batch, acknowledged).await;
        self.divides.0.store(applied.is_ok(), Ordering::Relaxed);
        applied
    }

    /// Also whether the server has locks that are shared.
    async fn apply_whole(
        &self,
        fence: Fence,
        batch: Arc<Batch>,
        acknowledged: u64,
    ) -> Result<(Applied, bool)> {
        self.ask(Lane::Facts, async move |session: &mut Session| {
            let facts: Vec<&Fact> = batch.facts.iter().collect();
            let (seq, beside) = (batch.journal_seq, &mut Beside::Nothing);
            let applied = session.apply(fence, (seq, &facts), acknowledged, beside);
            Ok((applied.await?, !session.shares_no_locks))
        })
        .await
    }

    async fn apply_halves(
        &self,
        fence: Fence,
        batch: Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied> {
        let (begin, begun) = oneshot::channel();
        let (commit, committed) = oneshot::channel();
        let mut beside = Beside::Waited {
            begin: Some(begin),
            committed,
        };
        let whole = Arc::clone(&batch);
        let first = self.ask(Lane::Facts, async move |session: &mut Session| {
            let (seq, facts) = (whole.journal_seq, half(&whole, 0));
            let applied = session.apply(fence, (seq, &facts), acknowledged, &mut beside);
            applied.await
        });
        let second = async {
            if begun.await.is_err() {
                // The store has them both, or the first half failed before.
                return Ok(Applied::already(half(&batch, 1).len()));
            }
            self.ask(Lane::Freshness, async move |session: &mut Session| {
                let facts = half(&batch, 1);
                let applied = session.apply_beside(fence, &facts).await?;
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

/// The facts of even shards, or of odd ones. Facts of one target stay together, in their order.
fn half(batch: &Batch, rest: u16) -> Vec<&Fact> {
    let of_half = |fact: &&Fact| fact.target().shard().get() % 2 == rest;
    batch.facts.iter().filter(of_half).collect()
}
