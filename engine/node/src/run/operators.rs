//! What operators ask of single targets, events and windows while the node runs: checked and kept
//! by `operate`, then told to sink and cores, and noted.

use std::time::Duration;

use model::{CoreIndex, FactId, Slot, TargetId};
use persist::{Look, SinkCommand, Watched};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::reload;
use super::send::send;
use super::serve::Control;
use crate::control::server::{Call, refusal};
use crate::control::{Request, TargetRef};
use crate::exit::bad_input;
use crate::json_ids::json_id;
use crate::operate::{self, Hand};
use crate::windows::list;
use crate::windows::spec::WindowSpec;
use crate::{check, operator};

/// How long an answer waits for the store to have what was decided; the journal has it before.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a check that somebody waits for may take: its deadline, and its turn before that.
const CHECKED: Duration = Duration::from_secs(150);
/// How long the sink may take to look.
const LOOKED: Duration = Duration::from_secs(5);

const FENCED: &str = "another node took over the targets: ask that one";
const BAD_TARGET: &str = "target: accepted is an id, a whole number from 1";
const BAD_EVENT: &str = "event: accepted is the id of an incident, a whole number from 1";

/// What was asked for, as the audit log has it.
pub(super) fn asked(request: &Request) -> String {
    let by = |name: &str| operator::cleaned(name);
    match request {
        Request::PauseTarget {
            target,
            on,
            by: name,
        } => {
            let word = if *on { "pause" } else { "resume" };
            format!("{word} of target {target:?} by {}", by(name))
        }
        Request::Close {
            event, by: name, ..
        } => format!("close of {event:?} by {}", by(name)),
        Request::AddWindow { by: name, .. } => format!("window by {}", by(name)),
        Request::RemoveWindow { id, by: name } => format!("end of window {id} by {}", by(name)),
        _ => "request".to_owned(),
    }
}

impl Control {
    fn hand(&self, by: &str) -> Hand {
        let by = match operator::cleaned(by) {
            name if name.is_empty() => "unknown".to_owned(),
            name => name,
        };
        let now = self.parts.view.clock.now().unix;
        Hand { by, now }
    }

    /// Carries out what changes the store.
    pub(super) async fn operate(&mut self, request: &Request) -> anyhow::Result<Value> {
        if self.fed_for.is_fenced {
            anyhow::bail!(FENCED);
        }
        match request {
            Request::PauseTarget { target, on, by } => self.pause_target(target, *on, by).await,
            Request::Close { event, reason, by } => self.close(event, reason, by).await,
            Request::AddWindow { window, by } => self.add_window(window, by).await,
            Request::RemoveWindow { id, by } => self.remove_window(*id, by).await,
            _ => Ok(refusal("this is asked in another way")),
        }
    }

    async fn pause_target(
        &mut self,
        target: &TargetRef,
        on: bool,
        by: &str,
    ) -> anyhow::Result<Value> {
        let Some(id) = target.id() else {
            return bad_input(BAD_TARGET);
        };
        let (hand, store) = (self.hand(by), self.parts.store.clone());
        let with = hand.clone();
        self.meanwhile(async move { operate::switch(&store, id, on, &with).await })
            .await??;
        let word = if on { "pause" } else { "resume" };
        let done = format!("target {id} by {}", hand.by);
        self.parts.view.note(word, done);
        let by = on.then_some(hand.by.as_str());
        if self.legacy.is_some() {
            self.reread_legacy(id, by).await?;
        } else {
            if on {
                self.fleet.take_away(&[id], by).await?;
            }
            reload::apply_changes(self).await?;
        }
        self.count_paused().await;
        let stored = self.settle().await?;
        Ok(json!({ "ok": true, "target": json_id(id.get()), "paused": on, "stored": stored }))
    }

