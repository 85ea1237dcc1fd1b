//! The sweep in virtual time, against a table that changes under it.

mod by_id;
mod large;

use std::collections::BTreeMap;
use std::ops::Bound;

use model::ids::splitmix64;
use model::limits::LEGACY_IDS_PER_READ;
use store::RowTally;

use super::*;

const S: u64 = 1_000_000;
const MIN: u64 = 60 * S;

fn id(raw: u64) -> TargetId {
    TargetId::new(raw as i64).expect("positive")
}

/// What a statement takes: a round trip and a few µs for each row.
#[derive(Clone, Copy)]
struct Cost {
    trip_us: u64,
    row_ns: u64,
}

const NEAR: Cost = Cost {
    trip_us: 500,
    row_ns: 7_000,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    bucket: u16,
    active: bool,
    version: u32,
}

/// A row of the table that is not in effect yet.
#[derive(Clone, Copy, Debug)]
struct Owed {
    since: MonoUs,
    switched: bool,
}

/// A table, what is in effect of it, and the machine between them.
struct Bed {
    sweep: Sweep,
    now: MonoUs,
    cost: Cost,
    table: BTreeMap<TargetId, Row>,
    /// Whether rows are counted by bucket.
    by_bucket: bool,
    /// Bucket and version of what is in effect.
    held: BTreeMap<TargetId, (u16, u32)>,
    owed: BTreeMap<TargetId, Owed>,
    /// Longest time to effect: of edits, of switches.
    latest_us: [u64; 2],
    in_statements_us: u64,
    /// Rows of the largest count by id.
    counted_max: usize,
    reads: Vec<(MonoUs, Read)>,
}

impl Bed {
    fn new(rows: u64, period_s: u32, cost: Cost) -> Self {
        Self::of(rows, period_s, cost, |raw| Some((raw % 1_000) as u16))
    }

    /// A table whose rows are in these buckets; `None`: buckets do not cut it.
    fn of(rows: u64, period_s: u32, cost: Cost, bucket: impl Fn(u64) -> Option<u16>) -> Self {
        let row = |raw: u64| {
            let row = Row {
                bucket: bucket(raw).unwrap_or(0),
                active: true,
                version: 0,
            };
            (id(raw), row)
        };
        let table: BTreeMap<TargetId, Row> = (1..=rows).map(row).collect();
        let held = table.iter().map(|(&id, row)| (id, (row.bucket, 0)));
        let mut bed = Self {
            sweep: Sweep::new(period_s),
            now: MonoUs(S),
            cost,
            by_bucket: bucket(1).is_some(),
            held: held.collect(),
            table,
            owed: BTreeMap::new(),
            latest_us: [0; 2],
            in_statements_us: 0,
            counted_max: 0,
            reads: Vec::new(),
        };
        assert_eq!(bed.sweep.next(bed.now), Next::At(MonoUs(u64::MAX)));
        bed.tell(Event::Loaded(Loaded {
            rows,
            by_bucket: bed.by_bucket,
            begun: MonoUs(0),
        }));
        bed
    }

    fn tell(&mut self, event: Event) {
        self.sweep.on(event, self.now);
    }

    /// Changes the row `raw` and notes since when that is owed.
    fn change(&mut self, raw: u64, change: impl FnOnce(&mut Row)) {
        let id = id(raw);
        let row = self.table.get_mut(&id).expect("a row");
        change(row);
        let owed = Owed {
            since: self.now,
            switched: row.active != self.held.contains_key(&id),
        };
        if self.is_in_effect(id) {
            self.owed.remove(&id);
        } else if self.owed.get(&id).map(|before| before.switched) != Some(owed.switched) {
            self.owed.insert(id, owed);
        }
    }

    fn is_in_effect(&self, id: TargetId) -> bool {
        let there = self.table.get(&id).filter(|row| row.active);
        there.map(|row| row.version) == self.held.get(&id).map(|&(_, version)| version)
    }

