//! Maintenance windows that operators add: for whom, when, why. It must not know time zones: which
//! instants a weekly window is, somebody with a table of zones has to say.

mod spans;

use serde::{Deserialize, Serialize};

use crate::ids::TargetId;
use crate::limits::{WINDOW_MAX_MS, WINDOW_REASON_MAX_BYTES, WINDOW_ZONE_MAX_BYTES};
use crate::target::{FieldError, Maintenance};

pub use spans::Spans;

const MINUTE_MS: u64 = 60_000;
const DAY_MIN: u32 = 24 * 60;
const WEEK_MIN: u32 = 7 * DAY_MIN;

/// Number of a window in its store, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowId(pub i64);

/// Whom a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Every target.
    All,
    /// The targets with this `group_id`.
    Group(u64),
    /// One target.
    Target(TargetId),
}

impl Scope {
    /// Whether a target is meant.
    pub fn covers(self, target: TargetId, group_id: u64) -> bool {
        match self {
            Self::All => true,
            Self::Group(group) => group == group_id,
            Self::Target(one) => one == target,
        }
    }
}

/// Days of the week: bit 0 is Monday. At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weekdays(u8);

impl Weekdays {
    /// The words of the days, from Monday on.
    pub const WORDS: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// The days of `bits`, or `None` when that is no set of days.
    pub fn new(bits: u8) -> Option<Self> {
        (1..1 << 7).contains(&bits).then_some(Self(bits))
    }

    /// Bit 0 is Monday.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether the day is one of them; 0 is Monday.
    pub fn has(self, day: u8) -> bool {
        day < 7 && self.0 & (1 << day) != 0
    }

    /// Shortest time from one of the days to the next, in minutes.
    fn gap_min(self) -> u32 {
        let to_next = |day: u8| (1..=7).find(|step| self.has((day + step) % 7));
        let gaps = (0..7).filter(|&day| self.has(day)).filter_map(to_next);
        gaps.min()
            .map_or(WEEK_MIN, |days| u32::from(days) * DAY_MIN)
    }
}

impl std::str::FromStr for Weekdays {
    type Err = FieldError;

    /// From `sun` or `mon,wed`.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let accepted = "days such as sun or mon,wed (mon tue wed thu fri sat sun)";
        let day = |word: &str| {
            let word = word.trim().to_ascii_lowercase();
            let found = Self::WORDS.iter().position(|known| *known == word);
            found.ok_or_else(|| FieldError::new("weekly", text, accepted))
        };
        let mut bits = 0;
        for word in text.split(',') {
            bits |= 1 << day(word)?;
        }
        Ok(Self(bits))
    }
}

impl std::fmt::Display for Weekdays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = Self::WORDS.iter().zip(0..);
        let days = days.filter(|(_, day)| self.has(*day));
        let words: Vec<&str> = days.map(|(word, _)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// A window that comes again each week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weekly {
    days: Weekdays,
    at_min: u16,
    length_min: u32,
    zone: String,
}

impl Weekly {
    /// A window that begins on `days` at `at_min` minutes after midnight by the clocks of `zone`
    /// and is `length_min` minutes of real time long.
    ///
    /// # Errors
    /// Which part cannot be: a window may not last until its next begin, or for a week.
    pub fn new(
        days: Weekdays,
        at_min: u16,
        length_min: u32,
        zone: &str,
    ) -> Result<Self, FieldError> {
        if u32::from(at_min) >= DAY_MIN {
            let accepted = "a time of the day such as 02:30";
            return Err(FieldError::new("at", &at_min.to_string(), accepted));
        }
        let found = format!("{length_min} min");
        if length_min == 0 {
            return Err(FieldError::new("length", &found, "a minute or more"));
        }
        let gap_min = days.gap_min();
        if length_min >= gap_min {
            let hours = gap_min / 60;
            let accepted = format!("less than the {hours} h to the next begin");
            return Err(FieldError::new("length", &found, &accepted));
        }
        if zone.is_empty() || zone.len() > WINDOW_ZONE_MAX_BYTES {
            return Err(FieldError::new(
                "zone",
                zone,
                "a name such as Europe/Berlin",
            ));
        }
        Ok(Self {
            days,
            at_min,
            length_min,
            zone: zone.to_owned(),
        })
    }

    /// On which days it begins.
    pub fn days(&self) -> Weekdays {
        self.days
    }

    /// Minutes after midnight at which it begins.
    pub fn at_min(&self) -> u16 {
        self.at_min
    }