    async fn close(&mut self, event: &TargetRef, reason: &str, by: &str) -> anyhow::Result<Value> {
        let Some(id) = event.event() else {
            return bad_input(BAD_EVENT);
        };
        let reason = operate::reason(reason)?;
        let (hand, store) = (self.hand(by), self.parts.store.clone());
        let open = self
            .meanwhile(async move { operate::open_event(&store, id).await })
            .await??;
        let (reply, answer) = oneshot::channel();
        let close = SinkCommand::Close {
            event: id,
            by: hand.by.clone(),
            reply,
        };
        send(&self.parts.sink.commands, close, "the sink").await?;
        if !self.meanwhile(answer).await?.unwrap_or(false) {
            let store = self.parts.store.clone();
            let why = self.meanwhile(async move { operate::not_closed(&store, id).await });
            return bad_input(why.await??);
        }
        let done = operate::closing(&open, &hand.by, &reason);
        self.parts.view.note_of(&open, "close", done);
        let stored = self.settle().await?;
        Ok(closed(id, open.target, stored))
    }

    async fn add_window(&mut self, spec: &WindowSpec, by: &str) -> anyhow::Result<Value> {
        let (hand, store, spec) = (self.hand(by), self.parts.store.clone(), spec.clone());
        let now = hand.now;
        let row = self
            .meanwhile(async move { operate::add_window(&store, &spec, &hand).await })
            .await??;
        let sentence = list::sentence(&row);
        self.parts.view.note(
            "maintenance",
            format!("added by {}: {sentence}", row.added_by),
        );
        self.follow_windows().await?;
        Ok(json!({ "ok": true, "window": list::object(&row, now), "sentence": sentence }))
    }

    async fn remove_window(&mut self, id: i64, by: &str) -> anyhow::Result<Value> {
        let (hand, store) = (self.hand(by), self.parts.store.clone());
        let removed = self
            .meanwhile(async move { operate::remove_window(&store, id).await })
            .await??;
        let sentence = removed.sentence();
        self.parts
            .view
            .note("maintenance", format!("removed by {}: {sentence}", hand.by));
        self.follow_windows().await?;
        Ok(json!({ "ok": true, "window": removed.object(hand.now), "sentence": sentence }))
    }

    /// Waits until the store has what was decided; whether it does.
    async fn settle(&mut self) -> anyhow::Result<bool> {
        let (done, flushed) = oneshot::channel();
        let flush = SinkCommand::Flush { done };
        send(&self.parts.sink.commands, flush, "the sink").await?;
        let settled = self
            .meanwhile(tokio::time::timeout(SETTLE, flushed))
            .await?;
        Ok(matches!(settled, Ok(Ok(()))))
    }

