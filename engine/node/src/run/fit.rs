//! Whether the checks of the store's targets fit the local ports of this machine: asked before the
//! first of them is probed, and by the doctor.

use store::Store;

use super::ports::{LocalPorts, PortsPlan};
use super::serve::{PAGE, reading};
use crate::config::Config;

/// A plan without targets; `None` when no target needs a look.
pub(crate) fn empty(config: &Config) -> Option<PortsPlan> {
    let plan = PortsPlan::new(LocalPorts::find()?, config);
    plan.needs_targets().then_some(plan)
}

/// The plan of all active targets; `None` when they need no look.
///
/// # Errors
/// What the store says.
pub(crate) async fn look(store: &Store, config: &Config) -> anyhow::Result<Option<PortsPlan>> {
    let Some(mut plan) = empty(config) else {
        return Ok(None);
    };
    let mut after = None;
    loop {
        let page = reading(store.targets(after, PAGE, true).await)?;
        for target in &page.targets {
            plan.add(&target.config);
        }
        if page.last.is_none() {
            return Ok(Some(plan));
        }
        after = page.last;
    }
}
