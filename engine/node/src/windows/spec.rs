//! A maintenance window as a person gives it, and what it means.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::target::Maintenance;
use model::window::{Scope, Timing, Weekdays, Weekly};
use model::{FieldError, TargetId, UnixMs, Window};
use serde::{Deserialize, Serialize};

use super::zones;
use crate::exit::{BadInput, bad_input};

/// The words of `maintenance add`; what is not given is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WindowSpec {
    /// For one target.
    pub(crate) target: Option<i64>,
    /// For the targets of this `group_id`.
    pub(crate) group: Option<u64>,
    /// For every target.
    pub(crate) all: bool,
    /// RFC 3339; now, when it is absent.
    pub(crate) start: Option<String>,
    /// RFC 3339.
    pub(crate) end: Option<String>,
    /// Such as `90m`, `2h` or `1d`.
    pub(crate) length: Option<String>,
    /// Days such as `mon,wed`.
    pub(crate) weekly: Option<String>,
    /// `HH:MM`.
    pub(crate) at: Option<String>,
    /// IANA name.
    pub(crate) zone: Option<String>,
    /// For people.
    pub(crate) reason: String,
}

impl WindowSpec {
    /// The window that is meant, asked for at `now`.
    ///
    /// # Errors
    /// What cannot be, as the caller's fault.
    pub(crate) fn parse(&self, now: UnixMs) -> anyhow::Result<Window> {
        let timing = match &self.weekly {
            Some(days) => Timing::Weekly(self.weekly(days)?),
            None => Timing::Once(self.once(now)?),
        };
        let window =
            Window::new(self.scope()?, timing, &self.reason).map_err(|error| refused(&error))?;
        if let Timing::Once(span) = window.timing()
            && span.end_ms <= now.0
        {
            let found = self.end.as_deref().unwrap_or_default();
            return bad_input(format!(
                "end: found {found:?}, accepted is an end that is to come"
            ));
        }
        Ok(window)
    }

    fn scope(&self) -> anyhow::Result<Scope> {
        match (self.target, self.group, self.all) {
            (Some(raw), None, false) => match TargetId::new(raw) {
                Some(id) => Ok(Scope::Target(id)),
                None => bad_input(format!("target: found {raw}, accepted is an id from 1")),
            },
            (None, Some(0), false) => {
                bad_input("group: found 0, which is no group: name a group from 1, or --all")
            }
            (None, Some(group), false) => match i64::try_from(group) {
                Ok(_) => Ok(Scope::Group(group)),
                Err(_) => bad_input(format!(
                    "group: found {group}, accepted is a number below 2^63"
                )),
            },
            (None, None, true) => Ok(Scope::All),
            _ => bad_input("for whom is the window? say one of --target ID, --group ID and --all"),
        }
    }

    fn once(&self, now: UnixMs) -> anyhow::Result<Maintenance> {
        if self.at.is_some() || self.zone.is_some() {
            return bad_input("--at and --zone are of a weekly window: say --weekly DAYS as well");
        }
        let start_ms = self
            .start
            .as_deref()
            .map_or(Ok(now.0), |text| instant("start", text))?;
        let end_ms = match (self.end.as_deref(), self.length.as_deref()) {
            (Some(end), None) => instant("end", end)?,
            (None, Some(text)) => {
                start_ms.saturating_add(length(text)?.as_secs().saturating_mul(1_000))
            }
            _ => return bad_input("until when? say one of --end INSTANT and --length 2h"),
        };
        Ok(Maintenance { start_ms, end_ms })
    }

    fn weekly(&self, days: &str) -> anyhow::Result<Weekly> {
        if self.start.is_some() || self.end.is_some() {
            return bad_input("--start and --end are of a window that is once: leave out --weekly");
        }
        let missing =
            || BadInput("a weekly window needs --at HH:MM, --length 2h and --zone".into());
        let at = self.at.as_deref().ok_or_else(missing)?;
        let long = length(self.length.as_deref().ok_or_else(missing)?)?;
        let zone = self.zone.as_deref().ok_or_else(missing)?.trim();
        zones::find(zone)?;
        let days: Weekdays = days.parse().map_err(|error| refused(&error))?;
        let minutes = u32::try_from(long.as_secs() / 60).unwrap_or(u32::MAX);
        Weekly::new(days, time_of_day(at)?, minutes, zone).map_err(|error| refused(&error))
    }
}

fn refused(error: &FieldError) -> anyhow::Error {
    BadInput(error.to_string()).into()
}

fn instant(field: &str, text: &str) -> anyhow::Result<u64> {
    let found: Option<Timestamp> = text.trim().parse().ok();
    match found.and_then(|at| u64::try_from(at.as_millisecond()).ok()) {
        Some(ms) => Ok(ms),
        None => bad_input(format!(
            "{field}: found {text:?}, accepted is an instant with its offset, such as \
             2026-12-01T22:00:00Z or 2026-12-01T23:00:00+01:00"
        )),
    }
}

/// A length in whole minutes.
fn length(text: &str) -> anyhow::Result<Duration> {
    let refuse = || {
        bad_input(format!(
            "length: found {text:?}, accepted is a number of whole minutes, such as 90m, 2h or 1d \
             (at most 7d)"
        ))
    };
    let text = text.trim();
    // Days are 24 hours here; a calendar is only asked when a window begins.
    let parsed = match text.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => days.checked_mul(86_400).map(SignedDuration::from_secs),
        _ => text.parse().ok(),
    };
    let long = parsed.and_then(|long: SignedDuration| Duration::try_from(long).ok());
    match long {
        Some(long) if long.as_secs() >= 60 && long.as_secs() % 60 == 0 => Ok(long),
        _ => refuse(),
    }
}