    /// Lets everything happen that is due in the next `us`.
    fn run(&mut self, us: u64) {
        let end = self.now.plus_us(us);
        while self.now < end {
            // How many rows are read and counted at once depends on those that are known of.
            let known = self.held.len() as u64;
            self.sweep.set_table(known, self.by_bucket);
            match self.sweep.next(self.now) {
                Next::At(at) => self.now = at.min(end),
                Next::Reading => panic!("every reading is answered"),
                Next::Read(read) => self.carry_out(&read),
            }
        }
    }

    fn carry_out(&mut self, read: &Read) {
        self.reads.push((self.now, read.clone()));
        let (done, rows) = self.answer(read);
        let took_us = self.cost.trip_us + rows as u64 * self.cost.row_ns / 1_000;
        self.in_statements_us += took_us;
        self.now = self.now.plus_us(took_us);
        self.tell(Event::Done(done));
        let now = self.now;
        let over: Vec<TargetId> = self.owed.keys().copied().collect();
        for id in over {
            if !self.is_in_effect(id) {
                continue;
            }
            let owed = self.owed.remove(&id).expect("listed");
            let latest = &mut self.latest_us[usize::from(owed.switched)];
            *latest = (*latest).max(now.since(owed.since));
        }
    }

    /// As the shell does it, without a fleet.
    fn answer(&mut self, read: &Read) -> (Done, usize) {
        match read {
            Read::Page { after, limit } => {
                assert!(*limit <= LEGACY_PAGE_MAX);
                let rows = self.active(*after, None, *limit);
                let next = rows
                    .last()
                    .map(|row| row.0)
                    .filter(|_| rows.len() == *limit);
                self.replace((*after, next), &rows);
                let done = Done::Page {
                    rows: rows.len(),
                    next,
                };
                (done, rows.len())
            }
            Read::Count { after, limit } => self.count_ids(*after, *limit),
            Read::Span { after, last, limit } => {
                assert!(*limit <= LEGACY_PAGE_MAX);
                let rows = self.active(*after, None, *limit);
                let next = (rows.len() == *limit).then(|| rows[limit - 1].0);
                self.replace((*after, next), &rows);
                let next = next.filter(|next| last.is_none_or(|last| *next < last));
                (Done::Span { next }, rows.len())
            }
            Read::Bucket {
                bucket,
                after,
                limit,
            } => {
                let rows = self.active(*after, Some(*bucket), *limit);
                assert!(rows.len() < *limit, "buckets of the bed are small");
                let is_missing = |entry: &(&TargetId, &(u16, u32))| {
                    entry.1.0 == *bucket && rows.iter().all(|row| row.0 != *entry.0)
                };
                let missing = self.held.iter().filter(is_missing);
                let missing = missing.map(|(id, _)| *id).collect();
                self.keep(&rows);
                let done = Done::Bucket {
                    next: None,
                    missing,
                };
                (done, rows.len())
            }
            Read::Ids(ids) => {
                assert!(ids.len() <= LEGACY_IDS_PER_READ);
                for id in ids {
                    match self.table.get(id).copied().filter(|row| row.active) {
                        Some(row) => self.keep(&[(*id, row)]),
                        None => drop(self.held.remove(id)),
                    }
                }
                (Done::Ids, ids.len())
            }
            Read::Tally { first } => self.count_buckets(*first),
        }
    }

    fn count_ids(&mut self, after: Option<TargetId>, limit: usize) -> (Done, usize) {
        let rows = self.active(after, None, limit);
        let next = (rows.len() == limit).then(|| rows[limit - 1].0);
        let is_there = rows.iter().map(|row| row.0);
        let differs = !self.held_between((after, next)).into_iter().eq(is_there);
        self.counted_max = self.counted_max.max(rows.len());
        let done = Done::Count {
            rows: rows.len(),
            differs,
            next,
        };
        // Rows that are only counted cost a fifth of those that are sent.
        (done, rows.len() / 5)
    }

