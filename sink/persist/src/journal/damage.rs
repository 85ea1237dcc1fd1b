//! A journal whose files were damaged while nobody looked: every bit, every length, every segment.
//! What is not whole is found at the start, and said with what is lost and what to do.

use std::fs;
use std::path::{Path, PathBuf};

use model::fact::Batch;

use super::record::VERSION;
use super::tests::{batch, commit, files, open};
use super::{Journal, record};
use crate::error::PersistError;
use crate::testbed::{Heard, flip_bit, folder};

const LARGE: u64 = 1 << 30;
/// Of a record's header, what its own checksum covers, and that.
const CHECKED_BYTES: usize = 16;

/// Three segments of one batch each.
fn three_segments(directory: &Path) -> Vec<PathBuf> {
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
    let dir = folder();
    let files = three_segments(dir.path());
    fs::rename(&files[2], &files[1]).expect("renamed");
    let error = refused(dir.path());
    assert!(
        matches!(&error, PersistError::JournalGap { before, first: 2, last: 2, .. }
            if *before == files[0]),
        "{error}"
    );
    assert_eq!(open(dir.path(), LARGE, 2).1, [batch(3, 9)]);
}

#[test]
fn an_emptied_segment_in_the_middle_is_reported_at_every_start_until_it_is_moved_away() {
    let dir = folder();
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
    let dir = folder();
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
    let dir = folder();
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
fn every_flipped_bit_is_found_with_its_record_and_costs_what_its_file_still_had() {
    let dir = folder();
    for seqs in [&[1, 2, 3][..], &[4]] {
        let (mut journal, _) = open(dir.path(), LARGE, 0);
        for &seq in seqs {
            commit(&mut journal, &[batch(seq, 1)]);
        }
    }
    let file = files(dir.path())[0].clone();
    let whole = fs::read(&file).expect("read");
    let record = (whole.len() - record::SEGMENT_HEADER) / 3;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        flip_bit(&mut bytes, bit);
        fs::write(&file, bytes).expect("written");
        let at = (bit / 8).checked_sub(record::SEGMENT_HEADER);
        let start = at.map_or(0, |at| record::SEGMENT_HEADER + at / record * record);
        let said = refused(dir.path()).to_string();
        assert!(
            said.contains(&format!("{}:{start}: ", file.display())),
            "{bit}: {said}"
        );
        assert!(
            said.contains("its facts number 1 to 3, which are not"),
            "{bit}: {said}"
        );
        assert_eq!(open(dir.path(), LARGE, 3).1, [batch(4, 1)], "{bit}");
        // The store has the first two: then only their headers count, which lead to the third.
        let of_contents = at.is_some_and(|at| at < 2 * record && at % record >= CHECKED_BYTES);
        match tried(dir.path(), 2) {
            Ok(found) => assert!(of_contents && found == [batch(3, 1), batch(4, 1)], "{bit}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!of_contents, "{bit}: {said}");
                assert!(
                    said.contains("its facts number 3, which are not"),
                    "{bit}: {said}"
                );
            }
        }
    }
    fs::remove_file(&file).expect("moved away");
    assert_eq!(open(dir.path(), LARGE, 0).1, [batch(4, 1)]);
}

/// Opens, or says why not.
fn tried(directory: &Path, floor: u64) -> Result<Vec<Batch>, PersistError> {
    let mut found = Vec::new();
    Journal::open(directory, LARGE, floor, |batch| found.push(batch)).map(|_| found)
}

#[test]
fn a_last_segment_of_any_length_opens_with_what_is_whole() {
    let dir = folder();
    let (mut journal, _) = open(dir.path(), LARGE, 0);
    (1..=3).for_each(|seq| commit(&mut journal, &[batch(seq, 2)]));
    let file = files(dir.path())[0].clone();
    let whole = fs::read(&file).expect("read");
    let record = (whole.len() - record::SEGMENT_HEADER) / 3;
    for length in 0..=whole.len() {
        fs::write(&file, &whole[..length]).expect("cut");
        let kept = length.saturating_sub(record::SEGMENT_HEADER) / record;
        let found = tried(dir.path(), 0).expect("opens");
        let expected: Vec<Batch> = (1..=kept as u64).map(|seq| batch(seq, 2)).collect();
        assert_eq!(found, expected, "{length}");
    }
}

