//! The incident machine: from the checks of one target to its incidents, and what those owe.
//!
//! Pure: no clock, socket, thread or log. `now` and the id mint are arguments; the caller keeps
//! the state, writes the facts, sends the cadences and calls back when a wait is over.
//!
//! ```text
//!            failure (connect or timeout)          2 s over
//!   clear ────────────────────────────► suspected ───────────► seems down ──quorum────► down
//!     ▲  └──────── other failure ───────────│──────────────────────▲     (or our own    ▲
//!     │                                     │                              failures)    │
//!     │                                     └── low confidence, flapping: quorum ───────┤
//!     └──────────── success, maintenance, false alarm: closing what is open ◄───────────┘
//! ```
//!
//! `http` is that identity; `advisory` has the ones beside it; `flap` the one that stands for many
//! short ones; `suppress` and `maintenance` say what opens nothing; `escalation` and `quorum` how
//! verifiers are asked and counted. `pressure` is the node's: how far any failing check may be
//! believed. `node` has the incidents of the node itself. Events change in one place, `event`.
//!
//! `Unknown` outcomes, old generations and repeated sequence numbers move nothing.

#![forbid(unsafe_code)]

mod advisory;
mod calendar;
mod effect;
mod escalation;
mod event;
mod flap;
mod http;
mod maintenance;
mod node;
pub mod pressure;
pub mod quorum;
mod state;
mod step;
mod suppress;

pub use advisory::Expiry;
pub use calendar::Calendar;
pub use effect::{Audit, AuditKind, Effect};
pub use node::{NodeContext, NodeEvents};
pub use pressure::{Pressure, Stance};
pub use state::Incident;
pub use step::{Context, Input, Policy, Subject, step};
