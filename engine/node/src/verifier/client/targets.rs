//! What is to be checked, as the store has it now. It must not know why.

use std::collections::HashMap;
use std::time::Duration;

use model::{Generation, Target, TargetId};
use store::Store;
use tokio::time::timeout;

/// How long a store may take: a question that waits longer is better put again.
const READ: Duration = Duration::from_secs(5);

/// A target that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) target: Target,
    /// It was edited, and the node checks it as it was before.
    pub(super) is_edited: bool,
}

/// Reads targets by their ids.
#[derive(Clone)]
pub(super) struct Targets {
    /// Where they are.
    pub(super) store: Store,
    /// Whether they are rows of the legacy table.
    pub(super) are_legacy: bool,
}

impl Targets {
    /// Each of `wanted` that is there and active in that configuration or a newer one, in their
    /// order.
    pub(super) async fn read(&self, wanted: &[(TargetId, Generation)]) -> Vec<Option<Found>> {
        match timeout(READ, self.found(wanted)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!("targets of questions cannot be read: {error}");
                vec![None; wanted.len()]
            }
            Err(_) => vec![None; wanted.len()],
        }
    }

    async fn found(&self, wanted: &[(TargetId, Generation)]) -> store::Result<Vec<Option<Found>>> {
        let ids = wanted.iter().map(|&(id, _)| id).collect();
        let found = self.store.targets_by_ids(ids).await?.targets;
        let active = found.into_iter().filter(|target| target.active);
        let active: HashMap<TargetId, Target> = active.map(|target| (target.id, target)).collect();
        let asked = |&(id, generation): &(TargetId, Generation)| {
            let target = active.get(&id)?;
            // Legacy rows have no generations.
            let is_older = !self.are_legacy && target.generation < generation;
            (!is_older).then(|| Found {
                target: target.clone(),
                is_edited: !self.are_legacy && target.generation > generation,
            })
        };
        Ok(wanted.iter().map(asked).collect())
    }
}

#[cfg(test)]
mod tests {
    use model::UnixMs;
    use store::{ImportId, StoreUrl};

    use super::*;
    use crate::targets::import::{ImportOrder, import_file};

    #[tokio::test]
    async fn what_is_switched_off_gone_or_not_there_yet_is_not_asked_about() {
        let dir = tempfile::tempdir().expect("temp dir");
        let url = StoreUrl::Sqlite(dir.path().join("s.db"));
        let store = Store::open(&url).await.expect("a new store opens");
        let order = ImportOrder {
            path: dir.path().join("t.csv"),
            prune: true,
            strict: false,
        };
        for (at, list) in [
            "1,http://a/\n2,http://b/\n3,http://c/",
            "1,http://a/\n3,http://c/",
        ]
        .into_iter()
        .enumerate()
        {
            std::fs::write(&order.path, format!("id,url\n{list}\n")).expect("written");
            let id = ImportId(UnixMs(1 + at as u64));
            let done = import_file(&store, &order, id, &mut |_| {}).await;
            done.expect("imported");
        }
        let page = store.targets(None, 10, false).await.expect("read").targets;
        let of = |id: i64| {
            let found = page.iter().find(|target| target.id.get() == id);
            found
                .map(|target| (target.id, target.generation))
                .expect("there")
        };
        let (first, (third, generation)) = (of(1), of(3));
        let absent = (TargetId::new(4).expect("positive"), Generation(1));
        // The node knows of an edit that this reading does not, and the reverse.
        let behind = (third, Generation(generation.0 + 1));
        let ahead = (third, Generation(generation.0 - 1));
        let targets = Targets {
            store: store.clone(),
            are_legacy: false,
        };
        let wanted = [(third, generation), of(2), absent, first, behind, ahead];
        let read = targets.read(&wanted).await;
        let told = |found: &Option<Found>| {
            let found = found.as_ref()?;
            Some((found.target.id.get(), found.is_edited))
        };
        let told: Vec<_> = read.iter().map(told).collect();
        let expected = [
            Some((3, false)),
            None,
            None,
            Some((1, false)),
            None,
            Some((3, true)),
        ];
        assert_eq!(told, expected);
        // A store that does not answer says of none.
        store.close().await.expect("closed");
        assert_eq!(targets.read(&wanted).await, vec![None; 6]);
    }
}
