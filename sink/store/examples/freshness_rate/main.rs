//! Measures a store on this machine: import, paging, freshness and facts, in rows per second and
//! CPU time, three runs each, a line of JSON for each run. The embedded store in a folder, or the
//! server of an address, in a database that nobody else uses; then with the CPU time of the server,
//! by its process number. `--freshness`: nothing but that. `--time-indexes`: with the two optional
//! indices of a server.
//!
//! `cargo run --release -p store --example freshness_rate --
//! [--freshness] [--time-indexes] [ROWS] [DIR | mysql://… [PID]]`
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::limits::{BATCH_MAX, FACT_EPOCH_UNIX_MS};
use model::{Evidence, TargetId, TargetSpec, UnixMs};
use store::{
    ALL_SHARDS, Claim, Fence, FreshnessRow, ImportId, ImportRow, JournalId, Store, StoreUrl,
};

mod clock;

type AnyError = Box<dyn std::error::Error>;

/// Rows of one call of the API, as the node makes them.
const CALL_ROWS: usize = 10_000;
/// Flushes in which every target is written once: each 10 s, where targets are checked every 300 s.
/// A flush has the targets of its 10 s, which are spread over the whole table.
const FLUSHES: usize = 30;
const RUNS: u64 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with('-'));
    let known = ["--freshness", "--time-indexes"];
    if !flags.iter().all(|flag| known.contains(&flag.as_str())) {
        return Err(format!("the only flags are {known:?}").into());
    }
    let [freshness, time_indexes] = known.map(|flag| flags.iter().any(|given| given == flag));
    let what = if freshness {
        What::Freshness
    } else {
        What::All
    };
    let mut arguments = words.into_iter();
    let rows: usize = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let place = arguments.next().unwrap_or_default();
    if place.contains("://") {
        let server = arguments.next().map(|text| text.parse()).transpose()?;
        let url = place.parse()?;
        Store::migrate(&url).await?;
        if let (StoreUrl::Mysql(server), true) = (&url, time_indexes) {
            Store::add_time_indexes(server).await?;
        }
        return measure_server(&url, rows, server, what).await;
    }
    if time_indexes {
        return Err("--time-indexes is for servers".into());
    }
    let directory = if place.is_empty() {
        std::env::temp_dir()
    } else {
        PathBuf::from(place)
    };
    let path = directory.join(format!("freshness-rate-{}.db", std::process::id()));
    let store = Store::open(&StoreUrl::Sqlite(path.clone())).await?;
    measure(&store, rows, Cpu { server: None }, what).await?;
    store.close().await?;
    std::fs::remove_file(path)?;
    Ok(())
}

async fn measure_server(
    url: &StoreUrl,
    rows: usize,
    server: Option<u32>,
    what: What,
) -> Result<(), AnyError> {
    let store = Store::open(url).await?;
    if store.counts().await?.targets > 0 {
        return Err("the database holds targets already: name an empty one".into());
    }
    measure(&store, rows, Cpu { server }, what).await?;
    Ok(store.close().await?)
}

/// Which part is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    All,
    Freshness,
}

/// Whose CPU time is measured besides ours.
#[derive(Clone, Copy)]
struct Cpu {
    server: Option<u32>,
}

impl Cpu {
    fn server_s(self) -> f64 {
        self.server.map_or(0.0, |pid| cpu_s(&pid.to_string()))
    }
}

async fn measure(store: &Store, rows: usize, cpu: Cpu, what: What) -> Result<(), AnyError> {
    let fence = store.acquire(&claim()).await?;
    if what == What::All {
        measure_targets(store, rows, cpu).await?;
    }
    for run in 0..=2 * RUNS {
        // The first run inserts, the others move every row on: as a fleet does, then in its order.
        let (name, flushes) = match run {
            0 => ("new freshness", 1),
            1..=RUNS => ("freshness", FLUSHES),
            _ => ("freshness in order", 1),
        };
        rate(
            cpu,
            name,
            rows,
            freshness(store, fence, (rows, flushes), run),
        )
        .await?;
    }
    let written = store.counts().await?.freshness;
    if written != rows as u64 {
        return Err(format!("{written} of {rows} rows are there").into());
    }
    if what == What::All {
        for run in 0..RUNS {
            let count = 100 * BATCH_MAX;
            rate(cpu, "facts", count, facts(store, fence, rows, run)).await?;
        }
    }
    Ok(())
}

async fn measure_targets(store: &Store, rows: usize, cpu: Cpu) -> Result<(), AnyError> {
    for run in 0..RUNS {
        // The first run inserts, the others compare.
        let name = if run == 0 { "import" } else { "import again" };
        let import_id = ImportId(UnixMs(run + 1));
        rate(cpu, name, rows, import(store, rows, import_id)).await?;
    }
    let pruning = async { Ok(store.prune(ImportId(UnixMs(1))).await.map(drop)?) };
    rate(cpu, "prune", rows, pruning).await?;
    for _ in 0..RUNS {
        rate(cpu, "page targets", rows, page(store)).await?;
    }
    Ok(())
}

