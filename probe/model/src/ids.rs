//! Identities: targets, slots, generations, shards and the ids of facts.

use std::fmt;
use std::num::NonZeroI64;

use serde::{Deserialize, Serialize};

use crate::limits::{FACT_EPOCH_UNIX_MS, SHARDS};
use crate::time::UnixMs;

/// A target's id, 1..2⁶³−1: the legacy `jetpack_monitor_site_id`, or minted by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId(NonZeroI64);

impl TargetId {
    /// The id `raw`, or `None` when it is not positive.
    pub fn new(raw: i64) -> Option<Self> {
        NonZeroI64::new(raw).filter(|id| id.get() > 0).map(Self)
    }

    /// Stands for a node in its own incidents, where no target is: 0 in the database.
    pub const NODE: Self = Self(NonZeroI64::MIN);

    /// The id of an incident's row, or `None` when it is negative: 0 is [`TargetId::NODE`].
    pub fn of_incident(raw: i64) -> Option<Self> {
        if raw == 0 {
            Some(Self::NODE)
        } else {
            Self::new(raw)
        }
    }

    /// The id as the database stores it.
    pub fn get(self) -> i64 {
        self.0.get().max(0)
    }

    /// The shard that owns this target: the top 10 bits of splitmix64(id).
    pub fn shard(self) -> Shard {
        Shard((splitmix64(self.0.get() as u64) >> 54) as u16)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// One of [`SHARDS`] equal parts of the fleet: the unit of ownership and of core placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard(u16);

impl Shard {
    /// Shard number `raw`, or `None` when it is not below [`SHARDS`].
    pub fn new(raw: u16) -> Option<Self> {
        (raw < SHARDS).then_some(Self(raw))
    }

    /// 0..1023.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The probe core, of `cores`, that probes this shard.
    pub fn core(self, cores: u16) -> CoreIndex {
        CoreIndex(self.0 % cores.max(1))
    }
}

/// Index of a probe core in this process, 0-based; not the number of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CoreIndex(pub u16);

/// Dense index of a target on its core; reused only after the sink acknowledged the removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an array index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Version of a target's configuration; results of an older one are `stale` and touch nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u32);

/// Names one one-shot check from its command to its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Id of an event, a transition or a job: u63 = 41 bits of ms since 2025 · 10 bits shard · 12 bits
/// sequence. Ids of one shard are strictly increasing; ids of different shards are unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FactId(u64);

impl FactId {
    /// The id stored as `raw`, or `None` when it is not a u63 above 0.
    pub fn new(raw: i64) -> Option<Self> {
        (raw > 0).then_some(Self(raw as u64))
    }

    /// The id as the database stores it.
    pub fn get(self) -> i64 {
        self.0 as i64
    }

    /// The shard in which it was minted.
    pub fn shard(self) -> Shard {
        Shard(((self.0 >> 12) & 0x3ff) as u16)
    }

    /// When it was minted (the mint runs ahead of the clock when 4,096 ids share a millisecond).
    pub fn minted_at(self) -> UnixMs {
        UnixMs((self.0 >> 22) + FACT_EPOCH_UNIX_MS)
    }
}

impl fmt::Display for FactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Mints fact ids, monotonic per shard and never at or below a floor taken from the store and the
/// journal at start.
#[derive(Clone, Debug)]
pub struct FactMint {
    /// Last (ms << 12 | sequence) handed out, per shard.
    last: Vec<u64>,
}

impl Default for FactMint {
    fn default() -> Self {
        Self {
            last: vec![0; usize::from(SHARDS)],
        }
    }
}

impl FactMint {
    /// Raises the floor of the id's shard so that later ids are above `id`.
    pub fn observe(&mut self, id: FactId) {
        let tick = ((id.0 >> 22) << 12) | (id.0 & 0xfff);
        let last = &mut self.last[usize::from(id.shard().get())];
        *last = (*last).max(tick);
    }

    /// Raises every floor to where `other` stands.
    pub fn observe_all(&mut self, other: &Self) {
        for (last, seen) in self.last.iter_mut().zip(&other.last) {
            *last = (*last).max(*seen);
        }
    }

    /// The next id of `shard` at wall time `now`; a clock that stepped back is waited out by
    /// running ahead of it.
    pub fn mint(&mut self, shard: Shard, now: UnixMs) -> FactId {
        let clock = now.0.saturating_sub(FACT_EPOCH_UNIX_MS) << 12;
        let last = &mut self.last[usize::from(shard.get())];
        *last = clock.max(*last + 1);
        let (ms, sequence) = (*last >> 12, *last & 0xfff);
        FactId((ms << 22) | (u64::from(shard.get()) << 12) | sequence)
    }
}

/// Steele, Lea and Flood's `SplitMix64` finaliser, with its increment applied first.
pub fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_match_their_golden_vectors() {
        // splitmix64(1) = 0x910a2dec89025cc1 and so on: pinned, a restart must not move a target.
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(1), 0x910a_2dec_8902_5cc1);
        let shards: Vec<u16> = [1, 2, 3, 1_000_000, i64::MAX]
            .map(|id| TargetId::new(id).expect("positive").shard().get())
            .to_vec();
        assert_eq!(shards, GOLDEN_SHARDS);
    }

    const GOLDEN_SHARDS: [u16; 5] = [580, 605, 116, 416, 169];

    #[test]
    fn fact_ids_match_their_golden_vectors() {
        // 41 bits of ms since 2025, 10 bits of shard, 12 bits of sequence.
        let shard = |number| Shard::new(number).expect("below 1024");
        let mut mint = FactMint::default();
        let at = |ms| UnixMs(FACT_EPOCH_UNIX_MS + ms);
        let ids = [
            mint.mint(shard(0), at(1)),
            mint.mint(shard(7), at(1_000)),
            mint.mint(shard(7), at(1_000)),
            mint.mint(shard(1_023), at((1 << 41) - 1)),
        ];
        let golden = [
            1 << 22,
            1_000 << 22 | 7 << 12,
            1_000 << 22 | 7 << 12 | 1,
            i64::MAX - 0xfff,
        ];
        assert_eq!(ids.map(FactId::get), golden);
    }

    #[test]
    fn zero_and_negative_ids_do_not_exist() {
        assert_eq!(TargetId::new(0), None);
        assert_eq!(TargetId::new(-1), None);
        assert_eq!(FactId::new(0), None);
    }

    #[test]
    fn minted_ids_rise_when_the_clock_stands_still_or_steps_back() {
        let mut mint = FactMint::default();
        let shard = Shard::new(7).expect("below 1024");
        let now = UnixMs(FACT_EPOCH_UNIX_MS + 1_000);
        let first = mint.mint(shard, now);
        let ids: Vec<FactId> = (0..10_000).map(|_| mint.mint(shard, now)).collect();
        assert!(first < ids[0] && ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.shard() == shard));
        assert!(mint.mint(shard, UnixMs(FACT_EPOCH_UNIX_MS)) > ids[9_999]);
    }

    #[test]
    fn a_minted_id_is_above_every_observed_one() {
        let mut old = FactMint::default();
        let shard = Shard::new(1_023).expect("below 1024");
        let stored = old.mint(shard, UnixMs(FACT_EPOCH_UNIX_MS + 5_000_000));
        let mut mint = FactMint::default();
        mint.observe(stored);
        assert!(mint.mint(shard, UnixMs(FACT_EPOCH_UNIX_MS)) > stored);
        assert_eq!(stored.minted_at(), UnixMs(FACT_EPOCH_UNIX_MS + 5_000_000));
    }
}