    fn count_buckets(&self, first: u16) -> (Done, usize) {
        // A tenth of the buckets, of which there are 1,000.
        let last = if first < 900 { first + 99 } else { u16::MAX };
        let there = self.table.iter().filter(|(_, row)| row.active);
        let there = tally(there.map(|(id, row)| (*id, row.bucket)), first, last);
        let held = self.held.iter().map(|(id, held)| (*id, held.0));
        let held = tally(held, first, last);
        let mut all: Vec<u16> = there.keys().chain(held.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|bucket| there.get(bucket) != held.get(bucket));
        let done = Done::Tally {
            differing: all,
            large: false,
            next: last.checked_add(1),
        };
        // Entries of an index cost a twentieth of a row.
        let rows: u64 = there.values().map(|tally| tally.rows).sum();
        (done, rows as usize / 20)
    }

    fn active(
        &self,
        after: Option<TargetId>,
        bucket: Option<u16>,
        limit: usize,
    ) -> Vec<(TargetId, Row)> {
        let first = after.map_or(1, |after| after.get() as u64 + 1);
        let rows = self.table.range(id(first)..).map(|(id, row)| (*id, *row));
        let rows = rows.filter(|(_, row)| row.active);
        let rows = rows.filter(|(_, row)| bucket.is_none_or(|bucket| row.bucket == bucket));
        rows.take(limit).collect()
    }

    fn held_between(&self, (after, last): (Option<TargetId>, Option<TargetId>)) -> Vec<TargetId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        self.held.range((from, to)).map(|(id, _)| *id).collect()
    }

    /// What is held between two ids is what was read.
    fn replace(&mut self, between: (Option<TargetId>, Option<TargetId>), rows: &[(TargetId, Row)]) {
        for id in self.held_between(between) {
            self.held.remove(&id);
        }
        self.keep(rows);
    }

    fn keep(&mut self, rows: &[(TargetId, Row)]) {
        for (id, row) in rows {
            self.held.insert(*id, (row.bucket, row.version));
        }
    }

    fn count(&self, is: fn(&Read) -> bool) -> usize {
        self.reads.iter().filter(|(_, read)| is(read)).count()
    }
}

fn tally(
    rows: impl Iterator<Item = (TargetId, u16)>,
    first: u16,
    last: u16,
) -> BTreeMap<u16, RowTally> {
    let mut found: BTreeMap<u16, RowTally> = BTreeMap::new();
    for (id, bucket) in rows.filter(|(_, bucket)| (first..=last).contains(bucket)) {
        found.entry(bucket).or_default().toggle(id, true);
    }
    found
}

fn is_page(read: &Read) -> bool {
    matches!(read, Read::Page { .. })
}

fn is_tally(read: &Read) -> bool {
    matches!(read, Read::Tally { .. } | Read::Count { .. })
}

fn is_ids(read: &Read) -> bool {
    matches!(read, Read::Ids(_))
}

fn up(gap: Gap) -> Event {
    Event::StreamUp { gap, late: false }
}

#[test]
fn a_slow_server_makes_the_sweep_longer_and_not_dearer() {
    let slow = Cost {
        trip_us: 200_000,
        row_ns: 100_000,
    };
    let mut bed = Bed::new(20_000, 300, slow);
    bed.run(20 * MIN);
    let figures = bed.sweep.figures();
    // Counts alone take as much as there is for all. The pass goes on, a page a minute.
    let counts_us = bed.count(is_tally) as u64 * 210_000;
    assert!(counts_us * 20 <= 21 * MIN, "{counts_us}");
    assert!(bed.in_statements_us * 16 <= 20 * MIN);
    assert!((18..=22).contains(&bed.count(is_page)));
    assert!(figures.deferred > 15);
    assert!((2..5).contains(&figures.passes), "{figures:?}");
    let rounds = bed.count(is_tally) / usize::from(SLICES);
    assert!((24..40).contains(&rounds), "{rounds}: each slice in 50 s");
}

