//! The journal on a real file system: reopening, cutting, damage, budget, reading back.

use std::fs;
use std::path::Path;

use model::fact::{Batch, Fact};
use proptest::prelude::*;
use tempfile::tempdir;

use super::{Journal, Trouble};
use crate::error::PersistError;
use crate::testbed::{any_batches, flip_bit, target};

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

fn commit(journal: &mut Journal, batches: &[Batch]) {
    let (durable, trouble) = journal.commit(batches.iter());
    assert!(trouble.is_none(), "{trouble:?}");
    assert_eq!(durable, batches.len());
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
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

/// Three segments of one batch each.
fn three_segments(directory: &Path) -> Vec<std::path::PathBuf> {
    for seq in 1..=3 {
        let (mut journal, _) = open(directory, LARGE, 0);
        commit(&mut journal, &[batch(seq, 9)]);
    }
    files(directory)
}

fn refused(directory: &Path) -> PersistError {
    Journal::open(directory, LARGE, 0, |_| {}).expect_err("refused")
}

#[test]
fn numbers_that_are_missing_between_two_neighbours_are_reported() {
    let dir = tempdir().expect("a directory");
    let files = three_segments(dir.path());
    fs::rename(&files[2], &files[1]).expect("renamed");
    let error = refused(dir.path());
    assert!(
        matches!(error, PersistError::JournalDamaged { journal_seq: 2, .. }),
        "{error}"
    );
    assert_eq!(open(dir.path(), LARGE, 2).1, [batch(3, 9)]);
}

#[test]
fn an_emptied_segment_in_the_middle_is_reported_at_every_start_until_it_is_moved_away() {
    let dir = tempdir().expect("a directory");
    let files = three_segments(dir.path());
    fs::write(&files[1], "").expect("emptied");
    for _ in 0..2 {
        let said = refused(dir.path()).to_string();
        assert!(
            said.contains(&format!("{}:0", files[1].display())),
            "{said}"
        );
    }
    fs::rename(&files[1], dir.path().join("aside")).expect("moved");
    assert_eq!(open(dir.path(), LARGE, 0).1, [batch(1, 9), batch(3, 9)]);
}

#[test]
fn what_was_behind_a_gap_is_read_back() {
    let dir = tempdir().expect("a directory");
    let files = three_segments(dir.path());
    fs::remove_file(&files[1]).expect("moved away");
    let (mut journal, found) = open(dir.path(), LARGE, 0);
    assert_eq!(found, [batch(1, 9), batch(3, 9)]);
    assert_eq!(
        (journal.read(2, 8).expect("read"), journal.next_held(2)),
        (vec![], Some(3))
    );
    assert_eq!(
        (journal.next_held(1), journal.next_held(4)),
        (Some(1), None)
    );
    assert_eq!(journal.read(3, 8).expect("read"), [batch(3, 9)]);
    commit(&mut journal, &[batch(4, 1)]);
}

#[test]
fn damage_that_the_store_has_behind_it_does_not_stop_a_start() {
    let dir = tempdir().expect("a directory");
    for seq in 1..=2 {
        let (mut journal, _) = open(dir.path(), LARGE, 0);
        commit(&mut journal, &[batch(seq, 9)]);
    }
    let first = &files(dir.path())[0];
    let mut bytes = fs::read(first).expect("read");
    let middle = bytes.len() * 4;
    flip_bit(&mut bytes, middle);
    fs::write(first, bytes).expect("written");
    let error = Journal::open(dir.path(), LARGE, 0, |_| {}).expect_err("damaged");
    let said = error.to_string();
    assert!(said.contains(&format!("{}:20", first.display())), "{said}");
    assert_eq!(open(dir.path(), LARGE, 1).1, [batch(2, 9)]);
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
