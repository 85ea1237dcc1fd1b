//! The handle that everyone holds, and the choice of the backend behind it.

use std::sync::Arc;

use model::fact::{Batch, Event, Transition};
use model::limits::{FRESHNESS_CHUNK_ROWS, HISTORY_CHUNK_ROWS};
use model::{FactId, TargetId, UnixMs};
use tokio::sync::mpsc;

use crate::answer::{
    Applied, AuditRow, ChangePage, EventFilter, Floors, Forgotten, FoundTargets, FreshnessRow,
    FreshnessWritten, HistoryRow, ImportId, ImportPart, ImportReport, ImportRow, OpenEvent,
    StoreCounts, TargetPage,
};
use crate::lease::{Claim, Fence};
use crate::mysql::{Lane, MysqlUrl};
use crate::options::OpenOptions;
use crate::rules::Which;
use crate::schema::{IndexStep, MigrationPlan, MigrationStep};
use crate::url::StoreUrl;
use crate::{Result, StoreError, mysql, sqlite};

/// Rows of one import transaction: an apply waits for one of them at most (≈ 50 ms).
const IMPORT_CHUNK_ROWS: usize = 2_000;
/// Targets that one request reads by their ids: others are answered between two of them.
const IDS_CHUNK: usize = 500;

/// A store. Clones share their connections. Facts are applied one batch at a time, in the order in
/// which they were asked; so is freshness. The embedded store does everything one at a time, a
/// server beside each other what is asked beside each other. A request whose caller went away
/// before it began is not done; on a server one that is under way then is rolled back.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Sqlite(sqlite::Client),
    Mysql(mysql::Client),
}

/// Sends a request to whichever backend this is; a server has a lane for each kind of request.
macro_rules! ask {
    ($store:expr, $lane:ident, |$db:ident| $work:expr) => {
        match &$store.backend {
            Backend::Sqlite(client) => client.ask(move |$db| $work).await,
            Backend::Mysql(client) => {
                let work = async move |$db: &mut mysql::Session| $work.await;
                client.ask(Lane::$lane, work).await
            }
        }
    };
}

mod legacy;
mod operators;

impl Store {
    /// Opens the store at `url`; an embedded one is made and migrated when needed.
    ///
    /// # Errors
    /// A store that is somewhere else, read-only, locked, damaged, foreign or newer; a server that
    /// is not migrated.
    pub async fn open(url: &StoreUrl) -> Result<Self> {
        Self::open_with(url, OpenOptions::default()).await
    }

    /// Opens the store at `url` when there is one, for commands that only look: it is neither
    /// migrated nor written.
    ///
    /// # Errors
    /// As [`Store::open`], [`NotFound`](crate::StoreError::NotFound), and
    /// [`OlderSchema`](crate::StoreError::OlderSchema).
    pub async fn open_existing(url: &StoreUrl) -> Result<Self> {
        Self::open_with(url, OpenOptions::look()).await
    }

