//! When a running node looks again whether its targets fit the local ports: after a change at
//! once, but once a minute at most, since a look may read every active target. What is put off is
//! owed, and done later beside everything else.

use anyhow::anyhow;
use model::MonoUs;
use tokio::task::JoinSet;
use tracing::warn;

use super::fit;
use super::fleet::Fed;
use super::ports::Fit;
use super::serve::Control;
use crate::exit::BadInput;

/// From the beginning of one look to that of the next, in ms.
const EVERY_MS: u64 = 60_000;

type Looked = anyhow::Result<Option<Fit>>;

/// The looks of a node.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// None begins before it.
    next_at: MonoUs,
    owed: bool,
    /// One at most, for which nobody waits.
    task: JoinSet<Looked>,
}

impl Looks {
    /// Whether to look at targets that changed at `now`; otherwise that is owed.
    fn may_begin(&mut self, now: MonoUs) -> bool {
        self.owed = true;
        self.takes_due(now)
    }

    /// Whether what is owed is to be done `now`; then it is owed no more.
    fn takes_due(&mut self, now: MonoUs) -> bool {
        let is_due = self.owed && now >= self.next_at && self.task.is_empty();
        if is_due {
            self.owed = false;
            self.next_at = now.plus_ms(EVERY_MS);
        }
        is_due
    }

    /// What came of a look that is over.
    fn done(&mut self) -> Option<Looked> {
        let done = self.task.try_join_next()?;
        Some(done.unwrap_or_else(|broken| Err(anyhow!("the look did not end: {broken}"))))
    }
}

impl Control {
    /// What to say of the local ports after a change of the targets, unless that is put off. A node
    /// that runs goes on with more than they carry: each check without one is unknown, and counted.
    pub(super) async fn short_of_ports(&mut self, fed: Fed) -> anyhow::Result<Option<String>> {
        let now = self.parts.view.clock.mono();
        if fed.upserted == 0 || !self.looks.may_begin(now) {
            return Ok(None);
        }
        let short = short(self.plan_ports().await);
        self.looks.owed |= short.is_err();
        short
    }

    /// Does what was put off, and says what came of it.
    pub(super) fn follow_ports(&mut self) {
        if let Some(Err(error)) = self.looks.done().map(short) {
            self.looks.owed = true;
            self.complain("ports", || {
                format!("whether the targets fit the local ports is not known: {error:#}")
            });
        }
        if self.looks.takes_due(self.parts.view.clock.mono()) {
            let (store, config) = (self.parts.store.clone(), self.config.clone());
            let look = async move { fit::look(&store, &config).await };
            self.looks.task.spawn(look);
        }
    }
}

/// In what they are short, said and returned.
fn short(looked: Looked) -> anyhow::Result<Option<String>> {
    let short = match looked {
        Ok(Some(Fit::Tight(plan))) => format!("local ports are short: {plan}"),
        Err(error) if error.is::<BadInput>() => format!(
            "{error}; until then checks that find no port are unknown (connect.local), and the \
             next start refuses this plan"
        ),
        Err(error) => return Err(error),
        Ok(_) => return Ok(None),
    };
    warn!("{short}");
    Ok(Some(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lesson: each import of one row read a million targets.
    #[test]
    fn many_changes_in_a_minute_are_one_look_at_once_and_one_that_is_owed() {
        let mut looks = Looks::default();
        let at = |s: u64| MonoUs(s * 1_000_000);
        assert!(!looks.takes_due(at(1)), "nothing changed yet");
        assert!(looks.may_begin(at(1)));
        assert!(!looks.takes_due(at(2)), "it was done");
        let begun = (3..61).filter(|&s| looks.may_begin(at(s))).count();
        assert_eq!((begun, looks.takes_due(at(60))), (0, false));
        assert!(looks.takes_due(at(61)));
        assert!(!looks.takes_due(at(200)), "owed once");
        assert!(looks.may_begin(at(200)));
    }

    #[tokio::test]
    async fn while_a_look_is_under_way_no_other_begins() {
        let mut looks = Looks::default();
        looks.task.spawn(std::future::pending());
        assert!(!looks.may_begin(MonoUs(1)));
        assert!(looks.done().is_none());
        looks.task.abort_all();
        let broken = looks.task.join_next().await.expect("one");
        assert!(broken.is_err_and(|broken| broken.is_cancelled()));
        assert!(looks.takes_due(MonoUs(1)));
    }
}
