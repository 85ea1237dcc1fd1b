//! Counters and gauges of the sink: written by its thread alone, read by anyone, always as one
//! consistent picture (a sequence lock), so that the accounts balance in every report.

use std::sync::atomic::{AtomicU64, Ordering};

use model::CoreIndex;
use model::belief::Signals;
use model::seqlock::SeqLock;
use tokio::sync::Notify;

/// Upper bounds of the buckets of result ages and store batches, in ms; the last one has none.
pub const BOUNDS_MS: [u64; 15] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
];

const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Durations by the bound that they do not exceed (not cumulative), and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// One count per bound of [`BOUNDS_MS`], and one for what is longer.
    pub counts: [u64; BUCKETS],
    /// Sum in ms.
    pub sum_ms: u64,
}

impl Durations {
    pub(crate) fn record(&mut self, ms: u64) {
        self.counts[BOUNDS_MS.partition_point(|&bound| bound < ms)] += 1;
        self.sum_ms += ms;
    }

    fn to_words(self) -> [u64; BUCKETS + 1] {
        let mut words = [self.sum_ms; BUCKETS + 1];
        words[..BUCKETS].copy_from_slice(&self.counts);
        words
    }

    fn from_words(words: [u64; BUCKETS + 1]) -> Self {
        Self {
            counts: std::array::from_fn(|bucket| words[bucket]),
            sum_ms: words[BUCKETS],
        }
    }
}

/// Failing checks that were not believed, by the signals for which. A check that is not believed
/// for two of them is counted at both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disbelieved([u64; Signals::COUNT]);

impl Disbelieved {
    /// Counts a check that was not believed while these `signals` were in force.
    pub fn count(&mut self, signals: Signals) {
        let doubted = signals.without(Signals::TOLD_ONLY).each();
        for (count, (_, is_set)) in self.0.iter_mut().zip(doubted) {
            *count += u64::from(is_set);
        }
    }

