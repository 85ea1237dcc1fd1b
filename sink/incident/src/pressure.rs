//! How far our own checks may be believed: signals of our own trouble and of many failures at once,
//! kept apart, and what each does. One per node; it must not know a target.
//!
//! ```text
//!                       │ what it does to failing checks of targets that are up
//!  local pressure       │ Doubting: connect and timeout failures are not known
//!  no canary answers,   │ Doubting
//!    nor any target     │
//!  failure pressure     │ Deferring: such failures count from the second in a row on
//!    canaries silent    │ Doubting
//!    no canaries, and   │ Doubting for five minutes at most, then Deferring
//!      nearly all fail  │
//!    a sample confirms  │ Clear, until canaries fall silent
//!  own network gone     │ Isolated: every failure of every target is not known
//! ```
//!
//! Who tells of local pressure may stand still with the rest of the node, so what was told holds
//! for [`HEALTH_VALID_MS`] only. After that, and for as long again once something is told, the node
//! is taken for *stalled*: that is local pressure, too.
//!
//! Nothing is suppressed for five minutes without one incident of the operator that says so. Nor do
//! checks stay without a verdict one by one for so long, be it that cores excuse them or that
//! targets which were well are *lost* to us, nor do failing targets wait for verifiers for so long:
//! those signals make nobody doubt, but are told of.

mod cut_off;
mod lost;
mod sample;
mod window;

use model::limits::{
    HEALTH_VALID_MS, ISOLATION_AFTERMATH_MS, ISOLATION_NETWORKS_MIN, ISOLATION_RESULTS_MIN,
    ISOLATION_SHARE_PERCENT, PRESSURE_RESULTS_MIN, PRESSURE_SHARE_PERCENT, PRESSURE_STICKY_MS,
    SUPPRESSION_MAX_MS,
};
use model::{Belief, MonoUs, Now, UnixMs};

use cut_off::CutOff;
use lost::Losses;
pub use lost::Lost;
pub use model::belief::{Canaries, Signals, Stance};
pub use sample::Sample;
pub use window::Share;
use window::Window;

/// How the node is, as far as it knows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Signals of local pressure.
    pub signals: Signals,
    /// Its canaries.
    pub canaries: Canaries,
    /// Two of three canaries answered when they were asked then, or later; `None`: not yet.
    pub vouched: Option<MonoUs>,
    /// Unrelated /16 networks of the fleet of which more than 90 % of the checks fail.
    pub dark_networks: u16,
    /// When that was so; `None`: it holds until something else is heard.
    pub measured: Option<MonoUs>,
}

/// What an incident of the operator is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeIncident {
    /// `node_suppressing`: failures are suppressed for longer than five minutes.
    Suppressing,
    /// `node_isolated`: our own network is gone.
    Isolated,
}

impl NodeIncident {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Suppressing, Self::Isolated];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suppressing => "node_suppressing",
            Self::Isolated => "node_isolated",
        }
    }
}

/// What the operator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// About what.
    pub incident: NodeIncident,
    /// It begins, or it ends.
    pub begins: bool,
    /// Since when failures are suppressed.
    pub since: UnixMs,
    /// By which signals, since then.
    pub signals: Signals,
    /// Targets that are not known, or wait for confirmation.
    pub targets: u64,
}

/// What the operator is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Since when failures are suppressed.
    pub since: UnixMs,
    /// By which signals, since then.
    pub signals: Signals,
}

/// A time in which failures are suppressed, interruptions of less than two minutes included.
#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Now,
    last: MonoUs,
    signals: Signals,
    told: bool,
    /// It goes on until then, whatever is known: before a restart it was told.
    resumed_until: Option<MonoUs>,
}

