//! A long journal goes into a real store: whole, in order, and at a rate that is printed for
//! `cargo xtask bench journal`. Nothing is decided by a clock.

mod clock;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::limits::BATCH_MAX;
use model::{Evidence, FactId, TargetId, TargetSpec, UnixMs};
use rig::mariadb;
use store::{
    ALL_SHARDS, Applied, AuditRow, Claim, Fence, Floors, FreshnessRow, FreshnessWritten,
    HistoryRow, ImportId, ImportRow, JournalId, OpenEvent, Store, StoreError, StoreUrl,
};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::apply::{self, ApplyQueue, FactStore};
use crate::journal::Journal;
use crate::start;
use crate::testbed::{START, target};
use clock::{Spent, timed};

/// Transitions to replay, and how often it is measured.
const FACTS: &str = "RINGWATCH_REPLAY_FACTS";
const RUNS: &str = "RINGWATCH_REPLAY_RUNS";
/// Address of a database of a server, besides the embedded store; else it is that of the tests.
const SERVER: &str = "RINGWATCH_REPLAY_SERVER";

fn number(variable: &str, default: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// A store that says when it has the last batch.
struct Watched {
    store: Store,
    last: u64,
    has_all: Rc<Notify>,
}

impl FactStore for Watched {
    fn drops_overdue(&self) -> bool {
        false
    }

    async fn acquire(&self, claim: &Claim) -> Result<Fence, StoreError> {
        self.store.acquire(claim).await
    }

    async fn renew(&self, fence: Fence, lease_ms: u64) -> Result<(), StoreError> {
        self.store.renew(fence, lease_ms).await
    }

    async fn release(&self, fence: Fence) -> Result<(), StoreError> {
        self.store.release(fence).await
    }

    async fn pass_over(&self, fence: Fence, last_seq: u64) -> Result<(), StoreError> {
        self.store.pass_over(fence, last_seq).await
    }

    async fn apply(
        &self,
        fence: Fence,
        batch: &Arc<Batch>,
        acknowledged: u64,
    ) -> Result<Applied, StoreError> {
        let applied = self.store.apply(fence, batch, acknowledged).await;
        if batch.journal_seq == self.last {
            self.has_all.notify_one();
        }
        applied
    }

    async fn still_has(&self, fence: Fence, acknowledged: u64) -> Result<bool, StoreError> {
        self.store.still_has(fence, acknowledged).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.store.sync().await
    }

    async fn write_freshness(&self, fence: Fence, rows: Vec<FreshnessRow>) -> FreshnessWritten {
        self.store.write_freshness(fence, rows).await
    }

    async fn write_history(&self, fence: Fence, rows: Vec<HistoryRow>) -> Result<u64, StoreError> {
        self.store.write_history(fence, rows).await
    }

    async fn write_trail(&self, fence: Fence, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        self.store.write_trail(fence, rows).await
    }

    async fn floors(&self, fence: Fence) -> Result<Floors, StoreError> {
        self.store.floors(fence).await
    }

    async fn open_events(&self) -> Result<Vec<OpenEvent>, StoreError> {
        self.store.open_events().await
    }
}

/// Targets; each is down again and again.
const TARGETS: usize = 100_000;
/// From one transition of an incident to the next: more than the store is offered at once, so that
/// confirmed and closed are events that it has.
const APART: usize = 20_000;

/// The stages of an incident. All of so many targets open, then are confirmed, then end.
const STAGES: [(State, Reason); 3] = [
    (State::SeemsDown, Reason::Opened),
    (State::Down, Reason::VerifierConfirmed),
    (State::Resolved, Reason::ProbeCleared),
];

/// Incidents of one target after the other, each told in three transitions.
struct Story {
    mint: FactMint,
    made: usize,
    apart: usize,
    /// Of the targets that are being told of, by their place.
    events: Vec<Event>,
}

impl Story {
    fn new(facts: usize) -> Self {
        let apart = (facts / STAGES.len()).clamp(1, APART);
        Self {
            mint: FactMint::default(),
            made: 0,
            apart,
            events: Vec::with_capacity(apart),
        }
    }

    /// Events that are open after as many facts as were made.
    fn open(&self) -> usize {
        let (stage, place) = self.at(self.made);
        match stage {
            0 => place,
            1 => self.apart,
            _ => self.apart - place,
        }
    }

    /// Events that were opened so far.
    fn opened(&self) -> usize {
        let (stage, place) = self.at(self.made);
        let rounds = self.made / (STAGES.len() * self.apart);
        rounds * self.apart + if stage == 0 { place } else { self.apart }
    }

    /// The stage that the next fact after so many is, and of which target of its like.
    fn at(&self, made: usize) -> (usize, usize) {
        let within = made % (STAGES.len() * self.apart);
        (within / self.apart, within % self.apart)
    }

    fn next(&mut self) -> Fact {
        let now = UnixMs(START.0 + self.made as u64);
        let (stage, place) = self.at(self.made);
        let round = self.made / (STAGES.len() * self.apart);
        self.made += 1;
        let target = target(1 + ((round * self.apart + place) % TARGETS) as i64);
        let mut id = || self.mint.mint(target.shard(), now);
        if stage == 0 {
            self.events.truncate(place);
            self.events.push(opened(id(), target, now));
        }
        let event = &mut self.events[place];
        let (after, reason) = STAGES[stage];
        event.fail_count += 1;
        if after == State::Resolved {
            event.ended_at = Some(now);
            event.resolution = Some(reason);
        } else {
            event.state = after;
        }
        let evidence = || Evidence {
            class: 40,
            status: 503,
            head: "HTTP/1.1 503 Service Unavailable\r\nServer: nginx\r\n".repeat(4),
            text: "status 503 is not in 200-399".to_owned(),
            ..Evidence::default()
        };
        let transition = Transition {
            id: id(),
            event: event.id,
            target,
            before: stage.checked_sub(1).map(|before| STAGES[before].0),
            after,
            reason,
            source: "local".to_owned(),
            changed_at: now,
            evidence: (stage == 0).then(|| Box::new(evidence())),
            metadata: None,
        };
        let job = Job {
            id: id(),
            kind: JobKind::Fanout,
            transition: transition.id,
            seq: 1 + stage as u32,
            run_at: now,
        };
        Fact::Transitioned {
            event: event.clone(),
            transition,
            job,
        }
    }
}

fn opened(id: FactId, target: TargetId, now: UnixMs) -> Event {
    Event {
        id,
        target,
        group_id: 0,
        check_type: CheckType::Http,
        discriminator: None,
        state: State::SeemsDown,
        started_at: now,
        ended_at: None,
        resolution: None,
        fail_count: 0,
        class: 40,
    }
}

/// The targets of a story, so that their statuses are written.
async fn import_targets(store: &Store, targets: usize) {
    let row = |id: usize| {
        let url = format!("http://s-{id}.test/");
        let spec = TargetSpec {
            url,
            ..TargetSpec::default()
        };
        ImportRow {
            id: Some(target(id as i64)),
            config: spec.parse().expect("valid"),
        }
    };
    let rows: Vec<ImportRow> = (1..=targets).map(row).collect();
    let report = store.import(rows, ImportId(START)).await.expect("imported");
    assert_eq!(report.inserted, targets as u64, "{:?}", report.refused);
}

/// A journal, and what a store has that took it.
struct Written {
    records: u64,
    bytes: u64,
    events: usize,
    open: usize,
}

/// A journal of `facts` transitions, so many in a record.
fn write_journal(directory: &Path, facts: usize, per_record: usize) -> Written {
    let mut journal = Journal::open(directory, u64::MAX, 0, |_| {}).expect("opens");
    let mut story = Story::new(facts);
    let batch = |journal_seq| Batch {
        journal_seq,
        facts: (0..per_record).map(|_| story.next()).collect(),
    };
    let records = (facts / per_record) as u64;
    let batches: Vec<Batch> = (1..=records).map(batch).collect();
    let (durable, trouble) = journal.commit(batches.iter());
    assert!(
        trouble.is_none() && durable as u64 == records,
        "{trouble:?}"
    );
    Written {
        records,
        bytes: journal.bytes(),
        events: story.opened(),
        open: story.open(),
    }
}

/// Reads the journal as a start does, then has the store take it; what each took.
async fn replay(directory: &Path, store: &Store, records: u64) -> (Spent, Spent) {
    let has_all = Rc::new(Notify::new());
    let watched = Rc::new(Watched {
        store: store.clone(),
        last: records,
        has_all: Rc::clone(&has_all),
    });
    let claim = Claim {
        node: "test".to_owned(),
        holder: "here".to_owned(),
        journal: JournalId::new(1).expect("positive"),
        lease_ms: 30_000,
        shards: ALL_SHARDS,
        alone: true,
        lost: None,
    };
    let clock = clock::real();
    let finding = start::find(&*watched, directory, u64::MAX, &claim, &clock);
    let (found, start) = timed(finding).await;
    let found = found.expect("starts");
    assert_eq!((found.applied, found.journal.last_seq()), (0, records));
    let queue = ApplyQueue::new(found.journal, found.applied, found.fence, clock);
    let local = LocalSet::new();
    let ((), apply) = timed(local.run_until(async {
        tokio::task::spawn_local(apply::run(watched, Rc::clone(&queue)));
        has_all.notified().await;
    }))
    .await;
    (start, apply)
}

fn per_second(count: usize, spent: Spent) -> u64 {
    (count as f64 / spent.passed.as_secs_f64().max(1e-9)) as u64
}

fn cpu_us(count: usize, spent: Spent) -> f64 {
    spent.cpu.as_secs_f64() * 1e6 / count as f64
}

fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        let (server, name) = (mariadb::shared(), mariadb::fresh_name());
        server.sql(&format!("CREATE DATABASE {name}"));
        server.address("ringwatch", &name)
    })
}