// A measurement is what a clock is for; nothing is decided by it.
async fn rate<F: Future<Output = Result<(), AnyError>>>(
    of: Cpu,
    what: &str,
    rows: usize,
    work: F,
) -> Result<(), AnyError> {
    let (start, cpu_start, server_start) = (clock::now(), cpu_s("self"), of.server_s());
    work.await?;
    let (seconds, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s("self") - cpu_start);
    let server_cpu_s = of.server.map(|_| of.server_s() - server_start);
    let line = serde_json::json!({
        "what": what,
        "rows": rows,
        "seconds": seconds,
        "rows_per_s": (rows as f64 / seconds).round(),
        "cpu_s": cpu_s,
        "server_cpu_s": server_cpu_s,
    });
    // A measurement whose reader went away is over.
    drop(writeln!(std::io::stdout(), "{line}"));
    Ok(())
}

/// CPU time of a process, in seconds: what a busy machine does not change much.
fn cpu_s(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces; user and system time are the
    // 12th and 13th fields after it, in ticks of 10 ms (proc(5)).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok());
    ticks.fold(0.0, |sum, ticks: f64| sum + ticks / 100.0)
}

/// The right to write, for as long as this takes.
fn claim() -> Claim {
    Claim {
        node: "freshness_rate".to_owned(),
        holder: "example".to_owned(),
        journal: JournalId::new(1).expect("positive"),
        lease_ms: 60_000,
        shards: ALL_SHARDS,
        alone: true,
        lost: None,
    }
}

async fn import(store: &Store, rows: usize, import: ImportId) -> Result<(), AnyError> {
    for start in (0..rows).step_by(CALL_ROWS) {
        let mut part = Vec::with_capacity(CALL_ROWS);
        for site in start..rows.min(start + CALL_ROWS) {
            let url = format!("http://s-{site:07}.farm.test/");
            let spec = TargetSpec {
                url,
                ..TargetSpec::default()
            };
            part.push(ImportRow {
                id: None,
                config: spec.parse()?,
            });
        }
        store.import(part, import).await?;
    }
    Ok(())
}

async fn page(store: &Store) -> Result<(), AnyError> {
    let mut after = None;
    loop {
        let page = store.targets(after, CALL_ROWS, true).await?;
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// Every row once, in so many flushes, each of which goes through the whole table.
async fn freshness(
    store: &Store,
    fence: Fence,
    (rows, flushes): (usize, usize),
    run: u64,
) -> Result<(), AnyError> {
    let row = |id: usize| FreshnessRow {
        target: TargetId::new(id as i64).expect("ids start at 1"),
        last_checked: UnixMs(FACT_EPOCH_UNIX_MS + run),
        next_check: UnixMs(FACT_EPOCH_UNIX_MS + run + 285_000),
    };
    for first in 1..=flushes {
        let flush = (first..=rows).step_by(flushes).map(row).collect();
        store.write_freshness(fence, flush).await.all()?;
    }
    Ok(())
}

/// A hundred full batches of incidents that open.
async fn facts(store: &Store, fence: Fence, rows: usize, run: u64) -> Result<(), AnyError> {
    let mut mint = FactMint::default();
    let start = UnixMs(FACT_EPOCH_UNIX_MS + (run + 1) * 1_000_000);
    for part in 0..100 {
        let now = start.plus_ms(part as u64 * 50);
        let facts = (0..BATCH_MAX).map(|at| {
            let id = (part * BATCH_MAX + at) * 7 % rows + 1;
            opened(
                &mut mint,
                TargetId::new(id as i64).expect("ids start at 1"),
                now,
                run,
            )
        });
        let journal_seq = run * 100 + part as u64 + 1;
        store
            .apply(
                fence,
                &Arc::new(Batch {
                    journal_seq,
                    facts: facts.collect(),
                }),
                0,
            )
            .await?;
    }
    Ok(())
}

fn opened(mint: &mut FactMint, target: TargetId, now: UnixMs, run: u64) -> Fact {
    let mut id = || mint.mint(target.shard(), now);
    let event = Event {
        id: id(),
        target,
        group_id: 0,
        check_type: CheckType::Http,
        discriminator: Some(run.to_string()),
        state: State::SeemsDown,
        started_at: now,
        ended_at: None,
        resolution: None,
        fail_count: 1,
        class: 13,
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
        evidence: Some(Box::new(Evidence {
            class: 13,
            text: "x".repeat(200),
            ..Evidence::default()
        })),
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
