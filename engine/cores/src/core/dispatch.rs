//! From due to started: the wheel, the queues, shedding, admission, and the deadlines.

use model::limits::{SHED_LAG_MAX_MS, STALL_SHARE_PERCENT};
use model::{MonoUs, Now, Slot, Target, Ticket};
use prober::attempt::{Attempt, AttemptSpec, Event, HostRef, Rules};
use prober::resolver::HostId;

use super::{Core, QUEUE_COMMANDED, QUEUE_ROUTINE, QUEUE_STARVED, tick_after, tick_at, tick_start};
use crate::attempts::{AttemptKey, InFlight, Owner};

impl Core {
    /// Judges the deadlines that were due at the last turn, now that the tasks woken by that reap
    /// have run; then takes those due at this one, and feeds the attempts' own timers.
    pub(super) fn judge_deadlines(&mut self, now: Now) {
        let ripe = std::mem::take(&mut self.ripe);
        for key in &ripe {
            self.judge(*key, now);
        }
        self.ripe = ripe;
        self.ripe.clear();
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(tick_at(now.mono), &mut due);
        for timer in due.drain(..) {
            let Some(key) = self.attempts.key_at(timer / 2) else {
                continue;
            };
            if timer % 2 == 0 {
                self.ripe.push(key);
            } else {
                self.interrupt(key, now);
            }
        }
        self.due = due;
        self.enforce_drain(now);
    }

    fn judge(&mut self, key: AttemptKey, now: Now) {
        let stalled_us = self.stalled_us;
        let Some(entry) = self.attempts.get_mut(key) else {
            return;
        };
        let stall_us = stalled_us - entry.stalled_us;
        let ours = stall_us * 100 > u64::from(entry.timeout_ms) * 1_000 * STALL_SHARE_PERCENT;
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
            let queue = if self.targets.is_commanded(slot) {
                QUEUE_COMMANDED
            } else if self.targets.is_starved(slot) {
                QUEUE_STARVED
            } else {
                QUEUE_ROUTINE
            };
            self.wheel
                .enqueue(queue, slot.0, self.wheel.last_due(slot.0));
        }
        self.due = due;
    }

    /// Starts what may start: commanded before starved before routine. Held results slow dispatch
    /// to nothing; the cap and the bucket bound it otherwise.
    pub(super) fn admit(&mut self, now: Now) {
        if self.drain_by.is_some() || !self.held.is_empty() {
            return;
        }
        self.shed_late(now);
        while (self.attempts.len() as u64) < u64::from(self.admission.limit()) {
            if let Some((target, ticket)) = self.one_shots.pop_front() {
                self.start_one_shot(&target, ticket, now);
                continue;
            }
            let queues = [QUEUE_COMMANDED, QUEUE_STARVED, QUEUE_ROUTINE];
            let next = queues.iter().find_map(|queue| self.wheel.front(*queue));
            let Some((slot, due_tick)) = next else { return };
            if self.paused || !self.admission.take() {
                return;
            }
            self.wheel.cancel(slot);
            self.start(Slot(slot), tick_start(due_tick, now.mono), now);
        }
    }

    /// Gives up routine checks that are too late to be of use; their targets go first next time.
    fn shed_late(&mut self, now: Now) {
        for queue in [QUEUE_STARVED, QUEUE_ROUTINE] {
            while let Some((index, due_tick)) = self.wheel.front(queue) {
                let slot = Slot(index);
                let late_ms = now.mono.since(tick_start(due_tick, now.mono)) / 1_000;
                let limit_ms = (self.targets.cadence_ms(slot) / 4).min(SHED_LAG_MAX_MS);
                if late_ms <= u64::from(limit_ms) {
                    break;
                }
                self.account.shed += 1;
                self.targets.set_starved(slot);
                self.schedule_on_grid(slot, self.grid_ms(now));
            }
        }
    }

    /// The slot's next grid point after `after_ms`.
    pub(super) fn schedule_on_grid(&mut self, slot: Slot, after_ms: u64) {
        let due_ms = self.targets.next_due_ms(slot, after_ms);
        self.wheel.insert(slot.0, self.tick_of_grid(due_ms));
    }

    fn start(&mut self, slot: Slot, due: MonoUs, now: Now) {
        let commanded = self.targets.is_commanded(slot);
        let buffers = self.attempts.buffers();
        let spec = self.targets.spec(slot, &self.resolver);
        let attempt = Attempt::start(&spec, &self.shared, buffers, now);
        let seq = self.targets.started(slot, self.attempts.next_index());
        let host = self.targets.host(slot);
        if let Some(host) = host {
            self.resolver.retain(host);
        }
        let entry = InFlight {
            owner: Owner::Slot(slot),
            generation: self.targets.generation(slot),
            seq,
            started: now,
            lag_us: u32::try_from(now.mono.since(due)).unwrap_or(u32::MAX),
            stalled_us: self.stalled_us,
            deadline: now.mono.plus_ms(u64::from(self.targets.timeout_ms(slot))),
            timeout_ms: self.targets.timeout_ms(slot),
            host,
            resolving: false,
            interrupt: None,
            commanded,
            attempt,
        };
        self.launch(entry);
    }

    fn start_one_shot(&mut self, target: &Target, ticket: Ticket, now: Now) {
        let config = &target.config;
        let rules = Rules::from_config(config);
        let (host_ref, host): (HostRef<'_>, Option<HostId>) = match config.url.host() {
            model::url::Host::Name(name) => (HostRef::Name(name), Some(self.resolver.intern(name))),
            model::url::Host::Address(address) => (HostRef::Address(*address), None),
        };
        let spec = AttemptSpec {
            scheme: config.url.scheme(),
            host: host_ref,
            port: config.url.port(),
            path: config.url.path(),
            method: config.method,
            timeout_ms: config.timeout_ms,
            rules: rules.as_ref(),
        };
        let buffers = self.attempts.buffers();
        let attempt = Attempt::start(&spec, &self.shared, buffers, now);
        let timeout_ms = config.timeout_ms;
        let entry = InFlight {
            generation: target.generation,
            owner: Owner::OneShot { ticket },
            seq: 1,
            started: now,
            lag_us: 0,
            stalled_us: self.stalled_us,
            deadline: now.mono.plus_ms(u64::from(timeout_ms)),
            timeout_ms,
            host,
            resolving: false,
            interrupt: None,
            commanded: true,
            attempt,
        };
        self.account.one_shot.pending -= 1;
        self.launch(entry);
    }

    fn launch(&mut self, entry: InFlight) {
        match entry.owner {
            Owner::Slot(_) => self.account.in_flight += 1,
            Owner::OneShot { .. } => self.account.one_shot.in_flight += 1,
        }
        let deadline = entry.deadline;
        let key = self.attempts.insert(entry);
        self.timers.insert(key.index * 2, tick_after(deadline));
        self.started.push_back(key);
    }

    /// Arms the attempt's own timer.
    pub(super) fn arm_timer(&mut self, key: AttemptKey, at: MonoUs) {
        self.timers.insert(key.index * 2 + 1, tick_after(at));
    }
}