    /// The stable name of every signal that makes us doubt, and the count at it.
    pub fn by_signal(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Signals::TOLD_ONLY.each().zip(self.0);
        let doubts = all.filter(|((_, is_told_only), _)| !is_told_only);
        doubts.map(|((name, _), count)| (name, count))
    }
}

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Everything that the sink counts. Counters only rise; gauges say so.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct SinkCounters { $($(#[$meta])* pub $name: u64,)* }

        const COUNTERS: usize = [$(stringify!($name)),*].len();

        impl SinkCounters {
            fn to_words(self) -> [u64; COUNTERS] { [$(self.$name),*] }

            fn from_words(words: [u64; COUNTERS]) -> Self {
                let [$($name),*] = words;
                Self { $($name),* }
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Time of the last turn on the monotonic clock, in µs (gauge).
    last_loop_mono_us,
    /// Slots that are registered (gauge).
    slots,
    /// Facts that wait for the journal: more than a moment only while it cannot be written (gauge).
    facts_waiting,
    /// Memory that they take, in bytes (gauge).
    facts_waiting_bytes,
    /// Facts kept in memory for the store; the rest of what it lacks is read back from the journal
    /// (gauge).
    facts_loaded,
    /// Batches written and synced.
    journal_records,
    /// Bytes of all segments on the disk (gauge).
    journal_bytes,
    /// What they may take at most, in bytes (gauge).
    journal_max_bytes,
    /// Segments on the disk (gauge).
    journal_segments,
    /// Syncs of the journal.
    journal_syncs,
    /// Writes or syncs of the journal that failed.
    journal_errors,
    /// 1 while the journal cannot be written (disk budget used up, or disk error) or not be read
    /// back for the store (gauge).
    journal_alarm,
    /// 1 while its disk budget is used up (gauge).
    journal_full,
    /// Batches in the journal that the store does not have yet (gauge).
    apply_lag,
    /// Batches of the journal applied to the store; several small ones may go in one transaction.
    applies,
    /// Applies that failed and were tried again.
    apply_retries,
    /// Applies that took longer than 2 s.
    apply_overdue,
    /// Facts of the journal that were passed over: while another node had their shards it wrote
    /// there, and the store keeps what that one wrote.
    facts_superseded,
    /// Times that the store had less than it had acknowledged.
    store_set_back,
    /// Batches that neither the store nor the journal had any more.
    batches_missing,
    /// The epoch under which this node writes, or wrote last (gauge).
    epoch,
    /// The right to write: 0 held, 1 not renewed in time, 2 taken by another node (gauge).
    lease,
    /// Times that another node took over from this one, or the store was set back.
    fenced,
    /// Checks written to the history.
    history_rows,
    /// Checks that wait for it (gauge).
    history_waiting,
    /// Checks that were left out of it because too many waited.
    history_left_out,
    /// Writes of it that failed; their rows wait again.
    history_retries,
    /// Lines about targets written to the audit log.
    audit_rows,
    /// Lines about targets that wait for it (gauge).
    audit_waiting,
    /// Lines that were left out of it because too many waited.
    audit_left_out,
    /// Writes of them that failed; they wait again.
    audit_retries,
    /// Freshness rows written.
    freshness_rows,
    /// Targets whose freshness waits to be written (gauge).
    freshness_pending,
    /// Freshness flushes that succeeded.
    freshness_flushes,
    /// Freshness flushes that failed; their rows wait again.
    freshness_retries,
    /// Transitions decided and made durable.
    transitions,
    /// Transition rows that the store wrote.
    transition_rows,
    /// Job rows that the store wrote.
    job_rows,
    /// Open incidents, not confirmed (gauge).
    open_seems_down,
    /// Open incidents, confirmed (gauge).
    open_down,
    /// Targets that failed and have no incident yet: a held first failure, or DNS (gauge).
    suspected,
    /// Failing targets that wait for confirmation, of which verifiers said too little at least
    /// twice, or for minutes (gauge).
    unconfirmed,
    /// Other targets with an open incident that is worth as much as Degraded (gauge).
    open_degraded,
    /// Other targets with an open incident that is a Warning (gauge).
    open_warning,
    /// Targets of which the last check could say nothing (gauge).
    not_known,
    /// 1 while many checks fail (gauge).
    failure_pressure,
    /// 1 while connect and timeout failures count only from the second in a row on (gauge).
    deferring,
    /// 1 while such failures, or all, are not believed (gauge).
    doubting,
    /// Signals of our own trouble in force, as [`Signals::bits`](crate::Signals::bits) (gauge).
    signals,
    /// 1 while the operator is told that this lasts for longer than five minutes (gauge).
    node_suppressing,
    /// 1 while the operator is told that the node's own network is gone (gauge).
    node_isolated,
    /// Questions to the verifiers, samples included.
    questions,
    /// Questions that found no room and are put again later.
    questions_refused,
    /// Questions that wait to be asked (gauge).
    questions_waiting,
    /// Questions of samples: whether many failures at once are real.
    sample_questions,
    /// Votes of verifiers that a target is up.
    votes_up,
    /// Votes that it is down.
    votes_down,
    /// Votes that came when their question was given up: they count for nothing.
    votes_late,
    /// Samples that confirmed that they are.
    samples_confirmed,
    /// Maintenance windows that swallowed something.
    maintenance_active,
    /// Rows of failures that were suppressed after a recovery or a false alarm.
    alerts_suppressed,
    /// Times that a failing target went over to be checked again soon.
    retries_dispatched,
    /// Questions to verifiers whose votes no incident tells.
    verifiers_sent,
    /// Open incidents of the store whose target has not been registered (gauge).
    unclaimed_events,
    /// Evidence that waits for its outcome (gauge).
    evidence_waiting,
    /// Evidence dropped because too much of it waited.
    evidence_dropped,
    /// Cadence commands that wait for room in an inbox (gauge).
    held_commands,
    /// Commands that waited when the sink came to take them last (gauge).
    commands_waiting,
    /// Released slots that the control plane has not taken yet (gauge).
    released_waiting,
}

/// Where the outcomes of one core went: `drained = stepped + coalesced + discarded_old_generation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreAccount {
    /// Taken from the channel (slot markers are not counted).
    pub drained: u64,
    /// Given to the incident machine.
    pub stepped: u64,
    /// Healthy results of clean targets: they only moved freshness.
    pub coalesced: u64,
    /// Results of another generation than the registered one, or of no registered slot.
    pub discarded_old_generation: u64,
    /// In the channel when this was published, after everything above was taken (gauge): its own
    /// length, slot markers included.
    pub queued: u64,
}

const ACCOUNT_WORDS: usize = 5;

impl CoreAccount {
    fn to_words(self) -> [u64; ACCOUNT_WORDS] {
        [
            self.drained,
            self.stepped,
            self.coalesced,
            self.discarded_old_generation,
            self.queued,
        ]
    }

    fn from_words(words: [u64; ACCOUNT_WORDS]) -> Self {
        let [
            drained,
            stepped,
            coalesced,
            discarded_old_generation,
            queued,
        ] = words;
        Self {
            drained,
            stepped,
            coalesced,
            discarded_old_generation,
            queued,
        }
    }

    /// Whether every drained outcome went to one place.
    pub fn balances(&self) -> bool {
        self.drained == self.stepped + self.coalesced + self.discarded_old_generation
    }
}

/// One consistent picture of the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkSnapshot {
    /// Counters and gauges.
    pub counters: SinkCounters,
    /// The account of each core.
    pub cores: Vec<(CoreIndex, CoreAccount)>,
    /// Age of results when drained.
    pub result_age: Durations,
    /// Time that the store took for a batch of facts, failed ones included.
    pub store_batch: Durations,
    /// Failing checks that were not believed.
    pub disbelieved: Disbelieved,
}

impl SinkSnapshot {
    /// The account over all cores.
    pub fn total(&self) -> CoreAccount {
        self.cores
            .iter()
            .fold(CoreAccount::default(), |sum, (_, core)| CoreAccount {
                drained: sum.drained + core.drained,
                stepped: sum.stepped + core.stepped,
                coalesced: sum.coalesced + core.coalesced,
                discarded_old_generation: sum.discarded_old_generation
                    + core.discarded_old_generation,
                queued: sum.queued + core.queued,
            })
    }
}

/// The sink's own working copy; published once per turn.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Counters and gauges.
    pub counters: SinkCounters,
    /// The account of each core, in the order of the [`SinkStats`].
    pub cores: Vec<CoreAccount>,
    /// Age of results when drained.
    pub(crate) result_age: Durations,
    /// Time that the store took for a batch of facts, failed ones included.
    pub(crate) store_batch: Durations,
    pub(crate) disbelieved: Disbelieved,
}

impl Ledger {
    /// A ledger for `cores` cores.
    pub fn new(cores: usize) -> Self {
        Self {
            cores: vec![CoreAccount::default(); cores],
            ..Self::default()
        }
    }
}

/// Shared counters. Aligned away from whatever else shares the cache line pair.
#[derive(Debug)]
#[repr(align(128))]
pub struct SinkStats {
    lock: SeqLock,
    counters: [AtomicU64; COUNTERS],
    result_age: [AtomicU64; BUCKETS + 1],
    store_batch: [AtomicU64; BUCKETS + 1],
    disbelieved: [AtomicU64; Signals::COUNT],
    cores: Vec<(CoreIndex, [AtomicU64; ACCOUNT_WORDS])>,
    asked: Notify,
}

impl SinkStats {
    /// Numbers of a sink of these cores, all 0.
    pub fn new(cores: impl Iterator<Item = CoreIndex>) -> Self {
        Self {
            lock: SeqLock::default(),
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            result_age: std::array::from_fn(|_| AtomicU64::new(0)),
            store_batch: std::array::from_fn(|_| AtomicU64::new(0)),
            disbelieved: std::array::from_fn(|_| AtomicU64::new(0)),
            cores: cores.map(|core| (core, Default::default())).collect(),
            asked: Notify::new(),
        }
    }

    /// Asks for a new picture: a sink that rests for 200 ms, since there is little to do, turns
    /// within 10 ms, as it does while there is much.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits until somebody asks, or did since this was waited for last.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The picture of the last finished turn.
    pub fn snapshot(&self) -> SinkSnapshot {
        self.lock.read(|| self.read())
    }

    fn read(&self) -> SinkSnapshot {
        SinkSnapshot {
            counters: SinkCounters::from_words(load(&self.counters)),
            cores: self
                .cores
                .iter()
                .map(|(core, words)| (*core, CoreAccount::from_words(load(words))))
                .collect(),
            result_age: Durations::from_words(load(&self.result_age)),
            store_batch: Durations::from_words(load(&self.store_batch)),
            disbelieved: Disbelieved(load(&self.disbelieved)),
        }
    }

    /// Replaces the picture; called by the sink's thread only.
    pub fn publish(&self, ledger: &Ledger) {
        self.lock.publish(|| {
            store(&self.counters, ledger.counters.to_words());
            store(&self.result_age, ledger.result_age.to_words());
            store(&self.store_batch, ledger.store_batch.to_words());
            store(&self.disbelieved, ledger.disbelieved.0);
            for ((_, words), account) in self.cores.iter().zip(&ledger.cores) {
                store(words, account.to_words());
            }
        });
    }
}

fn load<const N: usize>(words: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|index| words[index].load(Ordering::Relaxed))
}

