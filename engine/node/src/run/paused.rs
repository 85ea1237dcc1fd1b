//! Who is paused, as the store has it: looked at page by page, beside whatever the control plane
//! does. Nothing in a legacy row tells of its pause, so each page is compared with what is in
//! effect, and what differs is read again. Our own targets have change numbers, by which a pause is
//! met; they are counted alone.

use std::sync::atomic::Ordering;

use model::limits::LEGACY_PAGE_MAX;
use model::{MonoUs, TargetId};
use store::Store;
use tokio::sync::oneshot;

use super::follow::is_due;
use super::serve::Control;

/// From the beginning of one look to that of the next, in ms.
const EVERY_MS: u64 = 20_000;

/// The looks of a node.
#[derive(Default)]
pub(super) struct PausedLooks {
    at: Option<MonoUs>,
    /// One at most: a store that is slower than we ask is waited for.
    look: Option<Look>,
}

/// One that is under way.
struct Look {
    /// Where its next page begins.
    after: Option<TargetId>,
    /// Paused ones of the pages before.
    seen: u64,
    /// Somebody switched a target here after it began: its number is none to show.
    is_old: bool,
    answer: oneshot::Receiver<store::Result<Found>>,
}

enum Found {
    Count(u64),
    /// The next ones, by id.
    Page(Vec<TargetId>),
}

impl PausedLooks {
    fn begins(&mut self, now: MonoUs) -> bool {
        self.look.is_none() && is_due(&mut self.at, EVERY_MS, now)
    }

    /// What was read, once it was. An answer that is an error is none: there is another look.
    fn take(&mut self) -> Option<(Look, Found)> {
        let found = match self.look.as_mut()?.answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => None,
            Ok(found) => found.ok(),
        };
        let look = self.look.take()?;
        Some((look, found?))
    }

    /// What is on its way is older than the number that is known now.
    fn have_number(&mut self) {
        if let Some(look) = &mut self.look {
            look.is_old = true;
        }
    }
}

impl Control {
    /// Begins to look when that is due, and takes what was read.
    pub(super) fn follow_paused(&mut self) {
        let now = self.parts.view.clock.mono();
        if self.following.paused.begins(now) {
            let answer = self.ask_for_paused(None);
            self.following.paused.look = Some(Look {
                after: None,
                seen: 0,
                is_old: false,
                answer,
            });
        }
        match self.following.paused.take() {
            None => {}
            Some((look, Found::Count(paused))) => self.show_paused(&look, paused),
            Some((look, Found::Page(paused))) => self.take_page(look, &paused),
        }
    }

    fn ask_for_paused(&self, after: Option<TargetId>) -> oneshot::Receiver<store::Result<Found>> {
        let (store, counts) = (self.parts.store.clone(), self.legacy.is_none());
        let (found, answer) = oneshot::channel();
        // Whoever forgets about it has no use for the answer.
        tokio::spawn(async move { found.send(read(&store, counts, after).await).ok() });
        answer
    }

    fn take_page(&mut self, mut look: Look, paused: &[TargetId]) {
        let is_full = paused.len() >= LEGACY_PAGE_MAX;
        let last = paused.last().copied().filter(|_| is_full);
        self.read_wrongly_paused((look.after, last), paused);
        look.seen += paused.len() as u64;
        if last.is_none() {
            self.show_paused(&look, look.seen);
            return;
        }
        look.after = last;
        look.answer = self.ask_for_paused(last);
        self.following.paused.look = Some(look);
    }

    fn show_paused(&self, look: &Look, paused: u64) {
        if !look.is_old {
            self.parts.view.paused.store(paused, Ordering::Relaxed);
        }
    }

    /// Asks the store now how many targets are paused.
    pub(super) async fn count_paused(&mut self) {
        if let Ok(paused) = self.parts.store.count_paused().await {
            self.parts.view.paused.store(paused, Ordering::Relaxed);
        }
        self.following.paused.have_number();
    }
}

async fn read(store: &Store, counts: bool, after: Option<TargetId>) -> store::Result<Found> {
    if counts {
        return store.count_paused().await.map(Found::Count);
    }
    let page = store.paused_after(after, LEGACY_PAGE_MAX).await;
    page.map(Found::Page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::serve::tests::{change_from_elsewhere, control};

    impl PausedLooks {
        /// One whose answer is to come.
        fn waits(&mut self) -> oneshot::Sender<store::Result<Found>> {
            let (found, answer) = oneshot::channel();
            self.look = Some(Look {
                after: None,
                seen: 0,
                is_old: false,
                answer,
            });
            found
        }
    }

    /// Lesson: each look took the place of the one before, so that a store slower than that was
    /// never read.
    #[test]
    fn a_look_that_takes_long_is_waited_for() {
        let (mut looks, at) = (PausedLooks::default(), |s: u64| MonoUs(s * 1_000_000));
        assert!(looks.begins(at(1)));
        let found = looks.waits();
        assert!(!looks.begins(at(100)) && looks.take().is_none());
        assert!(found.send(Ok(Found::Count(5))).is_ok());
        assert!(matches!(looks.take(), Some((_, Found::Count(5)))));
        assert!(looks.begins(at(101)) && !looks.begins(at(102)));
        drop(looks.waits());
        assert!(looks.take().is_none(), "no answer will come");
        assert!(looks.begins(at(121)));
    }

    /// Lesson: a number that was on its way when somebody paused a target took the place of the
    /// newer one, for half a minute.
    #[tokio::test]
    async fn a_number_that_was_asked_for_before_a_target_was_paused_is_not_shown() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (mut control, _calls) = control(dir.path()).await;
        let shown = |control: &Control| control.parts.view.paused.load(Ordering::Relaxed);
        let found = control.following.paused.waits();
        change_from_elsewhere(&control, dir.path()).await;
        control.count_paused().await;
        assert_eq!(shown(&control), 1);
        assert!(found.send(Ok(Found::Count(0))).is_ok());
        control.follow_paused();
        assert_eq!(shown(&control), 1, "there is a newer one");
        let found = control.following.paused.waits();
        assert!(found.send(Ok(Found::Count(2))).is_ok());
        control.follow_paused();
        assert_eq!(shown(&control), 2);
        control.into_stopping().drain().await.expect("drained");
    }
}