    /// Takes a call out of the order of the others where its answer comes later: nobody else waits
    /// for a check.
    pub(super) async fn hear(&mut self, call: Call) -> anyhow::Result<Option<Call>> {
        let Request::Trigger {
            target,
            wait: true,
            by,
        } = &call.request
        else {
            return Ok(Some(call));
        };
        let (core, slot) = match self.place_of(target) {
            Ok(place) => place,
            Err(refused) => {
                drop(call.reply.send(refused));
                return Ok(None);
            }
        };
        let (reply, checked) = oneshot::channel();
        let watch = SinkCommand::Watch {
            core,
            slot,
            since: self.parts.view.clock.mono(),
            reply: Some(reply),
        };
        self.check_asked(target, by, watch).await?;
        let (id, store) = (target.clone(), self.parts.store.clone());
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(CHECKED, checked).await {
                Ok(Ok(watched)) => result(&store, &id, &watched).await,
                Ok(Err(_)) => refusal(
                    "the target went away, or too many checks are waited for at once: ask again",
                ),
                Err(_) => refusal("the check did not end in time: ask again"),
            };
            // A client that hung up has no use for the answer.
            drop(call.reply.send(answer));
        });
        Ok(None)
    }

    /// Where a target is that can be checked now, or why it cannot.
    fn place_of(&self, target: &TargetRef) -> Result<(CoreIndex, Slot), Value> {
        let id = target.id().ok_or_else(|| usage(BAD_TARGET))?;
        let place = self.fleet.find(id).ok_or_else(|| not_watched(id))?;
        if self.fed_for.is_fenced {
            return Err(refusal(FENCED));
        }
        if self.paused {
            return Err(refusal(
                "the node is paused: nothing is checked until it goes on",
            ));
        }
        Ok(place)
    }

    /// Has a target checked now, for whose check nobody waits.
    pub(super) async fn trigger(&self, target: &TargetRef, by: &str) -> anyhow::Result<Value> {
        let (core, slot) = match self.place_of(target) {
            Ok(place) => place,
            Err(refused) => return Ok(refused),
        };
        let watch = SinkCommand::Watch {
            core,
            slot,
            since: self.parts.view.clock.mono(),
            reply: None,
        };
        self.check_asked(target, by, watch).await?;
        Ok(json!({ "ok": true }))
    }

    /// Tells the sink that the next check of `target` was asked for, and its core to make it.
    async fn check_asked(
        &self,
        target: &TargetRef,
        by: &str,
        watch: SinkCommand,
    ) -> anyhow::Result<()> {
        let Some(id) = target.id() else {
            return Ok(());
        };
        send(&self.parts.sink.commands, watch, "the sink").await?;
        self.fleet.check_now(id).await?;
        let by = match operator::cleaned(by) {
            name if name.is_empty() => name,
            name => format!(" by {name}"),
        };
        self.parts.view.note("trigger", format!("target {id}{by}"));
        Ok(())
    }

    /// What memory knows of a target; an unwatched one is no refusal.
    pub(super) async fn look_at(&self, target: &TargetRef) -> anyhow::Result<Value> {
        let Some(id) = target.id() else {
            return Ok(usage(BAD_TARGET));
        };
        let Some((core, slot)) = self.fleet.find(id) else {
            return Ok(json!({ "ok": true, "watched": false }));
        };
        let (reply, answer) = oneshot::channel();
        let look = SinkCommand::Look { core, slot, reply };
        send(&self.parts.sink.commands, look, "the sink").await?;
        Ok(match tokio::time::timeout(LOOKED, answer).await {
            Ok(Ok(Some(look))) => seen(&look, self.parts.view.clock.now().unix.0),
            _ => json!({ "ok": true, "watched": false }),
        })
    }
}

/// The answer to a close.
pub(crate) fn closed(id: FactId, target: TargetId, stored: bool) -> Value {
    json!({
        "ok": true,
        "event": json_id(id.get()),
        "target": json_id(target.get()),
        "stored": stored,
    })
}

fn usage(sentence: &str) -> Value {
    let mut refused = refusal(sentence);
    refused["usage"] = json!(true);
    refused
}

fn not_watched(id: TargetId) -> Value {
    usage(&format!("no active target has the id {id}"))
}

fn seen(look: &Look, now_ms: u64) -> Value {
    json!({
        "ok": true,
        "watched": true,
        "state": look.state.as_str(),
        "suspected": look.is_suspected,
        "known": look.is_known,
        "last_checked_at_ms": look.checked_ms.map(|age_ms| now_ms.saturating_sub(age_ms)),
        "next_check_at_ms": look.next_check.0,
        "maintenance": look.maintenance,
    })
}

/// The result of a check, as `ringwatch check` tells it, with the state of the target after it.
async fn result(store: &store::Store, target: &TargetRef, watched: &Watched) -> Value {
    let Watched {
        outcome, evidence, ..
    } = watched;
    let evidence = evidence.as_deref().cloned().unwrap_or_default();
    let found = match target.id() {
        Some(id) => crate::targets::show::find(store, id).await,
        None => Ok(None),
    };
    let Ok(Some(target)) = found else {
        return refusal("the check is done, but the store does not tell its target just now");
    };
    let mut answer = check::object(&target, outcome, &evidence);
    answer["ok"] = json!(true);
    answer["target"] = json_id(target.id.get());
    answer["line"] = json!(check::line(&target, outcome, &evidence));
    answer["code"] = json!(check::code(outcome.verdict()));
    answer["state"] = json!(watched.state.as_str());
    answer["suspected"] = json!(watched.is_suspected);
    answer
}
