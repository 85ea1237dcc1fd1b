//! Whether the checks of the store's targets fit the local ports of this machine: asked before the
//! first of them is probed, and by the doctor.

use store::Store;

use super::ports::{Fit, LocalPorts, PortsPlan};
use super::serve::{PAGE, reading};
use crate::config::Config;

/// How they fit; `None` when the targets need no look.
///
/// # Errors
/// A plan that cannot fit, with what to change; and what the store says.
pub(crate) async fn look(store: &Store, config: &Config) -> anyhow::Result<Option<Fit>> {
    let Some(ports) = LocalPorts::find() else {
        return Ok(None);
    };
    let mut plan = PortsPlan::new(ports, config);
    if !plan.needs_targets() {
        return Ok(None);
    }
    let mut after = None;
    loop {
        let page = reading(store.targets(after, PAGE, true).await)?;
        for target in &page.targets {
            plan.add(&target.config);
        }
        if page.last.is_none() {
            return plan.judge().map(Some);
        }
        after = page.last;
    }
}
