//! Which journal this is, in every store: a random number in a file next to it. A journal that is
//! moved keeps it, a data directory that is made anew gets another.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};
use store::JournalId;

use crate::error::PersistError;

/// The file in the data directory.
const FILE: &str = "journal.id";

/// The number of the journal in `data_dir`, made and synced if there is none yet.
pub(crate) fn of(data_dir: &Path) -> Result<JournalId, PersistError> {
    let path = data_dir.join(FILE);
    let failed = |doing| {
        let path = path.clone();
        move |cause| PersistError::JournalIo { path, doing, cause }
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let raw = i64::from_str_radix(text.trim(), 16).ok();
            raw.and_then(JournalId::new).ok_or_else(|| {
                failed("reading its number")(std::io::Error::other("it holds no number"))
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = random().map_err(failed("choosing its number"))?;
            write(data_dir, id).map_err(failed("writing its number"))?;
            Ok(id)
        }
        Err(error) => Err(failed("reading its number")(error)),
    }
}

fn random() -> std::io::Result<JournalId> {
    loop {
        let mut bytes = [0; 8];
        retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
        if let Some(id) = JournalId::new(i64::from_ne_bytes(bytes) & i64::MAX) {
            return Ok(id);
        }
    }
}

/// Whole or not at all, and durable before a store hears of it.
fn write(data_dir: &Path, id: JournalId) -> std::io::Result<()> {
    fs::create_dir_all(data_dir)?;
    let new = data_dir.join("journal.id.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{:016x}", id.get())?;
    file.sync_all()?;
    fs::rename(new, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_its_number_and_another_has_another() {
        let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, other) = (one.expect("a directory"), other.expect("a directory"));
        let id = of(&one.path().join("data")).expect("made");
        assert_eq!(of(&one.path().join("data")).expect("read"), id);
        assert_ne!(of(other.path()).expect("made"), id);
        fs::write(other.path().join(FILE), "").expect("written");
        let error = of(other.path()).expect_err("empty").to_string();
        assert!(error.contains("journal.id: reading its number"), "{error}");
    }
}
