//! When which rows of a legacy table are read again. A machine: events and `now` in, one reading at
//! a time out. It knows no store, no fleet and no clock; ids, buckets and counts are all it sees.
//!
//! ```text
//!  Changed, switched ─► urgent ids ──┐
//!  counts ─► buckets, spans of ids ──┤  at most half of the time in statements
//!  Asked, a gap ─► a hurried pass ───┤
//!  every 3 s ─► counts of a slice ───┼──► one reading ─► Done | Failed
//!  Changed, edited ─► edited ids ────┤  put off under pressure, a minute at most
//!  the pass, page by page ───────────┘  put off as well, and at most 5 % of the time
//! ```

mod pass;
mod places;
mod queue;
mod round;

use std::collections::VecDeque;

use model::limits::{LEGACY_IDS_MAX, LEGACY_PAGE_MAX};
use model::{MonoUs, TargetId};

use self::pass::Pass;
use self::places::Places;
use self::queue::{Suspect, What, batch};
use self::round::Round;
use super::events::{Done, Event, Figures, Gap, Loaded, Next, Read, Told};

/// Slices of the buckets, at most; each is counted by one statement.
pub(crate) const SLICES: u16 = 10;
/// From one count to the next, in ms: every bucket each 30 s.
const TALLY_MS: u64 = 3_000;
/// The same where a count takes long: every bucket each 50 s, so that with what follows a count a
/// switched row is in effect within a minute.
const TALLY_SLOW_MS: u64 = 5_000;
/// The same while a stream tells of changes: a net below it.
const TALLY_STREAM_MS: u64 = 30_000;
/// Rows of a bucket that are read one by one; where there are more, the whole table is.
const BUCKET_PAGE: usize = 1_000;
/// Fewest rows that a pass reads at once.
const PAGE_MIN: u64 = 500;
/// From one page of a pass to the next, in s, unless that many rows are too many for one.
const PAGE_EVERY_S: u64 = 3;
/// A pass is planned for so much of its time, in percent: the rest is for what holds up its last
/// pages, and for rows that come while it runs.
const PLANNED_PERCENT: u64 = 95;
/// What is put off, for pressure or for what was read before, is put off so long at most, in ms.
const PUT_OFF_MS: u64 = 60_000;
/// What is put off for less is not worth counting, in ms.
const DEFERRED_MS: u64 = 5_000;
/// The pass reads one twentieth of the time.
const COST_FACTOR: u64 = 20;
/// After a failure, doubled with each, in ms.
const RETRY_MS: (u64, u64) = (1_000, 60_000);

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    period_s: u32,
    /// `None` until then.
    loaded: Option<Loaded>,
    pressed: bool,
    told: Told,
    reading: Option<(Read, MonoUs)>,
    urgent: VecDeque<TargetId>,
    edited: VecDeque<TargetId>,
    /// Since when the first of them waits.
    edited_at: MonoUs,
    /// Of these rows there are others than we have.
    suspects: VecDeque<Suspect>,
    /// The bucket that the next slice begins with.
    tally_from: u16,
    round: Round,
    tally_at: MonoUs,
    pass: Option<Pass>,
    places: Places,
    /// Another pass has to follow: it sees what this one may have missed.
    owed: bool,
    /// Number of the pass that closes the last gap in the stream.
    closing: u64,
    numbers: u64,
    /// When the next page is due by the plan; in the past where the pass is late.
    page_at: MonoUs,
    /// Half of the usual time after the last page: what is late is caught up with at twice the
    /// rate at most.
    page_not_before: MonoUs,
    page_took_us: u64,
    /// By kind, whether what is due was counted as put off.
    put_off: [bool; What::IN_ORDER.len()],
    /// Half of the time is for others.
    rested_at: MonoUs,
    /// The pass has to wait for what everything cost.
    repaid_at: MonoUs,
    retry: (u32, MonoUs),
    whole: u64,
    figures: Figures,
}

impl Sweep {
    /// A machine that reads the whole table once in `period_s`. It begins when the table is
    /// loaded.
    pub(crate) fn new(period_s: u32) -> Self {
        Self {
            period_s,
            ..Self::default()
        }
    }

