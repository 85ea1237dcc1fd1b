//! Who may write facts: what a node claims, what it gets, and the rules that decide it. Pure: the
//! backends read the picture under their locks and write what follows from it.
//!
//! ```text
//!  claim ─► Picture ─► decide ─┬─► Takeover: epoch + 1, losers' epochs + 1, shards change hands
//!                              └─► Held: somebody else has a lease that runs
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::limits::SHARDS;
use model::{Shard, UnixMs};

use crate::rules::first_id_at;

/// Stands for the journal as a whole among the shards that were taken from it. Its `newest_fact` is
/// no fact of the journal: it is the least id of the moment when a shard was taken last, or
/// [`FORGOTTEN`].
pub(crate) const WHOLE_JOURNAL: u16 = SHARDS;
/// Which facts were the newest is not known any more: every shard counts as written by others.
pub(crate) const FORGOTTEN: i64 = -1;

/// Every shard.
pub const ALL_SHARDS: Range<u16> = 0..SHARDS;

/// Names a journal for ever, in every store: a random number that is kept with the journal itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(i64);

impl JournalId {
    /// The id `raw`, or `None` when it is not positive.
    pub fn new(raw: i64) -> Option<Self> {
        (raw > 0).then_some(Self(raw))
    }

    /// As it is stored.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// A node that wants to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its configured name, at most 255 bytes.
    pub node: String,
    /// Where it runs, for people: `HOST:DATA_DIR`.
    pub holder: String,
    /// The journal whose facts it will apply.
    pub journal: JournalId,
    /// Length of the lease, in ms of the database's clock.
    pub lease_ms: u64,
    /// The shards that it wants.
    pub shards: Range<u16>,
    /// Whether the caller knows that nobody else is writing, whatever the leases say: the file of
    /// an embedded store is locked.
    pub alone: bool,
    /// The newest epoch that was given to this process, which lost it. `None` at its start: a lease
    /// of its own journal is then its own, from before.
    pub lost: Option<u64>,
}

impl Claim {
    fn lost_epoch(&self) -> i64 {
        self.lost.map_or(0, |epoch| epoch as i64)
    }
}

/// The right to write, as every write names it: void once the epoch of the node is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    pub(crate) node: i64,
    pub(crate) epoch: i64,
    pub(crate) journal: i64,
}

impl Fence {
    /// What a store gives that numbers its nodes itself: this crate's do, and stores of tests.
    pub fn of(node: i64, epoch: u64, journal: JournalId) -> Self {
        Self {
            node,
            epoch: epoch as i64,
            journal: journal.get(),
        }
    }

    /// Rises with every claim of the node that was granted, and when its shards were taken.
    pub fn epoch(self) -> u64 {
        self.epoch as u64
    }
}

/// Facts of a journal that somebody else's facts took the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// Those of this shard,
    pub shard: Shard,
    /// up to this journal number. `None`: all that the journal has now, see
    /// [`Store::pass_over`](crate::Store::pass_over).
    pub upto: Option<u64>,
}

/// The row of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) node: i64,
    pub(crate) epoch: i64,
    pub(crate) lease_until: Option<i64>,
    /// Where stores were applied to before journals had names.
    pub(crate) journal_seq: i64,
}

/// The name of a node, and its journal with where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameRow {
    pub(crate) node: i64,
    pub(crate) name: String,
    pub(crate) journal: i64,
    pub(crate) holder: String,
}

/// What the store knows when a claim is made, read under the lock of every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The database's clock, in ms since the Unix epoch.
    pub(crate) now_ms: i64,
    pub(crate) nodes: Vec<NodeRow>,
    pub(crate) names: Vec<NameRow>,
    /// Owner of each shard that has a row.
    pub(crate) owners: BTreeMap<u16, i64>,
}

/// Why a claim is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) node: String,
    pub(crate) holder: String,
    pub(crate) left_ms: u64,
}

