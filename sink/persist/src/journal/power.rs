//! The journal on a disk whose power fails: only what was synced is there afterwards, and of the
//! rest any part of it. Whatever was acknowledged must be found again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use model::fact::Batch;
use proptest::prelude::*;
use tempfile::tempdir;

use super::disk::{Appended, Disk};
use super::tests::{batch, open};
use super::{Journal, record};

/// What of one file would survive.
#[derive(Clone, Copy, Debug, Default)]
struct Safe {
    /// Bytes that were synced.
    bytes: u64,
    /// Whether its name was.
    name: bool,
}

/// Files of a directory that keep, when the power is cut, only what was synced.
#[derive(Clone, Debug, Default)]
struct CutDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, Safe>>>,
    /// The next sync fails; nobody knows then what is on the disk.
    fails: Rc<RefCell<bool>>,
}

#[derive(Debug)]
struct CutFile {
    disk: CutDisk,
    path: PathBuf,
    file: File,
}

impl Disk for CutDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        let mut files = self.files.borrow_mut();
        files.insert(path.to_owned(), Safe::default());
        Ok(Box::new(CutFile {
            disk: self.clone(),
            path: path.to_owned(),
            file,
        }))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(bytes)?;
        let mut files = self.files.borrow_mut();
        files.entry(path.to_owned()).or_default().bytes = bytes;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.borrow_mut().remove(path);
        fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let safe = files.entry(path.to_owned()).or_default();
        safe.bytes = fs::metadata(path)?.len();
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        for file in self.files.borrow_mut().values_mut() {
            file.name = true;
        }
        Ok(())
    }
}

impl Appended for CutFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.fails.replace(false) {
            return Err(io::Error::other("the disk said no"));
        }
        let mut files = self.disk.files.borrow_mut();
        let safe = files.get_mut(&self.path).expect("it was created here");
        safe.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

impl CutDisk {
    /// Cuts the power: of what was not synced in a file, the share `kept` (0 to 1) is there.
    fn cut_power(&self, kept: f64) {
        for (path, safe) in self.files.borrow().iter() {
            if !safe.name {
                fs::remove_file(path).expect("removed");
                continue;
            }
            let file = OpenOptions::new().write(true).open(path).expect("there");
            let unsafe_bytes = file.metadata().expect("a length").len() - safe.bytes;
            let kept = (unsafe_bytes as f64 * kept) as u64;
            file.set_len(safe.bytes + kept).expect("cut");
        }
    }
}

/// One thing that the sink does with its journal.
#[derive(Clone, Debug)]
enum Act {
    Commit {
        batches: usize,
        facts: u32,
    },
    FailNextSync,
    Reclaim {
        back: u64,
        eagerly: bool,
    },
    Reopen,
    /// The process is killed between writing and syncing; the machine lives on.
    Die {
        facts: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1usize..5, 0u32..120)
            .prop_map(|(batches, facts)| Act::Commit { batches, facts }),
        1 => Just(Act::FailNextSync),
        1 => (0u64..4, any::<bool>()).prop_map(|(back, eagerly)| Act::Reclaim { back, eagerly }),
        1 => Just(Act::Reopen),
        1 => (0u32..120).prop_map(|facts| Act::Die { facts }),
    ]
}

/// A journal and what it acknowledged.
struct Life {
    disk: CutDisk,
    journal: Journal,
    /// Numbers up to this are in the store.
    floor: u64,
    acknowledged: Vec<Batch>,
}

/// Small enough for many segments.
const BYTES: u64 = 40_000;

impl Life {
    fn start(disk: CutDisk, directory: &Path, floor: u64) -> Self {
        let mut acknowledged = Vec::new();
        let on = Box::new(disk.clone());
        let opened = Journal::open_on(on, directory, BYTES, floor, |b| acknowledged.push(b));
        Self {
            disk,
            journal: opened.expect("opens"),
            floor,
            acknowledged,
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Commit { batches, facts } => {
                let next = self.journal.next_seq();
                let given: Vec<Batch> = (next..).take(batches).map(|n| batch(n, facts)).collect();
                let (durable, _) = self.journal.commit(given.iter());
                self.acknowledged.extend_from_slice(&given[..durable]);
            }
            Act::FailNextSync => *self.disk.fails.borrow_mut() = true,
            Act::Reclaim { back, eagerly } => {
                self.floor = self.floor.max(self.journal.last_seq().saturating_sub(back));
                self.journal.reclaim(self.floor, eagerly).expect("reclaims");
            }
            Act::Reopen => {}
            Act::Die { facts } => {
                let mut bytes = Vec::new();
                let unsynced = batch(self.journal.next_seq(), facts);
                record::encode(&unsynced, &mut bytes).expect("encodes");
                if let Some(file) = &mut self.journal.file {
                    file.append(&bytes).expect("written");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_was_acknowledged_is_there_after_a_power_cut(
        acts in prop::collection::vec(act(), 1..40),
        kept in 0.0f64..=1.0,
    ) {
        let dir = tempdir().expect("a directory");
        let mut life = Life::start(CutDisk::default(), dir.path(), 0);
        for act in &acts {
            life.act(act);
            if matches!(act, Act::Reopen | Act::Die { .. }) {
                let Life { disk, floor, journal, .. } = life;
                drop(journal);
                life = Life::start(disk, dir.path(), floor);
            }
        }
        let Life { disk, journal, floor, acknowledged } = life;
        drop(journal);
        disk.cut_power(kept);
        let (_, found) = open(dir.path(), BYTES, floor);
        let expected: Vec<Batch> =
            acknowledged.into_iter().filter(|batch| batch.journal_seq > floor).collect();
        prop_assert!(found.len() >= expected.len(), "{} of {}", found.len(), expected.len());
        prop_assert_eq!(&found[..expected.len()], &expected[..]);
    }
}