/// Everything that the node knows about its own trouble.
#[derive(Debug, Default)]
pub struct Pressure {
    window: Window,
    cut_off: CutOff,
    losses: Losses,
    /// Failing targets of which verifiers go on saying too little.
    unconfirmed: u64,
    health: Health,
    /// A target answered since the canaries are silent.
    answered: bool,
    /// Signals that were heard since the last turn, be they gone again.
    news: Signals,
    /// Something was heard after a time without a word: until then that time is doubted.
    lapsed_until: Option<MonoUs>,
    /// All that were in force at the last turn: what the stance is because of.
    signals: Signals,
    /// While failure pressure lasts: since when, and when it was seen last.
    failing: Option<(MonoUs, MonoUs)>,
    sample_confirmed: bool,
    /// Canaries fell silent: whatever verifiers were asked before says nothing of now.
    withdrawn: bool,
    stance: Stance,
    /// The network was gone: until then checks end that began without it.
    aftermath_until: Option<MonoUs>,
    /// When the network was gone last, the time after it included.
    isolated_last: Option<MonoUs>,
    suppressing: Option<Episode>,
    isolated: Option<Episode>,
}

impl Pressure {
    /// Adds results that were drained: all that said something, and how many of them failed. Those
    /// of targets that have an open incident are left out. Before any of them is stepped.
    pub fn drained(&mut self, drained: Share, now: MonoUs) {
        self.window.add(drained, now);
        self.answered |= drained.results > drained.failing;
    }

    /// Adds targets that were well, and to which our own kernel now finds no way; after the results
    /// of the same time.
    pub fn cut_off(&mut self, targets: u64, now: MonoUs) {
        let results = self.window.share(now).results;
        self.cut_off.add(targets, results, now);
    }

    /// Replaces how many targets are `lost` of the `fleet`; after the results of the same time.
    pub fn lost(&mut self, lost: Lost, fleet: u64, now: MonoUs) {
        self.losses.look(lost, fleet, now);
    }

    /// Replaces how many failing targets wait for confirmation in vain.
    pub fn unconfirmed(&mut self, targets: u64) {
        self.unconfirmed = targets;
    }

    /// Replaces what the node knows of itself.
    pub fn heard(&mut self, health: Health) {
        if let Some(measured) = health.measured
            && self.is_stale(measured)
        {
            self.lapsed_until = Some(measured.plus_ms(HEALTH_VALID_MS));
        }
        if !self.health.canaries.are_silent() {
            self.answered = false;
        }
        let were_well = self.health.canaries.are_well() == Some(true);
        if were_well && health.canaries.are_well() == Some(false) {
            (self.sample_confirmed, self.withdrawn) = (false, true);
        }
        self.news = self.news.and(health.signals);
        self.health = health;
    }

    /// Whether what was told last does not hold any more.
    fn is_stale(&self, now: MonoUs) -> bool {
        let told = self.health.measured;
        told.is_some_and(|told| now.since(told) > HEALTH_VALID_MS * 1_000)
    }

    /// Every signal that was in force at the last turn.
    pub fn signals(&self) -> Signals {
        self.signals
    }

    /// Those of local pressure, at this turn.
    fn local(&mut self, now: MonoUs) -> Signals {
        let news = std::mem::take(&mut self.news);
        let mut told = self.health.signals.and(news).and(self.losses.signals(now));
        if self.cut_off.is_recent(now) {
            told = told.and(Signals::CUT_OFF);
        }
        if self.unconfirmed > 0 {
            told = told.and(Signals::UNCONFIRMED);
        }
        if self.health.canaries.are_silent() && !self.answered {
            told = told.and(Signals::CANARIES_SILENT);
        }
        let is_lapsed = self.lapsed_until.is_some_and(|until| now < until);
        if self.is_stale(now) || is_lapsed {
            told.and(Signals::STALLED)
        } else {
            told
        }
    }

    /// Verifiers confirmed a sample of the failures: they are real, as long as they last.
    pub fn sample_confirmed(&mut self) {
        self.sample_confirmed = self.failing.is_some() && !self.withdrawn;
    }

    /// Whether what a sample asked, or asks now, is of a time when canaries answered who do so no
    /// more; once each time.
    pub fn withdraws_sample(&mut self) -> bool {
        std::mem::take(&mut self.withdrawn)
    }

    /// How far failing checks are believed now.
    pub fn stance(&self) -> Stance {
        self.stance
    }

    /// What failed before this instant was followed by canaries that answered. The end of time
    /// where there are none: nobody can be waited for.
    pub fn vouched(&self) -> MonoUs {
        if self.health.canaries.configured == 0 {
            return MonoUs(u64::MAX);
        }
        self.health.vouched.unwrap_or(MonoUs(0))
    }

