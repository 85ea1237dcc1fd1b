//! `targets show`: one target with its state, from the store and, where it runs, from the memory of
//! its node.

use model::fact::{Event, State};
use model::target::Maintenance;
use model::{Target, TargetId, UnixMs};
use serde_json::{Value, json};
use store::{EventFilter, FreshnessRow, PausedTarget, Store};

use super::list;
use super::state::{self, Facts, Standing};
use crate::events;
use crate::exit::bad_input;
use crate::operate;
use crate::windows::occurrences::{Occurrences, at};

/// Closed events that are looked at for the last end.
const ENDED_LOOKED_AT: usize = 20;

/// The target `id`, active or not.
pub(crate) async fn find(store: &Store, id: TargetId) -> anyhow::Result<Option<Target>> {
    let mut found = store.targets_by_ids(vec![id]).await?;
    if let Some((_, error)) = found.refused.first() {
        return bad_input(format!("the target {id} in the store is refused: {error}"));
    }
    Ok(found.targets.pop())
}

/// Everything about one target.
pub(crate) struct Shown {
    target: Target,
    paused: Option<PausedTarget>,
    window: Option<Maintenance>,
    open: Vec<Event>,
    last_ended: Option<UnixMs>,
    freshness: Option<FreshnessRow>,
    /// The answer of the node to `look`.
    node: Option<Value>,
}

impl Shown {
    /// Reads what the store has of `id`; `node` is what its node says of it, if one runs.
    pub(crate) async fn read(
        store: &Store,
        id: TargetId,
        node: Option<Value>,
        now: UnixMs,
    ) -> anyhow::Result<Self> {
        let Some(target) = find(store, id).await? else {
            return bad_input(operate::absent(id));
        };
        let filter = EventFilter {
            target: Some(id),
            limit: ENDED_LOOKED_AT,
            ..EventFilter::default()
        };
        let newest = store.events(&filter).await?;
        Ok(Self {
            paused: store.paused_targets(Some(id)).await?.pop(),
            window: window(store, &target, now).await?,
            open: operate::open_events(store, id).await?,
            last_ended: newest.iter().filter_map(|event| event.ended_at).max(),
            freshness: store.freshness(id).await?,
            node: node.filter(|node| node["watched"] == true),
            target,
        })
    }

    fn node_says(&self, key: &str) -> Option<u64> {
        self.node.as_ref().and_then(|node| node[key].as_u64())
    }

    fn last_checked(&self) -> Option<UnixMs> {
        let known = self.node_says("last_checked_at_ms").map(UnixMs);
        known.or(self.freshness.map(|row| row.last_checked))
    }

    fn is_known(&self) -> bool {
        self.node.as_ref().is_none_or(|node| node["known"] != false)
    }

    pub(crate) fn standing(&self) -> Standing {
        state::derive(&Facts {
            paused_at: self.paused.as_ref().map(|paused| paused.at),
            is_inactive: !self.target.active,
            window: self.window,
            open: &self.open,
            is_unknown: !self.is_known(),
            last_checked: self.last_checked(),
            last_ended: self.last_ended,
        })
    }

    /// The target as one object.
    pub(crate) fn object(&self) -> Value {
        let (state, since) = self.standing();
        let url = self.target.config.check.to_string();
        let open = self.open.iter();
        let mut object = list::object(&self.target);
        object["state"] = json!(state.as_str());
        object["since_ms"] = json!(since.map(|since| since.0));
        object["paused"] = json!(self.paused.as_ref().map(|paused| json!({
            "by": paused.by, "at_ms": paused.at.0,
        })));
        object["in_maintenance"] = json!(self.window);
        object["last_checked_at_ms"] = json!(self.last_checked().map(|at| at.0));
        object["known"] = json!(self.is_known());
        object["suspected"] = json!(self.node.as_ref().map(|node| node["suspected"] == true));
        object["next_check_at_ms"] = json!(self.node_says("next_check_at_ms"));
        let events = open.map(|event| events::object(event, Some(&url), &[]));
        object["open_events"] = events.collect();
        object
    }

    /// The target as people read it.
    pub(crate) fn text(&self) -> String {
        let (state, since) = self.standing();
        let when = |instant: Option<UnixMs>| {
            instant.map_or_else(|| "-".to_owned(), |instant| at(instant).to_string())
        };
        let Target { id, config, .. } = &self.target;
        let since = match (state, since) {
            (State::Unknown, _) => format!("not known since {}", when(since)),
            (State::Paused, None) => "no list has it any more".to_owned(),
            _ => format!("since {}", when(since)),
        };
        let mut lines = vec![
            format!("target      {id}  {}", config.check),
            format!("state       {state}, {since}"),
            format!("last check  {}", when(self.last_checked())),
        ];
        if let Some(paused) = &self.paused {
            lines.push(format!("paused      by {}", paused.by));
        }
        if let Some(window) = self.window {
            lines.push(format!(
                "maintenance until {}",
                when(Some(UnixMs(window.end_ms)))
            ));
        }
        match self.node_says("next_check_at_ms") {
            Some(ms) => lines.push(format!("next check  {}", when(Some(UnixMs(ms))))),
            None => lines.push("next check  no running node has it".to_owned()),
        }
        let url = config.check.to_string();
        let open = self.open.iter();
        lines.extend(open.map(|event| format!("open        {}", events::line(event, Some(&url)))));
        lines.join("\n")
    }
}

/// The window that `target` is in at `now`: of several the one that ends last.
async fn window(
    store: &Store,
    target: &Target,
    now: UnixMs,
) -> anyhow::Result<Option<Maintenance>> {
    let windows = Occurrences::at(&store.windows().await?.rows, now);
    Ok(windows.of_target(target, now))
}