/// What a granted claim writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) fence: Fence,
    /// Now, by the database's clock, in ms since the Unix epoch.
    pub(crate) now_ms: i64,
    pub(crate) lease_until: i64,
    /// Where the journal begins when the store has not met it.
    pub(crate) first_position: i64,
    /// Nodes whose shards are taken: their epochs rise and their leases end.
    pub(crate) losers: Vec<i64>,
    /// Wanted shards without a row.
    pub(crate) missing: Vec<u16>,
}

/// Grants a claim or says who is in its way.
pub(crate) fn decide(claim: &Claim, picture: &Picture) -> Result<Takeover, Held> {
    let me = Me::find(claim, picture);
    let own = picture.nodes.iter().find(|row| row.node == me.node);
    if let Some(row) = own
        && me.is_in_other_hands(claim, row.epoch)
    {
        picture.require_over(claim, row)?;
    }
    let wanted = claim.shards.clone();
    let owners = picture.owners.range(wanted.clone()).map(|(_, &node)| node);
    let losers: BTreeSet<i64> = owners.filter(|&node| node != me.node).collect();
    let rows = picture.nodes.iter();
    for row in rows.filter(|row| losers.contains(&row.node)) {
        picture.require_over(claim, row)?;
    }
    let lease_ms = i64::try_from(claim.lease_ms).unwrap_or(i64::MAX);
    // A store that was set back (a backup, a replica that took over) gives no epoch twice.
    let last_epoch = own.map_or(0, |row| row.epoch).max(claim.lost_epoch());
    let has_row = |shard: &u16| picture.owners.contains_key(shard);
    Ok(Takeover {
        fence: Fence {
            node: me.node,
            epoch: last_epoch + 1,
            journal: claim.journal.get(),
        },
        now_ms: picture.now_ms,
        lease_until: picture.now_ms.saturating_add(lease_ms),
        first_position: me.first_position,
        losers: losers.into_iter().collect(),
        missing: wanted.filter(|shard| !has_row(shard)).collect(),
    })
}

/// The claiming node in the tables.
struct Me {
    node: i64,
    /// Its journal so far, if it has a name there.
    journal: Option<i64>,
    first_position: i64,
}

impl Me {
    /// By its name. The first node that ever gave one is the one that wrote the store without.
    fn find(claim: &Claim, picture: &Picture) -> Self {
        let (names, nodes) = (&picture.names, &picture.nodes);
        if let Some(row) = names.iter().find(|row| row.name == claim.node) {
            return Self {
                node: row.node,
                journal: Some(row.journal),
                first_position: 0,
            };
        }
        let unnamed = nodes.first().filter(|_| names.is_empty());
        let next = nodes.iter().map(|row| row.node).max().unwrap_or(0) + 1;
        Self {
            node: unnamed.map_or(next, |row| row.node),
            journal: None,
            first_position: unnamed.map_or(0, |row| row.journal_seq),
        }
    }

    /// Whether a running lease of this node is not the claimer's own.
    fn is_in_other_hands(&self, claim: &Claim, epoch: i64) -> bool {
        let other_journal = self
            .journal
            .is_some_and(|journal| journal != claim.journal.get());
        // A copy of this node, with its name and journal, is told from it by who was here last.
        let newer = claim.lost.is_some() && epoch != claim.lost_epoch();
        other_journal || newer
    }
}

impl Picture {
    fn require_over(&self, claim: &Claim, row: &NodeRow) -> Result<(), Held> {
        let left_ms = row.lease_until.unwrap_or(0).saturating_sub(self.now_ms);
        if claim.alone || left_ms <= 0 {
            return Ok(());
        }
        let named = self.names.iter().find(|name| name.node == row.node);
        Err(Held {
            node: named.map_or_else(|| row.node.to_string(), |name| name.name.clone()),
            holder: named.map_or_else(|| "unknown".to_owned(), |name| name.holder.clone()),
            left_ms: left_ms as u64,
        })
    }
}

