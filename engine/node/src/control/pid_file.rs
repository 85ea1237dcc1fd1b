//! A file that one process holds at a time: an exclusive flock, with the holder's pid in the file.
//! The kernel lets go of it when the holder dies, however it dies. Must not know what it guards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A held file, free again when dropped. The file stays: removing it would let two processes lock
/// two files of one name.
#[derive(Debug)]
pub(crate) struct PidFile {
    file: File,
}

impl PidFile {
    /// Takes the file at `path`, made when there is none; `None` when another process has it.
    /// Nothing is written yet.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes our pid and `notes`, a line each, `key=value`.
    pub(crate) fn write(&mut self, notes: &[(&str, &str)]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())?;
        for (key, value) in notes {
            writeln!(self.file, "{key}={value}")?;
        }
        Ok(())
    }
}

/// Whether a process holds the file at `path`; looks only. The shared lock of the look lasts for a
/// moment, in which a taker would be refused.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The process that wrote the file last.
pub(crate) fn pid(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// The value of `key` that was written last.
pub(crate) fn note(path: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    text.lines().skip(1).find_map(value)
}

/// `pid 7`, or that it is not known.
pub(crate) fn who(pid: Option<u32>) -> String {
    pid.map_or_else(|| "pid not known".to_owned(), |pid| format!("pid {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_tells_its_holder_and_a_look_leaves_no_trace() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.lock");
        assert!(!is_held(&path).expect("readable"));
        assert!(!path.exists());
        let mut held = PidFile::take(&path).expect("writable").expect("free");
        held.write(&[("a", "1"), ("ab", "x=y")]).expect("written");
        assert!(is_held(&path).expect("readable"));
        assert!(PidFile::take(&path).expect("writable").is_none());
        assert_eq!(pid(&path), Some(std::process::id()));
        assert_eq!(note(&path, "ab").as_deref(), Some("x=y"));
        assert_eq!(note(&path, "b"), None);
        drop(held);
        assert!(!is_held(&path).expect("readable"));
        assert!(PidFile::take(&path).expect("writable").is_some());
    }
}
