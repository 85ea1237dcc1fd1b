//! From rows that changed to targets that may be read. A server tells a change when it is in the
//! log, which is a moment before it is committed for other readers (and, where a replica has to
//! confirm it, longer). Its rows are locked until then: a reader that shares the lock waits for it.

use std::collections::BTreeSet;

use model::TargetId;
use model::limits::CHANGED_ROWS_MAX;
use mysql_async::Value;

use super::super::super::session::Session;
use super::super::super::targets::whole;
use super::gather::{Keys, Watched, What};
use crate::changes::LostChanges;
use crate::legacy::Legacy;
use crate::{Result, StoreError};

/// Rows that are locked in one statement: one that somebody else holds keeps up so many others.
const CHUNK_ROWS: usize = 500;

/// Waits until the rows that `keys` name in `tables` are committed, and gives back those that
/// still are not. After the first of them no other row is waited for.
pub(super) async fn still_locked(
    session: &mut Session,
    tables: &[Watched],
    keys: &Keys,
) -> Result<Keys> {
    let mut locked = Keys::default();
    for table in tables {
        for chunk in keys.all(table.what).chunks(CHUNK_ROWS) {
            if !locked.is_empty() || !is_committed(session, table, chunk).await? {
                let is_switched =
                    |key: &u64| table.what == What::Sites && keys.switched.contains(key);
                let (switched, edited) = chunk
                    .iter()
                    .partition::<Vec<u64>, _>(|key| is_switched(key));
                locked.switched.extend(switched);
                locked.of(table.what).extend(edited);
            }
        }
    }
    Ok(locked)
}

async fn is_committed(session: &mut Session, table: &Watched, keys: &[u64]) -> Result<bool> {
    let head = format!(
        "SELECT 1 FROM `{}` WHERE `{}` IN",
        table.name, table.key_name
    );
    let keys: Vec<Value> = keys.iter().copied().map(Value::UInt).collect();
    let locking = (head.as_str(), "LOCK IN SHARE MODE");
    session.connect().await?;
    let mut done = session.fetch_many(locking, &[], keys.clone()).await;
    if let Err(StoreError::ConnectionLost { .. }) = done {
        // A silent connection is closed by many a thing between.
        session.connect().await?;
        done = session.fetch_many(locking, &[], keys).await;
    }
    match done {
        Ok(_) => Ok(true),
        Err(StoreError::Contended { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a user who may not lock rows of `tables`.
pub(super) async fn require_locks(session: &mut Session, tables: &[Watched]) -> Result<()> {
    for table in tables {
        is_committed(session, table, &[0]).await?;
    }
    Ok(())
}

/// Targets that changed, each in one of the lists, rising.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) switched: Vec<TargetId>,
    pub(super) edited: Vec<TargetId>,
}

/// The targets of `keys`.
pub(super) async fn targets(
    session: &mut Session,
    legacy: &Legacy,
    keys: Keys,
) -> Result<Result<Targets, LostChanges>> {
    let own = keys.sites.iter().chain(&keys.settings);
    let mut edited: BTreeSet<TargetId> = own.filter_map(|key| target(*key)).collect();
    let (group, table) = (legacy.columns.group.quoted(), legacy.table.quoted());
    let head = format!(
        "SELECT {} FROM {table} WHERE {group} IN",
        legacy.columns.id.quoted()
    );
    let tail = format!("LIMIT {}", whole(CHANGED_ROWS_MAX + 1));
    let blogs: Vec<Value> = keys.blogs.into_iter().map(Value::UInt).collect();
    let mut of_blogs = 0;
    for chunk in blogs.chunks(CHUNK_ROWS) {
        let rows = session
            .fetch_many((&head, &tail), &[], chunk.to_vec())
            .await?;
        of_blogs += rows.len();
        if of_blogs > CHANGED_ROWS_MAX {
            return Ok(Err(LostChanges::TooMany));
        }
        edited.extend(rows.iter().filter_map(|row| match row.as_ref(0) {
            Some(Value::Int(id)) => TargetId::new(*id),
            Some(Value::UInt(id)) => target(*id),
            _ => None,
        }));
    }
    let switched = keys.switched.iter().filter_map(|key| target(*key));
    let switched: BTreeSet<TargetId> = switched.collect();
    Ok(Ok(Targets {
        edited: edited.difference(&switched).copied().collect(),
        switched: switched.into_iter().collect(),
    }))
}

fn target(key: u64) -> Option<TargetId> {
    i64::try_from(key).ok().and_then(TargetId::new)
}
