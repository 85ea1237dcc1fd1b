//! Opening the journal after whatever happened: a torn end is cut off, damage is reported unless
//! the store has everything that it could have hit.

use std::fs;
use std::path::Path;

use model::fact::Batch;

use super::record::{End, SEGMENT_HEADER, parse_segment_header, walk};
use super::segment::{Segment, cut, failed, list, path_of};
use super::{Journal, segment_max_bytes};
use crate::error::PersistError;

impl Journal {
    /// Opens the journal in `directory`, which is made if need be. `floor` is the number of the
    /// last batch that the store has; later ones are given to `visit` in order. New batches go
    /// into a new segment.
    ///
    /// # Errors
    /// [`PersistError::JournalIo`], and [`PersistError::JournalDamaged`] when batches that the
    /// store does not have are damaged or missing in the middle.
    pub(crate) fn open(
        directory: &Path,
        max_bytes: u64,
        floor: u64,
        mut visit: impl FnMut(Batch),
    ) -> Result<Self, PersistError> {
        fs::create_dir_all(directory).map_err(failed(directory, "creating the directory"))?;
        let numbers = list(directory)?;
        let mut journal = Self {
            directory: directory.to_owned(),
            max_bytes,
            segment_max_bytes: segment_max_bytes(max_bytes),
            segments: std::collections::VecDeque::new(),
            file: None,
            next_number: numbers.last().map_or(1, |number| number + 1),
            next_seq: 1,
            cursor: None,
            syncs: 0,
        };
        // Nothing is known below the first segment: a fresh store may meet an old journal.
        let mut last: Option<u64> = None;
        for &number in &numbers {
            if let Some(segment) = journal.load(number, floor, last, &mut visit)? {
                last = Some(segment.last_seq.max(last.unwrap_or(0)));
                journal.segments.push_back(segment);
            }
        }
        journal.next_seq = last.unwrap_or(0).max(floor) + 1;
        Ok(journal)
    }

    /// Reads one segment; `None` when nothing of it is left.
    fn load(
        &self,
        number: u64,
        floor: u64,
        last: Option<u64>,
        visit: &mut impl FnMut(Batch),
    ) -> Result<Option<Segment>, PersistError> {
        let path = path_of(&self.directory, number);
        let bytes = fs::read(&path).map_err(failed(&path, "reading a segment"))?;
        let first_seq = parse_segment_header(&bytes).unwrap_or(0);
        let mut segment = Segment {
            number,
            first_seq,
            last_seq: first_seq.saturating_sub(1),
            bytes: 0,
        };
        let known = last.map_or(floor, |last| last.max(floor));
        let damaged = |offset, journal_seq| PersistError::JournalDamaged {
            segment: path.clone(),
            offset,
            journal_seq,
        };
        if last.is_some() && first_seq > known + 1 {
            return Err(damaged(0, known + 1));
        }
        let end = walk(&bytes, |batch| {
            segment.last_seq = batch.journal_seq;
            if batch.journal_seq > known {
                visit(batch);
            }
        });
        match end {
            End::Whole => segment.bytes = bytes.len() as u64,
            End::Torn(at) => {
                let at = if at as usize <= SEGMENT_HEADER { 0 } else { at };
                let cut_bytes = bytes.len() as u64 - at;
                tracing::info!(segment = %path.display(), offset = at, bytes = cut_bytes,
                    "the last write to the journal was incomplete and is cut off");
                cut(&self.directory, number, at).map_err(failed(&path, "cutting a torn end"))?;
                segment.bytes = at;
            }
            End::Damaged(offset) if self.is_all_applied(number, floor) => {
                tracing::warn!(segment = %path.display(), offset,
                    "a journal segment is damaged; the store has all of its facts");
                segment.bytes = bytes.len() as u64;
            }
            End::Damaged(offset) => return Err(damaged(offset, segment.last_seq.max(known) + 1)),
        }
        Ok((segment.bytes > 0).then_some(segment))
    }

    /// Whether the next segment starts at or below what the store needs next: then everything in
    /// this one is in the store.
    fn is_all_applied(&self, number: u64, floor: u64) -> bool {
        let next = fs::read(path_of(&self.directory, number + 1));
        next.ok()
            .and_then(|bytes| parse_segment_header(&bytes))
            .is_some_and(|first_seq| first_seq <= floor + 1)
    }
}
