//! What operators ask of single targets and events.

use incident::{Context, Effect, Incident, Input, step};
use model::fact::{CheckType, State};
use model::limits::SUSPECT_RECHECK_MS;
use model::outcome::flags;
use model::{Belief, FactId, Now};

use super::Sink;
use super::commands::subject_of;
use crate::apply::FactStore;
use crate::handle::{Look, Watched};
use crate::incidents::Key;
use crate::start::Resumed;

impl<S: FactStore> Sink<S> {
    /// Closes an open event; whether there is one of that id.
    pub(super) fn close_event(&mut self, event: FactId, by: String, now: Now) -> bool {
        if let Some((key, check_type)) = self.incidents.find_event(event) {
            self.step(key, Input::Closed { check_type, by }, now);
            return true;
        }
        let Some(resumed) = self.incidents.claim_event(event) else {
            return false;
        };
        let check_type = resumed.event.check_type;
        self.end_unseated(resumed, Input::Closed { check_type, by }, now);
        true
    }

    /// Ends an event whose target has no slot: neither memory nor a core has anything to learn.
    pub(super) fn end_unseated(&mut self, resumed: Resumed, end: Input, now: Now) {
        let Resumed { event, transitions } = resumed;
        let mut context = Context {
            policy: self.policy,
            subject: subject_of(&event),
            belief: Belief::default(),
            known_good: None,
            previous: None,
            vouched: self.pressure.vouched(),
            now,
            calendar: self.calendar.at(now.mono),
            ids: &mut self.mint,
        };
        let resume = Input::Resume { event, transitions };
        let (resumed, _) = step(Incident::default(), resume, &mut context);
        let (_, effects) = step(resumed, end, &mut context);
        for effect in effects {
            if let Effect::Write(fact) = effect {
                self.facts.push(fact, now.mono);
            }
        }
    }

    /// What memory knows of the target in `key`.
    pub(super) fn look_at(&self, key: Key, now: Now) -> Option<Look> {
        let slots = &self.slots[usize::from(key.core)];
        let tenant = slots.tenant(key.slot)?;
        let incident = self.incidents.get(key);
        let who = (tenant.target, tenant.group_id);
        let calendar = self.calendar.at(now.mono);
        let window = self.windows.of_target(who, tenant.maintenance, calendar);
        let checked_ms = slots.age_ms(key.slot, now.mono);
        let grid = slots.next_due(key.slot, now.unix)?;
        let unconfirmed = incident.is_suspected() || incident.http_state() == State::SeemsDown;
        let soon = checked_ms.filter(|_| unconfirmed).map(|age_ms| {
            let left_ms = u64::from(SUSPECT_RECHECK_MS).saturating_sub(age_ms);
            now.unix.plus_ms(left_ms)
        });
        Some(Look {
            state: incident.state(),
            is_suspected: incident.is_suspected(),
            is_known: !slots.is_not_known(key.slot),
            checked_ms,
            next_check: soon.map_or(grid, |soon| soon.min(grid)),
            maintenance: window.filter(|span| span.is_active(calendar)),
        })
    }

    /// Looks for checks that somebody waits for, before they are booked.
    pub(super) fn see_watched(&mut self, now: Now) {
        if self.watches.is_empty() {
            return;
        }
        for (number, core) in self.cores.iter().enumerate() {
            for outcome in &core.batch {
                if !outcome.has(flags::SLOT_RELEASED) {
                    let shelf = |core, outcome: &_| self.evidence.look(core, outcome);
                    self.watches.see(number as u16, outcome, now.mono, shelf);
                }
            }
        }
    }

    /// Tells those who waited, once what they waited for is stepped.
    pub(super) fn answer_watches(&mut self) {
        let incidents = &self.incidents;
        self.watches.answer(|key, outcome, evidence| {
            let incident = incidents.get(key);
            Watched {
                outcome,
                evidence,
                state: incident.state(),
                is_suspected: incident.is_suspected(),
            }
        });
    }

    /// Targets inside of a maintenance window.
    pub(super) fn in_maintenance(&self, now: Now) -> u64 {
        let calendar = self.calendar.at(now.mono);
        let active = self.windows.active(calendar);
        let cores = self.slots.iter();
        cores
            .map(|slots| slots.in_maintenance(&active, calendar))
            .sum()
    }
}

impl crate::incidents::Incidents {
    /// Where the open event is, and what it is about. It looks at every incident.
    fn find_event(&self, event: FactId) -> Option<(Key, CheckType)> {
        self.keys().find_map(|key| {
            let incident = self.get_ref(key)?;
            let found = incident.open_events().find(|open| open.id == event)?;
            Some((key, found.check_type))
        })
    }
}
