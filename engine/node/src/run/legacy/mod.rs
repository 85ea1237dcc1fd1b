//! Legacy rows while a node runs: what [`Sweep`] asks for is read beside everything else, compared
//! with what is [`Held`], and only what differs is fed. It must not know how rows are stored, nor
//! when they are due.
//!
//! ```text
//!  turn, Stream, reload ──events──► Sweep ──Read──► store (a task of its own)
//!                                     ▲               │ rows, counts
//!                                     └────Done──── Held ──difference──► fleet
//! ```

mod events;
mod held;
mod look;
pub(crate) mod stats;
mod stream;
mod sweep;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::limits::LEGACY_BUCKET_ROWS_MAX;
use model::{MonoUs, TargetId};
use persist::SinkCommand;
use store::{LEGACY_BUCKET_MAX, LegacyRange, LegacyRow, RowTally, Store};
use tokio::task::JoinSet;
use tracing::info;

use self::events::{Done, Event, Loaded, Next, Read};
use self::held::{Covered, Difference, Feeding, Held};
use self::look::{Found, look};
use self::stats::Standing;
use self::stream::Stream;
use self::sweep::{SLICES, Sweep};
use super::ahead::Ahead;
use super::fleet::Fed;
use super::pressure;
use super::reload::Refused;
use super::serve::{Control, PAGE, reading};
use super::view::View;
use crate::config::Config;

/// Longest sleep of somebody who waits for nothing.
const NOTHING: Duration = Duration::from_hours(1);

/// Everything about legacy rows that a running node has.
pub(super) struct LegacyRows {
    held: Held,
    sweep: Sweep,
    /// From the first load on.
    stream: Option<Stream>,
    /// One reading at most.
    tasks: JoinSet<Answer>,
    wake_at: MonoUs,
    /// Whether there is an index to count rows by bucket.
    has_buckets: bool,
    /// Of the buckets that are read: rows that we have and that were not read yet.
    unseen: BTreeMap<u16, HashSet<TargetId>>,
    refused: Refused,
    passes: u64,
    /// Why the last reading failed.
    trouble: Option<String>,
}

/// A reading, what came of it, and when.
pub(super) struct Answer {
    read: Read,
    found: store::Result<Found>,
    at: MonoUs,
}

impl LegacyRows {
    /// For `cores` cores; `None` where the targets are our own.
    pub(super) fn of(config: &Config, cores: usize) -> Option<Self> {
        config.legacy.load.then(|| Self {
            held: Held::new(cores),
            sweep: Sweep::new(config.legacy_sweep_s),
            stream: None,
            tasks: JoinSet::new(),
            wake_at: MonoUs(0),
            has_buckets: false,
            unseen: BTreeMap::new(),
            refused: Refused::default(),
            passes: 0,
            trouble: None,
        })
    }

    /// Waits until there is something to do.
    pub(super) async fn wake(&mut self, now: MonoUs) -> Woken {
        let wait = Duration::from_micros(self.wake_at.since(now));
        tokio::select! {
            event = told(&mut self.stream) => Woken::Told(event),
            answer = self.tasks.join_next(), if !self.tasks.is_empty() => match answer {
                Some(Ok(answer)) => Woken::Read(answer),
                Some(Err(broken)) if broken.is_panic() => {
                    std::panic::resume_unwind(broken.into_panic());
                }
                _ => Woken::Due,
            },
            () = tokio::time::sleep(wait.min(NOTHING)), if self.tasks.is_empty() => Woken::Due,
        }
    }

    /// Begins to read what is due.
    fn go_on(&mut self, store: &Store, view: &Arc<View>) {
        let now = view.clock.mono();
        match self.sweep.next(now) {
            Next::Reading if self.tasks.is_empty() => {
                // It was given up for a load that failed.
                self.sweep.on(Event::Failed, now);
                self.wake_at = now.plus_ms(WATCH_MS);
            }
            Next::Reading => {}
            Next::At(at) => self.wake_at = at,
            Next::Read(read) => {
                let (store, view) = (store.clone(), Arc::clone(view));
                let buckets = self.has_buckets;
                let last = match &read {
                    Read::Tally { first } => self.held.slice_end(*first),
                    _ => LEGACY_BUCKET_MAX,
                };
                self.tasks.spawn(async move {
                    let found = look(&store, &read, (buckets, last)).await;
                    let at = view.clock.mono();
                    Answer { read, found, at }
                });
            }
        }
    }

