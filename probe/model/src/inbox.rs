//! What a probe core is told, and what a one-shot answers. Control plane and sink write these;
//! cores read them; neither side knows the other's crate.

use crate::evidence::Evidence;
use crate::ids::{Generation, Slot, Ticket};
use crate::outcome::Outcome;
use crate::target::Target;

/// How often a target is checked: the sink decides, the core has no opinion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cadence {
    /// On the grid, at the target's own cadence.
    #[default]
    Grid,
    /// Off the grid: this long after each completion (failing, not confirmed).
    Recheck {
        /// Milliseconds from completion to the next start.
        after_ms: u32,
    },
}

/// A command to one probe core.
#[derive(Debug)]
pub enum CoreCommand {
    /// Adds the target in `slot`, or replaces its configuration.
    Upsert {
        /// Dense slot, chosen by the control plane.
        slot: Slot,
        /// The whole target, with its id and generation.
        target: Box<Target>,
    },
    /// Forgets the slot; the attempt in flight is cancelled and accounted. Answered by the marker
    /// [`Outcome::slot_released`].
    Remove {
        /// The slot to forget.
        slot: Slot,
    },
    /// Sets how often the slot is checked; ignored when the generation is not the current one.
    Cadence {
        /// The slot.
        slot: Slot,
        /// Generation that the command speaks of.
        generation: Generation,
        /// The new cadence.
        cadence: Cadence,
    },
    /// Checks the slot as soon as possible, off the grid.
    CheckNow {
        /// The slot.
        slot: Slot,
    },
    /// Checks a target that has no slot; answered by a [`OneShotReport`].
    OneShot {
        /// What to check; its id is not used.
        target: Box<Target>,
        /// Names the answer.
        ticket: Ticket,
    },
    /// Dispatches nothing (`true`), or goes on (`false`).
    Pause(bool),
    /// Dispatches nothing more, finishes or cancels what runs by the given time, and stops.
    Drain {
        /// Milliseconds until what still runs is cancelled.
        within_ms: u64,
    },
}

/// The answer to a one-shot.
#[derive(Debug)]
pub struct OneShotReport {
    /// From the command.
    pub ticket: Ticket,
    /// The result; its slot is `u32::MAX`.
    pub outcome: Outcome,
    /// Details, for a success too.
    pub evidence: Box<Evidence>,
}