fn time_of_day(text: &str) -> anyhow::Result<u16> {
    let parse = || {
        let (hours, minutes) = text.trim().split_once(':')?;
        let two = |digits: &str, below: u16| {
            let value: u16 = digits.parse().ok()?;
            (digits.len() == 2 && value < below).then_some(value)
        };
        Some(two(hours, 24)? * 60 + two(minutes, 60)?)
    };
    match parse() {
        Some(minutes) => Ok(minutes),
        None => bad_input(format!(
            "at: found {text:?}, accepted is HH:MM, such as 02:30"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T00:00:00Z.
    const NOW: UnixMs = UnixMs(1_795_305_600_000);
    const HOUR_MS: u64 = 3_600_000;

    fn spec(words: &[(&str, &str)]) -> WindowSpec {
        let mut spec = WindowSpec::default();
        for (word, value) in words {
            let text = Some((*value).to_owned());
            match *word {
                "target" => spec.target = value.parse().ok(),
                "group" => spec.group = value.parse().ok(),
                "all" => spec.all = true,
                "start" => spec.start = text,
                "end" => spec.end = text,
                "length" => spec.length = text,
                "weekly" => spec.weekly = text,
                "at" => spec.at = text,
                _ => spec.zone = text,
            }
        }
        spec
    }

    fn said(words: &[(&str, &str)]) -> String {
        let refused = spec(words).parse(NOW).expect_err("refused");
        assert!(refused.is::<BadInput>(), "{refused}");
        refused.to_string()
    }

    #[test]
    fn a_window_that_is_once_begins_now_or_when_it_says() {
        let of = |words: &[(&str, &str)]| {
            let window = spec(words).parse(NOW).expect("a window");
            match window.timing() {
                Timing::Once(span) => (span.start_ms - NOW.0, span.end_ms - NOW.0),
                Timing::Weekly(_) => panic!("once"),
            }
        };
        assert_eq!(of(&[("all", ""), ("length", "90m")]), (0, HOUR_MS * 3 / 2));
        assert_eq!(of(&[("all", ""), ("length", "7d")]), (0, HOUR_MS * 24 * 7));
        let (start, end) = ("2026-11-22T01:00:00+01:00", "2026-11-22T02:00:00Z");
        assert_eq!(
            of(&[("group", "3"), ("start", start), ("end", end)]),
            (0, HOUR_MS * 2)
        );
    }

    #[test]
    fn a_weekly_window_has_days_a_time_a_length_and_a_zone() {
        let words = [
            ("target", "7"),
            ("weekly", "sun"),
            ("at", "02:30"),
            ("length", "2h"),
        ];
        let window = spec(&[&words[..], &[("zone", "Europe/Berlin")]].concat()).parse(NOW);
        let window = window.expect("a window");
        let Timing::Weekly(weekly) = window.timing() else {
            panic!("weekly");
        };
        assert_eq!((weekly.at_min(), weekly.length_min()), (150, 120));
        assert_eq!(
            (weekly.days().to_string().as_str(), weekly.zone()),
            ("sun", "Europe/Berlin")
        );
        assert!(said(&words).contains("--zone"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let (start, end) = ("2026-11-23T02:00:00Z", "2026-11-23T01:00:00Z");
        let all = ("all", "");
        for (words, sentence) in [
            (
                vec![all, ("start", start), ("end", end)],
                "an end after the start",
            ),
            (
                vec![all, ("start", start), ("end", start)],
                "an end after the start",
            ),
            (
                vec![all, ("length", "8d")],
                "at most 7 days after the start",
            ),
            (
                vec![
                    all,
                    ("end", "2026-11-01T00:00:00Z"),
                    ("start", "2026-10-31T00:00:00Z"),
                ],
                "to come",
            ),
            (vec![all, ("end", "tomorrow")], "an instant with its offset"),
            (vec![all, ("length", "90s")], "whole minutes"),
            (vec![all, ("length", "-2h")], "whole minutes"),
            (
                vec![all, ("length", "99999999999999d")],
                "at most 7 days after the start",
            ),
            (
                vec![all, ("length", "9999999999999999999d")],
                "whole minutes",
            ),
            (
                vec![all, ("length", "999999999999999999d")],
                "whole minutes",
            ),
            (vec![all], "until when?"),
            (vec![("length", "2h")], "for whom"),
            (vec![all, ("target", "7"), ("length", "2h")], "for whom"),
            (vec![("target", "0"), ("length", "2h")], "an id from 1"),
            (vec![("group", "0"), ("length", "2h")], "no group"),
            (vec![all, ("at", "02:00"), ("length", "2h")], "--weekly"),
        ] {
            assert!(said(&words).contains(sentence), "{}", said(&words));
        }
        let weekly = |change: (&'static str, &'static str)| {
            let mut words = vec![all, ("weekly", "mon"), ("at", "02:00"), ("length", "2h")];
            words.extend([("zone", "UTC"), change]);
            said(&words)
        };
        assert!(weekly(("weekly", "monday")).contains("mon tue wed"));
        assert!(weekly(("at", "2:00")).contains("HH:MM"));
        assert!(weekly(("at", "24:00")).contains("HH:MM"));
        assert!(weekly(("length", "7d")).contains("less than the 168 h to the next begin"));
        assert!(weekly(("zone", "Europe/Berlni")).contains("did you mean `Europe/Berlin`?"));
        assert!(weekly(("start", "2026-11-23T02:00:00Z")).contains("leave out --weekly"));
    }
}
