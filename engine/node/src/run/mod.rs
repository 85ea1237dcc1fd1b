//! `ringwatch run`: the composition root. Puts clock, store, sink and cores together, feeds them,
//! watches them, and takes them down in order.
//!
//! ```text
//! start ─► loading ─► running ⇄ paused, fenced ─► draining ─► exit 0
//!            └───────────┴──── a dead thread ──► draining ─► exit 1
//! ```

pub(crate) mod accounts;
mod ahead;
pub(crate) mod audit;
pub(crate) mod canaries;
mod changes;
mod checked;
mod drain;
pub(crate) mod drift;
pub(crate) mod feeder;
pub(crate) mod fit;
mod fleet;
mod follow;
mod journal;
pub(crate) mod lease;
pub(crate) mod legacy;
pub(crate) mod lifetime;
mod looks;
mod opened;
mod operators;
pub(crate) mod parts;
mod paused;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod pressure;
pub(crate) mod refusals;
mod reload;
pub(crate) mod retention;
pub(crate) mod send;
mod serve;
pub(crate) mod signals;
pub(crate) mod sources;
pub(crate) mod status;
mod summary;
pub(crate) mod threads;
mod trouble;
pub(crate) mod unread;
pub(crate) mod view;
mod vitals;
mod windows;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use tracing::{error, info, warn};

use crate::admin;
use crate::config::{Config, Layers};
use crate::control::server::{self, AtOnce, ControlSocket, End};
use crate::control::{lock, store_lock};
use crate::verifier::client::Asker;
use checked::Checked;
use feeder::Feeder;
use parts::Parts;
use serve::Control;
use signals::Stop;
use threads::first_error;
use view::View;

/// How to read the configuration again, on any thread.
pub(crate) type ReadConfig = Arc<dyn Fn() -> anyhow::Result<(Config, Layers)> + Send + Sync>;

/// Runs a node until it is told to stop.
pub(crate) fn run(
    config: Config,
    checked: Checked,
    read_config: ReadConfig,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control plane could not start")?;
    runtime.block_on(node(config, checked, read_config))
}

async fn node(
    config: Config,
    checked: Checked,
    read_config: ReadConfig,
) -> anyhow::Result<ExitCode> {
    let mut lock = lock::take_or_refuse(&config.data_dir)?;
    let store_lock = store_lock::take_or_refuse(&config.store, &config.data_dir)?;
    let stop = Stop::new();
    let (calls, received) = server::calls();
    signals::listen(&stop, calls.clone()).context("signals cannot be listened to")?;
    let listener = admin::bind(config.admin).await?;
    let Some(store) = opened::opened(&config, &stop).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut parts = Parts::start(&config, checked, &listener, store)?;
    lock.record_store(&config.store)?;
    let view = Arc::clone(&parts.view);
    let days = retention::Retention::of(&config);
    let forgetting = retention::run(parts.store.clone(), days, Arc::clone(&view));
    let forgetting = tokio::spawn(forgetting);
    let comparing = drift::run(parts.store.clone(), config.clone(), Arc::clone(&view));
    let comparing = tokio::spawn(comparing);
    let looking = tokio::spawn(unread::run(parts.store.clone(), config.legacy.load));
    let feeding = tokio::spawn(Feeder::new(&parts, &config).run());
    let noting = tokio::spawn(audit::run(parts.store.clone(), Arc::clone(&view)));
    let asking = tokio::spawn(ask_verifiers(&mut parts, &config)?);
    view.note("start", concat!("version ", env!("CARGO_PKG_VERSION")));
    let socket = ControlSocket::bind(&config.data_dir)?;
    let end = End::new();
    let at_once = at_once(&view, &stop, &end);
    let control_socket = tokio::spawn(socket.serve(at_once, calls));
    let admin = tokio::spawn(admin::serve(listener, Arc::clone(&view)));
    say_ready(&view);
    let (parts, ended) = control(parts, config, read_config, received, &stop).await;
    match &ended {
        Ok(why) => info!("{why}: draining"),
        Err(broken) => error!("{broken:#}; flushing what can be flushed"),
    }
    view.note(
        "drain",
        ended
            .as_ref()
            .map_or_else(|broken| format!("{broken:#}"), ToString::to_string),
    );
    for task in [forgetting, comparing, looking, noting, asking] {
        task.abort();
    }
    audit::finish(&parts.parts.store, &view).await;
    let drained = parts.drain().await;
    // Not before: a node that drains is not stalled.
    feeding.abort();
    let stopped = first_error([ended.map(drop), drained]);
    end.tell(&stopped).await;
    admin.abort();
    control_socket.abort();
    // Waits for the abort so that the socket file is gone before the lock is.
    let _ = control_socket.await;
    stopped?;
    info!("stopped");
    drop((store_lock, lock));
    Ok(ExitCode::SUCCESS)
}

/// Has verifiers asked what the sink wants to know, where there are any.
fn ask_verifiers(
    parts: &mut Parts,
    config: &Config,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let (store, sink) = (parts.store.clone(), parts.sink.commands.clone());
    let asker = Asker::new(config, store, sink, &parts.view)?;
    let questions = parts.sink.questions.take();
    Ok(async move {
        if let (Some(asker), Some(questions)) = (asker, questions) {
            asker.run(questions).await;
        }
    })
}

/// What the control socket answers however busy the control plane is.
fn at_once(view: &Arc<View>, stop: &Stop, end: &End) -> AtOnce {
    let (looked_at, stopping, stop) = (Arc::clone(view), Arc::clone(view), stop.clone());
    let named = Arc::clone(view);
    AtOnce {
        look: Arc::new(move || {
            let view = Arc::clone(&looked_at);
            Box::pin(async move { status::object(&view).await })
        }),
        identity: Arc::new(move || status::who(&named)),
        drain: Arc::new(move || {
            stop.ask("drain");
            json!({ "ok": true, "pid": std::process::id(), "drain_s": stopping.drain_s() })
        }),
        end: end.clone(),
    }
}

/// Feeds and watches until somebody asks to stop or something breaks.
async fn control(
    parts: Parts,
    config: Config,
    read_config: ReadConfig,
    received: tokio::sync::mpsc::Receiver<server::Call>,
    stop: &Stop,
) -> (parts::Stopping, anyhow::Result<&'static str>) {
    let mut control = Control::new(parts, config, read_config, received);
    let ended = tokio::select! {
        biased;
        why = stop.asked() => Ok(why),
        broken = control.serve() => Err(broken),
    };
    (control.into_stopping(), ended)
}

fn say_ready(view: &View) {
    let facts = &view.facts;
    if let Some(note) = &facts.driver_note {
        warn!("{note}");
    }
    let cpus: Vec<usize> = view.cores.iter().map(|core| core.cpu).collect();
    info!(
        pid = facts.pid,
        admin = %facts.admin,
        store = %facts.store,
        data_dir = %facts.data_dir.display(),
        driver = facts.driver.as_str(),
        probe_cpus = ?cpus,
        max_in_flight = facts.max_in_flight,
        nofile = facts.nofile,
        "ready"
    );
}
