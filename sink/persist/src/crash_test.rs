//! The sink is killed, as by `kill -9`, at every point of a batch's way to the store: this test
//! starts itself again as the process that dies.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use model::fact::{Event, State};
use model::inbox::CoreCommand;
use model::{CoreIndex, Evidence, FailureClass, MonoUs, Now, Outcome, UnixMs};
use store::{EventFilter, Store, StoreUrl};
use tempfile::tempdir;
use tokio::sync::oneshot;

use crate::failpoint::{POINTS, VARIABLE};
use crate::handle::{CoreLink, Registration, SinkCommand, SinkHandle, spawn};
use crate::testbed::{START, config, healthy, target};

const DIRECTORY: &str = "PERSIST_TEST_DIRECTORY";
const TARGETS: u32 = 20;
/// Waves of an outage and its end, over and over.
const WAVES: u32 = 12;

/// A running sink with the real store, one core, and a clock moved by hand.
struct Node {
    sink: SinkHandle,
    outcomes: Sender<Outcome>,
    _evidence: Sender<Box<Evidence>>,
    _inbox: Receiver<CoreCommand>,
    clock_ms: Arc<AtomicU64>,
    seq: u32,
}

fn open(directory: &Path) -> Store {
    let url: StoreUrl = format!("sqlite:{}/facts.db", directory.display())
        .parse()
        .expect("a URL");
    now(Store::open(&url)).expect("the store opens")
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

impl Node {
    fn start(directory: &Path, at: UnixMs) -> Self {
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
        // A small journal: segments are closed and removed all the time.
        let config = crate::SinkConfig {
            journal_max_bytes: 64 * 1024,
            ..config(directory)
        };
        let sink = spawn(config, clock, vec![link], open(directory)).expect("the sink starts");
        let seats = (0..TARGETS).map(|slot| Registration {
            core,
            slot: model::Slot(slot),
            target: target(1 + i64::from(slot)),
            group_id: 0,
            generation: model::Generation(1),
            interval_s: 60,
            cadence_ms: 57_000,
        });
        sink.commands
            .send(SinkCommand::Register(seats.collect()))
            .expect("the sink runs");
        Self {
            sink,
            outcomes,
            _evidence: evidence,
            _inbox: take_inbox,
            clock_ms,
            seq: 0,
        }
    }

    /// Checks every target once and waits until the store has what follows.
    fn wave(&mut self, class: Option<FailureClass>) {
        self.seq += 1;
        let at = UnixMs(self.clock_ms.fetch_add(60_000, Ordering::Relaxed));
        for slot in 0..TARGETS {
            let class = class.map_or(0, |class| class as u8);
            let outcome = Outcome {
                class,
                seq: self.seq,
                ..healthy(slot, 1, at)
            };
            self.outcomes.send(outcome).expect("the sink runs");
        }
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

    fn stop(self) {
        self.ask(|done| SinkCommand::Stop { done });
        self.sink
            .thread
            .join()
            .expect("no panic")
            .expect("a clean end");
    }
}

fn class_of(wave: u32) -> Option<FailureClass> {
    (!wave.is_multiple_of(4)).then_some(FailureClass::HttpStatus)
}

/// Transitions and fail count of a target's newest event, after so many waves.
fn expected(waves: u32) -> (usize, u32) {
    let (outages, into) = (waves as usize / 4 * 3, waves % 4);
    match into {
        0 if waves == 0 => (0, 0),
        0 => (outages, 3),
        1 => (outages + 1, 1),
        2 => (outages + 1, 2),
        _ => (outages + 2, 3),
    }
}

/// The same of what is in the store, whose rows must also fit each other.
fn found(store: &Store, id: i64) -> (usize, u32) {
    let filter = EventFilter {
        target: Some(target(id)),
        ..EventFilter::default()
    };
    let events = now(store.events(&filter)).expect("events");
    assert!(
        events
            .iter()
            .filter(|event| event.ended_at.is_none())
            .count()
            <= 1
    );
    let transitions = events.iter().map(|event| whole_chain(store, event)).sum();
    let newest = events.iter().max_by_key(|event| event.id);
    (transitions, newest.map_or(0, |event| event.fail_count))
}

/// A chain begins with its opening, has no gap, and ends in the state of its row.
fn whole_chain(store: &Store, event: &Event) -> usize {
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

fn live_until_killed(directory: &Path) {
    let mut node = Node::start(directory, START);
    for wave in 1..=WAVES {
        node.wave(class_of(wave));
        note(directory, wave);
    }
    node.stop();
    panic!("nothing killed this process");
}

/// Notes a wave at once or not at all: the sink's thread may kill the process meanwhile.
fn note(directory: &Path, wave: u32) {
    let written = directory.join("waves.new");
    std::fs::write(&written, wave.to_string()).expect("written");
    std::fs::rename(written, directory.join("waves")).expect("renamed");
}

/// Dies at `point`, the `nth` time; returns how many waves the store was said to have.
fn die(directory: &Path, point: &str, nth: u32) -> u32 {
    let this = std::env::current_exe().expect("this test");
    let status = Command::new(this)
        .args([
            "--exact",
            "crash_test::a_kill_at_any_point_leaves_each_fact_whole_and_once",
        ])
        .env(DIRECTORY, directory)
        .env(VARIABLE, format!("{point}:{nth}"))
        .output()
        .expect("it starts");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status.status);
    assert_eq!(
        signal,
        Some(9),
        "{point}:{nth} {}",
        String::from_utf8_lossy(&status.stdout)
    );
    let waves = std::fs::read_to_string(directory.join("waves")).unwrap_or_default();
    waves.parse().unwrap_or(0)
}

fn recover(directory: &Path, point: &str, waves: u32) {
    let at = UnixMs(START.0 + 10_000_000);
    let mut node = Node::start(directory, at);
    node.ask(|done| SinkCommand::Flush { done });
    let store = open(directory);
    let is_written = point != "append.before";
    let mut ahead = 0;
    for id in 1..=i64::from(TARGETS) {
        let found = found(&store, id);
        assert!(
            [expected(waves), expected(waves + 1)].contains(&found),
            "{point}: {found:?}"
        );
        ahead += u32::from(found == expected(waves + 1));
    }
    let in_the_middle = [
        "append.after",
        "sync.after",
        "memory.after",
        "apply.before",
        "apply.after",
    ];
    assert!(is_written || ahead < TARGETS, "{point}");
    assert!(
        !in_the_middle.contains(&point) || ahead > 0,
        "{point}: a written batch was lost"
    );
    let counts = now(store.counts()).expect("counts");
    assert_eq!(counts.jobs, counts.transitions);

    // Life goes on: an outage and its end for everyone, whatever was open.
    (0..3).for_each(|_| node.wave(Some(FailureClass::HttpStatus)));
    node.wave(None);
    node.stop();
    for id in 1..=i64::from(TARGETS) {
        let filter = EventFilter {
            target: Some(target(id)),
            ..EventFilter::default()
        };
        let events = now(store.events(&filter)).expect("events");
        assert!(events.iter().all(|event| event.ended_at.is_some()));
        for event in &events {
            assert!(whole_chain(&store, event) >= 2);
        }
    }
    let counts = now(store.counts()).expect("counts");
    assert_eq!((counts.jobs, counts.open_events), (counts.transitions, 0));
}

#[test]
fn a_kill_at_any_point_leaves_each_fact_whole_and_once() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return live_until_killed(Path::new(&directory));
    }
    for point in POINTS {
        for nth in [1, 4] {
            let dir = tempdir().expect("a directory");
            let waves = die(dir.path(), point, nth);
            recover(dir.path(), point, waves);
        }
    }
}
