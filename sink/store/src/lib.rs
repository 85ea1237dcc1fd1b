//! Facts, targets and freshness in a database.
//!
//! Owns the tables, their migrations and every statement. It reads no clock, retries nothing and
//! logs nothing: when to write, and what to do after a failure, is the caller's business.
//!
//! ```text
//!  persist, node ──► Store (async, cheap to clone) ──► Backend ──► sqlite: one thread, one file
//!                                                             └──► (a server, later)
//! ```
//!
//! Only [`StoreUrl`] chooses a backend. Whatever differs between two databases (SQL, migrations,
//! pragmas, error codes) lives in that backend's module; the conformance suite under `tests/` is
//! what every backend has to pass.
#![forbid(unsafe_code)]

mod answer;
mod error;
mod sqlite;
mod store;
mod url;

pub use answer::{
    Applied, ChangePage, EventFilter, Floors, FreshnessRow, ImportId, ImportPart, ImportReport,
    ImportRow, OpenEvent, StoreCounts, TargetPage,
};
pub use error::StoreError;
pub use store::{OpenOptions, Store};
pub use url::StoreUrl;

/// What the store answers, or why it could not.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
