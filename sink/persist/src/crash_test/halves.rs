//! A kill between the commits of a large offer, on a server: the position of the journal, which
//! comes last, is held up by a lock; once facts beyond it are there the process is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;

use model::limits::BATCH_MAX;
use rig::mariadb::{self, Held};

use super::life::settle;
use super::place::{Kind, database};
use super::random::{LAST, assert_stories, birth, start};
use super::rows;
use super::wreck::Wreck;
use crate::testbed::folder;

/// Of six in ten a wave has a fact: enough for offers of several batches, in both halves.
const FLEET: u32 = 2 * BATCH_MAX as u32;
/// Waves after which the store is behind, so that offers are large.
const WAVES: usize = 4;
/// An offer that is held up may be a small one, which has no halves.
const TRIES: u32 = 50;
/// Looks at what is there while it is held up.
const POLLS: u32 = 10;
/// The life after it: so many waves as come meanwhile take less of its clock.
const LATER: u64 = 100;

/// Holds the position up again and again until facts beyond it are there, and as long as what is
/// returned lives.
fn wait_for_facts_ahead(directory: &Path) -> Held {
    let name = database(directory).expect("a database");
    let hold = format!("SELECT journal_seq FROM {name}.jetpack_monitor_journals FOR UPDATE");
    for _ in 0..TRIES {
        let held = mariadb::shared().hold(&hold);
        let before = rows::count(directory);
        if (0..POLLS).any(|_| rows::count(directory) > before) {
            return held;
        }
    }
    panic!("no large offer was held up in {TRIES} times");
}

#[test]
fn a_kill_between_halves_and_position_leaves_facts_that_are_met_again() {
    let dir = folder();
    let _database = Kind::MariaDb.place(dir.path());
    settle(dir.path(), FLEET);
    let mut child = start(dir.path(), 0, &[]);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let lines = out.lines().map_while(Result::ok);
    let mut announced = lines.filter(|line| line.contains("wave "));
    assert_eq!(announced.by_ref().take(WAVES).count(), WAVES);
    let held = wait_for_facts_ahead(dir.path());
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    drop(held);
    let wreck = Wreck::of(dir.path());
    wreck.assert_nothing_is_half_applied();
    assert!(wreck.has_facts_ahead(), "killed in time");
    wreck.assert_recovery(birth(LATER));
    let last = start(dir.path(), LATER, &[(LAST, "1".to_owned())]);
    let ended = last.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{ended:?}");
    assert!(assert_stories(dir.path()) > 0);
}
