//! The control plane's loop: load, then requests, changed targets, histograms, supervision.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use persist::SinkCommand;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::changes::Changes;
use super::fit;
use super::fleet::Fleet;
use super::follow::Following;
use super::lease::Loaded;
use super::legacy::{self, LegacyRows};
use super::looks::Looks;
use super::parts::{Parts, Stopping};
use super::ports::{Fit, PortsPlan};
use super::reload;
use super::summary::Summary;
use super::threads::joined;
use super::trouble::{Complaint, Troubles};
use super::view::Stage;
use super::{ReadConfig, send};
use crate::config::Config;
use crate::control::Request;
use crate::control::server::{Call, refusal};
use crate::exit::BadInput;
use crate::targets::import::ImportOrder;
use crate::windows::Known;

/// Length of a turn: supervision and histograms.
const TURN: Duration = Duration::from_millis(200);
/// Turns between two looks for changed targets: a change is in effect within a second, and an idle
/// fleet asks its server little else.
const CHANGES_EVERY: u64 = 4;
/// Turns between two looks whether the node is short of something.
const PRESSURE_EVERY: u64 = 5;
/// Turns between two computations of freshness ages.
const AGES_EVERY: u64 = 150;
/// Turns between two summary lines.
const SUMMARY_EVERY: u64 = 300;
/// Targets of one page.
pub(super) const PAGE: usize = 5_000;

/// The control plane.
pub(super) struct Control {
    pub(super) parts: Parts,
    pub(super) fleet: Fleet,
    pub(super) config: Config,
    pub(super) read_config: ReadConfig,
    /// Which changes of our own tables are in the fleet.
    pub(super) changes: Changes,
    /// The node is short of something: what can wait does.
    pub(super) is_pressed: bool,
    pub(super) paused: bool,
    /// Every active target has its place.
    loaded: bool,
    pub(super) fed_for: Loaded,
    /// The maintenance windows, as the sink was told.
    pub(super) windows: Known,
    pub(super) following: Following,
    /// Where the targets are legacy rows.
    pub(super) legacy: Option<LegacyRows>,
    calls: mpsc::Receiver<Call>,
    /// Calls that came while changed targets were placed.
    deferred: VecDeque<Call>,
    pub(super) looks: Looks,
    troubles: Troubles,
    summary: Summary,
    ages: Option<oneshot::Receiver<persist::FreshnessAges>>,
}

impl Control {
    pub(super) fn new(
        parts: Parts,
        config: Config,
        read_config: ReadConfig,
        calls: mpsc::Receiver<Call>,
    ) -> Self {
        parts.view.set_drain_s(config.drain_s);
        let inboxes = parts.cores.iter().map(|core| core.inbox.clone()).collect();
        let (sink, released) = (parts.sink.commands.clone(), parts.sink.released.clone());
        let summary = Summary::from(parts.view.clock.mono());
        let legacy = LegacyRows::of(&config, parts.cores.len());
        Self {
            legacy,
            fleet: Fleet::new(inboxes, sink, released),
            parts,
            config,
            read_config,
            changes: Changes::default(),
            is_pressed: false,
            paused: false,
            loaded: false,
            fed_for: Loaded::default(),
            windows: Known::default(),
            following: Following::default(),
            calls,
            deferred: VecDeque::new(),
            looks: Looks::default(),
            troubles: Troubles::new(),
            summary,
            ages: None,
        }
    }

    /// The parts, to be taken down.
    pub(super) fn into_stopping(self) -> Stopping {
        self.parts.view.set_stage(Stage::Draining);
        Stopping {
            parts: self.parts,
            drain_s: self.config.drain_s,
        }
    }

    /// Serves until something breaks; says what.
    pub(super) async fn serve(&mut self) -> anyhow::Error {
        match self.serve_until_broken().await {
            Err(broken) => broken,
            Ok(never) => match never {},
        }
    }

    async fn serve_until_broken(&mut self) -> anyhow::Result<Infallible> {
        self.load().await?;
        self.loaded = true;
        self.show_stage();
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turn = 0;
        loop {
            while let Some(call) = self.deferred.pop_front() {
                self.take(call).await?;
            }
            self.go_on_with_legacy();
            let now = self.parts.view.clock.mono();
            tokio::select! {
                Some(call) = self.calls.recv() => self.take(call).await?,
                woken = legacy::wake(&mut self.legacy, now) => self.take_woken(woken).await?,
                _ = turns.tick() => {
                    self.turn(turn).await?;
                    turn += 1;
                }
            }
        }
    }

