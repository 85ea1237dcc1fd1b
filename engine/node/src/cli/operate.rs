//! Commands of operators: through the node when it runs, else straight into the store under the
//! node's locks.

use std::process::ExitCode;

use cores::Clock;
use model::fact::State;
use model::{FactId, TargetId};
use serde_json::{Value, json};
use store::{OpenOptions, Store};

use super::commands::{
    audit_row, look, note, read, require_same_store, runtime, store_at_rest, write_note,
};
use super::flags::{NodeFlags, PlaceFlags};
use super::{EventsCommand, MaintenanceCommand};
use crate::config::Config;
use crate::control::client::Client;
use crate::control::lock::{self, Taken};
use crate::control::{Request, TargetRef, store_lock};
use crate::events;
use crate::exit::bad_input;
use crate::json_ids::json_id;
use crate::operate::{self, Hand};
use crate::operator;
use crate::out::{self, Out};
use crate::run::audit;
use crate::targets::show::Shown;
use crate::targets::state;
use crate::windows::list;

/// A node that may be asked, or a store that is ours for this command.
fn through<T>(
    place: &PlaceFlags,
    node: impl FnOnce(&mut Client) -> anyhow::Result<T>,
    directly: impl AsyncFnOnce(&Config, &Store, Hand) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut config = read(&place.config, place.values())?.0;
    match lock::take(&config.data_dir)? {
        Taken::Held { pid } => {
            let Some(mut client) = Client::connect(&config.data_dir) else {
                anyhow::bail!(lock::in_use(&config.data_dir, pid));
            };
            require_same_store(&config, &mut client)?;
            node(&mut client)
        }
        Taken::Ours(lock) => {
            // From here on it is the store of this command, whoever named it.
            config.store = store_at_rest(&config)?;
            let store_lock = store_lock::take_or_refuse(&config.store, &config.data_dir)?;
            let hand = Hand {
                by: operator::name(),
                now: Clock::start().now().unix,
            };
            let done = runtime()?.block_on(async {
                // A store that is not there holds nothing to operate on.
                let options = OpenOptions {
                    create: false,
                    ..OpenOptions::default()
                };
                let store = Store::open_with(&config.store, config.opening(options)).await?;
                let done = directly(&config, &store, hand).await;
                store.close().await?;
                done
            });
            drop((store_lock, lock));
            done
        }
    }
}

/// The running node of the place, if one runs there.
fn running(place: &PlaceFlags) -> anyhow::Result<Option<Client>> {
    let config = read(&place.config, place.values())?.0;
    let Some(mut client) = Client::connect(&config.data_dir) else {
        return Ok(None);
    };
    Ok(require_same_store(&config, &mut client)
        .is_ok()
        .then_some(client))
}

fn target_ref(id: TargetId) -> TargetRef {
    TargetRef::Text(id.to_string())
}

/// The id of a target on the command line.
pub(super) fn target_id(raw: i64) -> anyhow::Result<TargetId> {
    match TargetId::new(raw) {
        Some(id) => Ok(id),
        None => bad_input(format!(
            "ID: found {raw}, accepted is the id of a target, from 1"
        )),
    }
}

fn event_id(raw: i64) -> anyhow::Result<FactId> {
    match FactId::new(raw) {
        Some(id) => Ok(id),
        None => bad_input(format!(
            "EVENT-ID: found {raw}, accepted is the id of an incident"
        )),
    }
}

/// The state that `--state` names.
pub(super) fn wanted_state(word: Option<&str>) -> anyhow::Result<Option<State>> {
    let Some(word) = word else { return Ok(None) };
    match state::from_word(word) {
        Some(State::Unknown) => bad_input(
            "--state: found \"unknown\", which only the memory of a running node tells: `ringwatch \
             status` counts such targets, `ringwatch targets show ID` says it of one",
        ),
        Some(state) => Ok(Some(state)),
        None => {
            let states = State::ALL.iter().copied();
            let states = states.filter(|it| !matches!(it, State::Resolved | State::Unknown));
            let words: Vec<String> = states.map(state::word).collect();
            let hint = model::suggest::hint(word, words.iter().map(String::as_str));
            bad_input(format!(
                "--state: found {word:?}, accepted is one of {}{hint}",
                words.join(", ")
            ))
        }
    }
}

