//! Whether the resolvers are sick: many names failing at once are our trouble, not theirs.
//!
//! ```text
//! names asked for in the last 30 s ─► > 25 % of ≥ 200 fail ──┬─ canaries fail too ─► sick
//!                      └─ half of that ─► canaries are asked └─ no canaries ─► sick, ≤ 5 min
//! ```
//!
//! The 200 are of the node: a core that sees one name of eight needs an eighth of them.
//!
//! Names are counted by their hash, the latest answer of each. The memory is fixed: 4,096 names;
//! of more than that the latest of each set of eight are kept, a fair sample. It knows neither
//! queries nor flights.

use std::num::NonZeroU16;

use model::MonoUs;
use model::limits::{
    DNS_SICK_ALONE_MAX_MS, DNS_SICK_NAMES_FLOOR, DNS_SICK_SHARE_PERCENT, DNS_SICK_WINDOW_MS,
};

/// Sets of the table, and names of one set.
const SETS: usize = 512;
const WAYS: usize = 8;
/// Pause between two judgements, in ms.
const JUDGE_MS: u64 = 1_000;
/// Pause between two questions to the canaries, in ms.
const CANARY_MS: u64 = 5_000;

/// The latest answer of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u64,
    /// When, in tenths of a second and one more; 0 = never.
    at_ds: u32,
    failed: bool,
}

/// The latest answer of one canary.
#[derive(Clone, Copy, Debug, Default)]
struct Canary {
    at_ds: u32,
    failed: bool,
}

/// The health of the resolvers, as one core sees it.
#[derive(Debug)]
pub(super) struct Health {
    seen: Box<[[Seen; WAYS]]>,
    canaries: Vec<Canary>,
    /// Names below which nothing is said.
    names_min: usize,
    /// The latest failure: without one there is nothing to count.
    failed_ds: u32,
    judge_at: MonoUs,
    ask_at: MonoUs,
    /// What makes them sick, while they are.
    sick: Option<NamesFailing>,
    /// Without canaries: since when the share has been too high, and since when it has not.
    high_since: Option<MonoUs>,
    low_since: Option<MonoUs>,
}

/// Names that were asked for in the last [`DNS_SICK_WINDOW_MS`], as far as they are remembered, and
/// how many of them failed: why the resolvers are said to be sick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamesFailing {
    /// Those whose latest answer was a failure.
    pub failing: u16,
    /// All of them.
    pub names: NonZeroU16,
}

/// Names of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    names: usize,
    failing: usize,
}

const _: () = assert!(SETS * WAYS <= u16::MAX as usize);

impl Count {
    /// More than `percent` of at least `min` names fail.
    fn exceeds(self, min: usize, percent: usize) -> bool {
        self.names >= min && self.failing * 100 > self.names * percent
    }

    /// For others; `None` of no names.
    fn told(self) -> Option<NamesFailing> {
        Some(NamesFailing {
            failing: self.failing as u16,
            names: NonZeroU16::new(self.names as u16)?,
        })
    }
}

impl Health {
    /// Nothing seen yet.
    pub(super) fn new(canaries: usize, names_min: usize) -> Self {
        Self {
            seen: vec![[Seen::default(); WAYS]; SETS].into_boxed_slice(),
            canaries: vec![Canary::default(); canaries],
            names_min: names_min.max(DNS_SICK_NAMES_FLOOR),
            failed_ds: 0,
            judge_at: MonoUs(0),
            ask_at: MonoUs(0),
            sick: None,
            high_since: None,
            low_since: None,
        }
    }

    /// Whether failures speak of the resolvers now.
    pub(super) fn is_sick(&self) -> bool {
        self.sick.is_some()
    }

    /// Of how many names they did so, when that was last judged; `None` when they do not.
    pub(super) fn sick(&self) -> Option<NamesFailing> {
        self.sick
    }

