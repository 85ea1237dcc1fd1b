//! What operators of other nodes change in the store: maintenance windows, and who is paused. Read
//! beside whatever the control plane does, be it an import of an hour: nothing waits for it. What
//! follows from windows is `windows`, and who is paused `paused`.

use model::MonoUs;
use store::WindowList;
use tokio::sync::oneshot;

use super::paused::PausedLooks;
use super::serve::Control;

/// Time between two looks for maintenance windows, in ms.
const WINDOWS_EVERY_MS: u64 = 10_000;

/// What is being read.
#[derive(Default)]
pub(super) struct Following {
    pub(super) paused: PausedLooks,
    windows: Option<oneshot::Receiver<store::Result<WindowList>>>,
    windows_at: Option<MonoUs>,
}

impl Following {
    /// What is on its way is older than what is known now.
    pub(super) fn forget_windows(&mut self) {
        self.windows = None;
    }
}

/// Whether it is time, once each time.
pub(super) fn is_due(last: &mut Option<MonoUs>, every_ms: u64, now: MonoUs) -> bool {
    let is_due = last.is_none_or(|last| now.since(last) >= every_ms * 1_000);
    if is_due {
        *last = Some(now);
    }
    is_due
}

impl Control {
    /// Begins to read what is due, and takes what was read.
    pub(super) async fn follow_operators(&mut self) -> anyhow::Result<()> {
        let now = self.parts.view.clock.mono();
        self.follow_paused();
        let following = &mut self.following;
        let reads = following.windows.is_some();
        if !reads && is_due(&mut following.windows_at, WINDOWS_EVERY_MS, now) {
            let (store, (found, answer)) = (self.parts.store.clone(), oneshot::channel());
            // Whoever forgets about it has no use for the answer.
            tokio::spawn(async move { found.send(store.windows().await).ok() });
            following.windows = Some(answer);
        }
        let Some(answer) = &mut following.windows else {
            return Ok(());
        };
        match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => Ok(()),
            Err(oneshot::error::TryRecvError::Closed) => {
                following.windows = None;
                Ok(())
            }
            Ok(found) => {
                following.windows = None;
                self.take_windows(found).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_due_at_once_and_then_each_time_once() {
        let (mut last, at) = (None, |s: u64| MonoUs(s * 1_000_000));
        let due: Vec<u64> = (5..50)
            .filter(|&s| is_due(&mut last, WINDOWS_EVERY_MS, at(s)))
            .collect();
        assert_eq!(due, [5, 15, 25, 35, 45]);
    }
}
