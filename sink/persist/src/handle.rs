//! The outside of the sink: configuration, commands, handle, and the start of its thread. What
//! happens inside is none of this module's business.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use incident::pressure::Health;
use incident::quorum::Answer;
use model::fact::State;
use model::inbox::CoreCommand;
use model::limits::{SINK_COMMANDS_MAX, SLOTS_RELEASED_MAX};
use model::target::{Maintenance, Method};
use model::window::Occurrence;
use model::{
    CoreIndex, Evidence, FactId, Generation, MonoUs, Now, Outcome, Slot, TargetId, UnixMs,
};
use store::{JournalId, Store};
use tokio::sync::oneshot;

use crate::ages::FreshnessAges;
use crate::error::PersistError;
use crate::history::HistoryMode;
use crate::questions::{Lanes, Question, Questions, lanes};
use crate::run;
use crate::stats::SinkStats;

/// Reads both clocks; called a few times per turn of the sink's loop.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// How the sink is set up.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The node's data directory; the journal lives in `data_dir/journal`.
    pub data_dir: PathBuf,
    /// CPU to pin the thread to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Consecutive failures that confirm an incident (at least 1).
    pub confirm_after: u32,
    /// Vantages that can be asked about a failing target; with none our own checks confirm.
    pub vantages: usize,
    /// Freshness of a target is written this often at most, in ms.
    pub projection_interval_ms: u64,
    /// All journal segments together, in bytes, before the alarm.
    pub journal_max_bytes: u64,
    /// Name of the node in the store, at most 255 bytes.
    pub node: String,
    /// Where it runs, for whoever meets its lease: `HOST:DATA_DIR`.
    pub holder: String,
    /// Length of its lease, in ms; it is renewed three times in it.
    pub lease_ms: u64,
    /// Nobody else can write to the store, whatever leases say: its file is locked.
    pub alone: bool,
    /// Which checks the history keeps.
    pub history: HistoryMode,
}

/// The sink's end of one probe core.
#[derive(Debug)]
pub struct CoreLink {
    /// Which core.
    pub core: CoreIndex,
    /// Its finished checks, in order.
    pub outcomes: Receiver<Outcome>,
    /// Evidence of failing checks; each is sent before its outcome.
    pub evidence: Receiver<Box<Evidence>>,
    /// Commands to it.
    pub inbox: Sender<CoreCommand>,
}

/// Who sits in a slot. Sent before the core hears of the slot, and again on each new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The probe core.
    pub core: CoreIndex,
    /// The slot on that core.
    pub slot: Slot,
    /// The target.
    pub target: TargetId,
    /// The legacy `blog_id`, or 0.
    pub group_id: u64,
    /// Method of its requests, where it is asked by any.
    pub method: Option<Method>,
    /// Configuration version; outcomes of any other are discarded.
    pub generation: Generation,
    /// Interval of the target, in seconds.
    pub interval_s: u32,
    /// Cadence of the target, in ms: always `model::schedule::cadence_ms(interval_s)`.
    pub cadence_ms: u32,
    /// Its maintenance window, past or to come.
    pub maintenance: Option<Maintenance>,
}

/// What memory knows of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// That of the worst of its open events.
    pub state: State,
    /// Checks failed that have opened no event yet.
    pub is_suspected: bool,
    /// The last check said something.
    pub is_known: bool,
    /// Age of the last check that did, in ms; `None` where none did since the start.
    pub checked_ms: Option<u64>,
    /// When it is checked next.
    pub next_check: UnixMs,
    /// The maintenance window that it is in.
    pub maintenance: Option<Maintenance>,
}

/// A check that somebody waited for.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its result.
    pub outcome: Outcome,
    /// What it saw, if it failed.
    pub evidence: Option<Box<Evidence>>,
    /// State of the target after it.
    pub state: State,
    /// Checks failed that have opened no event yet.
    pub is_suspected: bool,
}

