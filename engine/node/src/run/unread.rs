//! Says once that settings of legacy rows ask for what no node does. Must know no table.

use store::Store;
use tracing::warn;

/// Looks once, where the targets are legacy rows.
pub(super) async fn run(store: Store, is_loaded: bool) {
    if !is_loaded {
        return;
    }
    match store.legacy_unread().await {
        Ok(0) => {}
        Ok(rows) => warn!("{}: {}", sentence(rows), ADVICE),
        Err(error) => warn!("settings of legacy rows were not all looked at: {error}"),
    }
}

/// What was found, where something was.
pub(crate) fn sentence(rows: u64) -> String {
    format!("check_history_mode of {rows} rows of settings has no effect")
}

/// What to do about it.
pub(crate) const ADVICE: &str = "a node keeps one history for all targets: choose it with the key \
    history, and set the column to NULL";
