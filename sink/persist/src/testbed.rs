//! What the tests of this crate share: outcomes, random batches, a scripted store, and a sink that
//! is turned by hand on a virtual clock.

mod fake_store;

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use model::belief::{Belief, Signals};
use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::inbox::{Cadence, CoreCommand};
use model::metadata::{Probed, Says, Vote, Votes};
use model::outcome::Phases;
use model::schedule::cadence_ms;
use model::target::Method;
use model::{
    CoreIndex, Evidence, FactId, FailureClass, Generation, MonoUs, Now, Outcome, Slot, TargetId,
    UnixMs,
};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use crate::error::PersistError;
use crate::handle::{Clock, CoreLink, Inside, Registration, SinkCommand, SinkConfig};
use crate::history::HistoryMode;
use crate::questions::{Question, Questions, lanes_of};
use crate::run;
use crate::sink::{Activity, Sink};
use crate::stats::{SinkSnapshot, SinkStats};

pub(crate) use fake_store::FakeStore;

/// The wall clock when a test starts.
pub(crate) const START: UnixMs = UnixMs(1_800_000_000_000);

/// A healthy outcome of a check that started at `at`.
pub(crate) fn healthy(slot: u32, generation: u32, at: UnixMs) -> Outcome {
    let released = Outcome::slot_released(Slot(slot), Generation(generation), at);
    Outcome {
        flags: 0,
        class: 0,
        seq: 1,
        status: 200,
        ..released
    }
}

/// Flips one bit.
pub(crate) fn flip_bit(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let ids = (
        1i64..i64::MAX,
        1i64..i64::MAX,
        0u32..100,
        ".{0,40}",
        any::<bool>(),
    );
    ids.prop_map(|(id, target, fail_count, text, counted)| {
        let id = FactId::new(id).expect("positive");
        let target = TargetId::new(target).expect("positive");
        if counted {
            return Fact::Counted {
                event: id,
                target,
                fail_count,
            };
        }
        let evidence = Evidence {
            text: text.repeat(20),
            ..Evidence::default()
        };
        Fact::Transitioned {
            event: Event {
                id,
                target,
                group_id: 7,
                check_type: CheckType::Http,
                discriminator: None,
                state: State::SeemsDown,
                started_at: UnixMs(1),
                ended_at: None,
                resolution: None,
                fail_count,
                class: 10,
            },
            transition: Transition {
                id,
                event: id,
                target,
                before: None,
                after: State::SeemsDown,
                reason: Reason::Opened,
                source: "local".to_owned(),
                changed_at: UnixMs(2),
                evidence: Some(Box::new(evidence)),
                metadata: (fail_count % 2 == 1).then(|| Box::new(metadata(fail_count))),
            },
            job: Job {
                id,
                kind: JobKind::Fanout,
                transition: id,
                seq: 1,
                run_at: UnixMs(2),
            },
        }
    })
}

fn metadata(number: u32) -> model::Metadata {
    let vote = Vote {
        vantage: "oslo".to_owned(),
        says: Says::Failed,
        http_code: None,
        rtt_ms: Some(number),
        error: Some("connection refused".to_owned()),
    };
    model::Metadata {
        belief: Belief {
            signals: Signals::PORTS.and(Signals::ISOLATION),
            ..Belief::default()
        },
        votes: Some(Box::new(Votes {
            results: vec![vote; number as usize % 3],
            ..Votes::default()
        })),
        not_after: number
            .is_multiple_of(3)
            .then_some(UnixMs(u64::from(number))),
        probed: number.is_multiple_of(5).then_some(Probed {
            method: (number > 50).then_some(Method::Head),
            phases: Phases {
                total_us: number,
                ..Phases::NONE
            },
            redirect_count: number as u8,
        }),
        ..model::Metadata::default()
    }
}

/// Random batches numbered without gaps.
pub(crate) fn any_batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = prop::collection::vec(any_fact(), 0..6);
    (1u64..1_000_000, prop::collection::vec(batch, 0..12)).prop_map(|(first, batches)| {
        let numbered = batches.into_iter().zip(first..);
        numbered
            .map(|(facts, journal_seq)| Batch { journal_seq, facts })
            .collect()
    })
}

