//! What can go wrong at the start or for good. A store that is away is no error: the journal grows.

use std::io;
use std::path::PathBuf;

use store::StoreError;

/// Why the sink could not start, or stopped. A sentence has its cause inside, and is no `source`
/// besides: whoever prints a chain of errors would say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// A journal file or its directory could not be read or written.
    #[error("journal {path}: {doing} failed: {cause}; check the disk and the rights of data_dir")]
    JournalIo {
        /// File or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
    /// There was no room for the journal on its disk.
    #[error(
        "journal {path}: {doing} failed: the disk is full ({cause}); free some space on the disk \
         of data_dir"
    )]
    JournalNoSpace {
        /// File or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A journal record that is not the torn end of the last write does not match its checksum.
    #[error(
        "journal is damaged at {}:{offset}: restore the file from a copy, or move it away to \
         start without its facts {}, which are not in the store yet",
        segment.display(), numbers(*first, *last)
    )]
    JournalDamaged {
        /// The segment file.
        segment: PathBuf,
        /// Byte offset of the damaged record.
        offset: u64,
        /// Lowest journal number of the file that the store does not have.
        first: u64,
        /// Highest journal number of the file, where the next file tells it.
        last: Option<u64>,
    },
    /// A segment ends before the next one goes on: its end was cut off.
    #[error(
        "journal segment {} ends too early: facts {}, which are not in the store yet, are \
         missing before {}; restore the file from a copy, or move it away to start without them \
         and without what it still has",
        before.display(), numbers(*first, Some(*last)), after.display()
    )]
    JournalGap {
        /// The segment that was cut short.
        before: PathBuf,
        /// The one after it.
        after: PathBuf,
        /// First journal number that is missing.
        first: u64,
        /// Last one.
        last: u64,
    },
    /// A segment is whole, and of another release.
    #[error(
        "journal segment {} is of format {found}, this build reads format {known}, and the store \
         does not have its facts yet: start the release that wrote it and drain it, or move the \
         file away to start without them", segment.display()
    )]
    JournalVersion {
        /// The segment file.
        segment: PathBuf,
        /// Its format.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// A batch cannot be encoded: a bug of ours.
    #[error("a batch of facts could not be encoded for the journal: {0}")]
    Encode(postcard::Error),
    /// The store could not say where it stands.
    #[error("the store could not be read at the start ({doing}): {cause}")]
    Store {
        /// What was asked.
        doing: &'static str,
        /// Why it failed.
        cause: StoreError,
    },
    /// The sink ended while the journal could not be written.
    #[error(
        "the journal could not be written to the end: {facts} facts are lost until later checks \
         find their incidents again; check the disk and the rights of data_dir"
    )]
    Unwritten {
        /// How many.
        facts: usize,
    },
    /// The sink thread could not be made.
    #[error("the sink thread could not be started: {0}")]
    Thread(io::Error),
}

fn numbers(first: u64, last: Option<u64>) -> String {
    match last {
        Some(last) if last <= first => format!("number {first}"),
        Some(last) => format!("number {first} to {last}"),
        None => format!("from number {first} on"),
    }
}
