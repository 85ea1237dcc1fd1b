//! What is to be checked, as the store has it now. It must not know why.

use std::time::Duration;

use model::{Generation, Target, TargetId};
use store::{LegacyRange, LegacyState, Store};
use tokio::time::timeout;

/// How long a store may take: a question that waits longer is better put again.
const READ: Duration = Duration::from_secs(5);

/// Reads targets by their ids.
#[derive(Clone)]
pub(super) struct Targets {
    /// Where they are.
    pub(super) store: Store,
    /// Whether they are rows of the legacy table.
    pub(super) are_legacy: bool,
}

impl Targets {
    /// Each of `wanted` that is there and active in that configuration, in their order.
    pub(super) async fn read(&self, wanted: &[(TargetId, Generation)]) -> Vec<Option<Target>> {
        match timeout(READ, self.found(wanted)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!("targets of questions cannot be read: {error}");
                vec![None; wanted.len()]
            }
            Err(_) => vec![None; wanted.len()],
        }
    }

    async fn found(&self, wanted: &[(TargetId, Generation)]) -> store::Result<Vec<Option<Target>>> {
        if self.are_legacy {
            return self.found_legacy(wanted).await;
        }
        let mut found = Vec::with_capacity(wanted.len());
        for &(id, generation) in wanted {
            let page = self
                .store
                .targets(TargetId::new(id.get() - 1), 1, true)
                .await?;
            let same = |target: &Target| target.id == id && target.generation == generation;
            found.push(page.targets.into_iter().find(same));
        }
        Ok(found)
    }

    /// Legacy rows have no generations.
    async fn found_legacy(
        &self,
        wanted: &[(TargetId, Generation)],
    ) -> store::Result<Vec<Option<Target>>> {
        let ids = wanted.iter().map(|&(id, _)| id).collect();
        let rows = self.store.legacy_rows(LegacyRange::Ids(ids), false).await?;
        let active = rows.into_iter().filter_map(|row| match row.state {
            LegacyState::Active(target, _) => Some((row.id, *target)),
            _ => None,
        });
        let mut active: std::collections::HashMap<TargetId, Target> = active.collect();
        Ok(wanted.iter().map(|(id, _)| active.remove(id)).collect())
    }
}