    /// The table has about so many rows, and is counted by bucket or else by id.
    pub(crate) fn set_table(&mut self, rows: u64, by_bucket: bool) {
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        if let Some(pass) = &mut self.pass {
            pass.expected += rows.saturating_sub(loaded.rows);
        }
        (loaded.rows, loaded.by_bucket) = (rows, by_bucket);
    }

    /// The number of the pass that sees everything as it is now; see [`Sweep::is_over`].
    pub(crate) fn newest_pass(&self) -> u64 {
        self.numbers + u64::from(self.owed)
    }

    /// Whether the pass of that number is over.
    pub(crate) fn is_over(&self, number: u64) -> bool {
        self.whole >= number
    }

    /// How long the reading that is under way has taken at `now`, in µs.
    pub(crate) fn took_us(&self, now: MonoUs) -> u64 {
        self.reading
            .as_ref()
            .map_or(0, |(_, begun)| now.since(*begun))
    }

    pub(crate) fn figures(&self) -> Figures {
        let rows_per_s = self.pass.map_or(0, |pass| self.rows_per_s(pass.is_hurried));
        Figures {
            rows_per_s,
            pass_rows: self.pass.map_or(0, |pass| pass.rows),
            buckets_waiting: self.suspects.len() as u64,
            ids_waiting: (self.urgent.len() + self.edited.len()) as u64,
            is_stream_up: self.told != Told::Nothing,
            is_stream_late: self.told == Told::Late,
            is_hurried: self.pass.is_some_and(|pass| pass.is_hurried),
            ..self.figures
        }
    }

    /// Takes in an event.
    pub(crate) fn on(&mut self, event: Event, now: MonoUs) {
        match event {
            Event::Loaded(loaded) => self.loaded(loaded, now),
            Event::Changed { ids, switched } => self.changed(ids, switched, now),
            Event::StreamUp { gap, late: false } => self.streams(Told::AtOnce, gap, now),
            Event::StreamUp { gap, late: true } => self.streams(Told::Late, gap, now),
            Event::StreamLost => self.streams(Told::Nothing, Gap::None, now),
            Event::Asked => self.hurry(now),
            Event::Pressed(pressed) => self.pressed = pressed,
            Event::Done(done) => self.done(done, now),
            Event::Failed => self.failed(now),
        }
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: MonoUs) -> Next {
        if self.reading.is_some() {
            return Next::Reading;
        }
        if self.loaded.is_none() {
            return Next::At(MonoUs(u64::MAX));
        }
        let mut earliest = MonoUs(u64::MAX);
        for what in What::IN_ORDER {
            let Some(due) = self.due(what, now) else {
                continue;
            };
            let due = due.max(self.retry.1);
            if due > now {
                earliest = earliest.min(due);
                continue;
            }
            let read = self.take(what, now);
            self.reading = Some((read.clone(), now));
            return Next::Read(read);
        }
        Next::At(earliest)
    }

    /// When `what` may be read; `None`: there is nothing of it.
    fn due(&mut self, what: What, now: MonoUs) -> Option<MonoUs> {
        match what {
            What::Urgent => (!self.urgent.is_empty()).then_some(self.rested_at),
            What::Bucket => (!self.suspects.is_empty()).then_some(self.rested_at),
            What::Tally => self.suspects.is_empty().then_some(self.tally_at),
            What::Edited => {
                (!self.edited.is_empty()).then_some(())?;
                let (wanted, due) = (self.edited_at, self.edited_at.max(self.rested_at));
                Some(self.unless_pressed(what, (wanted, due), now))
            }
            What::Page => {
                let pass = self.pass?;
                if pass.is_hurried {
                    return Some(self.rested_at);
                }
                let wanted = self.page_at.max(self.page_not_before);
                // Counts alone may cost more than there is for all: the pass goes on even so.
                let due = self.repaid_at.min(wanted.plus_ms(PUT_OFF_MS));
                Some(self.unless_pressed(what, (wanted, due.max(wanted)), now))
            }
        }
    }

