//! Segment files: their names, the directory, and reading one. Which segments exist and when they
//! go is the journal's business.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::fact::Batch;
use model::limits::{APPLY_FACTS_MAX, APPLY_MAX_BYTES};

use super::disk::{Appended, Disk};
use super::record::{Format, RECORD_HEADER, RecordHeader, SEGMENT_HEADER};
use crate::error::PersistError;

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Rises by one with each file.
    pub(crate) number: u64,
    /// What its records are written in.
    pub(crate) format: Format,
    /// Journal number of its first record.
    pub(crate) first_seq: u64,
    /// Journal number of its last record; `first_seq - 1` while it has none.
    pub(crate) last_seq: u64,
    /// Bytes written and synced.
    pub(crate) bytes: u64,
}

/// The file of segment `number`.
pub(crate) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.journal"))
}

/// Numbers of the segments in `directory`, ascending. Other files are left alone.
pub(crate) fn list(directory: &Path) -> Result<Vec<u64>, PersistError> {
    let listed = fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(failed(directory, "listing the segments"))?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(".journal")?.parse().ok()
    };
    let mut numbers: Vec<u64> = listed.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the empty file of segment `number`; its name is durable afterwards.
pub(crate) fn create(
    disk: &dyn Disk,
    directory: &Path,
    number: u64,
) -> io::Result<Box<dyn Appended>> {
    let file = disk.create(&path_of(directory, number))?;
    disk.sync_directory(directory)?;
    Ok(file)
}

/// Cuts a segment back to `bytes`, durably; nothing is left of it when that is nothing.
pub(crate) fn cut(disk: &dyn Disk, directory: &Path, number: u64, bytes: u64) -> io::Result<()> {
    let path = path_of(directory, number);
    if bytes > 0 {
        return disk.truncate(&path, bytes);
    }
    disk.remove(&path)?;
    disk.sync_directory(directory)
}

/// Wraps an I/O error with what was being done to which path.
pub(crate) fn failed<'p>(
    path: &'p Path,
    doing: &'static str,
) -> impl FnOnce(io::Error) -> PersistError + 'p {
    move |cause| {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                PersistError::JournalNoSpace { path, doing, cause }
            }
            _ => PersistError::JournalIo { path, doing, cause },
        }
    }
}

/// Where the next batch to be read back is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    /// Journal number of the record at `offset`.
    pub(crate) journal_seq: u64,
}

impl Cursor {
    pub(crate) fn at_start(segment: &Segment) -> Self {
        let offset = SEGMENT_HEADER as u64;
        Self {
            number: segment.number,
            offset,
            journal_seq: segment.first_seq,
        }
    }
}

/// Most records of one read, however small they are.
const RECORDS_MAX: usize = APPLY_FACTS_MAX;
/// Most bytes of one read, whatever its facts have beside them; in memory it is twice as much.
const READ_MAX_BYTES: u64 = APPLY_MAX_BYTES as u64 / 2;
/// Bytes that are read at a time; a longer record is read by itself.
const WINDOW_BYTES: u64 = 256 * 1024;

/// Reads batches from `cursor` on until they have `max_facts` facts, or are large, those below
/// `from` skipped without looking at their contents; the cursor is left behind the last one.
pub(crate) fn read_back(
    directory: &Path,
    segment: &Segment,
    cursor: &mut Cursor,
    from: u64,
    max_facts: usize,
) -> Result<Vec<Batch>, PersistError> {
    let path = path_of(directory, segment.number);
    let mut window = Window {
        file: File::open(&path).map_err(failed(&path, "opening a segment"))?,
        end: segment.bytes,
        start: 0,
        bytes: Vec::new(),
    };
    let (mut batches, mut facts, mut bytes) = (Vec::new(), 0, 0);
    while cursor.journal_seq <= segment.last_seq
        && facts < max_facts
        && batches.len() < RECORDS_MAX
        && bytes < READ_MAX_BYTES
    {
        let damaged = || PersistError::JournalDamaged {
            segment: path.clone(),
            offset: cursor.offset,
            first: cursor.journal_seq,
            last: Some(segment.last_seq),
        };
        let header = window
            .at(cursor.offset, RECORD_HEADER as u64)
            .map_err(failed(&path, "reading a record"))?;
        let header = RecordHeader::parse(header).ok_or_else(damaged)?;
        if cursor.journal_seq >= from {
            let at = cursor.offset + RECORD_HEADER as u64;
            let body = window
                .at(at, u64::from(header.length))
                .map_err(failed(&path, "reading a record"))?;
            let batch = header.decode(segment.format, body).ok_or_else(damaged)?;
            facts += batch.facts.len();
            bytes += u64::from(header.length);
            batches.push(batch);
        }
        cursor.offset += RECORD_HEADER as u64 + u64::from(header.length);
        cursor.journal_seq += 1;
    }
    Ok(batches)
}

/// A part of a file in memory: records are smaller than what is worth a read.
struct Window {
    file: File,
    /// Bytes of the file that may be read.
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `length` bytes at `offset`, and as many more as fit for the next ones.
    fn at(&mut self, offset: u64, length: u64) -> io::Result<&[u8]> {
        if offset + length > self.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let loaded = self.start..self.start + self.bytes.len() as u64;
        if offset < loaded.start || offset + length > loaded.end {
            let wanted = length.max(WINDOW_BYTES).min(self.end - offset);
            self.bytes.resize(wanted as usize, 0);
            self.start = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.bytes, offset) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(&self.bytes[at..at + length as usize])
    }
}
