//! Checks that wait, run and end: a bounded queue in front of the probe cores. It must not know who
//! asked, nor what is made of a result.
//!
//! ```text
//!  submit ─► queue ≤ queue_max ─► running ≤ running_max ─► probe cores ─► one thread per core
//!     └─► refused                                                             └─► reply
//! ```

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use model::inbox::{CoreCommand, OneShotReport};
use model::{Target, Ticket};
use tokio::sync::mpsc;

/// A check of a batch: its place in it, and what is checked.
pub(super) type Placed = (usize, Box<Target>);
/// The reports of a batch, by place, as they come.
pub(super) type Reports = mpsc::Receiver<(usize, OneShotReport)>;

/// What waits, runs, and was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Checks that wait.
    pub(super) queued: usize,
    /// Checks that run.
    pub(super) running: usize,
    /// Checks that ended.
    pub(super) done: u64,
    /// Checks for which there was no room.
    pub(super) refused: u64,
}

/// Runs checks, so many at a time.
#[derive(Debug)]
pub(super) struct Executor {
    cores: Vec<Sender<CoreCommand>>,
    running_max: usize,
    queue_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    running: HashMap<u64, Reply>,
    last_ticket: u64,
    done: u64,
    refused: u64,
}

#[derive(Debug)]
struct Job {
    target: Box<Target>,
    reply: Reply,
}

#[derive(Debug)]
struct Reply {
    place: usize,
    to: mpsc::Sender<(usize, OneShotReport)>,
}

impl Executor {
    /// Over the inboxes of all cores.
    pub(super) fn new(
        cores: Vec<Sender<CoreCommand>>,
        running_max: usize,
        queue_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            cores,
            running_max,
            queue_max,
            state: Mutex::default(),
        })
    }

    /// Takes all of `checks`, or none where there is no room for them. Who drops the reports takes
    /// back what does not run yet.
    pub(super) fn submit(&self, checks: Vec<Placed>) -> Option<Reports> {
        let (to, reports) = mpsc::channel(checks.len().max(1));
        let mut state = self.state();
        state.forget_abandoned();
        let room = self.running_max + self.queue_max;
        if state.running.len() + state.queue.len() + checks.len() > room {
            state.refused += checks.len() as u64;
            return None;
        }
        let jobs = checks.into_iter().map(|(place, target)| {
            let to = to.clone();
            let reply = Reply { place, to };
            Job { target, reply }
        });
        state.queue.extend(jobs);
        self.start(&mut state);
        Some(reports)
    }

    /// A core has ended a check.
    pub(super) fn finish(&self, report: OneShotReport) {
        let mut state = self.state();
        if let Some(Reply { place, to }) = state.running.remove(&report.ticket.0) {
            state.done += 1;
            // Whoever asked may have gone; there is room for every check of its batch.
            let _ = to.try_send((place, report));
        }
        self.start(&mut state);
    }

    /// How much there is to do.
    pub(super) fn load(&self) -> Load {
        let state = self.state();
        Load {
            queued: state.queue.len(),
            running: state.running.len(),
            done: state.done,
            refused: state.refused,
        }
    }

    fn start(&self, state: &mut State) {
        while state.running.len() < self.running_max {
            let Some(Job { target, reply }) = state.queue.pop_front() else {
                return;
            };
            if reply.to.is_closed() {
                continue;
            }
            state.last_ticket += 1;
            let ticket = Ticket(state.last_ticket);
            let core = self.core_of(&target);
            let command = CoreCommand::OneShot { target, ticket };
            // A core that takes nothing is ending: its checks have no report.
            if self.cores[core].try_send(command).is_ok() {
                state.running.insert(ticket.0, reply);
            }
        }
    }

    /// Names of one host go to one core, whose cache has them.
    fn core_of(&self, target: &Target) -> usize {
        let mut hasher = DefaultHasher::new();
        target.config.check.host().hash(&mut hasher);
        (hasher.finish() % self.cores.len() as u64) as usize
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What nobody waits for takes no place of what somebody does.
    fn forget_abandoned(&mut self) {
        self.queue.retain(|job| !job.reply.to.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};
    use model::{Evidence, Generation, Outcome, Slot, TargetId, TargetSpec, UnixMs};

    use super::*;

    fn checks(count: usize) -> Vec<Placed> {
        let target = |place: usize| {
            let spec = TargetSpec {
                url: format!("http://h{place}.example/"),
                ..TargetSpec::default()
            };
            Box::new(Target {
                id: TargetId::new(1).expect("positive"),
                generation: Generation(1),
                active: true,
                config: spec.parse().expect("valid"),
            })
        };
        (0..count).map(|place| (place, target(place))).collect()
    }

    fn started(core: &Receiver<CoreCommand>) -> Vec<Ticket> {
        let ticket = |command| match command {
            CoreCommand::OneShot { ticket, .. } => ticket,
            other => panic!("{other:?}"),
        };
        core.try_iter().map(ticket).collect()
    }

    fn report(ticket: Ticket) -> OneShotReport {
        OneShotReport {
            ticket,
            outcome: Outcome::slot_released(Slot(0), Generation(0), UnixMs(1)),
            evidence: Box::new(Evidence::default()),
        }
    }

    #[test]
    fn no_more_run_than_may_and_the_rest_follows_in_order() {
        let (inbox, core) = unbounded();
        let executor = Executor::new(vec![inbox], 2, 10);
        let mut reports = executor.submit(checks(4)).expect("room");
        let first = started(&core);
        assert_eq!((first.len(), executor.load().queued), (2, 2));
        executor.finish(report(first[1]));
        assert_eq!(reports.try_recv().expect("ended").0, 1);
        let next = started(&core);
        assert_eq!(next.len(), 1);
        for ticket in [first[0], next[0]] {
            executor.finish(report(ticket));
        }
        for ticket in started(&core) {
            executor.finish(report(ticket));
        }
        let mut places = vec![1];
        while let Some((place, _)) = reports.blocking_recv() {
            places.push(place);
        }
        assert_eq!(places, [1, 0, 2, 3]);
        // A second report of a check is of none.
        executor.finish(report(first[0]));
        let load = executor.load();
        assert_eq!((load.running, load.queued, load.done), (0, 0, 4));
    }

    #[test]
    fn a_batch_without_room_is_refused_as_a_whole_and_abandoned_checks_give_theirs_back() {
        let (inbox, core) = unbounded();
        let executor = Executor::new(vec![inbox], 1, 2);
        let reports = executor.submit(checks(3)).expect("room");
        assert!(executor.submit(checks(1)).is_none());
        assert_eq!(executor.load().refused, 1);
        drop(reports);
        // What runs keeps its place until it ends.
        assert!(executor.submit(checks(3)).is_none());
        let _waits = executor.submit(checks(2)).expect("room");
        let first = started(&core);
        assert_eq!(first.len(), 1);
        executor.finish(report(first[0]));
        assert_eq!((started(&core).len(), executor.load().queued), (1, 1));
    }

    #[test]
    fn checks_of_a_core_that_has_ended_have_no_report() {
        let (inbox, core) = unbounded();
        drop(core);
        let executor = Executor::new(vec![inbox], 2, 2);
        let mut reports = executor.submit(checks(2)).expect("room");
        assert!(reports.blocking_recv().is_none());
        assert_eq!(executor.load().running, 0);
    }
}
