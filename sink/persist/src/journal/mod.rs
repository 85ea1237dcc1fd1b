//! The write-ahead journal: batches of facts in numbered segment files, durable before anything
//! else happens with them, gone once the store has them for good.
//!
//! It must not know what the facts mean. It blocks while it writes: that is the one wait of the
//! sink's loop, and results wait in the channels meanwhile.

mod disk;
mod earlier;
mod open;
mod record;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use model::fact::Batch;
use model::limits::JOURNAL_SEGMENT_MAX_BYTES;

use crate::error::PersistError;
use crate::failpoint;
use disk::{Appended, Disk};
pub(crate) use open::Opening;
use record::{Format, SEGMENT_HEADER};
pub(crate) use record::{encode, segment_header, walk};
use segment::{Cursor, Segment, create, cut, failed, path_of, read_back};

#[cfg(test)]
pub(crate) use record::{RECORD_HEADER, SEGMENT_HEADER as HEADER_BYTES};

/// Bytes of one write and its sync at most, but for a batch that is larger: what a long trouble
/// left waiting is not encoded all at once.
const WRITE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Segments kept for a store that loses its last commits, at most: restarts leave small ones.
const KEPT_MAX: usize = 8;

/// The journal, open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Box<dyn Disk>,
    directory: PathBuf,
    max_bytes: u64,
    segment_max_bytes: u64,
    /// Oldest first. The last one is being written when `file` is there.
    segments: VecDeque<Segment>,
    file: Option<Box<dyn Appended>>,
    next_number: u64,
    /// Number of the next batch.
    next_seq: u64,
    cursor: Option<Cursor>,
    syncs: u64,
}

/// Why a commit did not write everything.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk budget is used up by facts that the store does not have yet.
    Full,
    /// The disk said no; the next commit starts a new segment.
    Disk(PersistError),
}

