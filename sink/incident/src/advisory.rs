//! Incidents beside up and down: a certificate that expires, TLS that browsers refuse, slowness.
//! They never touch the `http` identity.

use model::Evidence;
use model::fact::{CheckType, Reason, State};
use model::limits::{
    LATENCY_CHECKS, LATENCY_SLOW, TLS_EXPIRY_DEGRADED_DAYS, TLS_EXPIRY_WARNING_DAYS,
};
use model::{Outcome, UnixMs};

use crate::event::{Birth, Desk, Opened};

/// What the days that a certificate has left are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Expiry {
    /// Enough days, or no certificate.
    #[default]
    Far,
    /// At most [`TLS_EXPIRY_WARNING_DAYS`].
    Soon,
    /// At most [`TLS_EXPIRY_DEGRADED_DAYS`].
    VerySoon,
}

impl Expiry {
    /// Of a certificate whose `notAfter` is on day `not_after_days` since the Unix epoch (0 = no
    /// certificate), on day `today`.
    pub fn of(not_after_days: u16, today: u16) -> Self {
        let left = not_after_days.saturating_sub(today);
        if left > TLS_EXPIRY_WARNING_DAYS || not_after_days == 0 {
            Self::Far
        } else if left > TLS_EXPIRY_DEGRADED_DAYS {
            Self::Soon
        } else {
            Self::VerySoon
        }
    }

    /// The same where it was worth `held`: what was told is taken back only with a day more than it
    /// was told at, so that a clock that goes back over midnight takes nothing back.
    fn after(held: Self, not_after_days: u16, today: u16) -> Self {
        let found = Self::of(not_after_days, today);
        let a_day_less = Self::of(not_after_days.saturating_sub(1), today);
        if a_day_less >= held {
            found.max(held)
        } else {
            found
        }
    }

    /// The day since the Unix epoch that `now` is in.
    pub fn today(now: UnixMs) -> u16 {
        u16::try_from(now.0 / 86_400_000).unwrap_or(u16::MAX)
    }

    fn state(self) -> Option<State> {
        match self {
            Self::Far => None,
            Self::Soon => Some(State::Warning),
            Self::VerySoon => Some(State::Degraded),
        }
    }

    /// What the state of an open event says.
    pub(crate) fn of_event(opened: Option<&Opened>) -> Self {
        match opened.map(|opened| opened.event.state) {
            None => Self::Far,
            Some(State::Warning) => Self::Soon,
            Some(_) => Self::VerySoon,
        }
    }
}

/// The advisory events of a target. Boxed: most targets have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advisories {
    pub(crate) expiry: Option<Box<Opened>>,
    pub(crate) deprecated: Option<Box<Opened>>,
    pub(crate) latency: Latency,
}

/// How slow the last checks were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    /// The last [`LATENCY_CHECKS`] checks, newest in bit 0; set = slow.
    pub(crate) slow: u8,
    /// Start of the first slow one among them.
    since: UnixMs,
    pub(crate) opened: Option<Box<Opened>>,
}

impl Latency {
    /// Every check that is looked at.
    pub(crate) const ALL_SLOW: u8 = (1 << LATENCY_CHECKS) - 1;

    pub(crate) fn is_idle(&self) -> bool {
        self.slow == 0 && self.opened.is_none()
    }

    /// A check reached HTTP, and was slow or not.
    pub(crate) fn observe(
        &mut self,
        outcome: &Outcome,
        slow: bool,
        evidence: Option<Box<Evidence>>,
        desk: &mut Desk<'_, '_>,
    ) {
        let before = self.slow << 1 & Self::ALL_SLOW;
        if slow && before == 0 {
            self.since = outcome.started.get();
        }
        self.slow = before | u8::from(slow);
        match self.opened.take() {
            Some(opened) if self.slow == 0 => desk.close(*opened, Reason::ProbeCleared),
            None if self.slow.count_ones() >= LATENCY_SLOW => {
                let birth = Birth {
                    check_type: CheckType::Latency,
                    state: State::Degraded,
                    started_at: self.since,
                    fail_count: self.slow.count_ones(),
                    class: outcome.class,
                };
                self.opened = Some(Box::new(desk.open(birth, evidence)));
            }
            unchanged => self.opened = unchanged,
        }
    }
}

impl Advisories {
    /// A check saw a certificate, or that there is none.
    pub(crate) fn certificate(&mut self, outcome: &Outcome, desk: &mut Desk<'_, '_>) {
        let today = Expiry::today(desk.context.calendar);
        let held = Expiry::of_event(self.expiry.as_deref());
        let state = Expiry::after(held, outcome.not_after_days, today).state();
        self.expiry = match (self.expiry.take(), state) {
            (None, None) => None,
            (None, Some(state)) => Some(Box::new(desk.open(
                Birth {
                    check_type: CheckType::TlsExpiry,
                    state,
                    started_at: outcome.started.get(),
                    fail_count: 1,
                    class: 0,
                },
                None,
            ))),
            (Some(opened), None) => {
                desk.close(*opened, Reason::ProbeCleared);
                None
            }
            (Some(mut opened), Some(state)) => {
                let reason = match state.severity().cmp(&opened.event.state.severity()) {
                    std::cmp::Ordering::Less => Some(Reason::SeverityDeescalation),
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => Some(Reason::SeverityEscalation),
                };
                if let Some(reason) = reason {
                    desk.change(&mut opened, state, reason, None);
                }
                Some(opened)
            }
        };
    }

    /// A second look found TLS that browsers refuse.
    pub(crate) fn tls_is_old(
        &mut self,
        outcome: &Outcome,
        evidence: Option<Box<Evidence>>,
        desk: &mut Desk<'_, '_>,
    ) {
        if self.deprecated.is_none() {
            let birth = Birth {
                check_type: CheckType::TlsDeprecated,
                state: State::Warning,
                started_at: outcome.started.get(),
                fail_count: 1,
                class: outcome.class,
            };
            self.deprecated = Some(Box::new(desk.open(birth, evidence)));
        }
    }

    /// A check got through to HTTP: its TLS, if it has any, is good enough.
    pub(crate) fn tls_is_good(&mut self, desk: &mut Desk<'_, '_>) {
        if let Some(opened) = self.deprecated.take() {
            desk.close(*opened, Reason::ProbeCleared);
        }
    }

    /// Whether nothing is open or watched but perhaps a certificate.
    pub(crate) fn is_idle(&self) -> bool {
        self.deprecated.is_none() && self.latency.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_and_seven_days_are_the_thresholds_and_no_certificate_never_expires() {
        let today = 20_000;
        let of = |left: u16| Expiry::of(today + left, today);
        assert_eq!(
            [of(31), of(30), of(8)],
            [Expiry::Far, Expiry::Soon, Expiry::Soon]
        );
        assert_eq!([of(7), of(0)], [Expiry::VerySoon, Expiry::VerySoon]);
        assert_eq!(Expiry::of(today - 5, today), Expiry::VerySoon);
        assert_eq!(Expiry::of(0, today), Expiry::Far);
        assert_eq!(Expiry::today(UnixMs(86_400_000 * 20_001 - 1)), 20_000);
    }
}
