//! The rules once more, as plain as they can be said: one target, times in ms, no events, no
//! effects but what is said beside them. Numbers are written out here on purpose.

use std::collections::{HashMap, HashSet};

use incident::quorum::{Answer, Says};
use incident::{AuditKind, Stance};
use model::class::Verdict;
use model::fact::{CheckType, Reason, State};
use model::target::Maintenance;
use model::{FailureClass, UnixMs};

use crate::script::{Life, START};

/// Verifiers are waited for so long.
const ANSWERS_WAIT_MS: u64 = 75_000;
const MINUTE: u64 = 60_000;

/// What one check says.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    class: Option<FailureClass>,
    days_left: Option<u16>,
    status: u16,
    /// Two resolvers say that the name does not exist.
    agreed: bool,
}

impl Seen {
    pub(crate) fn of(class: Option<FailureClass>, days_left: Option<u16>, status: u16) -> Self {
        Self {
            class,
            days_left,
            status,
            agreed: false,
        }
    }

    pub(crate) fn agreed(self, agreed: bool) -> Self {
        Self { agreed, ..self }
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.class
            .is_some_and(|class| class.verdict() == Verdict::Unknown)
    }

    fn is_dns(self) -> bool {
        self.class
            .is_some_and(|class| class.as_str().starts_with("dns."))
    }

    /// What one place alone is not believed of the DNS.
    fn is_doubtful(self) -> bool {
        let is_agreed = self.agreed && self.class == Some(FailureClass::DnsNxdomain);
        self.is_dns() && !is_agreed
    }

    fn is_slow_to_connect(self) -> bool {
        self.class.is_some_and(|class| {
            let name = class.as_str();
            name.starts_with("connect.") || name.ends_with(".timeout")
        })
    }

    fn is_tls(self) -> bool {
        self.class
            .is_some_and(|class| class.as_str().starts_with("tls."))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Wait {
    #[default]
    No,
    /// Since then and until then, for our own trouble to show.
    Hold(u64, u64),
    /// For the second failure in a row.
    Second,
    /// For a confirmation; whether because the target flaps.
    Proof { flaps: bool },
}

/// When the target is checked again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Pace {
    #[default]
    Grid,
    /// A minute after the check before, or sooner.
    Soon,
}

impl Pace {
    fn soon_if(is_soon: bool) -> Self {
        if is_soon { Self::Soon } else { Self::Grid }
    }
}

/// An outage, as its row has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// What the wall clock said at the first failing check.
    pub(crate) first: UnixMs,
    pub(crate) failures: u32,
}

/// How vantages voted: up, down.
pub(crate) type Votes = (usize, usize);

/// What is said of a step beside the events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Said {
    Line {
        kind: AuditKind,
        /// It is about the last outage.
        of_event: bool,
        votes: Option<Votes>,
        at: UnixMs,
    },
    NotKnown,
}

#[derive(Clone, Copy, Debug)]
struct Ballot {
    asked: bool,
    until: u64,
    since: u64,
    deferrals: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    http: Option<State>,
    first: UnixMs,
    failures: u32,
    /// Those that the row knows of.
    written: u32,
    wait: Wait,
    ballot: Option<Ballot>,
    recovered: Option<u64>,
    false_alarm: Option<u64>,
    /// By both clocks.
    suppressed_since: Option<(u64, UnixMs)>,
    /// The window that was told of last.
    told: Option<Maintenance>,
    changes: Vec<u64>,
    flapping: bool,
    slow: Vec<bool>,
    latency: bool,
    expiry: Option<State>,
    old_tls: bool,
    pub(crate) pace: Pace,
    /// Why each outage ended, and its row then.
    pub(crate) closings: Vec<(Reason, Row)>,
    /// What was said since somebody took it.
    pub(crate) said: Vec<Said>,
}

fn window(life: &Life, at: u64) -> Option<Maintenance> {
    let window = life.subject.maintenance;
    window.filter(|window| window.start_ms < at && at < window.end_ms)
}

fn in_window(life: &Life, at: u64) -> bool {
    window(life, at).is_some()
}