    /// The same with what it is because of.
    pub fn belief(&self) -> Belief {
        Belief {
            stance: self.stance,
            signals: self.signals,
            canaries: self.health.canaries,
        }
    }

    /// What the operator is told of `incident` now.
    pub fn told(&self, incident: NodeIncident) -> Option<Told> {
        let episode = match incident {
            NodeIncident::Suppressing => self.suppressing.filter(|episode| episode.told),
            NodeIncident::Isolated => self.isolated,
        };
        episode.map(|Episode { since, signals, .. }| Told {
            since: since.unix,
            signals,
        })
    }

    /// The operator was told of `incident` before a restart, and not that it is over.
    pub fn resume(&mut self, incident: NodeIncident, since: UnixMs, now: Now) {
        let place = match incident {
            NodeIncident::Suppressing => &mut self.suppressing,
            NodeIncident::Isolated => &mut self.isolated,
        };
        place.get_or_insert(Episode::resumed(since, now));
    }

    /// Whether many checks fail.
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Looks at everything again, after the results of a turn were added and before any of them is
    /// stepped; `affected` targets are not known, or not confirmed, now. Says what the operator
    /// must be told.
    pub fn turn(&mut self, affected: u64, now: Now) -> Vec<Notice> {
        let share = self.window.share(now.mono);
        self.watch_failures(share, now.mono);
        let local = self.local(now.mono);
        let judged = self.judge(share, local, now.mono);
        let (stance, signals) = self.in_aftermath(judged, now.mono);
        (self.stance, self.signals) = (stance, signals);
        let mut notices = Vec::new();
        self.keep_isolated(signals, affected, now, &mut notices);
        self.keep_suppressing(signals, affected, now, &mut notices);
        notices
    }

    fn watch_failures(&mut self, share: Share, now: MonoUs) {
        let many = share.results >= PRESSURE_RESULTS_MIN
            && share.failing * 100 >= share.results * PRESSURE_SHARE_PERCENT;
        if many {
            let since = self.failing.map_or(now, |(since, _)| since);
            self.failing = Some((since, now));
        }
        let is_over =
            |&mut (_, last): &mut (MonoUs, MonoUs)| now.since(last) >= PRESSURE_STICKY_MS * 1_000;
        if self.failing.take_if(is_over).is_some() || self.failing.is_none() {
            self.sample_confirmed = false;
        }
    }

    /// What is believed when what was `judged` follows isolation.
    fn in_aftermath(
        &mut self,
        (stance, signals): (Stance, Signals),
        now: MonoUs,
    ) -> (Stance, Signals) {
        if stance == Stance::Isolated {
            self.aftermath_until = Some(now.plus_ms(ISOLATION_AFTERMATH_MS));
        }
        self.aftermath_until.take_if(|until| *until <= now);
        if self.aftermath_until.is_some() {
            (
                stance.max(Stance::Doubting),
                signals.and(Signals::ISOLATION),
            )
        } else {
            (stance, signals)
        }
    }

    fn judge(&self, share: Share, local: Signals, now: MonoUs) -> (Stance, Signals) {
        let canaries = self.health.canaries;
        let nearly_all = share.failing * 100 > share.results * ISOLATION_SHARE_PERCENT;
        if self.is_gone(share, nearly_all) {
            return (Stance::Isolated, local.and(Signals::ISOLATION));
        }
        let failures = self.judge_failures(canaries, nearly_all, now);
        let stance = if local.without(Signals::TOLD_ONLY).is_empty() {
            failures
        } else {
            Stance::Doubting
        };
        let suppressing = failures == Stance::Doubting;
        let failures = if suppressing {
            Signals::FAILURES
        } else {
            Signals::NONE
        };
        (stance, local.and(failures))
    }

    /// Whether our own network is gone. It takes dark networks to begin, and an answer to end: few
    /// checks come while nobody is checked any sooner. Where few checks come at any time, ten
    /// seconds without one that was good say nothing: one answer since the canaries are silent is
    /// enough.
    fn is_gone(&self, share: Share, nearly_all: bool) -> bool {
        let Health {
            canaries,
            dark_networks,
            ..
        } = self.health;
        let has_answered = self.answered && share.results < ISOLATION_RESULTS_MIN;
        let begins = dark_networks >= ISOLATION_NETWORKS_MIN && !has_answered;
        let is_dark = begins || self.stance == Stance::Isolated;
        canaries.are_silent() && is_dark && (share.results == 0 || nearly_all)
    }

