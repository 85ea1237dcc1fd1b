//! Failures that are taken for echoes: of an outage that just ended, or of a false alarm. It must
//! not know what a failure is.
//!
//! Nothing is hidden for long: a row of suppressed failures without a success counts again after
//! [`SUPPRESSION_MAX_MS`], from its first one on.

use model::limits::{FALSE_ALARM_WINDOW_MS, RECOVERY_WINDOW_MS, SUPPRESSION_MAX_MS};
use model::{MonoUs, Now, UnixMs};

/// What is remembered of a target's last troubles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Echoes {
    recovered: Option<MonoUs>,
    false_alarm: Option<MonoUs>,
    row: Option<Row>,
}

/// Suppressed failures without a success in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    began: MonoUs,
    /// Start of the first one.
    first: UnixMs,
}

/// What becomes of a failure that may be an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// It is none.
    No,
    /// It is suppressed, as the first of a row or a later one.
    Suppressed {
        /// Nothing was suppressed since the last success.
        first: bool,
    },
}

fn window_ms((least, most): (u64, u64), ms: u64) -> u64 {
    ms.clamp(least, most)
}

fn is_within(since: Option<MonoUs>, window_ms: u64, now: MonoUs) -> bool {
    since.is_some_and(|since| now.since(since) < window_ms * 1_000)
}

impl Echoes {
    /// An event of the target ended with a success.
    pub(crate) fn recovered(&mut self, now: MonoUs) {
        self.recovered = Some(now);
    }

    /// Verifiers disagreed.
    pub(crate) fn false_alarm(&mut self, now: MonoUs) {
        self.false_alarm = Some(now);
    }

    /// A check was good: a row of failures ends, and what is too old is forgotten.
    pub(crate) fn good(&mut self, interval_s: u32, now: MonoUs) {
        self.row = None;
        if !self.is_after_recovery(interval_s, now) {
            self.recovered = None;
        }
        if !self.is_after_false_alarm(interval_s, now) {
            self.false_alarm = None;
        }
    }

    /// Judges a connect or timeout failure of a target that is up; `at` is the check's start.
    pub(crate) fn judge(&mut self, interval_s: u32, at: UnixMs, now: Now) -> Echo {
        let after_false_alarm = self.is_after_false_alarm(interval_s, now.mono);
        if !after_false_alarm && !self.is_after_recovery(interval_s, now.mono) {
            return Echo::No;
        }
        let first = self.row.is_none();
        let began = self
            .row
            .get_or_insert(Row {
                began: now.mono,
                first: at,
            })
            .began;
        if now.mono.since(began) >= SUPPRESSION_MAX_MS * 1_000 {
            return Echo::No;
        }
        if after_false_alarm {
            self.false_alarm = Some(now.mono);
        }
        Echo::Suppressed { first }
    }

    /// Ends a row because its next failure counts; says when the first one of it was.
    pub(crate) fn count_again(&mut self) -> Option<UnixMs> {
        self.row.take().map(|row| row.first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn is_after_recovery(&self, interval_s: u32, now: MonoUs) -> bool {
        let window_ms = window_ms(RECOVERY_WINDOW_MS, u64::from(interval_s) * 1_000);
        is_within(self.recovered, window_ms, now)
    }

    fn is_after_false_alarm(&self, interval_s: u32, now: MonoUs) -> bool {
        let window_ms = window_ms(FALSE_ALARM_WINDOW_MS, u64::from(interval_s) * 2_000);
        is_within(self.false_alarm, window_ms, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(echoes: &mut Echoes, interval_s: u32, at_ms: u64) -> Echo {
        let now = Now {
            mono: MonoUs(at_ms * 1_000),
            unix: UnixMs(at_ms),
        };
        echoes.judge(interval_s, now.unix, now)
    }

    fn window_of(begin: fn(&mut Echoes, MonoUs), interval_s: u32) -> u64 {
        let is_suppressed = |at_ms| {
            let mut echoes = Echoes::default();
            begin(&mut echoes, MonoUs(0));
            judge(&mut echoes, interval_s, at_ms) != Echo::No
        };
        let last = (0..=700_000)
            .rev()
            .step_by(1_000)
            .find(|&ms| is_suppressed(ms - 1));
        last.expect("a window")
    }

    #[test]
    fn windows_follow_the_interval_between_their_ends() {
        let of = |begin| [10, 120, 86_400].map(|interval_s| window_of(begin, interval_s));
        assert_eq!(of(Echoes::recovered), [60_000, 120_000, 300_000]);
        assert_eq!(of(Echoes::false_alarm), [300_000, 300_000, 600_000]);
        assert_eq!(window_of(Echoes::false_alarm, 200), 400_000);
    }

    #[test]
    fn a_suppressed_failure_starts_the_window_of_a_false_alarm_again_but_not_of_a_recovery() {
        let mut echoes = Echoes::default();
        echoes.false_alarm(MonoUs(0));
        for turn in 1..20 {
            let at_ms = turn * 599_000;
            assert_eq!(
                judge(&mut echoes, 300, at_ms),
                Echo::Suppressed { first: true }
            );
            echoes.good(300, MonoUs(at_ms * 1_000));
        }
        let mut echoes = Echoes::default();
        echoes.recovered(MonoUs(0));
        assert_ne!(judge(&mut echoes, 300, 299_000), Echo::No);
        echoes.good(300, MonoUs(299_500_000));
        assert_eq!(judge(&mut echoes, 300, 301_000), Echo::No);
    }

    #[test]
    fn a_row_of_failures_is_not_suppressed_for_longer_than_five_minutes() {
        let mut echoes = Echoes::default();
        echoes.false_alarm(MonoUs(0));
        let first = judge(&mut echoes, 300, 1_000);
        assert_eq!(first, Echo::Suppressed { first: true });
        let second = judge(&mut echoes, 300, 286_000);
        assert_eq!(second, Echo::Suppressed { first: false });
        assert_eq!(judge(&mut echoes, 300, 301_000), Echo::No);
        assert_eq!(echoes.count_again(), Some(UnixMs(1_000)));
    }

    #[test]
    fn what_is_over_is_forgotten_with_a_good_check() {
        let mut echoes = Echoes::default();
        echoes.recovered(MonoUs(0));
        echoes.false_alarm(MonoUs(0));
        echoes.good(60, MonoUs(61_000_000));
        assert!(!echoes.is_empty());
        echoes.good(60, MonoUs(300_000_000));
        assert!(echoes.is_empty());
    }
}
