//! `ringwatch verifier`: the prober behind an HTTP service, one-shots on probe cores, no store.
//!
//! ```text
//! listen: connections, TLS ─► http: token, limits ─► executor ─► probe cores
//!                                    judge: from an outcome to a result ◄──┘
//! ```

mod executor;
mod http;
mod judge;
mod listen;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cores::{Clock, CoreHandle};
use crossbeam_channel::select;
use model::inbox::CoreCommand;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tracing::info;

use super::protocol::{Agent, PROTOCOL, Vantage};
use super::tls;
use crate::aside;
use crate::config::{Config, Layers, upstreams};
use crate::exit::bad_input;
use crate::run::lease::host_name;
use crate::run::parts;
use crate::run::plan::{Cpus, FilesPlan};
use crate::run::signals::{self, Stop};
use crate::run::threads::{finished, joined};
use executor::Executor;
use http::Service;

/// What a core may take beyond its drain to notice that it is over.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until it is told to stop.
///
/// # Errors
/// [`BadInput`](crate::exit::BadInput) for a configuration that cannot be served with; what broke.
pub(crate) fn run(config: &Config, layers: &Layers) -> anyhow::Result<ExitCode> {
    let Some(token) = config.verifier.token.clone() else {
        return bad_input(
            "verifier.token: found none, accepted is a token that askers must have: name \
             verifier.token_file, a file that holds one",
        );
    };
    let tls = match &config.verifier.tls {
        Some((cert, key)) => Some(TlsAcceptor::from(tls::server(cert, key)?)),
        None => None,
    };
    let checked = config.check(layers, Cpus::allowed()?)?;
    let upstreams = upstreams::find(&config.dns)?;
    let cores = checked.cpus.probe.len();
    let files = FilesPlan::adopt(config, cores, upstreams.len())?;
    checked.cpus.adopt_control()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the service could not start")?;
    runtime.block_on(async {
        let listener = listen::bind(config.verifier.listen).await?;
        let started = parts::spawn_cores(
            config,
            &checked.prober,
            Clock::start(),
            &checked.cpus,
            files,
            &upstreams,
        )?;
        if let Some(note) = &started.note {
            tracing::warn!("{note}");
        }
        serve(config, token, tls, listener, started.handles).await
    })
}

async fn serve(
    config: &Config,
    token: crate::config::verifiers::Token,
    tls: Option<TlsAcceptor>,
    listener: TcpListener,
    cores: Vec<CoreHandle>,
) -> anyhow::Result<ExitCode> {
    let stop = Stop::new();
    signals::ends_on_signals(&stop).context("signals cannot be listened to")?;
    let settings = &config.verifier;
    let inboxes = cores.iter().map(|core| core.inbox.clone()).collect();
    let limits = (settings.concurrency, settings.queue);
    let executor = Executor::new(inboxes, limits.0 as usize, limits.1 as usize);
    let mut dead = collect(&cores, &executor)?;
    let service = Service {
        token,
        vantage: vantage(config),
        agent: agent(),
        executor,
        limits,
    };
    if tls.is_none() && !listener.local_addr()?.ip().is_loopback() {
        tracing::warn!(
            "tls_cert and tls_key are not set: whoever is between can read the token, and change \
             the answers"
        );
    }
    info!(
        listen = %listener.local_addr()?,
        tls = tls.is_some(),
        vantage = service.vantage.id,
        probe_cores = cores.len(),
        "ready"
    );
    let router = http::router(Arc::new(service));
    let (end, ended) = watch::channel(false);
    let drain = Duration::from_secs(config.drain_s.into());
    let mut serving = tokio::spawn(listen::serve(listener, tls, router, ended, drain));
    let why = tokio::select! {
        why = stop.asked() => Ok(why),
        Some(core) = dead.recv() => Err(anyhow::anyhow!("probe core {core} ended by itself")),
        _ = &mut serving => Err(anyhow::anyhow!("the listener ended by itself")),
    };
    if let Ok(why) = &why {
        info!("{why}: draining");
        end.send_replace(true);
        if !matches!(serving.await, Ok(true)) {
            tracing::warn!("some askers were not answered within {} s", drain.as_secs());
        }
    }
    let ended = end_cores(cores).await;
    why?;
    ended?;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Where it looks from: a place that has no name has that of its machine.
fn vantage(config: &Config) -> Vantage {
    let settings = &config.verifier;
    let id = match settings.vantage.as_str() {
        "" => host_name(),
        id => id.to_owned(),
    };
    Vantage {
        id,
        region: settings.region.clone(),
        provider: settings.provider.clone(),
    }
}

fn agent() -> Agent {
    let host = host_name();
    Agent {
        id: format!("{host}:{}", std::process::id()),
        host,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL.to_owned(),
    }
}

/// A thread per core hands its reports on; which core has ended.
fn collect(cores: &[CoreHandle], executor: &Arc<Executor>) -> anyhow::Result<mpsc::Receiver<u16>> {
    let (ended, dead) = mpsc::channel(cores.len());
    for core in cores {
        let (reports, histograms) = (core.one_shots.clone(), core.histograms.clone());
        let (executor, ended, index) = (Arc::clone(executor), ended.clone(), core.index.0);
        aside::start("reports of a probe core", move || {
            loop {
                select! {
                    recv(reports) -> report => match report {
                        Ok(report) => executor.finish(report),
                        Err(_) => break,
                    },
                    // Nobody looks at them here.
                    recv(histograms) -> interval => if interval.is_err() { break },
                }
            }
            let _ = ended.try_send(index);
        })?;
    }
    Ok(dead)
}

async fn end_cores(cores: Vec<CoreHandle>) -> anyhow::Result<()> {
    for core in &cores {
        // A core that has ended has nothing left to drain.
        let _ = core.inbox.try_send(CoreCommand::Drain { within_ms: 0 });
    }
    for core in cores {
        let who = format!("probe core {}", core.index.0);
        if tokio::time::timeout(GRACE, finished(&core.thread))
            .await
            .is_err()
        {
            anyhow::bail!("{who} did not end within {} s", GRACE.as_secs());
        }
        joined(&who, core.thread)?;
    }
    Ok(())
}
