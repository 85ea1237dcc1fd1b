//! Looking whether the store still has what it acknowledged: after each renewal of the lease, and
//! before files of the journal go.

use std::sync::Arc;
use std::time::Duration;

use model::fact::Batch;
use model::limits::APPLY_TIMEOUT_MS;
use store::Fence;

use super::{ApplyQueue, FactStore, refused};
use crate::failpoint;

/// Asks the store whether it has what it had; only where it says no, what is the matter. Without
/// an answer, the next look or the next facts ask again.
pub(super) async fn look_plainly<S: FactStore>(store: &S, queue: &ApplyQueue, fence: Fence) {
    let acknowledged = queue.acknowledged.get();
    if acknowledged == 0 {
        return;
    }
    let limit = Duration::from_millis(APPLY_TIMEOUT_MS);
    let asked = tokio::time::timeout(limit, store.still_has(fence, acknowledged));
    if matches!(asked.await, Ok(Ok(false))) {
        look_back(store, queue, fence).await;
    }
}

/// Gives the store the last batch that it acknowledged once more, without its facts: it refuses
/// that if it was set back. Whatever else is the matter, or comes too late, the next look or the
/// next facts meet it too.
async fn look_back<S: FactStore>(store: &S, queue: &ApplyQueue, fence: Fence) -> bool {
    let acknowledged = queue.acknowledged.get();
    if acknowledged == 0 {
        return true;
    }
    let known = Arc::new(Batch {
        journal_seq: acknowledged,
        facts: Vec::new(),
    });
    let limit = Duration::from_millis(APPLY_TIMEOUT_MS);
    let asked = tokio::time::timeout(limit, store.apply(fence, &known, acknowledged));
    match asked.await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            refused(queue, fence, &error);
            false
        }
        Err(_) => false,
    }
}

/// Lets files go. Another server may answer by now, which syncs well what it never had.
pub(super) async fn secure<S: FactStore>(store: &S, queue: &ApplyQueue, fence: Fence) -> bool {
    let applied = queue.applied.get();
    match store.sync().await {
        Ok(()) if !look_back(store, queue, fence).await => {
            queue.sync_failed.set(true);
            false
        }
        Ok(()) => {
            failpoint::pass("secure.after");
            queue.secure(applied.min(queue.applied.get()))
        }
        Err(error) => {
            queue.sync_failed.set(true);
            queue.count(|counts| counts.retries += 1);
            if let Some(suppressed) = queue.may_say("sync") {
                tracing::warn!(%error, suppressed,
                    "the store could not be synced; the journal keeps its segments");
            }
            false
        }
    }
}
