//! What the control plane does when another node takes over: it pauses the cores, waits until the
//! sink writes again, and loads every target anew. Who may write is the sink's business.

use persist::SinkCounters;
use tracing::{info, warn};

use super::reload;
use super::serve::{Control, survives};

/// How the right to write stands, as the sink tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Held.
    Held,
    /// Not renewed in time: the store is away, and nobody took it as far as is known.
    Lapsed,
    /// Another node has it.
    Fenced,
}

impl Right {
    /// Of the numbers of the sink.
    pub(crate) fn of(sink: &SinkCounters) -> Self {
        match sink.lease {
            0 => Self::Held,
            1 => Self::Lapsed,
            _ => Self::Fenced,
        }
    }

    /// The word in `status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Lapsed => "lapsed",
            Self::Fenced => "fenced",
        }
    }
}

/// The name of the machine, as the kernel has it.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// What the fleet was loaded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The epoch of the sink when loading began.
    pub(super) epoch: u64,
    /// The cores are paused because the right to write is lost.
    pub(super) is_fenced: bool,
}

impl Loaded {
    /// Whether the sink still writes, and still knows what was loaded for it.
    fn is_current(&self, sink: &SinkCounters) -> bool {
        Right::of(sink) != Right::Fenced && self.epoch == sink.epoch
    }
}

impl Control {
    /// The sink's epoch now.
    pub(super) fn epoch(&self) -> u64 {
        self.parts.view.sink_counters().epoch
    }

    /// Stops with the sink, also in the middle of an import or a load; whether it has stopped.
    pub(super) async fn stop_when_fenced(&mut self) -> anyhow::Result<bool> {
        let is_fenced = Right::of(&self.parts.view.sink_counters()) == Right::Fenced;
        if is_fenced && !self.fed_for.is_fenced {
            self.fed_for.is_fenced = true;
            self.fleet.pause(true).await?;
            self.show_stage();
            warn!("the right to write is lost: no checks are started until this node has it again");
        }
        Ok(is_fenced)
    }

    /// Follows the sink: stops with it, and goes on with it when everything is loaded again.
    pub(super) async fn follow_lease(&mut self) -> anyhow::Result<()> {
        if self.stop_when_fenced().await? || self.epoch() == self.fed_for.epoch {
            return Ok(());
        }
        if let Err(error) = self.load_again().await {
            survives(&error)?;
            self.complain("load", || {
                format!("the targets could not be loaded again, nothing is checked: {error:#}")
            });
        }
        Ok(())
    }

    /// The sink knows nobody any more: every target is told again, and what the store does not have
    /// is taken away.
    pub(super) async fn load_again(&mut self) -> anyhow::Result<()> {
        // The other node's operators may have paused some, and may expect others to fail.
        self.follow_windows().await?;
        self.count_paused().await;
        reload::load_all(self).await?;
        // Loading takes long: who was fenced again meanwhile stays paused, and loads once more.
        if !self.fed_for.is_current(&self.parts.view.sink_counters()) {
            return Ok(());
        }
        self.fed_for.is_fenced = false;
        self.resume().await?;
        info!(
            targets = self.fleet.len(),
            epoch = self.fed_for.epoch,
            "loaded again"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: a node that was fenced again while it loaded checked until its next turn.
    #[test]
    fn what_was_loaded_is_current_while_its_epoch_is_and_nobody_took_over() {
        let loaded = Loaded {
            epoch: 3,
            is_fenced: true,
        };
        let sink = |lease, epoch| SinkCounters {
            lease,
            epoch,
            ..SinkCounters::default()
        };
        assert!(loaded.is_current(&sink(0, 3)));
        // The store is away: nobody took over as far as is known.
        assert!(loaded.is_current(&sink(1, 3)));
        assert!(!loaded.is_current(&sink(2, 3)));
        assert!(!loaded.is_current(&sink(0, 4)));
    }
}
