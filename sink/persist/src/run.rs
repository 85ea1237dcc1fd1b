//! The sink's thread: pinned, one tokio runtime, one loop. What a turn does is in `sink`.

use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::thread::{CpuSet, sched_setaffinity};
use store::{ALL_SHARDS, Claim, JournalId};
use tokio::task::LocalSet;

use crate::apply::{self, FactStore};
use crate::error::PersistError;
use crate::handle::{Clock, Inside, SinkConfig};
use crate::identity;
use crate::sink::{Sink, Tenure};
use crate::start;

/// Time between two turns while there is something to do.
const TURN: Duration = Duration::from_millis(10);
/// Time between two turns after a while without anything to do.
const IDLE_TURN: Duration = Duration::from_millis(200);
/// Quiet turns after which the loop slows down.
const QUIET_TURNS: u32 = 100;
/// How long the end waits for the lease to be given back.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// How long the end waits for a store that does not answer; the journal has the facts.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Runs the sink until it is stopped. `started` is told the number of the journal when the start is
/// over; it is dropped without a word when the start fails.
pub(crate) fn thread<S: FactStore>(
    config: SinkConfig,
    clock: Clock,
    inside: Inside,
    store: S,
    started: &Sender<JournalId>,
) -> Result<(), PersistError> {
    pin(config.cpu);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PersistError::Thread)?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async move {
        let sink = start(&config, clock, inside, store).await?;
        // The starter waits for this; if it has gone, the command channel ends the loop.
        let _ = started.send(sink.journal());
        turn_until_stopped(sink).await
    }))
}

/// Reads store and journal, and starts the applier.
pub(crate) async fn start<S: FactStore>(
    config: &SinkConfig,
    clock: Clock,
    inside: Inside,
    store: S,
) -> Result<Sink<S>, PersistError> {
    let store = Rc::new(store);
    let directory = config.data_dir.join("journal");
    let claim = claim(config)?;
    let budget = config.journal_max_bytes;
    let found = start::find(&*store, &directory, budget, &claim, &clock).await?;
    let tenure = Tenure::new(claim, found.fence.epoch(), found.since);
    let now = clock();
    let mut sink = Sink::new(config, clock, inside, (Rc::clone(&store), tenure), found);
    // Whoever waits for the start reads the epoch next.
    sink.publish(now);
    let applier = apply::run(store, Rc::clone(&sink.queue));
    tokio::task::spawn_local(applier);
    Ok(sink)
}

/// What this node claims: every shard, so far.
fn claim(config: &SinkConfig) -> Result<Claim, PersistError> {
    Ok(Claim {
        node: config.node.clone(),
        holder: config.holder.clone(),
        journal: identity::of(&config.data_dir)?,
        lease_ms: config.lease_ms,
        shards: ALL_SHARDS,
        alone: config.alone,
        lost: None,
    })
}

pub(crate) async fn turn_until_stopped<S: FactStore>(
    mut sink: Sink<S>,
) -> Result<(), PersistError> {
    let mut quiet = 0;
    loop {
        let activity = sink.turn();
        if activity.stop {
            return wind_down(sink).await;
        }
        quiet = if activity.busy { 0 } else { quiet + 1 };
        rest(&sink, quiet >= QUIET_TURNS).await;
    }
}

/// Waits for the next turn. Whoever looks need not wait for the end of a long rest, but makes no
/// sink turn more often than work does.
async fn rest<S: FactStore>(sink: &Sink<S>, is_quiet: bool) {
    let asked = sink.stats().asked();
    if is_quiet && tokio::time::timeout(IDLE_TURN, asked).await.is_err() {
        return;
    }
    tokio::time::sleep(TURN).await;
}

/// Takes what is left, writes everything, answers. First failures that are still held open
/// nothing meanwhile, however long it takes.
async fn wind_down<S: FactStore>(mut sink: Sink<S>) -> Result<(), PersistError> {
    let done = sink.take_stop();
    sink.turn();
    sink.wind_down();
    let settled = tokio::time::timeout(STOP_WAIT, async {
        while !sink.is_settled() && !sink.is_fenced() {
            tokio::time::sleep(TURN).await;
            sink.turn();
        }
    });
    if settled.await.is_err() || !sink.is_settled() {
        say_unsettled(&sink);
    }
    let released = tokio::time::timeout(RELEASE_WAIT, sink.release());
    // A lease that was not given back runs out.
    drop(released.await);
    if let Some(done) = done {
        // Whoever asked may have gone: then nobody waits for the answer.
        let _ = done.send(());
    }
    match sink.unwritten() {
        0 => Ok(()),
        facts => Err(PersistError::Unwritten { facts }),
    }
}

fn say_unsettled<S: FactStore>(sink: &Sink<S>) {
    let lag = sink.queue.lag();
    if lag > 0 {
        tracing::warn!(
            lag,
            "the sink ends before the store has every fact; the next start goes on from the journal"
        );
    }
    if !sink.is_fresh() {
        tracing::warn!("the store did not take the last check times; later checks replace them");
    }
    let checks = sink.history_waiting();
    if checks > 0 {
        tracing::warn!(
            checks,
            "the store did not take the last checks of the history"
        );
    }
    let lines = sink.audit_waiting();
    if lines > 0 {
        tracing::warn!(
            lines,
            "the store did not take the last lines about targets: they are in no audit log"
        );
    }
}

fn pin(cpu: Option<usize>) {
    let Some(cpu) = cpu.filter(|&cpu| cpu < CpuSet::MAX_CPU) else {
        return;
    };
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "the sink's thread could not be pinned");
    }
}
