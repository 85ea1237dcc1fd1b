//! Incident states of the targets that are not clean, in two layers: what is durable, and what was
//! decided since the last sync. Memory advances only when the journal has it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::mem;

use incident::{Expiry, Incident};
use model::fact::State;
use model::inbox::Cadence;
use model::{FactId, Generation, MonoUs, Slot, TargetId};

use crate::start::{Open, Resumed};

/// A slot of a core: the number of its link, and the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) core: u16,
    pub(crate) slot: u32,
}

/// A cadence that a core is told once the decision behind it is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) core: u16,
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    pub(crate) cadence: Cadence,
}

/// Targets by state, over what is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) seems_down: u64,
    pub(crate) down: u64,
    pub(crate) suspected: u64,
    /// Neither of these, with an incident that is worth so much.
    pub(crate) degraded: u64,
    pub(crate) warning: u64,
    /// Of all these, those that wait for confirmation in vain.
    pub(crate) unconfirmed: u64,
}

impl Tally {
    fn add(&mut self, incident: &Incident) {
        if let Some(count) = self.of(incident) {
            *count += 1;
        }
        self.unconfirmed += u64::from(incident.is_unconfirmed());
    }

    fn take(&mut self, incident: &Incident) {
        if let Some(count) = self.of(incident) {
            *count -= 1;
        }
        self.unconfirmed -= u64::from(incident.is_unconfirmed());
    }

    fn of(&mut self, incident: &Incident) -> Option<&mut u64> {
        match incident.http_state() {
            State::SeemsDown => Some(&mut self.seems_down),
            State::Down => Some(&mut self.down),
            _ if incident.is_suspected() => Some(&mut self.suspected),
            _ => match incident.state() {
                State::Degraded => Some(&mut self.degraded),
                State::Warning => Some(&mut self.warning),
                _ => None,
            },
        }
    }
}

/// Incident states by slot.
#[derive(Debug)]
pub(crate) struct Incidents {
    durable: HashMap<Key, Incident>,
    staged: HashMap<Key, Incident>,
    commands: Vec<Command>,
    /// When somebody wants a tick, soonest first. What changed its mind meanwhile is ticked in
    /// vain.
    wakes: BinaryHeap<Reverse<(MonoUs, Key)>>,
    /// Open events whose target has not been registered.
    unclaimed: Open,
    /// Once everything is loaded: whose unclaimed events stay open. `None` again when all others
    /// were taken.
    keep: Option<HashSet<TargetId>>,
    tally: Tally,
}

impl Incidents {
    pub(crate) fn new(unclaimed: Open) -> Self {
        Self {
            durable: HashMap::new(),
            staged: HashMap::new(),
            commands: Vec::new(),
            wakes: BinaryHeap::new(),
            unclaimed,
            keep: None,
            tally: Tally::default(),
        }
    }

    /// The newest state of `key`; a slot without one is clear.
    pub(crate) fn get(&self, key: Key) -> Incident {
        self.newest(key).cloned().unwrap_or_default()
    }

    /// As [`Incidents::get`], where one is kept.
    pub(crate) fn get_ref(&self, key: Key) -> Option<&Incident> {
        self.newest(key)
    }

    fn newest(&self, key: Key) -> Option<&Incident> {
        self.staged.get(&key).or_else(|| self.durable.get(&key))
    }

    /// Whether a state is kept for `key`.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.staged.contains_key(&key) || self.durable.contains_key(&key)
    }

    /// Whether the target in `key` is known to fail: it has an open event, confirmed or not.
    pub(crate) fn is_failing(&self, key: Key) -> bool {
        let incident = self.newest(key);
        incident.is_some_and(|incident| incident.http_state() != State::Up)
    }

    /// Everybody for whom a state is kept.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.durable.keys().chain(self.staged.keys()).copied()
    }

    /// Keeps a decided state until [`Incidents::advance`].
    pub(crate) fn stage(&mut self, key: Key, incident: Incident) {
        let wakes_at = incident.wakes_at();
        if let Some(at) = wakes_at
            && self.newest(key).and_then(Incident::wakes_at) != wakes_at
        {
            self.wakes.push(Reverse((at, key)));
        }
        self.staged.insert(key, incident);
    }

    /// Whether something was decided that is not the state yet.
    pub(crate) fn is_ahead(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Keeps a decided command until [`Incidents::advance`].
    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Forgets the commands of a slot whose target has gone.
    pub(crate) fn forget_commands(&mut self, key: Key) {
        self.commands
            .retain(|command| (command.core, command.slot.0) != (key.core, key.slot));
    }

    /// Everything that was decided is durable: it becomes the state. Visits every slot that
    /// changed, with what a healthy check must say now to change nothing; returns the commands to
    /// send.
    pub(crate) fn advance(&mut self, mut visit: impl FnMut(Key, Option<Expiry>)) -> Vec<Command> {
        for (key, incident) in mem::take(&mut self.staged) {
            let (clear, rest) = (incident.is_clear(), incident.rest());
            self.tally.add(&incident);
            let before = if clear {
                self.durable.remove(&key)
            } else {
                self.durable.insert(key, incident)
            };
            if let Some(before) = before {
                self.tally.take(&before);
            }
            visit(key, rest);
        }
        mem::take(&mut self.commands)
    }

    /// The next slot that wanted a tick by `now`.
    pub(crate) fn next_due(&mut self, now: MonoUs) -> Option<Key> {
        let &Reverse((at, key)) = self.wakes.peek()?;
        (at <= now).then(|| self.wakes.pop())?;
        Some(key)
    }

    /// Whether somebody wants a tick by `at`.
    pub(crate) fn wakes_by(&self, at: MonoUs) -> bool {
        self.wakes
            .peek()
            .is_some_and(|&Reverse((wake, _))| wake <= at)
    }

    /// The open events of `target` from before the start, the first time they are asked for.
    pub(crate) fn claim(&mut self, target: TargetId) -> Vec<Resumed> {
        self.unclaimed.remove(&target).unwrap_or_default()
    }

    /// Takes one open event from before the start whose target has not been registered.
    pub(crate) fn claim_event(&mut self, event: FactId) -> Option<Resumed> {
        let of = |open: &Vec<Resumed>| open.iter().position(|resumed| resumed.event.id == event);
        let mut found = self.unclaimed.iter_mut();
        let (&target, open) = found.find(|(_, open)| of(open).is_some())?;
        let resumed = open.remove(of(open)?);
        if open.is_empty() {
            self.unclaimed.remove(&target);
        }
        Some(resumed)
    }

    /// Nobody will claim an event any more, except of the targets in `keep`.
    pub(crate) fn abandon_all_but(&mut self, keep: HashSet<TargetId>) {
        self.keep = Some(keep);
    }

    /// Takes the events of up to `max` targets that nobody will claim, by id.
    pub(crate) fn take_abandoned(&mut self, max: usize) -> Vec<Resumed> {
        let Some(keep) = &self.keep else {
            return Vec::new();
        };
        let abandoned = self
            .unclaimed
            .extract_if(|target, _| !keep.contains(target));
        let abandoned: Vec<Vec<Resumed>> = abandoned.take(max).map(|(_, open)| open).collect();
        let is_all = abandoned.len() < max;
        let mut taken: Vec<Resumed> = abandoned.into_iter().flatten().collect();
        if is_all {
            self.keep = None;
        }
        taken.sort_unstable_by_key(|resumed| resumed.event.id);
        taken
    }

    /// Open events that nobody claimed.
    pub(crate) fn unclaimed(&self) -> usize {
        self.unclaimed.values().map(Vec::len).sum()
    }

    /// Targets by state.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}
