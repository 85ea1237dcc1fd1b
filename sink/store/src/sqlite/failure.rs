//! What can go wrong in this module, before it is told to whom: [`Failure::of`] adds the path and
//! turns SQLite's codes into the sentences of [`StoreError`].

use std::path::Path;
use std::time::Duration;

use rusqlite::{Error as SqliteError, ErrorCode};

use crate::StoreError;
use crate::lease::{Fence, Held};

/// A failure that does not know its file yet.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite said no.
    Sqlite(SqliteError),
    /// A stored row that cannot be read.
    Row {
        table: &'static str,
        id: i64,
        column: &'static str,
        found: String,
    },
    /// The store has a newer schema.
    Newer { found: u32, known: u32 },
    /// The store has an older schema, and may not be migrated.
    Older { found: u32, known: u32 },
    /// A recorded migration differs from ours.
    Changed { version: u32, file: String },
    /// The tables are not ours.
    Foreign { table: String },
    /// The file may be read only.
    ReadOnly,
    /// An import without rows was to be pruned.
    NothingImported,
    /// There are as many maintenance windows as there may be.
    TooManyWindows,
    /// Somebody else has the right to write.
    Held(Held),
    /// The right to write was taken.
    Fenced(Fence),
    /// The store is older than what it acknowledged.
    SetBack { found: u64, acknowledged: u64 },
}

impl From<SqliteError> for Failure {
    fn from(error: SqliteError) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    /// The row `id` of `table` has something in `column` that this build does not know.
    pub(super) fn row(table: &'static str, id: i64, column: &'static str, found: &str) -> Self {
        Self::Row {
            table,
            id,
            column,
            found: found.chars().take(120).collect(),
        }
    }

    /// The error for the store at `path`, whose requests wait `busy` for a lock.
    pub(super) fn of(self, path: &Path, busy: Duration) -> StoreError {
        let path = path.to_path_buf();
        match self {
            Self::Sqlite(source) => sqlite_error(source, &path, busy),
            Self::Row {
                table,
                id,
                column,
                found,
            } => StoreError::BadRow {
                table,
                id,
                column,
                found,
            },
            Self::Newer { found, known } => {
                let store = path.display().to_string();
                StoreError::NewerSchema {
                    store,
                    found,
                    known,
                }
            }
            Self::Older { found, known } => StoreError::OlderSchema { path, found, known },
            Self::Changed { version, file } => StoreError::MigrationChanged {
                store: path.display().to_string(),
                version,
                file,
            },
            Self::Foreign { table } => StoreError::ForeignDatabase { path, table },
            Self::ReadOnly => StoreError::ReadOnly {
                path,
                detail: "no permission to write".to_owned(),
            },
            Self::NothingImported => StoreError::NothingImported,
            Self::TooManyWindows => StoreError::TooManyWindows {
                store: path.display().to_string(),
            },
            Self::Held(held) => StoreError::held(path.display().to_string(), held),
            Self::Fenced(fence) => StoreError::Fenced {
                store: path.display().to_string(),
                epoch: fence.epoch(),
            },
            Self::SetBack {
                found,
                acknowledged,
            } => StoreError::SetBack {
                store: path.display().to_string(),
                found,
                acknowledged,
            },
        }
    }
}

fn sqlite_error(source: SqliteError, path: &Path, busy: Duration) -> StoreError {
    let path = path.to_path_buf();
    let detail = source.to_string();
    match source.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreError::ReadOnly { path, detail }
        }
        Some(ErrorCode::NotADatabase) => StoreError::NotADatabase { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, detail },
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let waited_ms = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX);
            StoreError::Locked { path, waited_ms }
        }
        Some(ErrorCode::CannotOpen) => StoreError::CannotOpen { path, detail },
        _ => StoreError::Sqlite {
            path,
            cause: source,
        },
    }
}
