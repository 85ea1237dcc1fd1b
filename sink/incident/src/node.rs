//! The node's own incidents, for its operator: events like those of targets, on the same way into
//! the store, but of no target. They follow what [`Pressure`] says, and decide nothing.
//!
//! ```text
//!  told by Pressure │ open here │ what follows
//!  yes              │ no        │ opened
//!  no               │ yes       │ closed
//! ```
//!
//! What was open before a restart is open here again, and told by Pressure again for a while: so it
//! goes on where the trouble does, and is closed where it does not.

use std::borrow::Cow;

use model::fact::{CheckType, Event, Fact, Reason, State};
use model::ids::FactMint;
use model::inbox::Cadence;
use model::metadata::Suppression;
use model::{Belief, Generation, MonoUs, Now, TargetId};

use crate::effect::Effect;
use crate::event::{Birth, Desk, LOCAL, Opened, Seen};
use crate::pressure::{NodeIncident, Pressure};
use crate::step::{Context, Policy, Subject};

/// What a turn of the node's incidents may look at and draw from.
#[derive(Debug)]
pub struct NodeContext<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Targets that are not known, or wait for confirmation.
    pub affected: u64,
    /// When.
    pub now: Now,
    /// New ids.
    pub ids: &'a mut FactMint,
}

/// Open incidents of this node: one of each kind at most.
#[derive(Debug, Default)]
pub struct NodeEvents {
    open: Vec<(NodeIncident, Opened)>,
}

impl NodeEvents {
    /// Takes up an open event of [`TargetId::NODE`] from before a restart or a takeover. One of
    /// another node, whose shards are this node's now, is closed: nobody else will.
    pub fn resume(
        &mut self,
        event: Event,
        transitions: u32,
        pressure: &mut Pressure,
        context: &mut NodeContext<'_>,
    ) -> Option<Fact> {
        let incident = NodeIncident::of(event.check_type)?;
        let opened = Opened { event, transitions };
        if opened.event.discriminator.as_deref() != Some(context.node) {
            return desk(context, |desk| desk.close(opened, Reason::AutoTimeout));
        }
        pressure.resume(incident, opened.event.started_at, context.now);
        self.open.push((incident, opened));
        None
    }

    /// Opens what `pressure` tells the operator and is not open, closes what it does not tell.
    pub fn follow(&mut self, pressure: &Pressure, context: &mut NodeContext<'_>) -> Vec<Fact> {
        let facts = NodeIncident::ALL.map(|incident| self.follow_one(incident, pressure, context));
        facts.into_iter().flatten().collect()
    }

    fn follow_one(
        &mut self,
        incident: NodeIncident,
        pressure: &Pressure,
        context: &mut NodeContext<'_>,
    ) -> Option<Fact> {
        let told = pressure.told(incident);
        let place = self.open.iter().position(|(open, _)| *open == incident);
        if told.is_some() == place.is_some() {
            return None;
        }
        let targets = context.affected;
        let Some(told) = told else {
            let (_, opened) = self.open.swap_remove(place?);
            let since = opened.event.started_at;
            return desk(context, |desk| {
                desk.context.belief = pressure.belief();
                desk.seen.suppression = Some(Suppression { since, targets });
                desk.close(opened, Reason::ProbeCleared);
            });
        };
        let birth = Birth {
            check_type: incident.check_type(),
            state: incident.state(),
            started_at: told.since,
            fail_count: 0,
            class: 0,
        };
        desk(context, |desk| {
            desk.context.belief = Belief {
                signals: told.signals,
                ..pressure.belief()
            };
            let since = told.since;
            desk.seen.suppression = Some(Suppression { since, targets });
            let opened = desk.open(birth, None);
            self.open.push((incident, opened));
        })
    }
}

impl NodeIncident {
    fn of(check_type: CheckType) -> Option<Self> {
        let is_it = |incident: &Self| incident.check_type() == check_type;
        Self::ALL.into_iter().find(is_it)
    }

    fn check_type(self) -> CheckType {
        match self {
            Self::Suppressing => CheckType::NodeSuppressing,
            Self::Isolated => CheckType::NodeIsolated,
        }
    }

    /// What the node is worth meanwhile.
    fn state(self) -> State {
        match self {
            Self::Suppressing => State::Degraded,
            Self::Isolated => State::Down,
        }
    }
}

/// Does one thing with an event of the node; the fact that follows.
fn desk(context: &mut NodeContext<'_>, work: impl FnOnce(&mut Desk<'_, '_>)) -> Option<Fact> {
    let mut context_of_node = Context {
        policy: Policy {
            confirm_after: 1,
            vantages: 0,
        },
        subject: Subject {
            target: TargetId::NODE,
            group_id: 0,
            generation: Generation(0),
            interval_s: 0,
            method: None,
            maintenance: None,
        },
        belief: Belief::default(),
        known_good: None,
        previous: None,
        vouched: MonoUs(0),
        now: context.now,
        calendar: context.now.unix,
        ids: context.ids,
    };
    let mut desk = Desk {
        context: &mut context_of_node,
        effects: Vec::new(),
        source: Cow::Borrowed(LOCAL),
        seen: Seen::default(),
        discriminator: Some(context.node.to_owned()),
    };
    work(&mut desk);
    desk.schedule(Cadence::Grid);
    desk.effects.into_iter().find_map(|effect| match effect {
        Effect::Write(fact) => Some(fact),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
