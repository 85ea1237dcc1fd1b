//! What operators decide about targets, as it goes into the store and comes out of it: maintenance
//! windows and pauses. No SQL here.

use model::target::Maintenance;
use model::window::{Scope, Timing, Weekdays, Weekly};
use model::{FieldError, TargetId, UnixMs, Window, WindowId};

/// A maintenance window in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Its number.
    pub id: WindowId,
    /// What was added.
    pub window: Window,
    /// Who added it.
    pub added_by: String,
    /// When.
    pub added_at: UnixMs,
}

/// Every maintenance window in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowList {
    /// The valid ones, by number.
    pub rows: Vec<WindowRow>,
    /// Numbers of stored rows that are no window, and why.
    pub refused: Vec<(i64, FieldError)>,
}

/// A target that somebody paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedTarget {
    /// Which.
    pub target: TargetId,
    /// Who paused it.
    pub by: String,
    /// When.
    pub at: UnixMs,
}

/// What pausing or resuming a target came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// It is so from now on.
    Done,
    /// It was so before.
    Already,
    /// The store has no such target.
    Absent,
}

pub(crate) const PAUSED: &str = "jetpack_monitor_paused_targets";
pub(crate) const WINDOWS: &str = "jetpack_monitor_maintenance_windows";

/// In the order of [`WindowColumns`], the number before them and who added it after them.
pub(crate) const WINDOW_COLUMNS: &str = "endpoint_id, blog_id, starts_at, ends_at, weekdays, \
    at_min, length_min, zone, reason, added_by, added_at";

/// A window as its row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WindowColumns {
    /// `endpoint_id`, `blog_id`, `starts_at`, `ends_at`, `weekdays`, `at_min`, `length_min`.
    pub(crate) numbers: [Option<i64>; 7],
    pub(crate) zone: Option<String>,
    pub(crate) reason: String,
}

impl WindowColumns {
    pub(crate) fn of(window: &Window) -> Self {
        let (target, group) = match window.scope() {
            Scope::All => (None, None),
            Scope::Group(group) => (None, Some(group as i64)),
            Scope::Target(target) => (Some(target.get()), None),
        };
        let (timing, zone) = match window.timing() {
            Timing::Once(Maintenance { start_ms, end_ms }) => {
                let span = [Some(*start_ms as i64), Some(*end_ms as i64)];
                ([span[0], span[1], None, None, None], None)
            }
            Timing::Weekly(weekly) => {
                let days = i64::from(weekly.days().bits());
                let (at, length) = (weekly.at_min(), weekly.length_min());
                let numbers = [None, None, Some(days), Some(at.into()), Some(length.into())];
                (numbers, Some(weekly.zone().to_owned()))
            }
        };
        let [starts, ends, days, at, length] = timing;
        Self {
            numbers: [target, group, starts, ends, days, at, length],
            zone,
            reason: window.reason().to_owned(),
        }
    }

    /// The window; a row that somebody wrote by hand may be none.
    pub(crate) fn window(&self) -> Result<Window, FieldError> {
        let [target, group, ..] = self.numbers;
        let id = |raw: i64| {
            TargetId::new(raw)
                .ok_or_else(|| FieldError::new("endpoint_id", &raw.to_string(), "an id from 1"))
        };
        let scope = match (target, group) {
            (Some(raw), _) => Scope::Target(id(raw)?),
            (None, Some(group)) => Scope::Group(group as u64),
            (None, None) => Scope::All,
        };
        Window::new(scope, self.timing()?, &self.reason)
    }

    fn timing(&self) -> Result<Timing, FieldError> {
        let [.., starts, ends, days, at, length] = self.numbers;
        if let (Some(starts), Some(ends)) = (starts, ends) {
            let at = |column, raw: i64| {
                let refuse = |_| FieldError::new(column, &raw.to_string(), "an instant since 1970");
                u64::try_from(raw).map_err(refuse)
            };
            return Ok(Timing::Once(Maintenance {
                start_ms: at("starts_at", starts)?,
                end_ms: at("ends_at", ends)?,
            }));
        }
        let bits = days.and_then(|days| Weekdays::new(u8::try_from(days).ok()?));
        let days = bits.ok_or_else(|| {
            FieldError::new(
                "weekdays",
                &format!("{days:?}"),
                "1 to 127, or starts_at and ends_at",
            )
        })?;
        let at = at.and_then(|at| u16::try_from(at).ok()).unwrap_or(u16::MAX);
        let length = length.and_then(|length| u32::try_from(length).ok());
        let zone = self.zone.as_deref().unwrap_or_default();
        Weekly::new(days, at, length.unwrap_or(0), zone).map(Timing::Weekly)
    }
}
