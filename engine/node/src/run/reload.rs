//! Targets into the fleet: everything at the start, afterwards only what changed.

use std::collections::HashSet;
use std::sync::Arc;

use model::{FieldError, Target, TargetId};
use persist::SinkCommand;
use serde_json::{Value, json};
use store::ImportId;
use tracing::{info, warn};

use super::fleet::Fed;
use super::send::send;
use super::serve::{Control, PAGE, reading};
use crate::aside;
use crate::config::Config;
use crate::targets::import::{ImportOrder, ImportSummary, import_file};

/// Refused targets that are named in the log; all are counted.
const REFUSED_NAMED_MAX: usize = 20;

/// Places every active target, page by page in the order of ids, and tells the sink when it knows
/// them all: what is still open of other targets ends there.
pub(super) async fn load_all(control: &mut Control) -> anyhow::Result<Fed> {
    let (mut after, mut fed, mut first) = (None, Fed::default(), true);
    let mut keep = HashSet::new();
    loop {
        let page = reading(control.parts.store.targets(after, PAGE, true).await)?;
        if first {
            control.change = page.latest_change;
            first = false;
        }
        take_refused(control, &page.refused, &page.targets);
        keep.extend(page.refused.iter().filter_map(|&(id, _)| TargetId::new(id)));
        fed += control.fleet.feed(page.targets).await?;
        control.between_pages().await?;
        if page.last.is_none() {
            let loaded = SinkCommand::Loaded { keep };
            send(&control.parts.sink.commands, loaded, "the sink").await?;
            return Ok(fed);
        }
        after = page.last;
    }
}

/// Follows the change numbers of the store: work in the number of changes.
pub(super) async fn apply_changes(control: &mut Control) -> anyhow::Result<Fed> {
    let mut fed = Fed::default();
    loop {
        let page = reading(control.parts.store.changes(control.change, PAGE).await)?;
        if page.latest_change == control.change {
            break;
        }
        take_refused(control, &page.refused, &page.targets);
        fed += control.fleet.feed(page.targets).await?;
        control.change = page.latest_change;
        control.between_pages().await?;
    }
    if fed != Fed::default() {
        info!(
            upserted = fed.upserted,
            removed = fed.removed,
            "targets changed"
        );
    }
    Ok(fed)
}

/// Imports a list into the store; the fleet follows by [`apply_changes`].
pub(super) async fn import(
    control: &mut Control,
    order: &ImportOrder,
) -> anyhow::Result<ImportSummary> {
    let id = ImportId(control.parts.view.clock.now().unix);
    let every = 100_000;
    let mut next = every;
    let mut progress = |rows: u64| {
        if rows >= next {
            info!(rows, "importing {}", order.path.display());
            next = rows + every;
        }
    };
    let store = control.parts.store.clone();
    let importing = import_file(&store, order, id, &mut progress);
    let summary = control.meanwhile(importing).await??;
    control.parts.view.refusals.list(summary.refused);
    for line in summary.refused_lines.iter().take(REFUSED_NAMED_MAX) {
        warn!("{line}");
    }
    if summary.refused > REFUSED_NAMED_MAX as u64 {
        warn!(
            "{} more lines were refused",
            summary.refused - REFUSED_NAMED_MAX as u64
        );
    }
    Ok(summary)
}

/// How to read the configuration again, and the keys of it that need a restart.
fn look(
    control: &Control,
) -> impl FnOnce() -> anyhow::Result<(Config, Vec<&'static str>)> + Send + use<> {
    let read_config = Arc::clone(&control.read_config);
    let (running, allowed) = (control.config.clone(), control.parts.cpus.allowed.clone());
    move || {
        let (newer, layers) = read_config()?;
        for variable in &layers.unknown_variables {
            warn!("no key of ringwatch: {variable}");
        }
        let needs_restart = running.needs_restart(&newer);
        if !needs_restart.is_empty() {
            // A configuration that no start accepts must be told now, not at the restart.
            newer.check(&layers, allowed)?;
        }
        Ok((newer, needs_restart))
    }
}

/// Validate → diff → apply: a configuration or list that is refused changes nothing.
pub(super) async fn reload(control: &mut Control) -> anyhow::Result<Value> {
    let reading = aside::done("configuration", look(control));
    let (newer, needs_restart) = control.meanwhile(reading).await???;
    let mut imported = Value::Null;
    if let Some(path) = newer.targets.clone() {
        let order = ImportOrder {
            path,
            prune: newer.prune,
            strict: newer.strict,
        };
        imported = serde_json::to_value(import(control, &order).await?)?;
    }
    control.config.take_live(&newer);
    let fed = apply_changes(control).await?;
    if !needs_restart.is_empty() {
        warn!("these keys changed and take effect with the next start: {needs_restart:?}");
    }
    Ok(json!({
        "ok": true,
        "imported": imported,
        "applied": { "upserted": fed.upserted, "removed": fed.removed },
        "needs_restart": needs_restart,
    }))
}

/// Counts and names the rows that were refused; those that are good may have been bad before.
fn take_refused(control: &Control, refused: &[(i64, FieldError)], good: &[Target]) {
    let bad = refused.iter().map(|&(id, _)| id);
    let good = good.iter().map(|target| target.id.get());
    control.parts.view.refusals.rows(bad, good);
    for (id, error) in refused.iter().take(REFUSED_NAMED_MAX) {
        warn!("target {id} in the store is refused: {error}");
    }
}
