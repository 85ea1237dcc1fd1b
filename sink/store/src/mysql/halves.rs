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
//! other half. Where one fails, or the node is killed, what is committed is there without a
//! position: the batch is given again, and that is met by its ids, as always.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::fact::{Batch, Fact};
use model::limits::BATCH_MAX;

use super::Client;
use super::session::{Lane, Session};
use crate::Result;
use crate::answer::Applied;
use crate::lease::Fence;

/// Targets whose numbers follow each other and that are in one half, as a power of two: the halves
/// have few neighbours in the indices.
const NEIGHBOURS_LOG2: u32 = 10;

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
        let (one, other) = tokio::join!(
            self.apply_half(Lane::Facts, fence, (Arc::clone(batch), 0)),
            self.apply_half(Lane::Freshness, fence, (Arc::clone(batch), 1)),
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
        (batch, rest): (Arc<Batch>, i64),
    ) -> Result<Applied> {
        self.ask(lane, async move |session: &mut Session| {
            let of_half = |fact: &&Fact| fact.target().get() >> NEIGHBOURS_LOG2 & 1 == rest;
            let facts: Vec<&Fact> = batch.facts.iter().filter(of_half).collect();
            session.apply_part(fence, &facts).await
        })
        .await
    }
}
