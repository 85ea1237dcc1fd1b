//! Opening the journal after whatever happened: a torn end is cut off, damage is reported unless
//! the store, or the next segment, has everything that it could have hit. Facts of a segment that
//! somebody moved away are named and given up.

use std::fs;
use std::io::Read;
use std::path::Path;

use model::fact::Batch;

use super::disk::{Disk, RealDisk};
use super::record::{End, Format, SEGMENT_HEADER, VERSION, parse_segment_header, walk};
use super::segment::{Segment, cut, failed, list, path_of};
use super::{Journal, segment_max_bytes};
use crate::error::PersistError;
use crate::failpoint;

/// A journal on its way to be open, a segment at a time: whoever opens a long one has other things
/// to do in between.
pub(crate) struct Opening {
    journal: Journal,
    floor: u64,
    before: Before,
    /// Files that were not read yet.
    files: std::vec::IntoIter<u64>,
}

impl Opening {
    /// Begins to open the journal in `directory`, which is made if need be. `floor` is the number
    /// of the last batch that the store has. New batches go into a new segment.
    ///
    /// # Errors
    /// [`PersistError::JournalIo`].
    pub(crate) fn of(directory: &Path, max_bytes: u64, floor: u64) -> Result<Self, PersistError> {
        Self::on(Box::new(RealDisk), directory, max_bytes, floor)
    }

    /// The same on any disk.
    pub(super) fn on(
        disk: Box<dyn Disk>,
        directory: &Path,
        max_bytes: u64,
        floor: u64,
    ) -> Result<Self, PersistError> {
        fs::create_dir_all(directory).map_err(failed(directory, "creating the directory"))?;
        let numbers = list(directory)?;
        if numbers.is_empty() {
            // Segments that are to come are no safer than the name of the directory itself.
            let outer = directory.parent().unwrap_or(directory);
            disk.sync_directory(outer)
                .map_err(failed(outer, "syncing the directory"))?;
        }
        let journal = Journal {
            disk,
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
        Ok(Self {
            journal,
            floor,
            before: Before::default(),
            files: numbers.into_iter(),
        })
    }

    /// Reads the next segment: batches that the store does not have are given to `visit` in order.
    /// `false` when there is none left.
    ///
    /// # Errors
    /// [`PersistError::JournalIo`]; [`PersistError::JournalDamaged`], [`PersistError::JournalGap`]
    /// and [`PersistError::JournalVersion`] when batches that the store does not have are damaged,
    /// missing although no file is, or written by another release.
    pub(crate) fn read_next(
        &mut self,
        visit: &mut impl FnMut(Batch),
    ) -> Result<bool, PersistError> {
        let Some(number) = self.files.next() else {
            return Ok(false);
        };
        let segment = self.journal.load(number, self.floor, self.before, visit)?;
        self.before.file = Some(number);
        if let Some(segment) = segment {
            self.before.last_seq = self.before.last_seq.max(Some(segment.last_seq));
            self.journal.segments.push_back(segment);
        }
        Ok(true)
    }

    /// The journal, once every segment is read.
    pub(crate) fn finish(mut self) -> Journal {
        debug_assert!(self.files.as_slice().is_empty(), "every segment is read");
        self.journal.next_seq = self.before.known(self.floor) + 1;
        if let Some(last) = self.before.file {
            // A torn file that is gone leaves its name to the next one.
            self.journal.give_back(last);
        }
        self.journal
    }
}

impl Journal {
    /// Opens a journal in one go.
    #[cfg(test)]
    pub(crate) fn open(
        directory: &Path,
        max_bytes: u64,
        floor: u64,
        visit: impl FnMut(Batch),
    ) -> Result<Self, PersistError> {
        Self::open_on(Box::new(RealDisk), directory, max_bytes, floor, visit)
    }

    /// The same on any disk.
    #[cfg(test)]
    pub(super) fn open_on(
        disk: Box<dyn Disk>,
        directory: &Path,
        max_bytes: u64,
        floor: u64,
        mut visit: impl FnMut(Batch),
    ) -> Result<Self, PersistError> {
        let mut opening = Opening::on(disk, directory, max_bytes, floor)?;
        while opening.read_next(&mut visit)? {}
        Ok(opening.finish())
    }

