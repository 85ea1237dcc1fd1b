//! Programs that only burn CPU beside a pinned thread, so that it is left a part of what it needs:
//! each of them is given as much as it is. Ends only what it started.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::children::Running;

/// More than these would only make each turn of the scheduler longer.
const BURNERS_MAX: usize = 63;
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Burners that run; dropping them ends them.
#[derive(Debug, Default)]
pub(crate) struct Burners(Vec<Running>);

impl Burners {
    /// Starts as many on `cpu` that a thread there which needs the part `needed` of it gets one
    /// `overload`th of that. Their log is in `folder`.
    pub(crate) fn start(cpu: usize, needed: f64, overload: f64, folder: &Path) -> Result<Self> {
        let log = folder.join("burners.log");
        let mut burners = Self::default();
        for _ in 0..count(needed, overload) {
            let mut command = Command::new("taskset");
            command.args(["-c", &cpu.to_string(), "sh", "-c"]);
            command.arg("while :; do :; done");
            let running = Running::start("burner", &mut command, &log, Stdio::null())?;
            burners.0.push(running);
        }
        Ok(burners)
    }

    /// How many run.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Part of the CPU that they leave to a thread which always wants it: all have the same share.
    pub(crate) fn share(&self) -> f64 {
        1.0 / (self.0.len() as f64 + 1.0)
    }

    /// Ends them.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for mut burner in self.0.drain(..) {
            burner.stop(STOP_LIMIT).await?;
        }
        Ok(())
    }
}

/// How many share a CPU with a thread that needs this part of it, so that it gets an `overload`th.
fn count(needed: f64, overload: f64) -> usize {
    let shares = overload / needed.clamp(0.01, 1.0);
    (shares.round() as usize)
        .saturating_sub(1)
        .clamp(1, BURNERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_left_its_part_of_what_it_needs() {
        // 0.4 of a CPU, shared with nine: 0.1 is left.
        assert_eq!(count(0.4, 4.0), 9);
        assert_eq!(count(1.0, 4.0), 3);
        assert_eq!(count(1.0, 2.0), 1);
        assert_eq!(count(0.0, 4.0), BURNERS_MAX);
        assert!((Burners::default().share() - 1.0).abs() < 1e-9);
    }
}
