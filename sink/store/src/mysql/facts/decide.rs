//! What becomes of a batch: every fact in its order against the rows that were read. Pure: it asks
//! nobody, and what it decides is written afterwards.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use model::UnixMs;
use model::fact::{CheckType, Event, Fact, Job, State, Transition};

use crate::answer::Applied;

/// Characters of the columns that are text of others: who did it, and what tells events apart.
const TEXT_MAX: usize = 255;

/// A row of the events as it is read: id, target, check type, discriminator, state, whether it
/// has ended, fail count.
pub(super) type StoredEvent = (i64, i64, String, Option<String>, String, bool, u32);

/// What is known of one event.
struct Known {
    target: i64,
    key: String,
    is_http: bool,
    state: Option<State>,
    ended: bool,
    fail_count: u32,
}

impl Known {
    /// An event that is not stored yet.
    fn new(event: &Event) -> Self {
        Self {
            target: event.target.get(),
            key: identity(event),
            is_http: event.check_type == CheckType::Http,
            state: None,
            ended: false,
            fail_count: 0,
        }
    }
}

/// What is written of one event that had a transition: identity and start of its first fact, which
/// stay where the row is there already, and the rest of its last one.
#[derive(Clone, Copy)]
pub(super) struct EventChange<'a> {
    pub(super) first: &'a Event,
    pub(super) last: &'a Event,
    pub(super) fail_count: u32,
    pub(super) updated_at: UnixMs,
}

/// The rows as read, what the facts made of them, and what is to be written.
#[derive(Default)]
pub(super) struct Decided<'a> {
    events: HashMap<i64, Known>,
    open_by_key: HashMap<String, i64>,
    by_target: HashMap<i64, Vec<i64>>,
    /// Ids of transitions that are there.
    pub(super) transitions: HashSet<i64>,
    pub(super) projection: Projection,
    /// New transitions with their jobs.
    pub(super) new: Vec<(&'a Event, &'a Transition, &'a Job)>,
    changes: BTreeMap<i64, EventChange<'a>>,
    counts: BTreeMap<i64, u32>,
    /// Without the jobs: the server counts them.
    pub(super) applied: Applied,
}

impl<'a> Decided<'a> {
    /// Takes note of a row.
    pub(super) fn knows_event(&mut self, row: StoredEvent) {
        let (id, target, check_type, discriminator, state, ended, fail_count) = row;
        let known = Known {
            target,
            key: key(target, &check_type, discriminator.as_deref()),
            is_http: check_type == CheckType::Http.as_str(),
            state: State::from_word(&state),
            ended,
            fail_count,
        };
        self.keep(id, known);
    }

    /// Whether a row of the event was read.
    pub(super) fn has_event(&self, id: i64) -> bool {
        self.events.contains_key(&id)
    }

    fn keep(&mut self, id: i64, known: Known) {
        if self.events.contains_key(&id) {
            return;
        }
        if !known.ended {
            self.open_by_key.insert(known.key.clone(), id);
        }
        self.by_target.entry(known.target).or_default().push(id);
        self.events.insert(id, known);
    }

    /// Decides one fact.
    pub(super) fn take(&mut self, fact: &'a Fact) {
        match fact {
            Fact::Counted {
                event, fail_count, ..
            } => self.counted(event.get(), *fail_count),
            Fact::Transitioned {
                event,
                transition,
                job,
            } => self.transitioned(event, transition, job),
        }
    }

    fn counted(&mut self, id: i64, fail_count: u32) {
        match self.events.get_mut(&id) {
            Some(event) if !event.ended && event.fail_count < fail_count => {
                event.fail_count = fail_count;
                self.counts.insert(id, fail_count);
                self.applied.counted += 1;
            }
            _ => self.applied.skipped += 1,
        }
    }

    fn transitioned(&mut self, event: &'a Event, transition: &'a Transition, job: &'a Job) {
        let id = event.id.get();
        let own = self.events.get(&id);
        if self.transitions.contains(&transition.id.get()) || own.is_some_and(|own| own.ended) {
            self.applied.skipped += 1;
            return;
        }
        let new = own.is_none().then(|| Known::new(event));
        let holder = own.or(new.as_ref()).map(|known| &known.key);
        let holder = holder.and_then(|key| self.open_by_key.get(key));
        if event.ended_at.is_none() && holder.is_some_and(|holder| *holder != id) {
            self.applied.conflicts.push(event.id);
            return;
        }
        self.applied.transitions += 1;
        self.transitions.insert(transition.id.get());
        self.new.push((event, transition, job));
        if let Some(new) = new {
            self.keep(id, new);
        }
        self.change(event, transition.changed_at);
        if event.check_type == CheckType::Http {
            self.project(event.target.get(), transition.changed_at);
        }
    }

