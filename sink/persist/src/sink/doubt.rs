//! How far the sink believes what it drains: failure pressure from the whole batch, before any
//! result in it is stepped, and what the operator is told. It must not know where health comes
//! from.

use incident::Stance;
use incident::pressure::{NodeIncident, Notice, Share};
use model::class::Verdict;
use model::{FailureClass, Now, Outcome};

use super::Sink;
use crate::apply::FactStore;
use crate::incidents::Key;

impl<S: FactStore> Sink<S> {
    /// Adds what was drained to the pressure, and looks at it again.
    pub(super) fn weigh_results(&mut self, now: Now) {
        let (mut drained, mut cut_off) = (Share::default(), 0);
        for (number, core) in self.cores.iter().enumerate() {
            for outcome in &core.batch {
                self.weigh(number as u16, outcome, now, &mut drained);
                cut_off += u64::from(self.is_newly_cut_off(number as u16, outcome, now));
            }
        }
        self.pressure.drained(drained, now.mono);
        self.pressure.cut_off(cut_off, now.mono);
        let not_known = self.not_known();
        for notice in self.pressure.turn(not_known, now) {
            Self::tell_operator(notice);
        }
    }

    /// What says nothing does not count, nor who is known to be down, or fails in a window: a part
    /// of the fleet that is off by choice would else be many failures for hours.
    fn weigh(&self, core: u16, outcome: &Outcome, now: Now, drained: &mut Share) {
        if outcome.class == 0 {
            drained.results += 1;
            return;
        }
        let slot = outcome.slot.0;
        let key = Key { core, slot };
        match outcome.verdict() {
            Verdict::Unknown => {}
            Verdict::Down if self.incidents.is_down(key) || self.is_maintained(key, now) => {}
            verdict => {
                drained.results += 1;
                drained.failing += u64::from(verdict == Verdict::Down);
            }
        }
    }

    /// Whether our own kernel finds no way to a target that was well at its last check. One that
    /// never had a way, such as a site with IPv6 alone where we have none, tells of no change.
    fn is_newly_cut_off(&self, core: u16, outcome: &Outcome, now: Now) -> bool {
        let slots = &self.slots[usize::from(core)];
        let slot = outcome.slot.0;
        outcome.failure() == Some(FailureClass::ConnectLocal)
            && !slots.is_not_known(slot)
            && slots.known_good(slot, now).is_some()
    }

    /// Whether there is a window for the target.
    pub(super) fn is_maintained(&self, key: Key, now: Now) -> bool {
        let tenant = self.slots[usize::from(key.core)].tenant(key.slot);
        tenant.is_some_and(|tenant| {
            let who = (tenant.target, tenant.group_id);
            self.windows.is_over(who, tenant.maintenance, now.unix)
        })
    }

    /// Targets of which the last check said nothing.
    pub(super) fn not_known(&self) -> u64 {
        self.slots.iter().map(|slots| slots.unknown() as u64).sum()
    }

    /// Says it; the incident in the store follows in the same turn.
    fn tell_operator(notice: Notice) {
        let Notice {
            incident,
            begins,
            since,
            signals,
            targets,
        } = notice;
        let signals: Vec<&str> = signals.names().collect();
        let (incident, since_unix_ms) = (incident.as_str(), since.0);
        if begins && signals == ["checks_excused"] {
            tracing::error!(
                incident,
                ?signals,
                targets,
                since_unix_ms,
                "checks go on being excused as trouble of ours, and say nothing of their targets \
                 meanwhile: this machine is too slow for its checks, or stands still now and then"
            );
        } else if begins {
            tracing::error!(
                incident,
                ?signals,
                targets,
                since_unix_ms,
                "failing checks are not believed, because the trouble may be ours: outages that \
                 begin now may be missed; see to the signals"
            );
        } else {
            tracing::info!(
                incident,
                ?signals,
                targets,
                since_unix_ms,
                "failing checks are believed again"
            );
        }
    }

    /// Gauges of it all.
    pub(super) fn publish_doubt(&mut self) {
        let (not_known, stance) = (self.not_known(), self.pressure.stance());
        let signals = self.pressure.signals();
        let counters = &mut self.ledger.counters;
        let told = |incident| u64::from(self.pressure.told(incident).is_some());
        counters.node_suppressing = told(NodeIncident::Suppressing);
        counters.node_isolated = told(NodeIncident::Isolated);
        counters.not_known = not_known;
        counters.failure_pressure = u64::from(self.pressure.is_failing());
        counters.doubting = u64::from(stance.suppresses());
        counters.deferring = u64::from(stance == Stance::Deferring);
        counters.signals = u64::from(signals.bits());
    }
}
