//! Taking a node down: cores stop dispatching and finish or cancel, the sink writes everything,
//! the store closes. Nothing that was committed or drained is lost.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use model::CoreIndex;
use model::inbox::CoreCommand;
use persist::SinkCommand;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::parts::{Parts, Stopping};
use super::send::send;
use super::threads::{finished, first_error, joined};

/// What cores may take beyond `drain_s` to notice that it is over.
const GRACE: Duration = Duration::from_secs(5);
/// What the sink may take to write everything.
const SINK_LIMIT: Duration = Duration::from_secs(30);

impl Stopping {
    /// Takes everything down in the order of the data's way. The first error that it met comes
    /// back, the others are logged, and what comes after them is taken down all the same.
    pub(super) async fn drain(mut self) -> anyhow::Result<()> {
        let within = Duration::from_secs(u64::from(self.drain_s));
        let drained = self.parts.drain_cores(within).await;
        if let Err(error) = self.parts.collect_histograms() {
            warn!("the last interval logs cannot be written: {error}");
        }
        let stopped = self.parts.stop_sink().await;
        let arrived = match (&drained, &stopped) {
            (Ok(()), Ok(())) => self.parts.all_arrived(),
            // What did not end well misses results, and was said already.
            _ => Ok(()),
        };
        let closed = self
            .parts
            .store
            .close()
            .await
            .context("the store did not close cleanly");
        first_error([drained, stopped, arrived, closed])
    }
}

impl Parts {
    /// # Errors
    /// When a core panicked, broke, or did not end in time: its last results are missing.
    async fn drain_cores(&mut self, within: Duration) -> anyhow::Result<()> {
        let within_ms = within.as_millis() as u64;
        for core in &self.cores {
            // A core that has ended has nothing left to drain.
            let told = send(
                &core.inbox,
                CoreCommand::Drain { within_ms },
                "a probe core",
            );
            let _ = timeout(GRACE, told).await;
        }
        let running = self.cores.iter_mut().filter_map(|core| {
            let thread = core.thread.take()?;
            Some((core.index, thread))
        });
        first_error(cores_ended(running.collect(), within + GRACE).await)
    }

    /// Cores and sink have ended, so that this is exact.
    fn all_arrived(&self) -> anyhow::Result<()> {
        let results = self.view.last_accounts().all_arrived()?;
        info!(results, "every result of the probe cores reached the sink");
        Ok(())
    }

    async fn stop_sink(&mut self) -> anyhow::Result<()> {
        let Some(thread) = self.sink.thread.take() else {
            return Ok(());
        };
        let (done, written) = oneshot::channel();
        let stop = send(&self.sink.commands, SinkCommand::Stop { done }, "the sink");
        let stopped = timeout(SINK_LIMIT, async {
            if stop.await.is_ok() {
                let _ = written.await;
            }
            finished(&thread).await;
        });
        if stopped.await.is_err() {
            anyhow::bail!(
                "the sink did not end within {} s: what it holds is in the journal and is applied \
                 at the next start",
                SINK_LIMIT.as_secs()
            );
        }
        joined("the sink", thread)
    }
}

/// Waits for the end of every core, for `within` in all. Each is judged by itself: one that hangs
/// hides no other's end.
async fn cores_ended<E: std::error::Error + Send + Sync + 'static>(
    cores: Vec<(CoreIndex, JoinHandle<Result<(), E>>)>,
    within: Duration,
) -> Vec<anyhow::Result<()>> {
    let mut late = std::pin::pin!(tokio::time::sleep(within));
    let mut ends = Vec::with_capacity(cores.len());
    for (CoreIndex(index), thread) in cores {
        ends.push(tokio::select! {
            biased;
            () = finished(&thread) => joined(&format!("probe core {index}"), thread),
            () = &mut late => Err(anyhow!(
                "probe core {index} did not end within {} s and is left behind: its last results \
                 are missing, the next start checks its targets again",
                within.as_secs()
            )),
        });
    }
    ends
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the ring broke")]
    struct Broken;

    type Thread = JoinHandle<Result<(), Broken>>;

    /// How the cores of `threads` end; an empty sentence is a good end.
    async fn said(threads: impl IntoIterator<Item = Thread>, within: Duration) -> Vec<String> {
        let cores = (0..).map(CoreIndex).zip(threads).collect();
        let ends = cores_ended(cores, within).await.into_iter();
        ends.map(|end| {
            end.err()
                .map_or_else(String::new, |error| format!("{error:#}"))
        })
        .collect()
    }

    #[tokio::test]
    async fn cores_that_end_are_waited_for_and_a_panic_or_an_error_is_said() {
        let (go_on, told) = channel();
        let well = std::thread::spawn(move || {
            told.recv().expect("told");
            Ok(())
        });
        let panicked = std::thread::spawn(|| panic!("slot {}", 7));
        let broken = std::thread::spawn(|| Err(Broken));
        let waiting = tokio::spawn(said([well, panicked, broken], Duration::MAX));
        go_on.send(()).expect("it waits");
        let [well, panicked, broken] = &waiting.await.expect("no panic")[..] else {
            panic!("three cores")
        };
        assert_eq!(well, "");
        assert_eq!(panicked, "probe core 1 panicked: slot 7");
        assert_eq!(broken, "probe core 2 failed: the ring broke");
    }

    #[tokio::test]
    async fn a_core_that_hangs_is_left_behind_with_an_error_and_hides_no_other_end() {
        let (go_on, told) = channel();
        let hangs: Thread = std::thread::spawn(move || {
            told.recv().expect("told");
            Ok(())
        });
        let broken = std::thread::spawn(|| Err(Broken));
        let well = std::thread::spawn(|| Ok(()));
        finished(&broken).await;
        finished(&well).await;
        let ends = said([hangs, broken, well], Duration::ZERO).await;
        let left = "probe core 0 did not end within 0 s and is left behind: its last results are";
        assert!(ends[0].starts_with(left), "{ends:?}");
        assert_eq!(ends[1..], ["probe core 1 failed: the ring broke", ""]);
        go_on.send(()).expect("it still runs");
    }
}
