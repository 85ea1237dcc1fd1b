//! What the commands do: reads the configuration, asks the node or the store, prints the answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cores::Clock;
use model::TargetId;
use serde_json::Value;
use store::{AuditRow, EventFilter, ImportId, OpenOptions, Store, StoreError, StoreUrl};

use super::flags::{ConfigFlags, ListFlags, NodeFlags, PlaceFlags, SettingsFlags, Values};
use super::{
    CheckCommand, Command, DoctorCommand, EventsCommand, MigrateCommand, StatusCommand,
    TargetsCommand, VerifierCommand, exchange, operate, render,
};
use crate::config::{Config, Layers};
use crate::control::Request;
use crate::control::client::{Client, Ended};
use crate::control::lock::{self, Taken};
use crate::control::store_lock;
use crate::exit::{BadInput, bad_input};
use crate::out::{self, Out};
use crate::run::audit;
use crate::run::plan::Cpus;
use crate::targets::import::{ImportOrder, ImportSummary, import_file};
use crate::targets::list::Which;
use crate::verifier::service;
use crate::{check, doctor, events, logging, report, run, targets};

/// How long a node may take to answer a question about itself.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// Incidents that are listed when nobody says how many.
const EVENTS_LISTED: usize = 1_000;
/// What a drain may take beyond `drain_s`.
const DRAIN_GRACE: Duration = Duration::from_mins(1);

