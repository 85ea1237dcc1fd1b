//! One life of a sink on its own directory: with the real store, one core and a clock moved by
//! hand; and what its store holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use model::fact::{Event, State};
use model::inbox::CoreCommand;
use model::limits::FLAP_WINDOW_MS;
use model::target::Maintenance;
use model::{CoreIndex, Evidence, FailureClass, MonoUs, Now, Outcome, UnixMs};
use store::{EventFilter, Store};
use tokio::sync::oneshot;

use super::place::url;
use crate::handle::{CoreLink, Registration, SinkCommand, SinkHandle, spawn};
use crate::testbed::{START, config, healthy, target};

/// Targets of a sink that nothing else was said of: all of them fail together.
pub(super) const TARGETS: u32 = 20;
/// The file that names how many there are otherwise: in states as a real fleet has them.
const FLEET: &str = "fleet";
/// As what targets fail, one like this and the next like that.
const CLASSES: [FailureClass; 3] = [
    FailureClass::HttpStatus,
    FailureClass::BodyKeywordMissing,
    FailureClass::RedirectLoop,
];

/// What is with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lot {
    /// Outages and their ends, over and over.
    Fails(FailureClass),
    /// The same, inside of a maintenance window: nothing is told of it.
    Maintained,
    /// The same, and somebody paused it: nothing is heard of it.
    Paused,
    Well,
}

impl Lot {
    /// That of the target in `slot`, of so many.
    pub(super) fn of(slot: u32, fleet: u32) -> Self {
        match slot % 10 {
            _ if fleet == TARGETS => Self::Fails(FailureClass::HttpStatus),
            6 => Self::Maintained,
            7 => Self::Paused,
            8 | 9 => Self::Well,
            kind => Self::Fails(CLASSES[kind as usize % CLASSES.len()]),
        }
    }

    /// What its check finds in a wave: three that fail, and one that does not.
    fn finds(self, wave: u32) -> Option<FailureClass> {
        let class = match self {
            Self::Fails(class) => class,
            Self::Maintained | Self::Paused => FailureClass::HttpStatus,
            Self::Well => return None,
        };
        (!wave.is_multiple_of(4)).then_some(class)
    }
}

/// Says how many targets the sink of a directory has.
pub(super) fn settle(directory: &Path, fleet: u32) {
    std::fs::write(directory.join(FLEET), fleet.to_string()).expect("written");
}

/// How many targets the sink of a directory has.
pub(super) fn fleet(directory: &Path) -> u32 {
    let noted = std::fs::read_to_string(directory.join(FLEET));
    noted.map_or(TARGETS, |noted| noted.parse().expect("a number"))
}

/// A window around every time of these tests.
const ALWAYS: Maintenance = Maintenance {
    start_ms: 1,
    end_ms: u64::MAX,
};

/// A running sink with the real store, one core, and a clock moved by hand.
pub(super) struct Node {
    pub(super) sink: SinkHandle,
    outcomes: Sender<Outcome>,
    _evidence: Sender<Box<Evidence>>,
    inbox: Receiver<CoreCommand>,
    fleet: u32,
    clock_ms: Arc<AtomicU64>,
    sent: u64,
}

pub(super) fn open(directory: &Path) -> Store {
    now(Store::open(&url(directory))).expect("the store opens")
}

pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

impl Node {
    pub(super) fn start(directory: &Path, at: UnixMs) -> Self {
        let (outcomes, take_outcomes) = bounded(1_000);
        let (evidence, take_evidence) = bounded(1_000);
        let (inbox, take_inbox) = bounded(1_000);
        let core = CoreIndex(0);
        let link = CoreLink {
            core,
            outcomes: take_outcomes,
            evidence: take_evidence,
            inbox,
        };
        let clock_ms = Arc::new(AtomicU64::new(at.0));
        let read = Arc::clone(&clock_ms);
        let clock = Arc::new(move || {
            let ms = read.fetch_add(1, Ordering::Relaxed);
            Now {
                mono: MonoUs((ms - START.0) * 1_000),
                unix: UnixMs(ms),
            }
        });
        let fleet = fleet(directory);
        // A small journal: segments are closed and removed all the time.
        let config = crate::SinkConfig {
            journal_max_bytes: 32 * 1024 * u64::from(fleet / TARGETS),
            ..config(directory)
        };
        let sink = spawn(config, clock, vec![link], open(directory)).expect("the sink starts");
        let seats = (0..fleet).map(|slot| Registration {
            core,
            slot: model::Slot(slot),
            target: target(1 + i64::from(slot)),
            group_id: 0,
            method: None,
            generation: model::Generation(1),
            interval_s: 60,
            cadence_ms: 57_000,
            maintenance: (Lot::of(slot, fleet) == Lot::Maintained).then_some(ALWAYS),
        });
        let send = |command| sink.commands.send(command).expect("the sink runs");
        send(SinkCommand::Register(seats.collect()));
        for slot in (0..fleet).filter(|&slot| Lot::of(slot, fleet) == Lot::Paused) {
            send(SinkCommand::Retire {
                core,
                slot: model::Slot(slot),
                by: Some("somebody".to_owned()),
            });
        }
        Self {
            sink,
            outcomes,
            _evidence: evidence,
            inbox: take_inbox,
            fleet,
            clock_ms,
            sent: 0,
        }
    }