impl Takeover {
    /// What is kept of the moment with the shards that are taken.
    pub(crate) fn taken_at(&self) -> i64 {
        first_id_at(UnixMs(self.now_ms.max(0) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn claim(node: &str, journal: i64) -> Claim {
        Claim {
            node: node.to_owned(),
            holder: format!("host:/{node}"),
            journal: JournalId::new(journal).expect("positive"),
            lease_ms: 30_000,
            shards: ALL_SHARDS,
            alone: false,
            lost: None,
        }
    }

    /// Node 1, called `a`, with journal 11 and every shard, and a lease for 20 s more.
    fn picture() -> Picture {
        Picture {
            now_ms: NOW,
            nodes: vec![NodeRow {
                node: 1,
                epoch: 5,
                lease_until: Some(NOW + 20_000),
                journal_seq: 0,
            }],
            names: vec![NameRow {
                node: 1,
                name: "a".to_owned(),
                journal: 11,
                holder: "host:/a".to_owned(),
            }],
            owners: ALL_SHARDS.map(|shard| (shard, 1)).collect(),
        }
    }

    #[test]
    fn the_first_name_takes_over_the_node_that_had_none_with_its_position() {
        let mut picture = picture();
        picture.names.clear();
        (picture.nodes[0].lease_until, picture.nodes[0].journal_seq) = (None, 77);
        let granted = decide(&claim("x", 9), &picture).expect("free");
        let fence = Fence {
            node: 1,
            epoch: 6,
            journal: 9,
        };
        assert_eq!((granted.fence, granted.first_position), (fence, 77));
        assert!(granted.losers.is_empty() && granted.missing.is_empty());
        assert_eq!(granted.lease_until, NOW + 30_000);
    }

    #[test]
    fn a_restart_of_its_own_waits_for_no_lease() {
        let granted = decide(&claim("a", 11), &picture()).expect("its own");
        assert_eq!((granted.fence.node, granted.fence.epoch), (1, 6));
    }

    #[test]
    fn a_running_lease_of_another_is_respected_and_an_old_one_is_not() {
        let held = Held {
            node: "a".to_owned(),
            holder: "host:/a".to_owned(),
            left_ms: 20_000,
        };
        let same_name = claim("a", 12);
        let other_name = claim("b", 12);
        for claim in [&same_name, &other_name] {
            assert_eq!(decide(claim, &picture()), Err(held.clone()));
            let alone = Claim {
                alone: true,
                ..claim.clone()
            };
            assert!(decide(&alone, &picture()).is_ok());
            let mut later = picture();
            later.now_ms += 20_000;
            assert!(decide(claim, &later).is_ok());
        }
        let mut later = picture();
        later.now_ms += 20_000;
        let granted = decide(&other_name, &later).expect("over");
        assert_eq!((granted.fence.node, granted.fence.epoch), (2, 1));
        assert_eq!(granted.losers, [1]);
    }

    #[test]
    fn who_lost_its_epoch_waits_for_whoever_has_it_now() {
        let copied = Claim {
            lost: Some(4),
            ..claim("a", 11)
        };
        assert!(decide(&copied, &picture()).is_err());
        let same = Claim {
            lost: Some(5),
            ..claim("a", 11)
        };
        assert!(decide(&same, &picture()).is_ok());
    }

    #[test]
    fn a_store_that_was_set_back_gives_no_epoch_twice() {
        let mut picture = picture();
        picture.nodes[0].lease_until = Some(NOW - 1);
        let lost = Claim {
            lost: Some(6),
            ..claim("a", 11)
        };
        let granted = decide(&lost, &picture).expect("over");
        assert_eq!(granted.fence.epoch, 7, "the row says 5");
    }

    #[test]
    fn two_nodes_with_shards_of_their_own_are_not_in_each_others_way() {
        let mut picture = picture();
        picture.owners.retain(|&shard, _| shard < 512);
        let upper = Claim {
            shards: 512..SHARDS,
            ..claim("b", 12)
        };
        let granted = decide(&upper, &picture).expect("free");
        assert!(granted.losers.is_empty());
        assert_eq!(granted.missing.len(), 512);
        let all = claim("b", 12);
        assert!(decide(&all, &picture).is_err(), "half of them are taken");
    }
}
