//! The right to write while a long backlog is read: the lease is renewed between two pieces, so
//! that however long that takes nobody takes over from a node that works. Knows no journal.

use model::MonoUs;
use store::{Fence, StoreError};

use crate::apply::FactStore;
use crate::handle::Clock;
use crate::lease::{Answer, Ask, Lease};

/// Keeps a right that was just given.
pub(crate) struct Keeper<'a, S> {
    store: &'a S,
    clock: &'a Clock,
    fence: Fence,
    length_ms: u64,
    lease: Lease,
}

impl<'a, S: FactStore> Keeper<'a, S> {
    /// Of `fence`, which was asked for at `asked` with a lease of `length_ms`.
    pub(crate) fn of(
        (store, clock): (&'a S, &'a Clock),
        (fence, length_ms): (Fence, u64),
        asked: MonoUs,
    ) -> Self {
        let lease = Lease::granted(length_ms, fence.epoch(), asked);
        Self {
            store,
            clock,
            fence,
            length_ms,
            lease,
        }
    }

    /// Renews the lease when that is due. A store that cannot be asked lets it lapse, which loses
    /// nothing before somebody else asks.
    ///
    /// # Errors
    /// [`StoreError::Fenced`]: somebody did.
    pub(crate) async fn keep(&mut self) -> Result<(), StoreError> {
        let now = (self.clock)().mono;
        if self.lease.poll(now, false) != Some(Ask::Renew) {
            return Ok(());
        }
        match self.store.renew(self.fence, self.length_ms).await {
            Ok(()) => self.lease.answered(Answer::Renewed, now),
            Err(error @ StoreError::Fenced { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the lease could not be renewed while the journal is read");
                self.lease.answered(Answer::Failed, now)
            }
        };
        Ok(())
    }

    /// When the lease began that runs now.
    pub(crate) fn since(&self) -> MonoUs {
        self.lease.since()
    }
}
