//! Targets into the fleet: everything at the start, afterwards only what changed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{FieldError, Target, TargetId};
use persist::SinkCommand;
use serde_json::{Value, json};
use store::ImportId;
use tracing::{info, warn};

use super::ahead::Ahead;
use super::changes::{Changes, Part};
use super::fit;
use super::fleet::{Fed, Fleet};
use super::send::send;
use super::serve::{Control, PAGE, reading};
use crate::aside;
use crate::config::Config;
use crate::targets::import::{ImportOrder, ImportSummary, import_file};

/// Refused rows that are named in the log; all are counted.
pub(super) const REFUSED_NAMED_MAX: usize = 20;

/// Places every active target, page by page in the order of ids, and tells the sink when it knows
/// them all: what is still open of other targets ends there.
pub(super) async fn load_all(control: &mut Control) -> anyhow::Result<Fed> {
    if control.legacy.is_none() {
        return load_own(control).await;
    }
    let epoch = control.epoch();
    let fed = control.load_legacy(epoch).await?;
    control.fed_for.epoch = epoch;
    Ok(fed)
}

async fn load_own(control: &mut Control) -> anyhow::Result<Fed> {
    let (mut fed, mut after, mut followed_from) = (Fed::default(), None, None);
    let mut refused = Refused::default();
    let mut keep = HashSet::new();
    let epoch = control.epoch();
    control.looks.load(fit::empty(&control.config));
    let store = control.parts.store.clone();
    let read = |after| {
        let store = store.clone();
        async move { store.targets(after, PAGE, true).await }
    };
    let mut pages = Ahead::of(read(None)).await;
    loop {
        let page = reading(pages.next().await)?;
        if page.last.is_some() {
            pages.ask(read(page.last)).await;
        }
        let followed_from = *followed_from.get_or_insert(page.latest_change);
        refused.take(control, &page.refused, &page.targets);
        keep.extend(page.refused.iter().filter_map(|&(id, _)| TargetId::new(id)));
        let gone = in_no_page(&control.fleet, (after, page.last), &page.targets);
        fed.removed += control.fleet.take_away(&gone, None).await?;
        fed += control.feed(page.targets).await?;
        control.between_pages().await?;
        after = page.last;
        if page.last.is_none() {
            // Whatever was followed before: a store that was set back counts on from less.
            control.changes = Changes::from(followed_from);
            let loaded = SinkCommand::Loaded { keep, epoch };
            send(&control.parts.sink.commands, loaded, "the sink").await?;
            refused.say_rest();
            control.fed_for.epoch = epoch;
            return Ok(fed);
        }
    }
}

/// Who has a place although the page of `active` targets, of the ids after the first one and up to
/// the second one, does not have them: switched off meanwhile, lost by a store that was set back,
/// or a bad row that was good. To a sink that forgot all nobody can tell what they were: they
/// would be checked for nothing.
fn in_no_page(
    fleet: &Fleet,
    (after, last): (Option<TargetId>, Option<TargetId>),
    active: &[Target],
) -> Vec<TargetId> {
    let is_there = |id: &TargetId| active.binary_search_by_key(id, |target| target.id).is_ok();
    let placed = fleet.between(after, last).map(|(id, ..)| id);
    placed.filter(|id| !is_there(id)).collect()
}