impl Reference {
    pub(crate) fn states(&self) -> HashMap<CheckType, State> {
        let states = [
            (CheckType::Http, self.http),
            (CheckType::TlsExpiry, self.expiry),
            (
                CheckType::TlsDeprecated,
                self.old_tls.then_some(State::Warning),
            ),
            (CheckType::Latency, self.latency.then_some(State::Degraded)),
            (
                CheckType::Flapping,
                self.flapping.then_some(State::Degraded),
            ),
        ];
        let open = states
            .into_iter()
            .filter_map(|(of, state)| Some((of, state?)));
        open.collect()
    }

    /// The open outage.
    pub(crate) fn row(&self) -> Option<Row> {
        self.http.map(|_| Row {
            first: self.first,
            failures: self.written,
        })
    }

    /// When something is over that is waited for.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        let hold = match self.wait {
            Wait::Hold(_, until) => Some(until),
            Wait::No | Wait::Second | Wait::Proof { .. } => None,
        };
        let ballot = self.ballot.map(|ballot| ballot.until);
        hold.into_iter().chain(ballot).min()
    }

    /// A core that is told of the target anew begins on the grid.
    pub(crate) fn placed(&mut self) {
        let is_open = self.http == Some(State::SeemsDown);
        self.pace = Pace::soon_if(is_open || self.wait != Wait::No);
    }

    pub(crate) fn retired(&mut self) {
        self.end(Reason::ManualOverride);
        *self = Self {
            closings: std::mem::take(&mut self.closings),
            said: std::mem::take(&mut self.said),
            ..Self::default()
        };
    }

    /// The outage is over, if there is one; its row has all failures.
    fn end(&mut self, why: Reason) {
        if self.http.take().is_some() {
            let (first, failures) = (self.first, self.failures);
            self.closings.push((why, Row { first, failures }));
        }
    }

    fn say(&mut self, life: &Life, at: u64, kind: AuditKind, of_event: bool) {
        self.say_votes(life, at, (kind, of_event), None);
    }

    fn say_votes(
        &mut self,
        life: &Life,
        at: u64,
        (kind, of_event): (AuditKind, bool),
        votes: Option<Votes>,
    ) {
        self.said.push(Said::Line {
            kind,
            of_event,
            votes,
            at: life.unix_at(at),
        });
    }

    /// That the target is checked again soon is said when that begins.
    fn say_if_soon(&mut self, life: &Life, now: u64, before: Pace) {
        if before == Pace::Grid && self.pace == Pace::Soon {
            self.say(life, now, AuditKind::RetryDispatched, self.http.is_some());
        }
    }

    pub(crate) fn checked(&mut self, life: &Life, seen: Seen) {
        if seen.is_unknown() {
            return;
        }
        let (now, pace) = (life.now_ms, self.pace);
        match seen.class {
            None | Some(FailureClass::Latency) => self.succeeded(life, seen),
            Some(FailureClass::TlsDeprecated | FailureClass::TlsUnsupported) => self.old_tls = true,
            Some(_) => {
                self.failed(life, seen);
                self.say_if_soon(life, now, pace);
                if seen.days_left.is_some() && !seen.is_tls() {
                    self.certificate(seen);
                }
            }
        }
        let last = self.changes.last();
        if self.flapping && last.is_none_or(|&last| now - last >= 15 * MINUTE) {
            self.flapping = false;
            self.changes.clear();
        }
    }

    fn succeeded(&mut self, life: &Life, seen: Seen) {
        let (now, window) = (life.now_ms, in_window(life, life.now_ms));
        self.suppressed_since = None;
        self.ballot = None;
        if self.http.is_some() {
            self.recovered = Some(now);
        }
        if !window {
            self.told = None;
        } else if self.http.is_some() {
            self.told = life.subject.maintenance;
            self.say(life, now, AuditKind::MaintenanceActive, true);
        }
        let flapped = self.wait == Wait::Proof { flaps: true };
        let changed = flapped || (self.http.is_some() && !window);
        self.end(match self.http {
            _ if window => Reason::MaintenanceSwallowed,
            Some(State::Down) if !life.by_operator => Reason::VerifierCleared,
            _ => Reason::ProbeCleared,
        });
        (self.wait, self.pace) = (Wait::No, Pace::Grid);
        if changed {
            self.change(now);
        }
        if !window {
            self.slow.push(seen.class.is_some());
            let last: Vec<bool> = self.slow.iter().rev().take(3).copied().collect();
            let slow = last.iter().filter(|&&slow| slow).count();
            self.latency = slow >= 2 || (self.latency && slow > 0);
        }
        self.old_tls = false;
        self.certificate(seen);
    }

    fn certificate(&mut self, seen: Seen) {
        self.expiry = match (seen.days_left, self.expiry) {
            (Some(0..=7), _) | (Some(8), Some(State::Degraded)) => Some(State::Degraded),
            (Some(8..=30), _) | (Some(31), Some(State::Warning)) => Some(State::Warning),
            _ => None,
        };
    }

    fn failed(&mut self, life: &Life, seen: Seen) {
        let now = life.now_ms;
        let maybe_ours = seen.is_dns() || seen.is_slow_to_connect();
        if life.stance == Stance::Isolated {
            return self.not_known();
        }
        if let Some(window) = window(life, now) {
            return self.swallow(life, now, window);
        }
        self.told = None;
        if maybe_ours && self.http.is_none() && life.stance == Stance::Doubting {
            return self.not_known();
        }
        let untroubled = self.http.is_none() && self.wait == Wait::No;
        if maybe_ours && untroubled && seen.status == 0 && self.is_echo(life, now) {
            return;
        }
        self.pace = Pace::soon_if(self.http != Some(State::Down));
        match (self.http, self.wait) {
            (Some(State::Down), _) => {
                self.failures += 1;
                if [2, 4, 8, 16, 32, 64, 128].contains(&self.failures) {
                    self.written = self.failures;
                }
            }
            (Some(_), _) => {
                self.failures += 1;
                self.written = self.failures;
                self.escalate_if_enough(life, now, 1);
            }
            (None, Wait::No) => {
                let suppressed = self.suppressed_since.take();
                self.first = suppressed.map_or(life.unix_at(now), |(_, first)| first);
                self.failures = 1;
                if seen.is_doubtful() {
                    self.prove(life, now, false);
                } else if maybe_ours {
                    self.wait = Wait::Hold(now, now + 2_000);
                } else {
                    self.open(life, now);
                }
            }
            (None, Wait::Hold(..)) => {
                self.open(life, now);
                self.failed(life, seen);
            }
            (None, Wait::Proof { flaps }) if flaps || seen.is_doubtful() => {
                self.failures += 1;
                self.prove(life, now, flaps);
            }
            (None, Wait::Second | Wait::Proof { .. }) => {
                self.failures += 1;
                self.open(life, now);
            }
        }
    }

    /// It may be our own trouble: it is no reason to check any sooner.
    fn not_known(&mut self) {
        self.said.push(Said::NotKnown);
        if self.http.is_none() {
            self.pace = Pace::Grid;
            if self.ballot.is_none() {
                self.wait = Wait::No;
            }
        }
    }

    /// Said once for each window, and of each event that it swallows.
    fn swallow(&mut self, life: &Life, now: u64, window: Maintenance) {
        if self.told.replace(window) != Some(window) || self.http.is_some() {
            self.say(life, now, AuditKind::MaintenanceActive, self.http.is_some());
        }
        self.pace = Pace::Grid;
        self.end(Reason::MaintenanceSwallowed);
        self.wait = Wait::No;
        self.ballot = None;
        self.suppressed_since = None;
    }

    fn is_echo(&mut self, life: &Life, now: u64) -> bool {
        let interval = u64::from(life.subject.interval_s) * 1_000;
        let within = |since: Option<u64>, ms: u64| since.is_some_and(|since| now - since < ms);
        let false_alarm = within(
            self.false_alarm,
            (2 * interval).clamp(5 * MINUTE, 10 * MINUTE),
        );
        let recovery = within(self.recovered, interval.clamp(MINUTE, 5 * MINUTE));
        if !false_alarm && !recovery {
            return false;
        }
        if self.suppressed_since.is_none() {
            self.say(life, now, AuditKind::AlertSuppressed, false);
        }
        let first = (now, life.unix_at(now));
        let (since, _) = *self.suppressed_since.get_or_insert(first);
        if now - since >= 5 * MINUTE {
            return false;
        }
        if false_alarm {
            self.false_alarm = Some(now);
        }
        true
    }

    fn open(&mut self, life: &Life, now: u64) {
        self.change(now);
        if self.flapping {
            self.prove(life, now, true);
        } else {
            self.seems_down();
            self.escalate_if_enough(life, now, 1);
        }
    }

    fn seems_down(&mut self) {
        self.http = Some(State::SeemsDown);
        self.written = self.failures;
        self.wait = Wait::No;
    }

    fn prove(&mut self, life: &Life, now: u64, flaps: bool) {
        self.wait = Wait::Proof { flaps };
        let least = if life.stance == Stance::Deferring {
            2
        } else {
            1
        };
        self.escalate_if_enough(life, now, least);
    }

    fn escalate_if_enough(&mut self, life: &Life, now: u64, least: u32) {
        if self.failures < life.policy.confirm_after.max(least) {
            return;
        }
        if life.policy.vantages == 0 {
            self.confirm(now);
        } else if self.ballot.is_none() {
            self.ballot = Some(Ballot {
                asked: true,
                until: now + ANSWERS_WAIT_MS,
                since: now,
                deferrals: 0,
            });
        }
    }

    fn confirm(&mut self, now: u64) {
        (self.ballot, self.pace) = (None, Pace::Grid);
        if self.http.is_none() && self.wait == (Wait::Proof { flaps: false }) {
            self.change(now);
        }
        self.http = Some(State::Down);
        self.written = self.failures;
        self.wait = Wait::No;
    }

    pub(crate) fn answered(&mut self, life: &Life, answers: &[Answer]) {
        let now = life.now_ms;
        if !self.ballot.is_some_and(|ballot| ballot.asked) {
            return;
        }
        let mut down = HashMap::new();
        for answer in answers {
            if matches!(answer.says, Says::Up | Says::Down) {
                let vote = answer.says == Says::Down;
                down.entry(answer.vantage.as_str()).or_insert(vote);
            }
        }
        let healthy = down.len();
        let confirming = down.values().filter(|&&down| down).count();
        let votes = (healthy - confirming, confirming);
        let needed = if life.policy.vantages == 1 { 1 } else { 2 };
        if in_window(life, now) || healthy < needed {
            self.defer(life, now, Some(votes));
        } else if confirming >= healthy.min(3) {
            self.confirm(now);
        } else {
            (self.ballot, self.pace) = (None, Pace::Grid);
            self.false_alarm = Some(now);
            if self.http.is_some() || self.wait == (Wait::Proof { flaps: true }) {
                self.change(now);
            }
            if self.http.is_none() {
                let line = (AuditKind::VerifierSent, false);
                self.say_votes(life, now, line, Some(votes));
            }
            self.end(Reason::FalseAlarm);
            self.wait = Wait::No;
        }
    }

    pub(crate) fn not_asked(&mut self, life: &Life) {
        if self.ballot.is_some_and(|ballot| ballot.asked) {
            self.pause(life, life.now_ms, 15_000);
        }
    }

    fn defer(&mut self, life: &Life, now: u64, votes: Option<Votes>) {
        let line = (AuditKind::RetryDispatched, self.http.is_some());
        self.say_votes(life, now, line, votes);
        let ballot = self.ballot.as_mut().expect("somebody was asked");
        let pause = [15_000, 30_000, MINUTE, 2 * MINUTE, 4 * MINUTE, 5 * MINUTE];
        let pause = pause[ballot.deferrals.min(5) as usize];
        ballot.deferrals += 1;
        self.pause(life, now, pause);
    }

    fn pause(&mut self, life: &Life, now: u64, pause: u64) {
        let ballot = self.ballot.as_mut().expect("somebody was to be asked");
        (ballot.asked, ballot.until) = (false, now + pause);
        let may_open =
            !in_window(life, now) && !matches!(life.stance, Stance::Doubting | Stance::Isolated);
        if now - ballot.since >= 5 * MINUTE
            && may_open
            && let Wait::Proof { flaps } = self.wait
        {
            if !flaps {
                self.change(now);
            }
            self.seems_down();
            let pace = std::mem::replace(&mut self.pace, Pace::Soon);
            self.say_if_soon(life, now, pace);
        }
    }

    fn change(&mut self, now: u64) {
        self.changes.push(now);
        let fourth = self.changes.iter().rev().nth(3);
        self.flapping |= fourth.is_some_and(|&fourth| now - fourth <= 30 * MINUTE);
    }

    /// Time passed until now; what fell due did so at its moment.
    pub(crate) fn pass(&mut self, life: &Life) {
        loop {
            let now = match (self.wait, self.ballot) {
                (Wait::Hold(_, until), _) if until <= life.now_ms => until,
                (_, Some(ballot)) if ballot.until <= life.now_ms => ballot.until,
                _ => return,
            };
            if let Wait::Hold(since, _) = self.wait {
                self.end_hold(life, since, now);
            } else if let Some(ballot) = &mut self.ballot {
                if ballot.asked {
                    self.defer(life, now, None);
                } else {
                    ballot.asked = true;
                    ballot.until = now + ANSWERS_WAIT_MS;
                }
            }
        }
    }

    fn end_hold(&mut self, life: &Life, since: u64, now: u64) {
        if let Some(window) = window(life, now) {
            return self.swallow(life, now, window);
        }
        // Canaries that were asked before it say nothing of it, for six seconds at most.
        let is_vouched = (since - START) * 1_000 <= life.vouched.0;
        if life.stance == Stance::Clear && !is_vouched && now - since < 6_000 {
            self.wait = Wait::Hold(since, now + 500);
            return;
        }
        match life.stance {
            Stance::Clear => {
                // What was not known meanwhile had put it back on the grid.
                let pace = std::mem::replace(&mut self.pace, Pace::Soon);
                self.open(life, now);
                self.say_if_soon(life, now, pace);
            }
            Stance::Deferring => self.wait = Wait::Second,
            Stance::Doubting | Stance::Isolated => {
                self.wait = Wait::No;
                self.not_known();
            }
        }
    }

    /// Only the rows are left.
    pub(crate) fn restarted(&mut self, life: &Life) {
        let now = life.now_ms;
        *self = Self {
            http: self.http,
            first: self.first,
            failures: self.written,
            written: self.written,
            changes: if self.flapping { vec![now] } else { vec![] },
            flapping: self.flapping,
            slow: if self.latency { vec![true; 3] } else { vec![] },
            latency: self.latency,
            expiry: self.expiry,
            old_tls: self.old_tls,
            pace: Pace::soon_if(self.http == Some(State::SeemsDown)),
            closings: std::mem::take(&mut self.closings),
            said: std::mem::take(&mut self.said),
            ..Self::default()
        };
    }

    pub(crate) fn closed(&mut self, check_type: CheckType) {
        match check_type {
            CheckType::Http if self.http.is_some() => {
                self.end(Reason::ManualOverride);
                (self.ballot, self.pace) = (None, Pace::Grid);
            }
            CheckType::Http | CheckType::NodeSuppressing | CheckType::NodeIsolated => {}
            CheckType::TlsExpiry => self.expiry = None,
            CheckType::TlsDeprecated => self.old_tls = false,
            CheckType::Latency => {
                self.latency = false;
                self.slow.clear();
            }
            CheckType::Flapping => {
                self.flapping = false;
                self.changes.clear();
            }
        }
    }
}

/// Words of the classes that this page decides by.
#[test]
fn classes_are_told_apart_as_the_machine_does() {
    let mut sides: HashSet<(bool, bool)> = HashSet::new();
    for &class in FailureClass::ALL {
        let seen = Seen::of(Some(class), None, 0);
        if class.verdict() == Verdict::Down {
            let ours = (class.is_of_dns(), class.is_connect_or_timeout());
            assert_eq!((seen.is_dns(), seen.is_slow_to_connect()), ours, "{class}");
            assert_eq!(seen.is_tls(), class.is_tls(), "{class}");
            sides.insert(ours);
        }
    }
    assert_eq!(sides.len(), 4);
}