    /// A name was asked for, and failed by a timeout or SERVFAIL, or did not.
    pub(super) fn note(&mut self, hash: u64, failed: bool, now: MonoUs) {
        let set = &mut self.seen[hash as usize % SETS];
        let known = set.iter().position(|seen| seen.hash == hash);
        let at = known.unwrap_or_else(|| oldest(set));
        set[at] = Seen {
            hash,
            at_ds: stamp(now),
            failed,
        };
        if failed {
            self.failed_ds = stamp(now);
        }
    }

    /// A canary was asked for.
    pub(super) fn note_canary(&mut self, at: usize, failed: bool, now: MonoUs) {
        let at_ds = stamp(now);
        self.canaries[at] = Canary { at_ds, failed };
    }

    /// Judges once per second. Says whether the canaries are to be asked now.
    pub(super) fn judge(&mut self, now: MonoUs) -> bool {
        if now < self.judge_at {
            return false;
        }
        self.judge_at = now.plus_ms(JUDGE_MS);
        let since = stamp(now).saturating_sub((DNS_SICK_WINDOW_MS / 100) as u32);
        let count = self.count(since);
        let high = count.exceeds(self.names_min, DNS_SICK_SHARE_PERCENT);
        if self.canaries.is_empty() {
            let is_news = self.is_news(high, now);
            self.sick = count.told().filter(|_| high && !is_news);
            return false;
        }
        let is_sick = high && self.do_canaries_fail(since);
        self.sick = count.told().filter(|_| is_sick);
        let suspected = count.exceeds(self.names_min / 2, DNS_SICK_SHARE_PERCENT / 2);
        let ask = suspected && now >= self.ask_at;
        if ask {
            self.ask_at = now.plus_ms(CANARY_MS);
        }
        ask
    }

    fn count(&self, since: u32) -> Count {
        if self.failed_ds <= since {
            return Count {
                names: 0,
                failing: 0,
            };
        }
        let fresh = self.seen.iter().flatten().filter(|seen| seen.at_ds > since);
        let (mut names, mut failing) = (0, 0);
        for seen in fresh {
            names += 1;
            failing += usize::from(seen.failed);
        }
        Count { names, failing }
    }

    fn do_canaries_fail(&self, since: u32) -> bool {
        let failing = |canary: &&Canary| canary.failed && canary.at_ds > since;
        2 * self.canaries.iter().filter(failing).count() > self.canaries.len()
    }

    /// Whether the share has been high for so long that it is news, not noise; only a whole window
    /// below it begins anew.
    fn is_news(&mut self, high: bool, now: MonoUs) -> bool {
        if high {
            self.low_since = None;
            let since = *self.high_since.get_or_insert(now);
            return now >= since.plus_ms(DNS_SICK_ALONE_MAX_MS);
        }
        let since = *self.low_since.get_or_insert(now);
        if now >= since.plus_ms(DNS_SICK_WINDOW_MS) {
            self.high_since = None;
        }
        false
    }
}

fn oldest(set: &[Seen; WAYS]) -> usize {
    let ages = set.iter().enumerate().map(|(at, seen)| (seen.at_ds, at));
    ages.min().map_or(0, |(_, at)| at)
}

/// Tenths of a second, never 0.
fn stamp(at: MonoUs) -> u32 {
    (at.0 / 100_000) as u32 + 1
}

#[cfg(test)]
mod tests {
    use model::ids::splitmix64;
    use model::limits::DNS_SICK_NAMES_MIN;

    use super::*;

    fn health(canaries: usize) -> Health {
        Health::new(canaries, DNS_SICK_NAMES_MIN)
    }

    fn at(s: u64) -> MonoUs {
        MonoUs(1_000_000_000 + s * 1_000_000)
    }

    /// `names` names at `now`, of which the first `failing` fail.
    fn note(health: &mut Health, names: u64, failing: u64, now: MonoUs) {
        for n in 0..names {
            health.note(splitmix64(n), n < failing, now);
        }
    }

    fn is_sick(names_min: usize, names: u64, failing: u64) -> bool {
        let mut health = Health::new(0, names_min);
        note(&mut health, names, failing, at(0));
        health.judge(at(1));
        health.is_sick()
    }

