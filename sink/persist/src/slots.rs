//! Who sits in each slot of each core, and when it was last checked: 24 bytes per slot, indexed,
//! never hashed. A healthy result of a target at rest ends here, with one cache line touched.

mod timeline;
mod unknown;

use std::collections::HashMap;

use incident::Expiry;
use model::schedule::{cadence_ms, next_due_ms, phase_ms};
use model::target::{Maintenance, Method};
use model::{Generation, MonoUs, Now, Outcome, TargetId, UnixMs};

use crate::handle::Registration;
use crate::windows::Active;
use timeline::Tenths;
pub(crate) use timeline::{Timeline, began};
pub(crate) use unknown::{Missed, Unknown};

const REGISTERED: u32 = 1 << 31;
const UNCLEAN: u32 = 1 << 30;
const PENDING: u32 = 1 << 29;
/// The method of its requests, in two bits: none, GET, HEAD.
const METHOD_GET: u32 = 1 << 27;
const METHOD_HEAD: u32 = 1 << 28;
/// The last check could say nothing.
const NOT_KNOWN: u32 = 1 << 26;
/// At rest: what a healthy check must say of the certificate to change nothing, in two bits.
const EXPIRY_SHIFT: u32 = 24;
const EXPIRY: u32 = 3 << EXPIRY_SHIFT;
/// The last check that could say something said nothing good.
const FAILED: u32 = 1 << 23;
/// The last check could say nothing, and the one before was good: what we missed, in two bits.
const NO_ROUTE: u32 = 1 << 22;
const NO_RESOLVER: u32 = 1 << 21;
const INTERVAL: u32 = NO_RESOLVER - 1;
const _: () = assert!(model::limits::INTERVAL_MAX_S <= INTERVAL);

/// A slot that cannot exist: more slots than this per core are refused.
const SLOTS_MAX: usize = 1 << 26;

/// What every result touches.
#[derive(Clone, Copy, Debug)]
struct Hot {
    generation: u32,
    /// Seconds, and above them the certificate, the method and seven flags.
    interval_and_flags: u32,
    checked: Tenths,
    projected: Tenths,
}

const EMPTY: Hot = Hot {
    generation: 0,
    interval_and_flags: 0,
    checked: Tenths(0),
    projected: Tenths(0),
};

const _: () = assert!(size_of::<Hot>() + size_of::<Option<TargetId>>() == 24);

fn expiry_bits(expiry: Expiry) -> u32 {
    (expiry as u32) << EXPIRY_SHIFT
}

fn method_bits(method: Option<Method>) -> u32 {
    match method {
        None => 0,
        Some(Method::Get) => METHOD_GET,
        Some(Method::Head) => METHOD_HEAD,
    }
}

fn method_of(flags: u32) -> Option<Method> {
    match flags & (METHOD_GET | METHOD_HEAD) {
        METHOD_GET => Some(Method::Get),
        METHOD_HEAD => Some(Method::Head),
        _ => None,
    }
}

/// When a batch of outcomes was drained; the day is worked out once for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) now: Now,
    today: u16,
}

impl Drained {
    /// At `now`, which is `calendar` for certificates.
    pub(crate) fn at(now: Now, calendar: UnixMs) -> Self {
        Self {
            now,
            today: Expiry::today(calendar),
        }
    }
}

/// The grid point of a target after `now`.
fn due_after(target: TargetId, interval_s: u32, now: UnixMs) -> UnixMs {
    let cadence = cadence_ms(interval_s);
    UnixMs(next_due_ms(now.0, cadence, phase_ms(target, cadence)))
}

/// Where an outcome goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Of another generation, or of no registered slot.
    Discarded,
    /// Healthy result of a target at rest: all is done.
    Coalesced,
    /// For the incident machine.
    Stepped,
}

/// Who sits in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) target: TargetId,
    pub(crate) group_id: u64,
    pub(crate) method: Option<Method>,
    pub(crate) generation: Generation,
    pub(crate) interval_s: u32,
    pub(crate) maintenance: Option<Maintenance>,
}