    async fn take(&mut self, call: Call) -> anyhow::Result<()> {
        let Some(call) = self.hear(call).await? else {
            return Ok(());
        };
        let answer = self.carry_out(call.request).await?;
        // A client that hung up has no use for the answer.
        let _ = call.reply.send(answer);
        Ok(())
    }

    /// Waits for `work`, which needs nothing of the control plane, and meanwhile answers what can
    /// be answered and watches the threads: an import of millions of lines takes minutes.
    pub(super) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        let mut work = std::pin::pin!(work);
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(call) = self.calls.recv() => {
                    let Some(call) = self.hear(call).await? else { continue };
                    let answer = match self.at_once(&call.request).await? {
                        Some(answer) => answer,
                        None => busy(),
                    };
                    let _ = call.reply.send(answer);
                }
                _ = turns.tick() => {
                    self.stop_when_fenced().await?;
                    self.watch()?;
                    self.follow_operators().await?;
                }
            }
        }
    }

    /// As [`Control::meanwhile`], between two pages of targets. At the first load a request that
    /// has to wait is refused; later pages are few, and it waits.
    pub(super) async fn between_pages(&mut self) -> anyhow::Result<()> {
        while let Ok(call) = self.calls.try_recv() {
            let Some(call) = self.hear(call).await? else {
                continue;
            };
            match self.at_once(&call.request).await? {
                Some(answer) => drop(call.reply.send(answer)),
                None if !self.loaded => drop(call.reply.send(busy())),
                None => self.deferred.push_back(call),
            }
        }
        self.stop_when_fenced().await?;
        self.watch()?;
        self.follow_operators().await
    }

    /// Imports the list, if any, and places every active target.
    async fn load(&mut self) -> anyhow::Result<()> {
        let begun = self.parts.view.clock.mono();
        if let Some(path) = self.config.targets.clone() {
            let order = ImportOrder {
                path,
                prune: self.config.prune,
                strict: self.config.strict,
            };
            let summary = reload::import(self, &order).await?;
            info!("{}: {}", order.path.display(), summary.sentence());
        }
        match self.plan_ports().await? {
            Some(Fit::Tight(plan)) => warn!("local ports are short: {plan}"),
            Some(Fit::Ample(plan)) => info!("local ports: {plan}"),
            None => {}
        }
        self.load_windows().await?;
        reload::load_all(self).await?;
        let took_ms = self.parts.view.clock.mono().since(begun) / 1_000;
        info!(targets = self.fleet.len(), took_ms, "loaded");
        if self.fleet.len() == 0 {
            warn!(
                "there is no active target: import some with `ringwatch targets import FILE.csv`"
            );
        }
        Ok(())
    }

    /// How all targets of the store fit; `None` when they need no look.
    async fn plan_ports(&mut self) -> anyhow::Result<Option<Fit>> {
        let (store, config) = (self.parts.store.clone(), self.config.clone());
        let look = async move { fit::look(&store, &config).await };
        let plan = self.meanwhile(look).await??;
        plan.as_ref().map(PortsPlan::judge).transpose()
    }

    async fn carry_out(&mut self, request: Request) -> anyhow::Result<Value> {
        if let Some(answer) = self.at_once(&request).await? {
            return Ok(answer);
        }
        let result = match &request {
            Request::Import(order) => self.import(order).await,
            Request::Reload => reload::reload(self).await,
            _ => self.operate(&request).await,
        };
        let error = match result {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        survives(&error)?;
        self.parts.view.note("refused", refused(&request, &error));
        if request != Request::Reload {
            let mut answer = refusal(&format!("{error:#}"));
            answer["usage"] = json!(error.is::<BadInput>());
            return Ok(answer);
        }
        warn!("reload refused, the old configuration goes on: {error:#}");
        Ok(refusal(&format!(
            "{error:#}; the old configuration goes on"
        )))
    }

    /// Carries out what takes no time; `None`: this takes long.
    async fn at_once(&mut self, request: &Request) -> anyhow::Result<Option<Value>> {
        Ok(match request {
            // The socket's own server answers these three.
            Request::Identity => Some(super::status::who(&self.parts.view)),
            Request::Status | Request::Drain => Some(super::status::object(&self.parts.view).await),
            Request::Pause { on } => {
                self.paused = *on;
                self.resume().await?;
                self.parts
                    .view
                    .note(if *on { "pause" } else { "resume" }, "");
                Some(json!({ "ok": true, "paused": on }))
            }
            Request::Trigger { target, by, .. } => Some(self.trigger(target, by).await?),
            Request::Look { target } => Some(self.look_at(target).await?),
            Request::Reload
            | Request::Import(_)
            | Request::PauseTarget { .. }
            | Request::Close { .. }
            | Request::AddWindow { .. }
            | Request::RemoveWindow { .. } => None,
        })
    }

    async fn import(&mut self, order: &ImportOrder) -> anyhow::Result<Value> {
        let mut summary = reload::import(self, order).await?;
        let fed = reload::apply_changes(self).await?;
        summary.local_ports = self.short_of_ports(fed).await?;
        let mut answer = serde_json::to_value(&summary)?;
        answer["ok"] = json!(true);
        answer["applied"] = self.applied(fed);
        Ok(answer)
    }

    /// A pause shows also while targets are loaded; running is only what is loaded.
    pub(super) fn show_stage(&self) {
        let stage = match (self.paused, self.loaded) {
            _ if self.fed_for.is_fenced => Stage::Fenced,
            (true, _) => Stage::Paused,
            (false, true) => Stage::Running,
            (false, false) => Stage::Loading,
        };
        self.parts.view.set_stage(stage);
    }

    /// Lets the cores check, unless somebody asked for a pause or another node took over.
    pub(super) async fn resume(&mut self) -> anyhow::Result<()> {
        self.fleet
            .pause(self.paused || self.fed_for.is_fenced)
            .await?;
        self.show_stage();
        Ok(())
    }

    async fn turn(&mut self, turn: u64) -> anyhow::Result<()> {
        self.watch()?;
        self.parts.view.set_drain_s(self.config.drain_s);
        self.follow_lease().await?;
        if turn.is_multiple_of(AGES_EVERY) {
            self.ask_ages();
        }
        self.collect_ages();
        self.follow_ports();
        if turn.is_multiple_of(CHANGES_EVERY) && !self.fed_for.is_fenced {
            self.follow_changes().await?;
        }
        self.follow_operators().await?;
        if turn.is_multiple_of(PRESSURE_EVERY) {
            self.look_for_pressure();
        }
        if turn % SUMMARY_EVERY == SUMMARY_EVERY - 1 {
            self.summary.say(&self.parts.view).await;
        }
        Ok(())
    }

    /// What has to go on whatever else is done.
    fn watch(&mut self) -> anyhow::Result<()> {
        self.parts.supervise()?;
        self.collect_histograms();
        self.fleet.collect_released();
        self.look_for_trouble();
        Ok(())
    }

    fn collect_histograms(&mut self) {
        if let Err(error) = self.parts.collect_histograms() {
            self.complain("hdr", || {
                format!("an interval log cannot be written: {error}")
            });
        }
    }

    /// A store that is away costs freshness of the list, never probing.
    async fn follow_changes(&mut self) -> anyhow::Result<()> {
        if let Err(error) = reload::apply_changes(self).await {
            survives(&error)?;
            self.complain("changes", || {
                format!("changed targets cannot be read: {error:#}")
            });
        }
        Ok(())
    }

    pub(super) fn complain(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let now = self.parts.view.clock.mono();
        if let Some(complaint) = self.troubles.complaint(kind, now, text) {
            say(&complaint);
        }
    }

    fn look_for_trouble(&mut self) {
        let now = self.parts.view.clock.mono();
        let (sink, cores) = self.parts.view.snapshots();
        for complaint in self.troubles.look(&sink.counters, &cores, now) {
            say(&complaint);
        }
    }

    fn ask_ages(&mut self) {
        let (reply, answer) = oneshot::channel();
        // A sink that is busy is asked again at the next time.
        if self
            .parts
            .sink
            .commands
            .try_send(SinkCommand::Ages { reply })
            .is_ok()
        {
            self.ages = Some(answer);
        }
    }

    fn collect_ages(&mut self) {
        let Some(answer) = &mut self.ages else { return };
        match answer.try_recv() {
            Ok(ages) => self.parts.view.set_ages(ages),
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
        self.ages = None;
    }
}

fn say(complaint: &Complaint) {
    warn!(swallowed = complaint.swallowed, "{}", complaint.text);
}

impl Parts {
    /// Says which thread ended although nobody asked it to.
    pub(super) fn supervise(&mut self) -> anyhow::Result<()> {
        for core in &mut self.cores {
            let ended = core.thread.take_if(|thread| thread.is_finished());
            if let Some(thread) = ended {
                return Err(died(&format!("probe core {}", core.index.0), thread));
            }
        }
        match self.sink.thread.take_if(|thread| thread.is_finished()) {
            Some(thread) => Err(died("the sink", thread)),
            None => Ok(()),
        }
    }

    /// Takes in finished intervals and logs them.
    pub(super) fn collect_histograms(&mut self) -> std::io::Result<()> {
        let mut result = Ok(());
        for core in &self.cores {
            for set in core.histograms.try_iter() {
                self.view.absorb(&set);
                result = result.and(self.logs.write(&set));
            }
        }
        result
    }
}

/// What was refused, and why.
fn refused(request: &Request, error: &anyhow::Error) -> String {
    match request {
        Request::Import(order) => format!("import of {}: {error:#}", order.path.display()),
        Request::Reload => format!("reload: {error:#}"),
        _ => format!("{}: {error:#}", super::operators::asked(request)),
    }
}

/// The answer to what has to wait for an import or the first load.
fn busy() -> Value {
    let mut answer = refusal("a list is being imported or loaded: ask again when that is done");
    answer["busy"] = json!(true);
    answer
}

/// A refused request is the caller's business; a dead thread is ours.
pub(super) fn survives(error: &anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<send::Ended>() {
        Some(ended) => Err(anyhow!(ended.to_string())),
        None => Ok(()),
    }
}

/// Why a thread ended that nobody asked to.
fn died<E: std::error::Error + Send + Sync + 'static>(
    who: &str,
    thread: JoinHandle<Result<(), E>>,
) -> anyhow::Error {
    match joined(who, thread) {
        Ok(()) => anyhow!("{who} ended although nobody asked it to"),
        Err(why) => why,
    }
}