    fn change(&mut self, event: &'a Event, at: UnixMs) {
        let id = event.id.get();
        let Some(known) = self.events.get_mut(&id) else {
            return;
        };
        known.state = Some(event.state);
        known.fail_count = known.fail_count.max(event.fail_count);
        known.ended = event.ended_at.is_some();
        if known.ended && self.open_by_key.get(&known.key) == Some(&id) {
            self.open_by_key.remove(&known.key);
        }
        let change = self.changes.entry(id).or_insert(EventChange {
            first: event,
            last: event,
            fail_count: 0,
            updated_at: at,
        });
        change.last = event;
        change.updated_at = at;
    }

    /// The legacy status of a target: Down before Seems Down before up, whichever events are open.
    fn project(&mut self, target: i64, at: UnixMs) {
        let ids = self.by_target.get(&target).into_iter().flatten();
        let open = ids
            .filter_map(|id| self.events.get(id))
            .filter(|event| event.is_http && !event.ended);
        let (mut down, mut seems_down) = (false, false);
        for event in open {
            down |= event.state == Some(State::Down);
            seems_down |= event.state == Some(State::SeemsDown);
        }
        let state = match (down, seems_down) {
            (true, _) => State::Down,
            (false, true) => State::SeemsDown,
            (false, false) => State::Up,
        };
        let status = i64::from(state.legacy_status());
        self.projection.take(target, status, at);
    }

    /// Events to write, those that ended first: an identity is free before it is taken again.
    pub(super) fn changes(&self) -> impl Iterator<Item = EventChange<'a>> {
        let all = || {
            self.changes.iter().map(|(id, change)| EventChange {
                fail_count: self.events.get(id).map_or(0, |known| known.fail_count),
                ..*change
            })
        };
        let ended = all().filter(|change| change.last.ended_at.is_some());
        ended.chain(all().filter(|change| change.last.ended_at.is_none()))
    }

    /// Ids and fail counts of events that had no transition.
    pub(super) fn counts(&self) -> impl Iterator<Item = (i64, [i64; 1])> {
        let alone = |(id, _): &(&i64, &u32)| !self.changes.contains_key(*id);
        let counts = self.counts.iter().filter(alone);
        counts.map(|(id, count)| (*id, [i64::from(*count)]))
    }
}

/// What becomes of the statuses of targets: the same for every table that has them.
#[derive(Default)]
pub(super) struct Projection {
    by_target: BTreeMap<i64, Status>,
}

/// The last status of a target in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    /// As the legacy table has it.
    value: i64,
    /// Since when, in ms.
    since: i64,
    /// It was another one before, in the same batch: it is written whatever is there. A status that
    /// did not change is written only where another one is.
    is_changed: bool,
}

impl Projection {
    fn take(&mut self, target: i64, status: i64, at: UnixMs) {
        let now = Status {
            value: status,
            since: at.0 as i64,
            is_changed: false,
        };
        match self.by_target.entry(target) {
            Entry::Vacant(place) => {
                place.insert(now);
            }
            Entry::Occupied(mut known) if known.get().value != status => {
                known.insert(Status {
                    is_changed: true,
                    ..now
                });
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Targets with their status, and since when in the unit of the column, by id; which of the two
    /// kinds, see [`Status::is_changed`].
    pub(super) fn statuses(
        &self,
        is_changed: bool,
        ms_per_unit: i64,
    ) -> impl Iterator<Item = (i64, [i64; 2])> {
        let of_kind = move |(_, known): &(_, &Status)| known.is_changed == is_changed;
        // A change is never later than it was.
        let row = move |(target, known): (&i64, &Status)| {
            (*target, [known.value, known.since / ms_per_unit])
        };
        self.by_target.iter().filter(of_kind).map(row)
    }
}

/// What one open event of a target may be about, as the database writes it.
fn identity(event: &Event) -> String {
    let discriminator = event.discriminator.as_deref().map(within);
    key(event.target.get(), event.check_type.as_str(), discriminator)
}

/// The database ignores blanks at the end when it compares.
fn key(target: i64, check_type: &str, discriminator: Option<&str>) -> String {
    let text = format!(
        "{target}:{check_type}:{}",
        discriminator.unwrap_or_default()
    );
    text.trim_end_matches(' ').to_owned()
}

/// As much of `text` as a column takes.
pub(super) fn within(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_MAX).map(|(at, _)| at);
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "\u{fc}".repeat(300);
        assert_eq!(within(&long).chars().count(), TEXT_MAX);
        assert_eq!(within("local"), "local");
        assert_eq!(key(7, "http", Some("a ")), "7:http:a");
    }
}