    /// Work that was `wanted` and may be done at `due`: later under pressure, but not never.
    fn unless_pressed(
        &mut self,
        what: What,
        (wanted, due): (MonoUs, MonoUs),
        now: MonoUs,
    ) -> MonoUs {
        let due = if self.pressed {
            due.max(wanted.plus_ms(PUT_OFF_MS))
        } else {
            due
        };
        let put_off = &mut self.put_off[what as usize];
        let is_late = due >= wanted.plus_ms(DEFERRED_MS);
        if wanted <= now && due > now && is_late && !*put_off {
            *put_off = true;
            self.figures.deferred += 1;
        }
        due
    }

    fn take(&mut self, what: What, now: MonoUs) -> Read {
        self.put_off[what as usize] = false;
        match what {
            What::Urgent => Read::Ids(batch(&mut self.urgent)),
            What::Edited => Read::Ids(batch(&mut self.edited)),
            What::Bucket => match self.suspects.pop_front() {
                Some(Suspect::Span { after, last, limit }) => Read::Span { after, last, limit },
                Some(Suspect::Bucket(bucket, after)) => Read::Bucket {
                    bucket,
                    after,
                    limit: BUCKET_PAGE,
                },
                None => self.next_count(),
            },
            What::Tally => self.next_count(),
            What::Page => {
                let after = self.pass.and_then(|pass| pass.after);
                let limit = self.page_limit(now);
                Read::Page { after, limit }
            }
        }
    }

    fn next_count(&mut self) -> Read {
        if self.by_bucket() {
            let first = self.tally_from;
            return Read::Tally { first };
        }
        if self.round.after.is_none() {
            self.round = Round {
                rows: self.rows(),
                ..Round::default()
            };
        }
        Read::Count {
            after: self.round.after,
            limit: self.round.limit() as usize,
        }
    }

    /// How long a pass is to take, in µs.
    fn planned_us(&self) -> u64 {
        u64::from(self.period_s.max(1)) * 10_000 * PLANNED_PERCENT
    }

    /// Pages of a pass, the one that finds the end included, and rows of one of them.
    fn pages(&self) -> (u64, u64) {
        let all = self.pass.map_or(self.rows(), |pass| pass.expected);
        let rows = (all * PAGE_EVERY_S * 1_000_000).div_ceil(self.planned_us());
        let rows = rows.clamp(PAGE_MIN, LEGACY_PAGE_MAX as u64);
        ((all + 1).div_ceil(rows), rows)
    }

    /// From one page of a pass to the next, in µs.
    fn page_every_us(&self) -> u64 {
        self.planned_us() / self.pages().0
    }

    /// When a pass that has read so many rows is to read the next ones. It depends on how many it
    /// expects and not on when the last page came, so that delays do not add up and a table that
    /// grew is not read later; rows beyond those that we know of are due at the end. Rows that are
    /// later in this pass than they were in the last one are read when they were due by that.
    fn planned_at(&self, pass: &Pass) -> MonoUs {
        let (pages, rows) = self.pages();
        let all = pages * rows;
        let planned_us = self.planned_us();
        let by_rows = pass.from.plus_us(planned_us * pass.rows.min(all) / all);
        let again = self.places.next_read_at();
        again.map_or(by_rows, |at| by_rows.min(at.plus_us(planned_us)))
    }

    /// More rows at once where the last pages came too late.
    fn page_limit(&self, now: MonoUs) -> usize {
        let is_hurried = self.pass.is_some_and(|pass| pass.is_hurried);
        if is_hurried {
            return LEGACY_PAGE_MAX;
        }
        let late_us = now.since(self.page_at);
        let (_, rows) = self.pages();
        let more = rows * late_us / self.page_every_us().max(1);
        (rows + more).min(LEGACY_PAGE_MAX as u64) as usize
    }

    fn rows_per_s(&self, is_hurried: bool) -> u64 {
        let (_, rows) = self.pages();
        let (rows, every_us) = if is_hurried {
            (LEGACY_PAGE_MAX as u64, 2 * self.page_took_us)
        } else {
            let cost_us = COST_FACTOR * self.page_took_us;
            (rows, self.page_every_us().max(cost_us))
        };
        (rows * 1_000_000)
            .div_ceil(every_us.max(1))
            .min(self.rows())
    }

