//! When a running node looks again whether its targets fit the local ports. What changes is added
//! to a plan of all: while that fits, so do they. Where it does not, since what was replaced is
//! still in it or ports are short, every active target is read again: at once, but once a minute at
//! most, and only after one in a hundred of them may have changed, so that a row that changed has
//! at most a hundred read. What is put off is owed, and done later beside everything else.

use anyhow::anyhow;
use model::limits::PORTS_DESTINATIONS_MAX;
use model::{MonoUs, Target};
use tokio::task::JoinSet;
use tracing::warn;

use super::fit;
use super::fleet::Fed;
use super::ports::{Fit, PortsPlan};
use super::serve::Control;
use crate::exit::BadInput;

/// From the beginning of one look to that of the next, in ms.
const EVERY_MS: u64 = 60_000;
/// Targets that are read for one that was fed, at most.
const READ_FOR_ONE: u64 = 100;

type Looked = anyhow::Result<Option<PortsPlan>>;

/// The looks of a node.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// None begins before it.
    next_at: MonoUs,
    owed: bool,
    /// One at most, for which nobody waits.
    task: JoinSet<Looked>,
    /// All targets that were fed, each as often as it changed: they need no more ports than that.
    /// `None`: too many destinations for one.
    at_most: Option<PortsPlan>,
    /// Active targets of the last look.
    looked_at: u64,
    /// Those that were fed since it began: it may have missed them.
    fed_since: u64,
}

impl Looks {
    /// All targets are about to be fed.
    pub(super) fn load(&mut self, empty: Option<PortsPlan>) {
        self.at_most = empty.map(PortsPlan::without_capped);
        self.looked_at = 0;
    }

    /// Takes in what is fed.
    pub(super) fn feed(&mut self, targets: &[Target]) {
        self.fed_since += targets.len() as u64;
        let Some(plan) = &mut self.at_most else {
            return;
        };
        for target in targets.iter().filter(|target| target.active) {
            plan.add(&target.config);
        }
        if plan.destinations() > PORTS_DESTINATIONS_MAX {
            self.at_most = None;
        }
    }

    /// Whether all that is fed fits, without a look.
    fn fits(&self) -> bool {
        let judged = self.at_most.as_ref().map(PortsPlan::judge);
        matches!(judged, Some(Ok(Fit::Ample(_))))
    }

    /// How targets fit that a look found.
    fn judge(&mut self, looked: Looked) -> anyhow::Result<Option<Fit>> {
        let Some(plan) = looked? else {
            return Ok(None);
        };
        let fit = plan.judge();
        self.looked_at = plan.targets();
        if self.fed_since == 0 && plan.destinations() <= PORTS_DESTINATIONS_MAX {
            self.at_most = Some(plan.without_capped());
        }
        fit.map(Some)
    }

    /// Whether to look at targets that changed at `now`; otherwise that is owed.
    fn may_begin(&mut self, now: MonoUs) -> bool {
        self.owed |= self.fed_since * READ_FOR_ONE >= self.looked_at;
        self.takes_due(now)
    }

