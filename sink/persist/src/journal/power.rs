//! The journal on a disk that is full, breaks, and whose power fails: only what was synced is there
//! afterwards, and of the rest any part of it. Whatever was acknowledged must be found again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use model::fact::Batch;
use proptest::prelude::*;
use tempfile::tempdir;

use super::disk::{Appended, Disk};
use super::tests::{batch, commit, open};
use super::{Journal, record};

/// What of one file would survive.
#[derive(Clone, Copy, Debug, Default)]
struct Safe {
    /// Bytes that were synced.
    bytes: u64,
    /// Whether its name was.
    name: bool,
}

/// What a disk can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Create,
    Append,
    Sync,
    SyncFile,
    Truncate,
    Remove,
    SyncDirectory,
}

const REQUESTS: [Request; 7] = [
    Request::Create,
    Request::Append,
    Request::Sync,
    Request::SyncFile,
    Request::Truncate,
    Request::Remove,
    Request::SyncDirectory,
];

/// The next request of this kind is refused: for want of space, or by the device.
#[derive(Clone, Copy, Debug)]
struct Fault {
    request: Request,
    is_full: bool,
    /// Share of its bytes (0 to 1) that an append still writes.
    share: f64,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        // ENOSPC and EIO.
        Self::from_raw_os_error(if fault.is_full { 28 } else { 5 })
    }
}

/// Files of a directory that keep, when the power is cut, only what was synced.
#[derive(Clone, Debug, Default)]
struct CutDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, Safe>>>,
    /// Directories whose names inside were made safe, once at least.
    synced: Rc<RefCell<BTreeSet<PathBuf>>>,
    faults: Rc<RefCell<Vec<Fault>>>,
}

#[derive(Debug)]
struct CutFile {
    disk: CutDisk,
    path: PathBuf,
    file: File,
}

impl Disk for CutDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Appended>> {
        self.refuses(Request::Create)?;
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
        self.refuses(Request::Truncate)?;
        OpenOptions::new().write(true).open(path)?.set_len(bytes)?;
        let mut files = self.files.borrow_mut();
        files.entry(path.to_owned()).or_default().bytes = bytes;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.refuses(Request::Remove)?;
        self.files.borrow_mut().remove(path);
        fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.refuses(Request::SyncFile)?;
        let mut files = self.files.borrow_mut();
        let safe = files.entry(path.to_owned()).or_default();
        safe.bytes = fs::metadata(path)?.len();
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.refuses(Request::SyncDirectory)?;
        for (path, file) in self.files.borrow_mut().iter_mut() {
            file.name |= path.parent() == Some(directory);
        }
        self.synced.borrow_mut().insert(directory.to_owned());
        Ok(())
    }
}

impl Appended for CutFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(fault) = self.disk.fault(Request::Append) {
            let written = (bytes.len() as f64 * fault.share) as usize;
            self.file.write_all(&bytes[..written])?;
            return Err(fault.into());
        }
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.refuses(Request::Sync)?;
        let mut files = self.disk.files.borrow_mut();
        let safe = files.get_mut(&self.path).expect("it was created here");
        safe.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

impl CutDisk {
    /// Takes the first fault that waits for such a request.
    fn fault(&self, request: Request) -> Option<Fault> {
        let mut faults = self.faults.borrow_mut();
        let at = faults.iter().position(|fault| fault.request == request)?;
        Some(faults.remove(at))
    }

    fn refuses(&self, request: Request) -> io::Result<()> {
        self.fault(request)
            .map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Whether the name of the directory of `path` would survive.
    fn is_found(&self, path: &Path) -> bool {
        let outer = path.parent().and_then(Path::parent).expect("two above it");
        self.synced.borrow().contains(outer)
    }

    /// Cuts the power: of what was not synced in a file, the share `kept` (0 to 1) is there.
    fn cut_power(&self, kept: f64) {
        for (path, safe) in self.files.borrow().iter() {
            if !safe.name || !self.is_found(path) {
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
    Fail(Fault),
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
        3 => (prop::sample::select(&REQUESTS), any::<bool>(), 0.0f64..=1.0)
            .prop_map(|(request, is_full, share)| Act::Fail(Fault { request, is_full, share })),
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
    /// Numbered and not acknowledged: a batch that is written twice is the same batch.
    sealed: Vec<Batch>,
}

/// Small enough for many segments.
const BYTES: u64 = 40_000;

impl Life {
    /// Opens; where a fault prevents that, again without one.
    fn start(disk: CutDisk, directory: &Path, floor: u64) -> Self {
        let open = || {
            let mut found = Vec::new();
            let on = Box::new(disk.clone());
            let opened = Journal::open_on(on, directory, BYTES, floor, |b| found.push(b));
            opened.map(|journal| (journal, found))
        };
        let (journal, acknowledged) = open()
            .or_else(|_| {
                disk.faults.borrow_mut().clear();
                open()
            })
            .expect("opens");
        Self {
            disk,
            journal,
            floor,
            acknowledged,
            sealed: Vec::new(),
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Commit { batches, facts } => {
                let next = self.journal.next_seq() + self.sealed.len() as u64;
                let more = (next..).take(batches).map(|number| batch(number, facts));
                self.sealed.extend(more);
                let (durable, _) = self.journal.commit(self.sealed.iter());
                self.acknowledged.extend(self.sealed.drain(..durable));
            }
            Act::Fail(fault) => self.disk.faults.borrow_mut().push(fault),
            Act::Reclaim { back, eagerly } => {
                self.floor = self.floor.max(self.journal.last_seq().saturating_sub(back));
                // A file that cannot be removed stays, and is tried again.
                let _ = self.journal.reclaim(self.floor, eagerly);
            }
            Act::Reopen => {}
            Act::Die { facts } => {
                let mut bytes = Vec::new();
                let of_its_own = || batch(self.journal.next_seq(), facts);
                let unsynced = self.sealed.first().cloned().unwrap_or_else(of_its_own);
                record::encode(&unsynced, &mut bytes).expect("encodes");
                if let Some(file) = &mut self.journal.file {
                    // Also a part of it may be all that is left.
                    let _ = file.append(&bytes);
                }
            }
        }
    }
}

/// Lesson: segments and their names were synced, and the directory that they are in was not.
#[test]
fn a_new_directory_is_safe_before_anything_in_it_is() {
    let dir = tempdir().expect("a directory");
    let directory = dir.path().join("journal");
    let disk = CutDisk::default();
    let fault = Fault {
        request: Request::SyncDirectory,
        is_full: false,
        share: 0.0,
    };
    disk.faults.borrow_mut().push(fault);
    let on = || Box::new(disk.clone());
    let refused = Journal::open_on(on(), &directory, BYTES, 0, |_| ());
    let sentence = refused.expect_err("it cannot be synced").to_string();
    assert!(sentence.contains("syncing the directory"), "{sentence}");
    let mut journal = Journal::open_on(on(), &directory, BYTES, 0, |_| ()).expect("opens");
    commit(&mut journal, &[batch(1, 3)]);
    drop(journal);
    disk.cut_power(0.0);
    let (_, found) = open(&directory, BYTES, 0);
    assert_eq!(found.len(), 1);
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
        let Life { disk, journal, floor, acknowledged, .. } = life;
        drop(journal);
        disk.cut_power(kept);
        let (_, found) = open(dir.path(), BYTES, floor);
        let expected: Vec<Batch> =
            acknowledged.into_iter().filter(|batch| batch.journal_seq > floor).collect();
        prop_assert!(found.len() >= expected.len(), "{} of {}", found.len(), expected.len());
        prop_assert_eq!(&found[..expected.len()], &expected[..]);
    }
}
