//! What a killed sink left: its journal and its store, looked at on a copy, and what must hold
//! between the two before and after a recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use model::fact::{Batch, Fact};
use model::{FactId, TargetId, UnixMs};
use tempfile::TempDir;

use super::life::{Node, fleet, now, open};
use super::place::Database;
use super::rows;
use crate::journal::Journal;
use crate::testbed::folder;

/// A copy of the directory of a sink that was killed.
pub(super) struct Wreck {
    copy: TempDir,
    /// The copy of a store that is a database, for as long as it is looked at.
    database: Option<Database>,
    /// Everything that the journal still has, by number.
    journaled: BTreeMap<u64, Batch>,
    /// Number of the last batch that the store has.
    applied: u64,
    stored: BTreeSet<FactId>,
}

impl Wreck {
    pub(super) fn of(directory: &Path) -> Self {
        let copy = folder();
        copy_all(directory, copy.path());
        let database = Database::copied(copy.path());
        let mut journaled = BTreeMap::new();
        let journal = copy.path().join("journal");
        Journal::open(&journal, u64::MAX, 0, |batch| {
            journaled.insert(batch.journal_seq, batch);
        })
        .expect("a kill damages nothing");
        let store = open(copy.path());
        let applied = now(store.counts()).expect("counts").journal_seq;
        now(store.close()).expect("closes");
        let stored = transitions(copy.path());
        Self {
            copy,
            database,
            journaled,
            applied,
            stored,
        }
    }

    /// Up to its position the store has every batch as a whole. Beyond it there may be the halves
    /// of one offer that are committed before the position is, on a server: all transitions of the
    /// targets below a certain one, or of all others.
    pub(super) fn assert_nothing_is_half_applied(&self) {
        let mut ahead = Vec::new();
        for batch in self.journaled.values() {
            let of_batch = transitions_of(batch).map(|(target, id)| (target, self.is_stored(id)));
            let of_batch: Vec<(TargetId, bool)> = of_batch.collect();
            if batch.journal_seq <= self.applied {
                let is_whole = of_batch.iter().all(|(_, is_stored)| *is_stored);
                assert!(is_whole, "{}", batch.journal_seq);
            } else {
                ahead.push(of_batch);
            }
        }
        // The last batch of the offer that may be there in part: what follows is not there at all.
        let offered = |facts: &Vec<(TargetId, bool)>| facts.iter().any(|(_, is_stored)| *is_stored);
        let last = ahead.iter().rposition(offered);
        let of_offer = ahead.iter().take(last.map_or(0, |last| last + 1));
        let of_offer: Vec<(TargetId, bool)> = of_offer.flatten().copied().collect();
        let is_file = self.database.is_none();
        assert!(!is_file || of_offer.is_empty(), "a file has no halves");
        assert!(is_divided_by_targets(of_offer), "a half is there in part");
    }

    /// Whether the store has transitions of a batch beyond its position.
    pub(super) fn has_facts_ahead(&self) -> bool {
        let ahead = self.journaled.range(self.applied + 1..);
        let mut ids = ahead.flat_map(|(_, batch)| ids(batch));
        ids.any(|id| self.is_stored(id))
    }

    fn is_stored(&self, transition: FactId) -> bool {
        self.stored.contains(&transition)
    }

    /// Transitions that are not lost.
    pub(super) fn kept(&self) -> BTreeSet<FactId> {
        let journaled = self.journaled.values().flat_map(ids);
        journaled.chain(self.stored.iter().copied()).collect()
    }

    /// Brings the copy back to life: the store then has what was kept, all of it once, and nothing
    /// else. Returns how many transitions each target has.
    pub(super) fn assert_recovery(&self, at: UnixMs) -> Vec<usize> {
        let node = Node::start(self.copy.path(), at);
        node.flush();
        node.stop();
        assert_eq!(transitions(self.copy.path()), self.kept());
        rows::assert_whole(self.copy.path());
        let mut of_targets = vec![0; fleet(self.copy.path()) as usize];
        for target in rows::transitions(self.copy.path()).into_values() {
            of_targets[target as usize - 1] += 1;
        }
        of_targets
    }
}

fn transitions(directory: &Path) -> BTreeSet<FactId> {
    let ids = rows::transitions(directory).into_keys();
    ids.map(|id| FactId::new(id).expect("positive")).collect()
}

fn ids(batch: &Batch) -> impl Iterator<Item = FactId> {
    transitions_of(batch).map(|(_, id)| id)
}

fn transitions_of(batch: &Batch) -> impl Iterator<Item = (TargetId, FactId)> {
    batch.facts.iter().filter_map(|fact| match fact {
        Fact::Transitioned { transition, .. } => Some((transition.target, transition.id)),
        Fact::Counted { .. } => None,
    })
}

/// Whether there is a target below which all is stored and from which on nothing is, or the other
/// way round.
fn is_divided_by_targets(mut transitions: Vec<(TargetId, bool)>) -> bool {
    transitions.sort_unstable_by_key(|(target, _)| *target);
    let changes = |pair: &&[(TargetId, bool)]| pair[0].1 != pair[1].1;
    let mut changes = transitions.windows(2).filter(changes);
    let is_between_targets = |pair: &[(TargetId, bool)]| pair[0].0 != pair[1].0;
    changes.next().is_none_or(is_between_targets) && changes.next().is_none()
}

#[test]
fn one_half_by_targets_may_be_there_without_the_other() {
    let is_divided = |rows: &[(i64, bool)]| {
        let rows = rows.iter().map(|&(target, is_stored)| {
            let target = TargetId::new(target).expect("a target");
            (target, is_stored)
        });
        is_divided_by_targets(rows.collect())
    };
    assert!(is_divided(&[]));
    assert!(is_divided(&[(1, true), (2, true)]));
    assert!(is_divided(&[(3, false), (1, true), (3, false)]));
    assert!(is_divided(&[(1, false), (2, true), (2, true)]));
    assert!(!is_divided(&[(1, true), (1, false)]));
    assert!(!is_divided(&[(1, true), (2, false), (3, true)]));
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("listed") {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .expect("an entry");
        let to = to.join(name);
        if path.is_dir() {
            fs::create_dir(&to).expect("made");
            copy_all(&path, &to);
        } else {
            fs::copy(&path, &to).expect("copied");
        }
    }
}

/// Cuts the last record of the journal, as a power failure may do with what was not synced:
/// `share` (0 to 1) of it is left. Says whether there was one.
pub(super) fn tear(directory: &Path, share: f64) -> bool {
    let Some((path, start)) = last_record(&directory.join("journal")) else {
        return false;
    };
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    let end = file.metadata().expect("a length").len();
    let kept = ((end - start) as f64 * share) as u64;
    file.set_len(start + kept.min(end - start - 1))
        .expect("cut");
    true
}

/// Where the last record begins.
fn last_record(journal: &Path) -> Option<(PathBuf, u64)> {
    let entries = fs::read_dir(journal).expect("listed");
    let path = entries.map(|entry| entry.expect("an entry").path()).max()?;
    let bytes = fs::read(&path).expect("read");
    let (mut starts, mut at) = (Vec::new(), crate::journal::HEADER_BYTES);
    while let Some(length) = bytes.get(at..at + 4) {
        starts.push(at as u64);
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes"));
        at += crate::journal::RECORD_HEADER + length as usize;
    }
    starts.last().map(|&start| (path, start))
}
