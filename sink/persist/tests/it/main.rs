//! The sink from outside, as the node uses it: its own thread, real channels, the real store.

mod disk_full;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use model::fact::{Reason, State};
use model::inbox::CoreCommand;
use model::schedule::cadence_ms;
use model::{
    CoreIndex, Evidence, FailureClass, Generation, MonoUs, Now, Outcome, Slot, TargetId, UnixMs,
};
use persist::{
    Clock, CoreLink, FreshnessAges, HistoryMode, PersistError, Registration, SinkCommand,
    SinkConfig, SinkHandle, spawn,
};
use store::{EventFilter, Store, StoreUrl};
use tempfile::tempdir;
use tokio::sync::oneshot;

const START_MS: u64 = 1_800_000_000_000;
const CORE: CoreIndex = CoreIndex(3);

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

fn open_store(dir: &Path) -> Store {
    let url: StoreUrl = format!("sqlite:{}/s.db", dir.display())
        .parse()
        .expect("a URL");
    wait(Store::open(&url)).expect("opens")
}

fn target(slot: u32) -> TargetId {
    TargetId::new(i64::from(slot) + 1).expect("positive")
}

struct Running {
    sink: SinkHandle,
    outcomes: Sender<Outcome>,
    evidence: Sender<Box<Evidence>>,
    inbox: Receiver<CoreCommand>,
    clock_ms: Arc<AtomicU64>,
}

fn start(dir: &Path, store: Store) -> Result<Running, PersistError> {
    let config = SinkConfig {
        data_dir: dir.join("data"),
        cpu: Some(0),
        vantages: 0,
        confirm_after: 2,
        projection_interval_ms: 900_000,
        journal_max_bytes: 1 << 30,
        node: "test".to_owned(),
        holder: "here".to_owned(),
        lease_ms: 30_000,
        alone: true,
        history: HistoryMode::Edges,
    };
    let (outcomes, take_outcomes) = bounded(70_000);
    let (evidence, take_evidence) = bounded(1_000);
    let (send_command, inbox) = bounded(1_000);
    let clock_ms = Arc::new(AtomicU64::new(START_MS));
    let read = Arc::clone(&clock_ms);
    // Each reading is a millisecond later: time passes while the sink turns.
    let clock: Clock = Arc::new(move || {
        let ms = read.fetch_add(1, Ordering::Relaxed);
        Now {
            mono: MonoUs((ms - START_MS) * 1_000),
            unix: UnixMs(ms),
        }
    });
    let link = CoreLink {
        core: CORE,
        outcomes: take_outcomes,
        evidence: take_evidence,
        inbox: send_command,
    };
    let sink = spawn(config, clock, vec![link], store)?;
    Ok(Running {
        sink,
        outcomes,
        evidence,
        inbox,
        clock_ms,
    })
}

impl Running {
    fn register(&self, slots: u32) {
        let seat = |slot| Registration {
            core: CORE,
            slot: Slot(slot),
            target: target(slot),
            group_id: 9,
            method: None,
            generation: Generation(1),
            interval_s: 900,
            cadence_ms: cadence_ms(900),
            maintenance: None,
        };
        let seats = (0..slots).map(seat).collect();
        self.sink
            .commands
            .send(SinkCommand::Register(seats))
            .expect("runs");
    }

    fn check(&self, slot: u32, seq: u32, class: Option<FailureClass>) {
        let at = UnixMs(self.clock_ms.load(Ordering::Relaxed));
        let marker = Outcome::slot_released(Slot(slot), Generation(1), at);
        let class = class.map_or(0, |class| class as u8);
        if class != 0 {
            let text = "the answer was 503".to_owned();
            let evidence = Evidence {
                class,
                text,
                ..Evidence::of(Slot(slot), Generation(1), seq)
            };
            self.evidence.send(Box::new(evidence)).expect("room");
        }
        self.outcomes
            .send(Outcome {
                flags: 0,
                class,
                seq,
                ..marker
            })
            .expect("room");
    }

    fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> SinkCommand) -> T {
        let (answer, answered) = oneshot::channel();
        self.sink.commands.send(command(answer)).expect("runs");
        answered.blocking_recv().expect("answers")
    }

    fn flush(&self) {
        self.ask(|done| SinkCommand::Flush { done });
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

#[test]
fn an_outage_is_in_the_store_with_its_evidence_after_a_flush() {
    let dir = tempdir().expect("a directory");
    let store = open_store(dir.path());
    let node = start(dir.path(), store.clone()).expect("starts");
    node.register(10);
    (0..10).for_each(|slot| node.check(slot, 1, (slot < 2).then_some(FailureClass::HttpStatus)));
    node.flush();
    node.check(0, 2, Some(FailureClass::HttpStatus));
    node.check(1, 2, None);
    node.flush();
    let events = wait(store.events(&EventFilter::default())).expect("events");
    let of = |slot| {
        events
            .iter()
            .find(|event| event.target == target(slot))
            .expect("an event")
    };
    assert_eq!(events.len(), 2);
    assert_eq!(
        (of(0).state, of(0).fail_count, of(0).group_id),
        (State::Down, 2, 9)
    );
    assert_eq!(of(1).resolution, Some(Reason::ProbeCleared));
    let transitions = wait(store.transitions(of(0).id)).expect("transitions");
    let text = transitions[0]
        .evidence
        .as_ref()
        .map(|evidence| evidence.text.as_str());
    assert_eq!((transitions.len(), text), (2, Some("the answer was 503")));
    assert_eq!(wait(store.counts()).expect("counts").freshness, 10);
    let commands = node.inbox.try_iter().count();
    assert_eq!(commands, 4);
    let ages: FreshnessAges = node.ask(|reply| SinkCommand::Ages { reply });
    assert_eq!((ages.targets, ages.never_checked), (10, 0));
    node.stop();
}

#[test]
fn a_stop_writes_everything_and_a_start_goes_on() {
    let dir = tempdir().expect("a directory");
    let store = open_store(dir.path());
    let node = start(dir.path(), store.clone()).expect("starts");
    node.register(3);
    (0..3).for_each(|slot| node.check(slot, 1, Some(FailureClass::HttpStatus)));
    let stats = Arc::clone(&node.sink.stats);
    node.stop();
    let counters = stats.snapshot().counters;
    assert_eq!((counters.apply_lag, counters.journal_segments), (0, 0));
    assert_eq!(wait(store.open_events()).expect("events").len(), 3);

    let node = start(dir.path(), store.clone()).expect("starts again");
    node.register(3);
    (0..3).for_each(|slot| node.check(slot, 1, Some(FailureClass::HttpStatus)));
    node.flush();
    let open = wait(store.open_events()).expect("events");
    assert!(
        open.iter()
            .all(|open| (open.event.state, open.event.fail_count) == (State::Down, 2))
    );
    assert_eq!(open.len(), 3);
    node.stop();
}

#[test]
fn a_full_channel_of_healthy_results_only_moves_freshness() {
    let dir = tempdir().expect("a directory");
    let store = open_store(dir.path());
    let node = start(dir.path(), store.clone()).expect("starts");
    node.register(1_000);
    node.flush();
    for round in 0..60 {
        (0..1_000).for_each(|slot| node.check(slot, round + 1, None));
    }
    node.flush();
    let snapshot = node.sink.stats.snapshot();
    let total = snapshot.total();
    assert_eq!((total.drained, total.coalesced), (60_000, 60_000));
    assert_eq!(
        (
            snapshot.counters.journal_records,
            snapshot.counters.transitions
        ),
        (0, 0)
    );
    assert_eq!(snapshot.result_age.counts.iter().sum::<u64>(), 60_000);
    node.stop();
}

#[test]
fn the_sink_ends_when_nobody_can_command_it_any_more() {
    let dir = tempdir().expect("a directory");
    let node = start(dir.path(), open_store(dir.path())).expect("starts");
    drop(node.sink.commands);
    node.sink
        .thread
        .join()
        .expect("no panic")
        .expect("a clean end");
}

#[test]
fn a_data_directory_that_is_a_file_is_refused_with_its_path() {
    let dir = tempdir().expect("a directory");
    std::fs::write(dir.path().join("data"), "").expect("written");
    let error = start(dir.path(), open_store(dir.path()))
        .err()
        .expect("refused");
    let said = error.to_string();
    assert!(
        said.contains("data/journal") && said.contains("check the disk"),
        "{said}"
    );
}

#[test]
fn damage_in_what_the_store_lacks_is_refused_with_segment_and_offset() {
    let dir = tempdir().expect("a directory");
    let journal = dir.path().join("data/journal");
    std::fs::create_dir_all(&journal).expect("made");
    let segment = journal.join("000000000001.journal");
    std::fs::write(&segment, b"this is not what the sink wrote").expect("written");
    let said = start(dir.path(), open_store(dir.path()))
        .err()
        .expect("refused")
        .to_string();
    assert!(said.contains(&format!("{}:0", segment.display())), "{said}");
    assert!(said.contains("move it away"), "{said}");
}