    /// Reads one segment; `None` when nothing of it is left.
    fn load(
        &self,
        number: u64,
        floor: u64,
        before: Before,
        visit: &mut impl FnMut(Batch),
    ) -> Result<Option<Segment>, PersistError> {
        let path = path_of(&self.directory, number);
        let bytes = fs::read(&path).map_err(failed(&path, "reading a segment"))?;
        let (format, first_seq) = parse_segment_header(&bytes).unwrap_or((Format::Current, 0));
        let known = before.known(floor);
        if first_seq > known + 1 {
            if !before.explains_a_gap(number) {
                return Err(PersistError::JournalGap {
                    before: path_of(&self.directory, number - 1),
                    after: path,
                    first: known + 1,
                    last: first_seq - 1,
                });
            }
            tracing::error!(first = known + 1, last = first_seq - 1, segment = %path.display(),
                "facts with these journal numbers are neither in the store nor in the journal: \
                 a segment was moved away, or the store is a new one; going on without them");
        }
        let mut segment = Segment {
            number,
            format,
            first_seq,
            last_seq: 0,
            bytes: bytes.len() as u64,
        };
        let (last_seq, end) = walk(&bytes, known, &mut *visit);
        segment.last_seq = last_seq;
        self.settle(&mut segment, end, floor, known)?;
        Ok((segment.bytes > 0).then_some(segment))
    }

    /// Makes sure of what was read: it is durable, a torn end is gone, and damage has hit nothing
    /// that the store needs.
    fn settle(
        &self,
        segment: &mut Segment,
        end: End,
        floor: u64,
        known: u64,
    ) -> Result<(), PersistError> {
        let path = path_of(&self.directory, segment.number);
        let needed = segment.last_seq.max(known) + 1;
        let next = self.first_seq_of(segment.number + 1);
        // Facts of this file that the store lacks go with it, also those that can be read.
        let first = match segment.first_seq {
            0 => needed,
            first_seq => first_seq.max(floor + 1).min(needed),
        };
        let lost = |offset| PersistError::JournalDamaged {
            segment: path.clone(),
            offset,
            first,
            last: next.map(|next| next - 1),
        };
        match end {
            End::Whole if segment.last_seq > floor => {
                // A process that was killed may have written this without syncing it: memory and
                // the store must not run ahead of what a power failure would leave.
                let synced = self.disk.sync(&path);
                synced.map_err(failed(&path, "syncing a segment"))?;
            }
            End::Whole => {}
            // Only the last write can be torn: facts that the next file goes on from were synced.
            End::Torn(at) if needed > 1 && next.is_some_and(|next| next > needed) => {
                return Err(lost(at));
            }
            End::Torn(at) => self.cut_torn(segment, at)?,
            // After a failed write the next file begins with the facts of that write.
            End::Damaged(offset) if next.is_some_and(|next| next <= needed) => {
                tracing::warn!(segment = %path.display(), offset,
                    "a journal segment is damaged; the store, or the next segment, has its facts");
            }
            End::OtherVersion(version) if next.is_some_and(|next| next <= needed) => {
                tracing::warn!(segment = %path.display(), version,
                    "a journal segment is of another release; the store has all of its facts");
            }
            End::Damaged(offset) => return Err(lost(offset)),
            End::OtherVersion(found) => {
                return Err(PersistError::JournalVersion {
                    segment: path,
                    found,
                    known: VERSION,
                });
            }
        }
        Ok(())
    }

    /// Removes what a write left that never ended; nobody was told that it was there.
    fn cut_torn(&self, segment: &mut Segment, at: u64) -> Result<(), PersistError> {
        let path = path_of(&self.directory, segment.number);
        let at = if at as usize <= SEGMENT_HEADER { 0 } else { at };
        tracing::info!(segment = %path.display(), offset = at, bytes = segment.bytes - at,
            "the last write to the journal was incomplete and is cut off");
        failpoint::pass("cut.before");
        cut(&*self.disk, &self.directory, segment.number, at)
            .map_err(failed(&path, "cutting a torn end"))?;
        failpoint::pass("cut.after");
        segment.bytes = at;
        Ok(())
    }

    /// The first journal number of segment `number`, if there is such a file.
    fn first_seq_of(&self, number: u64) -> Option<u64> {
        let mut header = [0; SEGMENT_HEADER];
        let mut file = fs::File::open(path_of(&self.directory, number)).ok()?;
        file.read_exact(&mut header).ok()?;
        parse_segment_header(&header).map(|(_, first_seq)| first_seq)
    }
}

/// What lies before the segment that is read next.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// Number of the file.
    file: Option<u64>,
    /// Highest journal number so far.
    last_seq: Option<u64>,
}

impl Before {
    /// Facts up to this number are accounted for.
    fn known(self, floor: u64) -> u64 {
        self.last_seq.unwrap_or(0).max(floor)
    }

    /// Whether facts may be missing before the file `number`: nothing is known below the first
    /// segment (a fresh store may meet an old journal), and where a file is missing somebody moved
    /// it away, as the error about a damaged one says.
    fn explains_a_gap(self, number: u64) -> bool {
        self.last_seq.is_none() || self.file.is_none_or(|before| before + 1 < number)
    }
}
