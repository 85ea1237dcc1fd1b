//! From windows to instants. A weekly window is unrolled by the calendar of its zone over the days
//! around now, so that nobody has to be told when it begins and ends.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use model::target::Maintenance;
use model::window::{Occurrence, Timing, Weekly};
use model::{Target, UnixMs};
use store::WindowRow;

use super::zones;

const DAY_MS: u64 = 86_400_000;
/// Days before now whose windows are told: a clock that steps back by less still finds them.
const DAYS_BEFORE: i64 = 8;
/// Days after now whose windows are told.
const DAYS_AFTER: i64 = 15;
/// A list is good for so long after it was made, and for as long before.
const GOOD_MS: u64 = DAY_MS;

/// When the windows are, in the days around a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occurrences {
    made: UnixMs,
    /// In no order; of one-off windows those that are not over for long.
    pub(crate) all: Vec<Occurrence>,
    /// Zones that are not known any more: their windows are left out.
    pub(crate) unknown_zones: Vec<String>,
}

impl Occurrences {
    /// Those of `rows` around `now`.
    pub(crate) fn around(rows: &[WindowRow], now: UnixMs) -> Self {
        let mut found = Self {
            made: now,
            ..Self::default()
        };
        for row in rows {
            let scope = row.window.scope();
            match row.window.timing() {
                Timing::Once(span) => found.all.push(Occurrence { scope, span: *span }),
                Timing::Weekly(weekly) => match weekly_around(weekly, now) {
                    Some(spans) => {
                        let of_window = spans.into_iter().map(|span| Occurrence { scope, span });
                        found.all.extend(of_window);
                    }
                    None => found.unknown_zones.push(weekly.zone().to_owned()),
                },
            }
        }
        found
    }

    /// Those of `rows` that are at `now`, and no others: for a look at many targets.
    pub(crate) fn at(rows: &[WindowRow], now: UnixMs) -> Self {
        let mut found = Self::around(rows, now);
        found.all.retain(|one| one.span.is_active(now));
        found
    }

    /// The window that `target` is in at `now`, its own included: of several the one that ends
    /// last.
    pub(crate) fn of_target(&self, target: &Target, now: UnixMs) -> Option<Maintenance> {
        let group_id = target.config.group_id;
        let own = self
            .all
            .iter()
            .filter(|one| one.scope.covers(target.id, group_id));
        let spans = own.map(|one| one.span).chain(target.config.maintenance);
        Maintenance::of_several(spans, now)
    }

    /// Whether they still are those around `now`.
    pub(crate) fn last_from(&self, now: UnixMs) -> bool {
        self.made.0.abs_diff(now.0) < GOOD_MS
    }
}

/// The times of a weekly window in the days around `now`; `None` where its zone is not known.
pub(crate) fn weekly_around(weekly: &Weekly, now: UnixMs) -> Option<Vec<Maintenance>> {
    let zone = zones::find(weekly.zone()).ok()?;
    let today = at(now).to_zoned(zone.clone()).date();
    let first = today.checked_sub(DAYS_BEFORE.days()).ok()?;
    let days = first
        .series(1.day())
        .take((DAYS_BEFORE + DAYS_AFTER) as usize);
    let mut spans: Vec<Maintenance> = days.filter_map(|day| on_day(weekly, day, &zone)).collect();
    spans.sort_unstable();
    Some(spans)
}

/// The time that begins on `day`. A time of the day that the clocks skip is as long after
/// midnight as if they did not; of one that they show twice it is the first.
fn on_day(weekly: &Weekly, day: Date, zone: &TimeZone) -> Option<Maintenance> {
    let weekday = day.weekday().to_monday_zero_offset();
    if !weekly.days().has(u8::try_from(weekday).ok()?) {
        return None;
    }
    let time = Time::midnight()
        .checked_add(i64::from(weekly.at_min()).minutes())
        .ok()?;
    let start = zone
        .to_ambiguous_zoned(day.to_datetime(time))
        .compatible()
        .ok()?;
    let start_ms = u64::try_from(start.timestamp().as_millisecond()).ok()?;
    Some(Maintenance {
        start_ms,
        end_ms: start_ms + weekly.length_ms(),
    })
}

