//! The journal on a real file system: reopening, cutting, damage, budget, reading back.

use std::fs;
use std::path::Path;

use model::fact::{Batch, Fact};
use model::limits::APPLY_MAX_BYTES;
use proptest::prelude::*;
use tempfile::tempdir;

use super::{Journal, KEPT_MAX, Trouble};
use crate::testbed::{any_batches, target};

const LARGE: u64 = 1 << 30;

pub(super) fn open(directory: &Path, max_bytes: u64, floor: u64) -> (Journal, Vec<Batch>) {
    let mut found = Vec::new();
    let journal = Journal::open(directory, max_bytes, floor, |batch| found.push(batch));
    (journal.expect("opens"), found)
}

pub(super) fn batch(journal_seq: u64, facts: u32) -> Batch {
    let event = model::FactId::new(5).expect("positive");
    let fact = |fail_count| Fact::Counted {
        event,
        target: target(1),
        fail_count,
    };
    Batch {
        journal_seq,
        facts: (0..facts).map(fact).collect(),
    }
}

pub(super) fn commit(journal: &mut Journal, batches: &[Batch]) {
    let (durable, trouble) = journal.commit(batches.iter());
    assert!(trouble.is_none(), "{trouble:?}");
    assert_eq!(durable, batches.len());
}

pub(super) fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn reopening_gives_back_what_the_store_does_not_have() {
    let dir = tempdir().expect("a directory");
    let batches: Vec<Batch> = (1..=6).map(|seq| batch(seq, 3)).collect();
    let (mut journal, found) = open(dir.path(), LARGE, 0);
    assert_eq!((found.len(), journal.next_seq()), (0, 1));
    commit(&mut journal, &batches[..2]);
    commit(&mut journal, &batches[2..4]);
    drop(journal);
    let (mut journal, found) = open(dir.path(), LARGE, 1);
    assert_eq!(found, batches[1..4]);
    commit(&mut journal, &batches[4..]);
    drop(journal);
    let (journal, found) = open(dir.path(), LARGE, 4);
    assert_eq!(found, batches[4..]);
    assert_eq!((journal.next_seq(), journal.segments()), (7, 2));
}

#[test]
fn a_store_that_is_ahead_of_the_journal_sets_the_next_number() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), LARGE, 41);
    assert_eq!(journal.next_seq(), 42);
    commit(&mut journal, &[batch(42, 1)]);
    drop(journal);
    let (journal, found) = open(dir.path(), LARGE, 0);
    assert_eq!(
        (found.len(), journal.next_seq()),
        (1, 43),
        "a fresh store meets an old journal"
    );
}

#[test]
fn segments_close_when_full_and_go_when_the_store_has_them() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), 8 * 1_000, 0);
    (1..=12).for_each(|seq| commit(&mut journal, &[batch(seq, 100)]));
    assert!(journal.segments() >= 4, "{}", journal.segments());
    let on_disk: u64 = files(dir.path())
        .iter()
        .map(|f| fs::metadata(f).expect("f").len())
        .sum();
    assert_eq!(journal.bytes(), on_disk);
    assert!(journal.can_reclaim(6, false));
    journal.reclaim(6, false).expect("reclaimed");
    assert_eq!(journal.read(12, 1).expect("read"), [batch(12, 100)]);
    assert_eq!(files(dir.path()).len(), journal.segments());
    journal.reclaim(12, true).expect("reclaimed");
    assert_eq!((journal.segments(), files(dir.path()).len()), (0, 0));
    commit(&mut journal, &[batch(13, 1)]);
    assert_eq!(open(dir.path(), 8_000, 12).1, [batch(13, 1)]);
}

/// Commits batches of several sizes with the store up to date, and gives the journal to `look`
/// after each.
fn follow(journal: &mut Journal, numbers: std::ops::Range<u64>, mut look: impl FnMut(&Journal)) {
    for seq in numbers {
        commit(journal, &[batch(seq, 1 + seq as u32 * 7 % 23)]);
        journal.reclaim(seq, false).expect("reclaimed");
        look(journal);
    }
}

#[test]
fn what_the_store_has_is_kept_until_a_quarter_of_a_segment_is_behind_it() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), 8 * 2_000, 0);
    let mut went = false;
    follow(&mut journal, 1..200, |journal| {
        let oldest = journal.segments.front().expect("the one being written");
        went |= oldest.first_seq > 1;
        assert!(!went || journal.bytes() >= 500, "{journal:?}");
        assert!(journal.bytes() - oldest.bytes < 500, "{journal:?}");
    });
    assert!(went);
    // It is there for a store that lost it, at once and after a restart.
    let first = journal.next_held(1).expect("kept");
    let read = journal.read(first, 1).expect("read");
    assert_eq!(read, [batch(first, 1 + first as u32 * 7 % 23)]);
    let kept = (journal.bytes(), journal.segments());
    drop(journal);
    let (mut journal, found) = open(dir.path(), 8 * 2_000, first - 1);
    let numbers: Vec<u64> = found.iter().map(|batch| batch.journal_seq).collect();
    assert_eq!(numbers, (first..200).collect::<Vec<_>>());
    journal.reclaim(199, false).expect("reclaimed");
    assert_eq!((journal.bytes(), journal.segments()), kept);
    // Whoever needs the room, or ends in order, keeps nothing that the store has.
    journal.reclaim(first, true).expect("reclaimed");
    assert!(journal.next_held(1).is_some_and(|held| held <= first + 1));
    journal.reclaim(199, true).expect("reclaimed");
    assert_eq!((journal.bytes(), files(dir.path()).len()), (0, 0));
}