    fn rows(&self) -> u64 {
        self.loaded.map_or(0, |loaded| loaded.rows)
    }

    fn by_bucket(&self) -> bool {
        self.loaded.is_some_and(|loaded| loaded.by_bucket)
    }

    /// Changes that were told meanwhile may be newer than what was read: they stay.
    fn loaded(&mut self, loaded: Loaded, now: MonoUs) {
        self.put_back();
        self.loaded = Some(loaded);
        self.figures.as_of = loaded.begun;
        self.suspects.clear();
        self.places = Places::default();
        (self.tally_from, self.round) = (0, Round::default());
        self.pass = None;
        self.tally_at = now.plus_ms(TALLY_MS);
        self.go_on(now);
    }

    /// Changes are told now, or are not any more.
    fn streams(&mut self, told: Told, gap: Gap, now: MonoUs) {
        self.told = told;
        if gap != Gap::None {
            // A pass that is under way may have read rows that changed since.
            self.closing = self.numbers + 1;
        }
        if gap == Gap::Hurried {
            self.hurry(now);
        }
        if self.rests() {
            self.pass = self.pass.filter(|pass| pass.is_hurried);
            self.places = Places::default();
            return;
        }
        self.tally_at = self.tally_at.min(now);
        if self.pass.is_none() && self.loaded.is_some() {
            self.begin(false, now);
        }
    }

    /// Whether all that changes is told soon, and nothing that changed before is missing.
    fn rests(&self) -> bool {
        self.told == Told::AtOnce && self.is_over(self.closing)
    }

    fn changed(&mut self, ids: Vec<TargetId>, switched: bool, now: MonoUs) {
        if self.urgent.len() + self.edited.len() + ids.len() > LEGACY_IDS_MAX {
            // Reading all of the table is no more work.
            self.urgent.clear();
            self.edited.clear();
            self.hurry(now);
        } else if switched {
            self.urgent.extend(ids);
        } else {
            if self.edited.is_empty() {
                self.edited_at = now;
            }
            self.edited.extend(ids);
        }
    }

    /// A pass that begins after now, as fast as may be. One that is under way may have read what
    /// changed since: it has to be followed by another.
    fn hurry(&mut self, now: MonoUs) {
        if self.loaded.is_none() {
            // What is being loaded may be older.
            self.owed = true;
        } else if self.pass.is_some_and(|pass| pass.is_hurried) {
            self.owed = true;
        } else {
            self.begin(true, now);
        }
    }

    fn go_on(&mut self, now: MonoUs) {
        if std::mem::take(&mut self.owed) {
            self.begin(true, now);
        } else if !self.rests() {
            self.begin(false, now);
        }
    }

    fn begin(&mut self, is_hurried: bool, now: MonoUs) {
        self.numbers += 1;
        self.places.begin();
        self.page_at = now.max(self.page_at);
        self.pass = Some(Pass {
            number: self.numbers,
            begun: now,
            from: self.page_at,
            after: None,
            rows: 0,
            expected: self.rows(),
            is_hurried,
        });
    }

    fn done(&mut self, done: Done, now: MonoUs) {
        let Some((read, begun)) = self.reading.take() else {
            return;
        };
        let took_us = now.since(begun);
        self.retry = (0, now);
        self.rested_at = now.plus_us(took_us);
        let repaid = self.repaid_at.max(begun).plus_us(took_us * COST_FACTOR);
        self.repaid_at = repaid.min(now.plus_ms(PUT_OFF_MS));
        match (read, done) {
            (Read::Page { after, .. }, Done::Page { rows, next }) => {
                self.page_took_us = took_us;
                self.page_done(after, rows, next, (begun, now));
            }
            (
                Read::Tally { .. },
                Done::Tally {
                    differing,
                    large,
                    next,
                },
            ) => {
                self.tally_from = next.unwrap_or(0);
                self.tally_at = begun.plus_us(self.tally_every_us(took_us));
                let differing = differing.into_iter();
                self.suspects
                    .extend(differing.map(|bucket| Suspect::Bucket(bucket, None)));
                // Once they are known, rows are counted by id.
                if large && !self.pass.is_some_and(|pass| pass.is_hurried) {
                    self.hurry(now);
                }
            }
            (
                Read::Count { after, .. },
                Done::Count {
                    rows,
                    differs,
                    next,
                },
            ) => {
                self.tally_at = begun.plus_us(self.tally_every_us(took_us));
                self.counted((after, next), rows, differs);
            }
            (Read::Span { last, limit, .. }, Done::Span { next: Some(next) }) => {
                let after = Some(next);
                self.suspects
                    .push_front(Suspect::Span { after, last, limit });
            }
            (Read::Bucket { bucket, .. }, Done::Bucket { next, missing }) => {
                if next.is_some() {
                    self.suspects.push_front(Suspect::Bucket(bucket, next));
                }
                self.changed(missing, true, now);
            }
            // Ids leave their queue when they are taken.
            _ => {}
        }
    }

