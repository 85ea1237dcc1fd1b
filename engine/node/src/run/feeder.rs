//! Tells the sink, twice a second, how the node is. A task of its own, so that it goes on while
//! targets are loaded or a store is waited for. When it stands still all the same, or the whole
//! process does, what it told last runs out at the sink.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use model::MonoUs;
use model::inbox::{CoreCommand, OneShotReport};
use model::limits::{HEALTH_EVERY_MS, ISOLATION_NETWORKS_MIN};
use persist::{Health, Signals, SinkCommand};
use tracing::warn;

use super::canaries::{Flock, Question};
use super::parts::Parts;
use super::view::View;
use super::vitals::{Found, Vitals};
use crate::config::Config;

/// Where the kernel shows the open files of this process.
const OPEN_FILES: &str = "/proc/self/fd";

/// Who tells it.
pub(super) struct Feeder {
    view: Arc<View>,
    sink: Sender<SinkCommand>,
    cores: Vec<(Sender<CoreCommand>, Receiver<OneShotReport>)>,
    vitals: Vitals,
    flock: Flock,
    signals: Signals,
}

impl Feeder {
    pub(super) fn new(parts: &Parts, config: &Config) -> Self {
        let cores = parts.cores.iter();
        let ends = cores.map(|core| (core.inbox.clone(), core.one_shots.clone()));
        Self {
            view: Arc::clone(&parts.view),
            sink: parts.sink.commands.clone(),
            cores: ends.collect(),
            vitals: Vitals::new(parts.cores.len()),
            flock: Flock::new(&config.canaries, parts.cores.len()),
            signals: Signals::NONE,
        }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) -> Infallible {
        let mut beats = tokio::time::interval(Duration::from_millis(HEALTH_EVERY_MS));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.beat(self.view.clock.mono());
        }
    }

    fn beat(&mut self, now: MonoUs) {
        self.listen();
        let (_, cores) = self.view.snapshots();
        let found = Found {
            cores: &cores,
            files: open_files(),
            files_max: self.view.facts.nofile,
        };
        self.signals = self.vitals.look(found, now);
        let stats = self.view.cores.iter().map(|core| &core.stats.network_stats);
        let health = Health {
            signals: self.signals,
            canaries: self.flock.count(),
            vouched: self.flock.vouched(),
            dark_networks: cores::dark_networks(stats),
            measured: Some(now),
        };
        self.view.set_health(health);
        // A sink that does not take it has what was told before, for a while.
        let _ = self.sink.try_send(SinkCommand::Health(health));
        self.ask(health.dark_networks >= ISOLATION_NETWORKS_MIN, now);
    }

    fn listen(&mut self) {
        let sockets = [Signals::DESCRIPTORS, Signals::PORTS];
        let short = sockets.iter().any(|kind| self.signals.has(*kind));
        for (_, reports) in &self.cores {
            for report in reports.try_iter() {
                if let Some(refused) = self.flock.heard(&report, short) {
                    let url = refused.check.to_string();
                    warn!(
                        url,
                        "a canary is refused by the safety guard and says nothing: add --allow \
                         CIDR for its network, or take it out of canaries"
                    );
                }
            }
        }
    }

    fn ask(&mut self, soon: bool, now: MonoUs) {
        let cores = &self.cores;
        self.flock.ask(soon, now, |question| {
            let Question {
                core,
                target,
                ticket,
            } = question;
            let command = CoreCommand::OneShot { target, ticket };
            cores[core].0.try_send(command).is_ok()
        });
    }
}

/// Open files of this process; 0 when the kernel does not tell.
pub(crate) fn open_files() -> u64 {
    // From Linux 6.2 on the size of the directory is their number.
    let told = std::fs::metadata(OPEN_FILES).map_or(0, |folder| folder.len());
    if told > 0 {
        return told;
    }
    std::fs::read_dir(OPEN_FILES).map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_counted() {
        let before = open_files();
        let opened: Vec<_> = (0..500)
            .map(|_| std::fs::File::open("/dev/null").expect("opened"))
            .collect();
        // Tests beside this one open and close files, too, but not so many.
        assert!(open_files() >= before + 400, "{before}");
        drop(opened);
        assert!(before > 0);
    }
}