    /// Whether what is owed is to be done `now`; then it is owed no more.
    fn takes_due(&mut self, now: MonoUs) -> bool {
        let is_due = self.owed && now >= self.next_at && self.task.is_empty();
        if is_due {
            self.owed = false;
            self.fed_since = 0;
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
    /// Feeds `targets` to the cores.
    pub(super) async fn feed(&mut self, targets: Vec<Target>) -> anyhow::Result<Fed> {
        self.looks.feed(&targets);
        Ok(self.fleet.feed(targets).await?)
    }

    /// What to say of the local ports after a change of the targets, unless that is put off. A node
    /// that runs goes on with more than they carry: each check without one is unknown, and counted.
    pub(super) async fn short_of_ports(&mut self, fed: Fed) -> anyhow::Result<Option<String>> {
        let now = self.parts.view.clock.mono();
        if fed.upserted == 0 || self.looks.fits() || !self.looks.may_begin(now) {
            return Ok(None);
        }
        let (store, config) = (self.parts.store.clone(), self.config.clone());
        let look = async move { fit::look(&store, &config).await };
        let looked = self.meanwhile(look).await?;
        let short = short(self.looks.judge(looked));
        self.looks.owed |= short.is_err();
        short
    }

    /// Does what was put off, and says what came of it.
    pub(super) fn follow_ports(&mut self) {
        if let Some(looked) = self.looks.done()
            && let Err(error) = short(self.looks.judge(looked))
        {
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
fn short(judged: anyhow::Result<Option<Fit>>) -> anyhow::Result<Option<String>> {
    let short = match judged {
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
    use model::{Generation, TargetId, TargetSpec};

    use super::*;
    use crate::run::ports::tests::{RANGE, config, ports};

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

    fn target(id: i64, interval_s: i64) -> Target {
        let spec = TargetSpec {
            url: format!("http://203.0.113.7/{id}"),
            interval_s: Some(interval_s),
            ..TargetSpec::default()
        };
        Target {
            id: TargetId::new(id).expect("positive"),
            generation: Generation(1),
            active: true,
            config: spec.parse().expect("valid"),
        }
    }

    fn plan(targets: &[Target]) -> PortsPlan {
        let config = config("uncapped = ['203.0.113.0/24']");
        let mut plan = PortsPlan::new(ports(RANGE, "", "2"), &config);
        for target in targets {
            plan.add(&target.config);
        }
        plan
    }

    /// Lesson: with addresses that have no caps, each import of one row read every target.
    #[test]
    fn targets_are_read_again_only_where_those_that_were_fed_may_not_fit() {
        let (mut looks, fleet) = (Looks::default(), [target(1, 300), target(2, 300)]);
        assert!(!looks.fits(), "nothing is known yet");
        looks.load(Some(plan(&[])));
        looks.feed(&fleet);
        assert!(looks.fits());
        // One that is checked every ten seconds, changed again and again.
        let often = vec![target(3, 10); 5_000];
        looks.feed(&often);
        assert!(!looks.fits(), "as if all of them were there");
        assert!(looks.may_begin(MonoUs(1)));
        let found = [&fleet[..], &often[..1]].concat();
        let judged = looks.judge(Ok(Some(plan(&found)))).expect("it fits");
        assert!(matches!(judged, Some(Fit::Ample(_))));
        assert!(looks.fits(), "it is known now");
        // What is fed while a look is under way may not be in it.
        looks.feed(&often);
        assert!(looks.may_begin(MonoUs(u64::MAX / 2)));
        looks.feed(&often[..1]);
        looks.judge(Ok(Some(plan(&found)))).expect("it fits");
        assert!(!looks.fits());
    }

    #[test]
    fn where_ports_are_short_a_look_is_for_one_in_a_hundred_that_changed() {
        let mut looks = Looks::default();
        let often: Vec<Target> = (1..=3_000).map(|id| target(id, 10)).collect();
        looks.load(Some(plan(&[])));
        looks.feed(&often);
        assert!(looks.may_begin(MonoUs(1)), "all of them were fed");
        let judged = looks.judge(Ok(Some(plan(&often)))).expect("it just fits");
        assert!(matches!(judged, Some(Fit::Tight(_))));
        for nth in 1..=30 {
            assert!(!looks.fits());
            looks.feed(&often[..1]);
            let later = MonoUs(nth * 1_000_000_000);
            assert_eq!(looks.may_begin(later), nth == 30, "{nth}");
        }
    }

    #[test]
    fn of_too_many_destinations_no_account_is_kept() {
        let mut looks = Looks::default();
        looks.load(Some(plan(&[])));
        let mut many = target(1, 300);
        for place in 0..=PORTS_DESTINATIONS_MAX {
            let (host, port) = (place / 60_000, place % 60_000 + 1);
            let url = format!("http://203.0.113.{host}:{port}/");
            let spec = TargetSpec {
                url,
                ..TargetSpec::default()
            };
            many.config = spec.parse().expect("valid");
            looks.feed(std::slice::from_ref(&many));
        }
        assert!(looks.at_most.is_none() && !looks.fits());
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
