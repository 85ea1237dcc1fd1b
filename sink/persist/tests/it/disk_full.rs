//! Journal and store on a small file system of their own that runs full, as a disk does: checks go
//! on, facts wait, and all of them are written once there is room.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::FailureClass;
use persist::{FreshnessAges, SinkCommand, SinkCounters};
use store::EventFilter;

use super::{Running, open_store, start, wait};

/// Set in the process that has the small disk: where it is.
const SMALL_DISK: &str = "PERSIST_TEST_SMALL_DISK";
const SITES: u32 = 200;

/// Runs the rest of the test called `name` with a file system of 4 MiB: its folder, there. `None`
/// here, after it ended well; also where nobody may mount one.
fn on_a_small_disk(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(SMALL_DISK) {
        return Some(folder.into());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let unshare = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size=4m tmpfs \"$0\" {then}"));
        command.arg(dir.path());
        command
    };
    if !unshare("").status().is_ok_and(|status| status.success()) {
        eprintln!("no file system can be mounted here: {name} is left out");
        return None;
    }
    let child = unshare("&& exec \"$1\" --exact --nocapture \"$2\"")
        .arg(std::env::current_exe().expect("this program"))
        .arg(format!("disk_full::{name}"))
        .env(SMALL_DISK, dir.path())
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
    None
}

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
    let name = "a_full_disk_of_the_journal_holds_facts_in_memory_until_there_is_room";
    let Some(folder) = on_a_small_disk(name) else {
        return;
    };
    let store = open_store(&folder);
    let node = start(&folder, store.clone()).expect("starts");
    node.register(SITES);
    node.flush();
    let ballast = fill(&folder, 0);
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
    let name = "a_full_disk_of_the_store_alone_lets_the_journal_grow_until_there_is_room";
    let Some(folder) = on_a_small_disk(name) else {
        return;
    };
    let store = open_store(&folder);
    let node = start(&folder, store.clone()).expect("starts");
    node.register(SITES);
    node.flush();
    let ballast = fill(&folder, 64 * 1_024);
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
