//! What the journal asks of the disk while it writes: the one seam where a test can cut the power.
//! It must not know segments or records; reading needs no seam and goes to the files themselves.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file that only grows.
pub(crate) trait Appended: Debug {
    /// Writes all of `bytes` at the end. They are not durable yet.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended so far survive a power failure.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file system. Names are durable only after [`Disk::sync_directory`].
pub(crate) trait Disk: Debug {
    /// Makes an empty file; one that is there already is an error.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>>;

    /// Cuts a file back to `bytes`, durably.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Makes the contents of a file survive a power failure, whoever wrote them.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power failure.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

impl Appended for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
