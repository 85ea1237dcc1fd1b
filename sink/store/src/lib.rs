//! Facts, targets and freshness in a database.
//!
//! Owns the tables, their migrations and every statement. It reads no clock and logs nothing: when
//! to write, and what to do after a failure, is the caller's business. Only work that a server
//! rolled back in favour of other work is done again here.
//!
//! ```text
//!  persist, node ──► Store (async, cheap to clone) ──► Backend ──► sqlite: one thread, one file
//!                                                             └──► mysql: one thread, a server
//! ```
//!
//! Only [`StoreUrl`] chooses a backend. Whatever differs between two databases (SQL, migrations,
//! pragmas, error codes) lives in that backend's module; the conformance suite under `tests/` is
//! what every backend has to pass.
#![forbid(unsafe_code)]

mod answer;
mod changes;
mod columns;
mod error;
mod false_alarm;
mod lease;
mod legacy;
#[doc(hidden)]
pub mod measured;
mod metadata;
mod mysql;
mod operators;
mod options;
mod rules;
mod schema;
mod sqlite;
mod store;
mod url;

pub use answer::{
    Applied, AuditRow, AuditSubject, ChangePage, Drift, DriftSlice, EventFilter, Floors, Forgotten,
    FoundTargets, FreshnessRow, FreshnessWritten, HistoryRow, ImportId, ImportPart, ImportReport,
    ImportRow, LegacyReport, OpenEvent, StoreCounts, TargetPage,
};
pub use changes::{
    Change, ChangeCounts, Changes, LostChanges, NoChanges, Position, Reached, Reader,
};
pub use columns::Fingerprint;
pub use error::StoreError;
pub use lease::{ALL_SHARDS, Claim, Fence, JournalId, Superseded};
pub use legacy::{
    LEGACY_BUCKET_MAX, Legacy, LegacyColumns, LegacyFreshness, LegacyRange, LegacyRow, LegacyState,
    Name, RowTally,
};
pub use mysql::MysqlUrl;
pub use operators::{PausedTarget, Switched, WindowList, WindowRow};
pub use options::OpenOptions;
pub use schema::{IndexStep, MigrationPlan, MigrationStep};
pub use store::Store;
pub use url::StoreUrl;

/// What the store answers, or why it could not.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
