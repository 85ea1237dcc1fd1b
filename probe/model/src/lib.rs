//! The vocabulary of ringwatch: ids, targets, outcomes, evidence, facts and every limit.
//!
//! This crate reads no clock, opens no socket, spawns nothing and logs nothing. Every other
//! crate speaks in these types; none of them is owned by a probe core or by the sink alone.

#![forbid(unsafe_code)]

pub mod belief;
pub mod check;
pub mod class;
pub mod evidence;
pub mod fact;
pub mod ids;
pub mod inbox;
pub mod limits;
pub mod mask;
pub mod metadata;
pub mod outcome;
pub mod record;
pub mod schedule;
pub mod seqlock;
pub mod suggest;
pub mod target;
pub mod time;
pub mod url;
pub mod window;

pub use belief::Belief;
pub use check::Check;
pub use class::{FailureClass, Verdict};
pub use evidence::Evidence;
pub use ids::{CoreIndex, FactId, Generation, Shard, Slot, TargetId, Ticket};
pub use metadata::Metadata;
pub use outcome::Outcome;
pub use target::{FieldError, Target, TargetSpec};
pub use time::{MonoUs, Now, UnixMs};
pub use url::TargetUrl;
pub use window::{Window, WindowId};