fn store<const N: usize>(words: &[AtomicU64; N], values: [u64; N]) {
    for (word, value) in words.iter().zip(values) {
        word.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_picture_taken_while_the_sink_writes_still_balances() {
        let stats = Arc::new(SinkStats::new([CoreIndex(0), CoreIndex(1)].into_iter()));
        let writer = Arc::clone(&stats);
        let thread = thread::spawn(move || {
            let mut ledger = Ledger::new(2);
            for turn in 0..20_000 {
                let account = &mut ledger.cores[turn % 2];
                account.drained += 3;
                account.stepped += 1;
                account.coalesced += 2;
                writer.publish(&ledger);
            }
        });
        while !thread.is_finished() {
            let snapshot = stats.snapshot();
            assert!(
                snapshot.cores.iter().all(|(_, account)| account.balances()),
                "{snapshot:?}"
            );
        }
        thread.join().expect("the writer ends");
        assert_eq!(stats.snapshot().total().drained, 60_000);
    }

    #[test]
    fn durations_fall_into_the_bucket_of_their_bound_and_survive_their_words() {
        let mut durations = Durations::default();
        for ms in [0, 1, 2, 3, 60_000, 60_001] {
            durations.record(ms);
        }
        let counts = durations.counts;
        assert_eq!((counts[0], counts[1], counts[2]), (2, 1, 1));
        assert_eq!((counts[14], counts[15]), (1, 1));
        assert_eq!(durations.sum_ms, 120_007);
        assert_eq!(Durations::from_words(durations.to_words()), durations);
    }
}