/// The slots of one core.
#[derive(Debug)]
pub(crate) struct CoreSlots {
    timeline: Timeline,
    hot: Vec<Hot>,
    targets: Vec<Option<TargetId>>,
    /// Empty until a target has a group.
    groups: Vec<u64>,
    /// Maintenance windows of the few that have one.
    windows: HashMap<u32, Maintenance>,
    /// Slots whose freshness waits to be written; each at most once.
    pending: Vec<u32>,
    registered: usize,
    unknown: Unknown,
}

impl CoreSlots {
    pub(crate) fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            hot: Vec::new(),
            targets: Vec::new(),
            groups: Vec::new(),
            windows: HashMap::new(),
            pending: Vec::new(),
            registered: 0,
            unknown: Unknown::default(),
        }
    }

    /// Books `outcome` as far as the slot alone can.
    pub(crate) fn admit(&mut self, outcome: &Outcome, drained: Drained) -> Admission {
        let slot = outcome.slot;
        let Some(hot) = self.hot.get_mut(slot.index()) else {
            return Admission::Discarded;
        };
        let flags = hot.interval_and_flags;
        if flags & REGISTERED == 0 || hot.generation != outcome.generation.0 {
            return Admission::Discarded;
        }
        let expiry = Expiry::of(outcome.not_after_days, drained.today);
        if outcome.class != 0 || flags & (UNCLEAN | EXPIRY) != expiry_bits(expiry) {
            return Admission::Stepped;
        }
        self.checked(outcome, drained.now.mono);
        Admission::Coalesced
    }

    /// Notes that the check of `outcome`, drained at `now`, said something of its target.
    pub(crate) fn checked(&mut self, outcome: &Outcome, now: MonoUs) {
        let slot = outcome.slot;
        if let Some(hot) = self.hot.get_mut(slot.index()) {
            let flags = hot.interval_and_flags;
            if flags & (NOT_KNOWN | FAILED) != 0 {
                self.unknown.forget(flags);
                hot.interval_and_flags &= !(unknown::BITS | FAILED);
            }
            let checked = Timeline::tenths(began(outcome, now));
            Self::check(hot, checked, self.timeline, &mut self.pending, slot.0);
        }
    }

    /// Notes that the check that was noted last said nothing good.
    pub(crate) fn failed(&mut self, slot: u32) {
        if let Some(hot) = self.hot.get_mut(slot as usize) {
            hot.interval_and_flags |= FAILED;
        }
    }

    /// When the last check of the target in `slot` that could say something began, if it was good.
    pub(crate) fn known_good(&self, slot: u32, now: Now) -> Option<UnixMs> {
        let has_failed = self.hot.get(slot as usize)?.interval_and_flags & FAILED != 0;
        self.previous(slot, now).filter(|_| !has_failed)
    }

    /// The same, be it good or not.
    pub(crate) fn previous(&self, slot: u32, now: Now) -> Option<UnixMs> {
        let hot = self.hot.get(slot as usize)?;
        let age = Timeline::tenths(now.mono).0.saturating_sub(hot.checked.0);
        let is_known = hot.checked != Tenths(0);
        is_known.then(|| UnixMs(now.unix.0.saturating_sub(u64::from(age) * 100)))
    }

    fn check(
        hot: &mut Hot,
        checked: Tenths,
        timeline: Timeline,
        pending: &mut Vec<u32>,
        slot: u32,
    ) {
        hot.checked = checked;
        let flags = hot.interval_and_flags;
        let due = timeline.is_due(flags & INTERVAL, checked, hot.projected);
        if due && flags & PENDING == 0 {
            hot.interval_and_flags |= PENDING;
            hot.projected = checked;
            pending.push(slot);
        }
    }

    /// Who sits in `slot`.
    pub(crate) fn tenant(&self, slot: u32) -> Option<Tenant> {
        let hot = self.hot.get(slot as usize)?;
        (hot.interval_and_flags & REGISTERED != 0).then_some(())?;
        Some(Tenant {
            target: (*self.targets.get(slot as usize)?)?,
            group_id: self.groups.get(slot as usize).copied().unwrap_or(0),
            method: method_of(hot.interval_and_flags),
            generation: Generation(hot.generation),
            interval_s: hot.interval_and_flags & INTERVAL,
            maintenance: self.windows.get(&slot).copied(),
        })
    }

    /// Seats a target, or changes its generation; `false` when the slot is beyond any size.
    /// Freshness survives when it is the same target as before.
    pub(crate) fn register(&mut self, registration: &Registration, now: MonoUs) -> bool {
        let index = registration.slot.index();
        if index >= SLOTS_MAX {
            return false;
        }
        if index >= self.hot.len() {
            self.hot.resize(index + 1, EMPTY);
            self.targets.resize(index + 1, None);
        }
        let same = self.tenant(registration.slot.0).map(|tenant| tenant.target)
            == Some(registration.target);
        if !same {
            self.clear(registration.slot.0);
            self.registered += 1;
            let projected = self.timeline.spread(registration.target, now);
            self.hot[index] = Hot { projected, ..EMPTY };
        }
        let hot = &mut self.hot[index];
        hot.generation = registration.generation.0;
        let kept = UNCLEAN | EXPIRY | unknown::BITS | FAILED | PENDING;
        hot.interval_and_flags = (hot.interval_and_flags & kept)
            | registration.interval_s.min(INTERVAL)
            | method_bits(registration.method)
            | REGISTERED;
        self.targets[index] = Some(registration.target);
        self.set_group(index, registration.group_id);
        match registration.maintenance {
            Some(window) => self.windows.insert(registration.slot.0, window),
            None => self.windows.remove(&registration.slot.0),
        };
        true
    }

    fn set_group(&mut self, index: usize, group_id: u64) {
        if index >= self.groups.len() && (group_id != 0 || !self.groups.is_empty()) {
            self.groups.resize(index + 1, 0);
        }
        if let Some(group) = self.groups.get_mut(index) {
            *group = group_id;
        }
    }

    /// Empties a slot: later outcomes are discarded.
    pub(crate) fn clear(&mut self, slot: u32) {
        if self.tenant(slot).is_some() {
            self.registered -= 1;
            self.unknown
                .forget(self.hot[slot as usize].interval_and_flags);
            self.windows.remove(&slot);
            // The list of pending slots is emptied by the next flush: it skips empty slots, and a
            // new tenant starts without the flag but may be listed twice, which is harmless.
            self.hot[slot as usize] = EMPTY;
            self.targets[slot as usize] = None;
        }
    }

    /// Sets what a healthy check of the target must say of its certificate to change nothing;
    /// `None` where every check is for the incident machine.
    pub(crate) fn set_rest(&mut self, slot: u32, rest: Option<Expiry>) {
        if let Some(hot) = self.hot.get_mut(slot as usize) {
            let bits = rest.map_or(UNCLEAN, expiry_bits);
            hot.interval_and_flags = hot.interval_and_flags & !(UNCLEAN | EXPIRY) | bits;
        }
    }

    /// Registered slots.
    pub(crate) fn registered(&self) -> usize {
        self.registered
    }

    /// Targets whose freshness waits.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes everything that waits: slot, target and next due time after `now`, for the row: the
    /// only place where the wall clock counts.
    pub(crate) fn take_pending(
        &mut self,
        now: UnixMs,
        mut visit: impl FnMut(u32, TargetId, UnixMs),
    ) {
        for slot in self.pending.drain(..) {
            let hot = &mut self.hot[slot as usize];
            let Some(target) = self.targets[slot as usize] else {
                continue;
            };
            if hot.interval_and_flags & PENDING == 0 {
                continue;
            }
            hot.interval_and_flags &= !PENDING;
            let interval_s = hot.interval_and_flags & INTERVAL;
            visit(slot, target, due_after(target, interval_s, now));
        }
    }

    /// Puts a failed row back, unless a newer one waits or the target has gone.
    pub(crate) fn requeue(&mut self, slot: u32, target: TargetId) {
        if self.targets.get(slot as usize) != Some(&Some(target)) {
            return;
        }
        let flags = &mut self.hot[slot as usize].interval_and_flags;
        if *flags & PENDING == 0 {
            *flags |= PENDING;
            self.pending.push(slot);
        }
    }

    /// Age of the last check of `slot` that said something, in ms; `None` where none did.
    pub(crate) fn age_ms(&self, slot: u32, now: MonoUs) -> Option<u64> {
        let hot = self.hot.get(slot as usize)?;
        let age = Timeline::tenths(now).0.saturating_sub(hot.checked.0);
        (hot.checked != Tenths(0)).then_some(u64::from(age) * 100)
    }

    /// When the target in `slot` is due after `now`, on the grid.
    pub(crate) fn next_due(&self, slot: u32, now: UnixMs) -> Option<UnixMs> {
        let tenant = self.tenant(slot)?;
        Some(due_after(tenant.target, tenant.interval_s, now))
    }

    /// Targets inside of a maintenance window, of their own or one of those that are `active`.
    pub(crate) fn in_maintenance(&self, active: &Active, now: UnixMs) -> u64 {
        if active.all {
            return self.registered as u64;
        }
        let own = |slot: u32| {
            self.windows
                .get(&slot)
                .is_some_and(|span| span.is_active(now))
        };
        if active.is_empty() {
            return self.windows.keys().filter(|slot| own(**slot)).count() as u64;
        }
        let slots = (0..).zip(&self.targets);
        let seated = slots.filter_map(|(slot, target)| Some((slot, (*target)?)));
        let covered = seated.filter(|&(slot, target)| {
            let group_id = self.groups.get(slot as usize).copied().unwrap_or(0);
            own(slot) || active.covers(target, group_id)
        });
        covered.count() as u64
    }

    /// Visits the age of the last check of every registered slot, in tenths of a second, `None`
    /// where it never was.
    pub(crate) fn ages(&self, now: MonoUs, mut visit: impl FnMut(Option<u32>)) {
        let now = Timeline::tenths(now);
        for hot in &self.hot {
            if hot.interval_and_flags & REGISTERED != 0 {
                let known = hot.checked != Tenths(0);
                visit(known.then(|| now.0.saturating_sub(hot.checked.0)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::limits::PROJECTION_INTERVAL_MS;
    use model::outcome::Phases;
    use model::{CoreIndex, Slot};

    use super::*;
    use crate::testbed::{healthy, target};

    pub(super) const START: MonoUs = MonoUs(5_000_000);
    pub(super) const WALL: UnixMs = UnixMs(1_800_000_000_000);

    pub(super) fn slots() -> CoreSlots {
        CoreSlots::new(Timeline::new(PROJECTION_INTERVAL_MS))
    }

    /// A healthy result of `slot`, drained at `now`.
    pub(super) fn admit(slots: &mut CoreSlots, slot: u32, now: MonoUs) -> Admission {
        slots.admit(&healthy(slot, 1, WALL), both(now))
    }

    fn both(mono: MonoUs) -> Drained {
        Drained::at(Now { mono, unix: WALL }, WALL)
    }

    pub(super) fn seat(slots: &mut CoreSlots, slot: u32, target: i64, interval_s: u32) {
        let registration = Registration {
            core: CoreIndex(0),
            slot: Slot(slot),
            target: TargetId::new(target).expect("positive"),
            group_id: 0,
            method: None,
            generation: Generation(1),
            interval_s,
            cadence_ms: cadence_ms(interval_s),
            maintenance: None,
        };
        assert!(slots.register(&registration, START));
    }

    fn rows(slots: &mut CoreSlots) -> Vec<(u32, i64)> {
        let mut rows = Vec::new();
        slots.take_pending(WALL, |slot, target, due| {
            assert!(due > WALL);
            rows.push((slot, target.get()));
        });
        rows
    }

    #[test]
    fn the_last_check_that_said_something_is_known_as_good_unless_it_failed() {
        let mut slots = slots();
        seat(&mut slots, 3, 7, 300);
        let now = Now {
            mono: START,
            unix: WALL,
        };
        assert_eq!(slots.known_good(3, now), None, "never checked");
        let outcome = Outcome {
            phases: Phases::NONE,
            ..healthy(3, 1, WALL)
        };
        slots.checked(&outcome, START);
        let later = Now {
            mono: START.plus_ms(60_000),
            unix: WALL.plus_ms(60_000),
        };
        assert_eq!(slots.known_good(3, later), Some(WALL));
        slots.not_known(3, None);
        assert_eq!(slots.known_good(3, later), Some(WALL), "it said nothing");
        slots.checked(&outcome, later.mono);
        slots.failed(3);
        assert_eq!(
            (slots.known_good(3, later), slots.unknown().targets),
            (None, 0)
        );
        slots.checked(&outcome, later.mono);
        assert_eq!(slots.known_good(3, later), Some(later.unix));
    }

    #[test]
    fn first_projections_are_spread_over_the_projection_interval() {
        let mut slots = slots();
        (0..900).for_each(|slot| seat(&mut slots, slot, i64::from(slot) + 1, 60));
        let mut per_minute = Vec::new();
        for minute in 0..16 {
            let at = START.plus_ms(minute * 60_000);
            for slot in 0..900 {
                assert_eq!(admit(&mut slots, slot, at), Admission::Coalesced);
            }
            per_minute.push(rows(&mut slots).len());
        }
        assert_eq!(
            per_minute.iter().take(16).sum::<usize>(),
            900 + per_minute[0]
        );
        assert!(
            per_minute[1..15]
                .iter()
                .all(|count| (40..=80).contains(count)),
            "{per_minute:?}"
        );
    }

    #[test]
    fn rows_come_evenly_although_each_target_is_checked_at_its_phase() {
        let mut slots = slots();
        (0..9_000).for_each(|slot| seat(&mut slots, slot, i64::from(slot) + 1, 300));
        let turn = |slot: u32| phase_ms(target(i64::from(slot) + 1), 5);
        let mut per_minute = Vec::new();
        for minute in 0..45 {
            let at = START.plus_ms(minute * 60_000);
            for slot in (0..9_000).filter(|slot| u64::from(turn(*slot)) == minute % 5) {
                assert_eq!(admit(&mut slots, slot, at), Admission::Coalesced);
            }
            per_minute.push(rows(&mut slots).len());
        }
        // Once each was checked after its first share of the interval passed; 600 is that of all.
        let even = &per_minute[5..];
        assert!(
            even.iter().all(|count| (570..=630).contains(count)),
            "{per_minute:?}"
        );
    }

    #[test]
    fn a_target_slower_than_the_projection_is_projected_at_each_check() {
        let mut slots = slots();
        seat(&mut slots, 0, 1, 1_800);
        for check in 0..3 {
            let at = START.plus_ms(check * 1_785_000);
            admit(&mut slots, 0, at);
            assert_eq!(rows(&mut slots), [(0, 1)]);
        }
    }

    #[test]
    fn a_check_that_was_drained_late_counts_from_its_start() {
        let mut slots = slots();
        seat(&mut slots, 0, 1, 60);
        let mut outcome = healthy(0, 1, WALL);
        outcome.phases.total_us = 3_000_000;
        slots.admit(&outcome, both(START.plus_ms(10_000)));
        let mut ages = Vec::new();
        slots.ages(START.plus_ms(10_000), |age| ages.push(age));
        assert_eq!(ages, [Some(30)]);
    }

    #[test]
    fn a_failed_row_waits_again_unless_a_newer_one_or_another_target_does() {
        let mut slots = slots();
        seat(&mut slots, 0, 1, 1_800);
        seat(&mut slots, 1, 2, 1_800);
        (0..2).for_each(|slot| {
            assert_eq!(admit(&mut slots, slot, START), Admission::Coalesced);
        });
        assert_eq!(rows(&mut slots), [(0, 1), (1, 2)]);
        admit(&mut slots, 0, START.plus_ms(10));
        slots.clear(1);
        seat(&mut slots, 1, 3, 1_800);
        slots.requeue(0, TargetId::new(1).expect("positive"));
        slots.requeue(1, TargetId::new(2).expect("positive"));
        assert_eq!(rows(&mut slots), [(0, 1)]);
    }

    #[test]
    fn an_outcome_of_no_tenant_is_discarded() {
        let mut slots = slots();
        seat(&mut slots, 2, 1, 60);
        let admit = |slots: &mut CoreSlots, slot, generation| {
            slots.admit(&healthy(slot, generation, WALL), both(START))
        };
        assert_eq!(admit(&mut slots, 9, 1), Admission::Discarded);
        assert_eq!(admit(&mut slots, 0, 0), Admission::Discarded);
        assert_eq!(admit(&mut slots, 2, 2), Admission::Discarded);
        slots.clear(2);
        assert_eq!(admit(&mut slots, 2, 1), Admission::Discarded);
        assert_eq!(slots.registered(), 0);
    }

    #[test]
    fn a_slot_costs_24_bytes_until_groups_are_used() {
        let mut slots = slots();
        (0..100).for_each(|slot| seat(&mut slots, slot, 1 + i64::from(slot), 60));
        assert!(slots.groups.is_empty());
        let registration = Registration {
            core: CoreIndex(0),
            slot: Slot(5),
            target: TargetId::new(6).expect("positive"),
            group_id: 77,
            method: Some(Method::Head),
            generation: Generation(2),
            interval_s: 60,
            cadence_ms: 57_000,
            maintenance: None,
        };
        assert!(slots.register(&registration, START));
        assert_eq!(slots.tenant(5).map(|tenant| tenant.group_id), Some(77));
        let method = |slot| slots.tenant(slot).and_then(|tenant| tenant.method);
        assert_eq!((method(4), method(5)), (None, Some(Method::Head)));
        assert_eq!(slots.tenant(99).map(|tenant| tenant.group_id), Some(0));
        assert_eq!(slots.registered(), 100);
    }

    #[test]
    fn a_healthy_check_of_a_known_certificate_never_leaves_its_slot() {
        let mut slots = slots();
        seat(&mut slots, 0, 1, 60);
        let today = Expiry::today(WALL);
        let mut admit = |rest: Option<Expiry>, not_after_days| {
            slots.set_rest(0, rest);
            let outcome = Outcome {
                not_after_days,
                ..healthy(0, 1, WALL)
            };
            slots.admit(&outcome, both(START))
        };
        let (coalesced, stepped) = (Admission::Coalesced, Admission::Stepped);
        let lefts = [today + 90, today + 20, today + 3, 0];
        let far = lefts.map(|days| admit(Some(Expiry::Far), days));
        assert_eq!(far, [coalesced, stepped, stepped, coalesced]);
        let soon = lefts.map(|days| admit(Some(Expiry::Soon), days));
        assert_eq!(soon, [stepped, coalesced, stepped, stepped]);
        let very_soon = lefts.map(|days| admit(Some(Expiry::VerySoon), days));
        assert_eq!(very_soon, [stepped, stepped, coalesced, stepped]);
        assert_eq!(lefts.map(|days| admit(None, days)), [stepped; 4]);
        assert_eq!(slots.tenant(0).map(|tenant| tenant.interval_s), Some(60));
    }

    #[test]
    fn a_window_stays_with_its_target() {
        let mut slots = slots();
        let window = Maintenance {
            start_ms: 1,
            end_ms: 2,
        };
        seat(&mut slots, 0, 1, 60);
        let mut registration = Registration {
            core: CoreIndex(0),
            slot: Slot(0),
            target: TargetId::new(1).expect("positive"),
            group_id: 0,
            method: None,
            generation: Generation(1),
            interval_s: 60,
            cadence_ms: 57_000,
            maintenance: Some(window),
        };
        let found = |slots: &CoreSlots| slots.tenant(0).and_then(|tenant| tenant.maintenance);
        slots.register(&registration, START);
        assert_eq!(found(&slots), Some(window));
        registration.maintenance = None;
        slots.register(&registration, START);
        assert_eq!(found(&slots), None);
        registration.maintenance = Some(window);
        slots.register(&registration, START);
        seat(&mut slots, 0, 2, 60);
        assert_eq!(found(&slots), None);
    }
}
