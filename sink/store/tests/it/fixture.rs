//! Targets, incidents and batches for tests, and what a backend brings to its tests.

use std::ops::Deref;
use std::sync::Arc;

use model::belief::{Belief, Signals, Stance};
use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::limits::FACT_EPOCH_UNIX_MS;
use model::metadata::{Observation, Probed, Says, Vote, Votes};
use model::outcome::Phases;
use model::target::{Method, TargetConfig};
use model::{Evidence, FactId, Metadata, TargetId, TargetSpec, UnixMs};
use store::{
    ALL_SHARDS, Applied, Claim, Fence, Floors, FreshnessRow, FreshnessWritten, ImportId, ImportRow,
    JournalId, Store, StoreError, StoreUrl,
};

/// A place for stores of one kind, empty at first and gone with the value.
pub(crate) trait Backend {
    /// How often random batches are tried: a database of a server takes longer to make.
    const RANDOM_CASES: u32;
    /// The clock of the database in ms, as a term of its SQL.
    const NOW_MS: &str;

    fn fresh() -> Self;
    fn url(&self) -> StoreUrl;
    /// Runs `sql` (which every backend must understand) past the store's own connection; the first
    /// column of its first row.
    fn number(&self, sql: &str) -> Option<i64>;
}

pub(crate) async fn open(backend: &impl Backend) -> Writer {
    let store = Store::open(&backend.url()).await.expect("the store opens");
    Writer::of(store).await
}

/// What the node `name` claims: all shards, for a minute.
pub(crate) fn claim(name: &str, journal: i64) -> Claim {
    Claim {
        node: name.to_owned(),
        holder: format!("host:/{name}"),
        journal: JournalId::new(journal).expect("positive"),
        lease_ms: 60_000,
        shards: ALL_SHARDS,
        alone: false,
        lost: None,
    }
}

/// A store with the right to write facts.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    store: Store,
    pub(crate) fence: Fence,
}

impl Writer {
    /// The node of most tests, and its restarts.
    pub(crate) async fn of(store: Store) -> Self {
        Self::claiming(store, &claim("test", 1)).await
    }

    pub(crate) async fn claiming(store: Store, claim: &Claim) -> Self {
        let fence = store.acquire(claim).await.expect("granted");
        Self { store, fence }
    }

    pub(crate) async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        let batch = Arc::new(batch.clone());
        self.store.apply(self.fence, &batch, 0).await
    }

    pub(crate) async fn write_freshness(&self, rows: Vec<FreshnessRow>) -> FreshnessWritten {
        self.store.write_freshness(self.fence, rows).await
    }

    pub(crate) async fn floors(&self) -> Result<Floors, StoreError> {
        self.store.floors(self.fence).await
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.store.close().await
    }
}

impl Deref for Writer {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

pub(crate) const START: UnixMs = UnixMs(FACT_EPOCH_UNIX_MS + 1_000_000);

pub(crate) fn import_id(day: u64) -> ImportId {
    ImportId(START.plus_ms(day * 25 * 60 * 60 * 1_000))
}

pub(crate) fn target(id: i64) -> TargetId {
    TargetId::new(id).expect("a positive id")
}

pub(crate) fn config(url: &str) -> TargetConfig {
    spec(url).parse().expect("a valid spec")
}

pub(crate) fn spec(url: &str) -> TargetSpec {
    TargetSpec {
        url: url.to_owned(),
        ..TargetSpec::default()
    }
}

pub(crate) fn row(id: i64, url: &str) -> ImportRow {
    ImportRow {
        id: TargetId::new(id),
        config: config(url),
    }
}

/// Rows without ids for `count` sites.
pub(crate) fn sites(count: usize) -> Vec<ImportRow> {
    (0..count)
        .map(|site| row(0, &format!("http://s-{site}.test/")))
        .collect()
}

pub(crate) fn batch(journal_seq: u64, facts: &[Fact]) -> Batch {
    Batch {
        journal_seq,
        facts: facts.to_vec(),
    }
}

/// An incident that makes the facts of its own life, one after the other.
#[derive(Clone)]
pub(crate) struct Incident {
    mint: FactMint,
    pub(crate) event: Event,
    now: UnixMs,
    seq: u32,
}

impl Incident {
    /// The `nth` incident of a target: ids of a later one are above those of an earlier one.
    pub(crate) fn of(target: TargetId, nth: u64) -> Self {
        let mut mint = FactMint::default();
        let now = START.plus_ms(nth * 60_000);
        let event = Event {
            id: mint.mint(target.shard(), now),
            target,
            group_id: 7,
            check_type: CheckType::Http,
            discriminator: None,
            state: State::SeemsDown,
            started_at: now,
            ended_at: None,
            resolution: None,
            fail_count: 1,
            class: 40,
        };
        Self {
            mint,
            event,
            now,
            seq: 0,
        }
    }

