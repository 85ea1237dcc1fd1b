//! Why the store said no, one sentence for a person each: what happened, to what, what to do.

use std::io;
use std::path::PathBuf;

use crate::changes::{LostChanges, NoChanges};

mod kinds;

/// A store that could not be opened, or a request that it could not do. A request that failed
/// changed nothing, unless its documentation says that it works in chunks.
///
/// A sentence has its cause inside, where it is understood; it is no `source` besides, or whoever
/// prints a chain of errors would say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An address that no build knows.
    #[error(
        "the store {given:?} is not an address that ringwatch knows: use sqlite:PATH or \
        mysql://USER:PASS@HOST:PORT/DB"
    )]
    UnknownUrl {
        /// The address, its password masked.
        given: String,
    },
    /// An address of a MySQL server that cannot be read.
    #[error("the store {given:?} is no address of a MySQL store: {why}")]
    BadUrl {
        /// The address, its password masked.
        given: String,
        /// What is wrong with it, and what is accepted.
        why: String,
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
        "the store {store} has schema version {found}, this ringwatch knows up to {known}: run the \
         newer ringwatch, or name another store"
    )]
    NewerSchema {
        /// The file or the address.
        store: String,
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
        "the store {store} was made with another text of migration {file} (its checksum differs): \
         run the ringwatch that made it, or import the targets into a new store"
    )]
    MigrationChanged {
        /// The file or the address of the store.
        store: String,
        /// Version of the migration.
        version: u32,
        /// Its file.
        file: String,
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
    /// There are as many maintenance windows as a store keeps.
    #[error(
        "the store {store} has {} maintenance windows, and keeps no more: remove some with \
         `ringwatch maintenance remove ID`, or add one for a group instead of one for each target",
        model::limits::WINDOWS_MAX
    )]
    TooManyWindows {
        /// The file or the address.
        store: String,
    },
    /// The store was closed, or its thread is gone.
    #[error("the store {store} is closed: this request came too late")]
    Closed {
        /// The file or the address.
        store: String,
    },
    /// The thread of the store could not be started.
    #[error("the thread of the store {store} cannot be started ({cause})")]
    Thread {
        /// The file or the address.
        store: String,
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
    /// Nobody answers at the address of the server.
    #[error(
        "the store {store} cannot be reached ({detail}): check that the server runs, and its host \
         and port"
    )]
    Unreachable {
        /// The address, its password masked.
        store: String,
        /// What the system said.
        detail: String,
    },
    /// The server does not take the user or the password.
    #[error(
        "the server of the store {store} refused the user or the password: check both, and from \
         which hosts the user may connect"
    )]
    LoginRefused {
        /// The address, its password masked.
        store: String,
    },
    /// The server has no such database.
    #[error(
        "the server of the store {store} has no database {database:?}: create it, then run \
         `ringwatch migrate --store URL`"
    )]
    NoDatabase {
        /// The address, its password masked.
        store: String,
        /// The database.
        database: String,
    },
    /// What was there when the store was opened is there no more.
    #[error(
        "the store {store} lost its database, a table, a column or an index while it was in use \
         ({detail}): `ringwatch validate` says what differs; put it back, rows from a backup"
    )]
    TableGone {
        /// The address, its password masked.
        store: String,
        /// What the server said.
        detail: String,
    },
    /// The server, or what it grants the user, has no further connection to give.
    #[error(
        "the server of the store {store} takes no more from this user ({detail}): raise its \
         max_connections, or max_user_connections or what else limits the user; of connections a \
         node needs {needed}, and {with_stream} with a stream of changes"
    )]
    TooManyConnections {
        /// The address, its password masked.
        store: String,
        /// What the server said.
        detail: String,
        /// Connections of a node, at most.
        needed: usize,
        /// The same where it follows the changes of legacy tables.
        with_stream: usize,
    },
    /// The user lacks a right.
    #[error("the user of the store {store} lacks a privilege ({detail}): grant it, then try again")]
    NoPrivilege {
        /// The address, its password masked.
        store: String,
        /// What the server said.
        detail: String,
    },
    /// No TLS connection of the wanted kind.
    #[error(
        "no TLS connection to the store {store} ({detail}): name the CA with tls_ca=FILE, or ask \
         for less with tls=required (not verified) or tls=off"
    )]
    Tls {
        /// The address, its password masked.
        store: String,
        /// What failed.
        detail: String,
    },
    /// A server whose tables are missing or old; it is never migrated without being asked.
    #[error(
        "the store {store} has schema version {found}, this ringwatch needs {known}: look with \
         `ringwatch migrate --plan --store URL`, then run `ringwatch migrate --store URL`"
    )]
    NotMigrated {
        /// The address, its password masked.
        store: String,
        /// Version in the store; 0 = it has no tables of ours.
        found: u32,
        /// Version of this build.
        known: u32,
    },
    /// Tables that are not what their migrations made.
    #[error(
        "the tables of the store {store} differ from schema version {known}: {}; repair them by \
         hand, or name another database or prefix", differences.join("; ")
    )]
    SchemaDiffers {
        /// The address, its password masked.
        store: String,
        /// Version of this build.
        known: u32,
        /// What differs, a phrase each.
        differences: Vec<String>,
    },
    /// Tables of an older system that are not as they were described.
    #[error(
        "the legacy tables of the store {store} are not as the configuration says: {}; name them \
         and their columns under [legacy]", differences.join("; ")
    )]
    LegacyDiffers {
        /// The address, its password masked.
        store: String,
        /// What differs, a phrase each.
        differences: Vec<String>,
    },
    /// Tables of an older system in which a target, or a blog, may be several times.
    #[error(
        "rows of the legacy tables of the store {store} may be there twice: {}",
        differences.join("; ")
    )]
    LegacyAmbiguous {
        /// The address, its password masked.
        store: String,
        /// What is missing, a phrase each with what to do.
        differences: Vec<String>,
    },
    /// A table of an older system that takes no part in transactions.
    #[error(
        "the legacy table {table} of the store {store} is kept by the engine {engine}, which does \
         not undo what a transaction wrote: move it with ALTER TABLE {table} ENGINE=InnoDB"
    )]
    LegacyEngine {
        /// The address, its password masked.
        store: String,
        /// The table.
        table: String,
        /// What the server says of it.
        engine: String,
    },
    /// Legacy tables were named for a store that can have none.
    #[error(
        "the store {store} has no legacy tables: they are in a MySQL database; name it with \
         --store mysql://USER:PASS@HOST:PORT/DB, or take [legacy] out of the configuration"
    )]
    LegacyElsewhere {
        /// The file.
        store: String,
    },
    /// Targets were to be changed in our own table, which nothing is read from.
    #[error(
        "the targets of the store {store} are the rows of the legacy table {table}: change them \
         there, or set legacy.load = false"
    )]
    LegacyTargets {
        /// The address, its password masked.
        store: String,
        /// The table.
        table: String,
    },
    /// Something was asked of legacy tables that nobody named.
    #[error("no legacy table of the store {store} is known: describe it under [legacy]")]
    NoLegacy {
        /// The file or the address.
        store: String,
    },
    /// A store that does not tell changes of legacy tables.
    #[error("the store {store} tells no changes of its legacy tables: {why}")]
    NoChanges {
        /// The address, its password masked.
        store: String,
        /// What is missing.
        why: NoChanges,
    },
    /// Changes cannot be told from the place that was asked for.
    #[error(
        "changes of the legacy tables of the store {store} are missing: {why}; every row is read \
         again"
    )]
    ChangesLost {
        /// The address, its password masked.
        store: String,
        /// Why.
        why: LostChanges,
    },
    /// The server takes no writes, or the store was opened to look only.
    #[error(
        "the store {store} is read-only ({detail}): name the primary server; what was not written \
         is kept and tried again"
    )]
    ServerReadOnly {
        /// The address, its password masked.
        store: String,
        /// What was refused.
        detail: String,
    },
    /// The server rolled the work back for another one: a deadlock or a lock that took too long.
    #[error(
        "the store {store} is contended ({detail}): nothing was written, trying again helps; where \
         that goes on, look on its server for the transaction that holds the rows"
    )]
    Contended {
        /// The address, its password masked.
        store: String,
        /// What the server said.
        detail: String,
    },
    /// No answer in time; the connection was given up, so nothing of the transaction is kept.
    #[error(
        "the store {store} did not answer within {limit_ms} ms ({doing}): where that goes on, \
         check that its server is well, and the network to it for lost packets"
    )]
    TimedOut {
        /// The address, its password masked.
        store: String,
        /// What was asked.
        doing: &'static str,
        /// How long was waited, in ms.
        limit_ms: u64,
    },
    /// The connection broke before the work was committed: nothing of it is kept.
    #[error(
        "the connection to the store {store} was lost ({detail}): nothing of the work was kept"
    )]
    ConnectionLost {
        /// The address, its password masked.
        store: String,
        /// What was noticed.
        detail: String,
    },
    /// The connection broke while the work was committed: all of it is kept, or nothing.
    #[error(
        "the connection to the store {store} was lost during a commit ({detail}): whether it was \
         done is not known, and doing it again is safe"
    )]
    OutcomeUnknown {
        /// The address, its password masked.
        store: String,
        /// What was noticed.
        detail: String,
    },
    /// The disk of the server, or what one of its tables may take, is full.
    #[error(
        "the server of the store {store} has no room left ({detail}): free some space on its disk; \
         what was not written is kept and tried again"
    )]
    ServerDiskFull {
        /// The address, its password masked.
        store: String,
        /// What the server said.
        detail: String,
    },
    /// One row does not fit into a packet of the server.
    #[error(
        "a row of {bytes} bytes does not fit into a packet of the store {store}: raise \
         max_allowed_packet of the server, which is {max_bytes} bytes"
    )]
    PacketTooSmall {
        /// The address, its password masked.
        store: String,
        /// Size of the row.
        bytes: usize,
        /// Limit of the server.
        max_bytes: usize,
    },
    /// A statement does not fit into a packet of the server.
    #[error(
        "the store {store} takes no packet as large as one of our statements ({detail}): raise \
         max_allowed_packet of its server, and of what is between"
    )]
    PacketRefused {
        /// The address, its password masked.
        store: String,
        /// What was said.
        detail: String,
    },
    /// Another process works alone on the store: it migrates it.
    #[error(
        "the store {store} is being migrated by another ringwatch (connection {connection} of the \
         server): wait until that one is done"
    )]
    InUse {
        /// The address, its password masked.
        store: String,
        /// The server's number of its connection.
        connection: String,
    },
    /// Another node has the lease.
    #[error(
        "the store {store} belongs to the node {node:?} ({holder}), whose lease runs for \
         {left_s} s more: stop that one first, wait until its lease has run out, or give this one \
         its own database or prefix"
    )]
    Held {
        /// The address, its password masked.
        store: String,
        /// The name of the other node.
        node: String,
        /// Where it runs: `HOST:DATA_DIR`.
        holder: String,
        /// What is left of its lease, in s.
        left_s: u64,
    },
    /// The right to write was taken by somebody else.
    #[error(
        "nothing was written to the store {store}: another node took over from this one (its \
         epoch {epoch} is over)"
    )]
    Fenced {
        /// The address, its password masked.
        store: String,
        /// The epoch that is over.
        epoch: u64,
    },
    /// The store is older than what it acknowledged to this node.
    #[error(
        "nothing was written to the store {store}: it has batches of facts of this journal up to \
         {found} and had acknowledged {acknowledged}, so it was set back (a replica that was \
         behind took over, a backup was restored, or a crash lost commits): its server should \
         commit to the disk, and to a replica, before it answers"
    )]
    SetBack {
        /// The address, its password masked.
        store: String,
        /// Number of the last batch that it has.
        found: u64,
        /// Number of the last one that it had acknowledged.
        acknowledged: u64,
    },
    /// A setting of the session is not what was asked for.
    #[error(
        "the store {store} keeps {setting} = {found:?} for our sessions, {wanted:?} is needed: \
         look for a proxy or an init_connect that changes it"
    )]
    Setting {
        /// The address, its password masked.
        store: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Anything else that a server says.
    #[error("the store {store} failed with error {code}: {detail}")]
    Server {
        /// The address, its password masked.
        store: String,
        /// Number of the error.
        code: u16,
        /// What the server said.
        detail: String,
    },
}
