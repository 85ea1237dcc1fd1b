//! From due to started: the wheel, the queues, shedding, admission, and the deadlines.

use model::limits::{DNS_TRY_MS, FAMILY_DELAY_MS, SHED_LAG_MAX_MS};
use model::target::Method;
use model::{MonoUs, Now, Slot};
use prober::attempt::{Attempt, AttemptSpec, Event, HostRef, Rules};
use prober::resolver::HostId;

use super::deferral::Ready;
use super::{Core, QUEUE_COMMANDED, QUEUE_ROUTINE};
use crate::attempts::{AttemptKey, InFlight, OneShot, Owner};
use crate::tick::{tick_after, tick_at, tick_start};

impl Core {
    /// Judges the deadlines that were due at the last turn, now that the tasks woken by that reap
    /// have run; then takes those due at this one, and feeds the attempts' own timers. After a
    /// stall those wait for a turn too: what came meanwhile is seen before anything is done about
    /// its absence.
    pub(super) fn judge_deadlines(&mut self, now: Now) {
        let mut ripe = std::mem::take(&mut self.ripe);
        for key in ripe.drain(..) {
            self.judge(key, now);
        }
        self.ripe = ripe;
        let mut overslept = std::mem::take(&mut self.overslept);
        for key in overslept.drain(..) {
            self.interrupt(key, now);
        }
        self.overslept = overslept;
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(tick_at(now.mono), &mut due);
        for timer in due.drain(..) {
            let Some(key) = self.attempts.key_at(timer / 2) else {
                continue;
            };
            if timer % 2 == 0 && self.is_over(key, now) {
                self.ripe.push(key);
            } else if self.stalled {
                self.overslept.push(key);
            } else {
                self.interrupt(key, now);
            }
        }
        self.due = due;
        self.enforce_drain(now);
    }

    /// Whether the deadline has passed. Else the attempt is looked in on while it is young: most
    /// are over by then, and so cost one timer. A short one that still waits for its name is not
    /// there any more when the resolver makes do with an old answer by itself.
    fn is_over(&mut self, key: AttemptKey, now: Now) -> bool {
        let Some(entry) = self.attempts.get_mut(key) else {
            return true;
        };
        let Some(deadline) = entry.deadline().filter(|deadline| now.mono < *deadline) else {
            return true;
        };
        let waits = entry.resolving && is_short(entry.timeout_ms);
        if let Some(host) = entry.host.filter(|_| waits) {
            self.resolver.hurry(host, now.mono);
        }
        self.timers.insert(key.index * 2, tick_after(deadline));
        false
    }

    fn judge(&mut self, key: AttemptKey, now: Now) {
        let stalled_us = self.stalled_us;
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let ours = entry.met_stall(stalled_us);
        let waits = entry.resolving && entry.attempt.is_resolving() && !ours;
        if let Some(host) = entry.host.filter(|_| waits) {
            // A short deadline ends before the tries do; who was asked is known all the same.
            let failure = self.resolver.overdue(host, key.waiter());
            return self.end(key, Event::Resolved(Err(failure)), now);
        }
        self.end(key, Event::Deadline { ours }, now);
    }

    fn enforce_drain(&mut self, now: Now) {
        if self.drain_by.is_some_and(|by| by <= now.mono) {
            for key in self.attempts.keys() {
                self.cancel(key, now);
            }
        }
    }

