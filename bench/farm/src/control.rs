//! The control port: observer, truth, scenario, targets and metrics, on a thread of its own.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use futures_lite::stream;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::farm::Command;
use crate::gauges::Gauges;
use crate::metrics;
use crate::observer::Table;
use crate::summary::{self, Observation};
use crate::target_list::{self, Columns, Places};
use crate::truth::Truth;
use crate::world::World;

/// How often new ground truth is looked for.
const TRUTH_EVERY: Duration = Duration::from_millis(50);

/// The ports of a farm.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// Those that speak TLS 1.2 and TLS 1.3 alone.
    pub(crate) https12: u16,
    pub(crate) https13: u16,
    /// One per fault at the accept; at least one.
    pub(crate) refuse: Vec<u16>,
}

/// What the control thread works with.
pub(crate) struct Control {
    pub(crate) world: Arc<World>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) ports: Ports,
    pub(crate) shell: &'static str,
    pub(crate) commands: Sender<Command>,
    pub(crate) observed: Mutex<Observed>,
    pub(crate) told: Mutex<Told>,
}

/// The table in use and the loop lag at its start.
pub(crate) struct Observed {
    pub(crate) table: Arc<Table>,
    pub(crate) lag_before: Vec<u64>,
}

/// The ground truth and the file that it goes to.
pub(crate) struct Told {
    pub(crate) truth: Truth,
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

/// Starts the control thread; it ends the farm on SIGTERM and SIGINT.
///
/// # Errors
/// When the thread, its runtime or a signal handler is refused.
pub(crate) fn spawn(control: Control, socket: TcpListener) -> Result<JoinHandle<Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime of the control port")?;
    // Before anybody is told that the farm is ready: a signal must find its handler.
    let signals = {
        let _context = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        [terminate, interrupt]
    };
    let work = move || runtime.block_on(serve(Arc::new(control), socket, signals));
    let builder = std::thread::Builder::new().name("control".to_owned());
    builder
        .spawn(work)
        .context("cannot start the control thread")
}

async fn serve(control: Arc<Control>, socket: TcpListener, signals: [Signal; 2]) -> Result<()> {
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let [mut terminate, mut interrupt] = signals;
    let app = Router::new()
        .route("/observe/reset", post(reset))
        .route("/observe/summary", get(summary))
        .route("/metrics", get(metrics))
        .route("/targets.csv", get(targets))
        .route("/scenario/start", post(start_scenario))
        .route("/scenario/end", post(end_scenario))
        .route("/truth", get(truth))
        .route("/dns/silence", post(silence_dns))
        .route("/dns/answer", post(answer_dns))
        .with_state(Arc::clone(&control));
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        served = async { axum::serve(listener, app).await } => {
            served.context("the control port failed")
        }
        told = tell(Arc::clone(&control)) => told,
    };
    control.gauges.stop.store(true, Ordering::Relaxed);
    result
}

/// Writes the truth down as it comes.
async fn tell(control: Arc<Control>) -> Result<()> {
    let mut turns = tokio::time::interval(TRUTH_EVERY);
    loop {
        turns.tick().await;
        control.tell()?;
    }
}