/// What a thread says while somebody listens. One subscriber hears all threads: with one for each
/// test the library may remember, of a line that two of them meet first, that nobody wants it.
pub(crate) struct Heard;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

impl Heard {
    /// Runs `test` while listening; what it heard that contains `text`.
    pub(crate) fn during(test: impl FnOnce(), text: &str) -> Vec<String> {
        static LISTENS: Once = Once::new();
        LISTENS.call_once(|| {
            tracing::subscriber::set_global_default(Self).expect("the only one");
        });
        tracing::callsite::rebuild_interest_cache();
        LINES.set(Some(Vec::new()));
        test();
        let mut lines = LINES.take().expect("nobody else takes them");
        lines.retain(|line| line.contains(text));
        lines
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        LINES.with_borrow_mut(|lines| {
            let Some(lines) = lines else {
                return;
            };
            let mut line = event.metadata().level().to_string();
            event.record(&mut |field: &Field, value: &dyn Debug| {
                let _ = write!(line, " {}={value:?}", field.name());
            });
            lines.push(line);
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A sink that is turned by hand, with the far ends of all its channels.
pub(crate) struct Bed {
    pub(crate) sink: Sink<Rc<FakeStore>>,
    pub(crate) store: Rc<FakeStore>,
    pub(crate) outcomes: Vec<Sender<Outcome>>,
    pub(crate) evidence: Vec<Sender<Box<Evidence>>>,
    pub(crate) inboxes: Vec<Receiver<CoreCommand>>,
    pub(crate) commands: Sender<SinkCommand>,
    pub(crate) released: Receiver<(CoreIndex, Slot)>,
    pub(crate) questions: Questions,
    pub(crate) stats: Arc<SinkStats>,
    /// Time that passed, on top of [`START`].
    pub(crate) clock_ms: Arc<AtomicU64>,
    /// How far the wall clock alone was set forward (or back) from that.
    step_ms: Arc<AtomicI64>,
    /// What passes between two looks at the clock: a machine on which everything takes long.
    pub(crate) pace_ms: Arc<AtomicU64>,
    seq: u32,
}

/// Lets a bed's clock follow the runtime's, for a sink that turns by itself.
pub(crate) fn follow_time(clock_ms: Arc<AtomicU64>) {
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            clock_ms.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// A folder in which syncs cost nothing, where there is one: some tests make thousands.
pub(crate) fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let folder = tempfile::tempdir_in(in_memory).or_else(|_| tempfile::tempdir());
    folder.expect("a directory")
}

/// Questions that wait in each lane of a bed.
pub(crate) const QUESTIONS_MAX: usize = 52;

/// The configuration of a bed.
pub(crate) fn config(data_dir: &Path) -> SinkConfig {
    SinkConfig {
        data_dir: data_dir.to_owned(),
        cpu: None,
        confirm_after: 3,
        vantages: 0,
        projection_interval_ms: 900_000,
        journal_max_bytes: 1 << 30,
        node: "test".to_owned(),
        holder: "here".to_owned(),
        lease_ms: 30_000,
        alone: false,
        history: HistoryMode::Edges,
    }
}

/// Runs a test on a runtime whose clock moves only when nothing else can.
pub(crate) fn on_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(test))
}

/// Where a bed stands.
struct Place {
    clock_ms: Arc<AtomicU64>,
    /// What passes between two looks at the clock.
    pace_ms: u64,
    /// Commands that an inbox holds.
    inbox: usize,
    /// Questions that wait in a lane for whoever asks them.
    questions: usize,
}

impl Place {
    /// A clock that is moved by hand, and small inboxes, so that tests see them full.
    fn at(start: UnixMs) -> Self {
        Self {
            clock_ms: Arc::new(AtomicU64::new(start.0)),
            pace_ms: 0,
            inbox: 8,
            questions: QUESTIONS_MAX,
        }
    }
}

impl Bed {
    /// One core, whose queues are as large as real ones.
    pub(crate) async fn start_roomy(config: SinkConfig, store: &Rc<FakeStore>) -> Self {
        let place = Place {
            inbox: model::limits::INBOX_MAX,
            questions: model::limits::VERIFIER_QUESTIONS_MAX,
            ..Place::at(START)
        };
        let started = Self::try_start_in(config, 1, store, place).await;
        started.expect("starts")
    }

    pub(crate) async fn start(config: SinkConfig, cores: u16, store: &Rc<FakeStore>) -> Self {
        Self::start_at(config, cores, store, START).await
    }

    pub(crate) async fn start_at(
        config: SinkConfig,
        cores: u16,
        store: &Rc<FakeStore>,
        start: UnixMs,
    ) -> Self {
        let started = Self::try_start_in(config, cores, store, Place::at(start)).await;
        started.expect("starts")
    }

    /// On a machine on which `pace_ms` pass between two looks at the clock.
    pub(crate) async fn start_slowly(
        config: SinkConfig,
        store: &Rc<FakeStore>,
        (clock_ms, pace_ms): (Arc<AtomicU64>, u64),
    ) -> Self {
        let place = Place {
            clock_ms,
            pace_ms,
            ..Place::at(START)
        };
        let started = Self::try_start_in(config, 1, store, place).await;
        started.expect("starts")
    }

    pub(crate) async fn try_start(
        config: SinkConfig,
        store: &Rc<FakeStore>,
    ) -> Result<Self, PersistError> {
        Self::try_start_in(config, 1, store, Place::at(START)).await
    }

    async fn try_start_in(
        config: SinkConfig,
        cores: u16,
        store: &Rc<FakeStore>,
        place: Place,
    ) -> Result<Self, PersistError> {
        let Place {
            clock_ms,
            pace_ms,
            inbox,
            questions: questions_max,
        } = place;
        let step_ms = Arc::new(AtomicI64::new(0));
        let pace_ms = Arc::new(AtomicU64::new(pace_ms));
        let (read, stepped) = (Arc::clone(&clock_ms), Arc::clone(&step_ms));
        let pace = Arc::clone(&pace_ms);
        let clock: Clock = Arc::new(move || {
            let ms = read.fetch_add(pace.load(Ordering::Relaxed), Ordering::Relaxed);
            Now {
                mono: MonoUs((ms - START.0) * 1_000),
                unix: UnixMs(ms.saturating_add_signed(stepped.load(Ordering::Relaxed))),
            }
        });
        let (mut outcomes, mut evidence, mut inboxes, mut links) = (vec![], vec![], vec![], vec![]);
        for core in 0..cores {
            let (send_outcome, take_outcome) = bounded(10_000);
            let (send_evidence, take_evidence) = bounded(10_000);
            let (send_command, take_command) = bounded(inbox);
            outcomes.push(send_outcome);
            evidence.push(send_evidence);
            inboxes.push(take_command);
            links.push(CoreLink {
                core: CoreIndex(core),
                outcomes: take_outcome,
                evidence: take_evidence,
                inbox: send_command,
            });
        }
        let stats = Arc::new(SinkStats::new((0..cores).map(CoreIndex)));
        let (commands, take_commands) = bounded(1_000);
        let (send_released, released) = bounded(4);
        let (send_questions, questions) = lanes_of(questions_max);
        let inside = Inside {
            links,
            commands: take_commands,
            released: send_released,
            questions: send_questions,
            stats: Arc::clone(&stats),
        };
        let sink = run::start(&config, clock, inside, Rc::clone(store)).await?;
        let store = Rc::clone(store);
        Ok(Self {
            sink,
            store,
            outcomes,
            evidence,
            inboxes,
            commands,
            released,
            questions,
            stats,
            clock_ms,
            step_ms,
            pace_ms,
            seq: 0,
        })
    }

    /// What the verifiers are to be asked next.
    pub(crate) fn next_question(&mut self) -> Option<Question> {
        let Questions { quick, slow } = &mut self.questions;
        quick.try_recv().or_else(|_| slow.try_recv()).ok()
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> UnixMs {
        let step_ms = self.step_ms.load(Ordering::Relaxed);
        UnixMs(
            self.clock_ms
                .load(Ordering::Relaxed)
                .saturating_add_signed(step_ms),
        )
    }

    /// The monotonic clock.
    pub(crate) fn mono(&self) -> MonoUs {
        MonoUs((self.clock_ms.load(Ordering::Relaxed) - START.0) * 1_000)
    }

    /// Sets the wall clock to `ms` from where it would be had nobody ever set it.
    pub(crate) fn set_wall_clock(&self, ms: i64) {
        self.step_ms.store(ms, Ordering::Relaxed);
    }

    /// One turn of the loop and the 10 ms after it.
    pub(crate) async fn turn(&mut self) -> Activity {
        let activity = self.sink.turn();
        self.clock_ms.fetch_add(10, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        activity
    }

    pub(crate) async fn turns(&mut self, count: u32) {
        for _ in 0..count {
            self.turn().await;
        }
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn register(&self, core: u16, slot: u32, generation: u32, id: i64, interval_s: u32) {
        self.register_with(core, slot, generation, id, interval_s, |_| {});
    }

    /// Registers a target that `change` makes special.
    pub(crate) fn register_with(
        &self,
        core: u16,
        slot: u32,
        generation: u32,
        id: i64,
        interval_s: u32,
        change: impl FnOnce(&mut Registration),
    ) {
        let mut registration = Registration {
            core: CoreIndex(core),
            slot: Slot(slot),
            target: target(id),
            group_id: 0,
            method: Some(Method::Get),
            generation: Generation(generation),
            interval_s,
            cadence_ms: cadence_ms(interval_s),
            maintenance: None,
        };
        change(&mut registration);
        self.commands
            .send(SinkCommand::Register(vec![registration]))
            .expect("room");
    }

    pub(crate) fn check(
        &mut self,
        core: u16,
        slot: u32,
        generation: u32,
        class: Option<FailureClass>,
    ) {
        self.check_with(core, slot, generation, class, |_| {});
    }

    /// A check whose outcome `change` makes special.
    pub(crate) fn check_with(
        &mut self,
        core: u16,
        slot: u32,
        generation: u32,
        class: Option<FailureClass>,
        change: impl FnOnce(&mut Outcome),
    ) {
        self.seq += 1;
        let class = class.map_or(0, |class| class as u8);
        let mut outcome = Outcome {
            class,
            seq: self.seq,
            ..healthy(slot, generation, self.now())
        };
        change(&mut outcome);
        let core = usize::from(core);
        if class != 0 {
            let evidence = Evidence {
                class,
                ..Evidence::of(outcome.slot, outcome.generation, self.seq)
            };
            self.evidence[core].send(Box::new(evidence)).expect("room");
        }
        self.outcomes[core].send(outcome).expect("room");
    }

    pub(crate) fn release(&self, core: u16, slot: u32) {
        let marker = Outcome::slot_released(Slot(slot), Generation(0), self.now());
        self.outcomes[usize::from(core)].send(marker).expect("room");
    }

    pub(crate) fn cadences(&self, core: u16) -> Vec<(u32, Cadence)> {
        let commands = self.inboxes[usize::from(core)].try_iter();
        commands
            .map(|command| match command {
                CoreCommand::Cadence { slot, cadence, .. } => (slot.0, cadence),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Turns until a `Flush` is answered.
    pub(crate) async fn flush(&mut self) {
        let (done, mut answered) = oneshot::channel();
        self.commands
            .send(SinkCommand::Flush { done })
            .expect("room");
        for _ in 0..10_000 {
            self.turn().await;
            if answered.try_recv().is_ok() {
                return;
            }
        }
        panic!("the flush was never answered: {:?}", self.snapshot());
    }

    pub(crate) fn snapshot(&self) -> SinkSnapshot {
        self.stats.snapshot()
    }
}

pub(crate) fn target(id: i64) -> TargetId {
    TargetId::new(id).expect("positive")
}