/// Follows the change numbers of the store: work in the number of changes. Targets that were
/// switched on or off never wait; edits do while the node is short of something, a minute at most:
/// then a page of them is fed at a time.
pub(super) async fn apply_changes(control: &mut Control) -> anyhow::Result<Fed> {
    let (mut fed, mut refused) = (Fed::default(), Refused::default());
    let now = control.parts.view.clock.mono();
    let puts_off = control.changes.puts_off(control.is_pressed, now);
    let mut part = Part::Whole;
    loop {
        let after = control.changes.after(part);
        let mut page = reading(control.parts.store.changes(after, PAGE).await)?;
        if page.latest_change == after {
            break;
        }
        match part {
            Part::Whole => {
                refused.take(control, &page.refused, &page.targets);
                Refused::switched_off(control, &page.off);
                fed.removed += control.fleet.take_away(&page.off, None).await?;
            }
            // An edit of what is checked, and a row that was switched off long ago. Bad rows wait.
            Part::Switched => {
                let fleet = &control.fleet;
                page.targets
                    .retain(|target| target.active != fleet.find(target.id).is_some());
            }
        }
        fed += control.feed(page.targets).await?;
        control.changes.seen(part, page.latest_change, now);
        control.between_pages().await?;
        if puts_off {
            part = Part::Switched;
        }
    }
    let waiting = control.changes.waiting();
    let before = control
        .parts
        .view
        .changes_waiting
        .swap(waiting, Ordering::Relaxed);
    refused.say_rest();
    if fed != Fed::default() || (before == 0) != (waiting == 0) {
        info!(
            upserted = fed.upserted,
            removed = fed.removed,
            waiting,
            "targets changed"
        );
    }
    Ok(fed)
}

impl Control {
    /// What is in effect of changed targets, and what waits.
    pub(super) fn applied(&self, fed: Fed) -> Value {
        json!({
            "upserted": fed.upserted,
            "removed": fed.removed,
            "waiting": self.changes.waiting(),
        })
    }
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
    let done = format!("{}: {}", order.path.display(), summary.sentence());
    control.parts.view.note("import", done);
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
    let mut fed = apply_changes(control).await?;
    fed += control.sweep_now().await?;
    let done = format!("{} targets upserted, {} removed", fed.upserted, fed.removed);
    control.parts.view.note("reload", done);
    if !needs_restart.is_empty() {
        warn!("these keys changed and take effect with the next start: {needs_restart:?}");
    }
    let local_ports = control.short_of_ports(fed).await?;
    Ok(json!({
        "ok": true,
        "imported": imported,
        "local_ports": local_ports,
        "applied": control.applied(fed),
        "needs_restart": needs_restart,
    }))
}

/// The rows of all pages of one reading that are no targets.
#[derive(Default)]
pub(super) struct Refused {
    seen: usize,
}

impl Refused {
    /// Counts the rows that were refused, and names the first ones; those that are good may have
    /// been bad before.
    fn take(&mut self, control: &Control, refused: &[(i64, FieldError)], good: &[Target]) {
        let bad = refused.iter().map(|&(id, _)| id);
        let good = good.iter().map(|target| target.id.get());
        control.parts.view.refusals.rows(bad, good);
        self.say(refused);
    }

    /// Rows that are bad and not to be checked any more are no trouble.
    fn switched_off(control: &Control, off: &[TargetId]) {
        let ids = off.iter().map(|id| id.get());
        control.parts.view.refusals.rows(std::iter::empty(), ids);
    }

    /// Names the first ones.
    pub(super) fn say(&mut self, refused: &[(i64, FieldError)]) {
        for (id, error) in self.named(refused) {
            warn!("target {id} in the store is refused: {error}");
        }
    }