#[test]
fn whatever_changes_is_in_effect_in_time_and_the_cost_stays_bounded() {
    for seed in 1..=6u64 {
        let mut bed = Bed::new(3_000, 300, NEAR);
        let mut random = (0u64..).map(|step| splitmix64(seed << 32 | step));
        let mut random = || random.next().expect("endless");
        for _ in 0..1_500 {
            let raw = random() % 3_000 + 1;
            match random() % 8 {
                // Both at once leave the count of their bucket as it was.
                0 | 1 => {
                    bed.change(raw, |row| row.active = !row.active);
                    let other = (raw + 1_000 - 1) % 3_000 + 1;
                    bed.change(other, |row| row.active = !row.active);
                }
                2 | 3 => bed.change(raw, |row| row.active = !row.active),
                4 => bed.change(raw, |row| row.bucket = (random() % 1_000) as u16),
                _ => bed.change(raw, |row| row.version += 1),
            }
            bed.run(random() % (2 * S));
        }
        bed.run(6 * MIN);
        assert!(bed.owed.is_empty(), "seed {seed}: {:?}", bed.owed);
        let [edited_us, switched_us] = bed.latest_us;
        assert!(switched_us <= MIN, "seed {seed}: {switched_us}");
        assert!(edited_us <= 300 * S, "seed {seed}: {edited_us}");
        assert!(bed.in_statements_us * 20 <= bed.now.0, "seed {seed}");
    }
}

#[test]
fn pressure_puts_edits_off_for_a_minute_at_most_and_activations_never() {
    let mut bed = Bed::new(400, 300, NEAR);
    bed.run(S);
    bed.tell(Event::Pressed(true));
    bed.change(7, |row| row.version = 1);
    let (ids, switched) = (vec![id(7)], false);
    bed.tell(Event::Changed { ids, switched });
    bed.change(8, |row| row.active = false);
    let (ids, switched) = (vec![id(8)], true);
    bed.tell(Event::Changed { ids, switched });
    bed.run(S);
    assert!(bed.is_in_effect(id(8)) && !bed.is_in_effect(id(7)));
    // Nobody tells of this one.
    bed.change(9, |row| row.active = false);
    bed.run(35 * S);
    assert!(bed.is_in_effect(id(9)) && !bed.is_in_effect(id(7)));
    assert_eq!(bed.sweep.figures().deferred, 1);
    bed.run(25 * S);
    assert!(bed.is_in_effect(id(7)), "a minute is over");
    // The pass waits, too: its page is due after 285 s, and read after 345 s.
    let before = bed.count(is_page);
    bed.run(280 * S);
    assert_eq!(
        (bed.count(is_page), bed.sweep.figures().deferred),
        (before, 2)
    );
    bed.run(MIN);
    assert_eq!(bed.count(is_page), before + 1);
    // As soon as the pressure is over, it is read when it is due.
    bed.change(10, |row| row.version = 1);
    bed.tell(Event::Pressed(false));
    let (ids, switched) = (vec![id(10)], false);
    bed.tell(Event::Changed { ids, switched });
    bed.run(S);
    assert!(bed.is_in_effect(id(10)));
}

#[test]
fn a_stream_lets_the_pass_rest_and_a_gap_in_it_is_closed_by_one() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    bed.run(S);
    bed.tell(up(Gap::None));
    let before = (bed.count(is_page), bed.count(is_tally));
    bed.run(10 * MIN);
    assert_eq!(bed.count(is_page), before.0);
    assert_eq!(bed.count(is_tally), before.1 + 20, "a net below the stream");
    assert_eq!(bed.sweep.figures().rows_per_s, 0);
    bed.tell(Event::StreamLost);
    bed.change(7, |row| row.version = 1);
    bed.run(300 * S);
    assert!(bed.is_in_effect(id(7)), "found by the pass");
    bed.tell(Event::StreamLost);
    bed.change(8, |row| row.version = 1);
    bed.tell(up(Gap::Hurried));
    bed.run(S);
    assert!(bed.is_in_effect(id(8)), "the gap");
    let passes = bed.sweep.figures().passes;
    bed.run(10 * MIN);
    assert_eq!(bed.sweep.figures().passes, passes, "one pass closes it");
}