    fn show(&mut self, fleet_len: usize, view: &View) {
        let figures = self.sweep.figures();
        let rows = (fleet_len + self.held.aside()) as u64;
        let by_bucket = self.held.suits_buckets();
        self.sweep.set_table(rows, by_bucket);
        if figures.passes != self.passes {
            self.passes = figures.passes;
            std::mem::take(&mut self.refused).say_rest();
        }
        view.legacy.stands(Standing {
            figures,
            rows,
            counts_buckets: by_bucket,
        });
    }
}

/// What somebody who waited was woken by.
pub(super) enum Woken {
    /// Something is due.
    Due,
    /// A reading is over.
    Read(Answer),
    /// The server told something.
    Told(Event),
}

async fn told(stream: &mut Option<Stream>) -> Event {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for [`LegacyRows::wake`], or for ever where there are no legacy rows.
pub(super) async fn wake(legacy: &mut Option<LegacyRows>, now: MonoUs) -> Woken {
    match legacy {
        Some(legacy) => legacy.wake(now).await,
        None => std::future::pending().await,
    }
}

impl Control {
    /// Places every active legacy row, tells the sink which ones are bad, and lets the sweep begin.
    pub(super) async fn load_legacy(&mut self, epoch: u64) -> anyhow::Result<Fed> {
        let begun = self.parts.view.clock.mono();
        let store = self.parts.store.clone();
        let has_buckets = reading(store.legacy_has_buckets().await)?;
        if let Some(legacy) = &mut self.legacy {
            legacy.tasks = JoinSet::new();
            legacy.has_buckets = has_buckets;
            // Before the first row is read: nothing that changes meanwhile is missed.
            let (journal, view) = (self.parts.sink.journal, &self.parts.view);
            let follow = || Stream::follow(store.clone(), journal, Arc::clone(view));
            legacy.stream.get_or_insert_with(follow);
        }
        let (mut fed, mut after) = (Fed::default(), None);
        let read = |id| {
            let store = store.clone();
            let range = LegacyRange::After { id, limit: PAGE };
            async move { store.legacy_rows(range, has_buckets).await }
        };
        let mut pages = Ahead::of(read(None)).await;
        loop {
            let rows = reading(pages.next().await)?;
            let next = next_of(&rows, PAGE);
            if next.is_some() {
                pages.ask(read(next)).await;
            }
            let covered = Covered::Between(after, next);
            fed += self.feed_legacy(rows, covered, Feeding::All).await?.fed;
            self.between_pages().await?;
            if next.is_none() {
                break;
            }
            after = next;
        }
        let keep = self.legacy.iter().flat_map(|legacy| legacy.held.bad_ids());
        let loaded = SinkCommand::Loaded {
            keep: keep.collect(),
            epoch,
        };
        super::send::send(&self.parts.sink.commands, loaded, "the sink").await?;
        self.begin_sweep(begun);
        Ok(fed)
    }

    fn begin_sweep(&mut self, begun: MonoUs) {
        let now = self.parts.view.clock.mono();
        let Some(legacy) = &mut self.legacy else {
            return;
        };
        let by_bucket = legacy.held.suits_buckets();
        if !by_bucket {
            info!(
                "legacy rows are counted by id, which reads them, and not by bucket: there is no \
                 index of {} that begins with {} and {}, or they are in fewer than {SLICES} \
                 buckets, or more than {LEGACY_BUCKET_ROWS_MAX} in one, or some of them in none",
                self.config.legacy.table,
                self.config.legacy.columns.bucket,
                self.config.legacy.columns.active,
            );
        }
        let rows = (self.fleet.len() + legacy.held.aside()) as u64;
        let loaded = Loaded {
            rows,
            by_bucket,
            begun,
        };
        legacy.sweep.on(Event::Loaded(loaded), now);
        legacy.unseen.clear();
        std::mem::take(&mut legacy.refused).say_rest();
        legacy.show(self.fleet.len(), &self.parts.view);
    }

    /// Begins what is due of the legacy rows, if there are any.
    pub(super) fn go_on_with_legacy(&mut self) {
        let Some(legacy) = &mut self.legacy else {
            return;
        };
        if self.fed_for.is_fenced {
            legacy.wake_at = self.parts.view.clock.mono().plus_ms(WATCH_MS);
        } else {
            legacy.go_on(&self.parts.store, &self.parts.view);
        }
    }

    /// Looks whether the node is short of something, and tells the sweep.
    pub(super) fn look_for_pressure(&mut self) {
        let view = &self.parts.view;
        let (health, sink) = (view.health(), view.sink_counters());
        self.is_pressed = view.with_histograms(|all| pressure::is_pressed(&health, &sink, all));
        if let Some(legacy) = &mut self.legacy {
            let now = view.clock.mono();
            legacy.sweep.on(Event::Pressed(self.is_pressed), now);
            legacy.show(self.fleet.len(), view);
        }
    }

    /// Takes in what ended a wait.
    pub(super) async fn take_woken(&mut self, woken: Woken) -> anyhow::Result<()> {
        match woken {
            Woken::Due => Ok(()),
            Woken::Read(answer) => self.take_legacy(answer).await,
            Woken::Told(event) => {
                let now = self.parts.view.clock.mono();
                if let Some(legacy) = &mut self.legacy {
                    legacy.sweep.on(event, now);
                    legacy.show(self.fleet.len(), &self.parts.view);
                }
                Ok(())
            }
        }
    }

    /// Takes in what was read. A store that is away costs freshness of the fleet, never probing.
    async fn take_legacy(&mut self, answer: Answer) -> anyhow::Result<()> {
        let Answer { read, found, at } = answer;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.legacy_failed(&error, at);
                return Ok(());
            }
        };
        let (done, rows) = match found {
            Found::Tally(last, counted) => (self.compare_counts(&read, last, &counted), 0),
            Found::Count(counted, last) => (self.compare_count(&read, counted, last), 0),
            Found::Rows(rows) => {
                let count = rows.len();
                (self.take_rows(&read, rows).await?, count)
            }
        };
        if let Some(legacy) = &mut self.legacy {
            legacy.trouble = None;
            let took_us = legacy.sweep.took_us(at);
            self.parts
                .view
                .legacy
                .read(stats::kind(&read), rows, took_us);
            legacy.sweep.on(Event::Done(done), at);
            legacy.show(self.fleet.len(), &self.parts.view);
        }
        Ok(())
    }

    fn legacy_failed(&mut self, error: &store::StoreError, at: MonoUs) {
        if let Some(legacy) = &mut self.legacy {
            legacy.trouble = Some(error.to_string());
            legacy.sweep.on(Event::Failed, at);
        }
        self.parts.view.legacy.failed();
        self.complain("legacy", || {
            format!("legacy rows cannot be read, those that are known stay in effect: {error}")
        });
    }

    fn compare_count(&self, read: &Read, counted: RowTally, last: Option<TargetId>) -> Done {
        let (Some(legacy), &Read::Count { after, limit }) = (&self.legacy, read) else {
            return Done::Ids;
        };
        let next = last.filter(|_| counted.rows >= limit as u64);
        let held = legacy.held.tally_between(&self.fleet, (after, next));
        Done::Count {
            rows: counted.rows as usize,
            differs: counted != held,
            next,
        }
    }

    fn compare_counts(&mut self, read: &Read, last: u16, counted: &[(u16, RowTally)]) -> Done {
        let (Some(legacy), &Read::Tally { first }) = (&mut self.legacy, read) else {
            return Done::Ids;
        };
        let (differing, large) = legacy.held.differing((first, last), counted);
        legacy.unseen = legacy.held.of_buckets(&differing);
        Done::Tally {
            differing,
            large,
            next: (last < LEGACY_BUCKET_MAX).then(|| last + 1),
        }
    }

    async fn take_rows(&mut self, read: &Read, rows: Vec<LegacyRow>) -> anyhow::Result<Done> {
        let (count, done, covered) = match read {
            Read::Page { after, limit } => {
                let next = next_of(&rows, *limit);
                let done = Done::Page {
                    rows: rows.len(),
                    next,
                };
                (rows.len(), done, Covered::Between(*after, next))
            }
            Read::Bucket { bucket, limit, .. } => {
                let next = next_of(&rows, *limit);
                let missing = self.unseen_of(*bucket, &rows, next.is_none());
                (rows.len(), Done::Bucket { next, missing }, Covered::Nothing)
            }
            Read::Span { after, last, limit } => {
                let next = next_of(&rows, *limit);
                let is_before = |next: &TargetId| last.is_none_or(|last| *next < last);
                let done = Done::Span {
                    next: next.filter(is_before),
                };
                (rows.len(), done, Covered::Between(*after, next))
            }
            Read::Ids(ids) => (ids.len(), Done::Ids, Covered::These(ids)),
            Read::Tally { .. } | Read::Count { .. } => return Ok(Done::Ids),
        };
        let change = self.feed_legacy(rows, covered, Feeding::Changes).await?;
        self.parts.view.legacy.add(change.counts);
        if change.counts.iter().any(|&some| some > 0) {
            let [changed, activated, deactivated, refused] = change.counts;
            info!(
                read = count,
                changed, activated, deactivated, refused, "legacy rows changed"
            );
        }
        Ok(done)
    }

    /// Rows of a bucket that we have and that `rows` does not have, once all were read.
    fn unseen_of(&mut self, bucket: u16, rows: &[LegacyRow], is_end: bool) -> Vec<TargetId> {
        let Some(legacy) = &mut self.legacy else {
            return Vec::new();
        };
        if let Some(unseen) = legacy.unseen.get_mut(&bucket) {
            for row in rows {
                unseen.remove(&row.id);
            }
        }
        if !is_end {
            return Vec::new();
        }
        let unseen = legacy.unseen.remove(&bucket).unwrap_or_default();
        let mut unseen: Vec<TargetId> = unseen.into_iter().collect();
        unseen.sort_unstable();
        unseen
    }

    /// Compares rows with what is known and feeds what differs.
    async fn feed_legacy(
        &mut self,
        rows: Vec<LegacyRow>,
        covered: Covered<'_>,
        feeding: Feeding,
    ) -> anyhow::Result<Change> {
        let found = self.compare_legacy(rows, covered, feeding);
        self.feed_difference(found, None).await
    }

    fn compare_legacy(
        &mut self,
        rows: Vec<LegacyRow>,
        covered: Covered<'_>,
        feeding: Feeding,
    ) -> Difference {
        let Some(legacy) = &mut self.legacy else {
            return Difference::default();
        };
        let found = legacy.held.compare(&self.fleet, rows, covered, feeding);
        let right_again = found.right_again.iter().copied();
        let bad = found.refused.iter().map(|&(id, _)| id);
        self.parts.view.refusals.rows(bad, right_again);
        legacy.refused.say(&found.refused);
        found
    }

    /// Feeds what differs; `by`: who paused what is gone.
    async fn feed_difference(
        &mut self,
        mut found: Difference,
        by: Option<&str>,
    ) -> anyhow::Result<Change> {
        let targets = std::mem::take(&mut found.targets);
        let ids: Vec<TargetId> = targets.iter().map(|target| target.id).collect();
        let removed = self.fleet.take_away(&found.gone, by).await?;
        let mut fed = self.feed(targets).await?;
        fed.removed += removed;
        if let Some(legacy) = &mut self.legacy {
            legacy.held.fed(&self.fleet, &ids, &found);
        }
        let refused = found.refused.len() as u64;
        Ok(Change {
            fed,
            counts: [found.changed, found.activated, removed, refused],
        })
    }

    /// Reads one row again whose target somebody paused or resumed; `by`: who paused it.
    pub(super) async fn reread_legacy(
        &mut self,
        id: TargetId,
        by: Option<&str>,
    ) -> anyhow::Result<()> {
        self.read_again(vec![id]);
        let Some(legacy) = &self.legacy else {
            return Ok(());
        };
        let range = LegacyRange::Ids(vec![id]);
        let rows = self.parts.store.legacy_rows(range, legacy.has_buckets);
        let rows = reading(rows.await)?;
        let found = self.compare_legacy(rows, Covered::These(&[id]), Feeding::Changes);
        let change = self.feed_difference(found, by).await?;
        let view = &self.parts.view;
        view.legacy.add(change.counts);
        if let Some(legacy) = &mut self.legacy {
            legacy.show(self.fleet.len(), view);
        }
        Ok(())
    }

    /// Has the sweep read these rows, whose targets somebody paused or resumed, until it has: a
    /// reading that is under way may tell of them as they were.
    pub(super) fn read_again(&mut self, ids: Vec<TargetId>) {
        let now = self.parts.view.clock.mono();
        if let Some(legacy) = &mut self.legacy {
            let switched = true;
            legacy.sweep.on(Event::Changed { ids, switched }, now);
        }
    }

    /// Has what is not in effect as its page of the store has it read again: of the ids after the
    /// first one and up to the second one, `paused` are those that somebody paused.
    pub(super) fn read_wrongly_paused(
        &mut self,
        ids: (Option<TargetId>, Option<TargetId>),
        paused: &[TargetId],
    ) {
        let Some(legacy) = &self.legacy else {
            return;
        };
        let switched = legacy.held.wrongly_paused(&self.fleet, ids, paused);
        if !switched.is_empty() {
            self.read_again(switched);
        }
    }

    /// Reads the whole table now, and waits for it; meanwhile requests are answered.
    pub(super) async fn sweep_now(&mut self) -> anyhow::Result<Fed> {
        let before = self.parts.view.legacy.look().changes;
        let now = self.parts.view.clock.mono();
        let Some(legacy) = &mut self.legacy else {
            return Ok(Fed::default());
        };
        if self.fed_for.is_fenced {
            // Everything is loaded again before anything is checked.
            return Ok(Fed::default());
        }
        legacy.sweep.on(Event::Asked, now);
        legacy.trouble = None;
        let wanted = legacy.sweep.newest_pass();
        loop {
            let now = self.parts.view.clock.mono();
            let legacy = self
                .legacy
                .as_mut()
                .filter(|legacy| !legacy.sweep.is_over(wanted));
            let Some(legacy) = legacy else {
                break;
            };
            if let Some(why) = &legacy.trouble {
                anyhow::bail!("the legacy rows cannot be read: {why}; it is tried again");
            }
            legacy.go_on(&self.parts.store, &self.parts.view);
            let woken = tokio::select! {
                woken = legacy.wake(now) => woken,
                () = tokio::time::sleep(Duration::from_millis(WATCH_MS)) => Woken::Due,
            };
            self.take_woken(woken).await?;
            self.between_pages().await?;
        }
        let after = self.parts.view.legacy.look().changes;
        let [changed, activated, removed] = [0, 1, 2].map(|at| after[at] - before[at]);
        Ok(Fed {
            upserted: changed + activated,
            removed,
        })
    }
}

/// Threads are looked at so often while somebody waits for a pass, in ms.
const WATCH_MS: u64 = 200;

/// What rows that were read did.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    fed: Fed,
    /// In the order of [`stats::CHANGES`].
    counts: [u64; stats::CHANGES.len()],
}

/// The id after which the next rows are; `None` when there are none.
fn next_of(rows: &[LegacyRow], limit: usize) -> Option<TargetId> {
    rows.last()
        .filter(|_| rows.len() >= limit)
        .map(|row| row.id)
}
