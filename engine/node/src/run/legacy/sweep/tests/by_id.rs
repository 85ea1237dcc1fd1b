//! Tables that buckets do not cut: few of them, large ones, or none. Their rows are counted by id.

use model::ids::splitmix64;
use model::limits::LEGACY_PAGE_MAX;

use super::{Bed, Cost, MIN, NEAR, S, id, is_page, is_tally};
use crate::run::legacy::events::{Done, Event, Next, Read};

/// Lesson: rows in fewer than ten buckets were in no count, and waited for the sweep: 300 s.
#[test]
fn a_switch_is_in_effect_within_a_minute_and_no_count_is_one_of_the_table() {
    for rows in [1, 7, 99, 640, 3_000] {
        let mut bed = Bed::of(rows, 300, NEAR, |_| None);
        let mut random = (0u64..).map(|step| splitmix64(rows << 32 | step));
        let mut random = || random.next().expect("endless");
        for _ in 0..400 {
            // One comes where one goes: numbers stay as they are.
            for _ in 0..=random() % 2 {
                let raw = random() % rows + 1;
                bed.change(raw, |row| row.active = !row.active);
            }
            bed.run(random() % (4 * S));
        }
        bed.run(MIN);
        assert!(bed.owed.is_empty(), "{rows}: {:?}", bed.owed);
        let switched_us = bed.latest_us[1];
        assert!(switched_us <= MIN, "{rows}: {switched_us}");
        assert!(bed.in_statements_us * 20 <= bed.now.0, "{rows}");
        let tenth = (rows as usize + 1).div_ceil(10);
        assert!(bed.counted_max <= tenth, "{rows}: {}", bed.counted_max);
    }
}

/// Lesson: a bucket of more than 20,000 rows was a pass, once a minute: whoever was switched behind
/// one waited for the next, and for that to be over.
#[test]
fn a_row_among_many_is_found_with_a_page_and_in_time() {
    let rows = 200_000;
    let mut bed = Bed::of(rows, 300, NEAR, |_| None);
    bed.run(40 * S);
    let (pages, spent_us, begun) = (bed.count(is_page), bed.in_statements_us, bed.now);
    for step in 0..40 {
        bed.change(splitmix64(step) % rows + 1, |row| row.active = !row.active);
        bed.run(15 * S);
    }
    bed.run(MIN);
    assert!(bed.owed.is_empty(), "{:?}", bed.owed);
    let switched_us = bed.latest_us[1];
    assert!(switched_us <= 40 * S, "{switched_us}");
    assert_eq!(bed.counted_max, LEGACY_PAGE_MAX);
    let took_us = bed.now.since(begun);
    let spent_us = bed.in_statements_us - spent_us;
    assert!(spent_us * 20 <= took_us, "{spent_us} of {took_us}");
    // The sweep went on meanwhile, at its own pace.
    let swept = (bed.count(is_page) - pages) as u64;
    let planned = took_us / (3 * S);
    assert!(swept <= planned + 2, "{swept} pages, {planned} planned");
    let spans = bed.count(|read| matches!(read, Read::Span { .. }));
    assert!((30..=80).contains(&spans), "{spans} for 40 rows");
}

/// Rows that nobody knows of yet make a round no longer: what is behind them is read.
#[test]
fn a_table_that_grows_a_hundredfold_is_found_in_a_minute() {
    for few in [1, 50, 2_000] {
        let mut bed = Bed::of(100 * few, 300, NEAR, |_| None);
        for raw in few + 1..=100 * few {
            bed.table.get_mut(&id(raw)).expect("a row").active = false;
            bed.held.remove(&id(raw));
        }
        bed.run(2 * MIN);
        for raw in few + 1..=100 * few {
            bed.table.get_mut(&id(raw)).expect("a row").active = true;
        }
        bed.run(MIN);
        let held = bed.held.len() as u64;
        assert_eq!(held, 100 * few, "{few}");
    }
}

#[test]
fn where_counting_is_slow_a_round_takes_longer_and_the_pass_goes_on() {
    let slow = Cost {
        trip_us: 20_000,
        row_ns: 100_000,
    };
    let mut bed = Bed::of(100_000, 300, slow, |_| None);
    bed.run(10 * MIN);
    // Twenty counts in 48 s, instead of 30.
    let rounds = bed.count(is_tally) / 20;
    assert!((11..=13).contains(&rounds), "{rounds}");
    assert!(bed.count(is_page) >= 8);
}

/// A bucket that grew too large is a pass at once, not one after another; then rows are counted by
/// id.
#[test]
fn a_bucket_that_grows_too_large_is_one_pass() {
    let mut bed = Bed::new(3_000, 300, NEAR);
    let mut hurried = 0;
    while bed.now.0 < 125 * S {
        match bed.sweep.next(bed.now) {
            Next::At(at) => bed.now = at,
            Next::Reading => panic!("every reading is answered"),
            Next::Read(read @ Read::Tally { .. }) if bed.by_bucket => {
                let before = bed.sweep.newest_pass();
                let (differing, next) = (Vec::new(), None);
                let large = true;
                bed.reads.push((bed.now, read));
                bed.tell(Event::Done(Done::Tally {
                    differing,
                    large,
                    next,
                }));
                hurried += bed.sweep.newest_pass() - before;
            }
            Next::Read(read) => {
                let is_read = is_page(&read) && bed.sweep.figures().is_hurried;
                bed.carry_out(&read);
                bed.by_bucket &= !is_read;
                bed.sweep.set_table(3_000, bed.by_bucket);
            }
        }
    }
    assert_eq!(hurried, 1);
    assert!(bed.count(|read| matches!(read, Read::Count { .. })) > 30);
}