/// A command to the sink.
#[derive(Debug)]
pub enum SinkCommand {
    /// These slots are taken, or their targets have a new generation.
    Register(Vec<Registration>),
    /// The cores of these slots know what was registered for them, so that they obey commands:
    /// a re-check that still holds is commanded again. After `Register`, and after the cores were
    /// told.
    Placed(Vec<(CoreIndex, Slot)>),
    /// The target is no longer watched: its open incident is closed by hand, later outcomes are
    /// discarded. The slot itself is released by the core's last word on it.
    Retire {
        /// The probe core.
        core: CoreIndex,
        /// The slot on that core.
        slot: Slot,
        /// Who paused it, if that is why.
        by: Option<String>,
    },
    /// These targets are not watched and will not be: what is still open of them from before the
    /// start is closed by hand.
    Abandon {
        /// Which.
        targets: Vec<TargetId>,
        /// Who paused them, if that is why.
        by: Option<String>,
    },
    /// Closes an open event by hand. The target is up then, until its next failing check.
    Close {
        /// Which.
        event: FactId,
        /// Who.
        by: String,
        /// Whether an event of that id was open.
        reply: oneshot::Sender<bool>,
    },
    /// The maintenance windows that operators added, as they are in the days around now: replaces
    /// what was said before. What the configuration of a target says is beside them.
    Windows(Vec<Occurrence>),
    /// What is known of a target.
    Look {
        /// The probe core.
        core: CoreIndex,
        /// The slot on that core.
        slot: Slot,
        /// The answer; `None` where the slot is empty.
        reply: oneshot::Sender<Option<Look>>,
    },
    /// Answers with the first check of a target that began after the question. It counts as asked
    /// for, also where nobody waits: a success closes as `probe_cleared`. Dropped when the target
    /// goes, or too many were asked for.
    Watch {
        /// The probe core.
        core: CoreIndex,
        /// The slot on that core.
        slot: Slot,
        /// When it was asked: what began before is no answer.
        since: MonoUs,
        /// The answer, where somebody waits for it.
        reply: Option<oneshot::Sender<Box<Watched>>>,
    },
    /// Every target that is watched has been registered. Open events from before the start whose
    /// target was not are closed as by hand: it was switched off while no node ran.
    Loaded {
        /// Targets that are watched but could not be loaded: their events stay open.
        keep: HashSet<TargetId>,
        /// [`epoch`](crate::SinkCounters::epoch) when loading began. Where it is another one by
        /// now, everything has to be loaded again, and this says nothing.
        epoch: u64,
    },
    /// Answers once the results that were sent before it are in the store, freshness included.
    /// While too many facts wait for the journal, these are the results that were taken.
    Flush {
        /// The answer.
        done: oneshot::Sender<()>,
    },
    /// How the node is now: replaces what was said before. Until the first one there are no signals
    /// of local pressure and no canaries; one that says when it was measured holds for
    /// [`HEALTH_VALID_MS`](model::limits::HEALTH_VALID_MS), and then the node is taken for stalled.
    Health(Health),
    /// The verifiers answered a question, or will not. Without answers it is asked again later.
    Answered {
        /// The question, as the sink put it.
        question: Question,
        /// Votes, and what is none.
        answers: Vec<Answer>,
    },
    /// Computes the age of the last check over all registered targets, from memory.
    Ages {
        /// The answer.
        reply: oneshot::Sender<FreshnessAges>,
    },
    /// Drains what is left, writes everything and ends the thread.
    Stop {
        /// Answered when all is written, or when the store stayed away (the journal has it then)
        /// or the journal could not be written (the thread then ends with an error).
        done: oneshot::Sender<()>,
    },
}

/// The running sink.
#[derive(Debug)]
pub struct SinkHandle {
    /// Commands to it (bounded).
    pub commands: Sender<SinkCommand>,
    /// Slots whose last word was processed: they may be reused.
    pub released: Receiver<(CoreIndex, Slot)>,
    /// What the verifiers are to be asked (bounded).
    pub questions: Questions,
    /// Its counters.
    pub stats: Arc<SinkStats>,
    /// Names its journal in every store.
    pub journal: JournalId,
    /// Its thread; ends after [`SinkCommand::Stop`], or when all command senders are gone; with
    /// [`PersistError::Unwritten`] when facts are lost with it.
    pub thread: JoinHandle<Result<(), PersistError>>,
}

/// Ends of the sink's own channels, handed to its thread.
pub(crate) struct Inside {
    pub(crate) links: Vec<CoreLink>,
    pub(crate) commands: Receiver<SinkCommand>,
    pub(crate) released: Sender<(CoreIndex, Slot)>,
    pub(crate) questions: Lanes,
    pub(crate) stats: Arc<SinkStats>,
}

/// Starts the sink: reads the store and the journal, then returns while the thread goes on.
/// Blocks the caller until the start is over (milliseconds, unless the journal is long).
///
/// # Errors
/// [`PersistError`] when the journal cannot be opened or is damaged where the store does not have
/// its facts yet, when the store does not answer, or when the thread cannot be made.
pub fn spawn(
    config: SinkConfig,
    clock: Clock,
    links: Vec<CoreLink>,
    store: Store,
) -> Result<SinkHandle, PersistError> {
    let (commands, commands_inside) = bounded(SINK_COMMANDS_MAX);
    let (released_inside, released) = bounded(SLOTS_RELEASED_MAX);
    let (questions_inside, questions) = lanes();
    let stats = Arc::new(SinkStats::new(links.iter().map(|link| link.core)));
    let inside = Inside {
        links,
        commands: commands_inside,
        released: released_inside,
        questions: questions_inside,
        stats: Arc::clone(&stats),
    };
    let (started_inside, started) = bounded(1);
    let thread = thread::Builder::new()
        .name("ringwatch-sink".to_owned())
        .spawn(move || run::thread(config, clock, inside, store, &started_inside))
        .map_err(PersistError::Thread)?;
    if let Ok(journal) = started.recv() {
        return Ok(SinkHandle {
            commands,
            released,
            questions,
            stats,
            journal,
            thread,
        });
    }
    match thread.join() {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => Err(PersistError::Thread(std::io::Error::other(
            "it ended at once",
        ))),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
