//! Opens the file: what must be refused is refused here, with its reason, before anything is
//! written. Then every request is one method of [`Db`], each in its own file.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::failure::Failure;
use super::migrate::{migrate, plan, plan_of_nothing, require_current};
use crate::options::OpenOptions;
use crate::schema::MigrationPlan;
use crate::{Result, StoreError};

/// Page cache, in KiB. At 1 M targets the tables are ≈ 350 MB; everything hot at a time (the end
/// of each table, the pages of one freshness chunk) is far smaller than this.
const CACHE_KIB: i64 = 16 * 1024;
/// The write-ahead log is folded into the file at this many pages of 4 KiB: 64 MiB.
const CHECKPOINT_PAGES: i64 = 16_384;
/// A log that grew beyond it (a reader held it open) is cut back to this many bytes.
const LOG_MAX_BYTES: i64 = 128 * 1024 * 1024;
/// Statements kept prepared: more than this module has.
const STATEMENTS_MAX: usize = 64;

/// Smallest page, and so smallest file, of SQLite.
const PAGE_MIN_BYTES: u64 = 512;

/// The connection, on its thread.
pub(crate) struct Db {
    pub(super) connection: Connection,
    path: PathBuf,
    busy: Duration,
}

impl Db {
    /// Opens, checks and migrates the store at `path`.
    pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        prepare_place(path, options.create)?;
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, options.create);
        let busy = options.busy_timeout;
        let open = || -> Result<Connection, Failure> {
            let mut connection = Connection::open_with_flags(plain(path), flags)?;
            if options.look_only {
                configure_look(&connection, busy)?;
                require_current(&connection)?;
                return Ok(connection);
            }
            // SQLite opens a file that it may not write for reading, and says nothing.
            if connection.is_readonly("main")? {
                return Err(Failure::ReadOnly);
            }
            configure(&mut connection, busy)?;
            migrate(&mut connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|failure| failure.of(path, busy))?;
        Ok(Self {
            connection,
            path: path.to_path_buf(),
            busy,
        })
    }

    /// What the store at `path` lacks; nothing is changed, nor made.
    pub(crate) fn migration_plan(path: &Path, options: &OpenOptions) -> Result<MigrationPlan> {
        match prepare_place(path, false) {
            Err(StoreError::NotFound { .. }) => return Ok(plan_of_nothing()),
            place => place?,
        }
        let busy = options.busy_timeout;
        let look = || -> Result<MigrationPlan, Failure> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(plain(path), flags)?;
            configure_look(&connection, busy)?;
            plan(&connection)
        };
        look().map_err(|failure| failure.of(path, busy))
    }

    /// Does `work` and tells its failure with the path of this store.
    pub(super) fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T> {
        work(&mut self.connection).map_err(|failure| failure.of(&self.path, self.busy))
    }

    /// Does `work` in one transaction that takes the write lock first, so that it is never
    /// refused halfway; a failure rolls everything back.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        self.run(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    /// Syncs the log, where everything is that the file itself does not have yet: commits do not
    /// wait for the disk, checkpoints do. It takes no lock, so a reader cannot be in the way.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let mut log = plain(&self.path).into_os_string();
        log.push("-wal");
        let directory = plain(self.path.parent().unwrap_or(Path::new("")));
        let synced = sync_if_there(Path::new(&log)).and_then(|()| sync_if_there(&directory));
        synced.map_err(|cause| match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull {
                path: self.path.clone(),
            },
            _ => StoreError::Sync {
                path: self.path.clone(),
                cause,
            },
        })
    }

    /// Folds the log into the file and closes it; the log goes with its last connection.
    pub(crate) fn close(mut self) -> Result<()> {
        // The row says how far it came. A reader in the way is no failure: the log stays then.
        let folded = self.run(|connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
        });
        let Self {
            connection,
            path,
            busy,
        } = self;
        connection
            .close()
            .map_err(|(_, error)| Failure::from(error).of(&path, busy))?;
        folded
    }
}

