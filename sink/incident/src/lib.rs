//! The incident machine: from the checks of one target to its incident, and what that owes.
//!
//! Pure: no clock, socket, thread or log. `now` and the id mint are arguments; the caller keeps
//! the state, writes the facts, sends the cadences and calls back when a hold is over.
//!
//! ```text
//!            failure (connect or timeout)          2 s over
//!   clear ────────────────────────────► suspected ───────────► seems down ──confirm_after──► down
//!     ▲  └──────── other failure ───────────│──────────────────────▲                          ▲
//!     │                                     └── confirm_after low-confidence DNS failures ─────┤
//!     └──────────── success: from anywhere, closing what is open ◄─────────────────────────────┘
//! ```
//!
//! `Unknown` outcomes, old generations and repeated sequence numbers move nothing.

#![forbid(unsafe_code)]

mod state;
mod step;

pub use state::Incident;
pub use step::{Context, Input, Policy, Subject, step};