/// `instant` as a date; what no calendar has is 1970.
pub(crate) fn at(instant: UnixMs) -> Timestamp {
    let ms = i64::try_from(instant.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use model::window::{Scope, Timing};
    use model::{Window, WindowId};

    use super::*;

    fn unix(text: &str) -> UnixMs {
        let at: Timestamp = text.parse().expect("an instant");
        UnixMs(at.as_millisecond() as u64)
    }

    fn weekly(days: &str, at_min: u16, length_min: u32, zone: &str) -> Weekly {
        let days = days.parse().expect("days");
        Weekly::new(days, at_min, length_min, zone).expect("valid")
    }

    /// The times that begin in the 10 days after `from`, in UTC.
    fn times(weekly: &Weekly, from: &str) -> Vec<String> {
        let from = unix(from);
        let spans = weekly_around(weekly, from).expect("a zone");
        let next = spans
            .into_iter()
            .filter(|span| span.start_ms >= from.0 && span.start_ms < from.0 + 10 * DAY_MS);
        let shown = |ms: u64| at(UnixMs(ms)).strftime("%m-%d %H:%M").to_string();
        next.map(|span| format!("{}/{}", shown(span.start_ms), shown(span.end_ms)))
            .collect()
    }

    #[test]
    fn the_clock_of_the_zone_decides_on_both_sides_of_a_change_of_clocks() {
        // In Berlin the clocks go forward on 2027-03-28 and back on 2027-10-31.
        let saturdays = weekly("sat", 180, 120, "Europe/Berlin");
        let spring = times(&saturdays, "2027-03-26T00:00:00Z");
        assert_eq!(
            spring,
            ["03-27 02:00/03-27 04:00", "04-03 01:00/04-03 03:00"]
        );
        let autumn = times(&saturdays, "2027-10-29T00:00:00Z");
        assert_eq!(
            autumn,
            ["10-30 01:00/10-30 03:00", "11-06 02:00/11-06 04:00"]
        );
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_later_and_of_one_that_comes_twice_the_first_counts() {
        // 02:30 is not there on 2027-03-28: it is 03:30 then, which is 01:30 in UTC.
        let sundays = weekly("sun", 150, 60, "Europe/Berlin");
        let spring = times(&sundays, "2027-03-27T00:00:00Z");
        assert_eq!(
            spring,
            ["03-28 01:30/03-28 02:30", "04-04 00:30/04-04 01:30"]
        );
        // 02:30 comes twice on 2027-10-31: first in summer time. The length is real time.
        let autumn = times(&sundays, "2027-10-30T00:00:00Z");
        assert_eq!(
            autumn,
            ["10-31 00:30/10-31 01:30", "11-07 01:30/11-07 02:30"]
        );
    }

    #[test]
    fn a_window_over_the_change_lasts_as_long_as_any_other() {
        let nights = weekly("sat", 23 * 60, 6 * 60, "America/New_York");
        let [first, ..] = &times(&nights, "2027-03-13T12:00:00Z")[..] else {
            panic!("a window");
        };
        assert_eq!(first, "03-14 04:00/03-14 10:00");
    }

    #[test]
    fn what_began_days_ago_is_among_the_times_and_so_are_two_weeks_to_come() {
        let long = weekly("mon", 0, 6 * 24 * 60, "UTC");
        let now = unix("2027-03-13T12:00:00Z");
        let spans = weekly_around(&long, now).expect("a zone");
        assert!(spans.iter().any(|span| span.is_active(now)), "{spans:?}");
        assert!(
            spans
                .last()
                .is_some_and(|last| last.start_ms > now.0 + 7 * DAY_MS)
        );
    }

    #[test]
    fn for_a_look_at_many_targets_only_what_is_now_is_kept_of_all_the_days() {
        let now = unix("2027-03-13T12:00:00Z");
        let every_day = "mon,tue,wed,thu,fri,sat,sun";
        let row = |at_min| WindowRow {
            id: WindowId(1),
            window: Window::new(
                Scope::All,
                Timing::Weekly(weekly(every_day, at_min, 60, "UTC")),
                "",
            )
            .expect("a window"),
            added_by: "ann".to_owned(),
            added_at: now,
        };
        // From half past eleven, and in the evening.
        let rows = [row(690), row(1_200)];
        let (all, of_now) = (Occurrences::around(&rows, now), Occurrences::at(&rows, now));
        assert_eq!((all.all.len(), of_now.all.len()), (46, 1));
        assert!(of_now.all[0].span.is_active(now));
    }

    #[test]
    fn a_list_is_good_for_a_day_and_a_zone_that_went_is_named() {
        let now = unix("2027-03-13T12:00:00Z");
        let row = |window| WindowRow {
            id: WindowId(1),
            window,
            added_by: "ann".to_owned(),
            added_at: now,
        };
        let of = |weekly| Window::new(Scope::All, Timing::Weekly(weekly), "").expect("a window");
        let rows = [
            row(of(weekly("mon", 0, 60, "UTC"))),
            row(of(weekly("mon", 0, 60, "Mars/Olympus"))),
        ];
        let found = Occurrences::around(&rows, now);
        assert_eq!(found.unknown_zones, ["Mars/Olympus"]);
        assert!((3..=4).contains(&found.all.len()), "{found:?}");
        // An hour's step of the clock is no reason to make another.
        for step in [0, 3_600_000] {
            assert!(found.last_from(UnixMs(now.0 - step)));
            assert!(found.last_from(now.plus_ms(step)));
        }
        assert!(!found.last_from(now.plus_ms(DAY_MS)));
    }
}