fn sync_if_there(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// The settings of a connection. The first statement reads the whole schema, so a file that is
/// damaged there, or shorter than its header says, is refused now; damage elsewhere is found by
/// the statement that meets it. A full `quick_check` reads the whole file (seconds at 1 M
/// targets) and is left to people.
fn configure(connection: &mut Connection, busy: Duration) -> Result<(), Failure> {
    connection.busy_timeout(busy)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // Without a sync per commit: the caller's journal is the durable one, see `Store::sync`.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_MAX_BYTES, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

/// The settings of a connection that only looks: SQLite refuses every write. It is opened for
/// writing where that is allowed, because a reader of a write-ahead log takes locks in a file.
fn configure_look(connection: &Connection, busy: Duration) -> Result<(), Failure> {
    connection.busy_timeout(busy)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

/// Refuses what is no file, and makes its directory. It never opens the file: closing it again
/// would drop the locks of another connection of this process (POSIX locks belong to a process).
fn prepare_place(path: &Path, create: bool) -> Result<()> {
    let here = || path.to_path_buf();
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(StoreError::NotAFile { path: here() }),
        // SQLite takes a file shorter than a page for an empty one, and would write over it.
        Ok(found) if (1..PAGE_MIN_BYTES).contains(&found.len()) => {
            Err(StoreError::NotADatabase { path: here() })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && !create => {
            Err(StoreError::NotFound { path: here() })
        }
        Err(_) => create_directory(path),
    }
}

fn create_directory(path: &Path) -> Result<()> {
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        None => Ok(()),
        Some(parent) => {
            fs::create_dir_all(parent).map_err(|cause| StoreError::CannotCreateDirectory {
                path: parent.to_path_buf(),
                cause,
            })
        }
    }
}

/// `path` such that SQLite takes it for a path even when it looks like a URI.
fn plain(path: &Path) -> PathBuf {
    Path::new(".").join(path)
}

#[cfg(test)]
mod tests {
    use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
    use model::{FactId, TargetId, UnixMs};

    use super::*;
    use crate::answer::StoreCounts;
    use crate::lease::{ALL_SHARDS, Claim, Fence, JournalId};

    fn open() -> (tempfile::TempDir, Db) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let db = Db::open(&directory.path().join("s.db"), &OpenOptions::default()).expect("opens");
        (directory, db)
    }

    fn fence(db: &mut Db) -> Fence {
        let claim = Claim {
            node: "test".to_owned(),
            holder: "here".to_owned(),
            journal: JournalId::new(1).expect("positive"),
            lease_ms: 1_000,
            shards: ALL_SHARDS,
            alone: true,
            lost: None,
        };
        db.acquire(&claim).expect("granted")
    }

    /// `count` incidents that open.
    fn batch(count: i64) -> Batch {
        let id = |raw: i64| FactId::new(raw).expect("positive");
        let target = |raw: i64| TargetId::new(raw).expect("positive");
        let fact = |nth: i64| Fact::Transitioned {
            event: Event {
                id: id(nth * 3),
                target: target(nth),
                group_id: 0,
                check_type: CheckType::Http,
                discriminator: None,
                state: State::SeemsDown,
                started_at: UnixMs(1),
                ended_at: None,
                resolution: None,
                fail_count: 1,
                class: 10,
            },
            transition: Transition {
                id: id(nth * 3 + 1),
                event: id(nth * 3),
                target: target(nth),
                before: None,
                after: State::SeemsDown,
                reason: Reason::Opened,
                source: "x".repeat(500),
                changed_at: UnixMs(1),
                evidence: None,
                metadata: None,
            },
            job: Job {
                id: id(nth * 3 + 2),
                kind: JobKind::Fanout,
                transition: id(nth * 3 + 1),
                seq: 1,
                run_at: UnixMs(1),
            },
        };
        Batch {
            journal_seq: 1,
            facts: (1..=count).map(fact).collect(),
        }
    }

    #[test]
    fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
        let (_directory, mut db) = open();
        let fence = fence(&mut db);
        let limit = |db: &Db, pages: i64| {
            db.connection
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .expect("a limit");
        };
        limit(&db, 60);
        let batch = batch(1_000);
        let error = db.apply(fence, &batch, 0).expect_err("no room");
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("free some space"));
        assert_eq!(db.counts().expect("counts"), StoreCounts::default());
        limit(&db, 1_000_000);
        assert_eq!(db.apply(fence, &batch, 0).expect("room").transitions, 1_000);
    }

    #[test]
    fn a_store_that_became_read_only_says_so() {
        let (_directory, mut db) = open();
        let fence = fence(&mut db);
        db.connection
            .pragma_update(None, "query_only", true)
            .expect("a switch");
        let error = db.apply(fence, &batch(1), 0).expect_err("read-only");
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    }

    #[test]
    fn the_settings_are_what_the_design_says() {
        let (_directory, db) = open();
        let text = |name: &str| -> String {
            let value = db.connection.pragma_query_value(None, name, |row| {
                row.get_ref(0).map(|value| match value {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap_or_default().to_owned(),
                })
            });
            value.expect(name)
        };
        assert_eq!(text("journal_mode"), "wal");
        assert_eq!(text("synchronous"), "1");
        assert_eq!(text("cache_size"), (-CACHE_KIB).to_string());
    }
}