    #[test]
    fn more_than_a_quarter_of_two_hundred_names_is_the_border() {
        for (names, failing, sick) in [
            (200, 51, true),
            (200, 50, false),
            (199, 199, false),
            (4_000, 1_300, true),
        ] {
            let is_sick = is_sick(DNS_SICK_NAMES_MIN, names, failing);
            assert_eq!(is_sick, sick, "{failing} of {names}");
        }
    }

    #[test]
    fn a_core_that_sees_a_share_of_the_names_needs_a_share_of_them_and_never_too_few() {
        for (names_min, names, failing, sick) in [
            (100, 100, 26, true),
            (100, 99, 99, false),
            (25, 25, 7, true),
            (4, 25, 7, true),
            (4, 24, 24, false),
        ] {
            let is_sick = is_sick(names_min, names, failing);
            assert_eq!(is_sick, sick, "{failing} of {names} from {names_min} on");
        }
    }

    #[test]
    fn of_many_names_the_kept_ones_are_a_fair_sample() {
        let mut health = health(0);
        for n in 0..1_000_000 {
            health.note(splitmix64(n), n % 10 < 3, at(n / 100_000));
        }
        let count = health.count(0);
        assert_eq!(count.names, SETS * WAYS);
        let share = count.failing * 1_000 / count.names;
        assert!((270..330).contains(&share), "{share} per mille");
    }

    #[test]
    fn one_name_counts_once_by_its_latest_answer_and_for_half_a_minute() {
        let mut health = health(0);
        for _ in 0..1_000 {
            health.note(7, true, at(0));
        }
        let count = |names, failing| Count { names, failing };
        assert_eq!(health.count(0), count(1, 1));
        health.note(7, false, at(1));
        assert_eq!(health.count(0), count(1, 0));
        assert_eq!(
            health.count(stamp(at(0))),
            count(0, 0),
            "nothing failed since"
        );
        note(&mut health, 300, 299, at(0));
        assert_eq!(health.sick(), None, "not judged yet");
        health.judge(at(29));
        let told = health.sick().map(|told| (told.failing, told.names.get()));
        assert_eq!(told, Some((299, 301)));
        health.judge(at(31));
        assert_eq!(health.sick(), None, "the window has passed");
    }

    #[test]
    fn without_canaries_it_ends_after_five_minutes_until_a_quiet_window() {
        let mut health = health(0);
        let mut sick_s = Vec::new();
        for s in 0..900 {
            // A quiet spell of 20 s is too short, one of 100 s is not.
            let quiet = (350..370).contains(&s) || (500..600).contains(&s);
            note(&mut health, 300, if quiet { 0 } else { 300 }, at(s));
            assert!(!health.judge(at(s)), "nobody to ask");
            if health.is_sick() {
                sick_s.push(s);
            }
        }
        let expected: Vec<u64> = (0..300).chain(600..900).collect();
        assert_eq!(sick_s, expected);
    }

    #[test]
    fn a_majority_of_the_canaries_decides() {
        for (failing, sick) in [(0, false), (1, false), (2, true), (3, true)] {
            let mut health = health(3);
            note(&mut health, 100, 13, at(0));
            assert!(health.judge(at(0)), "asked at half the share");
            for n in 0..3 {
                health.note_canary(n, n < failing, at(1));
            }
            note(&mut health, 300, 300, at(1));
            assert!(!health.judge(at(1)), "asked a moment ago");
            assert_eq!(health.is_sick(), sick, "{failing} of 3");
            note(&mut health, 300, 300, at(6));
            assert!(health.judge(at(6)), "asked again while it lasts");
        }
    }

    #[test]
    fn old_words_of_canaries_do_not_count() {
        let mut health = health(1);
        health.note_canary(0, true, at(0));
        note(&mut health, 300, 300, at(40));
        health.judge(at(40));
        assert!(!health.is_sick());
    }
}