#[test]
fn a_segment_in_the_middle_that_was_cut_anywhere_is_named_with_the_facts_that_are_gone() {
    for length in 0.. {
        let dir = folder();
        let files = three_segments(dir.path());
        let whole = fs::read(&files[1]).expect("read");
        if length == whole.len() {
            break;
        }
        fs::write(&files[1], &whole[..length]).expect("cut");
        let said = refused(dir.path()).to_string();
        assert!(
            said.contains(&files[1].display().to_string()),
            "{length}: {said}"
        );
        assert!(
            said.contains("number 2, which are not in the store yet"),
            "{length}: {said}"
        );
        assert_eq!(
            tried(dir.path(), 2).expect("the store has it"),
            [batch(3, 9)],
            "{length}"
        );
    }
}

#[test]
fn a_segment_that_ends_too_early_after_a_whole_record_is_the_one_to_restore() {
    let dir = folder();
    let (mut journal, _) = open(dir.path(), LARGE, 0);
    (1..=3).for_each(|seq| commit(&mut journal, &[batch(seq, 2)]));
    drop(journal);
    let (mut journal, _) = open(dir.path(), LARGE, 0);
    commit(&mut journal, &[batch(4, 2)]);
    let files = files(dir.path());
    let whole = fs::read(&files[0]).expect("read");
    let record = (whole.len() - record::SEGMENT_HEADER) / 3;
    fs::write(&files[0], &whole[..record::SEGMENT_HEADER + record]).expect("cut");
    let error = refused(dir.path());
    assert!(
        matches!(&error, PersistError::JournalGap { before, after, first: 2, last: 3 }
            if *before == files[0] && *after == files[1]),
        "{error}"
    );
    let said = error.to_string();
    assert!(
        said.contains("facts number 2 to 3, which are not in the store yet"),
        "{said}"
    );
    assert_eq!(
        tried(dir.path(), 3).expect("the store has them"),
        [batch(4, 2)]
    );
    fs::remove_file(&files[0]).expect("moved away");
    assert_eq!(tried(dir.path(), 0).expect("starts"), [batch(4, 2)]);
}

/// What a start said at the level ERROR.
fn errors_of_a_start(directory: &Path) -> Vec<String> {
    Heard::during(|| drop(open(directory, LARGE, 0)), "ERROR")
}

#[test]
fn a_segment_that_is_gone_is_said_with_its_numbers_and_stops_nothing() {
    for (gone, numbers) in [(0, "first=1 last=1"), (1, "first=2 last=2")] {
        let dir = folder();
        let files: Vec<PathBuf> = three_segments(dir.path());
        fs::remove_file(&files[gone]).expect("removed");
        let said = errors_of_a_start(dir.path());
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains(numbers), "{said:#?}");
        assert!(said[0].contains("a segment was moved away"), "{said:#?}");
    }
}

#[test]
fn a_segment_of_another_release_is_named_with_both_formats() {
    let dir = folder();
    let files = three_segments(dir.path());
    for (at, first_seq) in [(2, 3), (1, 2)] {
        let mut bytes = fs::read(&files[at]).expect("read");
        bytes[..record::SEGMENT_HEADER].copy_from_slice(&record::header_of(7, first_seq));
        fs::write(&files[at], bytes).expect("written");
        let error = refused(dir.path());
        assert!(
            matches!(&error, PersistError::JournalVersion { segment, found: 7, known: VERSION }
                if *segment == files[at]),
            "{error}"
        );
        let said = error.to_string();
        assert!(said.contains("start the release that wrote it"), "{said}");
    }
    fs::remove_file(&files[2]).expect("moved away");
    let said = refused(dir.path()).to_string();
    assert!(
        said.contains("000000000002.journal is of format 7"),
        "{said}"
    );
}

#[test]
fn what_a_failed_write_left_is_no_damage_when_the_next_segment_has_it() {
    let dir = folder();
    let files = three_segments(dir.path());
    let mut bytes = fs::read(&files[0]).expect("read");
    let end = bytes.len();
    record::encode(&batch(2, 9), &mut bytes).expect("encodes");
    bytes[end + 30] ^= 0x40;
    fs::write(&files[0], bytes).expect("written");
    assert_eq!(
        tried(dir.path(), 0).expect("opens"),
        [batch(1, 9), batch(2, 9), batch(3, 9)]
    );
}
