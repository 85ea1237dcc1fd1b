//! Targets, incidents and batches for tests, and what a backend brings to its tests.

use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::limits::FACT_EPOCH_UNIX_MS;
use model::target::TargetConfig;
use model::{Evidence, FactId, TargetId, TargetSpec, UnixMs};
use store::{ImportId, ImportRow, Store, StoreUrl};

/// A place for stores of one kind, empty at first and gone with the value.
pub(crate) trait Backend {
    /// How often random batches are tried: a database of a server takes longer to make.
    const RANDOM_CASES: u32;

    fn fresh() -> Self;
    fn url(&self) -> StoreUrl;
    /// The first column of the first row of `sql` (which every backend must understand), past the
    /// store's own connection.
    fn number(&self, sql: &str) -> Option<i64>;
}

pub(crate) async fn open(backend: &impl Backend) -> Store {
    Store::open(&backend.url()).await.expect("the store opens")
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