    /// Checks every target once, as the wave of this number.
    pub(super) fn check(&mut self, wave: u32) {
        // Outages that follow each other soon would be one target that flaps.
        let since_last_ms = if wave % 4 == 1 {
            FLAP_WINDOW_MS
        } else {
            60_000
        };
        let before_ms = self.clock_ms.fetch_add(since_last_ms, Ordering::Relaxed);
        let at = UnixMs(before_ms + since_last_ms);
        for slot in 0..self.fleet {
            let class = Lot::of(slot, self.fleet).finds(wave);
            let outcome = Outcome {
                class: class.map_or(0, |class| class as u8),
                seq: wave,
                ..healthy(slot, 1, at)
            };
            self.outcomes.send(outcome).expect("the sink runs");
        }
        self.sent += u64::from(self.fleet);
        // Waves come when they come: nobody obeys.
        self.inbox.try_iter().for_each(drop);
    }

    /// The same, until the store has what follows.
    pub(super) fn wave(&mut self, wave: u32) {
        self.check(wave);
        // A flush is of what was drained before it.
        while self.sink.stats.snapshot().total().drained < self.sent {
            self.turn();
        }
        self.flush();
    }

    /// The same, until what follows is durable; the store may not have it yet.
    pub(super) fn durable_wave(&mut self, wave: u32) {
        self.check(wave);
        let is_durable = || {
            let seen = self.sink.stats.snapshot();
            seen.total().drained == self.sent && seen.counters.facts_waiting == 0
        };
        while !is_durable() {
            self.turn();
        }
    }

    /// Waits for a turn of the sink.
    fn turn(&self) {
        let (reply, answered) = oneshot::channel();
        let ages = SinkCommand::Ages { reply };
        self.sink.commands.send(ages).expect("the sink runs");
        answered.blocking_recv().expect("the sink answers");
    }

    pub(super) fn flush(&self) {
        self.ask(|done| SinkCommand::Flush { done });
    }

    fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> SinkCommand) {
        let (done, answered) = oneshot::channel();
        self.sink
            .commands
            .send(command(done))
            .expect("the sink runs");
        answered.blocking_recv().expect("the sink answers");
    }

    pub(super) fn stop(self) {
        self.ask(|done| SinkCommand::Stop { done });
        self.sink
            .thread
            .join()
            .expect("no panic")
            .expect("a clean end");
    }
}

/// Every event of the store.
pub(super) fn events(store: &Store, id: i64) -> Vec<Event> {
    let filter = EventFilter {
        target: Some(target(id)),
        limit: 100_000,
        ..EventFilter::default()
    };
    now(store.events(&filter)).expect("events")
}

/// A chain begins with its opening, has no gap, and ends in the state of its row; how long it is.
pub(super) fn whole_chain(store: &Store, event: &Event) -> usize {
    let chain = now(store.transitions(event.id)).expect("transitions");
    assert_eq!(chain[0].before, None);
    for pair in chain.windows(2) {
        assert_eq!(pair[1].before, Some(pair[0].after), "{chain:?}");
        assert!(pair[0].id < pair[1].id);
    }
    let last = chain.last().expect("opened").after;
    let ended = event.ended_at.is_some();
    assert_eq!(last, if ended { State::Resolved } else { event.state });
    chain.len()
}

/// Notes a wave at once or not at all: the sink's thread may kill the process meanwhile.
pub(super) fn note(directory: &Path, wave: u32) {
    let written = directory.join("waves.new");
    std::fs::write(&written, wave.to_string()).expect("written");
    std::fs::rename(written, directory.join("waves")).expect("renamed");
}

/// The last wave that was noted.
pub(super) fn noted(directory: &Path) -> u32 {
    let waves = std::fs::read_to_string(directory.join("waves")).unwrap_or_default();
    waves.parse().unwrap_or(0)
}
