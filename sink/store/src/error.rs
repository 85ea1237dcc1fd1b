//! Why the store said no, one sentence for a person each: what happened, to what, what to do.

use std::io;
use std::path::PathBuf;

/// A store that could not be opened, or a request that it could not do. A request that failed
/// changed nothing, unless its documentation says that it works in chunks.
///
/// A sentence has its cause inside, where it is understood; it is no `source` besides, or whoever
/// prints a chain of errors would say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An address that no build knows.
    #[error("the store {given:?} is not an address that ringwatch knows: use sqlite:PATH")]
    UnknownUrl {
        /// The address, its password masked.
        given: String,
    },
    /// An address of a backend that this build does not have.
    #[error(
        "the store {given:?} needs MySQL, which this build does not have yet (it arrives in a \
         later release): use sqlite:PATH"
    )]
    NotInThisBuild {
        /// The address, its password masked.
        given: String,
    },
    /// `sqlite:` without a file.
    #[error("the store {given:?} names no file: write sqlite:PATH, such as sqlite:ringwatch.db")]
    NoPath {
        /// The address.
        given: String,
    },
    /// The directory of the file does not exist and cannot be made.
    #[error(
        "the directory {} of the store cannot be created ({cause}): create it, or name another \
         path with --store sqlite:PATH", path.display()
    )]
    CannotCreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Opening was asked for, creating was not.
    #[error(
        "there is no store at {}: check the path, or create one with `ringwatch run` or \
         `ringwatch targets import`", path.display()
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Something that is not a file is in its place.
    #[error("the store {} is not a file: name the file itself", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The file, or a file that SQLite keeps next to it, cannot be opened or created.
    #[error(
        "the store {} cannot be opened ({detail}): check that the path exists and that this \
         user may create files next to it", path.display()
    )]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// What was refused.
        detail: String,
    },
    /// No permission to write, or a read-only file system.
    #[error(
        "the store {} is read-only ({detail}): make the file and its directory writable for \
         this user, or name another path with --store sqlite:PATH", path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What was refused.
        detail: String,
    },
    /// The file is something else than a SQLite database.
    #[error(
        "the store {} is not a SQLite database: name another file with --store sqlite:PATH, or \
         move this one away", path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a SQLite database of another program.
    #[error(
        "the store {} is a SQLite database that ringwatch did not make (it holds the table \
         {table:?}): name another file with --store sqlite:PATH", path.display()
    )]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
        /// A table in it.
        table: String,
    },
    /// The database is damaged.
    #[error(
        "the store {} is damaged ({detail}): stop ringwatch, keep a copy of the file, and \
         restore a backup or move it away to start with an empty one", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file system, or the size limit of the store, is full.
    #[error(
        "the disk of the store {} is full: free some space; what was not written is kept and \
         tried again", path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// What was written could not be forced onto the disk.
    #[error(
        "the store {} cannot be synced to its disk ({cause}): check the disk and its cables \
         before anything else", path.display()
    )]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another process holds the lock.
    #[error(
        "the store {} is locked by another process (waited {waited_ms} ms): end that process, \
         or wait until it is done", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// For how long it was waited, in ms.
        waited_ms: u64,
    },
    /// A newer ringwatch migrated the store.
    #[error(
        "the store {} has schema version {found}, this ringwatch knows up to {known}: run the \
         newer ringwatch, or name another store", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Version in the store.
        found: u32,
        /// Newest version of this build.
        known: u32,
    },
    /// The store was asked for to look only, and would have to be migrated.
    #[error(
        "the store {} has schema version {found}, this ringwatch needs {known}: start a node on \
         it, which brings it up to date, or look with the ringwatch that made it", path.display()
    )]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Version in the store; 0 = it has no tables.
        found: u32,
        /// Version of this build.
        known: u32,
    },
    /// A migration that the store recorded differs from the one in this build.
    #[error(
        "the store {} was made with another text of migration {version} ({name}): run the \
         ringwatch that made it, or import the targets into a new store", path.display()
    )]
    MigrationChanged {
        /// The file.
        path: PathBuf,
        /// Version of the migration.
        version: u32,
        /// Its name.
        name: &'static str,
    },
    /// A stored row that this build cannot read.
    #[error(
        "row {id} of table {table} has {found:?} in column {column}, which this ringwatch does \
         not know: it was written by another program or a newer version"
    )]
    BadRow {
        /// The table.
        table: &'static str,
        /// Primary key.
        id: i64,
        /// The column.
        column: &'static str,
        /// What it holds, cut to 120 characters.
        found: String,
    },
    /// `prune` of an import that brought nothing.
    #[error(
        "the import brought no target, so pruning would switch off every target: check the list"
    )]
    NothingImported,
    /// The store was closed, or its thread is gone.
    #[error("the store {} is closed: this request came too late", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// The thread of the store could not be started.
    #[error("the thread of the store {} cannot be started ({cause})", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Anything else that SQLite says.
    #[error("the store {} failed: {cause}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
}