/// `targets pause` and `targets resume`.
pub(super) fn switch(raw: i64, on: bool, place: &PlaceFlags) -> anyhow::Result<ExitCode> {
    let id = target_id(raw)?;
    let ask = |node: &mut Client| {
        let by = operator::name();
        let target = target_ref(id);
        node.ask(&Request::PauseTarget { target, on, by }, None)
            .map(|_| true)
    };
    let is_closed = through(place, ask, async |config, store, hand| {
        operate::switch(store, id, on, &hand).await?;
        let word = if on { "pause" } else { "resume" };
        note(store, word, format!("target {id} by {}", hand.by)).await;
        if on {
            return operate::close_paused(config, store, id, &hand.by).await;
        }
        Ok(true)
    })?;
    out::line(match (on, is_closed) {
        (true, true) => {
            format!("the target {id} is paused: it is not checked, and its incidents are closed")
        }
        (true, false) => format!(
            "the target {id} is paused: the node that has the lease stops checking it and closes \
             its incidents as soon as it sees that, within a minute"
        ),
        (false, _) => format!("the target {id} is resumed: a running node checks it again"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `targets check`.
pub(super) fn check(raw: i64, as_json: bool, flags: &NodeFlags) -> anyhow::Result<ExitCode> {
    let target = target_ref(target_id(raw)?);
    let request = Request::Trigger {
        target,
        wait: true,
        by: operator::name(),
    };
    let mut answer = super::commands::connect(flags)?.ask(&request, None)?;
    let code = u8::try_from(super::commands::number(&answer["code"])).unwrap_or(1);
    if as_json {
        for inner in ["ok", "line", "code"] {
            answer.as_object_mut().map(|object| object.remove(inner));
        }
        out::line(answer)?;
    } else {
        let state = answer["state"].as_str().unwrap_or("-");
        let line = answer["line"].as_str().unwrap_or_default();
        let suspected = if answer["suspected"] == true {
            ", but suspected: it is checked again soon"
        } else {
            ""
        };
        out::line(format_args!(
            "{line}\n         the target is {state}{suspected}"
        ))?;
    }
    Ok(ExitCode::from(code))
}

/// `targets show`.
pub(super) fn show(raw: i64, as_json: bool, place: &PlaceFlags) -> anyhow::Result<ExitCode> {
    let id = target_id(raw)?;
    let node = match running(place)? {
        Some(mut node) => {
            let target = target_ref(id);
            node.ask(&Request::Look { target }, Some(super::commands::ANSWER))
                .ok()
        }
        None => None,
    };
    let now = Clock::start().now().unix;
    look(place, async |store: &Store, out: &mut Out| {
        let shown = Shown::read(store, id, node, now).await?;
        if as_json {
            out.line(shown.object());
        } else {
            out.line(shown.text());
        }
        Ok(())
    })
}

/// `events show`, `events follow` and `events close`.
pub(super) fn of_event(command: EventsCommand) -> anyhow::Result<ExitCode> {
    match command {
        EventsCommand::Show { id, json, place } => {
            let id = event_id(id)?;
            look(&place, async |store: &Store, out: &mut Out| {
                events::show(store, id, json, out).await
            })
        }
        EventsCommand::Follow { after, json, place } => {
            let after = after.map(event_id).transpose()?;
            look(&place, async |store: &Store, out: &mut Out| {
                events::follow::run(store, after, json, out).await
            })
        }
        EventsCommand::Close { id, reason, place } => close(event_id(id)?, &reason, &place),
        EventsCommand::List { .. } => bad_input("a list is not asked for here"),
    }
}

fn close(id: FactId, reason: &str, place: &PlaceFlags) -> anyhow::Result<ExitCode> {
    let reason = operate::reason(reason)?;
    let ask = |node: &mut Client| {
        let request = Request::Close {
            event: TargetRef::Text(id.to_string()),
            reason: reason.clone(),
            by: operator::name(),
        };
        node.ask(&request, None)
    };
    let answer = through(place, ask, async |config, store, hand| {
        let open = operate::open_event(store, id).await?;
        if operate::close_at_rest(config, store, &[id], &hand.by).await? == 0 {
            return bad_input(operate::not_closed(store, id).await?);
        }
        let done = operate::closing(&open, &hand.by, &reason);
        write_note(store, audit::about(&open, audit_row("close", done))).await;
        Ok(json!({ "target": json_id(open.target.get()), "stored": true }))
    })?;
    let target = match &answer["target"] {
        Value::String(id) => id.clone(),
        other => other.to_string(),
    };
    let stored = if answer["stored"] == true {
        ""
    } else {
        "; the store does not answer just now and gets it later"
    };
    out::line(format_args!(
        "the incident {id} is closed: the target {target} is up until a check fails{stored}"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `maintenance …`.
pub(super) fn of_maintenance(command: MaintenanceCommand) -> anyhow::Result<ExitCode> {
    match command {
        MaintenanceCommand::Add(add) => {
            let window = add.window.spec();
            let ask = |node: &mut Client| {
                let by = operator::name();
                let window = window.clone();
                node.ask(&Request::AddWindow { window, by }, None)
            };
            let answer = through(&add.place, ask, async |_, store, hand| {
                let row = operate::add_window(store, &window, &hand).await?;
                let sentence = list::sentence(&row);
                note(
                    store,
                    "maintenance",
                    format!("added by {}: {sentence}", hand.by),
                )
                .await;
                Ok(json!({ "window": list::object(&row, hand.now), "sentence": sentence }))
            })?;
            said("added: ", &answer, add.json)
        }
        MaintenanceCommand::Remove { id, json, place } => {
            let ask = |node: &mut Client| {
                let by = operator::name();
                node.ask(&Request::RemoveWindow { id, by }, None)
            };
            let answer = through(&place, ask, async |_, store, hand| {
                let removed = operate::remove_window(store, id).await?;
                let sentence = removed.sentence();
                note(
                    store,
                    "maintenance",
                    format!("removed by {}: {sentence}", hand.by),
                )
                .await;
                Ok(json!({ "window": removed.object(hand.now), "sentence": sentence }))
            })?;
            said("removed: ", &answer, json)
        }
        MaintenanceCommand::List {
            target,
            json,
            place,
        } => {
            let target = target.map(target_id).transpose()?;
            let now = Clock::start().now().unix;
            look(&place, async |store: &Store, out: &mut Out| {
                let of = match target {
                    None => None,
                    Some(id) => match crate::targets::show::find(store, id).await? {
                        Some(found) => Some((id, found.config.group_id)),
                        None => return bad_input(operate::absent(id)),
                    },
                };
                list::write(store, of, now, json, out).await
            })
        }
    }
}

fn said(how: &str, answer: &Value, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::line(&answer["window"])?;
    } else {
        let sentence = answer["sentence"].as_str().unwrap_or_default();
        out::line(format_args!("{how}{sentence}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
