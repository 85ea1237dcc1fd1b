//! What operators change in the store: pauses, windows, and what may be closed. A running node and
//! a command without one do it alike; what follows in memory is theirs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cores::Clock;
use model::fact::Event;
use model::{FactId, TargetId, UnixMs, WindowId};
use persist::{PersistError, SinkCommand};
use serde_json::{Value, json};
use store::{EventFilter, Store, StoreError, Switched, WindowRow};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::exit::bad_input;
use crate::run::parts::sink_config;
use crate::windows::list;
use crate::windows::spec::WindowSpec;

/// How long a sink of a command may take for its end.
const STOP: Duration = Duration::from_secs(30);

/// Somebody who changes something, and when.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    /// The name.
    pub(crate) by: String,
    /// The moment.
    pub(crate) now: UnixMs,
}

/// Pauses or resumes a target in the store.
///
/// # Errors
/// A target that is not there, or is so already.
pub(crate) async fn switch(
    store: &Store,
    id: TargetId,
    on: bool,
    hand: &Hand,
) -> anyhow::Result<()> {
    let switched = if on {
        store.pause_target(id, hand.by.clone(), hand.now).await?
    } else {
        store.resume_target(id).await?
    };
    match (switched, on) {
        (Switched::Done, _) => Ok(()),
        (Switched::Already, true) => bad_input(format!("the target {id} is paused already")),
        (Switched::Already, false) => bad_input(format!("the target {id} is not paused")),
        (Switched::Absent, _) => bad_input(absent(id)),
    }
}

/// The sentence of a target that the store does not have.
pub(crate) fn absent(id: TargetId) -> String {
    format!("no target has the id {id}: look for it with `ringwatch targets list --all`")
}

/// Adds a window.
///
/// # Errors
/// A window that cannot be.
pub(crate) async fn add_window(
    store: &Store,
    spec: &WindowSpec,
    hand: &Hand,
) -> anyhow::Result<WindowRow> {
    let window = spec.parse(hand.now)?;
    let id = store
        .add_window(window.clone(), hand.by.clone(), hand.now)
        .await?;
    Ok(WindowRow {
        id,
        window,
        added_by: hand.by.clone(),
        added_at: hand.now,
    })
}

/// What was removed.
pub(crate) enum Removed {
    /// A window.
    Window(WindowRow),
    /// A row that somebody wrote by hand, and that was none.
    Refused(WindowId),
}

impl Removed {
    /// One sentence for people and the audit log.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Window(row) => list::sentence(row),
            Self::Refused(id) => format!("window {}, which was refused", id.0),
        }
    }

    /// As it was at `now`; nothing but its number when it was no window.
    pub(crate) fn object(&self, now: UnixMs) -> Value {
        match self {
            Self::Window(row) => list::object(row, now),
            Self::Refused(id) => json!({ "id": id.0 }),
        }
    }
}

/// Removes a window.
///
/// # Errors
/// One that is not there.
pub(crate) async fn remove_window(store: &Store, id: i64) -> anyhow::Result<Removed> {
    let list = store.windows().await?;
    let row = list.rows.into_iter().find(|row| row.id == WindowId(id));
    if !store.remove_window(WindowId(id)).await? {
        return bad_input(format!(
            "no maintenance window has the number {id}: look with `ringwatch maintenance list`"
        ));
    }
    Ok(match row {
        Some(row) => Removed::Window(row),
        None => Removed::Refused(WindowId(id)),
    })
}

/// The open event `id`.
///
/// # Errors
/// One that is not there, or is closed.
pub(crate) async fn open_event(store: &Store, id: FactId) -> anyhow::Result<Event> {
    match store.event(id).await? {
        None => bad_input(format!(
            "no incident has the id {id}: look with `ringwatch events list --json`"
        )),
        Some(event) if event.ended_at.is_some() => bad_input(closed_already(&event)),
        Some(event) if event.target == TargetId::NODE => bad_input(format!(
            "the incident {id} is one of the node itself ({}): it ends by itself when its trouble \
             is over; see to the signals that `ringwatch status` names",
            event.check_type
        )),
        Some(event) => Ok(event),
    }
}

