//! Segment files: their names, the directory, and reading one. Which segments exist and when they
//! go is the journal's business.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use model::fact::Batch;

use super::disk::{Appended, Disk};
use super::record::{RECORD_HEADER, RecordHeader, SEGMENT_HEADER};
use crate::error::PersistError;

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Rises by one with each file.
    pub(crate) number: u64,
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
    move |cause| PersistError::JournalIo {
        path: path.to_owned(),
        doing,
        cause,
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

/// Reads up to `max` batches from `cursor` on, those below `from` skipped without looking at
/// their contents; the cursor is left behind the last one.
pub(crate) fn read_back(
    directory: &Path,
    segment: &Segment,
    cursor: &mut Cursor,
    from: u64,
    max: usize,
) -> Result<Vec<Batch>, PersistError> {
    let path = path_of(directory, segment.number);
    let file = File::open(&path).map_err(failed(&path, "opening a segment"))?;
    let mut batches = Vec::new();
    while cursor.journal_seq <= segment.last_seq && batches.len() < max {
        let damaged = || PersistError::JournalDamaged {
            segment: path.clone(),
            offset: cursor.offset,
            journal_seq: cursor.journal_seq,
        };
        let header = exactly(&file, cursor.offset, RECORD_HEADER)
            .map_err(failed(&path, "reading a record"))?;
        let header = RecordHeader::parse(&header).ok_or_else(damaged)?;
        if cursor.journal_seq >= from {
            let at = cursor.offset + RECORD_HEADER as u64;
            let body = exactly(&file, at, header.length as usize)
                .map_err(failed(&path, "reading a record"))?;
            batches.push(header.decode(&body).ok_or_else(damaged)?);
        }
        cursor.offset += RECORD_HEADER as u64 + u64::from(header.length);
        cursor.journal_seq += 1;
    }
    Ok(batches)
}

fn exactly(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
