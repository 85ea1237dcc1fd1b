//! A large batch goes in two halves at once, by targets: one over the connection of the facts, the
//! other over that of freshness. Each commits by itself, and the position of the journal is last.
//!
//! ```text
//!  facts      right · position? ─┬─ begin · right · one half · commit ───┬─ right · position
//!  freshness                     └─ begin · right · the other · commit ──┘
//! ```
//!
//! No half waits for the other one while it holds locks: where an incident opens again soon after
//! its end, the server locks the next key of the events that are open, and that may be one of the
//! other half, where the two meet. Where one fails, or the node is killed, what is committed is
//! there without a position: the batch is given again, and that is met by its ids, as always.

use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::TargetId;
use model::fact::{Batch, Fact};
use model::limits::BATCH_MAX;

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
        if !divides || batch.facts.len() <= BATCH_MAX {
            let applied = self.apply_whole(fence, Arc::clone(batch), acknowledged);
            let (applied, shares_locks) = applied.await?;
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
            let applied = session.apply(fence, &batch, acknowledged).await?;
            Ok((applied, !session.shares_no_locks))
        })
        .await
    }

    async fn apply_halves(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied> {
        let seq = batch.journal_seq;
        let is_there = self.ask(Lane::Facts, async move |session: &mut Session| {
            session.has_batch(fence, seq, acknowledged).await
        });
        if is_there.await? {
            return Ok(Applied::already(batch.facts.len()));
        }
        let middle = middle(&batch.facts);
        let (one, other) = tokio::join!(
            self.apply_half(Lane::Facts, fence, Arc::clone(batch), ..middle),
            self.apply_half(Lane::Freshness, fence, Arc::clone(batch), middle..),
        );
        let applied = one?.and(other?);
        self.ask(Lane::Facts, async move |session: &mut Session| {
            session.advance(fence, seq, acknowledged).await
        })
        .await?;
        Ok(applied)
    }

    async fn apply_half(
        &self,
        lane: Lane,
        fence: Fence,
        batch: Arc<Batch>,
        targets: impl RangeBounds<TargetId> + Send + 'static,
    ) -> Result<Applied> {
        self.ask(lane, async move |session: &mut Session| {
            let of_half = |fact: &&Fact| targets.contains(&fact.target());
            let facts: Vec<&Fact> = batch.facts.iter().filter(of_half).collect();
            session.apply_part(fence, &facts).await
        })
        .await
    }
}

/// The first target of the upper half of `facts`: both have as many to write, and only two targets
/// of different halves are neighbours in the indices.
fn middle(facts: &[Fact]) -> TargetId {
    let mut targets: Vec<TargetId> = facts.iter().map(Fact::target).collect();
    let middle = targets.len() / 2;
    *targets.select_nth_unstable(middle).1
}