/// The store at `url`, of which nothing is there yet.
async fn empty(url: &str) -> Store {
    let url: StoreUrl = url.parse().expect("a URL");
    Store::migrate(&url).await.expect("migrated");
    Store::open(&url).await.expect("opens")
}

#[test]
fn a_long_journal_is_in_the_store_whole_and_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (facts, server) = (number(FACTS, 6_000), server());
    let runs = [1, BATCH_MAX].repeat(number(RUNS, 1));
    for (run, per_record) in runs.into_iter().enumerate() {
        let dir = tempfile::tempdir().expect("a directory");
        let embedded = format!("sqlite:{}/s.db", dir.path().display());
        let served = format!("{server}?prefix=r{run}_");
        for (name, url) in [("SQLite", embedded), ("MariaDB", served)] {
            let journal = dir.path().join(name);
            let written = write_journal(&journal, facts, per_record);
            let (records, bytes) = (written.records, written.bytes);
            let store = runtime.block_on(empty(&url));
            runtime.block_on(import_targets(&store, written.events.min(TARGETS)));
            let (start, apply) = runtime.block_on(replay(&journal, &store, records));
            let counts = runtime.block_on(store.counts()).expect("counts");
            assert_eq!(
                (counts.transitions, counts.jobs),
                (facts as u64, facts as u64)
            );
            assert_eq!(counts.journal_seq, records);
            assert_eq!(
                (counts.events, counts.open_events),
                (written.events as u64, written.open as u64)
            );
            println!(
                "replay: | {name} | {per_record} | {records} \
                 | {:.0} | {} | {:.1} | {} | {} | {:.1} |",
                bytes as f64 / facts as f64,
                per_second(facts, start),
                cpu_us(facts, start),
                per_second(facts, apply),
                per_second(records as usize, apply),
                cpu_us(facts, apply),
            );
        }
    }
}