/// As where a node was away for hours, or the server logs faster than we read.
#[test]
fn a_stream_that_is_hours_behind_leaves_the_net_where_it_is() {
    let late = || Event::StreamUp {
        gap: Gap::None,
        late: true,
    };
    let mut bed = Bed::new(3_000, 300, NEAR);
    bed.tell(late());
    bed.change(7, |row| row.active = false);
    bed.run(31 * S);
    assert!(bed.is_in_effect(id(7)), "found by a count");
    bed.change(8, |row| row.version = 1);
    bed.run(300 * S);
    assert!(bed.is_in_effect(id(8)), "found by the pass");
    let figures = bed.sweep.figures();
    assert!(figures.is_stream_up && figures.is_stream_late);
    // What it tells, however late, is read at once.
    bed.change(9, |row| row.version = 1);
    let (ids, switched) = (vec![id(9)], false);
    bed.tell(Event::Changed { ids, switched });
    bed.run(S);
    assert!(bed.is_in_effect(id(9)));
    bed.tell(up(Gap::None));
    assert_eq!(bed.sweep.figures().rows_per_s, 0, "it rests");
    assert!(!bed.sweep.figures().is_stream_late);
    bed.run(10 * MIN);
    // Behind again.
    bed.tell(late());
    bed.change(10, |row| row.active = false);
    bed.change(11, |row| row.version = 1);
    bed.run(31 * S);
    assert!(bed.is_in_effect(id(10)));
    bed.run(269 * S);
    assert!(bed.is_in_effect(id(11)));
}

/// As where somebody writes a statement that rows do not tell, every minute.
#[test]
fn gaps_that_follow_each_other_are_closed_by_whole_passes_at_their_usual_pace() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    bed.run(S);
    for _ in 0..6 {
        bed.tell(up(Gap::Paced));
        bed.run(MIN);
        bed.change(7, |row| row.version += 1);
        bed.change(2_900, |row| row.version += 1);
        bed.tell(Event::StreamLost);
        for _ in 0..5 {
            bed.run(MIN);
            assert!(!bed.sweep.figures().is_hurried);
        }
    }
    // None begins anew with a stream, and none goes faster.
    let passes = bed.sweep.figures().passes;
    assert!((6..=7).contains(&passes), "{passes}");
    assert!(bed.in_statements_us * 20 <= bed.now.0);
    assert!(bed.latest_us[0] <= 300 * S, "{:?}", bed.latest_us);
    // The last one: a pass that was under way goes on, and another one follows. What broke and
    // went on is no gap, and leaves this one open.
    bed.run(2 * MIN);
    bed.change(7, |row| row.version += 1);
    bed.tell(up(Gap::Paced));
    bed.run(S);
    bed.tell(Event::StreamLost);
    bed.tell(up(Gap::None));
    bed.run(10 * MIN);
    assert!(bed.is_in_effect(id(7)));
    let (passes, tallies) = (bed.sweep.figures().passes, bed.count(is_tally));
    bed.run(10 * MIN);
    assert_eq!(bed.sweep.figures().passes, passes, "closed: it rests");
    assert_eq!(bed.count(is_tally), tallies + 20);
}