/// The sentence of an event that was open when it was read and could not be closed after that.
///
/// # Errors
/// The store's.
pub(crate) async fn not_closed(store: &Store, id: FactId) -> anyhow::Result<String> {
    Ok(match store.event(id).await? {
        Some(event) if event.ended_at.is_some() => closed_already(&event),
        _ => format!(
            "the incident {id} was not closed: it ends just now and the store does not have that \
             yet, or another node took over the targets: look again in some seconds"
        ),
    })
}

/// The sentence of an event that cannot be closed again.
fn closed_already(event: &Event) -> String {
    let how = event.resolution.map_or("", model::fact::Reason::as_str);
    let when = event.ended_at.map_or(String::new(), |at| {
        format!(" at {}", crate::windows::occurrences::at(at))
    });
    format!(
        "the incident {} was closed{when} ({how}), and a closed one never changes (ErrEventClosed)",
        event.id
    )
}

/// What a reason must be: words, in one line.
///
/// # Errors
/// Anything else.
pub(crate) fn reason(text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    let max = model::limits::WINDOW_REASON_MAX_BYTES;
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return bad_input(format!(
            "reason: found {text:?}, accepted is one line of at most {max} bytes"
        ));
    }
    Ok(text.to_owned())
}

/// What the audit log has of a close.
pub(crate) fn closing(event: &Event, by: &str, reason: &str) -> String {
    let (id, target) = (event.id, event.target);
    format!("incident {id} of target {target} by {by}: {reason}")
}

/// Open events of a target.
pub(crate) async fn open_events(store: &Store, id: TargetId) -> anyhow::Result<Vec<Event>> {
    let filter = EventFilter {
        open_only: true,
        target: Some(id),
        ..EventFilter::default()
    };
    Ok(store.events(&filter).await?)
}

/// Closes what is open of a target that was paused just now; whether that is done. Where a node
/// elsewhere has the lease, it is that one's to do, as soon as it sees the pause.
///
/// # Errors
/// As [`close_at_rest`].
pub(crate) async fn close_paused(
    config: &Config,
    store: &Store,
    id: TargetId,
    by: &str,
) -> anyhow::Result<bool> {
    let open = open_events(store, id).await?;
    let open: Vec<FactId> = open.iter().map(|event| event.id).collect();
    if open.is_empty() {
        return Ok(true);
    }
    match close_at_rest(config, store, &open, by).await {
        Ok(_) => Ok(true),
        Err(error) if is_held(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another node has the lease.
fn is_held(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(PersistError::Store {
            cause: StoreError::Held { .. },
            ..
        })
    )
}

/// Closes events while no node runs: by a sink without cores, which takes up the journal, writes
/// and ends. Says how many were open.
///
/// # Errors
/// The sink's: the lease of another node, a journal or a store that cannot be written.
pub(crate) async fn close_at_rest(
    config: &Config,
    store: &Store,
    events: &[FactId],
    by: &str,
) -> anyhow::Result<usize> {
    let clock = Clock::start();
    let now = Arc::new(move || clock.now());
    let sink = persist::spawn(sink_config(config, None)?, now, Vec::new(), store.clone())?;
    let mut closed = 0;
    for &event in events {
        let (reply, answer) = oneshot::channel();
        let by = by.to_owned();
        let close = SinkCommand::Close { event, by, reply };
        sink.commands.send(close).context("the sink ended")?;
        closed += usize::from(answer.await.context("the sink ended")?);
    }
    let (done, stopped) = oneshot::channel();
    sink.commands
        .send(SinkCommand::Stop { done })
        .context("the sink ended")?;
    let in_time = tokio::time::timeout(STOP, stopped).await;
    in_time
        .context("the store did not take what was closed: the journal has it")?
        .ok();
    match sink.thread.join() {
        Ok(ended) => ended?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use store::StoreUrl;

    use super::*;

    #[tokio::test]
    async fn an_event_that_the_store_does_not_call_ended_is_not_said_to_be() {
        let dir = tempfile::tempdir().expect("temp dir");
        let url = StoreUrl::Sqlite(dir.path().join("s.db"));
        let store = Store::open(&url).await.expect("a new store opens");
        let id = FactId::new(7).expect("positive");
        let said = not_closed(&store, id).await.expect("read");
        let begins = "the incident 7 was not closed: it ends just now";
        assert!(said.starts_with(begins), "{said}");
    }
}
