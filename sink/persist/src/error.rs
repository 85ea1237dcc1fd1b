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
    /// A journal record that is not the torn end of the last write does not match its checksum.
    #[error(
        "journal is damaged at {segment}:{offset} (facts from number {journal_seq} on are not in \
         the store yet); restore the file, or move it away to start without those facts"
    )]
    JournalDamaged {
        /// The segment file.
        segment: PathBuf,
        /// Byte offset of the damaged record.
        offset: u64,
        /// Journal number that the record should have carried.
        journal_seq: u64,
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