impl Journal {
    /// Number that the next batch must carry.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Number of the last batch that is durable, 0 = none ever was.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// What they may take together.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// How many segments there are.
    pub(crate) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// How often it was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Writes `batches`, numbered from [`Journal::next_seq`] without gaps, and syncs them. Returns
    /// how many of them are durable now, and why it is not all of them.
    pub(crate) fn commit<'b>(
        &mut self,
        batches: impl Iterator<Item = &'b Batch>,
    ) -> (usize, Option<Trouble>) {
        let mut done = 0;
        let mut batches = batches.peekable();
        let mut buffer = Vec::new();
        while batches.peek().is_some() {
            buffer.clear();
            match self.fill(&mut batches, &mut buffer) {
                Ok(0) => return (done, Some(Trouble::Full)),
                Ok(count) => match self.write(&buffer, count) {
                    Ok(()) => done += count,
                    Err(error) => return (done, Some(Trouble::Disk(error))),
                },
                Err(error) => return (done, Some(Trouble::Disk(error))),
            }
        }
        (done, None)
    }

    /// Encodes as many batches as one write, one segment and the budget take; at least one goes
    /// into a journal that is otherwise empty, else a small budget would never take a large batch.
    fn fill<'b>(
        &self,
        batches: &mut std::iter::Peekable<impl Iterator<Item = &'b Batch>>,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, PersistError> {
        let room = self
            .max_bytes
            .saturating_sub(self.bytes() + SEGMENT_HEADER as u64);
        let empty = self
            .segments
            .iter()
            .all(|segment| segment.last_seq < segment.first_seq);
        let longest = self.segment_max_bytes.min(WRITE_MAX_BYTES);
        let mut count = 0;
        while let Some(batch) = batches.peek() {
            debug_assert_eq!(batch.journal_seq, self.next_seq + count as u64);
            let before = buffer.len();
            encode(batch, buffer).map_err(PersistError::Encode)?;
            let fits = buffer.len() as u64 <= room || (empty && count == 0);
            if !fits || (count > 0 && buffer.len() as u64 > longest) {
                buffer.truncate(before);
                break;
            }
            batches.next();
            count += 1;
        }
        Ok(count)
    }

    fn write(&mut self, buffer: &[u8], count: usize) -> Result<(), PersistError> {
        self.make_room(buffer.len() as u64)?;
        let (Some(file), Some(current)) = (&mut self.file, self.segments.back_mut()) else {
            return Err(failed(&self.directory, "writing")(io::Error::other(
                "no segment is open",
            )));
        };
        failpoint::pass("append.before");
        let written = file.append(buffer).and_then(|()| {
            failpoint::pass("append.after");
            failpoint::pass("sync.before");
            file.sync()
        });
        if let Err(error) = written {
            let path = path_of(&self.directory, current.number);
            self.abandon();
            return Err(failed(&path, "writing and syncing")(error));
        }
        failpoint::pass("sync.after");
        current.bytes += buffer.len() as u64;
        current.last_seq += count as u64;
        self.next_seq += count as u64;
        self.syncs += 1;
        Ok(())
    }

    /// After a failed write or sync nobody knows what is on the disk, and a second sync of the
    /// same file may lie: it is cut back as far as possible, and writing goes on in a new one.
    /// What could not be cut away is the same batch again and is skipped when read.
    fn abandon(&mut self) {
        self.file = None;
        let Some(current) = self.segments.back() else {
            return;
        };
        let whole = if current.last_seq < current.first_seq {
            0
        } else {
            current.bytes
        };
        if let Err(error) = cut(&*self.disk, &self.directory, current.number, whole) {
            tracing::warn!(%error, "a journal segment could not be cut back after a failed write");
        }
        if whole == 0
            && let Some(gone) = self.segments.pop_back()
        {
            self.give_back(gone.number);
        }
    }

    /// A number without a file is used again: a number that is missing means that somebody moved a
    /// file away.
    fn give_back(&mut self, number: u64) {
        let is_gone = matches!(path_of(&self.directory, number).try_exists(), Ok(false));
        if is_gone && number + 1 == self.next_number {
            self.next_number = number;
        }
    }

    /// Opens a new segment when none is open, or the open one is full.
    fn make_room(&mut self, length: u64) -> Result<(), PersistError> {
        let full = self.segments.back().is_some_and(|current| {
            current.last_seq >= current.first_seq && current.bytes + length > self.segment_max_bytes
        });
        if self.file.is_some() && !full {
            return Ok(());
        }
        self.start_segment()
    }

    fn start_segment(&mut self) -> Result<(), PersistError> {
        let number = self.next_number;
        let path = path_of(&self.directory, number);
        self.file = None;
        self.next_number += 1;
        failpoint::pass("segment.before");
        let header = segment_header(self.next_seq);
        let made = create(&*self.disk, &self.directory, number).and_then(|mut file| {
            file.append(&header)?;
            Ok(file)
        });
        failpoint::pass("segment.after");
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // What is left of ours is read as a torn segment; a file of somebody else stays.
                if error.kind() != io::ErrorKind::AlreadyExists {
                    let _ = cut(&*self.disk, &self.directory, number, 0);
                    self.give_back(number);
                }
                return Err(failed(&path, "starting a segment")(error));
            }
        };
        self.file = Some(file);
        self.segments.push_back(Segment {
            number,
            format: Format::Current,
            first_seq: self.next_seq,
            last_seq: self.next_seq - 1,
            bytes: SEGMENT_HEADER as u64,
        });
        Ok(())
    }

    /// Whether files could go if everything up to `applied` were safe in the store.
    pub(crate) fn can_reclaim(&self, applied: u64, eagerly: bool) -> bool {
        self.segments
            .front()
            .is_some_and(|oldest| oldest.last_seq <= applied && self.may_go(oldest, eagerly))
    }

    /// Removes segments whose batches are all at or below `durable`: where the ones after them
    /// hold enough for a store that loses its last commits, or `eagerly` every one that has a
    /// batch.
    pub(crate) fn reclaim(&mut self, durable: u64, eagerly: bool) -> Result<(), PersistError> {
        if !self.can_reclaim(durable, eagerly) {
            return Ok(());
        }
        failpoint::pass("reclaim.before");
        while let Some(segment) = self.segments.front() {
            if segment.last_seq > durable || !self.may_go(segment, eagerly) {
                break;
            }
            let path = path_of(&self.directory, segment.number);
            if self.segments.len() == 1 {
                self.file = None;
            }
            self.disk
                .remove(&path)
                .map_err(failed(&path, "removing an applied segment"))?;
            self.segments.pop_front();
        }
        self.disk
            .sync_directory(&self.directory)
            .map_err(failed(&self.directory, "syncing the directory"))?;
        failpoint::pass("reclaim.after");
        Ok(())
    }

    /// Whether the oldest segment is not needed even if the store loses its last commits.
    fn may_go(&self, oldest: &Segment, eagerly: bool) -> bool {
        let is_closed = self.segments.len() > 1 || self.file.is_none();
        let has_batches = oldest.last_seq >= oldest.first_seq;
        let kept = self.bytes() - oldest.bytes;
        (eagerly && (is_closed || has_batches))
            || kept >= self.segment_max_bytes / 4
            || self.segments.len() > KEPT_MAX
    }

    /// The first number from `from` on that it has.
    pub(crate) fn next_held(&self, from: u64) -> Option<u64> {
        let mut held = self
            .segments
            .iter()
            .filter(|it| it.last_seq >= it.first_seq);
        let segment = held.find(|segment| segment.last_seq >= from)?;
        Some(segment.first_seq.max(from))
    }

    /// Reads back batches from number `from` on, until they have `max_facts` facts or their segment
    /// ends; empty when there is none.
    pub(crate) fn read(&mut self, from: u64, max_facts: usize) -> Result<Vec<Batch>, PersistError> {
        let holds = |segment: &&Segment| segment.first_seq <= from && from <= segment.last_seq;
        let Some(segment) = self.segments.iter().find(holds) else {
            return Ok(Vec::new());
        };
        let mut cursor = self
            .cursor
            .filter(|cursor| cursor.number == segment.number && cursor.journal_seq <= from)
            .unwrap_or_else(|| Cursor::at_start(segment));
        let batches = read_back(&self.directory, segment, &mut cursor, from, max_facts)?;
        self.cursor = Some(cursor);
        Ok(batches)
    }
}

/// Segments are small against the budget, so that removing one frees a useful share of it.
fn segment_max_bytes(max_bytes: u64) -> u64 {
    (max_bytes / 8).clamp(SEGMENT_HEADER as u64, JOURNAL_SEGMENT_MAX_BYTES)
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
