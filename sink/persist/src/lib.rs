//! The sink core: the only writer of facts. One pinned thread drains the outcomes of all probe
//! cores, steps the incident machine, writes ahead to the journal, applies to the store, keeps
//! freshness and commands cadences back to the cores.
//!
//! ```text
//! outcomes ─► healthy and clean ─► freshness map ─────────────────────► store (every 10 s)
//!         └─► incident machine ─► journal (fdatasync) ─► memory ─► store (own task, in order)
//!                                                       └─► cadence commands to the cores
//! ```
//!
//! It must not know how cores probe (it sees `model` types and channels only), which database is
//! behind the store, or JSON. Time comes from the [`Clock`] that it is given.

#![forbid(unsafe_code)]

mod ages;
mod apply;
mod audit;
mod cadences;
mod error;
mod evidence;
mod facts;
mod failpoint;
mod flight;
mod freshness;
mod handle;
mod history;
mod identity;
mod incidents;
mod journal;
mod keeper;
mod lease;
#[doc(hidden)]
pub mod measured;
mod questions;
mod quiet;
mod run;
mod sink;
mod slots;
mod start;
mod stats;
mod superseded;
mod watches;
mod windows;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod replay_test;
#[cfg(test)]
mod testbed;

pub use ages::FreshnessAges;
pub use error::PersistError;
pub use handle::{
    Clock, CoreLink, Look, Registration, SinkCommand, SinkConfig, SinkHandle, Watched, spawn,
};
pub use history::HistoryMode;
pub use incident::pressure::{Canaries, Health, Signals};
pub use incident::quorum::{Answer, Says};
pub use questions::{Question, Questions};
pub use quiet::Quiet;
pub use stats::{
    BOUNDS_MS, CoreAccount, Disbelieved, Durations, Ledger, SinkCounters, SinkSnapshot, SinkStats,
};