    /// How long it lasts, in minutes of real time.
    pub fn length_min(&self) -> u32 {
        self.length_min
    }

    /// How long it lasts, in ms.
    pub fn length_ms(&self) -> u64 {
        u64::from(self.length_min) * MINUTE_MS
    }

    /// The IANA name of its time zone, which nobody has looked for yet.
    pub fn zone(&self) -> &str {
        &self.zone
    }
}

/// When a window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Once.
    Once(Maintenance),
    /// Each week.
    Weekly(Weekly),
}

/// A window; one that exists is valid, but for the name of its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    scope: Scope,
    timing: Timing,
    reason: String,
}

impl Window {
    /// A window with its reason, for people.
    ///
    /// # Errors
    /// An end that is not after the start, more than 7 days, a reason that is too long.
    pub fn new(scope: Scope, timing: Timing, reason: &str) -> Result<Self, FieldError> {
        if let Timing::Once(span) = timing {
            checked_span(span)?;
        }
        let reason = reason.trim();
        if reason.len() > WINDOW_REASON_MAX_BYTES || reason.chars().any(char::is_control) {
            let accepted = "one line of at most 500 bytes";
            return Err(FieldError::new("reason", reason, accepted));
        }
        Ok(Self {
            scope,
            timing,
            reason: reason.to_owned(),
        })
    }

    /// For whom.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// When.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Why; may be empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn checked_span(span: Maintenance) -> Result<(), FieldError> {
    let Maintenance { start_ms, end_ms } = span;
    let refuse = |accepted| {
        let found = format!("{start_ms}..{end_ms}");
        Err(FieldError::new("end", &found, accepted))
    };
    if end_ms <= start_ms {
        return refuse("an end after the start");
    }
    if end_ms - start_ms > WINDOW_MAX_MS {
        return refuse("at most 7 days after the start");
    }
    Ok(())
}

/// One time that a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// For whom.
    pub scope: Scope,
    /// When; both ends are outside.
    pub span: Maintenance,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(text: &str) -> Weekdays {
        text.parse().expect("days")
    }

    #[test]
    fn days_are_read_and_shown_from_monday_on() {
        assert_eq!(days("sun,Mon").to_string(), "mon,sun");
        assert_eq!(days("wed").bits(), 4);
        for bad in ["", "sunday", "mon,,tue", "mon tue"] {
            assert!(bad.parse::<Weekdays>().is_err(), "{bad}");
        }
        assert_eq!(Weekdays::new(0), None);
        assert_eq!(Weekdays::new(128), None);
    }

    #[test]
    fn a_weekly_window_ends_before_it_begins_again() {
        let of = |text: &str, length| Weekly::new(days(text), 60, length, "UTC");
        assert!(of("sun", WEEK_MIN - 1).is_ok());
        assert!(of("sun", WEEK_MIN).is_err());
        assert!(of("mon,tue", DAY_MIN - 1).is_ok());
        assert!(of("mon,tue", DAY_MIN).is_err());
        // From Sunday to Monday is a day, too.
        assert!(of("mon,sun", DAY_MIN).is_err());
        assert!(of("mon", 0).is_err());
        assert!(Weekly::new(days("mon"), 1_440, 5, "UTC").is_err());
        assert!(Weekly::new(days("mon"), 1_439, 5, "").is_err());
    }

    #[test]
    fn a_window_ends_after_its_start_and_within_a_week() {
        let of = |start_ms, end_ms| {
            let once = Timing::Once(Maintenance { start_ms, end_ms });
            Window::new(Scope::All, once, "")
        };
        let said =
            |refused: Result<Window, FieldError>| refused.expect_err("no window").to_string();
        assert!(said(of(5, 5)).contains("an end after the start"));
        assert!(said(of(5, 4)).contains("an end after the start"));
        assert!(of(5, 5 + WINDOW_MAX_MS).is_ok());
        assert!(said(of(5, 6 + WINDOW_MAX_MS)).contains("at most 7 days"));
    }

    #[test]
    fn a_scope_covers_its_own() {
        let target = TargetId::new(7).expect("positive");
        let other = TargetId::new(8).expect("positive");
        assert!(Scope::All.covers(target, 0));
        assert!(Scope::Group(3).covers(target, 3) && !Scope::Group(3).covers(target, 0));
        assert!(Scope::Target(target).covers(target, 3) && !Scope::Target(target).covers(other, 3));
    }
}