    /// Moves what the wheel pops into the queues.
    pub(super) fn collect_due(&mut self, now: Now) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(tick_at(now.mono), &mut due);
        for slot in due.drain(..).map(Slot) {
            if self.drain_by.is_some() || self.paused {
                self.schedule_on_grid(slot, self.grid_ms(now));
                continue;
            }
            self.account.due += 1;
            self.line_up(slot, self.wheel.last_due(slot.0));
        }
        self.due = due;
    }

    /// Puts what was due at the tick `due` at the end of its queue. Where a core can do one check
    /// of *k*, whoever was shed most often in a row goes first, so that nobody waits much longer
    /// than *k* cadences.
    pub(super) fn line_up(&mut self, slot: Slot, due: u32) {
        let queue = if self.targets.is_commanded(slot) {
            QUEUE_COMMANDED
        } else {
            let hunger = self.targets.hunger(slot);
            self.hungry |= 1 << hunger;
            QUEUE_ROUTINE - hunger
        };
        self.wheel.enqueue(queue, slot.0, due);
    }

    /// Starts what may start. The cap and the bucket bound it; results that are held take the
    /// places of attempts, so that a slow sink slows dispatch and holds no more than the cap.
    pub(super) fn admit(&mut self, now: Now) {
        if self.drain_by.is_some() {
            return;
        }
        let limit = self.admission.limit() as usize;
        while self.attempts.len() < limit {
            let Some(one_shot) = self.one_shots.pop_front() else {
                break;
            };
            self.start_one_shot(one_shot, now);
        }
        self.shed_late(now);
        let has_place = |core: &Self| core.attempts.len() + core.held.len() < limit;
        while has_place(self) && !self.paused && self.admission.has_token() {
            let Some(ready) = self.next_ready(now) else {
                return;
            };
            self.admission.take();
            let ready = self.end_deferral(ready, now);
            self.wheel.cancel(ready.slot.0);
            self.start(&ready, now);
        }
    }

    /// Commanded checks come before those that waited for their destination, before those whose
    /// last ones were shed, before other routine ones.
    fn next_ready(&mut self, now: Now) -> Option<Ready> {
        loop {
            if let Some(front) = self.wheel.front(QUEUE_COMMANDED) {
                let ready = self.ready_at_front(front, now);
                if ready.is_some() {
                    return ready;
                }
                continue;
            }
            if let Some(ready) = self.next_deferred(now) {
                return Some(ready);
            }
            let front = self.first_hungry()?;
            let ready = self.ready_at_front(front, now);
            if ready.is_some() {
                return ready;
            }
        }
    }

    /// What leads the queue of the hungriest.
    fn first_hungry(&mut self) -> Option<(u32, u32)> {
        while let Some(hunger) = self.hungry.checked_ilog2() {
            let front = self.wheel.front(QUEUE_ROUTINE - hunger);
            if front.is_some() {
                return front;
            }
            self.hungry &= !(1 << hunger);
        }
        None
    }

    /// What leads a queue, unless it is shed or deferred: then it leads no more.
    fn ready_at_front(&mut self, (index, due_tick): (u32, u32), now: Now) -> Option<Ready> {
        let (slot, due) = (Slot(index), tick_start(due_tick, now.mono));
        if self.is_too_late(slot, due, now) {
            self.shed(slot, now);
            return None;
        }
        self.ready_or_deferred(slot, due, now)
    }

    /// Gives up what leads the routine queues and is too late to be of use.
    fn shed_late(&mut self, now: Now) {
        for queue in QUEUE_COMMANDED + 1..=QUEUE_ROUTINE {
            while let Some((index, due_tick)) = self.wheel.front(queue) {
                let slot = Slot(index);
                if !self.is_too_late(slot, tick_start(due_tick, now.mono), now) {
                    break;
                }
                self.shed(slot, now);
            }
        }
    }

    /// Whether a routine check is later than a quarter of its cadence, or 10 s; commanded ones
    /// never are.
    fn is_too_late(&self, slot: Slot, due: MonoUs, now: Now) -> bool {
        let limit_ms = (self.targets.cadence_ms(slot) / 4).min(SHED_LAG_MAX_MS);
        now.mono.since(due) / 1_000 > u64::from(limit_ms) && !self.targets.is_commanded(slot)
    }

    /// Leaves a check out; its target goes first at its next grid point.
    pub(super) fn shed(&mut self, slot: Slot, now: Now) {
        self.account.shed += 1;
        self.targets.starve(slot);
        self.schedule_on_grid(slot, self.grid_ms(now));
    }

    /// The slot's next grid point after `after_ms`.
    pub(super) fn schedule_on_grid(&mut self, slot: Slot, after_ms: u64) {
        let due_ms = self.targets.next_due_ms(slot, after_ms);
        self.wheel.insert(slot.0, self.tick_of_grid(due_ms));
    }

    fn start(&mut self, ready: &Ready, now: Now) {
        let slot = ready.slot;
        let commanded = self.targets.is_commanded(slot);
        let buffers = self.attempts.buffers();
        let spec = self.targets.spec(slot, &self.resolver);
        let attempt = Attempt::start(&spec, &self.shared, buffers, now);
        let seq = self.targets.started(slot, self.attempts.next_index());
        let host = self.targets.host(slot);
        if let Some(host) = host {
            self.resolver.retain(host);
        }
        self.enter_destination(ready.destination, now);
        let entry = InFlight {
            owner: Owner::Slot(slot),
            generation: self.targets.generation(slot),
            seq,
            due: ready.due,
            started: None,
            stalled_us: self.stalled_us,
            timeout_ms: self.targets.timeout_ms(slot),
            host,
            destination: ready.destination,
            rival: None,
            network: None,
            beside: 0,
            connecting: false,
            connected: now.mono,
            connects: false,
            resolving: false,
            interrupt: None,
            commanded,
            attempt,
        };
        self.launch(entry);
    }

    fn start_one_shot(&mut self, one_shot: OneShot, now: Now) {
        let OneShot {
            target,
            ticket,
            is_again,
        } = one_shot;
        let config = &target.config;
        let rules = Rules::from_config(config);
        let (host_ref, host): (HostRef<'_>, Option<HostId>) = match config.check.host() {
            model::url::Host::Name(name) => (HostRef::Name(name), Some(self.resolver.intern(name))),
            model::url::Host::Address(address) => (HostRef::Address(*address), None),
        };
        let spec = AttemptSpec {
            scheme: config.check.scheme(),
            host: host_ref,
            port: config.check.port(),
            path: config.check.path(),
            method: config.check.http().map_or(Method::Get, |http| http.method),
            timeout_ms: config.timeout_ms,
            head_only: config.check.is_head_only(),
            rules: rules.as_ref(),
        };
        let buffers = self.attempts.buffers();
        let attempt = Attempt::start(&spec, &self.shared, buffers, now);
        let entry = InFlight {
            generation: target.generation,
            owner: Owner::OneShot { ticket },
            seq: 1,
            due: now.mono,
            started: None,
            stalled_us: self.stalled_us,
            timeout_ms: config.timeout_ms,
            host,
            destination: None,
            rival: None,
            network: None,
            beside: 0,
            connecting: false,
            connected: now.mono,
            connects: false,
            resolving: false,
            interrupt: None,
            commanded: true,
            attempt,
        };
        self.account.one_shot.pending -= 1;
        let key = self.launch(entry);
        if self.kept.keeps_any() && !is_again {
            self.askable.insert(key, target);
        }
    }

    fn launch(&mut self, entry: InFlight) -> AttemptKey {
        match entry.owner {
            Owner::Slot(_) => self.account.in_flight += 1,
            Owner::OneShot { .. } => self.account.one_shot.in_flight += 1,
        }
        let key = self.attempts.insert(entry);
        self.started.push_back(key);
        key
    }

    /// The reactor takes the attempt up: from now on it counts, and its deadline runs. Of a batch
    /// that is started in one turn the last one would else carry the others' work in its phases.
    pub(super) fn begin(&mut self, key: AttemptKey, now: Now) {
        // What of a long turn is over already is no time of this check.
        let stalled_us = self.stalled_by(now);
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        entry.started = Some(now);
        entry.stalled_us = stalled_us;
        entry.attempt.begin(now);
        let timeout_ms = u64::from(entry.timeout_ms);
        let first_ms = match entry.host {
            Some(_) if is_short(entry.timeout_ms) => timeout_ms / 2,
            Some(_) => FAMILY_DELAY_MS.min(timeout_ms),
            None => timeout_ms,
        };
        let first = now.mono.plus_ms(first_ms);
        self.timers.insert(key.index * 2, tick_after(first));
    }

    /// Arms the attempt's own timer.
    pub(super) fn arm_timer(&mut self, key: AttemptKey, at: MonoUs) {
        self.timers.insert(key.index * 2 + 1, tick_after(at));
    }
}

/// Whether a check with this deadline has no time for two tries of the resolver.
fn is_short(timeout_ms: u32) -> bool {
    u64::from(timeout_ms) < 2 * DNS_TRY_MS
}
