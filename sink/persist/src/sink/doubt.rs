//! How far the sink believes what it drains: failure pressure from the whole batch, before any
//! result in it is stepped, and what the operator is told. It must not know where health comes
//! from.

use incident::Stance;
use incident::pressure::{Lost, NodeIncident, Notice, Share};
use model::class::Verdict;
use model::{Now, Outcome};

use super::Sink;
use crate::Signals;
use crate::apply::FactStore;
use crate::incidents::Key;
use crate::slots::{Missed, Unknown};

impl<S: FactStore> Sink<S> {
    /// Adds what was drained to the pressure, and looks at it again.
    pub(super) fn weigh_results(&mut self, now: Now) {
        let (mut drained, mut cut_off) = (Share::default(), 0);
        let mut lost = self.lost();
        for (number, core) in self.cores.iter().enumerate() {
            for outcome in &core.batch {
                self.weigh(number as u16, outcome, now, &mut drained);
                let missed = self.missed(number as u16, outcome, now);
                lost.route_missed |= missed == Some(Missed::Route);
                lost.resolver_missed |= missed == Some(Missed::Resolver);
                let is_news = !self.slots[number].is_not_known(outcome.slot.0);
                cut_off += u64::from(is_news && missed == Some(Missed::Route));
            }
        }
        self.pressure.drained(drained, now.mono);
        self.pressure.cut_off(cut_off, now.mono);
        let fleet = self
            .slots
            .iter()
            .map(|slots| slots.registered() as u64)
            .sum();
        self.pressure.lost(lost, fleet, now.mono);
        self.pressure
            .unconfirmed(self.incidents.tally().unconfirmed);
        let affected = self.affected();
        for notice in self.pressure.turn(affected, now) {
            Self::tell_operator(notice);
        }
    }

    /// What says nothing does not count, nor who is known to fail, or fails in a window: a part of
    /// the fleet that is off, or waits for verifiers that are, would else be many failures for
    /// hours.
    fn weigh(&self, core: u16, outcome: &Outcome, now: Now, drained: &mut Share) {
        if outcome.class == 0 {
            drained.results += 1;
            return;
        }
        let slot = outcome.slot.0;
        let key = Key { core, slot };
        match outcome.verdict() {
            Verdict::Unknown => {}
            Verdict::Down if self.incidents.is_failing(key) || self.is_maintained(key, now) => {}
            verdict => {
                drained.results += 1;
                drained.failing += u64::from(verdict == Verdict::Down);
            }
        }
    }

    /// What of ours the check of a target missed that was well when something was known of it. One
    /// that never had a way, such as a site with IPv6 alone where we have none, tells of no change.
    fn missed(&self, core: u16, outcome: &Outcome, now: Now) -> Option<Missed> {
        let missed = outcome.failure().and_then(Missed::of)?;
        let known_good = self.slots[usize::from(core)].known_good(outcome.slot.0, now);
        known_good.map(|_| missed)
    }

    /// Targets that are lost by now; no check says so yet.
    fn lost(&self) -> Lost {
        let unknown = self.unknown();
        Lost {
            without_route: unknown.without_route,
            without_resolver: unknown.without_resolver,
            ..Lost::default()
        }
    }

    fn unknown(&self) -> Unknown {
        let mut unknown = Unknown::default();
        self.slots
            .iter()
            .for_each(|slots| unknown += slots.unknown());
        unknown
    }

    /// Whether there is a window for the target.
    pub(super) fn is_maintained(&self, key: Key, now: Now) -> bool {
        let tenant = self.slots[usize::from(key.core)].tenant(key.slot);
        tenant.is_some_and(|tenant| {
            let who = (tenant.target, tenant.group_id);
            self.windows
                .is_over(who, tenant.maintenance, self.calendar.at(now.mono))
        })
    }

    /// Targets of which the last check said nothing.
    pub(super) fn not_known(&self) -> u64 {
        self.unknown().targets
    }

    /// The same, and those that wait for confirmation in vain.
    pub(super) fn affected(&self) -> u64 {
        self.not_known() + self.incidents.tally().unconfirmed
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
        let text = if begins {
            begun(signals)
        } else {
            over(signals)
        };
        let signals: Vec<&str> = signals.names().collect();
        let (incident, since_unix_ms) = (incident.as_str(), since.0);
        if begins {
            tracing::error!(incident, ?signals, targets, since_unix_ms, "{text}");
        } else {
            tracing::info!(incident, ?signals, targets, since_unix_ms, "{text}");
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

/// What the operator is told of trouble with these `signals`.
fn begun(signals: Signals) -> &'static str {
    let only = |told: Signals| signals.without(told).is_empty();
    let lost = Signals::NO_ROUTE
        .and(Signals::NO_RESOLVER)
        .and(Signals::CUT_OFF);
    if only(Signals::CHECKS_EXCUSED) {
        "checks go on being excused as trouble of ours, and say nothing of their targets \
         meanwhile: this machine is too slow for its checks, or stands still now and then"
    } else if only(Signals::UNCONFIRMED) {
        "failing targets are not confirmed as down, because too few verifiers say anything of \
         them: `ringwatch doctor` asks each verifier; see to those that do not answer, and to what \
         they may not check"
    } else if only(lost) {
        "targets that were well stay unknown, because this machine finds no way to them \
         (no_route) or its resolvers do not speak of their names (no_resolver): see to its \
         routes and resolvers; outages of these targets are missed meanwhile"
    } else {
        "failing checks are not believed, because the trouble may be ours: outages that \
         begin now may be missed; see to the signals"
    }
}

/// The same when it is over.
fn over(signals: Signals) -> &'static str {
    if signals == Signals::UNCONFIRMED {
        "no failing target waits for the word of verifiers in vain any more"
    } else {
        "failing checks are believed again"
    }
}
