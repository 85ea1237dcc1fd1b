//! Maintenance windows while a node runs: read from the store, unrolled, told to the sink when they
//! are others than before. No target hears of them.

use persist::SinkCommand;

use super::send::send;
use super::serve::Control;
use crate::windows::Known;

impl Control {
    /// Tells the sink of windows that changed, or of further times of those that are known. A store
    /// that is away costs changes, never what is known.
    pub(super) async fn follow_windows(&mut self) -> anyhow::Result<()> {
        let store = self.parts.store.clone();
        let found = store.windows().await;
        let now = self.parts.view.clock.now().unix;
        let rows = match found {
            Ok(rows) => rows,
            Err(error) => {
                self.complain("windows", || {
                    format!("maintenance windows cannot be read, the known ones stay: {error}")
                });
                self.windows.rows().to_vec()
            }
        };
        if !self.windows.is_news(&rows, now) {
            return Ok(());
        }
        self.windows = Known::of(rows, now);
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