/// Carries out `command`.
pub(crate) fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(command) => run_node(command),
        Command::Check(command) => check_urls(&command),
        Command::Verifier(command) => serve_checks(&command),
        Command::Targets(command) => of_targets(command),
        Command::Events(EventsCommand::List {
            open,
            target,
            limit,
            json,
            place,
        }) => {
            let filter = EventFilter {
                open_only: open,
                target: target_id(target)?,
                limit: events_limit(limit)?,
            };
            look(&place, async |store: &Store, out: &mut Out| {
                events::write(store, &filter, json, out).await
            })
        }
        Command::Events(command) => operate::of_event(command),
        Command::Maintenance(command) => operate::of_maintenance(command),
        Command::Status(command) => status(&command),
        Command::Drain(node) => drain(&node),
        Command::Reload(node) => reload(&node),
        Command::Report(command) => {
            report::run(&command.source, command.out.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(command) => examine(&command),
        Command::Migrate(command) => migrate(&command),
        Command::Validate(command) => validate(&command),
        Command::Version => {
            out::line(concat!("ringwatch ", env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn of_targets(command: TargetsCommand) -> anyhow::Result<ExitCode> {
    match command {
        TargetsCommand::Import {
            path,
            from_legacy: _,
            list,
            json,
            place,
        } => {
            let config = read(&place.config, place.values())?.0;
            let summary = match path {
                Some(path) => import(&config, &path, list)?,
                None => exchange::import(&config, list.prune)?,
            };
            render::imported(&summary, json)
        }
        TargetsCommand::Export {
            path,
            to_legacy,
            place,
        } => {
            if to_legacy {
                let config = read(&place.config, place.values())?.0;
                return exchange::export(&config);
            }
            look(&place, async |store: &Store, out: &mut Out| {
                let done = match &path {
                    Some(path) => targets::export::to_file(store, path).await?,
                    None => targets::export::to_out(store, out).await?,
                };
                out::remark(done.sentence());
                done.require_whole()
            })
        }
        TargetsCommand::List {
            all,
            state,
            json,
            place,
        } => {
            let state = operate::wanted_state(state.as_deref())?;
            let (which, now) = (Which { all, state }, Clock::start().now().unix);
            look(&place, async |store: &Store, out: &mut Out| {
                targets::list::write(store, which, now, json, out).await
            })
        }
        TargetsCommand::Show { id, json, place } => operate::show(id, json, &place),
        TargetsCommand::Check { id, json, node } => operate::check(id, json, &node),
        TargetsCommand::Pause { id, place } => operate::switch(id, true, &place),
        TargetsCommand::Resume { id, place } => operate::switch(id, false, &place),
    }
}

/// The effective configuration and where its values came from.
pub(super) fn read(config: &ConfigFlags, flags: Values) -> anyhow::Result<(Config, Layers)> {
    let environment = || {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
    };
    let from_environment = environment().find(|(name, _)| name == "RINGWATCH_CONFIG");
    let file = config
        .config
        .clone()
        .or(from_environment.map(|(_, path)| PathBuf::from(path)));
    let layers = Layers::read(file.as_deref(), environment(), flags)?;
    Ok((Config::resolve(&layers)?, layers))
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("the control plane could not start")
}

fn run_node(settings: SettingsFlags) -> anyhow::Result<ExitCode> {
    let read_again = move || read(&settings.place.config, settings.values());
    let (config, layers) = read_again()?;
    logging::start(config.log, &config.log_level)?;
    for variable in &layers.unknown_variables {
        tracing::warn!("no key of ringwatch: {variable}");
    }
    let checked = config.check(&layers, Cpus::allowed()?)?;
    run::run(config, checked, Arc::new(read_again))
}

fn check_urls(command: &CheckCommand) -> anyhow::Result<ExitCode> {
    let (config, layers) = read(&command.config, command.probe.values())?;
    let specs: Vec<_> = command
        .urls
        .iter()
        .map(|url| command.target.spec(url))
        .collect();
    check::run(&config, &layers, &specs, command.json)
}

fn serve_checks(command: &VerifierCommand) -> anyhow::Result<ExitCode> {
    let (config, layers) = read(&command.config, command.probe.values())?;
    logging::start(config.log, &config.log_level)?;
    for variable in &layers.unknown_variables {
        tracing::warn!("no key of ringwatch: {variable}");
    }
    service::run(&config, &layers)
}

/// Imports through the node when it runs, else into the store under the node's lock.
fn import(config: &Config, path: &Path, list: ListFlags) -> anyhow::Result<ImportSummary> {
    let path = std::path::absolute(path)?;
    let order = ImportOrder {
        path,
        prune: list.prune,
        strict: list.strict,
    };
    match lock::take(&config.data_dir)? {
        Taken::Ours(lock) => {
            let url = store_at_rest(config)?;
            let store_lock = store_lock::take_or_refuse(&url, &config.data_dir)?;
            let summary = runtime()?.block_on(import_directly(config, &url, &order))?;
            drop((store_lock, lock));
            Ok(summary)
        }
        Taken::Held { pid } => {
            let Some(mut node) = Client::connect(&config.data_dir) else {
                anyhow::bail!(lock::in_use(&config.data_dir, pid));
            };
            require_same_store(config, &mut node)?;
            import_through(&mut node, order)
        }
    }
}

async fn import_directly(
    config: &Config,
    url: &StoreUrl,
    order: &ImportOrder,
) -> anyhow::Result<ImportSummary> {
    let store = Store::open_with(url, config.opening(OpenOptions::default())).await?;
    let id = ImportId(Clock::start().now().unix);
    let mut progress = render::RowProgress::start();
    let summary = import_file(&store, order, id, &mut |rows| {
        if let Some(line) = progress.reach(rows) {
            out::remark(line);
        }
    })
    .await;
    progress.finish();
    if let Ok(summary) = &summary {
        let done = format!("{}: {}", order.path.display(), summary.sentence());
        note(&store, "import", done).await;
    }
    store.close().await?;
    summary
}

/// Notes in the store what was done to it. What was done stays done where that fails.
pub(super) async fn note(store: &Store, event_type: &'static str, detail: String) {
    write_note(store, audit_row(event_type, detail)).await;
}

/// A line of the audit log by this command.
pub(super) fn audit_row(event_type: &'static str, detail: String) -> AuditRow {
    audit::row(event_type, "cli", detail, Clock::start().now().unix)
}

/// Writes a line of the audit log; what was done is done where it cannot be.
pub(super) async fn write_note(store: &Store, row: AuditRow) {
    if let Err(error) = store.write_audit(vec![row]).await {
        out::remark(format!("it is not in the audit log: {error}"));
    }
}

fn import_through(node: &mut Client, order: ImportOrder) -> anyhow::Result<ImportSummary> {
    let waiting = render::Waiting::start("the node imports the list");
    let answer = node.ask(&Request::Import(order), None);
    waiting.finish();
    let answer = answer?;
    serde_json::from_value(answer).context("the node answered in another version's words")
}

/// A list must not land in another store than the one that was named.
pub(super) fn require_same_store(config: &Config, node: &mut Client) -> anyhow::Result<()> {
    if !config.store_chosen {
        return Ok(());
    }
    let identity = node.ask(&Request::Identity, Some(ANSWER))?;
    let theirs = identity["store"].as_str().unwrap_or_default();
    if same_store(&config.store, theirs) {
        return Ok(());
    }
    bad_input(format!(
        "the node (pid {}) of {} keeps its targets in {theirs}, not in {}: leave out --store, or \
         name another --data-dir",
        identity["pid"],
        config.data_dir.display(),
        config.store
    ))
}

fn same_store(ours: &StoreUrl, theirs: &str) -> bool {
    let canonical = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match (ours, StoreUrl::shown(theirs)) {
        (StoreUrl::Sqlite(ours), Ok(StoreUrl::Sqlite(theirs))) => {
            canonical(ours) == canonical(&theirs)
        }
        (StoreUrl::Mysql(ours), Ok(StoreUrl::Mysql(theirs))) => ours.is_same_place(&theirs),
        _ => false,
    }
}

/// The store while no node runs: the one that was named, else that of the last node.
pub(super) fn store_at_rest(config: &Config) -> anyhow::Result<StoreUrl> {
    let recorded = lock::recorded_store(&config.data_dir).filter(|_| !config.store_chosen);
    match recorded.map(|url| url.parse::<StoreUrl>()) {
        Some(Ok(url)) => Ok(url),
        Some(Err(error)) => bad_input(error.to_string()),
        None => Ok(config.store.clone()),
    }
}

/// Opens the store to look only.
pub(super) fn look(
    place: &PlaceFlags,
    show: impl AsyncFnOnce(&Store, &mut Out) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let (config, _) = read(&place.config, place.values())?;
    let url = store_at_rest(&config)?;
    let options = config.opening(OpenOptions::look());
    runtime()?.block_on(async {
        let store = Store::open_with(&url, options).await?;
        let mut out = Out::start();
        let shown = show(&store, &mut out).await;
        store.close().await?;
        shown?;
        out.end()?;
        Ok(ExitCode::SUCCESS)
    })
}

fn target_id(given: Option<i64>) -> anyhow::Result<Option<TargetId>> {
    let Some(raw) = given else { return Ok(None) };
    match TargetId::of_incident(raw) {
        Some(id) => Ok(Some(id)),
        None => bad_input(format!(
            "--target: found {raw}, accepted is an id from 1, or 0 for incidents of nodes"
        )),
    }
}

/// Absent and 0 are the default.
fn events_limit(given: Option<i64>) -> anyhow::Result<usize> {
    match given {
        None | Some(0) => Ok(EVENTS_LISTED),
        Some(limit) => usize::try_from(limit).or_else(|_| {
            bad_input(format!(
                "--limit: found {limit}, accepted is a number from 1, or 0 for the default \
                 ({EVENTS_LISTED})"
            ))
        }),
    }
}

pub(super) fn connect(flags: &NodeFlags) -> anyhow::Result<Client> {
    let (config, _) = read(&flags.config, flags.data_dir.values())?;
    Client::connect_or_refuse(&config.data_dir)
}

fn status(command: &StatusCommand) -> anyhow::Result<ExitCode> {
    let answer = connect(&command.node)?.ask(&Request::Status, Some(ANSWER))?;
    if command.json {
        out::line(answer)?;
    } else {
        out::text(render::status(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drain(flags: &NodeFlags) -> anyhow::Result<ExitCode> {
    let mut node = connect(flags)?;
    let answer = node.ask(&Request::Drain, Some(ANSWER))?;
    let within = Duration::from_secs(answer["drain_s"].as_u64().unwrap_or(0)) + DRAIN_GRACE;
    let (pid, seconds) = (&answer["pid"], within.as_secs());
    match node.wait_for_end(within) {
        Ended::Well => {
            out::line(format_args!("drained: the node (pid {pid}) has stopped"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ended::Badly(error) => anyhow::bail!("the node (pid {pid}) stopped with an error: {error}"),
        Ended::Unsaid => anyhow::bail!(
            "the node (pid {pid}) ended without saying how: look at the end of its log"
        ),
        Ended::NotYet => anyhow::bail!("the node (pid {pid}) is still draining after {seconds} s"),
    }
}

fn reload(flags: &NodeFlags) -> anyhow::Result<ExitCode> {
    let answer = connect(flags)?.ask(&Request::Reload, None)?;
    out::text(render::reload(&answer)?)?;
    Ok(ExitCode::SUCCESS)
}

fn examine(command: &DoctorCommand) -> anyhow::Result<ExitCode> {
    let mut flags = command.place.values();
    flags.extend(command.probe.values());
    let (config, layers) = read(&command.place.config, flags)?;
    runtime()?.block_on(doctor::run(&config, &layers))
}

const NO_TIME_INDEXES: &str =
    "--with-time-indexes is for servers: the embedded store has no other readers";

/// The embedded store is migrated under the lock of its node, a server under its own.
fn migrate(command: &MigrateCommand) -> anyhow::Result<ExitCode> {
    let (config, _) = read(&command.place.config, command.place.values())?;
    let url = &config.store;
    let server = match (command.with_time_indexes, url) {
        (false, _) => None,
        (true, StoreUrl::Mysql(server)) => Some(server),
        (true, _) => return bad_input(NO_TIME_INDEXES),
    };
    if command.plan {
        let plan = runtime()?.block_on(Store::migration_plan(url))?;
        out::text(render::migration_plan(url, &plan))?;
        if let Some(server) = server {
            let steps = runtime()?.block_on(Store::lacking_time_indexes(server))?;
            out::text(render::time_index_plan(&steps))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = store_lock::take_or_refuse(url, &config.data_dir)?;
    let steps = runtime()?.block_on(Store::migrate(url))?;
    out::text(render::migrated(url, &steps))?;
    if let Some(server) = server {
        let steps = runtime()?.block_on(Store::add_time_indexes(server))?;
        out::text(render::time_indexes_added(&steps))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a store that a node could not start on. One that is not there yet, and an embedded one
/// that the start would migrate, are good.
async fn look_at_schema(config: &Config) -> anyhow::Result<()> {
    let options = config.opening(OpenOptions::look());
    match Store::open_with(&config.store, options).await {
        Ok(store) => Ok(store.close().await?),
        Err(StoreError::NotFound { .. } | StoreError::OlderSchema { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn validate(settings: &SettingsFlags) -> anyhow::Result<ExitCode> {
    let (config, layers) = read(&settings.place.config, settings.values())?;
    let mut out = Out::start();
    out.text(config.to_toml(&layers));
    // Before the remarks, which go elsewhere.
    out.flush();
    for variable in &layers.unknown_variables {
        out::remark(format_args!("warning: no key of ringwatch: {variable}"));
    }
    config.check(&layers, Cpus::allowed()?)?;
    let refused = match &config.targets {
        Some(path) => render::examine_list(path, &mut out)?,
        None => 0,
    };
    out.end()?;
    if refused > 0 && config.strict {
        return Err(BadInput(format!("{refused} lines are refused")).into());
    }
    runtime()?.block_on(look_at_schema(&config))?;
    Ok(ExitCode::SUCCESS)
}

/// A number of an answer; 0 when it is missing.
pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