    /// Takes in a count of rows by id. Where there are many more than we know of, all that follow
    /// are read instead of counted.
    fn counted(
        &mut self,
        (after, next): (Option<TargetId>, Option<TargetId>),
        rows: usize,
        differs: bool,
    ) {
        self.round.counted += rows as u64;
        self.round.after = next;
        if differs {
            self.suspects.push_back(Suspect::Span {
                after,
                last: next,
                limit: (rows + 1).min(LEGACY_PAGE_MAX),
            });
        }
        if next.is_some() && self.round.is_too_long() {
            self.round.after = None;
            self.suspects.push_back(Suspect::Span {
                after: next,
                last: None,
                limit: LEGACY_PAGE_MAX,
            });
        }
    }

    fn tally_every_us(&self, took_us: u64) -> u64 {
        let every_ms = if self.rests() {
            TALLY_STREAM_MS
        } else {
            TALLY_MS
        };
        let mut range_us = [every_ms, TALLY_SLOW_MS].map(|ms| ms * 1_000);
        if !self.by_bucket() {
            range_us = range_us.map(|us| self.round.every_us(us));
        }
        let [every_us, slowest] = range_us;
        (took_us * COST_FACTOR).min(slowest).max(every_us)
    }

    fn page_done(
        &mut self,
        after: Option<TargetId>,
        rows: usize,
        next: Option<TargetId>,
        (begun, now): (MonoUs, MonoUs),
    ) {
        // A pass that began meanwhile begins at the first row.
        let is_of = |pass: &Pass| pass.after == after && pass.begun <= begun;
        let Some(mut pass) = self.pass.filter(is_of) else {
            return;
        };
        let every_us = self.page_every_us();
        pass.rows += rows as u64;
        pass.after = next;
        self.places.read(next, begun);
        self.page_not_before = begun.plus_us(every_us / 2);
        self.page_at = match next {
            _ if pass.is_hurried => begun.plus_us(every_us),
            Some(_) => self.planned_at(&pass),
            None => pass.from.plus_us(self.planned_us()),
        };
        if next.is_some() {
            self.pass = Some(pass);
            return;
        }
        self.whole = pass.number;
        self.figures.as_of = pass.begun;
        self.figures.passes += 1;
        self.pass = None;
        self.go_on(now);
    }

    /// What was to be read is read again.
    fn failed(&mut self, now: MonoUs) {
        let (failures, _) = self.retry;
        let wait_ms = (RETRY_MS.0 << failures.min(10)).min(RETRY_MS.1);
        self.retry = (failures + 1, now.plus_ms(wait_ms));
        self.put_back();
    }

    fn put_back(&mut self) {
        match self.reading.take() {
            // Where they came from does not matter: they waited once.
            Some((Read::Ids(ids), _)) => {
                ids.into_iter()
                    .rev()
                    .for_each(|id| self.urgent.push_front(id));
            }
            Some((Read::Bucket { bucket, after, .. }, _)) => {
                self.suspects.push_front(Suspect::Bucket(bucket, after));
            }
            Some((Read::Span { after, last, limit }, _)) => {
                self.suspects
                    .push_front(Suspect::Span { after, last, limit });
            }
            Some((Read::Page { .. } | Read::Tally { .. } | Read::Count { .. }, _)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
