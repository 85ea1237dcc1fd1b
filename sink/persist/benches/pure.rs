//! What every fact and every healthy result pass through, without a disk or a store:
//! `cargo bench -p persist`.
#![forbid(unsafe_code)]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::limits::FACT_EPOCH_UNIX_MS;
use model::{Evidence, TargetId, UnixMs};
use persist::measured::{Coalesced, facts_in, segment};

const FACTS: usize = 10_000;

fn main() {
    divan::main();
}

/// Postcard and both checksums of each record.
#[divan::bench(args = [1, 1_000])]
fn encode_records_of_facts(bencher: Bencher<'_, '_>, per_record: usize) {
    let batches = batches(per_record);
    let bytes = segment(&batches).len();
    let bencher = bencher.counter(ItemsCount::new(FACTS));
    let bencher = bencher.counter(BytesCount::new(bytes));
    bencher.bench(|| segment(&batches));
}

#[divan::bench(args = [1, 1_000])]
fn read_records_of_facts(bencher: Bencher<'_, '_>, per_record: usize) {
    let bytes = segment(&batches(per_record));
    assert_eq!(facts_in(&bytes), FACTS);
    let bencher = bencher.counter(ItemsCount::new(FACTS));
    let bencher = bencher.counter(BytesCount::new(bytes.len()));
    bencher.bench(|| facts_in(&bytes));
}

/// Healthy results of targets at rest, one of each target in every round.
#[divan::bench(args = [10_000, 1_000_000])]
fn coalesce_healthy_results_of_targets(bencher: Bencher<'_, '_>, targets: u32) {
    let mut coalesced = Coalesced::new(targets);
    let mut ms = 0;
    let bencher = bencher.counter(ItemsCount::new(targets));
    bencher.bench_local(|| {
        ms += 285_000;
        assert_eq!(coalesced.round(ms), targets as usize);
    });
}

/// The same, and the rows that a flush takes of them.
#[divan::bench(args = [1_000_000])]
fn coalesce_and_flush_targets(bencher: Bencher<'_, '_>, targets: u32) {
    let mut coalesced = Coalesced::new(targets);
    let mut ms = 0;
    let bencher = bencher.counter(ItemsCount::new(targets));
    bencher.bench_local(|| {
        ms += 285_000;
        coalesced.round(ms);
        coalesced.flush(ms)
    });
}

fn batches(per_record: usize) -> Vec<Batch> {
    let mut mint = FactMint::default();
    let mut made = 0;
    let mut next = || {
        made += 1;
        opened(&mut mint, made)
    };
    (1..=(FACTS / per_record) as u64)
        .map(|journal_seq| Batch {
            journal_seq,
            facts: (0..per_record).map(|_| next()).collect(),
        })
        .collect()
}

/// An incident that opens, every second one with evidence.
fn opened(mint: &mut FactMint, number: u64) -> Fact {
    let target = TargetId::new(number as i64).expect("positive");
    let now = UnixMs(FACT_EPOCH_UNIX_MS + number);
    let mut id = || mint.mint(target.shard(), now);
    let event = Event {
        id: id(),
        target,
        group_id: 0,
        check_type: CheckType::Http,
        discriminator: None,
        state: State::SeemsDown,
        started_at: now,
        ended_at: None,
        resolution: None,
        fail_count: 1,
        class: 40,
    };
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
        before: None,
        after: State::SeemsDown,
        reason: Reason::Opened,
        source: "local".to_owned(),
        changed_at: now,
        evidence: number.is_multiple_of(2).then(|| Box::new(evidence())),
        metadata: None,
    };
    let job = Job {
        id: id(),
        kind: JobKind::Fanout,
        transition: transition.id,
        seq: 1,
        run_at: now,
    };
    Fact::Transitioned {
        event,
        transition,
        job,
    }
}