#[test]
fn restarts_leave_few_files_for_a_store_that_loses_commits() {
    let dir = tempdir().expect("a directory");
    for seq in 1..=40 {
        let (mut journal, found) = open(dir.path(), LARGE, seq - 1);
        assert_eq!(found, []);
        follow(&mut journal, seq..seq + 1, |_| {});
        assert_eq!(journal.segments() as u64, seq.min(KEPT_MAX as u64));
        assert_eq!(files(dir.path()).len(), journal.segments());
        let first = journal.next_held(1).expect("kept");
        assert_eq!(first, (seq + 1).saturating_sub(KEPT_MAX as u64).max(1));
    }
}

#[test]
fn a_used_up_budget_stops_writing_until_segments_go() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), 4_000, 0);
    let batches: Vec<Batch> = (1..=40).map(|seq| batch(seq, 20)).collect();
    let (durable, trouble) = journal.commit(batches.iter());
    assert!(matches!(trouble, Some(Trouble::Full)), "{trouble:?}");
    assert!(durable > 0 && durable < 40 && journal.bytes() <= 4_000);
    journal.reclaim(durable as u64, true).expect("reclaimed");
    let (more, _) = journal.commit(batches[durable..].iter());
    assert!(more > 0);
}

#[test]
fn a_batch_larger_than_the_budget_is_taken_when_nothing_else_is_there() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), 100, 0);
    commit(&mut journal, &[batch(1, 500)]);
    let next = [batch(2, 1)];
    let (durable, trouble) = journal.commit(next.iter());
    assert!(durable == 0 && matches!(trouble, Some(Trouble::Full)));
}

#[test]
fn batches_are_read_back_across_segments_in_order() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), 8 * 1_000, 0);
    (1..=12).for_each(|seq| commit(&mut journal, &[batch(seq, 50)]));
    let mut read = Vec::new();
    while read.len() < 12 {
        let next = journal.read(1 + read.len() as u64, 2).expect("read");
        assert!(!next.is_empty() && next.len() <= 2);
        read.extend(next);
    }
    let expected: Vec<Batch> = (1..=12).map(|seq| batch(seq, 50)).collect();
    assert_eq!(read, expected);
    assert_eq!(journal.read(13, 2).expect("read"), []);
    assert_eq!(journal.read(5, 1).expect("back again"), [batch(5, 50)]);
}

#[test]
fn large_batches_are_read_back_a_few_at_a_time() {
    let dir = tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path(), LARGE, 0);
    let batches: Vec<Batch> = (1..=5).map(|seq| batch(seq, 400_000)).collect();
    commit(&mut journal, &batches);
    let each = journal.bytes() as usize / batches.len();
    let read = journal.read(1, usize::MAX).expect("read");
    assert!((1..5).contains(&read.len()), "{each} B each");
    assert!(read.len() * each < APPLY_MAX_BYTES / 2 + each);
    // What is passed over on the way to the first one that is wanted does not count.
    journal.read(1, 1).expect("read");
    assert_eq!(journal.read(5, 1).expect("read"), batches[4..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn after_a_cut_anywhere_the_journal_opens_and_goes_on(
        batches in any_batches(),
        cut in any::<prop::sample::Index>(),
    ) {
        let dir = tempdir().expect("a directory");
        let first = batches.first().map_or(1, |batch| batch.journal_seq);
        let (mut journal, _) = open(dir.path(), LARGE, first - 1);
        commit(&mut journal, &batches);
        drop(journal);
        if let Some(file) = files(dir.path()).first() {
            let whole = fs::read(file).expect("read");
            fs::write(file, &whole[..cut.index(whole.len())]).expect("cut");
        }
        let (mut journal, found) = open(dir.path(), LARGE, first - 1);
        prop_assert_eq!(&found[..], &batches[..found.len()]);
        // What was lost is derived again, under the same number, and nothing is there twice.
        let next = batch(first + found.len() as u64, 2);
        prop_assert_eq!(journal.next_seq(), next.journal_seq);
        commit(&mut journal, std::slice::from_ref(&next));
        drop(journal);
        let mut expected = found;
        expected.push(next);
        prop_assert_eq!(open(dir.path(), LARGE, first - 1).1, expected);
    }
}