    /// Opens the store at `url` as `options` say.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(url: &StoreUrl, options: OpenOptions) -> Result<Self> {
        match url {
            StoreUrl::Sqlite(_) if options.legacy.is_some() => Err(StoreError::LegacyElsewhere {
                store: url.to_string(),
            }),
            StoreUrl::Sqlite(path) => {
                let client = sqlite::Client::open(path.clone(), options).await?;
                Ok(Self {
                    backend: Backend::Sqlite(client),
                })
            }
            StoreUrl::Mysql(url) => {
                let client = mysql::Client::open(url.clone(), options).await?;
                Ok(Self {
                    backend: Backend::Mysql(client),
                })
            }
        }
    }

    /// What [`Store::migrate`] would do to the store at `url`. Nothing is changed, nor made.
    ///
    /// # Errors
    /// The store's: one that cannot be opened, is newer, or has another text of a migration.
    pub async fn migration_plan(url: &StoreUrl) -> Result<MigrationPlan> {
        match url {
            StoreUrl::Sqlite(path) => {
                sqlite::migration_plan(path.clone(), OpenOptions::default()).await
            }
            StoreUrl::Mysql(url) => mysql::migration_plan(url).await,
        }
    }

    /// Brings the store at `url` to the version of this build, alone, and says what was done. A
    /// server is never migrated by anything else; the embedded store is whenever it is opened.
    ///
    /// # Errors
    /// As [`Store::migration_plan`]; and whatever a statement of a migration meets. Then doing it
    /// again goes on where it stopped.
    pub async fn migrate(url: &StoreUrl) -> Result<Vec<MigrationStep>> {
        match url {
            StoreUrl::Sqlite(_) => {
                let plan = Self::migration_plan(url).await?;
                Self::open(url).await?.close().await?;
                Ok(plan.steps)
            }
            StoreUrl::Mysql(url) => mysql::migrate(url).await,
        }
    }

    /// Which of the two optional indices on the times of freshness the server at `url` lacks.
    /// Nothing is changed.
    ///
    /// # Errors
    /// The server's.
    pub async fn lacking_time_indexes(url: &MysqlUrl) -> Result<Vec<IndexStep>> {
        mysql::time_indexes::lacking(url).await
    }

    /// Adds those indices, alone, to a server that was migrated, and says which it lacked. They are
    /// for readers: no node needs them, and each makes a write of freshness cost more. Nothing else
    /// ever adds them.
    ///
    /// # Errors
    /// The server's. Then doing it again goes on where it stopped.
    pub async fn add_time_indexes(url: &MysqlUrl) -> Result<Vec<IndexStep>> {
        mysql::time_indexes::add(url).await
    }

    /// Keeps `rows`: new ones are inserted, changed ones updated, equal ones left alone. The
    /// generation of a target rises when a field changed that its probes depend on; its change
    /// number with every change. Rows that were inactive become active.
    ///
    /// A row without an id that meets its unique key is that target. One import may not give two
    /// different rows for one target; the second is refused.
    ///
    /// # Errors
    /// The store's; what earlier transactions of 2,000 rows wrote stays, and importing the same
    /// rows again completes it. A refused row is no error.
    pub async fn import(&self, mut rows: Vec<ImportRow>, import: ImportId) -> Result<ImportReport> {
        let mut report = ImportReport::default();
        let mut base = 0;
        while !rows.is_empty() {
            let later = rows.split_off(rows.len().min(IMPORT_CHUNK_ROWS));
            let count = rows.len();
            let part = ask!(self, Control, |db| db.import(&rows, import))?;
            report.inserted += part.inserted;
            report.updated += part.updated;
            report.unchanged += part.unchanged;
            report
                .refused
                .extend(part.refused.into_iter().map(|(at, why)| (base + at, why)));
            base += count;
            rows = later;
        }
        Ok(report)
    }

    /// Keeps every row of `parts` as [`Store::import`] does, or nothing at all: one refused row,
    /// or an end that does not keep, undoes the others. Refused rows are counted over all parts;
    /// at 1,000 of them it stops. `None`: the sender went away before the end.
    ///
    /// It is one transaction, and every other request waits until it is done: seconds for a
    /// million rows.
    ///
    /// # Errors
    /// The store's; then nothing is kept.
    pub async fn import_whole(
        &self,
        parts: mpsc::Receiver<ImportPart>,
        import: ImportId,
    ) -> Result<Option<ImportReport>> {
        ask!(self, Control, |db| db.import_whole(parts, import))
    }

    /// Switches off the active targets that no row of `import` named, and says how many. Targets
    /// that a refused row of it would have touched stay. It ends the import.
    ///
    /// # Errors
    /// [`NothingImported`](crate::StoreError::NothingImported) when the import named no target;
    /// the store's. It works in transactions of 2,000 rows.
    pub async fn prune(&self, import: ImportId) -> Result<u64> {
        ask!(self, Control, |db| db.require_members(import))?;
        let (mut pruned, mut after) = (0, 0);
        while let Some(part) = ask!(self, Control, |db| db.prune(
            import,
            after,
            IMPORT_CHUNK_ROWS
        ))? {
            pruned += part.count;
            after = part.last;
        }
        self.end_import(import).await?;
        Ok(pruned)
    }

    /// Forgets which rows `import` had: it may not be pruned any more. What it brought in stays.
    ///
    /// # Errors
    /// The store's. It works in transactions of 2,000 rows.
    pub async fn end_import(&self, import: ImportId) -> Result<()> {
        let chunk = IMPORT_CHUNK_ROWS;
        while ask!(self, Control, |db| db.forget_import(import, chunk))? == chunk {}
        Ok(())
    }

    /// The next `limit` targets after the id `after`. Ask until `last` is `None`.
    ///
    /// # Errors
    /// The store's. A row that is no valid target is returned as refused.
    pub async fn targets(
        &self,
        after: Option<TargetId>,
        limit: usize,
        only_active: bool,
    ) -> Result<TargetPage> {
        let which = Which::of(only_active);
        ask!(self, Control, |db| db.targets(after, limit, which))
    }

    /// The targets `ids`, active or not; those that are not there are left out. Each 500 of them
    /// are one picture of the store, and one statement on a server.
    ///
    /// # Errors
    /// As [`Store::targets`].
    pub async fn targets_by_ids(&self, mut ids: Vec<TargetId>) -> Result<FoundTargets> {
        let mut found = FoundTargets::default();
        while !ids.is_empty() {
            let later = ids.split_off(ids.len().min(IDS_CHUNK));
            let part = ask!(self, Control, |db| db.targets_by_ids(&ids))?;
            found.targets.extend(part.targets);
            found.refused.extend(part.refused);
            ids = later;
        }
        Ok(found)
    }

    /// The next `limit` targets that changed after `after_change`, in the order of their last
    /// changes. Ask until `latest_change` stands still. Status and freshness are not changes.
    ///
    /// # Errors
    /// The store's. A row that is no valid target is returned as refused.
    pub async fn changes(&self, after_change: u64, limit: usize) -> Result<ChangePage> {
        ask!(self, Control, |db| db.changes(after_change, limit))
    }

    /// Gives the right to write the claimed shards, under a new epoch: whoever had it before writes
    /// nothing any more. Time is the database's.
    ///
    /// # Errors
    /// [`Held`](crate::StoreError::Held) while another node has a lease on one of them; the
    /// store's.
    pub async fn acquire(&self, claim: &Claim) -> Result<Fence> {
        let claim = claim.clone();
        ask!(self, Facts, |db| db.acquire(&claim))
    }

    /// Makes the lease of `fence` run for `lease_ms` from now on, by the database's clock.
    ///
    /// # Errors
    /// [`Fenced`](crate::StoreError::Fenced) when the right was taken; the store's.
    pub async fn renew(&self, fence: Fence, lease_ms: u64) -> Result<()> {
        ask!(self, Control, |db| db.renew(fence, lease_ms))
    }

    /// Ends the lease of `fence`, if it is still the one: another node need not wait for it.
    ///
    /// # Errors
    /// The store's.
    pub async fn release(&self, fence: Fence) -> Result<()> {
        ask!(self, Control, |db| db.release(fence))
    }

    /// The journal of `fence` ends with `last_seq` for now: of what [`Floors::superseded`] named
    /// without an end, nothing up to there is to be applied, and everything after it is. An end
    /// that was named before, behind `last_seq`, becomes `last_seq`: what was there never reached
    /// the journal, and its numbers are given again. Before the first batch is applied under a new
    /// fence.
    ///
    /// # Errors
    /// [`Fenced`](crate::StoreError::Fenced), and the store's.
    pub async fn pass_over(&self, fence: Fence, last_seq: u64) -> Result<()> {
        ask!(self, Facts, |db| db.pass_over(fence, last_seq))
    }

    /// Every open event with the number of its transitions, by id.
    ///
    /// # Errors
    /// The store's, and a row that this build cannot read.
    pub async fn open_events(&self) -> Result<Vec<OpenEvent>> {
        ask!(self, Facts, |db| db.open_events())
    }

    /// Where the node of `fence` resumes.
    ///
    /// # Errors
    /// The store's.
    pub async fn floors(&self, fence: Fence) -> Result<Floors> {
        ask!(self, Facts, |db| db.floors(fence))
    }

    /// Applies `batch` in one transaction, together with its journal position; on a server one of
    /// more than [`BATCH_MAX`](model::limits::BATCH_MAX) facts in two, each with every fact of a
    /// half of the shards, and the position in the second. Applying it again changes nothing, be it
    /// whole or fact by fact in another batch: a job and the target's status are written only with
    /// a new transition, closed events are never touched and `started_at` never moves. No content
    /// of a batch makes it fail.
    ///
    /// `acknowledged` is the number of the last batch that this store is known to have: of
    /// [`Store::floors`] or of an apply that succeeded. A store that has less was set back.
    ///
    /// It is not on the disk after a power failure before the next [`Store::sync`].
    ///
    /// # Errors
    /// [`Fenced`](crate::StoreError::Fenced), [`SetBack`](crate::StoreError::SetBack), and the
    /// store's; then the position is where it was, and no fact is there in part.
    pub async fn apply(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied> {
        match &self.backend {
            Backend::Sqlite(client) => {
                let batch = Arc::clone(batch);
                client
                    .ask(move |db| db.apply(fence, &batch, acknowledged))
                    .await
            }
            Backend::Mysql(client) => client.apply(fence, batch, acknowledged).await,
        }
    }

    /// Whether the right of `fence` and everything up to `acknowledged` are there, by one plain
    /// question: what a node asks that has nothing to apply. A server behind a proxy may have
    /// a replica answer, so that a *no* is to be asked once more, with an [`Store::apply`] of the
    /// batch `acknowledged` without its facts, which tells why.
    ///
    /// # Errors
    /// The store's.
    pub async fn still_has(&self, fence: Fence, acknowledged: u64) -> Result<bool> {
        ask!(self, Facts, |db| db.still_has(fence, acknowledged))
    }

    /// Makes everything applied so far survive a power failure: a journal may forget what was
    /// applied before only after this.
    ///
    /// # Errors
    /// The store's.
    pub async fn sync(&self) -> Result<()> {
        ask!(self, Facts, |db| db.sync())
    }

    /// Writes when targets were checked, in primary-key order, 2,000 rows to a transaction;
    /// other requests go between two of them. The later call stays, whatever its times say, as the
    /// wall clock may step back: its one writer must not have two calls under way.
    ///
    /// Rows of a chunk that others hold are left, and the chunks after it are written all the
    /// same; after any other failure, [`Fenced`](crate::StoreError::Fenced) among them, the store
    /// is not asked again.
    pub async fn write_freshness(
        &self,
        fence: Fence,
        mut rows: Vec<FreshnessRow>,
    ) -> FreshnessWritten {
        rows.sort_by_key(|row| row.target);
        let (mut done, mut over) = (FreshnessWritten::default(), false);
        for chunk in rows.chunks(FRESHNESS_CHUNK_ROWS) {
            if over {
                done.left.extend_from_slice(chunk);
                continue;
            }
            match self.write_chunk(fence, chunk.to_vec()).await {
                Ok(written) => done.rows += written,
                Err(error) => {
                    over = !matches!(error, StoreError::Contended { .. });
                    done.left.extend_from_slice(chunk);
                    done.error.get_or_insert(error);
                }
            }
        }
        done
    }

    async fn write_chunk(&self, fence: Fence, chunk: Vec<FreshnessRow>) -> Result<u64> {
        ask!(self, Freshness, |db| db.write_freshness(fence, &chunk))
    }

    /// Writes single checks, 1,000 rows to a transaction, beside the facts. A row that is there
    /// already stays. Returns the rows that were new.
    ///
    /// # Errors
    /// [`Fenced`](crate::StoreError::Fenced), and the store's; chunks before the failed one are
    /// written. Writing all again is harmless.
    pub async fn write_history(&self, fence: Fence, rows: Vec<HistoryRow>) -> Result<u64> {
        let mut written = 0;
        for chunk in rows.chunks(HISTORY_CHUNK_ROWS) {
            let chunk = chunk.to_vec();
            written += ask!(self, Freshness, |db| db.write_history(fence, &chunk))?;
        }
        Ok(written)
    }

    /// The server's clock; `None` where the store has no other than this machine's.
    ///
    /// # Errors
    /// The store's.
    pub async fn server_time(&self) -> Result<Option<UnixMs>> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(None),
            Backend::Mysql(client) => {
                let work = async move |db: &mut mysql::Session| db.server_time().await.map(Some);
                client.ask(Lane::Control, work).await
            }
        }
    }

    /// Notes what operators had done. It needs no right to write facts: whoever is refused is noted
    /// too. A call whose answer was lost may have been done; then its rows are there twice.
    ///
    /// # Errors
    /// The store's; then none of `rows` is noted.
    pub async fn write_audit(&self, rows: Vec<AuditRow>) -> Result<()> {
        ask!(self, Control, |db| db.write_audit(&rows))
    }

    /// Notes what was done with targets beside their events, in one transaction: a caller who has
    /// many gives 1,000 at a time. A call whose answer was lost may have been done; who repeats it
    /// has its rows there twice.
    ///
    /// # Errors
    /// [`Fenced`](crate::StoreError::Fenced), and the store's; then none of `rows` is noted.
    pub async fn write_trail(&self, fence: Fence, rows: Vec<AuditRow>) -> Result<()> {
        ask!(self, Freshness, |db| db.write_trail(fence, &rows))
    }

    /// Deletes the oldest of what was noted before `before`, at most 1,000 rows.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_audit(&self, before: UnixMs) -> Result<Forgotten> {
        ask!(self, Control, |db| db.forget_audit(before))
    }

    /// Deletes the oldest checks of the history from before `before`, at most 1,000 of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_history(&self, before: UnixMs) -> Result<Forgotten> {
        ask!(self, Control, |db| db.forget_history(before))
    }

    /// Deletes events that were closed before `before`, with their transitions, at most 1,000 rows
    /// of each. An event goes with the last of its transitions or after them. Open ones stay.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_events(&self, before: UnixMs) -> Result<Forgotten> {
        ask!(self, Control, |db| db.forget_events(before))
    }

    /// Forgets the shards of one journal that lost them before `before` and did not come back, at
    /// most 1,000 of them. When all are forgotten one row stays: if the journal comes back after
    /// all, every fact that it has not applied by then is superseded.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_taken(&self, before: UnixMs) -> Result<Forgotten> {
        ask!(self, Control, |db| db.forget_taken(before))
    }

    /// Deletes check times from before `before` of targets that no table has any more, at most
    /// 1,000. One step looks at the next rows behind the target `after`: 1,000 of the embedded
    /// store, which does one thing at a time, 50,000 of a server, by one statement where none is to
    /// go. It returns what `after` is for the next step, and `None` behind the last row.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_freshness(
        &self,
        before: UnixMs,
        after: Option<TargetId>,
    ) -> Result<(Forgotten, Option<TargetId>)> {
        ask!(self, Control, |db| db.forget_freshness(before, after))
    }

    /// The newest events that pass `filter`, newest first.
    ///
    /// # Errors
    /// The store's, and a row that this build cannot read.
    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        let filter = *filter;
        ask!(self, Control, |db| db.events(&filter))
    }

    /// The transitions of `event`, oldest first, with what was seen. Slot and generation of the
    /// evidence are not stored.
    ///
    /// # Errors
    /// The store's, and a row that this build cannot read.
    pub async fn transitions(&self, event: FactId) -> Result<Vec<Transition>> {
        ask!(self, Control, |db| db.transitions(event))
    }

    /// One event.
    ///
    /// # Errors
    /// The store's, and a row that this build cannot read.
    pub async fn event(&self, event: FactId) -> Result<Option<Event>> {
        ask!(self, Control, |db| db.event(event))
    }

    /// The highest fact id that was ever applied, of each shard that has one. Batches are applied
    /// in the order of their ids, so what is new is above what was there before; but a large one
    /// may be seen on a server with a half of its targets only, and the other half a moment later.
    ///
    /// # Errors
    /// The store's.
    pub async fn newest_facts(&self) -> Result<Vec<FactId>> {
        ask!(self, Control, |db| db.newest_facts())
    }

    /// The first `limit` transitions with ids above `after` and up to `upto`, by id, with what was
    /// seen.
    ///
    /// # Errors
    /// As [`Store::transitions`].
    pub async fn transitions_between(
        &self,
        after: i64,
        upto: FactId,
        limit: usize,
    ) -> Result<Vec<Transition>> {
        ask!(self, Control, |db| db
            .transitions_between(after, upto, limit))
    }

    /// When a target was last checked, as it was written last; `None` where that never was, or is
    /// in a legacy table.
    ///
    /// # Errors
    /// The store's.
    pub async fn freshness(&self, target: TargetId) -> Result<Option<FreshnessRow>> {
        ask!(self, Control, |db| db.freshness(target))
    }

    /// Targets that are checked: of a legacy table its active rows that nobody paused, bad ones
    /// included. One statement, which reads an index of a large table.
    ///
    /// # Errors
    /// The store's; after 30 s [`TimedOut`](crate::StoreError::TimedOut).
    pub async fn active_targets(&self) -> Result<u64> {
        ask!(self, Control, |db| db.active_targets())
    }

    /// Rows per table. Each is counted, which takes minutes where there are many.
    ///
    /// # Errors
    /// The store's.
    pub async fn counts(&self) -> Result<StoreCounts> {
        ask!(self, Control, |db| db.counts())
    }

    /// Ends the store for every clone, after the requests that wait: everything is on the disk
    /// and the file is complete without its companions.
    ///
    /// # Errors
    /// The store's; the connection is closed all the same.
    pub async fn close(self) -> Result<()> {
        match self.backend {
            Backend::Sqlite(client) => client.close().await,
            Backend::Mysql(client) => client.close().await,
        }
    }
}