#[test]
fn a_pass_that_is_asked_for_sees_what_changed_before_whatever_is_under_way() {
    let mut bed = Bed::new(29_000, 300, NEAR);
    bed.run(10 * S);
    bed.tell(Event::Asked);
    let first = bed.sweep.newest_pass();
    let Next::Read(read) = bed.sweep.next(bed.now) else {
        panic!("at once")
    };
    bed.carry_out(&read);
    // This row was read a moment ago.
    bed.change(1, |row| row.version = 1);
    bed.tell(Event::Asked);
    let second = bed.sweep.newest_pass();
    assert!(second > first);
    while !bed.sweep.is_over(first) {
        bed.run(10_000);
    }
    assert!(!bed.sweep.is_over(second) && !bed.is_in_effect(id(1)));
    bed.run(S);
    assert!(bed.sweep.is_over(second) && bed.is_in_effect(id(1)));
    assert!(!bed.sweep.figures().is_hurried);
}

#[test]
fn ids_are_read_once_each_and_too_many_of_them_are_a_pass() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    let ids: Vec<TargetId> = (1..=200).chain(1..=200).map(id).collect();
    let switched = true;
    bed.tell(Event::Changed { ids, switched });
    assert_eq!(bed.sweep.figures().ids_waiting, 400);
    bed.run(S);
    let counts: Vec<usize> = bed
        .reads
        .iter()
        .filter_map(|(_, read)| match read {
            Read::Ids(ids) => Some(ids.len()),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [200, 144]);
    let passes = bed.sweep.figures().passes;
    let ids = vec![id(1); LEGACY_IDS_MAX];
    let switched = false;
    bed.tell(Event::Changed { ids, switched });
    assert_eq!(bed.sweep.figures().ids_waiting, LEGACY_IDS_MAX as u64);
    let ids = vec![id(2)];
    bed.tell(Event::Changed { ids, switched });
    assert_eq!(bed.sweep.figures().ids_waiting, 0);
    bed.run(S);
    assert_eq!(bed.count(is_ids), counts.len());
    assert_eq!(bed.sweep.figures().passes, passes + 1);
}

#[test]
fn what_cannot_be_read_is_read_later_and_ever_more_seldom() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    bed.change(5, |row| row.active = false);
    let (ids, switched) = (vec![id(5)], true);
    bed.tell(Event::Changed { ids, switched });
    let mut failures = Vec::new();
    while failures.len() < 9 {
        match bed.sweep.next(bed.now) {
            Next::At(at) => bed.now = at,
            Next::Reading => panic!("every reading is answered"),
            Next::Read(read) => {
                assert_eq!(read, Read::Ids(vec![id(5)]), "before all others");
                failures.push(bed.now.0 / S);
                bed.tell(Event::Failed);
            }
        }
    }
    let waits: Vec<u64> = failures.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    bed.run(66 * S);
    assert!(bed.is_in_effect(id(5)));
    assert!(bed.count(is_tally) > 1);
}

#[test]
fn slices_follow_each_other_to_the_end_and_begin_again() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    bed.run(45 * S);
    let slices = bed.reads.iter().filter_map(|(_, read)| match read {
        Read::Tally { first } => Some(*first),
        _ => None,
    });
    let expected = (0..10).chain(0..4).map(|slice| slice * 100);
    assert_eq!(slices.collect::<Vec<u16>>(), expected.collect::<Vec<u16>>());
    // Without buckets the rows are counted by id, once all are there.
    let mut sweep = Sweep::new(300);
    let loaded = Loaded {
        rows: 10,
        by_bucket: false,
        begun: MonoUs(0),
    };
    sweep.on(Event::Loaded(loaded), MonoUs(0));
    assert!(matches!(
        sweep.next(MonoUs(0)),
        Next::Read(Read::Page { .. })
    ));
    let (rows, next) = (10, None);
    sweep.on(Event::Done(Done::Page { rows, next }), MonoUs(100));
    assert_eq!(sweep.next(MonoUs(100)), Next::At(MonoUs(3 * S)));
    let count = Read::Count {
        after: None,
        limit: 2,
    };
    assert_eq!(sweep.next(MonoUs(3 * S)), Next::Read(count));
}