    pub(crate) fn id(&self) -> FactId {
        self.event.id
    }

    pub(crate) fn open(&mut self) -> Fact {
        self.step(None, State::SeemsDown, Reason::Opened)
    }

    pub(crate) fn confirm(&mut self) -> Fact {
        self.event.fail_count = self.event.fail_count.max(3);
        let before = self.event.state;
        self.event.state = State::Down;
        self.step(Some(before), State::Down, Reason::VerifierConfirmed)
    }

    /// Verifiers did not see what our check saw.
    pub(crate) fn false_alarm(&mut self) -> Fact {
        self.event.ended_at = Some(self.now.plus_ms(1_000));
        self.event.resolution = Some(Reason::FalseAlarm);
        let before = Some(self.event.state);
        self.step(before, State::Resolved, Reason::FalseAlarm)
    }

    pub(crate) fn close(&mut self) -> Fact {
        self.event.ended_at = Some(self.now.plus_ms(1_000));
        self.event.resolution = Some(Reason::ProbeCleared);
        self.step(
            Some(self.event.state),
            State::Resolved,
            Reason::ProbeCleared,
        )
    }

    pub(crate) fn count(&self, fail_count: u32) -> Fact {
        Fact::Counted {
            event: self.event.id,
            target: self.event.target,
            fail_count,
        }
    }

    fn step(&mut self, before: Option<State>, after: State, reason: Reason) -> Fact {
        self.now = self.now.plus_ms(1_000);
        self.seq += 1;
        let shard = self.event.target.shard();
        let transition = Transition {
            id: self.mint.mint(shard, self.now),
            event: self.event.id,
            target: self.event.target,
            before,
            after,
            reason,
            source: "local".to_owned(),
            changed_at: self.now,
            evidence: Some(Box::new(evidence(self.seq))),
            metadata: Some(Box::new(metadata(self.seq, self.now))),
        };
        let job = Job {
            id: self.mint.mint(shard, self.now),
            kind: JobKind::Fanout,
            transition: transition.id,
            seq: self.seq,
            run_at: self.now,
        };
        Fact::Transitioned {
            event: self.event.clone(),
            transition,
            job,
        }
    }
}

/// The second one of an event has votes.
fn metadata(seq: u32, now: UnixMs) -> Metadata {
    let vote = Vote {
        vantage: "oslo \"north\"".to_owned(),
        says: Says::Down,
        http_code: Some(503),
        rtt_ms: Some(12),
        error: None,
    };
    let votes = Votes {
        results: vec![vote],
        quorum: 2,
        confirmed: 1,
        ..Votes::default()
    };
    Metadata {
        observation: Observation {
            checked_at: Some(now),
            lag_us: Some(7),
            reap_us: Some(u32::MAX),
            late: Some(true),
            previous_observed_at: Some(now),
            normal_check_interval_seconds: Some(300),
            ..Observation::default()
        },
        belief: Belief {
            stance: Stance::Deferring,
            signals: Signals::FAILURES.and(Signals::PORTS),
            ..Belief::default()
        },
        votes: (seq == 2).then(|| Box::new(votes)),
        suppression: None,
        not_after: (seq == 1).then_some(now),
        probed: (seq < 3).then_some(Probed {
            method: (seq == 1).then_some(Method::Head),
            phases: Phases {
                ttfb_us: 12_345,
                total_us: u32::MAX - 1,
                ..Phases::NONE
            },
            redirect_count: 3,
        }),
    }
}

fn evidence(seq: u32) -> Evidence {
    Evidence {
        seq,
        class: 40,
        status: 503,
        head: "HTTP/1.1 503 \u{00dc}berlast\r\nx: \"y\"\r\n".to_owned(),
        text: "status 503 is not in 200-399".to_owned(),
        ..Evidence::default()
    }
}

pub(crate) fn transition(fact: &Fact) -> Transition {
    match fact {
        Fact::Transitioned { transition, .. } => transition.clone(),
        Fact::Counted { .. } => panic!("a count is no transition"),
    }
}