    fn judge_failures(&self, canaries: Canaries, nearly_all: bool, now: MonoUs) -> Stance {
        let Some((since, _)) = self.failing else {
            return Stance::Clear;
        };
        if self.sample_confirmed {
            return Stance::Clear;
        }
        // Where there are no canaries, targets that answer stand in for them, if there are some.
        let is_new = now.since(since) < SUPPRESSION_MAX_MS * 1_000;
        let is_ours = match canaries.are_well() {
            Some(well) => !well,
            None => nearly_all && is_new,
        };
        if is_ours {
            Stance::Doubting
        } else {
            Stance::Deferring
        }
    }

    fn keep_isolated(
        &mut self,
        signals: Signals,
        targets: u64,
        now: Now,
        notices: &mut Vec<Notice>,
    ) {
        let is_isolated = self.stance == Stance::Isolated;
        match &mut self.isolated {
            None if is_isolated => {
                let episode = Episode::beginning(signals, now);
                notices.push(episode.notice(NodeIncident::Isolated, true, targets));
                self.isolated = Some(episode);
            }
            Some(episode) if is_isolated => {
                episode.signals = episode.signals.and(signals);
                episode.resumed_until = None;
            }
            Some(episode) if episode.resumed_until.is_none_or(|until| until <= now.mono) => {
                notices.push(episode.notice(NodeIncident::Isolated, false, targets));
                self.isolated = None;
            }
            _ => {}
        }
    }

    /// While the node is isolated, and just after, that is all that is said. Who was lost by then
    /// has five minutes more for the next check.
    fn keep_suppressing(
        &mut self,
        signals: Signals,
        targets: u64,
        now: Now,
        notices: &mut Vec<Notice>,
    ) {
        let is_isolated = self.stance == Stance::Isolated || self.aftermath_until.is_some();
        if is_isolated {
            self.isolated_last = Some(now.mono);
        }
        if self.stance.suppresses() || signals.has_any(Signals::TOLD_ONLY) {
            let episode = self
                .suppressing
                .get_or_insert(Episode::beginning(signals, now));
            episode.last = now.mono;
            episode.signals = episode.signals.and(signals);
            let since = if self.stance.suppresses() {
                episode.since.mono
            } else {
                episode
                    .since
                    .mono
                    .max(self.isolated_last.unwrap_or(MonoUs(0)))
            };
            let long = now.mono.since(since) >= SUPPRESSION_MAX_MS * 1_000;
            if long && !episode.told && !is_isolated {
                episode.told = true;
                notices.push(episode.notice(NodeIncident::Suppressing, true, targets));
            }
        } else if let Some(episode) = self
            .suppressing
            .take_if(|episode| episode.is_over(now.mono))
            && episode.told
        {
            notices.push(episode.notice(NodeIncident::Suppressing, false, targets));
        }
    }
}

impl Episode {
    fn beginning(signals: Signals, now: Now) -> Self {
        Self {
            since: now,
            last: now.mono,
            signals,
            told: false,
            resumed_until: None,
        }
    }

    /// One that the operator was told of before a restart: it has the time of an interruption for
    /// being seen again.
    fn resumed(since: UnixMs, now: Now) -> Self {
        Self {
            since: Now {
                mono: now.mono,
                unix: since,
            },
            last: now.mono,
            signals: Signals::NONE,
            told: true,
            resumed_until: Some(now.mono.plus_ms(PRESSURE_STICKY_MS)),
        }
    }

    fn is_over(&self, now: MonoUs) -> bool {
        now.since(self.last) >= PRESSURE_STICKY_MS * 1_000
    }

    fn notice(&self, incident: NodeIncident, begins: bool, targets: u64) -> Notice {
        Notice {
            incident,
            begins,
            since: self.since.unix,
            signals: self.signals,
            targets,
        }
    }
}

#[cfg(test)]
mod tests;
