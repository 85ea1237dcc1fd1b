//! The requests that only a server has an answer to: its rights, and the table of an older system.

use model::{Target, TargetId};

use super::{Backend, Store};
use crate::Result;
use crate::answer::{DriftSlice, LegacyReport, TargetPage, UnreadSlice};
use crate::changes::{Changes, Position, Reader};
use crate::lease::JournalId;
use crate::legacy::{LegacyRange, LegacyRow, RowTally};
use crate::mysql::{self, Lane};
use crate::rules::Which;

/// Rows of settings that one statement looks at.
const UNREAD_SLICE_ROWS: usize = 25_000;

impl Store {
    /// Whether a node could write on a server: by statements that change no row, also where it was
    /// opened to look only. The rights of a file are the system's to tell.
    ///
    /// # Errors
    /// [`NoPrivilege`](crate::StoreError::NoPrivilege),
    /// [`ServerReadOnly`](crate::StoreError::ServerReadOnly); the store's.
    pub async fn require_rights(&self) -> Result<()> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(()),
            Backend::Mysql(client) => {
                let work = async |db: &mut mysql::Session| db.require_rights().await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// The next `limit` rows of the legacy table after the id `after`, wherever the targets of a
    /// node are read from. Ask until `last` is `None`.
    ///
    /// # Errors
    /// [`NoLegacy`](crate::StoreError::NoLegacy) where no such table was named; the store's. A row
    /// that is no valid target is returned as refused.
    pub async fn legacy_targets(
        &self,
        after: Option<TargetId>,
        limit: usize,
        only_active: bool,
    ) -> Result<TargetPage> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| {
                    db.legacy_targets(after, limit, Which::of(only_active))
                        .await
                };
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// The rows of the legacy table in `range`, as they are now, in one statement for each 500 ids;
    /// in the order of their ids, but for [`LegacyRange::Ids`]. They have their buckets where
    /// `buckets` says that [`Store::legacy_has_buckets`].
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_rows(&self, range: LegacyRange, buckets: bool) -> Result<Vec<LegacyRow>> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work =
                    async move |db: &mut mysql::Session| db.legacy_rows(&range, buckets).await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// How many active rows of the legacy table the buckets `first` to `last` have, and which:
    /// one statement that reads an index alone. Empty buckets are left out.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_tally(&self, first: u16, last: u16) -> Result<Vec<(u16, RowTally)>> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| db.legacy_tally(first, last).await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// How many active rows of the legacy table there are among the next `limit` after the id
    /// `after`, and which, and the last of their ids, which is `None` where there are none: one
    /// statement that reads so many active rows by the primary key, and sends one.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_tally_after(
        &self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<(RowTally, Option<TargetId>)> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work =
                    async move |db: &mut mysql::Session| db.legacy_tally_after(after, limit).await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// Whether [`Store::legacy_tally`] costs little: there is an index that begins with the bucket
    /// and with what tells whether a row is active.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_has_buckets(&self) -> Result<bool> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async |db: &mut mysql::Session| db.legacy_has_buckets().await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// Compares the status in the next `limit` rows of the legacy table after the id `after` with
    /// our open events. Nothing is changed. A slice costs the server as many reads of two keys.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_drift(&self, after: Option<TargetId>, limit: usize) -> Result<DriftSlice> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| db.legacy_drift(after, limit).await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// Rows of settings of targets and blogs that ask for a history of their own
    /// (`check_history_mode`), which no node keeps.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`].
    pub async fn legacy_unread(&self) -> Result<u64> {
        let mut rows = 0;
        for of_blogs in [false, true] {
            let mut after = Some(0);
            while let Some(key) = after {
                let slice = self.unread_slice(of_blogs, key).await?;
                rows += slice.rows;
                after = slice.last;
            }
        }
        Ok(rows)
    }

    async fn unread_slice(&self, of_blogs: bool, after: u64) -> Result<UnreadSlice> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| {
                    db.legacy_unread(of_blogs, after, UNREAD_SLICE_ROWS).await
                };
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// Writes `targets` into the legacy table under their ids: new rows are inserted, others
    /// changed, none is removed. It is one transaction. A target that no legacy row can say in
    /// full is refused, and the others are written.
    ///
    /// # Errors
    /// As [`Store::legacy_targets`]; then nothing is written.
    pub async fn put_legacy(&self, targets: Vec<Target>) -> Result<LegacyReport> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_legacy()),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| db.put_legacy(&targets).await;
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// A stream of the changes of the legacy tables, by the server's binary log: each within about
    /// 50 ms of its commit, with work that does not depend on the size of the tables. It begins at
    /// `from`, or at this moment. Two streams beside each other of one node end each other.
    ///
    /// # Errors
    /// [`NoChanges`](crate::StoreError::NoChanges) when this store has none, with the reason;
    /// [`ChangesLost`](crate::StoreError::ChangesLost) when there is none from `from` on: open one
    /// from now on, then read every row once; the store's.
    pub async fn legacy_changes(&self, reader: Reader, from: Option<Position>) -> Result<Changes> {
        match &self.backend {
            Backend::Sqlite(client) => Err(client.no_changes()),
            Backend::Mysql(client) => client.legacy_changes(reader, from).await,
        }
    }

    /// Up to where the node with `journal` acknowledged changes of the legacy tables.
    ///
    /// # Errors
    /// The store's.
    pub async fn change_position(&self, journal: JournalId) -> Result<Option<Position>> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| db.change_position(journal).await;
                client.ask(Lane::Control, work).await
            }
        }
    }
}
