//! One writing process per embedded store: `<store file>.lock` next to the file. Whoever holds it
//! takes the right to write at once, whatever the lease in the store says; a server has no such
//! lock, there the lease decides.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use store::{StoreError, StoreUrl};

use super::pid_file::{self, PidFile};
use crate::exit::bad_input;

/// The note that holds the data directory of the holder.
const DATA_DIR: &str = "data_dir";

/// The lock, held until dropped; of a store that has no file it is nothing.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: Option<PidFile>,
}

/// Takes the lock of the store at `url` for the process of `data_dir`, or says who has it.
///
/// # Errors
/// A store in use, and a place where the lock cannot be written.
pub(crate) fn take_or_refuse(url: &StoreUrl, data_dir: &Path) -> anyhow::Result<StoreLock> {
    let StoreUrl::Sqlite(store) = url else {
        return Ok(StoreLock { _file: None });
    };
    if store.is_dir() {
        let path = store.clone();
        return Err(StoreError::NotAFile { path }.into());
    }
    make_place(store, data_dir)?;
    let path = lock_path(store);
    let taken = PidFile::take(&path).with_context(|| unwritable(store, &path))?;
    let Some(mut file) = taken else {
        bail!(in_use(store, &path));
    };
    let data_dir = std::path::absolute(data_dir)?;
    file.write(&[(DATA_DIR, &data_dir.display().to_string())])
        .with_context(|| unwritable(store, &path))?;
    Ok(StoreLock { _file: Some(file) })
}

/// The directory of the store, which is made only inside of `data_dir`: elsewhere a mistyped path
/// would become an empty store that nobody looks for.
fn make_place(store: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let parent = store.parent().unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() || parent.is_dir() {
        return Ok(());
    }
    let climbs = parent.components().any(|part| part == Component::ParentDir);
    let inside = std::path::absolute(parent)?.starts_with(std::path::absolute(data_dir)?);
    if climbs || !inside {
        return bad_input(format!(
            "there is no directory {} for the store: create it, or name another path with \
             --store sqlite:PATH",
            parent.display()
        ));
    }
    fs::create_dir_all(parent).map_err(|cause| {
        let path = parent.to_path_buf();
        StoreError::CannotCreateDirectory { path, cause }.into()
    })
}

/// Next to the file itself, whatever links lead to it.
fn lock_path(store: &Path) -> PathBuf {
    let parent = store.parent().filter(|path| !path.as_os_str().is_empty());
    let beside = || {
        let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
        Some(parent.join(store.file_name()?))
    };
    let real = fs::canonicalize(store).ok().or_else(beside);
    let mut path: OsString = real.unwrap_or_else(|| store.to_path_buf()).into();
    path.push(".lock");
    path.into()
}

fn unwritable(store: &Path, lock: &Path) -> String {
    format!(
        "the lock {} of the store {} cannot be written: make the directory writable for this \
         user, or name another path with --store sqlite:PATH",
        lock.display(),
        store.display()
    )
}

fn in_use(store: &Path, lock: &Path) -> String {
    let data_dir = pid_file::note(lock, DATA_DIR).unwrap_or_else(|| "DIR".to_owned());
    format!(
        "the store {} is in use by another ringwatch ({}, data directory {data_dir}): stop that \
         one first, ask it with --data-dir {data_dir}, or give this one its own --store",
        store.display(),
        pid_file::who(pid_file::pid(lock))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_of_a_store_hears_who_has_it_whatever_path_it_takes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = dir.path().join("new/s.db");
        let url = StoreUrl::Sqlite(store.clone());
        let error = take_or_refuse(&url, Path::new("/d/one")).expect_err("no directory");
        assert!(
            error.to_string().starts_with("there is no directory "),
            "{error}"
        );
        assert!(!dir.path().join("new").exists());
        fs::create_dir(dir.path().join("new")).expect("made");
        let first = take_or_refuse(&url, Path::new("/d/one")).expect("free");
        assert!(dir.path().join("new/s.db.lock").exists());
        fs::write(&store, "").expect("written");
        std::os::unix::fs::symlink(&store, dir.path().join("link.db")).expect("linked");
        let linked = StoreUrl::Sqlite(dir.path().join("link.db"));
        for url in [&url, &linked] {
            let error = take_or_refuse(url, Path::new("/d/two")).expect_err("held");
            let pid = std::process::id();
            let who = format!("is in use by another ringwatch (pid {pid}, data directory /d/one)");
            assert!(error.to_string().contains(&who), "{error}");
        }
        drop(first);
        take_or_refuse(&linked, Path::new("/d/two")).expect("free again");
    }

    #[test]
    fn a_directory_is_no_store_and_gets_no_lock() {
        let dir = tempfile::tempdir().expect("temp dir");
        let url = StoreUrl::Sqlite(dir.path().join("s"));
        fs::create_dir(dir.path().join("s")).expect("made");
        let error = take_or_refuse(&url, dir.path()).expect_err("a directory");
        assert!(error.to_string().contains("is not a file"), "{error}");
        assert!(!dir.path().join("s.lock").exists());
    }
}
