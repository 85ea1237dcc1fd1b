//! Taking a node down: cores stop dispatching and finish or cancel, the sink writes everything,
//! the store closes. Nothing that was committed or drained is lost.

use std::time::Duration;

use anyhow::Context;
use model::inbox::CoreCommand;
use persist::SinkCommand;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::parts::{Parts, Stopping};
use super::send::send;

/// How often the end of a thread is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// What cores may take beyond `drain_s` to notice that it is over.
const GRACE: Duration = Duration::from_secs(5);
/// What the sink may take to write everything.
const SINK_LIMIT: Duration = Duration::from_secs(30);

impl Stopping {
    /// Takes everything down in the order of the data's way. The first error that it met comes
    /// back, but what comes after it is taken down all the same.
    pub(super) async fn drain(mut self) -> anyhow::Result<()> {
        let within = Duration::from_secs(u64::from(self.drain_s));
        let drained = self.parts.drain_cores(within).await;
        if let Err(error) = self.parts.collect_histograms() {
            warn!("the last interval logs cannot be written: {error}");
        }
        let stopped = self.parts.stop_sink().await;
        let closed = self
            .parts
            .store
            .close()
            .await
            .context("the store did not close cleanly");
        drained.and(stopped).and(closed)
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
        match timeout(within + GRACE, self.cores_ended()).await {
            Ok(ended) => ended,
            Err(_) => anyhow::bail!(
                "a probe core did not end within {} s and is left behind: its last results are \
                 missing, the next start checks its targets again",
                (within + GRACE).as_secs()
            ),
        }
    }

    async fn cores_ended(&mut self) -> anyhow::Result<()> {
        let mut all = Ok(());
        for index in 0..self.cores.len() {
            while self.cores[index]
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
            {
                tokio::time::sleep(LOOK).await;
            }
            let Some(thread) = self.cores[index].thread.take() else {
                continue;
            };
            let ended = match thread.join() {
                Ok(ended) => ended.with_context(|| format!("probe core {index} failed")),
                Err(_) => Err(anyhow::anyhow!("probe core {index} panicked")),
            };
            all = all.and(ended);
        }
        all
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
            while !thread.is_finished() {
                tokio::time::sleep(LOOK).await;
            }
        });
        if stopped.await.is_err() {
            anyhow::bail!(
                "the sink did not end within {} s: what it holds is in the journal and is applied \
                 at the next start",
                SINK_LIMIT.as_secs()
            );
        }
        match thread.join() {
            Ok(result) => result.context("the sink failed"),
            Err(_) => anyhow::bail!("the sink panicked"),
        }
    }
}
