//! Journal and store on a small file system of their own that runs full, as a disk does: checks go
//! on, facts wait, and all of them are written once there is room.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use model::FailureClass;
use persist::{FreshnessAges, SinkCommand, SinkCounters};
use rig::namespace::Own;
use store::EventFilter;

use super::{Running, open_store, start, wait};

/// Where the small disk is, for a test that has its own mounts.
const DISK: &str = "/mnt";
/// A file system of 4 MiB.
const SMALL_DISK: &str = "mount -t tmpfs -o size=4m tmpfs /mnt";
const SITES: u32 = 200;

/// Fills the disk but for `room` bytes.
fn fill(folder: &Path, room: usize) -> PathBuf {
    let (ballast, gap) = (folder.join("ballast"), folder.join("gap"));
    fs::write(&gap, vec![1; room]).expect("written");
    let mut file = File::create(&ballast).expect("created");
    while file.write_all(&[1; 4_096]).is_ok() {}
    fs::remove_file(gap).expect("removed");
    ballast
}

impl Running {
    /// One turn of the sink after the other, until its counters are as wanted.
    fn until(&self, is_so: impl Fn(&SinkCounters) -> bool) -> SinkCounters {
        loop {
            let _: FreshnessAges = self.ask(|reply| SinkCommand::Ages { reply });
            let counters = self.sink.stats.snapshot().counters;
            if is_so(&counters) {
                return counters;
            }
        }
    }

    fn check_all(&self, seq: u32) {
        (0..SITES).for_each(|slot| self.check(slot, seq, Some(FailureClass::HttpStatus)));
    }
}

#[test]
fn a_full_disk_of_the_journal_holds_facts_in_memory_until_there_is_room() {
    let name = "disk_full::a_full_disk_of_the_journal_holds_facts_in_memory_until_there_is_room";
    if !Own::Mounts.hosts(name, SMALL_DISK) {
        return;
    }
    let folder = Path::new(DISK);
    let store = open_store(folder);
    let node = start(folder, store.clone()).expect("starts");
    node.register(SITES);
    node.flush();
    let ballast = fill(folder, 0);
    node.check_all(1);
    let full = node.until(|now| now.journal_errors >= 3);
    assert_eq!((full.journal_alarm, full.journal_full), (1, 0), "{full:?}");
    assert_eq!(
        (full.facts_waiting, full.journal_records),
        (u64::from(SITES), 0)
    );
    node.check_all(2);
    node.until(|now| now.facts_waiting == 2 * u64::from(SITES));
    assert_eq!(
        node.sink.stats.snapshot().total().drained,
        2 * u64::from(SITES)
    );

    fs::remove_file(ballast).expect("removed");
    node.until(|now| now.journal_alarm == 0 && now.facts_waiting == 0);
    node.flush();
    let open = wait(store.open_events()).expect("events");
    assert_eq!(open.len(), SITES as usize);
    assert!(
        open.iter()
            .all(|open| (open.event.fail_count, open.transitions) == (2, 2))
    );
    node.stop();
    let left = fs::read_dir(folder.join("data/journal")).expect("listed");
    assert_eq!(left.count(), 0, "no try to write left a file behind");
}

#[test]
fn a_full_disk_of_the_store_alone_lets_the_journal_grow_until_there_is_room() {
    let name =
        "disk_full::a_full_disk_of_the_store_alone_lets_the_journal_grow_until_there_is_room";
    if !Own::Mounts.hosts(name, SMALL_DISK) {
        return;
    }
    let folder = Path::new(DISK);
    let store = open_store(folder);
    let node = start(folder, store.clone()).expect("starts");
    node.register(SITES);
    node.flush();
    let ballast = fill(folder, 64 * 1_024);
    node.check_all(1);
    let full = node.until(|now| now.apply_retries >= 3);
    assert_eq!((full.journal_alarm, full.facts_waiting), (0, 0), "{full:?}");
    assert!(
        full.apply_lag > 0 && full.journal_bytes > 20_000,
        "{full:?}"
    );

    fs::remove_file(ballast).expect("removed");
    node.flush();
    let events = wait(store.events(&EventFilter::default())).expect("events");
    assert_eq!(events.len(), SITES as usize);
    let counts = wait(store.counts()).expect("counts");
    assert_eq!(
        (counts.transitions, counts.jobs),
        (u64::from(SITES), u64::from(SITES))
    );
    node.stop();
}
