//! Follows the server's own word of what changed in the legacy tables, and hands it on: what is
//! then read, and when, is for the sweep. Whatever breaks is opened again from where it was; what
//! cannot be told any more is made up for by a pass.

use std::sync::Arc;
use std::time::Duration;

use model::TargetId;
use persist::Quiet;
use store::{Change, ChangeCounts, Changes, JournalId, Position, Reader, Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use self::course::{Course, Ended};
use self::lag::Lag;
use super::events::{Event, Gap};
use super::stats::Told;
use crate::run::view::View;

mod course;
mod lag;

/// Messages that wait for the control plane; more wait at the server.
const WAITING_MAX: usize = 4;
/// How often it is looked how late a stream is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two lines of one kind in the log, in s.
const SAID_EVERY_S: u64 = 300;

/// The stream of a node, for as long as this is kept.
pub(super) struct Stream {
    events: mpsc::Receiver<Event>,
    /// Ends with it.
    _task: JoinSet<()>,
}

impl Stream {
    /// Begins to follow the changes of `store`, from where the node with `journal` was.
    pub(super) fn follow(store: Store, journal: JournalId, view: Arc<View>) -> Self {
        let (sender, events) = mpsc::channel(WAITING_MAX);
        let mut task = JoinSet::new();
        let follower = Follower {
            store,
            journal,
            view,
            events: sender,
            before: ChangeCounts::default(),
            said: String::new(),
            quiet: Quiet::every_s(SAID_EVERY_S),
        };
        task.spawn(follower.follow());
        Self {
            events,
            _task: task,
        }
    }

    /// The next event. One whose future is dropped is not lost.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends with this alone.
            None => std::future::pending().await,
        }
    }
}

struct Follower {
    store: Store,
    journal: JournalId,
    view: Arc<View>,
    events: mpsc::Sender<Event>,
    /// Counts of the streams that are over.
    before: ChangeCounts,
    /// Why there is no stream, as it was said last: the same is not said again.
    said: String,
    quiet: Quiet,
}

/// Whoever hears the events is gone.
struct Gone;

impl Follower {
    async fn follow(mut self) {
        let mut course = Course::beginning(self.kept_position().await);
        while let Ok(ended) = self.once(&course).await {
            sleep(course.after(ended)).await;
        }
    }

    /// Opens the next stream and hands on what it says; what became of it.
    async fn once(&mut self, course: &Course<Position>) -> Result<Ended<Position>, Gone> {
        let (reader, from) = (Reader::Node(self.journal), course.from().cloned());
        let mut changes = match self.store.legacy_changes(reader, from).await {
            Ok(changes) => changes,
            Err(error) => return Ok(self.unopened(&error)),
        };
        let begun = self.view.clock.mono();
        let Ok(why) = self.hand_on(&mut changes, course.gap()).await else {
            changes.close().await;
            return Err(Gone);
        };
        self.before += changes.counts();
        let lasted = Duration::from_micros(self.view.clock.mono().since(begun));
        let (kind, ended) = match changes.resume_from() {
            Some(at) => ("broke", Ended::Broke { at, lasted }),
            None => ("lost", Ended::Lost { lasted }),
        };
        if let Some(swallowed) = self.allows(kind) {
            warn!(
                swallowed,
                "changes of legacy rows are not told for now: {why}"
            );
        }
        Ok(ended)
    }

    fn unopened(&mut self, error: &StoreError) -> Ended<Position> {
        let (kind, text, ended) = match error {
            StoreError::ChangesLost { why, .. } => {
                let text = format!("legacy rows are read once instead of their changes: {why}");
                ("gone", text, Ended::Gone)
            }
            StoreError::NoChanges { why, .. } => {
                let text = format!("changes of legacy rows are found by the sweep: {why}");
                ("refused", text, Ended::Refused)
            }
            error => {
                let text = format!("changes of legacy rows cannot be followed: {error}");
                ("unopened", text, Ended::Unopened)
            }
        };
        if text != self.said
            && let Some(swallowed) = self.allows(kind)
        {
            info!(swallowed, "{text}");
            self.said = text;
        }
        ended
    }

    /// Up to where changes were handed on before this start; without it everything is read once.
    async fn kept_position(&self) -> Option<Position> {
        self.store
            .change_position(self.journal)
            .await
            .ok()
            .flatten()
    }

    /// Hands on what the stream says until it ends; why it did.
    async fn hand_on(&mut self, changes: &mut Changes, gap: Gap) -> Result<String, Gone> {
        if let Some(swallowed) = self.allows("told") {
            let from = changes.start();
            info!(swallowed, %from, "the server tells changes of legacy rows");
        }
        self.said.clear();
        let mut lag = Lag::since(self.view.clock.mono());
        self.look(changes, &mut lag, gap).await?;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            let change = tokio::select! {
                change = changes.next() => Some(change),
                _ = looks.tick() => None,
            };
            match change {
                Some(Ok(Change::Rows {
                    switched,
                    edited,
                    position,
                })) => {
                    self.told(switched, true).await?;
                    self.told(edited, false).await?;
                    // A restart reads the whole table after it has asked for this.
                    changes.acknowledge(&position);
                }
                Some(Ok(Change::Position(position))) => changes.acknowledge(&position),
                Some(Ok(Change::Lost(why))) => break why.to_string(),
                Some(Err(error)) => break error.to_string(),
                None => {}
            }
            self.look(changes, &mut lag, Gap::None).await?;
        };
        self.show(changes, None);
        self.send(Event::StreamLost).await?;
        Ok(why)
    }

    /// Looks how late the stream is, and says so where that is new: at its beginning, with its gap.
    async fn look(&self, changes: &Changes, lag: &mut Lag, gap: Gap) -> Result<(), Gone> {
        let look = lag.look(changes.reached(), self.view.clock.mono());
        self.show(changes, Some(look.lag_s));
        match look.turned {
            Some(late) => self.send(Event::StreamUp { gap, late }).await,
            None => Ok(()),
        }
    }

    fn show(&self, changes: &Changes, lag_s: Option<u64>) {
        let mut counts = self.before;
        counts += changes.counts();
        self.view.legacy.told(Told { counts, lag_s });
    }

    async fn told(&self, ids: Vec<TargetId>, switched: bool) -> Result<(), Gone> {
        if ids.is_empty() {
            return Ok(());
        }
        self.send(Event::Changed { ids, switched }).await
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }

    /// Whether to say something of `kind` now, and how much of it was swallowed.
    fn allows(&mut self, kind: &'static str) -> Option<u64> {
        self.quiet.allows(kind, self.view.clock.mono())
    }
}
