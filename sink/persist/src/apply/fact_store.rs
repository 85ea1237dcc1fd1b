//! What the sink asks of a store. It must not know how any of it is done.

use std::future::Future;
use std::sync::Arc;

use model::fact::Batch;
use store::{
    Applied, AuditRow, Claim, Fence, Floors, FreshnessRow, FreshnessWritten, HistoryRow, OpenEvent,
    StoreError,
};

/// What the sink asks of a store; the seam where tests put a store that fails.
pub(crate) trait FactStore: 'static {
    /// Whether dropping an overdue apply ends it: true where each request can give up its own
    /// connection, false where a thread works on it to the end whatever we do.
    fn drops_overdue(&self) -> bool;

    fn acquire(&self, claim: &Claim) -> impl Future<Output = Result<Fence, StoreError>>;
    fn renew(&self, fence: Fence, lease_ms: u64) -> impl Future<Output = Result<(), StoreError>>;
    fn release(&self, fence: Fence) -> impl Future<Output = Result<(), StoreError>>;
    fn pass_over(
        &self,
        fence: Fence,
        last_seq: u64,
    ) -> impl Future<Output = Result<(), StoreError>>;
    fn apply(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> impl Future<Output = Result<Applied, StoreError>>;
    /// See [`store::Store::still_has`].
    fn still_has(
        &self,
        fence: Fence,
        acknowledged: u64,
    ) -> impl Future<Output = Result<bool, StoreError>>;
    fn sync(&self) -> impl Future<Output = Result<(), StoreError>>;
    fn write_freshness(
        &self,
        fence: Fence,
        rows: Vec<FreshnessRow>,
    ) -> impl Future<Output = FreshnessWritten>;
    /// Answers how many rows were new.
    fn write_history(
        &self,
        fence: Fence,
        rows: Vec<HistoryRow>,
    ) -> impl Future<Output = Result<u64, StoreError>>;
    /// Writes lines about targets to the audit log.
    fn write_trail(
        &self,
        fence: Fence,
        rows: Vec<AuditRow>,
    ) -> impl Future<Output = Result<(), StoreError>>;
    fn floors(&self, fence: Fence) -> impl Future<Output = Result<Floors, StoreError>>;
    fn open_events(&self) -> impl Future<Output = Result<Vec<OpenEvent>, StoreError>>;
}

impl FactStore for store::Store {
    fn drops_overdue(&self) -> bool {
        false
    }

    async fn acquire(&self, claim: &Claim) -> Result<Fence, StoreError> {
        Self::acquire(self, claim).await
    }

    async fn renew(&self, fence: Fence, lease_ms: u64) -> Result<(), StoreError> {
        Self::renew(self, fence, lease_ms).await
    }

    async fn release(&self, fence: Fence) -> Result<(), StoreError> {
        Self::release(self, fence).await
    }

    async fn pass_over(&self, fence: Fence, last_seq: u64) -> Result<(), StoreError> {
        Self::pass_over(self, fence, last_seq).await
    }

    async fn apply(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied, StoreError> {
        Self::apply(self, fence, batch, acknowledged).await
    }

    async fn still_has(&self, fence: Fence, acknowledged: u64) -> Result<bool, StoreError> {
        Self::still_has(self, fence, acknowledged).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Self::sync(self).await
    }

    async fn write_freshness(&self, fence: Fence, rows: Vec<FreshnessRow>) -> FreshnessWritten {
        Self::write_freshness(self, fence, rows).await
    }

    async fn write_history(&self, fence: Fence, rows: Vec<HistoryRow>) -> Result<u64, StoreError> {
        Self::write_history(self, fence, rows).await
    }

    async fn write_trail(&self, fence: Fence, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        Self::write_trail(self, fence, rows).await
    }

    async fn floors(&self, fence: Fence) -> Result<Floors, StoreError> {
        Self::floors(self, fence).await
    }

    async fn open_events(&self) -> Result<Vec<OpenEvent>, StoreError> {
        Self::open_events(self).await
    }
}
