//! What operators decide about targets: maintenance windows and pauses.

use model::{TargetId, UnixMs, Window, WindowId};

use super::{Backend, Store};
use crate::Result;
use crate::answer::TargetPage;
use crate::mysql::{self, Lane};
use crate::operators::{PausedTarget, Switched, WindowList};
use crate::rules::Which;

impl Store {
    /// Keeps a maintenance window that `by` adds at `now`, and forgets those that were once and
    /// ended 30 days before.
    ///
    /// # Errors
    /// [`TooManyWindows`](crate::StoreError::TooManyWindows); the store's.
    pub async fn add_window(&self, window: Window, by: String, now: UnixMs) -> Result<WindowId> {
        ask!(self, Control, |db| db.add_window(&window, &by, now))
    }

    /// Every maintenance window, by number. A row that is none, because somebody wrote it by hand,
    /// is refused and does not keep the others away.
    ///
    /// # Errors
    /// The store's.
    pub async fn windows(&self) -> Result<WindowList> {
        ask!(self, Control, |db| db.windows())
    }

    /// Removes a maintenance window; whether there was one.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_window(&self, id: WindowId) -> Result<bool> {
        ask!(self, Control, |db| db.remove_window(id))
    }

    /// Pauses a target: it is not active until it is resumed, whatever imports say. It gets a new
    /// change number; a row of the legacy table is left as it is, and has none. Its open events are
    /// its node's business.
    ///
    /// # Errors
    /// The store's.
    pub async fn pause_target(
        &self,
        target: TargetId,
        by: String,
        now: UnixMs,
    ) -> Result<Switched> {
        ask!(self, Control, |db| db.pause_target(target, &by, now))
    }

    /// Resumes a target that was paused; it gets a new change number as it did then.
    ///
    /// # Errors
    /// As [`Store::pause_target`].
    pub async fn resume_target(&self, target: TargetId) -> Result<Switched> {
        ask!(self, Control, |db| db.resume_target(target))
    }

    /// The next `limit` targets after the id `after` that are in a list; of those the paused ones
    /// are not active. Ask until `last` is `None`.
    ///
    /// # Errors
    /// As [`Store::targets`].
    pub async fn listed_targets(
        &self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<TargetPage> {
        ask!(self, Control, |db| db.targets(after, limit, Which::Listed))
    }

    /// Targets that are paused, by id: all, or this one.
    ///
    /// # Errors
    /// The store's.
    pub async fn paused_targets(&self, only: Option<TargetId>) -> Result<Vec<PausedTarget>> {
        ask!(self, Control, |db| db.paused_targets(only))
    }

    /// The next `limit` paused targets after an id, by id: one page of those that are.
    ///
    /// # Errors
    /// The store's.
    pub async fn paused_after(
        &self,
        after: Option<TargetId>,
        limit: usize,
    ) -> Result<Vec<TargetId>> {
        ask!(self, Control, |db| db.paused_after(after, limit))
    }

    /// How many targets are paused.
    ///
    /// # Errors
    /// The store's.
    pub async fn count_paused(&self) -> Result<u64> {
        ask!(self, Control, |db| db.count_paused())
    }
}
