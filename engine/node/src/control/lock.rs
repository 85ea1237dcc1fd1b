//! One process per data directory. The lock file also remembers which store the last node used.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{Access, access};

use super::pid_file::{self, PidFile};
use crate::config::absolute_store;

/// Name of the lock file in `data_dir`.
const FILE: &str = "ringwatch.lock";
/// The note that holds the store.
const STORE: &str = "store";

/// The lock, held until dropped.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    file: PidFile,
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

/// How a data directory looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A node could start there.
    Free,
    /// A process has it; its pid, when the file tells.
    Held(Option<u32>),
    /// This user cannot write there.
    Unwritable,
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
    let taken = PidFile::take(&path).with_context(|| {
        format!(
            "the data directory {} is not writable: make it writable for this user, or name \
             another one with --data-dir",
            data_dir.display()
        )
    })?;
    let Some(mut file) = taken else {
        let pid = pid_file::pid(&path);
        return Ok(Taken::Held { pid });
    };
    let recorded = recorded_store(data_dir);
    let notes = recorded.as_deref().map(|store| (STORE, store));
    file.write(notes.as_slice())
        .with_context(|| format!("the lock {} cannot be written", path.display()))?;
    Ok(Taken::Ours(DataDirLock { file }))
}

/// Takes the lock or says who has it.
pub(crate) fn take_or_refuse(data_dir: &Path) -> anyhow::Result<DataDirLock> {
    match take(data_dir)? {
        Taken::Ours(lock) => Ok(lock),
        Taken::Held { pid } => bail!(in_use(data_dir, pid)),
    }
}

/// Whether a node could use `data_dir`; creates and writes nothing.
pub(crate) fn look(data_dir: &Path) -> std::io::Result<Seen> {
    let path = data_dir.join(FILE);
    if pid_file::is_held(&path)? {
        return Ok(Seen::Held(pid_file::pid(&path)));
    }
    // What does not exist is made, in the nearest directory that does.
    let absolute = std::path::absolute(data_dir)?;
    let nearest = absolute.ancestors().find(|path| path.exists());
    let place = nearest.map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let writable = place.is_dir() && access(&place, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    Ok(if writable {
        Seen::Free
    } else {
        Seen::Unwritable
    })
}

/// The sentence of a second start.
pub(crate) fn in_use(data_dir: &Path, pid: Option<u32>) -> String {
    format!(
        "the data directory {} is in use by another ringwatch ({}): stop that one first, or \
         give this one its own --data-dir",
        data_dir.display(),
        pid_file::who(pid)
    )
}

/// The store that the last node of `data_dir` used, for commands that only look.
pub(crate) fn recorded_store(data_dir: &Path) -> Option<String> {
    pid_file::note(&data_dir.join(FILE), STORE)
}

impl DataDirLock {
    /// Notes which store this node uses.
    pub(crate) fn record_store(&mut self, store: &store::StoreUrl) -> anyhow::Result<()> {
        let store = absolute_store(store);
        self.file
            .write(&[(STORE, &store)])
            .context("the lock of the data directory cannot be written: free some space")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_hears_the_pid_of_the_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let data_dir = dir.path().join("deep/er");
        assert_eq!(look(&data_dir).expect("readable"), Seen::Free);
        assert!(!data_dir.exists());
        let first = take_or_refuse(&data_dir).expect("free");
        let sentence = take_or_refuse(&data_dir).expect_err("held").to_string();
        let pid = std::process::id();
        assert!(sentence.contains(&format!("pid {pid}")), "{sentence}");
        assert_eq!(look(&data_dir).expect("readable"), Seen::Held(Some(pid)));
        drop(first);
        assert_eq!(look(&data_dir).expect("readable"), Seen::Free);
        assert!(matches!(
            take(&data_dir).expect("free again"),
            Taken::Ours(_)
        ));
    }

    #[test]
    fn a_file_in_the_place_of_a_data_directory_is_not_writable() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("written");
        assert!(!matches!(look(&file), Ok(Seen::Free)));
    }

    #[test]
    fn the_store_of_the_last_node_is_remembered() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut lock = take_or_refuse(dir.path()).expect("free");
        assert_eq!(recorded_store(dir.path()), None);
        lock.record_store(&store::StoreUrl::Sqlite("/x/y.db".into()))
            .expect("written");
        drop(lock);
        let _again = take_or_refuse(dir.path()).expect("free");
        let recorded = recorded_store(dir.path());
        assert_eq!(recorded.as_deref(), Some("sqlite:/x/y.db"));
    }
}
