//! One process per data directory: an exclusive flock with the holder's pid in the file. The
//! kernel lets go of it when the holder dies, however it dies.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::config::absolute_store;

/// Name of the lock file in `data_dir`.
const FILE: &str = "ringwatch.lock";

/// The lock, held until dropped. The file stays: removing it would let two processes lock two
/// files of one name.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    file: File,
}

/// What taking the lock came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is ours now.
    Ours(DataDirLock),
    /// Somebody has it.
    Held {
        /// Its process, when the file tells.
        pid: Option<u32>,
    },
}

/// Takes the lock of `data_dir`, which is created when it does not exist.
///
/// # Errors
/// A directory that cannot be created or written.
pub(crate) fn take(data_dir: &Path) -> anyhow::Result<Taken> {
    fs::create_dir_all(data_dir).with_context(|| {
        format!(
            "the data directory {} cannot be created: create it, or name another one with \
             --data-dir",
            data_dir.display()
        )
    })?;
    let path = data_dir.join(FILE);
    let options = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .clone();
    let file = options.open(&path).with_context(|| {
        format!(
            "the data directory {} is not writable: make it writable for this user, or name \
             another one with --data-dir",
            data_dir.display()
        )
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let mut lock = DataDirLock { file };
            lock.write(recorded_store(data_dir).as_deref())
                .with_context(|| format!("the lock {} cannot be written", path.display()))?;
            Ok(Taken::Ours(lock))
        }
        Err(Errno::WOULDBLOCK) => Ok(Taken::Held {
            pid: holder(data_dir),
        }),
        Err(error) => bail!("the lock {} cannot be taken: {error}", path.display()),
    }
}

/// Takes the lock or says who has it.
pub(crate) fn take_or_refuse(data_dir: &Path) -> anyhow::Result<DataDirLock> {
    match take(data_dir)? {
        Taken::Ours(lock) => Ok(lock),
        Taken::Held { pid } => bail!(in_use(data_dir, pid)),
    }
}

/// The sentence of a second start.
pub(crate) fn in_use(data_dir: &Path, pid: Option<u32>) -> String {
    let who = pid.map_or_else(|| "pid not known".to_owned(), |pid| format!("pid {pid}"));
    format!(
        "the data directory {} is in use by another ringwatch ({who}): stop that one first, or \
         give this one its own --data-dir",
        data_dir.display()
    )
}

/// The store that the last node of `data_dir` used, for commands that only look.
pub(crate) fn recorded_store(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join(FILE)).ok()?;
    text.lines()
        .nth(1)?
        .strip_prefix("store=")
        .map(ToOwned::to_owned)
}

impl DataDirLock {
    /// Notes which store this node uses, as a second line.
    pub(crate) fn record_store(&mut self, store: &store::StoreUrl) -> anyhow::Result<()> {
        let store = absolute_store(store);
        self.write(Some(&store))
            .context("the lock cannot be written")
    }

    fn write(&mut self, store: Option<&str>) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())?;
        store.map_or(Ok(()), |store| writeln!(self.file, "store={store}"))
    }
}

/// Removes a data directory that was made only to see whether it can be.
pub(crate) fn undo(data_dir: &Path) {
    // A directory that somebody began to use meanwhile is not empty and stays.
    let _ = fs::remove_file(data_dir.join(FILE));
    let _ = fs::remove_dir(data_dir);
}

fn holder(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join(FILE))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_hears_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let data_dir = dir.path().join("deep/er");
        let first = take_or_refuse(&data_dir).expect("free");
        let sentence = take_or_refuse(&data_dir).expect_err("held").to_string();
        assert!(
            sentence.contains(&format!("pid {}", std::process::id())),
            "{sentence}"
        );
        drop(first);
        assert!(matches!(
            take(&data_dir).expect("free again"),
            Taken::Ours(_)
        ));
    }

    #[test]
    fn the_store_of_the_last_node_is_remembered() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut lock = take_or_refuse(dir.path()).expect("free");
        assert_eq!(recorded_store(dir.path()), None);
        lock.record_store(&store::StoreUrl::Sqlite("/x/y.db".into()))
            .expect("written");
        drop(lock);
        assert_eq!(
            recorded_store(dir.path()).as_deref(),
            Some("sqlite:/x/y.db")
        );
    }
}
