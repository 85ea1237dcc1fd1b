//! Reads what the sweep asks for; it must not know why.

use model::TargetId;
use store::{LegacyRange, LegacyRow, RowTally, Store};

use super::events::Read;

/// What was read.
pub(super) enum Found {
    Rows(Vec<LegacyRow>),
    /// The last bucket, and those that have rows.
    Tally(u16, Vec<(u16, RowTally)>),
    /// Rows, and the last one's id.
    Count(RowTally, Option<TargetId>),
}

/// Reads; `buckets`: whether there are any, and the last one of those that are counted.
pub(super) async fn look(
    store: &Store,
    read: &Read,
    (buckets, last): (bool, u16),
) -> store::Result<Found> {
    let range = match read.clone() {
        Read::Tally { first } => {
            let counted = store.legacy_tally(first, last).await?;
            return Ok(Found::Tally(last, counted));
        }
        Read::Count { after, limit } => {
            let (counted, last) = store.legacy_tally_after(after, limit).await?;
            return Ok(Found::Count(counted, last));
        }
        Read::Page { after: id, limit }
        | Read::Span {
            after: id, limit, ..
        } => LegacyRange::After { id, limit },
        Read::Bucket {
            bucket,
            after: id,
            limit,
        } => LegacyRange::Bucket { bucket, id, limit },
        Read::Ids(ids) => LegacyRange::Ids(ids),
    };
    store.legacy_rows(range, buckets).await.map(Found::Rows)
}