/// Adds what was being done to a store error.
pub(super) fn reading<T>(result: store::Result<T>) -> anyhow::Result<T> {
    result.context("the targets cannot be read")
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::ExitCode;
    use std::sync::Arc;

    use crossbeam_channel::TrySendError;

    use super::*;
    use crate::operate::{self, Hand};
    use crate::run::plan::Cpus;
    use crate::targets::import::import_file;

    /// A control plane over a real core and a real sink that has loaded nothing yet.
    pub(in crate::run) async fn control(
        data_dir: &std::path::Path,
    ) -> (Control, mpsc::Sender<Call>) {
        let mut flags = vec![
            (
                "data_dir",
                toml::Value::String(data_dir.display().to_string()),
            ),
            ("dns", toml::Value::String("127.0.0.1:9".to_owned())),
            ("driver", toml::Value::String("epoll".to_owned())),
        ];
        flags.push(("max_in_flight", toml::Value::Integer(4)));
        let layers = crate::config::Layers::read(None, std::iter::empty(), flags);
        let layers = layers.expect("no file");
        let config = Config::resolve(&layers).expect("valid");
        let allowed = Cpus::allowed().expect("this process runs somewhere");
        let checked = config.check(&layers, allowed).expect("it can start");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let store = store::Store::open(&config.store)
            .await
            .expect("a new store opens");
        let parts = Parts::start(&config, checked, &listener.expect("a free port"), store);
        let (sender, calls) = crate::control::server::calls();
        let read_config: ReadConfig = Arc::new(|| anyhow::bail!("not read again"));
        let parts = parts.expect("a node starts");
        (Control::new(parts, config, read_config, calls), sender)
    }

    /// Lesson: where windows could not be read, there were none. The first check of a site that its
    /// owner had announced to be down opened an incident.
    #[tokio::test]
    async fn a_node_that_cannot_read_its_windows_begins_nothing() {
        let (dir, elsewhere) = (tempfile::tempdir(), tempfile::tempdir());
        let (dir, elsewhere) = (dir.expect("temp dir"), elsewhere.expect("temp dir"));
        let (mut control, _calls) = control(dir.path()).await;
        let url = store::StoreUrl::Sqlite(elsewhere.path().join("s.db"));
        let closed = store::Store::open(&url).await.expect("a new store opens");
        closed.clone().close().await.expect("closed");
        let readable = std::mem::replace(&mut control.parts.store, closed);
        let error = control.load_windows().await.expect_err("it is closed");
        assert!(error.to_string().contains("maintenance windows"), "{error}");
        control.parts.store = readable;
        control.load_windows().await.expect("read");
        control.into_stopping().drain().await.expect("drained");
    }

    #[tokio::test]
    async fn a_core_that_dies_while_a_list_is_imported_is_noticed_and_calls_are_answered() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, calls) = control(dir.path()).await;
        let asks = async |request: Request| {
            let (reply, answer) = oneshot::channel();
            calls.send(Call { request, reply }).await.expect("room");
            answer.await.expect("answered")
        };
        let asking = async {
            assert_eq!(asks(Request::Reload).await["busy"], true);
            let paused = asks(Request::Pause { on: true }).await;
            assert_eq!(paused["paused"], true);
        };
        control.meanwhile(asking).await.expect("all threads live");
        // The thread ends although the control plane did not mean it to.
        let drain = model::inbox::CoreCommand::Drain { within_ms: 0 };
        control.parts.cores[0].inbox.send(drain).expect("it lives");
        let never = std::future::pending::<()>();
        let broken = control.meanwhile(never).await.expect_err("noticed");
        let said = "probe core 0 ended although nobody asked it to";
        assert_eq!(format!("{broken:#}"), said);
        control.into_stopping().drain().await.expect("drained");
    }

    #[tokio::test]
    async fn a_core_that_panicked_makes_the_end_exit_with_1_and_the_sink_is_stopped_all_the_same() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        // The thread of the real core ends by the drain and nobody looks.
        control.parts.cores[0].thread = Some(std::thread::spawn(|| panic!("slot 7")));
        let sink = control.parts.sink.commands.clone();
        let drained = control.into_stopping().drain().await;
        let error = drained.expect_err("results of the core are missing");
        assert_eq!(error.to_string(), "probe core 0 panicked: slot 7");
        assert_eq!(crate::exit::report(&error), ExitCode::from(1));
        let (reply, _answer) = oneshot::channel();
        let asked = sink.try_send(SinkCommand::Ages { reply });
        assert!(matches!(asked, Err(TrySendError::Disconnected(_))));
    }

    /// A site that is paused, and a window, as another node's operator leaves them in the store.
    pub(in crate::run) async fn change_from_elsewhere(control: &Control, dir: &std::path::Path) {
        let store = control.parts.store.clone();
        let order = ImportOrder {
            path: dir.join("t.csv"),
            prune: false,
            strict: true,
        };
        std::fs::write(&order.path, "id,url\n7,http://a/\n").expect("written");
        let id = store::ImportId(model::UnixMs(1));
        let imported = import_file(&store, &order, id, &mut |_| {}).await;
        imported.expect("imported");
        let now = control.parts.view.clock.now().unix;
        let hand = Hand {
            by: "ann".to_owned(),
            now,
        };
        let target = model::TargetId::new(7).expect("positive");
        let switched = operate::switch(&store, target, true, &hand).await;
        switched.expect("paused");
        let spec = serde_json::json!({ "group": 3, "length": "2h", "reason": "disks" });
        let spec = serde_json::from_value(spec).expect("a window");
        let added = operate::add_window(&store, &spec, &hand).await;
        added.expect("added");
    }

    #[tokio::test]
    async fn what_other_operators_change_is_followed_while_a_list_is_imported() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        change_from_elsewhere(&control, dir.path()).await;
        let view = Arc::clone(&control.parts.view);
        let importing = async {
            while view.paused.load(std::sync::atomic::Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let importing = tokio::time::timeout(Duration::from_mins(1), importing);
        let followed = control
            .meanwhile(importing)
            .await
            .expect("all threads live");
        followed.expect("the paused one is counted");
        while control.windows.list().rows.is_empty() {
            control.follow_operators().await.expect("the sink lives");
            tokio::task::yield_now().await;
        }
        control.into_stopping().drain().await.expect("drained");
    }

    #[tokio::test]
    async fn who_loads_again_knows_what_other_operators_changed_before_the_first_check() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        change_from_elsewhere(&control, dir.path()).await;
        control.load_again().await.expect("loaded");
        assert_eq!(control.windows.list().rows.len(), 1);
        let paused = &control.parts.view.paused;
        assert_eq!(paused.load(std::sync::atomic::Ordering::Relaxed), 1);
        control.into_stopping().drain().await.expect("drained");
    }
}
