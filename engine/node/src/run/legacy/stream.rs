//! Follows the server's own word of what changed in the legacy tables, and hands it on: what is
//! then read, and when, is for the sweep. Whatever breaks is opened again from where it was; what
//! cannot be told any more is made up for by a pass.

use std::sync::Arc;
use std::time::Duration;

use model::TargetId;
use store::{Change, ChangeCounts, Changes, JournalId, Position, Reader, Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use self::course::{Course, Ended};
use super::events::Event;
use crate::run::view::View;

mod course;

/// Messages that wait for the control plane; more wait at the server.
const WAITING_MAX: usize = 4;
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
    /// What was said last: the same is not said again.
    said: String,
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
        let Ok(why) = self.hand_on(&mut changes, course.from().is_none()).await else {
            changes.close().await;
            return Err(Gone);
        };
        self.before += changes.counts();
        warn!("changes of legacy rows are not told for now: {why}");
        let lasted = Duration::from_micros(self.view.clock.mono().since(begun));
        let at = changes.resume_from();
        Ok(at.map_or(Ended::Lost, |at| Ended::Broke { at, lasted }))
    }

    fn unopened(&mut self, error: &StoreError) -> Ended<Position> {
        match error {
            StoreError::ChangesLost { .. } => Ended::Gone,
            StoreError::NoChanges { why, .. } => {
                self.say(format!(
                    "changes of legacy rows are found by the sweep: {why}"
                ));
                Ended::Refused
            }
            error => {
                self.say(format!(
                    "changes of legacy rows cannot be followed: {error}"
                ));
                Ended::Unopened
            }
        }
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
    async fn hand_on(&mut self, changes: &mut Changes, gap: bool) -> Result<String, Gone> {
        info!(
            from = %changes.start(),
            "the server tells changes of legacy rows"
        );
        self.said.clear();
        self.send(Event::StreamUp { gap }).await?;
        let why = loop {
            match changes.next().await {
                Ok(Change::Rows {
                    switched,
                    edited,
                    position,
                }) => {
                    self.told(switched, true).await?;
                    self.told(edited, false).await?;
                    // A restart reads the whole table after it has asked for this.
                    changes.acknowledge(&position);
                }
                Ok(Change::Position(position)) => changes.acknowledge(&position),
                Ok(Change::Lost(why)) => break why.to_string(),
                Err(error) => break error.to_string(),
            }
            let mut counts = self.before;
            counts += changes.counts();
            self.view.legacy.told(counts);
        };
        self.send(Event::StreamLost).await?;
        Ok(why)
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

    fn say(&mut self, text: String) {
        if text != self.said {
            info!("{text}");
            self.said = text;
        }
    }
}