    /// Those of the next `refused` that are worth a line of the log.
    fn named<'r, T>(&mut self, refused: &'r [T]) -> &'r [T] {
        let room = REFUSED_NAMED_MAX.saturating_sub(self.seen);
        self.seen += refused.len();
        &refused[..refused.len().min(room)]
    }

    fn rest(&self) -> usize {
        self.seen.saturating_sub(REFUSED_NAMED_MAX)
    }

    /// Says how many were not named.
    pub(super) fn say_rest(&self) {
        if self.rest() > 0 {
            warn!("{} more targets in the store were refused", self.rest());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::{self, Hand};
    use crate::run::fleet::tests::target;
    use crate::run::serve::tests::control;

    /// Targets of the lists: two pages and a half.
    const COUNT: usize = 12_500;

    /// Imports targets with ids from `first` on, a second between checks of which is `interval_s`;
    /// those that the list does not have are switched off.
    async fn list(control: &mut Control, first: usize, interval_s: u32) {
        let path = control.config.data_dir.join("list.csv");
        let line = |nth: usize| format!("{nth},http://t{nth}.example/,{interval_s}\n");
        let lines: String = (first..first + COUNT).map(line).collect();
        std::fs::write(&path, format!("id,url,interval_s\n{lines}")).expect("written");
        let order = ImportOrder {
            path,
            prune: true,
            strict: false,
        };
        let summary = import(control, &order).await.expect("imported");
        assert_eq!((summary.rows, summary.refused), (COUNT as u64, 0));
    }

    /// Lesson: a list that edits half a million targets was fed at once to cores that were late.
    #[tokio::test]
    async fn under_pressure_edits_wait_and_what_is_switched_does_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        control.fleet.pause(true).await.expect("alive");
        list(&mut control, 1, 300).await;
        load_all(&mut control).await.expect("loaded");
        assert_eq!(control.fleet.len(), COUNT);
        // All but the first are edited, that one goes, and the last one is new.
        list(&mut control, 2, 600).await;
        control.is_pressed = true;
        let follow = async |control: &mut Control| {
            let fed = apply_changes(control).await.expect("followed");
            let waiting = control.parts.view.changes_waiting.load(Ordering::Relaxed);
            (fed.upserted, fed.removed, waiting)
        };
        let edits = (COUNT - PAGE) as u64;
        let page = PAGE as u64;
        let id = |nth| TargetId::new(nth).expect("positive");
        assert_eq!(follow(&mut control).await, (page + 1, 1, edits + 1));
        assert!(control.fleet.find(id(1)).is_none());
        assert!(control.fleet.find(id(COUNT as i64 + 1)).is_some());
        assert_eq!(follow(&mut control).await, (page, 0, edits + 1 - page));
        // Better times: the rest, the two that are in effect already among it.
        control.is_pressed = false;
        assert_eq!(follow(&mut control).await, (edits - page, 0, 0));
        // Who loads everything again waits for nothing.
        list(&mut control, 1, 300).await;
        control.is_pressed = true;
        let fed = load_all(&mut control).await.expect("loaded");
        assert_eq!((fed.upserted, fed.removed), (COUNT as u64, 1));
        assert_eq!(follow(&mut control).await, (0, 0, 0));
        control.into_stopping().drain().await.expect("drained");
    }

    /// Lesson: a store that was set back hands out its change numbers again, and no node that had
    /// seen them asked for them; what it had lost was checked for ever.
    #[tokio::test]
    async fn who_loads_again_has_what_the_store_has_and_follows_its_numbers() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        control.fleet.pause(true).await.expect("alive");
        list(&mut control, 10, 300).await;
        load_all(&mut control).await.expect("loaded");
        // In the fleet and not in the store: before, between and after the pages of it.
        let (store, gap) = (control.parts.store.clone(), PAGE as i64 + 700);
        let hand = Hand {
            by: "ann".to_owned(),
            now: model::UnixMs(1),
        };
        let id = |raw| TargetId::new(raw).expect("positive");
        let paused = operate::switch(&store, id(gap), true, &hand).await;
        paused.expect("paused");
        let lost = [3, 9, 70_000].map(|raw| target(raw, true));
        control.fleet.feed(lost.into()).await.expect("alive");
        assert_eq!(control.fleet.len(), COUNT + 3);
        control.changes = Changes::from(1_000_000);

        control.load_again().await.expect("loaded");
        let placed = |raw| control.fleet.find(id(raw)).is_some();
        assert!(![3, 9, gap, 70_000].into_iter().any(placed));
        assert_eq!(control.fleet.len(), COUNT - 1);
        list(&mut control, 10, 600).await;
        let fed = apply_changes(&mut control).await.expect("followed");
        assert_eq!((fed.upserted, fed.removed), (COUNT as u64 - 1, 0));
        control.into_stopping().drain().await.expect("drained");
    }

    /// Lesson: a table with many bad rows filled the log, a line each.
    #[test]
    fn a_table_full_of_bad_rows_is_a_few_lines_of_the_log() {
        let mut refused = Refused::default();
        let named: usize = (0..200).map(|_| refused.named(&[0; 50]).len()).sum();
        assert_eq!((named, refused.rest()), (20, 9_980));
        let mut few = Refused::default();
        assert_eq!((few.named(&[1, 2]), few.rest()), (&[1, 2][..], 0));
    }
}
