//! Maintenance windows while a node runs: read from the store, unrolled, told to the sink when they
//! are others than before. No target hears of them.

use anyhow::Context;
use persist::SinkCommand;
use store::WindowList;
use tracing::warn;

use super::reload::REFUSED_NAMED_MAX;
use super::send::send;
use super::serve::Control;
use crate::windows::Known;

impl Control {
    /// Reads the windows for the first time. One that cannot be read would open, with its first
    /// checks, what it is there to swallow: then nothing is checked at all.
    pub(super) async fn load_windows(&mut self) -> anyhow::Result<()> {
        let store = self.parts.store.clone();
        let found = self.meanwhile(async move { store.windows().await }).await?;
        let list = found.context("maintenance windows cannot be read")?;
        self.take_windows(Ok(list)).await
    }

    /// Tells the sink of windows that changed, or of further times of those that are known. A store
    /// that is away costs changes, never what is known; a row that is no window costs itself.
    pub(super) async fn follow_windows(&mut self) -> anyhow::Result<()> {
        self.following.forget_windows();
        let found = self.parts.store.windows().await;
        self.take_windows(found).await
    }

    /// Tells the sink of what was found.
    pub(super) async fn take_windows(
        &mut self,
        found: store::Result<WindowList>,
    ) -> anyhow::Result<()> {
        let now = self.parts.view.clock.now().unix;
        let list = match found {
            Ok(list) => list,
            Err(error) => {
                self.complain("windows", || {
                    format!("maintenance windows cannot be read, the known ones stay: {error}")
                });
                self.windows.list().clone()
            }
        };
        if !self.windows.is_news(&list, now) {
            return Ok(());
        }
        say_refused(&self.windows.newly_refused(&list));
        self.windows = Known::of(list, now);
        let occurrences = self.windows.occurrences.all.clone();
        let unknown = self.windows.occurrences.unknown_zones.clone();
        if !unknown.is_empty() {
            self.complain("zones", || {
                format!("windows in time zones that are not known here are left out: {unknown:?}")
            });
        }
        let windows = SinkCommand::Windows(occurrences);
        send(&self.parts.sink.commands, windows, "the sink").await?;
        Ok(())
    }
}

/// Names the first rows that are no windows.
fn say_refused(sentences: &[String]) {
    for sentence in sentences.iter().take(REFUSED_NAMED_MAX) {
        warn!("{sentence}");
    }
    let rest = sentences.len().saturating_sub(REFUSED_NAMED_MAX);
    if rest > 0 {
        warn!("{rest} more maintenance windows in the store were refused");
    }
}