impl Control {
    /// Writes down what has become true.
    fn tell(&self) -> Result<()> {
        let mut told = lock(&self.told);
        let Told { truth, file, path } = &mut *told;
        let lines = truth.advance(&self.world, self.world.clock.now_ms());
        if lines.is_empty() {
            return Ok(());
        }
        file.write_all(lines)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn cpu_us(&self) -> [u64; 2] {
        [self.gauges.thread_cpu_us.get(), clock::process_cpu_us()]
    }
}

/// A panic of another holder leaves plain numbers behind, never a broken state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Shared = State<Arc<Control>>;

async fn reset(State(control): Shared) -> StatusCode {
    let now = control.world.clock.now_ms();
    let table = Arc::new(Table::new(control.world.sites.count, now, control.cpu_us()));
    let mut observed = lock(&control.observed);
    if control
        .commands
        .send(Command::Observe(Arc::clone(&table)))
        .is_err()
    {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    *observed = Observed {
        table,
        lag_before: control.gauges.loop_lag_us.counts(),
    };
    StatusCode::NO_CONTENT
}

/// The whole answer of `GET /observe/summary`.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    observation: Observation,
    farm: Health,
}

/// The farm's own health since the reset, so that nobody blames the monitor for a slow farm.
#[derive(Serialize)]
struct Health {
    shell: &'static str,
    /// CPU time of the serving thread and of the process (user and system).
    thread_cpu_us: u64,
    process_cpu_us: u64,
    /// Part of the elapsed time that the serving thread was on a CPU.
    busy: f64,
    loop_lag_us: Lag,
    open_connections: u64,
    silent_connections: u64,
    /// Since the start: connections given up because there were too many. Anything above 0 means
    /// that silence ended early and the truth about it does not hold.
    evicted: u64,
    accept_errors: u64,
}

#[derive(Serialize)]
struct Lag {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

async fn summary(State(control): Shared) -> Result<axum::Json<Summary>, Failure> {
    let now = control.world.clock.now_ms();
    // A fault that has just begun counts, whether or not it was told before.
    control.tell().map_err(|error| failure(&error))?;
    let observed = lock(&control.observed);
    let table = &observed.table;
    let unjudged = lock(&control.told)
        .truth
        .unjudged(&control.world.sites, table.reset_ms, now);
    let observation = summary::observe(table, &control.world.sites, &unjudged, now);
    let gauges = &control.gauges;
    let [thread, process] = control.cpu_us();
    let [thread_before, process_before] = table.cpu_at_reset_us;
    let thread_cpu_us = thread.saturating_sub(thread_before);
    let quantiles = [0.5, 0.99, 0.999, 1.0];
    let [p50, p99, p999, max] = gauges.loop_lag_us.since(&observed.lag_before, quantiles);
    let elapsed_us = f64::from(observation.elapsed_ms.max(1)) * 1_000.0;
    let farm = Health {
        shell: control.shell,
        thread_cpu_us,
        process_cpu_us: process.saturating_sub(process_before),
        busy: thread_cpu_us as f64 / elapsed_us,
        loop_lag_us: Lag {
            p50,
            p99,
            p999,
            max,
        },
        open_connections: gauges.open_connections.get(),
        silent_connections: gauges.silent_connections.get(),
        evicted: gauges.evicted.get(),
        accept_errors: gauges.accept_errors.get(),
    };
    Ok(axum::Json(Summary { observation, farm }))
}

async fn start_scenario(State(control): Shared) -> impl IntoResponse {
    let now = control.world.clock.now_ms();
    let unix_ms = clock::unix_ms();
    if !control.world.start_scenario(now) {
        let message = "the scenario is running; it can be started again when it is over\n";
        return (StatusCode::CONFLICT, message.to_owned());
    }
    lock(&control.told).truth.start(now, unix_ms);
    (StatusCode::OK, format!("{{\"zero_ms\":{unix_ms}}}\n"))
}

async fn end_scenario(State(control): Shared) -> impl IntoResponse {
    let now = control.world.clock.now_ms();
    if control.world.end_scenario(now) {
        return (StatusCode::NO_CONTENT, "");
    }
    let message = "no fault holds that lasts until it is ended\n";
    (StatusCode::CONFLICT, message)
}

async fn silence_dns(State(control): Shared) -> StatusCode {
    control.world.silence_dns(true);
    StatusCode::NO_CONTENT
}

async fn answer_dns(State(control): Shared) -> StatusCode {
    control.world.silence_dns(false);
    StatusCode::NO_CONTENT
}

async fn truth(State(control): Shared) -> Result<impl IntoResponse, Failure> {
    control.tell().map_err(|error| failure(&error))?;
    let lines = lock(&control.told).truth.lines().to_vec();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines))
}

/// What a request that failed is answered.
type Failure = (StatusCode, String);

fn failure(error: &anyhow::Error) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n"))
}

/// The columns of the target list; what is not given is the farm's own.
#[derive(Deserialize)]
struct Asked {
    interval_s: Option<u32>,
    timeout_ms: Option<u32>,
}

/// The target list. The timeout that is given out here is the one that slow answers are judged
/// by in the truth from now on.
async fn targets(State(control): Shared, Query(asked): Query<Asked>) -> impl IntoResponse {
    let world = &control.world;
    let interval_s = asked.interval_s.unwrap_or(world.sites.interval_s);
    let timeout_ms = asked.timeout_ms.unwrap_or(world.timeout_ms());
    world.set_timeout_ms(timeout_ms);
    let columns = Columns {
        interval_s,
        timeout_ms,
    };
    let ports = &control.ports;
    let places = Places {
        http: ports.http,
        https: ports.https,
        gates: ports.refuse.clone(),
    };
    let pieces = target_list::pieces(Arc::clone(world), places, columns);
    let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
    ([(header::CONTENT_TYPE, "text/csv")], body)
}

async fn metrics(State(control): Shared) -> impl IntoResponse {
    let text = {
        let observed = lock(&control.observed);
        let sites = control.world.sites.count;
        metrics::text(&control.gauges, &observed, sites, clock::process_cpu_us())
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
