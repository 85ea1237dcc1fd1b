//! What every backend decides alike: numbers of the tables, limits of an import, and the sentences
//! with which a row of it is refused. Must know no database.

use model::limits::FACT_EPOCH_UNIX_MS;
use model::{FieldError, TargetId, UnixMs};

use crate::answer::ImportId;

/// Rows that one step of forgetting deletes of a table.
pub(crate) const OLD_ROWS_MAX: usize = 1_000;
/// Events that it looks at.
pub(crate) const OLD_EVENTS_MAX: usize = 250;

/// No id that was minted before `at` is above it: ids begin with their time.
pub(crate) fn first_id_at(at: UnixMs) -> i64 {
    (at.0.saturating_sub(FACT_EPOCH_UNIX_MS) << 22) as i64
}

/// Whether a target is checked: it is in a list, and nobody paused it.
pub(crate) const IS_CHECKED: &str = "(monitor_active = 1 AND NOT EXISTS \
    (SELECT 1 FROM jetpack_monitor_paused_targets AS paused \
     WHERE paused.target_id = jetpack_monitor_check_targets.id))";

/// Which targets of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those that are in a list, paused or not.
    Listed,
    /// Those that are checked.
    Checked,
}

impl Which {
    pub(crate) fn of(only_active: bool) -> Self {
        if only_active {
            Self::Checked
        } else {
            Self::All
        }
    }
}

/// Queue of internal jobs.
pub(crate) const QUEUE_INTERNAL: u8 = 3;
/// Attempts of a job before it is dead.
pub(crate) const JOB_ATTEMPTS_MAX: u16 = 25;

/// Imports that began longer ago than this and were never pruned are forgotten, in ms.
const FORGET_AFTER_MS: u64 = 24 * 60 * 60 * 1_000;
/// So many of their members at a time: one that was given up may have had millions.
pub(crate) const FORGOTTEN_MAX: usize = 10_000;
/// Minted ids stay below it while they can: JSON readers lose digits above.
pub(crate) const MINT_BELOW: i64 = 1 << 53;
/// A whole list with so many refused rows is not read on: it is not kept anyway.
pub(crate) const REFUSED_MAX: usize = 1_000;

/// What one step of a prune did.
pub(crate) struct Pruned {
    /// Targets switched off.
    pub(crate) count: u64,
    /// The id of the last one.
    pub(crate) last: i64,
}

/// The number of an import in the tables.
pub(crate) fn import_key(import: ImportId) -> i64 {
    import.0.0 as i64
}

/// Imports with a number below it are forgotten when `import` begins.
pub(crate) fn forgotten_below(import: ImportId) -> i64 {
    import.0.0.saturating_sub(FORGET_AFTER_MS) as i64
}

/// The row gave `id` to what is `holder` already.
pub(crate) fn taken_key(id: TargetId, holder: i64) -> FieldError {
    let accepted = format!(
        "{holder}, which has this URL, method and name already: use that id, leave the id out, \
         or give this row another name"
    );
    FieldError::new("id", &id.to_string(), &accepted)
}

/// An earlier row of the import is the same target. With an id it was found by it, whatever else
/// they share.
pub(crate) fn twice(id: Option<TargetId>, name: &str) -> FieldError {
    if let Some(id) = id {
        let accepted = "an id used once in one import, and an earlier row has it: give this row an \
                        id of its own, or remove it";
        return FieldError::new("id", &id.to_string(), accepted);
    }
    let accepted = "one row per URL, method and name in one import: give this row a name \
                    of its own, or remove it";
    FieldError::new("name", name, accepted)
}
